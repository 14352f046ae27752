"""Session stickiness: a conversation stays where its prefix is."""

from cascade_simulator.policies.least_work import LeastWork
from cascade_simulator.policy import Fleet, Resident


class Sticky:
    """The instance that served the session last; a new session goes where the least work is.

    Requests without a session begin one. Stickiness looks at no load, as usual.
    """

    def __init__(self, otherwise: LeastWork) -> None:
        self._otherwise = otherwise
        self._homes: dict[int, int] = {}

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The session's instance while it is alive."""
        session = sequence.request.session
        home = None if session is None else self._homes.get(session)
        if home is None or not fleet.instances[home].alive:
            home = self._otherwise.place(sequence, fleet)
        if session is not None and home is not None:
            self._homes[session] = home
        return home
