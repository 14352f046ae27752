"""The bench of conversations: what is said is the same for every way, and claims are judged."""

from dataclasses import replace

import pytest

from e2e.bench.chat_bench.conversations import Shape, conversations
from e2e.bench.chat_bench.drive import Talk, Timing
from e2e.bench.chat_bench.figures import Figures, claims, figures_of, ideal_claims, to_json
from e2e.bench.chat_bench.simulated import simulated
from e2e.engine_simulator.vocabulary import tokenise

SHAPE = Shape(seconds=30)
GOOD = Figures(100, 0, 0, 0.3, 1000.0, 100.0, 300.0)


def test_conversations_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert conversations(SHAPE) == conversations(SHAPE)
    assert conversations(SHAPE) != conversations(replace(SHAPE, seed=2))


def test_conversations_have_the_shape_that_was_asked_for() -> None:
    said = conversations(Shape(seconds=300))
    assert len(said) == pytest.approx(480, rel=0.15)
    assert all(len(one.turns) == 6 and one.turns[0].pause == 0 for one in said)
    assert {len(tokenise(one.system)) for one in said} == {300}
    questions = [len(tokenise(turn.question)) for one in said for turn in one.turns]
    assert sum(questions) / len(questions) == pytest.approx(350, rel=0.1)


def test_figures_are_means_and_the_last_percent() -> None:
    talk = Talk(prompt_tokens=1000.0, cached_tokens=750.0, wrong=1)
    talk.timings = [Timing(10, number / 1000, 0.5) for number in range(1, 201)]
    assert figures_of(talk) == Figures(200, 0, 1, 0.25, 500.0, 100.5, 199.0)


@pytest.mark.parametrize(
    ("ours", "holding"),
    [
        pytest.param(GOOD, [True, True, True, True], id="all is as promised"),
        pytest.param(replace(GOOD, lost=1), [False, True, True, True], id="one was lost"),
        pytest.param(
            replace(GOOD, computed_share=0.34), [True, False, True, True], id="too much prefill"
        ),
        pytest.param(
            replace(GOOD, mean_e2e=1150.0), [True, True, False, True], id="slower than sticky"
        ),
    ],
)
def test_claims_are_judged(ours: Figures, holding: list[bool]) -> None:
    others = {
        "sticky": replace(GOOD, mean_e2e=1100.0),
        "blind": replace(GOOD, mean_e2e=1300.0, computed_share=0.8),
    }
    figures = {"ours": ours, **others}
    assert [holds for _, holds in claims(figures)] == holding


def test_a_small_simulated_run_judges_each_rate() -> None:
    ideal = list(simulated(4, (10.0, 20.0), 300, seed=1))
    assert [(one.way, one.per_second) for one in ideal] == [
        (way, rate) for rate in (10.0, 20.0) for way in ("ours", "blind", "sticky")
    ]
    assert all(ideal[n].computed_share < ideal[n + 1].computed_share for n in (0, 3))
    judged = ideal_claims(ideal)
    assert len(judged) == 2
    assert judged[0][0].startswith("simulated at 10/s: ")
    figures = dict.fromkeys(("ours", "sticky", "blind"), GOOD)
    assert len(to_json(figures, ideal)["claims"]) == 6  # type: ignore[arg-type]
