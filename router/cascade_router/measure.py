"""How long a prompt is, in tokens, before any engine has seen it.

Exact where ids are given; else estimated from bytes, by ratios that are learned from what engines
report, apart for each class of script: a rule like characters over four is wrong by a factor of
three to six for Chinese, Japanese and Korean. Near a stage boundary the engine's `/tokenize` is
asked.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from cascade_policy.stage_map import StageMap
from cascade_router import sse
from cascade_router.line import Unreachable
from cascade_router.membership import Member
from cascade_router.peers import Peers
from cascade_router.request import Generation, Undecoded

FIRST_RATIOS: Final = {"ascii": 4.0, "mixed": 3.0, "wide": 3.0}
"""UTF-8 bytes per token before anything is learned."""
LEARNING_RATE: Final = 0.1
"""Weight of a new prompt in the running ratio: about the last ten prompts count."""
LEARNED_AFTER: Final = 5
NEAR_SHARE: Final = 0.2
NEAR_SHARE_UNLEARNED: Final = 0.6
"""How near a boundary an estimate must be for the engine to be asked, once learned and before."""
MESSAGE_TOKENS: Final = 5
"""What a chat template adds per message, about."""
LEAST_TOKENS: Final = 16
"""Shorter prompts teach more about the template than about the text."""
_TOKENIZED_CHAT: Final = (
    *("model", "messages", "tools", "add_generation_prompt", "continue_final_message"),
)
_TOKENIZED_PROMPT: Final = ("model", "prompt", "add_special_tokens")

_log = logging.getLogger(__name__)


class LengthGauge:
    """Estimates lengths and learns from the true ones."""

    def __init__(self, peers: Peers, seconds: float) -> None:
        self._peers = peers
        self._seconds = seconds
        self._ratios = dict(FIRST_RATIOS)
        self._seen = dict.fromkeys(FIRST_RATIOS, 0)

    async def measure(
        self, request: Generation, stage_map: StageMap | None, helper: Member | None
    ) -> int:
        """Tokens of the prompt; `helper` is an instance whose engine may be asked."""
        if request.prompt_ids is not None:
            return sse.count_ids(request.prompt_ids)
        script, size, messages = _shape(request.values)
        estimate = self._estimate(script, size, messages)
        if stage_map is None or helper is None or not self._near(script, estimate, stage_map):
            return estimate
        exact = await self._tokenize(request, helper)
        return estimate if exact is None else exact

    def learn(self, request: Generation, prompt_tokens: int) -> None:
        """An engine told the true length of a prompt."""
        if request.prompt_ids is not None or prompt_tokens < LEAST_TOKENS:
            return
        if _undecoded(request.values):
            return
        script, size, messages = _shape(request.values)
        tokens = prompt_tokens - MESSAGE_TOKENS * messages
        if size == 0 or tokens <= 0:
            return
        seen = self._seen[script] = self._seen[script] + 1
        rate = max(LEARNING_RATE, 1 / seen)
        self._ratios[script] += rate * (size / tokens - self._ratios[script])

    def _estimate(self, script: str, size: int, messages: int) -> int:
        return max(1, round(size / self._ratios[script])) + MESSAGE_TOKENS * messages

    def _near(self, script: str, estimate: int, stage_map: StageMap) -> bool:
        learned = self._seen[script] >= LEARNED_AFTER
        share = NEAR_SHARE if learned else NEAR_SHARE_UNLEARNED
        return any(
            abs(stage.max_length - estimate) <= share * stage.max_length
            for stage in stage_map.stages[:-1]
        )

    async def _tokenize(self, request: Generation, helper: Member) -> int | None:
        fields = _TOKENIZED_CHAT if request.is_chat else _TOKENIZED_PROMPT
        body = msgspec.json.encode(
            {name: msgspec.Raw(request.raw[name]) for name in fields if name in request.raw}
        )
        try:
            answer = await self._peers.control(helper, "/tokenize", body, self._seconds)
        except Unreachable as error:
            _log.info("/tokenize: %s; the estimate stands in", error)
            return None
        if answer.status != 200:
            return None
        try:
            return msgspec.json.decode(answer.body, type=_Tokenized).count
        except (msgspec.DecodeError, msgspec.ValidationError):
            return None


class _Tokenized(msgspec.Struct):
    """What is read of the answer of `/tokenize`."""

    count: int


def _shape(values: Mapping[str, Any]) -> tuple[str, int, int]:
    """(script class, UTF-8 bytes, messages) of a prompt or a conversation."""
    undecoded = _undecoded(values)
    if undecoded:
        return "ascii", undecoded, 0
    texts = list(_texts(values.get("prompt")))
    messages = values.get("messages")
    count = 0
    if isinstance(messages, list):
        count = len(messages)
        for message in messages:
            if isinstance(message, Mapping):
                texts += _texts(message.get("content"))
    characters = sum(map(len, texts))
    size = sum(len(text) if text.isascii() else len(text.encode(errors="replace"))
               for text in texts)  # fmt: skip
    ratio = size / characters if characters else 1.0
    script = "ascii" if ratio < 1.1 else "mixed" if ratio < 1.7 else "wide"
    return script, size, count


def _undecoded(values: Mapping[str, Any]) -> int:
    """Bytes of a prompt or a conversation that was not looked into."""
    fields = (values.get("prompt"), values.get("messages"))
    return sum(field.size for field in fields if isinstance(field, Undecoded))


def _texts(content: object) -> Iterable[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, str):
                yield part
            elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
                yield part["text"]
