"""Renews the leases of this process on budgets that the service shares, without being in any call's way."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import msgspec
from pydantic import ValidationError

from ..budgets.leases import LEASE_SECONDS, Answer, SharedBudgets
from .transport import Rejected, ServiceClient, Unavailable

log = logging.getLogger("llm_exporter")

RENEW_SECONDS: Final = 1.0
_REST_SECONDS: Final = 15.0
"""Between questions while the service shares no budget."""
_GAP_SECONDS: Final = 0.02
"""Between questions of a process that wants more than it has."""
_TIMEOUT_SECONDS: Final = 2.0
_FIRST_SECONDS: Final = 1.0

_decode: Final = msgspec.json.Decoder(Answer).decode


class Renewal:
    """Asks the service again and again, on a thread of its own.

    Args:
        url: of the service.
        shared: what it shares.
        lock: held where calls look at that.
        answered: called with whether the service answered.
    """

    def __init__(
        self,
        url: str,
        shared: SharedBudgets,
        lock: AbstractContextManager[object],
        answered: Callable[[bool], object],
    ) -> None:
        self._service = ServiceClient(url)
        self._shared = shared
        self._lock = lock
        self._answered = answered
        self._process = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._wake = threading.Event()
        self._ends = False
        self.first = threading.Event()
        """Set when the service has answered, or cannot be reached."""
        shared.wants_more = self._wake.set
        self._thread = threading.Thread(target=self._work, name="llm-exporter-leases", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the first answer, for a second at most."""
        self.first.wait(_FIRST_SECONDS)

    def close(self) -> None:
        """Give the leases back."""
        self._ends = True
        self._wake.set()
        self._thread.join(_TIMEOUT_SECONDS)

    def _work(self) -> None:
        while not self._ends:
            self._wake.clear()
            self._renew()
            self.first.set()
            if self._ends:
                break
            time.sleep(_GAP_SECONDS)
            self._wake.wait(RENEW_SECONDS if self._shared.spendings else _REST_SECONDS)
        self._renew()
        self._service.close()

    def _renew(self) -> None:
        try:
            known = bool(self._shared.spendings)
            self._ask()
            if self._shared.spendings and not known:
                self._ask()  # what there is to ask for is known by now
        except (Unavailable, Rejected, msgspec.MsgspecError, ValidationError) as error:
            log.debug("llm-exporter: no lease on budgets: %s", error)
            self._answered(False)
        except Exception:
            log.exception("llm-exporter: no lease on budgets")
        else:
            self._answered(True)

    def _ask(self) -> None:
        with self._lock:
            question = self._shared.ask(self._process, ends=self._ends)
        until = time.monotonic() + LEASE_SECONDS
        answer = _decode(self._service.post("/api/v1/budgets/leases", question, _TIMEOUT_SECONDS))
        with self._lock:
            self._shared.take(answer, until)
