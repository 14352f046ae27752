"""Requests for fuzzing: valid ones, ones that are wrong in one place, and how they are cut."""

from typing import Final

from hypothesis import strategies as st

METHODS: Final = (b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS")
ODD_METHODS: Final = (b"get", b"CONNECT", b"PRI", b"G T", b"", b"BREW", b"P\x00ST")
TARGETS: Final = (
    b"/",
    b"/health",
    b"/v1/completions?a=b",
    b"/a//b",
    b"/%2e%2e",
    b"/;a",
    b"/secret",
    b"http://h/x?y",
    b"https://h:1",
    b"/?",
)
ODD_TARGETS: Final = (
    b"*",
    b"h:443",
    b"a",
    b"/a#b",
    b"/\xe9",
    b"/a b",
    b"http://",
    b"http://u@h/",
    b"/" + b"a" * 120,
)
VERSIONS: Final = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0")
ODD_VERSIONS: Final = (b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/1.1 ", b"HTTP/0.9", b"")
LINES: Final = (
    b"accept: */*",
    b"x:1",
    b"X-A: \t b \t",
    b"x-empty:",
    b"x-text: \xe9\x85\xa0",
    b"cookie: a=b; c",
    b"connection: close",
    b"connection: keep-alive",
    b"Connection: x-a, te",
    b"te: trailers",
    b"tracestate: a=1",
    b"tracestate: b=2",
    b"expect: 100-continue",
    b"authorization: Bearer k",
    b"upgrade: h2c",
    b"connection: upgrade",
    b"keep-alive: timeout=5",
)
ODD_LINES: Final = (
    b"x : 1",
    b" folded",
    b"\tfolded",
    b"x",
    b": 1",
    b"x y: 1",
    b"x: \x00",
    b"x: \x7f",
    b"x: a\rb",
    b"x: a\nb",
    b"host: other",
    b"host: a/b",
    b"content-length: 3",
    b"content-length: 03",
    b"content-length: +3",
    b"content-length: 3, 3",
    b"content-length: 1e1",
    b"content-length: ",
    b"content-length: 99999999999999999999999",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: identity",
    b"Transfer-Encoding: CHUNKED",
    b"transfer-encoding:\x0bchunked",
    b"expect: gold",
    b"authorization: again",
    b"\xe9: a",
)
ENDS: Final = (b"\r\n",) * 120 + (b"\n", b"\r", b"\r\r\n", b"\n\r\n")
ALPHABET: Final = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"f",
    b"\x00",
    b"\x16",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"-",
    b"+",
    b"_",
    b"x",
    b"/",
    b"#",
)
TRAILERS: Final = (b"", b"", b"x-sum: 1\r\n", b"content-length: 5\r\n", b"x : 1\r\n", b" a\r\n")
EXTENSIONS: Final = (b"", b"", b";a", b";a=b", b';a="b;c"', b" ;a", b";\xe9", b";a\rb", b" ")


def _mostly(common: tuple[bytes, ...], odd: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """One of `common`, seldom of `odd`: nearly all requests have at most one thing wrong."""
    return st.sampled_from(common * max(1, 19 * len(odd) // len(common)) + odd)


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """A chunked body."""
    wire = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4)):
        form = draw(st.sampled_from((b"%x", b"%x", b"%X", b"0%x", b"%x")))
        extension = draw(_mostly(EXTENSIONS[:5], EXTENSIONS[5:]))
        wire += form % len(data) + extension + draw(st.sampled_from(ENDS)) + data
        wire += draw(_mostly((b"\r\n",), (b"\n\r", b"xy", b"\r\r", b"\n", b"")))
    last = draw(_mostly((b"0\r\n", b"000\r\n", b"0;a\r\n"), (b"0", b"0\n", b"\r\n", b"-0\r\n")))
    return wire + last + draw(_mostly(TRAILERS[:4], TRAILERS[4:])) + b"\r\n"


@st.composite
def request(draw: st.DrawFn) -> bytes:
    """One request, nearly valid."""
    method = draw(_mostly(METHODS, ODD_METHODS))
    target = draw(_mostly(TARGETS, ODD_TARGETS))
    version = draw(_mostly(VERSIONS, ODD_VERSIONS))
    lines = draw(st.lists(_mostly(LINES, ODD_LINES), max_size=6))
    lines.insert(
        draw(st.integers(0, len(lines))), draw(_mostly((b"host: a", b"Host:a"), (b"x: y",)))
    )
    framing = draw(st.sampled_from(("none", "sized", "chunked")))
    body = b""
    if framing == "sized":
        body = draw(st.binary(max_size=40))
        lines.append(b"content-length: %d" % len(body))
    elif framing == "chunked":
        body = draw(chunked())
        lines.append(b"transfer-encoding: chunked")
    first = b" ".join((method, target, version))
    head = b"".join(line + draw(st.sampled_from(ENDS)) for line in (first, *lines))
    return draw(_mostly((b"",), (b"\r\n", b"\n", b"\r\n\r\n"))) + head + b"\r\n" + body


@st.composite
def mutated(draw: st.DrawFn, wire: bytes) -> bytes:
    """The same with some bytes put in, taken away, doubled or exchanged."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(wire)))
        end = min(len(wire), at + draw(st.integers(0, 4)))
        what = draw(st.sampled_from(("put", "take", "double", "exchange")))
        put = draw(st.sampled_from(ALPHABET))
        if what == "put":
            wire = wire[:at] + put + wire[at:]
        elif what == "take":
            wire = wire[:at] + wire[end:]
        elif what == "double":
            wire = wire[:end] + wire[at:]
        else:
            wire = wire[:at] + put + wire[end:]
    return wire


@st.composite
def conversation(draw: st.DrawFn) -> bytes:
    """What a client sends: some requests, most of them untouched."""
    wire = b"".join(draw(st.lists(request(), min_size=1, max_size=3)))
    return draw(mutated(wire)) if draw(st.booleans()) else wire


@st.composite
def cuts(draw: st.DrawFn, wire: bytes) -> list[int]:
    """Where `wire` is cut: anywhere, and at the line ends, where it matters most."""
    ends = [at for at in range(1, len(wire)) if wire[at - 1] in b"\r\n" or wire[at] in b"\r\n"]
    anywhere = st.integers(0, len(wire))
    place = st.one_of(anywhere, st.sampled_from(ends)) if ends else anywhere
    return draw(st.one_of(st.lists(place, max_size=8), st.just(list(range(len(wire))))))
