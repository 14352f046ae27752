"""What an answer needs of the HTTP exchange that it is written to."""

from typing import Protocol


class Exchange(Protocol):
    """The HTTP exchange that an answer is written to."""

    paused: bool
    """Whether the client reads slower than the engine writes."""

    def send_chunks(self, chunks: bytes) -> None:
        """Send chunks of a chunked body."""

    def end_chunks(self, chunks: bytes) -> None:
        """Send the last chunks and end the answer."""

    def send_json(self, body: bytes) -> None:
        """Send the whole answer."""

    def reset(self) -> None:
        """Cut the connection off."""
