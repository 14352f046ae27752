"""Which parts of a body become its prompt, whatever the API: texts, ids, and how many messages.

Only what a chat template or a tokenizer would see as text is taken: images and other data pass by.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cascade_policy.accounting import CHAT_PATH
from cascade_router.api import EMBEDDINGS_PATH, MESSAGES_PATH, RESPONSES_PATH
from cascade_router.request import Generation, Undecoded

_PARTS: Final = {
    CHAT_PATH: ("messages", "tools"),
    RESPONSES_PATH: ("instructions", "input", "tools"),
    MESSAGES_PATH: ("system", "messages", "tools"),
    EMBEDDINGS_PATH: ("input", "messages"),
}
"""The fields that make the prompt, of each path; of others it is `prompt`."""
_INNER: Final = (
    *("text", "content", "output", "thinking", "reasoning", "summary"),
    *("tool_calls", "function", "arguments"),
)
"""Where messages, their parts and earlier calls of tools keep their text."""
_WITHOUT_TEXT: Final = ("text", "tool_use", "message", "reasoning", "tool_result")
"""Types of parts that may have none of these, and still are no data."""
_DEPTH: Final = 8
"""How deep text can lie; no API nests it further."""


@dataclass(frozen=True, slots=True)
class PromptText:
    """What is known of a prompt before an engine has seen it."""

    characters: int
    size: int
    """UTF-8 bytes of the text."""
    ids: int = 0
    """Tokens that were given as ids."""
    messages: int = 0
    undecoded: int = 0
    """Bytes of fields that were not looked into."""
    beside: bool = False
    """Whether images or other data go along, which take tokens that no text accounts for."""


def prompt_text(request: Generation) -> PromptText:
    """The text of a request's prompt."""
    fields = {
        name: value
        for name in _PARTS.get(request.path, ("prompt",))
        if (value := request.values.get(name)) is not None
    }
    # Templates print tools as JSON, more or less as it came.
    tools = len(request.raw["tools"]) if fields.pop("tools", None) else 0
    undecoded = sum(field.size for field in fields.values() if isinstance(field, Undecoded))
    texts = [text for field in fields.values() for text in _texts(field, _DEPTH)]
    characters = sum(map(len, texts))
    size = sum(len(text) if text.isascii() else len(text.encode(errors="replace"))
               for text in texts)  # fmt: skip
    return PromptText(
        characters=characters + tools,
        size=size + tools,
        ids=sum(map(_ids, fields.values())),
        messages=sum(map(_messages, fields.values())),
        undecoded=undecoded,
        beside=any(_has_data(field, _DEPTH) for field in fields.values()),
    )


def _texts(content: object, depth: int) -> Iterator[str]:
    """All texts in a field, in no particular order."""
    if isinstance(content, str):
        yield content
    elif depth and isinstance(content, list):
        for part in content:
            yield from _texts(part, depth - 1)
    elif depth and isinstance(content, Mapping):
        for name in _INNER:
            if name in content:
                yield from _texts(content[name], depth - 1)
        if content.get("type") == "tool_use":
            yield msgspec.json.encode(content.get("input")).decode()


def _has_data(content: object, depth: int) -> bool:
    """Whether a field has parts that are neither text nor hold any."""
    if depth and isinstance(content, list):
        return any(_has_data(part, depth - 1) for part in content)
    if not (depth and isinstance(content, Mapping)):
        return False
    inner = [content[name] for name in _INNER if name in content]
    if not inner:
        return content.get("type", "text") not in _WITHOUT_TEXT
    return any(_has_data(part, depth - 1) for part in inner)


def _ids(content: object) -> int:
    """Tokens given as ids, in one list or in several."""
    if not isinstance(content, list) or not content:
        return 0
    if type(content[0]) is int:
        return len(content)
    return sum(len(part) for part in content if isinstance(part, list) and part[:1]
               and type(part[0]) is int)  # fmt: skip


def _messages(content: Any) -> int:
    """Messages in a field, each of which costs what a template puts around it."""
    if not isinstance(content, list):
        return 0
    return sum(isinstance(part, Mapping) for part in content)
