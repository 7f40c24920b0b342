"""Latency and reliability: how long calls take, how many fail of what, and how near the limits are."""

from __future__ import annotations

from grafana.board import dashboard
from grafana.panels import (
    BY_VALUE,
    FAILING,
    FAILURE,
    WARNING,
    WORK,
    Json,
    bars,
    fixed,
    lines,
    named,
    panel,
    stat,
    steps,
    target,
)
from grafana.queries import any_of, or_zero, selector, total

FILTERS = ("job", "provider", "model")
"""Not agent and phase: how long a model takes is its own matter, and series are a hundredth as many."""

BY_MODEL = selector(FILTERS)
LATENCY, FIRST_TOKEN, PACE = (
    "llm_latency_seconds",
    "llm_time_to_first_token_seconds",
    "llm_output_tokens_per_second",
)
CALLS = f"job_provider_model:llm_calls:rate5m{BY_MODEL}"
IN_FLIGHT = f"job_provider_model:llm_calls_in_flight:sum{BY_MODEL}"
ERRORS, RETRIES = (
    f"job_provider_model_error:{name}:rate5m{BY_MODEL}" for name in ("llm_call_errors", "llm_retries")
)
NO_CALLS: Json = {
    "noValue": "not yet",
    "mappings": [{"type": "special", "options": {"match": "nan", "result": {"text": "no calls"}}}],
}
"""Without a call there is no percentile: neither a number nor an error."""


def buckets(histogram: str, by: str = "") -> tuple[str, ...]:
    """Return the recorded buckets that answer a question: of all models together, unless some are chosen."""
    of_model, of_all = (f"{level}:{histogram}_bucket:rate5m" for level in ("job_provider_model_le", "job_le"))
    if by:
        return (f"{of_model}{BY_MODEL}",)
    chosen = selector(FILTERS, all='!~"$provider$model"')
    return f"{of_all}{BY_MODEL}", f"{of_model}{chosen}"


def quantile(q: float, histogram: str, window: str, by: str = "") -> str:
    """Return a quantile, in all or by a label; calls weigh alike, whatever the zoom."""
    observed = any_of(buckets(histogram, by), f"sum_over_time({{}}[{window}])")
    counts = total(observed, f"{by}, le" if by else "le")
    return f"histogram_quantile({q}, {counts}) >= 0"  # where nothing was observed it is NaN: no point then


def per_minute(rates: str, by: str = "") -> str:
    """Return a recorded rate, averaged over a graph's step, as so many a minute."""
    return f"60 * {total(f'avg_over_time({rates}[$__rate_interval])', by)}"


def share(of: str) -> str:
    """Return the share of calls in the time range that something happened to."""
    happened, calls = (total(f"sum_over_time({rates}[$__range])") for rates in (of, CALLS))
    return or_zero(f"({or_zero(happened)}) / ({calls} > 0)")


