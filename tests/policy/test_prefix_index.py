"""The prefix index: what is remembered, what is forgotten, and what the engine corrects."""

from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.prefix_index import Block, PrefixIndex, chain, thin


def prompt(*parts: str, tokens: int = 100) -> tuple[Block, ...]:
    return chain(b"model", [(part.encode(), tokens) for part in parts])


def test_a_chain_counts_tokens_and_differs_from_the_first_difference_on() -> None:
    one, other = prompt("system", "hello", "more"), prompt("system", "hi", "more")

    assert [block.tokens for block in one] == [100, 200, 300]
    assert one[0] == other[0]
    assert one[1] != other[1]
    assert one[2] != other[2]


def test_another_model_adapter_or_salt_shares_nothing() -> None:
    parts = [(b"system", 10)]

    assert chain(b"model", parts) != chain(b"model+adapter", parts)


def test_a_prompt_matches_up_to_where_it_is_known() -> None:
    index = PrefixIndex(10_000)
    index.add(prompt("system", "hello"))

    assert index.match(prompt("system", "hello", "and now")) == 200
    assert index.match(prompt("system", "other")) == 100
    assert index.match(prompt("else")) == 0
    assert index.match(()) == 0


def test_a_thinned_question_is_answered_with_the_blocks_it_names() -> None:
    blocks = prompt(*(str(i) for i in range(100)))
    index = PrefixIndex(100_000)
    index.add(blocks[:50])

    asked = thin(blocks, 10)

    assert asked[-1] == blocks[-1]
    assert index.match(asked) == 5_000


def test_the_least_recently_used_prompt_is_forgotten_first() -> None:
    index = PrefixIndex(400)
    first, second, third = prompt("a", "b"), prompt("c", "d"), prompt("e")
    index.add(first)
    index.add(second)
    index.add(first)
    index.add(third)

    assert index.match(first) == 200
    assert index.match(second) == 100, "its end went before its beginning"
    assert index.match(third) == 100


def test_what_is_older_than_an_evicted_block_is_gone_as_well() -> None:
    index = PrefixIndex(10_000)
    old, evicted, recent = prompt("old"), prompt("x", "y"), prompt("new")
    for blocks in (old, evicted, recent):
        index.add(blocks)

    beliefs = index.beliefs(evicted)
    index.add(evicted)
    index.correct(beliefs, cached_tokens=100, slack_tokens=16)

    assert index.match(old) == 0
    assert index.match(evicted) == 200, "it has just been computed"
    assert index.match(recent) == 100


def test_a_new_prompt_of_which_nothing_was_believed_corrects_nothing() -> None:
    index = PrefixIndex(10_000)
    index.add(prompt("old"))
    fresh = prompt("fresh", "one")
    beliefs = index.beliefs(fresh)
    index.add(fresh)

    index.correct(beliefs, cached_tokens=0, slack_tokens=16)

    assert index.match(prompt("old")) == 100
    assert index.match(fresh) == 200


def test_rounding_to_whole_blocks_corrects_nothing() -> None:
    index = PrefixIndex(10_000)
    blocks = prompt("x", "y")
    index.add(blocks)

    index.correct(index.beliefs(blocks), cached_tokens=190, slack_tokens=16)

    assert index.match(blocks) == 200


def test_a_restart_empties_it() -> None:
    index = PrefixIndex(10_000)
    index.add(prompt("x"))
    index.clear()

    assert index.match(prompt("x")) == 0
    assert index.tokens == 0


@given(
    prompts=st.lists(st.lists(st.sampled_from("abcdef"), max_size=8), max_size=40),
    capacity=st.integers(0, 1500),
)
def test_it_never_holds_more_than_the_engine_can(prompts: list[list[str]], capacity: int) -> None:
    index = PrefixIndex(capacity)
    for parts in prompts:
        blocks = prompt(*parts)
        index.add(blocks)
        assert index.tokens <= capacity
        assert index.match(blocks) == min(len(parts), capacity // 100) * 100
        assert index.match(thin(blocks, 3)) <= index.match(blocks)


@given(count=st.integers(0, 300), most=st.integers(1, 40))
def test_thinning_keeps_order_and_the_end(count: int, most: int) -> None:
    blocks = tuple(Block(i, i) for i in range(count))

    thinned = thin(blocks, most)

    assert len(thinned) == min(count, most)
    assert list(thinned) == sorted(set(thinned))
    assert thinned[-1:] == blocks[-1:]
