"""What the cases ask: prompts of chosen lengths whose answers have what a case needs.

With the engine simulator, whose answers are known before they are asked for, prompts are chosen by
their answers: rich in characters of several bytes, ending early, empty. With any other engine they
are texts that make such answers likely.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Final, Protocol

from e2e.continuity_suite.cases import CHAT, COMPLETIONS, Ask
from e2e.engine_simulator.next_token import Output, expected_output
from e2e.engine_simulator.vocabulary import WORD_IDS, chat_prompt, detokenise, ends_inside_character

GREEDY: Final[Mapping[str, Any]] = {"temperature": 0}


class Prompts(Protocol):
    """Where the cases take their prompts from."""

    def of_length(self, length: int, seed: int, *, chat: bool) -> Ask:
        """A prompt of so many tokens."""

    def rich(self, count: int, *, chat: bool) -> Sequence[Ask]:
        """Prompts whose answers are rich in characters of several bytes."""

    def ending(self, count: int, least: int, most: int, *, chat: bool) -> Sequence[Ask]:
        """Prompts whose answers end by themselves after `least` to `most` tokens."""

    def empty(self, *, chat: bool) -> Sequence[Ask]:
        """Prompts whose answers are empty."""

    def stop_string(self, ask: Ask, at: int) -> str:
        """A text that the answer to `ask` holds around its token `at`."""


@dataclass(frozen=True)
class SimulatorPrompts:
    """Of the engine simulator."""

    searched: int = 3000
    """Prompts looked through for one that is wanted."""

    def of_length(self, length: int, seed: int, *, chat: bool) -> Ask:
        if not chat:
            return Ask(COMPLETIONS, {**GREEDY, "prompt": [WORD_IDS[seed]] * length})
        room = max(0, length - len(chat_prompt([{"role": "user", "content": ""}])))
        return _chat(detokenise([WORD_IDS[seed]] * room))

    def rich(self, count: int, *, chat: bool) -> Sequence[Ask]:
        return sorted(_some(300, chat), key=_richness, reverse=True)[:count]

    def ending(self, count: int, least: int, most: int, *, chat: bool) -> Sequence[Ask]:
        def fits(ask: Ask) -> bool:
            return least <= len(answer_to(ask, most + 1).ids) <= most

        return self._first(count, chat, fits)

    def empty(self, *, chat: bool) -> Sequence[Ask]:
        return self._first(2, chat, lambda ask: len(answer_to(ask, 2).ids) == 1)

    def stop_string(self, ask: Ask, at: int) -> str:
        before, after = (answer_to(ask, end, ignore_eos=True).text for end in (at, at + 4))
        return after[max(0, len(before) - 3) :]

    def _first(self, count: int, chat: bool, fits: Callable[[Ask], bool]) -> list[Ask]:
        return list(islice(filter(fits, _some(self.searched, chat)), count))


@dataclass(frozen=True)
class TextPrompts:
    """Of an engine of which nothing is known."""

    def of_length(self, length: int, seed: int, *, chat: bool) -> Ask:
        text = f"Count from {seed + 1}:" + " and" * length
        return _chat(text) if chat else Ask(COMPLETIONS, {**GREEDY, "prompt": text})

    def rich(self, count: int, *, chat: bool) -> Sequence[Ask]:
        topics = (
            "🌍🐱🎉 more emoji:",
            "東京の天気は",
            "naïve café, señor, ",
            "नमस्ते दुनिया ",
            "👩‍👩‍👧 👨‍💻",
        )
        texts = [f"{topics[n % len(topics)]} {n}" for n in range(count)]
        return [
            _chat(f"Repeat in ten variants: {text}")
            if chat
            else Ask(COMPLETIONS, {**GREEDY, "prompt": text})
            for text in texts
        ]

    def ending(self, count: int, least: int, most: int, *, chat: bool) -> Sequence[Ask]:  # noqa: ARG002
        texts = [f"Answer with one short sentence: what is {n} plus 2?" for n in range(count)]
        return [_chat(t) if chat else Ask(COMPLETIONS, {**GREEDY, "prompt": t}) for t in texts]

    def empty(self, *, chat: bool) -> Sequence[Ask]:  # noqa: ARG002
        return ()

    def stop_string(self, ask: Ask, at: int) -> str:  # noqa: ARG002
        return " "


def answer_to(ask: Ask, tokens: int, *, ignore_eos: bool = False) -> Output:
    """What the engine simulator says."""
    fields = ask.fields
    prompt = chat_prompt(fields["messages"]) if ask.chat else fields["prompt"]
    return expected_output(prompt, tokens, ignore_eos=ignore_eos)


def _chat(content: str) -> Ask:
    return Ask(CHAT, {**GREEDY, "messages": [{"role": "user", "content": content}]})


def _some(count: int, chat: bool) -> Iterator[Ask]:
    for number in range(count):
        ids = [WORD_IDS[number % len(WORD_IDS)], WORD_IDS[number // len(WORD_IDS)], WORD_IDS[5]]
        yield _chat(detokenise(ids)) if chat else Ask(COMPLETIONS, {**GREEDY, "prompt": ids})


def _richness(ask: Ask) -> int:
    return _endings_inside(tuple(answer_to(ask, 90, ignore_eos=True).ids))


@cache
def _endings_inside(ids: tuple[int, ...]) -> int:
    return sum(ends_inside_character(ids[max(0, end - 8) : end]) for end in range(1, len(ids)))
