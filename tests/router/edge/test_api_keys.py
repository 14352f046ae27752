"""Which texts are keys of clients, as the mounted Secret changes."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router.api_keys import MAX_KEY_BYTES, MAX_KEYS, ApiKeys
from cascade_router.gate import credentials
from tests.router.edge.mounted_secret import MountedSecret

OLD, NEW = "old-key-0123456789", "new-key-0123456789"


def good(keys: ApiKeys, now: float, *candidates: str) -> list[str]:
    return [text for text in candidates if keys.accept([text], now)]


def test_every_key_of_the_secret_is_good_and_nothing_else_is(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path / "keys", {"a": OLD.encode(), "b": f"  {NEW}\n".encode()})
    keys = ApiKeys(secret.folder)
    assert good(keys, 0.0, OLD, NEW, OLD[:-1], OLD + "0", OLD.upper(), "", " ", "a") == [OLD, NEW]
    assert keys.count(0.0) == 2
    assert keys.accept(["nothing", NEW], 0.0)
    assert not keys.accept([], 0.0)


def test_a_changed_secret_is_noticed_within_a_second(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path / "keys", {"key": OLD.encode()})
    keys = ApiKeys(secret.folder)
    assert good(keys, 10.0, OLD, NEW) == [OLD]
    secret.put({"key": NEW.encode()})
    assert good(keys, 10.9, OLD, NEW) == [OLD]
    assert good(keys, 11.0, OLD, NEW) == [NEW]
    secret.put({"key": NEW.encode(), "before": OLD.encode()})
    assert good(keys, 12.0, OLD, NEW) == [OLD, NEW]
    secret.put({})
    assert good(keys, 13.0, OLD, NEW) == []


def test_files_that_are_no_links_will_do(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OLD)
    keys = ApiKeys(tmp_path)
    assert good(keys, 0.0, OLD) == [OLD]
    (tmp_path / "key").write_text(NEW + "-and-longer")
    assert good(keys, 1.0, OLD, NEW + "-and-longer") == [NEW + "-and-longer"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param(b"short-key-01234", "shorter than 16", id="one byte too short"),
        pytest.param(b"               x\n", "shorter than 16", id="short but for white space"),
        pytest.param(b"k" * (MAX_KEY_BYTES + 1), "longer than", id="longer than any header"),
        pytest.param(b"k" * 5000, "longer than", id="a file that is no key"),
        pytest.param(b"two lines 0123\n456789abcdef", "visible ASCII", id="two lines"),
        pytest.param("schlüssel-0123456789".encode(), "visible ASCII", id="other letters"),
        pytest.param(b"", "shorter than 16", id="nothing"),
    ],
)
def test_what_is_no_key_is_ignored_aloud_and_not_shown(
    tmp_path: Path, value: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = MountedSecret(tmp_path / "keys", {"bad": value, "good": OLD.encode()})
    keys = ApiKeys(secret.folder)
    presented = value.decode("latin-1").strip()
    assert good(keys, 0.0, presented, OLD) == [OLD]
    assert "the API key bad is ignored: it" in caplog.text
    assert problem in caplog.text
    assert OLD not in caplog.text
    assert not presented or presented not in caplog.text


@pytest.mark.parametrize("folder", ["empty", "missing", "a file"])
def test_without_a_readable_key_nobody_comes_in_and_the_log_says_so_once(
    tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a file").write_text(OLD)
    keys = ApiKeys(tmp_path / folder)
    assert keys.required
    for now in range(5):
        assert good(keys, float(now), OLD, "") == []
        assert keys.count(float(now)) == 0
    assert caplog.text.count("every client is refused") == 1


def test_keys_that_cannot_be_read_any_more_are_no_keys(tmp_path: Path) -> None:
    secret = MountedSecret(tmp_path / "keys", {"key": OLD.encode()})
    keys = ApiKeys(secret.folder)
    assert good(keys, 0.0, OLD) == [OLD]
    secret.folder.rename(tmp_path / "elsewhere")
    assert good(keys, 1.0, OLD) == []
    (tmp_path / "elsewhere").rename(secret.folder)
    assert good(keys, 2.0, OLD) == [OLD]


def test_a_folder_with_very_many_files_is_read_as_far_as_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = {f"k{number:04}": f"key-number-{number:010}".encode() for number in range(300)}
    keys = ApiKeys(MountedSecret(tmp_path / "keys", values).folder)
    assert keys.count(0.0) == MAX_KEYS
    assert keys.accept(["key-number-0000000255"], 0.0)
    assert not keys.accept(["key-number-0000000256"], 0.0)
    assert "300 API keys" in caplog.text


def test_without_a_folder_no_key_is_asked_for() -> None:
    assert not ApiKeys(None).required


def test_no_key_stays_in_memory(tmp_path: Path) -> None:
    keys = ApiKeys(MountedSecret(tmp_path / "keys", {"key": OLD.encode()}).folder)
    assert keys.accept([OLD], 0.0)
    assert OLD not in repr(vars(keys))


@pytest.mark.parametrize(
    ("path", "headers", "sent"),
    [
        pytest.param("/v1/models", {"authorization": "Bearer k"}, ("k",), id="a bearer token"),
        pytest.param("/v1/models", {"authorization": "bEARER  k "}, ("k",), id="oddly written"),
        pytest.param("/v1/models", {"authorization": "Basic k"}, (), id="another scheme"),
        pytest.param("/v1/models", {"authorization": "k"}, (), id="a bare key"),
        pytest.param("/v1/models", {"authorization": "Bearer "}, (), id="an empty token"),
        pytest.param("/v1/models", {"x-api-key": "k"}, (), id="Anthropic's header elsewhere"),
        pytest.param("/v1/messages", {"x-api-key": " k"}, ("k",), id="Anthropic's header"),
        pytest.param("/v1/messages/count_tokens", {"x-api-key": "k"}, ("k",), id="for counts, too"),
        pytest.param(
            "/v1/messages", {"x-api-key": "k", "authorization": "Bearer l"}, ("l", "k"), id="both"
        ),
        pytest.param("/v1/nothing", {"x-api-key": "k"}, (), id="a path that is not served"),
        pytest.param("/v1/models", {}, (), id="nothing"),
    ],
)
def test_where_clients_put_their_key(
    path: str, headers: dict[str, str], sent: tuple[str, ...]
) -> None:
    assert credentials(path, headers) == sent


@given(text=st.text(max_size=40), path=st.sampled_from(["/v1/messages", "/v1/models"]))
def test_no_text_breaks_the_check(text: str, path: str) -> None:
    keys = ApiKeys(Path("/nowhere"))
    assert not keys.accept(credentials(path, {"authorization": text, "x-api-key": text}), 0.0)
