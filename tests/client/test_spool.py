"""Calls wait on disk; none is lost or sent by two processes, whatever else is in the directory."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec
import pytest

from llm_exporter import Call
from llm_exporter.client import spool_file
from llm_exporter.client.spool import Spool, spool_for
from llm_exporter.client.spool_file import SpoolFile
from llm_exporter.file_lock import lock
from support.awaiting import until
from support.calls import a_call

PROGRAM = """
import os, sys
from pathlib import Path
from tempfile import TemporaryDirectory
import msgspec
from llm_exporter import Call
from llm_exporter.client import spool_file
from llm_exporter.client.spool import Spool
spool = Spool(Path(sys.argv[1]))
def line(id, **fields):
    fields = {"provider": "openai", "model": "gpt-5", "operation": "chat", "id": id, **fields}
    return msgspec.json.encode(Call(**fields))
"""


class Dropped:
    """Adds up how many calls could not be read."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, number: int) -> None:
        self.calls += number


@pytest.fixture
def dropped() -> Dropped:
    return Dropped()


@pytest.fixture
def spool(tmp_path: Path, dropped: Dropped) -> Spool:
    return Spool(tmp_path, dropped)


def lines(calls: Sequence[Call]) -> list[bytes]:
    return [msgspec.json.encode(call) for call in calls]


def leave(spool: Spool, *calls: Call) -> Path:
    """Leave calls in a file, as a process does that ends."""
    file = spool.new_file()
    file.append(lines(calls))
    file.close()
    return file.path


def ids(spool: Spool) -> list[str]:
    """Ship what waits, and return its ids."""
    return [call.id for calls in spool.waiting(10) for call in calls]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@contextmanager
