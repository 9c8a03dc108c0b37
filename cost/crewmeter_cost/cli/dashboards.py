"""``crewmeter dashboards``.

Boards and alert rules for your own Grafana and Prometheus, and the check that they are current.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from crewmeter_cost.cli.options import ZoneOption, zone
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command
from crewmeter_cost.time_range import zone_name

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["register"]

ThresholdsOption = Annotated[
    Path | None, typer.Option("--thresholds", help="Your numbers over the shipped thresholds.toml.")
]

_SERVERS = {
    "postgresql": ("postgresql", 5432, "disable"),
    "clickhouse": ("clickhouse", 8123, "disable"),
    "clickhouses": ("clickhouse", 8443, "require"),
}
"""Scheme of a URL → dialect of the boards, port, TLS."""


def register(app: typer.Typer, help: str) -> None:
    """Add the group ``dashboards``."""
    group = typer.Typer(no_args_is_help=True, help=help)
    group.command(
        "export",
        help="Write boards, alert rules and provisioning into DIR, pointing at your ledger and "
        "Prometheus.",
    )(export)
    group.command(
        "check", help="Exit 1 where the committed files differ from what the code renders."
    )(check)
    group.command("render", help="Render the committed files again, in a source tree.")(render)
    app.add_typer(group, name="dashboards", help=help)


def _module(name: str) -> Any:
    """Return a module of `crewmeter_dashboards`, loaded on first use.

    The rest of the command line does without it.
    """
    return importlib.import_module(f"crewmeter_dashboards.{name}")


def _thresholds(path: Path | None, runbooks: str | None = None, zone: str = "UTC") -> Any:
    module = _module("thresholds")
    try:
        return module.load(path, runbooks=runbooks, zone=zone)
    except module.ThresholdsError as error:
        raise CrewMeterError(
            str(error),
            hint="every name and its meaning: dashboards/crewmeter_dashboards/thresholds.toml",
        ) from error


def _sources(ledger: str, prometheus: str, tempo: str, boards: str) -> Any:
    """Return the provisioning's view of a ledger URL or SQLite path."""
    dialect = _module("sql_sources").Dialect
    make = _module("provisioning").Sources
    if "://" not in ledger:
        return make(
            dialect=dialect.SQLITE,
            path=str(Path(ledger).expanduser()),
            prometheus=prometheus,
            tempo=tempo,
            boards=boards,
        )
    try:
        url = make_url(ledger)
    except ArgumentError as error:
        raise CrewMeterError(
            f"--ledger {ledger!r} is not a database URL",
            hint="sqlite:////var/lib/crewmeter/ledger.db or postgresql://…",
        ) from error
    if url.get_backend_name() == "sqlite":
        return make(
            dialect=dialect.SQLITE,
            path=url.database or "",
            prometheus=prometheus,
            tempo=tempo,
            boards=boards,
        )
    kind, port, tls = _SERVERS.get(
        url.get_backend_name(),
        ("", 0, ""),
    )
    if not kind:
        raise CrewMeterError(
            f"there are no boards for {url.get_backend_name()} ledgers",
            hint="SQLite, PostgreSQL and mirrors in ClickHouse have them",
        )
    return make(
        dialect=dialect(kind),
        host=f"{url.host or 'localhost'}:{url.port or port}",
        database=url.database or "crewmeter",
        user=url.username or "grafana_reader",
        tls=tls,
        prometheus=prometheus,
        tempo=tempo,
        boards=boards,
    )


