"""The comparison with LiteLLM's prices reports each difference that was not accepted."""

from __future__ import annotations

import json
import zipfile
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from tools.price_comparison.comparison import (
    Comparison,
    Difference,
    Reason,
    compare,
    problems,
    read_accepted,
    read_reasons,
)
from tools.price_comparison.table import FILE, read

GPT_4O = {"litellm_provider": "openai", "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05}
DIFFERENCE = Difference("gpt-4o", "0.5", "", "input; output")


def reason(model: str = "gpt-4o", usage: str = ".*", approximated: str = "") -> Reason:
    return Reason(model, usage, approximated, "theirs is stale", date(2026, 11, 24))


def comparison(tmp_path: Path, table: dict[str, object]) -> Comparison:
    wheel = tmp_path / "litellm.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(FILE, json.dumps(table))
    return compare(read(wheel))


def test_equal_prices_do_not_differ(tmp_path: Path) -> None:
    assert comparison(tmp_path, {"gpt-4o": GPT_4O}) == Comparison(1, 2, [])


def test_a_price_that_differs_is_listed_with_its_ratio(tmp_path: Path) -> None:
    result = comparison(tmp_path, {"gpt-4o": GPT_4O | {"input_cost_per_token": 5e-06}})
    assert result.differences == [Difference("gpt-4o", "0.5", "", "input")]


def test_usages_with_the_same_ratio_are_one_difference(tmp_path: Path) -> None:
    stale = {"input_cost_per_token": 5e-06, "output_cost_per_token": 2e-05}
    assert comparison(tmp_path, {"gpt-4o": GPT_4O | stale}).differences == [DIFFERENCE]


def test_a_difference_below_one_percent_is_rounding(tmp_path: Path) -> None:
    assert not comparison(tmp_path, {"gpt-4o": GPT_4O | {"input_cost_per_token": 2.52e-06}}).differences


def test_a_price_of_a_tier_that_we_approximate_is_marked(tmp_path: Path) -> None:
    entry = GPT_4O | {"input_cost_per_token_ultrafast": 5e-06}
    assert comparison(tmp_path, {"gpt-4o": entry}).differences == [
        Difference("gpt-4o", "0.5", "tier", "input ultrafast")
    ]


def test_images_are_compared_by_quality_and_size(tmp_path: Path) -> None:
    entry = {"litellm_provider": "openai", "input_cost_per_image": 0.5}
    assert comparison(tmp_path, {"high/1024-x-1536/gpt-image-1": entry}).differences == [
        Difference("high/1024-x-1536/gpt-image-1", "0.5", "", "images_high_1024x1536")
    ]


def test_a_model_that_we_do_not_know_is_not_compared(tmp_path: Path) -> None:
    assert comparison(tmp_path, {"openai/gpt-nowhere": GPT_4O}) == Comparison(0, 0, [])


@pytest.mark.parametrize(
    ("key", "provider", "ours", "name", "region"),
    [
        ("gemini/gemini-2.5-pro", "gemini", "google", "gemini-2.5-pro", ""),
        ("vertex_ai/claude-opus-5", "vertex_ai-anthropic_models", "google", "claude-opus-5", ""),
        ("xai/grok-4.7", "xai", "x-ai", "grok-4.7", ""),
        ("bedrock/eu-west-1/meta.llama3", "bedrock", "aws", "meta.llama3", "eu-west-1"),
        ("us.anthropic.claude-opus-5", "bedrock_converse", "aws", "us.anthropic.claude-opus-5", ""),
        ("azure/global/gpt-5.1", "azure", "azure", "gpt-5.1", ""),
        ("perplexity/perplexity/sonar", "perplexity", "perplexity", "perplexity/sonar", ""),
    ],
)
def test_models_are_found_at_their_provider(
    tmp_path: Path, key: str, provider: str, ours: str, name: str, region: str
) -> None:
    wheel = tmp_path / "litellm.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(FILE, json.dumps({key: {"litellm_provider": provider}}))
    (model,) = read(wheel)
    assert (model.provider, model.name, model.region) == (ours, name, region)


def test_an_accepted_difference_with_a_reason_is_no_problem() -> None:
    assert list(problems([DIFFERENCE], [DIFFERENCE], [reason()])) == []


def test_a_new_difference_is_a_problem_even_with_a_reason() -> None:
    assert [each.partition(":")[0] for each in problems([DIFFERENCE], [], [reason()])] == ["new"]


def test_a_changed_difference_is_new_and_the_old_one_is_gone() -> None:
    changed = DIFFERENCE._replace(ratio="0.25")
    found = [each.partition(":")[0] for each in problems([changed], [DIFFERENCE], [reason()])]
    assert found == ["new", "gone"]


def test_a_difference_needs_a_reason_for_all_of_its_usages() -> None:
    found = [each.partition(":")[0] for each in problems([DIFFERENCE], [DIFFERENCE], [reason(usage="input")])]
    assert found == ["no reason", "unused reason"]


def test_a_reason_does_not_cover_approximate_prices_by_default() -> None:
    assert not reason().explains(DIFFERENCE._replace(approximated="tier"))
    assert reason(approximated="tier").explains(DIFFERENCE._replace(approximated="tier"))


def test_every_accepted_difference_has_a_reason_with_a_date() -> None:
    reasons, accepted = read_reasons(), read_accepted()
    assert list(problems(accepted, accepted, reasons)) == []
    assert all(isinstance(each.date, date) and len(each.reason) > 20 for each in reasons)
    assert all(Decimal(each.ratio) != 1 for each in accepted if each.ratio not in ("none", "infinite"))
