"""The rules of docs/migration.md give old names the values of our metrics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest

from support.bundle import run

PAGE: Final = (Path(__file__).parents[2] / "docs/migration.md").read_text(encoding="utf-8")
RULES: Final = {
    block.partition("\n")[0].removeprefix("# "): block
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
}
CALLS: Final = {
    'llm_tokens_total{phase="plan", token_type="input"}': 100,
    'llm_tokens_total{phase="plan", token_type="cache_read"}': 50,
    'llm_tokens_total{phase="plan", token_type="cache_write_1h"}': 7,
    'llm_tokens_total{phase="plan", token_type="output"}': 30,
    'llm_tokens_total{phase="act", token_type="reasoning"}': 20,
    'llm_cost_usd_total{phase="plan", token_type="input"}': 0.5,
    'llm_cost_usd_total{phase="plan", token_type="output"}': 0.25,
    'llm_cost_usd_total{phase="act", token_type="reasoning"}': 1,
    'llm_calls_total{phase="plan", operation="chat"}': 10,
    'llm_calls_total{phase="act", operation="chat"}': 4,
    'llm_call_errors_total{phase="plan", operation="chat", error="timeout"}': 2,
    'llm_call_errors_total{phase="plan", operation="chat", error="auth"}': 1,
    'llm_latency_seconds_sum{phase="plan", operation="chat"}': 12,
    'llm_latency_seconds_count{phase="plan", operation="chat"}': 10,
}
AEP: Final = 'job="j", instance="a:1", model="gpt-4o"'
LITELLM: Final = f'{AEP}, api_provider="openai"'
OPENLIT: Final = 'job="j", instance="a:1", gen_ai_response_model="gpt-4o"'
EXPECTED: Final = {
    "llm-migration-aep.yml": {
        f'aep_llm_tokens_total{{{AEP}, phase="plan"}}': 187,
        f'aep_llm_tokens_total{{{AEP}, phase="act"}}': 20,
        f'aep_llm_cost_usd_total{{{AEP}, phase="plan"}}': 0.75,
        f'aep_llm_cost_usd_total{{{AEP}, phase="act"}}': 1,
        f'aep_llm_calls_total{{{AEP}, phase="plan", status="error"}}': 3,
        f'aep_llm_calls_total{{{AEP}, phase="plan", status="success"}}': 7,
        f'aep_llm_calls_total{{{AEP}, phase="act", status="success"}}': 4,
        f'aep_llm_latency_ms_sum{{{AEP}, phase="plan"}}': 12000,
        f'aep_llm_latency_ms_count{{{AEP}, phase="plan"}}': 10,
    },
    "llm-migration-litellm.yml": {
        f"litellm_spend_metric_total{{{LITELLM}}}": 1.75,
        f"litellm_input_tokens_metric_total{{{LITELLM}}}": 157,
        f"litellm_output_tokens_metric_total{{{LITELLM}}}": 50,
        f"litellm_total_tokens_metric_total{{{LITELLM}}}": 207,
        f"litellm_requests_metric_total{{{LITELLM}}}": 14,
    },
    "llm-migration-openlit.yml": {
        f"gen_ai_usage_cost_USD_sum{{{OPENLIT}}}": 1.75,
        f'gen_ai_client_token_usage_sum{{{OPENLIT}, gen_ai_token_type="input"}}': 157,
        f'gen_ai_client_token_usage_sum{{{OPENLIT}, gen_ai_token_type="output"}}': 50,
        f"gen_ai_client_operation_duration_seconds_sum{{{OPENLIT}}}": 12,
        f"gen_ai_client_operation_duration_seconds_count{{{OPENLIT}}}": 10,
    },
}


@pytest.mark.parametrize("file", EXPECTED)
def test_old_names_have_the_values_of_ours(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(RULES[file])
    ours = 'job="j", instance="a:1", provider="openai", model="gpt-4o", agent="x", '
    names = {series.partition("{")[0] for series in EXPECTED[file]}
    tests = {
        "rule_files": [file],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series.replace("{", "{" + ours), "values": f"{value}x2"}
                    for series, value in CALLS.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": name,
                        "eval_time": "1m",
                        "exp_samples": [
                            {"labels": series, "value": value}
                            for series, value in EXPECTED[file].items()
                            if series.startswith(name + "{")
                        ],
                    }
                    for name in sorted(names)
                ],
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(json.dumps(tests))
    assert set(re.findall(r"record: (\w+)", RULES[file])) == names
    assert "SUCCESS" in run("promtool", "test", "rules", tmp_path / "tests.yml")
