"""What the user sees while the demo runs: a live table on a terminal, lines elsewhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from e2e.harness.deadline import DeadlinePassed
from e2e.harness.kubectl import KubectlFailed
from e2e.harness.service import Service, ServiceView

LINE_EVERY_SECONDS = 5.0
CONDITIONS = ("Ready", "Progressing", "MetricsAvailable", "PlanApplied", "Degraded", "RouterReady")
JsonObject = dict[str, Any]


class Reporter:
    """Says what happens, with the time since the start."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self._clock = clock
        self._start = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def step(self, words: str) -> None:
        """A step of the story begins."""
        self.console.print(f"[bold cyan][{self.elapsed:5.0f} s][/] [bold]{words}[/]")

    def say(self, words: str) -> None:
        """A detail of the present step."""
        self.console.print(f"[dim][{self.elapsed:5.0f} s][/]   {words}", highlight=False)


def stages_table(view: ServiceView) -> RenderableType:
    """The stages of the service as its status tells them."""
    table = Table(title="stages", title_justify="left")
    for column in ("stage", "lengths", "plan", "ready", "moving"):
        table.add_column(column, justify="right")
    ready = {stage["name"]: stage for stage in view.status.get("stages", [])}
    for planned in view.plan_stages:
        seen = ready.get(planned["name"], {})
        table.add_row(
            planned["name"],
            f"{planned['minLength']}-{planned['maxLength']}",
            str(planned["instances"]),
            str(seen.get("ready", 0)),
            str(seen.get("moving", 0)),
        )
    return table


def conditions_text(view: ServiceView) -> Text:
    """The conditions in one line each, coloured by status."""
    text = Text()
    for name in CONDITIONS:
        condition = view.conditions.get(name)
        if condition is None:
            continue
        good = (condition["status"] == "True") != (name in ("Degraded", "Progressing"))
        text.append(f"{name}={condition['status']}", style="green" if good else "yellow")
        text.append(f" {condition['reason']}: {condition.get('message', '')[:90]}\n", style="dim")
    return text


def progress_text(record: JsonObject) -> str:
    """One line on the load."""
    latency = record.get("latency") or {}
    figures = "  ".join(
        f"{label} {latency[kind]['mean']:.0f}/{latency[kind]['p99']:.0f}"
        for kind, label in (("ttft", "TTFT"), ("tpot", "TPOT"), ("e2e", "E2E"))
        if latency.get(kind)
    )
    return (
        f"sent {record.get('sent', 0)}  completed {record.get('completed', 0)}  "
        f"in flight {record.get('inFlight', 0)}  handed over {record.get('handovers', 0)}  "
        f"lost {record.get('lost', 0)}  wrong {record.get('wrong', 0)}   "
        f"{figures} (mean/p99 ms, last 10 s)"
    )


class PhaseView:
    """Progress of one replay, beside the state of the service."""

    def __init__(self, reporter: Reporter, service: Service, title: str) -> None:
        self._reporter = reporter
        self._service = service
        self._title = title
        self._record: JsonObject = {}
        self._view: ServiceView | None = None
        self._last_line = -LINE_EVERY_SECONDS
        self._live: Live | None = None
        self._done = threading.Event()

    def progress(self, record: JsonObject) -> None:
        """Take in a progress record of the load."""
        self._record = record
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
        elif self._reporter.elapsed - self._last_line >= LINE_EVERY_SECONDS:
            self._last_line = self._reporter.elapsed
            words = "|".join(
                f"{stage['ready']}"
                for stage in (self._view.status if self._view else {}).get("stages", [])
            )
            self._reporter.say(f"{self._title}: stages {words or '?'}  {progress_text(record)}")

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = [
            Text(f"{self._title}  [{self._reporter.elapsed:.0f} s]", style="bold"),
            Text(progress_text(self._record)),
        ]
        if self._view is not None:
            parts += [stages_table(self._view), conditions_text(self._view)]
        return Group(*parts)

    def _poll(self) -> None:
        while not self._done.wait(1.0):
            try:
                self._view = self._service.view()
            except (KubectlFailed, DeadlinePassed):
                # The view is for the eyes only: the next poll shows the next state.
                continue

    @contextmanager
    def shown(self) -> Iterator["PhaseView"]:
        """Show the view while the block runs."""
        poller = threading.Thread(target=self._poll, daemon=True)
        poller.start()
        try:
            if self._reporter.console.is_terminal:
                with Live(
                    self._render(), console=self._reporter.console, auto_refresh=False
                ) as live:
                    self._live = live
                    yield self
            else:
                yield self
        finally:
            self._done.set()
            self._live = None
            poller.join(timeout=30)
