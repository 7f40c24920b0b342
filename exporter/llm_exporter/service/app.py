"""The service over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from ..client.spool import Spool
from ..config.model import Config
from ..errors import ConfigError
from ..metrics.http import AsgiMetrics
from . import reports
from .alerts import alerts_in
from .intake import Intake
from .leases import grant_leases, parse_lease_request
from .ledger.base import Ledger, LedgerError, Logged, Period
from .live import Live
from .openapi import description
from .reloading import Reloading
from .requests import MAX_BODY, QUERY, Parameters, Problem, calls_in, decoded

_PAGE: Final = files(__package__) / "page"
_DEFAULT_CALLS: Final = 500
_MOST_CALLS: Final = 10_000
_LAST_POSITION: Final = 2**62
_SCOPES: Final = ("project", "agent", "session", "model", "phase")
_PERIODS: Final = ("day", "hour", "month")
_SWEEP_SECONDS: Final = 5.0
_SWEPT_AT_ONCE: Final = 1000


def make_app(
    config: Config,
    ledger: Ledger,
    spools: Sequence[Path] = (),
    file: Path | None = None,
    load: Callable[[], Config] = Config,
) -> Starlette:
    """Return the service as an ASGI application; its lifespan closes the intake and the ledger.

    Args:
        config: of prices, labels and series.
        ledger: where calls are kept.
        spools: where calls to this service wait on this machine, of processes that have ended.
        file: the configuration, followed when it changes.
        load: returns what is in it now.

    Raises:
        LedgerError: when the ledger cannot be read.
    """
    intake = Intake(config, ledger)
    reloading = Reloading(intake, file, load)
    service = _Service(intake, ledger, reloading if file else None)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.live = Live()
        intake.listen(service.live.calls)
        intake.listen(lambda _: service.live.budgets(intake.accounts.shown()))
        intake.listen_to_events(service.live.event)
        sweeping = asyncio.create_task(_sweep(intake, spools))
        async with reloading.watching():
            yield
        sweeping.cancel()
        service.live.close()
        await asyncio.to_thread(intake.close)
        ledger.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/", _file("index.html")),
            Route("/page.css", _file("page.css")),
            Route("/page.js", _file("page.js")),
            Route("/-/healthy", service.healthy),
            Route("/-/ready", service.ready),
            Route("/-/reload", service.reload, methods=["POST"]),
            Route("/api/v1/calls", service.calls, methods=["GET", "POST"]),
            Route("/api/v1/cost", service.cost),
            Route("/api/v1/usage", service.usage),
            Route("/api/v1/report", service.report),
            Route("/api/v1/budgets", service.budgets),
            Route("/api/v1/budgets/leases", service.post_leases, methods=["POST"]),
            Route("/api/v1/events", service.events),
            Route("/api/v1/alerts", service.post_alerts, methods=["POST"]),
            Route("/api/v1/sessions/{id:path}/reset", service.reset_session, methods=["POST"]),
            Route("/api/v1/openapi.json", service.openapi),
            Route("/metrics", AsgiMetrics(lambda: intake.metrics), methods=["GET"]),
        ],
        exception_handlers={
            Problem: cast("Any", _problem),
            HTTPException: cast("Any", _http_problem),
            LedgerError: cast("Any", _unavailable),
        },
    )


async def _sweep(intake: Intake, spools: Sequence[Path]) -> None:
    """Take in what processes of this machine have left behind; what fails is tried again."""
    while True:
        for directory in spools:
            with suppress(LedgerError, OSError):
                await asyncio.to_thread(_take_in, intake, Spool(directory))
        await asyncio.sleep(_SWEEP_SECONDS)


def _take_in(intake: Intake, spool: Spool) -> None:
    for calls in spool.waiting(_SWEPT_AT_ONCE):
        intake.take(calls).result()


class _Service:
    """The handlers of requests."""

    live: Live

    def __init__(self, intake: Intake, ledger: Ledger, reloading: Reloading | None) -> None:
        self._intake = intake
        self._reloading = reloading
        self._ledger = ledger

    async def openapi(self, request: Request) -> Response:
        """Describe the API."""
        return _json(description())

    async def healthy(self, request: Request) -> Response:
        """Say that the process runs."""
        return Response("healthy\n", media_type="text/plain")

    async def ready(self, request: Request) -> Response:
        """Say that the ledger answers."""
        await asyncio.to_thread(self._ledger.session, None)
        return Response("ready\n", media_type="text/plain")

    async def reload(self, request: Request) -> Response:
        """Follow the configuration file as it is now."""
        if self._reloading is None:
            raise Problem(409, "the service was started with no configuration file")
        try:
            await asyncio.to_thread(self._reloading.reload)
        except ConfigError as error:
            raise Problem(422, str(error)) from None
        return Response("reloaded\n", media_type="text/plain")

    async def calls(self, request: Request) -> Response:
        """Take calls in, or return some."""
        return await (self._post_calls(request) if request.method == "POST" else self._get_calls(request))

    async def _post_calls(self, request: Request) -> Response:
        """Take calls in; they are acknowledged when they are safe in the ledger."""
        calls = calls_in(await _body(request), request.headers.get("content-encoding", ""))
        receipt = await asyncio.wrap_future(self._intake.take(calls))
        return _json(receipt._asdict())

    async def _get_calls(self, request: Request) -> Response:
        """Return calls, the newest first, a page of them as JSON or all of them as CSV."""
        asked = Parameters(request.query_params, *QUERY, "limit", "before", "format")
        kind = asked.one_of("format", "json", "csv")
        limit = asked.integer("limit", _DEFAULT_CALLS, _MOST_CALLS) or _DEFAULT_CALLS
        before = asked.integer("before", None, _LAST_POSITION)
        calls = await asyncio.to_thread(self._ledger.calls, asked.query(), limit=limit, before=before)
        if kind == "csv":
            return Response(
                "".join(reports.csv_lines(map(reports.as_json, calls))),
                media_type="text/csv; charset=utf-8; header=present",
                headers={"content-disposition": 'attachment; filename="llm-calls.csv"'},
            )
        return _json(_page(calls, limit))

    async def cost(self, request: Request) -> Response:
        """Return what calls cost."""
        asked = Parameters(request.query_params, *QUERY, "by")
        return _json(await asyncio.to_thread(reports.cost, self._ledger, asked.query(), asked.names("by")))

    async def usage(self, request: Request) -> Response:
        """Return what calls came to by hour, day or month."""
        asked = Parameters(request.query_params, "scope", "id", "period", "since", "until")
        scope = asked.one_of("scope", *_SCOPES) if "scope" in request.query_params else ""
        name = asked.text("id")
        if bool(scope) != bool(name):
            raise Problem(400, "scope and id go together: scope=agent&id=planner")
        period = cast("Period", asked.one_of("period", *_PERIODS))
        query = asked.query(match={scope: name} if scope else {})
        periods = await asyncio.to_thread(reports.usage, self._ledger, query, period)
        return _json({"scope": scope or None, "id": name or None, "period": period, "periods": periods})

    async def report(self, request: Request) -> Response:
        """Return what calls came to by several dimensions together, and by period."""
        asked = Parameters(request.query_params, *QUERY, "by", "period")
        period = (
            cast("Period", asked.one_of("period", *_PERIODS)) if "period" in request.query_params else None
        )
        query, by = asked.query(), asked.names("by")
        return _json({"rows": await asyncio.to_thread(reports.rows, self._ledger, query, by, period)})

    async def budgets(self, request: Request) -> Response:
        """Return how the budgets stand."""
        accounts = self._intake.accounts
        await asyncio.to_thread(accounts.refresh)
        return _json({"budgets": accounts.shown()})

    async def post_leases(self, request: Request) -> Response:
        """Grant a process what it may spend of shared budgets."""
        body = decoded(await _body(request), request.headers.get("content-encoding", ""))
        wanted = parse_lease_request(body)
        return _json(await asyncio.to_thread(grant_leases, wanted, self._intake.accounts, self._ledger))

    async def reset_session(self, request: Request) -> Response:
        """Let a session begin anew."""
        session = request.path_params["id"]
        if await asyncio.to_thread(self._ledger.session, session) is None:
            raise Problem(404, f"no call of session {session!r} is known")
        await asyncio.to_thread(self._ledger.reset_session, session)
        await asyncio.to_thread(self._intake.accounts.forget, "session", session)
        return Response(status_code=204)

    async def post_alerts(self, request: Request) -> Response:
        """Tell the live page of the alerts that Alertmanager sends to a webhook."""
        for alert in alerts_in(await _body(request)):
            self.live.alert(alert)
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """Tell what happens from now on."""
        return StreamingResponse(
            self.live.listen(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )


def _page(calls: list[Logged], limit: int) -> dict[str, Any]:
    following = calls[-1].position if len(calls) == limit else None
    return {"calls": [reports.as_json(logged) for logged in calls], "next": following}


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise Problem(413, f"more than {MAX_BODY} bytes: send fewer calls at a time")
    except ClientDisconnect:
        raise Problem(400, "the request broke off") from None
    return bytes(body)


def _file(name: str) -> Callable[[Request], Response]:
    def send(_: Request) -> Response:
        # The page needs nothing from elsewhere, and shows text that does come from elsewhere.
        return FileResponse(
            str(_PAGE / name), headers={"content-security-policy": "default-src 'self'; img-src data:"}
        )

    return send


def _json(value: object, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(value), status, media_type=media_type)


def _problem(_: Request, problem: Problem) -> Response:
    body = {"status": problem.status, "detail": problem.detail}
    return _json(body, problem.status, "application/problem+json")


def _http_problem(request: Request, error: HTTPException) -> Response:
    response = _problem(request, Problem(error.status_code, error.detail))
    response.headers.update(error.headers or {})
    return response


def _unavailable(request: Request, error: LedgerError) -> Response:
    return _problem(request, Problem(503, f"the ledger cannot be used: {error}"))
