"""Real Prometheus, Alertmanager and Grafana as child processes, on the files we ship.

    with Prometheus.start(config=config, storage=directory) as prometheus:
        prometheus.query("sum(llm_cost_usd_total)")

A server that has started answers; leaving the block ends it and all that it started. Servers are in sessions
of their own, so a Ctrl-C in the terminal reaches this process only, which then ends them in order.
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
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self, cast

from llm_exporter.cli.bundle import bundle

from .binaries import BinaryUnavailable, environment, find

STARTS_WITHIN: Final = 60.0
STOPS_WITHIN: Final = 10.0
LOG_TAIL: Final = 15


class ServerFailed(RuntimeError):  # noqa: N818  # reads as what happened, like BudgetExceeded
    """A server ended, did not get ready or refused a request; the message has what it said."""


class Sample(NamedTuple):
    """One series of an instant query's answer."""

    labels: dict[str, str]
    value: float


def free_port(preferred: int = 0) -> int:
    """Return the preferred port of 127.0.0.1 if it is free, else one that is."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return cast(int, probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


class Server:
    """A server program that runs, and ends with the `with` block."""

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
        self.log_file: Path = storage / f"{self.name.lower()}.log"
        with self.log_file.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # a program that find() found
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=program.parents[1],  # see find()
                env={**os.environ, **environment(program), **(env or {})},
                start_new_session=True,
            )
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
        """The process id, which is also its process group's."""
        return self._process.pid

    def stop(self) -> None:
        """End the server and whatever it started; a second time does nothing."""
        if self._stopped:
            return
        self._stopped = True
        try:
            self._signal(signal.SIGTERM)
            self._process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def get(self, path: str, **parameters: str) -> Any:
        """Return the JSON at a path of the server; raises ServerFailed when it answers with an error."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        try:
            with _open(f"{self.url}{path}{query}") as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(1000).decode(errors="replace")
            raise ServerFailed(f"{self.name} answered {error.code} to {path}{query}: {said}") from None

    def _signal(self, number: signal.Signals) -> None:
        # The group, because Grafana runs its plugins as processes of their own.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # none left; macOS: only zombies left
            os.killpg(self.pid, number)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            if (status := self._process.poll()) is not None:
                raise ServerFailed(f"{self.name} ended with status {status}:\n{self._log_tail()}")
            try:
                _open(f"{self.url}{self.ready_path}").close()
            except urllib.error.HTTPError as error:
                error.close()  # up, and not ready yet
            except OSError:
                pass  # not listening yet
            else:
                return
            time.sleep(0.05)
        raise ServerFailed(f"{self.name} was not ready after {STARTS_WITHIN:.0f} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL:])


def _open(url: str) -> Any:
    # No proxy: what HTTP_PROXY names cannot reach our loopback.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10)


class Prometheus(Server):
    """A Prometheus with its data in a directory of its own."""

    name = "Prometheus"
    data: ClassVar = "prometheus"
    """The directory of its data, in that of the server."""
    default_port = 9090
    ready_path = "/-/ready"

    @classmethod
    def start(cls, *, config: Path, storage: Path, port: int = 0) -> Self:
        """Start on a config file; port 0 is any free one.

        Raises BinaryUnavailable, or ServerFailed when it does not come up.
        """
        program, port = find("prometheus"), port or free_port()
        arguments = [
            f"--config.file={config.absolute()}",
            f"--storage.tsdb.path={storage.absolute() / cls.data}",
            "--storage.tsdb.retention.time=400d",  # as in docker-compose.yml
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        # Debian's build reads the pages of its UI from files, which in our cache are not where it looks.
        pages = program.parents[1] / "share/prometheus/web"
        if pages.is_dir() and program.parent != Path("/usr/bin"):
            arguments.append(f"--web.local-assets={pages}")
        return cls(program, *arguments, port=port, storage=storage)

    def query(self, expr: str) -> list[Sample]:
        """Return the answer to an instant query that gives a vector or a scalar.

        Raises ServerFailed when Prometheus refuses the query.
        """
        data = self.get("/api/v1/query", query=expr)["data"]
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]


class Alertmanager(Server):
    """An Alertmanager on its own, in no cluster."""

    name = "Alertmanager"
    default_port = 9093
    ready_path = "/-/ready"

    @classmethod
    def start(cls, *, config: Path, storage: Path, port: int = 0) -> Self:
        """Start on a config file; port 0 is any free one.

        Raises BinaryUnavailable, or ServerFailed when it does not come up.
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
    """A Grafana with our data source and dashboards, that anyone on this machine may look at."""

    name = "Grafana"
    default_port = 3000
    ready_path = "/api/health"

    @classmethod
    def start(cls, *, prometheus: str, storage: Path, port: int = 0) -> Self:
        """Start on our provisioning, reading from the Prometheus at a URL; port 0 is any free one.

        Raises BinaryUnavailable, or ServerFailed when it does not come up.
        """
        program, port = find("grafana").resolve(), port or free_port()
        server = ["server"] if program.name == "grafana" else []
        home = _grafana_home(program)
        env = grafana_environment(prometheus=prometheus, storage=storage.absolute() / "grafana", port=port)
        return cls(program, *server, f"--homepath={home}", port=port, storage=storage, env=env)

    @property
    def overview(self) -> str:
        """Where our first dashboard is."""
        return f"{self.url}/d/llm-cost?from=now-15m&to=now&refresh=5s"


