"""The command line: options and error messages."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import llm_exporter
from llm_exporter.cli.main import main
from llm_exporter.cli.options import Duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20),
        ("2m", 120),
        ("1h30m", 5400),
        ("1h", 3600),
        ("1h5s", 3605),
        ("1m30", 90),
        ("45", 45),
        ("1.5s", 1.5),
        (" 3s ", 3),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "soon", "-5s", "20 s", "5y", "30m1h", "1e3", "nan"])
def test_an_invalid_duration_is_rejected_with_examples(text: str) -> None:
    with pytest.raises(
        click.BadParameter, match="is not a duration: write 20s, 2m, 1h30m, 30d, or 45 for seconds"
    ):
        Duration().convert(text, None, None)


def test_version_prints_the_package_version() -> None:
    result = CliRunner().invoke(main, ["--version"])

    assert result.exit_code == 0
    assert llm_exporter.__version__ in result.output


def test_a_missing_extra_is_named_with_its_install_command() -> None:
    program = """
import sys
sys.modules["uvicorn"] = None
from llm_exporter.cli.main import main
main(["serve"])
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)

    assert done.returncode == 1
    message = "Error: uvicorn is not installed: pip install 'llm-exporter[server]'\n"
    assert done.stderr == message


def test_the_package_can_be_run_as_a_module() -> None:
    command = [sys.executable, "-m", "llm_exporter", "check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 2
    assert done.stderr.startswith("Usage: llm-exporter check [OPTIONS] CONFIG\n")
