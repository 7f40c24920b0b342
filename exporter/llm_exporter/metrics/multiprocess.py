"""One `/metrics` for all workers of a server such as gunicorn, whichever of them is scraped.

With `PROMETHEUS_MULTIPROC_DIR` set, each process writes its series to a file in that directory. The process
that is scraped reads all files, including those of processes that have ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path

from typing_extensions import override

from .. import environment
from ..config.model import Config
from ..guard import Report
from ..log import log
from .process_files import ProcessFiles, SeriesRecord, SharedSeries
from .registry import Registry
from .series import Histogram, Sample, Scalar, labels_text
from .shared_zero_first import SharedZeroFirst
from .specs import IN_FLIGHT
from .storage import Storage


class SharedStorage(Storage):
    """Stores the series of this process in a file, and shows those of all processes.

    Args:
        directory: where the files of all processes are.

    Raises:
        OSError: if the file of this process cannot be created.
    """

    shared = True

    def __init__(self, directory: Path) -> None:
        self._files = ProcessFiles(directory)
        super().__init__(SharedZeroFirst(Config().scrape_interval, directory / "series.jsonl"))

    @override
    def scalar(self, family: str, labels: Mapping[str, str]) -> Scalar:
        return _SharedScalar(labels_text(labels.items()), SeriesRecord(self._files, family, labels))

    @override
    def histogram(self, family: str, labels: Mapping[str, str], bounds: dict[str, float]) -> Histogram:
        record = SeriesRecord(self._files, family, labels)
        return _SharedHistogram(labels_text(labels.items()), bounds, record)

    @override
    def shown(self, registry: Registry, report: Report) -> Registry:
        total = Registry(registry.declared_labels)
        for family in registry.families.values():
            if family.type != "gauge":
                for values in list(family.series):
                    total.families[family.name].at(values)  # at 0: a series without a value is in no file
        for series in self._files.read_all(report):
            _add(total, series)
        return total

    @override
    def after_fork(self) -> Storage:
        return storage_from_environment()


def storage_from_environment() -> Storage:
    """Return the storage that `PROMETHEUS_MULTIPROC_DIR` asks for."""
    directory = environment.MULTIPROCESS.value
    if not directory:
        return Storage()
    try:
        return SharedStorage(Path(directory))
    except OSError as error:
        log.error(
            "llm-exporter: cannot use PROMETHEUS_MULTIPROC_DIR; /metrics shows only this process: %s", error
        )
        return Storage()


def _add(total: Registry, series: SharedSeries) -> None:
    """Add a series of one process: counters and calls in flight add up; of other gauges the last one wins."""
    found = total.find(series.family, series.labels)
    if found is None:
        return
    spec, values = found
    if spec.type != "gauge":
        if not all(0 <= value < inf for _, _, value in series.samples):
            return  # another process did not write that
        for sample in series.samples:
            total.families[spec.name].add(values).add(sample)
    elif series.alive and not spec.varying_labels and len(series.samples) == 1:
        ((_, _, value),) = series.samples
        gauge = total.scalars(spec).at(values)
        gauge.set(gauge.value + value if spec is IN_FLIGHT else value)


class _SharedScalar(Scalar):
    __slots__ = ("_record",)

    def __init__(self, labels: str, record: SeriesRecord) -> None:
        super().__init__(labels)
        self._record = record

    @override
    def inc(self, amount: float = 1) -> None:
        super().inc(amount)
        _write(self._record, [("", "", self.value)])

    @override
    def dec(self) -> None:
        super().dec()
        _write(self._record, [("", "", self.value)])

    @override
    def set(self, value: float) -> None:
        super().set(value)
        _write(self._record, [("", "", self.value)])


class _SharedHistogram(Histogram):
    __slots__ = ("_record",)

    def __init__(self, labels: str, bounds: dict[str, float], record: SeriesRecord) -> None:
        super().__init__(labels, bounds)
        self._record = record

    @override
    def observe(self, value: float) -> None:
        super().observe(value)
        _write(self._record, list(self.samples()))


def _write(record: SeriesRecord, samples: list[Sample]) -> None:
    try:
        record.write(samples)
    except OSError:
        log.exception("llm-exporter could not share a series with other processes")
