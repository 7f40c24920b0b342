"""Who makes a request, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, get_args

from ...config.model import Right

EVERY_RIGHT: Final[frozenset[Right]] = frozenset(get_args(Right))


class Holder(NamedTuple):
    """Who makes a request."""

    name: str
    """`token NAME`, `user NAME` or `certificate`, which are distinct; empty without authentication."""
    rights: frozenset[Right] = EVERY_RIGHT
    """Rights do not imply one another."""
    labels: Mapping[str, str] = MappingProxyType({})
    """Replace the labels of the calls that it sends, and limit the accounts that it may lease from."""


ANYONE: Final = Holder("")
"""Makes every request where no authentication is needed."""
CERTIFICATE: Final = Holder("certificate")
"""Makes every request where clients need a certificate to connect, and no token or password."""
