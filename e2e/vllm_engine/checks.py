"""What is checked with real engines. Each check says in a few lines what it found."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console

from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.judge import Result, Target, Verdict
from e2e.continuity_suite.probed_prompts import ProbedPrompts
from e2e.continuity_suite.report import LiveTable, to_json, totals
from e2e.continuity_suite.suite import verdicts
from e2e.continuity_suite.targets import FAST
from e2e.continuity_suite.wire import Client
from e2e.local_service.engines import SimulatedEngine
from e2e.vllm_engine.abort import aborts
from e2e.vllm_engine.contract import compare, write_known
from e2e.vllm_engine.gap import measure
from e2e.vllm_engine.handovers import chains
from e2e.vllm_engine.service import CLOSE_ENDS, MAX_LENGTH, MODEL, WIDE_ENDS, Real, serving_alone


@dataclass(frozen=True)
class Size:
    """How much is asked. `only` chooses cases of the suite, `longest` is in tokens."""

    streams: int
    leavers: int
    longest: int
    gaps: int
    pool: int
    """Prompts that are tried, to choose by their answers."""
    searched: int
    """The same for an empty answer."""
    only: str | None = None
    kill: bool = True


FULL: Final = Size(streams=4, leavers=9, longest=2000, gaps=5, pool=96, searched=4096)
SHORT: Final = Size(
    streams=2,
    leavers=3,
    longest=400,
    gaps=1,
    pool=40,
    searched=0,
    only="^positions: .*token ids|^characters: .*ids$|^limits: min_tokens 50"
    "|^usage: .*once|^form: .*(same streamed|ends where|the engine's)"
    "|^fields: a (chat|completion) with a (presence|repetition) penalty"
    "|^fields: .*stops at a|^fields: .* with (log prob|a seed$|a JSON)|^clients: .*around|^kill",
)


@dataclass(frozen=True)
class Outcome:
    """Of one check. `figures` are for programs."""

    passed: bool
    figures: dict[str, Any]


async def check_handovers(real: Real, prompts: ProbedPrompts, size: Size, out: Console) -> Outcome:
    """Streams over one to five hand-overs are those of the engine alone."""
    real.use_ends(WIDE_ENDS)
    found = await chains(
        real.router, real.reference, MODEL, prompts, WIDE_ENDS, size.streams
    )  # fmt: skip
    counts = dict(sorted(found.compared.items()))
    by_count = ", ".join(f"{streams} with {count}" for count, streams in counts.items())
    out.print(
        f"  streams by hand-overs: {by_count}; {found.tokens:,} tokens compared by id and text"
    )
    for difference in found.differences:
        out.print(f"  {difference}", markup=False)
    for count in found.missing:
        out.print(f"  no stream was handed over {count} times")
    return Outcome(found.passed, {"streams": counts, "tokens": found.tokens,
                                  "differences": found.differences})  # fmt: skip


async def check_continuity(real: Real, prompts: ProbedPrompts, size: Size, out: Console) -> Outcome:
    """The suite that judges any router, ours before real engines. An engine dies at its end."""
    real.use_ends(CLOSE_ENDS)
    target, table, results = await real.target(), LiveTable(out), list[Result]()
    if not size.kill:
        target = Target(target.client, target.model, target.reference, target.engines)
    async for result in verdicts(target, MAX_LENGTH, size.only, size.longest, prompts):
        results.append(result)
        table.add(result)
    out.print(totals(results))
    failed = [one for one in results if one.verdict is Verdict.FAILED]
    document = to_json(results, real.router.url, real.alone)
    return Outcome(bool(results) and not failed, {"suite": json.loads(document)})


async def check_abort(real: Real, prompts: ProbedPrompts, size: Size, out: Console) -> Outcome:
    """A client that leaves frees its engine at once."""
    engines = await Engines.at([engine.url for engine in real.service.engines])
    found = await aborts(real.router, engines, MODEL, prompts, size.leavers)
    for one in found:
        out.print(
            f"  engines are free {one.typical:.3f} s after the client of {one.name} has left "
            f"(median of {len(one.seconds)}, longest {max(one.seconds):.3f}); allowed: "
            f"{one.allowed:.3f}, of which {one.look:.3f} to look"
        )
    figures = {one.name: [round(second, 3) for second in one.seconds] for one in found}
    return Outcome(all(one.passed for one in found), figures)


async def check_contract(real: Real, update: bool, out: Console) -> Outcome:
    """The simulator answers in the engine's shapes, and has its metrics."""
    with serving_alone(SimulatedEngine(FAST)) as simulator:
        found = await compare(Client(simulator.url), real.reference, MODEL)
    if update:
        write_known(found.found)
    known = sum(map(len, found.found.values())) - sum(map(len, found.new.values()))
    out.print(f"  {found.cases} requests and pages compared; {known} known differences")
    for word, sort in (("new", found.new), ("gone, but listed", found.gone)):
        for name, lines in sort.items():
            for line in lines:
                out.print(f"  {word}: {name}: {line}", markup=False, soft_wrap=True)
    return Outcome(found.passed or update, {"found": found.found, "new": found.new})


async def measure_gap(real: Real, times: int, out: Console) -> Outcome:
    """What a hand-over costs a stream, in its usual gaps. Streams must not differ."""
    found = await measure(real, times)
    for one in found:
        told = "none" if one.typical is None else f"{one.typical:.1f} usual gaps"
        every = ", ".join(f"{ratio:.1f}" for ratio in sorted(one.ratios))
        out.print(f"  {one.length} tokens, {one.transport}: {told} ({every})")
        for difference in one.differences:
            out.print(f"  {difference}", markup=False)
    figures = {f"{one.length} {one.transport}": one.ratios for one in found}
    return Outcome(all(one.ratios and not one.differences for one in found), figures)


NAMES: Final = ("contract", "handovers", "abort", "gap", "continuity")
"""In their order: the last one kills an engine."""
MEASURED: Final = ("gap",)
"""What takes long and is measured only if it is named."""


def chosen(wanted: Sequence[str] | None) -> Sequence[str]:
    """Names of checks in their order."""
    if wanted:
        return [name for name in NAMES if name in wanted]
    return [name for name in NAMES if name not in MEASURED]