def headlines() -> list[Json]:
    """Return the numbers on top."""
    return [
        *(
            stat(
                f"Latency p{q}",
                description,
                quantile(q / 100, LATENCY, "$__range"),
                unit="s",
                color=fixed(WORK),
                defaults=NO_CALLS,
            )
            for q, description in (
                (
                    50,
                    "Half of the calls in the time range took no longer than this, from request to last "
                    "byte.",
                ),
                (
                    95,
                    "Nineteen of twenty calls took no longer than this. Timeouts below it fail calls that "
                    "would succeed.",
                ),
                (
                    99,
                    "What the slowest hundredth waits for. Far above the 95th: a few calls hang, and a "
                    "timeout helps.",
                ),
            )
        ),
        stat(
            "First token p95",
            "How long nineteen of twenty readers of a stream wait at most before it begins. Over two "
            "seconds people wonder whether it works.",
            quantile(0.95, FIRST_TOKEN, "$__range"),
            unit="s",
            color=fixed(WORK),
            defaults=NO_CALLS,
        ),
        stat(
            "Tokens/s, median",
            "How fast half of the streams are at least, after their first token. When it falls and prompts "
            "are the same, the provider is busy.",
            quantile(0.5, PACE, "$__range"),
            unit="short",
            color=fixed(WORK),
            defaults=NO_CALLS,
        ),
        stat(
            "Failed calls",
            "The share of calls in the time range that failed once all retries had. Over 1 % look below at "
            "what they fail of; over 5 % users notice.",
            share(ERRORS),
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 2, **FAILING},
        ),
        stat(
            "Retries a call",
            "How many attempts after the first a call takes on average. They are waited for, and hide from "
            "users what the failed calls show: over a tenth, ask for higher limits.",
            share(RETRIES),
            unit="percentunit",
            color=BY_VALUE,
            defaults={"decimals": 1, **steps((0.1, WARNING), (0.5, FAILURE))},
        ),
        stat(
            "In flight",
            "Calls under way at this moment, by the model asked for. A number that only rises is calls that "
            "hang.",
            or_zero(total(f"llm_calls_in_flight{BY_MODEL}")),
            unit="short",
            color=fixed(WORK),
            defaults={"decimals": 0},
        ),
    ]


def speed() -> list[Json]:
    """Return how long calls take, as percentiles and as the whole distribution."""
    window = "$__rate_interval"
    return [
        lines(
            "Latency",
            "How long calls take from request to last byte: half of them, nineteen of twenty, all but a "
            "hundredth. Lines that part are a tail that grows: the heatmap says how many.",
            [
                *(
                    target(quantile(q, LATENCY, window), name)
                    for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ),
            ],
            width=12,
            unit="s",
            interval="5m",
            maxDataPoints=240,
            overrides=[
                named("p50", color=fixed("light-blue")),
                named("p95", color=fixed(WORK)),
                named("p99", color=fixed("dark-blue")),
            ],
        ),
        panel(
            "heatmap",
            "Latency of all calls",
            "Where calls are: the stronger a cell's colour, the more calls took that long at that time. Two "
            "bands are two kinds of calls, and no percentile describes them; a cloud above them is an "
            "incident.",
            [
                target(
                    f"60 * {total(any_of(buckets(LATENCY), f'avg_over_time({{}}[{window}])'), 'le')}",
                    "{{le}}",
                    heatmap=True,
                )
            ],
            width=12,
            unit="s",
            color=fixed(WORK),
            custom={
                "hideFrom": {"legend": False, "tooltip": False, "viz": False},
                "scaleDistribution": {"type": "linear"},
            },
            options={
                "calculate": False,
                "cellGap": 1,
                "color": {
                    "exponent": 0.5,
                    "fill": "dark-blue",
                    "mode": "scheme",
                    "reverse": False,
                    "scale": "exponential",
                    "scheme": "Blues",
                    "steps": 64,
                },
                "exemplars": {"color": "rgba(255,0,255,0.7)"},
                "filterValues": {"le": 0.02},
                "legend": {"show": True},
                "rowsFrame": {"layout": "auto"},
                "tooltip": {"show": True, "yHistogram": False},
                "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
            },
            interval="5m",
            maxDataPoints=120,
        ),
    ]


def by_model() -> list[Json]:
    """Return the speed of each model."""
    window = "$__rate_interval"
    more: Json = {"interval": "5m", "maxDataPoints": 180}
    return [
        lines(
            "Latency by model, 95th percentile",
            "Nineteen of twenty calls of a model took no longer than this. Longer answers take longer: hold "
            "it against tokens a second before blaming the provider. A gap is a time without calls.",
            [target(quantile(0.95, LATENCY, window, "model"), "{{model}}")],
            width=8,
            unit="s",
            defaults={"noValue": "not yet"},
            **more,
        ),
        lines(
            "Time to first token by model, 95th percentile",
            "How long a reader waits before a streamed answer begins. When it rises and tokens a second do "
            "not fall, the provider queues, or the prompt has grown. Streams only.",
            [target(quantile(0.95, FIRST_TOKEN, window, "model"), "{{model}}")],
            width=8,
            unit="s",
            defaults={"noValue": "not yet"},
            **more,
        ),
        lines(
            "Tokens a second by model, median",
            "How fast a model writes after its first token. When one slows down and the others do not, its "
            "provider is busy: another region or model may not be. Streams only.",
            [target(quantile(0.5, PACE, window, "model"), "{{model}}")],
            width=8,
            unit="short",
            defaults={"noValue": "not yet"},
            **more,
        ),
    ]


