"""Find server programs, or download them without root.

`find("prometheus")` looks on PATH (for Grafana, in $GRAFANA_HOME/bin first), then in the cache. If the
program is in neither, it is downloaded into the cache: the Debian package if apt is available, else the
official release archive. Downloads are verified before they are unpacked: apt checks signatures, and archives
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

STEP_TIMEOUT: Final = 300.0
"""Seconds that one step of a download may take."""


class BinaryUnavailable(RuntimeError):  # noqa: N818  # reads as what happened, like BudgetExceeded
    """A program is not available. The message, one line, says what was tried."""


class Source(Protocol):
    """A source to download programs from."""

    @property
    def name(self) -> str:
        """The name in messages and in the cache."""
        ...

    @property
    def programs(self) -> Mapping[str, str]:
        """The path of each program in the unpacked directory."""
        ...

    def download(self, into: Path) -> None:
        """Download and unpack into an empty directory.

        Raises:
            OSError: when that fails; the message is one line.
        """
        ...


# ---- Debian


@dataclass(frozen=True)
class DebianPackage:
    """A package of the Debian or Ubuntu system that this runs on. It is unpacked, not installed."""

    package: str
    programs: Mapping[str, str]
    optional: tuple[str, ...] = ()
    """Packages to unpack into the same directory, if this release of the system has them."""
    compiled_in: str = ""
    """A directory below /usr whose path is compiled into the programs; see `_relocate`."""

    @property
    def name(self) -> str:
        """The name in messages and in the cache."""
        return f"debian-{self.package}"

    def download(self, into: Path) -> None:
        """Download with apt and unpack; see `Source.download`."""
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise OSError("apt is not installed")
        with tempfile.TemporaryDirectory(prefix="llm-exporter-apt-") as scratch:
            apt = _Apt(Path(scratch))
            try:
                apt.download(self.package)
            except OSError:
                apt.update()  # the package lists are missing or outdated
                apt.download(self.package)
            for package in self.optional:
                try:
                    apt.download(package)
                except OSError as error:
                    log.info("%s: continuing without %s: %s", self.name, package, error)
            for deb in Path(scratch).glob("*.deb"):
                _run("dpkg", "-x", str(deb), str(into))
        if self.compiled_in:
            for program in self.programs.values():
                _relocate(into / program, self.compiled_in)


def _relocate(program: Path, directory: str) -> None:
    """Make a path below /usr that is compiled into a program relative, keeping its length in bytes.

    The program then finds its files in the cache, if it runs in the unpacked `usr` directory.
    """
    absolute = directory.encode()
    relative = absolute.removeprefix(b"/usr/").ljust(len(absolute), b"/")
    program.write_bytes(program.read_bytes().replace(absolute, relative))


class _Apt:
    """Run apt-get without root and without changes to the system: it writes to a scratch directory only."""

    # As root, the hooks would clean the system's cache and refresh its catalogs.
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
        subprocess.run(  # noqa: S603  # constants and our own paths
            command,
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{command[0]} took over {STEP_TIMEOUT:.0f} s") from None
    except subprocess.CalledProcessError as error:
        output = (error.stderr or error.stdout).strip().splitlines() or [f"exit status {error.returncode}"]
        raise OSError(f"{command[0]}: {output[-1]}") from None


# ---- official releases


@dataclass(frozen=True)
class ReleaseArchive:
    """The Linux archive of a project's release."""

    project: str
    version: str
    sha256: Mapping[str, str]
    """By architecture, from the release's sha256sums.txt."""
    members: tuple[str, ...]
    """The programs to unpack."""
    base: str = field(default="https://github.com/prometheus", repr=False)

    @property
    def name(self) -> str:
        """The name in messages and in the cache."""
        return f"{self.project}-{self.version}"

    @property
    def programs(self) -> Mapping[str, str]:
        """The path of each program in the unpacked directory."""
        return {member: member for member in self.members}

    def download(self, into: Path) -> None:
        """Download, verify the sha256 and unpack; see `Source.download`."""
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
                # Only the programs, to fixed paths: a path in the archive cannot lead elsewhere.
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
    """A program: its names on PATH, and the sources to download it from, in order of preference."""

    commands: tuple[str, ...]
    sources: tuple[Source, ...] = ()
    home: str = ""
    """An environment variable that may name a directory with the program in `bin/`."""


# Debian packages the assets of the Prometheus UI separately. Without them, only the API works.
_PROMETHEUS: Final = (
    DebianPackage(
        "prometheus",
        {"prometheus": "usr/bin/prometheus", "promtool": "usr/bin/promtool"},
        optional=(
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
    # The same versions as in docker-compose.yml. Each sha256 is from the release's sha256sums.txt.
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
# The program is in redis-tools. The others are its shared libraries in different releases of the system.
_REDIS: Final = (
    DebianPackage(
        "redis-server",
        {"redis-server": "usr/bin/redis-server"},
        optional=(
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
    # Grafana needs the files of its installation, so it is never downloaded.
    "grafana": Program(("grafana", "grafana-server"), home="GRAFANA_HOME"),
}


def cache() -> Path:
    """Return the directory for downloads: $LLM_EXPORTER_CACHE, else one in the user's cache directory."""
    if own := os.environ.get("LLM_EXPORTER_CACHE"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-exporter"


def find(name: str) -> Path:
    """Return the path of a program, and download it first if necessary.

    Run it with `environment`, in the parent of its own directory: there, Debian's Alertmanager finds its
    templates.

    Args:
        name: a key of `PROGRAMS`.

    Raises:
        BinaryUnavailable: when it is neither installed nor can be downloaded.
        KeyError: when the name is unknown.
    """
    program = PROGRAMS[name]
    home = os.environ.get(program.home) if program.home else None
    for command in program.commands:
        if found := (home and shutil.which(command, path=f"{home}/bin")) or shutil.which(command):
            return Path(found)
    cached = {source.name: cache() / source.name / source.programs[name] for source in program.sources}
    for path in cached.values():
        if path.is_file():
            return path
    tried = [f"no {' or '.join(program.commands)} on PATH"]
    for source in program.sources:
        log.info("downloading %s from %s", name, source.name)
        try:
            _download_to_cache(source)
        except OSError as error:
            tried.append(f"{source.name}: {error}")
        else:
            return cached[source.name]
    raise BinaryUnavailable(f"{name} is not available: {'; '.join(tried)}")


def environment(program: Path) -> dict[str, str]:
    """Return the environment variables for a program from `find`: the path of its downloaded libraries."""
    if not program.is_relative_to(cache()):
        return {}
    directories = [str(each) for each in sorted(program.parents[1].glob("lib/*-linux-gnu*"))]
    return {"LD_LIBRARY_PATH": os.pathsep.join(directories)} if directories else {}


def _download_to_cache(source: Source) -> None:
    """Download a source into the cache, atomically, even if another process does the same."""
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=".unpacking-") as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        source.download(tree)
        if missing := [path for path in source.programs.values() if not (tree / path).is_file()]:
            raise OSError(f"{', '.join(missing)} missing after unpacking")
        target = cache() / source.name
        try:
            tree.rename(target)
        except OSError:
            if not all((target / path).is_file() for path in source.programs.values()):
                raise


def main(names: list[str]) -> int:
    """Print the path of each program; return 1 if one is not available."""
    status = 0
    for name in names:
        try:
            sys.stdout.write(f"{find(name)}\n")
        except KeyError:
            sys.stderr.write(f"unknown program {name}: must be one of {', '.join(PROGRAMS)}\n")
            status = 1
        except BinaryUnavailable as error:
            sys.stderr.write(f"{error}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PROGRAMS)))
