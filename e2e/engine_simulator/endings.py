"""Where the choices of one answer come together: its end, and the usage over all of them."""

from dataclasses import dataclass
from typing import Any, Final

from e2e.engine_simulator import sse
from e2e.engine_simulator.exchange import Exchange

FINGERPRINT: Final = "vllm-0.32.0-51a7e1d0"
"""What engines of the same version and configuration have in common."""


@dataclass
class _Totals:
    """Tokens over all choices; each prompt counts once."""

    open: int
    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def close(self, prompt: int, cached: int, generated: int, *, first_of_prompt: bool) -> bool:
        """One choice has ended; True when it was the last."""
        self.open -= 1
        self.prompt += prompt * first_of_prompt
        self.cached = cached
        self.generated += generated
        return not self.open

    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.generated,
            "completion_tokens": self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class StreamEnd:
    """Ends a stream after the last of its choices."""

    def __init__(self, exchange: Exchange, head: bytes, choices: int, *, with_usage: bool) -> None:
        self.exchange = exchange
        self.fingerprint = (
            b"" if with_usage else b',"system_fingerprint":' + sse.json_bytes(FINGERPRINT)
        )
        """What the last event of a choice says of the engine, unless the usage follows."""
        self._head = head
        self._with_usage = with_usage
        self._totals = _Totals(choices)

    def close(
        self, chunks: bytes, prompt: int, cached: int, generated: int, *, first_of_prompt: bool
    ) -> None:
        """The last event of one choice."""
        if not self._totals.close(prompt, cached, generated, first_of_prompt=first_of_prompt):
            self.exchange.send_chunks(chunks)
            return
        if self._with_usage:
            usage = sse.json_bytes(self._totals.usage())
            name = sse.json_bytes(FINGERPRINT)
            chunks += sse.chunk(
                self._head + b'],"usage":' + usage + b',"system_fingerprint":' + name + b"}\n\n"
            )
        self.exchange.end_chunks(chunks + sse.chunk(sse.DONE))


class BodyEnd:
    """Sends the JSON body after the last of its choices."""

    def __init__(self, exchange: Exchange, head: dict[str, Any], choices: int) -> None:
        self._exchange = exchange
        self._head = head
        self._choices: list[dict[str, Any]] = []
        self._totals = _Totals(choices)

    def close(
        self,
        choice: dict[str, Any],
        prompt: int,
        cached: int,
        generated: int,
        *,
        first_of_prompt: bool,
        extra: dict[str, Any],
    ) -> None:
        """One choice is complete."""
        self._choices.append(choice)
        if not self._totals.close(prompt, cached, generated, first_of_prompt=first_of_prompt):
            return
        body = {
            **self._head,
            "choices": sorted(self._choices, key=lambda one: one["index"]),
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": _with_nulls(self._totals.usage()),
            **extra,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
        self._exchange.send_json(sse.json_bytes(body))


def _with_nulls(usage: dict[str, Any]) -> dict[str, Any]:
    """Of a body: a stream leaves out what is null."""
    details = usage["prompt_tokens_details"]
    details = {**details, "created_cache_tokens": None, "multimodal_tokens": None}
    return {**usage, "prompt_tokens_details": details, "completion_tokens_details": None}
