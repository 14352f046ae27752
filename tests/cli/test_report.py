"""The report: one file, complete, harmless, drawn from what was measured."""

import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.report.chart import log_marks
from cascade_cli.report.comparison import compare
from cascade_cli.report.curves import MOST_POINTS, cdf, equal_groups, means_between, thinned
from cascade_cli.report.findings import percent, seconds
from cascade_cli.report.page import render
from cascade_cli.report.study import Run, Study
from cascade_cli.report.style import COLOURS, pens, stage_colours
from tests.cli.outcomes import SETUP, outcome, study

POLICIES = {"round-robin": 1, "least-work": 1, "cascade": 3}


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, and text by kind."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
        self._inside: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        within = self._inside[-1] if self._inside else ""
        if within == "script":
            self.scripts[-1] += data
        elif within != "style":
            self.text += data
            if within in ("h1", "h2", "h3"):
                self.headings[-1] += data

    @property
    def figures(self) -> dict[str, Any]:
        """The data of the plots, by the id of their place."""
        found: dict[str, Any] = json.loads(self.scripts[0])
        return found


@pytest.fixture(scope="module")
def page() -> Page:
    """A report of three policies at two loads with two seeds."""
    return Page(render(study(POLICIES, loads=(0.5, 0.85), seeds=(1, 2))))


def numbers(packed: Any) -> list[float]:
    """The values of a series as plotly packs them."""
    if isinstance(packed, dict):
        packed = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])
    return [float(value) for value in packed]


def test_the_report_has_all_sections_and_a_finding_over_each_plot(page: Page) -> None:
    sections = [
        "Summary",
        "Latency",
        "Who gains, who pays",
        "Throughput at the targets",
        "Stages",
        "Setup and cost model",
    ]
    assert [heading for heading in page.headings if heading in sections] == sections
    places = [attrs for _, attrs in page.elements if attrs.get("class") == "plot"]
    assert {place["id"] for place in places} == set(page.figures)
    assert "h100-8b" in page.text
    # Three distributions and two plots by length at each load, two against load, the load of
    # each policy over time, and the plan of the one that has stages.
    assert len(places) == 2 * (3 + 2 + len(POLICIES) + 1) + 2


def test_one_load_gives_no_plot_against_load() -> None:
    page = Page(render(study(POLICIES)))

    assert "Throughput at the targets" not in page.headings
    assert not any(attrs.get("id") == "choose-load" for _, attrs in page.elements)


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    loads = [
        (tag, name, value)
        for tag, attrs in page.elements
        for name, value in attrs.items()
        if name in ("src", "href", "srcset", "action", "poster", "data", "background")
    ]
    assert loads == []
    policy = next(
        attrs["content"] or ""
        for _, attrs in page.elements
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_a_name_that_is_a_script_is_shown_and_never_run() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    harmless = study(POLICIES)
    named = Study(
        replace(SETUP, trace=evil, traffic=evil, profile=evil, length_blind=frozenset({evil})),
        (
            *(replace(run, policy=evil + run.policy) for run in harmless.runs),
            Run(evil, 0.7, 1, outcome(evil)),
        ),
    )

    page, plain = Page(render(named)), Page(render(harmless))

    assert evil in page.text
    assert len(page.scripts) == len(plain.scripts) == 3
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    names = {trace["name"] for figure in page.figures.values() for trace in figure["data"]}
    assert not any("<" in name for name in names)


def test_each_policy_has_one_colour_on_all_plots(page: Page) -> None:
    colours: dict[str, set[str]] = {}
    for figure in page.figures.values():
        for trace in figure["data"]:
            if trace["name"] in POLICIES:
                colours.setdefault(trace["name"], set()).add(trace["line"]["color"])
    assert set(colours) == set(POLICIES)
    assert all(len(used) == 1 for used in colours.values())
    assert len(set.union(*colours.values())) == len(POLICIES)


def test_a_plan_is_drawn_over_the_lengths_with_its_boundaries(page: Page) -> None:
    plan = next(
        figure
        for figure in page.figures.values()
        if any(trace["name"] == "prompt and answer" for trace in figure["data"])
    )
    assert sorted(shape["x0"] for shape in plan["layout"]["shapes"]) == [700, 1400]
    assert [note["text"] for note in plan["layout"]["annotations"]] == ["1×", "1×", "6×"]
    for trace in plan["data"]:
        assert sum(numbers(trace["y"])) == pytest.approx(1)


def test_the_distributions_hold_the_measured_times(page: Page) -> None:
    runs = study(POLICIES, loads=(0.5, 0.85), seeds=(1, 2))
    measured = np.sort(runs.values("round-robin", 0.5, lambda outcome: outcome.ttft_ms))
    first = next(
        figure
        for figure in page.figures.values()
        if figure["layout"]["xaxis"]["title"]["text"].startswith("time to first token")
    )
    drawn = numbers(first["data"][0]["x"])
    assert len(drawn) <= MOST_POINTS
    assert (drawn[0], drawn[-1]) == pytest.approx((measured[0], measured[-1]))
    assert numbers(first["data"][0]["y"])[-1] == pytest.approx(1)


def test_the_report_stays_below_six_megabytes() -> None:
    many = {f"policy-{number}": 1 + number % 5 for number in range(8)}

    assert len(render(study(many, loads=(0.3, 0.5, 0.7))).encode()) < 6e6


def test_a_run_in_which_nothing_ended_still_gives_a_page() -> None:
    whole = outcome("round-robin")
    never = np.full_like(whole.end_ms, math.nan)
    stuck = replace(whole, first_token_ms=never, end_ms=never)

    page = Page(render(Study(SETUP, (Run("round-robin", 0.95, 1, stuck),))))

    assert "Summary" in page.headings
    assert "∞" in page.text
    assert not re.search(r"\b(inf|nan)\b", page.text)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=2000))
