"""`docker-compose.yml` and `crewmeter stack init`.

Everything referred to exists, nothing is open, nothing is floating.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
ONE_SHOT = {"demo"}
SERVICE = pytest.mark.parametrize("name", SERVICES)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """What `crewmeter stack init` writes."""
    folder = tmp_path_factory.mktemp("project") / "stack"
    done = subprocess.run(
        [Path(sys.executable).with_name("crewmeter"), "stack", "init", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.services
@pytest.mark.parametrize("profile", ["", "demo", "postgres"])
def test_the_reference_implementation_accepts_it(profile, tmp_path):
    """compose-go, which docker compose itself is built on, loads the file.

    Schema, references, interpolation.
    """
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    module = "github.com/compose-spec/compose-go/v2/cmd@v2.16.2"
    tool = (
        Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        / "crewmeter/compose-go-v2.16.2/cmd"
    )
    if not tool.exists():
        done = subprocess.run(
            ["go", "install", module],
            env=os.environ | {"GOBIN": str(tool.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "COMPOSE_PROFILES": profile}
    command = [tool, "-format", "json", ROOT / "docker-compose.yml"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    services = json.loads(done.stdout)["services"]
    assert services["collector"]["environment"]["CREWMETER_TRACE_PERCENT"] == "100"


@SERVICE
def test_images_are_pinned(name):
    """An image is built from here or has an exact version: tomorrow's start is today's."""
    service = SERVICES[name]
    if "build" in service:
        text = (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).read_text()
        for argument, default in re.findall(r"^ARG (\w+)=(\S+)", text, flags=re.MULTILINE):
            text = text.replace(f"${{{argument}}}", default)
        stages = set(re.findall(r" AS (\S+)", text))
        bases = [
            base
            for base in re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
            if base not in stages
        ]
        assert bases
        assert all(re.search(r":\d+\.\d+", base) for base in bases), bases
    else:
        assert re.search(r":v?\d+\.\d+(\.\d+)?", service["image"]), service["image"]


@SERVICE
def test_build_arguments_exist(name):
    """An argument the compose file passes is one the image recipe has, in the checkout and in what
    `stack init` writes.
    """
    from crewmeter_cost.compose_stack.write import DOCKERFILE

    build = SERVICES[name].get("build", {})
    for argument in build.get("args", {}):
        assert f"ARG {argument}=" in (ROOT / build["dockerfile"]).read_text()
        assert f"ARG {argument}=" in DOCKERFILE


@SERVICE
def test_ports_are_on_loopback(name):
    """Nothing of the stack can be reached from another machine."""
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@SERVICE
def test_nothing_runs_as_root_or_without_limits(name):
    """A user, dropped capabilities, no new privileges, memory and processor limits,
    bounded logs.
    """
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"memory", "cpus"} <= set(service["deploy"]["resources"]["limits"])
    assert service["logging"]["options"]["max-size"]


@SERVICE
def test_services_restart_and_say_whether_they_are_well(name):
    """Long-running services have a health check and come back by themselves."""
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]


@SERVICE
def test_mounts_and_references_exist(name):
    """Every host path, named volume, config and dependency is there."""
    service = SERVICES[name]
    for mount in service.get("volumes", []):
        source, target, *mode = mount.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == ["ro"], f"{source} is mounted writable"
        else:
            assert source in COMPOSE["volumes"], source
    for config in service.get("configs", []):
        assert config["source"] in COMPOSE["configs"]
    for other, condition in service.get("depends_on", {}).items():
        assert other in SERVICES
        if condition["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]


def test_every_volume_is_used():
    """A volume nobody mounts is a leftover."""
    used = {
        mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])
    }
    assert set(COMPOSE["volumes"]) == {name for name in used if not name.startswith(".")}


def test_every_variable_is_in_the_example():
    """Each ${VARIABLE} of the compose file is explained in .env.example with the same default, and
    no other is.
    """
    text = (ROOT / "docker-compose.yml").read_text()
    used = dict(re.findall(r"(?<!\$)\$\{(\w+):-([^}]*)\}", text))
    assert not re.findall(r"(?<!\$)\$\{(\w+)\}", text), "a variable without a default"
    example = dict(
        re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    )
    assert example == used


def test_the_collectors_variables_are_those_its_configs_read():
    """What compose hands the collector is read by base.yaml or gateway.yaml, and what has no
    default there is handed over.
    """
    configs = "".join(
        (ROOT / f"collector-config/{name}.yaml").read_text() for name in ("base", "gateway")
    )
    read = dict(
        re.findall(r"\$\{env:(\w+)(?::-[^}]*)?\}", configs)
        and re.findall(r"\$\{env:(\w+)((?::-[^}]*)?)\}", configs)
    )
    given = {name for name in SERVICES["collector"]["environment"] if name.startswith("CREWMETER_")}
    assert given <= set(read)
    assert {name for name, default in read.items() if not default} <= given


def test_addresses_name_services_and_their_ports():
    """Prometheus' targets, Alertmanager, Grafana's data sources and the collector's ends are
    services that listen there.
    """
    listens = {
        "collector": {8888, 8889, 4317, 4318, 13133},
        "crewmeter": {4318, 4317},
        "prometheus": {9090},
        "alertmanager": {9093},
        "tempo": {3200, 4317},
        "grafana": {3000},
        "postgres": {5432},
    }
    named: list[str] = []
    prometheus = yaml.safe_load((ROOT / "collector-config/prometheus.yml").read_text())
    for job in prometheus["scrape_configs"]:
        named += [target for config in job["static_configs"] for target in config["targets"]]
    named += prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    collector = SERVICES["collector"]["environment"]
    named += [
        collector["CREWMETER_LEDGER_ENDPOINT"].removeprefix("http://"),
        collector["CREWMETER_TRACES_ENDPOINT"],
    ]
    for folder in ("provisioning", "provisioning-postgres"):
        sources = yaml.safe_load(
            (ROOT / f"dashboards/grafana/{folder}/datasources/crewmeter.yml").read_text()
        )["datasources"]
        named += [source["url"].removeprefix("http://") for source in sources if "url" in source]
    for address in named:
        host, port = address.rsplit(":", 1)
        assert int(port) in listens[host], address


def test_grafana_finds_ledger_and_boards():
    """The SQLite path of the data source is the ledger's, over a read-only mount.

    The boards lie where provisioning looks.
    """
    [ledger] = [mount for mount in SERVICES["grafana"]["volumes"] if mount.startswith("ledger:")]
    assert ledger.endswith(":ro"), "nothing a viewer types may write"
    sources = yaml.safe_load(
        (ROOT / "dashboards/grafana/provisioning/datasources/crewmeter.yml").read_text()
    )["datasources"]
    [sqlite] = [source for source in sources if source["type"] == "frser-sqlite-datasource"]
    command = "".join(SERVICES["crewmeter"]["command"])
    assert f"sqlite:///{sqlite['jsonData']['path']}" in command
    assert (
        SERVICES["grafana"]["user"].split(":")[0] == SERVICES["crewmeter"]["user"].split(":")[0]
    ), "the ledger file is private to its user"
    script = "".join(SERVICES["grafana"]["command"])
    for folder in ("provisioning", "provisioning-postgres"):
        boards = yaml.safe_load(
            (ROOT / f"dashboards/grafana/{folder}/dashboards/crewmeter.yml").read_text()
        )["providers"][0]
        assert f"{boards['options']['path']}\n" in script
        assert f"/usr/share/crewmeter/grafana/{folder}" in script
    for dialect in ("sqlite", "postgres"):
        assert list((ROOT / f"dashboards/grafana/{dialect}").glob("*.json"))


def test_the_rules_are_where_prometheus_looks():
    """prometheus.yml names rule files that the mount puts there."""
    prometheus = yaml.safe_load((ROOT / "collector-config/prometheus.yml").read_text())
    for rule_file in prometheus["rule_files"]:
        assert (ROOT / "dashboards/prometheus" / Path(rule_file).name).is_file()


@pytest.mark.services
def test_prometheus_and_alertmanager_accept_their_configs(tmp_path):
    """Promtool and amtool check what the stack mounts, laid out as it is mounted."""
    if shutil.which("promtool") is None or shutil.which("amtool") is None:
        pytest.skip("promtool or amtool is not installed (scripts/install-services.sh)")
    (tmp_path / "rules").mkdir()
    shutil.copy(ROOT / "collector-config/prometheus.yml", tmp_path)
    (tmp_path / "crewmeter-token").write_text("a-key-for-tests")
    for path in (ROOT / "dashboards/prometheus").glob("*.yml"):
        shutil.copy(path, tmp_path / "rules")
    for command in (
        ["promtool", "check", "config", tmp_path / "prometheus.yml"],
        ["amtool", "check-config", tmp_path / "rules/alertmanager.yml"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_stack_init_writes_a_project_with_keys_of_its_own(project):
    """Every mount of the written compose file exists, the keys are random and private, and the
    image recipe pins the version.
    """
    compose = yaml.safe_load((project / "docker-compose.yml").read_text())
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            if mount.startswith("."):
                assert (project / mount.split(":")[0]).exists(), mount
        if "build" in service:
            assert (project / service["build"]["dockerfile"]).is_file()
    environment = dict(
        re.findall(r"^(\w+)=(.*)$", (project / ".env").read_text(), flags=re.MULTILINE)
    )
    secrets = {
        environment[name]
        for name in environment
        if name.endswith(("TOKEN", "PASSWORD")) and not name.startswith("ALERT_")
    }
    assert len(secrets) == 4
    assert all(len(secret) >= 24 for secret in secrets)
    assert (project / ".env").stat().st_mode & 0o077 == 0
    recipe = (project / "Dockerfile").read_text()
    wheel = re.search(r"/(wheels/crewmeter-\d+\.\d+\S*\.whl)\[", recipe)[1]
    assert (project / wheel).is_file()
    assert "COPY wheels /wheels" in recipe
    assert os.access(project / "scripts/build-collector.sh", os.X_OK)
    for name in re.findall(
        r"^COPY (?!--from)(.+) \S+$",
        (project / "collector-config/Dockerfile").read_text(),
        flags=re.MULTILINE,
    ):
        assert all((project / part).exists() for part in name.split()), name


def test_stack_init_keeps_what_people_changed(project):
    """A second run leaves changed files and keys alone.

    --force renews the files, never the keys.
    """
    crewmeter = Path(sys.executable).with_name("crewmeter")
    changed, keys = project / "collector-config/gateway.yaml", (project / ".env").read_text()
    changed.write_text("# mine\n")
    again = subprocess.run(
        [crewmeter, "stack", "init", project, "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
    )
    reported = json.loads(again.stdout)
    assert reported["written"] == []
    assert "collector-config/gateway.yaml" in reported["kept"]
    assert changed.read_text() == "# mine\n"
    subprocess.run(
        [crewmeter, "stack", "init", project, "--force"], capture_output=True, check=True
    )
    assert changed.read_text() == (ROOT / "collector-config/gateway.yaml").read_text()
    assert (project / ".env").read_text() == keys


def test_stack_init_into_a_file_is_refused(tmp_path):
    """A path that can't be a folder is named; no traceback."""
    (tmp_path / "here").write_text("")
    done = subprocess.run(
        [Path(sys.executable).with_name("crewmeter"), "stack", "init", tmp_path / "here/below"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr
