"""The HTTP application of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ..bounds import clean_call
from ..call import Call
from ..client.spool import Spool
from ..config.model import Config, Right
from ..errors import ConfigError
from ..metrics.http import AsgiMetrics
from ..metrics.specs import AUTHENTICATION_FAILURES, DROPPED, REFUSED
from ..web_config import WebConfig
from . import reports
from .access.door import Access, Door, Requires, holder_of
from .access.login import Login
from .alerts import alerts_in
from .bodies import MAX_BODY, Bodies, calls_in
from .intake import Intake
from .leases import grant_leases, parse_lease_request
from .ledger.base import Ledger, LedgerError, Query
from .live import EventStream, Live
from .openapi import description
from .readiness import Readiness
from .reading import Reading
from .reloading import Reloading
from .repeating import repeat
from .requests import FILTERS, Parameters, Problem
from .responses import JSON, encoded, json_response, problem_response
from .schemas import BudgetList, CallPage, Receipt, Scope, UsageReport
from .survival import Survival

T = TypeVar("T")

_PAGE: Final = files(__package__) / "page"
PAGE_FILES: Final = (
    "page.css",
    *(
        f"{module}.js"
        for module in (
            *("alerts", "api", "breakdowns", "budgets", "calls", "chart", "controls", "dom", "format"),
            *("loading", "page", "selection", "series", "sessions", "sign_in", "state", "status", "totals"),
        )
    ),
    "vendor/uPlot.iife.min.js",
    "vendor/uPlot.min.css",
)
"""The files that the page loads."""
_DEFAULT_CALLS: Final = 500
_MAX_CALLS: Final = 10_000
_MAX_TOP: Final = 1000
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
    *,
    web: WebConfig | None = None,
    external_url: str = "",
    listens_on: str = "127.0.0.1",
) -> Starlette:
    """Return the service as an ASGI application. Its lifespan closes the intake and the ledger.

    A server that waits for open responses before it ends the lifespan calls `state.live.close()` first.

    Args:
        config: The initial configuration.
        ledger: Stores the calls.
        spools: Directories where processes on this machine may leave calls for this service.
        file: The configuration file, which is reloaded when it changes.
        load: Returns the current configuration.
        web: The users of the web configuration file, if there are any.
        external_url: The URL that users reach the service at; empty if it is that of the service itself.
        listens_on: The address that the service listens on.

    Raises:
        LedgerError: The ledger cannot be read.
    """
    live = Live(lambda: intake.metrics)
    intake = Intake(config, ledger, [live])
    access = Access(
        config.auth,
        web,
        external_url,
        listens_on,
        lambda: intake.metrics.count_error("auth"),
        count_failure=lambda kind: intake.metrics.count(AUTHENTICATION_FAILURES, 1, kind),
    )

    def reconfigure(config: Config) -> None:
        access.refuse_to_open(config.auth)
        intake.reconfigure(config)
        access.configure(config.auth)

    def route(path: str, handler: Callable[..., Any], **rights: Right | None) -> Route:
        """Return a route with the right that each method requires; None if anyone may use it."""
        return Route(path, handler, methods=[*rights], middleware=[Middleware(Requires, access, rights)])

    reloading = Reloading(intake.metrics, reconfigure, file, load)
    service = _Service(intake, ledger, live, reloading if file else None)
    login = Login(access, service.bodies)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        unreadable = partial(_count_unreadable, intake)
        sweep = partial(_sweep, intake, [Spool(directory, unreadable) for directory in spools])
        sweeping = asyncio.create_task(repeat("sweep", sweep, intake.metrics))
        async with reloading.watching():
            yield
        sweeping.cancel()
        live.close()
        service.close()
        await asyncio.to_thread(intake.close)
        ledger.close()

    app = Starlette(
        lifespan=lifespan,
        middleware=[Middleware(Survival, intake.metrics), Middleware(Door, access)],
        routes=[
            # The files of the page hold no data, and an orchestrator has no token.
            route("/", _file("index.html"), GET=None),
            *(route(f"/{name}", _file(name), GET=None) for name in PAGE_FILES),
            route("/-/healthy", service.healthy, GET=None),
            route("/-/ready", service.ready, GET=None),
            route("/-/reload", service.reload, POST="admin"),
            route("/-/login", login.sign_in, POST=None),
            route("/-/logout", login.sign_out, POST=None),
            route("/-/session", login.session, GET="read"),
            route("/api/v1/calls", service.calls, GET="read", POST="ingest"),
            route("/api/v1/cost", service.cost, GET="read"),
            route("/api/v1/usage", service.usage, GET="read"),
            route("/api/v1/report", service.report, GET="read"),
            route("/api/v1/budgets", service.budgets, GET="read"),
            route("/api/v1/budgets/leases", service.post_leases, POST="ingest"),
            route("/api/v1/events", service.events, GET="read"),
            route("/api/v1/alerts", service.post_alerts, POST="admin"),
            route("/api/v1/sessions/{id:path}/reset", service.reset_session, POST="admin"),
            route("/api/v1/openapi.json", service.openapi, GET="read"),
            route("/metrics", AsgiMetrics(lambda: intake.metrics), GET="read"),
        ],
        exception_handlers={
            Problem: cast("Any", _problem),
            HTTPException: cast("Any", _http_problem),
            LedgerError: cast("Any", _unavailable),
        },
    )
    app.state.live = live
    return app


async def _sweep(intake: Intake, spools: Sequence[Spool]) -> None:
    """Ingest the calls that processes left in spools. Retry what fails."""
    for spool in spools:
        with suppress(LedgerError):
            await asyncio.to_thread(_empty, spool, intake)
    await asyncio.sleep(_SWEEP_SECONDS)


def _count_unreadable(intake: Intake, number: int) -> None:
    intake.metrics.count(DROPPED, number, "unreadable")


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
        self.bodies = Bodies(partial(intake.metrics.count, REFUSED, 1))
        self._reading = Reading(_REPORTS)
        self._leasing = ThreadPoolExecutor(_LEASES, thread_name_prefix="llm-exporter-leases")

    def close(self) -> None:
        """Begin no more reports and leases."""
        self.bodies.close()
        self._reading.close()
        self._leasing.shutdown(wait=False, cancel_futures=True)

    async def _read(self, request: Request, function: Callable[..., T], *arguments: Any) -> T:
        with self._counting_errors():
            return await self._reading.run(request, function, *arguments)

    @contextmanager
    def _counting_errors(self) -> Iterator[None]:
        try:
            yield
        except LedgerError:
            self._intake.metrics.count_error("ledger")
            raise

    async def _report(
        self, request: Request, report: Callable[..., msgspec.Struct | dict[str, Any]], *args: Any
    ) -> Response:
        return Response(await self._read(request, encoded, report, *args), media_type=JSON)

    async def openapi(self, request: Request) -> Response:
        """Return the OpenAPI description."""
        return json_response(description())

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
        labels = holder_of(request).labels
        async with self.bodies.decoded(request, partial(self._submit, labels), MAX_BODY) as submitted:
            try:
                receipt = await asyncio.wrap_future(submitted)
            except LedgerError:
                self._readiness.doubt()
                raise
        return json_response(receipt)

    def _submit(self, labels: Mapping[str, str], body: bytes) -> Future[Receipt]:
        """Submit the calls in a body, with the labels of whoever sends them."""
        calls = calls_in(body)
        if labels:
            for call in calls:
                call.labels.update(labels)
                clean_call(call)  # the configuration may have any text
        return self._intake.submit(calls)

    async def _get_calls(self, request: Request) -> Response:
        """List calls, newest first, as JSON or CSV."""
        known = (*FILTERS, "search", "failed", "limit", "before", "format")
        parameters = Parameters(request.query_params, *known)
        as_csv = parameters.choice("format", ("json", "csv")) == "csv"
        limit = parameters.integer("limit", _MAX_CALLS) or _DEFAULT_CALLS
        before = parameters.integer("before", _MAX_POSITION)
        query, wanted = parameters.query(), _wanted(parameters)
        if as_csv:
            return Response(
                await self._read(request, self._csv, query, wanted, limit, before),
                media_type="text/csv; charset=utf-8; header=present",
                headers={"content-disposition": 'attachment; filename="llm-calls.csv"'},
            )
        return await self._report(request, self._page, query, wanted, limit, before)

    def _page(
        self, query: Query, wanted: Callable[[Call], bool] | None, limit: int, before: int | None
    ) -> CallPage:
        if wanted is not None:
            return reports.search(self._ledger, query, wanted, limit=limit, before=before)
        return reports.call_page(self._ledger.calls(query, limit=limit, before=before), limit)

    def _csv(self, *page_of: Any) -> str:
        page = self._page(*page_of)
        return "".join(reports.csv_lines(map(msgspec.to_builtins, page.calls)))

    async def cost(self, request: Request) -> Response:
        """Report cost by dimension."""
        parameters = Parameters(request.query_params, *FILTERS, "by")
        query, by = parameters.query(), parameters.names("by")
        return await self._report(request, reports.cost, self._ledger, query, by)

    async def usage(self, request: Request) -> Response:
        """Report usage by hour, day or month."""
        parameters = Parameters(request.query_params, "scope", "id", "period", "since", "until")
        scope, name = parameters.choice("scope", _SCOPES), parameters.text("id")
        if bool(scope) != bool(name):
            raise Problem(400, "scope and id must be given together, for example scope=agent&id=planner")
        period = parameters.period() or "day"
        query = parameters.query(match={scope: name} if scope else {})

        def report() -> UsageReport:
            return UsageReport(scope, name or None, period, reports.usage(self._ledger, query, period))

        return await self._report(request, report)

    async def report(self, request: Request) -> Response:
        """Report totals by several dimensions and by period."""
        parameters = Parameters(request.query_params, *FILTERS, "by", "period", "top")
        query, by = parameters.query(), parameters.names("by")
        period, top = parameters.step(query), parameters.integer("top", _MAX_TOP)
        return await self._report(
            request, lambda: {"rows": reports.rows(self._ledger, query, by, period, top)}
        )

    async def budgets(self, request: Request) -> Response:
        """List budgets."""
        accounts = self._intake.accounts

        def report() -> BudgetList:
            accounts.refresh()
            return BudgetList(accounts.rows())

        return await self._report(request, report)

    async def post_leases(self, request: Request) -> Response:
        """Lease amounts of shared budgets to a process."""
        holder, accounts = holder_of(request), self._intake.accounts
        async with self.bodies.decoded(request, parse_lease_request) as wanted:
            with self._counting_errors():
                granted = await asyncio.get_running_loop().run_in_executor(
                    self._leasing, grant_leases, wanted, holder, accounts, self._ledger
                )
        return json_response(granted)

    async def reset_session(self, request: Request) -> Response:
        """Reset a session."""
        session = request.path_params["id"]
        if await self._read(request, self._ledger.session, session) is None:
            raise reports.no_calls(session)
        await self._read(request, self._ledger.reset_session, session)
        await self._read(request, self._intake.accounts.forget, "session", session)
        return Response(status_code=204)

    async def post_alerts(self, request: Request) -> Response:
        """Publish the alerts in an Alertmanager webhook."""
        async with self.bodies.decoded(request, alerts_in) as alerts:
            for alert in alerts:
                self._live.publish_alert(alert)
        return Response(status_code=204)

    async def events(self, request: Request) -> Response:
        """Stream server-sent events."""
        return EventStream(self._live.subscribe())


def _wanted(parameters: Parameters) -> Callable[[Call], bool] | None:
    """Return what a search looks for; None if the request is no search."""
    text, failed = parameters.search(), parameters.choice("failed", ("true", "false"))
    if not text and failed is None:
        return None
    with_error = failed == "true"

    def wanted(call: Call) -> bool:
        return (failed is None or (call.error is not None) == with_error) and reports.mentions(call, text)

    return wanted


def _file(name: str) -> Callable[[Request], Response]:
    return lambda _: FileResponse(str(_PAGE / name))


def _problem(_: Request, problem: Problem) -> Response:
    return problem_response(problem)


def _http_problem(_: Request, error: HTTPException) -> Response:
    return problem_response(Problem(error.status_code, error.detail, error.headers or {}))


def _unavailable(_: Request, error: LedgerError) -> Response:
    return problem_response(Problem(503, f"the ledger is unavailable: {error}"))
