"""The JSON of `cascade plan --json`: for scripts, so names and shapes stay.

Lengths in tokens, times in ms unless the name says seconds, shares from 0 to 1, costs in
request-ms per ms of the objective. Fields may be added, none change.
"""

import json
from dataclasses import asdict
from typing import Any

from cascade_cli.answer import Answer
from cascade_planner.marginals import Dependence
from cascade_planner.plan import Alternative, Forecast, PlannedStage
from cascade_planner.sensitivity import Sensitivity

JsonObject = dict[str, Any]


def json_text(answer: Answer) -> str:
    """The answer as indented JSON."""
    return json.dumps(to_json(answer), indent=2, allow_nan=False)


def to_json(answer: Answer) -> JsonObject:
    """The answer as plain values."""
    plan = answer.plan
    return {
        "source": _source(answer),
        "traffic": _traffic(answer),
        "pool": {
            "gpus": answer.pool.gpus,
            "gpusPerInstance": answer.pool.gpus_per_instance,
            "instances": answer.pool.instances,
            "costModel": answer.pool.engine_name,
            "coefficients": answer.pool.engine.to_json(),
            "maxLength": answer.traffic.max_length,
        },
        "plan": {
            "id": plan.id,
            "stages": [_stage(stage) for stage in plan.stages],
            "cost": plan.cost,
            "gainPercent": plan.gain_percent,
            "gapPercent": plan.gap_percent,
            "predicted": _forecast(plan.forecast),
        },
        "oneStage": {
            "cost": plan.one_stage_cost,
            "predicted": _forecast(plan.one_stage_forecast),
        },
        "bestByStageCount": [_alternative(one, answer) for one in plan.best_by_stage_count],
        "runnerUp": None if plan.runner_up is None else _alternative(plan.runner_up, answer),
        "binding": [str(one) for one in plan.binding],
        "advice": list(answer.advice),
        "sensitivity": _sensitivity(answer.sensitivity),
        "notes": list(answer.notes),
    }


def _source(answer: Answer) -> JsonObject:
    observed = answer.observed
    return {
        "kind": observed.kind,
        "name": observed.name,
        "origin": observed.origin,
        "requests": observed.requests,
        "seconds": observed.seconds,
    }


def _traffic(answer: Answer) -> JsonObject:
    observed = answer.observed
    return {
        "requestsPerSecond": answer.traffic.requests_per_second,
        "load": answer.load,
        "promptTokens": asdict(observed.prompts),
        "outputTokens": asdict(observed.outputs),
        "finalTokens": asdict(observed.wholes),
    }


def _sensitivity(sensitivity: Sensitivity | None) -> JsonObject | None:
    """What becomes of the plan under each dependence of outputs on prompts."""
    if sensitivity is None:
        return None
    return {
        "sentence": sensitivity.sentence,
        "outlooks": [
            {
                "dependence": str(one.dependence),
                "overloads": one.overloads,
                "regretPercent": one.regret_percent[Dependence.INDEPENDENT],
                "predicted": _forecast(one.forecast),
                "oneStagePredicted": _forecast(one.one_stage_forecast),
            }
            for one in sensitivity.outlooks
        ],
    }


def _stage(stage: PlannedStage) -> JsonObject:
    return {
        "minLength": stage.min_length,
        "maxLength": stage.max_length,
        "instances": stage.instances,
        "predicted": _forecast(stage.forecast),
    }


def _forecast(forecast: Forecast | None) -> JsonObject | None:
    if forecast is None:
        return None
    return {
        "ttftMs": forecast.ttft_ms,
        "tpotMs": forecast.tpot_ms,
        "e2eMs": forecast.e2e_ms,
        "load": forecast.load,
        "batch": forecast.batch,
        "kvUse": forecast.kv_use,
    }


def _alternative(one: Alternative, answer: Answer) -> JsonObject:
    return {
        "ends": list(one.partition.ends),
        "instances": list(one.partition.instances),
        "cost": one.cost,
        "gainPercent": 100 * (1 - one.cost / answer.plan.one_stage_cost),
    }
