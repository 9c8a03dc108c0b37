"""Counters and histograms that take a whole batch at once, with a bound on how many series they may ever have.

prometheus-client's own metrics lock and look up once per observation; at 15,000 spans a second that would cost
more than reading the spans. These add up in plain dicts under one lock and speak prometheus-client's collector protocol.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["OTHER", "CounterSeries", "HistogramSeries", "LabelValues"]

OTHER = "other"
"""Stands for every label value past the bound."""


class LabelValues:
    """The values one label may take: the first `limit` that come, every later one is `OTHER`."""

    def __init__(self, limit: int, *, absent: str) -> None:
        self._limit = limit
        self._absent = absent
        self._known: dict[str, str] = {}

    def of(self, value: str | None) -> str:
        """The label value for `value`; None and the empty text give the word for "absent"."""
        if not value:
            return self._absent
        known = self._known.get(value)
        if known is None:
            if len(self._known) >= self._limit:
                return OTHER
            known = self._known[value] = value
        return known


class CounterSeries:
    """A counter with labels. `scale` divides the whole numbers it adds up (pico-USD → USD) when it is shown."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], *, limit: int, scale: int = 1
    ) -> None:
        self._name = name.removesuffix("_total")
        self._help = help_text
        self._labels = tuple(labels)
        self._limit = limit
        self._scale = scale
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, labels: tuple[str, ...], amount: int) -> None:
        """Add `amount` to one series; a new series past the limit counts as all-`OTHER`."""
        values = self._values
        if labels not in values and len(values) >= self._limit:
            labels = (OTHER,) * len(self._labels)
        values[labels] = values.get(labels, 0) + amount

    def family(self) -> CounterMetricFamily:
        """Everything counted so far, for prometheus-client to print."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value / self._scale)
        return family


class _Histogram:
    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.exemplars: dict[int, tuple[float, str, float]] = {}
        self.total = 0.0


class HistogramSeries:
    """A histogram with labels and, per bucket, the last trace that fell into it as exemplar."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        *,
        bounds: Sequence[float],
        limit: int,
    ) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._names = [*map(floatToGoString, bounds), "+Inf"]
        self._limit = limit
        self._series: dict[tuple[str, ...], _Histogram] = {}

    def observe_all(
        self, labels: tuple[str, ...], values: Iterable[tuple[float, str, float]]
    ) -> None:
        """Count values of one series, each with the trace it came from ("" for none) and its moment in unix seconds."""
        series = self._series.get(labels)
        if series is None:
            if len(self._series) >= self._limit:
                labels = (OTHER,) * len(self._labels)
            series = self._series.setdefault(labels, _Histogram(len(self._names)))
        bounds, counts = self._bounds, series.counts
        for one in values:
            index = bisect_left(bounds, one[0])
            counts[index] += 1
            series.total += one[0]
            if one[1]:
                series.exemplars[index] = one

    def family(self) -> HistogramMetricFamily:
        """Everything observed so far, for prometheus-client to print."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for labels, series in self._series.items():
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for index, count in enumerate(accumulate(series.counts)):
                last = series.exemplars.get(index)
                if last is None:
                    buckets.append((self._names[index], count))
                else:
                    value, trace, at = last
                    buckets.append(
                        (self._names[index], count, Exemplar({"trace_id": trace}, value, at))
                    )
            family.add_metric(labels, buckets, series.total)
        return family
