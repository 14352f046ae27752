"""The simulation bench: its matrix, its cache, its arithmetic and its page."""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.scenario import Scenario
from cascade_simulator.policies.registry import NAMES
from e2e.bench.simulation_bench.cache import Cache, Figures, digest
from e2e.bench.simulation_bench.cells import answer, trace
from e2e.bench.simulation_bench.claims import CLAIMS, judged
from e2e.bench.simulation_bench.experiment import (
    RELATIVE,
    Cell,
    Experiment,
    Measure,
    Setting,
    Shown,
    axis,
)
from e2e.bench.simulation_bench.experiments import BLIND, EXPERIMENTS, OURS
from e2e.bench.simulation_bench.page import COMMAND, render
from e2e.bench.simulation_bench.results import Results
from e2e.bench.simulation_bench.runner import run
from e2e.bench.simulation_bench.tables import section
from tests.conftest import Golden

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FIGURES = (
    *("ttft_mean", "ttft_p99", "tpot_mean", "tpot_p99", "e2e_mean", "e2e_p99"),
    *("normalised_mean", "normalised_p99", "in_time", "within_5x", "within_20x"),
    *("handovers", "preemptions", "prefilled_share", "unfinished", "capacity"),
)
SMALL = Experiment(
    name="small",
    title="A small one",
    text="Two policies on two loads.",
    policies=("least-requests", "random"),
    columns=(axis("load", 0.4, 0.6, form="load {}"),),
    rows=((Setting("fresh", ()), Setting("stale", (("stale_ms", 500.0),))),),
    base=Scenario(policy="", requests=25, instances=2),
    trace="azure",
    shown=(*RELATIVE, Shown("e2e_mean", "mean end-to-end time, s", ".2f", 1e-3)),
    seeds=2,
)


def made_up(cells: Iterable[Cell]) -> dict[Cell, Figures]:
    """Figures near 100 that depend on nothing but the cell and their names."""
    answers = {}
    for cell in cells:
        answers[cell] = {
            name: 80 + sha256(f"{cell.question} {name}".encode()).digest()[0] / 8
            for name in FIGURES
        }
    return answers


def results_of(*experiments: Experiment) -> Results:
    cells = [cell for experiment in experiments for cell in experiment.cells()]
    return Results({experiment.name: experiment for experiment in experiments}, made_up(cells))


def test_experiments_have_names_of_their_own() -> None:
    names = [experiment.name for experiment in EXPERIMENTS]

    assert len(set(names)) == len(names)
    assert all(experiment.text.endswith((".", "?")) for experiment in EXPERIMENTS)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda one: one.name)
def test_an_experiment_names_known_policies_and_each_point_once(experiment: Experiment) -> None:
    assert {*experiment.policies, experiment.baseline} <= set(NAMES)
    assert len(set(experiment.policies)) == len(experiment.policies)
    for points in (experiment.table_points, experiment.column_points, experiment.row_points):
        assert len(set(points)) == len(points)
    questions = {cell.question for cell in experiment.cells()}
    assert len(questions) == len(set(experiment.cells()))


def test_a_quick_run_is_a_small_part_of_the_whole() -> None:
    whole = {cell for one in EXPERIMENTS for cell in one.cells()}
    quick = {cell for one in EXPERIMENTS for cell in one.quick().cells()}

    requests = [sum(cell.scenario.requests for cell in cells) for cells in (quick, whole)]
    assert requests[0] < requests[1] / 10


def test_a_claim_looks_at_experiments_that_exist() -> None:
    names = {experiment.name for experiment in EXPERIMENTS}

    assert {name for claim in CLAIMS for name in claim.needs} <= names


class Counting(Cache):
    """Says what was computed anew, and may be interrupted as by Ctrl-C."""

    def __init__(self, folder: Path, code: str = "code", most: int = 1000) -> None:
        super().__init__(folder, code)
        self.computed: list[str] = []
        self._most = most

    def put(self, question: str, figures: Figures) -> None:
        super().put(question, figures)
        self.computed.append(question)
        if len(self.computed) == self._most:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    cells = {cell.question for cell in SMALL.cells()}
    first = Counting(tmp_path, most=5)

    with pytest.raises(KeyboardInterrupt):
        run([SMALL], first, jobs=1)
    second = Counting(tmp_path)
    answers = run([SMALL], second, jobs=1)

    assert len(first.computed) == 5
    assert {*first.computed, *second.computed} == cells
    assert not set(first.computed) & set(second.computed)
    assert answers == run([SMALL], Counting(tmp_path, most=1), jobs=1)
    for cell in (*SMALL.cells(),)[:2]:
        assert answers[cell] == pytest.approx(answer(cell), nan_ok=True)


def test_a_cell_of_other_code_or_a_damaged_one_is_computed_anew(tmp_path: Path) -> None:
    kept = Cache(tmp_path, "code")
    kept.put("question", {"e2e_mean": 1.0})

    assert kept.get("question") == {"e2e_mean": 1.0}
    assert Cache(tmp_path, "other code").get("question") is None
    assert kept.get("other question") is None
    for file in tmp_path.iterdir():
        file.write_text("{")
    assert kept.get("question") is None


