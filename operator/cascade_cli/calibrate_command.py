"""`cascade calibrate`: what does a step of my engine cost?"""

import argparse
import asyncio
import json
import random
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cascade_cli.calibrate_options import add_arguments as add_arguments
from cascade_cli.calibrate_output import Outcome, announcement, print_outcome
from cascade_cli.calibration.decode_steps import decode_step
from cascade_cli.calibration.design import Budget, Design, Limits, Pace, TooSmall, design
from cascade_cli.calibration.document import Capacity, Identity, profile_document, resource_patch
from cascade_cli.calibration.engine import TIMEOUT, Engine, ServedModel
from cascade_cli.calibration.engine_page import EngineState
from cascade_cli.calibration.fit import CalibrationFailed, fit
from cascade_cli.calibration.prefill_work import chunk_tokens, prefill_work
from cascade_cli.calibration.session import Seen, Session
from cascade_cli.errors import DONE, BadInput, EngineBusy, NoModel
from cascade_cli.http_options import check_address, headers_of
from cascade_prometheus.address import shown
from cascade_prometheus.client import InvalidAuthorities, check_authorities

CONNECTIONS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=4)
"""A batch is a connection for each sequence."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The engine that is measured, as it says it is."""

    model: str
    max_length: int
    version: str
    state: EngineState | None
    kv_tokens: int


def run(args: argparse.Namespace) -> int:
    """Measure, print, write what was asked for; the exit status. Raises CommandError."""
    _check_files(args)
    outcome = asyncio.run(_measured(args))
    if outcome is None:
        return DONE
    _write(args, outcome)
    if args.json:
        print(json.dumps(outcome.document, indent=2))
    else:
        print_outcome(outcome)
    return DONE


async def _measured(args: argparse.Namespace) -> Outcome | None:
    """The outcome of a whole session; None if nothing but a plan was asked for."""
    async with _engine(args) as engine:
        subject = await _subject(args, engine)
        _check_idle(args, subject)
        with _progress() as progress:
            task = progress.add_task("warming up", total=None)
            session = Session(
                engine,
                subject.max_length,
                args.max_seconds,
                others_allowed=args.yes_load_it,
                progress=lambda ms: progress.advance(task, ms),
            )
            pace = await session.warm_up()
            plan = _design(args, subject, pace)
            for line in announcement(subject.model, shown(args.url), plan, pace, args.max_seconds):
                progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
            if args.dry_run:
                return None
            progress.reset(task, total=plan.seconds(pace) * 1000, description="measuring")
            await session.run(plan, asyncio.get_running_loop().time() + args.max_seconds)
    return _outcome(args, subject, session.seen)


@asynccontextmanager
async def _engine(args: argparse.Namespace) -> AsyncIterator[Engine]:
    """The engine at --url. Raises BadInput."""
    url = args.url.rstrip("/").removesuffix("/v1")
    name = f"the engine at {shown(url)}"
    check_address(url, name)
    rng = random.Random(args.seed)
    async with httpx.AsyncClient(
        base_url=url,
        headers=headers_of(args),
        verify=_trusted(args.ca_file),
        timeout=TIMEOUT,
        limits=CONNECTIONS,
    ) as http:
        yield Engine(http, name, rng)


def _trusted(path: Path | None) -> ssl.SSLContext | bool:
    if path is None:
        return True
    try:
        check_authorities(path)
    except InvalidAuthorities as error:
        raise BadInput(f"--ca-file {error}") from None
    return ssl.create_default_context(cafile=str(path))


async def _subject(args: argparse.Namespace, engine: Engine) -> Subject:
    """What is measured. Raises CommandError."""
    model = _chosen(args, await engine.models())
    engine.model = model.name
    state = await engine.state()
    length = args.max_model_len or model.max_length
    if length is None:
        raise BadInput("the engine does not tell how long a sequence may be: give --max-model-len")
    kv_tokens = args.kv_tokens or (state and state.kv_tokens)
    if not kv_tokens:
        raise BadInput("the engine does not tell the size of its KV cache: give --kv-tokens")
    return Subject(
        model=model.name,
        max_length=min(length, model.max_length or length, kv_tokens),
        version=await engine.version(),
        state=state,
        kv_tokens=kv_tokens,
    )


