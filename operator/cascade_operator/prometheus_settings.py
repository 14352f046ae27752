"""The operator-wide Prometheus, from the environment."""

import re
from collections.abc import Mapping
from typing import Final

from cascade_operator.connection import HEADER_NAME, TIMEOUT_SECONDS, Connection
from cascade_operator.environment import InvalidSettings, seconds, strings, switch

_PREFIX: Final = "CASCADE_PROMETHEUS_"
URL: Final = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#@]*)?")
"""The addresses that the chart and CascadeServices take, too."""
_LABEL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_connection(environment: Mapping[str, str]) -> Connection | None:
    """How to reach it; None without an address. Raises InvalidSettings."""
    url = environment.get(f"{_PREFIX}URL", "")
    if url and not URL.fullmatch(url):
        raise InvalidSettings(
            f"{_PREFIX}URL must have the form http(s)://host[:port][/path]: leave out '?' and '#', "
            "and give user and password as files"
        )

    def file(name: str) -> str | None:
        return environment.get(f"{_PREFIX}{name}") or None

    connection = Connection(
        url=url,
        ca_file=file("CA_FILE"),
        certificate_file=file("CERTIFICATE_FILE"),
        key_file=file("KEY_FILE"),
        token_file=file("TOKEN_FILE"),
        username_file=file("USERNAME_FILE"),
        password_file=file("PASSWORD_FILE"),
        headers=strings(environment, f"{_PREFIX}HEADERS"),
        headers_folder=file("HEADERS_FOLDER"),
        insecure=switch(environment, f"{_PREFIX}INSECURE_SKIP_VERIFY", False),
        labels=strings(environment, f"{_PREFIX}LABELS"),
        timeout_seconds=seconds(environment, f"{_PREFIX}TIMEOUT_SECONDS", TIMEOUT_SECONDS),
        operator_wide=True,
    )
    _check_names(connection)
    _check_pairs(connection)
    return connection if url else None


def risks(connection: Connection | None) -> list[str]:
    """What is allowed, but not advised."""
    if connection is None:
        return []
    found = []
    if connection.insecure:
        found.append("certificates of Prometheus are not checked: anybody may answer for it")
    secrets = (connection.token_file, connection.username_file, connection.headers_folder)
    if connection.url.startswith("http://") and any(secrets):
        found.append("credentials for Prometheus are sent over http, without encryption")
    return found


def _check_names(connection: Connection) -> None:
    for name, value in connection.headers.items():
        plain = value.isascii() and value.isprintable() and value == value.strip()
        if not HEADER_NAME.fullmatch(name) or not plain:
            raise InvalidSettings(
                f"{_PREFIX}HEADERS: {name!r} must be the name of a header, and its value one line "
                "of printable ASCII without spaces around it"
            )
    for name in connection.labels:
        if not _LABEL_NAME.fullmatch(name) or name in ("namespace", "service", "le", "le_length"):
            raise InvalidSettings(
                f"{_PREFIX}LABELS: {name!r} must be the name of a label, and not one of the "
                "routers' own"
            )


def _check_pairs(connection: Connection) -> None:
    """What contradicts itself, or lacks its other half."""
    pairs = {
        ("CERTIFICATE_FILE", "KEY_FILE"): (connection.certificate_file, connection.key_file),
        ("USERNAME_FILE", "PASSWORD_FILE"): (connection.username_file, connection.password_file),
    }
    for (one, other), (first, second) in pairs.items():
        if (first is None) != (second is None):
            raise InvalidSettings(f"{_PREFIX}{one} and {_PREFIX}{other} go together: set both")
    if connection.token_file is not None and connection.username_file is not None:
        raise InvalidSettings(
            f"{_PREFIX}TOKEN_FILE and {_PREFIX}USERNAME_FILE exclude each other: set one"
        )
    if connection.insecure and connection.ca_file is not None:
        raise InvalidSettings(
            f"{_PREFIX}INSECURE_SKIP_VERIFY trusts anybody, {_PREFIX}CA_FILE its authorities "
            "alone: set one"
        )
