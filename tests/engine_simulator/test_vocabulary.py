"""Text and ids: nothing is lost, and characters are never cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.engine_simulator.vocabulary import (
    AWKWARD_IDS,
    FIRST_BYTE,
    LEAD_IDS,
    SIZE,
    WORD_IDS,
    Detokeniser,
    UnknownToken,
    chat_prompt,
    detokenise,
    ends_inside_character,
    tokenise,
)

TEXTS = st.text() | st.lists(
    st.sampled_from(["the", " the", " café", "日本", "🌍", "\u2028", ' "token_ids":[1,2]', "\n"])
).map("".join)
IDS = st.lists(st.integers(FIRST_BYTE, SIZE - 1), max_size=40)


@given(TEXTS)
def test_text_comes_back_from_its_ids(text: str) -> None:
    assert detokenise(tokenise(text)) == text


@given(st.lists(st.sampled_from(WORD_IDS), min_size=1))
def test_text_made_of_words_has_exactly_their_ids(ids: list[int]) -> None:
    assert tokenise(detokenise(ids)) == ids


def test_strings_that_trip_parsers_are_tokens_of_their_own() -> None:
    for number in AWKWARD_IDS:
        assert tokenise(detokenise([number])) == [number]


@given(IDS)
def test_text_given_out_step_by_step_is_the_text_of_all_ids_but_for_what_is_held_back(
    ids: list[int],
) -> None:
    detokeniser = Detokeniser()
    text = "".join(detokeniser.step(number) for number in ids)
    if detokeniser.holds_back:
        assert detokenise(ids).startswith(text)
    else:
        assert text == detokenise(ids)


@pytest.mark.parametrize("lead", LEAD_IDS)
def test_a_piece_of_a_character_gives_no_text(lead: int) -> None:
    detokeniser = Detokeniser()
    assert detokeniser.step(lead) == ""
    assert detokeniser.holds_back
    assert ends_inside_character([*tokenise("the river"), lead])


def test_a_sequence_that_starts_inside_a_character_begins_with_its_whole_prompt() -> None:
    first, *rest = "日".encode()
    prompt = [*tokenise("the river"), FIRST_BYTE + first, FIRST_BYTE + rest[0]]
    assert Detokeniser(prompt).step(FIRST_BYTE + rest[1]) == "the river日"


def test_special_tokens_have_no_text() -> None:
    prompt = chat_prompt([{"role": "user", "content": "the river"}])
    assert detokenise(prompt) == "user\nthe river\nassistant\n"


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(UnknownToken, match=f"below {SIZE}"):
        detokenise([SIZE])
