"""Real server programs, with no root and nothing installed.

`find("prometheus")` looks on PATH (for Grafana in $GRAFANA_HOME/bin first), then in our cache, and else gets
the program into the cache: from the Debian package where there is apt, from the official release archive of
the project elsewhere. What is fetched is checked before it is unpacked: apt checks signatures, an archive
must have the sha256 pinned here.

    python -m tools.binaries prometheus promtool alertmanager amtool redis-server
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

log = logging.getLogger(__name__)

PATIENCE: Final = 300.0
"""Seconds that one step of getting a program may take."""


class BinaryUnavailable(RuntimeError):  # noqa: N818  # reads as what happened, like BudgetExceeded
    """The program cannot be had; the message is one line that says what was tried."""


class Source(Protocol):
    """Somewhere a program can be got from."""

    @property
    def name(self) -> str:
        """What it is called in messages and in the cache."""
        ...

    @property
    def programs(self) -> Mapping[str, str]:
        """Where each program is in what `fetch` unpacks."""
        ...

    def fetch(self, into: Path) -> None:
        """Unpack into an empty directory; raises OSError, in one line, when it cannot."""
        ...


# ---- Debian


@dataclass(frozen=True)
class DebianPackage:
    """A package of the Debian or Ubuntu this runs on, unpacked and not installed."""

    package: str
    programs: Mapping[str, str]
    extras: tuple[str, ...] = ()
    """Packages unpacked beside it where there are such; others have other names for what is in them."""
    compiled_in: str = ""
    """A directory below /usr that the programs have to find their files in; see `_relocate`."""

    @property
    def name(self) -> str:
        """What it is called in messages and in the cache."""
        return f"debian-{self.package}"

    def fetch(self, into: Path) -> None:
        """Download by apt and unpack; raises OSError, in one line, when it cannot."""
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise OSError("no apt here")
        with tempfile.TemporaryDirectory(prefix="llm-exporter-apt-") as scratch:
            apt = _Apt(Path(scratch))
            try:
                apt.download(self.package)
            except OSError:
                apt.update()  # the lists on this machine are missing or too old
                apt.download(self.package)
            for extra in self.extras:
                try:
                    apt.download(extra)
                except OSError as error:
                    log.info("%s: going on without %s: %s", self.name, extra, error)
            for deb in Path(scratch).glob("*.deb"):
                _run("dpkg", "-x", str(deb), str(into))
        if self.compiled_in:
            for program in self.programs.values():
                _relocate(into / program, self.compiled_in)


def _relocate(program: Path, directory: str) -> None:
    """Make a directory below /usr that is compiled into a program relative, in the same number of bytes.

    Run in the directory above its own (`usr`), it then finds its files in the cache as it would installed.
    """
    absolute = directory.encode()
    relative = absolute.removeprefix(b"/usr/").ljust(len(absolute), b"/")
    program.write_bytes(program.read_bytes().replace(absolute, relative))


class _Apt:
    """apt-get that writes only to a directory of its own: no root needed, the system left as it is."""

    # Clearing the hooks matters to root: they would tidy the system's cache and refresh its catalogues.
    CONFIG = """
Dir::Cache "{0}/cache";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
    OWN_LISTS = """
Dir::State::Lists "{0}/lists";
"""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._config = directory / "apt.conf"
        self._config.write_text(self.CONFIG.format(directory))
        for each in ("cache/archives/partial", "lists/partial"):
            (directory / each).mkdir(parents=True)

    def update(self) -> None:
        with self._config.open("a") as config:
            config.write(self.OWN_LISTS.format(self._directory))
        self._run("update")

    def download(self, package: str) -> None:
        self._run("download", package)

    def _run(self, *words: str) -> None:
        _run("apt-get", "--config-file", str(self._config), "--quiet", *words, cwd=self._directory)


