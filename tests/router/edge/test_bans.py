"""Local bans, second by second."""

from cascade_router.bans import FORGET_SECONDS, LONGEST_BAN_SECONDS, Bans

A, B = "10.0.0.1:8000", "10.0.0.2:8000"


def test_a_failure_bans_one_address_for_a_second() -> None:
    bans = Bans()
    bans.failed(A, 0.0)
    assert [bans.banned(A, now) for now in (0.0, 0.99, 1.0)] == [True, True, False]
    assert not bans.banned(B, 0.0)


def test_a_success_lifts_the_ban_and_forgets_it() -> None:
    bans = Bans()
    bans.failed(A, 0.0)
    bans.succeeded(A)
    assert not bans.banned(A, 0.1)
    bans.failed(A, 1.0)
    assert not bans.banned(A, 2.0), "the next ban is a first one again"


def test_failed_probes_double_the_ban_up_to_a_limit() -> None:
    bans = Bans()
    now, lengths = 0.0, []
    for _ in range(8):
        bans.failed(A, now)
        start = now
        while bans.banned(A, now):
            now += 0.5
        lengths.append(now - start)
    assert lengths == [
        1,
        2,
        4,
        8,
        16,
        LONGEST_BAN_SECONDS,
        LONGEST_BAN_SECONDS,
        LONGEST_BAN_SECONDS,
    ]


def test_many_requests_that_fail_together_count_once() -> None:
    bans = Bans()
    for _ in range(20):
        bans.failed(A, 0.5)
    assert not bans.banned(A, 1.5)


def test_after_a_long_time_the_next_ban_is_a_first_one() -> None:
    bans = Bans()
    bans.failed(A, 0.0)
    bans.failed(A, 1.0 + FORGET_SECONDS)
    assert not bans.banned(A, 2.0 + FORGET_SECONDS)


def test_what_is_long_over_takes_no_memory() -> None:
    bans = Bans()
    bans.failed(A, 0.0)
    bans.failed(B, 100.0)
    bans.forget(150.0)
    assert list(bans._entries) == [B]
