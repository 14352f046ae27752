"""The stage map: the operator's plan as the routers read it (ConfigMap key `stagemap.json`).

A wire contract. Unknown fields are ignored, so that an old router can read a newer operator's map;
an unknown format version is refused, and the reader keeps the last map it understood.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cascade_policy.engine_model import EngineModel, InvalidEngineModel

FORMAT_VERSION: Final = 1


class InvalidStageMap(ValueError):
    """The text is no stage map that this version can use; the message says what is wrong."""


class Boundaries(StrEnum):
    """How strictly ranges bind: `soft` makes a foreign instance dearer, `hard` forbids it."""

    SOFT = "soft"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the sequence lengths it serves (tokens, both ends included) and its Service."""

    index: int
    min_length: int
    max_length: int
    service: str


RECOMPUTE: Final = "recompute"
"""The source stops, and the target computes prompt and output so far."""
WARM: Final = "warm"
"""The target computes them while the source goes on; then the source stops."""
COPY: Final = "copy"
"""The KV cache is copied while the source goes on."""
COPY_BYTES_PER_MS: Final = 25e6
"""25 GB/s, what one 200 Gbit/s link carries."""


@dataclass(frozen=True, slots=True)
class Handoff:
    """Whether and how running sequences are handed over."""

    enabled: bool = True
    transport: str = RECOMPUTE
    slice_tokens: int = 64
    """Tokens that a sequence may grow between two decisions about it."""
    copy_bytes_per_ms: float = COPY_BYTES_PER_MS
    """Bandwidth of the transport `copy`."""


@dataclass(frozen=True, slots=True)
class StageMap:
    """What a router needs to know of the plan. Lengths in tokens, times in ms."""

    plan_id: str
    time: str
    """RFC 3339, when the plan was made."""
    model: str
    max_length: int
    engine: EngineModel
    stages: tuple[Stage, ...]
    expected_remaining: tuple[tuple[int, float], ...] = ()
    """(length, tokens): output still to come of a sequence of up to that length, ascending."""
    boundaries: Boundaries = Boundaries.SOFT
    bias: float = 0.05
    handoff: Handoff = Handoff()
    ttft_target_ms: float = 2000.0
    tpot_target_ms: float = 100.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise InvalidStageMap("a stage map needs at least one stage")
        expected = 0
        for position, stage in enumerate(self.stages):
            if stage.index != position:
                raise InvalidStageMap(f"stage {position} carries index {stage.index}")
            if stage.min_length != expected:
                raise InvalidStageMap(
                    f"stage {position} starts at {stage.min_length}, expected {expected}: "
                    "ranges must join without gap or overlap"
                )
            if stage.max_length < stage.min_length:
                raise InvalidStageMap(f"stage {position} ends before it starts")
            expected = stage.max_length + 1
        if self.stages[-1].max_length != self.max_length:
            raise InvalidStageMap(
                f"the last stage ends at {self.stages[-1].max_length}, not at maxLength "
                f"{self.max_length}"
            )

    def stage_of(self, length: int) -> int:
        """Index of the stage that serves `length`; lengths beyond the last belong to the last."""
        position = bisect_left(self.stages, length, key=lambda stage: stage.max_length)
        return min(position, len(self.stages) - 1)

    def remaining_at(self, length: int) -> float:
        """Expected output tokens still to come of a sequence that is `length` tokens long."""
        if not self.expected_remaining:
            return DEFAULT_REMAINING
        position = bisect_left(self.expected_remaining, length, key=lambda pair: pair[0])
        return self.expected_remaining[min(position, len(self.expected_remaining) - 1)][1]

    def dumps(self) -> str:
        """The wire form: JSON with sorted keys, stable for equal maps."""
        return json.dumps(_to_json(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def loads(cls, text: str) -> "StageMap":
        """Read the wire form. Raises InvalidStageMap."""
        try:
            data = json.loads(text, parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError) as error:
            raise InvalidStageMap(f"the stage map is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise InvalidStageMap("the stage map must be a JSON object")
        version = data.get("formatVersion")
        if version != FORMAT_VERSION:
            raise InvalidStageMap(
                f"stage map format {version!r} is not known (this router reads {FORMAT_VERSION})"
            )
        try:
            return _from_json(data)
        except (KeyError, TypeError, ValueError, OverflowError, InvalidEngineModel) as error:
            if isinstance(error, InvalidStageMap):
                raise
            raise InvalidStageMap(f"the stage map is malformed: {error!r}") from error


DEFAULT_REMAINING: Final = 200.0
"""Output tokens assumed before any traffic is known: the mean of public chat traces is near it."""


def _to_json(stage_map: StageMap) -> dict[str, Any]:
    return {
        "formatVersion": FORMAT_VERSION,
        "planId": stage_map.plan_id,
        "time": stage_map.time,
        "model": stage_map.model,
        "maxLength": stage_map.max_length,
        "engine": stage_map.engine.to_json(),
        "expectedRemaining": [
            {"length": length, "tokens": tokens} for length, tokens in stage_map.expected_remaining
        ],
        "boundaries": stage_map.boundaries.value,
        "bias": stage_map.bias,
        "handoff": {
            "enabled": stage_map.handoff.enabled,
            "transport": stage_map.handoff.transport,
            "sliceTokens": stage_map.handoff.slice_tokens,
        }
        | _copying(stage_map.handoff),
        "timeToFirstTokenMs": stage_map.ttft_target_ms,
        "timePerOutputTokenMs": stage_map.tpot_target_ms,
        "stages": [
            {
                "index": stage.index,
                "minLength": stage.min_length,
                "maxLength": stage.max_length,
                "service": stage.service,
            }
            for stage in stage_map.stages
        ],
    }


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number to reckon with")
    return number


def _copying(handoff: Handoff) -> dict[str, float]:
    if handoff.transport != COPY:
        return {}
    return {"copyBytesPerMs": handoff.copy_bytes_per_ms}


def _from_json(data: Mapping[str, Any]) -> StageMap:
    handoff = data["handoff"]
    return StageMap(
        plan_id=str(data["planId"]),
        time=str(data["time"]),
        model=str(data["model"]),
        max_length=int(data["maxLength"]),
        engine=EngineModel.from_json(data["engine"]),
        expected_remaining=tuple(
            sorted(
                (int(pair["length"]), float(pair["tokens"])) for pair in data["expectedRemaining"]
            )
        ),
        boundaries=Boundaries(data["boundaries"]),
        bias=float(data["bias"]),
        handoff=Handoff(
            enabled=bool(handoff["enabled"]),
            transport=str(handoff["transport"]),
            slice_tokens=int(handoff["sliceTokens"]),
            copy_bytes_per_ms=float(handoff.get("copyBytesPerMs", COPY_BYTES_PER_MS)),
        ),
        ttft_target_ms=float(data["timeToFirstTokenMs"]),
        tpot_target_ms=float(data["timePerOutputTokenMs"]),
        stages=_stages(data["stages"]),
    )


def _stages(items: Sequence[Mapping[str, Any]]) -> tuple[Stage, ...]:
    return tuple(
        Stage(
            index=int(item["index"]),
            min_length=int(item["minLength"]),
            max_length=int(item["maxLength"]),
            service=str(item["service"]),
        )
        for item in items
    )
