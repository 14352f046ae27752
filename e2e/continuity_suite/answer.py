"""An answer as a client understands it, whether it came as a stream or as one body. Pure."""

import json
from dataclasses import dataclass, field
from typing import Any

from e2e.continuity_suite.wire import Received

Json = dict[str, Any]
_CONSTANT = ("id", "object", "created", "model")


@dataclass
class Choice:
    """One choice, joined over its chunks."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    stop_reason: int | str | None = None
    logprobs: dict[str, list[Any]] = field(default_factory=dict)
    calls: list[list[str]] = field(default_factory=list)
    """(name, arguments) of each call of a tool."""
    prompt_ids: list[int] | None = None
    other: dict[str, str] = field(default_factory=dict)
    """Parts of a message besides text and calls, such as reasoning."""


@dataclass
class Answer:
    """All of it. `faults` are breaches of the API's own rules, whatever the engine says."""

    status: int = 0
    lost: str | None = None
    error: Json | None = None
    choices: dict[int, Choice] = field(default_factory=dict)
    usage: Json | None = None
    counted: list[int] = field(default_factory=list)
    """Completion tokens as each chunk of a stream counts them, where it does."""
    fingerprint: str | None = None
    faults: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def choice(self, index: int) -> Choice:
        """The choice of this index, new if need be."""
        return self.choices.setdefault(index, Choice())


def read_whole(received: Received) -> Answer:
    """An unstreamed answer."""
    answer = _new(received)
    try:
        body = json.loads(received.body) if received.body else {}
    except ValueError:
        answer.faults.append("the body is not JSON")
        return answer
    if received.status != 200 or "error" in body:
        answer.error = _error(body)
        return answer
    for choice in body.get("choices", []):
        _join(answer.choice(choice["index"]), choice, choice.get("message") or choice)
        prompt_ids = choice.get("prompt_token_ids", body.get("prompt_token_ids"))
        answer.choice(choice["index"]).prompt_ids = prompt_ids
    answer.usage = body.get("usage")
    answer.fingerprint = body.get("system_fingerprint")
    return answer


def read_stream(received: Received) -> Answer:
    """A streamed answer, and what is wrong with its form."""
    if received.status != 200 or "event-stream" not in received.headers.get("content-type", ""):
        return read_whole(received)
    return _Stream(_new(received)).read(received)


def events_of(body: bytes) -> list[bytes]:
    """The data of the events of a stream, comments left out. Lines end in `\\n` only: text may
    hold other characters that Unicode counts as line ends."""
    lines = body.replace(b"\r\n", b"\n").split(b"\n")
    return [line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:")]


def _new(received: Received) -> Answer:
    return Answer(received.status, received.lost, headers=received.headers)


def _error(body: Json) -> Json:
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": error}


class _Stream:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._constant: Json = {}
        self._roles: dict[int, int] = {}
        self._done = False

    def read(self, received: Received) -> Answer:
        """The whole stream."""
        answer = self._answer
        events = events_of(received.body)
        for position, data in enumerate(events):
            if self._done:
                answer.faults.append("there is more after [DONE]")
                break
            self._event(position, data)
        if answer.error is None and answer.lost is None:
            self._check_end(received)
        return answer

    def _event(self, position: int, data: bytes) -> None:
        answer = self._answer
        if data == b"[DONE]":
            self._done = True
            return
        try:
            event: Json = json.loads(data)
        except ValueError:
            answer.faults.append(f"event {position} is not JSON")
            return
        if "error" in event:
            answer.error = _error(event)
            return
        self._check_constant(position, event)
        usage = event.get("usage")
        if usage is not None:
            self._usage(position, event, usage)
        answer.fingerprint = event.get("system_fingerprint") or answer.fingerprint
        for choice in event.get("choices", []):
            self._choice(position, event, choice)

    def _usage(self, position: int, event: Json, usage: Json) -> None:
        answer = self._answer
        if event.get("choices"):
            answer.counted.append(usage.get("completion_tokens", 0))
            return
        if answer.usage is not None:
            answer.faults.append(f"event {position} reports the usage once more")
        answer.usage = usage

    def _choice(self, position: int, event: Json, choice: Json) -> None:
        answer, index = self._answer, choice.get("index", 0)
        known = answer.choice(index)
        if known.finish:
            answer.faults.append(f"event {position} follows the end of its choice")
        if answer.usage is not None:
            answer.faults.append(f"event {position} follows the usage")
        part = choice.get("delta") if "delta" in choice else choice
        if "delta" in choice:
            self._check_role(position, index, part or {}, first=known == Choice())
        prompt_ids = choice.get("prompt_token_ids", event.get("prompt_token_ids"))
        if prompt_ids is not None:
            if known.prompt_ids is not None:
                answer.faults.append(f"event {position} tells the prompt's ids once more")
            known.prompt_ids = prompt_ids
        _join(known, choice, part or {})

    def _check_role(self, position: int, index: int, delta: Json, *, first: bool) -> None:
        has_role = delta.get("role") is not None
        if has_role and index in self._roles:
            self._answer.faults.append(f"event {position} brings the role once more")
        if not has_role and first and index not in self._roles:
            self._answer.faults.append(f"event {position} begins a choice without its role")
        if has_role:
            self._roles[index] = position

    def _check_constant(self, position: int, event: Json) -> None:
        for name in _CONSTANT:
            if name not in event:
                continue
            before = self._constant.setdefault(name, event[name])
            if before != event[name]:
                self._answer.faults.append(
                    f"event {position} has another {name}: {event[name]!r} after {before!r}"
                )

    def _check_end(self, received: Received) -> None:
        answer = self._answer
        if not self._done:
            answer.faults.append("the stream ends without [DONE]")
        if received.body and not received.body.endswith((b"\n\n", b"\r\n\r\n")):
            answer.faults.append("the last event is cut off")
        if any(len(choice.finish) != 1 for choice in answer.choices.values()):
            answer.faults.append("a choice has no end")


def _join(known: Choice, choice: Json, part: Json) -> None:
    """One chunk, or the whole, of a choice; `part` is its delta, its message, or itself."""
    known.text += part.get("content") or part.get("text") or ""
    known.ids += choice.get("token_ids") or []
    if choice.get("finish_reason") is not None:
        known.finish.append(choice["finish_reason"])
        known.stop_reason = choice.get("stop_reason")
    for name, values in (choice.get("logprobs") or {}).items():
        if isinstance(values, list):
            known.logprobs.setdefault(name, []).extend(values)
    for call in part.get("tool_calls") or []:
        _join_call(known, call)
    for name in ("reasoning", "reasoning_content", "refusal"):
        if part.get(name):
            known.other[name] = known.other.get(name, "") + part[name]


def _join_call(known: Choice, call: Json) -> None:
    function = call.get("function") or {}
    if function.get("name"):
        known.calls.append([function["name"], ""])
    if known.calls:
        known.calls[-1][1] += function.get("arguments") or ""
