"""Makes workloads: from the requests of a trace, or from stated distributions.

A trace is a sequence of requests in order of arrival; times in ms. Randomness is an argument.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_policy.engine_model import EngineModel
from cascade_simulator.workload import Request, Workload

Floats = NDArray[np.float64]

MINUTE_MS: Final = 60_000.0


class InvalidWorkload(ValueError):
    """No workload can be made from this; the message says what is missing."""


def work_ms(requests: Sequence[Request], engine: EngineModel) -> Floats:
    """GPU time that each request takes at least, in ms; shape (requests,).

    w(prompt) (1 + C0/(chunk CP)) + (output-1) (C1 + C2 (prompt + output/2)): every chunk of a
    prompt pays for a step, every later token for its share in one, at even lengths (H = 1).
    """
    prompt = np.array([one.prompt for one in requests], dtype=np.float64)
    output = np.array([one.output for one in requests], dtype=np.float64)
    prefill = engine.prefill_ms_per_token * prompt + (
        engine.prefill_ms_per_token_squared * prompt * prompt / 2
    )
    decode = engine.per_sequence_ms + engine.per_kv_token_ms * (prompt + output / 2)
    work: Floats = prefill * engine.stretch(engine.base_ms) + (output - 1) * decode
    return work


def utilisation(
    requests: Sequence[Request], engine: EngineModel, instances: int, duration_ms: float
) -> float:
    """The load: work in `duration_ms`, relative to what `instances` can do; stable below 1."""
    return float(work_ms(requests, engine).sum()) / (instances * duration_ms)


def rate_for(
    requests: Sequence[Request], engine: EngineModel, instances: int, load: float
) -> float:
    """Requests per ms like `requests` that make the load of `instances` equal to `load`."""
    _require_some(requests)
    return load * instances / float(work_ms(requests, engine).mean())


def stationary(
    name: str,
    trace: Sequence[Request],
    count: int,
    per_ms: float,
    random: np.random.Generator,
    block_tokens: int = 512,
) -> Workload:
    """Steady traffic: `count` requests of the trace in random order, Poisson arrivals.

    No request comes twice before all have come once.
    """
    _require_some(trace)
    rounds = [random.permutation(len(trace)) for _ in range(-(-count // len(trace)))]
    picked = np.concatenate(rounds)[:count] if rounds else np.zeros(0, dtype=np.int64)
    arrivals = np.cumsum(random.exponential(1 / per_ms, size=count))
    rows = zip(picked.tolist(), arrivals.tolist(), strict=True)
    requests = tuple(replace(trace[index], arrival_ms=time) for index, time in rows)
    return Workload(name, requests, block_tokens)


def thinned(
    trace: Sequence[Request], count: int, random: np.random.Generator
) -> tuple[Request, ...]:
    """`count` requests of the trace drawn at random, in its order and at its times: the mix moves
    as in the whole trace. The trace itself when it has no more than `count`."""
    if count >= len(trace):
        return tuple(trace)
    picked = np.sort(random.choice(len(trace), size=count, replace=False))
    return tuple(trace[index] for index in picked.tolist())


def compressed(
    name: str,
    trace: Sequence[Request],
    engine: EngineModel,
    instances: int,
    load: float,
    block_tokens: int = 512,
) -> Workload:
    """The trace with its times scaled by one factor, so that its mean load is `load`."""
    _require_some(trace)
    start, span = trace[0].arrival_ms, trace[-1].arrival_ms - trace[0].arrival_ms
    if span <= 0:
        raise InvalidWorkload(
            f"trace {name}: all {len(trace)} requests arrive at once, so that no factor on their "
            "times gives a load; use steady traffic instead"
        )
    factor = utilisation(trace, engine, instances, span) / load
    requests = tuple(replace(one, arrival_ms=(one.arrival_ms - start) * factor) for one in trace)
    return Workload(name, requests, block_tokens)


def drifting(
    name: str,
    trace: Sequence[Request],
    engine: EngineModel,
    instances: int,
    load: float,
    minutes: tuple[int, int],
    random: np.random.Generator,
) -> Workload:
    """Minutes `minutes[0]` to `minutes[1]` (exclusive) of the trace at their own speed.

    Each minute gets as many requests as make the mean load of all of them `load`, drawn from those
    of that minute at random times: rate and mix move as they really did. Block numbers are left
    out: what is drawn from a minute has no prefixes in common as conversations have.
    """
    _require_some(trace)
    first, last = minutes
    by_minute: list[list[Request]] = [[] for _ in range(last - first)]
    for one in trace:
        minute = int((one.arrival_ms - trace[0].arrival_ms) // MINUTE_MS) - first
        if 0 <= minute < len(by_minute):
            by_minute[minute].append(one)
    window = [one for requests in by_minute for one in requests]
    if not window:
        raise InvalidWorkload(
            f"trace {name} has no request in minutes {first} to {last}: it lasts "
            f"{(trace[-1].arrival_ms - trace[0].arrival_ms) / MINUTE_MS:.0f} minutes"
        )
    factor = load / utilisation(window, engine, instances, len(by_minute) * MINUTE_MS)
    drawn: list[Request] = []
    for minute, requests in enumerate(by_minute):
        if not requests:
            continue
        count = int(random.poisson(len(requests) * factor))
        times = np.sort(random.random(count)) * MINUTE_MS + minute * MINUTE_MS
        picked = random.integers(len(requests), size=count)
        for time, index in zip(times.tolist(), picked.tolist(), strict=True):
            drawn.append(replace(requests[index], arrival_ms=time, blocks=(), session=None))
    return Workload(name, tuple(drawn))


@dataclass(frozen=True, slots=True)
class Chat:
    """What conversations are like. Lengths in tokens, times in ms.

    Turns, messages and answers have the means and standard deviations of WildChat (Zhao et al.,
    ICLR 2024, table 1). Assumed: the shapes (geometric turns, lognormal lengths), the system
    prompt, the time between an answer and the next message (lognormal), and the speed at which
    answers are read off while they are made.
    """

    mean_turns: float = 2.54
    message_mean: float = 296.0
    message_deviation: float = 1609.0
    answer_mean: float = 441.0
    answer_deviation: float = 411.0
    answer_limit: int = 4096
    system_prompt: int = 500
    """Tokens that all conversations start with."""
    think_median_ms: float = 30_000.0
    think_sigma: float = 1.0
    token_ms: float = 25.0
    """Time that an answer takes per token, before its reader starts to think."""
    max_length: int = 32_768
    """A conversation ends before it grows beyond this."""


CHAT: Final = Chat()


def multi_turn(
    name: str,
    chat: Chat,
    count: int,
    per_ms: float,
    random: np.random.Generator,
    block_tokens: int = 64,
) -> Workload:
    """`count` requests of conversations that start at random times, `per_ms` requests on average.

    The prompt of a turn is that of the turn before, its answer, and a new message; blocks tell so,
    and cover the answer too. Turns come when they come, however slow the service is. Conversations
    begin long before the first request, so that the share of later turns is steady.
    """
    draw = _Conversations(chat, block_tokens, random)
    span = count / per_ms
    think_mean = chat.think_median_ms * float(np.exp(chat.think_sigma**2 / 2))
    # Five times as long as a conversation lasts: hardly any that could still go on is missing.
    warm_up = 5 * chat.mean_turns * (think_mean + chat.token_ms * chat.answer_mean)
    # Half as much again: turns past the end are cut off, and the draw has its luck.
    starts = int(1.5 * (span + warm_up) * per_ms / chat.mean_turns) + 10
    gap = chat.mean_turns / per_ms
    requests: list[Request] = []
    time = -warm_up
    for session in range(starts):
        time += float(random.exponential(gap))
        requests.extend(one for one in draw.turns(session, time) if one.arrival_ms >= 0)
    requests.sort(key=lambda one: one.arrival_ms)
    return Workload(name, tuple(requests[:count]), block_tokens)


class _Conversations:
    """Draws conversations and numbers their blocks."""

    def __init__(self, chat: Chat, block_tokens: int, random: np.random.Generator) -> None:
        self._chat = chat
        self._block_tokens = block_tokens
        self._random = random
        self._shared = chat.system_prompt // block_tokens
        self._longest = -(-chat.max_length // block_tokens)

    def turns(self, session: int, start_ms: float) -> list[Request]:
        chat, random = self._chat, self._random
        turns: list[Request] = []
        time, length = start_ms, chat.system_prompt
        for _ in range(int(random.geometric(1 / chat.mean_turns))):
            message = _lognormal(chat.message_mean, chat.message_deviation, random)
            answer = _lognormal(chat.answer_mean, chat.answer_deviation, random)
            answer = min(answer, chat.answer_limit)
            prompt = length + message
            length = prompt + answer
            if length > chat.max_length:
                break
            blocks = self._blocks(session, length)
            turns.append(Request(time, prompt, answer, blocks, session))
            think = chat.think_median_ms * float(np.exp(chat.think_sigma * random.normal()))
            time += answer * chat.token_ms + think
        return turns

    def _blocks(self, session: int, length: int) -> tuple[int, ...]:
        """Numbers up to `length`: the same for all in the system prompt, then the session's own."""
        full = length // self._block_tokens
        own = (session + 1) * self._longest
        return (*range(min(self._shared, full)), *range(own + self._shared, own + full))


def _lognormal(mean: float, deviation: float, random: np.random.Generator) -> int:
    """A length of at least 1 from the lognormal distribution with this mean and deviation."""
    variance = float(np.log1p((deviation / mean) ** 2))
    middle = float(np.log(mean)) - variance / 2
    return max(1, round(float(np.exp(middle + variance**0.5 * random.normal()))))


def _require_some(requests: Sequence[Request]) -> None:
    if not requests:
        raise InvalidWorkload("the trace has no requests: nothing can be drawn from it")
