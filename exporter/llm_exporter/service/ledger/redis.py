"""The ledger in Redis, which several services share.

**Each call once.** The ids of calls are remembered as long as the calls themselves (`retention`), whichever
instance added them. A batch is added by one script: all of it or nothing.

**Each call in the metrics of one instance.** The script also writes the calls to the log of the instance that
added them, and answers with all of that log that the instance has not been told of. So when an answer is lost
on its way, the next `add` tells of those calls, whether they are sent again, to another instance or not at
all; and after a crash `after_checkpoint` does. The metrics of all instances come to what is in the ledger.

An instance is known by a name. When a second service goes by the same one, the first is told so and adds
nothing more: both would count.

**What reports take.** Totals of whole UTC hours, days and months by any of `provider`, `model`, `operation`,
`agent`, `phase` and `project`, or by `session` and `model`, are added up with the calls and expire 24 hours,
30 days and a year after the period's end: a report of those takes as long as there are combinations in its
periods. Everything else (other labels, sessions with their resets, the part of an hour at either end) goes
through the kept calls: those of the session or of the time asked for, else all of them.

A session is forgotten 24 hours after its last call came in; the calls are not.

What is acknowledged is as safe as the server keeps it: on disk with `appendonly yes` and `appendfsync
always`, but for the last two seconds with `appendfsync everysec`.
https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError
from redis.retry import Retry

from ...call import Call
from ...metrics.saved_sample import SavedSample
from ...metrics.zero_first import SeriesKey
from ..reports import end_of
from .base import Charge, Leases, LedgerError, Logged, Period, Query, Spent, Totals, dimension, totals_of

log = logging.getLogger("llm_exporter")

_PREFIX: Final = "llm-exporter:"
_OPTIONS: Final = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_TIMEOUT_SECONDS: Final = 4.0
"""Twice that, for the one retry, is less than shippers wait."""
_AT_ONCE: Final = 1000
_SESSION_SECONDS: Final = 24 * 3600
_KEPT: Final[dict[Period, int]] = {"month": 365 * 86400, "day": 30 * 86400, "hour": 24 * 3600}
"""How long totals are kept after the end of their period, the longest period first."""
_CLOCKS: Final = 300.0
"""Seconds that the server's clock may be ahead of ours, when totals are about to expire."""
_LAST: Final = 253402300799.0
"""The last second of the year 9999, where datetime ends."""

_DIMENSIONS: Final = {
    "bucket": ("provider", "model", "operation", "agent", "phase", "project"),
    "sessions": ("session", "model"),
}
"""What totals are kept by, by the kind of their keys: sessions apart, for there are many."""
_SUMS: Final = Totals.__struct_fields__

_HELD: Final = """
local prefix, instance, owner, seen = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local own, logged = prefix .. 'instance:' .. instance, prefix .. 'log:' .. instance
local holder = tonumber(redis.call('HGET', own, 'owner') or '0')
if holder > owner then return redis.error_reply('TAKEN by another service') end
-- Less than ours, or none: the server has lost what it was told.
if holder < owner then redis.call('HSET', own, 'owner', ARGV[3]) end
local function text(number) return string.format('%.17g', number) end
"""

_CLAIM: Final = """
local own, logged = ARGV[1] .. 'instance:' .. ARGV[2], ARGV[1] .. 'log:' .. ARGV[2]
local now = redis.call('TIME')
local owner = math.max(tonumber(redis.call('HGET', own, 'owner') or '0') + 1, now[1] * 1000000 + now[2])
redis.call('HSET', own, 'owner', string.format('%.17g', owner))
redis.call('SADD', ARGV[1] .. 'instances', ARGV[2])
return {string.format('%.17g', owner), redis.call('ZREVRANGE', logged, 0, 0)[1] or '0'}
"""

