"""What the engine answers instead of what was asked, and the reading of bodies."""

import json
from collections.abc import Mapping
from typing import Any

JsonObject = Mapping[str, Any]


class RequestRefused(Exception):
    """The engine answers with an error. `status` is HTTP, `kind` the error's `type`."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "BadRequestError",
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.parameter = parameter

    def to_json(self) -> dict[str, object]:
        """The body of the answer."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.parameter,
                "code": self.status,
            }
        }


def malformed(message: str, place: str = "") -> RequestRefused:
    """The refusal of a body that does not have the types of the API; `place` is a field of it, or
    where it stops being JSON."""
    parameter = f"body.{place}" if place else "body"
    return RequestRefused(message, kind="Bad Request", parameter=parameter)


def json_object(data: bytes) -> JsonObject:
    """The body of a request. Raises RequestRefused."""
    try:
        body = json.loads(data)
    except ValueError as error:
        place = str(getattr(error, "pos", "")) if data else ""
        raise malformed(f"the body is not JSON: {error}", place) from None
    if not isinstance(body, dict):
        raise malformed("the body must be a JSON object")
    return body


def injected(status: int) -> RequestRefused:
    """The refusal of a request on purpose."""
    kinds = {429: "TooManyRequestsError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError")
    return RequestRefused("injected fault", status=status, kind=kind)
