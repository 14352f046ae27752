"""Leader election over a Lease: at most one operator writes.

The decision is pure; the loop around it reads, writes and measures time. A leader stops writing
when its last renewal is older than the renew deadline, whatever it was doing meanwhile: a process
that was suspended wakes up as no leader. Clocks of different machines are never compared: how old
another holder's renewal is counts from when it was seen to change.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final, Protocol

from cascade_operator import kinds
from cascade_operator.cluster import ClusterError
from cascade_operator.kinds import Kind

Json = Mapping[str, Any]

log = logging.getLogger(__name__)

LEASE_SECONDS: Final = 9.0
"""A holder that did not renew for this long is taken to be dead."""
RENEW_DEADLINE_SECONDS: Final = 6.0
"""A leader whose last renewal is older writes no more. Less than the lease by the time that a
write may take to arrive."""
RENEW_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 1.0
"""How often a candidate looks: a Lease that was given up waits so long at most."""
RETRY_SECONDS: Final = 0.5
"""Between a renewal that failed and the next."""
REQUEST_SECONDS: Final = 2.0
_RELEASE_TRIES: Final = 3
_MARGIN_SECONDS: Final = 0.01


class Verdict(Enum):
    """What to do about the Lease."""

    CREATE = auto()
    TAKE = auto()
    RENEW = auto()
    WAIT = auto()
    STEP_DOWN = auto()


@dataclass(frozen=True, slots=True)
class Sighting:
    """The Lease as last read: who holds it, and when (own clock) it was seen to change."""

    holder: str
    renewal: str
    changed_at: float


def judge(identity: str, leading: bool, seen: Sighting | None, now: float) -> Verdict:
    """The next act of the candidate `identity`. `now` is seconds of the clock of `changed_at`."""
    if seen is None:
        return Verdict.STEP_DOWN if leading else Verdict.CREATE
    if seen.holder == identity:
        return Verdict.RENEW
    if leading:
        return Verdict.STEP_DOWN
    if not seen.holder or now - seen.changed_at > LEASE_SECONDS:
        return Verdict.TAKE
    return Verdict.WAIT


class LeaseApi(Protocol):
    """What the elector needs of a cluster: reads, and writes guarded by resourceVersion."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """One object, None if there is none."""

    async def create(self, kind: Kind, namespace: str, manifest: Json) -> Json:
        """Create an object; a conflict if it exists."""

    async def replace(self, kind: Kind, namespace: str, name: str, manifest: Json) -> Json:
        """Replace an object; a conflict if it is not the one that was read."""


class Elector:
    """Campaigns for a Lease. `leading` turns False once and for good: then the process ends."""

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._seen: Sighting | None = None
        self._lease: Json | None = None
        self._renewed_at = -LEASE_SECONDS
        self._leading = False

    def may_write(self) -> bool:
        """Whether this process is certainly still the leader."""
        return self._leading and self._clock() - self._renewed_at < RENEW_DEADLINE_SECONDS

    async def campaign(self) -> None:
        """Return when this process has become the leader."""
        failing = waiting = False
        while not self._leading:
            try:
                await self._round()
                failing = False
                if not self._leading and not waiting:
                    log.info("standing by: %s leads", self._seen.holder if self._seen else "nobody")
                    waiting = True
            except (ClusterError, TimeoutError) as error:
                if not failing and not _overtaken(error):
                    self._warn(error)
                    failing = True
            if not self._leading:
                await asyncio.sleep(self._until_next_look())
        log.info("leading, by Lease %s/%s", self._namespace, self._name)

    async def hold(self) -> None:
        """Renew; return when the leadership is lost."""
        pause = RENEW_SECONDS
        while self.may_write():
            await asyncio.sleep(pause)
            pause = RENEW_SECONDS
            try:
                await self._round()
            except (ClusterError, TimeoutError) as error:
                log.warning("the Lease could not be renewed: %s", str(error) or "no answer in time")
                pause = RETRY_SECONDS
        self._leading = False
        log.warning("no longer leading: another holds the Lease, or it was not renewed in time")

    async def release(self) -> None:
        """Give the Lease up if it is ours, so that another takes over at once.

        Reads it first: a renewal or a take-over that was cancelled may have arrived all the same.
        """
        self._leading = False
        for _ in range(_RELEASE_TRIES):
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    self._look(await self._api.get(kinds.LEASE, self._namespace, self._name))
                    if self._seen is None or self._seen.holder != self._identity:
                        return
                    await self._put("", self._lease)
                    log.info("the Lease is given up")
                    return
            except (ClusterError, TimeoutError) as error:
                if not _overtaken(error):
                    log.warning("the Lease could not be given up: %s", str(error) or "no answer")
                    return

    def _until_next_look(self) -> float:
        """Seconds: not beyond the moment at which the holder that was seen is taken to be dead."""
        if self._seen is None or self._seen.holder in ("", self._identity):
            return LOOK_SECONDS
        left = self._seen.changed_at + LEASE_SECONDS - self._clock()
        return min(LOOK_SECONDS, max(left, 0.0) + _MARGIN_SECONDS)

    def _warn(self, error: Exception) -> None:
        """Said once per row of failures: an operator that waits in silence looks like a standby."""
        forbidden = isinstance(error, ClusterError) and error.status == 403
        hint = (
            "; give the operator's service account get, create and update on leases there"
            if forbidden
            else ""
        )
        log.warning(
            "the Lease %s/%s cannot be read or taken, trying on: %s%s",
            self._namespace,
            self._name,
            str(error) or type(error).__name__,
            hint,
        )

    async def _round(self) -> None:
        """Read the Lease and do what `judge` says."""
        started = self._clock()
        async with asyncio.timeout(REQUEST_SECONDS):
            self._look(await self._api.get(kinds.LEASE, self._namespace, self._name))
        match judge(self._identity, self._leading, self._seen, self._clock()):
            case Verdict.STEP_DOWN:
                self._leading = False
            case Verdict.CREATE | Verdict.TAKE | Verdict.RENEW:
                async with asyncio.timeout(REQUEST_SECONDS):
                    await self._put(self._identity, self._lease)
                self._renewed_at, self._leading = started, True
            case Verdict.WAIT:
                pass

    def _look(self, lease: Json | None) -> None:
        self._lease = lease
        if lease is None:
            self._seen = None
            return
        spec = lease.get("spec", {})
        holder, renewal = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
        if self._seen is None or (self._seen.holder, self._seen.renewal) != (holder, renewal):
            self._seen = Sighting(holder, renewal, self._clock())

    async def _put(self, holder: str, lease: Json | None) -> None:
        """Write the Lease as it was read, with `holder`; a conflict if another was faster."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (lease or {}).get("spec", {})
        same = old.get("holderIdentity") == holder
        spec = {
            **old,
            "holderIdentity": holder,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "renewTime": stamp,
            "acquireTime": old.get("acquireTime", stamp) if same else stamp,
            "leaseTransitions": int(old.get("leaseTransitions", 0)) + (0 if same else 1),
        }
        if lease is None:
            metadata: Json = {"name": self._name, "namespace": self._namespace}
            manifest = {"apiVersion": kinds.LEASE.api_version, "kind": kinds.LEASE.kind}
            self._lease = await self._api.create(
                kinds.LEASE, self._namespace, {**manifest, "metadata": metadata, "spec": spec}
            )
        else:
            self._lease = await self._api.replace(
                kinds.LEASE, self._namespace, self._name, {**lease, "spec": spec}
            )


def _overtaken(error: Exception) -> bool:
    """Whether another candidate was faster, which is no failure."""
    return isinstance(error, ClusterError) and error.conflict
