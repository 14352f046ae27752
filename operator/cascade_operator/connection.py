"""How a Prometheus is reached, and to which address the operator's credentials may go."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

TIMEOUT_SECONDS: Final = 5.0
"""How long one answer may take, unless the chart says otherwise."""
HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Connection:
    """An address, and what is needed to ask there.

    Secrets are files, which are read for each reading: what holds them may change at any time.
    """

    url: str
    ca_file: str | None = None
    """Certificates to trust, in PEM, instead of the public authorities."""
    certificate_file: str | None = None
    key_file: str | None = None
    token_file: str | None = None
    username_file: str | None = None
    password_file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers_folder: str | None = None
    """Each file is a header: its name, and as content its value."""
    insecure: bool = False
    """Whether anybody may answer: certificates are not checked."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What every series of this cluster carries there besides namespace and service."""
    timeout_seconds: float = TIMEOUT_SECONDS
    operator_wide: bool = False


def connection_to(url: str, operator_wide: Connection | None) -> Connection:
    """How `url` is reached: with the operator's options if it is the operator's address.

    Any other address is one that a user of a namespace chose, who could have the credentials sent
    to a server of theirs. The port and the path count as well: behind one host name there may be
    servers of several owners.
    """
    if operator_wide is None:
        return Connection(url)
    if _origin(url) == _origin(operator_wide.url):
        return operator_wide
    return Connection(url, timeout_seconds=operator_wide.timeout_seconds)


def _origin(url: str) -> tuple[str, str, int | None, str] | str:
    """Scheme, host, port and path in one spelling; what cannot be parsed equals itself alone."""
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.query or parts.fragment:
            return url
        port = parts.port or _PORTS.get(parts.scheme)
        return parts.scheme, parts.hostname or "", port, parts.path.rstrip("/")
    except ValueError:
        return url