def export(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write; made if missing.")
    ],
    ledger: Annotated[
        str | None,
        typer.Option(
            "--ledger",
            help="The ledger as Grafana reaches it: SQLite path, or URL of PostgreSQL or a "
            "mirror in ClickHouse.",
        ),
    ] = None,
    prometheus: Annotated[
        str, typer.Option("--prometheus", help="Prometheus as Grafana reaches it.")
    ] = "http://prometheus:9090",
    tempo: Annotated[
        str, typer.Option("--tempo", help="Tempo as Grafana reaches it.")
    ] = "http://tempo:3200",
    boards: Annotated[
        str | None,
        typer.Option(
            "--boards", help="Where Grafana will find the boards. Default: DIR/dashboards."
        ),
    ] = None,
    alertmanager: Annotated[
        str, typer.Option("--alertmanager", help="Alertmanager as Grafana reaches it.")
    ] = "http://alertmanager:9093",
    runbooks_url: Annotated[
        str | None,
        typer.Option(
            "--runbooks-url",
            help="Where alerts link to: your copy of runbooks/, or an address with {name}.",
        ),
    ] = None,
    thresholds: ThresholdsOption = None,
    purpose: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="SITE",
            help="`grafana.com`: only the boards, of every kind of ledger, with inputs for the "
            "data sources, and the text of each one's page.",
        ),
    ] = None,
    tz: ZoneOption = None,
) -> None:
    """Write everything an existing Grafana and Prometheus need.

    A password is never written: Grafana reads it from the environment.
    """
    if purpose is not None:
        _export_shared(directory, purpose)
        return
    if ledger is None:
        raise CrewMeterError(
            "--ledger is missing", hint="name the ledger's path or URL as Grafana reaches it"
        )
    target = boards or str(directory.resolve() / "dashboards")
    sources = replace(
        _sources(ledger, prometheus, tempo, target),
        alertmanager=alertmanager,
    )
    files = _module("rendered_files")
    named = zone_name(zone())
    shipped = files.shipped(sources.dialect, named)
    written: dict[str, str] = {f"dashboards/{name}": text for name, text in shipped.items()}
    numbers = _thresholds(thresholds, runbooks_url, named)
    written |= files.text_files(numbers, sources, folder="provisioning")
    written |= {f"runbooks/{name}": text for name, text in files.runbooks().items()}
    _write(directory, written)
    sys.stdout.write(
        f"{len(written)} files in {directory}: dashboards/, provisioning/, prometheus/, "
        f"runbooks/; days and months of {named}\n"
    )


def _export_shared(directory: Path, purpose: str) -> None:
    """Write the boards for a site where people share them."""
    if purpose.lower() != "grafana.com":
        raise CrewMeterError(f"--for {purpose!r} is unknown", hint="--for grafana.com")
    written = _module("rendered_files").for_grafana_com()
    _write(directory, written)
    sys.stdout.write(f"{len(written)} files in {directory}, a folder for each kind of ledger\n")


def _write(root: Path, files: Mapping[str, str]) -> None:
    try:
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise CrewMeterError(
            f"cannot write {error.filename}: {error.strerror}", hint="choose another DIR"
        ) from error


def _wanted() -> tuple[dict[str, str], Path, str, Path]:
    """Return what the code renders and where it is committed.

    These are files under ``dashboards/`` and the page's catalogue.
    """
    files = _module("rendered_files")
    shipped = _thresholds(None)
    try:
        wanted = files.rendered(shipped)
    except ModuleNotFoundError as error:
        raise CrewMeterError(
            f"rendering boards needs {error.name}", hint=install_command("dashboards")
        ) from error
    catalogue = Path(__file__).parents[1] / "web" / files.PAGE
    return wanted, files.committed(), files.page_rendered(), catalogue


def check() -> None:
    """Compare the committed files with what the code renders."""
    wanted, root, page, catalogue = _wanted()
    stale = _module("rendered_files").drift(wanted, root)
    if not catalogue.is_file() or catalogue.read_text("utf-8") != page:
        stale.append(str(catalogue))
    if stale:
        raise CrewMeterError(
            f"not current: {', '.join(stale)}", hint="crewmeter dashboards render", exit_code=1
        )
    sys.stdout.write(f"{len(wanted) + 1} rendered files are current\n")


def render() -> None:
    """Write the committed files again."""
    wanted, root, page, catalogue = _wanted()
    _write(root, wanted)
    _write(catalogue.parent, {catalogue.name: page})
    sys.stdout.write(f"{len(wanted) + 1} files rendered\n")
