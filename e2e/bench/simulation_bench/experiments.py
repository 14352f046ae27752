"""The matrix: every experiment by name."""

from dataclasses import replace
from typing import Final

from cascade_cli.scenario import Pace, Scenario
from cascade_simulator.policy import Transport
from e2e.bench.simulation_bench.experiment import (
    RELATIVE,
    Axis,
    Experiment,
    Measure,
    Setting,
    Shown,
    axis,
)

OURS: Final = "cascade+handover"
"""What the product does: the plan decides who is asked, the price who gets it, and what runs is
handed over."""
PRICE: Final = "price+handover"
"""The same without a plan."""
BLIND: Final = "least-work"
"""The strongest dispatch that is blind to lengths."""
LLUMNIX: Final = "llumnix-balanced"

AZURE: Final = Setting("azure", (("trace", "azure"),), requests=3.2)
"""Its requests are short: so many more of them pass in the same time."""
MOONCAKE: Final = Setting("mooncake", (("trace", "mooncake"),))
TRACES: Final = (AZURE, MOONCAKE)
EVEN: Final = axis("heterogeneity", 0.0, 0.25, form="cv slope {}")
BASE: Final = Scenario(policy="", requests=2500, transport=Transport.COPY)

MAIN: Final = (LLUMNIX, "dual-pool", "cascade-hard+handover", "cascade", OURS, "price", PRICE)
EVERY: Final = (
    "round-robin",
    "random",
    "least-requests",
    "least-tokens",
    "least-work",
    "least-work+handover",
    "llumnix-dispatch",
    "llumnix",
    "llumnix-balanced",
    "dual-pool",
    "dual-pool+handover",
    "static-split",
    "static-split+handover",
    "cascade-hard",
    "cascade-hard+handover",
    "cascade-hard-price",
    "cascade-hard-price+handover",
    "cascade-refined",
    "cascade-refined+handover",
    "cascade-ratio",
    "cascade-ratio+handover",
    "cascade-overflow",
    "cascade-overflow+handover",
    "cascade",
    "cascade+handover",
    "price",
    "price+handover",
)
ABSOLUTE: Final = (
    Shown("ttft_mean", "mean time to first token, ms", ".0f"),
    Shown("ttft_p99", "p99 time to first token, ms", ".0f"),
    Shown("tpot_mean", "mean time per output token, ms", ".1f"),
    Shown("tpot_p99", "p99 time per output token, ms", ".1f"),
    Shown("e2e_mean", "mean end-to-end time, s", ".2f", 1e-3),
    Shown("e2e_p99", "p99 end-to-end time, s", ".1f", 1e-3),
)


def loads(*values: float) -> Axis:
    """Columns by load; the higher it is, the longer it takes until traffic is steady."""
    return tuple(
        replace(setting, requests=_LENGTH_OF_RUN.get(load, 1.0))
        for load, setting in zip(values, axis("load", *values, form="load {}"), strict=True)
    )


_LENGTH_OF_RUN: Final = {0.3: 0.5, 0.5: 0.7, 0.85: 1.7, 0.95: 2.4}