def troubles() -> list[Json]:
    """Return what calls fail of, and how near the limits are."""
    more: Json = {"interval": "5m", "maxDataPoints": 180}
    return [
        lines(
            "Failed calls a minute, by kind of error",
            "What calls fail of, stacked. rate_limited wants slower callers or higher limits; overloaded "
            "and server_error are the provider's; invalid_request and auth are yours. The line at 0 means "
            "that calls were made and none failed.",
            [
                target(f"{per_minute(ERRORS, 'error')}", "{{error}}"),
                target(f"0 * {per_minute(CALLS)}", "none"),
            ],
            width=8,
            unit="short",
            axis="a minute",
            stacked=True,
            defaults={"noValue": "not yet"},
            overrides=[named("none", color=fixed("text"))],
            **more,
        ),
        lines(
            "Retries a minute, by what failed before",
            "Attempts after the first, stacked by what the one before failed of. They rise before calls "
            "fail: this is the early sign. The line at 0 means that calls were made and none was tried "
            "again.",
            [
                target(f"{per_minute(RETRIES, 'error')}", "{{error}}"),
                target(f"0 * {per_minute(CALLS)}", "none"),
            ],
            width=8,
            unit="short",
            axis="a minute",
            stacked=True,
            defaults={"noValue": "not yet"},
            overrides=[named("none", color=fixed("text"))],
            **more,
        ),
        bars(
            "Left of rate limits",
            "What the last answers said was left of each limit, the scarcest first. Below a fifth, the next "
            "burst is limited: spread calls, or ask for more.",
            "sort(bottomk(12, min by (provider, model, resource) ("
            f"llm_rate_limit_remaining{BY_MODEL} / (llm_rate_limit_limit{BY_MODEL} > 0))))",
            "{{model}} {{resource}}",
            width=8,
            unit="percentunit",
            color=BY_VALUE,
            defaults={
                "max": 1,
                "decimals": 0,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [
                        {"color": FAILURE, "value": None},
                        {"color": WARNING, "value": 0.05},
                        {"color": WORK, "value": 0.2},
                    ],
                },
            },
        ),
    ]


def load() -> list[Json]:
    """Return what there is to do."""
    more: Json = {"interval": "5m", "maxDataPoints": 180}
    return [
        lines(
            "Calls a minute, by model",
            "Calls finished each minute, stacked, failed ones included. Latency that rises with them is a "
            "limit; latency that rises without them, the provider.",
            [target(per_minute(CALLS, "model"), "{{model}}")],
            width=12,
            unit="short",
            axis="a minute",
            stacked=True,
            **more,
        ),
        lines(
            "Calls in flight, by model",
            "Calls under way, stacked by the model asked for. It is calls a second times their latency: "
            "what grows while calls a minute do not is waiting.",
            [target(total(f"avg_over_time({IN_FLIGHT}[$__rate_interval])", "model"), "{{model}}")],
            width=12,
            unit="short",
            stacked=True,
            **more,
        ),
    ]


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-latency",
        "LLM latency and reliability",
        "How long calls take, how many fail of what, and how near the limits are; of all agents and phases.",
        [(4, headlines()), (9, speed()), (9, by_model()), (9, troubles()), (8, load())],
        filters=FILTERS,
        since="now-6h",
    )
