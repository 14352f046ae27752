"""The traces that come with the project, by short name."""

from pathlib import Path
from typing import Final

from cascade_cli import traces

_FOLDER: Final = Path(__file__).parent
TRACES: Final[dict[str, Path]] = {
    "azure": _FOLDER / "azure_2023_conversation.csv.xz",
    "mooncake": _FOLDER / "mooncake_conversation.jsonl.xz",
}


def read_trace(name: str | Path) -> list[traces.TraceRequest]:
    """The requests of a trace in order of arrival: a key of TRACES, or the path of a file.

    A trace must be whole: the first line that holds no request ends the reading.
    Raises InvalidTrace.
    """
    path = TRACES.get(str(name), Path(name))
    if path not in TRACES.values() and not path.exists():
        raise traces.InvalidTrace(
            f"trace {str(name)!r} is no file and not known: use one of "
            f"{', '.join(sorted(TRACES))}, or the path of a file"
        )
    return traces.read_trace(path)
