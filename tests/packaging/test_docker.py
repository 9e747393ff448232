"""docker-compose.yml, compose.gpu.yml and the Dockerfiles: every path exists, every command is one, every variable is a setting."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import make_url
from typer.main import get_command
from typer.testing import CliRunner

from service.cli import app
from service.settings import Settings
from trainer.remedies import LEAST_DRIVER

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU: dict[str, Any] = yaml.safe_load((ROOT / "compose.gpu.yml").read_text())
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(dockerfile: Path, keyword: str) -> list[str]:
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.removeprefix(f"{keyword} ") for line in text.splitlines() if line.startswith(f"{keyword} ")]


def thaw_commands() -> list[list[str]]:
    found = [yaml.safe_load(command) for file in DOCKERFILES for command in instructions(file, "CMD")]
    found += [service["healthcheck"]["test"][1:] for service in COMPOSE["services"].values()]
    return [command[1:] for command in found if command[0] == "thaw"]


def test_the_three_services_are_there_with_health_checks() -> None:
    assert set(COMPOSE["services"]) == {"database", "server", "worker"}
    assert all("test" in service["healthcheck"] for service in COMPOSE["services"].values())


def test_the_services_start_without_nvidia_s_runtime() -> None:
    assert all("deploy" not in service and "runtime" not in service and "gpus" not in service for service in COMPOSE["services"].values())


def test_the_second_file_gives_the_worker_the_gpus_and_changes_nothing_else() -> None:
    assert set(GPU) == {"services"} and set(GPU["services"]) == {"worker"} and set(GPU["services"]["worker"]) == {"deploy"}
    [device] = GPU["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_the_worker_s_image_asks_the_runtime_for_the_library_by_which_gpus_are_found() -> None:
    capabilities = [line for line in instructions(ROOT / "docker" / "worker.Dockerfile", "ENV") if "NVIDIA_DRIVER_CAPABILITIES" in line]
    assert capabilities == ["NVIDIA_DRIVER_CAPABILITIES=compute,utility"]


def test_the_image_states_the_driver_that_its_torch_needs() -> None:
    """The wheels of torch 2.11 and newer are built for CUDA 13."""
    assert re.search(r"^torch==2\.(1[1-9]|[2-9]\d)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert f"driver {LEAST_DRIVER[13]} or newer" in (ROOT / "docker" / "worker.Dockerfile").read_text()


def test_each_dockerfile_that_compose_names_exists() -> None:
    named = {
        ROOT / service["build"]["context"] / service["build"]["dockerfile"]
        for service in COMPOSE["services"].values()
        if "build" in service
    }
    assert {path.resolve() for path in named} == {path.resolve() for path in DOCKERFILES}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_each_path_that_is_copied_exists(dockerfile: Path) -> None:
    sources = [part for line in instructions(dockerfile, "COPY") for part in line.split()[:-1]]
    assert len(sources) >= 5
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_each_package_of_the_project_is_copied(dockerfile: Path) -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = " ".join(instructions(dockerfile, "COPY")).split()
    assert {pattern.removesuffix("*") for pattern in patterns} <= set(copied)


def test_each_named_volume_is_declared() -> None:
    used = {volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]}
    assert {name for name in used if not name.startswith(".")} == set(COMPOSE["volumes"])


@pytest.mark.parametrize("command", thaw_commands(), ids=" ".join)
def test_each_thaw_command_exists_with_its_options(command: list[str]) -> None:
    words = [word for word in command if not word.startswith("-")]
    here: Any = get_command(app)
    while words and words[0] in getattr(here, "commands", {}):
        here = here.commands[words.pop(0)]
    known = {option for parameter in here.params for option in parameter.opts}
    assert here.name == [word for word in command if word.isalpha()][-1]
    assert {word for word in command if word.startswith("--")} <= known
    assert CliRunner().invoke(app, [*[word for word in command if word.isalpha()], "--help"]).exit_code == 0


def test_each_thaw_variable_is_a_setting() -> None:
    text = (ROOT / "docker-compose.yml").read_text() + "".join(file.read_text() for file in DOCKERFILES)
    named = {name.lower() for name in re.findall(r"THAW_([A-Z_]+)", text)}
    assert {"database_url", "token"} <= named
    assert named <= set(Settings.model_fields)


def test_the_health_check_asks_the_port_that_the_server_listens_on() -> None:
    [server_command] = [command for command in thaw_commands() if command[0] == "serve"]
    port = server_command[server_command.index("--port") + 1]
    assert f":{port}/livez" in COMPOSE["services"]["server"]["healthcheck"]["test"][-1]
    assert COMPOSE["services"]["server"]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_each_service_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"] and service["read_only"] is True and "privileged" not in service
    assert set(service.get("cap_add", ())) <= ({"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"} if name == "database" else set())
    assert "/tmp" in service["tmpfs"]  # noqa: S108  (in the container)
    assert re.fullmatch(r"\$\{[A-Z_]+:-\d+g\}", service["mem_limit"]) and service["pids_limit"] > 0
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_no_secret_is_put_into_a_url_or_a_command() -> None:
    """A password may hold any character, and what is written into a URL would have to be escaped."""
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            if "${" in str(value):
                assert re.fullmatch(r"\$\{[A-Z_]+:[-?][^}]*\}", value), name
        assert "PASSWORD" not in str(service.get("command")) + str(service["healthcheck"])
    for name in ("server", "worker"):
        environment = COMPOSE["services"][name]["environment"]
        assert make_url(environment["THAW_DATABASE_URL"]).password is None and "POSTGRES_PASSWORD" in environment["PGPASSWORD"]


def test_what_containers_write_lies_on_a_volume() -> None:
    """Their root is read-only: the home of Thawline, and of the user whose libraries keep caches."""
    for name in ("server", "worker"):
        service = COMPOSE["services"][name]
        assert any(volume.endswith(":/var/lib/thaw") for volume in service["volumes"])
        assert "./data:/data:ro" in service["volumes"]
    assert COMPOSE["services"]["worker"]["environment"]["HOME"] == "/var/lib/thaw"
    assert all("THAW_HOME=/var/lib/thaw" in instructions(file, "ENV") and instructions(file, "USER") == ["thaw"] for file in DOCKERFILES)
