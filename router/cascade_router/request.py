"""A client's request as its front understands it, and the bodies of its legs.

Bodies are spliced, not re-encoded: what the client wrote reaches the engine byte for byte, and the
ids of a long prompt are never turned into Python numbers.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH, Budget, budget
from cascade_policy.pins import (
    REFUSED_HEADERS,
    STEERING_FIELDS,
    Pin,
    pin_reason,
    refused_fields,
)
from cascade_router import sse
from cascade_router.api import EMBEDDINGS_PATH, PATHS, RESPONSES_PATH
from cascade_router.errors import INVALID_REQUEST, Dialect, RequestError
from cascade_router.http1 import Request
from cascade_router.passed import Headers, passed_headers, request_id

HEADER_TRACE: Final = "x-cascade-trace"

_PASSED_ON: Final = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logit_bias"),
    *("allowed_token_ids", "stop_token_ids", "ignore_eos", "skip_special_tokens"),
    *("spaces_between_special_tokens", "include_stop_str_in_output", "cache_salt"),
    *("user", "model", "seed"),
)
"""Fields that every leg carries as the client wrote them."""
_NAMES_THE_CACHE: Final = ("model", "cache_salt")

_LIMITS: Final = {
    CHAT_PATH: ("max_completion_tokens", "max_tokens"),
    RESPONSES_PATH: ("max_output_tokens",),
}
"""Fields that limit the output, the first of them that is set; elsewhere it is `max_tokens`."""
_SMALL_BYTES: Final = 256
"""A field that is kept whatever it is."""
_SHOWN_CHARACTERS: Final = 128
"""What an error repeats of an id that a client wrote."""

MOST_PARTS: Final = 50_000
"""Commas from which a field stays undecoded: a million small objects take hundreds of megabytes
and seconds of the event loop, and no rule would let such a request be handed over."""

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_value = msgspec.json.Decoder()


@dataclass(frozen=True, slots=True)
class Undecoded:
    """Stands for the value of a field with too many parts; no rule knows it, so it pins."""

    size: int
    """Bytes, as the client wrote it."""


@dataclass(slots=True)
class Generation:
    """What a client asked for, on a path whose requests are placed by length.

    Nothing of it changes; what nobody needs any more is let go: thousands of streams would keep
    their prompts in memory, several times each.
    """

    path: str
    raw: Mapping[str, bytes]
    """Each field of the body as the client wrote it."""
    values: Mapping[str, Any]
    """The fields decoded; of a long list of ids only its ends."""
    body: bytes
    prompt_ids: bytes | None
    """The inside of the list, where the client gave ids."""
    streamed: bool
    wants_ids: bool
    wants_usage: bool
    wants_trace: bool
    pin: Pin | None
    request_id: str = ""
    headers: Headers = ()
    """What goes to the engine with each leg, the request's id among it."""

    @property
    def dialect(self) -> Dialect:
        """How the client expects to be told of errors."""
        return PATHS[self.path].dialect

    @property
    def is_chat(self) -> bool:
        """Whether it came to the chat endpoint."""
        return self.path == CHAT_PATH

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory, about."""
        return len(self.body) + sum(map(len, self.raw.values()))

    def forget_prompt(self) -> None:
        """The prompt is measured: only its body is needed, for a first leg."""
        small = {name for name, raw in self.raw.items() if len(raw) <= _SMALL_BYTES}
        self.values = {name: value for name, value in self.values.items() if name in small}
        passed_on = small.union(_PASSED_ON)
        self.raw = {name: raw for name, raw in self.raw.items() if name in passed_on}
        self.prompt_ids = None

    def forget_body(self) -> None:
        """The client has a part of the answer: there will be no first leg any more."""
        self.body = b""

    def budget(self, prompt_length: int, max_length: int) -> Budget:
        """The client's limits on output tokens."""
        return budget(self.path, self.values, prompt_length, max_length)

    def output_limit(self) -> int | None:
        """The client's own limit on output tokens, if it gave one; 0 where none are made."""
        if self.path == EMBEDDINGS_PATH:
            return 0
        names = _LIMITS.get(self.path, ("max_tokens",))
        limits = (self.values.get(name) for name in names)
        limit = next((limit for limit in limits if limit is not None), None)
        if limit is None and self.path == COMPLETIONS_PATH:
            return self.budget(0, 1 << 40).max_tokens
        return limit if isinstance(limit, int) and not isinstance(limit, bool) else None

    def first_leg(self) -> bytes:
        """The client's body; where the request can be handed over, with a wish for token ids."""
        if self.pin is not None or self.wants_ids:
            return self.body
        # The last of doubled members counts, so this one overrides an explicit false or null.
        return self.body.rstrip()[:-1].rstrip() + b',"return_token_ids":true}'

    def next_leg(self, ids: bytes, limits: Budget) -> bytes:
        """A completions body that resumes after `ids` (the inside of a list: prompt and output)."""
        parts = [b'{"prompt":[', ids, b'],"stream":true,"return_token_ids":true']
        if self.wants_usage:
            parts.append(b',"stream_options":{"include_usage":true}')
        parts.append(b',"max_tokens":%d' % limits.max_tokens)
        if limits.min_tokens:
            parts.append(b',"min_tokens":%d' % limits.min_tokens)
        for name in _PASSED_ON:
            value = self.raw.get(name)
            if value is not None:
                parts.append(b',"%b":%b' % (name.encode(), value))
        parts.append(b"}")
        return b"".join(parts)

    def warm_up(self, ids: bytes) -> bytes:
        """A completions body that fills a prefix cache with `ids` and makes one token. Built from
        scratch: only what names the cache goes along."""
        parts = [b'{"prompt":[', ids, b'],"max_tokens":1,"temperature":0,"stream":false']
        for name in _NAMES_THE_CACHE:
            value = self.raw.get(name)
            if value is not None:
                parts.append(b',"%b":%b' % (name.encode(), value))
        parts.append(b"}")
        return b"".join(parts)


