"""The dashboard of latency, errors and rate limits."""

from __future__ import annotations

from . import links
from .board import dashboard
from .panels import (
    BY_VALUE,
    ERROR,
    ERROR_RATE_THRESHOLDS,
    WARNING,
    WORK,
    Json,
    bars,
    color_thresholds,
    exemplars,
    fixed_color,
    graph,
    override,
    panel,
    stat,
    target,
)
from .queries import any_of, equals, or_zero, selector, total

FILTERS = ("job", "provider", "model")
"""Without agent and phase: latency depends on the model, and a hundredth of the series is enough."""

BY_MODEL = selector(FILTERS)
LATENCY, FIRST_TOKEN, OUTPUT_SPEED = (
    "llm_latency_seconds",
    "llm_time_to_first_token_seconds",
    "llm_output_tokens_per_second",
)
CALLS = f"job_provider_model:llm_calls:rate5m{BY_MODEL}"
IN_FLIGHT = f"job_provider_model:llm_calls_in_flight:sum{BY_MODEL}"
ERRORS, RETRIES = (
    f"job_provider_model_error:{name}:rate5m{BY_MODEL}" for name in ("llm_call_errors", "llm_retries")
)
WITHOUT_CALLS: Json = {
    "noValue": "no data yet",
    "mappings": [{"type": "special", "options": {"match": "nan", "result": {"text": "no calls"}}}],
}
"""What to show without calls, when a percentile is undefined."""


def recorded(by_model: str, overall: str, by: str = "", **matchers: str) -> tuple[str, ...]:
    """Return the selectors of recorded rates: those of all models, or those of the selected models."""
    if by:
        return (f"{by_model}{selector(FILTERS, **matchers)}",)
    selected = selector(FILTERS, **matchers, all='!~"$provider$model"')
    return f"{overall}{selector(FILTERS, **matchers)}", f"{by_model}{selected}"


def buckets(histogram: str, by: str = "", **matchers: str) -> tuple[str, ...]:
    """Return the selectors of the recorded buckets. They include the calls of native histograms."""
    name = f"{histogram}_bucket:rate5m"
    return recorded(f"job_provider_model_le:{name}", f"job_le:{name}", by, **matchers)


def natives(histogram: str, by: str = "") -> tuple[str, ...]:
    """Return the selectors of the recorded native histograms."""
    return recorded(f"job_provider_model:{histogram}:rate5m", f"job:{histogram}:rate5m", by)


def quantile(q: float, histogram: str, window: str, by: str = "") -> str:
    """Return a quantile, by a label if given. Every call has the same weight at every zoom level.

    Native histograms give a more accurate one, if they have all calls. Prometheus 2.42 cannot sum them over
    time, and uses the buckets.
    """
    in_window = f"sum_over_time({{}}[{window}])"
    native = total(any_of(natives(histogram, by), in_window), by)
    calls = total(any_of(buckets(histogram, by, le=equals("+Inf")), in_window), by)
    counts = total(any_of(buckets(histogram, by), in_window), f"{by}, le" if by else "le")
    return (
        f"(histogram_quantile({q}, {native}) and histogram_count({native}) > 0.99 * {calls}"
        f" or histogram_quantile({q}, {counts})) >= 0"  # drops NaN, the result without observations
    )


def per_minute(rates: str, by: str = "") -> str:
    """Return a recorded rate, averaged over a step of the graph, per minute."""
    return f"60 * {total(f'avg_over_time({rates}[$__rate_interval])', by)}"


def per_call(events: str) -> str:
    """Return the number of events per call in the time range."""
    count, calls = (total(f"sum_over_time({rates}[$__range])") for rates in (events, CALLS))
    return or_zero(f"({or_zero(count)}) / ({calls} > 0)")


