"""What is said of each way of routing, and whether it is what was promised."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from e2e.bench.chat_bench.drive import Talk
from e2e.bench.chat_bench.simulated import Simulated

MOST_PREFILL = 1.1
"""Prefill of ours as a multiple of what session stickiness computes."""

NOISE: Final = 0.02
"""By which times of two runs on a shared machine differ for nothing; simulated ones do not."""


@dataclass(frozen=True)
class Figures:
    """One way of routing. Times in ms."""

    requests: int
    lost: int
    wrong: int
    computed_share: float
    """Part of the prompts' tokens that the engines computed."""
    mean_e2e: float
    mean_ttft: float
    p99_ttft: float


def figures_of(talk: Talk) -> Figures:
    """The figures of one run."""
    first = sorted(timing.first * 1000 for timing in talk.timings)
    whole = [timing.whole * 1000 for timing in talk.timings]
    count = max(1, len(first))
    return Figures(
        requests=len(first),
        lost=talk.lost,
        wrong=talk.wrong,
        computed_share=round(talk.computed_share, 4),
        mean_e2e=round(sum(whole) / count, 1),
        mean_ttft=round(sum(first) / count, 1),
        p99_ttft=round(first[min(len(first) - 1, int(len(first) * 0.99))], 1) if first else 0.0,
    )


def claims(figures: Mapping[str, Figures]) -> Sequence[tuple[str, bool]]:
    """(sentence, whether it holds) for what was promised of `ours`."""
    ours, sticky, blind = figures["ours"], figures["sticky"], figures["blind"]
    ratio = ours.computed_share / sticky.computed_share
    prefill = f"ours computes {ratio:.2f} times the prefill of session stickiness"
    return (
        ("no conversation of ours was lost or wrong", ours.lost + ours.wrong == 0),
        (f"{prefill}, at most {MOST_PREFILL} times", ratio <= MOST_PREFILL),
        (
            _faster(ours, sticky, "session stickiness"),
            ours.mean_e2e <= sticky.mean_e2e * (1 + NOISE),
        ),
        (_faster(ours, blind, "prices that know no cache"), ours.mean_e2e < blind.mean_e2e),
    )


def ideal_claims(ideal: Sequence[Simulated]) -> Sequence[tuple[str, bool]]:
    """The same of the simulated runs, rate by rate."""
    judged: list[tuple[str, bool]] = []
    for rate in dict.fromkeys(one.per_second for one in ideal):
        ways = {one.way: one for one in ideal if one.per_second == rate}
        ours, sticky, blind = ways["ours"], ways["sticky"], ways["blind"]
        ratio = ours.computed_share / sticky.computed_share
        against = {
            name: ours.mean_e2e / other.mean_e2e - 1
            for name, other in (("stickiness", sticky), ("blind prices", blind))
        }
        times = ", ".join(f"{change:+.1%} against {name}" for name, change in against.items())
        judged.append(
            (
                f"simulated at {rate:g}/s: {ratio:.2f} times the prefill, end to end {times}",
                ratio <= MOST_PREFILL and max(against.values()) < 0,
            )
        )
    return judged


def _faster(ours: Figures, other: Figures, name: str) -> str:
    return f"mean end-to-end time {ours.mean_e2e / other.mean_e2e - 1:+.1%} against {name}"


def to_json(figures: Mapping[str, Figures], ideal: Sequence[Simulated]) -> dict[str, object]:
    """Everything, for `--json`."""
    judged = [*claims(figures), *ideal_claims(ideal)]
    return {
        "ways": {name: asdict(one) for name, one in figures.items()},
        "simulated": [asdict(one) for one in ideal],
        "claims": [{"claim": text, "holds": holds} for text, holds in judged],
    }
