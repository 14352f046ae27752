"""Every reason that the API knows is one that some test has seen the operator give.

Read from the sources, so that it holds whichever tests run: a reason counts when a story on a real
cluster, or a test on a real API server, names it as what it expects. That the operator does give it
is what those tests check.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from cascade_operator.reasons import Reason

ROOT = Path(__file__).parents[2]
STORIES = (*ROOT.glob("e2e/scenarios/test_*.py"), *ROOT.glob("tests/operator/api/test_*.py"))
UNEXPECTED = (ast.NotEq, ast.NotIn, ast.IsNot)


def expected(source: str) -> set[str]:
    """Members of Reason that a module names, but for those that it says are not given."""
    return set(_named(ast.parse(source)))


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Compare) and any(isinstance(op, UNEXPECTED) for op in node.ops):
        return
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
    ):
        yield node.attr
    for child in ast.iter_child_nodes(node):
        yield from _named(child)


def test_a_reason_counts_where_it_is_expected() -> None:
    assert expected("assert seen == Reason.A\nawait told(x, Reason.B)") == {"A", "B"}
    assert expected("assert seen != Reason.A\nassert Reason.B not in seen\nx = 'C'") == set()


def test_every_reason_is_given_in_some_story_or_test_on_an_api_server() -> None:
    assert len(STORIES) > 10
    seen = set().union(*(expected(path.read_text()) for path in STORIES))
    assert {reason.name for reason in Reason} - seen == set()
