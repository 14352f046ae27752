"""An engine without sockets, for streams over several legs: bytes of an answer, cut anywhere."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from cascade_router.held import Seam, SeamTexts
from cascade_router.resumable import ResumableStream
from e2e.engine_simulator.next_token import Output, continuation, expected_output
from e2e.engine_simulator.vocabulary import END_OF_TEXT, Detokeniser, text_with_names, tokenise

EVENT_LIMIT = 1 << 20
LEAVE_WITHIN = 16
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Style:
    """How an engine writes: all of these are JSON and SSE."""

    spaces: bool = False
    """Blanks after colons and commas."""
    escapes: bool = False
    """Characters beyond ASCII as escapes."""
    returns: bool = False
    """Lines that end in CR LF."""
    comments: bool = False
    """A comment between events now and then."""

    def event(self, data: dict[str, Any]) -> bytes:
        separators = (", ", ": ") if self.spaces else (",", ":")
        text = json.dumps(data, ensure_ascii=self.escapes, separators=separators)
        return self.lines(b"data: " + text.encode() + b"\n\n")

    def lines(self, event: bytes) -> bytes:
        return event.replace(b"\n", b"\r\n") if self.returns else event


@dataclass(frozen=True)
class Leg:
    """What happens to one leg. `leave_at`: tokens of the stream after which it is to be left;
    `lost_at`: bytes of its answer after which its engine is gone; neither: it runs to its end."""

    bundles: Sequence[int]
    """Tokens in each event, over and over."""
    pieces: Sequence[int]
    """Bytes in each read, over and over."""
    leave_at: int | None = None
    lost_at: int | None = None


@dataclass(frozen=True)
class Question:
    """What the client asked."""

    prompt: Sequence[int]
    max_tokens: int
    chat: bool = False
    wants_ids: bool = False
    wants_usage: bool = False
    ignore_eos: bool = False
    style: Style = Style()

    def expected(self) -> Output:
        return expected_output(self.prompt, self.max_tokens, ignore_eos=self.ignore_eos)


def client_stream(question: Question, legs: Sequence[Leg]) -> tuple[bytes, ResumableStream]:
    """What the client gets over these legs; after the last one the stream runs to its end."""
    stream = ResumableStream(
        chat=question.chat,
        wants_ids=question.wants_ids,
        wants_usage=question.wants_usage,
        event_limit=EVENT_LIMIT,
    )
    out = b""
    for leg in (*legs, *[Leg((1,), (1 << 20,))] * 3):
        stream.begin_leg()
        left = question.max_tokens - stream.tokens
        if stream.leg and left <= 0:
            break
        out += _relay(stream, question, leg, left)
        if stream.complete:
            break
        stream.settle()
    return out + stream.ending(), stream


def _relay(stream: ResumableStream, question: Question, leg: Leg, left: int) -> bytes:
    prompt = json.loads(b"[" + stream.ids() + b"]") if stream.leg else list(question.prompt)
    answer = b"".join(_events(question, prompt, left, leg.bundles, stream.leg))
    out = b""
    for data in _pieces(answer[: leg.lost_at], leg.pieces):
        out += stream.feed(data)
        seam = stream.seam() if stream.joinable else None
        if seam is not None:
            out += join(stream, seam)
        if leg.leave_at is not None and stream.tokens >= leg.leave_at and not stream.leaving:
            stream.leave(LEAVE_WITHIN)
        if stream.cut or stream.lost is not None:
            break
    return out


def join(stream: ResumableStream, seam: Seam) -> bytes:
    """Join a seam with the answers of an engine."""
    texts = _texts(seam)
    called = map(tokenise, stream.unsaid_names(texts))
    special = {b"%d" % ids[0] for ids in called if len(ids) == 1}
    return stream.join(_texts(seam.without(special)))


def _texts(seam: Seam) -> SeamTexts:
    return SeamTexts(*map(_text, (seam.anchor, seam.before, seam.ids)))


def _text(ids: bytes) -> str:
    """The answer of `/detokenize`."""
    return text_with_names(json.loads(b"[" + ids + b"]"))


def _pieces(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    position, turn = 0, 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position, turn = position + size, turn + 1


def _events(
    question: Question, prompt: Sequence[int], left: int, bundles: Sequence[int], leg: int
) -> Iterator[bytes]:
    """One leg's answer. Its identity is its own, and only the first leg of a chat is one."""
    style, chat = question.style, question.chat and leg == 0
    kind = "chat.completion.chunk" if chat else "text_completion"
    head = {"id": f"id-{leg}", "object": kind, "created": 100 + leg, "model": "m"}
    if chat:
        role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        yield style.event({**head, "choices": [role], "prompt_token_ids": list(prompt)})
    for turn, choice in enumerate(_choices(question, prompt, left, bundles, chat)):
        if style.comments and turn % 5 == 3:
            yield style.lines(b": keep-alive\n\n")
        yield style.event({**head, "choices": [choice]})
    if question.wants_usage:
        yield style.event({**head, "choices": [], "usage": {"prompt_tokens": 1}})
    yield style.lines(DONE)


def _choices(
    question: Question, prompt: Sequence[int], left: int, bundles: Sequence[int], chat: bool
) -> Iterator[dict[str, Any]]:
    detokeniser, made, turn = Detokeniser(prompt), 0, 0
    ids: list[int] = []
    text = ""
    for number in islice(continuation(prompt), left):
        made += 1
        ids.append(number)
        stops = number == END_OF_TEXT and not question.ignore_eos
        text += "" if stops else detokeniser.step(number)
        finish = "stop" if stops else "length" if made == left else None
        if finish is None and len(ids) < bundles[turn % len(bundles)]:
            continue
        first = turn == 0
        yield _choice(chat, text, ids, finish, list(prompt) if first else None)
        if finish is not None:
            return
        ids, text, turn = [], "", turn + 1


def _choice(
    chat: bool, text: str, ids: list[int], finish: str | None, prompt: list[int] | None
) -> dict[str, Any]:
    if chat:
        ended = {} if finish is None else {"stop_reason": None}
        return {
            "index": 0, "delta": {"content": text} if text else {}, "logprobs": None,
            "finish_reason": finish, **ended, "token_ids": ids,
        }  # fmt: skip
    return {
        "index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None,
        "prompt_token_ids": prompt, "token_ids": ids,
    }  # fmt: skip
