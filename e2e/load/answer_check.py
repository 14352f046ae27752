"""Compares an answer, as it comes in, with what it must be."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from e2e.load.workload import Kind, LoadRequest

_HANDOVER_COMMENT = b": cascade handover"
_HANDOVER_STAGES = re.compile(rb"stage (\d+)->(\d+)")


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where an answer is not what it must be."""

    what: str
    """text, ids, prompt ids, usage, finish reason, role, id or length."""
    position: int
    expected: str
    received: str


class AnswerCheck:
    """Takes the body of one answer in, in pieces of any size.

    `error` is set when the server says inside the stream that it has failed; `done` when the
    answer has come to its own end.
    """

    __slots__ = (
        "_buffer", "_chat", "_finish", "_id", "_ids_seen", "_request", "_roles", "_text_seen",
        "_usage", "difference", "done", "error", "first_token", "handovers", "handovers_up",
        "last_token",
    )  # fmt: skip

    def __init__(self, request: LoadRequest) -> None:
        self.difference: Difference | None = None
        self.error: str | None = None
        self.done = False
        self.handovers = 0
        self.handovers_up = 0
        """Those that led to a stage of longer sequences: the request had outgrown its own."""
        self.first_token = 0.0
        """Clock time of the first event that brought a token, or 0."""
        self.last_token = 0.0
        self._request = request
        self._chat = request.kind is Kind.CHAT
        self._buffer = b""
        self._text_seen = 0
        self._ids_seen = 0
        self._finish: str | None = None
        self._id: str | None = None
        self._roles = 0
        self._usage: Mapping[str, Any] | None = None

    @property
    def received_characters(self) -> int:
        """How much of the text has come."""
        return self._text_seen

    def feed(self, data: bytes, now: float) -> None:
        """More of the body, at clock time `now` (seconds)."""
        if not self._request.stream:
            self._buffer += data
            return
        # Lines end at \n only: other separators of Unicode may stand inside a token's text.
        lines = (self._buffer + data).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            if line.startswith(b"data: {"):
                self._event(json.loads(line[6:]), now)
            elif line.startswith(_HANDOVER_COMMENT):
                self.handovers += 1
                self.handovers_up += _leads_up(line)
            elif line.rstrip() == b"data: [DONE]":
                self.done = True

    def finish(self, now: float) -> None:
        """The body is complete: check what can only be known now."""
        if not self._request.stream:
            self._whole(now)
        if self.error is not None or not self.done:
            return
        expected = self._request.expected
        if self._text_seen < len(expected.text):
            self._differs("length", self._text_seen, expected.text[self._text_seen :], "")
        if self._request.with_ids and self._ids_seen < len(expected.ids):
            self._differs("ids", self._ids_seen, expected.ids[self._ids_seen :], "")
        if self._finish != expected.finish_reason:
            self._differs("finish reason", 0, expected.finish_reason, self._finish)
        if self._chat and self._request.stream and self._roles != 1:
            self._differs("role", 0, "one role", f"{self._roles} roles")
        if self._request.with_usage:
            self._check_usage()

    def _event(self, event: Mapping[str, Any], now: float) -> None:
        if "error" in event:
            self.error = str(event["error"])
            return
        if self._id is None:
            self._id = event["id"]
        elif self._id != event["id"]:
            self._differs("id", 0, self._id, event["id"])
        if event.get("usage"):
            self._usage = event["usage"]
        prompt_ids = event.get("prompt_token_ids")
        if prompt_ids is not None:
            self._check_prompt(prompt_ids)
        for choice in event["choices"]:
            self._choice(choice, now)

    def _choice(self, choice: Mapping[str, Any], now: float) -> None:
        if self._chat:
            delta = choice["delta"]
            text = delta.get("content") or ""
            self._roles += "role" in delta
        else:
            text = choice["text"]
            if choice.get("prompt_token_ids") is not None:
                self._check_prompt(choice["prompt_token_ids"])
        ids = choice.get("token_ids")
        if text or ids:
            self.last_token = now
            self.first_token = self.first_token or now
        self._check_text(text)
        if ids:
            self._check_ids(ids)
        if choice.get("finish_reason") is not None:
            self._finish = choice["finish_reason"]

    def _check_text(self, text: str) -> None:
        expected = self._request.expected.text
        if not expected.startswith(text, self._text_seen):
            place = self._text_seen
            self._differs("text", place, expected[place : place + len(text) + 20], text)
        self._text_seen += len(text)

    def _check_ids(self, ids: Sequence[int]) -> None:
        if not self._request.with_ids:
            self._differs("ids", self._ids_seen, "no ids", ids)
            return
        expected = self._request.expected.ids[self._ids_seen : self._ids_seen + len(ids)]
        if expected != tuple(ids):
            self._differs("ids", self._ids_seen, expected, ids)
        self._ids_seen += len(ids)

    def _check_prompt(self, ids: Sequence[int]) -> None:
        if tuple(ids) != self._request.prompt:
            self._differs("prompt ids", 0, self._request.prompt[:20], ids[:20])

    def _check_usage(self) -> None:
        prompt, output = len(self._request.prompt), len(self._request.expected.ids)
        usage = self._usage or {}
        received = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        if received != (prompt, output):
            self._differs("usage", 0, (prompt, output), received)

    def _whole(self, now: float) -> None:
        try:
            answer = json.loads(self._buffer)
        except ValueError:
            self.error = "the answer is not JSON"
            return
        choice = dict(answer["choices"][0])
        if self._chat:
            choice["delta"] = choice.pop("message")
        self.done = True
        self._event({**answer, "choices": [choice]}, now)

    def _differs(self, what: str, position: int, expected: object, received: object) -> None:
        if self.difference is None:
            self.difference = Difference(what, position, str(expected)[:120], str(received)[:120])


def _leads_up(comment: bytes) -> bool:
    """Whether a hand-over comment (`... stage A->B`) tells of a move to longer sequences."""
    stages = _HANDOVER_STAGES.search(comment)
    return stages is not None and int(stages[1]) < int(stages[2])
