"""A request for an engine, before it is known which."""

from dataclasses import dataclass

from cascade_router.passed import Headers


@dataclass(frozen=True, slots=True)
class Outbound:
    """A request for an engine, whichever it will be."""

    path: str
    body: bytes = b""
    headers: Headers = ()
    """Headers of the client that engines may see."""
    method: str = "POST"
