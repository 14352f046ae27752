"""What of a body counts as its prompt, for each API."""

import json
from typing import Any

import pytest

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH
from cascade_router.api import EMBEDDINGS_PATH, MESSAGES_PATH, RESPONSES_PATH
from cascade_router.http1 import Request
from cascade_router.prompt_text import PromptText, prompt_text
from cascade_router.request import MOST_PARTS, Generation, parse

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"a": "b"}}}
TOOL_BYTES = len(json.dumps([TOOL]))
IMAGE = {"type": "image_url", "image_url": {"url": "data:," + "x" * 999}}
PICTURE = {"type": "image", "source": {"type": "base64", "data": "x" * 999}}


def request(path: str, body: dict[str, Any]) -> Generation:
    """A request as its front reads it."""
    raw = json.dumps(body, ensure_ascii=False).encode()
    return parse(Request("POST", path, {}, raw))


def text(
    size: int,
    messages: int = 0,
    ids: int = 0,
    characters: int | None = None,
    *,
    beside: bool = False,
) -> PromptText:
    """ASCII, unless `characters` says otherwise."""
    letters = size if characters is None else characters
    return PromptText(letters, size, ids, messages, beside=beside)


CASES = [
    pytest.param(COMPLETIONS_PATH, {"prompt": "abcd"}, text(4), id="a prompt"),
    pytest.param(COMPLETIONS_PATH, {"prompt": ["ab", "cd"]}, text(4), id="two prompts"),
    pytest.param(COMPLETIONS_PATH, {"prompt": "東京"}, text(6, characters=2), id="wide text"),
    pytest.param(COMPLETIONS_PATH, {"prompt": [[1, 2], [3]]}, text(0, ids=3), id="prompts of ids"),
    pytest.param(COMPLETIONS_PATH, {"prompt": "ab", "input": "cd"}, text(2), id="another's field"),
    pytest.param(
        CHAT_PATH, {"messages": [{"role": "user", "content": "abcd"}]}, text(4, 1), id="a chat"
    ),
    pytest.param(
        CHAT_PATH,
        {"messages": [{"content": [{"type": "text", "text": "ab"}, IMAGE]}, {"content": "cd"}]},
        text(4, 2, beside=True), id="a chat with parts; images are no text",
    ),
    pytest.param(
        CHAT_PATH,
        {"messages": [{"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}]},
        text(2, 1), id="a call of a tool in the history",
    ),
    pytest.param(
        CHAT_PATH, {"messages": [{"content": "ab"}], "tools": [TOOL]}, text(2 + TOOL_BYTES, 1),
        id="tools as they are written",
    ),
    pytest.param(RESPONSES_PATH, {"input": "abcd"}, text(4), id="a response"),
    pytest.param(
        RESPONSES_PATH, {"input": "ab", "instructions": "cd", "tools": []}, text(4),
        id="instructions",
    ),
    pytest.param(
        RESPONSES_PATH,
        {"input": [
            {"role": "user", "content": [{"type": "input_text", "text": "ab"}]},
            {"role": "assistant", "content": "cd"},
            {"type": "function_call", "name": "f", "arguments": "ef"},
            {"type": "function_call_output", "output": "gh"},
            {"type": "reasoning", "summary": [{"text": "ij"}]},
        ]},
        text(10, 5), id="items of all kinds",
    ),
    pytest.param(
        MESSAGES_PATH,
        {"system": [{"type": "text", "text": "ab"}], "messages": [{"content": "cd"}]},
        text(4, 2), id="a message with a system prompt in blocks",
    ),
    pytest.param(
        MESSAGES_PATH,
        {"system": "ab", "messages": [{"content": [
            PICTURE,
            {"type": "thinking", "thinking": "cd"},
            {"type": "tool_use", "input": {"a": 1}},
            {"type": "tool_result", "content": [{"type": "text", "text": "ef"}]},
        ]}]},
        text(6 + len('{"a":1}'), 1, beside=True), id="blocks of all kinds; pictures are no text",
    ),
    pytest.param(EMBEDDINGS_PATH, {"input": "abcd"}, text(4), id="an input"),
    pytest.param(EMBEDDINGS_PATH, {"input": ["ab", "cd"]}, text(4), id="several inputs"),
    pytest.param(EMBEDDINGS_PATH, {"input": [[1, 2], [3, 4]]}, text(0, ids=4), id="inputs of ids"),
    pytest.param(
        EMBEDDINGS_PATH, {"messages": [{"role": "user", "content": "ab"}]}, text(2, 1),
        id="a conversation to embed",
    ),
    pytest.param(MESSAGES_PATH, {}, text(0), id="nothing at all"),
    pytest.param(RESPONSES_PATH, {"input": {"a": 1}}, text(0), id="no list and no text"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "found"), CASES)
def test_what_counts(path: str, body: dict[str, Any], found: PromptText) -> None:
    assert prompt_text(request(path, body)) == found


@pytest.mark.parametrize(
    ("path", "field", "inner"),
    [
        (COMPLETIONS_PATH, "prompt", 1),
        (EMBEDDINGS_PATH, "input", 1),
    ],
)
def test_a_list_of_ids_is_counted_and_not_looked_into(path: str, field: str, inner: int) -> None:
    found = request(path, {field: [inner] * (MOST_PARTS + 10)})
    assert found.prompt_ids is not None
    assert found.prompt_ids.count(b",") == MOST_PARTS + 9


def test_a_field_with_too_many_parts_counts_by_its_bytes() -> None:
    body = {"system": "ab", "messages": [{"content": "x"}] * (MOST_PARTS + 10)}
    found = prompt_text(request(MESSAGES_PATH, body))
    assert (found.size, found.undecoded) == (2, len(json.dumps(body["messages"])))


def test_text_that_is_nested_without_end_is_left_out() -> None:
    content: Any = "deep"
    for _ in range(50):
        content = [content]
    assert prompt_text(request(CHAT_PATH, {"messages": content})) == text(0)


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        (CHAT_PATH, {"max_completion_tokens": 0, "max_tokens": 9}, 0),
        (CHAT_PATH, {"max_tokens": 9}, 9),
        (CHAT_PATH, {}, None),
        (COMPLETIONS_PATH, {}, 16),
        (RESPONSES_PATH, {"max_output_tokens": 9, "max_tokens": 5}, 9),
        (RESPONSES_PATH, {}, None),
        (MESSAGES_PATH, {"max_tokens": 9}, 9),
        (MESSAGES_PATH, {"max_tokens": True}, None),
        (EMBEDDINGS_PATH, {"max_tokens": 9}, 0),
    ],
)
def test_the_limit_of_the_output_is_found(
    path: str, body: dict[str, Any], limit: int | None
) -> None:
    assert request(path, body).output_limit() == limit
