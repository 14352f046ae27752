"""What an answer's shape is, and which differences count."""

import json
from typing import Any

import pytest

from e2e.continuity_suite.wire import Received
from e2e.vllm_engine.contract import against
from e2e.vllm_engine.memory import engines_for
from e2e.vllm_engine.metrics_page import page_differences
from e2e.vllm_engine.shapes import differences, shape_of


def whole(body: Any, status: int = 200) -> Received:
    received = Received(status, {"content-type": "application/json"})
    received.add(json.dumps(body).encode())
    return received


def streamed(*events: Any) -> Received:
    received = Received(200, {"content-type": "text/event-stream; charset=utf-8"})
    for event in events:
        received.add(b"data: " + json.dumps(event).encode() + b"\n\n")
    received.add(b"data: [DONE]\n\n")
    return received


def chunk(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {"content": text} if text else {}
    return {"choices": [{"delta": delta, "finish_reason": finish, **more}]}


@pytest.mark.parametrize(
    ("one", "other", "want"),
    [
        pytest.param(whole({"a": 1}), whole({"a": 7}), [], id="values may differ"),
        pytest.param(
            whole({"a": 1}), whole({"a": "x"}), ["- .a: whole", "+ .a: text"], id="types may not"
        ),
        pytest.param(
            whole({"a": 1, "b": 2}),
            whole({"b": 2, "a": 1}),
            ["+ .b: whole", "- .b: whole"],
            id="nor may the order of fields",
        ),
        pytest.param(
            whole({"finish_reason": "stop"}),
            whole({"finish_reason": "length"}),
            ["- .finish_reason: text 'stop'", "+ .finish_reason: text 'length'"],
            id="nor words that have a meaning",
        ),
        pytest.param(
            whole({"error": {"message": "no"}}, 400),
            whole({"id": "x"}),
            ["- status 400, application/json", "+ status 200, application/json"],
            id="of another status, nothing else is compared",
        ),
        pytest.param(
            whole({"cached_tokens": None}),
            whole({"cached_tokens": 3}),
            [],
            id="a cache may be cold",
        ),
        pytest.param(
            whole({"top_logprobs": [{"a": 0.1}]}),
            whole({"top_logprobs": [{"b": 0.2, "c": 0.3}]}),
            [],
            id="what a model says is no name",
        ),
        pytest.param(
            streamed(chunk("a"), chunk("b"), chunk("c", "length")),
            streamed(chunk("a"), chunk(""), chunk("", "length")),
            [],
            id="a stream may have any number of events, and such without text",
        ),
        pytest.param(
            streamed(chunk("a"), chunk("c", "length")),
            streamed(chunk("a", stop_reason=None), chunk("c", "length")),
            ["+ text: .choices[].stop_reason: null"],
            id="an event of a kind has its fields",
        ),
        pytest.param(
            streamed(chunk("a"), {"choices": [], "usage": {}}),
            streamed(chunk("a")),
            ["- usage"],
            id="an event that only one stream has",
        ),
    ],
)
def test_differences_between_two_answers(one: Received, other: Received, want: list[str]) -> None:
    assert list(differences(shape_of(one), shape_of(other))) == want


PAGE = """
# TYPE vllm:runs gauge
vllm:runs{engine="0"} 1
# TYPE vllm:times histogram
vllm:times_bucket{engine="0",le="1.0"} 1
vllm:times_bucket{engine="0",le="+Inf"} 1
vllm:times_count{engine="0"} 1
"""


@pytest.mark.parametrize(
    ("real", "want"),
    [
        pytest.param(PAGE + 'vllm:more{a="b"} 1\n', [], id="the engine may have more"),
        pytest.param(
            PAGE.replace("vllm:runs gauge", "vllm:runs counter"),
            ["vllm:runs: type gauge of the simulator, counter of the engine"],
            id="a type",
        ),
        pytest.param(
            PAGE.replace('runs{engine="0"}', 'runs{engine="0",model_name="m"}'),
            ["vllm:runs: labels of the engine alone: model_name"],
            id="a label",
        ),
        pytest.param(
            PAGE.replace('le="1.0"', 'le="2.0"'),
            ["vllm:times: values of le: 1.0 of the simulator alone, 2.0 of the engine alone"],
            id="a bound of a histogram",
        ),
        pytest.param(
            PAGE.replace("vllm:runs", "vllm:other"),
            ["vllm:runs: the engine has no such metric"],
            id="a name",
        ),
    ],
)
def test_differences_between_two_metrics_pages(real: str, want: list[str]) -> None:
    assert list(page_differences(PAGE, real, frozenset({"vllm:runs"}))) == want


def test_a_metric_that_is_read_must_be_on_both_pages() -> None:
    found = page_differences(PAGE, PAGE + 'vllm:used{a="b"} 1\n', frozenset({"vllm:used"}))
    assert list(found) == ["vllm:used: the simulator has no such metric"]


def test_what_is_known_is_no_news_and_what_is_gone_is_told() -> None:
    known = {"a": ["- x", "+ silent: y"], "b": ["+ z"]}
    found = against(known, {"a": ["- x", "+ new"], "c": []})
    assert found.new == {"a": ["+ new"]}
    assert found.gone == {"b": ["+ z"]}
    assert not found.passed


@pytest.mark.parametrize(
    ("gigabytes", "engines"),
    [
        pytest.param(6.9, 1, id="too little for two engines"),
        pytest.param(7.1, 2, id="room for two"),
        pytest.param(64.0, 3, id="more than three are never started"),
    ],
)
def test_engines_by_free_memory(gigabytes: float, engines: int) -> None:
    assert engines_for(gigabytes) == engines
