"""The ledger in Redis, which several services share.

**A call is stored once.** The ids of calls are kept as long as the calls (`retention`), whichever instance
added them. One script adds a batch: all of it or nothing.

**A call is in the metrics of one instance.** The script also writes the calls to the log of the instance that
added them, and returns everything in that log that the instance has not seen. So if a reply is lost, the next
`add` returns those calls, whether they are sent again, sent to another instance or not sent again. After a
crash, `after_checkpoint` returns them. The metrics of all instances add up to the ledger.

An instance has a name. If a second service starts under the same name, the first one gets an error and adds
nothing more, because both would count.

**Reports read sums.** Totals of whole UTC hours, days and months are updated with each call: by `provider`,
`model`, `operation`, `agent`, `phase` and `project`, and by `session` and `model`. They expire 24 hours,
30 days and a year after the end of their period. Reports on other labels, on sessions with resets, and on
parts of an hour read the stored calls.

A session expires 24 hours after its last call. Its calls do not.

**Damage is skipped.** A call, sum, session or account that another program has overwritten is left out,
logged and counted. Reports read the calls instead of a damaged sum. If a key that every call needs has a
wrong type, the service does not start and accepts no calls, and the error names the key.

**Nothing is written to a server that has just started** until it has rewritten its append-only file: see
`redis_restarts.py`.

Acknowledged calls are as durable as the server's configuration: on disk with `appendonly yes` and
`appendfsync always`, except for the last two seconds with `appendfsync everysec`.
https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry
from typing_extensions import override

from ...call import Call
from ...log import log
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey
from ...periods import DAY, END_OF_TIME, Step, Window, span_of
from .base import (
    MAX_INTEGER,
    Charge,
    Charges,
    Claim,
    Grant,
    Ledger,
    LedgerError,
    Logged,
    Query,
    Rule,
    Spent,
    Totals,
    abandoned,
    dimension,
    no_charges,
    totals_of,
)
from .damage import Damage
from .decoding import CallDecoder
from .leasing import KEPT_SECONDS
from .redis_restarts import Restarts
from .redis_scripts import (
    ADD,
    BEHIND,
    CHARGE_EARLIER,
    CHARGE_MISSED,
    CHECK,
    CHECKPOINT,
    CLAIM,
    FETCH,
    LEASE,
    REGISTER,
    RESET,
)
from .redis_sums import Cell, amount, cells_of, kind_for, pieces, sums_in, whole

S = TypeVar("S")
T = TypeVar("T")

_PREFIX: Final = "llm-exporter:"
_OPTIONS: Final = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_TIMEOUT_SECONDS: Final = 4.0
"""This is shorter than the timeout of processes that ship calls."""
_SILENCE_SECONDS: Final = 2.0
"""How long a server that did not answer in time is not asked again, so that requests do not queue up."""
_ADDRESS: Final = re.compile(r"([^\s:@/\[\]]*|\[[^\s@/\[\]]*\])(:[0-9]+)?(/.*)?", re.DOTALL)
"""A host, a port and a path."""
_PAGE_CALLS: Final = 1000
_SLICE_CALLS: Final = 500
"""Calls from before a rule was registered that are charged at a time."""
_SESSION_SECONDS: Final = DAY
_POSITION: Final = re.compile(rb"[0-9]{1,18}")
_SUMS: Final = Totals.__struct_fields__
_ACCOUNT_FIELDS: Final = ("cost_usd ", "input_tokens ", "output_tokens ")
"""An account is stored like a sum without dimensions."""

_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode
_decode_counted: Final = msgspec.json.Decoder(list[SavedSample]).decode
_decode_series: Final = msgspec.json.Decoder(SeriesKey).decode
_decode_account: Final = msgspec.json.Decoder(tuple[list[Any], list[str], float | None]).decode


class RedisLedger(Ledger):
    """A ledger in a Redis server, for any number of services.

    Args:
        url: `redis://user:password@host:port/db`, `rediss://…` for TLS, or `unix://user:password@/path?db=0`.
        instance: The name of this service. It must be unique and stay the same over restarts.
        read_only: Whether only reports are needed.

    Raises:
        LedgerError: The server cannot be used. The message does not contain the password.
    """

    shared = True

    def __init__(self, url: str, instance: str = "", *, read_only: bool = False) -> None:
        self._name = masked(url)
        self._instance = instance
        self._client = self._connect(url, None if read_only else Restarts(self._name, f"{_PREFIX}rewritten"))
        self._damage = Damage(self._name)
        self._decode = CallDecoder(self._damage)
        self._writing = Lock()
        self._silent_until = -math.inf
        """By the monotonic clock, in seconds."""
        self._rules: list[str] = []
        self._owner = b"0"
        self._seen = b"0"
        """The last position in this instance's log that `add` has returned."""
        try:
            self._check()
            if not read_only:
                self._owner, self._seen = self._run(CLAIM, _PREFIX, instance)
        except LedgerError:
            self._client.close()
            raise

    def _connect(self, url: str, restarts: Restarts | None) -> Redis:
        try:
            options = {option for option, _ in parse_qsl(_parts(url).query, keep_blank_values=True)}
            if not options <= set(_OPTIONS):  # its name may be the end of a password
                raise LedgerError(f"{self._name}: unsupported option: use {', '.join(_OPTIONS)}")
            # Retry once, because the server may have closed an idle connection, but do not wait twice.
            return Redis.from_url(
                url,
                protocol=2,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                redis_connect_func=restarts and restarts.connect,
                retry=Retry(NoBackoff(), 1, supported_errors=(NotConnected,)),
            )
        except (ValueError, TypeError):
            # The reason may quote a part of the password.
            raise LedgerError(
                f"{self._name}: invalid Redis URL: write redis://user:password@host:port/db, and in the user"
                " and the password %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %"
            ) from None

    def _check(self) -> None:
        """Check that the server does not evict keys, and warn if it may lose acknowledged calls."""
        info = self._ask("INFO")
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            raise LedgerError(
                f"{self._name}: Redis evicts keys when its memory is full (maxmemory-policy {policy}):"
                " set maxmemory-policy noeviction"
            )
        if info.get("aof_enabled") == 0:
            log.warning(
                "llm-exporter: %s: a crash loses calls since the last snapshot: set appendonly yes",
                self._name,
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        if time.monotonic() < self._silent_until:
            raise LedgerError(f"{self._name}: did not answer within {_TIMEOUT_SECONDS:g} seconds")
        try:
            yield
        except TimedOut as error:
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            raise LedgerError(f"{self._name}: did not answer within {_TIMEOUT_SECONDS:g} seconds") from error
        except (RedisError, OSError, ValueError, TypeError, AttributeError) as error:
            # If the server is not Redis, the client may raise any error while it parses the reply.
            reason = str(error) or type(error).__name__
            if reason.startswith("TAKEN"):
                reason = (
                    f"another llm-exporter serve uses the instance name {self._instance!r}: stop one of them"
                )
            raise LedgerError(f"{self._name}: {reason}") from error

    def _ask(self, *command: str | bytes | float) -> Any:
        with self._errors():
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def _read(self, absent: Any, command: str, key: str, *arguments: str | bytes | float) -> Any:
        """Return what a key contains; `absent` if its type is wrong."""
        with self._errors():
            try:
                return self._client.execute_command(command, key, *arguments)  # type: ignore[no-untyped-call]
            except ResponseError as error:
                if not _is_wrong_type(error):
                    raise
                self._damage(key, error)
                return absent

    def _valid(self, key: str, decode: Callable[[S], T], stored: Iterable[S]) -> Iterator[T]:
        """Yield the values in a key, except for damaged ones."""
        for one in stored:
            try:
                yield decode(one)
            except (ValueError, TypeError, RecursionError) as error:
                self._damage(key, error)

    def _positions(self, key: str, stored: Iterable[bytes]) -> Iterator[int]:
        return self._valid(key, _position, stored)

    def _run(self, script: str, *arguments: str | bytes | float) -> Any:
        with self._errors():
            return self._client.register_script(script)(args=arguments)

    @override
    def add(self, calls: Sequence[Call], charges: Charges = no_charges) -> list[Call]:
        # Also returns the calls of an earlier `add` whose reply was lost.
        added: dict[tuple[Cell, ...], int] = {}
        packed = _pack([_packed(call, charges(call), added) for call in calls])
        with self._writing:
            self._seen, new, unreported, damaged = self._run(
                ADD,
                *self._owned(),
                packed,
                _pack(list(added)),
                _SESSION_SECONDS,
                _pack(list(_SUMS)),
                _pack(self._rules),
            )
        self._skipped(damaged)
        earlier = self._decode((int(at), call) for at, call in unreported)
        return [*(logged.call for logged in earlier), *(calls[number] for number in new)]

    def _skipped(self, damaged: Iterable[tuple[bytes, bytes]]) -> None:
        for key, reason in damaged:
            self._damage(key.decode(errors="replace"), reason.decode(errors="replace"))

    def _owned(self) -> tuple[str | bytes, ...]:
        return _PREFIX, self._instance, self._owner, self._seen

    @override
    def prepare_rules(self, rules: Sequence[str]) -> None:
        """Do nothing: another service may register them before this one does."""

    @override
    def register_rules(self, rules: Sequence[str]) -> None:
        # If other services have registered some of them meanwhile, the script leaves their accounts alone.
        known = {rule.decode(errors="replace") for rule in self._ask("SMEMBERS", f"{_PREFIX}rules")}
        accounts = self.accounts() if known < {*rules} else []
        left_over = {rule: [one for one in accounts if one.startswith(f"[{rule}, [")] for rule in rules}
        self._run(REGISTER, _PREFIX, _pack(list(left_over.items())))
        self._rules = list(rules)

    @override
    def rules_behind(self) -> set[str]:
        return {rule.decode(errors="replace") for rule in self._run(BEHIND, _PREFIX)}

    @override
    def charge_earlier(self, rule: Rule) -> bool:
        # Several services may do this at the same time. The script applies each part once.
        progress = self._ask("HGET", f"{_PREFIX}backlogs", rule.name)
        if progress is None:
            return self._charge_missed(rule)
        parsed = next(self._valid(f"{_PREFIX}backlogs", _progress, [progress]), None)
        if parsed is None:
            self._run(CHARGE_EARLIER, _PREFIX, rule.name, progress, b"", _pack([]))
            return self._charge_missed(rule)
        position, before = parsed
        since = rule.since if rule.since > -math.inf else "-inf"
        started = f"{_PREFIX}started"
        newest = self._ask(
            "ZREVRANGEBYSCORE", started, b"(" + before, since, "WITHSCORES", "LIMIT", 0, _SLICE_CALLS
        )
        positions, following = newest[::2], b""
        if len(positions) == _SLICE_CALLS:
            before = newest[-1]
            positions = {*positions, *self._ask("ZRANGEBYSCORE", started, before, before)}
            following = b"%d %b" % (position, before)
        earlier = [at for at in self._positions(started, positions) if at <= position]
        charged = self._charged(earlier, rule)
        self._skipped(self._run(CHARGE_EARLIER, _PREFIX, rule.name, progress, following, charged) or ())
        return bool(following) or self._charge_missed(rule)

    def _charge_missed(self, rule: Rule) -> bool:
        """Charge calls that other services have added before they knew the rule."""
        key = f"{_PREFIX}missed:{rule.name}"
        missed = self._read([], "LRANGE", key, 0, _SLICE_CALLS - 1)
        if missed:
            charged = self._charged(self._positions(key, missed), rule)
            self._skipped(self._run(CHARGE_MISSED, _PREFIX, rule.name, len(missed), missed[0], charged) or ())
        return len(missed) == _SLICE_CALLS

    def _charged(self, positions: Iterable[int], rule: Rule) -> bytes:
        charged: defaultdict[Charge, Spent] = defaultdict(Spent)
        for logged in self._fetched(positions):
            for charge in rule.charges(logged.call):
                usd, tokens = charged[charge]
                charged[charge] = Spent(usd + logged.call.total_cost, tokens + logged.call.total_tokens)
        return _pack(
            [
                (charge.account, _expiry(charge), repr(spent.usd), str(spent.tokens))
                for charge, spent in charged.items()
            ]
        )

    @override
    def accounts(self) -> list[str]:
        start = len(f"{_PREFIX}account:")
        with self._errors():
            keys = list(self._client.scan_iter(match=f"{_PREFIX}account:*", count=_PAGE_CALLS))
        names = []
        for key in keys:
            try:
                _decode_account(key[start:])
                names.append(key[start:].decode())
            except (ValueError, RecursionError) as error:
                self._damage(key.decode(errors="replace"), error)
        return names

    @override
    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        with self._errors(), self._client.pipeline(transaction=False) as pipeline:
            for account in accounts:
                pipeline.hmget(f"{_PREFIX}account:{account}", list(_ACCOUNT_FIELDS))
            replies = pipeline.execute(raise_on_error=False)
            return [self._spent(*pair) for pair in zip(accounts, replies, strict=True)]

    def _spent(self, account: str, reply: Any) -> Spent:
        try:
            if isinstance(reply, Exception):
                raise reply
            usd, into, out = reply
            return Spent(amount(usd), min(whole(into) + whole(out), MAX_INTEGER))
        except (ValueError, ResponseError) as error:
            if isinstance(error, ResponseError) and not _is_wrong_type(error):
                raise
            self._damage(f"{_PREFIX}account:{account}", error)
            return Spent()

    @override
    def delete_accounts(self, accounts: Sequence[str]) -> None:
        for account in accounts:
            self._ask("DEL", f"{_PREFIX}account:{account}")

    @override
    def lease(self, claims: Sequence[Claim], now: float) -> list[Grant]:
        if not claims:
            return []
        latest = now + KEPT_SECONDS
        granted, damaged = self._run(
            LEASE, _PREFIX, now, latest, _SESSION_SECONDS, _pack([_floats(claim) for claim in claims])
        )
        self._skipped(damaged)
        return [Grant(int(spent), int(amount)) for spent, amount in granted]

    @override
    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        # Only the calls that this instance has added.
        key, logged_in = f"{_PREFIX}instance:{self._instance}", f"{_PREFIX}log:{self._instance}"
        stored = self._ask("HGET", key, "counted") or b"[]"
        counted = next(self._valid(key, _decode_counted, [stored]), [])
        positions = self._ask("ZRANGEBYSCORE", logged_in, "-inf", self._seen)
        calls = (logged.call for logged in self._fetched(self._positions(logged_in, positions)))
        return counted, calls

    @override
    def checkpoint(self, counted: Sequence[SavedSample]) -> None:
        with self._writing:
            self._run(CHECKPOINT, *self._owned(), _encode(counted))

    @override
    def released(self) -> list[SeriesKey]:
        key = f"{_PREFIX}released:{self._instance}"
        return list(self._valid(key, _decode_series, self._read([], "SMEMBERS", key)))

    @override
    def release(self, series: Iterable[SeriesKey]) -> None:
        if members := [_encode(one) for one in series]:
            self._read(0, "SADD", f"{_PREFIX}released:{self._instance}", *members)

    @override
    def calls(self, query: Query, *, limit: int, before: int | None = None) -> list[Logged]:
        return list(islice(self._newest(query, before), limit))

    def _newest(self, query: Query, before: int | None = None) -> Iterator[Logged]:
        """Yield the stored calls that match, newest first."""
        if query.session is not None:
            logged = self._fetched(self._of_session(query.session, before))
        elif query.since is not None or query.until is not None:
            logged = self._fetched(self._started(query.since, query.until, before))
        else:
            logged = self._all(before)
        return (one for one in logged if _matches(one.call, query))

    def _of_session(self, name: str, before: int | None) -> Iterator[int]:
        key, reset_key = f"{_PREFIX}session:{name}", f"{_PREFIX}reset:{name}"
        stored = self._read(None, "GET", reset_key) or b"0"
        reset = next(self._positions(reset_key, [stored]), 0)
        end = "+inf" if before is None else f"({before}"
        return self._positions(key, self._read([], "ZREVRANGEBYSCORE", key, end, f"({reset}"))

    def _started(self, since: float | None, until: float | None, before: int | None) -> Iterator[int]:
        begin = "-inf" if since is None else repr(since)
        end = "+inf" if until is None else f"({until!r}"
        key = f"{_PREFIX}started"
        positions = self._positions(key, self._ask("ZRANGEBYSCORE", key, begin, end))
        return iter(sorted((one for one in positions if before is None or one < before), reverse=True))

    def _all(self, before: int | None) -> Iterator[Logged]:
        end = "+" if before is None else f"({before}-0"
        while entries := self._ask("XREVRANGE", f"{_PREFIX}calls", end, "-", "COUNT", _PAGE_CALLS):
            self._look_whether_somebody_waits()
            yield from self._decode(map(_stored, entries))
            end = f"({entries[-1][0].decode()}"

    def _fetched(self, positions: Iterable[int]) -> Iterator[Logged]:
        remaining = iter(positions)
        while some := list(islice(remaining, _PAGE_CALLS)):
            self._look_whether_somebody_waits()
            stored = zip(some, self._run(FETCH, _PREFIX, *some), strict=True)
            yield from self._decode(
                (at, call) for at, call in stored if call is not None
            )  # else pruned meanwhile

    def _look_whether_somebody_waits(self) -> None:
        if (is_abandoned := abandoned.get()) is not None and is_abandoned():
            raise LedgerError(f"{self._name}: nobody waits for the report any more")

    @override
    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        grouped: dict[tuple[str, ...], Totals] = defaultdict(Totals)
        for _, key, totals in self._summed(query, "month", by):
            grouped[key].add(totals)
        return dict(grouped)

    @override
    def periods(
        self, query: Query, period: Step, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        # Includes pruned calls as long as their sums are kept.
        grouped: dict[tuple[float, tuple[str, ...]], Totals] = defaultdict(Totals)
        summed = self._folded(query, by) if period == "minute" else self._summed(query, period, by)
        for started, key, totals in summed:
            grouped[span_of(period, started).start, key].add(totals)
        return dict(grouped)

    def _summed(
        self, query: Query, longest: Window, by: Sequence[str]
    ) -> Iterator[tuple[float, tuple[str, ...], Totals]]:
        """Yield totals, each with a moment in the window of length `longest` that the calls started in."""
        kind = kind_for({*query.match, *by})
        if kind is None or query.session is not None or query.since is None:
            yield from self._folded(query, by)
            return
        for begin, end, period in pieces(query.since, query.until, longest, time.time()):
            sums = self._stored(f"{_PREFIX}{kind}:{period}:{begin:.0f}", kind) if period else None
            if sums is None:
                yield from self._folded(msgspec.structs.replace(query, since=begin, until=end), by)
                continue
            for values, totals in sums:
                if query.match.items() <= values.items():
                    yield begin, tuple(values[name] for name in by), totals

    def _folded(self, query: Query, by: Sequence[str]) -> Iterator[tuple[float, tuple[str, ...], Totals]]:
        for logged in self._newest(query):
            call = logged.call
            yield call.started, tuple(dimension(call, name) for name in by), totals_of(call)

    def _stored(self, key: str, kind: str) -> list[tuple[dict[str, str], Totals]] | None:
        """Return a stored sum, by its dimensions; None if it is damaged."""
        stored = self._read(None, "HGETALL", key)
        if stored is None:
            return None
        return next(self._valid(key, lambda fields: sums_in(kind, fields), [stored]), None)

    @override
    def session(self, name: str | None) -> str | None:
        if name is None:
            latest = next(self._all(None), None)
            if latest is None:
                return None
            name = dimension(latest.call, "session")
        return name if self._ask("EXISTS", f"{_PREFIX}session:{name}") else None

    @override
    def reset_session(self, name: str) -> None:
        self._run(RESET, _PREFIX, name, _SESSION_SECONDS)

    @override
    def prune(self, before: float) -> int:
        # A call must be in the checkpoint of the instance that added it.
        uncounted: set[int] = set()
        for instance in self._ask("SMEMBERS", f"{_PREFIX}instances"):
            key = f"{_PREFIX}log:{instance.decode(errors='replace')}"
            uncounted.update(self._positions(key, self._read([], "ZRANGE", key, 0, -1)))
        pruned, begin, end = 0, "-", f"({max(before * 1e6, 1):.0f}-0"
        while entries := self._ask("XRANGE", f"{_PREFIX}calls", begin, end, "COUNT", _PAGE_CALLS):
            old = [stored for stored in map(_stored, entries) if stored[0] not in uncounted]
            pruned += self._delete([at for at, _ in old], [*self._decode(old)])
            begin = f"({entries[-1][0].decode()}"
        return pruned

    def _delete(self, old: Sequence[int], readable: Sequence[Logged]) -> int:
        if not old:
            return 0
        with self._errors(), self._client.pipeline(transaction=True) as transaction:
            transaction.xdel(f"{_PREFIX}calls", *(f"{position}-0" for position in old))
            transaction.zrem(f"{_PREFIX}started", *old)
            for logged in readable:
                transaction.hdel(f"{_PREFIX}ids", logged.call.id)
                session = dimension(logged.call, "session")
                transaction.zrem(f"{_PREFIX}session:{session}", logged.position)
            return int(transaction.execute(raise_on_error=False)[0])  # a session may be damaged

    @override
    def report_unreadable(self, report: Callable[[], object]) -> None:
        self._damage.report_to(report)

    @override
    def shrink(self) -> bool:
        return False

    @override
    def catch_up(self) -> int:
        return 0

    @override
    def check(self) -> None:
        self._run(CHECK, _PREFIX, time.time())

    @override
    def close(self) -> None:
        self._client.close()


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url)
    if "@" in url and ("@" not in parts.netloc or "@" in parts.query):
        raise ValueError("a part of the password would be taken for something else")
    return parts


def masked(url: str) -> str:
    """Return a URL for messages, without its user, its password and its options, which may have a password.

    If it is unclear where the password ends, only the scheme is shown.
    """
    scheme, _, rest = url.partition("://")
    userinfo, at, address = rest.rpartition("@")
    address = re.split(r"[?#]", address)[0]
    if "?" in userinfo or "/" in userinfo.partition(":")[0] or not _ADDRESS.fullmatch(address):
        return f"{scheme}://***"
    return f"{scheme}://***@{address}" if at else f"{scheme}://{address}"


def _position(text: bytes) -> int:
    if not _POSITION.fullmatch(text):
        raise ValueError(f"{text!r} is not the position of a call")
    return int(text)


def _progress(stored: bytes) -> tuple[int, bytes]:
    """Return the last position in a rule's backlog, and the start of its calls that are charged already."""
    position, before = stored.split(b" ")
    float(before)
    return _position(position), before


def _is_wrong_type(error: ResponseError) -> bool:
    return str(error).startswith("WRONGTYPE")


def _stored(entry: tuple[bytes, dict[bytes, bytes]]) -> tuple[int, bytes]:
    """Return the position of a stream's entry, and its call as JSON."""
    return int(entry[0].partition(b"-")[0]), entry[1].get(b"call", b"")


def _expiry(charge: Charge) -> int:
    return int(min(charge.expires, END_OF_TIME - 1))


def _floats(claim: Claim) -> tuple[str | float, ...]:
    """Return a claim for the script, whose numbers are floats."""
    amounts = (float(amount) for amount in (claim.limit, claim.used, claim.keeps, claim.wanted))
    return claim.account, claim.process, claim.unit, *amounts, claim.ends


def _packed(
    call: Call, charges: Iterable[Charge], added: dict[tuple[Cell, ...], int]
) -> tuple[str, str, float, str, int, tuple[float, ...]]:
    """Return the arguments of the script for a call.

    Args:
        call: The call.
        charges: The accounts that it is charged to.
        added: The number of each set of sums that calls are added to. Few calls of a batch differ in them.
    """
    accounts = [(f"account:{charge.account}", "", _expiry(charge)) for charge in charges]
    sums = added.setdefault((*cells_of(call), *accounts), len(added) + 1)
    amounts = msgspec.structs.astuple(totals_of(call))
    return call.id, _encode(call).decode(), call.started, dimension(call, "session"), sums, amounts


def _matches(call: Call, query: Query) -> bool:
    """Return whether a call matches a query, except for its session, which depends on the position."""
    return (
        (query.since is None or call.started >= query.since)
        and (query.until is None or call.started < query.until)
        and all(dimension(call, name) == value for name, value in query.match.items())
    )
