"""The metrics page as Prometheus reads it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from cascade_policy import names
from cascade_policy.arrival import Purpose
from cascade_policy.grid import length_grid
from cascade_policy.pins import Pin
from cascade_policy.profiles import profile
from cascade_policy.stage_map import RECOMPUTE, WARM, Stage, StageMap
from cascade_policy.step_window import MOMENT_NAMES, Window
from cascade_router.engine_metrics import EngineMetrics
from cascade_router.exposition import Page
from cascade_router.metrics import Metrics
from cascade_router.outcomes import HandoverOutcome, Outcome, RescueOutcome

MAX_LENGTH = 4096
GRID = length_grid(MAX_LENGTH)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def metrics(max_length: int = MAX_LENGTH) -> Metrics:
    page = Metrics()
    page.use(plan(max_length))
    return page


def plan(max_length: int) -> StageMap:
    stage = Stage(0, 0, max_length, "s")
    targets = {"ttft_target_ms": 500.0, "tpot_target_ms": 30.0}
    model = profile("simulated")
    return StageMap("p", "t", "m", max_length, model, (stage,), **targets)  # type: ignore[arg-type]


def text(metrics: Metrics | EngineMetrics) -> str:
    page = Page({"namespace": "team-a", "service": "llama"})
    metrics.render(page)
    return page.text().decode()


def read(page: Metrics | EngineMetrics) -> Samples:
    """All samples by name and labels, without the two that every sample carries."""
    found: Samples = {}
    for family in text_string_to_metric_families(text(page)):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("namespace") == "team-a"
            assert labels.pop("service") == "llama"
            key = (sample.name, tuple(sorted(labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def one(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def finished(page: Metrics, outcome: Outcome, prompt: int | None, final: int | None) -> None:
    page.request_started()
    page.request_finished(outcome, prompt, final, 0, ttft=0.1, tpot=0.02, e2e=3.0)


def test_a_new_page_can_be_read_before_any_stage_map_came() -> None:
    samples = read(Metrics())
    assert one(samples, names.METRIC_IN_FLIGHT) == 0
    assert one(samples, names.METRIC_PROMPT_TOKENS + "_count") == 0


def test_every_counter_of_a_closed_set_starts_at_zero() -> None:
    samples = read(metrics())
    for outcome in Outcome:
        assert one(samples, names.METRIC_REQUESTS, outcome=outcome.value) == 0
    for pin in Pin:
        assert one(samples, names.METRIC_PINS, reason=pin.value) == 0
    for bound in GRID:
        assert one(samples, names.METRIC_DECODE_TOKENS, le_length=str(bound)) == 0


def test_every_metric_that_has_a_name_is_on_the_page() -> None:
    page = metrics()
    finished(page, Outcome.COMPLETED, 10, 20)
    both = text(page) + text(EngineMetrics())
    families = {family.name for family in text_string_to_metric_families(both)}
    wanted = {value for key, value in vars(names).items() if key.startswith("METRIC_")}
    assert {name.removesuffix("_total") for name in wanted} == families


def test_a_finished_request_is_observed_by_both_lengths_and_its_times() -> None:
    page = metrics()
    finished(page, Outcome.COMPLETED, 100, 300)
    samples = read(page)
    assert one(samples, names.METRIC_PROMPT_TOKENS + "_sum") == 100
    assert one(samples, names.METRIC_FINAL_TOKENS + "_sum") == 300
    assert one(samples, names.METRIC_TTFT_SECONDS + "_sum", stage="0") == 0.1
    assert one(samples, names.METRIC_TPOT_SECONDS + "_sum", stage="0") == 0.02
    assert one(samples, names.METRIC_E2E_SECONDS + "_count", stage="0") == 1
    assert one(samples, names.METRIC_REQUESTS, outcome="completed") == 1


@pytest.mark.parametrize(
    ("outcome", "prompt", "final", "observed"),
    [
        pytest.param(Outcome.COMPLETED, 10, 20, 1, id="completed"),
        pytest.param(Outcome.CANCELLED, 10, 20, 1, id="cancelled, with what was made"),
        pytest.param(Outcome.REJECTED, 10, 10, 0, id="rejected"),
        pytest.param(Outcome.FAILED, 10, 20, 0, id="failed"),
        pytest.param(Outcome.COMPLETED, None, 20, 0, id="of unknown prompt length"),
        pytest.param(Outcome.COMPLETED, 10, None, 0, id="of unknown final length"),
    ],
)
def test_the_two_length_histograms_describe_the_same_requests(
    outcome: Outcome, prompt: int | None, final: int | None, observed: int
) -> None:
    page = metrics()
    finished(page, outcome, prompt, final)
    samples = read(page)
    assert one(samples, names.METRIC_PROMPT_TOKENS + "_count") == observed
    assert one(samples, names.METRIC_FINAL_TOKENS + "_count") == observed


def test_requests_in_flight_come_back_to_zero() -> None:
    page = metrics()
    page.request_started()
    page.request_started()
    assert one(read(page), names.METRIC_IN_FLIGHT) == 2
    for outcome in (Outcome.FAILED, Outcome.REJECTED):
        page.request_finished(outcome, None, None, None, None, None, 0.0)
    assert one(read(page), names.METRIC_IN_FLIGHT) == 0


def test_hand_overs_pins_and_rescues_are_counted_by_their_labels() -> None:
    page = metrics()
    page.handover(HandoverOutcome.COMPLETED, RECOMPUTE)
    page.handover(HandoverOutcome.REFUSED, WARM)
    page.handover_gap(0.03, WARM)
    page.pinned(Pin.TOOLS)
    page.rescued(RescueOutcome.FAILED)
    page.out_of_stage()
    samples = read(page)
    completed = {"outcome": "completed", "transport": "recompute"}
    assert one(samples, names.METRIC_HANDOVERS, **completed) == 1
    assert one(samples, names.METRIC_HANDOVERS, outcome="refused", transport="warm") == 1
    gap = names.METRIC_HANDOVER_GAP_SECONDS + "_bucket"
    assert one(samples, gap, le="0.05", transport="warm") == 1
    assert one(samples, gap, le="0.025", transport="warm") == 0
    assert one(samples, gap, le="+Inf", transport="recompute") == 0
    assert one(samples, names.METRIC_PINS, reason="tools") == 1
    assert one(samples, names.METRIC_RESCUES, outcome="failed") == 1
    assert one(samples, names.METRIC_OUT_OF_STAGE) == 1


def test_a_length_on_a_bound_belongs_below_it() -> None:
    page = metrics()
    finished(page, Outcome.COMPLETED, GRID[3], GRID[3] + 1)
    samples = read(page)
    bound = {"le": str(float(GRID[3]))}
    assert one(samples, names.METRIC_PROMPT_TOKENS + "_bucket", **bound) == 1
    assert one(samples, names.METRIC_FINAL_TOKENS + "_bucket", **bound) == 0


lengths = st.integers(0, MAX_LENGTH + 500)


@given(requests=st.lists(st.tuples(lengths, lengths).map(sorted), max_size=20))
def test_buckets_are_cumulative_and_right(requests: list[list[int]]) -> None:
    page = metrics()
    for prompt, final in requests:
        finished(page, Outcome.COMPLETED, prompt, final)
    samples = read(page)
    for column, name in enumerate((names.METRIC_PROMPT_TOKENS, names.METRIC_FINAL_TOKENS)):
        for bound in GRID:
            wanted = sum(request[column] <= bound for request in requests)
            assert one(samples, name + "_bucket", le=str(float(bound))) == wanted
        assert one(samples, name + "_bucket", le="+Inf") == len(requests)


def in_bucket(bound: int, start: int, end: int) -> int:
    """Tokens at lengths start+1..end in the bucket that ends at `bound`, one by one."""
    position = GRID.index(bound)
    lower = GRID[position - 1] if position else -1
    upper = bound if position < len(GRID) - 1 else end + 1
    return sum(lower < length <= upper for length in range(start + 1, end + 1))


@given(growth=st.tuples(lengths, lengths).map(sorted))
def test_decoded_tokens_count_at_the_length_they_were_made(growth: list[int]) -> None:
    start, end = growth
    page = metrics()
    page.decoded(start, end)
    samples = read(page)
    for bound in GRID:
        wanted = in_bucket(bound, start, end)
        assert one(samples, names.METRIC_DECODE_TOKENS, le_length=str(bound)) == wanted


@given(cuts=st.lists(lengths, min_size=2, max_size=8).map(sorted))
def test_decoded_tokens_do_not_depend_on_how_often_they_are_reported(cuts: list[int]) -> None:
    once, often = metrics(), metrics()
    once.decoded(cuts[0], cuts[-1])
    for start, end in pairwise(cuts):
        often.decoded(start, end)
    assert text(once) == text(often)


def test_the_same_maximum_again_keeps_the_counts() -> None:
    page = metrics()
    finished(page, Outcome.COMPLETED, 10, 20)
    page.use(plan(MAX_LENGTH))
    assert one(read(page), names.METRIC_PROMPT_TOKENS + "_count") == 1
    page.use(plan(2 * MAX_LENGTH))
    assert one(read(page), names.METRIC_PROMPT_TOKENS + "_count") == 0


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline"])
def test_label_values_are_escaped(name: str) -> None:
    page = Page({"service": name})
    page.gauge("up", "Whether.", 1)
    (family,) = text_string_to_metric_families(page.text().decode())
    assert family.samples[0].labels["service"] == name


def test_prefill_counts_what_was_computed_by_prompt_length() -> None:
    page = metrics()
    model = profile("simulated")
    page.prefilled(GRID[3], 0)
    page.prefilled(GRID[3], GRID[3] - 1)
    page.prefilled(10 * MAX_LENGTH, 99 * MAX_LENGTH)
    samples = read(page)
    bound = {"le_prompt": str(GRID[3])}
    whole, rest = (model.prefill_ms(GRID[3], cached) / 1000 for cached in (0, GRID[3] - 1))
    assert one(samples, names.METRIC_PREFILL_TOKENS, **bound) == GRID[3] + 1
    assert one(samples, names.METRIC_PREFILL_SECONDS, **bound) == pytest.approx(whole + rest)
    squares = one(samples, names.METRIC_PREFILL_SECONDS_SQUARED, **bound)
    assert squares == pytest.approx(whole**2 + rest**2)
    assert one(samples, names.METRIC_CACHED_TOKENS) == GRID[3] - 1 + 10 * MAX_LENGTH


def test_targets_are_judged_by_request() -> None:
    page = metrics()
    finished(page, Outcome.COMPLETED, 10, 20)
    page.request_started()
    page.request_finished(Outcome.COMPLETED, 10, 20, 0, ttft=0.6, tpot=0.02, e2e=3.0)
    samples = read(page)
    assert one(samples, names.METRIC_OBJECTIVES, objective="ttft", met="true") == 1
    assert one(samples, names.METRIC_OBJECTIVES, objective="ttft", met="false") == 1
    assert one(samples, names.METRIC_OBJECTIVES, objective="tpot", met="true") == 2


def test_an_engine_is_told_of_by_purpose_and_by_the_moments_of_its_steps() -> None:
    engine = EngineMetrics()
    engine.arrived(Purpose.WARM)
    engine.stepped(Window(50, 4, 8000, 20, 15.0))
    engine.stepped(Window(50, 6, 12_000, 0, 17.0))
    samples = read(engine)
    assert one(samples, names.METRIC_LEGS, purpose="warm") == 1
    assert one(samples, names.METRIC_LEGS, purpose="first") == 0
    moment = {m: one(samples, names.METRIC_STEP_MOMENTS, moment=m) for m in MOMENT_NAMES}
    assert (moment["count"], moment["b"], moment["t"]) == (100, 500, 1600)
    assert moment["st"] == 50 * 8 * 15 + 50 * 12 * 17
    assert moment["pp"] == pytest.approx(50 * 0.02**2)
