"""The shape of an answer: names, order, types and chunks, without what the model says. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import ndiff
from typing import Any, Final

from e2e.continuity_suite.answer import events_of
from e2e.continuity_suite.wire import Received

TOLD: Final = frozenset({"object", "finish_reason", "role", "type", "code", "param", "status"})
"""Names whose values are part of the contract, not of the answer."""
OPEN: Final = frozenset({"top_logprobs"})
"""Objects whose names are what the model says; compared by one of their members."""
MAYBE: Final = frozenset({"cached_tokens", "created_cache_tokens"})
"""Numbers or null, as the prefix cache has it at the time."""
OPAQUE: Final = frozenset({"bytes"})
"""Lists that may be empty."""
SILENT: Final = "silent"
"""Marks events without text: whether an answer has any is up to the model."""
_HEADER: Final = "content-type"
Lines = Sequence[str]


@dataclass(frozen=True)
class Shape:
    """Of one answer. `whole`: status, type, and each field with its type in the order in which
    they come. `events`: the same of the first event of each kind, kinds in order."""

    whole: Lines
    events: Mapping[str, Lines] = field(default_factory=dict)


def shape_of(received: Received) -> Shape:
    """Of an answer or a stream."""
    if received.lost is not None:
        return Shape([f"lost: {received.lost}"])
    kind = received.headers.get(_HEADER, "none").replace(" ", "").lower()
    head = [f"status {received.status}, {kind}"]
    if "event-stream" in kind:
        return Shape(head, _events(events_of(received.body)))
    try:
        body = json.loads(received.body) if received.body else None
    except ValueError:
        return Shape([*head, "not JSON"])
    return Shape([*head, *_lines("", body)])


def differences(one: Shape, other: Shape) -> Lines:
    """Lines of `one` alone (-) and of `other` alone (+), those of events after their kind. Where
    the status differs, nothing else is comparable."""
    if one.whole[0].partition(",")[0] != other.whole[0].partition(",")[0]:
        return [f"- {one.whole[0]}", f"+ {other.whole[0]}"]
    kinds = [_order(shape.events) for shape in (one, other)]
    found = [*_changed(one.whole, other.whole), *_changed(kinds[0], kinds[1])]
    for kind in (kind for kind in one.events if kind in other.events):
        lines = _changed(one.events[kind], other.events[kind])
        found += [f"{line[:2]}{kind}: {line[2:]}" for line in lines]
    return found


def _order(events: Mapping[str, Lines]) -> Lines:
    """Kinds in the order in which they first come."""
    spoken = [kind.removesuffix(f", {SILENT}") for kind in events]
    return list(dict.fromkeys(kind for kind in spoken if kind != SILENT))


def _changed(one: Lines, other: Lines) -> Lines:
    return [line for line in ndiff(one, other) if line[0] in "-+"]


def _events(events: Sequence[bytes]) -> dict[str, Lines]:
    found: dict[str, Lines] = {}
    for data in events:
        try:
            event = json.loads(data)
        except ValueError:
            found.setdefault(data.decode("utf-8", "replace"), [])
            continue
        kind = _kind(event)
        if kind not in found:
            found[kind] = list(_lines("", event))
    return found


def _kind(event: Mapping[str, Any]) -> str:
    """What an event is for."""
    if "type" in event:
        return str(event["type"])
    if "error" in event:
        return "error"
    choices = event.get("choices")
    if not choices:
        return "usage"
    choice = choices[0]
    part = choice.get("delta", choice)
    if part.get("role"):
        return "role"
    speaks = part.get("content") or part.get("text")
    what = "call" if part.get("tool_calls") else "text" if speaks else SILENT
    if choice.get("finish_reason") is None:
        return what
    return f"end {choice['finish_reason']}" + (f", {SILENT}" if what == SILENT else "")


def _lines(path: str, value: Any) -> Iterator[str]:
    name = path.rpartition(".")[2].removesuffix("[]")
    if name in OPAQUE and isinstance(value, list):
        yield f"{path}: list"
    elif isinstance(value, Mapping):
        yield f"{path or 'body'}: object"
        is_open = name in OPEN
        for key, member in list(value.items())[: 1 if is_open else None]:
            yield from _lines(f"{path}.{'*' if is_open else key}", member)
    elif isinstance(value, list):
        yield f"{path or 'body'}: list" + ("" if value else " (empty)")
        if value:
            # Of several, the first speaks for all.
            yield from _lines(f"{path}[]", value[0])
    else:
        told = f" {value!r}" if name in TOLD and value is not None else ""
        kind = "whole or null" if name in MAYBE and type(value) in (int, type(None)) else ""
        yield f"{path}: {kind or _type(value)}{told}"


def _type(value: Any) -> str:
    names = {bool: "true or false", int: "whole", float: "number", str: "text"}
    return "null" if value is None else names[type(value)]
