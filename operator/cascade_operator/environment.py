"""Values of environment variables, each with what is wrong with it."""

import json
from collections.abc import Mapping


class InvalidSettings(ValueError):
    """A variable is missing or malformed; the message names it."""


def seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    """A time from 1 s to a day. Raises InvalidSettings."""
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise InvalidSettings(f"{name} must be a number of seconds, not {text!r}") from None
    if not 1 <= value <= 86400:
        raise InvalidSettings(f"{name} must be between 1 and 86400 seconds, not {text}")
    return value


def switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    """true or false. Raises InvalidSettings."""
    text = environment.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise InvalidSettings(f"{name} must be true or false, not {text!r}")
    return default if not text else text == "true"


def address(environment: Mapping[str, str], name: str, default: str) -> tuple[str, int]:
    """HOST:PORT. Raises InvalidSettings."""
    text = environment.get(name) or default
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidSettings(f"{name} must be HOST:PORT, not {text!r}")
    return host, int(port)


def strings(environment: Mapping[str, str], name: str) -> Mapping[str, str]:
    """A JSON object of strings, which may be secret. Raises InvalidSettings."""
    try:
        found = json.loads(environment.get(name) or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise InvalidSettings(f"{name} must be a JSON object of strings")
    return found
