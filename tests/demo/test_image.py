"""The `demo` stage of the Dockerfile: its files, environment and command, run without Docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
STAGE = (
    (REPOSITORY / "Dockerfile").read_text().partition("\nFROM runtime AS demo\n")[2].partition("\nFROM ")[0]
)
COPIED = re.findall(r"^COPY (\S+) (\S+)$", STAGE, re.MULTILINE)


def test_the_demo_runs_from_the_files_that_its_image_copies(tmp_path: Path) -> None:
    image, elsewhere = tmp_path / "image", tmp_path / "elsewhere"
    elsewhere.mkdir()
    for source, target in COPIED:
        copy = image / target.removeprefix("/")
        if (REPOSITORY / source).is_dir():
            shutil.copytree(REPOSITORY / source, copy)
        else:
            copy.parent.mkdir(parents=True)
            shutil.copy(REPOSITORY / source, copy)
    (python_path,) = re.findall(r"^ENV PYTHONPATH=(\S+)$", STAGE, re.MULTILINE)
    (command,) = re.findall(r"^CMD (.*)$", STAGE, re.MULTILINE)
    program, *words = json.loads(command)
    assert program == "python"
    words[words.index("--host") + 1] = "127.0.0.1"
    environment = {**os.environ, "PYTHONPATH": str(image / python_path.removeprefix("/"))}

    done = subprocess.run(
        [sys.executable, *words, "--port", "0", "--speed", "200", "--duration", "1s"],
        check=False,
        capture_output=True,
        text=True,
        cwd=elsewhere,
        env=environment,
    )

    assert done.returncode == 0, done.stderr
    assert re.search(r"^total +\d", done.stdout, re.MULTILINE)


def test_the_build_context_includes_what_the_dockerfile_copies() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    sources = {
        source.split("/")[0].rstrip("*")
        for copied in re.findall(r"^COPY (?!--)(.*) \S+$", dockerfile, re.MULTILINE)
        for source in copied.split()
    }
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()

    assert sources == {line.removeprefix("!") for line in ignored if line.startswith("!")}
