"""What can be wrong with a Prometheus, as reasons and words that say what to do about it.

Its answers are never shown: the address may be one that a user chose, of anything that the
operator can reach and the user cannot.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import requests

from cascade_operator.answer import Incomplete, NotPrometheus
from cascade_operator.connection import Connection
from cascade_operator.credentials import InvalidCredentials
from cascade_operator.reasons import Reason
from cascade_prometheus.address import shown
from cascade_prometheus.answers import (
    NOT_PROMETHEUS,
    AnswerError,
    StatusError,
    TooLarge,
    brief,
    innermost,
)

_HINTS: Final = {
    400: "check that it is a Prometheus, and that it speaks http or https as the address says",
    422: "check that the planning window fits into what one query may look at there",
    429: "it limits queries: raise the limit there or spec.planning.intervalSeconds",
}


class PrometheusError(Exception):
    """Prometheus gave no traffic; the message names the address, but no secret and no answer."""

    def __init__(self, message: str, reason: Reason = Reason.PROMETHEUS_UNREACHABLE) -> None:
        super().__init__(message)
        self.reason = reason


def too_slow(connection: Connection, seconds: float) -> PrometheusError:
    """The full answer did not come in time."""
    return _failure(
        connection,
        Reason.PROMETHEUS_UNREACHABLE,
        f"no full answer within {seconds:g} s: check that it is the right address and not "
        "overloaded, or raise the chart's prometheus.timeoutSeconds",
    )


@contextmanager
def told(connection: Connection) -> Iterator[None]:
    """Turns every failure of asking into a PrometheusError."""
    try:
        yield
    except (InvalidCredentials, AnswerError) as error:
        raise _of_answer(connection, error) from None
    except requests.exceptions.InvalidURL:
        raise _no_address(connection) from None
    except requests.exceptions.SSLError as error:
        raise _of_tls(connection, error) from None
    except requests.Timeout:
        raise too_slow(connection, connection.timeout_seconds) from None
    except OSError as error:  # of requests, too
        raise _failure(
            connection,
            Reason.PROMETHEUS_UNREACHABLE,
            f"{brief(error)}: check the address, that the server runs, and network rules",
        ) from None
    except ValueError:
        raise _no_address(connection) from None


def _of_answer(connection: Connection, error: Exception) -> PrometheusError:
    """What the answer says, or that it was not even asked for."""
    if isinstance(error, StatusError):
        return _of_status(connection, error)
    if isinstance(error, InvalidCredentials):
        what = f"{error}: check the Secret or the file that the chart's prometheus values name"
        return _failure(connection, Reason.PROMETHEUS_UNAUTHORIZED, what)
    if isinstance(error, Incomplete):
        what = (
            "it warns that its answer may lack data: see that every store and remote read behind "
            "it works; its query page shows the warning"
        )
        return _failure(connection, Reason.METRICS_INCOMPLETE, what)
    if isinstance(error, TooLarge):
        what = (
            f"{error}: check that it is the right address, and that the metrics of routers are as "
            "they tell them"
        )
        return _failure(connection, Reason.PROMETHEUS_FAILED, what)
    if isinstance(error, NotPrometheus):
        return _failure(connection, Reason.PROMETHEUS_FAILED, NOT_PROMETHEUS)
    what = "it says that the query failed: its own log says why"
    return _failure(connection, Reason.PROMETHEUS_FAILED, what)


def _of_status(connection: Connection, error: StatusError) -> PrometheusError:
    if error.code in (401, 403, 407):
        advice = (
            "check the credentials of the chart's prometheus values: they may have expired, or "
            "may not query"
            if connection.operator_wide
            else "credentials are sent to the operator-wide Prometheus alone: leave "
            "spec.prometheus.url out, or name a server that asks for none"
        )
        return _failure(connection, Reason.PROMETHEUS_UNAUTHORIZED, f"{error}: {advice}")
    advice = error.advice or _HINTS.get(error.code, "see its log, and that it is healthy")
    return _failure(connection, Reason.PROMETHEUS_FAILED, f"{error}: {advice}")


def _of_tls(connection: Connection, error: Exception) -> PrometheusError:
    """OpenSSL's words about certificates and alerts; those of a server are not among them."""
    cause = innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        advice = (
            "name its authority in the chart's prometheus.caSecret, or the host as its certificate "
            "does"
            if connection.operator_wide
            else "only public authorities are trusted there"
        )
        what = f"its certificate is not trusted ({cause.verify_message}): {advice}"
    else:
        alert = (getattr(cause, "reason", None) or "no TLS").replace("_", " ").lower()
        what = (
            f"TLS failed ({alert}): check that it speaks https, and whether it asks for a client "
            "certificate"
        )
    return _failure(connection, Reason.PROMETHEUS_UNREACHABLE, what)


def _no_address(connection: Connection) -> PrometheusError:
    return _failure(
        connection,
        Reason.PROMETHEUS_UNREACHABLE,
        "this is no address: write http(s)://host[:port][/path]",
    )


def _failure(connection: Connection, reason: Reason, what: str) -> PrometheusError:
    return PrometheusError(f"Prometheus at {shown(connection.url)}: {what}", reason)
