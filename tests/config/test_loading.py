"""Configured prices take effect, and mistakes are reported by line and key."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

import llm_exporter
from llm_exporter.call import Call, TokenType
from llm_exporter.config.loading import load
from llm_exporter.config.model import Config
from llm_exporter.errors import ConfigError
from llm_exporter.pricing.prices import PriceList
from support.metered import Metered

EVERYTHING = """\
prices:
  overrides:
    - provider: openai
      model: house-model
      usd_per_million_tokens: {input: 2, cache_read: 0.5, output: 8}
    - provider: openai
      model: gpt-4o
      usd_per_million_tokens: {input: 1, output: 4}
  discounts:
    anthropic: 0.1
  fallback: {input: 10, output: 30}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llm-exporter.yml"


def priced(file: Path, provider: str, model: str, tokens: dict[TokenType, int]) -> Call:
    call = Call(provider=provider, model=model, operation="chat", tokens=tokens)
    PriceList(load(file).prices).price(call)
    return call


def test_a_new_model_has_the_configured_price(file: Path) -> None:
    """Per million tokens: $2 input, $0.50 cache_read, $8 output. Reasoning costs the same as output."""
    file.write_text(EVERYTHING)
    tokens: dict[TokenType, int] = {"input": 2_000, "cache_read": 1_000, "output": 300, "reasoning": 200}
    call = priced(file, "openai", "house-model", tokens)
    assert call.cost == {"input": 0.004, "cache_read": 0.0005, "output": 0.0024, "reasoning": 0.0016}
    assert (call.cost_source, call.unpriced_tokens) == ("override", 0)


def test_a_configured_price_replaces_the_published_one_of_the_types_that_it_names(file: Path) -> None:
    """A million cached tokens of gpt-4o cost $1.25."""
    file.write_text(EVERYTHING)
    call = priced(file, "openai", "gpt-4o", {"input": 1_000_000, "cache_read": 1_000_000})
    assert call.cost == {"input": 1.0, "cache_read": 1.25}


def test_a_discount_reduces_the_list_prices_of_a_provider(file: Path) -> None:
    """Claude Sonnet 5: $2 and $10 a million tokens, less a tenth."""
    file.write_text(EVERYTHING)
    call = priced(file, "anthropic", "claude-sonnet-5", {"input": 1_000_000, "output": 1_000_000})
    assert call.cost == {"input": 1.8, "output": 9.0}
    assert call.cost_source == "list"


def test_an_unknown_model_costs_the_fallback_and_still_counts_as_unpriced(file: Path) -> None:
    file.write_text(EVERYTHING)
    call = priced(file, "openai", "zebra-9", {"input": 100_000, "output": 10_000})
    assert call.cost == {"input": 1.0, "output": 0.3}
    assert (call.cost_source, call.unpriced_tokens) == ("fallback", 110_000)


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_configure_applies_to_the_calls_that_follow(
    by: str, file: Path, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(EVERYTHING)
    if by == "argument":
        llm_exporter.configure(file)
    else:
        monkeypatch.setenv("LLM_EXPORTER_CONFIG", str(file))
        llm_exporter.configure()
    llm_exporter.record(provider="openai", model="house-model", tokens={"input": 1_000_000})
    assert metered.total("llm_cost_usd_total", model="house-model") == 2.0


def test_a_provider_is_configured_by_host_or_host_and_port(file: Path) -> None:
    file.write_text("providers:\n  GPU-7.acme.example: vllm\n  localhost:8000: vllm\n  '[::1]:8000': azure\n")
    assert load(file).providers == {
        "gpu-7.acme.example": "vllm",
        "localhost:8000": "vllm",
        "[::1]:8000": "azure",
    }


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "prices:\n  fallback: {}\n"])
def test_an_empty_configuration_changes_nothing(file: Path, text: str) -> None:
    file.write_text(text)
    call = priced(file, "openai", "gpt-4o", {"input": 1_000_000})
    assert call.cost == {"input": 2.5}


def test_a_missing_file_is_reported(file: Path) -> None:
    with pytest.raises(ConfigError, match=f"{file}: No such file or directory"):
        llm_exporter.configure(file)


def test_configure_without_a_file_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_EXPORTER_CONFIG", raising=False)
    llm_exporter.configure()


def test_an_unknown_label_is_reported_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(
        "labels: [project]\n"
        "thresholds:\n"
        "  - {name: daily, window: day, usd: 50, match: {project: acme, agnt: planner}}\n"
        "budgets:\n"
        "  - name: each\n"
        "    period: day\n"
        "    tokens: 1000\n"
        "    per: [session, projct]\n"
    )
    with pytest.raises(ConfigError) as raised:
        load(file)
    assert str(raised.value).splitlines() == [
        f"{file}:3: thresholds.0.match.agnt: unknown label 'agnt': declare it in labels",
        f"{file}:8: budgets.0.per.1: unknown label 'projct': declare it in labels",
    ]


def test_the_example_has_every_key() -> None:
    """So does the schema, and the example is valid by it."""
    docs = Path(__file__).parents[2] / "docs"
    config = load(docs / "llm-exporter.example.yml")
    assert set(config.model_fields_set) == set(Config.model_fields)
    schema = json.loads((docs / "llm-exporter.schema.json").read_text())
    assert set(schema["properties"]) == set(Config.model_fields)
    content = yaml.safe_load((docs / "llm-exporter.example.yml").read_text())
    jsonschema_rs.Draft202012Validator(schema).validate(content)
