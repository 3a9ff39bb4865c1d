"""docker-compose.yml and Procfile say the same, ask for their secrets, and are pinned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROCFILE = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line
)
OURS = ("migrate", *PROCFILE)
SECRETS = re.compile(r"PASS|SECRET|AUTH|_URL$")


def test_the_procfile_has_every_process_of_the_architecture() -> None:
    assert list(PROCFILE) == ["web", "worker", "engine", "beat", "flower"]


@pytest.mark.parametrize("name", PROCFILE)
def test_a_service_runs_its_line_of_the_procfile(name: str) -> None:
    shell, option, command = SERVICES[name]["command"]
    assert (shell, option) == ("sh", "-c")
    assert command.replace("$$", "$") == f"exec {PROCFILE[name]}"


def test_the_image_runs_web_by_default() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    line = PROCFILE["web"].replace("${HOST:-0.0.0.0}", "0.0.0.0").replace("$PORT", "${PORT:-8000}")
    assert f"exec {line}" in dockerfile
    assert re.search(r"^FROM python:3\.11\.\d+-\S+$", dockerfile, re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_by_version(name: str) -> None:
    assert re.search(r":\d+\.\d+(\.\d+)?", SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_services_know_database_broker_redis_and_key(name: str) -> None:
    needed = {"DATABASE_URL", "BROKER_URL", "REDIS_URL", "SECRET_KEY", "TASKMILL_ALLOWED_HOSTS"}
    needed |= {"SECRET_KEY_FALLBACKS", "TASKMILL_APPS", "TASKMILL_ADOPT"}
    assert needed <= SERVICES[name]["environment"].keys()


@pytest.mark.parametrize("name", OURS)
def test_any_other_setting_may_stand_in_a_file_that_nobody_commits(name: str) -> None:
    assert SERVICES[name]["env_file"] == [{"path": "taskmill.env", "required": False}]
    for ignores in (".gitignore", ".dockerignore"):
        assert "taskmill.env" in (ROOT / ignores).read_text().splitlines()


def test_the_engine_publishes_to_the_compose_file_s_mosquitto() -> None:
    assert "@mosquitto:1883" in SERVICES["engine"]["environment"]["MQTT_URL"]
    assert "{tenant}" in SERVICES["engine"]["environment"]["MQTT_PREFIX"]
    ports = [port.rpartition(":")[2] for port in SERVICES["mosquitto"]["ports"]]
    configuration = (ROOT / "deploy" / "mosquitto" / "mosquitto.conf").read_text()
    assert ports == re.findall(r"^listener (\d+)$", configuration, re.MULTILINE)


def test_no_secret_has_a_default() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if variable in {"EMAIL_URL", "SECRET_KEY_FALLBACKS"}:
                assert value == f"${{{variable}:-}}", "it is optional, and empty where it is unset"
            elif SECRETS.search(variable):
                used = re.findall(r"\$\{([^}]*)\}", str(value))
                assert used, f"{name}.{variable} is written out"
                assert all(":?" in one for one in used), f"{name}.{variable} has a default"
    assert ":?" in PROCFILE["flower"]


def test_servers_and_faces_have_health_checks_and_ports_stay_on_this_machine() -> None:
    for name in ("postgres", "rabbitmq", "valkey", "mosquitto", "web", "flower"):
        assert "test" in SERVICES[name]["healthcheck"]
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert ":-127.0.0.1:" in port


def test_nothing_starts_before_the_schema_and_the_servers_are_there() -> None:
    for name in PROCFILE:
        assert SERVICES[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "rabbitmq": {"condition": "service_healthy"},
            "valkey": {"condition": "service_healthy"},
        }
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_every_variable_that_a_person_sets_is_documented() -> None:
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "Procfile").read_text()
    asked = set(re.findall(r"\$\{([A-Z_]+)[:}]", text))
    page = (ROOT / "docs/how-to/run-in-production.md").read_text()
    assert {name for name in asked if f"`{name}`" not in page} == set()
