"""Where server programs come from, with fake ones: no network, and nothing of this machine's is used."""

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

DEBIAN = DebianPackage("prometheus", {"prometheus": "usr/bin/prometheus"}, extras=("libjs-jquery",))
ARCHIVE = ReleaseArchive("prometheus", "9.9.9", {"amd64": "0" * 64}, ("prometheus",))


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty directory the only one on PATH."""
    directory = tmp_path / "path"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache in a directory that does not exist yet."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("LLM_EXPORTER_CACHE", str(directory))
    return directory


@pytest.fixture(autouse=True)
def _linux_on_amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let "prometheus" come from these sources."""

    def offer(*sources: binaries.Source, commands: tuple[str, ...] = ("prometheus",)) -> None:
        monkeypatch.setattr(binaries, "PROGRAMS", {"prometheus": Program(commands, sources)})

    return offer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a directory on loopback; the fixture is its URL and the directory."""
    root = tmp_path / "site"
    root.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
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
    """Put a fake apt and dpkg on PATH; return the file that lists what they were asked for."""
    asked = path / "asked"
    command(
        path,
        "apt-get",
        f"""
        shift 3  # --config-file FILE --quiet
        echo "$@" >> {asked}
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
    return asked


def release(site: Path, archive: ReleaseArchive, files: dict[str, str]) -> ReleaseArchive:
    """Publish a release with these files; return the archive with its true sha256."""
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


