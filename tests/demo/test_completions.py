"""Generated completions are deterministic, realistic and cached by prefix."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from demo.completions import MIN_CACHED_TOKENS, MODELS, Part, Prompt, ProviderError, TextGenerator

QUESTION = "What is left to do?"


def tokens(generator: TextGenerator, *prefix: Part, rest: str = QUESTION) -> Counter[Any]:
    """Return the tokens of a completion by type."""
    return generator.complete(Prompt("claude-sonnet-5", prefix, rest)).tokens


def test_a_prompt_always_gets_the_same_completion() -> None:
    assert tokens(TextGenerator(), rest="One?") == tokens(TextGenerator(), rest="One?")
    assert tokens(TextGenerator(), rest="One?") != tokens(TextGenerator(), rest="Another?")


def test_a_repeated_prefix_is_read_from_the_cache() -> None:
    generator = TextGenerator()
    handbook = Part("h" * 4 * 2000, "cache_write_1h")
    task, other_task = Part("t" * 4 * 300, "cache_write"), Part("o" * 4 * 200, "cache_write")

    first = tokens(generator, handbook, task)
    assert (first["cache_write_1h"], first["cache_write"], first["cache_read"]) == (2000, 300, 0)
    second = tokens(generator, handbook, task)
    assert (second["cache_write_1h"], second["cache_write"], second["cache_read"]) == (0, 0, 2300)
    third = tokens(generator, handbook, other_task)
    assert (third["cache_write_1h"], third["cache_write"], third["cache_read"]) == (0, 200, 2000)


def test_a_short_prompt_is_not_cached() -> None:
    generator = TextGenerator()
    short = Part("s" * 4 * (MIN_CACHED_TOKENS - 1), "cache_write")

    assert tokens(generator, short) == tokens(generator, short)
    assert tokens(generator, short)["cache_read"] == tokens(generator, short)["cache_write"] == 0


@pytest.mark.parametrize("max_output", [1, 10, 100])
def test_a_completion_has_at_most_the_maximum_number_of_tokens(max_output: int) -> None:
    completion = TextGenerator().complete(Prompt("gpt-5", (), QUESTION, max_output=max_output))

    assert completion.output_tokens == max_output
    assert completion.truncated


def test_an_error_says_why_the_request_failed() -> None:
    with pytest.raises(ProviderError, match="unknown_model"):
        TextGenerator().complete(Prompt("no-such-model", (), QUESTION))
    with pytest.raises(ProviderError, match="prompt_too_long") as failed:
        TextGenerator().complete(Prompt("gpt-4o", (), "long" * 128_001))
    assert (failed.value.tokens, failed.value.limit) == (128_001, MODELS["gpt-4o"].context)
