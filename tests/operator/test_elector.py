"""Leader election: the decision as a table, and electors against a Lease."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest

from cascade_operator import elector as elector_module
from cascade_operator.cluster import WRITE_SECONDS, ClusterError
from cascade_operator.elector import (
    LEASE_SECONDS,
    LOOK_SECONDS,
    RENEW_DEADLINE_SECONDS,
    REQUEST_SECONDS,
    Elector,
    Sighting,
    Verdict,
    judge,
)
from cascade_operator.kinds import Kind

OTHER = Sighting("other", "then", 100.0)
SELF = Sighting("me", "then", 100.0)


@pytest.mark.parametrize(
    ("case", "leading", "seen", "now", "want"),
    [
        ("no Lease: make it", False, None, 0.0, Verdict.CREATE),
        ("a deleted Lease ends a leadership", True, None, 0.0, Verdict.STEP_DOWN),
        ("another leads", False, OTHER, 101.0, Verdict.WAIT),
        ("another died", False, OTHER, 100.1 + LEASE_SECONDS, Verdict.TAKE),
        ("another released", False, Sighting("", "t", 100.0), 100.0, Verdict.TAKE),
        ("another took it from us", True, OTHER, 500.0, Verdict.STEP_DOWN),
        ("ours", True, SELF, 101.0, Verdict.RENEW),
        ("ours, from before a restart", False, SELF, 101.0, Verdict.RENEW),
    ],
)
def test_judge(case: str, leading: bool, seen: Sighting | None, now: float, want: Verdict) -> None:
    assert judge("me", leading, seen, now) is want, case


def test_a_leader_stops_before_another_may_start() -> None:
    assert RENEW_DEADLINE_SECONDS + REQUEST_SECONDS < LEASE_SECONDS
    assert RENEW_DEADLINE_SECONDS + WRITE_SECONDS <= LEASE_SECONDS


class Leases:
    """One Lease with optimistic locking, which can be cut off."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.away = False
        self.failures: list[ClusterError] = []
        self._versions = itertools.count(1)

    async def get(self, kind: Kind, namespace: str, name: str) -> Mapping[str, Any] | None:
        self._reach(kind, namespace, name)
        return self.lease

    async def create(
        self, kind: Kind, namespace: str, manifest: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        self._reach(kind, namespace, name_of(manifest))
        if self.lease is not None:
            raise ClusterError(409, "AlreadyExists", name_of(manifest))
        return self._store(manifest)

    async def replace(
        self, kind: Kind, namespace: str, name: str, manifest: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        self._reach(kind, namespace, name)
        assert self.lease is not None
        live = self.lease["metadata"]["resourceVersion"]
        if manifest["metadata"]["resourceVersion"] != live:
            raise ClusterError(409, "Conflict", name)
        return self._store(manifest)

    def _store(self, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        version = str(next(self._versions))
        metadata = {**manifest["metadata"], "resourceVersion": version}
        self.lease = {**manifest, "metadata": metadata}
        return self.lease

    def _reach(self, kind: Kind, namespace: str, name: str) -> None:
        assert kind.path(namespace, name).endswith("/system/leases/cascade-operator")
        if self.failures:
            raise self.failures.pop(0)
        if self.away:
            raise ClusterError(0, "Unreachable", "away")

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return str(self.lease["spec"]["holderIdentity"])


def name_of(manifest: Mapping[str, Any]) -> str:
    return str(manifest["metadata"]["name"])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def elector(leases: Leases, identity: str, clock: Clock) -> Elector:
    return Elector(leases, "system", "cascade-operator", identity, clock)


async def test_the_first_leads_and_the_second_waits(clock: Clock) -> None:
    leases = Leases()
    one, two = elector(leases, "one", clock), elector(leases, "two", clock)
    await one.campaign()
    await two._round()
    assert (one.may_write(), two.may_write()) == (True, False)
    assert leases.holder == "one"


async def test_a_dead_leader_is_followed_after_the_lease(clock: Clock) -> None:
    leases = Leases()
    one, two = elector(leases, "one", clock), elector(leases, "two", clock)
    await one.campaign()
    await two._round()
    clock.now += LEASE_SECONDS + 0.1
    assert not one.may_write()
    await two._round()
    assert two.may_write()
    await one._round()
    assert not one.may_write()
    assert leases.holder == "two"


async def test_a_released_lease_is_taken_at_once(clock: Clock) -> None:
    leases = Leases()
    one, two = elector(leases, "one", clock), elector(leases, "two", clock)
    await one.campaign()
    await two._round()
    await one.release()
    assert not one.may_write()
    await two._round()
    assert two.may_write()


async def test_a_lease_is_given_up_although_a_cancelled_renewal_has_arrived(clock: Clock) -> None:
    leases = Leases()
    one, two = elector(leases, "one", clock), elector(leases, "two", clock)
    await one.campaign()
    assert leases.lease is not None
    leases._store(leases.lease)
    await one.release()
    assert leases.holder == ""
    await two._round()
    assert two.may_write()


async def test_a_take_over_that_was_cancelled_is_given_up_too(clock: Clock) -> None:
    leases = Leases()
    await elector(leases, "one", clock).campaign()
    await elector(leases, "one", clock).release()
    assert leases.holder == ""


async def test_the_lease_of_another_is_not_given_up(clock: Clock) -> None:
    leases = Leases()
    await elector(leases, "one", clock).campaign()
    await elector(leases, "two", clock).release()
    assert leases.holder == "one"


async def test_a_candidate_looks_at_the_moment_at_which_a_lease_ends(clock: Clock) -> None:
    leases = Leases()
    one, two = elector(leases, "one", clock), elector(leases, "two", clock)
    await one.campaign()
    await two._round()
    assert two._until_next_look() == LOOK_SECONDS
    clock.now += LEASE_SECONDS - 0.2
    assert two._until_next_look() == pytest.approx(0.2, abs=0.02)
    clock.now += two._until_next_look()
    await two._round()
    assert two.may_write()


async def test_a_leader_that_cannot_renew_writes_no_more(clock: Clock) -> None:
    leases = Leases()
    one = elector(leases, "one", clock)
    await one.campaign()
    leases.away = True
    with pytest.raises(ClusterError):
        await one._round()
    clock.now += RENEW_DEADLINE_SECONDS - 0.1
    assert one.may_write()
    clock.now += 0.2
    assert not one.may_write()
    await one.hold()
    assert not one.may_write()


@pytest.mark.parametrize(
    ("case", "failures", "words"),
    [
        ("a row of failures is said once", [(0, "away")] * 3, ["away"]),
        ("what to do when it is forbidden", [(403, "no")], ["no; give the operator's service"]),
        ("another was faster", [(409, "Conflict")], []),
    ],
)
async def test_a_campaign_says_why_it_fails(
    case: str,
    failures: list[tuple[int, str]],
    words: list[str],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(elector_module, "LOOK_SECONDS", 0.0)
    leases = Leases()
    leases.failures = [ClusterError(status, "", message) for status, message in failures]
    with caplog.at_level("WARNING"):
        await elector(leases, "one", clock).campaign()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(words), case
    for found, wanted in zip(said, words, strict=True):
        assert "system/cascade-operator" in found
        assert wanted in found
