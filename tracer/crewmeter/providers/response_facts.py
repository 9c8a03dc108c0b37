"""What a provider's answer says about its bill: ids, models, tier and usage."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crewmeter.providers.json_values import as_map, as_text
from crewmeter.providers.reported_cost import reported_cost
from crewmeter.providers.unknown_usage import flag_of, unknown_names
from crewmeter.providers.usage_reading import read_usage
from crewmeter.usage.token_usage import MISSING, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crewmeter.providers.provider_protocol import Json, PlainAnswer, ProviderProtocol

__all__ = ["ResponseFacts"]

_LONGEST_TIER = 64
_MOST_FLAGS = 12
_MOST_UNITS = 12
_DEEPEST_MERGE = 6
_NO_REPORTS: Json = {}
"""Shared, and never written to: a first report replaces it."""
_COMMON_KEYS = frozenset({"usage", "service_tier", "usage_metadata", "usageMetadata"})


class ResponseFacts:
    """What one answer says in its headers, its body or the events of its stream.

    Reports of usage are put together as they come and read when somebody asks for `usage`.
    """

    __slots__ = (
        "_flags",
        "_from_headers",
        "_is_stale",
        "_merged",
        "_price_tier",
        "_reported_cost_usd",
        "_reports",
        "_request_model",
        "_service_tier",
        "_units",
        "_usage",
        "error_type",
        "finish_reason",
        "is_cited",
        "is_partial",
        "is_unfinished",
        "operation",
        "protocol",
        "provider",
        "response_id",
        "response_model",
        "web_searches",
    )

    def __init__(
        self,
        protocol: ProviderProtocol,
        *,
        operation: str,
        provider: str | None,
        request_model: Callable[[], str | None],
    ) -> None:
        self.protocol = protocol
        self.operation = operation
        self.provider = provider
        self._request_model = request_model
        self.response_id: str | None = None
        self.response_model: str | None = None
        self.finish_reason: str | None = None
        self.error_type: str | None = None
        self.is_cited = False
        """Whether the answer names the sources of a search."""
        self.is_partial = False
        """Whether the last report was a first one, whose output count is a placeholder."""
        self.is_unfinished = False
        """Whether the provider has only taken the request, to answer it in the background."""
        self.web_searches = 0
        self._service_tier: str | None = None
        self._price_tier: str | None = None
        self._reported_cost_usd: str | None = None
        self._reports: Json = _NO_REPORTS
        self._merged: dict[str, object] | None = None
        """Put together from several reports; one alone is the answer's own object."""
        self._units: dict[str, int] | None = None
        self._flags: dict[str, None] | None = None
        self._from_headers: TokenUsage = MISSING
        self._usage: TokenUsage = MISSING
        self._is_stale = False

    # --- what was found ------------------------------------------------------------------------

    @property
    def request_model(self) -> str | None:
        """The model the request names."""
        return self._request_model()

    @property
    def usage(self) -> TokenUsage:
        """What the call used, as far as it is known."""
        if self._is_stale:
            self._read_reports()
        return self._usage

    @usage.setter
    def usage(self, usage: TokenUsage) -> None:
        self._is_stale = False
        self._usage = usage

    @property
    def service_tier(self) -> str | None:
        """The tier that served the request, as the answer names it."""
        if self._is_stale:
            self._read_reports()
        return self._price_tier or self._service_tier

    @property
    def reported_cost_usd(self) -> str | None:
        """What the provider itself says the call cost, as a decimal string in USD."""
        if self._is_stale:
            self._read_reports()
        return self._reported_cost_usd

    @reported_cost_usd.setter
    def reported_cost_usd(self, cost: str | None) -> None:
        self._reported_cost_usd = cost

    # --- what protocols call ---------------------------------------------------------------------

    def report(self, usage: Json) -> None:
        """Add a usage object to those before it, without lowering any count.

        Events of a stream restate or complete each other's counts, and some restate them as zero.
        No provider is known whose last report is right although it is lower.
        """
        self._is_stale = True
        if not self._reports:
            self._reports = usage  # mostly the only one
            return
        merged = self._merged
        if merged is None:
            merged = self._merged = {}
            _merge(merged, self._reports, 0)
            self._reports = merged
        _merge(merged, usage, 0)

    def report_headers(self, counts: Json) -> None:
        """Take counts from headers, which stand until the body reports its own."""
        self._from_headers = read_usage(counts, operation=self.operation)
        self._is_stale = True

    def has_report(self, key: str) -> bool:
        """Tell whether a report with ``key`` has come."""
        return key in self._reports

    def flag(self, name: str) -> None:
        """Say what was assumed, or not understood."""
        if self._flags is None:
            self._flags = {}
        if len(self._flags) < _MOST_FLAGS:
            self._flags[name] = None
            self._is_stale = True

    def flag_unknown(self, path: str) -> None:
        """Say that ``path`` may cost money and is not understood."""
        self.flag(flag_of(path))

    def count_searches(self, number: int) -> None:
        """Say that at least ``number`` web searches were made."""
        if number > self.web_searches:
            self.web_searches = number
            self._is_stale = True

    def count_units(self, name: str, number: int) -> None:
        """Say that at least ``number`` of the unit ``name`` are billed."""
        if self._units is None:
            self._units = {}
        if number > self._units.get(name, 0) and len(self._units) < _MOST_UNITS:
            self._units[name] = number
            self._is_stale = True

    def rename_unit(self, name: str, qualified: str) -> None:
        """Replace a unit by one with a qualifier, on which its price depends."""
        number = self.unit(name)
        if self._units is not None:
            self._units.pop(name, None)
        self.count_units(qualified, number)

    def unit(self, name: str) -> int:
        """Return how many of a unit were counted."""
        return 0 if self._units is None else self._units.get(name, 0)

    def set_price_tier(self, tier: str) -> None:
        """Say which price list served the request, whatever ``service_tier`` calls it."""
        self._price_tier = tier[:_LONGEST_TIER]

    def set_finish(self, *reasons: object) -> None:
        """Take the first of ``reasons`` that is a text."""
        for reason in reasons:
            text = as_text(reason)
            if text is not None:
                self.finish_reason = text
                return

    # --- reading ------------------------------------------------------------------------------

    def read(self, answer: Json) -> None:
        """Take the facts of a whole answer, or of one event of a stream."""
        protocol = self.protocol
        if protocol.unwrap is not None:
            answer = protocol.unwrap(self, answer)
        if answer.get("error") and "usage" not in answer:
            self._fail(answer)
            return
        self.response_id = (
            self.response_id or as_text(answer.get("id")) or as_text(answer.get("responseId"))
        )
        self.response_model = (
            as_text(answer.get("model"))
            or as_text(answer.get("modelVersion"))
            or self.response_model
        )
        tier = as_text(answer.get("service_tier"))
        if tier is not None:
            self._service_tier = tier
        if protocol.read is not None:
            protocol.read(self, answer)
        if not protocol.is_understood:
            return
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self.report(usage)
        self._flag_unknown_keys(answer)

    def take_plain(self, plain: PlainAnswer) -> None:
        """Take what a whole answer says that was read the short way."""
        response_id, model, tier, finish, counts = plain
        self.response_id = response_id
        self.response_model = model
        self.finish_reason = finish
        self._service_tier = tier
        self.usage = TokenUsage(*counts)

    def let_go(self) -> None:
        """Read what was reported, and hold nothing but the result: the answer is over."""
        if self._is_stale:
            self._read_reports()
        self._from_headers = self._usage
        self._reports = _NO_REPORTS
        self._merged = None

    def fail(self, kind: str) -> None:
        """Say that the call failed. Whatever it has used until then is billed."""
        self.error_type = kind

    def _fail(self, answer: Json) -> None:
        error = as_map(answer.get("error"))
        named = error.get("type") or error.get("code") or error.get("status")
        self.error_type = as_text(named) or "error"

    def _flag_unknown_keys(self, answer: Json) -> None:
        known = self.protocol.response_keys
        if answer.keys() <= known:
            return
        names = frozenset(key for key in answer if isinstance(key, str))
        for name in unknown_names(names, known | _COMMON_KEYS):
            if answer.get(name):
                self.flag_unknown(f"response.{name}")

    def _read_reports(self) -> None:
        """Read everything reported until now."""
        self._is_stale = False
        reports = self._reports
        usage = self._from_headers
        read_plain = self.protocol.read_plain
        plain = read_plain(reports) if read_plain is not None else None
        if plain is not None:
            usage = plain
        elif reports:
            usage = self._read_everything(reports)
        if self._flags or self._units or self.web_searches:
            usage = self._with_extras(usage)
        if self.is_partial and usage.status == "reported":
            flags = (*usage.flags, "output_partial")
            usage = replace(usage, status="estimated", flags=flags)
        self._usage = usage

    def _read_everything(self, reports: Json) -> TokenUsage:
        """Read usage that is more than plain counts: a cost, a tier, anything else."""
        self._reported_cost_usd = reported_cost(reports) or self._reported_cost_usd
        tier = reports.get("service_tier")
        if isinstance(tier, str):
            self._service_tier = as_text(tier)
        return read_usage(reports, provider=self.provider, operation=self.operation)

    def _with_extras(self, usage: TokenUsage) -> TokenUsage:
        units = dict(usage.units)
        for name, number in (self._units or {}).items():
            units[name] = max(number, units.get(name, 0))
        status = usage.status
        if status == "missing" and units and not usage.flags:
            status = "reported"  # images, pages and seconds are billed without any tokens
        return replace(
            usage,
            web_searches=max(usage.web_searches, self.web_searches),
            units=tuple(sorted(units.items())),
            status=status,
            flags=tuple(dict.fromkeys((*usage.flags, *(self._flags or ())))),
        )


