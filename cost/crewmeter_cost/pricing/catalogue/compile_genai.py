"""The compiler from genai-prices' catalogue to ours.

The only module that imports genai-prices, and never at run time.

    python -m crewmeter_cost.pricing.catalogue.compile_genai
    python -m crewmeter_cost.pricing.catalogue.compile_genai --check

The first rewrites data/genai-prices.txt from the installed package, the second exits with 1 where
the committed file differs.
"""

from __future__ import annotations

import json
import re
import sys
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter.providers.hosts import canonical_provider
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.installation import install_command
from crewmeter_cost.pricing.catalogue.compile_command import write_or_check
from crewmeter_cost.pricing.catalogue.file_format import Listed, render
from crewmeter_cost.pricing.unit_prices import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, Provider

    from crewmeter_cost.pricing.effective_dates import Period
    from crewmeter_cost.pricing.unit_prices import Price

__all__ = [
    "PATH",
    "compile_file",
    "compile_installed",
    "installed_version",
    "listed",
    "providers_installed",
    "unit_of",
]

PATH = Path(__file__).with_name("data") / "genai-prices.txt"
_SINGLE = {
    "requests_kcount": ("request", 1000),
    "web_searches_kcount": ("web_search", 1000),
    "storage_searches_kcount": ("storage_search", 1000),
    "input_text_messages_kcount": ("text_message", 1000),
    "input_mchars": ("character", 1_000_000),
    "input_document_kpages": ("page", 1000),
    "input_annotated_document_kpages": ("annotated_page", 1000),
    "audio_hours": ("audio_hour", 1),
    "input_audio_hours": ("input_audio_hour", 1),
}
"""genai-prices' price keys that are not tokens → our unit, and how many units their price
is for.
"""
_DATED = re.compile(
    r"(\(-?(\\d\{8\})\)\?|[-@]?\[-@\]\\d\{8\}|-\\d\{8\}|-\\d\{4\}-\\d\{2\}-\\d\{2\}|-\\d)\$?$"
)
_STUB = re.compile(r"(-20\d\d-?|-0|[-@.])$")
"""What a prefix such as ``claude-sonnet-4-2025`` or ``ft:gpt-4o-2024-`` ends in.

The start of a date or version, not a name.
"""


def unit_of(price_key: str) -> tuple[str, int]:
    """Return our unit for one of their price keys, and the divisor to ours.

    Raises `CrewMeterError` for a new kind.
    """
    if price_key.endswith("_mtok"):
        return price_key.removesuffix("_mtok"), 1
    if price_key not in _SINGLE:
        raise CrewMeterError(
            f"genai-prices has a price key this compiler does not know: {price_key!r}",
            hint="update crewmeter",
        )
    return _SINGLE[price_key]


def _price(value: object, divisor: int) -> Price:
    if isinstance(value, Decimal):
        return plain(value / divisor)
    # TieredPrices, not importable at module level.
    base = value.base  # type: ignore[attr-defined]
    tiers = value.tiers  # type: ignore[attr-defined]
    return [
        plain(base / divisor),
        *([tier.start, plain(tier.price / divisor)] for tier in tiers),
    ]


def _prices(prices: ModelPrice) -> dict[str, Price]:
    rates: dict[str, Price] = {}
    for key, value in prices.__dict__.items():
        if value is not None and not key.startswith("_"):
            unit, divisor = unit_of(key)
            rates[unit] = _price(value, divisor)
    return dict(sorted(rates.items()))


def _conditions(constraint: object) -> dict[str, str]:
    if constraint is None:
        return {}
    start = getattr(constraint, "start_date", None)
    if start is not None:
        return {"from": start.isoformat()}
    # TimeOfDateConstraint.
    opens = constraint.start_time  # type: ignore[attr-defined]
    closes = constraint.end_time  # type: ignore[attr-defined]
    for edge in (opens, closes):
        if (
            edge.utcoffset() not in (None, edge.utcoffset().__class__(0))
            or edge.second
            or edge.microsecond
        ):
            raise CrewMeterError(
                f"genai-prices has a time of day this compiler does not know: {edge}",
                hint="update crewmeter",
            )
    return {"hours": f"{opens:%H:%M}-{closes:%H:%M}"}


def _tier(variant: PriceVariant) -> str:
    """Return the tier of a variant: ``batch``, ``flex``, ``priority``, ``fast``.

    Any other condition is ``key:value``, so that it never applies by itself.
    """
    (key, value), *more = variant.when.items()
    if key in ("service_tier", "processing", "speed") and not more:
        return value
    return " ".join(f"{k}:{v}" for k, v in variant.when.items())


