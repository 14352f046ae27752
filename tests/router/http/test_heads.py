"""What is read in the head of a request, and what is refused because it can be read in two ways."""

import time

import pytest

from cascade_router import limits
from cascade_router.errors import RequestError
from cascade_router.passed import PASSED
from cascade_router.request_head import HOP_BY_HOP, Head, find_head, judge
from tests.router.http.wire import talk


def read(text: str, *, http: str = "1.1") -> Head:
    """The head of a request: its first line without the version, then its other lines."""
    first, _, lines = text.partition("\n")
    raw = f"{first} HTTP/{http}\n{lines}\n\n".replace("\n", "\r\n").replace(
        "\r\n\r\n\r\n", "\r\n\r\n"
    )
    data = raw.encode("latin-1")
    assert find_head(data, 0) == len(data)
    return judge(data)


HOST = b"host: a\r\n"
REFUSED = [
    # The first line.
    ("no first line", b"nonsense\r\n\r\n", 400),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("two spaces", b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a tab for a space", b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a space behind the version", b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n", 400),
    ("a space before the method", b" GET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("two empty lines", b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method that is no token", b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a method that nobody knows", b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ("a method in lower case", b"get / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    ("a version in lower case", b"GET / http/1.1\r\n" + HOST + b"\r\n", 400),
    ("a version of more digits", b"GET / HTTP/1.10\r\n" + HOST + b"\r\n", 400),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("the hello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # The target.
    ("no target", b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("an asterisk", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a path without a slash", b"GET health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a fragment", b"GET /health#a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("another scheme", b"GET ftp://a/health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a URL without a host", b"GET http:///health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a URL with a user", b"GET http://u@a/health HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target with other bytes", b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target with a NUL", b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("a target that is too long", b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    # The lines.
    ("a folded line", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\r\n b\r\n\r\n", 400),
    ("a folded first header", b"GET / HTTP/1.1\r\n x: a\r\n" + HOST + b"\r\n", 400),
    ("a space before the colon", b"GET / HTTP/1.1\r\n" + HOST + b"x : a\r\n\r\n", 400),
    ("a name with a space", b"GET / HTTP/1.1\r\n" + HOST + b"x y: a\r\n\r\n", 400),
    ("no colon", b"GET / HTTP/1.1\r\n" + HOST + b"x\r\n\r\n", 400),
    ("no name", b"GET / HTTP/1.1\r\n" + HOST + b": a\r\n\r\n", 400),
    ("a name of other bytes", b"GET / HTTP/1.1\r\n" + HOST + b"\xe9: a\r\n\r\n", 400),
    ("a line feed alone", b"GET / HTTP/1.1\n" + HOST + b"\r\n", 400),
    ("line feeds only", b"GET / HTTP/1.1\nhost: a\n\n", 400),
    ("a line feed in a value", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\ny: b\r\n\r\n", 400),
    ("a carriage return in a value", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\ry: b\r\n\r\n", 400),
    ("a NUL in a value", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\0b\r\n\r\n", 400),
    ("a control character", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\x1bb\r\n\r\n", 400),
    ("a delete character", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\x7fb\r\n\r\n", 400),
    ("too many headers", b"GET / HTTP/1.1\r\n" + HOST + b"x: a\r\n" * 100 + b"\r\n", 431),
    ("a head too large", b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 65536 + b"\r\n\r\n", 431),
    ("a head without an end", b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 65536, 431),
    # Where it is for.
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    ("a host that is none", b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
    # How long it is.
    ("length and coding", b"POST / HTTP/1.1\r\n" + HOST
     + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    ("coding and length", b"POST / HTTP/1.1\r\n" + HOST
     + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n", 400),
    ("two lengths", b"POST / HTTP/1.1\r\n" + HOST
     + b"content-length: 3\r\ncontent-length: 4\r\n\r\n", 400),
    ("one length twice", b"POST / HTTP/1.1\r\n" + HOST
     + b"content-length: 3\r\nContent-Length: 3\r\n\r\n", 400),
    ("a list of lengths", b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 3, 3\r\n\r\n", 400),
    ("a length with a sign", b"POST / HTTP/1.1\r\n" + HOST + b"content-length: +3\r\n\r\n", 400),
    ("a negative length", b"POST / HTTP/1.1\r\n" + HOST + b"content-length: -3\r\n\r\n", 400),
    ("a length in hex", b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 0x3\r\n\r\n", 400),
    ("a length of other digits", b"POST / HTTP/1.1\r\n" + HOST
     + b"content-length: \xb2\r\n\r\n", 400),
    ("an empty length", b"POST / HTTP/1.1\r\n" + HOST + b"content-length:\r\n\r\n", 400),
    ("two codings", b"POST / HTTP/1.1\r\n" + HOST
     + b"transfer-encoding: gzip, chunked\r\n\r\n", 400),
    ("chunked twice", b"POST / HTTP/1.1\r\n" + HOST
     + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    ("identity", b"POST / HTTP/1.1\r\n" + HOST + b"transfer-encoding: identity\r\n\r\n", 400),
    ("a coding that looks like chunked", b"POST / HTTP/1.1\r\n" + HOST
     + b"transfer-encoding: \x0bchunked\r\n\r\n", 400),
    ("a quoted coding", b"POST / HTTP/1.1\r\n" + HOST
     + b'transfer-encoding: "chunked"\r\n\r\n', 400),
    ("chunks of HTTP/1.0", b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    # What it wants.
    ("another expectation", b"POST / HTTP/1.1\r\n" + HOST + b"expect: gold\r\n\r\n", 417),
    ("two expectations", b"POST / HTTP/1.1\r\n" + HOST
     + b"expect: 100-continue\r\nexpect: gold\r\n\r\n", 417),
    ("two keys", b"GET / HTTP/1.1\r\n" + HOST
     + b"authorization: a\r\nAuthorization: b\r\n\r\n", 400),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "status"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED]
)
def test_what_is_refused_is_answered_once_and_the_connection_closed(
    data: bytes, status: int
) -> None:
    seen = talk(data, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert seen.statuses == [status]
    assert b"connection: close\r\n" in seen.sent
    assert seen.wire.over
    assert not seen.service.heads
    assert not seen.service.requests


@pytest.mark.parametrize(
    ("data", "status"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED]
)
def test_it_is_refused_with_the_same_words_however_it_comes(data: bytes, status: int) -> None:
    whole = talk(data)
    step = 1 if len(data) < 1000 else 997
    pieces = talk(*(data[start : start + step] for start in range(0, len(data), step)))
    assert (whole.sent, whole.wire.over) == (pieces.sent, pieces.wire.over)
    assert whole.statuses == [status]


@pytest.mark.parametrize(
    "beginning",
    [b"\x16", b"\x00", b"\r\r", b"\r\n\r", b"GET / HTTP/1.1\n", b"(", b"\x80"],
)
def test_what_can_become_no_head_is_refused_at_once(beginning: bytes) -> None:
    assert talk(beginning).statuses == [400]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/health", "/health"),
        ("/health?", "/health"),
        ("/health?a=b?c=/d", "/health"),
        ("/", "/"),
        ("http://example.org/health", "/health"),
        ("HTTPS://example.org:8443/health?a=b", "/health"),
        ("http://[::1]:80/health", "/health"),
        ("http://example.org", "/"),
        ("http://example.org?a=/health", "/"),
        ("//example.org/health", "//example.org/health"),
        ("/%68ealth", "/%68ealth"),
        ("/v1/../health", "/v1/../health"),
        ("/health;a=b", "/health;a=b"),
        ("/health/", "/health/"),
        ("/health%3Fa", "/health%3Fa"),
        ("/HEALTH", "/HEALTH"),
        ("/health\\", "/health\\"),
        ("/health%00", "/health%00"),
    ],
)
def test_a_path_is_taken_as_it_is_written(target: str, path: str) -> None:
    assert read(f"GET {target}\nhost: other").path == path


def test_values_lose_the_space_around_them_and_nothing_else() -> None:
    head = read("GET /\nhost:a\nX-One: \t a \t b \t \nx-two:\nx-three: é\x80")
    assert head.headers == {"host": "a", "x-one": "a \t b", "x-two": "", "x-three": "é\x80"}


def test_of_doubled_headers_the_first_counts_and_lists_are_joined() -> None:
    head = read("GET /\nhost: a\nx: 1\nX: 2\ntracestate: a=1\ntracestate: b=2")
    assert (head.headers["x"], head.headers["tracestate"]) == ("1", "a=1, b=2")


def test_hop_by_hop_headers_go_no_further_and_neither_do_those_that_connection_names() -> None:
    lines = "".join(f"{name}: 1\n" for name in HOP_BY_HOP if name not in (
        "connection", "transfer-encoding"))  # fmt: skip
    head = read(f"GET /\nhost: a\n{lines}connection: x-mine, Traceparent\nconnection:tracestate\n"
                "x-mine: 1\ntraceparent: 2\ntracestate: 3\nx-other: 4")  # fmt: skip
    assert head.headers == {"host": "a", "x-other": "4"}
    assert not PASSED & HOP_BY_HOP


@pytest.mark.parametrize(
    ("lines", "http", "kept"),
    [
        ("host: a", "1.1", True),
        ("host: a\nconnection: keep-alive", "1.1", True),
        ("host: a\nconnection: Close", "1.1", False),
        ("host: a\nconnection: x,\tclose", "1.1", False),
        ("host: a\nconnection: x\nconnection: close", "1.1", False),
        ("host: a\nconnection: closed", "1.1", True),
        ("host: a", "1.0", False),
        ("host: a\nconnection: keep-alive", "1.0", False),
        ("x: y", "1.0", False),
    ],
)
def test_a_connection_is_kept_unless_one_side_cannot(lines: str, http: str, kept: bool) -> None:
    assert read(f"GET /\n{lines}", http=http).keep_alive is kept


@pytest.mark.parametrize(
    ("lines", "http", "offered"),
    [
        ("connection: Upgrade\nupgrade: Cascade-Channel", "1.1", "cascade-channel"),
        ("connection: upgrade, http2-settings\nupgrade: h2c\nhttp2-settings: x", "1.1", "h2c"),
        ("upgrade: h2c", "1.1", ""),
        ("connection: upgrade", "1.1", ""),
        ("connection: upgrade\nupgrade: h2c", "1.0", ""),
    ],
)
def test_an_upgrade_is_offered_with_both_headers_of_http_1_1(
    lines: str, http: str, offered: str
) -> None:
    assert read(f"GET /\nhost: a\n{lines}", http=http).upgrade == offered


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ("x: y", 0),
        ("content-length: 0", 0),
        ("content-length: 0007", 7),
        ("content-length: " + "9" * 5000, 10**18),
        ("transfer-encoding: Chunked", None),
    ],
)
def test_the_length_of_a_body_is_known_from_the_head(lines: str, length: int | None) -> None:
    assert read(f"POST /\nhost: a\n{lines}").length == length


def test_http_1_0_waits_for_no_continue() -> None:
    assert not read("POST /\nexpect: 100-continue", http="1.0").expects_continue
    assert not read("POST /\nexpect: gold", http="1.0").expects_continue


def test_a_head_of_the_largest_size_is_read_in_linear_time() -> None:
    """Repeated or nested runs of the same characters would show in a reader that goes back."""
    first = b"GET / HTTP/1.1\r\nhost: a\r\n"
    size = limits.MAX_HEAD_BYTES - len(first) - 10
    started = time.process_time()
    for filling in (b" ", b"a", b"\t ", b"a:", b"\xe9", b"/"):
        for shape in (b"x:%b\r\n\r\n", b"%b\r\n\r\n", b"x:%b\0\r\n\r\n"):
            data = first + shape % (filling * (size // len(filling)))
            assert find_head(data, 0) == len(data)
            try:
                judge(data)
            except RequestError as error:
                assert error.status == 400  # noqa: PT017 - most are refused
    assert time.process_time() - started < 2.0, "18 heads of 64 KB take some 10 ms"
