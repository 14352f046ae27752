"""Length histograms from a file: JSON, or the text of an engine's or a router's /metrics page.

JSON: `{"prompt": [[le, count], ...], "final" or "output": [[le, count], ...], "seconds": n}` with
cumulative counts as Prometheus has them; le is a number of tokens or "+Inf".
"""

import json
import math
from collections import defaultdict
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from cascade_cli import traces
from cascade_cli.errors import BadInput
from cascade_cli.histograms import Family, Histograms, Owner, Times, read_metrics
from cascade_planner.histogram import LengthHistogram

EXPECTED: Final = (
    'expected {"prompt": [[LE, COUNT], ...], "final" or "output": [[LE, COUNT], ...], '
    '"seconds": N} with cumulative counts, or the text of a /metrics page of vLLM or our router'
)
_MAX_BYTES: Final = 2**28


def read_histograms(path: str, model: str | None) -> Histograms:
    """The histograms of the file at `path` (`-`: standard input), of one `model` if it has more.

    Raises BadInput.
    """
    text, name = _text(path), traces.shown(path)
    if text.lstrip().startswith("{"):
        return _from_json(name, text)
    return _from_page(name, text, model)


def _text(path: str) -> str:
    name = traces.shown(path)
    try:
        with traces.opened(path, "histogram") as raw:
            data = raw.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise BadInput(f"histogram {name} is larger than {_MAX_BYTES >> 20} MiB; {EXPECTED}")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"histogram {name} is no text in UTF-8; {EXPECTED}") from None


def _from_json(name: str, text: str) -> Histograms:
    try:
        data = json.loads(text)
        histograms = {
            key: LengthHistogram.of((bound, count) for bound, count in data[key])
            for key in ("prompt", "final", "output")
            if key in data
        }
        seconds = None if data.get("seconds") is None else float(data["seconds"])
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"histogram {name}: {error}; {EXPECTED}") from None
    if seconds is not None and not 0 < seconds < math.inf:
        raise BadInput(f"histogram {name}: seconds must be a number above 0, not {seconds:g}")
    if "prompt" not in histograms or len(histograms) < 2:
        raise BadInput(f"histogram {name} has not all that is needed; {EXPECTED}")
    return Histograms(
        prompts=histograms["prompt"],
        finals=histograms.get("final"),
        outputs=None if "final" in histograms else histograms["output"],
        times=Times(seconds),
    )


def _from_page(name: str, text: str, model: str | None) -> Histograms:
    try:
        page = _Page(text)
    except ValueError as error:
        raise BadInput(f"histogram {name} is no page of metrics ({error}); {EXPECTED}") from None
    return read_metrics(page, f"histogram {name}", model)


class _Page:
    """Metrics as the text of one page, or of several put together. Raises ValueError."""

    def __init__(self, text: str) -> None:
        self._samples: defaultdict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        for metric in text_string_to_metric_families(text):
            for sample in metric.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def owners(self, family: Family) -> list[Owner]:
        samples = self._samples.get(f"{family.prompts}_bucket", ())
        return sorted({_owner(labels, family) for labels, _ in samples})

    def by_bound(self, metric: str, bound: str, family: Family, owner: Owner) -> LengthHistogram:
        return LengthHistogram.of(
            (labels.get(bound, ""), value)
            for labels, value in self._samples.get(metric, ())
            if _owner(labels, family) == owner
        )

    def total(self, metric: str, family: Family, owner: Owner) -> float | None:
        samples = self._samples.get(metric, ())
        values = [value for labels, value in samples if _owner(labels, family) == owner]
        return sum(values) if values else None

    def times(self, _family: Family, _owner: Owner) -> Times:
        return Times()


def _owner(labels: dict[str, str], family: Family) -> Owner:
    return tuple(labels.get(name, "") for name in family.owner)
