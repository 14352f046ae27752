"""Reads traffic from Prometheus, off the event loop, because its client is synchronous."""

import asyncio
import math
import re
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final, Protocol

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from cascade_operator import queries
from cascade_operator.traffic import Reading
from cascade_planner.histogram import LengthHistogram

TIMEOUT_SECONDS: Final = 5
"""Limit of connecting, and of each wait for more of an answer."""
DEADLINE_SECONDS: Final = 15.0
"""Limit of one reading, all queries and the wait for a thread included."""
_THREADS: Final = 8
_NOT_PROMETHEUS: Final = (
    "the answer is not that of a Prometheus: check that the address is of the server, without "
    "/api/v1"
)
_NO_RETRY: Final = Retry(total=0)
"""The next pass is the retry: a hanging Prometheus must not hold a thread for minutes."""


class PrometheusError(Exception):
    """Prometheus gave no traffic; the message names the address, but no secret and no answer.

    Answers are not shown because the address is the user's: it may be of anything that the
    operator can reach and the user cannot.
    """


class TrafficReader(Protocol):
    """Where traffic comes from."""

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        """The traffic of one service over the last `window_seconds`. Raises PrometheusError."""


class PrometheusReader:
    """TrafficReader over the HTTP API of Prometheus.

    It has threads of its own, so that a Prometheus that hangs keeps nothing else waiting.
    """

    def __init__(self, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._deadline_seconds = deadline_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="prometheus")

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await loop.run_in_executor(
                    self._threads, _read, url, namespace, service, window_seconds
                )
        except TimeoutError:
            raise PrometheusError(
                f"Prometheus at {shown(url)}: no full answer within "
                f"{self._deadline_seconds:g} s: check that it is the right address and not "
                "overloaded"
            ) from None


def shown(url: str) -> str:
    """The address as it may be shown: without user, password, query and fragment."""
    scheme, _, rest = url.partition("://")
    rest = rest.rpartition("@")[2]
    return f"{scheme}://{re.split('[?#]', rest)[0]}"


class _StatusError(Exception):
    """An answer with another status than 200."""


def _read(url: str, namespace: str, service: str, window_seconds: int) -> Reading:
    with requests.Session() as session:
        session.hooks["response"].append(_check_status)
        try:
            client = PrometheusConnect(
                url=url, retry=_NO_RETRY, session=session, timeout=TIMEOUT_SECONDS
            )
        except ValueError:
            raise _failure(url, "this is no address: write http(s)://host[:port][/path]") from None
        window = (namespace, service, window_seconds)
        try:
            return Reading(
                prompts=_histogram(client.custom_query(queries.prompt_lengths(*window)), "le"),
                finals=_histogram(client.custom_query(queries.final_lengths(*window)), "le"),
                decoded=_histogram(
                    client.custom_query(queries.decoded_lengths(*window)), queries.DECODE_LABEL
                ),
                age_seconds=_age(client.custom_query(queries.sample_age(namespace, service))),
            )
        except _StatusError as error:
            raise _failure(url, str(error)) from None
        except requests.JSONDecodeError:
            raise _failure(url, _NOT_PROMETHEUS) from None
        except (requests.RequestException, PrometheusApiClientException) as error:
            raise _failure(url, _brief(error)) from None
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError):
            raise _failure(url, _NOT_PROMETHEUS) from None


def _check_status(response: requests.Response, *_: Any, **__: Any) -> None:
    """Redirects pass: they are followed. The server's own words are not repeated."""
    code = response.status_code
    if code == HTTPStatus.OK or response.is_redirect:
        return
    response.close()
    known = code in set(HTTPStatus)
    raise _StatusError(f"HTTP {code} {HTTPStatus(code).phrase}" if known else f"HTTP {code}")


def _failure(url: str, what: str) -> PrometheusError:
    return PrometheusError(f"Prometheus at {shown(url)}: {what}")


def _histogram(rows: list[Any], label: str) -> LengthHistogram:
    return LengthHistogram.of((row["metric"].get(label, ""), row["value"][1]) for row in rows)


def _age(rows: list[Any]) -> float:
    """Age of the newest sample; without any, infinite. Clocks may differ by a little."""
    ages = [float(row["value"][1]) for row in rows]
    return max(0.0, min(ages)) if ages else math.inf


def _brief(error: Exception) -> str:
    """The innermost cause in one line: the outer ones are about connection pools.

    Only the operating system's words are repeated: others quote the address or the answer.
    """
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    system = isinstance(cause, OSError) and not isinstance(cause, requests.RequestException)
    return f"{type(cause).__name__}: {cause}"[:300] if system else type(cause).__name__
