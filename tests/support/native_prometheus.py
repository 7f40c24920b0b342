"""A Prometheus that scrapes native histograms."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import yaml

from llm_exporter.config.model import Config
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.server import MetricsServer
from tools.binaries import environment, find
from tools.stack import Prometheus

from .calls import a_call

INTERVAL = 1.0
CLASSIC = Config(scrape_interval=INTERVAL)
NATIVE = Config(scrape_interval=INTERVAL, native_histograms=True)
DURATIONS = [0.2 * 1.005**number for number in range(1000)]
"""From 0.2 to 29 s. The median is 2.4 s, the 95th percentile 22.8 s."""


class Target(NamedTuple):
    """What Prometheus scrapes."""

    job: str
    instance: str
    metrics: Metrics


def _same(metrics: Metrics) -> Metrics:
    return metrics


def record(metrics: Metrics) -> None:
    """Count a call of each duration."""
    for duration in DURATIONS:
        metrics.record(a_call(duration=duration, time_to_first_token=duration / 2))


@contextmanager
def scraping(targets: Iterable[Target], directory: Path, rules: Path | None = None) -> Iterator[Prometheus]:
    """Scrape targets, and evaluate the rules in a file."""
    program = find("prometheus")
    version = subprocess.run(
        [program, "--version"],
        capture_output=True,
        text=True,
        check=True,
        cwd=program.parents[1],
        env=environment(program),
    ).stdout
    # Prometheus 3.8 and newer have a setting, older ones a feature flag.
    more = {} if " version 2." in version else {"scrape_native_histograms": True}
    with ExitStack() as stack:
        scrapes = []
        for number, target in enumerate(targets):
            server = MetricsServer(partial(_same, target.metrics), 0, "127.0.0.1")
            stack.callback(server.close)
            labels = {"job": target.job, "instance": target.instance}
            static = {"targets": [f"127.0.0.1:{server.port}"], "labels": labels}
            scrapes.append({"job_name": str(number), "static_configs": [static]})
        config = directory / "prometheus.yml"
        times = {"scrape_interval": f"{INTERVAL:.0f}s", **more}
        files = [str(rules)] if rules else []
        config.write_text(yaml.safe_dump({"global": times, "scrape_configs": scrapes, "rule_files": files}))
        yield stack.enter_context(
            Prometheus.start(config=config, storage=directory, features=("native-histograms",))
        )