def _grafana_home(program: Path) -> Path:
    """Return the directory of Grafana's own files, which packages keep in different places."""
    candidates = (
        program.parents[1],  # an unpacked release, and the container image
        program.parents[1] / "share/grafana",  # Homebrew, and packages below /usr
        Path("/usr/share/grafana"),
    )
    for home in candidates:
        if (home / "conf/defaults.ini").is_file():
            return home
    raise BinaryUnavailable(f"{program} is there, but not the conf/defaults.ini that belongs to it")


def grafana_environment(*, prometheus: str, storage: Path, port: int) -> dict[str, str]:
    """Return the settings of a Grafana for one machine and one look: open to read, nothing sent outside."""
    grafana = bundle("grafana")
    return {
        "LLM_EXPORTER_PROMETHEUS_URL": prometheus,
        "LLM_EXPORTER_DASHBOARDS": str(grafana / "dashboards"),
        "GF_PATHS_PROVISIONING": str(grafana / "provisioning"),
        "GF_PATHS_DATA": str(storage / "data"),
        "GF_PATHS_LOGS": str(storage / "log"),
        "GF_PATHS_PLUGINS": str(storage / "plugins"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_SECURITY_ADMIN_PASSWORD": secrets.token_urlsafe(24),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(grafana / "dashboards" / "llm-cost.json"),
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
        "GF_NEWS_NEWS_FEED_ENABLED": "false",
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
    }


def prometheus_config(into: Path, *, targets: Sequence[str], alertmanagers: Sequence[str] = ()) -> Path:
    """Copy our Prometheus files into a directory, with these addresses to scrape and tell; return the config.

    Only the addresses differ from what we ship, in the files that are there to be changed.
    """
    shutil.copytree(bundle("prometheus"), into, dirs_exist_ok=True)
    for directory, addresses in (("targets", targets), ("alertmanagers", alertmanagers)):
        shutil.rmtree(into / directory)
        (into / directory).mkdir()
        # JSON is YAML, and no list of no addresses is needed.
        if addresses:
            listing = json.dumps([{"targets": list(addresses)}])
            (into / directory / "demo.yml").write_text(listing, encoding="utf-8")
    return into / "prometheus.yml"


def alertmanager_config(into: Path, *, exporter: str) -> Path:
    """Copy our Alertmanager config into a directory, to tell the live page of this exporter; return it."""
    into.mkdir(parents=True, exist_ok=True)
    shipped = (bundle("prometheus") / "alertmanager.yml").read_text(encoding="utf-8")
    config = into / "alertmanager.yml"
    config.write_text(shipped.replace("//127.0.0.1:9847/", f"//{exporter}/"), encoding="utf-8")
    return config


@dataclass
class Stack:
    """The servers that run, in the order they were started, and in one line each why others do not."""

    servers: list[Server] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@contextlib.contextmanager
def start_stack(*, exporter: str, directory: Path, others: Sequence[str] = ()) -> Iterator[Stack]:
    """Start every server that can be had to watch an exporter (`host:port`), and end them with the block.

    Servers have their usual ports, or free ones where those are taken. One that cannot be had or does not
    come up is in `missing`, and the others go on without it.
    """
    stack = Stack()
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
            Alertmanager, config=alertmanager_config(directory / "alerting", exporter=exporter)
        )
        told = [alertmanager.url.removeprefix("http://")] if alertmanager else []
        config = prometheus_config(directory / "config", targets=[exporter, *others], alertmanagers=told)
        if prometheus := run(Prometheus, config=config):
            run(Grafana, prometheus=prometheus.url)
        yield stack
