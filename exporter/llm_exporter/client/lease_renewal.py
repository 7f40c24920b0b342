"""Renew this process's leases on shared budgets on a separate thread, so that no call waits for it."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import msgspec
from pydantic import ValidationError

from ..budgets.lease_messages import LeaseResponse
from ..budgets.leases import LEASE_SECONDS, SharedBudgets
from ..log import log
from ..threads import Thread
from .closing import Closing
from .transport import Rejected, ServiceClient, Unavailable

_RENEW_SECONDS: Final = 1.0
_IDLE_SECONDS: Final = 15.0
"""The interval while the service shares no budget."""
_MIN_SECONDS: Final = 0.02
"""The shortest interval, for a process that needs larger leases."""
_TIMEOUT_SECONDS: Final = 2.0

_decode: Final = msgspec.json.Decoder(LeaseResponse).decode


class LeaseRenewal:
    """The thread that renews leases.

    Args:
        url: the URL of the service.
        shared: the budgets and leases to keep up to date.
        lock: held while reading or changing `shared`.
        on_result: called after each request with whether it succeeded.
        on_error: called with each exception that is no answer of the service. The thread goes on.
    """

    def __init__(
        self,
        url: str,
        shared: SharedBudgets,
        lock: AbstractContextManager[object],
        on_result: Callable[[bool], object],
        on_error: Callable[[BaseException], object],
    ) -> None:
        self._service = ServiceClient(url)
        self._shared = shared
        self._lock = lock
        self._on_result = on_result
        self._on_error = on_error
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._closing = Closing()
        shared.begin()
        self._thread = Thread(self._work, "llm-exporter-leases", on_error)
        self._thread.start()

    def end(self, deadline: float) -> None:
        """Begin to return the leases. A service that does not answer need not have them back: they expire.

        Args:
            deadline: when to give up, by the monotonic clock.
        """
        self._closing.request(deadline)
        self._shared.renewal_due.set()

    def join(self) -> None:
        """Wait until the leases are returned after `end`, or for the deadline."""
        self._thread.join(self._closing.seconds_left)

    def _work(self) -> None:
        renewal_due = self._shared.renewal_due
        while not self._closing.is_requested:
            renewal_due.clear()
            self._renew()
            if self._closing.is_requested:
                break
            self._closing.wait(_MIN_SECONDS)
            renewal_due.wait(_RENEW_SECONDS if self._shared.budgets else _IDLE_SECONDS)
        if self._shared.responds:
            self._renew()
        self._service.close()

    def _renew(self) -> None:
        try:
            known = bool(self._shared.budgets)
            self._request()
            if self._shared.budgets and not known:
                self._request()  # the first response names the budgets to ask for
        except (Unavailable, Rejected, msgspec.MsgspecError, ValidationError) as error:
            log.debug("llm-exporter: cannot renew the leases on budgets: %s", error)
            self._shared.failed()
            self._on_result(False)
        except BaseException as error:
            self._shared.failed()
            self._on_error(error)
        else:
            self._on_result(True)

    def _request(self) -> None:
        with self._lock:
            request = self._shared.request(self._process, ends=self._closing.is_requested)
        valid_until = time.monotonic() + LEASE_SECONDS
        timeout = min(_TIMEOUT_SECONDS, self._closing.seconds_left)
        response = _decode(self._service.post("/api/v1/budgets/leases", request, timeout))
        with self._lock:
            self._shared.apply(response, valid_until)
