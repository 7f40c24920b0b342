"""Calls wait on disk; none is lost or sent by two processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llm_exporter.client.spool import Spool, spool_for
from support.calls import a_call


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def test_calls_come_back_unchanged_and_are_then_removed(spool: Spool, tmp_path: Path) -> None:
    calls = [a_call(), a_call(), a_call()]
    spool.add(calls[:2])
    spool.add(calls[2:])
    assert list(spool.waiting(2)) == [calls[:2], calls[2:]]
    assert list(tmp_path.iterdir()) == []


def test_a_file_stays_until_all_its_calls_are_sent(spool: Spool) -> None:
    calls = [a_call(), a_call()]
    spool.add(calls)
    waiting = spool.waiting(1)
    assert next(waiting) == calls[:1]
    waiting.close()  # type: ignore[attr-defined]
    assert list(spool.waiting(10)) == [calls]


def test_a_file_is_locked_while_its_process_lives(spool: Spool, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from llm_exporter import Call
from llm_exporter.client.spool import Spool
spool = Spool(Path({str(tmp_path)!r}))
spool.add([Call(provider="openai", model="gpt-5", operation="chat", id="theirs")])
print("added", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"added\n"
        assert list(spool.waiting(10)) == []
        process.kill()
    ((call,),) = spool.waiting(10)
    assert call.id == "theirs"


def test_a_partial_line_loses_no_other_call(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    call = a_call()
    spool.add([call])
    spool.release()
    (file,) = tmp_path.iterdir()
    with file.open("ab") as end:
        end.write(b'{"provider": "open')
    assert list(spool.waiting(10)) == [[call]]
    assert f"{file}:2: skipped, not a call" in caplog.text


def test_a_full_disk_raises_and_leaves_whole_lines(tmp_path: Path) -> None:
    """Files are limited to 2000 bytes, enough for the first call only."""
    program = f"""
import resource, signal
from pathlib import Path
from llm_exporter import Call
from llm_exporter.client.spool import Spool
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
spool = Spool(Path({str(tmp_path)!r}))
spool.add([Call(provider="openai", model="gpt-5", operation="chat", id="first")])
try:
    spool.add([Call(provider="openai", model="gpt-5" * 400, operation="chat", id="second")])
except OSError as error:
    print(error.errno)
spool.add([Call(provider="openai", model="gpt-5", operation="chat", id="third")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) in (errno.EFBIG, errno.ENOSPC)
    assert [call.id for calls in Spool(tmp_path).waiting(10) for call in calls] == ["first", "third"]


def test_rejected_calls_are_set_aside_and_not_sent_again(spool: Spool) -> None:
    path = spool.set_aside([a_call(id="refused")])
    assert '"refused"' in path.read_text()
    assert list(spool.waiting(10)) == []


def test_each_service_has_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLM_EXPORTER_SPOOL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert spool_for("::1", 9847) == Path("/state/llm-exporter/spool/--1_9847")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert spool_for("example.org", 80) == Path("/home/me/.local/state/llm-exporter/spool/example.org_80")
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", os.fspath(tmp_path))
    assert spool_for("localhost", 1) == tmp_path / "localhost_1"
