"""Running sequences move when the router's review says so, and only then."""

from dataclasses import replace

import pytest

from cascade_policy.load import InstanceLoad
from cascade_simulator.options import Links
from cascade_simulator.policies.registry import make
from cascade_simulator.policy import Move, Transport
from tests.simulator.policies.scripted import even, fleet, running, setup, traffic

MIXED = traffic([200, 200, 12_000], [300, 300, 300], per_second=20.0)
CROWDED = even(60, 1500, share=0.6)
QUIET = even(2, 1500)
COPY = Links(transport=Transport.COPY)


@pytest.mark.parametrize(
    ("transport", "generated", "here", "there", "moves"),
    [
        pytest.param("copy", 64, CROWDED, QUIET, True, id="a crowd is left by copying"),
        pytest.param("copy", 1, CROWDED, QUIET, True, id="a copy may follow the first token"),
        pytest.param("copy", 64, QUIET, CROWDED, False, id="nobody walks into a crowd"),
        pytest.param("copy", 64, QUIET, QUIET, False, id="equals do not swing"),
        pytest.param("recompute", 64, CROWDED, QUIET, True, id="a crowd is worth recomputing for"),
        pytest.param(
            "recompute", 1, CROWDED, QUIET, False, id="nobody recomputes what is just computed"
        ),
        pytest.param(
            "recompute", 64, even(6, 1500), QUIET, False, id="a small gain does not pay the work"
        ),
    ],
)
def test_a_sequence_of_about_1500_tokens(
    transport: str, generated: int, here: InstanceLoad, there: InstanceLoad, moves: bool
) -> None:
    links = Links(transport=Transport(transport))
    policy = make("price+handover", replace(setup(2), links=links))
    sequence = running(5, 1500, generated, 0)
    expected = Move(5, 1) if moves else None
    assert policy.review(sequence, fleet(here, there)) == expected


def test_without_the_modifier_nothing_is_reviewed() -> None:
    assert make("price", setup(2)).review_tokens is None
    assert make("price+handover", setup(2)).review_tokens == 64


def test_the_dead_take_nothing() -> None:
    policy = make("price+handover", replace(setup(2), links=COPY))
    cluster = fleet(CROWDED, QUIET)
    cluster.instances[1].alive = False
    assert policy.review(running(5, 1500, 64, 0), cluster) is None


class TestHardStages:
    def test_what_outgrew_its_stage_goes_on_and_what_fits_stays(self) -> None:
        policy = make("cascade-hard+handover", setup(8, MIXED))
        ends, stages = policy.stages()
        cluster = fleet(*[QUIET] * 8)
        grown = policy.review(running(5, 200, ends[0], stages.index(0)), cluster)
        assert grown is not None
        assert stages[grown.target] == 1
        assert policy.review(running(6, 100, 64, stages.index(0)), cluster) is None

    def test_with_overflow_it_stays_where_the_receiver_is_clearly_slower(self) -> None:
        policy = make("cascade-overflow+handover", replace(setup(8, MIXED), links=COPY))
        ends, stages = policy.stages()
        grown = running(5, 200, ends[0], stages.index(0))
        slower = fleet(*[CROWDED if stage else QUIET for stage in stages])
        faster = fleet(*[QUIET if stage else CROWDED for stage in stages])
        assert policy.review(grown, slower) is None
        assert policy.review(grown, faster) is not None


def test_an_oracle_knows_that_a_sequence_is_nearly_done() -> None:
    cluster = fleet(CROWDED, QUIET)
    nearly_done = running(5, 1500, 192, 0, output=200)
    known = replace(setup(2), links=COPY)
    assert make("price+handover", known).review(nearly_done, cluster) == Move(5, 1)
    assert make("price+handover+oracle", known).review(nearly_done, cluster) is None
