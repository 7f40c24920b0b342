# ruff: noqa: E501 - messages are on one line
"""The web configuration file, in the format of Prometheus' exporter-toolkit."""

from __future__ import annotations

import builtins
import logging
import re
import shutil
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from llm_exporter.errors import ConfigError
from llm_exporter.web_config import WebConfig, credentials, load_web_config
from support.certificates import Certificates
from tools.binaries import environment, find

HASH = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
OTHER_HASH = bcrypt.hashpw(b"battery staple", bcrypt.gensalt(4)).decode()

EVERYTHING = f"""\
tls_server_config:
  cert_file: server.pem
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.acme.example]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256]
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: ""
    Strict-Transport-Security: max-age=31536000
    X-Content-Type-Options: nosniff
    X-Frame-Options: sameorigin
    X-XSS-Protection: 0
basic_auth_users:
  grafana: {HASH}
  42: {OTHER_HASH}
"""


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    certificates = Certificates(directory)
    certificates.issue("exporter.acme.example")
    certificates.issue("prometheus.acme.example", name="other")
    return directory


@pytest.fixture
def file(issued: Path, tmp_path: Path) -> Path:
    for each in issued.iterdir():
        shutil.copy(each, tmp_path)
    return tmp_path / "web.yml"


def load(file: Path, text: str) -> WebConfig:
    file.write_text(text)
    return load_web_config(file)


