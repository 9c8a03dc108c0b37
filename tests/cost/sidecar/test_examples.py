"""The container file and the examples start the sidecar the way it really starts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import typer
import yaml
from support.paths import ROOT
from typer.main import get_command

from crewmeter_cost.cli import serve


def options() -> set[str]:
    """Every option `crewmeter serve` has."""
    app = typer.Typer()
    serve.register(app, "")
    return {name for parameter in get_command(app).params for name in parameter.opts}


def started_with() -> dict[str, list[str]]:
    """The words after `crewmeter` in each file."""
    unit = (ROOT / "examples/systemd/crewmeter.service").read_text()
    docker = (ROOT / "Dockerfile").read_text()
    kubernetes = list(yaml.safe_load_all((ROOT / "examples/kubernetes/sidecar.yaml").read_text()))
    pod = next(part for part in kubernetes if part["kind"] == "Deployment")["spec"]["template"][
        "spec"
    ]
    return {
        "systemd": re.search(r"^ExecStart=\S+/crewmeter (.+)$", unit, re.MULTILINE)[1].split(),
        "docker": json.loads(re.search(r"^CMD (\[.+\])$", docker, re.MULTILINE)[1]),
        "kubernetes": next(part for part in pod["initContainers"] if part["name"] == "crewmeter")[
            "args"
        ],
    }


@pytest.mark.parametrize("name", ["systemd", "docker", "kubernetes"])
def test_the_options_exist(name):
    """A renamed option must not leave an example behind."""
    words = started_with()[name]
    assert words[0] == "serve"
    assert {word for word in words if word.startswith("--")} <= options()


def test_nothing_runs_as_root():
    """Image and pod run as an unprivileged user, on a read-only root, without capabilities."""
    assert re.search(r"^USER 10001:10001$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    pod = list(yaml.safe_load_all((ROOT / "examples/kubernetes/sidecar.yaml").read_text()))[2][
        "spec"
    ]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    sidecar = pod["initContainers"][0]["securityContext"]
    assert sidecar["readOnlyRootFilesystem"]
    assert sidecar["capabilities"] == {"drop": ["ALL"]}


def test_the_systemd_unit_is_understood(tmp_path):
    """Systemd itself finds nothing wrong with the unit."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "crewmeter.service"
    unit.write_text(
        (ROOT / "examples/systemd/crewmeter.service")
        .read_text()
        .replace("/opt/crewmeter/bin/crewmeter", "/bin/true")
    )
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)],
        capture_output=True,
        text=True,
    )
    assert rated.returncode == 0, rated.stdout[-300:]  # an exposure of at most 2.5 of 10
