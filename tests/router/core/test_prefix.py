"""The blocks of prompts: equal beginnings have equal blocks, everything else has not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.prefix_index import Block
from cascade_router.http1 import Request
from cascade_router.prefix import BLOCK_BYTES, MAX_BLOCKS, prompt_blocks
from cascade_router.request import parse

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TURN = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello " * 400}]


def blocks(path: str, tokens: int = 1000, **body: Any) -> tuple[Block, ...]:
    data = json.dumps(body, ensure_ascii=False).encode()
    return prompt_blocks(parse(Request("POST", path, {}, data)), tokens)


def common(left: tuple[Block, ...], right: tuple[Block, ...]) -> int:
    pairs = zip(left, right, strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if a.hash != b.hash), min(map(len, (left, right)))
    )


def test_the_next_turn_of_a_conversation_begins_with_the_whole_last_one() -> None:
    more = [{"role": "assistant", "content": "hi"}, {"role": "user", "content": "and then?"}]
    first, second = blocks(CHAT, messages=TURN), blocks(CHAT, messages=TURN + more)
    assert len(first) == 4
    assert common(first, second) == 4
    assert len(second) == 6


def test_the_last_block_ends_with_the_prompt_and_tokens_never_fall() -> None:
    cut = blocks(CHAT, 777, messages=TURN)
    assert cut[-1].tokens == 777
    assert [block.tokens for block in cut] == sorted(block.tokens for block in cut)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model": "other"}, id="another model or adapter"),
        pytest.param({"cache_salt": "mine"}, id="another cache salt"),
        pytest.param({"tools": [{"type": "function"}]}, id="other tools"),
    ],
)
def test_what_changes_a_prompt_from_its_start_changes_every_block(changes: dict[str, Any]) -> None:
    assert common(blocks(CHAT, messages=TURN), blocks(CHAT, messages=TURN, **changes)) == 0


def test_ids_and_texts_are_cut_by_kilobytes_and_their_open_end_has_no_block() -> None:
    ids = list(range(1000, 2000))
    first, longer = blocks(COMPLETIONS, prompt=ids), blocks(COMPLETIONS, prompt=[*ids, 5, 6])
    size = len(",".join(map(str, ids)))
    assert len(first) == size // BLOCK_BYTES
    assert common(first, longer) == len(first)
    text = "日本 " * 1000
    assert common(blocks(COMPLETIONS, prompt=text), blocks(COMPLETIONS, prompt=text + "!")) == 6


def test_a_prompt_without_end_has_a_bounded_number_of_blocks() -> None:
    assert len(blocks(COMPLETIONS, prompt="x" * (BLOCK_BYTES * (MAX_BLOCKS + 5)))) == MAX_BLOCKS


@given(prompt=st.text(max_size=3000), tokens=st.integers(0, 5000))
def test_any_text_can_be_cut(prompt: str, tokens: int) -> None:
    cut = blocks(COMPLETIONS, tokens, prompt=prompt)
    assert all(0 <= block.tokens <= tokens for block in cut)
