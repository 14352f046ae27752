"""All cases for a target, and one run of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from e2e.continuity_suite.cases import COMPLETIONS, Case
from e2e.continuity_suite.disruption_cases import disruption_cases
from e2e.continuity_suite.field_cases import field_cases
from e2e.continuity_suite.judge import Judge, Result, Target, chosen
from e2e.continuity_suite.prompts import Prompts, SimulatorPrompts, TextPrompts
from e2e.continuity_suite.stream_cases import stream_cases
from e2e.continuity_suite.wire import Client
from e2e.engine_simulator.next_token import expected_output

LONGEST: Final = 10_000
_DEFAULT_LENGTH: Final = 4096
_PROBE: Final = [300, 301, 302]


class NotAnswering(Exception):
    """A server does not answer as an OpenAI-compatible one does; the message says which."""


async def model_of(client: Client, wanted: str | None) -> tuple[str, int]:
    """(the model's name, the greatest length of a sequence) as the server lists them. Raises
    NotAnswering."""
    received = await client.get("/v1/models")
    try:
        models = json.loads(received.body)["data"]
        model = next(one for one in models if wanted in (None, one["id"]))
    except (ValueError, KeyError, TypeError, StopIteration):
        said = received.lost or f"status {received.status}"
        raise NotAnswering(
            f"{client.url}/v1/models lists no model {wanted or ''}: {said}; give the URL of an "
            "OpenAI-compatible server, without /v1"
        ) from None
    return model["id"], model.get("max_model_len") or _DEFAULT_LENGTH


async def prompts_for(client: Client, model: str) -> Prompts:
    """Prompts that suit the engine: its answers are known in advance if it is our simulator."""
    body = {
        "model": model, "prompt": _PROBE, "max_tokens": 12, "temperature": 0, "ignore_eos": True
    }  # fmt: skip
    received = await client.post(COMPLETIONS, body)
    want = expected_output(_PROBE, 12, ignore_eos=True).text
    try:
        said = json.loads(received.body)["choices"][0]["text"]
    except (ValueError, KeyError, IndexError, TypeError):
        said = None
    return SimulatorPrompts() if said == want else TextPrompts()


def cases_for(prompts: Prompts, max_length: int, longest: int = LONGEST) -> list[Case]:
    """All cases, in the order in which they are judged: those that break something last."""
    longest = min(longest, max_length - 100)
    return [
        *stream_cases(prompts, max_length, longest),
        *field_cases(prompts),
        *disruption_cases(prompts),
    ]


async def verdicts(
    target: Target,
    max_length: int,
    only: str | None = None,
    longest: int = LONGEST,
    prompts: Prompts | None = None,
) -> AsyncIterator[Result]:
    """Judge the cases one after the other; without `prompts`, those that suit the engine."""
    prompts = prompts or await prompts_for(target.reference or target.client, target.model)
    judge = Judge(target)
    # Prompts that an engine is asked for wait for its answers.
    cases = await asyncio.to_thread(cases_for, prompts, max_length, longest)
    for case in chosen(cases, only):
        yield await judge.judge(case)