def key_figures() -> list[Json]:
    """Return the row of key figures."""
    return [
        *(
            stat(
                f"p{q} latency",
                description,
                quantile(q / 100, LATENCY, "$__range"),
                unit="s",
                color=fixed_color(WORK),
                defaults=WITHOUT_CALLS,
            )
            for q, description in (
                (
                    50,
                    "Half of the calls in the time range took at most this long, from request to last byte.",
                ),
                (
                    95,
                    "95 % of calls took at most this long. A shorter timeout fails calls that would succeed.",
                ),
                (99, "99 % of calls took at most this long. If it is far above p95, set a timeout."),
            )
        ),
        stat(
            "Error rate",
            "Share of calls in the time range that failed after all retries. Above 1 %, check the errors "
            "below; above 5 %, users notice.",
            per_call(ERRORS),
            unit="percentunit",
            color=BY_VALUE,
            defaults={"max": 1, "decimals": 2, **ERROR_RATE_THRESHOLDS},
        ),
    ]


def streams_and_retries() -> list[Json]:
    """Return further figures: of streams, retries and calls in flight."""
    return [
        stat(
            "p95 first token",
            "95 % of streams return their first token within this time. Above two seconds, users notice the"
            " wait.",
            quantile(0.95, FIRST_TOKEN, "$__range"),
            unit="s",
            color=fixed_color(WORK),
            defaults=WITHOUT_CALLS,
        ),
        stat(
            "p50 tokens/s",
            "Half of the streams generate at least this many tokens per second after the first one. If it "
            "falls for the same prompts, the provider is busy.",
            quantile(0.5, OUTPUT_SPEED, "$__range"),
            unit="short",
            color=fixed_color(WORK),
            defaults=WITHOUT_CALLS,
        ),
        stat(
            "Retries per call",
            "Average number of retries per call. Retries add latency and hide errors from users; above 0.1,"
            " ask for higher limits.",
            per_call(RETRIES),
            unit="percentunit",
            color=BY_VALUE,
            defaults={"decimals": 1, **color_thresholds((0.1, WARNING), (0.5, ERROR))},
        ),
        stat(
            "Calls in flight",
            "Calls currently in progress. If the number only rises, calls are hanging.",
            or_zero(total(f"llm_calls_in_flight{BY_MODEL}")),
            unit="short",
            color=fixed_color(WORK),
            defaults={"decimals": 0},
        ),
    ]


