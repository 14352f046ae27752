"""All that can be wrong with a Prometheus: its reason, its words, and that the last plan stays."""

import asyncio
import gzip
import logging
import shutil
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_operator.answer import MAX_BYTES
from cascade_operator.connection import Connection
from cascade_operator.decide import decide
from cascade_operator.decisions import Decision
from cascade_operator.finding import Finding
from cascade_operator.planning import Planning
from cascade_operator.plans import PlanRecord
from cascade_operator.prometheus import PrometheusReader
from cascade_operator.reasons import Reason
from cascade_operator.steady import STEADY_SECONDS
from e2e.cluster.certificates import Authority
from tests.operator.builders import NOW
from tests.operator.http_server import Answer, Answers, Request, Rows, head, saying, serving, tls_of
from tests.operator.test_decide import ONE_STAGE, SPEC, reading, traffic

TOKEN = "never-show-this-token"
SECRET = "internal-secret"
"""Stands in answers, of which nothing may be shown."""
HASTE = 0.4
"""Seconds that an answer may take where a test waits for it to take too long."""
ROUTERS = frozenset(f"pod-{number}" for number in range(8))
HEALTHY = Answers.of(replace(reading(), series_of_targets=(1,) * len(ROUTERS)))

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes certificates")


def token_in(folder: Path) -> str:
    path = folder / "token"
    path.write_text(TOKEN)
    return str(path)


async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
    """A head that never ends, a byte now and then: no single wait is long."""
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(HASTE / 10)


async def drip_body(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head(200))
    await drip(_, writer)


