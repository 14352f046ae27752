"""Length histograms from a Prometheus that scrapes vLLM or our routers."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
from prometheus_api_client import PrometheusConnect

from cascade_cli.errors import BadInput, NoTraffic, Unreachable
from cascade_cli.histograms import Family, Histograms, Owner, Times, read_metrics
from cascade_cli.http_options import check_address
from cascade_planner.histogram import LengthHistogram
from cascade_prometheus.address import shown
from cascade_prometheus.answers import NOT_PROMETHEUS, StatusError, TooLarge, brief, check
from cascade_prometheus.client import InvalidAuthorities, check_authorities, new_client
from cascade_prometheus.selectors import quoted

TIMEOUT_SECONDS: Final = 30.0
"""Limit of connecting, and of each wait for more of an answer: a window may be weeks."""
MAX_ANSWER_BYTES: Final = 2**24
"""More than the buckets of any histogram, or the models of any cluster."""
_SPAN_STEPS: Final = 100
"""Samples by which the start of the metrics within the window is looked for."""

_HINTS: Final[Mapping[int, str]] = {
    400: "check --selector",
    401: "give credentials with --bearer-token-file or --header",
    403: "these credentials may not query; check --bearer-token-file or --header",
    422: "check --selector",
}


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a Prometheus."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: Path | None = None
    timeout_seconds: float = TIMEOUT_SECONDS


def read_prometheus(
    connection: Connection, window_seconds: int, selector: str, model: str | None
) -> Histograms:
    """Counts over the last `window_seconds`, of series that match `selector` (`a="b",c=~"d"`).

    `seconds` of the answer is shorter where the metrics began within the window.
    Raises Unreachable, BadInput, NoTraffic.
    """
    where = f"Prometheus at {shown(connection.url)}"
    with _client(connection, where) as client:
        return read_metrics(_Queries(client, window_seconds, selector), where, model)


@contextmanager
def _client(connection: Connection, where: str) -> Iterator[PrometheusConnect]:
    """A client whose every failure is an Unreachable that shows no secret."""
    check_address(connection.url, where)
    _check_ca_file(connection.ca_file)
    with requests.Session() as session:
        session.headers.update(connection.headers)
        session.verify = True if connection.ca_file is None else str(connection.ca_file)
        session.hooks["response"].append(_check_answer)
        if "Authorization" in session.headers:
            # Without it the user's netrc file would win over the token that was asked for.
            session.auth = lambda request: request
        try:
            yield new_client(connection.url, session, connection.timeout_seconds)
        except (Unreachable, BadInput, NoTraffic):
            raise
        except StatusError as error:
            advice = error.advice or _HINTS.get(error.code, "check that it is healthy")
            raise Unreachable(f"{where}: {error}: {advice}") from None
        except TooLarge as error:
            raise Unreachable(f"{where}: {error}: narrow it down with --selector") from None
        except requests.exceptions.SSLError:
            raise Unreachable(
                f"{where}: its certificate is not trusted: name its authority with --ca-file"
            ) from None
        except requests.Timeout:
            raise Unreachable(
                f"{where}: no answer within {connection.timeout_seconds:g} s: check the address, "
                "or ask for a shorter --window"
            ) from None
        except requests.JSONDecodeError:
            raise Unreachable(f"{where}: {NOT_PROMETHEUS}") from None
        except requests.RequestException as error:
            raise Unreachable(f"{where}: {brief(error)}: check the address") from None
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
            raise Unreachable(f"{where}: {NOT_PROMETHEUS}") from None


def _check_ca_file(path: Path | None) -> None:
    if path is None:
        return
    try:
        check_authorities(path)
    except InvalidAuthorities as error:
        raise BadInput(f"--ca-file {error}") from None


def _check_answer(response: requests.Response, *_: Any, **__: Any) -> None:
    check(response, MAX_ANSWER_BYTES)


class _Queries:
    """The questions, as Metrics: all about one moment, so that counts and sums fit together."""

    def __init__(self, client: PrometheusConnect, window_seconds: int, selector: str) -> None:
        self._client = client
        self._window = window_seconds
        self._selector = selector
        # The server's clock, which need not be ours.
        self._moment = float(client.custom_query("time()")[1])

    def owners(self, family: Family) -> list[Owner]:
        """Also those whose metrics ended within the window: they are told apart by their age."""
        series = f"{family.prompts}_count{{{self._selector}}}[{self._window}s]"
        rows = self._ask(f"count by ({','.join(family.owner)}) (last_over_time({series}))")
        found = {tuple(row["metric"].get(name, "") for name in family.owner) for row in rows}
        return sorted(found)

    def by_bound(self, metric: str, bound: str, family: Family, owner: Owner) -> LengthHistogram:
        increase = self._increase(metric, family, owner)
        rows = self._ask(f"sum by ({bound}) ({increase})")
        return LengthHistogram.of((row["metric"].get(bound, ""), row["value"][1]) for row in rows)

    def total(self, metric: str, family: Family, owner: Owner) -> float | None:
        rows = self._ask(f"sum ({self._increase(metric, family, owner)})")
        return float(rows[0]["value"][1]) if rows else None

    def times(self, family: Family, owner: Owner) -> Times:
        stamps = f"timestamp({family.prompts}_count{{{self._scope(family, owner)}}})"
        age = self._ask(f"time() - max({stamps})")
        return Times(
            seconds=self._span(stamps),
            age_seconds=max(0.0, float(age[0]["value"][1])) if age else math.inf,
        )

    def _span(self, stamps: str) -> float:
        """Seconds since the first sample within the window.

        A counter that began within the window grew for a shorter time than that. It is looked for
        in coarse steps, then in fine ones around what they found.
        """
        found = self._since_first(stamps, self._window)
        step = _step(self._window)
        if found >= self._window - 2 * step:
            return self._window
        return self._since_first(stamps, math.ceil(found) + step)

    def _since_first(self, stamps: str, reach: int) -> float:
        """The same, seen in steps over the last `reach` seconds; a step where they hit nothing."""
        step = _step(reach)
        rows = self._ask(f"time() - min(min_over_time({stamps}[{reach}s:{step}s]))")
        return float(rows[0]["value"][1]) if rows else float(step)

    def _increase(self, metric: str, family: Family, owner: Owner) -> str:
        return f"increase({metric}{{{self._scope(family, owner)}}}[{self._window}s])"

    def _scope(self, family: Family, owner: Owner) -> str:
        own = [f'{name}="{quoted(value)}"' for name, value in zip(family.owner, owner, strict=True)]
        return ",".join([*own, *filter(None, [self._selector])])

    def _ask(self, query: str) -> list[Any]:
        rows: list[Any] = self._client.custom_query(query, {"time": self._moment})
        return rows


def _step(reach: int) -> int:
    return max(1, reach // _SPAN_STEPS)
