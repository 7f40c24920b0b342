"""The test suites of the SDKs: where they are, and how they are run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.binaries import cache

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Suite:
    """The test suite of one SDK."""

    name: str
    """The SDK's distribution."""
    package: str
    quick: tuple[str, ...]
    """The tests of `--quick`: of methods that make calls, without variants of one another by the hundred."""
    options: tuple[str, ...] = ()
    """Options for pytest, in place of the SDK's own `addopts`."""
    in_package: bool = False
    """Whether the SDK installs its tests. If not, they are in its source archive."""

    @property
    def version(self) -> str:
        """The installed release."""
        return importlib.metadata.version(self.name)

    def directory(self) -> Path:
        """Return the directory with `tests/`. The source archive is downloaded first if necessary.

        Raises:
            OSError: if it cannot be downloaded.
        """
        if self.in_package:
            spec = importlib.util.find_spec(self.package)
            assert spec is not None
            assert spec.origin is not None
            return Path(spec.origin).parent
        return _sources(self.name, self.version)


SUITES: Final = (
    Suite(
        "openai",
        "openai",
        quick=(
            "tests/lib/chat",
            "tests/lib/responses/test_websocket_session.py",
            "tests/lib/streaming",
            "tests/lib/test_audio.py",
            "tests/lib/test_azure.py",
            "tests/lib/test_bedrock.py",
            "tests/lib/test_bedrock_runtime.py",
            "tests/test_client.py",
            "tests/test_legacy_response.py",
            "tests/test_module_client.py",
            "tests/test_response.py",
            "tests/test_streaming.py",
            "tests/api_resources/chat",
            "tests/api_resources/responses",
            "tests/api_resources/test_completions.py",
            "tests/api_resources/test_embeddings.py",
            "tests/api_resources/test_images.py",
            "tests/api_resources/test_responses.py",
        ),
    ),
    Suite(
        "anthropic",
        "anthropic",
        quick=(
            "tests/lib/streaming",
            "tests/lib/test_aws.py",
            "tests/lib/test_azure.py",
            "tests/lib/test_bedrock.py",
            "tests/lib/test_vertex.py",
            "tests/lib/tools/test_runner_eager_tools.py",
            "tests/test_client.py",
            "tests/test_middleware.py",
            "tests/test_prepare.py",
            "tests/test_response.py",
            "tests/test_streaming.py",
            "tests/api_resources/beta/messages",
            "tests/api_resources/beta/test_messages.py",
            "tests/api_resources/messages",
            "tests/api_resources/test_messages.py",
        ),
        options=("-p", "tests._alias_httpx"),
    ),
    Suite(
        "google-genai",
        "google.genai",
        quick=(
            "tests/afc",
            "tests/client/test_async_stream.py",
            "tests/client/test_httpx2_client.py",
            "tests/gaos",
            "tests/interactions",
            "tests/live",
        ),
        options=("--mode", "replay"),
        in_package=True,
    ),
)


def _sources(name: str, version: str) -> Path:
    """Return the unpacked source archive of a release, and download it first if necessary."""
    directory = cache() / "sdks" / f"{name}-{version}"
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".unpacking-") as scratch:
            archive = _download(name, version, Path(scratch))
            with tarfile.open(archive) as tar:
                tar.extractall(Path(scratch) / "tree", filter="data")
            (unpacked,) = (Path(scratch) / "tree").iterdir()
            unpacked.rename(directory)
    return directory


def _download(name: str, version: str, into: Path) -> Path:
    """Download a source archive, which must have one of the hashes in the lock file."""
    lock = (ROOT / "requirements-sdks.lock").read_text()
    pinned = re.search(rf"^{re.escape(f'{name}=={version}')}( \\\n    --hash=\S+)+", lock, re.MULTILINE)
    if pinned is None:
        raise OSError(f"requirements-sdks.lock does not pin {name} {version}")
    requirements = into / "requirements.txt"
    requirements.write_text(pinned[0])
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
    done = subprocess.run(
        (
            *pip,
            "--no-binary",
            name,
            "--no-build-isolation",
            "--require-hashes",
            "--dest",
            into,
            "-r",
            requirements,
        ),
        # Building the metadata runs in the unpacked archive, where a relative path would find its modules.
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    archives = list(into.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        raise OSError(f"cannot download the sources of {name} {version}:\n{done.stderr or done.stdout}")
    return archives[0]
