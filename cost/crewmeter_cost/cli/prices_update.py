"""``crewmeter prices update``: newer prices from genai-prices, or from a file."""

from __future__ import annotations

import sys
from pathlib import Path

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.catalogue import catalogue_files
from crewmeter_cost.pricing.catalogue.search import Library

__all__ = ["update_prices"]


def update_prices(file: Path | None) -> None:
    from crewmeter_cost.pricing.catalogue import compile_genai

    shipped = Library().genai
    if file is not None:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise CrewMeterError(
                f"{file} can't be read: {error.strerror}", hint="check the path"
            ) from error
        text = (
            raw.decode("utf-8", "replace")
            if raw.startswith(b'{"format"')
            else compile_genai.compile_file(file)
        )
    else:
        version = compile_genai.installed_version()
        if not catalogue_files.is_newer(version, shipped.version):
            hint = "`pip install -U genai-prices` for a newer one, or give --file"
            sys.stdout.write(
                f"the book has the prices of genai-prices {shipped.version}, and {version} is "
                f"installed: nothing to do\n({hint})\n"
            )
            return
        text = compile_genai.compile_installed()
    path = catalogue_files.keep(text)
    sys.stdout.write(
        f"{path}: {Library().genai.version}, in use from now on; `crewmeter reprice --dry-run` "
        "shows what it changes\n"
    )
