"""Finding and downloading programs. All are fake: the tests use no network and no installed program."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tools import binaries
from tools.binaries import BinaryUnavailable, DebianPackage, Program, ReleaseArchive, find

DEBIAN = DebianPackage("prometheus", {"prometheus": "usr/bin/prometheus"}, optional=("libjs-jquery",))
ARCHIVE = ReleaseArchive("prometheus", "9.9.9", {"amd64": "0" * 64}, ("prometheus",))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory on PATH, which is empty."""
    directory = tmp_path / "path"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache directory, which does not exist yet."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("LLM_EXPORTER_CACHE", str(directory))
    return directory


@pytest.fixture(autouse=True)
def _linux_on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets the sources of the program "prometheus"."""

    def offer(*sources: binaries.Source, commands: tuple[str, ...] = ("prometheus",)) -> None:
        monkeypatch.setattr(binaries, "PROGRAMS", {"prometheus": Program(commands, sources)})

    return offer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a directory on loopback; return its URL and the directory."""
    root = tmp_path / "site"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # named by the base class
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", root
        server.shutdown()
        thread.join()


def command(directory: Path, name: str, script: str = "") -> Path:
    file = directory / name
    file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    file.chmod(0o755)
    return file


def apt(path: Path, *, lists: str = "fresh", unknown: str = "none") -> Path:
    """Put a fake apt-get and dpkg on PATH; return the log of the apt-get commands."""
    commands_log = path / "commands_log"
    command(
        path,
        "apt-get",
        f"""
        shift 3  # --config-file FILE --quiet
        echo "$@" >> {commands_log}
        if [ "$1" = update ]; then touch updated; exit; fi
        shift
        for package in "$@"; do
            if [ $package = {unknown} ] || [ {lists} = stale -a ! -e updated ]; then
                echo "W: whatever" >&2
                echo "E: Unable to locate package $package" >&2
                exit 100
            fi
            touch $package.deb
        done
        """,
    )
    command(
        path,
        "dpkg",
        """
        name=$(basename "$2" .deb)
        mkdir -p "$3/usr/bin"
        printf '#!/bin/sh\\necho from %s\\n' $name > "$3/usr/bin/$name"
        """,
    )
    return commands_log


