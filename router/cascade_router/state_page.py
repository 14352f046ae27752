"""What a router knows and does at this moment, as JSON for a person in search of a fault.

No content of any request, no key. Lists are cut, so that the page stays small in a pool of
thousands; what is left out is counted.
"""

import math
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any, Final

import msgspec

from cascade_policy.offer import Offer
from cascade_policy.price import price
from cascade_policy.stage_map import StageMap
from cascade_router.channel.target_end import TargetChannels
from cascade_router.config import Config
from cascade_router.connections import Connections
from cascade_router.endpoints import Member
from cascade_router.gate import Gate
from cascade_router.tools import Running, Tools

MAX_LISTED: Final = 256
LEAST_SECONDS: Final = 0.2
"""Between two makings of the page, which takes milliseconds of the event loop."""
NOMINAL_TOKENS: Final = 1024
"""Length of the sequence whose price shows how instances compare."""
_PACKAGES: Final = ("cascadeservice", "httptools", "msgspec", "uvloop")

Shown = dict[str, Any]


class StatePage:
    """Gathers the page. Ages and waits in seconds, lengths in tokens."""

    def __init__(
        self,
        config: Config,
        tools: Tools,
        gate: Gate,
        connections: Connections,
        fronts: TargetChannels,
    ) -> None:
        self._config = config
        self._tools = tools
        self._gate = gate
        self._connections = connections
        self._fronts = fronts
        self._started = tools.loop.time()
        self._page = b""
        self._made_at = -math.inf

    def render(self, wall: float) -> bytes:
        """The page at Unix time `wall`, or that of a moment ago."""
        now = self._tools.loop.time()
        if now - self._made_at >= LEAST_SECONDS:
            self._made_at, self._page = now, self._make(wall, now)
        return self._page

    def _make(self, wall: float, now: float) -> bytes:
        view = self._tools.dispatcher.view
        page = {
            "time": datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds"),
            "router": {
                "pod": self._config.pod_name,
                "address": self._config.address,
                "stage": view.own_stage,
                "up_seconds": _seconds(now - self._started),
                "versions": versions(),
            },
            "draining": self._connections.draining,
            "plan": None if view.stage_map is None else plan(view.stage_map),
            "engine": self._tools.own.describe(),
            "instances": _listed(
                view.members, lambda member: self._instance(member, view.stage_map, now)
            ),
            "queue": self._tools.waiting.describe(now),
            "requests": requests(self._tools.sessions, now),
            "channels": {
                "to_instances": _listed(
                    self._tools.peers.channels(), lambda channel: channel.describe(now)
                ),
                "from_fronts": _listed(self._fronts.open, lambda channel: channel.describe(now)),
            },
            "connections": self._connections.describe(),
            "keys": {"asked_for": self._gate.asks, "count": self._gate.count},
            "limits": self._limits(),
        }
        return msgspec.json.encode(page) + b"\n"

    def _instance(self, member: Member, stage_map: StageMap | None, now: float) -> Shown:
        known = self._tools.dispatcher.offers.last(member.address)
        banned = self._tools.bans.until(member.address)
        offer, at = known if known is not None else (None, now)
        return {
            "name": member.name,
            "address": member.address,
            "stage": member.stage,
            "banned_seconds": None if banned is None else _seconds(max(0.0, banned - now)),
            "offer_age_seconds": None if offer is None else _seconds(now - at),
            "offer": None if offer is None else offer_shown(offer),
            "nominal_price_ms": None if offer is None else nominal_price(offer, stage_map),
        }

    def _limits(self) -> Shown:
        config = self._config
        return {
            "max_waiting": config.max_waiting,
            "max_wait_seconds": config.max_wait_seconds,
            "max_body_bytes": config.max_body_bytes,
            "drain_seconds": config.drain_seconds,
        }


@cache
def versions() -> dict[str, str | None]:
    """What runs here; None for what was not installed as a package."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def plan(stage_map: StageMap) -> Shown:
    """The plan in force."""
    return {
        "id": stage_map.plan_id,
        "time": stage_map.time,
        "boundaries": stage_map.boundaries.value,
        "bias": stage_map.bias,
        "handoff": {
            "enabled": stage_map.handoff.enabled,
            "transport": stage_map.handoff.transport,
            "slice_tokens": stage_map.handoff.slice_tokens,
        },
        "stages": [[stage.min_length, stage.max_length] for stage in stage_map.stages],
    }


def offer_shown(offer: Offer) -> Shown:
    """An offer by the names of its parts."""
    load = offer.load
    return {
        "sequences": load.sequences,
        "kv_tokens": load.kv_tokens,
        "waiting_prefill_ms": round(load.waiting_prefill_ms, 3),
        "prefill_share": round(load.prefill_share, 4),
        "free_tokens": offer.free_tokens,
        "capacity_tokens": offer.capacity_tokens,
        "use": round(offer.use, 4),
        "caching": offer.caching,
    }


def nominal_price(offer: Offer, stage_map: StageMap | None) -> float | None:
    """The price of a new sequence of NOMINAL_TOKENS, as the offer stands; None where there is no
    plan, or no price."""
    if stage_map is None:
        return None
    remaining = stage_map.remaining_at(NOMINAL_TOKENS)
    asked = price(offer.load, stage_map.engine, NOMINAL_TOKENS, remaining, stage_map.tpot_target_ms)
    return round(asked, 3) if math.isfinite(asked) else None


def requests(running: Iterable[Running], now: float) -> Shown:
    """The requests that are under way, the oldest first."""
    ordered = sorted(running, key=lambda one: one.record.started)
    stages = Counter(one.record.stage for one in ordered)
    return {
        "unplaced": stages.pop(None, 0),
        "by_stage": {str(stage): count for stage, count in stages.items()},
        **_listed(ordered, lambda one: request(one, now)),
    }


def request(running: Running, now: float) -> Shown:
    """One request that is under way."""
    record = running.record
    return {
        "request_id": record.request_id,
        "age_seconds": _seconds(now - record.started),
        "path": record.path,
        "streamed": record.streamed,
        "stage": record.stage,
        "instance": None if record.member is None else record.member.name,
        "legs": record.leg_count,
        "handovers": record.handovers,
        "rescues": record.rescues,
        "pinned": None if record.pin is None else record.pin.value,
        "output_tokens": running.tokens,
        "waited_seconds": _seconds(record.waited),
    }


def _listed(items: Sequence[Any] | set[Any], show: Any) -> Shown:
    return {
        "count": len(items),
        "listed": [show(item) for item in islice(items, MAX_LISTED)],
    }


def _seconds(span: float) -> float:
    return round(span, 3)
