"""Whether figures that should stay level over a long time grew. Pure."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

RSS_GROWTH_SHARE: Final = 0.02
RSS_GROWTH_MB: Final = 2.0
FILES_GROWTH_SHARE: Final = 0.01
FILES_GROWTH: Final = 32.0
"""Connections come and go while they are counted."""
LEFT_OPEN: Final = 32.0
"""Open files more than before the first stream, after the last one has ended."""


@dataclass(frozen=True)
class Sample:
    """What was read at one moment: seconds since all streams were open, and by process RSS in
    megabytes and open files."""

    seconds: float
    rss_mb: Mapping[str, float]
    open_files: Mapping[str, int]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Sample":
        """From the line that a client wrote."""
        memory = data["memory"]
        return cls(
            data["seconds"],
            {role: one["rss_mb"] for role, one in memory.items()},
            {role: one["open_files"] for role, one in memory.items()},
        )


@dataclass(frozen=True)
class Growth:
    """From the first to the last third of the time after the warm-up, by medians."""

    what: str
    before: float
    after: float
    allowed: float

    @property
    def grew(self) -> bool:
        """Whether it is more than is allowed."""
        return self.after - self.before > self.allowed

    def __str__(self) -> str:
        verdict = "grew" if self.grew else "level"
        return (
            f"{self.what}: {self.before:.1f} to {self.after:.1f}, "
            f"{self.allowed:.1f} more allowed: {verdict}"
        )


@dataclass(frozen=True)
class Verdict:
    """Of a long run."""

    growths: Sequence[Growth] = ()
    faults: Sequence[str] = field(default_factory=tuple)
    """What went wrong, a sentence each."""

    @property
    def passed(self) -> bool:
        """Whether all is well."""
        return not self.faults and not any(growth.grew for growth in self.growths)


def growths(samples: Sequence[Sample], roles: Sequence[str], warm_up: float) -> list[Growth]:
    """Of RSS and open files of these processes. Raises ValueError with fewer than six samples
    after the warm-up."""
    level = [sample for sample in samples if sample.seconds >= warm_up]
    third = len(level) // 3
    if third < 2:
        raise ValueError(f"only {len(level)} samples after a warm-up of {warm_up:g} s")
    found = []
    for role in roles:
        before, after = (
            statistics.median(sample.rss_mb[role] for sample in part)
            for part in (level[:third], level[-third:])
        )
        allowed = max(RSS_GROWTH_MB, RSS_GROWTH_SHARE * before)
        found.append(Growth(f"RSS of the {role}, MB", before, after, allowed))
        before, after = (
            statistics.median(sample.open_files[role] for sample in part)
            for part in (level[:third], level[-third:])
        )
        allowed = max(FILES_GROWTH, FILES_GROWTH_SHARE * before)
        found.append(Growth(f"open files of the {role}", before, after, allowed))
    return found


def faults(end: Mapping[str, Any], roles: Sequence[str]) -> list[str]:
    """What the client's last line tells that should not be: wrong or lost events, files left
    open."""
    found = [f"{count} x {what}" for what, count in end["wrong"].items()]
    if end["lostStreams"]:
        found.append(f"{end['lostStreams']} streams did not end as they should")
    if end["events"] != end["eventsSent"]:
        found.append(f"{end['eventsSent']} events were sent, {end['events']} came")
    for role in roles:
        left = end["memory"][role]["open_files"] - end["before"][role]["open_files"]
        if left > LEFT_OPEN:
            found.append(f"the {role} has {left} files more open than before the first stream")
    return found
