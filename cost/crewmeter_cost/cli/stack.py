"""``crewmeter stack init DIR``: the whole stack for a project of one's own."""

from __future__ import annotations

import importlib
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from crewmeter_cost.cli.options import Format, FormatOption, ZoneOption, zone
from crewmeter_cost.cli.output import console, print_csv, print_json
from crewmeter_cost.compose_stack import write_stack, zone_in
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.formatting import counted
from crewmeter_cost.time_range import ZONE_VARIABLE, read_zone, zone_name

__all__ = ["register"]


def register(app: typer.Typer, help: str) -> None:
    """Add the command group to `app`."""
    group = typer.Typer(no_args_is_help=True)

    @group.callback()
    def root() -> None: ...

    @group.command(
        "init", help="Write compose file, collector configs, boards and rules into a folder."
    )
    def init(
        folder: Annotated[
            Path,
            typer.Argument(
                metavar="DIR", help="Where to; made if it isn't there.", file_okay=False
            ),
        ],
        force: Annotated[
            bool, typer.Option("--force", help="Overwrite files that are there (never .env).")
        ] = False,
        from_index: Annotated[
            bool,
            typer.Option(
                "--from-index",
                help="Build the image from the package index, not from the installed version.",
            ),
        ] = False,
        tz: ZoneOption = None,
        format: FormatOption = Format.TABLE,
    ) -> None:
        version = metadata.version("crewmeter")
        named = _zone_of_stack(folder, tz)
        written = write_stack(
            folder,
            version=version,
            overwrite=force,
            from_index=from_index,
            zone=named,
            in_zone=_in_zone(named),
        )
        if format is Format.JSON:
            print_json(
                {
                    "folder": str(folder),
                    "written": list(written.files),
                    "kept": list(written.retained),
                }
            )
        elif format is Format.CSV:
            rows = [{"file": name, "done": "written"} for name in written.files]
            print_csv(
                ["file", "done"],
                rows + [{"file": name, "done": "kept"} for name in written.retained],
            )
        else:
            _print_summary(
                folder,
                len(written.files),
                written.retained,
            )

    app.add_typer(group, name="stack", help=help)


def _zone_of_stack(folder: Path, chosen: str | None) -> str:
    """Return the zone for boards and rules.

    It is that of a ``.env`` that is there, since that file stays as it is.

    Raises `CrewMeterError` where another was chosen: page and boards would have different days.
    """
    named = zone_name(zone())
    settings = folder / ".env"
    if not settings.is_file():
        return named
    written = zone_in(settings.read_text("utf-8", errors="replace"))
    there = written or (named if chosen is None else "UTC")
    try:
        there = zone_name(read_zone(there))
    except CrewMeterError as error:
        raise CrewMeterError(
            f"{settings} has {ZONE_VARIABLE}={there}, which is not a time zone",
            hint="use an IANA name such as Europe/Berlin, America/New_York or UTC",
        ) from error
    if chosen is not None and there != named:
        raise CrewMeterError(
            f"--tz {named} is not the zone of {settings}, which is {there} and stays",
            hint=f"write {ZONE_VARIABLE}={named} into it, then run this again without --tz",
        )
    return there


def _in_zone(named: str) -> dict[str, str]:
    """Return boards and rules with the days of a zone, by path.

    The shipped ones are in UTC, so for UTC there are none.
    """
    if named == "UTC":
        return {}
    files = importlib.import_module("crewmeter_dashboards.rendered_files")
    thresholds = importlib.import_module("crewmeter_dashboards.thresholds").load(zone=named)
    return {f"dashboards/{name}": text for name, text in files.in_zone_of(thresholds).items()}


def _print_summary(folder: Path, count: int, retained: tuple[str, ...]) -> None:
    out = console()
    out.print(Text(f"{counted(count, 'file')} written to {folder}"))
    if retained:
        printed = ", ".join(retained[:5]) + (
            f" and {len(retained) - 5} more" if len(retained) > 5 else ""
        )
        out.print(Text(f"retained as they are: {printed} (--force overwrites all but .env)"))
    out.print()
    out.print(Text("next:", style="bold"))
    for line in (
        f"cd {folder} && docker compose up -d",
        "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318   # for your app",
        "open http://127.0.0.1:3000                                 # boards",
    ):
        out.print(Text(f"  {line}"))
