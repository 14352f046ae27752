"""A line to one Prometheus: an HTTP session that is bounded in size and time and can be hung up."""

import errno
import os
import selectors
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
        self._held: dict[socket.socket, socket.socket] = {}
        self._shut = False

    def connect(self, host: str, port: int, seconds: float | None) -> socket.socket:
        """To the first of the host's addresses that takes a connection. Raises OSError."""
        failure = OSError("the host has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        ):
            attempt = socket.socket(family, kind, protocol)
            try:
                self._begin(attempt, address)
                _await_connection(attempt, seconds)
            except OSError as error:
                self._let_go(attempt)
                failure = error
            else:
                return attempt
        raise failure

    def shut(self) -> None:
        """End all of them, and those that are still being made."""
        with self._lock:
            self._shut = True
            for held in self._held.values():
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)
                held.close()
            self._held.clear()

    def _begin(self, attempt: socket.socket, address: Any) -> None:
        """Begin to connect, and remember a copy: TLS takes the object itself.

        In one step, since shutting a socket that does not connect yet has no effect: it would
        connect afterwards. Raises OSError where it fails at once, and after `shut`.
        """
        with self._lock:
            if self._shut:
                raise OSError("hung up")
            attempt.setblocking(False)
            attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            failure = attempt.connect_ex(address)
            if failure not in (0, errno.EINPROGRESS):
                raise OSError(failure, os.strerror(failure))
            self._held[attempt] = attempt.dup()

    def _let_go(self, attempt: socket.socket) -> None:
        attempt.close()
        with self._lock:
            if held := self._held.pop(attempt, None):
                held.close()


def _await_connection(attempt: socket.socket, seconds: float | None) -> None:
    """Until it stands. Raises OSError where it fails, TimeoutError where it takes longer."""
    with selectors.PollSelector() as waiting:
        waiting.register(attempt, selectors.EVENT_WRITE)
        if not waiting.select(seconds):
            raise TimeoutError("timed out")
    if failure := attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(failure, os.strerror(failure))
    attempt.settimeout(seconds)


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
