"""Prompts chosen by an engine's answers, for one whose answers nobody can compute beforehand."""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any, Final
from urllib.request import ProxyHandler, Request, build_opener

from e2e.continuity_suite.answer import events_of
from e2e.continuity_suite.cases import CHAT, COMPLETIONS, Ask
from e2e.continuity_suite.prompts import GREEDY

_SECONDS: Final = 120.0
_AT_ONCE: Final = 16
_TOKENS: Final = 160
"""Of the answers that are looked at."""
_WORDS: Final = (*"abcdefghiklmnoprstu", "the", "in", "on", "of", "to", "and", "is", "it", "for")
"""Short ones: most vocabularies have most of them."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Heard:
    """An answer as it was streamed: for each of its events the tokens and the text so far."""

    tokens: Sequence[int]
    texts: Sequence[str]
    finish: str

    @property
    def silent(self) -> int:
        """Events that brought tokens and no text."""
        pairs = zip(["", *self.texts], self.texts, strict=False)
        return sum(before == after for before, after in pairs)

    def text_at(self, token: int) -> str:
        """The text once so many tokens have come."""
        far = (text for count, text in zip(self.tokens, self.texts, strict=True) if count <= token)
        return max(far, key=len, default="")


@dataclass(frozen=True)
class ProbedPrompts:
    """Of the engine at `url`, which serves `model` greedily, tokenises and detokenises."""

    url: str
    model: str
    pool: int = 96
    """Prompts whose answers are looked at."""
    searched: int = 4096
    """Prompts looked through for an empty answer."""

    def of_length(self, length: int, seed: int, *, chat: bool) -> Ask:
        number, word = self._words[seed % len(self._words)]
        if not chat:
            return Ask(COMPLETIONS, {**GREEDY, "prompt": [number] * length})
        return _chat(word * max(0, length - self._template_tokens))

    def rich(self, count: int, *, chat: bool) -> Sequence[Ask]:
        found = sorted(self._pool(chat), key=lambda one: one[1].silent, reverse=True)
        return [ask for ask, _ in found[:count]]

    def ending(self, count: int, least: int, most: int, *, chat: bool) -> Sequence[Ask]:
        fits = (
            ask
            for ask, heard in self._pool(chat)
            if heard.finish == "stop" and least <= heard.tokens[-1] <= most
        )
        return list(islice(fits, count))

    def empty(self, *, chat: bool) -> Sequence[Ask]:
        found = self._heard(self._some(chat, self.searched), tokens=1)
        return [ask for ask, heard in found if heard.finish == "stop" and not heard.texts[-1]][:2]

    def stop_string(self, ask: Ask, at: int) -> str:
        heard = self._hear(ask, _TOKENS, ignore_eos=True)
        before = heard.text_at(at)
        longer = (text for text in heard.texts if len(text) > len(before) + 1)
        return next(longer, heard.texts[-1])[max(0, len(before) - 3) :]

    # Asking -----------------------------------------------------------------------------------

    @cached_property
    def _words(self) -> Sequence[tuple[int, str]]:
        """(id, text) of words that are one token, also when they are repeated."""
        found = []
        for text in (f" {word}" for word in _WORDS):
            ids = self._ask("/tokenize", prompt=text * 3)["tokens"]
            if len(ids) == 3 and len(set(ids)) == 1:
                found.append((ids[0], text))
        return found

    @cached_property
    def _template_tokens(self) -> int:
        messages = [{"role": "user", "content": ""}]
        return len(self._ask("/tokenize", messages=messages)["tokens"])

    @cached_property
    def _pools(self) -> dict[bool, Sequence[tuple[Ask, Heard]]]:
        return {}

    def _pool(self, chat: bool) -> Sequence[tuple[Ask, Heard]]:
        if chat not in self._pools:
            self._pools[chat] = self._heard(self._some(chat, self.pool), _TOKENS)
        return self._pools[chat]

    def _some(self, chat: bool, count: int) -> Iterator[Ask]:
        words, size = self._words, len(self._words)
        for number in range(count):
            places = (number // size**digit % size for digit in range(4))
            picked = [words[place] for place in places]
            if chat:
                yield _chat("".join(text for _, text in picked))
            else:
                yield Ask(COMPLETIONS, {**GREEDY, "prompt": [one for one, _ in picked]})

    def _heard(self, asks: Iterable[Ask], tokens: int) -> Sequence[tuple[Ask, Heard]]:
        asked = list(asks)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            heard = threads.map(lambda ask: self._hear(ask, tokens), asked)
            return list(zip(asked, heard, strict=True))

    def _hear(self, ask: Ask, tokens: int, *, ignore_eos: bool = False) -> Heard:
        more = {"max_tokens": tokens, "ignore_eos": ignore_eos, "stream": True}
        body = self._post(ask.path, {**ask.fields, **more, "return_token_ids": True})
        events = (json.loads(data) for data in events_of(body) if data != b"[DONE]")
        return _heard_of(chain.from_iterable(event.get("choices", ()) for event in events))

    def _ask(self, path: str, **fields: Any) -> Json:
        answer: Json = json.loads(self._post(path, fields))
        return answer

    def _post(self, path: str, fields: Json) -> bytes:
        data = json.dumps({"model": self.model, **fields}).encode()
        headers = {"content-type": "application/json"}
        request = Request(self.url + path, data, headers, method="POST")
        with build_opener(ProxyHandler({})).open(request, timeout=_SECONDS) as answer:
            body: bytes = answer.read()
            return body


def _heard_of(choices: Iterable[Json]) -> Heard:
    tokens, texts, finish = [0], [""], ""
    for choice in choices:
        part = choice.get("delta", choice)
        text = part.get("content") or part.get("text") or ""
        tokens.append(tokens[-1] + len(choice.get("token_ids") or ()))
        texts.append(texts[-1] + text)
        finish = choice.get("finish_reason") or finish
    return Heard(tokens, texts, finish)


def _chat(content: str) -> Ask:
    return Ask(CHAT, {**GREEDY, "messages": [{"role": "user", "content": content}]})
