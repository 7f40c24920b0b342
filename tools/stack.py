"""Start and stop Prometheus, Alertmanager and Grafana as child processes, with the files that we ship.

    with Prometheus.start(config=config, storage=directory) as prometheus:
        prometheus.query("sum(llm_cost_usd_total)")

A server is ready when `start` returns. Leaving the block stops it with all its child processes. Each server
runs in its own session: Ctrl-C in the terminal reaches this process only, which then stops the servers. If
this process is killed, a guardian kills them.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self, cast

from llm_exporter.bundle.files import bundle
from llm_exporter.bundle.writing import Target, write

from .binaries import BinaryUnavailable, environment, find
from .guardian import guard, release

START_TIMEOUT: Final = 60.0
STOP_TIMEOUT: Final = 10.0
LOG_LINES: Final = 15
"""How many lines of a log an error message shows."""


class ServerFailed(RuntimeError):  # noqa: N818  # reads as what happened, like BudgetExceeded
    """A server exited, did not become ready or rejected a request. The message has its output."""


class Sample(NamedTuple):
    """One series of an instant query's result."""

    labels: dict[str, str]
    value: float


def free_port(preferred: int = 0) -> int:
    """Return the preferred port of 127.0.0.1 if it is free, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return cast(int, probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


class Server:
    """A running server, which the end of the `with` block stops."""

    name: ClassVar[str]
    default_port: ClassVar[int]
    ready_path: ClassVar[str]

    def __init__(
        self,
        program: Path,
        *arguments: str,
        port: int,
        storage: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.url: str = f"http://127.0.0.1:{port}"
        self.log_file: Path = storage / f"{self.name.lower().replace(' ', '-')}.log"
        with self.log_file.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # find() returned this program
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=program.parents[1],  # see find()
                env={**os.environ, **environment(program), **(env or {})},
                start_new_session=True,
            )
        guard(self.pid)
        self._stopped = False
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The ID of the process and of its process group."""
        return self._process.pid

    def stop(self) -> None:
        """Stop the server and its child processes. Stopping it twice is harmless."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self._signal(signal.SIGTERM)
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()
            release(self.pid)

    def get(self, path: str, **parameters: str) -> Any:
        """Return the JSON at a path of the server; raise ServerFailed for an error response."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            with _open(f"{self.url}{path}{query}") as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                body = error.read(1000).decode(errors="replace")
            raise ServerFailed(f"{self.name} responded with {error.code} to {path}{query}: {body}") from None

    def _signal(self, number: signal.Signals) -> None:
        # Signal the group: Grafana runs plugins as child processes.
        with contextlib.suppress(
            ProcessLookupError, PermissionError
        ):  # no process is left; on macOS, only zombies
            os.killpg(self.pid, number)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            if (status := self._process.poll()) is not None:
                raise ServerFailed(f"{self.name} exited with status {status}:\n{self._log_tail()}")
            try:
                _open(f"{self.url}{self.ready_path}").close()
            except urllib.error.HTTPError as error:
                error.close()  # listening, but not ready
            except OSError:
                pass  # not listening
            else:
                return
            time.sleep(0.05)
        raise ServerFailed(f"{self.name} was not ready after {START_TIMEOUT:.0f} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])


def _open(url: str) -> Any:
    # Ignore HTTP_PROXY: a proxy cannot reach our loopback address.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10)


class Service(Server):
    """An `llm-exporter serve` with a ledger and a spool of its own."""

    name = "live page"
    default_port = 9848
    ready_path = "/-/ready"

    @classmethod
    def start(cls, *, storage: Path, port: int = 0) -> Self:
        """Start with an empty ledger, without a configuration.

        Args:
            storage: the directory for its ledger, its spool and its log.
            port: the port of 127.0.0.1 to listen on; 0 picks a free one.

        Raises:
            ServerFailed: when it does not become ready.
        """
        port = port or free_port()
        storage = storage.absolute()
        arguments = ["-m", "llm_exporter", "serve", f"--port={port}", f"--store={storage / 'ledger.db'}"]
        env = {"LLM_EXPORTER_CONFIG": "", "LLM_EXPORTER_SPOOL": str(storage / "spool")}
        return cls(Path(sys.executable), *arguments, port=port, storage=storage, env=env)


class Prometheus(Server):
    """A Prometheus."""

    name = "Prometheus"
    data: ClassVar = "prometheus"
    """The name of its data directory, inside its storage directory."""
    default_port = 9090
    ready_path = "/-/ready"

    @classmethod
    def start(cls, *, config: Path, storage: Path, port: int = 0, features: Sequence[str] = ()) -> Self:
        """Start with a config file.

        Args:
            config: the config file.
            storage: the directory for its data and its log.
            port: the port of 127.0.0.1 to listen on; 0 picks a free one.
            features: feature flags, besides those that are always on.

        Raises:
            BinaryUnavailable: when the program is not available.
            ServerFailed: when it does not become ready.
        """
        program, port = find("prometheus"), port or free_port()
        arguments = [
            f"--config.file={config.absolute()}",
            f"--storage.tsdb.path={storage.absolute() / cls.data}",
            "--storage.tsdb.retention.time=400d",  # as in docker-compose.yml
            f"--enable-feature={','.join(('exemplar-storage', *features))}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        # Debian's build reads the UI from files at a fixed path. In the cache, they are elsewhere.
        assets = program.parents[1] / "share/prometheus/web"
        if assets.is_dir() and program.parent != Path("/usr/bin"):
            arguments.append(f"--web.local-assets={assets}")
        return cls(program, *arguments, port=port, storage=storage)

    def query(self, expr: str, at: float | None = None) -> list[Sample]:
        """Return the result of an instant query that yields a vector or a scalar.

        Args:
            expr: the query.
            at: the moment, in seconds since the Unix epoch; now if None.

        Raises:
            ServerFailed: when Prometheus rejects the query.
        """
        moment = {} if at is None else {"time": f"{at:.3f}"}
        data = self.get("/api/v1/query", query=expr, **moment)["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]


class Alertmanager(Server):
    """An Alertmanager without clustering."""

    name = "Alertmanager"
    default_port = 9093
    ready_path = "/-/ready"

    @classmethod
    def start(cls, *, config: Path, storage: Path, port: int = 0) -> Self:
        """Start with a config file.

        Args:
            config: the config file.
            storage: the directory for its data and its log.
            port: the port of 127.0.0.1 to listen on; 0 picks a free one.

        Raises:
            BinaryUnavailable: when the program is not available.
            ServerFailed: when it does not become ready.
        """
        program, port = find("alertmanager"), port or free_port()
        arguments = [
            f"--config.file={config.absolute()}",
            f"--storage.path={storage.absolute() / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        return cls(program, *arguments, port=port, storage=storage)


class Grafana(Server):
    """A Grafana with our data source and dashboards, readable by all users of this machine."""

    name = "Grafana"
    default_port = 3000
    ready_path = "/api/health"

    @classmethod
    def start(cls, *, prometheus: str, storage: Path, port: int = 0, dashboards: Path | None = None) -> Self:
        """Start with our provisioning.

        Args:
            prometheus: the URL of the Prometheus to read from.
            storage: the directory for its data and its log.
            port: the port of 127.0.0.1 to listen on; 0 picks a free one.
            dashboards: the directory of the dashboards; by default those without declared labels.

        Raises:
            BinaryUnavailable: when the program is not available.
            ServerFailed: when it does not become ready.
        """
        program, port = find("grafana").resolve(), port or free_port()
        server = ["server"] if program.name == "grafana" else []
        home = _grafana_home(program)
        env = grafana_environment(
            prometheus=prometheus, storage=storage.absolute() / "grafana", port=port, dashboards=dashboards
        )
        return cls(program, *server, f"--homepath={home}", port=port, storage=storage, env=env)

    @property
    def overview(self) -> str:
        """The URL of the cost dashboard."""
        return f"{self.url}/d/llm-cost?from=now-15m&to=now&refresh=5s"


def _grafana_home(program: Path) -> Path:
    """Return the home directory of a Grafana installation, which differs between packages."""
    candidates = (
        program.parents[1],  # release archive, container image
        program.parents[1] / "share/grafana",  # Homebrew, packages below /usr
        Path("/usr/share/grafana"),
    )
    for home in candidates:
        if (home / "conf/defaults.ini").is_file():
            return home
    raise BinaryUnavailable(f"found {program}, but not its conf/defaults.ini")


def grafana_environment(
    *, prometheus: str, storage: Path, port: int, dashboards: Path | None = None
) -> dict[str, str]:
    """Return the settings of a local Grafana: anonymous read access, and no requests to the internet."""
    grafana = bundle("grafana")
    dashboards = dashboards or grafana / "dashboards"
    return {
        "LLM_EXPORTER_PROMETHEUS_URL": prometheus,
        "LLM_EXPORTER_DASHBOARDS": str(dashboards.absolute()),
        "GF_PATHS_PROVISIONING": str(grafana / "provisioning"),
        "GF_PATHS_DATA": str(storage / "data"),
        "GF_PATHS_LOGS": str(storage / "log"),
        "GF_PATHS_PLUGINS": str(storage / "plugins"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_SECURITY_ADMIN_PASSWORD": secrets.token_urlsafe(24),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(dashboards.absolute() / "llm-cost.json"),
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    }


def prometheus_config(
    into: Path, *, targets: Sequence[str], alertmanagers: Sequence[str] = (), rules: Path | None = None
) -> Path:
    """Copy our Prometheus files into a directory and set the addresses in them.

    Args:
        into: the directory.
        targets: the addresses to scrape.
        alertmanagers: the addresses to send alerts to.
        rules: the directory of the rules; by default those without declared labels.

    Returns:
        The config file.
    """
    shutil.copytree(bundle("prometheus"), into, dirs_exist_ok=True)
    if rules:
        shutil.copytree(rules, into / "rules", dirs_exist_ok=True)
    for directory, addresses in (("targets", targets), ("alertmanagers", alertmanagers)):
        shutil.rmtree(into / directory)
        (into / directory).mkdir()
        # JSON is valid YAML. Without addresses, no file is needed.
        if addresses:
            listing = json.dumps([{"targets": list(addresses)}])
            (into / directory / "demo.yml").write_text(listing, encoding="utf-8")
    return into / "prometheus.yml"


def alertmanager_config(into: Path, *, exporter: str) -> Path:
    """Copy our Alertmanager config into a directory, set the exporter that receives alerts; return it."""
    into.mkdir(parents=True, exist_ok=True)
    shipped = (bundle("prometheus") / "alertmanager.yml").read_text(encoding="utf-8")
    config = into / "alertmanager.yml"
    config.write_text(shipped.replace("//127.0.0.1:9847/", f"//{exporter}/"), encoding="utf-8")
    return config


@dataclass
class Stack:
    """The running servers in start order, and the reasons why others are missing."""

    servers: list[Server] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@contextlib.contextmanager
def start_stack(
    *,
    exporter: str,
    directory: Path,
    others: Sequence[str] = (),
    live_page: str = "",
    labels: tuple[str, ...] = (),
) -> Iterator[Stack]:
    """Start all available servers, and stop them at the end of the block.

    Each server listens on its default port, or on a free one if that is in use. A server that is not
    available or does not become ready is listed in `missing`; the others run without it.

    Args:
        exporter: the `host:port` of the exporter to scrape.
        directory: a directory for configs, data and logs.
        others: further addresses to scrape.
        live_page: the `host:port` of the service that shows alerts; by default the exporter.
        labels: the declared labels for rules and dashboards.
    """
    stack = Stack()
    files = directory / "bundle"
    write(files, Target(labels=labels))
    with contextlib.ExitStack() as running:

        def run(kind: type[Server], **arguments: Any) -> Server | None:
            try:
                server = cast(Any, kind).start(
                    storage=directory, port=free_port(kind.default_port), **arguments
                )
            except (BinaryUnavailable, ServerFailed) as error:
                stack.missing.append(str(error))
                return None
            stack.servers.append(running.enter_context(server))
            return cast(Server, server)

        alertmanager = run(
            Alertmanager, config=alertmanager_config(directory / "alerting", exporter=live_page or exporter)
        )
        alertmanagers = [alertmanager.url.removeprefix("http://")] if alertmanager else []
        config = prometheus_config(
            directory / "config",
            targets=[exporter, *others],
            alertmanagers=alertmanagers,
            rules=files / "prometheus" / "rules",
        )
        if prometheus := run(Prometheus, config=config):
            run(Grafana, prometheus=prometheus.url, dashboards=files / "grafana" / "dashboards")
        yield stack
