"""The calls and metrics that a test has produced."""

from __future__ import annotations

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline


class Metered:
    """Collects the calls and metrics of a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._calls: list[Call] = []
        pipeline.subscribe(self._calls.append)

    @property
    def calls(self) -> list[Call]:
        """All finished calls."""
        assert self.pipeline.flush()
        return self._calls

    @property
    def call(self) -> Call:
        """The only finished call; fails if there are more or none."""
        (call,) = self.calls
        return call

    def samples(self, name: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Return the values of the series that have these labels, by their other labels' values."""
        text = generate_latest(self.pipeline.registry).decode()
        return {
            tuple(
                value for _, value in sorted(sample.labels.items()) if value not in labels.values()
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series that have these labels."""
        return sum(self.samples(name, **labels).values())
