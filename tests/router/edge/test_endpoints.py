"""Who is a member, told as the events that the API server sends."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router.endpoints import MOVE_SECONDS, EndpointBook, Member, read_slice
from tests.router.edge.slices import a_slice, endpoint

A = Member("pod-a", "10.0.0.1:8000", 0)
B = Member("pod-b", "10.0.0.2:8000", 0)
A1 = Member("pod-a", "10.0.0.1:8000", 1)
A_ENTRY, B_ENTRY = endpoint("pod-a", "10.0.0.1"), endpoint("pod-b", "10.0.0.2")


def book(*slices: dict[str, Any]) -> EndpointBook:
    made = EndpointBook("IPv4")
    made.replace(slices, 0.0)
    return made


@pytest.mark.parametrize(
    ("entry", "member"),
    [
        pytest.param(endpoint("p", "10.0.0.9"), True, id="ready"),
        pytest.param(endpoint("p", "10.0.0.9", ready=None), True, id="no readiness given"),
        pytest.param(endpoint("p", "10.0.0.9", ready=False), False, id="not ready"),
        pytest.param(endpoint("p", "10.0.0.9", terminating=True), False, id="terminating"),
        pytest.param({"addresses": ["10.0.0.9"]}, True, id="nothing but an address"),
        pytest.param({"addresses": []}, False, id="no address"),
        pytest.param({}, False, id="nothing"),
    ],
)
def test_who_counts_as_a_member(entry: dict[str, Any], member: bool) -> None:
    assert bool(book(a_slice(0, entry)).members(0.0)) is member


def test_members_are_sorted_by_stage_and_name() -> None:
    far = endpoint("pod-0", "10.0.0.7")
    made = book(a_slice(2, far), a_slice(0, B_ENTRY, A_ENTRY))
    assert made.members(0.0) == (A, B, Member("pod-0", "10.0.0.7:8000", 2))


def test_a_change_of_a_slice_is_taken_over() -> None:
    made = book(a_slice(0, A_ENTRY))
    made.apply(a_slice(0, A_ENTRY, B_ENTRY), 1.0)
    assert made.members(1.0) == (A, B)


def test_readiness_lost_takes_effect_at_once() -> None:
    made = book(a_slice(0, A_ENTRY, B_ENTRY))
    made.apply(a_slice(0, endpoint("pod-a", "10.0.0.1", ready=False), B_ENTRY), 1.0)
    assert made.members(1.0) == (B,)
    assert made.stage_of(A.address, 1.0) == 0


def test_a_terminating_pod_that_then_vanishes_is_not_held() -> None:
    made = book(a_slice(0, endpoint("pod-a", "10.0.0.1", terminating=True)))
    made.apply(a_slice(0), 1.0)
    assert made.members(1.0) == ()
    assert made.expiry() is None


@pytest.mark.parametrize("ready", [True, False, None])
def test_a_pod_that_is_deleted_is_told_apart_from_one_that_is_not_ready(ready: bool | None) -> None:
    going = endpoint("pod-a", "10.0.0.1", ready=ready, terminating=True)
    unready = endpoint("pod-b", "10.0.0.2", ready=False)
    made = book(a_slice(0, going, unready))
    assert made.members(0.0) == ()
    assert made.is_terminating(A.address)
    assert not made.is_terminating(B.address)
    assert not made.is_terminating("10.0.0.3:8000")
    made.apply(a_slice(0, A_ENTRY, B_ENTRY), 1.0)
    assert not made.is_terminating(A.address), "its address is another pod's by now"


def test_a_move_seen_as_in_both_belongs_to_the_newest_slice() -> None:
    made = book(a_slice(0, A_ENTRY), a_slice(1))
    made.apply(a_slice(1, A_ENTRY), 1.0)
    assert made.members(1.0) == (A1,)
    made.apply(a_slice(0, A_ENTRY, B_ENTRY), 1.0)
    assert made.members(1.0) == (B, A1), "a change beside it does not take it back"
    made.apply(a_slice(0, B_ENTRY), 1.1)
    assert made.members(1.1) == (B, A1)


def test_a_move_seen_as_in_neither_keeps_the_old_stage_meanwhile() -> None:
    made = book(a_slice(0, A_ENTRY), a_slice(1))
    made.apply(a_slice(0), 1.0)
    assert made.members(1.019) == (A,)
    assert made.stage_of(A.address, 1.019) == 0
    made.apply(a_slice(1, A_ENTRY), 1.02)
    assert made.members(1.02) == (A1,)
    assert made.expiry() is None


def test_an_address_that_comes_back_nowhere_is_gone_after_a_second() -> None:
    made = book(a_slice(0, A_ENTRY))
    made.apply(a_slice(0), 1.0)
    assert made.expiry() == 1.0 + MOVE_SECONDS
    assert made.members(1.0 + MOVE_SECONDS) == ()
    assert made.stage_of(A.address, 1.0 + MOVE_SECONDS) is None
    made.forget(1.0 + MOVE_SECONDS)
    assert made.expiry() is None


def test_a_deleted_slice_takes_its_members_along_after_a_second() -> None:
    made = book(a_slice(0, A_ENTRY))
    made.remove(a_slice(0), 1.0)
    assert (made.members(1.5), made.members(2.5)) == ((A,), ())


def test_a_new_list_replaces_what_was_known() -> None:
    made = book(a_slice(0, A_ENTRY, name="old"))
    made.replace([a_slice(0, B_ENTRY, name="new")], 5.0)
    assert made.members(5.5) == (A, B)
    assert made.members(6.0) == (B,)


def test_in_a_first_list_the_slice_that_was_written_last_wins() -> None:
    assert book(a_slice(0, A_ENTRY, version=9), a_slice(1, A_ENTRY, version=10)).members(0.0) == (
        A1,
    )


def test_an_address_that_another_pod_inherits_is_that_pod_s() -> None:
    made = book(a_slice(0, A_ENTRY), a_slice(1))
    made.apply(a_slice(1, A_ENTRY), 1.0)
    made.apply(a_slice(0, endpoint("pod-z", "10.0.0.1")), 2.0)
    assert made.members(2.0) == (Member("pod-z", "10.0.0.1:8000", 0),)


def test_slices_of_the_other_address_family_are_passed_over() -> None:
    assert book(a_slice(0, endpoint("p", "fd00::1"), address_type="IPv6")).members(0.0) == ()
    (found,) = read_slice(a_slice(0, endpoint("p", "fd00::1"), address_type="IPv6"), "IPv6")
    assert found.member.address == "[fd00::1]:8000"


def test_the_port_is_the_one_that_is_called_http() -> None:
    (found,) = read_slice(a_slice(0, A_ENTRY, port=9000), "IPv4")
    assert found.member.address == "10.0.0.1:9000"


@pytest.mark.parametrize("stage", [None, "", "x", "-1", "²"])
def test_a_slice_without_a_stage_is_ignored(stage: str | None) -> None:
    item = a_slice(0, A_ENTRY)
    item["metadata"]["labels"]["cascadeservice.dev/stage"] = stage
    assert read_slice(item, "IPv4") == ()


events = st.lists(
    st.tuples(
        st.sampled_from(["apply", "remove", "replace"]),
        st.integers(0, 2),
        st.sets(st.integers(1, 5)),
        st.floats(0, 0.6),
    ),
    max_size=25,
)


@given(events=events)
def test_after_a_quiet_second_members_are_exactly_what_the_slices_list(
    events: list[tuple[str, int, set[int], float]],
) -> None:
    made, now = book(), 0.0
    listed: dict[int, set[int]] = {}
    for verb, stage, hosts, wait in events:
        now += wait
        item = a_slice(stage, *(endpoint(f"p{host}", f"10.0.0.{host}") for host in hosts))
        if verb == "apply":
            made.apply(item, now)
            listed[stage] = hosts
        elif verb == "remove":
            made.remove(item, now)
            listed.pop(stage, None)
        else:
            made.replace([item], now)
            listed = {stage: hosts}
        known = {member.address for member in made.members(now)}
        assert {f"10.0.0.{host}:8000" for hosts in listed.values() for host in hosts} <= known
    members = made.members(now + MOVE_SECONDS)
    addresses = [member.address for member in members]
    assert len(addresses) == len(set(addresses))
    assert {(m.stage, m.address) for m in members} <= {
        (stage, f"10.0.0.{host}:8000") for stage, hosts in listed.items() for host in hosts
    }
    assert set(addresses) == {f"10.0.0.{host}:8000" for hosts in listed.values() for host in hosts}
