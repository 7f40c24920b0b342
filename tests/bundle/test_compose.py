"""Docker Compose and the image: pinned, health-checked, on loopback only, and with calls kept on a volume."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml

from support.bundle import COMPOSE, PROMETHEUS, REPOSITORY
from tools import binaries, stack

every_service = pytest.mark.parametrize("name", COMPOSE["services"])
PINNED = re.compile(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z-]+)?@sha256:[0-9a-f]{64}")
TOKEN = "/run/secrets/llm-exporter-token"


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
def test_a_service_has_no_capabilities_a_read_only_root_and_limits(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["mem_limit"]
    assert service["pids_limit"]


def test_the_token_comes_from_the_environment_and_is_not_committed() -> None:
    assert COMPOSE["secrets"] == {"llm-exporter-token": {"environment": "LLM_EXPORTER_TOKEN"}}
    assert "\nLLM_EXPORTER_TOKEN=\n" in (REPOSITORY / ".env.example").read_text()
    users = {name for name, service in COMPOSE["services"].items() if "secrets" in service}
    assert users == {"exporter", "demo", "alertmanager", "prometheus"}


def test_prometheus_scrapes_with_the_token_and_is_configured_as_everywhere_else() -> None:
    default = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    compose = yaml.safe_load((PROMETHEUS / "compose/prometheus.yml").read_text())

    assert compose["scrape_configs"][0].pop("authorization") == {"credentials_file": TOKEN}
    assert compose == default
    command = COMPOSE["services"]["prometheus"]
    assert "./prometheus/compose/prometheus.yml:/etc/prometheus/prometheus.yml:ro" in command["volumes"]


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
    images = {service["image"].partition("@")[0] for service in COMPOSE["services"].values()}

    for name in ("prometheus", "alertmanager"):
        releases = [
            source
            for source in binaries.PROGRAMS[name].sources
            if isinstance(source, binaries.ReleaseArchive)
        ]
        assert [f"prom/{name}:v{release.version}" in images for release in releases] == [True]


def test_the_image_installs_the_releases_in_its_lock_by_their_hashes() -> None:
    """The lock of the image has no other releases than the one that the tests run with."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    assert "pip install --no-cache-dir --require-hashes --no-deps -r requirements-image.lock\n" in dockerfile
    installs = re.findall(r"pip install (.*)", dockerfile)
    assert all("--no-deps" in install for install in installs)

    tested, image = (
        re.findall(r"^([a-z0-9-]+==[^ ]+)", (REPOSITORY / lock).read_text(), re.MULTILINE)
        for lock in ("requirements.lock", "requirements-image.lock")
    )
    assert {*image} < {*tested}


def test_the_image_builds_the_package_from_the_files_that_it_copies(tmp_path: Path) -> None:
    build, _, _ = (REPOSITORY / "Dockerfile").read_text().partition(" AS runtime\n")
    source = tmp_path / "src"
    source.mkdir()
    for copied in re.findall(r"^COPY (.*)$", build, re.MULTILINE):
        *files, target = copied.split()
        for file in files:
            place = source / target if target != "./" else source / file
            place.symlink_to(REPOSITORY / file)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=source, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
    """Run the image's command with another port, and the volume, the token and the files elsewhere."""
    service = COMPOSE["services"]["exporter"]
    mounted = dict(mount.split(":")[:2] for mount in service["volumes"])
    volume = mounted.pop("exporter")
    ((source, config),) = mounted.items()
    environment, (program, *words) = image()
    token = tmp_path / "token"
    token.write_text("b3f0c2a1d4e5968778695a4b3c2d1e0f\n")
    ours = tmp_path / "llm-exporter.yml"
    ours.write_text((REPOSITORY / source).read_text().replace(TOKEN, str(token)))
    words = [str(ours) if word == config else word for word in words]
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
    client = {**inside, "LLM_EXPORTER_URL": url, "LLM_EXPORTER_TOKEN_FILE": str(token)}
    secret = token.read_text().strip()
    check = [sys.executable, "-c", service["healthcheck"]["test"][-1].replace("9847", port)]
    assert "/-/healthy" in check[-1]
    for calls in (0, 1):
        with subprocess.Popen(command, env=inside, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("llm-exporter listening on ")
            subprocess.run(check, check=True)
            with pytest.raises(HTTPError, match="401"):
                urlopen(f"{url}/api/v1/cost?window=1h")
            asked = Request(f"{url}/api/v1/cost?window=1h", headers={"authorization": f"Bearer {secret}"})
            with urlopen(asked) as answer:
                assert json.load(answer)["calls"] == calls
            ship = 'import llm_exporter as e; e.instrument(); e.record(provider="x", model="x", tokens={})'
            subprocess.run([sys.executable, "-c", ship], env=client, check=True)
            process.terminate()
    assert {*tmp_path.iterdir()} == {directory, token, ours}
    assert (directory / "ledger.db").is_file()


def test_the_demo_profile_builds_the_demo_image_and_ships_its_calls() -> None:
    demo = COMPOSE["services"]["demo"]
    assert demo["build"] == {"context": ".", "target": "demo"}
    assert "command" not in demo, "the image has the command"
    assert demo["profiles"] == ["demo"]
    assert demo["environment"] == {
        "LLM_EXPORTER_URL": "http://exporter:9847",
        "LLM_EXPORTER_TOKEN_FILE": TOKEN,
    }
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
