"""The committed catalogue files are what their compilers make, and can be trusted as data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from support.paths import ROOT

from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.catalogue import catalogue_files, compile_genai, compile_litellm
from crewmeter_cost.pricing.catalogue.corrections import PATH
from crewmeter_cost.pricing.catalogue.file_format import Catalogue
from crewmeter_cost.pricing.overrides.reader import read_overrides
from crewmeter_cost.pricing.overrides.section_keys import UNITS


def test_the_genai_prices_catalogue_has_not_drifted():
    """Compiling the installed genai-prices again gives the committed file, byte for byte."""
    if compile_genai.installed_version() != catalogue_files.open_genai().version:
        pytest.skip(
            f"genai-prices {compile_genai.installed_version()} is installed, the file is of "
            f"{catalogue_files.open_genai().version}"
        )
    assert compile_genai.compile_installed() == compile_genai.PATH.read_text()


def test_the_litellm_catalogue_has_not_drifted():
    """Compiling the catalogue inside crewai again gives the committed file, byte for byte."""
    pytest.importorskip("crewai", reason="crewai is not installed")
    if (
        f"crewai {compile_litellm.installed_catalogue()[1]}"
        != catalogue_files.open_litellm().version
    ):
        pytest.skip("another crewai is installed than the one the file was compiled from")
    assert compile_litellm.compile_installed() == compile_litellm.PATH.read_text()


def test_the_drift_check_says_what_to_do():
    """`--check` passes on the committed file."""
    checked = subprocess.run(
        [sys.executable, "-m", "crewmeter_cost.pricing.catalogue.compile_genai", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, "genai-prices.txt: up to date\n")


@pytest.mark.parametrize("name", ["genai-prices", "litellm"])
def test_every_line_of_a_catalogue_reads(name):
    """Every model has names and periods whose prices are plain decimals.

    No name is listed under two prices.
    """
    catalogue = Catalogue.open(catalogue_files.SHIPPED / f"{name}.txt")
    models = 0
    for provider in catalogue.providers:
        for entry in catalogue.entries(provider):
            models += 1
            for period in entry.periods:
                for unit, price in period.items():
                    if unit not in ("from", "hours", "tier", "uplift"):
                        parts = (
                            [price]
                            if isinstance(price, str)
                            else [price[0], *(dear for _, dear in price[1:])]
                        )
                        assert all(
                            Decimal(part) >= 0 and "e" not in part.lower() for part in parts
                        ), (entry, unit)
    assert models == catalogue.header["models"]


def test_corrections_have_their_source_and_date():
    """Each correction says why, from where and when it was checked, for units that prices have."""
    data = tomllib.loads(PATH.read_text())
    for kind in ("alias", "price", "unpriced"):
        assert data[kind]
        for entry in data[kind]:
            assert entry["source"]
            assert isinstance(entry["checked"], date)
            assert entry.get("why") or entry.get("reason")
    for entry in data["price"]:
        units = entry.keys() - {"provider", "models", "why", "source", "checked", "from"}
        assert units
        assert {unit for unit in units if ":" not in unit} <= set(UNITS)
        assert all(Decimal(entry[unit]) > 0 for unit in units)


def test_corrections_replace_nothing():
    """A corrected unit is one that genai-prices does not list.

    An alias leads to a listed model and hides none.
    """
    data, catalogue = tomllib.loads(PATH.read_text()), catalogue_files.open_genai()
    for entry in data["price"]:
        for model in entry["models"]:
            for listed in catalogue.entries(entry["provider"]):
                if listed.model == model:
                    assert not any(unit in period for period in listed.periods for unit in entry), (
                        model,
                        entry,
                    )
    for entry in data["alias"]:
        assert catalogue.has(entry["provider"], entry["of"]), entry
        assert not [name for name in entry["names"] if catalogue.has(entry["provider"], name)], (
            entry
        )


def test_the_example_in_the_documentation_is_a_price_file(tmp_path, request):
    """The TOML in docs/pricing.md reads without complaint."""
    text = (request.config.rootpath / "docs" / "pricing.md").read_text()
    example = tmp_path / "prices.toml"
    example.write_text(text.partition("```toml\n")[2].partition("```")[0])
    rules = read_overrides(example)
    assert {rule.kind for rule in rules.rules} == {"price", "discount", "free", "self_hosted"}
    assert rules.provider_of("a100.gpu.example.com") == "self-hosted"


def test_genai_prices_is_not_imported_to_price():
    """Loading the book and charging imports neither genai-prices nor pydantic, and stays small."""
    program = (
        "import sys, time; from crewmeter_cost.pricing.price_book import PriceBook; from "
        "crewmeter_cost.pricing.charge import charge;"
        "from crewmeter.usage.token_usage import TokenUsage;"
        "charge(TokenUsage(1, 1), PriceBook.load(), provider='openai', model='gpt-4o', "
        "at_ns=time.time_ns());"
        "print([name for name in ('genai_prices', 'pydantic', 'yaml', 'sqlalchemy') if name in "
        "sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


@pytest.mark.parametrize("content", ["", "not json\n", '{"format": 2}\n', "[]\n"])
def test_a_file_that_is_no_catalogue_is_refused(tmp_path: Path, content):
    """By name, with the way out."""
    path = tmp_path / "book.txt"
    path.write_text(content)
    with pytest.raises(CrewMeterError, match=r"book\.txt is no price catalogue"):
        Catalogue.open(path)


def test_headers_name_source_and_licence():
    """Both derived files say what they were made from, and under which licence."""
    for catalogue in (catalogue_files.open_genai(), catalogue_files.open_litellm()):
        assert json.dumps(dict(catalogue.header))
        assert catalogue.header["license"].startswith("MIT")
        assert "github.com" in catalogue.header["source"]


def test_one_module_imports_genai_prices():
    """Each vendor is touched by one module: genai-prices by its compiler."""
    sources = [
        path for root in ("cost", "tracer", "dashboards") for path in (ROOT / root).rglob("*.py")
    ]
    importing = [
        path.name
        for path in sources
        if re.search(
            r"^\s*(?:from|import) genai_prices", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert importing == ["compile_genai.py"]
