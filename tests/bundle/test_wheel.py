"""The wheel holds the package and what it writes for Prometheus and Grafana; developers' tools stay out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from llm_exporter.bundle.files import bundle
from llm_exporter.bundle.writing import _FILES
from support.bundle import GRAFANA, PROMETHEUS, REPOSITORY

LARGEST = 600 * 1024
"""Bytes."""
DATA = "llm_exporter/bundle_data"
DEVELOPERS_ONLY = {"demo", "tools", "tests", "bench", "__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_rules_and_configurations(names: set[str]) -> None:
    files = [
        *(file for name, pattern in _FILES if name == "docs" for file in bundle("docs").glob(pattern)),
        *GRAFANA.glob("provisioning/*/*.yml"),
        *PROMETHEUS.glob("*.yml"),
        *PROMETHEUS.glob("rules/*.yml"),
        *PROMETHEUS.glob("targets/*.yml"),
        *PROMETHEUS.glob("alertmanagers/*.yml"),
        *PROMETHEUS.glob("examples/*.yml"),
        *PROMETHEUS.glob("templates/*.tmpl"),
    ]

    assert len(files) > 20
    assert {f"{DATA}/{file.relative_to(REPOSITORY)}" for file in files} == {
        name for name in names if name.startswith(DATA)
    }


def test_the_wheel_writes_the_dashboards_and_rules_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    with ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    command = [sys.executable, "-m", "llm_exporter", "bundle", str(tmp_path / "out"), "--prometheus", "3"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    for written, committed in (
        ("grafana/dashboards", GRAFANA / "dashboards"),
        ("prometheus/rules", PROMETHEUS / "prometheus3"),
    ):
        for file in committed.iterdir():
            assert (tmp_path / "out" / written / file.name).read_text() == file.read_text()


def test_the_wheel_holds_no_demo_tools_or_tests(names: set[str]) -> None:
    assert [name for name in names if {*Path(name).parts} & DEVELOPERS_ONLY] == []
    assert [name for name in names if name.startswith(DATA) and name.endswith((".py", ".pyc"))] == []
    assert {Path(name).parts[0].partition("-")[0] for name in names} == {"llm_exporter"}


def test_the_wheel_holds_the_license(names: set[str]) -> None:
    licenses = {Path(name).name for name in names if "/licenses/" in name}

    assert ("LICENSE" in licenses) is (REPOSITORY / "LICENSE").exists()


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST
