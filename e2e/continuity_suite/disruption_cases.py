"""Cases in which something ends too early: clients, connections, engines."""

from collections.abc import Iterator
from typing import Any, Final

from e2e.continuity_suite.cases import Case, How
from e2e.continuity_suite.prompts import Prompts
from e2e.continuity_suite.stream_cases import asking

_ENDLESS: Final = {"max_tokens": 3000, "ignore_eos": True}
_LONG: Final = {"max_tokens": 120, "ignore_eos": True}
_SHORT: Final = 12
_USAGE: Final = {"stream_options": {"include_usage": True}}
_KILLED_STREAMS: Final = 8


def disruption_cases(prompts: Prompts) -> Iterator[Case]:
    """All of them."""
    yield from _leaving(prompts)
    yield from _faults(prompts)
    yield from _kills(prompts)


def _leaving(prompts: Prompts) -> Iterator[Case]:
    places = {
        "before any answer": (0,) * 6,
        "after the first tokens": (1, 2, 3, 5, 8, 13),
        "around a hand-over": tuple(range(28, 76, 2)),
        "after hand-overs": (100, 130, 200),
    }
    for where, after in places.items():
        for chat in (False, True):
            kind = "chat" if chat else "completion"
            asks = [prompts.of_length(12 + n % 9, 3, chat=chat) for n in range(len(after))]
            yield Case("clients", f"engines stop when the client of a {kind} leaves {where}",
                       asking(asks, **_ENDLESS), How.LEAVE, leave_after=after)  # fmt: skip
    whole = asking([prompts.of_length(20, 1, chat=False)] * 2, **_ENDLESS, stream=False)
    yield Case("clients", "engines stop when the client of an unstreamed answer leaves",
               whole, How.LEAVE, leave_after=(0, 0))  # fmt: skip


def _faults(prompts: Prompts) -> Iterator[Case]:
    status: tuple[dict[str, Any], ...] = tuple(
        {"status": code, "statusTimes": 1} for code in (500, 503, 429)
    )
    points: dict[str, tuple[dict[str, Any], ...]] = {
        "answers with an error": status,
        "dies before the head of its answer": ({"dropTimes": 1},),
        "dies between head and first token": (_reset(0),),
        "dies at the first token": (_reset(1),),
        "dies in mid-stream": tuple(_reset(tokens) for tokens in (2, 3, 7, 19, 30)),
    }
    for chat in (False, True):
        kind = "chat" if chat else "completion"
        rich = prompts.rich(3, chat=chat)[2:]
        for when, faults in points.items():
            for ids in (False, True):
                asks = asking(rich, **_LONG, return_token_ids=ids)
                more = " with ids" if ids else ""
                yield Case("engines", f"a {kind}{more} goes on when its engine {when}",
                           asks, How.STRIKE, faults=faults)  # fmt: skip
        short = asking(rich, max_tokens=_SHORT, ignore_eos=True, **_USAGE)
        last = (_reset(_SHORT - 1), _reset(_SHORT))
        yield Case("engines", f"a {kind} ends well when its engine dies around its last token",
                   short, How.STRIKE, faults=last)  # fmt: skip
    asks = asking([prompts.of_length(9, 2, chat=False)], **_LONG, stream=False)
    yield Case("engines", "an unstreamed answer is given elsewhere when its engine refuses it",
               asks, How.STRIKE, faults=status)  # fmt: skip


def _reset(tokens: int) -> dict[str, Any]:
    return {"resetAfterTokens": tokens, "resetTimes": 1}


def _kills(prompts: Prompts) -> Iterator[Case]:
    asks = [prompts.of_length(10 + n, n, chat=bool(n % 2)) for n in range(_KILLED_STREAMS)]
    yield Case("kill", f"{_KILLED_STREAMS} streams go on when an engine among theirs is killed",
               asking(asks, max_tokens=1000, ignore_eos=True), How.KILL)  # fmt: skip
