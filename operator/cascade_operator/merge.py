"""Lays a partial pod template over a full one, as a user of Kubernetes expects.

Objects merge key by key; lists of named things merge by their name; other lists and all plain
values are replaced, except that tolerations and pull secrets add to what is there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_LIST_KEYS: Final[dict[str, str | None]] = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "schedulingGates": "name",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": None,
    "tolerations": None,
}
"""Lists that merge: by this key, or, for None, by appending what is not there yet."""


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`; neither is changed. A value of None removes the key."""
    result = dict(base)
    for key, value in over.items():
        present = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(present, Mapping):
            result[key] = merge(present, value)
        elif key in _LIST_KEYS and isinstance(value, list) and isinstance(present, list):
            result[key] = _merge_lists(present, value, _LIST_KEYS[key])
        else:
            result[key] = value
    return result


def _merge_lists(base: Sequence[Any], over: Sequence[Any], key: str | None) -> list[Any]:
    if key is None:
        return [*base, *(item for item in over if item not in base)]
    result = list(base)
    for item in over:
        name = item.get(key) if isinstance(item, Mapping) else None
        at = next(
            (i for i, old in enumerate(result) if name is not None and old.get(key) == name), None
        )
        if at is None:
            result.append(item)
        else:
            result[at] = merge(result[at], item)
    return result
