"""If the service cannot start, it exits with status 2 and a one-line message, without a traceback."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from llm_exporter.service.ledger.sqlite import SqliteLedger


def run(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "llm_exporter.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def serve(*arguments: str | Path) -> tuple[int, str]:
    return run("serve", "--port", "0", *arguments)


def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    store = tmp_path / "ledger.db"
    store.write_bytes(b"this is no database, it is a letter" * 100)
    assert serve("--store", store) == (2, f"Error: {store}: file is not a database\n")


def test_a_damaged_ledger(tmp_path: Path) -> None:
    """The file is truncated, as after a disk failure. It is left as it is."""
    store = tmp_path / "ledger.db"
    SqliteLedger(store).close()
    whole = store.read_bytes()
    store.write_bytes(whole[: len(whole) // 2])
    assert serve("--store", store) == (2, f"Error: {store}: database disk image is malformed\n")
    assert store.read_bytes() == whole[: len(whole) // 2]


def test_a_database_of_another_program(tmp_path: Path) -> None:
    store = tmp_path / "ledger.db"
    other = sqlite3.connect(store)
    other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    message = f"Error: {store}: an SQLite database, but not an llm-exporter ledger\n"
    assert serve("--store", store) == (2, message)


def test_a_ledger_of_a_newer_release(tmp_path: Path) -> None:
    store = tmp_path / "ledger.db"
    SqliteLedger(store).close()
    newer = sqlite3.connect(store)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    message = f"Error: {store}: schema 99 is newer than this llm-exporter supports: upgrade it\n"
    assert serve("--store", store) == (2, message)


def test_a_ledger_in_use(tmp_path: Path) -> None:
    store = tmp_path / "ledger.db"
    ledger = SqliteLedger(store)
    assert serve("--store", store) == (2, f"Error: {store}: in use by another llm-exporter serve\n")
    ledger.close()


def test_a_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, message = serve("--store", tmp_path / "file" / "ledger.db")
    assert status == 2
    assert message == f"Error: {tmp_path}/file/ledger.db: [Errno 17] File exists: '{tmp_path}/file'\n"


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, message = run("serve", "--port", str(port), "--store", tmp_path / "ledger.db")
    assert (status, message) == (
        2,
        f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use\n",
    )


MISTAKES = [
    ("prices: {discount: {}}", "1: prices.discount: unknown key: did you mean discounts?"),
    ("scrape_interval: soon", "1: scrape_interval: 'soon' is not a duration: "),
    ("scrape_interval: -5", "1: scrape_interval: must be greater than 0"),
    ("labels: [team, team]", "1: labels: duplicate value 'team'"),
    ("labels:\n  - 7up", "2: labels.0: '7up' is not a valid label name"),
    ("labels: [agent]", "1: labels.0: 'agent' is a built-in label"),
    ("labels: [session]", "1: labels.0: 'session' cannot be a metric label"),
    ("series:\n  - {model: m}", "2: series.0.provider: required key is missing"),
    ("labels: {", "1: invalid YAML: "),
]


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(("text", "mistake"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_an_invalid_configuration(tmp_path: Path, command: str, text: str, mistake: str) -> None:
    config = tmp_path / "llm-exporter.yml"
    config.write_text(text)
    arguments = [config] if command == "check" else ["--port", "0", "--config", config]
    status, message = run(command, *arguments)
    assert status == 2
    assert message.startswith(f"Error: {config}:{mistake}")
    assert "Traceback" not in message


def test_a_valid_configuration(tmp_path: Path) -> None:
    config = tmp_path / "llm-exporter.yml"
    config.write_text("labels: [team]\nscrape_interval: 30s\nretention: 90d\n")
    assert run("check", config) == (0, "")


def test_a_missing_configuration(tmp_path: Path) -> None:
    path = tmp_path / "none.yml"
    assert run("check", path) == (2, f"Error: {path}: No such file or directory\n")


@pytest.mark.parametrize("address", ["0.0.0.0", "::", ""])
def test_it_refuses_to_listen_beyond_loopback_without_authentication(address: str) -> None:
    assert serve("--host", address) == (
        2,
        f"Error: refusing to listen on {address or 'all addresses'} without authentication: set"
        " auth.tokens in the configuration, or users or client certificates with --web.config.file;"
        " --insecure-no-auth lets anyone read and forge spending\n",
    )


def test_it_listens_on_any_address_if_told_that_this_is_insecure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_exporter.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    command += ["--store", str(tmp_path / "ledger.db"), "--insecure-no-auth"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("llm-exporter listening on http://0.0.0.0:")
        process.terminate()


def test_an_external_url_must_be_a_url() -> None:
    assert serve("--web.external-url", "llm.example.com") == (
        2,
        "Error: --web.external-url: must begin with http:// or https://, like https://llm.example.com:9847\n",
    )
