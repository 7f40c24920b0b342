"""HTTP requests that follow no redirect, so that credentials are sent to one server only."""

from __future__ import annotations

from typing import Any, Final
from urllib.request import HTTPRedirectHandler, build_opener


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


opener: Final = build_opener(_NoRedirect)
"""Raises `urllib.error.HTTPError` for a redirect."""
