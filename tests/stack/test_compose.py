"""The compose file and the images start what the embedded stack starts, with the same commands and the same rights."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from app.stack import plan

ROOT = Path(__file__).parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OUR_SERVICES = {name: service for name, service in SERVICES.items() if str(service["image"]).startswith("seedbed-")}


def command(name: str) -> list[str]:
    """The service's command: its own, else its image's CMD."""
    if "command" in SERVICES[name]:
        return SERVICES[name]["command"]
    stage = DOCKERFILE.split(f" AS {SERVICES[name]['build']['target']}\n")[1].split("\nFROM ")[0]
    return yaml.safe_load(stage.split("CMD ")[1].replace("\\\n", ""))


def without(arguments: list[str], *names: str) -> list[str]:
    """The arguments, less these options with their values."""
    remaining = list(arguments)
    for name in names:
        if name in remaining:
            index = remaining.index(name)
            del remaining[index : index + 2]
    return remaining


@pytest.mark.parametrize("name", plan.WORKERS)
def test_workers_have_the_command_of_the_embedded_stack(name):
    embedded = list(plan.worker(name).argv)[1:]
    composed = command(name)
    composed = composed[1:] if composed[0] == "python" else ["-m", *composed]
    assert composed == without(embedded, "-n")


def test_every_process_of_the_stack_has_a_service():
    assert set(plan.ALL) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root_or_can_become_more(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert name in OUR_SERVICES or service["user"] in ("postgres", "redis")


def test_every_image_of_ours_ends_as_an_account_without_rights():
    for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[2:]:
        assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == ["seedbed"]


def test_every_install_takes_the_tested_versions():
    installs = re.findall(r"^RUN (pip install .*)$", DOCKERFILE, re.MULTILINE)
    assert installs
    assert all("-c constraints.txt" in line for line in installs)


def test_the_api_image_installs_no_torch():
    stage = DOCKERFILE.split(" AS api\n")[1].split("\nFROM ")[0]
    extras = {extra for match in re.findall(r"'\.\[(.*?)\]'", stage) for extra in match.split(",")}
    assert extras == {"s3"}
    assert {SERVICES[name]["build"]["target"] for name in ("api", "exports", "sweeper", "migrate")} == {"api"}


def test_only_the_api_is_published_and_only_on_this_machine():
    published = {name: service["ports"] for name, service in SERVICES.items() if service.get("ports")}
    assert list(published) == ["api"]
    assert all(port.startswith("127.0.0.1:") for port in published["api"])


@pytest.mark.parametrize("name", ["finetuning-gpu", "scoring-gpu"])
def test_a_training_machine_needs_none_of_the_other_services(name):
    service = SERVICES[name]
    assert service["profiles"] == ["gpu"]
    assert "depends_on" not in service
    for variable in ("DATABASE_URL", "REDIS_URL", "SEEDBED_STORAGE_URL"):
        assert service["environment"][variable].startswith("${" + variable)


def test_redis_keeps_nothing_and_drops_nothing():
    line = shlex.join(SERVICES["redis"]["command"])
    assert "--maxmemory-policy noeviction" in line and "--appendonly no" in line
