"""The tables of README.md say what the code and the CRD say; --refresh-golden writes them anew."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade_operator.conditions import (
    DEGRADED,
    METRICS_AVAILABLE,
    PLAN_APPLIED,
    PROGRESSING,
    READY,
    ROUTER_READY,
)
from cascade_operator.reasons import Reason, troubleshooting_table
from cascade_router.engine_metrics import EngineMetrics
from cascade_router.exposition import Page
from cascade_router.metrics import Metrics
from cascade_router.outcomes import Outcome
from tests.router.core.cluster import stage_map

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
CRD = ROOT / "crds" / "cascadeservice.yaml"
Schema = dict[str, Any]


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    """(path, schema, required) of the leaves below `schema`."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        required = name in schema.get("required", ())
        if "properties" in field and not field.get("x-kubernetes-preserve-unknown-fields"):
            yield from fields(field, here)
        else:
            yield here, field, required


def default_of(schema: Schema, required: bool) -> str:
    if "default" in schema:
        return f"`{schema['default']}`"
    return "required" if required else ""


def spec_table() -> str:
    crd = yaml.safe_load(CRD.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rows = []
    for path, schema, required in fields(spec, "spec"):
        values = " or ".join(f"`{value}`" for value in schema.get("enum", ()))
        words = " ".join(schema.get("description", "").split()).replace("|", "\\|")
        words = f"{words} {values}".strip()
        rows.append(f"| `{path}` | {default_of(schema, required)} | {words} |")
    return "\n".join(["| field | default | meaning |", "|---|---|---|", *rows])


def metrics_table() -> str:
    """From the router's own page of a service with one stage: names, labels and what they mean."""
    page, metrics = Page({}), Metrics()
    metrics.use(stage_map())
    metrics.request_started()
    metrics.request_finished(Outcome.COMPLETED, 9, 99, 0, 1.0, 0.1, 10.0)
    metrics.render(page)
    EngineMetrics().render(page)
    rows, words = {}, {}
    for line in page.text().decode().splitlines():
        if line.startswith("# HELP "):
            _, _, name, text = line.split(" ", 3)
            words[name] = text
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            rows[name] = (kind, set[str]())
        else:
            rows[name][1].update(re.findall(r'(\w+)="', line))
    return "\n".join(
        [
            "| metric | type | labels | meaning |",
            "|---|---|---|---|",
            *(
                f"| `{name}` | {kind} | {', '.join(sorted(labels - {'le'}))} | {words[name]} |"
                for name, (kind, labels) in rows.items()
            ),
        ]
    )


@pytest.mark.parametrize(
    ("section", "table"),
    [
        ("reasons", lambda: troubleshooting_table().rstrip()),
        ("spec", spec_table),
        ("metrics", metrics_table),
    ],
    ids=["reasons", "spec", "metrics"],
)
def test_the_table_in_the_readme_is_generated(
    section: str, table: Any, request: pytest.FixtureRequest
) -> None:
    text = README.read_text()
    pattern = re.compile(rf"(<!-- {section} -->\n).*?(\n<!-- /{section} -->)", re.DOTALL)
    assert pattern.search(text), f"README.md has no section {section}"

    wanted = pattern.sub(lambda found: f"{found[1]}{table()}{found[2]}", text)

    if request.config.getoption("--refresh-golden"):
        README.write_text(wanted)
    assert README.read_text() == wanted, "run pytest tests/contracts --refresh-golden"


def printed(command: str) -> str:
    """What the README shows of a command of kubectl."""
    pattern = rf"^\$ {re.escape(command)}\n(.*?)(?=^\$ |^```)"
    found = re.search(pattern, README.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, f"README.md does not show {command}"
    return found[1]


@pytest.mark.parametrize(
    ("command", "priority"), [("kubectl get csvc", 0), ("kubectl get csvc -o wide", 1)]
)
def test_kubectl_get_has_the_columns_that_the_readme_shows(command: str, priority: int) -> None:
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    columns = [
        column["name"].upper()
        for column in version["additionalPrinterColumns"]
        if column.get("priority", 0) <= priority
    ]
    header, row = printed(command).splitlines()
    assert header.split() == ["NAME", *columns]
    assert len(row.split()) == 1 + len(columns)


def test_kubectl_describe_has_the_conditions_that_the_readme_shows() -> None:
    shown = printed("kubectl describe csvc chat")
    types = re.findall(r"^    Type: +(\w+)$", shown, re.MULTILINE)
    assert types == [READY, PROGRESSING, DEGRADED, METRICS_AVAILABLE, PLAN_APPLIED, ROUTER_READY]
    reasons = re.findall(r"^ +Reason: +(\w+)$", shown, re.MULTILINE)
    assert len(reasons) >= len(types)
    assert set(reasons) <= {str(reason) for reason in Reason}
    status = {"Conditions", "Decisions", "Gpus", "Instances", "Partition", "Plan", "Stages"}
    assert status <= set(re.findall(r"^  (\w+):", shown, re.MULTILINE))


def test_the_readme_has_no_placeholder() -> None:
    prose = re.sub(r"^```.*?^```$", "", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert not re.findall(r"^[A-Z]{3,}$", prose, re.MULTILINE)
