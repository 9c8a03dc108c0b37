"""The compiler from LiteLLM's price catalogue, as CrewAI ships it (MIT), to ours: the lower source, flagged wherever it prices a call.

    python -m crewmeter_cost.pricing.catalogue.compile_litellm            # rewrite data/litellm.txt from the installed crewai
    python -m crewmeter_cost.pricing.catalogue.compile_litellm --check    # exit 1 where the committed file differs

Only price fields are kept. Entries that say 0 for everything are left out: there, 0 stands for "not known" as often as for "free".
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from crewmeter.providers.hosts import canonical_provider
from crewmeter_cost.errors import CrewMeterError
from crewmeter_cost.pricing.catalogue.file_format import Listed, render
from crewmeter_cost.pricing.unit_prices import is_nothing, plain

if TYPE_CHECKING:
    from crewmeter_cost.pricing.effective_dates import Period
    from crewmeter_cost.pricing.unit_prices import Price

__all__ = ["PATH", "compile_catalogue", "installed_catalogue"]

PATH = Path(__file__).with_name("data") / "litellm.txt"
_MODES = frozenset({"chat", "responses", "completion", "embedding", "rerank", "realtime"})
_UNITS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
    "cache_read_input_audio_token_cost": "cache_audio_read",
    "input_cost_per_image_token": "input_image",
    "output_cost_per_image_token": "output_image",
    "output_cost_per_reasoning_token": "output_reasoning",
}
_PER_ONE = {"input_cost_per_query": "search_unit", "input_cost_per_request": "request"}
_UPLIFTS = (
    "regional_endpoint_uplift_multiplier",
    "regional_processing_uplift_multiplier_eu",
    "regional_processing_uplift_multiplier_us",
)
_TIERS = {"batches": "batch", "flex": "flex", "priority": "priority", "fast": "fast"}
_FIELD = re.compile(
    r"(?P<base>.+?)(?:_above_(?P<above>\d+)k_tokens)?(?:_(?P<tier>batches|flex|priority|fast))?"
)
_PROVIDERS = {
    "fireworks_ai-embedding-models": "fireworks",
    "text-completion-openai": "openai",
    "aleph_alpha": "aleph_alpha",
}


def installed_catalogue() -> tuple[Path, str]:
    """LiteLLM's catalogue inside the installed crewai, and crewai's version. Raises `CrewMeterError` without crewai."""
    spec = util.find_spec("crewai")
    if spec is None or spec.origin is None:
        raise CrewMeterError(
            "crewai is not installed, and LiteLLM's catalogue comes with it",
            hint="pip install crewai",
        )
    path = (
        Path(spec.origin).parent
        / "llms"
        / "litellm_catalog"
        / "model_prices_and_context_window.json"
    )
    return path, metadata.version("crewai")


def _provider(name: str) -> str:
    if name.startswith("vertex_ai"):
        return "gcp.vertex_ai"
    return _PROVIDERS.get(name) or canonical_provider(name) or name


def _number(value: object) -> Decimal | None:
    return (
        Decimal(value)
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool) and value >= 0
        else None
    )


def _prices(fields: Mapping[str, object]) -> dict[str | None, dict[str, Price]]:
    """Tier (None is standard) → prices, in our units."""
    base: dict[tuple[str | None, str], str] = {}
    steps: dict[tuple[str | None, str], list[list[int | str]]] = {}
    for field, raw in fields.items():
        match, value = _FIELD.fullmatch(field), _number(raw)
        if match is None or value is None:
            continue
        tier = _TIERS.get(match["tier"] or "")
        if unit := _UNITS.get(match["base"]):
            price = plain(value * 1_000_000)
        elif (unit := _PER_ONE.get(match["base"])) and not match["above"]:
            price = plain(value)
        else:
            continue
        if match["above"]:
            steps.setdefault((tier, unit), []).append([int(match["above"]) * 1000, price])
        else:
            base[tier, unit] = price
    table: dict[str | None, dict[str, Price]] = {}
    for (tier, unit), price in sorted(
        base.items(), key=lambda item: (item[0][0] or "", item[0][1])
    ):
        above = sorted(steps.get((tier, unit), ()))
        table.setdefault(tier, {})[unit] = [price, *above] if above else price
    return table


def _web_search(fields: Mapping[str, object]) -> str | None:
    """The dearest of the context sizes; which one was asked for is not in the usage."""
    sizes = fields.get("search_context_cost_per_query")
    prices = (
        [price for price in map(_number, sizes.values()) if price]
        if isinstance(sizes, Mapping)
        else []
    )
    return plain(max(prices)) if prices else None


def _periods(fields: Mapping[str, object]) -> list[Period]:
    table = _prices(fields)
    standard = table.pop(None, {})
    if fields.get("mode") == "rerank" and "search_unit" in standard:
        standard = {
            "search_unit": standard["search_unit"]
        }  # their token prices of rerankers are 0, and meant so
    if all(is_nothing(price) for price in standard.values()):
        return []
    if (search := _web_search(fields)) is not None:
        standard["web_search"] = search
    uplift = max(
        (value for field in _UPLIFTS if (value := _number(fields.get(field)))), default=None
    )
    regional = {"uplift": plain(uplift)} if uplift is not None and uplift != 1 else {}
    return [
        {**regional, **standard},
        *({"tier": tier, **prices} for tier, prices in table.items() if tier),
    ]


def compile_catalogue(raw: Mapping[str, Mapping[str, object]], version: str) -> str:
    """The text of a catalogue file from LiteLLM's JSON (numbers parsed as Decimal)."""
    parts: dict[str, dict[str, Listed]] = {}
    for key in sorted(raw):
        fields = raw[key]
        spelled = str(fields.get("litellm_provider") or "")
        if fields.get("mode") not in _MODES or not spelled or re.search(r"\s", key):
            continue
        provider = _provider(spelled)
        prefix, _, rest = key.partition("/")
        name = (rest if rest and _provider(prefix) == provider else key).lower()
        if periods := _periods(fields):
            parts.setdefault(provider, {}).setdefault(name, Listed(name, (name,), (), periods))
    header = {
        "book": "litellm",
        "version": version,
        "models": sum(len(models) for models in parts.values()),
        "license": "MIT, Copyright (c) 2023 Berri AI",
        "source": "https://github.com/BerriAI/litellm model_prices_and_context_window.json, as shipped inside crewai",
    }
    return render(
        header, ((provider, (), list(parts[provider].values())) for provider in sorted(parts))
    )


def compile_installed() -> str:
    """The catalogue inside the installed crewai."""
    path, version = installed_catalogue()
    return compile_catalogue(
        json.loads(path.read_bytes(), parse_float=Decimal), f"crewai {version}"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the committed file, or check that it is what this compiler makes."""
    text = compile_installed()
    if "--check" in arguments:
        same = PATH.exists() and PATH.read_text(encoding="utf-8") == text
        sys.stdout.write(
            f"{PATH.name}: {'up to date' if same else 'differs; run python -m crewmeter_cost.pricing.catalogue.compile_litellm'}\n"
        )
        return 0 if same else 1
    PATH.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{PATH}: {len(text):,} characters\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