def _run(*command: str, cwd: Path | None = None) -> None:
    try:
        subprocess.run(  # noqa: S603  # fixed words and paths of ours
            command,
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} took over {PATIENCE:.0f} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or [f"exit status {error.returncode}"]
        raise OSError(f"{command[0]}: {said[-1]}") from None


# ---- official releases


@dataclass(frozen=True)
class ReleaseArchive:
    """The archive that a project publishes with its release, for Linux."""

    project: str
    version: str
    sha256: Mapping[str, str]
    """By architecture, as the release's sha256sums.txt has it."""
    members: tuple[str, ...]
    base: str = field(default="https://github.com/prometheus", repr=False)

    @property
    def name(self) -> str:
        """What it is called in messages and in the cache."""
        return f"{self.project}-{self.version}"

    @property
    def programs(self) -> Mapping[str, str]:
        """Where each program is in what `fetch` unpacks."""
        return {member: member for member in self.members}

    def fetch(self, into: Path) -> None:
        """Download, check and unpack; raises OSError, in one line, when it cannot or the sha256 differs."""
        machine = platform.machine().lower()
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
        if platform.system() != "Linux" or arch not in self.sha256:
            raise OSError(f"no archive for {platform.system()} on {machine}")
        stem = f"{self.name}.linux-{arch}"
        url = f"{self.base}/{self.project}/releases/download/v{self.version}/{stem}.tar.gz"
        with tempfile.TemporaryFile() as archive:
            digest = hashlib.sha256()
            with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310  # an https constant
                while block := response.read(1 << 20):
                    digest.update(block)
                    archive.write(block)
            if digest.hexdigest() != self.sha256[arch]:
                raise OSError(f"{url} has sha256 {digest.hexdigest()}, not the pinned {self.sha256[arch]}")
            archive.seek(0)
            with tarfile.open(fileobj=archive, mode="r:gz") as tar:
                # Only the programs, under names of ours: no path in the archive can lead elsewhere.
                for member in self.members:
                    _unpack(tar, f"{stem}/{member}", into / member)


def _unpack(tar: tarfile.TarFile, member: str, path: Path) -> None:
    try:
        source = tar.extractfile(member)
    except KeyError:
        source = None
    if source is None:
        raise OSError(f"no file {member} in the archive")
    with source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(0o755)


# ---- the programs


@dataclass(frozen=True)
class Program:
    """A program by the names it has on PATH, and the sources to get it from, best first."""

    commands: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    home: str = ""
    """An environment variable that may name the directory that `bin/` with the program is in."""


# Debian keeps the pages of Prometheus' own UI in packages of their own; without them only its API answers.
_PROMETHEUS: Final = (
    DebianPackage(
        "prometheus",
        {"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool"},
        extras=(
            "fonts-glyphicons-halflings",
            "libjs-bootstrap4",
            "libjs-d3",
            "libjs-eonasdan-bootstrap-datetimepicker",
            "libjs-jquery",
            "libjs-jquery-hotkeys",
            "libjs-moment",
            "libjs-moment-timezone",
            "libjs-mustache",
            "libjs-popper.js",
            "libjs-rickshaw",
        ),
    ),
    # The versions are those of docker-compose.yml; each sha256 is the value in the release's sha256sums.txt.
    ReleaseArchive(
        "prometheus",
        "3.15.0",
        {
            "amd64": "2a542df32eac02ee17b9d844fb2aa1de00dafa5476579ba8a3ba862e9d572ea0",
            "arm64": "f1f90ec08e849d494ca66c611470afc50192f0355f1a61c33f2cbde02d067823",
        },
        ("prometheus", "promtool"),
    ),
)
_ALERTMANAGER: Final = (
    DebianPackage(
        "prometheus-alertmanager",
        {"alertmanager": "usr/bin/prometheus-alertmanager", "amtool": "usr/bin/amtool"},
        compiled_in="/usr/share/prometheus/alertmanager",  # the default notification templates
    ),
    ReleaseArchive(
        "alertmanager",
        "0.34.1",
        {
            "amd64": "265b9d1e55ef0d5306a436018af6d2b686c2ce051f03d968f7464ecb1372a7e8",
            "arm64": "d98d6cbaf52151c7e76e24355fec88b11cebcb9875d4cdd8b76ddce7a7e5535c",
        },
        ("alertmanager", "amtool"),
    ),
)
# The program is in redis-tools; the others are libraries that it is linked with, by release of the system.
_REDIS: Final = (
    DebianPackage(
        "redis-server",
        {"redis-server": "usr/bin/redis-server"},
        extras=(
            "redis-tools",
            "libatomic1",
            "libhiredis0.14",
            "libjemalloc2",
            "liblua5.1-0",
            "liblzf1",
            "lua-bitop",
            "lua-cjson",
        ),
    ),
)

