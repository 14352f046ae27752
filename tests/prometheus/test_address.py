"""What of an address may be shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_prometheus.address import shown

SECRET = "ter2"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://host:9090/prom", "https://host:9090/prom"),
        ("https://[::1]:9090", "https://[::1]:9090"),
        ("https://me:ter2@host:9090/prom?x=ter2#ter2", "https://host:9090/prom"),
        ("http://me:ter/2ter2@host", "http://host"),
        ("http://me:a://ter2@host", "http://host"),
        ("http://me:a@ter2@host", "http://host"),
        ("http://host?token=ter2", "http://host"),
        ("http://host?to=http://ter2", "http://host"),
        ("me:ter2@host", "host"),
        ("//me:ter2@host", "host"),
        ("http:me:ter2@host", "host"),
        ("ftp://me:ter2@host", "host"),
        ("HTTP://me:ter2@host", "HTTP://host"),
        ("host:9090", "host:9090"),
        ("", ""),
        ("http://host?token=a@ter2", "an address that may hold a secret"),
        ("http://host/#a@ter2", "an address that may hold a secret"),
        ("http://me:a#ter2@host", "an address that may hold a secret"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, words: str) -> None:
    assert shown(url) == words


@given(st.text("a:/@?#", max_size=12), st.text("a:/@?#", max_size=12))
def test_no_password_is_shown_wherever_it_has_odd_characters(before: str, after: str) -> None:
    assert SECRET not in shown(f"http://me:{before}{SECRET}{after}@host/path")


@given(st.text("a:/@?#", max_size=12), st.text("a:/@?#", max_size=12))
def test_no_query_is_shown_whatever_it_holds(before: str, after: str) -> None:
    assert SECRET not in shown(f"http://me:password@host/path?{before}{SECRET}{after}")
