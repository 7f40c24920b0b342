"""Which host names somebody else can have, and which addresses only this machine can reach."""

from __future__ import annotations

import pytest

from llm_exporter.host_names import is_loopback, is_registrable, name_and_port


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("Localhost:9847", ("localhost", "9847")),
        ("llm.example.com.", ("llm.example.com", "")),
        (" 127.0.0.1:80 ", ("127.0.0.1", "80")),
        ("[::1]:9847", ("::1", "9847")),
        ("[::1]", ("::1", "")),
        ("", ("", "")),
    ],
)
def test_a_host_header_has_a_name_and_perhaps_a_port(host: str, expected: tuple[str, str]) -> None:
    assert name_and_port(host) == expected


@pytest.mark.parametrize(
    ("name", "registrable"),
    [
        ("evil.test", True),
        ("localhost.evil.test", True),
        ("127.0.0.1.evil.test", True),
        ("127.1", True),  # browsers send 127.0.0.1 for it
        ("printer.local", True),  # anyone in the network can have it by multicast DNS
        ("localhost", False),
        ("exporter", False),
        ("app.localhost", False),
        ("host.docker.internal", False),
        ("192.168.1.5", False),
        ("::1", False),
        ("", False),
    ],
)
def test_a_name_is_registrable_unless_it_is_reserved_or_an_address(name: str, registrable: bool) -> None:
    assert is_registrable(name) == registrable


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("fe80::1%eth0", False),
    ],
)
def test_only_this_machine_reaches_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) == loopback
