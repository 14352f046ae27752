"""The engine's endpoints: what each path answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Final

from e2e.engine_simulator import administration, sse
from e2e.engine_simulator.answer import StreamedAnswer, WholeAnswer
from e2e.engine_simulator.api_request import (
    GenerationRequest,
    check_model,
    parse_choices,
    prompt_of,
)
from e2e.engine_simulator.batch import LiveSequence, make_sequence
from e2e.engine_simulator.endings import BodyEnd, StreamEnd
from e2e.engine_simulator.engine import Engine
from e2e.engine_simulator.faults import Faults, InvalidFaults
from e2e.engine_simulator.http_connection import HttpConnection, HttpRequest
from e2e.engine_simulator.other_apis import OtherApis
from e2e.engine_simulator.refusals import RequestRefused, injected, json_object
from e2e.engine_simulator.vocabulary import UnknownToken, text_with_names

VERSION: Final = "0.32.0"
"""The vLLM version that this engine imitates."""

Route = Callable[[HttpConnection, HttpRequest], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the endpoints need to know."""

    model: str
    max_length: int
    coalesce_percent: int
    allow_faults: bool


class Application:
    """Answers requests with one engine."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.ready = False
        """Until then everything is answered with 503."""
        self._settings = settings
        self._engine = engine
        self._created = int(time.time())
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("GET", "/version"): self._version,
            ("GET", "/v1/models"): self._models,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/v1/completions"): partial(self._generate, chat=False),
            ("POST", "/v1/chat/completions"): partial(self._generate, chat=True),
            ("POST", "/tokenize"): self._tokenise,
            ("POST", "/detokenize"): self._detokenise,
            **OtherApis(engine, settings.model, settings.max_length).routes(),
        }
        administered = administration.Administration()
        self._routes |= dict.fromkeys(administration.PATHS, administered.call)
        if settings.allow_faults:
            self._routes["GET", "/simulator/faults"] = self._show_faults
            self._routes["POST", "/simulator/faults"] = self._set_faults
            self._routes["GET", "/simulator/administration"] = administered.show
        self._paths = {path for _, path in self._routes}

    def handle(self, connection: HttpConnection, request: HttpRequest) -> None:
        """Answer one request, now or when its sequence has ended."""
        try:
            self._route(request)(connection, request)
        except RequestRefused as refusal:
            headers = {"retry-after": str(self._engine.faults.retry_after_seconds)}
            busy = refusal.status in (429, 503)
            connection.send(
                refusal.status,
                sse.json_bytes(refusal.to_json()),
                headers=headers if busy else None,
            )

    def _route(self, request: HttpRequest) -> Route:
        if not self.ready:
            raise _unavailable("the engine is starting")
        route = self._routes.get((request.method, request.path))
        if route is not None:
            return route
        if request.path in self._paths:
            raise RequestRefused("Method Not Allowed", status=405, kind="Method Not Allowed")
        raise RequestRefused("Not Found", status=404, kind="Not Found")

    def _generate(self, connection: HttpConnection, http: HttpRequest, *, chat: bool) -> None:
        faults = self._engine.faults
        if faults.strike_drop():
            connection.reset()
            return
        status = faults.strike_status()
        if status is not None:
            raise injected(status)
        settings = self._settings
        choices = parse_choices(
            json_object(http.body), chat=chat, model=settings.model, max_length=settings.max_length
        )
        sequences = [self._sequence(request) for request in choices]
        answers = self._answers(connection, http, choices, sequences)
        connection.on_closed = partial(self._abort, sequences)
        connection.on_resumed = partial(_resume, answers)
        if choices[0].stream:
            connection.start_stream()
            if self._engine.strike_reset(0):
                connection.reset()
                return
        for sequence, answer in zip(sequences, answers, strict=True):
            self._engine.submit(sequence, answer)

    def _sequence(self, request: GenerationRequest) -> LiveSequence:
        block_tokens = self._engine.batch.model.block_tokens
        return make_sequence(request.prompt, request.sampling, block_tokens, request.cache_salt)

    def _abort(self, sequences: Sequence[LiveSequence]) -> None:
        for sequence in sequences:
            self._engine.abort(sequence)

    def _answers(
        self,
        connection: HttpConnection,
        http: HttpRequest,
        choices: Sequence[GenerationRequest],
        sequences: Sequence[LiveSequence],
    ) -> Sequence[StreamedAnswer | WholeAnswer]:
        chat = choices[0].chat
        prefix = "chatcmpl-" if chat else "cmpl-"
        identity = prefix + (http.headers.get("x-request-id") or token_hex(16))
        created, model = int(time.time()), self._settings.model
        pairs = list(zip(choices, sequences, strict=True))
        if not choices[0].stream:
            head = {
                "id": identity,
                "object": "chat.completion" if chat else "text_completion",
                "created": created,
                "model": model,
            }
            body = BodyEnd(connection, head, len(choices))
            return [
                WholeAnswer(request, sequence, body, partial(self._engine.stop, sequence))
                for request, sequence in pairs
            ]
        templates = [
            sse.EventTemplate(
                chat=chat,
                identity=identity,
                created=created,
                model=model,
                index=request.index,
                tool=request.tool,
            )
            for request in choices
        ]
        usage = choices[0].include_usage
        end = StreamEnd(connection, templates[0].head, len(choices), with_usage=usage)
        return [
            StreamedAnswer(
                request,
                sequence,
                end,
                template,
                partial(self._engine.stop, sequence),
                coalesce_percent=self._settings.coalesce_percent,
                strike_reset=self._engine.strike_reset,
            )
            for (request, sequence), template in zip(pairs, templates, strict=True)
        ]

    def _health(self, connection: HttpConnection, _: HttpRequest) -> None:
        connection.send(200, b"", "text/plain")

    def _version(self, connection: HttpConnection, _: HttpRequest) -> None:
        connection.send_json(sse.json_bytes({"version": VERSION}))

    def _models(self, connection: HttpConnection, _: HttpRequest) -> None:
        model = {
            "id": self._settings.model,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": self._settings.model,
            "parent": None,
            "max_model_len": self._settings.max_length,
        }
        connection.send_json(sse.json_bytes({"object": "list", "data": [model]}))

    def _metrics(self, connection: HttpConnection, _: HttpRequest) -> None:
        text = self._engine.metrics.render(self._engine.batch)
        connection.send(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _tokenise(self, connection: HttpConnection, http: HttpRequest) -> None:
        body = json_object(http.body)
        check_model(body, self._settings.model)
        ids = prompt_of(body, chat="messages" in body)
        answer = {
            "count": len(ids),
            "max_model_len": self._settings.max_length,
            "tokens": ids,
            "token_strs": None,
        }
        connection.send_json(sse.json_bytes(answer))

    def _detokenise(self, connection: HttpConnection, http: HttpRequest) -> None:
        body = json_object(http.body)
        check_model(body, self._settings.model)
        ids = body.get("tokens")
        if not isinstance(ids, list) or not all(type(n) is int and n >= 0 for n in ids):
            raise RequestRefused("tokens must be a list of token ids", parameter="tokens")
        try:
            text = text_with_names(ids)
        except UnknownToken as error:
            raise RequestRefused(str(error), parameter="tokens") from None
        connection.send_json(sse.json_bytes({"prompt": text}))

    def _show_faults(self, connection: HttpConnection, _: HttpRequest) -> None:
        connection.send_json(sse.json_bytes(self._engine.faults.to_json()))

    def _set_faults(self, connection: HttpConnection, http: HttpRequest) -> None:
        try:
            self._engine.set_faults(Faults.from_json(json_object(http.body)))
        except InvalidFaults as error:
            raise RequestRefused(str(error)) from None
        self._show_faults(connection, http)


def _resume(answers: Sequence[StreamedAnswer | WholeAnswer]) -> None:
    for answer in answers:
        answer.resumed()


def _unavailable(message: str) -> RequestRefused:
    return RequestRefused(message, status=503, kind="ServiceUnavailableError")
