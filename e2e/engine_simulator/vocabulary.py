"""The tokenizer of the simulated model, shared by the engine and by whoever checks its output.

Ids, in this order: three special tokens; the 256 single bytes, so that any text has ids; whole
words with their leading space, their bare forms, and a few strings that trip careless parsers;
and *pieces* that end inside a multi-byte character. A piece is only ever generated together with
what completes it (`FOLLOWERS`), so generated text is always valid, but a token's own text is not:
as with real byte-level vocabularies, text must be held back until a character is complete.

Chat template: `<|start|>ROLE\\nCONTENT<|end|>\\n` for each message, then `<|start|>assistant\\n`.
"""

import codecs
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from e2e.engine_simulator.words import WORDS

END_OF_TEXT: Final = 0
START_OF_MESSAGE: Final = 1
END_OF_MESSAGE: Final = 2
FIRST_BYTE: Final = 3
"""Id of the byte 0; byte b has the id FIRST_BYTE + b."""

_SPECIAL: Final = ("<|endoftext|>", "<|start|>", "<|end|>")
_AWKWARD: Final = (
    ' "', " \\", "\n\n", "\u2028", "\u0085", ' "token_ids":[1,2]', " data: [DONE]", " \t",
    " café", " 東京", " 🌍", " naïve", " \u00a0", " },{",
)  # fmt: skip
_LEADS: Final[dict[bytes, tuple[bytes, ...]]] = {
    # Two bytes of three: a CJK ideograph, completed by any one continuation byte.
    " 日".encode()[:-1]: (),
    "語".encode()[:-1]: (),
    "界".encode()[:-1]: (),
    # One byte of two, after text of its own: "é", "ü", "ñ" at the end of a word.
    b" caf\xc3": (),
    " se\xf1".encode()[:-1]: (),
    # One byte of four: first completed by two more, which leave one to come.
    b" \xf0": (b"\x9f\x8c", b"\x9f\x8d", b"\x9f\x8e"),
    b"\xf0": (b"\x9f\x90", b"\x9f\x91"),
}


def _build() -> tuple[list[bytes], dict[int, tuple[int, ...]]]:
    pieces: list[bytes] = [name.encode() for name in _SPECIAL]
    pieces += [bytes((value,)) for value in range(256)]
    words = list(dict.fromkeys(WORDS.split()))
    texts = [" " + word for word in words] + [word for word in words if len(word) > 1]
    pieces += [text.encode() for text in dict.fromkeys((*texts, *_AWKWARD))]
    followers: dict[int, tuple[int, ...]] = {}
    any_continuation = tuple(FIRST_BYTE + value for value in range(0x80, 0xC0))
    for lead, middles in _LEADS.items():
        lead_id = len(pieces)
        pieces.append(lead)
        middle_ids = tuple(range(len(pieces), len(pieces) + len(middles)))
        pieces += middles
        followers[lead_id] = middle_ids or any_continuation
        followers.update(dict.fromkeys(middle_ids, any_continuation))
    return pieces, followers


_BUILT: Final = _build()
PIECES: Final = _BUILT[0]
"""The bytes of each id; of special tokens their name, which stands for them in any text."""
FOLLOWERS: Final = _BUILT[1]
"""Ids that may be generated after a piece that ends inside a character."""

SIZE: Final = len(PIECES)
WORD_IDS: Final[tuple[int, ...]] = tuple(
    number for number, piece in enumerate(PIECES) if piece[:1] == b" " and piece[1:].isalpha()
)
"""Words with a leading space: text made of these has exactly these ids again."""
LEAD_IDS: Final[tuple[int, ...]] = tuple(
    number for number in FOLLOWERS if PIECES[number][-2:-1] != b"\x9f"
)
"""Pieces that begin a character and do not end it."""
AWKWARD_IDS: Final[tuple[int, ...]] = tuple(PIECES.index(text.encode()) for text in _AWKWARD)

