"""Fixtures: a Redis server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.redis_server import RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server that has its files in the directory of the test."""
    with RedisServer(tmp_path) as server:
        yield server
