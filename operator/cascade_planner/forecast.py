"""What a partition is predicted to bring: delays, load and memory, by stage and over all."""

from dataclasses import dataclass

from cascade_planner.stage_cost import StageState, StageWork


@dataclass(frozen=True, slots=True)
class Forecast:
    """Predicted means at the observed rates. Times in ms."""

    ttft_ms: float
    tpot_ms: float
    e2e_ms: float
    """Of a whole plan: of a request. Of a stage: of a sequence's visit there."""
    load: float
    """Share of the time that the work takes; stable below 1. This and what follows are of one
    instance; of a whole plan, each in the stage where it is greatest."""
    batch: float
    """Sequences that decode at a time."""
    kv_use: float
    """Share of the KV cache that they fill."""


def stage_forecasts(work: StageWork, state: StageState) -> tuple[Forecast, ...]:
    """What each stage will see."""
    visits = work.arrivals + work.crossings
    forecasts = []
    for i in range(len(visits)):
        entering = float(work.arrivals[i] * state.ttft[i] + work.crossings[i] * state.crossing[i])
        decoding = float(work.decode[i] * state.tpot[i])
        forecasts.append(
            Forecast(
                ttft_ms=float(state.ttft[i]),
                tpot_ms=float(state.tpot[i]),
                e2e_ms=(entering + decoding) / float(visits[i]) if visits[i] > 0 else 0.0,
                load=float(state.load[i]),
                batch=float(state.batch[i]),
                kv_use=float(state.kv_use[i]),
            )
        )
    return tuple(forecasts)


def mean_forecast(work: StageWork, state: StageState) -> Forecast:
    """What requests will see over all stages together."""
    requests, tokens = float(work.arrivals.sum()), float(work.decode.sum())
    first = float((work.arrivals * state.ttft).sum())
    decoding = float((work.decode * state.tpot).sum())
    crossing = float((work.crossings * state.crossing).sum())
    return Forecast(
        ttft_ms=first / requests,
        tpot_ms=decoding / tokens if tokens > 0 else float(state.tpot.max()),
        e2e_ms=(first + decoding + crossing) / requests,
        load=float(state.load.max()),
        batch=float(state.batch.max()),
        kv_use=float(state.kv_use.max()),
    )
