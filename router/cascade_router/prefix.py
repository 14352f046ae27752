"""The blocks of a prompt, by which routers find the engine whose cache holds its beginning.

Blocks are cut from what the client wrote, not from tokens: a conversation's next turn repeats its
messages byte for byte. A block ends with each message, and after each kilobyte.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from cascade_policy.prefix_index import Block, chain
from cascade_router.request import Generation

BLOCK_BYTES: Final = 1024
MAX_BLOCKS: Final = 512
"""Half a megabyte, about 128k tokens: what comes after has no blocks."""
_SEED: Final = ("model", "cache_salt", "tools", "chat_template", "chat_template_kwargs",
                "add_special_tokens", "documents")  # fmt: skip
"""Fields that change the prompt, or who may share it, from its first token on."""

_messages = msgspec.json.Decoder(list[msgspec.Raw])


def prompt_blocks(request: Generation, tokens: int) -> tuple[Block, ...]:
    """The blocks of a prompt of about `tokens` tokens; none for one that cannot be cut."""
    pieces = _pieces(request)
    size = sum(map(len, pieces))
    if size == 0:
        return ()
    seed = b"\n".join(request.raw.get(name, b"") for name in _SEED)
    return chain(seed, _with_tokens(_cut(pieces), tokens / size))


def _pieces(request: Generation) -> list[bytes]:
    """What the prompt is made of, in order: messages, a text, or a list of ids."""
    if request.prompt_ids is not None:
        return [request.prompt_ids.replace(b" ", b"")]
    for name in ("messages", "prompt", "input"):
        value = request.values.get(name)
        if isinstance(value, str):
            return [request.raw[name].strip()[1:-1]]
        if isinstance(value, list):
            return [bytes(item) for item in _messages.decode(request.raw[name])]
    return []


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    count = 0
    for piece in pieces:
        for start in range(0, len(piece), BLOCK_BYTES):
            block = piece[start : start + BLOCK_BYTES]
            last = start + BLOCK_BYTES >= len(piece)
            # A text or a list of ids goes on where it ended; only a whole kilobyte is sure to
            # come again. A message does come again as it is.
            if last and len(block) < BLOCK_BYTES and not piece.endswith(b"}"):
                return
            yield block
            count += 1
            if count == MAX_BLOCKS:
                return


def _with_tokens(blocks: Iterable[bytes], per_byte: float) -> Iterator[tuple[bytes, int]]:
    """Blocks with their share of the prompt's tokens, rounded so that the sums are right."""
    size = done = 0
    for block in blocks:
        size += len(block)
        upto = round(size * per_byte)
        yield block, upto - done
        done = upto