def speed() -> list[Json]:
    """Return the percentiles and the distribution of latency."""
    window = "$__rate_interval"
    return [
        graph(
            "Latency",
            "p50, p95 and p99 latency, from the request to the last byte. If the lines move apart, a few "
            "calls have become much slower; the heatmap shows how many. Diamonds are calls with a trace.",
            [
                *(
                    target(quantile(q, LATENCY, window), name)
                    for q, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
                ),
                exemplars(f"{LATENCY}_bucket{BY_MODEL}"),
            ],
            width=12,
            unit="s",
            interval="5m",
            maxDataPoints=240,
            overrides=[
                override("p50", color=fixed_color("light-blue")),
                override("p95", color=fixed_color(WORK)),
                override("p99", color=fixed_color("dark-blue")),
            ],
        ),
        panel(
            "heatmap",
            "Latency distribution",
            "Calls per minute by latency; darker cells have more calls. Two bands are two kinds of calls, "
            "and a separate group above them is an incident.",
            [
                target(
                    f"60 * {total(any_of(buckets(LATENCY), f'avg_over_time({{}}[{window}])'), 'le')}",
                    "{{le}}",
                    heatmap=True,
                )
            ],
            width=12,
            unit="short",
            color=fixed_color(WORK),
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
    """Return latency and output speed by model."""
    window = "$__rate_interval"
    more: Json = {"interval": "5m", "maxDataPoints": 180}
    return [
        graph(
            "p95 latency by model",
            "p95 latency of each model. Longer answers take longer, so compare with tokens per second "
            "before blaming the provider. Gaps are times without calls.",
            [target(quantile(0.95, LATENCY, window, "model"), "{{model}}")],
            width=8,
            unit="s",
            defaults={"noValue": "no data yet"},
            **more,
        ),
        graph(
            "p95 time to first token by model",
            "How long users wait until a stream starts. If it rises and tokens per second do not fall, the "
            "provider queues requests or prompts have grown.",
            [target(quantile(0.95, FIRST_TOKEN, window, "model"), "{{model}}")],
            width=8,
            unit="s",
            defaults={"noValue": "no data yet"},
            **more,
        ),
        graph(
            "p50 output speed by model",
            "Tokens per second after the first one, streams only. If one model slows down and the others do"
            " not, its provider is busy: try another region or model.",
            [target(quantile(0.5, OUTPUT_SPEED, window, "model"), "{{model}}")],
            width=8,
            unit="short",
            defaults={"noValue": "no data yet"},
            **more,
        ),
    ]


def errors() -> list[Json]:
    """Return errors, retries and rate limits."""
    more: Json = {"interval": "5m", "maxDataPoints": 180}
    return [
        graph(
            "Errors per minute by type",
            "Failed calls by error type, stacked. For `rate_limited`, slow down or raise limits; "
            "`overloaded` and `server_error` are caused by the provider, `invalid_request` and `auth` by "
            "your code.",
            [
                target(f"{per_minute(ERRORS, 'error')}", "{{error}}"),
                target(f"0 * {per_minute(CALLS)}", "none"),
            ],
            width=8,
            unit="short",
            axis="per minute",
            stacked=True,
            defaults={"noValue": "no data yet"},
            overrides=[override("none", color=fixed_color("text"))],
            **more,
        ),
        graph(
            "Retries per minute by error",
            "Retries by the error that caused them, stacked. They rise before calls fail, so they are an "
            "early warning.",
            [
                target(f"{per_minute(RETRIES, 'error')}", "{{error}}"),
                target(f"0 * {per_minute(CALLS)}", "none"),
            ],
            width=8,
            unit="short",
            axis="per minute",
            stacked=True,
            defaults={"noValue": "no data yet"},
            overrides=[override("none", color=fixed_color("text"))],
            **more,
        ),
        bars(
            "Remaining rate limit",
            "Share of each rate limit that is left, lowest first, from the headers of the last response. "
            "Below 20 %, spread calls or ask for higher limits.",
            "sort(bottomk(12, min by (provider, model, resource) ("
            f"llm_rate_limit_remaining{BY_MODEL} / (llm_rate_limit_limit{BY_MODEL} > 0))))",
            "{{model}} {{resource}}",
            width=8,
            unit="percentunit",
            color=BY_VALUE,
            links=links.of_bar("llm-latency", "model", FILTERS),
            defaults={
                "max": 1,
                "decimals": 0,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [
                        {"color": ERROR, "value": None},
                        {"color": WARNING, "value": 0.05},
                        {"color": WORK, "value": 0.2},
                    ],
                },
            },
        ),
    ]


def load() -> list[Json]:
    """Return calls over time."""
    more: Json = {"interval": "5m", "maxDataPoints": 180}
    return [
        graph(
            "Calls per minute by model",
            "Finished calls by model, stacked, including failed ones. If latency rises with calls, you are "
            "hitting a limit; if it rises alone, check the provider.",
            [target(per_minute(CALLS, "model"), "{{model}}")],
            width=12,
            unit="short",
            axis="per minute",
            stacked=True,
            **more,
        ),
        graph(
            "Calls in flight by model",
            "Calls in progress by requested model, stacked. If they rise and calls per minute do not, calls"
            " are waiting.",
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
        "Latency, output speed, errors, retries and rate limits by model, for all agents and phases.",
        {
            "": [(3, key_figures()), (9, speed())],
            "By model": [(9, by_model())],
            "Streams, errors and limits": [(3, streams_and_retries()), (11, errors())],
            "Load": [(8, load())],
        },
        filters=FILTERS,
        since="now-6h",
    )
