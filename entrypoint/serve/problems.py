"""What goes wrong with a request, as OpenAI's API tells it: a status and one error object."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from entrypoint.common.errors import Failure, MessageTooLong, NotEnoughMemoryLeft, NotSupported
from entrypoint.common.language import _
from entrypoint.serve import objects

# What the API calls an engine's options, where they differ.
FIELDS = {"schema": "response_format", "template": "chat_template_kwargs", "embeddings": "model"}
MESSAGES = "/v1/messages"  # Anthropic's, whose errors have names and a shape of their own
ANTHROPIC = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Problem(Exception):
    """A request that gets an error for an answer.

    `kind` and `code` are OpenAI's words where it has one; `param` is the field to blame.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The error as JSON."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"  # noqa: PLR2004
        error_type = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, kind)
        return msgspec.json.encode(
            objects.Error(objects.ErrorDetails(self.message, error_type, self.param, self.code))
        )

    @property
    def anthropic(self) -> objects.AnthropicError:
        """The error as Anthropic's API has it."""
        kind = "invalid_request_error" if self.status < 500 else "api_error"  # noqa: PLR2004
        error_type = ANTHROPIC.get(self.status, kind)
        return objects.AnthropicError(objects.AnthropicDetails(error_type, self.message))

    def response(self, path: str) -> Response:
        """Return it as the answer to a request for what is at `path`."""
        body = msgspec.json.encode(self.anthropic) if path.startswith(MESSAGES) else self.body
        return Response(body, self.status, self.headers, "application/json")


def busy(seconds: int) -> Problem:
    """Return the answer to one request too many."""
    return Problem(
        429,
        _("Too many requests are waiting."),
        code="queue_full",
        headers={"Retry-After": str(seconds)},
    )


def loading(model: str) -> Problem:
    """Return the answer while there is no engine to ask."""
    return Problem(
        503,
        _("The model {name} is being loaded.").format(name=model),
        code="model_loading",
        headers={"Retry-After": "2"},
    )


def late(seconds: int) -> Problem:
    """Return the answer to a request that took too long; a client would only ask it again."""
    return Problem(
        504,
        _("The request took more than {seconds} seconds.").format(seconds=seconds),
        code="timeout",
        headers={"x-should-retry": "false"},
    )


def leaving() -> Problem:
    """Return the answer to what is still running when the server has to end."""
    return Problem(503, _("The server is shutting down."), code="shutting_down")


def broken(fault: str) -> Problem:
    """Return the answer to a request whose model broke the schema that it had to follow."""
    return Problem(
        500,
        _("The answer does not follow the schema: {fault}.").format(fault=fault),
        code="schema_broken",
    )


def too_long(error: MessageTooLong, field: str) -> Problem:
    """Return the answer to a field that does not fit the context."""
    return Problem(400, error.what, code="context_length_exceeded", param=field)


def of(error: Exception) -> Problem:
    """Return any error as a problem; only a Failure's own words are told to the client."""
    match error:
        case Problem():
            return error
        case MessageTooLong():
            return too_long(error, "messages")
        case NotSupported():
            param = FIELDS.get(error.option, error.option) or None
            return Problem(400, error.what, code="unsupported_value", param=param)
        case NotEnoughMemoryLeft():  # asking again at once would not help
            headers = {"x-should-retry": "false"}
            return Problem(503, error.what, code="not_enough_memory", headers=headers)
        case Failure():  # its engine is loaded again
            return Problem(503, error.what, code="engine_failed", headers={"Retry-After": "5"})
    return Problem(500, _("Internal server error."), code="internal_error")