def running(program: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and wait for its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


# ---- what one process leaves, another one takes


def test_calls_come_back_unchanged_and_are_then_removed(spool: Spool, tmp_path: Path) -> None:
    calls = [a_call(), a_call(), a_call()]
    leave(spool, *calls)
    assert list(spool.waiting(2)) == [calls[:2], calls[2:]]
    assert names(tmp_path) == []


def test_a_call_that_another_program_has_written_has_clean_texts(spool: Spool) -> None:
    leave(spool, a_call(model="gpt\n5", labels={"agent": "a" * 300}))
    ((call,),) = spool.waiting(10)
    assert (call.model, call.labels) == ("gpt?5", {"agent": "a" * 256})


def test_a_file_stays_until_all_its_calls_are_sent(spool: Spool) -> None:
    calls = [a_call(), a_call()]
    leave(spool, *calls)
    waiting = spool.waiting(1)
    assert next(waiting) == calls[:1]
    waiting.close()  # type: ignore[attr-defined]
    assert list(spool.waiting(10)) == [calls]


def test_an_emptied_file_holds_what_is_written_afterwards_only(spool: Spool) -> None:
    file = spool.new_file()
    file.append(lines([a_call(id="acknowledged")]))
    file.empty()
    file.append(lines([a_call(id="new")]))
    file.close()
    assert ids(spool) == ["new"]


def test_a_file_is_locked_while_its_process_lives(spool: Spool, tmp_path: Path) -> None:
    program = """
file = spool.new_file()
file.append([line("theirs")])
print("ready", flush=True)
sys.stdin.read()
"""
    with running(program, tmp_path) as process:
        assert ids(spool) == []
        process.kill()
        process.wait()
        assert ids(spool) == ["theirs"]


def test_a_file_is_free_once_its_process_has_ended_though_a_forked_child_lives(
    spool: Spool, tmp_path: Path
) -> None:
    program = """
os.register_at_fork(after_in_child=spool.after_fork)
file = spool.new_file()
file.append([line("theirs")])
Spool(Path(sys.argv[1])).new_file().close()
taken = spool.waiting(10)
if os.fork():
    print("ready", flush=True)
    sys.stdin.read()
sys.stdin.read()
"""
    with running(program, tmp_path) as process:
        assert ids(spool) == []
        process.kill()
        process.wait()
        until(lambda: ids(spool) == ["theirs"])  # as soon as the child has run


def test_a_file_that_another_process_takes_before_it_is_locked_is_not_used(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Spool(tmp_path)
    lock = SpoolFile.lock

    def find_and_lock(file: SpoolFile) -> bool:
        monkeypatch.setattr(SpoolFile, "lock", lock)
        assert list(other.waiting(10)) == []  # it is empty, and so removed
        return file.lock()

    monkeypatch.setattr(SpoolFile, "lock", find_and_lock)
    leave(spool, a_call(id="kept"))
    assert ids(other) == ["kept"]


def test_a_file_that_another_process_deletes_right_after_it_is_made_is_not_used(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    real_open = os.open

    def open_and_delete_the_first(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real_open(path, flags, mode)
        if flags & os.O_EXCL:
            made.append(path)
            if len(made) == 1:
                path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_and_delete_the_first)
    file = spool.new_file()
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == [file.path] == made[1:]
    file.close()


def test_a_file_that_another_process_has_sent_before_it_is_locked_is_not_sent_again(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(spool, a_call(id="sent once"))
    sent: list[str] = []

    def send_and_lock(file: IO[bytes]) -> bool:
        monkeypatch.setattr("llm_exporter.client.spool.lock", lock)
        sent.extend(ids(Spool(tmp_path)))
        return lock(file)

    monkeypatch.setattr("llm_exporter.client.spool.lock", send_and_lock)
    assert ids(spool) == []
    assert sent == ["sent once"]


def test_a_file_that_cannot_be_deleted_is_sent_once(
    spool: Spool,
    dropped: Dropped,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = leave(spool, a_call(id="sent once"))

    def refuse(_: Path, *, missing_ok: bool) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert ids(spool) == ["sent once"]
        assert ids(spool) == []
    assert path.read_bytes() == b""
    assert dropped.calls == 0
    (record,) = caplog.records
    assert f"{path} cannot be shipped: [Errno 1] Operation not permitted" in record.getMessage()


def test_a_file_does_not_exceed_its_maximum(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines([a_call(id="first")])
    monkeypatch.setattr(spool_file, "MAX_BYTES", len(line) + 1)
    file = spool.new_file()
    file.append([line])
    with pytest.raises(OSError, match=f"would exceed its maximum of {len(line) + 1} bytes"):
        file.append([b"x"])
    file.close()
    assert ids(spool) == ["first"]


def test_a_full_disk_raises_and_leaves_whole_lines(tmp_path: Path) -> None:
    """Files are limited to 2000 bytes, enough for the first call only."""
    program = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
file = spool.new_file()
file.append([line("first")])
try:
    file.append([line("second", model="gpt-5" * 400)])
except OSError as error:
    print(error.errno)
file.append([line("third")])
"""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) in (errno.EFBIG, errno.ENOSPC)
    assert ids(Spool(tmp_path)) == ["first", "third"]


def test_rejected_calls_are_set_aside_and_not_sent_again(spool: Spool) -> None:
    path = spool.set_aside(lines([a_call(id="refused")]))
    assert '"refused"' in path.read_text()
    assert ids(spool) == []


def test_each_service_has_a_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLM_EXPORTER_SPOOL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert spool_for("::1", 9847) == Path("/state/llm-exporter/spool/--1_9847")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert spool_for("example.org", 80) == Path("/home/me/.local/state/llm-exporter/spool/example.org_80")
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", os.fspath(tmp_path))
    assert spool_for("localhost", 1) == tmp_path / "localhost_1"


# ---- what is none of ours


def make_directory(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_link(path: Path) -> None:
    """Link to a file that must be neither read nor removed."""
    target = path.parent / "target"
    target.write_bytes(msgspec.json.encode(a_call(id="elsewhere")) + b"\n")
    path.symlink_to(target)


def make_unreadable(path: Path) -> None:
    """Make a file of another user, or one that this user may not read."""
    path.write_bytes(msgspec.json.encode(a_call(id="foreign")) + b"\n")
    path.chmod(0)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)


def make_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    "make",
    [make_directory, make_fifo, make_socket, make_dangling_link, make_link, make_unreadable, make_huge],
)
def test_a_file_that_is_none_of_ours_is_set_aside_and_the_others_are_shipped(
    make: Callable[[Path], None],
    spool: Spool,
    tmp_path: Path,
    dropped: Dropped,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(tmp_path / "0.jsonl")
    before = (tmp_path / "0.jsonl").lstat()
    leave(spool, a_call(id="shipped"))
    assert ids(spool) == ["shipped"]
    assert (tmp_path / "0.jsonl.bad").lstat().st_ino == before.st_ino
    assert not (tmp_path / "target").exists() or b"elsewhere" in (tmp_path / "target").read_bytes()
    assert ids(spool) == []
    assert dropped.calls == 1
    (record,) = caplog.records
    assert f"{tmp_path}/0.jsonl cannot be read and is now 0.jsonl.bad" in record.getMessage()


def test_what_was_set_aside_before_is_kept(spool: Spool, tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "0.jsonl").symlink_to(content)
        assert ids(spool) == []
    assert sorted(os.readlink(path) for path in tmp_path.glob("0.jsonl*.bad")) == ["first", "second"]


def test_a_file_that_cannot_be_moved_is_counted_once(
    spool: Spool,
    tmp_path: Path,
    dropped: Dropped,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EPERM, "denied")

    (tmp_path / "0.jsonl").mkdir()
    leave(spool, a_call(id="first"))
    monkeypatch.setattr(Path, "rename", denied)
    assert ids(spool) == ["first"]
    leave(spool, a_call(id="second"))
    assert ids(spool) == ["second"]
    assert dropped.calls == 1
    (record,) = caplog.records
    assert f"{tmp_path}/0.jsonl cannot be shipped" in record.getMessage()


def test_a_failing_disk_is_said_once_and_the_file_is_tried_again(
    spool: Spool,
    tmp_path: Path,
    dropped: Dropped,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = leave(spool, a_call(id="broken"))
    leave(spool, a_call(id="other"))
    opened = os.open

    def failing(path: object, *args: int) -> int:
        if path == broken:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        assert ids(spool) == ["other"]
        assert ids(spool) == []
    assert ids(spool) == ["broken"]
    assert dropped.calls == 0
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"provider": "open', "invalid character"),
        (b"\xff\x00", "invalid"),
        (b"[" * 2**16, ""),
        (b"x" * 3 * 2**20, "invalid character"),
        (b'{"provider": "openai"}', "Object missing required field `model`"),
        (lines([a_call(cost={"input": 1e300})])[0], "cost.input must be between 0 and 10^12"),
        (lines([a_call(id="")])[0], "id must have 1 to 256 bytes"),
    ],
    ids=["partial", "binary", "deep", "long", "incomplete", "out of bounds", "no id"],
)
def test_a_line_that_is_no_call_is_set_aside_and_the_others_are_shipped(
    line: bytes, reason: str, spool: Spool, tmp_path: Path, dropped: Dropped, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [a_call(), a_call()]
    (tmp_path / "0.jsonl").write_bytes(b"\n".join((lines(calls)[0], line, lines(calls)[1], b"")))
    assert [call for batch in spool.waiting(1) for call in batch] == calls
    (aside,) = tmp_path.iterdir()
    assert aside.suffix == ".refused"
    assert aside.read_bytes().replace(b"\n", b"") == line
    assert dropped.calls == max(len(line) // 2**20, 1)
    (record,) = caplog.records
    assert (
        f"{tmp_path}/0.jsonl: {dropped.calls} lines are no calls and are in {aside}: " in record.getMessage()
    )
    assert reason in record.getMessage()


def test_bad_lines_are_set_aside_once_although_the_file_is_read_again(
    spool: Spool, tmp_path: Path, dropped: Dropped
) -> None:
    (tmp_path / "0.jsonl").write_bytes(b"bad\n" + b"\n".join(lines([a_call(id="1"), a_call(id="2")])))
    for _ in range(3):  # as when the service is unavailable
        waiting = spool.waiting(1)
        assert next(waiting)[0].id == "1"
        waiting.close()  # type: ignore[attr-defined]
        assert names(tmp_path) == ["0.jsonl"]
    assert ids(spool) == ["1", "2"]
    assert dropped.calls == 1
    (aside,) = tmp_path.iterdir()
    assert aside.read_bytes() == b"bad\n"


# ---- who may read it


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_only_this_user_may_use_the_directory_and_its_files(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "state" / "spool")
    file = spool.new_file()
    assert mode(file.path) == mode(spool.set_aside([b"refused"])) == 0o600
    file.close()
    assert mode(tmp_path / "state") == mode(tmp_path / "state" / "spool") == 0o700


def test_a_directory_that_others_may_use_is_tightened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    directory.chmod(0o775)
    for _ in range(2):
        leave(Spool(directory), a_call())
    assert mode(directory) == 0o700
    (record,) = caplog.records
    assert f"{directory} was open to other users (mode 0775), and is private now" in record.getMessage()


def test_a_directory_that_is_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "target"
    leave(Spool(target), a_call())
    link = tmp_path / "spool"
    link.symlink_to(target)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Spool(link).new_file()
    assert ids(Spool(link)) == []
    assert len(names(target)) == 1
    assert f"{link} cannot be shipped" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_directory_of_another_user_is_not_used() -> None:
    with TemporaryDirectory() as name:  # `tmp_path` is in a directory that others cannot enter
        directory = Path(name)
        directory.chmod(0o777)
        os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match="belongs to another user"):
                Spool(directory).new_file()
        finally:
            os.seteuid(0)
        assert names(directory) == []
