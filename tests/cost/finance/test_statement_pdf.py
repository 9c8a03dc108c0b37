"""The statement as a PDF: a page for each payer, numbered, with nothing fetched."""

from __future__ import annotations

import importlib
import re
import socket
import sys
import zlib

import pytest
from typer.testing import CliRunner

from crewmeter_cost.cli import build
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.finance.statement_pdf import write_pdf

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def weasyprint():
    """Imported with the first test: it takes a second, and may lack what it needs."""
    try:
        return importlib.import_module("weasyprint")
    except (ImportError, OSError):
        pytest.skip("needs weasyprint and the system's Pango")


def pages(content: bytes) -> int:
    """Return the number of pages that a PDF says it has."""
    texts = [content]
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            texts.append(zlib.decompress(stream))
        except zlib.error:
            continue
    counts = re.findall(rb"/Type /Pages\b.*?/Count (\d+)", b"\n".join(texts), re.DOTALL)
    return max(int(count) for count in counts)


def test_every_payer_has_a_page(month, tmp_path):
    """The summary, then one page for each team."""
    url = month.engine.url.render_as_string()
    target = tmp_path / "statement.pdf"
    words = ["statement", "--month", "2026-11", "--ledger", url]
    done = CliRunner().invoke(build("statement"), [*words, "--pdf", str(target)])
    assert done.exit_code == 0, done.output
    made = CliRunner().invoke(build("statement"), [*words, "--format", "csv"])
    teams = len(made.stdout.splitlines()) - 1
    assert teams >= 5
    assert target.read_bytes().startswith(b"%PDF-")
    assert pages(target.read_bytes()) == teams + 1


def test_nothing_is_fetched(tmp_path):
    """An address in the page is not called, whoever wrote it there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        page = f"<img src='{address}/x.png'><link rel=stylesheet href='{address}/x.css'>"
        write_pdf(page, tmp_path / "page.pdf")
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_folder_that_is_missing_is_named(tmp_path):
    """The error names the file, and there is no traceback."""
    with pytest.raises(CrewMeterError, match="nowhere"):
        write_pdf("<p>x</p>", tmp_path / "nowhere" / "page.pdf")


def test_a_missing_extra_is_named_with_what_installs_it(tmp_path, monkeypatch):
    """Without WeasyPrint the hint is a command that adds it, and the page as a way round."""
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(CrewMeterError) as caught:
        write_pdf("<p>x</p>", tmp_path / "page.pdf")
    assert "[pdf]" in caught.value.hint
    assert "--html" in caught.value.hint
