"""What pytest counted, read from the JUnit files that it writes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Totals:
    """Counts of tests; errors in fixtures count as failures. `reasons` counts skips by reason."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.reasons + other.reasons,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read(path: Path) -> Totals:
    """The counts of one file; none if it does not exist, because pytest never came so far."""
    if not path.exists():
        return Totals()
    passed = failed = 0
    reasons: Counter[str] = Counter()
    for case in ET.parse(path).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skip is not None:
            reasons[skip.get("message", "no reason given")] += 1
        else:
            passed += 1
    return Totals(passed, failed, reasons.total(), reasons)