def test_a_thinned_distribution_keeps_its_ends_and_never_falls(values: list[float]) -> None:
    times, share = cdf(values)

    assert len(times) == len(share) <= MOST_POINTS
    assert (times[0], times[-1]) == (min(values), max(values))
    assert share[-1] == 1
    assert (np.diff(times) >= 0).all()
    assert (np.diff(share) > 0).all()
    for time, part in list(zip(times, share, strict=True))[:: max(1, len(times) // 7)]:
        assert part <= np.mean(np.asarray(values) <= time)


def test_requests_that_never_ended_keep_the_distribution_below_one() -> None:
    times, share = cdf([1.0, math.nan, 3.0, math.nan])

    assert times.tolist() == [1, 3]
    assert share.tolist() == [0.25, 0.5]


@given(st.integers(1, 3000), st.integers(1, 400))
def test_a_thinned_series_keeps_its_mean(length: int, points: int) -> None:
    series = np.sin(np.arange(length))

    times, means = thinned(np.arange(length, dtype=np.float64), series, points)

    assert times.size == means.size <= points
    group = -(-length // points)
    sizes = np.diff([*times, length]) if group > 1 else np.ones(length)
    assert np.average(means, weights=sizes) == pytest.approx(series.mean(), abs=1e-12)


def test_moments_without_a_number_stay_gaps() -> None:
    _, means = thinned(np.arange(4.0), np.array([math.nan, math.nan, 1.0, 3.0]), points=2)

    assert math.isnan(means[0])
    assert means[1] == 2


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=300), st.integers(1, 12))
def test_equal_groups_hold_every_request_once_in_order_of_length(
    lengths: list[int], groups: int
) -> None:
    parts = equal_groups(lengths, groups)

    everyone = np.concatenate(parts)
    assert sorted(everyone.tolist()) == list(range(len(lengths)))
    assert [lengths[i] for i in everyone] == sorted(lengths)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert np.isfinite(means_between(np.asarray(lengths, dtype=np.float64), parts)).all()


def test_the_baseline_is_the_length_blind_policy_with_the_least_mean() -> None:
    rows = compare(study(POLICIES, loads=(0.5,)))

    assert {row.baseline for row in rows} == {"least-work"}
    by_policy = {row.policy: row for row in rows}
    assert by_policy["least-work"].relative(lambda figures: figures.e2e_mean) == 1
    assert by_policy["cascade"].relative(lambda figures: figures.e2e_mean) < 1


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(4.4444, "4.44 ms"), (999.4, "999 ms"), (999.9, "1 s"), (1423, "1.42 s"), (2e6, "2,000 s")],
    ids=["short", "below a second", "rounds to a second", "seconds", "very long"],
)
def test_times_have_three_digits_and_a_unit(milliseconds: float, words: str) -> None:
    assert seconds(milliseconds) == words.replace(" ", "\u00a0")


def test_changes_are_signed_percentages() -> None:
    assert (percent(0.79), percent(1.1)) == ("−21\u00a0%", "+10\u00a0%")


@given(st.floats(1e-3, 1e6), st.floats(1, 1e7))
def test_marks_of_a_logarithmic_axis_lie_within_it_and_ascend(low: float, span: float) -> None:
    marks = log_marks(low, low * span)

    assert 1 <= len(marks) <= 30
    assert all(low <= mark <= low * span for mark in marks)
    assert marks == sorted(marks)


def test_policies_beyond_the_colours_differ_by_their_dash() -> None:
    names = [f"policy {number}" for number in range(3 * len(COLOURS))]

    used = [(pen.colour, pen.dash) for pen in pens(names).values()]

    assert len(set(used)) == len(names)


def test_up_to_eight_stages_have_colours_of_their_own() -> None:
    for stages in range(1, 9):
        assert len(set(stage_colours(stages))) == stages
