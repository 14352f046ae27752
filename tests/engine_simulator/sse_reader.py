"""Reads the events of a stream in the tests."""

import json
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Events:
    """The events of one stream, in order; whether it came to its own end."""

    events: list[dict[str, Any]]
    done: bool

    @property
    def choices(self) -> list[dict[str, Any]]:
        return [choice for event in self.events for choice in event["choices"]]

    @property
    def text(self) -> str:
        """Text of completions or of chat."""
        return "".join(
            choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            for choice in self.choices
        )

    @property
    def ids(self) -> list[int]:
        return [number for choice in self.choices for number in choice.get("token_ids") or []]

    @property
    def finish(self) -> tuple[str | None, Any]:
        """(finish_reason, stop_reason) of the last choice."""
        last = self.choices[-1]
        return last["finish_reason"], last.get("stop_reason")


async def stream(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Events:
    """Send a streamed request and read it to its end; lines are split at \\n only."""
    async with client.stream("POST", path, json={"stream": True, **body}) as response:
        assert response.status_code == 200, await response.aread()
        content = await response.aread()
    lines = [line[6:] for line in content.split(b"\n") if line.startswith(b"data: ")]
    done = lines[-1] == b"[DONE]"
    return Events([json.loads(line) for line in lines if line != b"[DONE]"], done)
