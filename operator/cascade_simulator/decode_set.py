"""The sequences that decode on one instance, advanced all at once."""

from collections.abc import Iterator

from cascade_simulator.live_sequence import LiveSequence


class DecodeSet:
    """Sequences that each get one token per step.

    Nothing is done per sequence and step: with n steps made, a sequence is o + n tokens long, so
    that the sums over all lengths follow from the sums over the offsets o. A sequence is looked up
    only at the steps at which it ends or is due for review.
    """

    __slots__ = ("_due", "_members", "_offsets", "_review_tokens", "_squares", "count", "steps")

    def __init__(self, review_tokens: int | None) -> None:
        self.steps = 0
        """n: steps that the instance has made."""
        self.count = 0
        """B."""
        self._review_tokens = review_tokens
        self._offsets = 0
        self._squares = 0
        self._members: dict[LiveSequence, None] = {}
        self._due: dict[int, list[LiveSequence]] = {}

    @property
    def tokens(self) -> int:
        """S: the sum of the lengths."""
        return self._offsets + self.count * self.steps

    @property
    def tokens_squared(self) -> int:
        """The sum of the squared lengths."""
        steps = self.steps
        return self._squares + steps * (2 * self._offsets + self.count * steps)

    def __iter__(self) -> Iterator[LiveSequence]:
        """Oldest first."""
        return iter(self._members)

    def newest(self) -> LiveSequence:
        """The one that joined last."""
        return next(reversed(self._members))

    def add(self, sequence: LiveSequence, length: int) -> None:
        """Let `sequence`, `length` tokens long, take part from the next step on."""
        offset = length - self.steps
        sequence.offset = offset
        sequence.decoding = True
        self.count += 1
        self._offsets += offset
        self._squares += offset * offset
        self._members[sequence] = None
        self.schedule(sequence)

    def remove(self, sequence: LiveSequence) -> None:
        """Take `sequence` out; it keeps the length it has, without a token of a step under way."""
        offset = sequence.offset
        sequence.still_length = offset + self.steps
        sequence.decoding = False
        del self._members[sequence]
        self.count -= 1
        self._offsets -= offset
        self._squares -= offset * offset

    def schedule(self, sequence: LiveSequence) -> None:
        """Note when `sequence` must be looked at next: at its end, or a review before that."""
        length = sequence.offset + self.steps
        ahead = sequence.end_length - length
        every = self._review_tokens
        if every is not None:
            ahead = min(ahead, every - (length - sequence.request.prompt) % every)
        wake = self.steps + ahead
        sequence.wake = wake
        due = self._due.get(wake)
        if due is None:
            self._due[wake] = [sequence]
        else:
            due.append(sequence)

    def advance(self) -> list[LiveSequence]:
        """Make a step: one token each. Returns those that have ended or are due for review."""
        self.steps += 1
        due = self._due.pop(self.steps, None)
        if due is None:
            return []
        # Who left, or left and came back, has an entry that means nothing any more.
        members, steps = self._members, self.steps
        return [one for one in dict.fromkeys(due) if one in members and one.wake == steps]
