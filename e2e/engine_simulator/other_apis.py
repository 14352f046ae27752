"""The paths beside completions and chats that clients of vLLM use: Responses, Messages, Embeddings.

Generation is the same behind all of them: the next token depends on the ids of the prompt alone.
"""

from collections.abc import Callable
from functools import partial
from secrets import token_hex
from typing import Any

from e2e.engine_simulator import embeddings, messages_api, responses_api, sse
from e2e.engine_simulator.api_request import (
    GenerationRequest,
    check_model,
    parse_generation,
    prompt_of,
)
from e2e.engine_simulator.batch import LiveSequence, make_sequence
from e2e.engine_simulator.engine import Engine
from e2e.engine_simulator.http_connection import HttpConnection, HttpRequest
from e2e.engine_simulator.refusals import JsonObject, RequestRefused, injected, json_object
from e2e.engine_simulator.typed_answer import TypedAnswer, Writer

Route = Callable[[HttpConnection, HttpRequest], None]


class OtherApis:
    """Answers them with one engine."""

    def __init__(self, engine: Engine, model: str, max_length: int) -> None:
        self._engine = engine
        self._model = model
        self._max_length = max_length

    def routes(self) -> dict[tuple[str, str], Route]:
        """What each path does."""
        return {
            ("POST", "/v1/responses"): self._responses,
            ("POST", "/v1/messages"): partial(self._in_messages_shape, self._messages),
            ("POST", "/v1/messages/count_tokens"): partial(
                self._in_messages_shape, self._count_tokens
            ),
            ("POST", "/v1/embeddings"): self._embeddings,
        }

    def _responses(self, connection: HttpConnection, http: HttpRequest) -> None:
        self._strike()
        body = json_object(http.body)
        chat = responses_api.chat_body(body)
        room = max(1, self._max_length - len(prompt_of(chat, chat=True)))
        wanted = chat["max_completion_tokens"]
        # A limit beyond the context is cut here, where the other APIs refuse it.
        chat["max_completion_tokens"] = min(wanted, room) if type(wanted) is int else wanted
        request = self._parse(chat)
        writer = responses_api.ResponsesWriter(body, self._model, request.sampling.max_tokens)
        self._generate(connection, request, writer)

    def _messages(self, connection: HttpConnection, http: HttpRequest) -> None:
        self._strike()
        request = self._parse(messages_api.chat_body(json_object(http.body)))
        identity = "chatcmpl-" + (http.headers.get("x-request-id") or token_hex(16))
        writer = messages_api.MessagesWriter(identity, self._model, len(request.prompt))
        self._generate(connection, request, writer)

    def _count_tokens(self, connection: HttpConnection, http: HttpRequest) -> None:
        body = json_object(http.body)
        check_model(body, self._model)
        prompt = prompt_of({"messages": messages_api.chat_messages(body)}, chat=True)
        connection.send_json(sse.json_bytes(messages_api.count_answer(len(prompt))))

    def _embeddings(self, connection: HttpConnection, http: HttpRequest) -> None:
        self._strike()
        body = json_object(http.body)
        check_model(body, self._model)
        prompts = embeddings.inputs_of(body, self._max_length)
        answer = embeddings.EmbeddingAnswer(body, prompts, connection, self._model)
        sequences = [self._sequence(prompt, embeddings.ONE_STEP, body) for prompt in prompts]
        connection.on_closed = partial(self._abort_all, sequences)
        for sequence in sequences:
            self._engine.submit(sequence, answer)

    def _generate(
        self, connection: HttpConnection, request: GenerationRequest, writer: Writer
    ) -> None:
        body = {"cache_salt": request.cache_salt}
        sequence = self._sequence(request.prompt, request.sampling, body)
        stop = partial(self._engine.stop, sequence)
        strike = self._engine.strike_reset
        answer = TypedAnswer(request, sequence, connection, writer, stop, strike)
        connection.on_closed = partial(self._engine.abort, sequence)
        connection.on_resumed = answer.resumed
        if request.stream:
            connection.start_stream()
        answer.accept()
        self._engine.submit(sequence, answer)

    def _sequence(self, prompt: list[int], sampling: Any, body: JsonObject) -> LiveSequence:
        salt = str(body.get("cache_salt") or "")
        return make_sequence(prompt, sampling, self._engine.batch.model.block_tokens, salt)

    def _parse(self, chat: JsonObject) -> GenerationRequest:
        return parse_generation(chat, chat=True, model=self._model, max_length=self._max_length)

    def _strike(self) -> None:
        status = self._engine.faults.strike_status()
        if status is not None:
            raise injected(status)

    def _abort_all(self, sequences: list[LiveSequence]) -> None:
        for sequence in sequences:
            self._engine.abort(sequence)

    def _in_messages_shape(
        self, route: Route, connection: HttpConnection, http: HttpRequest
    ) -> None:
        try:
            route(connection, http)
        except RequestRefused as refusal:
            body = sse.json_bytes(messages_api.error_body(refusal))
            connection.send(refusal.status, body)
