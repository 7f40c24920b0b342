"""The URL of an exporter service, checked without loading an HTTP client."""

from __future__ import annotations

from ..errors import ConfigError
from ..http_url import HttpUrl, parse_http_url


def check_url(url: str) -> HttpUrl:
    """Return the parts of a service's URL.

    Raises:
        ConfigError: if it is not the URL of a service. The message contains no part of the URL.
    """
    try:
        return parse_http_url(url)
    except ValueError as error:
        raise ConfigError(f"LLM_EXPORTER_URL: {error}, like http://127.0.0.1:9847") from None