def _chosen(args: argparse.Namespace, models: list[ServedModel]) -> ServedModel:
    names = ", ".join(model.name for model in models) or "none"
    found = [model for model in models if args.model in (None, model.name)]
    if args.model is not None and not found:
        raise BadInput(f"--model {args.model!r} is not served by this engine; it serves: {names}")
    if not found:
        raise BadInput("the engine serves no model: look at its log")
    # Adapters and other names come after the model itself; all of them are the same weights.
    return found[0]


def _check_idle(args: argparse.Namespace, subject: Subject) -> None:
    """Refuse to load an engine that serves others, or may. Raises EngineBusy, BadInput."""
    state = subject.state
    if state is not None and state.ranks > 1:
        raise BadInput(
            f"{state.ranks} data-parallel engines stand behind this address, and share each batch "
            "in a way that cannot be seen: measure one alone (--data-parallel-size 1)"
        )
    if args.yes_load_it:
        return
    if state is None:
        raise EngineBusy(
            "the engine shows no vLLM gauges at /metrics, so nobody can tell whether it serves "
            "others: say --yes-load-it if it does not"
        )
    if state.requests:
        raise EngineBusy(
            f"the engine serves {state.running} requests and {state.waiting} wait: they would be "
            "slowed down and disturb the measurement; take it out of service first, or say "
            "--yes-load-it"
        )


def _design(args: argparse.Namespace, subject: Subject, pace: Pace) -> Design:
    limits = Limits(
        max_length=subject.max_length,
        kv_tokens=subject.kv_tokens,
        sequences=min(args.max_batch, args.max_num_seqs or args.max_batch),
    )
    try:
        return design(limits, pace, Budget(args.max_seconds, args.max_tokens, args.repeats))
    except TooSmall as error:
        raise BadInput(str(error)) from None


def _outcome(args: argparse.Namespace, subject: Subject, seen: Seen) -> Outcome:
    """What was seen, as a model. Raises NoModel."""
    steps = [step for rung in seen.rungs if (step := decode_step(rung)) is not None]
    works = [work for probe in seen.probes if (work := prefill_work(probe)) is not None]
    try:
        found = fit(steps, works)
    except CalibrationFailed as error:
        raise NoModel(str(error)) from None
    given = args.max_num_batched_tokens
    capacity = Capacity(
        chunk_tokens=given or chunk_tokens(works),
        chunk_is_measured=given is None,
        longest_chunk=max(work.tokens - work.cached for work in works),
        kv_tokens=subject.kv_tokens,
        block_tokens=subject.state.block_tokens if subject.state else None,
        sequences=args.max_num_seqs or seen.most_sequences,
        kv_bytes_per_token=args.kv_bytes_per_token,
    )
    identity = Identity(
        name=args.output.stem if args.output else "calibrated",
        model=subject.model,
        gpu=args.gpu or "Not said",
        gpus_per_instance=args.gpus_per_instance or 1,
        version=subject.version,
        date=datetime.now(UTC).date().isoformat(),
    )
    left_out = len(seen.rungs) - len(steps) + len(seen.probes) - len(works)
    notes = [*seen.notes]
    if left_out:
        notes.append(f"{left_out} batches or prompts were left out: too few regular tokens came.")
    document = profile_document(identity, found, capacity, notes)
    return Outcome(document, found, capacity, tuple(steps), tuple(works), tuple(notes))


def _check_files(args: argparse.Namespace) -> None:
    """Refuse, before minutes are spent, what cannot be written afterwards. Raises BadInput."""
    for option in ("output", "patch", "report"):
        path = getattr(args, option)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise BadInput(
                f"--{option} {path} cannot be written: give a file in a folder that exists"
            )


def _write(args: argparse.Namespace, outcome: Outcome) -> None:
    texts = []
    if args.output is not None:
        texts.append(("output", args.output, json.dumps(outcome.document, indent=2)))
    if args.patch is not None:
        patch = resource_patch(outcome.engine)
        texts.append(("patch", args.patch, json.dumps(patch, indent=2)))
    if args.report is not None:
        # Plots take a moment to load.
        from cascade_cli.report.calibration_page import render

        texts.append(("report", args.report, render(outcome)))
    for option, path, text in texts:
        try:
            path.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            why = error.strerror or error
            raise BadInput(f"--{option} {path} cannot be written: {why}") from None
        print(f"cascade: the {option} is in {path}", file=sys.stderr)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
