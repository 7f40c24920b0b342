"""Web frameworks with two workers, either of which serves the exact total."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.awaiting import until
from support.recipes import Recipe, assert_metrics
from support.scripted import Server

WARNING = "/metrics shows only the calls of this process"


def is_counted(recipe: Recipe, calls: int) -> bool:
    """Return whether `/metrics` shows this number of calls, which takes some milliseconds."""
    lines = recipe.get("/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("llm_calls_total{")) == calls


def assert_counted_by_all(recipe: Recipe, calls: dict[tuple[str, str], int]) -> None:
    """Assert that whichever worker is scraped shows exactly these calls."""
    until(lambda: is_counted(recipe, sum(calls.values())))
    for _ in range(8):
        assert_metrics(recipe.get("/metrics"), calls)
    assert WARNING not in (recipe.directory / "log").read_text()


def test_fastapi(tmp_path: Path, provider: Server) -> None:
    recipe = Recipe("FastAPI", tmp_path, provider)
    recipe.write()
    with recipe.running(), ThreadPoolExecutor(4) as pool:
        assert recipe.get("/answer?question=a") == '"Seven."'
        assert set(pool.map(recipe.get, ["/answer?question=a"] * 9)) == {'"Seven."'}
        assert set(pool.map(recipe.get, ["/story?topic=a"] * 5)) == {"Seven."}
        assert_counted_by_all(recipe, {("support", "answer"): 10, ("support", "story"): 5})


@pytest.mark.parametrize("title", ["Flask with gunicorn", "Django"])
def test_flask_and_django(title: str, tmp_path: Path, provider: Server) -> None:
    recipe = Recipe(title, tmp_path, provider)
    if title == "Django":
        recipe.run("django-admin startproject mysite .")
    recipe.write()
    with recipe.running(), ThreadPoolExecutor(4) as pool:
        assert recipe.get("/answer?question=a") == "Seven."
        assert set(pool.map(recipe.get, ["/answer?question=a"] * 9)) == {"Seven."}
        assert_counted_by_all(recipe, {("support", "answer"): 10})
