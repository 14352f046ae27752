"""What happens on a connection over time: order, deadlines, ends, faults."""

import asyncio

import pytest

from cascade_router import limits
from cascade_router.http1 import Request
from cascade_router.server import ClientConnection
from tests.router.http.wire import Recorder, talk

GET = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n"
CLOSE = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
EXPECT = b"POST %b HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: %d\r\n\r\n"


# One after the other ------------------------------------------------------------------------------


def test_pipelined_requests_are_given_to_the_service_one_at_a_time() -> None:
    service = Recorder(hold=True)
    seen = talk(GET % 1 + GET % 2, GET % 3, service=service)
    for number in (1, 2, 3):
        assert [head.path for head in service.heads] == [f"/{one + 1}" for one in range(number)]
        service.waiting[-1].respond(200, b"%d" % number)
        assert seen.statuses == [200] * number
    assert seen.sent.index(b"\r\n\r\n1") < seen.sent.index(b"\r\n\r\n2")


def test_a_client_that_sends_too_much_ahead_is_cut_off() -> None:
    service = Recorder(hold=True)
    seen = talk(GET % 1, b"x" * limits.MAX_AHEAD_BYTES, service=service)
    assert not seen.wire.closed
    seen.say(b"x")
    assert seen.wire.aborted
    assert service.gone == 1


def test_thousands_of_pipelined_requests_need_no_deeper_stack() -> None:
    seen = talk(b"".join(GET % number for number in range(5000)))
    assert seen.statuses == [200] * 5000


def test_nothing_is_answered_behind_the_last_request() -> None:
    seen = talk(GET % 1 + CLOSE + GET % 2)
    assert [request.path for request in seen.service.requests] == ["/1", "/last"]
    assert (seen.statuses, seen.wire.closed) == ([200, 200], True)
    assert seen.sent.count(b"connection: close\r\n") == 1


def test_one_empty_line_between_requests_is_passed_over() -> None:
    seen = talk(POST + b"abc\r\n" + GET % 1 + b"\r\n" + GET % 2)
    assert seen.statuses == [200] * 3
    assert seen.service.requests[0].body == b"abc"


def test_a_server_that_leaves_closes_after_each_answer() -> None:
    seen = talk()
    seen.book.draining = True
    assert seen.say(GET % 1).wire.closed
    assert b"connection: close\r\n" in seen.sent


# Of other ages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [b"", b"connection: keep-alive\r\nhost: a\r\n"])
def test_http_1_0_gets_one_answer_that_ends_with_the_connection(lines: bytes) -> None:
    def stream(client: ClientConnection, _: Request) -> None:
        client.begin(200, [])
        client.body(b"one ")
        client.end(b"two")

    seen = talk(b"GET / HTTP/1.0\r\n" + lines + b"\r\n", service=Recorder(instead=stream))
    head, _, body = seen.sent.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert b"\r\nconnection: close" in head
    assert (body, seen.wire.closed) == (b"one two", True)


@pytest.mark.parametrize("offered", [b"h2c", b"websocket", b"TLS/1.0"])
def test_an_upgrade_that_is_not_for_us_is_ignored(offered: bytes) -> None:
    seen = talk(
        b"POST / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: "
        + offered
        + b"\r\nhttp2-settings: AAMAAABkAAQAAP__\r\ncontent-length: 3\r\n\r\nabc"
        + GET % 1
    )
    assert seen.statuses == [200, 200]
    assert seen.service.requests[0].headers == {"host": "a", "content-length": "3"}


def test_a_connection_is_handed_over_with_what_was_read_ahead() -> None:
    class Successor(asyncio.Protocol):
        def __init__(self) -> None:
            self.heard = b""

        def data_received(self, data: bytes) -> None:
            self.heard += data

    successor = Successor()

    def switch(client: ClientConnection, _: Request) -> None:
        client.switch([("upgrade", "x")], lambda: successor)

    seen = talk(GET % 1 + b"frames", service=Recorder(instead=switch))
    assert seen.sent == b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"
    assert (successor.heard, seen.wire.protocol) == (b"frames", successor)
    assert not seen.book.open

    service = Recorder(hold=True)
    late = talk(GET % 1, b"more ", b"frames", service=service)
    successor.heard = b""
    service.waiting[0].switch([], lambda: successor)
    assert successor.heard == b"more frames"
    assert late.connection.busy is False


# HEAD ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_head_gets_the_head_that_get_would_get_and_no_body(streamed: bool) -> None:
    def answer(client: ClientConnection, _: Request) -> None:
        if streamed:
            client.begin(200, [])
            client.body(b"one ")
            client.end(b"two")
        else:
            client.respond(200, b"one two")

    def ask(method: bytes) -> bytes:
        data = method + b" / HTTP/1.1\r\nhost: a\r\n\r\n"
        return talk(data * 2, service=Recorder(instead=answer)).sent

    (head, end), got = ask(b"GET").split(b"\r\n\r\n", 1), ask(b"HEAD")
    assert end
    assert got == (head + b"\r\n\r\n") * 2


def test_an_error_behind_an_answer_to_head_has_its_body() -> None:
    seen = talk(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", b"nonsense\r\n\r\n")
    assert seen.statuses == [200, 400]
    assert seen.sent.endswith(b"}}")


# Let in or not ------------------------------------------------------------------------------------


def test_continue_is_said_once_before_the_body_is_read() -> None:
    seen = talk(EXPECT % (b"/", 3))
    assert seen.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert seen.say(b"a", b"bc").statuses == [100, 200]


def test_continue_is_not_said_to_who_is_not_let_in_or_has_no_body() -> None:
    assert talk(EXPECT % (b"/secret", 3)).statuses == [401]
    assert talk(EXPECT % (b"/", 1 << 30)).statuses == [413]
    assert talk(EXPECT % (b"/", 0)).statuses == [200]


def test_a_body_that_is_not_let_in_is_never_kept() -> None:
    seen = talk(b"POST /secret HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n")
    assert (seen.statuses, seen.service.refusals) == ([401], [401])
    assert (seen.wire.eof, seen.wire.closed) == (True, False)
    seen.say(*[b"x" * 1000] * 100, GET % 1)
    assert (seen.book.unread_bytes, seen.statuses, len(seen.service.heads)) == (0, [401], 1)


def test_who_is_not_let_in_may_ask_again_where_there_was_no_body() -> None:
    seen = talk(b"GET /secret HTTP/1.1\r\nhost: a\r\n\r\n" + GET % 1)
    assert (seen.statuses, seen.wire.over) == ([401, 200], False)


def test_a_refused_client_is_listened_to_for_a_moment_and_for_so_many_bytes() -> None:
    seen = talk(b"nonsense\r\n\r\n")
    assert not seen.wait(limits.LINGER_SECONDS / 2).wire.closed
    assert seen.say(b"x" * 1000).wait(limits.LINGER_SECONDS).wire.aborted
    other = talk(b"nonsense\r\n\r\n", b"x" * limits.LINGER_BYTES)
    assert not other.wire.closed
    assert other.say(b"x").wire.aborted


# Deadlines ----------------------------------------------------------------------------------------


def test_a_head_that_drips_in_has_a_deadline() -> None:
    seen = talk()
    for _ in range(int(limits.HEAD_SECONDS)):
        seen.say(b"G").wait(1.0)
        assert seen.statuses == []
    assert seen.wait(1.0).statuses == [408]
    assert seen.wire.over


def test_the_head_behind_an_answer_has_a_deadline_of_its_own() -> None:
    seen = talk(GET % 1).wait(60).say(b"GET").wait(limits.HEAD_SECONDS - 1)
    assert not seen.wire.over
    assert seen.wait(2).statuses == [200, 408]


def test_a_body_that_stops_coming_is_given_up() -> None:
    seen = talk(POST + b"a").wait(limits.BODY_STALL_SECONDS - 1)
    assert seen.statuses == []
    assert seen.wait(2).statuses == [408]
    assert seen.service.refusals == [408]
    assert seen.book.unread_bytes == 0


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n",
    ],
)
def test_a_body_that_drips_in_is_given_up(head: bytes) -> None:
    def seconds(rate: int) -> int:
        seen = talk(head)
        for second in range(200):
            if seen.say(b"x" * rate).wait(1.0).wire.over:
                return second
        return 200

    slow = limits.MIN_BODY_BYTES_PER_SECOND // 2
    assert limits.BODY_STALL_SECONDS <= seconds(slow) <= 2.1 * limits.BODY_STALL_SECONDS
    assert seconds(limits.MIN_BODY_BYTES_PER_SECOND + 1) == 200