_TEXT_TO_ID: Final[dict[str, int]] = {
    piece.decode(): number
    for number, piece in enumerate(PIECES)
    if number >= FIRST_BYTE + 256 and number not in FOLLOWERS
}
_TEXT_TO_ID.update(zip(_SPECIAL, range(FIRST_BYTE), strict=True))
_TEXT_TO_ID.update({chr(value): FIRST_BYTE + value for value in range(0x80)})
_WHOLE_PATTERN: Final = "|".join(
    sorted(map(re.escape, (*_AWKWARD, *_SPECIAL)), key=len, reverse=True)
)
# The first alternative only serves speed: a plain word that no awkward string can begin with.
_SPLIT: Final = re.compile(rf" [a-z]++(?![^ ])|{_WHOLE_PATTERN}| ?[a-z]+|.", re.DOTALL)
_BYTE_IDS: Final = tuple(range(FIRST_BYTE, FIRST_BYTE + 256))


class UnknownToken(ValueError):
    """An id outside the vocabulary."""


def tokenise(text: str) -> list[int]:
    """The ids of `text`, in which names of special tokens stand for these; unpaired surrogates,
    which no bytes can hold, become question marks."""
    pieces = _SPLIT.findall(text)
    ids: list[int] = []
    for piece in pieces:
        number = _TEXT_TO_ID.get(piece)
        if number is not None:
            ids.append(number)
        else:
            ids.extend(_BYTE_IDS[value] for value in piece.encode("utf-8", "replace"))
    return ids


def text_bytes(ids: Iterable[int]) -> bytes:
    """The bytes that `ids` stand for; special tokens have none. Raises UnknownToken."""
    try:
        return b"".join([PIECES[number] for number in ids if number >= FIRST_BYTE])
    except IndexError:
        raise UnknownToken(f"token ids must be below {SIZE}") from None


def detokenise(ids: Iterable[int]) -> str:
    """The text of `ids`, invalid or incomplete characters as U+FFFD. Raises UnknownToken."""
    return text_bytes(ids).decode("utf-8", "replace")


def text_with_names(ids: Sequence[int]) -> str:
    """The same with the names of special tokens, as vLLM's `/detokenize` has them: a stream leaves
    them out. Raises UnknownToken."""
    try:
        return b"".join([PIECES[number] for number in ids]).decode("utf-8", "replace")
    except IndexError:
        raise UnknownToken(f"token ids must be below {SIZE}") from None


def ends_inside_character(ids: Sequence[int]) -> bool:
    """Whether the text of `ids` ends with the beginning of a character."""
    tail = text_bytes(ids[-8:])
    return codecs.utf_8_decode(tail, "replace", False)[1] < len(tail)


def chat_prompt(messages: Sequence[Mapping[str, str]]) -> list[int]:
    """The ids of a conversation: `role` and `content` of each message, by the chat template."""
    newline = FIRST_BYTE + ord("\n")
    ids: list[int] = []
    for message in messages:
        ids += [START_OF_MESSAGE, *tokenise(message["role"]), newline]
        ids += [*tokenise(message["content"]), END_OF_MESSAGE, newline]
    return [*ids, START_OF_MESSAGE, *tokenise("assistant"), newline]


class Detokeniser:
    """Text of a growing sequence of ids, never cutting a character.

    Text is held back while the bytes not yet given out end inside a character or in an invalid
    one. A sequence whose *prompt* ends inside a character begins with all of the prompt's bytes
    pending, so that the prompt comes out as its first text: that is what vLLM's incremental
    detokeniser does, and why a stream may only be resumed where its text is complete.
    """

    __slots__ = ("_pending",)

    def __init__(self, prompt: Sequence[int] = ()) -> None:
        self._pending = text_bytes(prompt) if prompt and ends_inside_character(prompt) else b""

    @property
    def holds_back(self) -> bool:
        """Whether there are bytes that no text has been given out for."""
        return bool(self._pending)

    def step(self, number: int) -> str:
        """The text that becomes complete with the id `number`; "" when it is held back."""
        if not self._pending:
            text = COMPLETE_TEXT[number]
            if text is not None:
                return text
        if number >= FIRST_BYTE:
            self._pending += PIECES[number]
        return self._release()

    def _release(self) -> str:
        text, used = codecs.utf_8_decode(self._pending, "replace", False)
        if used < len(self._pending) or text.endswith("\ufffd"):
            return ""
        self._pending = b""
        return text


def _complete_text(number: int) -> str | None:
    if number < FIRST_BYTE:
        return ""
    try:
        return PIECES[number].decode()
    except UnicodeDecodeError:
        return None


COMPLETE_TEXT: Final[list[str | None]] = [_complete_text(number) for number in range(SIZE)]
"""The text of each id that is whole by itself; None for pieces of characters."""
