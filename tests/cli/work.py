"""Functions that processes of their own can run."""

import threading


def squared(number: int) -> int:
    return number * number


def failing(number: int) -> int:
    if number == 3:
        raise ValueError("three is refused")
    return number


def endless_from_two(number: int) -> int:
    if number >= 2:
        threading.Event().wait()
    return number
