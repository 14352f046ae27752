"""Who has been there for long enough."""

from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.steady import STEADY_SECONDS, Steady

POD = frozenset({"pod"})
NOBODY: frozenset[str] = frozenset()


def test_nobody_is_steady_at_first() -> None:
    assert Steady().see(POD, 1e9) == NOBODY


def test_who_was_there_all_the_time_is_steady() -> None:
    steady = Steady()
    steady.see(POD, 0)
    assert steady.see(POD, STEADY_SECONDS - 1) == NOBODY
    assert steady.see(POD | {"new"}, STEADY_SECONDS) == POD


def test_who_was_away_in_between_starts_anew() -> None:
    steady = Steady()
    for now, present in ((0, POD), (100, NOBODY), (140, POD), (200, POD)):
        assert steady.see(present, now) == NOBODY
    assert steady.see(POD, 140 + STEADY_SECONDS) == POD


def test_a_clock_that_is_set_back_makes_nobody_wait_for_it() -> None:
    steady = Steady()
    for now in (1000, 1200, 10, 10 + STEADY_SECONDS / 2):
        steady.see(POD, now)
    assert steady.see(POD, 10 + STEADY_SECONDS) == POD


@given(st.lists(st.tuples(st.floats(0, 100), st.sets(st.sampled_from("abc")))))
def test_only_who_was_seen_each_time_within_the_span_is_steady(
    looks: list[tuple[float, set[str]]],
) -> None:
    steady, now, seen = Steady(), 0.0, list[tuple[float, frozenset[str]]]()
    for pause, present in looks:
        now += pause
        seen.append((now, frozenset(present)))
        found = steady.see(frozenset(present), now)
        within = [names for time, names in seen if time > now - STEADY_SECONDS]
        earlier = [names for time, names in seen if time <= now - STEADY_SECONDS]
        assert found == (earlier[-1].intersection(*within) if earlier else frozenset())
