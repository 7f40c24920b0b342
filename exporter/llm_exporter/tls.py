"""Server-side TLS as a web configuration file describes it."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .config.web_model import CIPHER_SUITES, TlsServerConfig
from .sockets import server_tls

_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CURVES: Final = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
_VERIFY_MODES: Final = {
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class TlsError(ValueError):
    """TLS cannot be set up. `key` is the key of `tls_server_config` that is wrong."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def files(tls: TlsServerConfig, directory: Path) -> list[Path]:
    """Return the paths of the files that the configuration names."""
    named = (tls.cert_file, tls.key_file, tls.client_ca_file)
    return [directory / name for name in named if name is not None]


def server_context(tls: TlsServerConfig, directory: Path) -> ssl.SSLContext:
    """Return the context of a server.

    Args:
        tls: the configuration, without inconsistencies.
        directory: the directory that paths are relative to.

    Raises:
        TlsError: if a file is unusable, or OpenSSL does not support an algorithm.
    """
    context = server_tls()
    _load_certificate(context, tls, directory)
    _load_client_ca(context, tls, directory)
    _restrict_algorithms(context, tls)
    context.set_alpn_protocols(["http/1.1"])
    if tls.verifies_clients:
        context.verify_mode = _VERIFY_MODES[tls.client_auth_type]
        # A resumed session would skip verification by a CA that has been replaced.
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
    return context


def _load_certificate(context: ssl.SSLContext, tls: TlsServerConfig, directory: Path) -> None:
    certificate = _content("cert", tls.cert, tls.cert_file, directory)
    key = _content("key", tls.key, tls.key_file, directory)
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise TlsError("cert" if tls.cert else "cert_file", "no certificate in PEM format")
    if b"PRIVATE KEY-----" not in key:
        raise TlsError("key" if tls.key else "key_file", "no private key in PEM format")
    with (
        _path(tls.cert, tls.cert_file, directory) as chain,
        _path(tls.key, tls.key_file, directory) as secret,
    ):
        try:
            context.load_cert_chain(chain, secret, password=_no_password)
        except ssl.SSLError as error:
            reason = "it is for another certificate" if error.reason == "KEY_VALUES_MISMATCH" else error
            raise TlsError("key" if tls.key else "key_file", f"cannot use the key: {reason}") from None
        except (OSError, ValueError) as error:
            raise TlsError("key" if tls.key else "key_file", str(error)) from None


def _no_password() -> str:
    raise ValueError("the key is encrypted: decrypt it, and protect the file by its permissions")


def _load_client_ca(context: ssl.SSLContext, tls: TlsServerConfig, directory: Path) -> None:
    if tls.client_ca is None and tls.client_ca_file is None:
        return
    key = "client_ca" if tls.client_ca else "client_ca_file"
    content = _content("client_ca", tls.client_ca, tls.client_ca_file, directory)
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError:
        raise TlsError(key, "no certificate in PEM format") from None


def _restrict_algorithms(context: ssl.SSLContext, tls: TlsServerConfig) -> None:
    context.minimum_version = _VERSIONS[tls.min_version]
    context.maximum_version = _VERSIONS[tls.max_version]
    if tls.cipher_suites:
        suites = [suite for name in tls.cipher_suites if (suite := CIPHER_SUITES[name])]
        if suites:
            _set_ciphers(context, suites)
        else:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    for curve in tls.curve_preferences:
        try:
            context.set_ecdh_curve(_CURVES[curve])
        except ValueError:
            raise TlsError("curve_preferences", f"{ssl.OPENSSL_VERSION} does not support {curve}") from None


def _set_ciphers(context: ssl.SSLContext, suites: list[str]) -> None:
    try:
        context.set_ciphers(":".join(suites))
    except ssl.SSLError:
        raise TlsError("cipher_suites", f"{ssl.OPENSSL_VERSION} supports none of them") from None
    enabled = {cipher["name"] for cipher in context.get_ciphers()}
    if missing := [suite for suite in suites if suite not in enabled]:
        raise TlsError("cipher_suites", f"{ssl.OPENSSL_VERSION} does not support {', '.join(missing)}")


def _content(name: str, inline: str | None, file: str | None, directory: Path) -> bytes:
    if file is None:
        return (inline or "").encode()
    try:
        return (directory / file).read_bytes()
    except OSError as error:
        raise TlsError(f"{name}_file", f"{directory / file}: {error.strerror or error}") from None


@contextmanager
def _path(inline: str | None, file: str | None, directory: Path) -> Iterator[Path]:
    """Return the path of a file, or of a temporary one with the inline text: OpenSSL reads only files."""
    if file is not None:
        yield directory / file
        return
    with tempfile.TemporaryDirectory(prefix="llm-exporter-") as scratch:  # only this user can read it
        path = Path(scratch) / "pem"
        path.touch(mode=0o600)
        path.write_text(inline or "")
        yield path


def check_names(context: ssl.SSLContext, allowed: Callable[[], Sequence[str] | None]) -> None:
    """Let handshakes fail if the client's certificate has none of the allowed names.

    Args:
        context: the context of a server.
        allowed: returns the subject alternative names to accept; None for any.
    """

    class CheckedObject(context.sslobject_class):  # type: ignore[misc,name-defined]
        def do_handshake(self) -> None:
            super().do_handshake()
            _check_names(self.getpeercert(), allowed())

    class CheckedSocket(context.sslsocket_class):  # type: ignore[misc,name-defined]
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            _check_names(self.getpeercert(), allowed())

    context.sslobject_class = CheckedObject
    context.sslsocket_class = CheckedSocket


def _check_names(certificate: Mapping[str, Any] | None, allowed: Sequence[str] | None) -> None:
    if allowed is None or not certificate:
        return
    names = [_canonical(kind, value) for kind, value in certificate.get("subjectAltName", ())]
    if not any(name in allowed for name in names):
        raise ssl.SSLCertVerificationError(f"the client's certificate is for {names}, which is not allowed")


def _canonical(kind: str, value: str) -> str:
    if kind != "IP Address":
        return value
    try:
        return str(ipaddress.ip_address(value.strip()))
    except ValueError:
        return value
