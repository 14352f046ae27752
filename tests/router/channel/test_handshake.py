"""Who may open a channel, and who may answer: nobody without the key, nobody with old words."""

import pytest

from cascade_router.channel import handshake
from cascade_router.hop import MAX_SKEW_SECONDS, sign
from cascade_router.http1 import response_head

KEY = b"0123456789abcdef0123456789abcdef"
OTHER = b"fedcba9876543210fedcba9876543210"
NOW = 1_800_000_000.0
NONCE, CHALLENGE = "a1" * 16, "b2" * 16
TARGET = "10.0.0.1:8000"


def hop_of(request: bytes) -> str:
    return next(
        line.partition(b": ")[2].decode()
        for line in request.split(b"\r\n")
        if line.startswith(b"x-cascade-hop")
    )


def accepted(key: bytes = KEY, nonce: str = NONCE, challenge: str = CHALLENGE) -> bytes:
    """What a target with `key` answers to a front that sent `nonce`."""
    hop = hop_of(handshake.request(KEY, TARGET, NOW, nonce))
    headers = handshake.acceptance(key, hop, NOW, challenge)
    return response_head(101, headers).removesuffix(b"\r\n\r\n")


def test_both_sides_prove_themselves() -> None:
    hop = hop_of(handshake.request(KEY, TARGET, NOW, NONCE))
    assert handshake.is_request([KEY], hop, NOW, TARGET)
    proof = handshake.proof([KEY], accepted(), NOW, NONCE)
    assert handshake.is_proof([KEY], proof, NOW, CHALLENGE)


def test_a_target_that_knows_the_key_before_the_newest_is_trusted_while_keys_rotate() -> None:
    proof = handshake.proof([OTHER, KEY], accepted(), NOW, NONCE)
    assert handshake.is_proof([KEY, OTHER], proof, NOW, CHALLENGE)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        pytest.param(accepted(OTHER), "did not prove", id="a target with another key"),
        pytest.param(accepted(nonce="c3" * 16), "did not prove", id="an answer to another front"),
        pytest.param(b"HTTP/1.1 404 Not Found", "status 404", id="no sidecar of this kind"),
        pytest.param(b"HTTP/1.1 101 Switching", "did not prove", id="an answer without signature"),
        pytest.param(b"SSH-2.0-OpenSSH", "status of no kind", id="another protocol"),
    ],
)
def test_a_target_that_does_not_prove_itself_gets_no_prompt(head: bytes, problem: str) -> None:
    with pytest.raises(handshake.Untrusted, match=problem):
        handshake.proof([KEY], head, NOW, NONCE)


def test_a_recorded_proof_is_of_no_use_on_another_channel() -> None:
    proof = handshake.proof([KEY], accepted(), NOW, NONCE)
    assert not handshake.is_proof([KEY], proof, NOW, "d4" * 16)
    assert not handshake.is_proof([OTHER], proof, NOW, CHALLENGE)
    assert not handshake.is_proof([KEY], proof, NOW + MAX_SKEW_SECONDS + 1, CHALLENGE)


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        pytest.param(
            hop_of(handshake.request(KEY, TARGET, NOW, NONCE)), "10.0.0.2:8000",
            id="a request to another sidecar, passed on to this one",
        ),
        pytest.param(
            hop_of(handshake.request(KEY, TARGET, NOW, NONCE)), "10.0.0.1:80001",
            id="an address that begins with the one that was called",
        ),
        pytest.param(sign(KEY, handshake.PATH, NOW, NONCE), TARGET, id="a request to nobody"),
        pytest.param(
            hop_of(accepted()), TARGET, id="what a target answered",
        ),
        pytest.param(
            handshake.proof([KEY], accepted(), NOW, NONCE).decode(), TARGET, id="a proof",
        ),
        pytest.param(
            hop_of(handshake.request(OTHER, TARGET, NOW, NONCE)), TARGET, id="another key",
        ),
    ],
)  # fmt: skip
def test_a_sidecar_answers_no_request_that_was_not_made_to_it(hop: str, address: str) -> None:
    assert not handshake.is_request([KEY], hop, NOW, address)


def test_what_one_side_signs_cannot_be_given_back_as_the_other_sides_word() -> None:
    """A mirror that answers a front with its own signatures proves nothing."""
    hop = hop_of(handshake.request(KEY, TARGET, NOW, NONCE))
    mirrored = response_head(101, [("x-cascade-hop", hop)]).removesuffix(b"\r\n\r\n")
    with pytest.raises(handshake.Untrusted):
        handshake.proof([KEY], mirrored, NOW, NONCE)
    same = accepted(challenge=NONCE)
    answer = next(line for line in same.split(b"\r\n") if line.startswith(b"x-cascade-hop"))
    assert not handshake.is_proof([KEY], answer.partition(b": ")[2], NOW, NONCE)
