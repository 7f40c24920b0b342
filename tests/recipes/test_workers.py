"""Workers and short functions ship every call to the service, once."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from support.awaiting import until
from support.recipes import Recipe, assert_received
from support.redis_server import RedisServer
from support.scripted import Server
from support.served import Served

FOUR = {("summarizer", "map"): 4}


def test_celery(tmp_path: Path, provider: Server, service: Served) -> None:
    """The worker is told to end as soon as the last task has begun."""
    redis = RedisServer(tmp_path)
    try:
        recipe = Recipe("Celery", tmp_path, provider)
        recipe.ship_to(service)
        recipe.addresses["redis://127.0.0.1:6379/0"] = redis.url
        recipe.write()
        recipe.run("python -c 'from tasks import summarize; [summarize.delay(text) for text in \"abcd\"]'")
        with recipe.running():
            until(lambda: len(provider.requests) == 4)
        assert_received(service, {("tasks.summarize", "map"): 4})
    finally:
        redis.stop()


def test_ray(tmp_path: Path, provider: Server, service: Served) -> None:
    recipe = Recipe("Ray", tmp_path, provider)
    recipe.ship_to(service)
    recipe.write()
    with TemporaryDirectory() as short:  # the paths of its sockets have at most 107 bytes
        recipe.environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": short}
        assert "['Seven.', 'Seven.', 'Seven.', 'Seven.']" in recipe.run()
    assert_received(service, FOUR)


def test_spark(tmp_path: Path, provider: Server, service: Served) -> None:
    recipe = Recipe("Spark", tmp_path, provider)
    recipe.ship_to(service)
    recipe.environment |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    recipe.write()
    assert "['Seven.', 'Seven.', 'Seven.', 'Seven.']" in recipe.run()
    assert_received(service, FOUR)
