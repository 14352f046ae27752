"""The simulated model: resuming by ids continues exactly, whatever the cut."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from e2e.engine_simulator.next_token import (
    MEAN_NATURAL_LENGTH,
    advance,
    continuation,
    expected_output,
    state_of,
)
from e2e.engine_simulator.vocabulary import (
    FIRST_BYTE,
    SIZE,
    WORD_IDS,
    Detokeniser,
    detokenise,
    tokenise,
)

PROMPTS = st.lists(st.integers(FIRST_BYTE, SIZE - 1), min_size=1, max_size=60)
WORDS = st.lists(st.sampled_from(WORD_IDS), min_size=1, max_size=60)


@given(PROMPTS)
def test_the_state_is_the_same_in_one_go_and_step_by_step(ids: list[int]) -> None:
    state = 0
    for number in ids:
        state = advance(state, number)
    assert state == state_of(ids)


@given(PROMPTS, st.integers(1, 99))
def test_resumed_from_its_ids_at_any_cut_the_ids_are_the_same(prompt: list[int], cut: int) -> None:
    ids = list(islice(continuation(prompt), 100))
    resumed = list(islice(continuation(prompt + ids[:cut]), 100 - cut))
    assert ids[:cut] + resumed == ids


@given(WORDS, st.integers(1, 99))
def test_text_joins_exactly_at_clean_points_only(prompt: list[int], cut: int) -> None:
    uncut = expected_output(prompt, 100, ignore_eos=True)
    detokeniser = Detokeniser(prompt)
    texts = [detokeniser.step(number) for number in uncut.ids[:cut]]
    resumed = expected_output([*prompt, *uncut.ids[:cut]], 100 - cut, ignore_eos=True)
    joined = "".join(texts) + resumed.text
    if not detokeniser.holds_back:
        assert joined == uncut.text
    elif resumed.text:
        # Cut inside a character: the prompt leaks into the text, and a comparison sees it.
        assert joined != uncut.text


@given(WORDS, st.integers(0, 59), st.sampled_from(["lost", "doubled", "changed"]))
def test_a_lost_doubled_or_changed_token_gives_another_continuation(
    prompt: list[int], place: int, fault: str
) -> None:
    place %= len(prompt)
    other = WORD_IDS[(WORD_IDS.index(prompt[place]) + 1) % len(WORD_IDS)]
    middle = {"lost": [], "doubled": [prompt[place]] * 2, "changed": [other]}[fault]
    damaged = prompt[:place] + middle + prompt[place + 1 :]
    if damaged:
        assert state_of(damaged) != state_of(prompt)
        assert list(islice(continuation(damaged), 20)) != list(islice(continuation(prompt), 20))


def test_generated_text_is_valid_and_holds_pieces_of_characters() -> None:
    prompt = tokenise("the river")
    uncut = expected_output(prompt, 5000, ignore_eos=True)
    assert "\ufffd" not in detokenise(uncut.ids[:-4])
    detokeniser = Detokeniser(prompt)
    held = [number for number in uncut.ids if not detokeniser.step(number)]
    assert 200 < len(held) < 1000
    assert {"\u2028", '"', "\\"} <= set(uncut.text)


def test_the_model_ends_texts_by_itself_after_a_natural_length() -> None:
    lengths = [len(expected_output([number], 10_000).ids) for number in WORD_IDS]
    assert min(lengths) < MEAN_NATURAL_LENGTH / 4
    assert abs(sum(lengths) / len(lengths) - MEAN_NATURAL_LENGTH) < MEAN_NATURAL_LENGTH / 4


def test_an_answer_ends_at_max_tokens_or_at_its_own_end() -> None:
    prompt = tokenise("the river")
    natural = expected_output(prompt, 10_000)
    assert natural.finish_reason == "stop"
    short = expected_output(prompt, len(natural.ids) - 1)
    assert short.finish_reason == "length"
    assert short.ids == natural.ids[:-1]
    longer = expected_output(prompt, len(natural.ids) + 5, ignore_eos=True)
    assert longer.finish_reason == "length"
    assert longer.ids[: len(natural.ids)] == natural.ids
