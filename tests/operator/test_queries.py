"""Every question of queries.py, and the page of the routers that must answer it."""

import inspect
import re
from collections.abc import Callable

import pytest

from cascade_operator import queries
from cascade_operator.queries import Scope
from cascade_router.exposition import Page
from cascade_router.metrics import Metrics
from tests.router.core.cluster import stage_map

SCOPE = Scope("team", 'a"b', {"cluster": "eu\n"})
OF_SCRAPES = {queries.TARGET_LABEL, queries.POD_LABEL, *SCOPE.labels}
"""Labels that Prometheus adds; all others must be the routers' own."""
QUESTIONS: dict[str, Callable[..., str]] = {
    name: question
    for name, question in vars(queries).items()
    if inspect.isfunction(question)
    and question.__module__ == queries.__name__
    and not name.startswith("_")
}


OF_A_MEAN = {"completed_seconds", "completed_requests"}
"""Both lack what came before the first sample of their series, so their quotient lacks nothing."""


def asked(question: Callable[..., str]) -> str:
    takes_window = "window_seconds" in inspect.signature(question).parameters
    return question(SCOPE, 600) if takes_window else question(SCOPE)


def series_of_a_new_router() -> dict[str, set[str]]:
    """Names on the page of a router that has served nothing yet, and their labels."""
    page, metrics = Page({"namespace": "team", "service": "demo"}), Metrics()
    metrics.use(stage_map())
    metrics.render(page)
    found: dict[str, set[str]] = {}
    for line in page.text().decode().splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', rest))
    return found


def test_there_are_seven_questions() -> None:
    assert len(QUESTIONS) == 7


@pytest.mark.parametrize("name", sorted(set(QUESTIONS) - OF_A_MEAN))
def test_a_new_router_has_every_metric_and_label_that_a_question_names(name: str) -> None:
    """From its start on: what grew before the first sample of a series is in no rate."""
    query, series = asked(QUESTIONS[name]), series_of_a_new_router()
    metrics = set(re.findall(r"cascade_\w+", query))
    labels = set(re.findall(r'(\w+)!?="', query))
    for group in re.findall(r"by \(([\w, ]+)\)", query):
        labels |= set(group.split(", "))
    assert metrics
    for metric in metrics:
        assert metric in series, f"routers have no {metric}"
        assert labels - OF_SCRAPES <= series[metric]


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_says_which_metric_it_needs(name: str) -> None:
    words = " ".join((QUESTIONS[name].__doc__ or "").split())
    for metric in re.findall(r"cascade_\w+", asked(QUESTIONS[name])):
        assert f"Needs {metric}" in words


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_about_one_service_of_one_cluster(name: str) -> None:
    scope = r'cluster="eu\n",namespace="team",service="a\"b"'
    query = asked(QUESTIONS[name])
    assert query.count("{") == query.count("{" + scope) == 1


def test_namespace_and_service_win_over_labels_of_the_same_name() -> None:
    labels = {"namespace": "theirs", "service": "theirs"}
    assert str(Scope("team", "demo", labels)) == 'namespace="team",service="demo"'


def test_the_decode_counter_is_asked_for_by_length() -> None:
    assert queries.decoded_lengths(Scope("team", "demo"), 600) == (
        "sum by (le_length) (rate(cascade_decode_tokens_total"
        '{namespace="team",service="demo"}[600s]))'
    )
