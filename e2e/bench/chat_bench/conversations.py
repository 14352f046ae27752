"""Who says what, and when: the same conversations for every way of routing."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from e2e.engine_simulator.vocabulary import WORD_IDS, detokenise


@dataclass(frozen=True)
class Shape:
    """What conversations look like. Lengths in tokens, times in seconds."""

    seconds: float = 60.0
    sessions_per_second: float = 1.6
    turns: int = 6
    system: int = 300
    """Tokens of the system prompt; there are a few of them, as there are a few applications."""
    applications: int = 4
    question: int = 350
    """Mean length of what a user says."""
    answer: int = 60
    """Mean length of what the model says."""
    pause: float = 1.5
    """Mean time between an answer and the next question."""
    seed: int = 1


@dataclass(frozen=True)
class Turn:
    """One question, the time after the answer before it, and how long its answer will be."""

    pause: float
    question: str
    answer_tokens: int


@dataclass(frozen=True)
class Conversation:
    """One session: when it begins, its system prompt, its turns."""

    number: int
    start: float
    system: str
    turns: tuple[Turn, ...]


def conversations(shape: Shape) -> Sequence[Conversation]:
    """All sessions that begin within the time of the bench, by their beginning."""
    random = Random(shape.seed)
    systems = [_text(random, shape.system) for _ in range(shape.applications)]
    made: list[Conversation] = []
    now = random.expovariate(shape.sessions_per_second)
    while now < shape.seconds:
        turns = tuple(
            Turn(
                pause=random.expovariate(1 / shape.pause) if number else 0.0,
                question=_text(random, _length(random, shape.question)),
                answer_tokens=_length(random, shape.answer),
            )
            for number in range(shape.turns)
        )
        made.append(Conversation(len(made), now, random.choice(systems), turns))
        now += random.expovariate(shape.sessions_per_second)
    return made


def _length(random: Random, mean: int) -> int:
    return max(8, round(random.lognormvariate(0, 0.6) / 1.197 * mean))


def _text(random: Random, tokens: int) -> str:
    return detokenise(random.choices(WORD_IDS, k=tokens))
