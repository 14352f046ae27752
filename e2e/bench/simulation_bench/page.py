"""The results page."""

from collections.abc import Iterable
from typing import Final

from cascade_policy.profiles import profile
from e2e.bench.simulation_bench.claims import judged
from e2e.bench.simulation_bench.experiment import Measure
from e2e.bench.simulation_bench.experiments import BLIND, LLUMNIX, OURS, PRICE
from e2e.bench.simulation_bench.results import Comparison, Results
from e2e.bench.simulation_bench.tables import markdown_table, section

COMMAND: Final = "e2e/bench/simulation"
LOSS: Final = 1.01
"""From here on, a loss is listed as one."""

_TRAFFIC: Final = ("stationary", "uneven", "compressed", "drifting")


def render(results: Results, slices: str | None) -> str:
    """The whole page; `slices` is the section of the static-batching bench."""
    parts = [
        "# What the plan and the dispatch are worth, simulated",
        _INTRODUCTION,
        "## In short",
        _in_short(results),
        "## Where ours loses",
        _losses(results),
        "## The papers' claims",
        _claims(results),
        "## Cost model and setup",
        _setup(),
        "## Tables",
        *(section(experiment, results) for experiment in results.experiments.values()),
    ]
    if slices is not None:
        parts.append(slices)
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


_INTRODUCTION: Final = f"""\
Made by `{COMMAND}`; do not edit. Everything here is **simulated**: no GPU was used. Ratios
are means over seeds ± the half width of the 95 % confidence interval, paired by seed. A ratio below
1 is less time than the baseline, above 1 more. `{BLIND}` is the strongest dispatch that is blind to
lengths and moves nothing, `{LLUMNIX}` also migrates; `{OURS}` is ours: the plan decides who is
asked, the price who gets a request, and running sequences are handed over.

Read it with this in mind: hand-overs **copy KV caches** here unless a table says otherwise, as
Llumnix and the paper do, and the fast loop refines boundaries. Today's router recomputes instead,
and today's operator has the slow loop alone: what that is worth stands in the table of transports,
in the rows that recompute."""


def _in_short(results: Results) -> str:
    lines = [_gain_line(results, name) for name in _TRAFFIC if name in results.experiments]
    if "capacity" in results.experiments:
        lines.append(_capacity_line(results))
    if "stationary" in results.experiments:
        lines.append(_plan_line(results))
    if "transports" in results.experiments:
        lines.append(_transport_line(results))
    if "compressed" in results.experiments:
        lines.append(_hard_line(results))
    return "\n".join(f"- {line}" for line in lines)


def _gain_line(results: Results, name: str) -> str:
    mean = list(results.against_strongest(name, OURS, "e2e_mean"))
    tail = list(results.against_strongest(name, OURS, "ttft_p99"))
    pace = list(results.against_strongest(name, OURS, "tpot_p99"))
    best, worst = _least(mean), _greatest(mean)
    worst_tail, worst_pace = _greatest(tail), _greatest(pace)
    title = results.experiments[name].title
    return (
        f"**{title}.** Against the strongest policy that is blind to lengths, cell by cell, ours "
        f"changes the mean end-to-end time by {_percent(best)} at best ({best.where}) and "
        f"{_percent(worst)} at worst ({worst.where}); the p99 time to first token is at worst "
        f"{worst_tail.ratio.mean:.2f} times as long ({worst_tail.where}), the p99 time per output "
        f"token {worst_pace.ratio.mean:.2f} times ({worst_pace.where})."
    )


def _capacity_line(results: Results) -> str:
    found = list(results.versus("capacity", OURS, LLUMNIX, "capacity"))
    best, worst = _greatest(found), _least(found)
    return (
        f"**Capacity.** At the targets ours takes {worst.ratio.mean:.2f} ({worst.where}) to "
        f"{best.ratio.mean:.2f} times ({best.where}) the load of {LLUMNIX}."
    )


def _plan_line(results: Results) -> str:
    found = list(results.versus("stationary", OURS, PRICE, "e2e_mean"))
    best, worst = _least(found), _greatest(found)
    return (
        f"**The plan beside the price.** On steady traffic, stages and a 5 % bias change the mean "
        f"end-to-end time by {_percent(best)} ({best.where}) to {_percent(worst)} ({worst.where}) "
        "against price and hand-over without a plan."
    )