# A position is the time it is given at, in microseconds: it also rises when a server that was killed comes
# back without the last ones.
_ADD: Final = (
    _HELD
    + """
local now = redis.call('TIME')
local last = tonumber(redis.call('GET', prefix .. 'position') or '0')
local position = math.max(last, now[1] * 1000000 + now[2] - 1)
local untold = {}
for _, at in ipairs(redis.call('ZRANGEBYSCORE', logged, '(' .. ARGV[4], '+inf')) do
    local entry = redis.call('XRANGE', prefix .. 'calls', at, at)[1]
    if entry then untold[#untold + 1] = entry[2][2] end
end
local new, sums = {}, {}
for number, call in ipairs(cmsgpack.unpack(ARGV[5])) do
    local id, json, started, session, cells, came_to = unpack(call)
    if redis.call('HSETNX', prefix .. 'ids', id, text(position + 1)) == 1 then
        position = position + 1
        new[#new + 1] = number - 1
        local at = text(position)
        redis.call('XADD', prefix .. 'calls', at .. '-0', 'call', json)
        redis.call('ZADD', prefix .. 'started', text(started), at)
        redis.call('ZADD', logged, at, at)
        redis.call('ZADD', prefix .. 'session:' .. session, at, at)
        redis.call('EXPIRE', prefix .. 'session:' .. session, ARGV[6])
        redis.call('EXPIRE', prefix .. 'reset:' .. session, ARGV[6])
        for _, cell in ipairs(cells) do
            local key, field, expires = unpack(cell)
            sums[key] = sums[key] or {expires = expires, fields = {}}
            local fields = sums[key].fields
            fields[field] = fields[field] or {0, 0, 0, 0, 0, 0}
            for sum, value in ipairs(came_to) do fields[field][sum] = fields[field][sum] + value end
        end
    end
end
local names = cmsgpack.unpack(ARGV[7])
for key, bucket in pairs(sums) do
    for field, values in pairs(bucket.fields) do
        for sum, value in ipairs(values) do
            if value ~= 0 then
                redis.call('HINCRBYFLOAT', prefix .. key, names[sum] .. ' ' .. field, text(value))
            end
        end
    end
    redis.call('EXPIREAT', prefix .. key, bucket.expires)
end
if #new > 0 then
    last = position
    redis.call('SET', prefix .. 'position', text(last))
end
return {text(math.max(last, seen)), new, untold}
"""
)

_CHECKPOINT: Final = (
    _HELD
    + """
redis.call('HSET', own, 'counted', ARGV[5])
redis.call('ZREMRANGEBYSCORE', logged, '-inf', ARGV[4])
"""
)

_BEGIN: Final = """
if redis.call('SADD', ARGV[1] .. 'rules', ARGV[2]) == 0 then return end
for _, account in ipairs(cmsgpack.unpack(ARGV[3])) do
    local key = ARGV[1] .. 'account:' .. account[1]
    redis.call('DEL', key)
    redis.call('HSET', key, 'cost_usd ', account[3], 'output_tokens ', account[4])
    redis.call('EXPIREAT', key, account[2])
end
"""
_SPENT: Final = ("cost_usd ", "input_tokens ", "output_tokens ")
"""The fields of an account: it is written as totals are, by no dimension."""

_RESET: Final = """
local position = redis.call('GET', ARGV[1] .. 'position') or '0'
redis.call('SET', ARGV[1] .. 'reset:' .. ARGV[2], position, 'EX', ARGV[3])
"""

_FETCH: Final = """
local calls = {}
for number = 2, #ARGV do
    local entry = redis.call('XRANGE', ARGV[1] .. 'calls', ARGV[number], ARGV[number])[1]
    calls[#calls + 1] = entry and entry[2][2] or ''
end
return calls
"""

_encode: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode
_decode_call: Final = msgspec.json.Decoder(Call).decode
_decode_counted: Final = msgspec.json.Decoder(list[SavedSample]).decode
_decode_series: Final = msgspec.json.Decoder(SeriesKey).decode
_decode_leases: Final = msgspec.json.Decoder(Leases).decode
_decode_cell: Final = msgspec.json.Decoder(tuple[str, ...]).decode


