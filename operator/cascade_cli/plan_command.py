"""`cascade plan`: what would you do with my traffic, and what is it worth?"""

import argparse
import sys
from dataclasses import replace

from cascade_cli import traces, values
from cascade_cli.answer import Answer
from cascade_cli.errors import DONE, BadInput
from cascade_cli.histogram_file import read_histograms
from cascade_cli.http_options import headers_of
from cascade_cli.observed import Observed, load_of, scaled, scaled_marginals
from cascade_cli.observed_histograms import observe_histograms
from cascade_cli.plan_json import json_text
from cascade_cli.plan_options import DEFAULT_WINDOW, check_options
from cascade_cli.plan_options import add_arguments as add_arguments
from cascade_cli.plan_output import print_answer
from cascade_cli.pool import Pool, pool_of
from cascade_cli.prometheus import Connection, read_prometheus
from cascade_cli.trace_source import observe_trace
from cascade_planner.histogram import MAX_RATE
from cascade_planner.objective import Objective
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.sensitivity import Sensitivity, compare
from cascade_policy.engine_model import EngineModel
from cascade_prometheus.address import shown


def run(args: argparse.Namespace) -> int:
    """Plan and print; the exit status. Raises CommandError, InvalidTrace."""
    answer = plan(args)
    if args.json:
        print(json_text(answer))
    else:
        print_answer(answer, explain=args.explain)
    return DONE


def plan(args: argparse.Namespace) -> Answer:
    """What the arguments ask for."""
    check_options(args)
    pool = pool_of(args)
    objective = _objective(args)
    options = _plan_options(args, pool.instances)
    observed = _observe(args)
    _check_boundaries(options, observed.traffic.max_length)
    factor = _factor(args, observed, pool.engine, pool.instances)
    traffic = scaled(observed.traffic, factor)
    if not traffic.requests_per_second <= MAX_RATE:
        raise BadInput(
            f"{traffic.requests_per_second:.3g} requests a second are more than any pool gets: "
            "give a lower --rate, --speed or --load"
        )
    sensitivity = _sensitivity(observed, factor, pool, objective, options)
    if sensitivity is None:
        found = solve(traffic, pool.engine, pool.instances, objective, options)
    else:
        found = sensitivity.plan
    load = load_of(traffic, pool.engine, pool.instances)
    return Answer(observed, traffic, load, pool, objective, options, found, sensitivity)


def _sensitivity(
    observed: Observed, factor: float, pool: Pool, objective: Objective, options: PlanOptions
) -> Sensitivity | None:
    if observed.marginals is None:
        return None
    found = compare(
        scaled_marginals(observed.marginals, factor),
        observed.traffic.max_length,
        pool.engine,
        pool.instances,
        objective,
        options,
    )
    return found if isinstance(found, Sensitivity) else None


def _observe(args: argparse.Namespace) -> Observed:
    if args.trace is not None:
        return observe_trace(args.trace, args.max_length, _tell)
    if args.histogram is not None:
        found = read_histograms(args.histogram, args.model)
        name = traces.shown(args.histogram)
        return observe_histograms("histogram", name, found, args.seconds, args.max_length)
    window = args.window or values.duration(DEFAULT_WINDOW)
    connection = Connection(args.prometheus, headers_of(args), args.ca_file)
    found = read_prometheus(connection, window, args.selector or "", args.model)
    name = shown(args.prometheus)
    return observe_histograms("prometheus", name, found, None, args.max_length)


def _tell(line: str) -> None:
    print(f"cascade: {line}", file=sys.stderr)


def _objective(args: argparse.Namespace) -> Objective:
    return Objective(ttft_target_ms=args.ttft, tpot_target_ms=args.tpot)


def _plan_options(args: argparse.Namespace, instances: int) -> PlanOptions:
    if args.boundaries is not None and len(args.boundaries) >= instances:
        raise BadInput(
            f"--boundaries make {len(args.boundaries) + 1} stages, for which {instances} instances "
            "are too few: give fewer boundaries or more GPUs"
        )
    options = PlanOptions(boundaries=args.boundaries, crossing=args.transport)
    return options if args.max_stages is None else replace(options, max_stages=args.max_stages)


def _check_boundaries(options: PlanOptions, max_length: int) -> None:
    if options.boundaries is not None and options.boundaries[-1] >= max_length:
        raise BadInput(
            f"--boundaries: {options.boundaries[-1]} is not below the greatest length, "
            f"{max_length} tokens (--max-length)"
        )


def _factor(
    args: argparse.Namespace, observed: Observed, engine: EngineModel, instances: int
) -> float:
    """By how much the observed traffic is to be faster. Raises BadInput."""
    if args.rate is not None:
        return float(args.rate) / observed.traffic.requests_per_second
    if args.load is not None:
        return float(args.load) / load_of(observed.traffic, engine, instances)
    if observed.seconds is None:
        also = " or --seconds" if observed.kind == "histogram" else ""
        raise BadInput(
            f"{observed.name} does not tell in what time these requests came: say how much traffic "
            f"there is with --rate or --load{also}"
        )
    return float(args.speed)
