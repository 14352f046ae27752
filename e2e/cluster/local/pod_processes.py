"""The processes of a pod on this machine's node, found by their control group."""

from pathlib import Path

_PAUSE = "pause"


def processes_of_pod(uid: str, proc: Path = Path("/proc")) -> list[int]:
    """Ids, as this process namespace counts them, of what runs in the containers of a pod. The
    process that only holds its namespaces is left out."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            inside = f"/pod{uid}/" in (entry / "cgroup").read_text()
            if inside and (entry / "exe").readlink().name != _PAUSE:
                found.append(int(entry.name))
        except OSError:
            continue  # it ended meanwhile
    return sorted(found)
