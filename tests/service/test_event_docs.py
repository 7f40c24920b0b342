"""The program in docs/live-page.md reads the events of a real service."""

from __future__ import annotations

import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from support.calls import a_call
from support.served import Served, send

DOCUMENT = (Path(__file__).parents[2] / "docs/live-page.md").read_text(encoding="utf-8")


@pytest.fixture
def program(tmp_path: Path, served: Served) -> Path:
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    file = tmp_path / "events.py"
    file.write_text(block.replace("http://127.0.0.1:9847", served.url))
    return file


def test_the_documented_program_reads_calls(served: Served, program: Path) -> None:
    """It prints the calls that are added while it reads, so send some until it has connected."""
    command = [sys.executable, "-u", str(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        while not select.select([reading.stdout], [], [], 0.2)[0]:
            send(served, a_call(labels={"agent": "coder"}))
        line = reading.stdout.readline()
        reading.kill()
    assert line == "coder gpt-5 0.75\n"
