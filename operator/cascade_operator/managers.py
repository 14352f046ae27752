"""Who wrote which field of an object, as the API server keeps it in metadata.managedFields.

A field that somebody removed has no owner any more: of that nothing can be known.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cascade_policy import names

Json = Mapping[str, Any]

OURS: Final = frozenset({names.FIELD_MANAGER, names.FIELD_MANAGER_STATUS})
_SELF: Final = "."


@dataclass(frozen=True, slots=True)
class Trace:
    """That a manager other than the operator owns fields of an object."""

    manager: str
    """As its client calls itself: `kubectl-edit`, `helm`, or the name of a controller."""
    time: str
    """When it wrote last, as the API server says it."""
    fields: tuple[str, ...]
    """Paths of the fields, such as `spec.template.spec.containers[engine].image`."""


def traces(item: Json, *path: str) -> tuple[Trace, ...]:
    """What others own at `path` (keys from the object's root) and below it."""
    found = []
    for entry in item["metadata"].get("managedFields") or ():
        below: Any = entry.get("fieldsV1") or {}
        for key in path:
            below = below.get(f"f:{key}") if below else None
        if below is None or entry.get("manager") in OURS:
            continue
        prefix = ".".join(path)
        fields = tuple(_leaves(below, prefix)) or (prefix,)
        found.append(Trace(str(entry.get("manager")), str(entry.get("time")), fields))
    return tuple(found)


def who(found: Iterable[Trace]) -> str:
    """The managers in words; `somebody` when nothing is known."""
    return " and ".join(dict.fromkeys(trace.manager for trace in found)) or "somebody"


def _leaves(fields: Json, prefix: str) -> Iterator[str]:
    for key, below in fields.items():
        if key == _SELF:
            continue
        path = prefix + _step(key)
        if any(inner != _SELF for inner in below):
            yield from _leaves(below, path)
        else:
            yield path


def _step(key: str) -> str:
    """`f:NAME` is a field, `k:{...}` an entry of a list by its key, `v:...` one by its value."""
    kind, _, rest = key.partition(":")
    if kind == "f":
        return f".{rest}"
    try:
        value = json.loads(rest)
    except ValueError:
        return f"[{rest}]"
    values = value.values() if isinstance(value, Mapping) else (value,)
    return f"[{','.join(str(one) for one in values)}]"
