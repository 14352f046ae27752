"""A line to one Prometheus: an HTTP session that is bounded in size and time and can be hung up."""

import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from cascade_operator.answer import MAX_BYTES, Row, rows_of
from cascade_operator.connection import Connection
from cascade_operator.credentials import read_credentials
from cascade_prometheus.answers import check
from cascade_prometheus.client import NO_RETRY, new_client


class Line:
    """The instant queries of one reading. Made and asked in a thread, hung up from any."""

    def __init__(self, connection: Connection) -> None:
        """Reads the credentials; connects when asked. Raises InvalidCredentials, ValueError."""
        self._sockets = _Sockets()
        self._session = _session(connection)
        url = connection.url.rstrip("/")
        self._client = new_client(url, self._session, connection.timeout_seconds)
        # For the client's own prefix, and for all else: requests look the adapter up by their
        # address as it is sent, in which `/%7E` and `/a/..` are spelt in another way.
        for prefix in (url, "http://", "https://"):
            self._session.mount(prefix, _Adapter(self._sockets))

    def ask(self, query: str) -> list[Row]:
        """The rows of an answer.

        Raises AnswerError; OSError, of which those of requests are some; ValueError for an address
        that is none.
        """
        rows: list[Row] = self._client.custom_query(query)
        return rows

    def hang_up(self) -> None:
        """End whatever is still under way, wherever it waits."""
        self._sockets.shut()
        self._session.close()


def _session(connection: Connection) -> requests.Session:
    credentials = read_credentials(connection)
    session = requests.Session()
    session.headers.update(credentials.headers)
    session.verify = credentials.verify
    session.cert = credentials.certificate
    # Without it a netrc file or the address itself would add credentials of its own.
    session.auth = lambda request: request
    session.hooks["response"].append(_check_answer)
    if connection.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return session


def _check_answer(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
    """Runs before redirects are followed, so that none is."""
    check(response, MAX_BYTES)
    return _Understood(rows_of(response.content))


class _Understood(requests.Response):
    """An answer that has been read, for the client, which would take it for any JSON."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.status_code = HTTPStatus.OK
        self._rows = rows

    def json(self, **_: Any) -> Any:
        return {"data": {"result": self._rows}}


class _Sockets:
    """The sockets of a session.

    A timeout of the client is for each wait: a server that sends a byte now and then is never
    late, nor is a host of a hundred addresses of which none answers. Shutting its socket ends a
    wait at once, in whichever thread it is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: set[socket.socket] = set()
        self._shut = False

    def connect(self, host: str, port: int, seconds: float | None) -> socket.socket:
        """To the first of the host's addresses that takes a connection. Raises OSError."""
        failure = OSError("the host has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            attempt = socket.socket(family, kind, protocol)
            held = self._hold(attempt)
            try:
                attempt.settimeout(seconds)
                attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                attempt.connect(address)
            except OSError as error:
                attempt.close()
                self._let_go(held)
                failure = error
            else:
                return attempt
        raise failure

    def shut(self) -> None:
        """End all of them, and those that are still being made."""
        with self._lock:
            self._shut = True
            for held in self._held:
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)
                held.close()
            self._held.clear()

    def _hold(self, made: socket.socket) -> socket.socket:
        """Remember a copy: TLS takes the object itself. Raises OSError after `shut`."""
        with self._lock:
            if self._shut:
                made.close()
                raise OSError("hung up")
            held = made.dup()
            self._held.add(held)
            return held

    def _let_go(self, held: socket.socket) -> None:
        with self._lock:
            self._held.discard(held)
            held.close()


class _Adapter(HTTPAdapter):
    """Requests' transport, with sockets that are held."""

    def __init__(self, sockets: _Sockets) -> None:
        self._pools = _pools(sockets)
        super().__init__(max_retries=NO_RETRY)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


class _WithoutCookies(HTTPResponse):
    """An answer whose cookies are not read: of a few MiB of them, requests make 100."""

    def begin(self) -> None:
        super().begin()
        del self.headers["Set-Cookie"]


def _pools(sockets: _Sockets) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        response_class = _WithoutCookies

        def _new_conn(self) -> socket.socket:
            return sockets.connect(self.host, self.port, self.timeout)

    class Tls(HTTPSConnection):
        response_class = _WithoutCookies

        def _new_conn(self) -> socket.socket:
            return sockets.connect(self.host, self.port, self.timeout)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = Tls

    return {"http": PlainPool, "https": TlsPool}
