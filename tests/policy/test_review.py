"""Stay or hand over: the paper's rule, the price rule, and what neither may do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.candidates import Candidate
from cascade_policy.load import IDLE, InstanceLoad
from cascade_policy.move import move_ms
from cascade_policy.price import running_price, step_ms
from cascade_policy.profiles import PROFILES
from cascade_policy.review import MARGIN, ReviewReason, review
from cascade_policy.stage_map import Boundaries, Handoff, Stage, StageMap

SOFT = StageMap(
    plan_id="p1",
    time="2026-01-01T00:00:00Z",
    model="m",
    max_length=8192,
    engine=PROFILES["simulated"],
    stages=(Stage(0, 0, 512, "s0"), Stage(1, 513, 2048, "s1"), Stage(2, 2049, 8192, "s2")),
    bias=0.05,
)
HARD = replace(SOFT, boundaries=Boundaries.HARD)
OFF = replace(HARD, handoff=Handoff(enabled=False))


def even(sequences: int, length: int, **changes: float) -> InstanceLoad:
    wire = {
        "b": sequences,
        "s": sequences * length,
        "s2": sequences * length**2,
        "w": 0.0,
        "p": 0.0,
        **changes,
    }
    return InstanceLoad.from_wire(wire)


CROWDED = even(40, 600)
MODEST = even(10, 600)
QUIET = even(2, 600)
FULL = even(64, 600)


@pytest.mark.parametrize(
    ("stage_map", "length", "remaining", "here", "others", "target", "reason"),
    [
        pytest.param(
            HARD, 513, 200, (0, CROWDED), [(1, CROWDED), (1, QUIET), (2, IDLE)], "i1",
            ReviewReason.OUTGROWN, id="hard: what outgrew its stage goes to the cheapest there",
        ),
        pytest.param(
            HARD, 512, 200, (0, CROWDED), [(1, IDLE)], None,
            ReviewReason.IN_RANGE, id="hard: the last length of a stage is still its own",
        ),
        pytest.param(
            HARD, 3000, 200, (0, QUIET), [(1, IDLE), (2, QUIET)], "i1",
            ReviewReason.OUTGROWN, id="hard: a sequence that jumped a stage goes to the right one",
        ),
        pytest.param(
            HARD, 400, 200, (1, CROWDED), [(0, IDLE)], None,
            ReviewReason.IN_RANGE, id="hard: a sequence shorter than its stage is left alone",
        ),
        pytest.param(
            HARD, 600, 200, (0, CROWDED), [(0, IDLE), (2, IDLE)], None,
            ReviewReason.NO_TARGET, id="hard: nobody of the right stage is known",
        ),
        pytest.param(
            HARD, 600, 200, (0, CROWDED), [(1, FULL)], None,
            ReviewReason.NO_ROOM, id="hard: the right stage is full",
        ),
        pytest.param(
            HARD, 600, 15, (0, CROWDED), [(1, IDLE)], None,
            ReviewReason.NEARLY_DONE, id="hard: too little remains to be made",
        ),
        pytest.param(
            OFF, 600, 200, (0, CROWDED), [(1, IDLE)], None,
            ReviewReason.DISABLED, id="hand-over is switched off",
        ),
        pytest.param(
            SOFT, 600, 400, (0, CROWDED), [(1, QUIET)], "i0",
            ReviewReason.OUTGROWN, id="soft: outgrown, and the next stage is much cheaper",
        ),
        pytest.param(
            SOFT, 600, 400, (1, CROWDED), [(1, QUIET)], "i0",
            ReviewReason.CHEAPER, id="soft: in range, but a neighbour is much cheaper",
        ),
        pytest.param(
            SOFT, 600, 400, (0, QUIET), [(1, CROWDED)], None,
            ReviewReason.NOT_WORTH_IT, id="soft: outgrown, but the next stage is dearer",
        ),
        pytest.param(
            SOFT, 600, 20, (0, MODEST), [(1, QUIET)], None,
            ReviewReason.NOT_WORTH_IT, id="soft: the little that remains does not pay for the move",
        ),
        pytest.param(
            SOFT, 600, 400, (0, CROWDED), [(1, FULL)], None,
            ReviewReason.NO_ROOM, id="soft: the others are full",
        ),
        pytest.param(
            SOFT, 600, 400, (0, CROWDED), [], None,
            ReviewReason.NO_TARGET, id="soft: alone in the world",
        ),
    ],
)  # fmt: skip
def test_review(
    stage_map: StageMap,
    length: int,
    remaining: float,
    here: tuple[int, InstanceLoad],
    others: list[tuple[int, InstanceLoad]],
    target: str | None,
    reason: ReviewReason,
) -> None:
    me = Candidate("here", here[0], here[1].plus(length))
    known = [Candidate(f"i{n}", stage, load) for n, (stage, load) in enumerate(others)]
    verdict = review(length, remaining, me, [me, *known], stage_map)
    assert (verdict.move, verdict.target, verdict.reason) == (target is not None, target, reason)
    assert verdict.message


def test_a_move_says_what_it_saves() -> None:
    here, there = Candidate("a", 0, CROWDED.plus(600)), Candidate("b", 1, QUIET)
    assert "b" in review(600, 400, here, [there], SOFT).message


candidates = st.builds(
    Candidate,
    st.sampled_from(["a", "b", "c", "d"]),
    st.integers(0, 2),
    st.builds(
        even,
        st.integers(0, 64),
        st.integers(1, 1800),
        w=st.floats(0, 2000),
        p=st.floats(0, 0.9),
    ),
)


@given(
    here=candidates,
    others=st.lists(candidates, max_size=6),
    length=st.integers(1, 8192),
    remaining=st.floats(0, 2000),
    boundaries=st.sampled_from(Boundaries),
)
def test_a_move_is_never_to_itself_and_always_pays_for_itself(
    here: Candidate,
    others: list[Candidate],
    length: int,
    remaining: float,
    boundaries: Boundaries,
) -> None:
    stage_map = replace(SOFT, boundaries=boundaries)
    me = replace(here, load=here.load.plus(length))
    verdict = review(length, remaining, me, others, stage_map)
    assert verdict.move is (verdict.target is not None)
    if not verdict.move:
        return
    assert verdict.target != me.instance
    if boundaries is Boundaries.HARD:
        assert stage_map.stage_of(length) > me.stage
        return
    model, tpot = stage_map.engine, stage_map.tpot_target_ms
    stay = running_price(here.load, model, length, remaining, tpot) * (1 + 0.05 * 2)
    best = min(
        running_price(one.load, model, length, remaining, tpot)
        + move_ms(one.load, model, length, stage_map.handoff)
        for one in others
        if one.instance != me.instance
    )
    assert best + MARGIN * step_ms(me.load, model) * remaining < stay + 1e-6


@given(load=candidates, length=st.integers(1, 8192), remaining=st.floats(16, 2000))
def test_two_equal_instances_never_swing_a_sequence_between_them(
    load: Candidate, length: int, remaining: float
) -> None:
    me = Candidate("here", load.stage, load.load.plus(length))
    twin = Candidate("twin", load.stage, load.load)
    assert review(length, remaining, me, [twin], SOFT).move is False