def _merge(into: dict[str, object], report: Mapping[str, object], depth: int) -> None:
    """Add ``report`` to ``into`` so that no number falls.

    Objects are merged, the rest is replaced.
    """
    for key, value in report.items():
        if value is None:
            continue
        before = into.get(key)
        if before is None:
            into[key] = _copied(value, depth)
        elif isinstance(value, dict) and isinstance(before, dict):
            if depth < _DEEPEST_MERGE:
                _merge(before, value, depth + 1)
        elif isinstance(value, list) and isinstance(before, list):
            into[key] = _longer(before, value)
        elif not _is_lower(value, before):
            into[key] = value


def _copied(value: object, depth: int) -> object:
    """Return a copy of an object that later reports may be merged into."""
    if isinstance(value, dict) and depth < _DEEPEST_MERGE:
        copy: dict[str, object] = {}
        _merge(copy, value, depth + 1)
        return copy
    return value


def _is_lower(value: object, before: object) -> bool:
    numbers = isinstance(value, int | float) and isinstance(before, int | float)
    return numbers and value < before  # type: ignore[operator]


def _longer(before: list[object], value: list[object]) -> list[object]:
    """Return the list that says more.

    The longer one. Of equals the later, unless its numbers are lower.
    """
    if len(value) < len(before):
        return before
    if len(value) > len(before):
        return value
    return value if _sum_of(value) >= _sum_of(before) else before


def _sum_of(values: list[object]) -> float:
    """Return the sum of the numbers in a list of flat objects."""
    total = 0.0
    for item in values:
        for number in as_map(item).values():
            if isinstance(number, int | float):
                total += number
    return total
