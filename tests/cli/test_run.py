"""`llm-exporter run` meters a program without changing it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm_exporter.cli.options import label
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

PROGRAM = """
import sys, threading
import openai

def call():
    with openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="k") as client:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])

call()
thread = threading.Thread(target=call)
thread.start()
thread.join()
sys.exit(7)
"""


@pytest.fixture(autouse=True)
def _no_ledger_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))


def run(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llm_exporter.cli", "run", *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_program_is_metered_with_the_given_labels_and_keeps_its_exit_status(
    server: Server, tmp_path: Path
) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with Served(tmp_path) as served:
        ran = run(
            *("--agent", "nightly", "--label", "project=a,b=c %", "--"),
            *(sys.executable, str(program), server.url),
            environment={**served.client_environment, "LLM_EXPORTER_LABELS": "agent=other,phase=plan"},
        )
        assert (ran.returncode, ran.stderr) == (7, "")
        calls: list[dict[str, Any]] = served.get("/api/v1/calls")["calls"]
    assert [call["labels"] for call in calls] == 2 * [
        {"agent": "nightly", "phase": "plan", "project": "a,b=c %"}
    ]
    assert [call["tokens"] for call in calls] == 2 * [CHAT.tokens]


def test_a_child_python_is_metered(server: Server, tmp_path: Path) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    starts = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, *sys.argv[1:]]).returncode)"
    with Served(tmp_path) as served:
        ran = run(
            *("--url", served.url, "--", sys.executable, "-c", starts, str(program), server.url),
            environment=served.environment,
        )
        assert ran.returncode == 7
        assert served.get("/api/v1/cost")["calls"] == 2


def test_another_sitecustomize_still_runs_and_ours_leaves_no_trace(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.here_too = True")
    shows = "import sitecustomize, sys; print(sys.here_too, sitecustomize.__file__, *sys.path, sep='\\n')"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = run("--", sys.executable, "-c", shows, environment={"PYTHONPATH": path})
    said, file, *paths = ran.stdout.splitlines()
    assert (said, file) == ("True", str(tmp_path / "sitecustomize.py"))
    assert not [path for path in paths if path.endswith("startup")]


def test_a_python_without_llm_exporter_runs_unmetered_with_a_message(tmp_path: Path) -> None:
    hides = "import os, sys\nif 'LLM_EXPORTER_LABELS' in os.environ: sys.modules['llm_exporter'] = None"
    (tmp_path / "sitecustomize.py").write_text(hides)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {"PYTHONPATH": path, "LLM_EXPORTER_URL": "http://x"}
    ran = run("--", sys.executable, "-c", "import openai; print('ran')", environment=environment)
    assert (ran.returncode, ran.stdout) == (0, "ran\n")
    assert ran.stderr.startswith(f"llm-exporter: {sys.executable} is not metered: import of llm_exporter")


def test_a_signal_reaches_the_program() -> None:
    waits = "import signal, sys; print('waits', flush=True); signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-m", "llm_exporter.cli", "run", "--url", "http://x", sys.executable, "-c", waits],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ("--url", "http://x", "no-such-command"),
            127,
            "Error: no-such-command: No such file or directory\n",
        ),
        (("--url", "http://x", "/"), 126, "Error: /: Permission denied\n"),
        (("--label", "project", "python"), 2, "Error: --label 'project': must be name=value\n"),
        (("--url", "ftp://x", "python"), 2, "Error: LLM_EXPORTER_URL: must begin with http:// or https://"),
        (("--config", "none.yml", "python"), 2, "Error: none.yml: No such file or directory\n"),
    ],
)
def test_a_command_that_cannot_run_is_reported(words: tuple[str, ...], code: int, said: str) -> None:
    ran = run(*words)
    assert ran.returncode == code
    assert ran.stderr.startswith(said)


def test_switched_off_the_program_runs_as_ever() -> None:
    shows = (
        "import os, sys; print('PYTHONPATH' in os.environ, [name for name in sys.modules if 'llm' in name])"
    )
    environment = {"LLM_EXPORTER_ENABLED": "0", "LLM_EXPORTER_URL": "nonsense"}
    environment |= {"PYTHONPATH": ""} if "PYTHONPATH" in os.environ else {}
    ran = run("--", sys.executable, "-c", shows, environment=environment)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.endswith(" []\n")


@pytest.mark.parametrize("text", ["project=a,b=c %", "project:a,b=c %"])
def test_a_label_is_a_name_and_a_value_as_in_reports(text: str) -> None:
    assert label(text) == ("project", "a,b=c %")
