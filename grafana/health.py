"""Exporter health: whether what the other dashboards show is all there is."""

from __future__ import annotations

from grafana.board import dashboard
from grafana.panels import (
    BY_VALUE,
    FAILURE,
    LIMIT,
    WARNING,
    WORK,
    Json,
    bars,
    fixed,
    lines,
    matching,
    named,
    panel,
    stat,
    steps,
    table,
    target,
)
from grafana.queries import or_zero, selector, total

FILTERS = ("job",)
OWN = selector(FILTERS)
DAY = 86400


def added(metric: str, by: str = "") -> str:
    """Return how much a counter of the exporter itself grew in the time range."""
    return total(f"increase({metric}{OWN}[$__range])", by)


def pace(metric: str, by: str = "") -> str:
    """Return a counter's growth each minute."""
    return f"60 * {total(f'rate({metric}{OWN}[$__rate_interval])', by)}"


def lag(q: float, window: str) -> str:
    """Return a quantile of the time that calls take into the ledger."""
    counts = total(f"rate(llm_exporter_shipping_lag_seconds_bucket{OWN}[{window}])", "le")
    return f"histogram_quantile({q}, {counts}) >= 0"


def headlines() -> list[Json]:
    """Return the numbers on top: each of them is 0, or small, where all is well."""
    return [
        stat(
            "Processes down",
            "Targets that Prometheus cannot scrape now. What they count is missing from every other "
            "dashboard until they are back; counters of a process that ended are gone.",
            or_zero(f"count(up{OWN} == 0)"),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((1, FAILURE))},
        ),
        stat(
            "Calls dropped",
            "Calls of the time range that could not be kept until they were shipped: they are in no sum. "
            "Anything but 0 is a disk that is full or a service that was away for too long.",
            or_zero(added("llm_exporter_dropped_calls_total")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((1, FAILURE))},
        ),
        stat(
            "Errors inside",
            "Errors inside the exporter in the time range, kept from the calls they happened in. Anything "
            "but 0 is a bug: the log has its traceback.",
            or_zero(added("llm_exporter_errors_total")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((1, WARNING))},
        ),
        stat(
            "No usage",
            "Successful calls of the time range that ended with no usage from the provider: their tokens are "
            "estimates. Many of them are streams that are left early.",
            or_zero(added("llm_usage_missing_total")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((100, WARNING))},
        ),
        stat(
            "Series over the cap",
            "Calls whose agent, phase and own labels were folded into `other`, because there are too many "
            "series already. Anything but 0: a label has a value for each user or request.",
            or_zero(added("llm_exporter_series_over_limit_total")),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((1, WARNING))},
        ),
        stat(
            "Shipping lag p95",
            "How long after its end a call is in the service's ledger. Over a minute the service is slow or "
            "away, and budgets are that late.",
            lag(0.95, "$__range"),
            unit="s",
            color=BY_VALUE,
            defaults={
                "noValue": "nothing shipped",
                "mappings": [
                    {"type": "special", "options": {"match": "nan", "result": {"text": "nothing shipped"}}}
                ],
                **steps((60, WARNING), (3600, FAILURE)),
            },
        ),
        stat(
            "Price table's age",
            "How old the oldest price table in use is. Over two weeks, models that came out since have no "
            "price: upgrade, or let it be updated by the configuration.",
            or_zero(f"time() - min(llm_exporter_price_table_timestamp_seconds{OWN})"),
            unit="s",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((14 * DAY, WARNING), (60 * DAY, FAILURE))},
        ),
        stat(
            "Refused configs",
            "Processes whose last reload found a mistake: they go on with the configuration before. "
            "`llm-exporter check` says where it is.",
            or_zero(f"count(llm_exporter_config_last_reload_successful{OWN} == 0)"),
            unit="short",
            color=BY_VALUE,
            defaults={"decimals": 0, **steps((1, WARNING))},
        ),
    ]


