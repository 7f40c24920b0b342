"""Answers that one request asks for and others fetch, as often as they like: each is counted once.

OpenAI's background responses are polled until they are done
(https://platform.openai.com/docs/guides/background), any response can be retrieved again, and so can the
results of a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..call import Call

_REMEMBERED: Final = 100_000
"""Answers remembered at most; at about 100 bytes each."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call that has ended, and what its answer says of other calls."""

    call: Call
    sub_calls: list[Call] = field(default_factory=list)
    """Calls that the provider made on its way, or that a batch was made of."""
    response_id: str = ""
    """The provider's id of the answer, where other requests may bring the same answer."""
    pending: bool = False
    """The provider is still at work on it."""
    retrieved: bool = False
    """The request only fetched what others had asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The headers of the answer."""


class Retrievals:
    """Remembers which answers are counted, and which calls wait for theirs. For one thread.

    Args:
        remembered: how many of each at most.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._counted: OrderedDict[str, None] = OrderedDict()
        self._waiting: OrderedDict[str, Call] = OrderedDict()

    def settle(self, outcome: Outcome) -> list[Call]:
        """Return the calls to record now that a request has ended: none that is recorded already."""
        if outcome.pending:
            return [] if outcome.retrieved else self._wait(outcome)
        if outcome.retrieved and not outcome.sub_calls and not outcome.call.usage_reported:
            return []  # asked in vain, which is no call
        if outcome.response_id and not self._first(outcome.response_id) and outcome.retrieved:
            return []
        if outcome.retrieved and not outcome.call.usage_reported:
            return outcome.sub_calls  # of a batch
        return [self._asked(outcome), *outcome.sub_calls]

    def _first(self, response_id: str) -> bool:
        """Return whether an answer comes for the first time, and remember that it has come."""
        if response_id in self._counted:
            self._counted.move_to_end(response_id)
            return False
        self._counted[response_id] = None
        if len(self._counted) > self._remembered:
            self._counted.popitem(last=False)
        return True

    def _wait(self, outcome: Outcome) -> list[Call]:
        """Keep a call until its answer is fetched; return the one that has waited longest if too many do."""
        self._waiting[outcome.response_id] = outcome.call
        if len(self._waiting) <= self._remembered:
            return []
        return [self._waiting.popitem(last=False)[1]]

    def _asked(self, outcome: Outcome) -> Call:
        """Return a call as who asked for its answer made it; labels of who fetched it lie over theirs."""
        answered = outcome.call
        if asker := self._waiting.pop(outcome.response_id, None):
            ended = answered.started + answered.duration
            answered.id = asker.id
            answered.labels = {**asker.labels, **answered.labels}
            answered.requested_model = asker.requested_model
            answered.started = asker.started
            answered.duration = ended - asker.started
            answered.retries = asker.retries + answered.retries
        return answered
