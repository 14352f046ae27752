"""Prints what `cascade calibrate` will do and what it found."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.table import Table

from cascade_cli import words
from cascade_cli.calibration.decode_steps import DecodeStep
from cascade_cli.calibration.design import Design, Pace
from cascade_cli.calibration.document import (
    Capacity,
    JsonObject,
    assumptions,
    engine_of,
    untold,
)
from cascade_cli.calibration.fit import Estimate, Fit, HeldOut
from cascade_cli.calibration.prefill_work import PrefillWork
from cascade_cli.layout import WIDEST, borderless, indented, section, unpadded
from cascade_policy.engine_model import EngineModel

_MEANING: Final = {
    "baseMs": ("a step", 1.0, "ms"),
    "perSequenceMs": ("and sequence in it", 1e3, "µs"),
    "perKvTokenMs": ("and KV token in it", 1e6, "ns"),
    "heterogeneity": ("penalty per cv of lengths", 1.0, ""),
    "prefillMsPerToken": ("a prompt token", 1e3, "µs"),
    "prefillMsPerTokenSquared": ("and token before it", 1e6, "ns"),
}
"""What a coefficient is the cost of, and the unit that it is shown in."""
STALLS: Final = 1.03
"""Mean over median of steps from which stalls are worth a word."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a calibration found."""

    document: JsonObject
    """The profile."""
    fit: Fit
    capacity: Capacity
    steps: tuple[DecodeStep, ...]
    works: tuple[PrefillWork, ...]
    notes: tuple[str, ...]

    @property
    def engine(self) -> EngineModel:
        """The model that was fitted."""
        return engine_of(self.fit, self.capacity)


def announcement(
    model: str, where: str, plan: Design, pace: Pace, most_seconds: float
) -> Iterator[str]:
    """What will be done, a line each."""
    yield (
        f"{model} at {where}: a step takes about {words.milliseconds(pace.step_ms)}, a prompt "
        f"token {1000 * pace.prefill_ms_per_token:.3g} µs."
    )
    yield (
        f"Will send {plan.prompts:,} prompts, {plan.prompt_tokens:,} tokens in all (the longest "
        f"{max(plan.probes):,}), at most {plan.sequences} at a time, {plan.repeats} x "
        f"{sum(len(ladder.rungs) for ladder in plan.ladders)} batches of {plan.steps} steps; about "
        f"{words.period(plan.seconds(pace))}, never more than {words.period(most_seconds)}. Ctrl-C "
        "ends it and closes all streams."
    )


def print_outcome(outcome: Outcome) -> None:
    """Print coefficients, their intervals, and how well they predict."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    with console.capture() as captured:
        section(console, "Engine", _identity(outcome))
        indented(console, _coefficients(outcome))
        section(console, "Errors", *_held_out(outcome.fit))
        notes = (
            *outcome.notes,
            *_stalls(outcome),
            *untold(outcome.fit),
            *assumptions(outcome.capacity),
        )
        if notes:
            section(console, "Note", *notes)
    for line in unpadded(captured.get()):
        print(line, file=console.file)


def _identity(outcome: Outcome) -> str:
    document, engine = outcome.document, outcome.engine
    return (
        f"{document['model']}, {document['engine']}; chunks of {engine.chunk_tokens:,} tokens, "
        f"KV cache of {engine.kv_capacity_tokens:,}, at most {engine.max_sequences} sequences; "
        f"{len(outcome.steps)} batches and {len(outcome.works)} prompts measured"
    )


def _coefficients(outcome: Outcome) -> Table:
    found = borderless("coefficient", "of", "value", "95 % interval", "+-")
    found.columns[1].justify = "left"
    for name, estimate in outcome.fit.estimates.items():
        what, scale, unit = _MEANING[name]
        found.add_row(
            name,
            what,
            f"{scale * estimate.value:.4g} {unit}".strip(),
            f"{scale * estimate.low:.4g} to {_end(scale * estimate.high)}",
            _width(estimate),
        )
    return found


def _end(value: float) -> str:
    return "any" if math.isinf(value) else f"{value:.4g}"


def _width(estimate: Estimate) -> str:
    if math.isinf(estimate.high) or estimate.value == 0:
        return ""
    return words.percent(100 * (estimate.high - estimate.value) / estimate.value)


def _held_out(fit: Fit) -> Iterator[str]:
    for what, held_out in (("batches", fit.decode), ("prompts", fit.prefill)):
        yield f"predicting {what} that the fit had not seen: {_off(held_out)}"


def _off(held_out: HeldOut) -> str:
    return (
        f"{words.percent(100 * held_out.median)} off in the median, "
        f"{words.percent(100 * held_out.greatest)} at most ({held_out.places} places)"
    )


def _stalls(outcome: Outcome) -> Iterator[str]:
    ratio = sum(step.mean_ms for step in outcome.steps) / sum(step.ms for step in outcome.steps)
    if ratio > STALLS:
        yield (
            f"Stalls: the mean step took {words.percent(100 * (ratio - 1))} longer than the median "
            "that the model is of; the engine's host or this one was busy with something else."
        )
