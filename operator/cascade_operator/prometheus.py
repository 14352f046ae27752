"""Reads traffic from Prometheus, off the event loop, because its client is synchronous."""

import asyncio
import math
from typing import Any, Final, Protocol

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry

from cascade_operator import queries
from cascade_operator.traffic import Reading
from cascade_planner.histogram import LengthHistogram

TIMEOUT_SECONDS: Final = 10
_NO_RETRY: Final = Retry(total=0)
"""The next pass is the retry: a hanging Prometheus must not hold a thread for minutes."""


class PrometheusError(Exception):
    """Prometheus cannot be reached or refuses the query; the message names the address."""


class TrafficReader(Protocol):
    """Where traffic comes from."""

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        """The traffic of one service over the last `window_seconds`. Raises PrometheusError."""


class PrometheusReader:
    """TrafficReader over the HTTP API of Prometheus."""

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        return await asyncio.to_thread(_read, url, namespace, service, window_seconds)


def _read(url: str, namespace: str, service: str, window_seconds: int) -> Reading:
    with requests.Session() as session:
        client = PrometheusConnect(
            url=url, retry=_NO_RETRY, session=session, timeout=TIMEOUT_SECONDS
        )
        try:
            prompts = client.custom_query(
                queries.prompt_lengths(namespace, service, window_seconds)
            )
            finals = client.custom_query(queries.final_lengths(namespace, service, window_seconds))
            age = client.custom_query(queries.sample_age(namespace, service))
        except (requests.RequestException, PrometheusApiClientException) as error:
            raise PrometheusError(f"Prometheus at {url}: {_brief(error)}") from error
    return Reading(_histogram(prompts), _histogram(finals), _age(age))


def _histogram(rows: list[Any]) -> LengthHistogram:
    return LengthHistogram.of((row["metric"].get("le", ""), row["value"][1]) for row in rows)


def _age(rows: list[Any]) -> float:
    """Age of the newest sample; without any, infinite. Clocks may differ by a little."""
    ages = [float(row["value"][1]) for row in rows]
    return max(0.0, min(ages)) if ages else math.inf


def _brief(error: Exception) -> str:
    """The innermost cause in one line: the outer ones are about connection pools."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {str(cause) or str(error)}"[:300]