STATIONARY: Final = Experiment(
    name="stationary",
    title="Steady traffic",
    text="Requests drawn from the whole trace at random, Poisson arrivals, 16 instances, kernels "
    "that do not suffer from uneven lengths. Plans know the distribution.",
    policies=MAIN,
    tables=(TRACES,),
    columns=(loads(0.3, 0.5, 0.7, 0.85, 0.95),),
    base=BASE,
    shown=(
        *RELATIVE,
        Shown("tpot_p99", "p99 time per output token"),
        Shown("within_5x", "requests within 5 times their time on an idle instance", ".1%"),
        Shown("within_20x", "requests within 20 times their time on an idle instance", ".1%"),
    ),
)
UNEVEN: Final = replace(
    STATIONARY,
    name="uneven",
    title="Steady traffic, kernels that suffer from uneven lengths",
    text="The same, with attention slower by 0.25 times the coefficient of variation of the "
    "lengths in the batch, half slower at most.",
    columns=(loads(0.5, 0.7, 0.85),),
    base=replace(BASE, heterogeneity=0.25),
)
POLICIES: Final = Experiment(
    name="policies",
    title="Every policy",
    text="Steady traffic at load 0.7. `+handover`: running sequences are handed over. Three seeds.",
    policies=EVERY,
    columns=(TRACES, EVEN),
    base=BASE,
    seeds=3,
    shown=(
        *RELATIVE,
        Shown("ttft_mean", "mean time to first token"),
        Shown("tpot_mean", "mean time per output token"),
        Shown("normalised_mean", "mean end-to-end time per output token"),
        Shown("handovers", "hand-overs per request", ".2f"),
        Shown("preemptions", "preemptions per 1,000 requests", ".1f"),
        *(replace(shown, words=f"{shown.words} (absolute)") for shown in ABSOLUTE),
    ),
)
COMPRESSED: Final = Experiment(
    name="compressed",
    title="Compressed traces",
    text="The requests in the order of the trace, their times scaled to the load: the mix and the "
    "rate of minutes pass in seconds. Plans know the distribution of the whole trace.",
    policies=(
        LLUMNIX,
        "dual-pool",
        "cascade-hard+handover",
        "cascade-overflow+handover",
        "cascade",
        OURS,
        PRICE,
    ),
    columns=(TRACES, axis("load", 0.5, 0.7, 0.85, form="load {}")),
    base=replace(BASE, pace=Pace.COMPRESSED),
)
DRIFTING: Final = Experiment(
    name="drifting",
    title="Drift at native speed",
    text="Each minute of the trace drawn anew at the rate that the load asks for, on 4 instances: "
    "about 4 minutes of Azure, 20 minutes of Mooncake. Plans know the first sixth; `+replan` and "
    "`cascade` plan anew each minute. Three seeds.",
    policies=(
        LLUMNIX,
        "cascade-hard+handover",
        "cascade-refined+handover",
        "cascade-hard+handover+replan",
        "cascade-overflow+handover+replan",
        OURS,
        PRICE,
    ),
    columns=(
        (
            replace(AZURE, label="azure, 4 min"),
            replace(MOONCAKE, label="mooncake, 20 min"),
        ),
        axis("load", 0.6, 0.8, form="load {}"),
    ),
    base=replace(BASE, pace=Pace.DRIFTING, instances=4, requests=5000),
    seeds=3,
)
PLAN_AGE: Final = Experiment(
    name="plan-age",
    extra=True,
    title="Old plans",
    text="The drifting traffic of above at load 0.8, with plans of different age.",
    policies=("cascade-hard+handover+replan", OURS),
    rows=(
        tuple(
            Setting(f"new plan each {seconds} s", (("tuned", (("replan_seconds", seconds),)),))
            for seconds in (15.0, 60.0, 240.0)
        ),
    ),
    columns=DRIFTING.columns[:1],
    base=replace(DRIFTING.base, load=0.8),
    baseline_as_first=True,
    seeds=3,
)
SCALING: Final = Experiment(
    name="scaling",
    title="Number of instances",
    text="Steady traffic at load 0.7 on 2 to 64 instances; longer runs on more. Three seeds.",
    policies=(LLUMNIX, "cascade-hard+handover", "cascade", OURS, "price", PRICE),
    tables=(TRACES,),
    columns=(
        tuple(
            Setting(
                f"{count} instances",
                (("instances", count),),
                requests=max(1.0, 0.1 * count),
            )
            for count in (2, 4, 8, 16, 32, 64)
        ),
    ),
    base=replace(BASE, requests=1000),
    seeds=3,
)
_CAPACITY_TRACES: Final = (
    Setting("azure", (("trace", "azure"), ("instances", 8)), requests=1.6),
    MOONCAKE,
)
CAPACITY: Final = Experiment(
    name="capacity",
    title="Capacity at the targets",
    text="The highest load at which at least 90 % of the requests have their first token within "
    "2 s and their tokens at the target on average, found by bisection. Steady traffic, 16 "
    "instances for Mooncake and 8 for Azure (the limit is that of an instance, and runs last "
    "twice as long), three seeds.",
    policies=(
        "round-robin",
        BLIND,
        LLUMNIX,
        "dual-pool",
        "cascade-hard+handover",
        OURS,
        PRICE,
    ),
    tables=(EVEN,),
    columns=(_CAPACITY_TRACES, axis("tpot_target_ms", 30.0, 50.0, form="TPOT {:.0f} ms")),
    base=replace(BASE, requests=4000),
    baseline=LLUMNIX,
    shown=(
        Shown("capacity", "capacity"),
        Shown("capacity", "capacity as a load", ".2f"),
    ),
    measure=Measure.CAPACITY,
    seeds=3,
)
PREFIX: Final = Experiment(
    name="prefix",
    title="Prefix caches",
    text="All instances keep the KV of finished prompts; `+prefix` policies know what each holds. "
    "Mooncake in the order of the trace with its block hashes, and multi-turn chat; load 0.7 "
    "as if nothing were cached.",
    policies=(
        LLUMNIX,
        "sticky",
        "least-work+prefix",
        "cascade",
        OURS,
        "cascade+prefix",
        "cascade+handover+prefix",
        "price+prefix",
        "price+handover+prefix",
    ),
    columns=(axis("trace", "mooncake", "chat"),),
    base=replace(BASE, pace=Pace.COMPRESSED, prefix_cache=True),
    shown=(*RELATIVE, Shown("prefilled_share", "prompt tokens computed, of all", ".0%")),
)
TRANSPORTS: Final = Experiment(
    name="transports",
    title="Transports of hand-overs",
    text="Steady traffic at load 0.7; how a running sequence gets to its next instance.",
    policies=(OURS, "cascade-hard+handover"),
    rows=(
        (
            Setting("copy at 25 GB/s", (("transport", Transport.COPY),)),
            Setting("copy at 2.5 GB/s", (("transport", Transport.COPY), ("bytes_per_ms", 2.5e6))),
            Setting("recomputed while warm", (("transport", Transport.WARM),)),
            Setting("recomputed", (("transport", Transport.RECOMPUTE),)),
        ),
    ),
    columns=(TRACES,),
    base=BASE,
    baseline_as_first=True,
    shown=(*RELATIVE, Shown("handovers", "hand-overs per request", ".2f")),
)
STALENESS: Final = Experiment(
    name="staleness",
    extra=True,
    title="Stale state",
    text="Steady traffic at load 0.7; policies see instances as they were up to so long ago, plus "
    "what they sent there since. Against least work with fresh state.",
    policies=(BLIND, OURS, PRICE),
    rows=(tuple(Setting(f"{age} ms", (("stale_ms", float(age)),)) for age in (0, 100, 500, 2000)),),
    columns=(TRACES,),
    base=BASE,
    baseline_as_first=True,
)
BELIEFS: Final = Experiment(
    name="beliefs",
    extra=True,
    title="Wrong coefficients",
    text="Steady traffic at load 0.7; policies and planner believe in another engine than the one "
    "that runs. Against least work with the right one.",
    policies=(OURS,),
    rows=(
        (
            Setting("right", ()),
            Setting("C1 three times", (("believed", (("per_sequence_ms", 3.0),)),)),
            Setting("C2 twice", (("believed", (("per_kv_token_ms", 2.0),)),)),
            Setting("C2 half", (("believed", (("per_kv_token_ms", 0.5),)),)),
            Setting("CP one and a half times", (("believed", (("prefill_ms_per_token", 1.5),)),)),
        ),
    ),
    columns=(TRACES,),
    base=BASE,
    baseline_as_first=True,
)
ABLATIONS: Final = Experiment(
    name="ablations",
    title="What each part brings",
    text="Steady traffic at load 0.7, and the compressed traces; ours with one thing changed.",
    policies=(
        OURS,
        "cascade",
        "cascade+handover+oracle",
        PRICE,
        "cascade-hard-price+handover",
        "cascade-refined+handover",
        "cascade-hard+handover",
    ),
    columns=(TRACES, axis("pace", Pace.STATIONARY, Pace.COMPRESSED)),
    base=BASE,
    tuned=True,
)
TUNING: Final = Experiment(
    name="tuning",
    extra=True,
    title="Bias and slice",
    text="Steady traffic at load 0.7; ours with another bias against foreign stages, or another "
    "number of tokens between two reviews of a sequence.",
    policies=(OURS,),
    rows=(
        (
            Setting("bias 0.05, 64 tokens", ()),
            *(
                Setting(f"bias {bias:g}", (("tuned", (("bias", bias),)),))
                for bias in (0.0, 0.2, 1.0)
            ),
            *(
                Setting(f"{tokens} tokens", (("tuned", (("slice_tokens", tokens),)),))
                for tokens in (16, 256, 1024)
            ),
        ),
    ),
    columns=(TRACES,),
    base=BASE,
    baseline_as_first=True,
    tuned=True,
)
EVEN_LENGTHS: Final = Experiment(
    name="even-lengths",
    title="Even lengths",
    text="Every request has the mean prompt and answer of the Azure trace: nothing to gain by "
    "looking at lengths, so what may be lost?",
    policies=(LLUMNIX, "cascade-hard+handover", OURS, PRICE),
    columns=(loads(0.5, 0.7, 0.85),),
    trace="even",
    base=replace(BASE, requests=6000),
    seeds=3,
)

EXPERIMENTS: Final = (
    STATIONARY,
    UNEVEN,
    POLICIES,
    CAPACITY,
    COMPRESSED,
    DRIFTING,
    PLAN_AGE,
    SCALING,
    PREFIX,
    ABLATIONS,
    TUNING,
    TRANSPORTS,
    STALENESS,
    BELIEFS,
    EVEN_LENGTHS,
)
