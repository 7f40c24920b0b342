"""Cut a release: its version in pyproject.toml and the chart, and its section in CHANGELOG.md.

python -m tools.release cut 0.2.0      # or `make release VERSION=0.2.0`, which also commits and tags
python -m tools.release notes 0.2.0    # what the changelog says about it
"""

from __future__ import annotations

import re
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
UNRELEASED: Final = "## Unreleased\n"
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


class ReleaseError(Exception):
    """The release cannot be cut. The message says why."""


def cut(version: str, root: Path = ROOT) -> None:
    """Make what is unreleased the section of a version, and the version that of the package.

    Raises:
        ReleaseError: if it is no version, is not newer than the last one, or nothing is unreleased.
    """
    if not _VERSION.fullmatch(version):
        raise ReleaseError(f"{version!r} must be a version such as 0.2.0")
    project, changelog = root / "pyproject.toml", root / "CHANGELOG.md"
    chart = root / "charts/llm-exporter/Chart.yaml"
    current, text = _version(project), changelog.read_text(encoding="utf-8")
    if f"\n## {current} " in text and _number(version) <= _number(current):
        raise ReleaseError(f"{version} must be newer than {current}")
    before, mark, after = text.partition(UNRELEASED)
    if not mark or not after.partition("\n## ")[0].strip():
        raise ReleaseError(f"{changelog}: nothing is unreleased")
    today = datetime.now(UTC).date()
    changelog.write_text(f"{before}{UNRELEASED}\n## {version} - {today}\n{after}", encoding="utf-8")
    _replace(project, f'\nversion = "{current}"\n', f'\nversion = "{version}"\n')
    _replace(chart, f"ersion: {current}\n", f"ersion: {version}\n")


def notes(version: str, root: Path = ROOT) -> str:
    """Return the section of a version, without its heading.

    Raises:
        ReleaseError: if it has none, or is not the version of the package.
    """
    current = _version(root / "pyproject.toml")
    if version != current:
        raise ReleaseError(f"the package has the version {current}, not {version}")
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version)} - .*\n((?:(?!## ).*\n?)*)", text, re.MULTILINE)
    if found is None:
        raise ReleaseError(f"CHANGELOG.md has no section for {version}")
    return found[1].strip() + "\n"


def _replace(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def _version(project: Path) -> str:
    return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def main(arguments: list[str]) -> str | None:
    """Run a command.

    Returns:
        The exit status: a message if it failed.
    """
    try:
        match arguments:
            case ["cut", version]:
                cut(version)
            case ["notes", version]:
                print(notes(version), end="")  # noqa: T201
            case _:
                return __doc__
    except ReleaseError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
