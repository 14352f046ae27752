"""What is said of an overload, and whether it is what was promised. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from e2e.bench.overload_bench.drive import Client, Seen

LONGEST: Final = 0.1
"""Part of the requests, by prompt, that "the longest" are."""
MOST_UNFAIR: Final = 1.5
"""p99 of the longest ones' wait as a multiple of that of all."""
MOST_TRIES: Final = 4.0
"""Tries, the first one included, of a client that comes again when it is told to. Its place is not
kept: who comes for the first time at that moment may be before it."""


@dataclass(frozen=True)
class Figures:
    """One way to serve an overload. Times in seconds."""

    requests: int
    lost: int
    wrong: int
    preemptions: int
    wait_p50: float
    wait_p99: float
    """To the first token, from the first try."""
    longest_p99: float
    """The same of the tenth with the longest prompts."""
    whole_mean: float
    """To the last token."""
    turned_away: int
    """Answers of status 429, each with a Retry-After."""
    told_mean: float
    tries_mean: float
    """Tries of those that were turned away, until they were served."""
    queue_p99: float
    """To the first token, from the last try."""


def figures_of(seen: Seen) -> Figures:
    """The figures of one run."""
    served = [client for client in seen.clients if client.first is not None]
    longest = sorted(served, key=lambda client: client.request.prompt)
    longest = longest[-max(1, round(len(longest) * LONGEST)) :]
    told = [seconds for client in seen.clients for seconds in client.told]
    again = [len(client.told) + 1 for client in served if client.told]
    return Figures(
        requests=len(seen.clients),
        lost=sum(bool(client.fault) for client in seen.clients),
        wrong=sum(not client.right for client in served),
        preemptions=seen.preemptions,
        wait_p50=_part(_waits(served), 0.5),
        wait_p99=_part(_waits(served), 0.99),
        longest_p99=_part(_waits(longest), 0.99),
        whole_mean=round(fmean(client.whole for client in served), 2) if served else 0.0,
        turned_away=len(told),
        told_mean=round(fmean(told), 1) if told else 0.0,
        tries_mean=round(fmean(again), 1) if again else 0.0,
        queue_p99=_part([client.waited_in_queue or 0.0 for client in served], 0.99),
    )


def claims(figures: Mapping[str, Figures]) -> Sequence[tuple[str, bool]]:
    """(sentence, whether it holds) for what the router promises."""
    ours, bounded, alone = figures["ours"], figures["bounded"], figures["alone"]
    unfair = ours.longest_p99 / ours.wait_p99 if ours.wait_p99 else 0.0
    failed = ours.lost + ours.wrong + bounded.lost + bounded.wrong
    preempted = ours.preemptions + bounded.preemptions
    memory = f"{preempted} preemptions behind routers, {alone.preemptions} without them"
    fair = f"the longest tenth waits {unfair:.2f} times as long as all (p99)"
    waits = f"{bounded.queue_p99:.1f} s at most (p99), {ours.queue_p99:.1f} s without the bound"
    told = f"who was turned away was served at try {bounded.tries_mean:.1f}, on the average"
    return (
        (f"{failed} requests were lost or wrong behind routers", failed == 0),
        (memory, preempted == 0 < alone.preemptions),
        (f"{fair}, at most {MOST_UNFAIR}", unfair <= MOST_UNFAIR),
        (
            f"a bounded queue turned away {bounded.turned_away} times; a wait in it took {waits}",
            bounded.turned_away > 0 and bounded.queue_p99 < ours.queue_p99,
        ),
        (f"{told}, at most {MOST_TRIES:g}", 0 < bounded.tries_mean <= MOST_TRIES),
    )


def _waits(clients: Sequence[Client]) -> list[float]:
    return [client.first for client in clients if client.first is not None]


def _part(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 2) if ordered else 0.0
