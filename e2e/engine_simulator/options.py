"""The command line of the engine: vLLM's names where vLLM has the option."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cascade_policy.engine_model import EngineModel, InvalidEngineModel
from cascade_policy.profiles import UnknownProfile, profile
from e2e.engine_simulator.faults import Faults, InvalidFaults

KEEP_ALIVE_VARIABLE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"


class InvalidOption(ValueError):
    """An option has a value that cannot work; the message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything the engine is told at its start. Times in seconds, lengths in tokens."""

    host: str
    port: int
    model: str
    max_length: int
    engine_model: EngineModel
    prefix_caching: bool
    coalesce_percent: int
    keep_alive_seconds: float
    shutdown_seconds: float
    slow_start_seconds: float
    allow_faults: bool
    faults: Faults


def read_options(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """Options from a command line. Raises InvalidOption; exits on `--help` and unknown ones."""
    given = _parser().parse_args(arguments)
    if given.max_length < 2:
        raise InvalidOption(f"--max-length must be at least 2 tokens, not {given.max_length}")
    if not 0 <= given.coalesce_percent <= 100:
        raise InvalidOption(f"--coalesce-percent must be 0 to 100, not {given.coalesce_percent}")
    keep_alive = given.timeout_keep_alive
    if keep_alive is None:
        keep_alive = _seconds(KEEP_ALIVE_VARIABLE, environment.get(KEEP_ALIVE_VARIABLE, "5"))
    try:
        faults = Faults.from_json(json.loads(given.faults))
    except (InvalidFaults, ValueError) as error:
        raise InvalidOption(f"--faults: {error}") from None
    return Options(
        host=given.host,
        port=given.port,
        model=given.model,
        max_length=given.max_length,
        engine_model=_engine_model(given),
        prefix_caching=given.enable_prefix_caching,
        coalesce_percent=given.coalesce_percent,
        keep_alive_seconds=keep_alive,
        shutdown_seconds=given.shutdown_timeout,
        slow_start_seconds=given.slow_start_seconds,
        allow_faults=given.allow_faults,
        faults=faults,
    )


def _engine_model(given: argparse.Namespace) -> EngineModel:
    try:
        model = profile(given.profile)
        coefficients = json.loads(given.coefficients)
        model = EngineModel.from_json({**model.to_json(), **coefficients})
    except UnknownProfile as error:
        raise InvalidOption(f"--profile: {error}") from None
    except (InvalidEngineModel, TypeError, ValueError) as error:
        raise InvalidOption(f"--coefficients: {error}") from None
    if model.kv_capacity_tokens >= given.max_length + model.block_tokens:
        return model
    # One sequence of the greatest length must fit, or it could never run to its end.
    return replace(model, kv_capacity_tokens=given.max_length + model.block_tokens)


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidOption(f"{name} must be a number of seconds, not {text!r}") from None
    if value <= 0:
        raise InvalidOption(f"{name} must be above 0 seconds, not {text}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m e2e.engine_simulator",
        description="An HTTP engine without a GPU that behaves like vLLM where it matters.",
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--model", required=True, help="the model's name, as clients send it")
    parser.add_argument("--max-length", "--max-model-len", type=int, default=32768, help="tokens")
    parser.add_argument("--profile", default="simulated", help="the engine model: what steps cost")
    parser.add_argument(
        "--coefficients", default="{}", help="JSON: coefficients that differ from the profile's"
    )
    parser.add_argument(
        "--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=True
    )
    parser.add_argument(
        "--enable-prompt-tokens-details",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="taken for vLLM's sake: usage always tells the cached tokens",
    )
    parser.add_argument(
        "--coalesce-percent", type=int, default=2, help="tokens that share the next one's event"
    )
    parser.add_argument(
        "--timeout-keep-alive", type=float, help=f"default: ${KEEP_ALIVE_VARIABLE}, or 5 seconds"
    )
    parser.add_argument(
        "--shutdown-timeout", type=float, default=0.0, help="seconds to finish after SIGTERM"
    )
    faults = parser.add_argument_group("faults on purpose")
    faults.add_argument("--slow-start-seconds", type=float, default=0.0, help="503 until then")
    faults.add_argument(
        "--faults",
        default="{}",
        help="JSON: status, statusTimes, retryAfterSeconds, dropTimes, resetAfterTokens, "
        "resetTimes, crashAfterTokens, hang",
    )
    faults.add_argument(
        "--allow-faults", action="store_true", help="POST /simulator/faults changes them"
    )
    return parser