def _transport_line(results: Results) -> str:
    found = list(results.against_baseline("transports", OURS, "e2e_mean"))
    return (
        f"**Transports.** All of the above copies KV caches between instances. At load 0.7 ours "
        f"changes the mean end-to-end time against {BLIND} by "
        + ", ".join(f"{_percent(one)} ({one.where})" for one in found)
        + "."
    )


def _hard_line(results: Results) -> str:
    found = list(results.against_baseline("compressed", "cascade-hard+handover", "e2e_mean"))
    best, worst = _least(found), _greatest(found)
    return (
        f"**Hard boundaries** change it by {_percent(best)} ({best.where}) to {_percent(worst)} "
        f"({worst.where}) on the compressed traces."
    )


def _losses(results: Results) -> str:
    rows = [
        [
            experiment.title,
            found.where,
            words,
            f"{found.ratio.mean:.2f} ± {found.ratio.plus_minus:.2f}",
        ]
        for experiment in results.experiments.values()
        if OURS in experiment.policies
        and experiment.measure is Measure.LATENCY
        and not experiment.tuned
        for figure, words in _JUDGED
        for found in results.against_strongest(experiment.name, OURS, figure)
        if _is_loss(found)
    ]
    if not rows:
        return (
            f"In no cell is `{OURS}` more than 1 % slower than the strongest policy that is blind "
            "to lengths, chance excluded."
        )
    words = (
        f"Cells in which `{OURS}` is more than 1 % slower than the strongest policy that is blind "
        "to lengths (named behind the cell), where the confidence interval excludes chance:"
    )
    return f"{words}\n\n{markdown_table(['', 'where', 'what', 'ratio'], rows, words=True)}"


_JUDGED: Final = (
    ("e2e_mean", "mean end-to-end time"),
    ("e2e_p99", "p99 end-to-end time"),
    ("ttft_mean", "mean time to first token"),
    ("ttft_p99", "p99 time to first token"),
    ("tpot_mean", "mean time per output token"),
    ("tpot_p99", "p99 time per output token"),
)


def _is_loss(found: Comparison) -> bool:
    return found.ratio.mean > LOSS and found.ratio.mean - found.ratio.plus_minus > 1


def _claims(results: Results) -> str:
    rows = [
        [claim.source, claim.words, f"**{judgement.verdict}**", judgement.found, judgement.why]
        for claim, judgement in judged(results)
    ]
    return markdown_table(["source", "claim", "verdict", "found", "why"], rows, words=True)


def _setup() -> str:
    engine = profile("h100-8b")
    return f"""\
Cost model **h100-8b** (Llama-3.1-8B class, bf16, one H100 80 GB): a decode step over B sequences
that hold S tokens takes {engine.base_ms:g} + {engine.per_sequence_ms:g} B +
{engine.per_kv_token_ms:g} H S ms, the prefill of L tokens {engine.prefill_ms_per_token:g} L +
{engine.prefill_ms_per_token_squared:g} L²/2 ms in chunks of {engine.chunk_tokens:,} tokens; KV for
{engine.kv_capacity_tokens:,} tokens and {engine.max_sequences} sequences at most. H = min(1.5, 1 +
slope x cv of the lengths in the batch) stands for an attention kernel that suffers from uneven
lengths; the slope is 0 unless said, 0.25 is a guess.

*Load* is the work that arrives, relative to the closed-form limit of stability. Hand-overs copy the
KV cache at 25 GB/s unless said, at most two at a time into one instance. Policies see fresh state
unless said. Runs begin with an empty cluster, so the first 30 % and the last 5 % of each do not
count; at load 0.95 a run is still too short for a fully settled queue. Traces: Azure 2023
conversation and Mooncake conversation, see `e2e/traces`."""


def _least(found: Iterable[Comparison]) -> Comparison:
    return min(found, key=lambda one: one.ratio.mean)


def _greatest(found: Iterable[Comparison]) -> Comparison:
    return max(found, key=lambda one: one.ratio.mean)


def _percent(found: Comparison) -> str:
    return f"{100 * (found.ratio.mean - 1):+.1f} %"
