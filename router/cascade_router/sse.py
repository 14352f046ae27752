"""Reads and rewrites the events of a generation stream by searching bytes.

A JSON round trip per event costs ten times as much as these searches. They are sound because a
quote inside a JSON string is escaped: the bytes `,"token_ids":[` can only be that member of an
object, never text. Events that are written in another style (spaces after colons, other member
order) are brought into this one by `normalised`, once per event, at the price of the round trip.
"""

import json
import re
from typing import Any, Final

DATA: Final = b"data: "
EVENT: Final = b"event: "
DONE_EVENT: Final = b"data: [DONE]\n\n"
TOKEN_IDS: Final = b',"token_ids":['
_TOKEN_IDS_BYTES: Final = len(TOKEN_IDS)
PROMPT_IDS: Final = b',"prompt_token_ids":['
FINISHED: Final = b'"finish_reason":"'
REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}".encode()
REPLACEMENT_ESCAPED: Final = b"\\ufffd"

_RETURN: Final = 0x0D
_DELTAS: Final = (b".delta", b"block_delta")
"""Ends of the names of events that carry generated text: of the Responses and the Messages API."""
_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_TEXT: Final = re.compile(rb'"text":(' + _STRING + rb")")
_CONTENT: Final = re.compile(rb'"content":(' + _STRING + rb")")
_FINISH: Final = re.compile(rb'"finish_reason":(null|"[^"\\]*")')
_STOP_REASON: Final = re.compile(rb'"stop_reason":(null|-?[0-9]+|' + _STRING + rb")")
_FINGERPRINT: Final = re.compile(rb',"system_fingerprint":' + _STRING)
_USAGE: Final = re.compile(
    rb'"usage"\s*:\s*\{[^{}]*?"prompt_tokens"\s*:\s*([0-9]+)[^}]*?"completion_tokens"\s*:\s*([0-9]+)'
)
_CACHED: Final = re.compile(rb'"cached_tokens"\s*:\s*([0-9]+)')
_USAGE_OTHER_ORDER: Final = re.compile(
    rb'"usage"\s*:\s*\{[^{}]*?"completion_tokens"\s*:\s*([0-9]+)[^}]*?"prompt_tokens"\s*:\s*([0-9]+)'
)


_USAGE_TYPED: Final = re.compile(rb'"usage"\s*:\s*\{(?:[^{}]|\{[^{}]*\})*\}')
_INPUT: Final = re.compile(
    rb'"(?:input_tokens|cache_read_input_tokens|cache_creation_input_tokens)"\s*:\s*([0-9]+)'
)
_OUTPUT: Final = re.compile(rb'"output_tokens"\s*:\s*([0-9]+)')


class EventTooLarge(Exception):
    """An event grew beyond the limit without ending."""