def scrapes() -> list[Json]:
    """Return whether processes are scraped, and how much they show."""
    more: Json = {"interval": "1m", "maxDataPoints": 240}
    return [
        panel(
            "state-timeline",
            "Scraped",
            "Which processes Prometheus could scrape when. A red stretch is a gap in every graph; its "
            "dollars come back with the next scrape, unless the process ended.",
            [target(f"max by (instance) (up{OWN})", "{{instance}}")],
            width=8,
            unit="short",
            color=BY_VALUE,
            custom={"fillOpacity": 70, "lineWidth": 0},
            defaults={
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": FAILURE, "value": None}, {"color": WORK, "value": 1}],
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
        lines(
            "Scrape duration",
            "How long a scrape of each process takes. Near the scrape interval (5 s as shipped) scrapes "
            "begin to fail: fewer series, or a longer interval.",
            [target(f"max by (instance) (scrape_duration_seconds{OWN})", "{{instance}}")],
            width=8,
            unit="s",
            **more,
        ),
        lines(
            "Series of the exporter, and its cap",
            "How many series each process has made, and dashed red how many it may. A line that climbs for "
            "days is a label with ever new values.",
            [
                target(f"max by (instance) (llm_exporter_series{OWN})", "{{instance}}"),
                target(f"min(llm_exporter_series_limit{OWN})", "cap"),
            ],
            width=8,
            unit="short",
            overrides=[matching("^cap$", **LIMIT)],
            **more,
        ),
    ]


def shipping() -> list[Json]:
    """Return what the service takes in."""
    more: Json = {"interval": "1m", "maxDataPoints": 240}
    return [
        lines(
            "Calls taken in a minute",
            "Calls that came into the service's ledger, and those that came again and were not counted "
            "twice. Many that come again: answers of the service get lost on the way.",
            [
                target(pace("llm_exporter_received_calls_total"), "received"),
                target(pace("llm_exporter_duplicate_calls_total"), "came again"),
                target(pace("llm_exporter_shipped_calls_total"), "acknowledged"),
            ],
            width=8,
            unit="short",
            axis="a minute",
            overrides=[
                named("received", color=fixed(WORK)),
                named("came again", color=fixed(WARNING)),
                named("acknowledged", color=fixed("light-blue")),
            ],
            **more,
        ),
        lines(
            "Shipping lag",
            "How long after its end a call is in the ledger: half of them, and nineteen of twenty. Steps of "
            "a minute or an hour are processes that were cut off and have sent what they kept.",
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
            overrides=[named("p50", color=fixed("light-blue")), named("p95", color=fixed(WORK))],
            **more,
        ),
        lines(
            "Dropped, and errors inside, a minute",
            "Calls that were lost, and errors that the exporter kept from its callers. Both are 0 where all "
            "is well.",
            [
                target(or_zero(pace("llm_exporter_dropped_calls_total")), "dropped"),
                target(or_zero(pace("llm_exporter_errors_total")), "errors"),
                target(or_zero(pace("llm_usage_missing_total")), "no usage"),
            ],
            width=8,
            unit="short",
            axis="a minute",
            overrides=[
                named("dropped", color=fixed(FAILURE)),
                named("errors", color=fixed(WARNING)),
                named("no usage", color=fixed("text")),
            ],
            **more,
        ),
    ]


def processes() -> list[Json]:
    """Return the versions in use, and where the numbers of series come from."""
    info = f"llm_exporter_build_info{OWN}"
    joined = f"{info} * on (instance) group_left ()"
    by = "instance, version, python_version"
    return [
        table(
            "Processes",
            "The processes that are scraped and what runs in them. After an upgrade there should be one "
            "version.",
            {"instance": "Process", "version": "Version", "python_version": "Python"},
            {
                "Series": f"max by ({by}) ({joined} llm_exporter_series{OWN}) or max by ({by}) (0 * {info})",
                "Scraped": f"max by ({by}) ({joined} scrape_samples_scraped{OWN})",
                "Reloaded": f"max by ({by}) ({joined} "
                f"(1000 * llm_exporter_config_last_reload_success_timestamp_seconds{OWN}))",
            },
            width=16,
            overrides=[
                named("Series", decimals=0, unit="locale"),
                named("Scraped", decimals=0, unit="locale"),
                named("Reloaded", unit="dateTimeFromNow"),
            ],
        ),
        bars(
            "Tokens without a price",
            "Tokens of each model that no price list has, in the time range. They cost something, and show "
            "as nothing: give the model a price in the configuration.",
            f"sort_desc({added('llm_unpriced_tokens_total', 'model')} > 0)"
            ' or on () label_replace(vector(0), "model", "none", "", "")',
            "{{model}}",
            width=8,
            unit="short",
            color=BY_VALUE,
            defaults=steps((1, WARNING)),
        ),
    ]


def board() -> Json:
    """Return the dashboard."""
    return dashboard(
        "llm-exporter",
        "LLM exporter health",
        "Whether what the other dashboards show is all there is: scrapes, shipping, series, prices, "
        "configuration.",
        [(4, headlines()), (8, scrapes()), (8, shipping()), (7, processes())],
        filters=FILTERS,
        since="now-6h",
    )
