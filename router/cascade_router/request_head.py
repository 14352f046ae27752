"""Judges the head of a request: what it says, or why it is refused.

Pure, and stricter than most readers: what two programs could read in two ways is refused, so that a
proxy in front of the router never sees other requests than the router does. Errors repeat nothing
of what was sent.
"""

import re
from typing import Final, NamedTuple

from cascade_policy.names import HEADER_HOP
from cascade_router import limits
from cascade_router.errors import INVALID_REQUEST, RequestError

END: Final = b"\r\n\r\n"
_END_BYTES: Final = len(END)
_EMPTY_LINE: Final = b"\r\n"
_KEEP_ALIVE: Final = "keep-alive"

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE: Final = r"[\t\x20-\x7e\x80-\xff]"
# Possessive throughout: a head is read once from left to right, whatever it holds.
_FIRST_LINE: Final = rf"({_TOKEN}++) ([!-~]++) HTTP/([0-9]\.[0-9])\r\n"
_LINES: Final = rf"(?:{_TOKEN}++:{_VALUE}*+\r\n)*+"
FIELD_LINES: Final = re.compile(_LINES)
"""Any number of header or trailer lines: no folded ones, no space before the colon, and nothing in
a value that ends a line or a string somewhere else."""
_HEAD: Final = re.compile(rf"(?:\r\n)?+{_FIRST_LINE}({_LINES})\r\n")
_FIELD: Final = re.compile(r"([^:]+): *([^\r]*)\r\n")
"""One line, where FIELD_LINES has looked at all of them."""
_ABSOLUTE: Final = re.compile(r"https?://[A-Za-z0-9.\-_~%!$&'()*+,;=:\[\]]++(?=[/?]|$)", re.I)
_FIRST_LINE_FORM: Final = "the first line must be `METHOD TARGET HTTP/1.1`"
_HOST: Final = re.compile(r"[A-Za-z0-9.\-_~%!$&'()*+,;=:\[\]]*+")
_LENGTH: Final = re.compile(r"[0-9]++")
_LENGTH_DIGITS: Final = 18
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_TLS_RECORD: Final = b"\x16"
_NO_METHOD: Final = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")

_METHODS: Final = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)
_VERSIONS: Final = ("1.1", "1.0")
_ONCE: Final = frozenset(
    ("host", "content-length", "transfer-encoding", "authorization", "x-api-key", HEADER_HOP)
)
"""What frames a message or says who sends it is said once, even in the same words."""
_LISTS: Final = frozenset(("connection", "expect", "tracestate", "upgrade"))
"""Several lines of these are one list; of others the first line counts."""
HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
     "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip


class Head(NamedTuple):
    """What the head of a request says."""

    method: str
    path: str
    """As it was written, without the query: neither decoded nor normalised."""
    headers: dict[str, str]
    """Names in lower case; without what is between the client and this connection only."""
    length: int | None
    """Bytes of the body; None for one that comes in chunks."""
    http_1_0: bool
    keep_alive: bool
    expects_continue: bool
    upgrade: str
    """The protocol that is offered, in lower case; empty for none."""


def find_head(data: bytes, searched: int) -> int:
    """Where the head at the beginning of `data` ends, its empty line included; 0 when that has not
    come yet. The first `searched` bytes are known to hold no end.

    Raises RequestError for what can never become a head, as soon as that is seen.
    """
    within = limits.MAX_HEAD_BYTES
    start = searched - _END_BYTES if searched > _END_BYTES else 0
    end = data.find(END, start, within)
    if end >= 0:
        return end + _END_BYTES
    _check_beginning(data)
    if _BARE_LF.search(data, start, within) is not None:
        raise _bare_line_feed()
    if len(data) >= within:
        raise RequestError(431, INVALID_REQUEST, f"the head is larger than {within} bytes")
    return 0


def judge(raw: bytes) -> Head:
    """What a whole head says, as `find_head` cuts it. Raises RequestError."""
    text = raw.decode("latin-1")
    found = _HEAD.fullmatch(text)
    if found is None:
        raise _why_unreadable(raw)
    method, target, version, block = found.groups()
    if version not in _VERSIONS:
        raise RequestError(505, INVALID_REQUEST, "this server speaks HTTP/1.1 and HTTP/1.0")
    if method not in _METHODS:
        raise RequestError(501, INVALID_REQUEST, "this method is not known here")
    path = _path(target)
    headers = _headers(block)
    old = version == "1.0"
    _check_host(headers, old)
    length = _length(headers, old)
    expects = "expect" in headers and _expects_continue(headers, old)
    keep_alive, upgrade = _take_hop_by_hop(headers, old)
    return Head(method, path, headers, length, old, keep_alive, expects, upgrade)


