"""Addresses of Prometheus servers."""

import re
from typing import Final

_PARTS: Final = re.compile(
    r"""(?P<scheme>https?://)?
        ([^?#]*@)?              # user and password
        (?P<rest>[^@?#]*)
        ([?#][^@]*)?            # query and fragment""",
    re.VERBOSE | re.IGNORECASE,
)


def shown(url: str) -> str:
    """The address as it may be shown: without user, password, query and fragment.

    An '@' behind a '?' or '#' may be of a password or of a query: then nothing is shown.
    """
    found = _PARTS.fullmatch(url)
    return (
        "an address that may hold a secret"
        if found is None
        else (f"{found['scheme'] or ''}{found['rest']}")
    )
