"""`python -m e2e.profiles`: derive the profiles, print what they are, write their files."""

from pathlib import Path
from typing import Final

from e2e.profiles.derivation import Derived, derive
from e2e.profiles.targets import TARGETS

PACKAGED: Final = Path(__file__).parents[2] / "router" / "cascade_policy" / "profiles"

_COLUMNS: Final = (
    *("profile", "GPUs", "C0 ms", "C1 ms", "C2 ms", "CP ms", "CQ ms", "KV tokens"),
    *("decode error %", "full chunk %", "part chunk %"),
)


def main() -> None:
    """Run the command."""
    print(_line(_COLUMNS))
    for target in TARGETS:
        derived = derive(target)
        print(_line(_cells(derived)))
        (PACKAGED / f"{target.profile}.json").write_text(derived.file_text())


def _cells(derived: Derived) -> tuple[str, ...]:
    model, target = derived.model, derived.target
    return (
        target.profile,
        str(target.gpus_per_instance),
        f"{model.base_ms:g}",
        f"{model.per_sequence_ms:g}",
        f"{model.per_kv_token_ms:.2e}",
        f"{model.prefill_ms_per_token:g}",
        f"{model.prefill_ms_per_token_squared:.2e}",
        f"{model.kv_capacity_tokens:,}",
        *(
            f"{100 * error.median:.1f} / {100 * error.largest:.1f}"
            for error in derived.errors.values()
        ),
    )


def _line(cells: tuple[str, ...]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