def parse(request: Request, handoff_enabled: bool = True) -> Generation:
    """Read a request that is to be placed. Raises RequestError for what no engine should see."""
    _refuse_headers(request.headers)
    prompt = "input" if request.path == EMBEDDINGS_PATH else "prompt"
    raw, values, prompt_ids = _read(request.body, prompt)
    _refuse_fields(values)
    if request.path == RESPONSES_PATH:
        _refuse_stored(values)
    streamed = PATHS[request.path].streams and values.get("stream") is True
    pin = pin_reason(request.path, values)
    if pin is None and not handoff_enabled:
        pin = Pin.DISABLED
    options = values.get("stream_options")
    identity = request_id(request.headers, values.get("request_id"))
    return Generation(
        path=request.path,
        raw=raw,
        values=values,
        body=request.body,
        prompt_ids=prompt_ids,
        streamed=streamed,
        wants_ids=values.get("return_token_ids") is True,
        wants_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
        wants_trace=request.headers.get(HEADER_TRACE) == "1",
        pin=pin,
        request_id=identity,
        headers=passed_headers(request.headers, identity),
    )


def check(request: Request) -> None:
    """Look through a request that any engine may answer, as far as a client could steer the
    engine by it. Raises RequestError."""
    _refuse_headers(request.headers)
    if request.method == "POST":
        _refuse_fields(_read(request.body, only=STEERING_FIELDS)[1])


def _read(
    body: bytes, prompt: str = "prompt", only: Container[str] | None = None
) -> tuple[dict[str, bytes], dict[str, Any], bytes | None]:
    """The fields as written, their values, and the inside of the one that is named `prompt` if it
    is a list of ids. `only` names the fields that are looked into, if not all are."""
    try:
        written = _fields.decode(body)
        raw = {
            name: bytes(field) for name, field in written.items() if only is None or name in only
        }
        return raw, *_decode(raw, prompt)
    except RecursionError:
        raise RequestError(400, INVALID_REQUEST, "the body is nested too deeply") from None
    # Raw fields are looked into only now, so any of the decodings may find a fault.
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        raise RequestError(
            400, INVALID_REQUEST, f"the body must be a JSON object: {error}"
        ) from None


def _decode(raw: Mapping[str, bytes], prompt: str) -> tuple[dict[str, Any], bytes | None]:
    values: dict[str, Any] = {}
    prompt_ids = None
    for name, value in raw.items():
        if name == prompt and _is_id_list(value):
            prompt_ids = value.strip()[1:-1]
            ends = b"[%b,%b]" % (prompt_ids.partition(b",")[0], sse.tail_ids(prompt_ids, 1))
            values[name] = _value.decode(ends)
        elif not value.startswith(b'"') and value.count(b",") > MOST_PARTS:
            values[name] = Undecoded(len(value))
        else:
            values[name] = _value.decode(value)
    return values, prompt_ids


def _is_id_list(raw: bytes) -> bool:
    head = raw[:64].lstrip()
    return head.startswith(b"[") and head[1:].lstrip()[:1].isdigit() and b"[" not in raw[1:]


def _refuse_headers(headers: Mapping[str, str]) -> None:
    for name in REFUSED_HEADERS:
        if name in headers:
            raise RequestError(
                400, INVALID_REQUEST, f"the header {name} is not accepted; send without it"
            )


def _refuse_fields(values: Mapping[str, Any]) -> None:
    refused = refused_fields(values)
    if isinstance(values.get("vllm_xargs"), Undecoded):
        refused = (*refused, "vllm_xargs of this size")
    if refused:
        raise RequestError(
            400,
            INVALID_REQUEST,
            f"{', '.join(refused)} cannot be set by clients; send the request without it",
        )


def _refuse_stored(values: Mapping[str, Any]) -> None:
    """What needs a response that an engine has stored, answered as an engine that stores none."""
    if values.get("previous_response_id") is not None:
        raise no_stored_response(str(values["previous_response_id"]))
    if values.get("background"):
        raise RequestError(
            400,
            INVALID_REQUEST,
            "background responses are stored by one instance, where nothing would find them "
            "again; send the request without `background` and read the answer as it comes",
        )


def no_stored_response(identity: str) -> RequestError:
    """The answer to whoever asks for a response of before."""
    return RequestError(
        404,
        INVALID_REQUEST,
        f"Response with id '{identity[:_SHOWN_CHARACTERS]}' not found: responses are not stored, "
        "because any instance may answer the next request; send the whole input with each request, "
        "and `store: false`",
    )