class RedisLedger:
    """A ledger in a Redis server, for any number of services at a time.

    Args:
        url: `redis://user:password@host:port/db`, `rediss://…` with TLS, or `unix://user:password@/path?db=0`.
        instance: what this service is called, the same after a restart and no other's.
        read_only: for reports beside running services.

    Raises:
        LedgerError: when it cannot be used, with the reason; the password is not in it.
    """

    def __init__(self, url: str, instance: str = "", *, read_only: bool = False) -> None:
        self._name = masked(url)
        self._instance = instance
        self._client = self._connect(url)
        self._writing = Lock()
        self._owner = b"0"
        self._seen = b"0"
        """The last position in this instance's log that it has been told of."""
        self.charges: Callable[[Call], Iterable[Charge]] = lambda _: ()
        try:
            self._check()
            if not read_only:
                self._owner, self._seen = self._run(_CLAIM, _PREFIX, instance)
        except LedgerError:
            self._client.close()
            raise

    def _connect(self, url: str) -> Redis:
        try:
            options = {option for option, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)}
            if unknown := sorted(options - set(_OPTIONS)):
                raise LedgerError(
                    f"{self._name}: there is no option {unknown[0]!r}: there are {', '.join(_OPTIONS)}"
                )
            # One retry, for a connection that has died since it was used last.
            return Redis.from_url(
                url,
                protocol=2,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 1),
            )
        except (ValueError, TypeError) as error:
            raise LedgerError(f"{self._name}: not the URL of a Redis server: {error}") from None

    def _check(self) -> None:
        """Look whether the server keeps what it is given."""
        info = self._ask("INFO")
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            raise LedgerError(
                f"{self._name}: it throws calls away when its memory is full: set maxmemory-policy noeviction"
                f" (it is {policy})"
            )
        if info.get("aof_enabled") == 0:
            log.warning(
                "llm-exporter: %s: calls since its last snapshot are lost when it dies: set appendonly yes",
                self._name,
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError, ValueError, TypeError, AttributeError) as error:
            # Beside its own errors the client raises what its parsing stumbles over, on an answer of another
            # kind of server.
            reason = str(error) or type(error).__name__
            if reason.startswith("TAKEN"):
                reason = (
                    f"another llm-exporter serve goes by the name of {self._instance!r}: stop one of them"
                )
            raise LedgerError(f"{self._name}: {reason}") from error

    def _ask(self, *command: str | bytes | float) -> Any:
        with self._errors():
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def _run(self, script: str, *arguments: str | bytes | float) -> Any:
        with self._errors():
            return self._client.register_script(script)(args=arguments)

    def add(self, calls: Sequence[Call]) -> list[Call]:
        """See `Ledger.add`; calls of which the answer to an earlier one was lost are returned too."""
        packed = _pack([_adding(call, self.charges(call)) for call in calls])
        with self._writing:
            self._seen, new, untold = self._run(
                _ADD, *self._held(), packed, _SESSION_SECONDS, _pack(list(_SUMS))
            )
        return [*map(_decode_call, untold), *(calls[number] for number in new)]

    def _held(self) -> tuple[str | bytes, ...]:
        return _PREFIX, self._instance, self._owner, self._seen

    def begun(self, rules: Sequence[str]) -> set[str]:
        """See `Ledger.begun`."""
        known = {rule.decode() for rule in self._ask("SMEMBERS", f"{_PREFIX}rules")}
        if gone := known - {*rules}:
            self._ask("SREM", f"{_PREFIX}rules", *gone)
        return known & {*rules}

    def begin(self, rule: str, spent: Mapping[Charge, Spent]) -> None:
        """See `Ledger.begin`."""
        sums = [
            (charge.account, _expiry(charge), repr(came_to.usd), came_to.tokens)
            for charge, came_to in spent.items()
        ]
        self._run(_BEGIN, _PREFIX, rule, _pack(sums))

    def accounts(self) -> list[str]:
        """See `Ledger.accounts`."""
        start = len(f"{_PREFIX}account:")
        with self._errors():
            keys = list(self._client.scan_iter(match=f"{_PREFIX}account:*", count=_AT_ONCE))
        return [key[start:].decode() for key in keys]

    def spent(self, accounts: Sequence[str]) -> list[Spent]:
        """See `Ledger.spent`."""
        with self._errors(), self._client.pipeline(transaction=False) as pipeline:
            for account in accounts:
                pipeline.hmget(f"{_PREFIX}account:{account}", list(_SPENT))
            return [
                Spent(float(usd or 0), int(float(into or 0)) + int(float(out or 0)))
                for usd, into, out in pipeline.execute()
            ]

    def forget(self, accounts: Sequence[str]) -> None:
        """See `Ledger.forget`."""
        for account in accounts:
            self._ask("DEL", f"{_PREFIX}account:{account}")

    def lease(self, account: str, decide: Callable[[Leases], Leases]) -> None:
        """See `Ledger.lease`."""
        key = f"{_PREFIX}leases:{account}"

        def change(transaction: Pipeline) -> None:
            there = transaction.get(key)
            leases = decide(_decode_leases(there) if there else {})
            transaction.multi()
            if leases:
                transaction.set(key, _encode(leases), ex=_SESSION_SECONDS)
            else:
                transaction.delete(key)

        with self._errors():
            self._client.transaction(change, key)

    def after_checkpoint(self) -> tuple[list[SavedSample], Iterator[Call]]:
        """See `Ledger.after_checkpoint`; the calls are those that this instance has added."""
        counted = self._ask("HGET", f"{_PREFIX}instance:{self._instance}", "counted")
        positions = self._ask("ZRANGEBYSCORE", f"{_PREFIX}log:{self._instance}", "-inf", self._seen)
        calls = (logged.call for logged in self._fetched(map(int, positions)))
        return _decode_counted(counted or b"[]"), calls

    def checkpoint(self, counted: Sequence[SavedSample]) -> None:
        """See `Ledger.checkpoint`."""
        with self._writing:
            self._run(_CHECKPOINT, *self._held(), _encode(counted))

    def released(self) -> list[SeriesKey]:
        """See `Ledger.released`."""
        return [_decode_series(one) for one in self._ask("SMEMBERS", f"{_PREFIX}released:{self._instance}")]

    def release(self, series: Iterable[SeriesKey]) -> None:
        """See `Ledger.release`."""
        if members := [_encode(one) for one in series]:
            self._ask("SADD", f"{_PREFIX}released:{self._instance}", *members)

    def calls(self, query: Query, *, limit: int, before: int | None = None) -> list[Logged]:
        """See `Ledger.calls`."""
        return list(islice(self._newest(query, before), limit))

    def _newest(self, query: Query, before: int | None = None) -> Iterator[Logged]:
        """Yield the kept calls that fit, the newest first."""
        if query.session is not None:
            logged = self._fetched(self._of_session(query.session, before))
        elif query.since is not None or query.until is not None:
            logged = self._fetched(self._started(query.since, query.until, before))
        else:
            logged = self._all(before)
        return (one for one in logged if _fits(one.call, query))

    def _of_session(self, name: str, before: int | None) -> Iterator[int]:
        reset = self._ask("GET", f"{_PREFIX}reset:{name}") or b"0"
        end = "+inf" if before is None else f"({before}"
        key = f"{_PREFIX}session:{name}"
        return map(int, self._ask("ZREVRANGEBYSCORE", key, end, b"(" + reset))

    def _started(self, since: float | None, until: float | None, before: int | None) -> Iterator[int]:
        begin = "-inf" if since is None else repr(since)
        end = "+inf" if until is None else f"({until!r}"
        positions = map(int, self._ask("ZRANGEBYSCORE", f"{_PREFIX}started", begin, end))
        return iter(sorted((one for one in positions if before is None or one < before), reverse=True))

    def _all(self, before: int | None) -> Iterator[Logged]:
        end = "+" if before is None else f"({before}-0"
        while entries := self._ask("XREVRANGE", f"{_PREFIX}calls", end, "-", "COUNT", _AT_ONCE):
            for position, fields in entries:
                yield Logged(_position(position), _decode_call(fields[b"call"]))
            end = f"({entries[-1][0].decode()}"

    def _fetched(self, positions: Iterable[int]) -> Iterator[Logged]:
        remaining = iter(positions)
        while some := list(islice(remaining, _AT_ONCE)):
            for position, call in zip(some, self._run(_FETCH, _PREFIX, *some), strict=True):
                if call:  # else it has been pruned since
                    yield Logged(position, _decode_call(call))

    def totals(self, query: Query, by: Sequence[str] = ()) -> dict[tuple[str, ...], Totals]:
        """See `Ledger.totals`."""
        grouped: dict[tuple[str, ...], Totals] = defaultdict(Totals)
        for _, key, totals in self._summed(query, "month", by):
            grouped[key].add(totals)
        return dict(grouped)

    def periods(
        self, query: Query, period: Period, by: Sequence[str] = ()
    ) -> dict[tuple[float, tuple[str, ...]], Totals]:
        """See `Ledger.periods`; also of calls that have been pruned, where their totals are kept."""
        grouped: dict[tuple[float, tuple[str, ...]], Totals] = defaultdict(Totals)
        for started, key, totals in self._summed(query, period, by):
            grouped[start_of(started, period), key].add(totals)
        return dict(grouped)

    def _summed(
        self, query: Query, longest: Period, by: Sequence[str]
    ) -> Iterator[tuple[float, tuple[str, ...], Totals]]:
        """Yield what calls came to, with a time in the period of `longest` that they started in."""
        kind = _kind({*query.match, *by})
        if kind is None or query.session is not None or query.since is None:
            yield from self._folded(query, by)
            return
        for begin, end, period in _pieces(query.since, query.until, longest, time.time()):
            if period is None:
                piece = msgspec.structs.replace(query, since=begin, until=end)
                yield from self._folded(piece, by)
            else:
                yield from ((begin, *one) for one in self._kept(kind, f"{period}:{begin:.0f}", query, by))

    def _folded(self, query: Query, by: Sequence[str]) -> Iterator[tuple[float, tuple[str, ...], Totals]]:
        for logged in self._newest(query):
            call = logged.call
            yield call.started, tuple(dimension(call, name) for name in by), totals_of(call)

    def _kept(
        self, kind: str, period: str, query: Query, by: Sequence[str]
    ) -> Iterator[tuple[tuple[str, ...], Totals]]:
        for field, value in self._ask("HGETALL", f"{_PREFIX}{kind}:{period}").items():
            name, _, cell = field.decode().partition(" ")
            values = dict(zip(_DIMENSIONS[kind], _decode_cell(cell), strict=True))
            if query.match.items() <= values.items():
                totals = Totals()
                setattr(totals, name, float(value) if name == "cost_usd" else int(float(value)))
                yield tuple(values[one] for one in by), totals

    def session(self, name: str | None) -> str | None:
        """See `Ledger.session`."""
        if name is None:
            latest = next(self._all(None), None)
            if latest is None:
                return None
            name = dimension(latest.call, "session")
        return name if self._ask("EXISTS", f"{_PREFIX}session:{name}") else None

    def reset_session(self, name: str) -> None:
        """See `Ledger.reset_session`."""
        self._run(_RESET, _PREFIX, name, _SESSION_SECONDS)

    def prune(self, before: float) -> int:
        """See `Ledger.prune`; each call is to be in the checkpoint of the instance that added it."""
        uncounted = {
            int(position)
            for instance in self._ask("SMEMBERS", f"{_PREFIX}instances")
            for position in self._ask("ZRANGE", f"{_PREFIX}log:".encode() + instance, 0, -1)
        }
        pruned, begin, end = 0, "-", f"({max(before * 1e6, 1):.0f}-0"
        while entries := self._ask("XRANGE", f"{_PREFIX}calls", begin, end, "COUNT", _AT_ONCE):
            old = [Logged(_position(position), _decode_call(fields[b"call"])) for position, fields in entries]
            pruned += self._forget([logged for logged in old if logged.position not in uncounted])
            begin = f"({entries[-1][0].decode()}"
        return pruned

    def _forget(self, old: Sequence[Logged]) -> int:
        if not old:
            return 0
        with self._errors(), self._client.pipeline(transaction=True) as transaction:
            transaction.xdel(f"{_PREFIX}calls", *(f"{logged.position}-0" for logged in old))
            transaction.hdel(f"{_PREFIX}ids", *(logged.call.id for logged in old))
            transaction.zrem(f"{_PREFIX}started", *(logged.position for logged in old))
            for logged in old:
                session = dimension(logged.call, "session")
                transaction.zrem(f"{_PREFIX}session:{session}", logged.position)
            return int(transaction.execute()[0])

    def close(self) -> None:
        """See `Ledger.close`."""
        self._client.close()


