"""The model of a web configuration file, in the format of Prometheus' exporter-toolkit.

The format: https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

CIPHER_SUITES: Final = {
    "TLS_AES_128_GCM_SHA256": None,  # TLS 1.3
    "TLS_AES_256_GCM_SHA384": None,
    "TLS_CHACHA20_POLY1305_SHA256": None,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
"""OpenSSL's names of Go's cipher suites; None for those of TLS 1.3, which are always enabled.

The suites: https://pkg.go.dev/crypto/tls#pkg-constants
"""

_BCRYPT: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+")
_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SUITE: Final = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
_OLD_VERSIONS: Final = ("TLS10", "TLS11")
_HEADER_CHOICES: Final = {
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
}


def _hash(value: str) -> str:
    if not _BCRYPT.fullmatch(value):
        raise ValueError("must be a bcrypt hash, as `htpasswd -nBC 10 ''` prints it")  # never show the value
    return value


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("must be printable ASCII on one line")
    return value


def _version(value: object) -> object:
    if value in _OLD_VERSIONS:
        raise ValueError(f"{value} is insecure and unsupported: must be TLS12 or TLS13")
    return value


def _client_auth(value: object) -> object:
    if value in ("RequireAnyClientCert", "RequireClientCert"):
        raise ValueError(
            f"{value} does not verify certificates, which Python's ssl module cannot do: "
            "use RequireAndVerifyClientCert"
        )
    return value


def _cipher_suite(name: str) -> str:
    if name not in CIPHER_SUITES:
        raise ValueError(f"{name!r} is not a cipher suite that Go considers secure, such as {_SUITE}")
    return name


def _one_curve(curves: tuple[str, ...]) -> tuple[str, ...]:
    if len(curves) > 1:
        raise ValueError("Python's ssl module takes one curve: name only the first, or remove this key")
    return curves


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not _DURATION.fullmatch(value):
        raise ValueError("must be a duration such as 100ms, 1s or 1m30s")
    return sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)(ns|us|ms|s|m|h)", value)
    )


Text = Annotated[str, Field(min_length=1)]
TlsVersion = Annotated[Literal["TLS12", "TLS13"], BeforeValidator(_version)]
HeaderName = Literal[
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
]
ClientAuth = Annotated[
    Literal["NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"],
    BeforeValidator(_client_auth),
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class TlsServerConfig(_Section):
    """TLS: certificates, and which clients and algorithms to accept."""

    cert: Text | None = None
    """The server's certificate chain in PEM format."""
    key: Text | None = Field(default=None, repr=False)
    cert_file: Text | None = None
    """Paths are relative to the directory of the web configuration file."""
    key_file: Text | None = None
    client_auth_type: ClientAuth = "NoClientCert"
    """`RequestClientCert` has the effect of `NoClientCert`: no certificate is asked for or verified."""
    client_ca: Text | None = None
    client_ca_file: Text | None = None
    client_allowed_sans: tuple[Text, ...] | None = None
    """Subject alternative names, of which a client certificate must have one."""
    min_version: TlsVersion = "TLS12"
    max_version: TlsVersion = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher_suite)], ...] = ()
    """Cipher suites for TLS 1.2, by their Go names."""
    prefer_server_cipher_suites: bool = True
    curve_preferences: Annotated[
        tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...], AfterValidator(_one_curve)
    ] = ()

    @property
    def verifies_clients(self) -> bool:
        """Whether client certificates are verified."""
        return self.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")

    def inconsistencies(self) -> Iterator[tuple[str, str]]:
        """Yield the key and message of each mistake between keys."""
        for name in ("cert", "key"):
            inline, file = getattr(self, name), getattr(self, f"{name}_file")
            if (inline is None) == (file is None):
                yield f"{name}_file", f"set either {name}_file or {name}"
        has_ca = self.client_ca is not None or self.client_ca_file is not None
        if self.client_ca is not None and self.client_ca_file is not None:
            yield "client_ca_file", "set either client_ca_file or client_ca"
        if has_ca and not self.verifies_clients:
            yield "client_auth_type", "client certificates are not verified: use RequireAndVerifyClientCert"
        if self.verifies_clients and not has_ca:
            yield "client_auth_type", "set client_ca_file, which verifies client certificates"
        if self.client_allowed_sans is not None and not self.verifies_clients:
            yield "client_allowed_sans", "needs client_auth_type: RequireAndVerifyClientCert"
        if self.min_version > self.max_version:
            yield "min_version", f"must not be greater than max_version {self.max_version}"


class HttpServerConfig(_Section):
    """HTTP: headers to add to responses."""

    http2: bool = True
    """Accepted for compatibility. Responses are HTTP/1.1 in any case."""
    headers: dict[HeaderName, Annotated[str, AfterValidator(_header_value)]] = {}

    def inconsistencies(self) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield the location and message of each header whose value is not one of its choices."""
        for name, choices in _HEADER_CHOICES.items():
            if self.headers.get(name, choices[0]) not in choices:  # type: ignore[call-overload]
                yield ("headers", name), f"must be {' or '.join(choices)}"


class RateLimit(_Section):
    """A limit on requests, as a token bucket. Further requests get 429."""

    interval: Annotated[float, BeforeValidator(_duration), Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds between two requests; 0 for no limit. In the file a duration, such as `100ms`."""
    burst: Annotated[int, Field(ge=0)] = 0
    """How many requests may arrive at once."""


class WebFile(_Section):
    """The content of a web configuration file."""

    tls_server_config: TlsServerConfig | None = None
    http_server_config: HttpServerConfig = HttpServerConfig()
    basic_auth_users: dict[str, Annotated[str, AfterValidator(_hash)]] = Field(default={}, repr=False)
    """Bcrypt hashes of passwords, by user name."""
    rate_limit: RateLimit = RateLimit()

    @property
    def requires_certificate(self) -> bool:
        """Whether only clients with a verified certificate can connect."""
        tls = self.tls_server_config
        return tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert"

    @property
    def authenticates(self) -> bool:
        """Whether it admits only users with a password or clients with a certificate."""
        return bool(self.basic_auth_users) or self.requires_certificate

    def inconsistencies(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield the location and message of each mistake between keys."""
        if self.tls_server_config is not None:
            for key, message in self.tls_server_config.inconsistencies():
                yield ("tls_server_config", key), message
        for location, message in self.http_server_config.inconsistencies():
            yield ("http_server_config", *location), message
        for user in self.basic_auth_users:
            if not user or ":" in user:
                yield ("basic_auth_users", user), "a user name must not be empty or contain ':'"