def mistakes(file: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(file, text)
    return str(raised.value).replace(f"{file.parent}/", "").split("\n")


def promtool_output(file: Path) -> str:
    """Return what Prometheus says of a file: its path and SUCCESS, or what it does not accept."""
    promtool = find("promtool")
    done = subprocess.run(
        [promtool, "check", "web-config", file],
        env=environment(promtool),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def test_every_key_of_the_format(file: Path) -> None:
    web = load(file, EVERYTHING)
    assert web.headers == {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "sameorigin",
        "X-XSS-Protection": "0",
    }
    assert web.users == {"grafana": HASH, "42": OTHER_HASH}
    assert (web.authenticates, web.requires_certificate) == (True, True)
    context = web.ssl_context()
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert (context.minimum_version, context.maximum_version) == (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.TLSv1_3,
    )
    assert [each["name"] for each in context.get_ciphers() if each["protocol"] == "TLSv1.2"] == [
        "ECDHE-ECDSA-AES128-GCM-SHA256"
    ]
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    # Debian's Prometheus is older than client_allowed_sans.
    load(file, EVERYTHING.replace("  client_allowed_sans: [prometheus.acme.example]\n", ""))
    assert promtool_output(file) == f"{file} SUCCESS"


def test_an_empty_file_configures_nothing(file: Path) -> None:
    web = load(file, "")
    assert (web.ssl_context(), web.headers, web.users, web.authenticates) == (None, {}, {}, False)
    assert promtool_output(file) == f"{file} SUCCESS"


def test_a_certificate_and_key_in_the_file_itself(file: Path) -> None:
    def indented(name: str) -> str:
        return (file.parent / name).read_text().replace("\n", "\n    ")

    text = f"tls_server_config:\n  cert: |\n    {indented('server.pem')}\n  key: |\n    {indented('server.key')}\n"
    web = load(file, text)
    assert web.ssl_context() is not None
    assert "PRIVATE KEY" not in repr(web._loaded)


TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
MISTAKES = [
    ("basic_auth_user: {}\n", "web.yml:1: basic_auth_user: unknown key: did you mean basic_auth_users?"),
    (
        "basic_auth_users:\n  grafana: correct horse\n",
        "web.yml:2: basic_auth_users.grafana: must be a bcrypt hash, as `htpasswd -nBC 10 ''` prints it",
    ),
    (
        f"basic_auth_users:\n  'a:b': {HASH}\n",
        "web.yml:2: basic_auth_users.a:b: a user name must not be empty or contain ':'",
    ),
    (
        "http_server_config:\n  headers:\n    Server: x\n",
        "web.yml:3: http_server_config.headers.Server: must be 'Content-Security-Policy', 'Strict-Transport-Security', 'X-Content-Type-Options', 'X-Frame-Options' or 'X-XSS-Protection'",
    ),
    (
        "http_server_config:\n  headers:\n    X-Frame-Options: DENY\n",
        "web.yml:3: http_server_config.headers.X-Frame-Options: must be deny or sameorigin",
    ),
    (
        'http_server_config:\n  headers:\n    X-XSS-Protection: "0\\r\\nSet-Cookie: a=b"\n',
        "web.yml:3: http_server_config.headers.X-XSS-Protection: must be printable ASCII on one line",
    ),
    ("tls_server_config: {}\n", "web.yml:1: tls_server_config.cert_file: set either cert_file or cert"),
    (
        "tls_server_config:\n  cert_file: server.pem\n  key_file: none.key\n",
        "web.yml:3: tls_server_config.key_file: none.key: No such file or directory",
    ),
    (
        "tls_server_config:\n  cert_file: server.key\n  key_file: server.key\n",
        "web.yml:2: tls_server_config.cert_file: no certificate in PEM format",
    ),
    (
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.pem\n",
        "web.yml:3: tls_server_config.key_file: no private key in PEM format",
    ),
    (
        "tls_server_config:\n  cert_file: server.pem\n  key_file: other.key\n",
        "web.yml:3: tls_server_config.key_file: cannot use the key: it is for another certificate",
    ),
    (
        TLS + "  client_auth_type: RequireAnyClientCert\n",
        "web.yml:4: tls_server_config.client_auth_type: RequireAnyClientCert does not verify certificates, which Python's ssl module cannot do: use RequireAndVerifyClientCert",
    ),
    (
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n",
        "web.yml:4: tls_server_config.client_auth_type: set client_ca_file, which verifies client certificates",
    ),
    (
        TLS + "  client_ca_file: ca.pem\n",
        "web.yml:1: tls_server_config.client_auth_type: client certificates are not verified: use RequireAndVerifyClientCert",
    ),
    (
        TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.key\n",
        "web.yml:5: tls_server_config.client_ca_file: no certificate in PEM format",
    ),
    (
        TLS + "  client_allowed_sans: [a]\n",
        "web.yml:4: tls_server_config.client_allowed_sans: needs client_auth_type: RequireAndVerifyClientCert",
    ),
    (
        TLS + "  min_version: TLS10\n",
        "web.yml:4: tls_server_config.min_version: TLS10 is insecure and unsupported: must be TLS12 or TLS13",
    ),
    (
        TLS + "  min_version: TLS13\n  max_version: TLS12\n",
        "web.yml:4: tls_server_config.min_version: must not be greater than max_version TLS12",
    ),
    (
        TLS + "  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n",
        "web.yml:4: tls_server_config.cipher_suites.0: 'TLS_RSA_WITH_RC4_128_SHA' is not a cipher suite that Go considers secure, such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        TLS + "  curve_preferences: [X25519, CurveP256]\n",
        "web.yml:4: tls_server_config.curve_preferences: Python's ssl module takes one curve: name only the first, or remove this key",
    ),
    (
        "rate_limit: {interval: soon}\n",
        "web.yml:1: rate_limit.interval: must be a duration such as 100ms, 1s or 1m30s",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[message[9:60] for _, message in MISTAKES])
def test_a_mistake_is_reported_with_its_line_and_key(file: Path, text: str, message: str) -> None:
    assert mistakes(file, text)[0] == message


def test_a_file_that_is_missing(file: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{file}: No such file or directory")):
        load_web_config(file)


def test_an_encrypted_key(file: Path) -> None:
    encrypted = subprocess.run(
        ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", file.parent / "server.key"],
        check=True,
        capture_output=True,
    )
    (file.parent / "server.key").write_bytes(encrypted.stdout)
    assert mistakes(file, TLS) == [
        "web.yml:3: tls_server_config.key_file: the key is encrypted: decrypt it, and protect the file by its permissions"
    ]


def test_a_password_never_appears_in_an_error(file: Path) -> None:
    text = "basic_auth_users:\n  grafana: hunter2\n  admin: [hunter2]\n" + "http_server_config: hunter\n"
    assert "hunter2" not in "\n".join(mistakes(file, text))


def test_users_need_bcrypt(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_bcrypt(name: str, *args: Any) -> Any:
        if name == "bcrypt":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_bcrypt)
    assert mistakes(file, f"basic_auth_users: {{grafana: {HASH}}}\n") == [
        "web.yml: basic_auth_users needs bcrypt: pip install 'llm-exporter[server]'"
    ]


# ---- passwords


def test_only_the_right_password_of_a_known_user_is_right(file: Path) -> None:
    web = load(file, f"basic_auth_users: {{grafana: {HASH}, admin: {OTHER_HASH}}}\n")
    for _ in range(2):  # the second time from the cache
        assert web.check_password("grafana", "correct horse")
        assert not web.check_password("grafana", "battery staple")
        assert not web.check_password("nobody", "correct horse")
        assert not web.check_password("", "")


def test_bcrypt_runs_once_for_a_right_password_and_also_for_an_unknown_user(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 100 ms, and its absence would tell who is a user."""
    checked: list[bytes] = []

    def count(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return checkpw(password, hashed)

    checkpw = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", count)
    web = load(file, f"basic_auth_users: {{grafana: {HASH}}}\n")
    assert not web.knows("grafana", "correct horse")
    for user, password in (
        [("grafana", "correct horse")] * 3 + [("grafana", "wrong")] * 2 + [("nobody", "guess")] * 2
    ):
        web.check_password(user, password)
    assert checked == [b"correct horse", b"wrong", b"wrong", b"guess", b"guess"]
    assert web.knows("grafana", "correct horse")
    assert not web.knows("grafana", "wrong")
    assert not web.knows("nobody", "correct horse")


@pytest.mark.parametrize("password", ["x" * 100, "nul\0nul", "pässwörd", ""])
def test_any_password_can_be_checked(file: Path, password: str) -> None:
    """Bcrypt uses 72 bytes, as `htpasswd` does."""
    web = load(file, f"basic_auth_users: {{grafana: {HASH}}}\n")
    assert not web.check_password("grafana", password)
    hashed = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    assert load(file, f"basic_auth_users: {{grafana: {hashed}}}\n").check_password("grafana", password)


def test_a_new_password_replaces_the_old_one_at_once(file: Path) -> None:
    web = load(file, f"basic_auth_users: {{grafana: {HASH}}}\n")
    assert web.check_password("grafana", "correct horse")
    file.write_text(f"basic_auth_users: {{grafana: {OTHER_HASH}, more: {HASH}}}\n")
    assert not web.check_password("grafana", "correct horse")
    assert web.check_password("grafana", "battery staple")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("basic_auth_users: {", "web.yml:1: invalid YAML"),
        ("", "web.yml: restart to add the first user, or to remove the last one"),
        (f"{TLS}basic_auth_users: {{grafana: {OTHER_HASH}}}", "web.yml: restart to change tls_server_config"),
    ],
)
def test_a_change_that_cannot_be_used_leaves_everything_as_it_was(
    file: Path, text: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake must not let everybody in, or lock everybody out."""
    web = load(file, f"basic_auth_users: {{grafana: {HASH}}}\n")
    file.write_text(text)
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        for _ in range(3):
            assert web.check_password("grafana", "correct horse")
    (record,) = caplog.records
    assert "the previous web configuration stays in use" in record.getMessage()
    assert message in record.getMessage()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Basic Z3JhZmFuYTpjb3JyZWN0IGhvcnNl", ("grafana", "correct horse")),
        ("basic  Z3JhZmFuYTphOmI=", ("grafana", "a:b")),
        ("Basic Z3JhZmFuYQ==", None),
        ("Basic !!!", None),
        ("Basic /w==", None),
        ("Bearer abc", None),
        ("", None),
        (None, None),
    ],
)
def test_credentials_in_a_header(header: str | None, expected: tuple[str, str] | None) -> None:
    assert credentials(header) == expected


def test_the_rate_limit_admits_a_burst(file: Path) -> None:
    web = load(file, "rate_limit: {interval: 1h, burst: 3}\n")
    assert [web.within_rate_limit() for _ in range(5)] == [True, True, True, False, False]
    unlimited = load(file, "rate_limit: {interval: 0, burst: 0}\n")
    assert all(unlimited.within_rate_limit() for _ in range(100))


# ---- certificates


def served_certificate(web: WebConfig, client: ssl.SSLContext) -> str:
    """Return the name in the certificate of a handshake in memory."""
    context = web.ssl_context()
    assert context is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    connection = client.wrap_bio(to_client, to_server)
    for _ in range(5):
        for side in (connection, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    certificate = connection.getpeercert()
    assert certificate is not None
    return str(certificate["subjectAltName"])


def test_a_new_certificate_is_used_without_a_restart(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not before both of its files are there."""
    web = load(file, TLS)
    client = ssl.create_default_context(cafile=str(file.parent / "ca.pem"))
    client.check_hostname = False
    assert "exporter.acme.example" in served_certificate(web, client)
    (file.parent / "server.pem").write_bytes((file.parent / "other.pem").read_bytes())
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        for _ in range(2):
            assert "exporter.acme.example" in served_certificate(web, client)
    (record,) = caplog.records
    assert "cannot use the key: it is for another certificate" in record.getMessage()
    (file.parent / "server.key").write_bytes((file.parent / "other.key").read_bytes())
    assert "prometheus.acme.example" in served_certificate(web, client)
    (file.parent / "server.key").unlink()
    assert "prometheus.acme.example" in served_certificate(web, client)