def masked(url: str) -> str:
    """Return a URL for messages: without its password, and without options, one of which may be one."""
    return re.sub(r"://([^:@]*):.*@", r"://\1:***@", url.partition("?")[0])


def start_of(moment: float, period: Period) -> float:
    """Return the start of the UTC hour, day or month that a time is in."""
    if period == "hour":
        return moment // 3600 * 3600
    if period == "day":
        return moment // 86400 * 86400
    day = datetime.fromtimestamp(min(moment, _LAST) // 86400 * 86400, UTC)
    return day.replace(day=1).timestamp()


def _position(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


def _expiry(charge: Charge) -> int:
    return int(min(charge.expires, _LAST))


def _adding(
    call: Call, charges: Iterable[Charge]
) -> tuple[str, str, float, str, list[tuple[str, str, int]], list[float]]:
    """Return what the script takes of a call."""
    cells = []
    for kind, names in _DIMENSIONS.items():
        cell = _encode([dimension(call, name) for name in names]).decode()
        for period, kept in _KEPT.items():
            start = start_of(min(call.started, _LAST - _KEPT["month"]), period)
            cells.append((f"{kind}:{period}:{start:.0f}", cell, int(end_of(start, period)) + kept))
    cells += [(f"account:{charge.account}", "", _expiry(charge)) for charge in charges]
    sums = totals_of(call)
    came_to = [float(getattr(sums, name)) for name in _SUMS]
    return call.id, _encode(call).decode(), call.started, dimension(call, "session"), cells, came_to


def _kind(names: set[str]) -> str | None:
    """Return the kind of the totals that are kept by these dimensions; None when none are."""
    return next((kind for kind, dimensions in _DIMENSIONS.items() if names <= set(dimensions)), None)


def _fits(call: Call, query: Query) -> bool:
    """Tell whether a call is asked for, but for the session, of which the position decides."""
    return (
        (query.since is None or call.started >= query.since)
        and (query.until is None or call.started < query.until)
        and all(dimension(call, name) == value for name, value in query.match.items())
    )


def _pieces(
    since: float, until: float | None, longest: Period, now: float
) -> Iterator[tuple[float, float, Period | None]]:
    """Cut a time into periods that totals are kept of, as long as can be, and the times between them."""
    end = math.inf if until is None else until
    # Before this nothing is kept of periods of that length, nor of shorter ones.
    oldest = end_of(start_of(now - _KEPT[longest] + _CLOCKS, longest), longest)
    if since < oldest:
        yield since, min(end, oldest), None
    # Only clocks that are wrong have calls start after this month.
    horizon = end_of(start_of(now, "month"), "month")
    yield from _periods(max(since, oldest), min(end, horizon), longest, now)
    if end > horizon:
        yield max(since, horizon), end, None


def _periods(
    begin: float, until: float, longest: Period, now: float
) -> Iterator[tuple[float, float, Period | None]]:
    lengths = list(_KEPT)[list(_KEPT).index(longest) :]
    while begin < until:
        for period in lengths:
            end = end_of(begin, period)
            if start_of(begin, period) == begin and end <= until:
                alive = end + _KEPT[period] > now + _CLOCKS
                yield begin, end, period if alive else None
                break
        else:
            end = min(until, end_of(start_of(begin, "hour"), "hour"))
            yield begin, end, None
        begin = end
