"""Joins a seam that no clean point could be found for, with the detokeniser of an engine."""

import asyncio

import msgspec

from cascade_router.answers import Answer
from cascade_router.held import SeamTexts
from cascade_router.legs import Leg
from cascade_router.line import Unreachable
from cascade_router.outbound import Outbound
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream
from cascade_router.tools import Tools

DETOKENIZE_PATH = "/detokenize"
DETOKENIZE_SECONDS = 5.0


class _Detokenized(msgspec.Struct):
    """What is read of the answer of `/detokenize`."""

    prompt: str


async def join(answer: Answer, leg: Leg, request: Generation, tools: Tools) -> None:
    """Ask for the text around the seam and let the paused leg go on.

    Raises Unreachable when there is no usable answer: the leg is lost then.
    """
    seam = answer.seam() if isinstance(answer, ResumableStream) else None
    if seam is None or not isinstance(answer, ResumableStream):
        return
    asked = dict.fromkeys((seam.anchor, seam.before, seam.ids))  # Some may be the same.
    texts = await asyncio.gather(*(_detokenize(ids, leg, request, tools) for ids in asked))
    known = dict(zip(asked, texts, strict=True))
    leg.joined(
        answer.join(SeamTexts(*map(known.__getitem__, (seam.anchor, seam.before, seam.ids))))
    )


async def _detokenize(ids: bytes, leg: Leg, request: Generation, tools: Tools) -> str:
    if not ids:
        return ""
    model = request.raw.get("model")
    fields = b"" if model is None else b'"model":' + model + b","
    member = leg.placement.member
    body = b"{" + fields + b'"tokens":[' + ids + b"]}"
    asked = Outbound(DETOKENIZE_PATH, body, request.headers)
    answer = await tools.peers.control(member, asked, DETOKENIZE_SECONDS)
    if answer.status != 200:
        raise Unreachable(f"{DETOKENIZE_PATH} answered with status {answer.status}")
    try:
        return msgspec.json.decode(answer.body, type=_Detokenized).prompt
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise Unreachable(f"{DETOKENIZE_PATH} gave an answer that cannot be read") from None