def _skipped(data: bytes) -> int:
    """One empty line before a request is passed over: some clients end a body with it."""
    return len(_EMPTY_LINE) if data.startswith(_EMPTY_LINE) else 0


def _check_beginning(data: bytes) -> None:
    if data.startswith(_TLS_RECORD):
        raise _invalid("this port speaks HTTP without TLS")
    if data != b"\r" and _NO_METHOD.match(data, _skipped(data)) is not None:
        raise _invalid(_FIRST_LINE_FORM)


def _why_unreadable(raw: bytes) -> RequestError:
    """In the order in which `find_head` sees it, if it comes in pieces."""
    _check_beginning(raw)
    if _BARE_LF.search(raw) is not None:
        return _bare_line_feed()
    line = raw[_skipped(raw) :].decode("latin-1").partition("\r\n")[0]
    if re.fullmatch(_FIRST_LINE, line + "\r\n") is None:
        return _invalid(_FIRST_LINE_FORM)
    return _invalid("a header line must be `NAME: VALUE` without control characters")


def _bare_line_feed() -> RequestError:
    return _invalid("a line ends without a carriage return")


def _path(target: str) -> str:
    """The path of a target in origin or absolute form."""
    if len(target) > limits.MAX_TARGET_BYTES:
        raise RequestError(
            414, INVALID_REQUEST, f"the target is longer than {limits.MAX_TARGET_BYTES} bytes"
        )
    if "#" in target:
        raise _invalid("the target must have no fragment")
    if not target.startswith("/"):
        authority = _ABSOLUTE.match(target)
        if authority is None:
            raise _invalid("the target must be a path or a URL; this is no proxy")
        target = target[authority.end() :]
    return target.partition("?")[0] or "/"


def _headers(block: str) -> dict[str, str]:
    lines = _FIELD.findall(block)
    if len(lines) > limits.MAX_HEADERS:
        raise RequestError(
            431, INVALID_REQUEST, f"the head has more than {limits.MAX_HEADERS} headers"
        )
    if "\t" in block or " \r" in block:
        lines = [(name, value.strip(" \t")) for name, value in lines]
    headers = {name.lower(): value for name, value in lines}
    return headers if len(headers) == len(lines) else _merged(lines)


def _merged(lines: list[tuple[str, str]]) -> dict[str, str]:
    """The headers of lines of which some have the same name."""
    headers: dict[str, str] = {}
    for written, value in lines:
        name = written.lower()
        if name not in headers:
            headers[name] = value
        elif name in _ONCE:
            raise _invalid(f"there is more than one {name}")
        elif name in _LISTS:
            headers[name] += f", {value}"
    return headers


def _check_host(headers: dict[str, str], old: bool) -> None:
    host = headers.get("host")
    if host is None:
        if not old:
            raise _invalid("there is no host header")
    elif _HOST.fullmatch(host) is None:
        raise _invalid("the host header is no host")


def _length(headers: dict[str, str], old: bool) -> int | None:
    """How many bytes the body has; None for chunks."""
    length, coding = headers.get("content-length"), headers.get("transfer-encoding")
    if coding is not None:
        if length is not None:
            raise _invalid("there are both transfer-encoding and content-length")
        if old or coding.lower() != "chunked":
            raise _invalid("the only transfer-encoding is chunked, of HTTP/1.1")
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise _invalid("the content-length is no number")
    # Beyond all limits, and cheap to read all the same.
    return int(length) if len(length) <= _LENGTH_DIGITS else 10**_LENGTH_DIGITS


def _expects_continue(headers: dict[str, str], old: bool) -> bool:
    if old:
        return False
    if headers["expect"].lower() != "100-continue":
        raise RequestError(417, INVALID_REQUEST, "the only expectation is 100-continue")
    return True


def _take_hop_by_hop(headers: dict[str, str], old: bool) -> tuple[bool, str]:
    """Take away what is for this connection only, and what `connection` says is; whether the
    connection may be kept, and the protocol that is offered."""
    options = headers.pop("connection", "").lower()
    upgrade = headers.get("upgrade", "").lower()
    if not HOP_BY_HOP.isdisjoint(headers):
        for name in HOP_BY_HOP & headers.keys():
            del headers[name]
    if not options or options == _KEEP_ALIVE:
        return not old, ""
    named = {option.strip(" \t") for option in options.split(",")}
    for name in named & headers.keys():
        del headers[name]
    keep_alive = not (old or "close" in named)
    return keep_alive, "" if old or "upgrade" not in named else upgrade


def _invalid(what: str) -> RequestError:
    return RequestError(400, INVALID_REQUEST, f"this is not a valid HTTP/1.1 request: {what}")
