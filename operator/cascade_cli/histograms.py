"""Length histograms out of metrics, wherever the metrics are, and the traffic that they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cascade_cli.errors import BadInput, NoTraffic
from cascade_planner.histogram import LengthHistogram
from cascade_policy import names


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics of one kind of exporter that tell lengths."""

    exporter: str
    prompts: str
    """Histogram of prompt lengths."""
    others: str
    """Histogram of output lengths, or of the lengths of whole sequences."""
    others_are_whole: bool
    owner: tuple[str, ...]
    """Labels that name the model or service: two of them must not be mixed."""
    bound: str = "le"


VLLM: Final = Family(
    "vLLM",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    others_are_whole=False,
    owner=("model_name",),
)
OURS: Final = Family(
    "Cascade routers",
    names.METRIC_PROMPT_TOKENS,
    names.METRIC_FINAL_TOKENS,
    others_are_whole=True,
    owner=("namespace", "service"),
)
FAMILIES: Final = (OURS, VLLM)
"""In order of preference: where requests are handed over, vLLM counts each leg as a request."""
DECODED_BOUND: Final = "le_length"
"""Label of our decode counter: the upper end of the bucket, in tokens."""
CACHE_HITS: Final = "vllm:prefix_cache_hits_total"
CACHE_QUERIES: Final = "vllm:prefix_cache_queries_total"

Owner = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """When metrics were counted."""

    seconds: float | None = None
    """Time in which they were, where it is known."""
    age_seconds: float = 0.0
    """Age of the newest sample; infinite where nothing is scraped any more."""


class Metrics(Protocol):
    """Where metrics are looked up; counts, not rates."""

    def owners(self, family: Family) -> Sequence[Owner]:
        """Values of the owner labels that have prompt lengths."""

    def by_bound(self, metric: str, bound: str, family: Family, owner: Owner) -> LengthHistogram:
        """All series of `owner` added up by the label `bound`."""

    def total(self, metric: str, family: Family, owner: Owner) -> float | None:
        """All series of `owner` added up; None without any."""

    def times(self, family: Family, owner: Owner, /) -> Times:
        """When the lengths of `owner` were counted."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """Cumulative counts by length: of prompts, and of whole sequences or else of outputs."""

    prompts: LengthHistogram
    finals: LengthHistogram | None = None
    outputs: LengthHistogram | None = None
    decoded: LengthHistogram | None = None
    """Tokens by the length up to which they were decoded, not cumulative."""
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    """Sums over all requests, where they are known."""
    cached_share: float | None = None
    """Share of the prompt tokens that came from prefix caches, where it is known."""
    times: Times = Times()
    origin: str = "histograms"


def read_metrics(metrics: Metrics, where: str, owner_name: str | None) -> Histograms:
    """The histograms of the one model or service there, or of the one called `owner_name`.

    Raises BadInput when a choice is needed or cannot be made, NoTraffic without any metrics.
    """
    family, owner = _choose(metrics, where, owner_name)
    prompts = metrics.by_bound(f"{family.prompts}_bucket", family.bound, family, owner)
    others = metrics.by_bound(f"{family.others}_bucket", family.bound, family, owner)
    origin = f"{family.exporter}, {'/'.join(owner)}"
    times = metrics.times(family, owner)
    if family is OURS:
        decoded = metrics.by_bound(names.METRIC_DECODE_TOKENS, DECODED_BOUND, family, owner)
        return Histograms(prompts, finals=others, decoded=decoded, times=times, origin=origin)
    hits = metrics.total(CACHE_HITS, family, owner)
    asked = metrics.total(CACHE_QUERIES, family, owner)
    return Histograms(
        prompts,
        outputs=others,
        prompt_tokens=metrics.total(f"{family.prompts}_sum", family, owner),
        output_tokens=metrics.total(f"{family.others}_sum", family, owner),
        cached_share=hits / asked if hits is not None and asked else None,
        times=times,
        origin=origin,
    )


def _choose(metrics: Metrics, where: str, owner_name: str | None) -> tuple[Family, Owner]:
    known = {family: metrics.owners(family) for family in FAMILIES}
    if not any(known.values()):
        raise NoTraffic(
            f"{where} has neither {OURS.prompts} nor {VLLM.prompts}: check that it is of, or "
            "scrapes, the engines, and that --selector is right"
        )
    everything = [(family, owner) for family in FAMILIES for owner in known[family]]
    if owner_name is None:
        preferred = next(family for family in FAMILIES if known[family])
        fitting = [(preferred, owner) for owner in known[preferred]]
    else:
        fitting = [one for one in everything if owner_name in (one[1][-1], "/".join(one[1]))]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(sorted("/".join(owner) for _, owner in fitting or everything))
    problem = f"has no {owner_name!r}" if not fitting else "has several models or services"
    raise BadInput(f"{where} {problem}: name one with --model: {listed}")
