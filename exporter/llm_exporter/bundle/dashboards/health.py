"""The dashboard of the exporter itself: whether data is missing from the other dashboards."""

from __future__ import annotations

from . import links
from .board import dashboard
from .panels import (
    BY_VALUE,
    ERROR,
    LIMIT,
    WARNING,
    WORK,
    Json,
    bars,
    color_thresholds,
    fixed_color,
    graph,
    override,
    override_matching,
    panel,
    stat,
    table,
    target,
)
from .queries import or_zero, selector, total

FILTERS = ("job",)
OWN = selector(FILTERS)
USAGE_MISSING = "llm_usage_missing_total" + selector(FILTERS, operation='!="unread"')
"""Without requests that llm-exporter cannot read, which have a separate panel."""
DAY = 86400


def increase(series: str, by: str = "") -> str:
    """Return the increase of counters in the time range, as Prometheus extrapolates it."""
    return total(f"increase({series}[$__range])", by)


def per_minute(series: str) -> str:
    """Return the rate of counters per minute."""
    return f"60 * {total(f'rate({series}[$__rate_interval])')}"


def lag(q: float, window: str) -> str:
    """Return a quantile of the shipping lag."""
    native = total(f"rate(llm_exporter_shipping_lag_seconds{OWN}[{window}])")
    counts = total(f"rate(llm_exporter_shipping_lag_seconds_bucket{OWN}[{window}])", "le")
    return f"(histogram_quantile({q}, {native}) or histogram_quantile({q}, {counts})) >= 0"


def key_figures() -> list[Json]:
    """Return the row of key figures, which are 0 or small if everything works."""
    return [
        stat(
            "Targets down",
            "Targets that Prometheus cannot scrape now. Their calls are missing from all dashboards until "
            "they are back.",
            or_zero(f"count(up{OWN} == 0)"),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, ERROR))},
        ),
        stat(
            "Dropped calls",
            "Calls in the time range that could not be stored until they were shipped; they are missing "
            "from all sums. If it is not 0, check for a full disk or an unavailable service.",
            or_zero(increase(f"llm_exporter_dropped_calls_total{OWN}")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, ERROR))},
        ),
        stat(
            "Exporter errors",
            "Errors inside the exporter in the time range; the LLM calls were not affected. Each one is a "
            "bug: the log has its traceback.",
            or_zero(increase(f"llm_exporter_errors_total{OWN}")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, WARNING))},
        ),
        stat(
            "p95 shipping lag",
            "Time from the end of a call until it is in the service's ledger. Above a minute, the service "
            "is slow or unavailable, and budgets lag as well.",
            lag(0.95, "$__range"),
            unit="s",
            color=BY_VALUE,
            defaults={
                "noValue": "nothing shipped",
                "mappings": [
                    {"type": "special", "options": {"match": "nan", "result": {"text": "nothing shipped"}}}
                ],
                **color_thresholds((60, WARNING), (3600, ERROR)),
            },
        ),
    ]


def completeness() -> list[Json]:
    """Return further figures that are 0 or small if everything works."""
    return [
        stat(
            "Missing usage",
            "Successful calls in the time range for which the provider reported no usage, so their tokens "
            "are estimated. The usual cause is streams that are closed early.",
            or_zero(increase(USAGE_MISSING)),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((100, WARNING))},
        ),
        stat(
            "Series over limit",
            "Calls whose agent, phase and custom labels were replaced by `other` because there are too many"
            " series. If it is not 0, find the label that has a value per user or request.",
            or_zero(increase(f"llm_exporter_series_over_limit_total{OWN}")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, WARNING))},
        ),
        stat(
            "Price table age",
            "Age of the oldest price table in use. Above two weeks, newer models may have no price: upgrade"
            " `genai-prices`, or set `prices.update: true`.",
            or_zero(f"time() - min(llm_exporter_price_table_timestamp_seconds{OWN})"),
            unit="s",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((14 * DAY, WARNING), (60 * DAY, ERROR))},
        ),
        stat(
            "Failed reloads",
            "Processes whose last configuration reload failed; they keep the previous configuration. Run "
            "`llm-exporter check` to find the mistake.",
            or_zero(f"count(llm_exporter_config_last_reload_successful{OWN} == 0)"),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **color_thresholds((1, WARNING))},
        ),
    ]


def scrapes() -> list[Json]:
    """Return the panels about scrapes and series."""
    more: Json = {"interval": "1m", "maxDataPoints": 240}
    return [
        panel(
            "state-timeline",
            "Target status",
            "When Prometheus could scrape each target. Red intervals are gaps in all graphs; their costs "
            "appear with the next scrape unless the process ended.",
            [target(f"max by (instance) (up{OWN})", "{{instance}}")],
            width=8,
            unit="short",
            color=BY_VALUE,
            custom={"fillOpacity": 70, "lineWidth": 0},
            defaults={
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": ERROR, "value": None}, {"color": WORK, "value": 1}],
                }
            },
            options={
                "alignValue": "left",
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
                "mergeValues": True,
                "rowHeight": 0.9,
                "showValue": "never",
                "tooltip": {"mode": "single", "sort": "none"},
            },
            **more,
        ),
        graph(
            "Scrape duration",
            "How long each scrape takes. Close to the scrape interval (5 s by default), scrapes start to "
            "fail: reduce the series or raise the interval.",
            [target(f"max by (instance) (scrape_duration_seconds{OWN})", "{{instance}}")],
            width=8,
            unit="s",
            **more,
        ),
        graph(
            "Exporter series",
            "Series of each process, with the limit as a dashed red line. If a line rises for days, a label"
            " keeps getting new values.",
            [
                target(f"max by (instance) (llm_exporter_series{OWN})", "{{instance}}"),
                target(f"min(llm_exporter_series_limit{OWN})", "limit"),
            ],
            width=8,
            unit="short",
            overrides=[override_matching("^limit$", **LIMIT)],
            **more,
        ),
    ]


