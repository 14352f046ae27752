"""What is said of each way of routing, and whether it is what was promised."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from e2e.bench.chat_bench.drive import Talk

MOST_PREFILL = 1.1
"""Prefill of ours as a multiple of what session stickiness computes."""


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
        (_faster(ours, sticky, "session stickiness"), ours.mean_e2e < sticky.mean_e2e),
        (_faster(ours, blind, "prices that know no cache"), ours.mean_e2e < blind.mean_e2e),
    )


def _faster(ours: Figures, other: Figures, name: str) -> str:
    return f"mean end-to-end time {ours.mean_e2e / other.mean_e2e - 1:+.1%} against {name}"


def to_json(figures: Mapping[str, Figures]) -> dict[str, object]:
    """Everything, for `--json`."""
    return {
        "ways": {name: asdict(one) for name, one in figures.items()},
        "claims": [{"claim": text, "holds": holds} for text, holds in claims(figures)],
    }