class EventSplitter:
    """Cuts a byte stream into events at empty lines. Lines end in `\\n` or `\\r\\n`, nothing else:
    text may hold other characters that Unicode counts as line ends. More empty lines than one
    between events mean nothing."""

    __slots__ = ("_limit", "_searched", "rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.rest = b""
        """The beginning of an event that has not ended."""
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes, each with the empty line that ends it.

        Raises EventTooLarge.
        """
        if _RETURN in data:
            data = data.replace(b"\r", b"")  # JSON escapes it, so it only ends lines.
        if not self.rest and data[:1] != b"\n" and 0 < data.find(b"\n\n") == len(data) - 2:
            return [data]
        buffer = self.rest + data if self.rest else data
        events = []
        start, search = 0, self._searched
        while (end := buffer.find(b"\n\n", search)) >= 0:
            event = buffer[start : end + 2].lstrip(b"\n")
            if event:
                events.append(event)
            start = search = end + 2
        self.rest = buffer[start:]
        if len(self.rest) > self._limit:
            raise EventTooLarge
        self._searched = max(0, len(self.rest) - 1)
        return events


def token_ids(event: bytes) -> tuple[int, int, int]:
    """(start of the member, start of the ids, end of the ids) of a chunk's generated ids.

    The member spans from its comma to the closing bracket at the third position; (-1, -1, -1)
    where there are none.
    """
    start = event.rfind(TOKEN_IDS)
    if start < 0:
        return -1, -1, -1
    first = start + len(TOKEN_IDS)
    return start, first, event.index(b"]", first)


def prompt_ids(event: bytes) -> tuple[int, int, int]:
    """The same of the prompt's ids."""
    start = event.find(PROMPT_IDS)
    if start < 0:
        return -1, -1, -1
    first = start + len(PROMPT_IDS)
    return start, first, event.index(b"]", first)


def count_ids(raw: bytes) -> int:
    """How many ids the inside of a JSON list holds."""
    return raw.count(b",") + 1 if raw.strip() else 0


def count_tokens(body: bytes) -> int:
    """Generated tokens in a piece of a stream: ids where it carries them, else its events."""
    start = body.rfind(TOKEN_IDS)
    if start >= 0 and body.find(b"\n\n") == len(body) - 2:
        # Most reads are one event, whole.
        first = start + _TOKEN_IDS_BYTES
        end = body.find(b"]", first)
        return body.count(b",", first, end) + 1 if end > first else 0
    total, events = 0, 0
    for event in body.split(b"\n\n"):
        start, first, end = _token_ids_within(event)
        if start >= 0:
            total += count_ids(event[first:end])
        elif event.startswith(EVENT):
            events += event_name(event).endswith(_DELTAS)
        elif event.startswith(DATA) and not event.startswith(b"data: [DONE]"):
            events += b'"choices":[{' in event and b'"role":' not in event
    return total + events


def event_name(event: bytes) -> bytes:
    """The name of a typed event; empty where its first line is none."""
    return event[len(EVENT) :].partition(b"\n")[0] if event.startswith(EVENT) else b""


def _token_ids_within(piece: bytes) -> tuple[int, int, int]:
    """Like `token_ids`, for a piece that may end anywhere."""
    start = piece.rfind(TOKEN_IDS)
    end = piece.find(b"]", start) if start >= 0 else -1
    return (start, start + len(TOKEN_IDS), end) if end >= 0 else (-1, -1, -1)


def usage_of(body: bytes) -> tuple[int, int] | None:
    """(prompt tokens, completion tokens) of the last `usage` in a body or an event."""
    start = body.rfind(b'"usage"')
    if start < 0:
        return None
    found = _USAGE.match(body, start)
    if found is not None:
        return int(found[1]), int(found[2])
    found = _USAGE_OTHER_ORDER.match(body, start)
    if found is not None:
        return int(found[2]), int(found[1])
    found = _USAGE_TYPED.match(body, start)
    return _typed_usage(found[0]) if found is not None else None


def _typed_usage(usage: bytes) -> tuple[int, int] | None:
    """The same of an object of the Responses or the Messages API. The latter counts cached tokens
    of the prompt apart."""
    output = _OUTPUT.search(usage)
    inputs = [int(number) for number in _INPUT.findall(usage)]
    return (sum(inputs), int(output[1])) if output is not None and inputs else None


def cached_tokens_of(body: bytes) -> int | None:
    """Prompt tokens that the engine held, by the last usage in a body or an event."""
    found = None
    for found in _CACHED.finditer(body):  # noqa: B007 - the last one is wanted
        pass
    return None if found is None else int(found[1])


def text_of(event: bytes) -> bytes:
    """The text of a completions chunk, as a JSON string with its quotes; `""` without one."""
    found = _TEXT.search(event)
    return found[1] if found is not None else b'""'


def content_of(event: bytes) -> bytes:
    """The content of a chat chunk, as a JSON string with its quotes; `""` without one."""
    found = _CONTENT.search(event)
    return found[1] if found is not None else b'""'


def text_span(event: bytes) -> tuple[int, int] | None:
    """Where the inside of the text's JSON string begins and ends in a completions chunk."""
    found = _TEXT.search(event)
    return (found.start(1) + 1, found.end(1) - 1) if found is not None else None


def content_span(event: bytes) -> tuple[int, int] | None:
    """The same in a chat chunk."""
    found = _CONTENT.search(event)
    return (found.start(1) + 1, found.end(1) - 1) if found is not None else None


def finish_of(event: bytes) -> bytes:
    """The finish reason as JSON: `null` or a string with its quotes."""
    found = _FINISH.search(event)
    return found[1] if found is not None else b"null"


def stop_reason_of(event: bytes) -> bytes:
    """The stop reason as JSON."""
    found = _STOP_REASON.search(event)
    return found[1] if found is not None else b"null"


def fingerprint_of(event: bytes) -> bytes:
    """The member that names the engine's version and configuration, with the comma before it;
    only the last event of a stream has one."""
    found = _FINGERPRINT.search(event)
    return found[0] if found is not None else b""


def is_compact(event: bytes) -> bool:
    """Whether an event is written in the style that the searches expect."""
    return event.startswith(b'data: {"id":"') or not event.startswith(b"data: {")


def normalised(event: bytes) -> bytes:
    """An event in the style that the searches expect: compact, `id`, `object`, `created` and
    `model` first, then `choices`, the generated ids last in their choice. Others as they are."""
    try:
        data: Any = json.loads(event[len(DATA) :])
    except ValueError:
        return event
    if not isinstance(data, dict) or "choices" not in data:
        return event
    first = ("id", "object", "created", "model", "choices")
    ordered = {name: data[name] for name in first if name in data}
    ordered |= {name: value for name, value in data.items() if name not in first}
    for choice in ordered["choices"]:
        if "token_ids" in choice:
            choice["token_ids"] = choice.pop("token_ids")
    compact = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    return DATA + compact.encode() + b"\n\n"


def has_foreign_parts(event: bytes) -> bool:
    """Whether a chat chunk's delta has a part besides role and content, which a parser made.

    Read as JSON: only events that look like it are asked about.
    """
    try:
        choices = json.loads(event[len(DATA) :])["choices"]
    except (ValueError, KeyError, TypeError):
        return True
    return any(
        value not in (None, [], "")
        for choice in choices
        for name, value in (choice.get("delta") or {}).items()
        if name not in ("role", "content")
    )


def tail_ids(raw: bytes, count: int) -> bytes:
    """The last `count` ids of the inside of a JSON list, and not all of a long one."""
    position = len(raw)
    for _ in range(count):
        position = raw.rfind(b",", 0, position)
        if position < 0:
            return raw
    return raw[position + 1 :]