def test_only_what_code_means_is_part_of_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "code.py"

    def of(text: str) -> str:
        file.write_text(text)
        return digest([tmp_path])

    plain = of('def f(x: int) -> int:\n    """Words."""\n    return x + 1\n')
    assert of('"""Module."""\ndef f(x: int) -> int:\n    return (x + 1)  # so\n') == plain
    assert of("def f(x: int) -> int:\n    return x + 2\n") != plain
    (tmp_path / "data.json").write_text("{}")
    assert of("def f(x: int) -> int:\n    return x + 1\n") != plain


@given(st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=2, max_size=10))
def test_ratios_are_paired_by_seed_with_the_interval_of_student(
    pairs: list[tuple[float, float]],
) -> None:
    experiment = replace(
        SMALL, columns=(axis("load", 0.5),), rows=(), policies=("random",), seeds=len(pairs)
    )
    (place,) = experiment.places
    cells = experiment.cells_of("random", place) + experiment.baseline_cells(place)
    times = [ours for ours, _ in pairs] + [base for _, base in pairs]
    answers = {cell: {"e2e_mean": time} for cell, time in zip(cells, times, strict=True)}

    found = Results({"small": experiment}, answers).relative("small", "random", place, "e2e_mean")

    ratios = [ours / base for ours, base in pairs]
    assert found.mean == pytest.approx(statistics.fmean(ratios))
    error = statistics.stdev(ratios) / math.sqrt(len(ratios))
    # Student's factor lies between that of the normal distribution and that of two values.
    assert 1.95 * error <= found.plus_minus + 1e-9
    assert found.plus_minus <= 12.8 * error + 1e-9


def test_a_multiple_of_nothing_is_no_number() -> None:
    results = results_of(SMALL)
    answers = {cell: {**figures, "handovers": 0.0} for cell, figures in results.answers.items()}

    found = Results(results.experiments, answers).relative(
        "small", "random", SMALL.places[0], "handovers"
    )

    assert math.isnan(found.mean)


def test_the_page_of_fixed_results_is_as_kept(golden: Golden) -> None:
    ours = replace(
        SMALL,
        name="ours",
        title="With a loss",
        policies=(OURS,),
        rows=(),
        tables=(axis("heterogeneity", 0.0, 0.25, form="cv slope {}"),),
        shown=RELATIVE,
    )
    golden(
        HERE / "golden" / "simulation-results.md",
        render(results_of(SMALL, ours), "## Slices\n\nA table."),
    )


def test_the_page_of_the_whole_matrix_judges_every_claim_and_names_its_command() -> None:
    quick = [experiment.quick() for experiment in EXPERIMENTS]
    results = results_of(*quick)

    page = render(results, None)

    assert [claim for claim, _ in judged(results)] == list(CLAIMS)
    assert all(claim.words in page for claim in CLAIMS)
    assert all(f"### {experiment.title}" in page for experiment in quick)
    assert f"`{COMMAND}`" in page
    assert (ROOT / COMMAND).stat().st_mode & 0o111
    assert "h100-8b" in page
    for line in page.splitlines():
        assert not line.startswith("|") or line.endswith("|")
    assert "nan" not in page.replace("finance", "")


def test_a_loss_beyond_chance_is_listed_and_one_within_it_is_not() -> None:
    experiment = replace(SMALL, policies=(OURS,), rows=(), columns=(axis("load", 0.4),), seeds=3)
    answers = made_up(experiment.cells())
    for cell, figures in answers.items():
        slow = cell.scenario.policy == OURS
        figures |= dict.fromkeys(FIGURES, 100.0 + 10 * slow)
        # Seed by seed better and worse.
        figures["ttft_p99"] = 100.0 + (30 - 20 * (cell.scenario.seed % 2)) * slow
        figures["tpot_mean"] = 100.0 - slow

    page = render(Results({"small": experiment}, answers), None)

    losses = page[page.index("## Where ours loses") : page.index("## The papers' claims")]
    assert "mean end-to-end time | 1.10 ± 0.00" in losses
    assert "p99 time to first token" not in losses
    assert "mean time per output token" not in losses


def test_tables_say_what_varies() -> None:
    text = section(SMALL, results_of(SMALL))

    assert "| load 0.4 | load 0.6 |" in text
    assert "random, stale" in text
    assert f"as a multiple of {BLIND}'s" in text


def test_capacity_lies_where_nine_tenths_are_in_time() -> None:
    scenario = Scenario(
        "least-work", requests=600, instances=2, ttft_target_ms=500.0, tpot_target_ms=20.0
    )
    cell = Cell("azure", scenario, Measure.CAPACITY)

    found = answer(cell)["capacity"]

    below, above = (
        answer(Cell("azure", replace(scenario, load=load)))["in_time"]
        for load in (found - 0.15, found + 0.15)
    )
    assert below > 0.9 > above


def test_even_lengths_have_the_means_of_the_trace_they_are_made_from() -> None:
    even, azure = trace("even"), trace("azure")

    assert {(row.prompt_tokens, row.output_tokens) for row in even} == {(1155, 211)}
    assert [row.arrival for row in even] == [row.arrival for row in azure]


def test_figures_survive_json() -> None:
    cell = next(iter(SMALL.cells()))
    figures = answer(cell)

    assert json.loads(json.dumps(figures)) == figures
    assert set(figures) == set(FIGURES) - {"capacity"}
