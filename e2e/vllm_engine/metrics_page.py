"""What a metrics page consists of, and where two engines' pages differ. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

ENGINE_PREFIX: Final = "vllm:"
_TYPE: Final = re.compile(r"^# TYPE (\S+) (\w+)$", re.MULTILINE)
_SAMPLE: Final = re.compile(r"^([\w:]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_PARTS: Final = ("_bucket", "_sum", "_count", "_created")
CLOSED: Final = ("finished_reason", "le")
"""Labels whose values are part of the contract."""


@dataclass(frozen=True)
class Family:
    """One metric: its type, its labels, the values of those that are a closed set."""

    kind: str
    labels: frozenset[str]
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)


def families(page: str) -> dict[str, Family]:
    """The engine's metrics on a page, by the name that samples have (histograms: without
    suffix)."""
    kinds = dict(_TYPE.findall(page))
    labels: dict[str, set[str]] = {}
    values: dict[str, dict[str, set[str]]] = {}
    for name, text, _ in _SAMPLE.findall(page):
        family = _family_of(name, kinds)
        if not family.startswith(ENGINE_PREFIX) or name.endswith("_created"):
            continue
        found = _LABEL.findall(text)
        labels.setdefault(family, set()).update(label for label, _ in found)
        for label, value in found:
            if label in CLOSED:
                values.setdefault(family, {}).setdefault(label, set()).add(value)
    return {
        family: Family(
            kinds.get(family, "untyped"),
            frozenset(labels[family]),
            {label: frozenset(found) for label, found in values.get(family, {}).items()},
        )
        for family in labels
    }


def page_differences(simulated: str, real: str, used: frozenset[str]) -> Iterator[str]:
    """Sentences about what the simulator's page has otherwise than the real engine's; of what it
    lacks, only the metrics that are `used`."""
    ours, theirs = families(simulated), families(real)
    for name in sorted({*ours, *used}):
        if name not in theirs:
            yield f"{name}: the engine has no such metric"
        elif name not in ours:
            yield f"{name}: the simulator has no such metric"
        else:
            yield from (f"{name}: {words}" for words in _between(ours[name], theirs[name]))


def _between(ours: Family, theirs: Family) -> Iterator[str]:
    if ours.kind != theirs.kind:
        yield f"type {ours.kind} of the simulator, {theirs.kind} of the engine"
    if ours.labels - theirs.labels:
        yield f"labels of the simulator alone: {', '.join(sorted(ours.labels - theirs.labels))}"
    if theirs.labels - ours.labels:
        yield f"labels of the engine alone: {', '.join(sorted(theirs.labels - ours.labels))}"
    for label in CLOSED:
        one, other = ours.values.get(label, frozenset()), theirs.values.get(label, frozenset())
        if one != other:
            here, there = _few(one - other), _few(other - one)
            yield f"values of {label}: {here} of the simulator alone, {there} of the engine alone"


def _few(values: frozenset[str]) -> str:
    return ", ".join(sorted(values)) or "none"


def _family_of(name: str, kinds: Mapping[str, str]) -> str:
    for part in _PARTS:
        base = name.removesuffix(part)
        if base != name and kinds.get(base) in ("histogram", "summary"):
            return base
    return name
