"""Cases of plain streams: hand-overs at every position, text, limits, usage, ends."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from e2e.continuity_suite.cases import Ask, Case, How
from e2e.continuity_suite.prompts import Prompts

PERIOD: Final = 64
"""Prompt lengths tried one by one: a router that looks at a stream every so many tokens, or at a
boundary of so many, is met at every position of it."""
OUTPUT: Final = 100
_IDS: Final = {"return_token_ids": True}
_USAGE: Final = {"stream_options": {"include_usage": True}}
_EVERY: Final = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
_LONG: Final = {"max_tokens": OUTPUT, "ignore_eos": True}


def stream_cases(prompts: Prompts, max_length: int, longest: int) -> Iterator[Case]:
    """All of them; `longest` is the output of the longest stream."""
    yield from _positions(prompts)
    yield from _text(prompts)
    yield from _limits(prompts, max_length)
    yield from _usage(prompts)
    yield from _forms(prompts, longest)


def asking(asks: Sequence[Ask], **fields: Any) -> tuple[Ask, ...]:
    """The same requests with more fields."""
    return tuple(replace(ask, fields={**ask.fields, **fields}) for ask in asks)


def _positions(prompts: Prompts) -> Iterator[Case]:
    for chat in (False, True):
        kind = "chat" if chat else "completion"
        lengths = [
            prompts.of_length(length, length % 7, chat=chat) for length in range(1, PERIOD + 1)
        ]
        yield Case("positions", f"a {kind} keeps its text wherever it is handed over",
                   asking(lengths, **_LONG), pin="")  # fmt: skip
        yield Case("positions", f"a {kind} keeps its token ids wherever it is handed over",
                   asking(lengths, **_LONG, **_IDS, **_USAGE), pin="")  # fmt: skip
    ends = [prompts.of_length(5, seed, chat=False) for seed in range(8)]
    asks = [one for n in range(1, 81) for one in asking(ends[n % 8 : n % 8 + 1], max_tokens=n)]
    yield Case("positions", "an answer may end at any position around a hand-over",
               asking(asks, ignore_eos=True, **_IDS), pin="")  # fmt: skip


def _text(prompts: Prompts) -> Iterator[Case]:
    for chat in (False, True):
        kind = "chats" if chat else "completions"
        rich = prompts.rich(40, chat=chat)
        yield Case("characters", f"{kind} rich in characters of several bytes keep their text",
                   asking(rich, **_LONG), pin="")  # fmt: skip
        yield Case("characters", f"{kind} rich in characters of several bytes keep their ids",
                   asking(rich, **_LONG, **_IDS), pin="")  # fmt: skip
        cut = [asking([ask], max_tokens=40 + n, ignore_eos=True)[0] for n, ask in enumerate(rich)]
        yield Case("characters", f"{kind} may be cut by max_tokens inside of a character",
                   tuple(cut), pin="")  # fmt: skip


def _limits(prompts: Prompts, max_length: int) -> Iterator[Case]:
    group = "limits"
    completion, talk = (prompts.of_length(30, 3, chat=chat) for chat in (False, True))
    endless = {"ignore_eos": True}
    small = [
        asking([completion], max_tokens=n, **endless, **_USAGE)[0] for n in (*range(1, 20), 33)
    ]
    yield Case(group, "max_tokens is kept to the token", tuple(small))
    yield Case(group, "a completion without max_tokens has 16 tokens",
               asking([completion], **endless, **_USAGE))  # fmt: skip
    yield Case(group, "a completion with max_tokens null has 16 tokens",
               asking([completion], max_tokens=None, **endless, **_USAGE))  # fmt: skip
    yield Case(group, "max_completion_tokens wins over max_tokens",
               (*asking([talk], max_tokens=90, max_completion_tokens=60, **endless, **_USAGE),
                *asking([talk], max_tokens=40, max_completion_tokens=70, **endless, **_USAGE),
                *asking([talk], max_completion_tokens=50, **endless, **_USAGE)))  # fmt: skip
    near = [prompts.of_length(max_length - left, 1, chat=True) for left in (1, 2, 40, 63)]
    yield Case(group, "a chat without a limit fills the context and ends by length",
               asking(near, **endless, **_USAGE))  # fmt: skip
    full = prompts.of_length(max_length - 50, 2, chat=False)
    yield Case(group, "prompt and max_tokens may fill the context to the last token",
               asking([full], max_tokens=50, **endless, **_USAGE))  # fmt: skip
    yield Case(group, "one token more than the context is refused",
               asking([full], max_tokens=51), refused=True)  # fmt: skip
    for name, value in (("0", 0), ("negative", -1), ("a text", "many")):
        yield Case(group, f"max_tokens {name} is refused",
                   asking([completion, talk], max_tokens=value), refused=True)  # fmt: skip
    early = [ask for chat in (False, True) for ask in prompts.ending(6, 5, 40, chat=chat)]
    for least in (20, 50, 100):
        yield Case(group, f"min_tokens {least} holds over hand-overs",
                   asking(early, min_tokens=least, max_tokens=160, **_USAGE), pin="")  # fmt: skip
    yield Case(group, "min_tokens may equal max_tokens",
               asking(early, min_tokens=90, max_tokens=90, **_USAGE), pin="")  # fmt: skip
    yield Case(group, "min_tokens above max_tokens is refused",
               asking([completion], min_tokens=9, max_tokens=8), refused=True)  # fmt: skip


def _usage(prompts: Prompts) -> Iterator[Case]:
    group = "usage"
    for chat in (False, True):
        kind = "chat" if chat else "completion"
        asks = [prompts.of_length(length, 4, chat=chat) for length in (8, 20, 40, 63)]
        yield Case(group, f"a {kind} reports its usage once, over all instances, if asked to",
                   asking(asks, **_LONG, **_USAGE), pin="")  # fmt: skip
        yield Case(group, f"a {kind} that did not ask gets no usage", asking(asks, **_LONG), pin="")
        yield Case(group, f"a {kind} with include_usage false gets no usage",
                   asking(asks, **_LONG, stream_options={"include_usage": False}),
                   pin="")  # fmt: skip
        yield Case(group, f"a {kind} counts its usage up in every chunk if asked to",
                   asking(asks, **_LONG, **_EVERY), pin="unknown-field")  # fmt: skip


def _forms(prompts: Prompts, longest: int) -> Iterator[Case]:
    group = "form"
    for chat in (False, True):
        kind = "chat" if chat else "completion"
        asks = [prompts.of_length(length, 5, chat=chat) for length in (9, 33, 60)]
        yield Case(group, f"a {kind} says the same streamed and unstreamed",
                   asking(asks, **_LONG), How.BOTH)  # fmt: skip
        yield Case(group, f"a {kind} says the same streamed and unstreamed, with ids",
                   asking(asks, **_LONG, **_IDS), How.BOTH)  # fmt: skip
        yield Case(group, f"an unstreamed {kind} is the engine's",
                   asking(asks, **_LONG, **_IDS), How.WHOLE, pin="unstreamed")  # fmt: skip
        ends = prompts.ending(12, 30, 140, chat=chat)
        yield Case(group, f"a {kind} ends where the model ends it",
                   asking(ends, max_tokens=200, **_USAGE), pin="")  # fmt: skip
        yield Case(group, f"a {kind} may be empty",
                   asking(prompts.empty(chat=chat), max_tokens=50, **_USAGE), pin="")  # fmt: skip
        long, tokens = [prompts.of_length(20, 6, chat=chat)], longest // 2 if chat else longest
        yield Case(group, f"a {kind} of {tokens:,} tokens arrives whole",
                   asking(long, max_tokens=tokens, ignore_eos=True, **_USAGE), pin="")  # fmt: skip
        yield Case(group, f"a {kind} to a client that reads slowly arrives whole",
                   asking(asks, max_tokens=600, ignore_eos=True), How.SLOW, pin="")  # fmt: skip
