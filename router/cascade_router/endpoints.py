"""Members of the service, read from EndpointSlices. Pure: time is an argument.

The headless Service of each stage has slices of its own, labelled with the stage. A pod that is
relabelled leaves one slice and enters another, in either order: for some milliseconds it is in
both or in neither.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cascade_policy import names
from cascade_router.config import join_address

MOVE_SECONDS: Final = 1.0
"""How long an address that is in no slice counts as being moved. Measured gap: at most 19 ms."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Member:
    """An instance that takes requests: its pod, its router's "ip:port", its stage."""

    name: str
    address: str
    stage: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One entry of a slice; `serving` means ready and not terminating."""

    member: Member
    serving: bool
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class _Claim:
    """That a slice lists an address; the claim with the highest `order` is the newest."""

    order: int
    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class _Held:
    """A member that no slice lists, and since when (seconds)."""

    member: Member
    since: float


class EndpointBook:
    """What the slices say together, and who is a member at a given time."""

    def __init__(self, address_type: str) -> None:
        self._address_type = address_type
        self._claims: dict[str, dict[str, _Claim]] = {}
        self._held: dict[str, _Held] = {}
        self._order = 0

    def replace(self, slices: Iterable[Mapping[str, Any]], now: float) -> None:
        """A new list of all slices; what is not in it does not exist any more."""
        before = self._newest()
        ordered = sorted(slices, key=_version)
        listed = {_name(item) for item in ordered}
        for name in list(self._claims):
            if name not in listed:
                del self._claims[name]
        for item in ordered:
            self._enter(item)
        self._hold(before, now)

    def apply(self, item: Mapping[str, Any], now: float) -> None:
        """A slice that was added or changed."""
        before = self._newest()
        self._enter(item)
        self._hold(before, now)

    def remove(self, item: Mapping[str, Any], now: float) -> None:
        """A slice that was deleted."""
        before = self._newest()
        self._claims.pop(_name(item), None)
        self._hold(before, now)

    def members(self, now: float) -> tuple[Member, ...]:
        """Who takes requests, sorted by stage and name: ready ones, and moves in flight."""
        serving = [found.member for found in self._newest().values() if found.serving]
        moving = [held.member for held in self._held.values() if now < _until(held)]
        return tuple(sorted(serving + moving, key=lambda member: (member.stage, member.name)))

    def stage_of(self, address: str, now: float) -> int | None:
        """The stage of an address, whether it serves or not; None when no slice lists it."""
        found = self._newest().get(address)
        if found is not None:
            return found.member.stage
        held = self._held.get(address)
        return held.member.stage if held is not None and now < _until(held) else None

    def is_terminating(self, address: str) -> bool:
        """Whether the pod of an address is being deleted, as far as a slice tells."""
        found = self._newest().get(address)
        return found is not None and found.terminating

    def expiry(self) -> float | None:
        """When the next address stops counting as being moved; None when none is."""
        return min((_until(held) for held in self._held.values()), default=None)

    def forget(self, now: float) -> None:
        """Let go of the addresses that came back nowhere."""
        self._held = {address: held for address, held in self._held.items() if now < _until(held)}

    def _enter(self, item: Mapping[str, Any]) -> None:
        known = self._claims.get(_name(item), {})
        claims: dict[str, _Claim] = {}
        for endpoint in read_slice(item, self._address_type):
            address = endpoint.member.address
            old = known.get(address)
            if old is not None and old.endpoint.member == endpoint.member:
                claims[address] = _Claim(old.order, endpoint)
            else:
                self._order += 1
                claims[address] = _Claim(self._order, endpoint)
        self._claims[_name(item)] = claims

    def _newest(self) -> dict[str, Endpoint]:
        """Per address, what the slice says that listed it last."""
        newest: dict[str, _Claim] = {}
        for claims in self._claims.values():
            for address, claim in claims.items():
                other = newest.get(address)
                if other is None or claim.order > other.order:
                    newest[address] = claim
        return {address: claim.endpoint for address, claim in newest.items()}

    def _hold(self, before: Mapping[str, Endpoint], now: float) -> None:
        after = self._newest()
        for address, endpoint in before.items():
            if address not in after and endpoint.serving:
                self._held[address] = _Held(endpoint.member, now)
        for address in after:
            self._held.pop(address, None)


def read_slice(item: Mapping[str, Any], address_type: str) -> tuple[Endpoint, ...]:
    """The endpoints of one EndpointSlice; none when it is of another address family or stage-less.

    A missing `ready` condition means ready, as the API defines it.
    """
    if item.get("addressType") != address_type:
        return ()
    stage = (_metadata(item).get("labels") or {}).get(names.LABEL_STAGE, "")
    if not (isinstance(stage, str) and stage.isascii() and stage.isdigit()):
        _log.warning("EndpointSlice %s carries no stage label, ignored", _name(item))
        return ()
    port = _port(item.get("ports") or ())
    endpoints: dict[str, Endpoint] = {}
    for entry in item.get("endpoints") or ():
        for host in (entry.get("addresses") or ())[:1]:
            address = join_address(host, port)
            name = (entry.get("targetRef") or {}).get("name") or address
            member = Member(name, address, int(stage))
            conditions = entry.get("conditions") or {}
            terminating = conditions.get("terminating") is True
            ready = conditions.get("ready") is not False
            endpoints[address] = Endpoint(member, ready and not terminating, terminating)
    return tuple(endpoints.values())


def _port(ports: Iterable[Mapping[str, Any]]) -> int:
    for port in ports:
        number = port.get("port")
        if port.get("name") == names.PORT_NAME and isinstance(number, int):
            return number
    return names.PORT_ROUTER


def _until(held: _Held) -> float:
    return held.since + MOVE_SECONDS


def _metadata(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return item.get("metadata") or {}


def _name(item: Mapping[str, Any]) -> str:
    return str(_metadata(item).get("name", ""))


def _version(item: Mapping[str, Any]) -> int:
    """The order in which slices were written, as far as their resource versions tell."""
    version = str(_metadata(item).get("resourceVersion", ""))
    return int(version) if version.isascii() and version.isdigit() else 0
