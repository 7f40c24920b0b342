"""Client certificates authenticate the clients of the service, in a real TLS handshake."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from llm_exporter.config.model import Auth
from llm_exporter.service.access.door import Access
from llm_exporter.web_config import load_web_config
from support.certificates import Certificates
from support.served import Served

WEB = """\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
"""
PUBLIC_NAME = {"host": "llm.example.com"}
REQUESTS: dict[str, tuple[str, object]] = {
    "read": ("/api/v1/budgets", None),
    "ingest": ("/api/v1/calls", []),
    "admin": ("/api/v1/alerts", {"alerts": []}),
}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    certificates = Certificates(tmp_path)
    certificates.issue("127.0.0.1")
    (tmp_path / "web.yml").write_text(WEB)
    return certificates


@pytest.fixture
def context(certificates: Certificates) -> ssl.SSLContext:
    """The context of a client that has a certificate."""
    return certificates.client_context(certificates.issue("prometheus.acme.example", name="client"))


def serving(directory: Path, context: ssl.SSLContext, *options: str) -> Served:
    return Served(directory, "--web.config.file", str(directory / "web.yml"), *options, tls=context)


@pytest.fixture
def served(tmp_path: Path, context: ssl.SSLContext) -> Iterator[Served]:
    with serving(tmp_path, context, "--host", "127.0.0.1") as served:
        yield served


def statuses(served: Served, headers: dict[str, str]) -> dict[str, int]:
    return {right: served.status(path, headers, body) for right, (path, body) in REQUESTS.items()}


def test_without_tokens_who_has_a_certificate_has_all_rights_by_any_host_name(served: Served) -> None:
    """A page cannot use the certificate by DNS rebinding: the server's one is not for the attacker's name."""
    assert statuses(served, PUBLIC_NAME) == {"read": 200, "ingest": 200, "admin": 204}


def test_a_page_of_another_site_cannot_use_the_certificate_of_a_browser(served: Served) -> None:
    headers = {**PUBLIC_NAME, "origin": "https://evil.test", "sec-fetch-site": "cross-site"}
    assert statuses(served, headers) == {"read": 403, "ingest": 403, "admin": 403}


def test_who_has_no_certificate_of_the_authority_cannot_connect(
    served: Served, certificates: Certificates, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    foreign = Certificates(tmp_path / "elsewhere").issue("prometheus.acme.example", name="foreign")
    for certificate in (None, foreign):
        served.tls = certificates.client_context(certificate)
        with pytest.raises((URLError, ConnectionError, ssl.SSLError)):
            served.status("/-/healthy")


def test_with_tokens_who_has_a_certificate_needs_one_too(tmp_path: Path, context: ssl.SSLContext) -> None:
    (tmp_path / "token").write_text("read-0123456789abcdef")
    config = tmp_path / "llm-exporter.yml"
    config.write_text(f"auth: {{tokens: [{{name: r, file: {tmp_path}/token, rights: [read]}}]}}")
    with serving(tmp_path, context, "--config", str(config)) as served:
        assert statuses(served, PUBLIC_NAME) == {"read": 401, "ingest": 401, "admin": 401}
        token = {**PUBLIC_NAME, "authorization": "Bearer read-0123456789abcdef"}
        assert statuses(served, token) == {"read": 200, "ingest": 403, "admin": 403}


@pytest.mark.usefixtures("certificates")
def test_certificates_that_are_optional_authenticate_nobody(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text(WEB.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    access = Access(Auth(), load_web_config(tmp_path / "web.yml"), "", "127.0.0.1", lambda: None)
    assert not access.required


@pytest.mark.usefixtures("certificates")
def test_required_certificates_let_the_last_token_go(tmp_path: Path) -> None:
    access = Access(Auth(), load_web_config(tmp_path / "web.yml"), "", "127.0.0.1", lambda: None)
    assert access.required
    access.refuse_to_open(Auth())
