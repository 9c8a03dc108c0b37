"""Suggestions for a model name that no catalogue lists."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from crewmeter_cost.pricing.catalogue import catalogue_files

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["nearest_models"]

_ALIKE = 0.6
"""Similarity (0 to 1) from which a name is worth suggesting; `difflib`'s own default."""
_SUGGESTIONS = 3


def nearest_models(name: str, provider: str | None = None) -> list[str]:
    """Return the listed names most like `name`, best first.

    With a provider, only its names are compared.
    """
    wanted = name.lower().rpartition("/")[2]
    listed = dict.fromkeys(_listed(provider)) or dict.fromkeys(_listed(None))
    # Names of another length class cannot be alike, and comparing all of them takes seconds.
    near = [each for each in listed if abs(len(each) - len(wanted)) <= 4 and ":" not in each]
    return difflib.get_close_matches(wanted, near, n=_SUGGESTIONS, cutoff=_ALIKE)


def _listed(provider: str | None) -> Iterator[str]:
    """Yield the model names of the catalogues, the better source first."""
    for catalogue in (catalogue_files.open_genai(), catalogue_files.open_litellm()):
        for seller in catalogue.providers:
            if provider in (None, seller):
                yield from (entry.model.rpartition("/")[2] for entry in catalogue.entries(seller))
