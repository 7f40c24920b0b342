"""Docker Compose and the image: pinned, health-checked, on loopback only, and with calls kept on a volume."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.bundle import COMPOSE, REPOSITORY
from tools import binaries, stack

every_service = pytest.mark.parametrize("name", COMPOSE["services"])
PINNED = re.compile(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z-]+)?")


@every_service
def test_a_service_is_pinned_health_checked_restarted_and_on_loopback_only(name: str) -> None:
    service = COMPOSE["services"][name]

    built = {service["image"] for service in COMPOSE["services"].values() if "build" in service}
    assert service["image"] in built or PINNED.fullmatch(service["image"])
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@every_service
def test_a_service_mounts_existing_files_read_only(name: str) -> None:
    for mount in COMPOSE["services"][name].get("volumes", []):
        source, _, mode = mount.split(":") if mount.startswith("./") else (None, None, None)
        if source is None:
            assert mount.split(":")[0] in COMPOSE["volumes"]
        else:
            assert (REPOSITORY / source).exists()
            assert mode == "ro"


def test_a_service_waits_until_its_dependencies_are_healthy() -> None:
    waits = {name: service.get("depends_on", {}) for name, service in COMPOSE["services"].items()}

    assert waits["grafana"] == {"prometheus": {"condition": "service_healthy"}}
    assert waits["prometheus"] == {"alertmanager": {"condition": "service_healthy"}}


def test_the_grafana_password_is_required_and_not_committed() -> None:
    password = COMPOSE["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]

    assert password.startswith("${GF_SECURITY_ADMIN_PASSWORD:?")
    assert "\nGF_SECURITY_ADMIN_PASSWORD=\n" in (REPOSITORY / ".env.example").read_text()


def test_compose_runs_the_releases_that_are_downloaded_without_docker() -> None:
    images = {service.get("image") for service in COMPOSE["services"].values()}

    for name in ("prometheus", "alertmanager"):
        releases = [
            source
            for source in binaries.PROGRAMS[name].sources
            if isinstance(source, binaries.ReleaseArchive)
        ]
        assert [f"prom/{name}:v{release.version}" in images for release in releases] == [True]


def test_the_image_has_a_pinned_base_and_does_not_run_as_root() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()

    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    bases = {*re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)} - {*stages}
    assert bases
    assert all(PINNED.fullmatch(image) for image in bases)
    assert re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE) == ["9847"]


def image() -> tuple[dict[str, str], list[str]]:
    """Return the environment and the command of the default image."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    before, _, after = dockerfile.partition(" AS runtime\n")
    assert before, "the default image is the stage `runtime`"
    assert after.endswith("\nFROM runtime\n")
    (environment,) = re.findall(r"^ENV (.*)$", after.partition("\nFROM ")[0], re.MULTILINE)
    (command,) = re.findall(r"^CMD (.*)$", after.partition("\nFROM ")[0], re.MULTILINE)
    return dict(pair.split("=", 1) for pair in environment.split()), json.loads(command)


def test_the_exporter_is_healthy_and_keeps_calls_on_its_volume(tmp_path: Path) -> None:
    """Run the image's command with another port and another directory for the volume."""
    service = COMPOSE["services"]["exporter"]
    (volume,) = [mount.split(":")[1] for mount in service["volumes"]]
    environment, (program, *words) = image()
    directory = tmp_path / Path(volume).name
    directory.mkdir()
    port = str(stack.free_port())
    inside = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LLM_EXPORTER_")},
        **{
            name: value.replace(str(Path(volume).parent), str(tmp_path))
            for name, value in environment.items()
            if name != "PATH"
        },
        "HOME": "/nonexistent",
    }
    assert program == "llm-exporter"
    command = [sys.executable, "-m", "llm_exporter.cli", *words, "--port", port]
    url = f"http://127.0.0.1:{port}"
    check = [sys.executable, "-c", service["healthcheck"]["test"][-1].replace("9847", port)]
    assert "/-/healthy" in check[-1]
    for calls in (0, 1):
        with subprocess.Popen(command, env=inside, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("llm-exporter listening on ")
            subprocess.run(check, check=True)
            with urlopen(f"{url}/api/v1/cost?window=1h") as answer:
                assert json.load(answer)["calls"] == calls
            ship = 'import llm_exporter as e; e.instrument(); e.record(provider="x", model="x", tokens={})'
            subprocess.run([sys.executable, "-c", ship], env={**inside, "LLM_EXPORTER_URL": url}, check=True)
            process.terminate()
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]
    assert (directory / "ledger.db").is_file()


def test_the_demo_profile_builds_the_demo_image_and_ships_its_calls() -> None:
    demo = COMPOSE["services"]["demo"]
    assert demo["build"] == {"context": ".", "target": "demo"}
    assert "command" not in demo, "the image has the command"
    assert demo["profiles"] == ["demo"]
    assert demo["environment"] == {"LLM_EXPORTER_URL": "http://exporter:9847"}
    assert demo["depends_on"] == {"exporter": {"condition": "service_healthy"}}
    others = [service for name, service in COMPOSE["services"].items() if name != "demo"]
    assert not [service for service in others if "profiles" in service]


def test_the_demo_image_has_every_file_that_the_demo_imports(tmp_path: Path) -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    for source, target in re.findall(r"^COPY (\S+) /opt/demo/(\S+)$", dockerfile, re.MULTILINE):
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / target).symlink_to(REPOSITORY / source)
    command = [sys.executable, "-P", "-c", "import demo.run; print(demo.run.__file__)"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)

    assert (done.stderr, done.stdout) == ("", f"{tmp_path}/demo/run.py\n")
