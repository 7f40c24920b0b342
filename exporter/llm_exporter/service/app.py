"""The HTTP application of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

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
from .ledger.base import Ledger, LedgerError
from .live import Live
from .openapi import description
from .readiness import Readiness
from .reloading import Reloading
from .repeating import repeat
from .requests import FILTERS, MAX_BODY, Parameters, Problem, calls_in, decoded, too_large
from .schemas import BudgetList, ProblemDetails, Scope, UsageReport

T = TypeVar("T")

_PAGE: Final = files(__package__) / "page"
_DEFAULT_CALLS: Final = 500
_MAX_CALLS: Final = 10_000
_MAX_POSITION: Final = 2**62
_SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_REPORTS: Final = 3
_LEASES: Final = 4
"""Reports and leases at a time."""
_SWEEP_SECONDS: Final = 5.0
_SWEEP_CALLS: Final = 1000


def make_app(
    config: Config,
    ledger: Ledger,
    spools: Sequence[Path] = (),
    file: Path | None = None,
    load: Callable[[], Config] = Config,
) -> Starlette:
    """Return the service as an ASGI application. Its lifespan closes the intake and the ledger.

    Args:
        config: The initial configuration.
        ledger: Stores the calls.
        spools: Directories where processes on this machine may leave calls for this service.
        file: The configuration file, which is reloaded when it changes.
        load: Returns the current configuration.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    live = Live()
    intake = Intake(config, ledger, [live])
    reloading = Reloading(intake, file, load)
    service = _Service(intake, ledger, live, reloading if file else None)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(repeat("sweep", partial(_sweep, intake, spools), intake.metrics))
        async with reloading.watching():
            yield
        sweeping.cancel()
        live.close()
        service.close()
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
    """Ingest the calls that processes left in spools. Retry what fails."""
    for directory in spools:
        with suppress(LedgerError, OSError):
            await asyncio.to_thread(_empty, Spool(directory), intake)
    await asyncio.sleep(_SWEEP_SECONDS)


def _empty(spool: Spool, intake: Intake) -> None:
    for calls in spool.waiting(_SWEEP_CALLS):
        intake.submit(calls).result()


class _Service:
    """The request handlers."""

    def __init__(self, intake: Intake, ledger: Ledger, live: Live, reloading: Reloading | None) -> None:
        self._intake = intake
        self._ledger = ledger
        self._live = live
        self._reloading = reloading
        self._readiness = Readiness(ledger)
        # A slow report delays other reports, and nothing else.
        self._reading = ThreadPoolExecutor(_REPORTS, thread_name_prefix="llm-exporter-reports")
        self._leasing = ThreadPoolExecutor(_LEASES, thread_name_prefix="llm-exporter-leases")

    def close(self) -> None:
        """Begin no more reports and leases."""
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._leasing.shutdown(wait=False, cancel_futures=True)

    async def _in(self, threads: Executor, function: Callable[..., T], *args: Any, **options: Any) -> T:
        run = partial(function, *args, **options)
        return await asyncio.get_running_loop().run_in_executor(threads, run)

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI description."""
        return _json(description())

    async def healthy(self, request: Request) -> Response:
        """Report that the process runs."""
        return Response("healthy\n", media_type="text/plain")

    async def ready(self, request: Request) -> Response:
        """Report that the ledger is available."""
        await self._readiness.check()
        return Response("ready\n", media_type="text/plain")

    async def reload(self, request: Request) -> Response:
        """Reload the configuration file."""
        if self._reloading is None:
            raise Problem(409, "no configuration file to reload")
        try:
            await asyncio.to_thread(self._reloading.reload)
        except ConfigError as error:
            raise Problem(422, str(error)) from None
        return Response("reloaded\n", media_type="text/plain")

    async def calls(self, request: Request) -> Response:
        """Add calls, or list them."""
        return await (self._post_calls(request) if request.method == "POST" else self._get_calls(request))

    async def _post_calls(self, request: Request) -> Response:
        """Add calls. The response confirms that they are stored durably."""
        calls = calls_in(await _body(request), request.headers.get("content-encoding", ""))
        try:
            receipt = await asyncio.wrap_future(self._intake.submit(calls))
        except LedgerError:
            self._readiness.doubt()
            raise
        return _json(receipt)

    async def _get_calls(self, request: Request) -> Response:
        """List calls, newest first, as JSON or CSV."""
        parameters = Parameters(request.query_params, *FILTERS, "limit", "before", "format")
        as_csv = parameters.choice("format", ("json", "csv")) == "csv"
        limit = parameters.integer("limit", _MAX_CALLS) or _DEFAULT_CALLS
        before = parameters.integer("before", _MAX_POSITION)
        calls = await self._in(
            self._reading, self._ledger.calls, parameters.query(), limit=limit, before=before
        )
        page = reports.call_page(calls, limit)
        if as_csv:
            return Response(
                "".join(reports.csv_lines(msgspec.to_builtins(page.calls))),
                media_type="text/csv; charset=utf-8; header=present",
                headers={"content-disposition": 'attachment; filename="llm-calls.csv"'},
            )
        return _json(page)

    async def cost(self, request: Request) -> Response:
        """Report cost by dimension."""
        parameters = Parameters(request.query_params, *FILTERS, "by")
        query, by = parameters.query(), parameters.names("by")
        return _json(await self._in(self._reading, reports.cost, self._ledger, query, by))

    async def usage(self, request: Request) -> Response:
        """Report usage by hour, day or month."""
        parameters = Parameters(request.query_params, "scope", "id", "period", "since", "until")
        scope, name = parameters.choice("scope", _SCOPES), parameters.text("id")
        if bool(scope) != bool(name):
            raise Problem(400, "scope and id must be given together, for example scope=agent&id=planner")
        period = parameters.period() or "day"
        query = parameters.query(match={scope: name} if scope else {})
        periods = await self._in(self._reading, reports.usage, self._ledger, query, period)
        return _json(UsageReport(scope, name or None, period, periods))

    async def report(self, request: Request) -> Response:
        """Report totals by several dimensions and by period."""
        parameters = Parameters(request.query_params, *FILTERS, "by", "period")
        query, by, period = parameters.query(), parameters.names("by"), parameters.period()
        return _json({"rows": await self._in(self._reading, reports.rows, self._ledger, query, by, period)})

    async def budgets(self, request: Request) -> Response:
        """List budgets."""
        accounts = self._intake.accounts
        await self._in(self._reading, accounts.refresh)
        return _json(BudgetList(accounts.rows()))

    async def post_leases(self, request: Request) -> Response:
        """Lease amounts of shared budgets to a process."""
        body = decoded(await _body(request), request.headers.get("content-encoding", ""))
        wanted = parse_lease_request(body)
        return _json(await self._in(self._leasing, grant_leases, wanted, self._intake.accounts, self._ledger))

    async def reset_session(self, request: Request) -> Response:
        """Reset a session."""
        session = request.path_params["id"]
        if await self._in(self._reading, self._ledger.session, session) is None:
            raise reports.no_calls(session)
        await self._in(self._reading, self._ledger.reset_session, session)
        await self._in(self._reading, self._intake.accounts.forget, "session", session)
        return Response(status_code=204)

    async def post_alerts(self, request: Request) -> Response:
        """Publish the alerts in an Alertmanager webhook."""
        for alert in alerts_in(await _body(request)):
            self._live.publish_alert(alert)
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """Stream server-sent events."""
        return StreamingResponse(
            self._live.subscribe(), media_type="text/event-stream", headers={"cache-control": "no-store"}
        )


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise too_large()
    except ClientDisconnect:
        raise Problem(400, "the request body is incomplete") from None
    return bytes(body)


def _file(name: str) -> Callable[[Request], Response]:
    def send(_: Request) -> Response:
        # The page loads nothing from other hosts, and shows text from untrusted sources.
        return FileResponse(
            str(_PAGE / name), headers={"content-security-policy": "default-src 'self'; img-src data:"}
        )

    return send


def _json(value: object, status: int = 200, media_type: str = "application/json") -> Response:
    return Response(msgspec.json.encode(value), status, media_type=media_type)


def _problem(_: Request, problem: Problem) -> Response:
    body = ProblemDetails(problem.status, problem.detail)
    return _json(body, problem.status, "application/problem+json")


def _http_problem(request: Request, error: HTTPException) -> Response:
    response = _problem(request, Problem(error.status_code, error.detail))
    response.headers.update(error.headers or {})
    return response


def _unavailable(request: Request, error: LedgerError) -> Response:
    return _problem(request, Problem(503, f"the ledger is unavailable: {error}"))
