"""Ids that clients give their requests, so that the logs of all who see one can be joined.

Engines build ids of their own from them, and some KV connectors of vLLM read the addresses of
other engines out of those (`___prefill_addr_HOST:PORT___decode_addr_...`). So an id that reaches
an engine has letters, digits, dots, hyphens and single underscores only.
"""

import re
from typing import Final

MOST_CHARACTERS: Final = 128

_PLAIN: Final = re.compile(r"(?!.*__)[A-Za-z0-9._-]{1,128}", re.ASCII)
_OTHERS: Final = re.compile(r"__+|[^A-Za-z0-9._-]", re.ASCII)


def is_plain(identity: str) -> bool:
    """Whether an id can reach an engine as it is."""
    return _PLAIN.fullmatch(identity) is not None


def plain(identity: str) -> str:
    """An id that can reach an engine: of what cannot, each piece becomes a hyphen. Empty stays
    empty, and what is longer than MOST_CHARACTERS is cut."""
    return _OTHERS.sub("-", identity)[:MOST_CHARACTERS]
