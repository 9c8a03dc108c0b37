"""The compiler from LiteLLM's price catalogue, as CrewAI ships it (MIT), to ours.

    python -m crewmeter_cost.pricing.catalogue.compile_litellm            # rewrite data/litellm.txt
    python -m crewmeter_cost.pricing.catalogue.compile_litellm --check    # exit 1 where it differs

It is the lower source, flagged wherever it prices a call. Only price fields are taken. Entries that
say 0 for everything are left out: there, 0 stands for "not known" as often as for "free".
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
from crewmeter_cost.pricing.catalogue.compile_command import write_or_check
from crewmeter_cost.pricing.catalogue.file_format import Listed, render
from crewmeter_cost.pricing.unit_prices import is_nothing, plain

if TYPE_CHECKING:
    from crewmeter_cost.pricing.effective_dates import Period
    from crewmeter_cost.pricing.unit_prices import Price

__all__ = ["PATH", "compile_catalogue", "installed_catalogue"]

PATH = Path(__file__).with_name("data") / "litellm.txt"
_MODES = frozenset(
    {
        "chat",
        "responses",
        "completion",
        "embedding",
        "rerank",
        "realtime",
        "image_generation",
        "image_edit",
        "audio_transcription",
        "audio_speech",
        "video_generation",
        "ocr",
    }
)
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
    "cache_read_input_image_token_cost": "cache_image_read",
    "input_cost_per_video_token": "input_video",
    "output_cost_per_video_token": "output_video",
    "citation_cost_per_token": "citation_token",
}
_PER_ONE = {
    "input_cost_per_query": "search_unit",
    "input_cost_per_request": "request",
    "input_cost_per_character": "character",
    "ocr_cost_per_page": "page",
    "annotation_cost_per_page": "annotated_page",
    "google_maps_grounding_cost_per_query": "maps_grounding",
    "output_cost_per_image": "image",
}
_TIMED = {
    "audio_transcription": ("input_cost_per_second", "input_second"),
    "video_generation": ("output_cost_per_second", "output_second"),
}
"""Mode → the field that prices its time, and our unit. A speech model is priced by its tokens."""
_SIZE = re.compile(r"(\d+)-x-(\d+)")
_QUALITIES = frozenset({"standard", "hd", "low", "medium", "high", "xhigh", "max", "auto"})
_UPLIFTS = (
    "regional_endpoint_uplift_multiplier",
    "regional_processing_uplift_multiplier_eu",
    "regional_processing_uplift_multiplier_us",
)
_TIERS = {
    "batches": "batch",
    "flex": "flex",
    "priority": "priority",
    "fast": "fast",
    "ultrafast": "ultrafast",
    "balanced": "balanced",
}
_FIELD = re.compile(
    r"(?P<base>.+?)(?:_above_(?P<above>\d+)k_tokens)?"
    r"(?:_(?P<tier>batches|flex|priority|fast|ultrafast|balanced))?"
)
_PROVIDERS = {
    "fireworks_ai-embedding-models": "fireworks",
    "text-completion-openai": "openai",
    "aleph_alpha": "aleph_alpha",
}


def installed_catalogue() -> tuple[Path, str]:
    """Return the path of LiteLLM's catalogue in crewai, and crewai's version.

    Raises `CrewMeterError` without crewai.
    """
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
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0:
        return None
    return Decimal(value)


def _prices(fields: Mapping[str, object]) -> dict[str | None, dict[str, Price]]:
    """Return the prices in our units by tier (None is the standard one)."""
    base: dict[tuple[str | None, str], str] = {}
    steps: dict[tuple[str | None, str], list[list[int | str]]] = {}
    for field, raw in fields.items():
        match = _FIELD.fullmatch(field)
        value = _number(raw)
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
            steps.setdefault((tier, unit), []).append(
                [
                    int(match["above"]) * 1000,
                    price,
                ]
            )
        else:
            base[tier, unit] = price
    return _by_tier(base, steps)


def _by_tier(
    base: Mapping[tuple[str | None, str], str],
    steps: Mapping[tuple[str | None, str], list[list[int | str]]],
) -> dict[str | None, dict[str, Price]]:
    table: dict[str | None, dict[str, Price]] = {}
    for tier, unit in sorted(base, key=lambda key: (key[0] or "", key[1])):
        price = base[tier, unit]
        above = sorted(
            steps.get(
                (tier, unit),
                (),
            )
        )
        table.setdefault(tier, {})[unit] = [price, *above] if above else price
    return table


def _search_prices(fields: Mapping[str, object]) -> dict[str, Price]:
    """Return what a search costs, by the size of its context.

    Without a size it is the most expensive.

    Which size was used is mostly not in the usage.
    """
    sizes = fields.get("search_context_cost_per_query")
    if not isinstance(sizes, Mapping):
        return {}
    priced = {
        str(name).rpartition("_")[2]: price
        for name, value in sizes.items()
        if (price := _number(value))
    }
    if not priced:
        return {}
    prices: dict[str, Price] = {"web_search": plain(max(priced.values()))}
    if len(set(priced.values())) > 1:
        prices |= {f"web_search:{size}": plain(price) for size, price in priced.items()}
    return prices


def _media_prices(fields: Mapping[str, object]) -> dict[str, Price]:
    """Return the prices of time and images, whose fields depend on the mode."""
    mode = str(fields.get("mode"))
    prices: dict[str, Price] = {}
    if mode in _TIMED:
        field, unit = _TIMED[mode]
        price = _number(fields.get(field))
        by_resolution = any(name.startswith(f"{field}_") for name in fields)
        if price and not by_resolution:
            prices[unit] = plain(price)
    if mode == "image_generation" and "output_cost_per_image" not in fields:
        price = _number(fields.get("input_cost_per_image"))
        if price:
            prices["image"] = plain(price)
    return prices


def _periods(fields: Mapping[str, object]) -> list[Period]:
    table = _prices(fields)
    standard = {**table.pop(None, {}), **_media_prices(fields)}
    if fields.get("mode") == "rerank" and "search_unit" in standard:
        # Their token prices of rerankers are 0, and meant so.
        standard = {"search_unit": standard["search_unit"]}
    if all(is_nothing(price) for price in standard.values()):
        return []
    standard |= _search_prices(fields)
    uplifts = [value for field in _UPLIFTS if (value := _number(fields.get(field)))]
    regional: dict[str, str] = {}
    if uplifts and max(uplifts) != 1:
        regional["uplift"] = plain(max(uplifts))
    tiers = [{"tier": tier, **prices} for tier, prices in table.items() if tier]
    return [{**regional, **standard}, *tiers]


def _image_unit(name: str) -> tuple[str, str, int] | None:
    """Return the model, unit and pixels of a name such as ``hd/1024-x-1792/dall-e-3``."""
    *marks, model = name.split("/")
    sizes = []
    quality = "standard"
    for mark in marks:
        size = _SIZE.fullmatch(mark)
        if size is not None:
            sizes.append(size.groups())
        elif mark in _QUALITIES:
            quality = mark
        else:
            return None
    if len(sizes) != 1:
        return None
    width, height = sizes[0]
    pixels = int(width) * int(height)
    return model, f"image:{quality}:{width}x{height}", pixels


def _image_price(fields: Mapping[str, object], pixels: int) -> str | None:
    """Return the price of one image, from a price for it or for its pixels."""
    for field in ("output_cost_per_image", "input_cost_per_image"):
        if price := _number(fields.get(field)):
            return plain(price)
    per_pixel = _number(fields.get("input_cost_per_pixel"))
    if not per_pixel:
        return None
    # Published prices are whole tenths of a cent, and the field is those divided by the pixels.
    return plain((per_pixel * pixels).quantize(Decimal("0.001")))


def compile_catalogue(raw: Mapping[str, Mapping[str, object]], version: str) -> str:
    """Return the text of a catalogue file from LiteLLM's JSON.

    Its numbers are parsed as Decimal.
    """
    parts: dict[str, dict[str, Listed]] = {}
    images: dict[tuple[str, str], dict[str, str]] = {}
    for key in sorted(raw):
        fields = raw[key]
        spelled = str(fields.get("litellm_provider") or "")
        if fields.get("mode") not in _MODES or not spelled or re.search(r"\s", key):
            continue
        provider = _provider(spelled)
        prefix, _, rest = key.partition("/")
        name = (rest if rest and _provider(prefix) == provider else key).lower()
        sized = _image_unit(name)
        if sized is not None:
            model, unit, pixels = sized
            if price := _image_price(fields, pixels):
                images.setdefault((provider, model), {})[unit] = price
        elif periods := _periods(fields):
            parts.setdefault(provider, {}).setdefault(
                name,
                Listed(name, (name,), (), periods),
            )
    _add_images(parts, images)
    header = {
        "book": "litellm",
        "version": version,
        "models": sum(len(models) for models in parts.values()),
        "license": "MIT, Copyright (c) 2023 Berri AI",
        "source": "https://github.com/BerriAI/litellm model_prices_and_context_window.json, "
        "as shipped inside crewai",
    }
    listed = ((provider, (), list(parts[provider].values())) for provider in sorted(parts))
    return render(header, listed)


def _add_images(
    parts: dict[str, dict[str, Listed]], images: Mapping[tuple[str, str], Mapping[str, str]]
) -> None:
    """Add the prices of images by size and quality to their models."""
    for (provider, model), units in sorted(images.items()):
        models = parts.setdefault(provider, {})
        known = models.get(model)
        periods: list[Period] = list(known.periods) if known else [{}]
        periods[0] = {**periods[0], **units}
        models[model] = Listed(
            model,
            (model,),
            (),
            periods,
        )


def compile_installed() -> str:
    """Return the catalogue inside the installed crewai."""
    path, version = installed_catalogue()
    return compile_catalogue(
        json.loads(path.read_bytes(), parse_float=Decimal), f"crewai {version}"
    )


def main(arguments: Sequence[str]) -> int:
    """Write the committed file, or check that it is what this compiler makes."""
    module = "crewmeter_cost.pricing.catalogue.compile_litellm"
    return write_or_check(PATH, module, compile_installed, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
