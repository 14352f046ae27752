"""The client of prometheus-api-client as both the operator and the command use it."""

import ssl
from pathlib import Path
from typing import Final

import requests
from prometheus_api_client import PrometheusConnect
from urllib3.util.retry import Retry

NO_RETRY: Final = Retry(total=0, read=False)
"""Who asks decides when to ask again: a hanging Prometheus must not hold a thread for minutes."""


class InvalidAuthorities(ValueError):
    """A file holds no authorities; the message names it."""


def new_client(url: str, session: requests.Session, timeout_seconds: float) -> PrometheusConnect:
    """Asks `url` by `session`. Raises ValueError for what is no address."""
    return PrometheusConnect(
        url=url.rstrip("/"), retry=NO_RETRY, session=session, timeout=timeout_seconds
    )


def check_authorities(path: str | Path) -> None:
    """Whether a file holds certificates to trust. Raises InvalidAuthorities."""
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise InvalidAuthorities(f"{path} holds no certificate in PEM") from None
    except OSError as error:
        raise InvalidAuthorities(f"{path} cannot be read: {error.strerror or error}") from None
