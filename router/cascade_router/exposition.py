"""The Prometheus text format: histograms that are counted, and pages that are written."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts per bucket (not cumulative) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def observe(self, value: float) -> None:
        """Count `value` in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Labels = Mapping[str, str]


class Page:
    """A text exposition in the making; `labels` stand on every sample."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._lines: list[str] = []

    def text(self) -> bytes:
        """The page as it is sent."""
        return ("\n".join(self._lines) + "\n").encode()

    def counter(self, name: str, text: str, samples: Iterable[tuple[Labels, float]]) -> None:
        """A family of counters: its samples, labels and value each."""
        self._head(name, text, "counter")
        for labels, value in samples:
            self._sample(name, labels, value)

    def gauge(self, name: str, text: str, value: float) -> None:
        """A single gauge."""
        self._head(name, text, "gauge")
        self._sample(name, {}, value)

    def histogram(self, name: str, text: str, samples: Iterable[tuple[Labels, Histogram]]) -> None:
        """A family of histograms."""
        self._head(name, text, "histogram")
        for labels, histogram in samples:
            running = 0
            for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
                running += count
                self._sample(f"{name}_bucket", {**labels, "le": f"{float(bound)}"}, running)
            running += histogram.counts[-1]
            self._sample(f"{name}_bucket", {**labels, "le": "+Inf"}, running)
            self._sample(f"{name}_count", labels, running)
            self._sample(f"{name}_sum", labels, histogram.total)

    def _head(self, name: str, text: str, kind: str) -> None:
        self._lines.append(f"# HELP {name} {text}")
        self._lines.append(f"# TYPE {name} {kind}")

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        pairs = ",".join(
            f'{key}="{_escaped(text)}"' for key, text in (*self._labels.items(), *labels.items())
        )
        self._lines.append(f"{name}{{{pairs}}} {value}")


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
