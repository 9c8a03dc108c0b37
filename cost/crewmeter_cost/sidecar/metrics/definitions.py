"""Counters and histograms that take a whole batch at once, with bounded series.

prometheus-client's own metrics lock and look up once per observation. At 15,000 spans a second that
would cost more than reading the spans. These add up in plain dicts under one lock and speak
prometheus-client's collector protocol.
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

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class LabelValues:
    """The values one label may have: the first `limit` that come.

    Later ones become `OTHER`.
    """

    def __init__(self, limit: int, *, absent: str) -> None:
        self._limit = limit
        self._absent = absent
        self._known: dict[str, str] = {}

    def of(self, value: str | None) -> str:
        """Return the label value for `value`, a word of its own for none."""
        if not value:
            return self._absent
        known = self._known.get(value)
        if known is not None:
            return known
        if len(self._known) >= self._limit:
            return OTHER
        self._known[value] = value
        return value


class CounterSeries:
    """A counter with labels.

    `scale` divides the whole numbers it adds up (pico-USD → USD) when it is exposed.
    """

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
        """Add `amount` to one series. A new series past the limit counts as all-`OTHER`."""
        values = self._values
        if labels not in values and len(values) >= self._limit:
            labels = (OTHER,) * len(self._labels)
        values[labels] = values.get(labels, 0) + amount

    def family(self) -> CounterMetricFamily:
        """Return everything counted so far, for prometheus-client to expose."""
        family = CounterMetricFamily(
            self._name,
            self._help,
            labels=self._labels,
        )
        for labels, value in self._values.items():
            family.add_metric(labels, value / self._scale)
        return family


class _Histogram:
    """Counts per bucket, the last exemplar of each, and the sum."""

    __slots__ = ("counts", "exemplars", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.exemplars: dict[int, tuple[float, str, float]] = {}
        self.total = 0.0


class HistogramSeries:
    """A histogram with labels and, per bucket, the last trace as exemplar."""

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
        self._names = [
            *map(floatToGoString, bounds),
            "+Inf",
        ]
        self._limit = limit
        self._series: dict[tuple[str, ...], _Histogram] = {}

    def observe_all(
        self, labels: tuple[str, ...], values: Iterable[tuple[float, str, float]]
    ) -> None:
        """Count values of one series.

        Each comes with the trace it belongs to ("" for none) and its moment in unix seconds.
        """
        series = self._series_of(labels)
        counts = series.counts
        for one in values:
            value, trace, _ = one
            index = bisect_left(self._bounds, value)
            counts[index] += 1
            series.total += value
            if trace:
                series.exemplars[index] = one

    def family(self) -> HistogramMetricFamily:
        """Return everything observed so far, for prometheus-client to expose."""
        family = HistogramMetricFamily(
            self._name,
            self._help,
            labels=self._labels,
        )
        for labels, series in self._series.items():
            family.add_metric(
                labels,
                self._buckets(series),
                series.total,
            )
        return family

    def _series_of(self, labels: tuple[str, ...]) -> _Histogram:
        series = self._series.get(labels)
        if series is not None:
            return series
        if len(self._series) >= self._limit:
            labels = (OTHER,) * len(self._labels)
        return self._series.setdefault(
            labels,
            _Histogram(len(self._names)),
        )

    def _buckets(self, series: _Histogram) -> list[Bucket]:
        buckets: list[Bucket] = []
        for index, count in enumerate(accumulate(series.counts)):
            name = self._names[index]
            last = series.exemplars.get(index)
            if last is None:
                buckets.append((name, count))
                continue
            value, trace, at = last
            buckets.append(
                (
                    name,
                    count,
                    Exemplar(
                        {"trace_id": trace},
                        value,
                        at,
                    ),
                )
            )
        return buckets