async def silence(_: Request, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def flood(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head(200))
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


async def cut(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head(200, 1000) + b'{"status": ')


async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def error(status: int) -> Answer:
    return saying(status, f'{{"status": "error", "errorType": "x", "error": "{SECRET}"}}')


def with_first(rows: Rows, value: str) -> Rows:
    """The same, but for the value of the first row."""
    return [{**rows[0], "value": [1.0, value]}, *rows[1:]]


def rates(histogram: str, value: str, words: str) -> tuple[str, Answer, Reason, str]:
    """The fault of a histogram whose first bucket has this rate."""
    rows = with_first(getattr(HEALTHY, histogram), value)
    words = f"is {words}: check that it is rate() of a counter"
    return f"a rate of {value} in {histogram}", HEALTHY.with_(**{histogram: rows}), MALFORMED, words


BOMB = gzip.compress(b" " * (MAX_BYTES + 1))
MISSING = Reason.METRICS_MISSING
MALFORMED = Reason.METRICS_MALFORMED
INCOMPLETE = Reason.METRICS_INCOMPLETE
STALE = Reason.METRICS_STALE
FAILED = Reason.PROMETHEUS_FAILED
UNREACHABLE = Reason.PROMETHEUS_UNREACHABLE
UNAUTHORIZED = Reason.PROMETHEUS_UNAUTHORIZED

FAULTS: list[tuple[str, Answer, Reason, str]] = [
    ("an expired token", error(401), UNAUTHORIZED, "HTTP 401 Unauthorized: check the credentials"),
    ("a token without rights", error(403), UNAUTHORIZED, "or may not query"),
    (
        "a query that it refuses",
        error(400),
        FAILED,
        "HTTP 400 Bad Request: check that it is a Prom",
    ),
    ("another server", saying(404, SECRET), FAILED, "HTTP 404 Not Found: check that the address"),
    ("a query that is too large", error(422), FAILED, "check that the planning window fits"),
    ("a limit of queries", error(429), FAILED, "HTTP 429 Too Many Requests: it limits queries"),
    ("an error inside", saying(500, SECRET), FAILED, "HTTP 500 Internal Server Error: see its log"),
    ("a proxy before nobody", saying(502, SECRET), FAILED, "HTTP 502 Bad Gateway: see its log"),
    ("a start that takes long", error(503), FAILED, "HTTP 503 Service Unavailable: see its log"),
    ("an odd status", saying(799, SECRET), FAILED, "HTTP 799: see its log"),
    ("nothing at all", silence, UNREACHABLE, f"no full answer within {HASTE:g} s: check that it"),
    ("a head without end", drip, UNREACHABLE, f"no full answer within {HASTE:g} s"),
    ("a body without end", drip_body, UNREACHABLE, f"no full answer within {HASTE:g} s"),
    ("a flood", flood, FAILED, "the answer is larger than 1 MiB: check that it is the right"),
    (
        "a small answer that unpacks to a large one",
        saying(200, BOMB, Content_Encoding="gzip"),
        FAILED,
        "the answer is larger than 1 MiB",
    ),
    (
        "what cannot be unpacked",
        saying(200, SECRET, Content_Encoding="gzip"),
        UNREACHABLE,
        "check the address, that the server runs",
    ),
    ("an answer that is cut", cut, UNREACHABLE, "check the address, that the server runs"),
    ("a connection that is reset", hang_up, UNREACHABLE, "check the address, that the server runs"),
    ("a page", saying(200, f"<html>{SECRET}"), FAILED, "not that of a Prometheus: check that the"),
    ("no text", saying(200, b"\xff\xfe\x00"), FAILED, "not that of a Prometheus"),
    ("an error with status 200", error(200), FAILED, "the query failed: its own log says why"),
    (
        "a store that is away",
        HEALTHY.with_(more={"warnings": [SECRET]}),
        INCOMPLETE,
        "may lack data",
    ),
    ("half a cluster", HEALTHY.with_(more={"isPartial": True}), INCOMPLETE, "may lack data"),
    ("no series", Answers([], [], [], [], []), MISSING, "there is no series of prompt lengths"),
    (
        "series of one histogram alone",
        HEALTHY.with_(finals=[]),
        MISSING,
        "there is no series of final lengths: check that Prometheus scrapes the pods",
    ),
    rates("prompts", "NaN", "nan"),
    rates("prompts", "-1", "-1.0"),
    rates("finals", "+Inf", "inf"),
    (
        "no age",
        HEALTHY.with_(age=with_first(HEALTHY.age, "NaN")),
        FAILED,
        "not that of a Prometheus",
    ),
    (
        "old samples",
        HEALTHY.with_(age=with_first(HEALTHY.age, "500")),
        STALE,
        "the newest sample is 500 s old",
    ),
    (
        "series that ended",
        HEALTHY.with_(age=[], targets=[]),
        STALE,
        "scrapes no router at present",
    ),
    (
        "the upper half of the buckets, gone",
        HEALTHY.with_(prompts=HEALTHY.prompts[: len(HEALTHY.prompts) // 2]),
        MALFORMED,
        "both must come from the same pods",
    ),
    (
        "one histogram from half of the pods",
        HEALTHY.with_(
            finals=[
                {**row, "value": [1.0, str(float(row["value"][1]) / 2)]} for row in HEALTHY.finals
            ]
        ),
        MALFORMED,
        "both must come from the same pods",
    ),
    (
        "half of the pods",
        HEALTHY.with_(targets=HEALTHY.targets[:4]),
        INCOMPLETE,
        "Prometheus scrapes 4 routers of 8: check its targets",
    ),
    (
        "every pod twice",
        HEALTHY.with_(targets=[{**row, "value": [1.0, "2"]} for row in HEALTHY.targets]),
        MALFORMED,
        "2 series of one router, so its requests count 2 times: scrape it by one job",
    ),
    (
        "the rows of one answer twice",
        HEALTHY.with_(finals=HEALTHY.finals * 2),
        MALFORMED,
        "both must come from the same pods",
    ),
]


class Asking:
    """Planning, and a pass that waits for the answer."""

    def __init__(self, reader: PrometheusReader, url: str) -> None:
        self._woken = asyncio.Event()
        self.planning = Planning(reader, url, self._woken.set)

    async def plan(
        self, plan: PlanRecord, now: float, routers: frozenset[str] = frozenset()
    ) -> Decision:
        """What the pass is told that the answer to this one's question wakes."""
        self._woken.clear()
        await self.planning.plan(SPEC, plan, now, routers=routers)
        async with asyncio.timeout(30):
            await self._woken.wait()
        return await self.planning.plan(SPEC, plan, now, routers=routers)

    @property
    def metrics(self) -> Finding:
        return self.planning.metrics


@pytest.mark.parametrize(
    ("answer", "reason", "words"), [fault[1:] for fault in FAULTS], ids=[f[0] for f in FAULTS]
)
async def test_a_fault_has_its_reason_and_advice_and_keeps_the_last_plan(
    answer: Answer,
    reason: Reason,
    words: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    plan = decide(ONE_STAGE, traffic(), SPEC, NOW).plan
    async with serving(answer) as server:
        connection = Connection(
            server.url,
            token_file=token_in(tmp_path),
            headers={"X-Key": f"{TOKEN}-too"},
            timeout_seconds=HASTE if "no full answer" in words else 5.0,
            operator_wide=True,
        )
        reader = PrometheusReader(connection)
        planning = Asking(reader, server.url)
        for now in (NOW, NOW + STEADY_SECONDS):
            decision = await planning.plan(plan, now, ROUTERS)
        reader.close()
    found = planning.metrics
    assert (found.reason, decision.finding.reason) == (reason, Reason.PLAN_KEPT), found.message
    assert decision.plan == plan
    assert words in found.message
    assert server.url in found.message or found.reason in (MISSING, MALFORMED, INCOMPLETE, STALE)
    assert found.message.endswith("; the plan in force was made at 2026-02-02T02:40:00Z")
    for hidden in (TOKEN, SECRET, "own-words", "\n"):
        assert hidden not in found.message
    assert TOKEN not in caplog.text


async def test_what_is_sound_is_planned_from() -> None:
    async with serving(HEALTHY) as server:
        planning = Asking(PrometheusReader(Connection(server.url)), server.url)
        for now in (NOW, NOW + STEADY_SECONDS):
            decision = await planning.plan(ONE_STAGE, now, ROUTERS)
    assert planning.metrics.reason is Reason.METRICS_READ
    assert len(decision.plan.stages) > 1


async def test_a_pod_that_has_just_started_may_be_unknown_to_prometheus() -> None:
    async with serving(HEALTHY.with_(targets=HEALTHY.targets[:4])) as server:
        planning = Asking(PrometheusReader(Connection(server.url)), server.url)
        reasons = []
        for pause, routers in enumerate([frozenset(sorted(ROUTERS)[:4]), ROUTERS, ROUTERS]):
            await planning.plan(ONE_STAGE, NOW + pause * STEADY_SECONDS, routers)
            reasons.append(planning.metrics.reason)
    assert reasons == [Reason.METRICS_READ, Reason.METRICS_READ, Reason.METRICS_INCOMPLETE]


@openssl
@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("another authority", "not trusted (unable to get local issuer certificate): name its"),
        ("another host", "not trusted (IP address mismatch"),
        ("plain http", "TLS failed (wrong version number): check that it speaks https"),
    ],
)
async def test_what_is_wrong_with_tls_is_said(case: str, words: str, tmp_path: Path) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    ours.server("good", [], ["127.0.0.1"])
    ours.server("other-host", ["prometheus"], ["127.0.0.2"])
    theirs.server("good", [], ["127.0.0.1"])
    contexts: dict[str, ssl.SSLContext | None] = {
        "another authority": tls_of(theirs.folder, "good"),
        "another host": tls_of(ours.folder, "other-host"),
        "plain http": None,
    }
    async with serving(HEALTHY, contexts[case]) as server:
        connection = Connection(
            server.url.replace("http://", "https://"),
            ca_file=str(ours.folder / "ca.crt"),
            operator_wide=True,
        )
        planning = Asking(PrometheusReader(connection), connection.url)
        await planning.plan(ONE_STAGE, NOW)
    assert planning.metrics.reason is UNREACHABLE
    assert words in planning.metrics.message
    assert not server.requests