def _periods(model: ModelInfo) -> list[Period]:
    standard = model.prices if isinstance(model.prices, list) else None
    periods: list[Period] = []
    if standard is None:
        # Not a list, hence a ModelPrice.
        periods.append(_prices(model.prices))  # type: ignore[arg-type]
    periods += [
        {
            **_conditions(each.constraint),
            **_prices(each.prices),
        }
        for each in standard or ()
    ]
    periods += [
        {"tier": _tier(each), **_conditions(each.constraint), **_prices(each.prices)}
        for each in model.price_variants or ()
    ]
    return periods


def _literals(clause: object) -> Iterator[tuple[str, bool]]:
    """Yield every name in a match clause, and whether it matches openly.

    A name matches openly as a prefix, a suffix or a part.
    """
    kind = type(clause).__name__
    if kind in ("ClauseOr", "ClauseAnd"):
        # ClauseOr or ClauseAnd.
        for part in getattr(clause, "or_", None) or clause.and_:  # type: ignore[attr-defined]
            yield from _literals(part)
        return
    (text,) = vars(clause).values()
    if kind == "ClauseRegex":
        if "(?!" in text:
            return  # an exclusion (`not a text-to-speech model`): names nothing
        literal = re.sub(
            r"\\(.)",
            r"\1",
            _DATED.sub("", text).removeprefix("^").removesuffix("$"),
        )
        for name in _optional_prefix(literal):
            yield name, "\\d" in text
    else:
        yield text, kind != "ClauseEquals"


def _optional_prefix(literal: str) -> tuple[str, ...]:
    """``(typesafe/)?jev-1.13`` names two models' spellings."""
    match = re.match(r"\((.+)\)\?(.+)", literal)
    if match:
        return (match[2], match[1] + match[2])
    return (literal,)


def listed(provider: Provider, model: ModelInfo) -> Listed:
    """Return the names whose owner is this model, exact and open apart.

    Their list is searched in order.
    """
    exact: dict[str, None] = {}
    opened: dict[str, None] = {}
    for text, is_open in ((model.id, False), *_literals(model.match)):
        name = text.lower()
        for spelled in dict.fromkeys((name, _STUB.sub("", name)) if is_open else (name,)):
            owner = provider.find_model(spelled)
            if (owner is model or (owner is None and is_open)) and not spelled.endswith(
                ("-", "@", ".")
            ):
                (opened if is_open else exact).setdefault(spelled)
    for name in opened:
        exact.pop(name, None)
    if bad := [name for name in (*exact, *opened, model.id) if re.search(r"\s", name)]:
        raise CrewMeterError(
            f"genai-prices has a model name with white space: {bad[0]!r}", hint="update crewmeter"
        )
    return Listed(
        model.id,
        list(exact),
        list(opened),
        _periods(model),
    )


def compile_providers(providers: Sequence[Provider], version: str) -> str:
    """Return the text of a catalogue file from genai-prices' providers."""
    ids = {provider.id: canonical_provider(provider.id) or provider.id for provider in providers}
    parts = []
    for provider in sorted(providers, key=lambda each: ids[each.id]):
        fallback = [ids[name] for name in provider.fallback_model_providers or () if name in ids]
        parts.append(
            (ids[provider.id], fallback, [listed(provider, model) for model in provider.models])
        )
    header = {
        "book": "genai-prices",
        "version": version,
        "models": sum(len(models) for _, _, models in parts),
        "license": "MIT, Copyright (c) Pydantic Services Inc. 2025 to present",
        "source": "https://github.com/pydantic/genai-prices",
    }
    return render(header, parts)


def installed_version() -> str:
    """Return the version of the installed genai-prices.

    Raises `CrewMeterError` where there is none.
    """
    try:
        return metadata.version("genai-prices")
    except metadata.PackageNotFoundError as error:
        raise CrewMeterError(
            "genai-prices is not installed",
            hint=f"{install_command('prices')}, or give --file a catalogue made by crewmeter",
        ) from error


def providers_installed() -> Sequence[Provider]:
    """Return the installed package's providers (0.4 s, 100 MB: never in an app)."""
    from genai_prices.data import providers

    return providers


def compile_installed() -> str:
    """Return the catalogue of the installed genai-prices."""
    return compile_providers(providers_installed(), installed_version())


def compile_file(path: Path) -> str:
    """Return a catalogue out of genai-prices' published ``data.json``.

    Raises `CrewMeterError` where it is not one.
    """
    installed_version()
    from genai_prices import types
    from pydantic import ValidationError

    try:
        raw = json.loads(path.read_bytes())
        providers = types._providers_from_raw(raw)
    except (ValueError, ValidationError, TypeError, KeyError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CrewMeterError(
            f"{path} is not genai-prices' data.json: {first}",
            hint="give a catalogue file, or data.json of genai-prices (v2)",
        ) from error
    return compile_providers(providers, f"file {path.name}")


def main(arguments: Sequence[str]) -> int:
    """Write the committed file, or check that it is what this compiler makes."""
    module = "crewmeter_cost.pricing.catalogue.compile_genai"
    return write_or_check(PATH, module, compile_installed, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
