# ruff: noqa: E501 - messages are on one line
"""Each mistake in a configuration is reported with the file, the line and the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_exporter.cli.main import main


def check(file: Path) -> str:
    """Return the output of `llm-exporter check` for an invalid file."""
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return re.sub("^Error: ", "", result.output).removesuffix("\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("price: {}\n", ":1: price: unknown key: did you mean prices?"),
        ("pricess: {}\n", ":1: pricess: unknown key: did you mean prices?"),
        (
            "zebra: 1\n",
            ":1: zebra: unknown key: must be one of prices, labels, scrape_interval, native_histograms, max_series, series, store, retention, providers, thresholds, budgets, auth",
        ),
        ("prices:\n  discount: {}\n", ":2: prices.discount: unknown key: did you mean discounts?"),
        ("- prices\n", ":1: must be a mapping"),
        ("just words\n", ":1: must be a mapping"),
        ("prices: 7\n", ":1: prices: must be a mapping"),
        ("prices: {\n", ":2: invalid YAML: expected the node content, but found '<stream end>'"),
        ("a: b: c\n", ":1: invalid YAML: mapping values are not allowed here"),
        ("prices:\n\tfallback: {}\n", ":2: invalid YAML: found character '\\t' that cannot start any token"),
        (
            "prices: {update: maybe}\n",
            ":1: prices.update: must be a valid boolean, unable to interpret input",
        ),
        (
            "prices: {fallback: {input: -1}}\n",
            ":1: prices.fallback.input: must be greater than or equal to 0",
        ),
        ("prices: {fallback: {input: .inf}}\n", ":1: prices.fallback.input: must be a finite number"),
        ("prices: {fallback: {input: .nan}}\n", ":1: prices.fallback.input: must be a finite number"),
        (
            "prices: {fallback: {inputs: 1}}\n",
            ":1: prices.fallback.inputs: must be 'input', 'input_audio', 'input_image', 'input_video', 'cache_read', 'cache_read_audio', 'cache_read_image', 'cache_read_video', 'cache_write', 'cache_write_1h', 'cache_write_12h', 'output', 'reasoning', 'output_audio', 'output_image' or 'output_video'",
        ),
        (
            "prices: {discounts: {openai: 1.5}}\n",
            ":1: prices.discounts.openai: must be less than or equal to 1",
        ),
        (
            "prices:\n  overrides:\n    - model: m\n      usd_per_million_tokens: {input: 1}\n",
            ":3: prices.overrides.0.provider: required key is missing",
        ),
        (
            "prices: {overrides: [{provider: x, model: m, usd_per_million_tokens: {}}]}\n",
            ":1: prices.overrides.0.usd_per_million_tokens: must not be empty",
        ),
        (
            "scrape_interval: 15 parsecs\n",
            ":1: scrape_interval: '15 parsecs' is not a duration: write 20s, 2m, 1h30m, 30d, or 45 for seconds",
        ),
        ("scrape_interval: 0\n", ":1: scrape_interval: must be greater than 0"),
        ("scrape_interval: -5\n", ":1: scrape_interval: must be greater than 0"),
        ("scrape_interval: .inf\n", ":1: scrape_interval: must be a finite number"),
        (
            "retention: forever\n",
            ":1: retention: 'forever' is not a duration: write 20s, 2m, 1h30m, 30d, or 45 for seconds",
        ),
        (
            "store: postgres://u:secret@h/db\n",
            ":1: store: must be a redis:// URL or the path of an SQLite file, not postgres://;"
            " begin a relative path that contains a colon with ./",
        ),
        ("store: [a]\n", ":1: store: must be a valid string"),
        ("labels: team\n", ":1: labels: must be a list"),
        ("labels: [team, team]\n", ":1: labels: duplicate value 'team'"),
        (
            "labels: [session]\n",
            ":1: labels.0: 'session' cannot be a metric label, because each value would make a series; it is in the ledger",
        ),
        ("labels: [agent]\n", ":1: labels.0: 'agent' is a built-in label"),
        (
            "labels: [2fast]\n",
            ":1: labels.0: '2fast' is not a valid label name: use letters, digits and _, and no digit first",
        ),
        (
            "labels: [__name]\n",
            ":1: labels.0: '__name' is not a valid label name: use letters, digits and _, and no digit first",
        ),
        ("series: [{provider: openai}]\n", ":1: series.0.model: required key is missing"),
        ("providers: {'http://x': vllm}\n", ":1: providers.http://x: must be host or host:port"),
        ("providers: {gpu-7: ''}\n", ":1: providers.gpu-7: must not be empty"),
        (
            "thresholds: [{name: t, window: week, usd: 1}]\n",
            ":1: thresholds.0.window: must be 'hour', 'day' or 'month'",
        ),
        ("thresholds: [{name: t, window: day, usd: 0}]\n", ":1: thresholds.0.usd: must be greater than 0"),
        ("thresholds: [{name: '', window: day, usd: 1}]\n", ":1: thresholds.0.name: must not be empty"),
        ("thresholds: [{name: t, window: day}]\n", ":1: thresholds.0.usd: required key is missing"),
        (
            "thresholds:\n  - {name: t, window: day, usd: 1}\n  - {name: t, window: hour, usd: 1}\n",
            ":3: thresholds.1.name: duplicate name 't', also used by thresholds.0",
        ),
        (
            "thresholds: [{name: t, window: day, usd: 1, match: {session_id: x}}]\n",
            ":1: thresholds.0.match.session_id: unknown label 'session_id': declare it in labels",
        ),
        (
            "thresholds: [{name: t, window: day, usd: 1, match: {agent: 7}}]\n",
            ":1: thresholds.0.match.agent: must be a valid string",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, period: day}\n",
            ":2: budgets.0.period: duplicate key, first on line 2",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, on_exceed: stop}\n",
            ":2: budgets.0.on_exceed: must be 'warn' or 'block'",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, tokens: 5}\n",
            ":2: budgets.0: set either usd or tokens",
        ),
        (
            "budgets: [{name: b, period: day}]\n",
            ":1: budgets.0: set either usd or tokens",
        ),
        (
            "budgets: [{name: b, period: year, usd: 1}]\n",
            ":1: budgets.0.period: must be 'hour', 'day', 'month' or 'total'",
        ),
        (
            "budgets: [{name: b, period: day, tokens: 1.5}]\n",
            ":1: budgets.0.tokens: must be a valid integer, got a number with a fractional part",
        ),
        ("budgets: [{name: b, period: day, tokens: 0}]\n", ":1: budgets.0.tokens: must be greater than 0"),
        (
            "budgets: [{name: b, period: day, usd: -3}]\n",
            ":1: budgets.0.usd: must be greater than or equal to 0",
        ),
        ("budgets: [{name: b, period: day, usd: lots}]\n", ":1: budgets.0.usd: must be a valid decimal"),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, warn_at: [0]}\n",
            ":2: budgets.0.warn_at.0: must be greater than 0",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, warn_at: [80]}\n",
            ":2: budgets.0.warn_at.0: must be less than or equal to 1",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, warn_at: 0.8}\n",
            ":2: budgets.0.warn_at: must be a list",
        ),
        ("budgets:\n  - {name: b, period: day, usd: 1, per: session}\n", ":2: budgets.0.per: must be a list"),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, per: [session, session]}\n",
            ":2: budgets.0.per: duplicate value 'session'",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, per: [team]}\n",
            ":2: budgets.0.per.0: unknown label 'team': declare it in labels",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, per: [agent], match: {agent: x}}\n",
            ":2: budgets.0.per.0: 'agent' is also in match, so it has only one value",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, on_unavailable: maybe}\n",
            ":2: budgets.0.on_unavailable: must be 'fail_open' or 'fail_closed'",
        ),
        (
            "budgets:\n  - {name: b, period: day, usd: 1, mach: {}}\n",
            ":2: budgets.0.mach: unknown key: did you mean match?",
        ),
        ("budgets: {name: b}\n", ":1: budgets: must be a list"),
        (
            "base: &b {name: x}\nlabels:\n  - team\n",
            ":1: base: unknown key: must be one of prices, labels, scrape_interval, native_histograms, max_series, series, store, retention, providers, thresholds, budgets, auth",
        ),
        (
            "prices: !!python/object:os.system {}\n",
            ":1: invalid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'",
        ),
        ("when: 2026-99-99\n", ": invalid YAML: month must be in 1..12"),
        (
            "budgets:\n  - &day {name: a, period: day, usd: 1}\n  - <<: *day\n    name: c\n    limit: 3\n",
            ":5: budgets.1.limit: unknown key: must be one of name, match, period, usd, tokens, per, on_exceed, warn_at, on_unavailable",
        ),
        ("prices: {}\nlabels: []\nprices: {}\n", ":3: prices: duplicate key, first on line 1"),
    ],
)
def test_a_mistake_is_reported_with_file_line_and_key(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(text)
    assert check(file) == f"{file}{message}"


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text("prices:\n  fallback: {input: -1, output: -2}\n  discounts: {openai: 2}\nlabels: [le]\n")
    assert check(file).splitlines() == [
        f"{file}:2: prices.fallback.input: must be greater than or equal to 0",
        f"{file}:2: prices.fallback.output: must be greater than or equal to 0",
        f"{file}:3: prices.discounts.openai: must be less than or equal to 1",
        f"{file}:4: labels.0: 'le' is a built-in label",
    ]


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    assert check(file) == f"{file}: No such file or directory"
    assert check(tmp_path) == f"{tmp_path}: Is a directory"
    file.write_bytes(b"\xff\xfe\x00\x81")
    assert check(file) == f"{file}: not a UTF-8 text file"
    file.write_text("[" * 3000)
    assert check(file) == f"{file}: nested too deeply"
