"""Joins a seam that no clean point could be found for, with the detokeniser of an engine."""

import asyncio
from typing import Final, TypeVar

import msgspec

from cascade_router.answers import Answer
from cascade_router.api import DETOKENIZE_PATH, TOKENIZE_PATH
from cascade_router.held import Seam, SeamTexts
from cascade_router.legs import Leg
from cascade_router.line import Unreachable
from cascade_router.outbound import Outbound
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream
from cascade_router.tools import Tools

ANSWER_SECONDS: Final = 5.0


class _Detokenized(msgspec.Struct):
    """What is read of the answer of `/detokenize`."""

    prompt: str


class _Tokenized(msgspec.Struct):
    """What is read of the answer of `/tokenize`."""

    tokens: list[int]


_Read = TypeVar("_Read", _Detokenized, _Tokenized)


async def join(answer: Answer, leg: Leg, request: Generation, tools: Tools) -> None:
    """Ask for the text around the seam and let the paused leg go on.

    Raises Unreachable when there is no usable answer: the leg is lost then.
    """
    seam = answer.seam() if isinstance(answer, ResumableStream) else None
    if seam is None or not isinstance(answer, ResumableStream):
        return
    tokenizer = _Tokenizer(leg, request, tools)
    texts = await tokenizer.texts(seam)
    names = answer.unsaid_names(texts)
    if names and (special := await tokenizer.ids_called(names)):
        texts = await tokenizer.texts(seam.without(special))
    leg.joined(answer.join(texts))


class _Tokenizer:
    """That of the engine whose leg is joined."""

    def __init__(self, leg: Leg, request: Generation, tools: Tools) -> None:
        model = request.raw.get("model")
        self._model: dict[str, object] = {} if model is None else {"model": msgspec.Raw(model)}
        self._headers = request.headers
        self._member = leg.placement.member
        self._tools = tools

    async def texts(self, seam: Seam) -> SeamTexts:
        """What a seam asks for. Raises Unreachable."""
        asked = dict.fromkeys((seam.anchor, seam.before, seam.ids))  # Some may be the same.
        known = dict(zip(asked, await asyncio.gather(*map(self._text, asked)), strict=True))
        return SeamTexts(known[seam.anchor], known[seam.before], known[seam.ids])

    async def ids_called(self, names: list[str]) -> frozenset[bytes]:
        """The ids that have one of these names; of other texts there is none, or several. Raises
        Unreachable."""
        found = await asyncio.gather(*map(self._ids, names))
        return frozenset(b"%d" % ids[0] for ids in found if len(ids) == 1)

    async def _text(self, ids: bytes) -> str:
        if not ids:
            return ""
        tokens = msgspec.Raw(b"[" + ids + b"]")
        return (await self._ask(DETOKENIZE_PATH, {"tokens": tokens}, _Detokenized)).prompt

    async def _ids(self, text: str) -> list[int]:
        fields = {"prompt": text, "add_special_tokens": False}
        return (await self._ask(TOKENIZE_PATH, fields, _Tokenized)).tokens

    async def _ask(self, path: str, fields: dict[str, object], kind: type[_Read]) -> _Read:
        outbound = Outbound(path, msgspec.json.encode(self._model | fields), self._headers)
        answer = await self._tools.peers.control(self._member, outbound, ANSWER_SECONDS)
        if answer.status != 200:
            raise Unreachable(f"{path} answered with status {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise Unreachable(f"{path} gave an answer that cannot be read") from None
