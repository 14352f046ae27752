"""What the papers claim, beside what was found here."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cascade_policy.profiles import profile
from e2e.bench.planner_bench.budgets import measured as planning_ms
from e2e.bench.simulation_bench.experiments import BLIND, LLUMNIX, OURS
from e2e.bench.simulation_bench.results import Comparison, Results

HARD: Final = "cascade-hard+handover"
"""Nearest to the paper's design: hard boundaries, live migration."""
REFINED: Final = "cascade-refined+handover"


class Verdict(StrEnum):
    """Whether a number of a paper was found again."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    NOT_TESTED = "not tested here"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, with the numbers behind it."""

    verdict: Verdict
    found: str
    why: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of a paper, and how it is judged."""

    source: str
    words: str
    needs: tuple[str, ...]
    """Experiments that the judgement looks at."""
    judge: Callable[[Results], Judgement]


def judged(results: Results) -> list[tuple[Claim, Judgement]]:
    """Every claim whose experiments were run."""
    return [
        (claim, claim.judge(results))
        for claim in CLAIMS
        if all(name in results.experiments for name in claim.needs)
    ]


def _throughput_over_llumnix(results: Results) -> Judgement:
    ours = _greatest(results.versus("capacity", OURS, LLUMNIX, "capacity"))
    hard = _greatest(results.versus("capacity", HARD, LLUMNIX, "capacity"))
    return Judgement(
        _at_least(ours.ratio.mean, 1.71, 1.34),
        f"ours at most {_times(ours)}; hard stages at most {_times(hard)}",
        "The total of work is the same under every policy: with even kernels (cv slope 0) no "
        "partition raises the rate that an engine can sustain; what rises is the load at which "
        "the targets still hold. 1.71 was measured on H20, whose attention is slow beside its "
        "memory.",
    )


def _throughput_over_blind(results: Results) -> Judgement:
    blind = _greatest(results.versus("capacity", OURS, BLIND, "capacity"))
    robin = _greatest(results.versus("capacity", OURS, "round-robin", "capacity"))
    return Judgement(
        _at_least(robin.ratio.mean, 1.99, 1.21),
        f"at most {_times(blind)} against least work, {_times(robin)} against round robin",
        "How vLLM and SGLang spread requests over instances in the paper is not known; round "
        "robin is the weakest likely answer, least work the strongest.",
    )


def _latency(results: Results) -> Judgement:
    llumnix = _least(_both(results, OURS, LLUMNIX, "e2e_mean"))
    robin = _least(results.versus("policies", OURS, "round-robin", "normalised_mean"))
    tail = _least(_both(results, OURS, LLUMNIX, "normalised_p99"))
    return Judgement(
        _at_most(min(llumnix.ratio.mean, robin.ratio.mean), 0.33, 0.67),
        f"mean end-to-end time at best {_change(llumnix)} against Llumnix; per token "
        f"{_change(robin)} against round robin; p99 per token {_change(tail)} against Llumnix",
        "A mean end-to-end time of a third of the baseline's needs a baseline that queues. At "
        "equal load a good dispatch does not.",
    )


def _attainment(results: Results) -> Judgement:
    five = _greatest(_both(results, OURS, LLUMNIX, "within_5x"))
    twenty = _greatest(_both(results, OURS, LLUMNIX, "within_20x"))
    return Judgement(
        _at_least(five.ratio.mean, 3.8, 1.5),
        f"at most {_times(five)} at 5x, {_times(twenty)} at 20x",
        "Multiples of the time on an idle instance are met by nearly every request as long as the "
        "cluster is stable: several times as many are met only where the baseline is overloaded.",
    )


def _refinement(results: Results) -> Judgement:
    best = _least(results.versus("drifting", REFINED, HARD, "e2e_mean"))
    worst = _greatest(results.versus("drifting", REFINED, HARD, "e2e_mean"))
    return Judgement(
        _at_most(best.ratio.mean, 0.79, 0.95),
        f"mean end-to-end time between {_change(best)} and {_change(worst)} against the same "
        "stages without refinement",
        "Refinement here moves boundaries by the planner's objective, not towards equal loads. It "
        "helps where the mix moves and cannot help where it does not.",
    )


def _dual_pool(results: Results) -> Judgement:
    best = _greatest(results.versus("capacity", "dual-pool", BLIND, "capacity"))
    worst = _least(results.versus("capacity", "dual-pool", BLIND, "capacity"))
    saved = 1 - 1 / best.ratio.mean
    return Judgement(
        _at_least(saved, 0.313, 0.15),
        f"capacity between {_times(worst)} and {_times(best)} against least work: at best "
        f"{max(0.0, saved):.0%} fewer GPUs",
        "Its saving came from short-context instances that hold more sequences in the same "
        "memory. Here all instances are equal, so that any of them can serve any request.",
    )


def _even_lengths(results: Results) -> Judgement:
    worst = _greatest(results.against_baseline("even-lengths", OURS, "e2e_mean"))
    tail = _greatest(results.against_baseline("even-lengths", OURS, "ttft_p99"))
    verdict = Verdict.REPRODUCED if worst.ratio.mean <= 1.03 else Verdict.NOT_REPRODUCED
    return Judgement(
        verdict,
        f"against least work, mean end-to-end time at worst {_change(worst)}, p99 time to first "
        f"token {_change(tail)}",
        "With equal lengths a plan has nothing to keep apart; what is left is the price.",
    )


def _remaining_length(results: Results) -> Judgement:
    known = _least(results.versus("ablations", f"{OURS}+oracle", OURS, "e2e_mean"))
    moves = _least(results.versus("ablations", f"{OURS}+oracle", OURS, "handovers"))
    return Judgement(
        Verdict.REPRODUCED if moves.ratio.mean < 0.95 else Verdict.NOT_REPRODUCED,
        f"knowing the length of every answer: hand-overs {_change(moves)}, mean end-to-end time "
        f"{_change(known)}, both at best",
        "The expected remaining output at each length, which every plan carries, is already in "
        "the price of a move. No published number to compare with.",
    )


def _few_instances(results: Results) -> Judgement:
    gains = list(results.against_baseline("scaling", OURS, "e2e_mean"))
    ordered = [one.ratio.mean for one in gains]
    half = len(ordered) // 2
    shrinks = ordered[0] > ordered[half - 1] and ordered[half] > ordered[-1]
    ends = (gains[0], gains[half - 1], gains[half], gains[-1])
    return Judgement(
        Verdict.REPRODUCED if shrinks else Verdict.NOT_REPRODUCED,
        f"mean end-to-end time against least work: {', '.join(map(_change, ends))}",
        "Few instances make few stages. No published number to compare with.",
    )


def _attention_share(results: Results) -> Judgement:  # noqa: ARG001
    engine = profile("h100-8b")
    share = engine.per_kv_token_ms * 250_000 / engine.decode_ms(250, 250_000)
    return Judgement(
        _at_least(share, 0.75, 0.4),
        f"{share:.0%} of a decode step in the cost model h100-8b",
        "The share depends on model and GPU: the more compute a GPU has beside its memory "
        "bandwidth, and the smaller the model, the greater it is.",
    )


def _elsewhere(found: str, why: str) -> Callable[[Results], Judgement]:
    return lambda results: Judgement(Verdict.NOT_TESTED, found, why)  # noqa: ARG005


def _planning_time(results: Results) -> Judgement:  # noqa: ARG001
    took = planning_ms()[16]
    return Judgement(
        Verdict.REPRODUCED if took <= 60 else Verdict.NOT_REPRODUCED,
        f"{took:.1f} ms from histograms to plan, measured by `e2e/bench/planner`",
        "Exact over the same kind of buckets, and elementwise in numpy.",
    )


_CASCADE: Final = "CascadeInfer (arXiv 2512.19179)"
CLAIMS: Final = (
    Claim(
        _CASCADE,
        "Uneven lengths slow decode attention 1.1 to 2.1 times at equal tokens",
        (),
        _elsewhere(
            "assumed: none, or 0.25 times the coefficient of variation, at most 1.5 times",
            "Needs a GPU and the kernel in question. All tables come with both assumptions.",
        ),
    ),
    Claim(
        _CASCADE,
        "Attention takes 81 % of a decode step at 250 sequences of 1,000 tokens",
        (),
        _attention_share,
    ),
    Claim(
        _CASCADE,
        "A plan for 16 instances and 128K tokens in 0.06 s",
        (),
        _planning_time,
    ),
    Claim(
        _CASCADE,
        "Throughput 1.71x (H20) and 1.34x (L40) of Llumnix'",
        ("capacity",),
        _throughput_over_llumnix,
    ),
    Claim(
        _CASCADE,
        "Throughput 1.99x / 2.18x (H20), 1.37x / 1.21x (L40) of vLLM's / SGLang's",
        ("capacity",),
        _throughput_over_blind,
    ),
    Claim(
        _CASCADE,
        "End-to-end latency up to -67 %, tail up to -69 %",
        ("stationary", "uneven", "policies"),
        _latency,
    ),
    Claim(
        _CASCADE,
        "3.8 to 7.6 times as many requests within 5x of the base latency, 2.0 to 2.8 within 20x",
        ("stationary", "uneven"),
        _attainment,
    ),
    Claim(
        _CASCADE,
        "Refining boundaries at run time: -21 % mean latency, +12 % throughput",
        ("drifting",),
        _refinement,
    ),
    Claim(
        _CASCADE,
        "Little gain where lengths are even",
        ("even-lengths",),
        _even_lengths,
    ),
    Claim(
        "Llumnix (OSDI '24)",
        "A migration stops a stream for 20 to 30 ms, whatever its length",
        (),
        _elsewhere(
            "assumed: 5 ms and the copy of what the stop leaves",
            "Needs engines that can copy KV caches; the gap of real hand-overs is measured on "
            "real engines.",
        ),
    ),
    Claim(
        "Dual-pool routing (arXiv 2604.08075)",
        "41.9 % (Azure) and 31.3 % (LMSYS) fewer GPUs",
        ("capacity",),
        _dual_pool,
    ),
    Claim(
        "open",
        "Knowing the remaining length cuts hand-overs at equal latency",
        ("ablations",),
        _remaining_length,
    ),
    Claim(
        "open",
        "The gain shrinks with few instances",
        ("scaling",),
        _few_instances,
    ),
)


def _both(results: Results, policy: str, other: str, figure: str) -> Iterator[Comparison]:
    """On steady traffic, with both kinds of kernels."""
    for name in ("stationary", "uneven"):
        for one in results.versus(name, policy, other, figure):
            yield Comparison(f"{name}, {one.where}", one.ratio)


def _at_least(found: float, claimed: float, partly: float) -> Verdict:
    if found >= claimed:
        return Verdict.REPRODUCED
    return Verdict.PARTLY if found >= partly else Verdict.NOT_REPRODUCED


def _at_most(found: float, claimed: float, partly: float) -> Verdict:
    if found <= claimed:
        return Verdict.REPRODUCED
    return Verdict.PARTLY if found <= partly else Verdict.NOT_REPRODUCED


def _greatest(found: Iterable[Comparison]) -> Comparison:
    return max(found, key=lambda one: one.ratio.mean)


def _least(found: Iterable[Comparison]) -> Comparison:
    return min(found, key=lambda one: one.ratio.mean)


def _times(found: Comparison) -> str:
    return f"{found.ratio.mean:.2f}x ({found.where})"


def _change(found: Comparison) -> str:
    return f"{100 * (found.ratio.mean - 1):+.0f} % ({found.where})"
