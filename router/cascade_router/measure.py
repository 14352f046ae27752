"""How long a prompt is, in tokens, before any engine has seen it.

Exact where ids are given; else estimated from bytes, by ratios that are learned from what engines
report, apart for each class of script: a rule like characters over four is wrong by a factor of
three to six for Chinese, Japanese and Korean. Near a stage boundary the engine's `/tokenize` is
asked.
"""

import logging
from typing import Final

import msgspec

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH
from cascade_policy.stage_map import StageMap
from cascade_router import sse
from cascade_router.api import TOKENIZE_PATH
from cascade_router.line import Unreachable
from cascade_router.membership import Member
from cascade_router.metrics import Metrics
from cascade_router.outbound import Outbound
from cascade_router.peers import Peers
from cascade_router.prompt_text import PromptText
from cascade_router.request import Generation

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
_TOKENIZED: Final = {
    CHAT_PATH: (
        *("model", "messages", "tools", "add_generation_prompt", "continue_final_message"),
    ),
    COMPLETIONS_PATH: ("model", "prompt", "add_special_tokens"),
}
"""Fields that `/tokenize` takes as they are; requests to other paths it does not understand."""

_log = logging.getLogger(__name__)


class LengthGauge:
    """Estimates lengths and learns from the true ones."""

    def __init__(self, peers: Peers, metrics: Metrics, seconds: float) -> None:
        self._peers = peers
        self._metrics = metrics
        self._seconds = seconds
        self._ratios = dict(FIRST_RATIOS)
        self._seen = dict.fromkeys(FIRST_RATIOS, 0)

    async def measure(
        self,
        request: Generation,
        text: PromptText | None,
        stage_map: StageMap | None,
        helper: Member | None,
    ) -> int:
        """Tokens of the prompt, whose text is given unless it is ids; `helper` is an instance whose
        engine may be asked."""
        if text is None:
            return sse.count_ids(request.prompt_ids or b"")
        script = _script(text)
        estimate = self._estimate(script, text)
        if stage_map is None or helper is None or not self._near(script, estimate, stage_map):
            return estimate
        if request.path not in _TOKENIZED:
            return estimate
        exact = await self._tokenize(request, helper)
        return estimate if exact is None else exact

    def learn(self, text: PromptText | None, prompt_tokens: int) -> None:
        """An engine told the true length of a prompt; of ids, there is nothing to learn."""
        if text is None or prompt_tokens < LEAST_TOKENS:
            return
        script = _script(text)
        tokens = prompt_tokens - MESSAGE_TOKENS * text.messages
        if text.undecoded or text.ids or text.beside or tokens <= 0:
            return
        if text.size < tokens:
            return  # No token is shorter than a byte: there is more in this prompt than its text.
        estimate = self._estimate(script, text)
        self._metrics.estimated(script, abs(estimate - prompt_tokens) / prompt_tokens)
        seen = self._seen[script] = self._seen[script] + 1
        rate = max(LEARNING_RATE, 1 / seen)
        self._ratios[script] += rate * (text.size / tokens - self._ratios[script])

    def _estimate(self, script: str, text: PromptText) -> int:
        size = text.size + text.undecoded
        tokens = round(size / self._ratios[script]) + text.ids
        return max(1, tokens) + MESSAGE_TOKENS * text.messages

    def _near(self, script: str, estimate: int, stage_map: StageMap) -> bool:
        learned = self._seen[script] >= LEARNED_AFTER
        share = NEAR_SHARE if learned else NEAR_SHARE_UNLEARNED
        return any(
            abs(stage.max_length - estimate) <= share * stage.max_length
            for stage in stage_map.stages[:-1]
        )

    async def _tokenize(self, request: Generation, helper: Member) -> int | None:
        fields = _TOKENIZED[request.path]
        body = msgspec.json.encode(
            {name: msgspec.Raw(request.raw[name]) for name in fields if name in request.raw}
        )
        try:
            answer = await self._peers.control(
                helper, Outbound(TOKENIZE_PATH, body, request.headers), self._seconds
            )
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


def _script(text: PromptText) -> str:
    """The class of scripts that a text is written in, by its bytes per character."""
    ratio = text.size / text.characters if text.characters else 1.0
    return "ascii" if ratio < 1.1 else "mixed" if ratio < 1.7 else "wide"
