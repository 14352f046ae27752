"""Traffic from length histograms, whoever counted them."""

import math
from typing import Final

from cascade_cli.errors import NoTraffic
from cascade_cli.histograms import Histograms
from cascade_cli.observed import Lengths, Observed, model_length, scaled_histogram, usable
from cascade_planner.histogram import LengthHistogram
from cascade_planner.marginals import Marginals
from cascade_planner.traffic import Traffic, TrafficProblem

NOTEWORTHY_CACHED_SHARE: Final = 0.05
NOTEWORTHY_SHARE_BEYOND: Final = 0.01


def observe_histograms(
    kind: str, name: str, found: Histograms, seconds: float | None, max_length: int | None
) -> Observed:
    """The traffic of `found`, counted within `seconds` if those are not known to it.

    Raises NoTraffic.
    """
    seconds = found.times.seconds if seconds is None else seconds
    if math.isinf(found.times.age_seconds):
        raise NoTraffic(
            f"{name} has samples of {found.origin} within the window, but scrapes it no more"
        )
    requests = _total(found.prompts)
    # Without a time one request a second stands for the rate, which the user must give.
    window = seconds or max(requests, 1.0)
    marginals = _marginals(found, window)
    limit = max_length or model_length(_reach(found))
    planned = usable(
        _of_whole_sequences(found, window, limit)
        if marginals is None
        else marginals.traffic(limit),
        name,
    )
    summary = planned.summary
    return Observed(
        kind=kind,
        name=name,
        origin=found.origin,
        traffic=planned,
        prompts=Lengths(
            _mean(found.prompt_tokens, requests) or summary.prompt_mean,
            summary.prompt_p50,
            summary.prompt_p95,
        ),
        outputs=_outputs(found, summary.output_mean),
        wholes=Lengths(
            summary.prompt_mean + summary.output_mean, summary.final_p50, summary.final_p95
        ),
        requests=requests,
        seconds=seconds,
        marginals=marginals,
        notes=(*_cache_notes(found), *_length_notes(found, limit)),
    )


def _outputs(found: Histograms, mean: float) -> Lengths:
    if found.outputs is None:
        return Lengths(mean)
    known = _mean(found.output_tokens, _total(found.outputs))
    return Lengths(known or mean, quantile(found.outputs, 0.50), quantile(found.outputs, 0.95))


def _of_whole_sequences(
    found: Histograms, seconds: float, max_length: int
) -> Traffic | TrafficProblem:
    decoded = found.decoded or LengthHistogram(())
    return Traffic.from_histograms(
        scaled_histogram(found.prompts, 1 / seconds),
        scaled_histogram(found.finals or LengthHistogram(()), 1 / seconds),
        max_length,
        decoded=scaled_histogram(decoded, 1 / seconds).buckets,
        window_seconds=seconds,
        age_seconds=found.times.age_seconds,
    )


def _marginals(found: Histograms, seconds: float) -> Marginals | None:
    """Prompts and outputs, where these are all that is known."""
    if found.outputs is None:
        return None
    return Marginals(
        prompts=scaled_histogram(found.prompts, 1 / seconds),
        outputs=scaled_histogram(found.outputs, 1 / seconds),
        prompt_mean=_mean(found.prompt_tokens, _total(found.prompts)),
        output_mean=_mean(found.output_tokens, _total(found.outputs)),
        window_seconds=seconds,
        age_seconds=found.times.age_seconds,
    )


def _mean(tokens: float | None, requests: float) -> float | None:
    return None if tokens is None or requests <= 0 else tokens / requests


def _total(counts: LengthHistogram) -> float:
    merged = _merged(counts)
    return merged[-1][1] if merged else 0.0


def _merged(counts: LengthHistogram) -> list[tuple[float, float]]:
    """Sorted by bound, counts of one bound added up; what is no number is left to the planner."""
    merged: dict[float, float] = {}
    for bound, count in counts.buckets:
        if not math.isnan(bound) and 0 <= count < math.inf:
            merged[bound] = merged.get(bound, 0.0) + count
    return sorted(merged.items())


def _reach(found: Histograms) -> float:
    """Tokens that no sequence exceeds, as far as the buckets tell."""
    if found.outputs is None:
        return _longest(found.finals or found.prompts)
    return _longest(found.prompts) + _longest(found.outputs)


def _longest(counts: LengthHistogram) -> float:
    """The first bound that holds all, or the greatest finite one."""
    merged = _merged(counts)
    finite = [(bound, count) for bound, count in merged if bound < math.inf]
    if not finite:
        return 0.0
    holding_all = [bound for bound, count in finite if count >= merged[-1][1]]
    return holding_all[0] if holding_all else finite[-1][0]


def quantile(counts: LengthHistogram, share: float) -> float | None:
    """The length that `share` of all do not exceed, log-uniform within a bucket."""
    low, below = 1.0, 0.0
    merged = _merged(counts)
    for bound, count in merged:
        wanted = share * merged[-1][1]
        if count >= wanted and count > below and bound < math.inf:
            part = max(wanted - below, 0.0) / (count - below)
            return float(low * (max(bound, 1.0) / low) ** part)
        low, below = max(bound, 1.0), max(count, below)
    return None


def _length_notes(found: Histograms, limit: int) -> tuple[str, ...]:
    """Of lengths that are beyond what the buckets tell, or beyond the model's limit."""
    notes = []
    apart = (("prompts", found.prompts), ("outputs", found.outputs))
    for name, counts in apart if found.finals is None else (("sequences", found.finals),):
        merged = [] if counts is None else _merged(counts)
        within = [pair for pair in merged if pair[0] <= limit and pair[0] < math.inf]
        if not within or merged[-1][1] <= 0:
            continue
        bound, count = within[-1]
        beyond = 1 - count / merged[-1][1]
        if beyond >= NOTEWORTHY_SHARE_BEYOND:
            notes.append(
                f"{100 * beyond:.0f} % of the {name} are longer than {bound:,.0f} tokens; they are "
                f"planned as if they ended by {limit:,}. Set --max-length to what the engine takes."
            )
    return tuple(notes)


def _cache_notes(found: Histograms) -> tuple[str, ...]:
    cached = found.cached_share or 0.0
    if cached < NOTEWORTHY_CACHED_SHARE:
        return ()
    note = (
        f"{100 * cached:.0f} % of the prompt tokens came from prefix caches; the plan prices every "
        "prompt as if it were computed whole, so the real load is lower."
    )
    return (note,)