def shipping() -> list[Json]:
    """Return the panels about shipping."""
    more: Json = {"interval": "1m", "maxDataPoints": 240}
    return [
        graph(
            "Ingested calls per minute",
            "Calls that the service added to its ledger, duplicates that it ignored, and calls that it "
            "acknowledged. Many duplicates mean that its responses get lost on the network.",
            [
                target(per_minute(f"llm_exporter_received_calls_total{OWN}"), "received"),
                target(per_minute(f"llm_exporter_duplicate_calls_total{OWN}"), "duplicate"),
                target(per_minute(f"llm_exporter_shipped_calls_total{OWN}"), "acknowledged"),
            ],
            width=8,
            unit="short",
            axis="per minute",
            overrides=[
                override("received", color=fixed_color(WORK)),
                override("duplicate", color=fixed_color(WARNING)),
                override("acknowledged", color=fixed_color("light-blue")),
            ],
            **more,
        ),
        graph(
            "Shipping lag",
            "Time from the end of a call until it is in the ledger. Jumps to minutes or hours are processes"
            " that were offline and shipped their spool later.",
            [
                target(
                    lag(q, "$__rate_interval"),
                    name,
                )
                for q, name in ((0.5, "p50"), (0.95, "p95"))
            ],
            width=8,
            unit="s",
            defaults={"noValue": "nothing shipped"},
            overrides=[
                override("p50", color=fixed_color("light-blue")),
                override("p95", color=fixed_color(WORK)),
            ],
            **more,
        ),
        graph(
            "Dropped calls and errors per minute",
            "Calls that were lost, errors inside the exporter, and calls without usage. All three are "
            "normally 0.",
            [
                target(or_zero(per_minute(f"llm_exporter_dropped_calls_total{OWN}")), "dropped"),
                target(or_zero(per_minute(f"llm_exporter_errors_total{OWN}")), "errors"),
                target(or_zero(per_minute(USAGE_MISSING)), "missing usage"),
            ],
            width=8,
            unit="short",
            axis="per minute",
            overrides=[
                override("dropped", color=fixed_color(ERROR)),
                override("errors", color=fixed_color(WARNING)),
                override("missing usage", color=fixed_color("text")),
            ],
            **more,
        ),
    ]


def processes() -> list[Json]:
    """Return the table of processes."""
    info = f"llm_exporter_build_info{OWN}"
    joined = f"{info} * on (instance) group_left ()"
    by = "instance, version, python_version"
    return [
        table(
            "Processes",
            "The scraped processes and their versions. After an upgrade, all of them should have the same "
            "version.",
            {"instance": "Process", "version": "Version", "python_version": "Python"},
            {
                "Series": f"max by ({by}) ({joined} llm_exporter_series{OWN}) or max by ({by}) (0 * {info})",
                "Samples scraped": f"max by ({by}) ({joined} scrape_samples_scraped{OWN})",
                "Config reloaded": f"max by ({by}) ({joined} "
                f"(1000 * llm_exporter_config_last_reload_success_timestamp_seconds{OWN}))",
            },
            overrides=[
                override("Series", decimals=0, unit="locale"),
                override("Samples scraped", decimals=0, unit="locale"),
                override("Config reloaded", unit="dateTimeFromNow"),
            ],
        ),
    ]


def pricing() -> list[Json]:
    """Return the panels about costs that are missing or approximate."""
    return [
        _problems(
            "Unpriced tokens by model",
            "Tokens in the time range of models without a known price. Their cost is missing: add a price "
            "to the configuration.",
            "llm_unpriced_tokens_total",
            "model",
        ),
        _problems(
            "Tokens with approximate cost",
            "Tokens in the time range whose cost is approximate, because the price of their tier, region, fee"
            " or the like is unknown. Add `prices.factors` or `prices.overrides` to the configuration.",
            "llm_price_approximated_tokens_total",
            "model, reason",
        ),
        _problems(
            "Unread requests",
            "Requests in the time range to known providers that llm-exporter cannot read, by provider and "
            "route. Their usage is missing: upgrade llm-exporter, or report the route.",
            "llm_exporter_unread_requests_total",
            "provider, route",
            decimals=0,
        ),
    ]


def _problems(title: str, description: str, metric: str, labels: str, **defaults: object) -> Json:
    """Return bars of a counter by labels, or a single bar `none`."""
    first = labels.partition(",")[0]
    legend = " ".join(f"{{{{{label}}}}}" for label in labels.split(", "))
    return bars(
        title,
        description,
        f"sort_desc({increase(f'{metric}{OWN}', labels)} > 0)"
        f' or on () label_replace(vector(0), "{first}", "none", "", "")',
        legend,
        width=8,
        unit="short",
        color=BY_VALUE,
        links=[
            links.filtered("llm-cost", f"Cost of this {first}", {first: links.label_of_bar(first)}, FILTERS),
            links.calls({first: links.label_of_bar(first)}),
        ],
        defaults={**color_thresholds((1, WARNING)), **defaults},
    )


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-exporter",
        "LLM exporter health",
        "Scrapes, shipping, series, prices and configuration: is data missing from the other dashboards?",
        {
            "": [(3, key_figures()), (8, scrapes())],
            "Shipping": [(8, shipping())],
            "Usage, prices and series": [(3, completeness()), (9, pricing())],
            "Processes": [(8, processes())],
        },
        filters=FILTERS,
        since="now-6h",
    )
