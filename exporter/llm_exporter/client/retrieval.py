"""Counts a response once, though one request creates it and others may retrieve it any number of times.

OpenAI's background responses are polled until they are complete
(https://platform.openai.com/docs/guides/background). Any response, and the results of any batch, can be
retrieved again. A response that is never retrieved is counted without usage.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from ..call import Call

K = TypeVar("K")
N = TypeVar("N", int, float)

_REMEMBERED: Final = 100_000
"""The maximum number of responses to remember, at about 100 bytes each."""

_PATIENCE: Final = 86_400.0
"""Seconds after which a call whose response is not retrieved is counted without it."""


class Outcome(msgspec.Struct, frozen=True):
    """A call that has ended, and the other calls that its response reports."""

    call: Call
    sub_calls: list[Call] = []
    """Calls to other models that the provider made for this one, or the calls of a batch."""
    response_id: str = ""
    """The provider's id of the response, if other requests may retrieve the same response."""
    pending: bool = False
    """The provider is still generating the response."""
    retrieved: bool = False
    """The request only retrieved a response that another request created."""
    is_running_total: bool = False
    """The usage of the call includes that of earlier calls with the same response id."""
    containers: Mapping[str, str] = {}
    """The units of the containers that the call ran code in, by their ids."""
    headers: Mapping[str, str] = {}
    """The headers of the response."""


class Retrievals:
    """Remembers which responses are counted, and which calls wait for theirs. Not thread-safe.

    Args:
        remembered: the maximum number of each.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._counted: OrderedDict[str, bool] = OrderedDict()
        """Whether the request that created the response is counted, by the response's id."""
        self._waiting: OrderedDict[str, Call] = OrderedDict()
        self._inherited: frozenset[str] = frozenset()
        self._totals: OrderedDict[str, Call | None] = OrderedDict()
        """What is counted of each running total, by the response's id; None if another process counts it."""

    def after_fork(self) -> None:
        """Leave the calls that wait to the parent process, which counts those that are never retrieved."""
        self._inherited = frozenset(self._waiting)

    def settle(self, outcome: Outcome) -> list[Call]:
        """Return the calls to record now that a request has ended, without those recorded before."""
        return [*self._settle(outcome), *self._overdue()]

    def close(self) -> list[Call]:
        """Return the calls whose responses were not retrieved, which then wait no longer."""
        calls = [call for key, call in self._waiting.items() if key not in self._inherited]
        self._waiting.clear()
        return calls

    def _overdue(self) -> list[Call]:
        """Return the calls that have waited for too long."""
        calls = []
        while self._waiting:
            key, call = next(iter(self._waiting.items()))
            if call.started > time.time() - _PATIENCE:
                break
            del self._waiting[key]
            if key not in self._inherited:
                calls.append(call)
        return calls

    def _settle(self, outcome: Outcome) -> list[Call]:
        if outcome.is_running_total and (outcome.response_id or outcome.retrieved):
            return self._increase(outcome) if outcome.response_id else []
        if outcome.pending and outcome.response_id:
            return [] if outcome.retrieved else self._wait(outcome)
        waits = outcome.response_id in self._waiting
        if outcome.retrieved and not outcome.sub_calls and not outcome.call.usage_reported and not waits:
            return []  # nothing was retrieved, so there was no call
        if outcome.response_id and self._is_counted(outcome.response_id, created=not outcome.retrieved):
            return []
        if outcome.retrieved and outcome.sub_calls and not outcome.call.usage_reported:
            return self._results(outcome)
        call = self._as_requested(outcome)
        for container, unit in outcome.containers.items():
            if not self._is_counted(f"container {container}"):
                call.units[unit] = call.units.get(unit, 0) + 1
        return [call, *outcome.sub_calls]

    def _is_counted(self, key: str, *, created: bool = False) -> bool:
        """Remember a response; return whether it is counted already.

        Two requests that create responses with equal ids are two calls.

        Args:
            key: the id of the response.
            created: whether the request created the response.
        """
        known = self._counted.get(key)
        self._counted[key] = created or known is True
        self._counted.move_to_end(key)
        if len(self._counted) > self._remembered:
            self._counted.popitem(last=False)
        return known is not None and not (created and known)

    def _wait(self, outcome: Outcome) -> list[Call]:
        """Keep a call until its response is retrieved; return the oldest such call if there are too many."""
        self._waiting[outcome.response_id] = outcome.call
        if len(self._waiting) <= self._remembered:
            return []
        return [self._waiting.popitem(last=False)[1]]

    def _as_requested(self, outcome: Outcome) -> Call:
        """Return the call as the request that created the response made it.

        Labels of the request that retrieved the response override those of the first one.
        """
        call = outcome.call
        if first := self._waiting.pop(outcome.response_id, None):
            ended = call.started + call.duration
            call.id = first.id
            call.labels = {**first.labels, **call.labels}
            call.requested_model = first.requested_model
            call.started = first.started
            call.duration = ended - first.started
            call.retries = first.retries + call.retries
            call.service_tier = call.service_tier or first.service_tier
        return call

    def _increase(self, outcome: Outcome) -> list[Call]:
        """Return the call with the usage that was not counted before.

        Only the process that created what runs counts it: another one cannot know what is counted already,
        and counts one call without usage.
        """
        call, key = outcome.call, outcome.response_id
        if key not in self._totals:
            if outcome.retrieved:
                return [self._not_ours(outcome)] if call.tokens else []
            counted = msgspec.structs.replace(call, tokens={}, units={}, reported_cost=None)
            self._start_total(key, counted)
        elif (known := self._totals[key]) is None:
            return []
        else:
            counted = known
        tokens, units = _added(call.tokens, counted.tokens), _added(call.units, counted.units)
        cost = None if call.reported_cost is None else call.reported_cost - (counted.reported_cost or 0)
        # Costs are reported in whole cents. Usage that costs less is counted with the next cent.
        waits = cost is not None and cost <= 0 and outcome.pending
        if waits or not (tokens or units):
            return [] if outcome.retrieved else self._wait(outcome)
        counted.tokens = {**counted.tokens, **{kind: call.tokens[kind] for kind in tokens}}
        counted.units = {**counted.units, **{unit: call.units[unit] for unit in units}}
        counted.reported_cost = call.reported_cost
        call.tokens, call.units = tokens, units
        call.reported_cost = cost if cost and cost > 0 else None
        call.model = call.model or counted.model
        call.labels = {**counted.labels, **call.labels}
        return [self._as_requested(outcome)]

    def _start_total(self, key: str, counted: Call | None) -> None:
        self._totals[key] = counted
        if len(self._totals) > self._remembered:
            self._totals.popitem(last=False)

    def _not_ours(self, outcome: Outcome) -> Call:
        """Return a call without usage, for something that another process created."""
        self._start_total(outcome.response_id, None)
        self._waiting.pop(outcome.response_id, None)
        call = outcome.call
        call.tokens, call.units, call.reported_cost, call.usage_reported = {}, {}, None, False
        return call

    def _results(self, outcome: Outcome) -> list[Call]:
        """Return the calls of a batch, with the labels of the request that created it, if that is known."""
        if first := self._waiting.pop(outcome.response_id, None):
            for call in outcome.sub_calls:
                call.labels = {**first.labels, **call.labels}
        return outcome.sub_calls


def _added(now: Mapping[K, N], counted: Mapping[K, N]) -> dict[K, N]:
    """Return by how much each value exceeds what is counted, without those that do not."""
    return {key: value - counted.get(key, 0) for key, value in now.items() if value > counted.get(key, 0)}
