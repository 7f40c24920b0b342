"""`bundle()` finds the files in a source tree and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

import llm_exporter.bundle.files
from llm_exporter.bundle.files import bundle
from support.bundle import GRAFANA, PROMETHEUS, REPOSITORY


def test_in_a_source_tree_the_files_are_in_the_repository() -> None:
    assert bundle("docs") == REPOSITORY / "docs"
    assert bundle("grafana") == GRAFANA
    assert bundle("prometheus") == PROMETHEUS


def test_in_a_wheel_the_files_are_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site-packages" / "llm_exporter"
    (installed / "bundle_data" / "grafana").mkdir(parents=True)
    monkeypatch.setattr(llm_exporter.bundle.files, "_PACKAGE", installed)

    assert bundle("grafana") == installed / "bundle_data" / "grafana"
    with pytest.raises(FileNotFoundError, match=r"no prometheus files at .*bundle_data"):
        bundle("prometheus")
