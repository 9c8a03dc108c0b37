"""The statement as a PDF, made of its HTML page."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_pdf"]

_PANGO = "install Pango: apt install libpango-1.0-0 libpangoft2-1.0-0, or brew install pango"


def write_pdf(html: str, path: Path) -> None:
    """Write a page as PDF, with a page break where the page says so.

    Args:
        html: The document. It refers to nothing outside, and nothing is fetched.
        path: Where to write it.

    Raises:
        CrewMeterError: WeasyPrint or Pango is missing, or the file cannot be written.

    """
    weasyprint = _weasyprint()
    # A name in a statement must not make it call out.
    nothing = weasyprint.urls.URLFetcher(allowed_protocols=())
    document = weasyprint.HTML(string=html, url_fetcher=nothing)
    try:
        document.write_pdf(path)
    except OSError as error:
        raise CrewMeterError(
            f"cannot write {str(path)!r} ({error.strerror})",
            hint="give --pdf a file in a folder that exists",
        ) from error


def _weasyprint() -> Any:
    """Return WeasyPrint, which loads Pango when it is imported."""
    try:
        return importlib.import_module("weasyprint")
    except ModuleNotFoundError as error:
        hint = f"{install_command('pdf')}, or print the page of --html from a browser"
        raise CrewMeterError(f"--pdf needs {error.name}", hint=hint) from error
    except OSError as error:
        raise CrewMeterError(f"--pdf needs Pango: {error}", hint=_PANGO) from error
