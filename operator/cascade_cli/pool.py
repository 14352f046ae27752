"""The pool that a command is asked about: how many instances of which engine.

Shared by the sub-commands, so that the same words mean the same everywhere.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from cascade_cli.errors import BadInput
from cascade_cli.values import positive_int
from cascade_policy.engine_model import EngineModel, InvalidEngineModel

DEFAULT_PROFILE: Final = "h100-8b"
MAX_INSTANCES: Final = 1_000_000
"""More than anybody has."""

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pool:
    """`gpus` GPUs as `instances` engines; what is left over is in `notes`."""

    gpus: int
    gpus_per_instance: int
    engine: EngineModel
    engine_name: str
    """Of the profile, or of the file."""
    engine_about: str
    """Model and GPU, or where else the coefficients are from, in words."""
    notes: tuple[str, ...] = ()

    @property
    def instances(self) -> int:
        """Engines that the GPUs make."""
        return self.gpus // self.gpus_per_instance


def add_pool_arguments(parser: argparse.ArgumentParser) -> None:
    """--gpus, --gpus-per-instance, --profile, --cost-model."""
    group = parser.add_argument_group("the pool")
    group.add_argument(
        "--gpus", type=positive_int, required=True, metavar="N", help="GPUs of the whole pool"
    )
    group.add_argument(
        "--gpus-per-instance",
        type=positive_int,
        metavar="K",
        help="GPUs of one engine (tensor parallelism); default: those of the profile",
    )
    engine = group.add_mutually_exclusive_group()
    engine.add_argument(
        "--profile",
        default=DEFAULT_PROFILE,
        metavar="P",
        help=f"what a step of the engine costs; `cascade profiles` lists them "
        f"(default: {DEFAULT_PROFILE})",
    )
    engine.add_argument(
        "--cost-model",
        type=Path,
        metavar="FILE",
        help="coefficients of your own instead: a profile that `cascade calibrate` wrote, or JSON "
        "like a profile's `coefficients`",
    )


def pool_of(args: argparse.Namespace) -> Pool:
    """The pool that the arguments describe. Raises BadInput."""
    if args.cost_model is not None:
        name, about = str(args.cost_model), "own coefficients"
        engine, per_instance = _own_engine(args.cost_model)
    else:
        document = _document(args.profile)
        name, per_instance = args.profile, int(document["gpusPerInstance"])
        keys = ("engine",) if document["gpu"] == "None" else ("model", "gpu")
        about = ", ".join(document[key] for key in keys)
        engine = EngineModel.from_json(document["coefficients"])
    wanted = args.gpus_per_instance or per_instance or 1
    notes = []
    if wanted != per_instance and per_instance is not None:
        notes.append(
            f"The profile {name} is of {per_instance} GPU{'s' * (per_instance > 1)} per instance, "
            f"not {wanted}: its times will not fit."
        )
    if args.gpus < wanted:
        raise BadInput(f"--gpus {args.gpus} is not one instance of {wanted} GPUs: give more GPUs")
    if args.gpus > wanted * MAX_INSTANCES:
        raise BadInput(f"--gpus {args.gpus} are more than {MAX_INSTANCES:,} instances: give fewer")
    if args.gpus % wanted:
        notes.append(f"{args.gpus % wanted} of {args.gpus} GPUs make no instance of {wanted}.")
    return Pool(args.gpus, wanted, engine, name, about, tuple(notes))


def profile_documents() -> dict[str, JsonObject]:
    """The packaged engine profiles by name, with their sources."""
    folder = resources.files("cascade_policy.profiles")
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {
        file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
        for file in files
        if file.name.endswith(".json")
    }


def _document(name: str) -> Mapping[str, Any]:
    documents = profile_documents()
    if name not in documents:
        raise BadInput(f"--profile {name!r} is not known; use one of {', '.join(documents)}")
    return documents[name]


def _own_engine(path: Path) -> tuple[EngineModel, int | None]:
    """Of a file with coefficients, or with a whole profile, which tells the GPUs it takes."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        per_instance = data.get("gpusPerInstance")
        if per_instance is not None and (type(per_instance) is not int or per_instance < 1):
            raise BadInput(f"--cost-model {path}: gpusPerInstance is no whole number above 0")
        return EngineModel.from_json(data.get("coefficients", data)), per_instance
    except OSError as error:
        raise BadInput(f"--cost-model {path} cannot be read: {error.strerror or error}") from None
    except InvalidEngineModel as error:
        raise BadInput(f"--cost-model {path}: {error}") from None
    except (ValueError, AttributeError, RecursionError) as error:
        raise BadInput(f"--cost-model {path} is no JSON object: {error}") from None
