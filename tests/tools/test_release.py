"""A release is cut from what is unreleased, and its notes are what the changelog says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tools.release import ReleaseError, cut, notes

PROJECT = '[project]\nname = "x"\nversion = "0.1.0"\n'
CHANGELOG = """# Changelog

## Unreleased

### Added

- A thing.

## 0.1.0 - 2026-01-31

- The first release.
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    chart = tmp_path / "charts/llm-exporter/Chart.yaml"
    chart.parent.mkdir(parents=True)
    chart.write_text("apiVersion: v2\nversion: 0.1.0\nappVersion: 0.1.0\n")
    return tmp_path


def test_what_is_unreleased_becomes_the_section_of_the_version(root: Path) -> None:
    days = {datetime.now(UTC).date()}
    cut("0.2.0", root)
    days.add(datetime.now(UTC).date())
    expected = [
        CHANGELOG.replace("## Unreleased\n", f"## Unreleased\n\n## 0.2.0 - {day}\n") for day in sorted(days)
    ]
    assert (root / "CHANGELOG.md").read_text() in expected
    assert (root / "pyproject.toml").read_text() == PROJECT.replace("0.1.0", "0.2.0")
    chart = (root / "charts/llm-exporter/Chart.yaml").read_text()
    assert chart == "apiVersion: v2\nversion: 0.2.0\nappVersion: 0.2.0\n"
    assert notes("0.2.0", root) == "### Added\n\n- A thing.\n"


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("v0.2.0", "'v0.2.0' must be a version such as 0.2.0"),
        ("0.1.0", "0.1.0 must be newer than 0.1.0"),
        ("0.0.9", "0.0.9 must be newer than 0.1.0"),
    ],
)
def test_a_wrong_version_changes_nothing(version: str, message: str, root: Path) -> None:
    with pytest.raises(ReleaseError) as raised:
        cut(version, root)
    assert str(raised.value) == message
    assert (root / "CHANGELOG.md").read_text() == CHANGELOG
    assert (root / "pyproject.toml").read_text() == PROJECT


def test_a_release_without_changes_is_refused(root: Path) -> None:
    cut("0.2.0", root)
    with pytest.raises(ReleaseError, match="nothing is unreleased"):
        cut("0.3.0", root)


def test_the_first_release_has_the_version_that_the_package_has_already(root: Path) -> None:
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- All of it.\n")
    cut("0.1.0", root)
    assert notes("0.1.0", root) == "- All of it.\n"


def test_a_tag_that_is_not_the_version_of_the_package_is_refused(root: Path) -> None:
    with pytest.raises(ReleaseError, match=r"the package has the version 0\.1\.0, not 0\.2\.0"):
        notes("0.2.0", root)


def test_a_version_without_a_section_is_refused(root: Path) -> None:
    (root / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    with pytest.raises(ReleaseError, match=r"CHANGELOG\.md has no section for 0\.1\.0"):
        notes("0.1.0", root)
