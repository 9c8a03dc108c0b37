"""Every check, in the order in which a person would look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crewmeter_cost.doctor.endpoint import check_endpoint
from crewmeter_cost.doctor.host import check_instrumentors, check_variables
from crewmeter_cost.doctor.ledger import check_ledger, check_overrides, check_prices
from crewmeter_cost.doctor.versions import check_seam, check_versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crewmeter_cost.doctor.finding import Finding

__all__ = ["examine"]


def examine(
    environ: Mapping[str, str], *, ledger: str | None = None, switch_on: bool = True
) -> Iterator[Finding]:
    """Yield findings as they are made.

    `switch_on` tries the meter beside CrewAI, which takes some seconds.
    """
    yield from check_versions()
    if switch_on and (seam := check_seam(environ)) is not None:
        yield seam
    yield check_ledger(ledger, environ)
    yield check_prices()
    yield from check_overrides(environ)
    yield from check_variables(environ)
    yield from check_instrumentors()
    yield from check_endpoint(environ)