def test_an_idle_connection_is_closed_without_a_word() -> None:
    for seen in (talk(), talk(GET % 1)):
        before = seen.sent
        assert not seen.wait(limits.KEEP_ALIVE_SECONDS - 1).wire.closed
        assert seen.wait(2).wire.closed
        assert seen.sent == before


def test_an_answer_may_take_its_time() -> None:
    assert not talk(GET % 1, service=Recorder(hold=True)).wait(3600).wire.closed


def test_a_client_that_does_not_read_is_cut_off() -> None:
    service = Recorder(hold=True)
    seen = talk(GET % 1, service=service)
    seen.connection.pause_writing()
    assert not seen.wait(limits.CLIENT_STALL_SECONDS - 1).wire.aborted
    assert seen.wait(2).wire.aborted


def test_a_closed_connection_whose_client_does_not_read_its_answer_is_cut_off() -> None:
    seen = talk(CLOSE)
    assert (seen.wire.closed, seen.wire.aborted) == (True, False)
    assert seen.wait(limits.CLIENT_STALL_SECONDS + 1).wire.aborted


# Faults -------------------------------------------------------------------------------------------


def test_a_fault_of_the_service_is_answered_and_repeats_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: ClientConnection, request: Request) -> None:
        raise ValueError(request.body.decode())

    seen = talk(POST + b"abc" + GET % 1, service=Recorder(instead=fail))
    assert (seen.statuses, seen.wire.over) == ([500], True)
    assert b"abc" not in seen.sent
    assert "abc" not in caplog.text
    assert "ValueError" in caplog.text


def test_a_fault_within_an_answer_breaks_the_connection() -> None:
    def fail(client: ClientConnection, _: Request) -> None:
        client.begin(200, [])
        raise ValueError

    seen = talk(GET % 1, service=Recorder(instead=fail))
    assert (seen.statuses, seen.wire.aborted) == ([200], True)


def test_a_fault_behind_an_answer_adds_nothing_to_it() -> None:
    def fail(client: ClientConnection, _: Request) -> None:
        client.respond(200, b"ok")
        raise ValueError

    seen = talk(GET % 1, service=Recorder(instead=fail))
    assert (seen.statuses, seen.wire.closed) == ([200], True)


@pytest.mark.parametrize("step", ["admit", "refuse"])
def test_a_fault_of_those_who_judge_heads_lets_nobody_in(step: str) -> None:
    class Faulty(Recorder):
        pass

    def fail(*_: object) -> None:
        raise ValueError

    service = Faulty()
    setattr(service, step, fail)
    seen = talk(
        b"POST /secret HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", service=service
    )
    assert (seen.statuses, seen.service.requests) == ([500], [])
    assert seen.wire.over


def test_a_client_that_leaves_is_told_to_who_answers_it() -> None:
    service = Recorder(hold=True)
    seen = talk(GET % 1, service=service)
    seen.connection.connection_lost(None)
    assert (service.gone, seen.book.busy(), len(seen.book.open)) == (1, 0, 0)
    service.waiting[0].respond(200, b"late")
    assert seen.sent == b""


def test_a_client_that_leaves_within_its_body_leaves_nothing() -> None:
    seen = talk(POST + b"a")
    assert seen.book.unread_bytes == 1
    seen.connection.connection_lost(None)
    assert seen.book.unread_bytes == 0