PROGRAMS: Final[Mapping[str, Program]] = {
    "prometheus": Program(("prometheus",), _PROMETHEUS),
    "promtool": Program(("promtool",), _PROMETHEUS),
    "alertmanager": Program(("alertmanager", "prometheus-alertmanager"), _ALERTMANAGER),
    "amtool": Program(("amtool",), _ALERTMANAGER),
    "redis-server": Program(("redis-server",), _REDIS),
    # Grafana needs the files around its program, so only an installed one will do.
    "grafana": Program(("grafana", "grafana-server"), home="GRAFANA_HOME"),
}


def cache() -> Path:
    """Return where fetched programs are kept: $LLM_EXPORTER_CACHE, else the user's cache directory."""
    if own := os.environ.get("LLM_EXPORTER_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-exporter"


def find(name: str) -> Path:
    """Return where a program of `PROGRAMS` is, getting it into the cache first when it is nowhere.

    Run it in the directory above the one it is in, where Debian's Alertmanager finds its templates, and with
    `environment`.
    Raises BinaryUnavailable when it cannot be had, and KeyError for a name that is not in the table.
    """
    program = PROGRAMS[name]
    home = os.environ.get(program.home) if program.home else None
    for command in program.commands:
        if found := (home and shutil.which(command, path=f"{home}/bin")) or shutil.which(command):
            return Path(found)
    places = {source.name: cache() / source.name / source.programs[name] for source in program.sources}
    for place in places.values():
        if place.is_file():
            return place
    tried = [f"no {' or '.join(program.commands)} on PATH"]
    for source in program.sources:
        log.info("getting %s from %s", name, source.name)
        try:
            _keep(source)
        except OSError as error:
            tried.append(f"{source.name}: {error}")
        else:
            return places[source.name]
    raise BinaryUnavailable(f"{name} is not to be had: {'; '.join(tried)}")


def environment(program: Path) -> dict[str, str]:
    """Return what a program that `find` found needs in its environment: its libraries, if they are ours."""
    if not program.is_relative_to(cache()):
        return {}
    directories = [str(each) for each in sorted(program.parents[1].glob("lib/*-linux-gnu*"))]
    return {"LD_LIBRARY_PATH": os.pathsep.join(directories)} if directories else {}


def _keep(source: Source) -> None:
    """Fetch a source into the cache whole or not at all, also when two processes do so at once."""
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".unpacking-") as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        source.fetch(tree)
        if missing := [path for path in source.programs.values() if not (tree / path).is_file()]:
            raise OSError(f"no {', '.join(missing)} in it")
        kept = cache() / source.name
        try:
            tree.rename(kept)
        except OSError:
            if not all((kept / path).is_file() for path in source.programs.values()):
                raise


def main(names: list[str]) -> int:
    """Print where each named program is, one a line; return 1, with the reason, when one cannot be had."""
    status = 0
    for name in names:
        try:
            sys.stdout.write(f"{find(name)}\n")
        except KeyError:
            sys.stderr.write(f"{name} is none of {', '.join(PROGRAMS)}\n")
            status = 1
        except BinaryUnavailable as error:
            sys.stderr.write(f"{error}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PROGRAMS)))