def test_a_program_on_path_comes_before_everything_else(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    asked = apt(path)
    kept = cache / "debian-prometheus/usr/bin/prometheus"
    kept.parent.mkdir(parents=True)
    kept.touch()

    assert find("prometheus") == kept
    assert find("prometheus") != command(path, "prometheus")
    assert find("prometheus") == path / "prometheus"
    assert not asked.exists()


def test_a_program_is_also_found_by_the_name_that_debian_gives_it(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(commands=("prometheus", "debian-prometheus"))

    assert command(path, "debian-prometheus") == find("prometheus")


def test_what_was_fetched_is_kept_and_not_fetched_again(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    asked = apt(path)

    assert find("prometheus") == find("prometheus") == cache / "debian-prometheus/usr/bin/prometheus"
    assert find("prometheus").read_text() == "#!/bin/sh\necho from prometheus\n"
    assert asked.read_text().splitlines() == ["download prometheus", "download libjs-jquery"]
    assert leftovers(cache) == []


def test_package_lists_that_are_missing_or_stale_are_fetched_first(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    asked = apt(path, lists="stale")

    assert find("prometheus").is_file()
    assert asked.read_text().splitlines() == [
        "download prometheus",
        "update",
        "download prometheus",
        "download libjs-jquery",
    ]


def test_a_package_it_can_do_without_is_done_without(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    apt(path, unknown="libjs-jquery")

    assert find("prometheus").is_file()


def test_packages_beside_it_that_there_are_come_also_when_another_is_unknown(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(replace(DEBIAN, extras=("libjs-jquery", "liblzf1")))
    apt(path, unknown="libjs-jquery")

    assert (find("prometheus").parent / "liblzf1").is_file()


def test_a_program_of_the_cache_runs_with_the_libraries_beside_it(
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


def test_a_directory_compiled_into_debian_s_programs_is_made_relative_in_as_many_bytes(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(replace(DEBIAN, compiled_in="/usr/share/am"))
    apt(path)
    command(
        path, "dpkg", 'mkdir -p "$3/usr/bin"; printf "/usr/share/am/ui|/usr/lib" > "$3/usr/bin/prometheus"'
    )

    assert find("prometheus").read_text() == "share/am//////ui|/usr/lib"


def test_apt_writes_nowhere_but_in_a_directory_of_its_own(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    apt(path)
    command(path, "apt-get", f'cat "$2" > {path}/config.$4; pwd > {path}/cwd; touch prometheus.deb; false')

    with pytest.raises(BinaryUnavailable):
        find("prometheus")

    scratch = Path((path / "cwd").read_text().strip())
    assert not scratch.exists(), "it is removed afterwards"
    config = (path / "config.update").read_text()
    assert f'Dir::Cache "{scratch}/cache";' in config
    assert f'Dir::State::Lists "{scratch}/lists";' in config
    assert "#clear APT::Update::Post-Invoke;" in config


def test_without_apt_the_release_archive_is_unpacked(
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


def test_debian_comes_before_the_release_archive(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    archive = release(root, ARCHIVE, {"prometheus-9.9.9.linux-amd64/prometheus": "the program"})
    offer(DEBIAN, replace(archive, base=url))
    apt(path)

    assert find("prometheus") == cache / "debian-prometheus/usr/bin/prometheus"


def test_an_archive_with_another_sha256_is_refused_and_nothing_of_it_kept(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    archive = release(root, ARCHIVE, {"prometheus-9.9.9.linux-amd64/prometheus": "the program"})
    offer(replace(archive, base=url, sha256={"amd64": "0" * 64}))

    with pytest.raises(BinaryUnavailable, match=f"has sha256 {archive.sha256['amd64']}, not the pinned 0000"):
        find("prometheus")

    assert list(cache.iterdir()) == []


def test_an_archive_without_the_program_is_refused(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    url, root = site
    archive = release(root, ARCHIVE, {"prometheus-9.9.9.linux-amd64/../../prometheus": "astray"})
    offer(replace(archive, base=url))

    with pytest.raises(BinaryUnavailable, match=r"no file prometheus-9\.9\.9\.linux-amd64/prometheus in"):
        find("prometheus")

    assert list(cache.iterdir()) == []


def test_when_nothing_works_one_line_says_what_was_tried(
    path: Path, cache: Path, offer: Callable[..., None], site: tuple[str, Path]
) -> None:
    offer(DEBIAN, replace(ARCHIVE, base=site[0]), commands=("prometheus", "prom"))
    apt(path, unknown="prometheus")

    with pytest.raises(BinaryUnavailable) as caught:
        find("prometheus")

    assert str(caught.value) == (
        "prometheus is not to be had: no prometheus or prom on PATH; "
        "debian-prometheus: apt-get: E: Unable to locate package prometheus; "
        "prometheus-9.9.9: HTTP Error 404: File not found"
    )


def test_a_system_without_apt_or_archive_says_so(
    path: Path, cache: Path, offer: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(DEBIAN, ARCHIVE)
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(BinaryUnavailable) as caught:
        find("prometheus")

    assert str(caught.value) == (
        "prometheus is not to be had: no prometheus on PATH; debian-prometheus: no apt here; "
        "prometheus-9.9.9: no archive for Linux on riscv64"
    )


def test_of_two_processes_that_fetch_at_once_the_first_is_kept(
    path: Path, cache: Path, offer: Callable[..., None]
) -> None:
    offer(DEBIAN)
    apt(path)
    other = cache / "debian-prometheus/usr/bin/prometheus"
    # The other process is done while this one unpacks.
    command(path, "dpkg", f'mkdir -p "$3/usr/bin" {other.parent}; touch "$3/usr/bin/prometheus" {other}')

    assert find("prometheus") == other
    assert leftovers(cache) == []


def test_the_cache_is_the_user_s_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_EXPORTER_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert binaries.cache() == Path("/home/someone/.cache/llm-exporter")

    monkeypatch.setenv("XDG_CACHE_HOME", "/var/someone")
    assert binaries.cache() == Path("/var/someone/llm-exporter")

    monkeypatch.setenv("LLM_EXPORTER_CACHE", "/own")
    assert binaries.cache() == Path("/own")


def test_the_command_prints_paths_and_exits_1_when_one_cannot_be_had(
    path: Path, cache: Path, offer: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    offer()
    assert binaries.main(["prometheus", "nosuch"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == ("prometheus is not to be had: no prometheus on PATH\nnosuch is none of prometheus\n")

    command(path, "prometheus")
    assert binaries.main(["prometheus"]) == 0
    assert capsys.readouterr().out == f"{path}/prometheus\n"