def release(site: Path, archive: ReleaseArchive, files: dict[str, str]) -> ReleaseArchive:
    """Publish a release with these files; return the archive with its real sha256."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    directory = site / archive.project / "releases/download" / f"v{archive.version}"
    directory.mkdir(parents=True)
    (directory / f"{archive.name}.linux-amd64.tar.gz").write_bytes(buffer.getvalue())
    return replace(archive, sha256={"amd64": hashlib.sha256(buffer.getvalue()).hexdigest()})


def leftovers(cache: Path) -> list[str]:
    return [each.name for each in cache.iterdir() if each.name.startswith(".")] if cache.exists() else []


def test_a_program_on_path_is_preferred_to_the_cache_and_a_download(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    commands_log = apt(path)
    kept = cache / "debian-prometheus/usr/bin/prometheus"
    kept.parent.mkdir(parents=True)
    kept.touch()

    assert find("prometheus") == kept
    assert find("prometheus") != command(path, "prometheus")
    assert find("prometheus") == path / "prometheus"
    assert not commands_log.exists()


def test_a_program_is_found_by_its_debian_name(path: Path, cache: Path, offer: Callable[..., None]) -> None:
    offer(commands=("prometheus", "debian-prometheus"))

    assert command(path, "debian-prometheus") == find("prometheus")


def test_a_program_is_downloaded_once(path: Path, cache: Path, offer: Callable[..., None]) -> None:
    offer(DEBIAN)
    commands_log = apt(path)

    assert find("prometheus") == find("prometheus") == cache / "debian-prometheus/usr/bin/prometheus"
    assert find("prometheus").read_text() == "#!/bin/sh\necho from prometheus\n"
    assert commands_log.read_text().splitlines() == ["download prometheus", "download libjs-jquery"]
    assert leftovers(cache) == []


def test_missing_or_outdated_package_lists_are_updated(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    commands_log = apt(path, lists="stale")

    assert find("prometheus").is_file()
    assert commands_log.read_text().splitlines() == [
        "download prometheus",
        "update",
        "download prometheus",
        "download libjs-jquery",
    ]


def test_a_missing_optional_package_is_skipped(path: Path, cache: Path, offer: Callable[..., None]) -> None:
    offer(DEBIAN)
    apt(path, unknown="libjs-jquery")

    assert find("prometheus").is_file()


def test_other_optional_packages_are_downloaded_when_one_is_missing(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(replace(DEBIAN, optional=("libjs-jquery", "liblzf1")))
    apt(path, unknown="libjs-jquery")

    assert (find("prometheus").parent / "liblzf1").is_file()


def test_a_cached_program_runs_with_the_libraries_of_its_package(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    apt(path)
    program = find("prometheus")
    assert binaries.environment(program) == {}

    libraries = cache / "debian-prometheus/usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)

    assert binaries.environment(program) == {"LD_LIBRARY_PATH": str(libraries)}
    assert binaries.environment(command(path, "prometheus")) == {}


def test_a_compiled_in_path_becomes_relative_and_keeps_its_length(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(replace(DEBIAN, compiled_in="/usr/share/am"))
    apt(path)
    command(
        path, "dpkg", 'mkdir -p "$3/usr/bin"; printf "/usr/share/am/ui|/usr/lib" > "$3/usr/bin/prometheus"'
    )

    assert find("prometheus").read_text() == "share/am//////ui|/usr/lib"


def test_apt_writes_to_a_scratch_directory_only(path: Path, cache: Path, offer: Callable[..., None]) -> None:
    offer(DEBIAN)
    apt(path)
    command(path, "apt-get", f'cat "$2" > {path}/config.$4; pwd > {path}/cwd; touch prometheus.deb; false')

    with pytest.raises(BinaryUnavailable):
        find("prometheus")

    scratch = Path((path / "cwd").read_text().strip())
    assert not scratch.exists(), "the scratch directory is removed"
    config = (path / "config.update").read_text()
    assert f'Dir::Cache "{scratch}/cache";' in config
    assert f'Dir::State::Lists "{scratch}/lists";' in config
    assert "#clear APT::Update::Post-Invoke;" in config


def test_the_release_archive_is_unpacked_if_there_is_no_apt(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    stem = "prometheus-9.9.9.linux-amd64"
    archive = release(root, ARCHIVE, {f"{stem}/prometheus": "the program", f"{stem}/LICENSE": "text"})
    offer(DEBIAN, replace(archive, base=url))

    found = find("prometheus")

    assert found == cache / "prometheus-9.9.9/prometheus"
    assert found.read_text() == "the program"
    assert found.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in found.parent.iterdir()] == ["prometheus"]
    assert leftovers(cache) == []


def test_the_debian_package_is_preferred_to_the_release_archive(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    archive = release(root, ARCHIVE, {"prometheus-9.9.9.linux-amd64/prometheus": "the program"})
    offer(DEBIAN, replace(archive, base=url))
    apt(path)

    assert find("prometheus") == cache / "debian-prometheus/usr/bin/prometheus"


def test_an_archive_with_a_wrong_sha256_is_rejected(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    archive = release(root, ARCHIVE, {"prometheus-9.9.9.linux-amd64/prometheus": "the program"})
    offer(replace(archive, base=url, sha256={"amd64": "0" * 64}))

    with pytest.raises(BinaryUnavailable, match=f"has sha256 {archive.sha256['amd64']}, not the pinned 0000"):
        find("prometheus")

    assert list(cache.iterdir()) == []


def test_an_archive_without_the_program_is_rejected(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    archive = release(root, ARCHIVE, {"prometheus-9.9.9.linux-amd64/../../prometheus": "astray"})
    offer(replace(archive, base=url))

    with pytest.raises(BinaryUnavailable, match=r"no file prometheus-9\.9\.9\.linux-amd64/prometheus in"):
        find("prometheus")

    assert list(cache.iterdir()) == []


def test_the_error_lists_all_sources_in_one_line(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    offer(DEBIAN, replace(ARCHIVE, base=site[0]), commands=("prometheus", "prom"))
    apt(path, unknown="prometheus")

    with pytest.raises(BinaryUnavailable) as caught:
        find("prometheus")

    assert str(caught.value) == (
        "prometheus is not available: no prometheus or prom on PATH; "
        "debian-prometheus: apt-get: E: Unable to locate package prometheus; "
        "prometheus-9.9.9: HTTP Error 404: File not found"
    )


def test_the_error_names_a_system_without_apt_or_archive(
    path: Path, cache: Path, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(DEBIAN, ARCHIVE)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(BinaryUnavailable) as caught:
        find("prometheus")

    assert str(caught.value) == (
        "prometheus is not available: no prometheus on PATH; debian-prometheus: apt is not installed; "
        "prometheus-9.9.9: no archive for Linux on riscv64"
    )


def test_the_first_of_two_concurrent_downloads_is_kept(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    apt(path)
    other = cache / "debian-prometheus/usr/bin/prometheus"
    # The other process finishes while this one unpacks.
    command(path, "dpkg", f'mkdir -p "$3/usr/bin" {other.parent}; touch "$3/usr/bin/prometheus" {other}')

    assert find("prometheus") == other
    assert leftovers(cache) == []


def test_the_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_EXPORTER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert binaries.cache() == Path("/home/someone/.cache/llm-exporter")

    monkeypatch.setenv("XDG_CACHE_HOME", "/var/someone")
    assert binaries.cache() == Path("/var/someone/llm-exporter")

    monkeypatch.setenv("LLM_EXPORTER_CACHE", "/own")
    assert binaries.cache() == Path("/own")


def test_the_command_prints_paths_and_returns_1_if_one_is_not_available(
    path: Path, cache: Path, offer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offer()
    assert binaries.main(["prometheus", "nosuch"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "prometheus is not available: no prometheus on PATH\n"
        "unknown program nosuch: must be one of prometheus\n"
    )

    command(path, "prometheus")
    assert binaries.main(["prometheus"]) == 0
    assert capsys.readouterr().out == f"{path}/prometheus\n"
