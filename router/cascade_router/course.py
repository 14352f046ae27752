"""The sequence of one request as it is now: its length, what is left to make, whether it may move.

Lengths in tokens.
"""

from cascade_policy.accounting import COMPLETIONS_PATH, Budget, next_leg
from cascade_policy.arrival import Purpose
from cascade_router.answers import Answer
from cascade_router.placing import Placing
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream
from cascade_router.server import ClientConnection
from cascade_router.tools import Tools


class Course:
    """A request and its answer so far, over all legs."""

    def __init__(
        self,
        tools: Tools,
        client: ClientConnection,
        request: Generation,
        answer: Answer,
        placing: Placing,
    ) -> None:
        self.request = request
        self.answer = answer
        self.placing = placing
        self._tools = tools
        self._client = client

    @property
    def length(self) -> int:
        """Of the sequence: prompt, as well as it is known, and output."""
        prompt = self.answer.prompt_tokens
        known = (self.placing.estimate or 0) if prompt is None else prompt
        return known + self.answer.tokens

    @property
    def resumed(self) -> bool:
        """Whether the leg that is made or begun continues another one."""
        return isinstance(self.answer, ResumableStream) and self.answer.leg > 0

    @property
    def purpose(self) -> Purpose:
        """What that leg is for."""
        return Purpose.RESUME if self.resumed else Purpose.FIRST

    @property
    def path(self) -> str:
        """Where it is sent to."""
        return COMPLETIONS_PATH if self.resumed else self.request.path

    @property
    def movable(self) -> bool:
        """Whether the sequence may leave its instance at this moment."""
        return self.answer.resumable and not self._client.slow

    def budget_left(self) -> Budget | None:
        """The client's limits less what is done; None when nothing may be made any more."""
        stage_map, prompt = self._tools.dispatcher.view.stage_map, self.answer.prompt_tokens
        if stage_map is None or prompt is None:
            return None
        return next_leg(self.request.budget(prompt, stage_map.max_length), self.answer.tokens)

    def begin_leg(self) -> bytes | None:
        """The body of the next leg's request; None when there is nothing left to make."""
        answer = self.answer
        answer.begin_leg()
        if not isinstance(answer, ResumableStream) or not answer.leg:
            return self.request.first_leg()
        budget = self.budget_left()
        return None if budget is None else self.request.next_leg(answer.ids(), budget)
