"""Which request fields survive a resumption, as vLLM's do, and which do not."""

from collections.abc import Sequence

import pytest

from e2e.engine_simulator.next_token import advance, state_of
from e2e.engine_simulator.sampler import Sampler, Wishes, bias_of
from e2e.engine_simulator.vocabulary import FOLLOWERS, WORD_IDS, tokenise

PROMPT = tokenise("the river of words is long")
TOKENS = 60
SEAM = 25
FEW_WORDS = WORD_IDS[:40]


def generate(wishes: Wishes, prompt: Sequence[int], tokens: int) -> list[int]:
    sampler, made = Sampler(wishes, prompt), list[int]()
    state, last = state_of(prompt), prompt[-1]
    for generated in range(tokens):
        last = sampler.choose(state, last, generated)
        state = advance(state, last)
        made.append(last)
    return made


def resumed(wishes: Wishes) -> list[int]:
    """The same in two legs."""
    first = generate(wishes, PROMPT, SEAM)
    return first + generate(wishes, [*PROMPT, *first], TOKENS - SEAM)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(),
        Wishes(penalises_all=True),
        Wishes(banned=frozenset(FEW_WORDS)),
        Wishes(allowed=FEW_WORDS),
        Wishes(forced=300),
    ],
    ids=["nothing", "repetition penalty", "bans", "allowed ids", "a forced id"],
)
def test_what_looks_at_the_whole_sequence_survives_a_resumption(wishes: Wishes) -> None:
    assert resumed(wishes) == generate(wishes, PROMPT, TOKENS)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(seed=7),
        Wishes(penalises_output=True),
        Wishes(script=tuple(tokenise("a grammar that begins again at every seam"))),
    ],
    ids=["seed", "presence penalty", "grammar"],
)
def test_what_counts_from_the_beginning_of_the_output_does_not(wishes: Wishes) -> None:
    long = [*PROMPT]
    cut = generate(wishes, long, SEAM)
    uncut = generate(wishes, long, 2000)
    again = generate(wishes, [*long, *cut], 2000 - SEAM)
    assert cut + again != uncut


def test_seeds_give_different_answers_and_the_same_seed_the_same() -> None:
    one, two = (generate(Wishes(seed=seed), PROMPT, TOKENS) for seed in (1, 2))
    assert one != two
    assert one == generate(Wishes(seed=1), PROMPT, TOKENS)


def test_a_penalty_avoids_repetition() -> None:
    plain = generate(Wishes(), PROMPT, 400)
    penalised = generate(Wishes(penalises_output=True), PROMPT, 400)
    begun = [n for n in penalised if n not in FOLLOWERS]
    assert len(set(penalised)) > len(set(plain))
    assert len(begun) > 300


def test_biases_force_and_ban() -> None:
    assert bias_of({5: 100.0, 6: -100.0, 7: 1.0}) == (5, frozenset({6}))
    assert bias_of({7: 1.0}) == (None, frozenset())
    assert bias_of({}) == (None, frozenset())
