"""Holds the simulator's answers against the engine's, and both against the known differences."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.continuity_suite.wire import Client, Received
from e2e.vllm_engine.contract_cases import Asked, contract_cases
from e2e.vllm_engine.metrics_page import page_differences
from e2e.vllm_engine.shapes import SILENT, differences, shape_of

KNOWN: Final = Path(__file__).with_name("known_differences.json")
"""For each line that the simulator alone has (-) or the engine alone (+), the cases with it."""
METRICS: Final = "the metrics page"
USED_METRICS: Final = frozenset(
    {
        "vllm:cache_config_info",
        "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions_total",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:prefix_cache_hits_total",
        "vllm:prefix_cache_queries_total",
        "vllm:request_generation_tokens",
        "vllm:request_prompt_tokens",
    }
)
"""What router, command and suite read."""
Differences = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Comparison:
    """What was found, beside what is known."""

    cases: int
    found: Differences
    new: Differences
    gone: Differences

    @property
    def passed(self) -> bool:
        """Whether the file says what is so."""
        return not self.new and not self.gone


async def compare(simulator: Client, engine: Client, model: str) -> Comparison:
    """Ask both for everything."""
    found: dict[str, Sequence[str]] = {}
    cases = list(contract_cases(model))
    for asked in cases:
        one, other = [shape_of(await _ask(client, asked)) for client in (simulator, engine)]
        found[asked.name] = differences(one, other)
    pages = [(await client.get("/metrics")).body.decode() for client in (simulator, engine)]
    found[METRICS] = list(page_differences(pages[0], pages[1], USED_METRICS))
    return against(_by_the_other(json.loads(KNOWN.read_text(encoding="utf-8"))), found)


def against(known: Differences, found: Differences) -> Comparison:
    """What is new, and what is listed without need."""
    names = sorted({*known, *found})
    new = {name: _without(found.get(name, ()), known.get(name, ())) for name in names}
    gone = {name: _without(known.get(name, ()), found.get(name, ())) for name in names}
    # Whether a stream has events without text is up to the model, and to how busy the machine is.
    gone = {name: [line for line in lines if SILENT not in line] for name, lines in gone.items()}
    return Comparison(len(found), _real(found), _real(new), _real(gone))


def write_known(found: Differences) -> None:
    """Take what is found for known."""
    cases = sorted(_by_the_other(found).items(), key=lambda item: (-len(item[1]), item[0][2:]))
    lines = (f" {json.dumps(line)}: {json.dumps(sorted(names))}" for line, names in cases)
    KNOWN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _by_the_other(found: Differences) -> Differences:
    """Cases by line of lines by case, and the other way round."""
    other: dict[str, list[str]] = {}
    for name, lines in found.items():
        for line in lines:
            other.setdefault(line, []).append(name)
    return other


async def _ask(client: Client, asked: Asked) -> Received:
    if asked.body is None:
        return await client.get(asked.path)
    return await client.post(asked.path, asked.body)


def _without(lines: Iterable[str], others: Sequence[str]) -> Sequence[str]:
    return [line for line in lines if line not in others]


def _real(found: Differences) -> Differences:
    return {name: lines for name, lines in found.items() if lines}
