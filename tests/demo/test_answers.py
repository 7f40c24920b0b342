"""The answers are made up so that they could be real: the same for the same question, and cached."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from demo.answers import MODELS, SHORTEST_CACHED, Author, Part, Question, Refusal

QUESTION = "What is left to do?"


def ask(author: Author, *beginning: Part, rest: str = QUESTION, **asked: Any) -> Counter[Any]:
    return author.answer(Question("claude-sonnet-5", beginning, rest, **asked)).tokens


def test_the_same_question_gets_the_same_answer_from_every_author() -> None:
    assert ask(Author(), rest="One?") == ask(Author(), rest="One?")
    assert ask(Author(), rest="One?") != ask(Author(), rest="Another?")


def test_the_cache_holds_the_beginnings_of_prompts_as_far_as_they_are_the_same() -> None:
    author = Author()
    handbook = Part("h" * 4 * 2000, "cache_write_1h")
    task, other_task = Part("t" * 4 * 300, "cache_write"), Part("o" * 4 * 200, "cache_write")

    first = ask(author, handbook, task)
    assert (first["cache_write_1h"], first["cache_write"], first["cache_read"]) == (2000, 300, 0)
    second = ask(author, handbook, task)
    assert (second["cache_write_1h"], second["cache_write"], second["cache_read"]) == (0, 0, 2300)
    third = ask(author, handbook, other_task)
    assert (third["cache_write_1h"], third["cache_write"], third["cache_read"]) == (0, 200, 2000)


def test_short_prompts_are_not_cached() -> None:
    author = Author()
    short = Part("s" * 4 * (SHORTEST_CACHED - 1), "cache_write")

    assert ask(author, short) == ask(author, short)
    assert ask(author, short)["cache_read"] == ask(author, short)["cache_write"] == 0


@pytest.mark.parametrize("most", [1, 10, 100])
def test_no_more_is_generated_than_allowed(most: int) -> None:
    answer = Author().answer(Question("gpt-5", (), QUESTION, max_output=most))

    assert answer.generated == most
    assert answer.cut_off


def test_a_refusal_says_why() -> None:
    with pytest.raises(Refusal, match="unknown_model"):
        Author().answer(Question("no-such-model", (), QUESTION))
    with pytest.raises(Refusal, match="prompt_too_long") as refused:
        Author().answer(Question("gpt-4o", (), "long" * 128_001))
    assert (refused.value.tokens, refused.value.limit) == (128_001, MODELS["gpt-4o"].context)
