"""The rows as a section of Markdown."""

from collections.abc import Sequence
from typing import Final

from e2e.bench.slices_bench.experiments import NAMES, Row
from e2e.bench.slices_bench.interval import show
from e2e.bench.slices_bench.verdict import verdict

_Column = tuple[str, str, str]
"""(heading, metric, format)"""
_THROUGHPUT: Final[_Column] = ("requests/s", "requests_per_second", ".1f")
_OVER_SLS: Final[_Column] = ("over SLS", "gain_over_SLS", "+.0%")
_OVER_ILS: Final[_Column] = ("over ILS", "gain_over_ILS", "+.0%")
_MEAN: Final[_Column] = ("mean response, s", "mean_response_s", ".1f")
_P95: Final[_Column] = ("p95 response, s", "p95_response_s", ".1f")
_PREFILLED: Final[_Column] = ("prefilled", "prefilled_per_valid", ".2f")
_ABLATION: Final[tuple[_Column, ...]] = (
    _THROUGHPUT,
    _OVER_SLS,
    _OVER_ILS,
    ("tokens/s", "tokens_per_second", ".0f"),
    _MEAN,
    _P95,
    ("invalid", "invalid_per_valid", ".2f"),
    ("pad", "pad_per_valid", ".2f"),
    _PREFILLED,
    ("batch", "batch_size", ".1f"),
    ("slices", "slices", ".2f"),
    ("early", "early_return_share", ".1%"),
    ("spread, s", "completion_spread_s", ".1f"),
)


def markdown(rows: Sequence[Row]) -> str:
    """A section of a results page: verdict, tables, and what limits their worth."""
    parts = [
        "## Slice-level scheduling (arXiv 2406.13511)",
        _SETTING,
        verdict(rows),
        "### Ablation at saturation",
        _ABLATION_NOTE,
        *_ablations(rows),
        "### Response time by arrival rate",
        _matrix(rows, "rate", "requests/s", (_MEAN, _P95)),
        "### Time between rounds, at the lowest rate",
        _matrix(rows, "round", "s", (_MEAN, _P95)),
        "### Slice length (SCLS)",
        _slices(rows),
        "### Instances",
        _matrix(rows, "instances", "instances", (_THROUGHPUT, _OVER_SLS)),
        "### Longer contexts",
        _CONTEXT_NOTE,
        _matrix(rows, "context", "prompts", (_THROUGHPUT, _OVER_SLS, _PREFILLED)),
        "### How cautious SLS and ILS are",
        _LIMIT_NOTE,
        _matrix(rows, "limit", "limit", (_THROUGHPUT, _OVER_SLS, _OVER_ILS)),
        "### Serving-time estimator",
        _estimator(rows),
    ]
    return "\n\n".join(parts) + "\n"


_SETTING: Final = """\
LLaMA2-13B on A100-80GB, simulated from a roofline, on 8 instances unless said; prompts and answers
of at most 1,024 tokens, slices of 128, rounds every 3 s or more, 90 % of the free memory planned
with. Poisson arrivals. Values are means over seeds ± the 95 % confidence interval. The paper's
request trace is not public: the code-assistant lengths are lognormal (medians 250 and 130, sigma
1), the others come from the Azure trace. SLS and ILS run as many sequences as fit into the memory
if all grow to the limit; ILS-paged, which the paper does not have, runs as many as fit now and
evicts when they do not. SO = slices only, PM = and like lengths together, AB = and adaptive batch
sizes, LB = and max-min offloading, SCLS = and an adaptive interval between rounds."""

_ABLATION_NOTE: Final = """\
Throughput counts until the last request has finished. *invalid*, *pad* and *prefilled* (all
prefill, pads and repetitions included) are tokens per valid token; *batch* is the mean batch size,
*slices* the mean number per request, *early* the share of batches that returned before their limit,
*spread* the standard deviation of the instances' completion times. The instances get more than they
can serve, so response times grow with the length of the run: compare them within a table alone."""

_CONTEXT_NOTE: Final = """\
Prompts are so many times longer, limits included; answers stay as they are. Every slice prefills
the whole context again."""

_LIMIT_NOTE: Final = """\
Most sequences of a batch of SLS and of an instance of ILS, by hand. The memory allows 26; the paper
does not say in its public parts how few its baselines ran."""


def _ablations(rows: Sequence[Row]) -> list[str]:
    cells = [row for row in rows if row.experiment == "ablation"]
    parts = []
    for engine, lengths in dict.fromkeys((row.engine, row.lengths) for row in cells):
        own = [row for row in cells if (row.engine, row.lengths) == (engine, lengths)]
        body = [[row.scheduler, *_values(row, _ABLATION)] for row in own]
        parts.append(f"**{NAMES[engine]}, {NAMES[lengths]}**")
        parts.append(_table(["", *(heading for heading, _, _ in _ABLATION)], body))
    return parts


def _slices(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row.experiment == "slice" and row.scheduler == "SCLS"]
    body = [[f"{row.factor:g}", *_values(row, _ABLATION)] for row in own]
    return _table(["slice", *(heading for heading, _, _ in _ABLATION)], body)


def _matrix(rows: Sequence[Row], experiment: str, factor: str, columns: Sequence[_Column]) -> str:
    """Schedulers side by side, a line for each metric and value of the factor."""
    own = [row for row in rows if row.experiment == experiment]
    schedulers = list(dict.fromkeys(row.scheduler for row in own))
    body = []
    for heading, metric, form in columns:
        for value in dict.fromkeys(row.factor for row in own):
            at = {row.scheduler: row.values[metric] for row in own if row.factor == value}
            shown = [show(at[scheduler], form) for scheduler in schedulers]
            body.append([heading, f"{value:g}", *shown])
    return _table(["", factor, *schedulers], body)


def _estimator(rows: Sequence[Row]) -> str:
    own = [row for row in rows if row.experiment == "estimator"]
    body = [
        [NAMES[row.engine], *(f"{row.values[part].mean:.1%}" for part in _PARTS)] for row in own
    ]
    return "Mean relative error on batches outside the profile it was fitted to.\n\n" + _table(
        ["", "prefill", "decode step", "whole slice"], body
    )


_PARTS: Final = ("prefill", "decode", "serve")


def _values(row: Row, columns: Sequence[_Column]) -> list[str]:
    return [show(row.values[metric], form) for _, metric, form in columns]


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
