"""A real Prometheus on loopback that scrapes one target every second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import yaml

from support.boards import get_json, program, running
from support.paths import ROOT
from support.ports import free_port

__all__ = ["impatient_rules", "prometheus_server", "query"]

RULES = ROOT / "dashboards/prometheus"


@contextmanager
def prometheus_server(
    folder: Path, *, scrape: int, alertmanager: int | None = None, rules: tuple[Path, ...] = ()
) -> Iterator[str]:
    """Yield the address of a Prometheus that scrapes a port of this machine."""
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": "crewmeter", "static_configs": [{"targets": [f"127.0.0.1:{scrape}"]}]}
        ],
    }
    if alertmanager is not None:
        config["alerting"] = {
            "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
        }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    base = f"http://127.0.0.1:{port}"
    command = [
        program("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running(command, ready=f"{base}/-/ready", log=folder / "prometheus.log"):
        yield base


def query(base: str, expression: str) -> list[dict]:
    """The series that a PromQL expression gives now."""
    return get_json(f"{base}/api/v1/query?{urlencode({'query': expression})}")["data"]["result"]


def impatient_rules(folder: Path) -> tuple[Path, ...]:
    """Return the committed rules without their waiting times.

    Every expression stays, and the test need not wait.
    """
    paths = []
    for name in ("recording.yml", "alerts.yml"):
        document = yaml.safe_load((RULES / name).read_text("utf-8"))
        for group in document["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                rule.pop("for", None)
        paths.append(folder / name)
        paths[-1].write_text(yaml.safe_dump(document), "utf-8")
    return tuple(paths)
