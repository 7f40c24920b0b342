"""The gauges of budgets and thresholds are bounded, whatever labels come from outside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from llm_exporter.budgets.gauges import gauges
from llm_exporter.budgets.spending import USD, Spending
from llm_exporter.config.model import Budget, Threshold
from llm_exporter.metrics.registry import GaugeSample


def by_name(samples: Iterable[GaugeSample]) -> dict[str, dict[str, float]]:
    """Return the values by metric, and by agent or rule."""
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for sample in samples:
        label = sample.labels.get("agent") or sample.labels.get("rule") or ""
        assert label not in found[sample.name]
        found[sample.name][label] = sample.value
    return dict(found)


def test_only_the_fullest_accounts_of_a_rule_have_series() -> None:
    """1,003 agents have spent $0 to $1,002: the first three have no series, and are counted."""
    budget = Spending(Budget(name="agents", period="day", usd=Decimal(5000), per=("agent",)))
    threshold = Spending(Threshold(name="hourly", usd=Decimal(7), window="hour"))
    for number in range(1003):
        budget.account_at((f"agent-{number}",)).spent = number * USD
    found = by_name(
        gauges(
            [(budget.rule, account) for account in budget.accounts()],
            [(threshold.rule, account) for account in threshold.accounts()],
        )
    )
    kept = range(3, 1003)
    assert found == {
        "llm_budget_limit_usd": {f"agent-{number}": 5000.0 for number in kept},
        "llm_budget_spent_usd": {f"agent-{number}": float(number) for number in kept},
        "llm_budget_blocking": {"": 0.0},
        "llm_cost_threshold_usd": {"": 7.0},
        "llm_cost_threshold_spent_usd": {"": 0.0},
        "llm_exporter_accounts_left_out": {"agents": 3, "hourly": 0},
    }


def test_accounts_that_differ_only_in_ids_count_as_the_fullest_of_them() -> None:
    budget = Spending(Budget(name="sessions", period="total", usd=Decimal(10), per=("agent", "session")))
    for number in range(2000):
        budget.account_at(("planner", f"s-{number}")).spent = number * USD
    assert by_name(gauges([(budget.rule, account) for account in budget.accounts()], [])) == {
        "llm_budget_limit_usd": {"planner": 10.0},
        "llm_budget_spent_usd": {"planner": 1999.0},
        "llm_budget_blocking": {"": 0.0},
        "llm_exporter_accounts_left_out": {"sessions": 0},
    }
