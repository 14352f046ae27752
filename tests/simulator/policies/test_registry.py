"""Policies by name."""

import pytest

from cascade_simulator.policies.registry import NAMES, UnknownPolicy, describe, make
from tests.simulator.policies.scripted import setup


def test_names_are_unique_and_each_can_be_made_under_its_own_name() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [make(name, setup(4)).name for name in NAMES] == list(NAMES)


def test_each_is_described_in_one_sentence_of_its_own() -> None:
    sentences = [describe(name) for name in NAMES]
    assert len(set(sentences)) == len(NAMES)
    assert all(one[0].isupper() and one.endswith(".") and "\n" not in one for one in sentences)


def test_modifiers_come_in_any_order() -> None:
    assert make("price+prefix+handover", setup(2)).name == "price+handover+prefix"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("best", id="no such base"),
        pytest.param("price+speed", id="no such modifier"),
        pytest.param("round-robin+prefix", id="a modifier that this base does not take"),
        pytest.param("", id="nothing"),
    ],
)
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownPolicy, match=r"'.*' is not known; .*least-work\[\+handover\]"):
        make(name, setup(2))
    with pytest.raises(UnknownPolicy):
        describe(name)
