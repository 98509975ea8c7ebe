"""What clients are sent: the objects of OpenAI's API, and the errors of both APIs.

From these types come the JSON and the OpenAPI document.
Source: https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import UNSET, Struct, UnsetType, field

from entrypoint.serve import speech
from entrypoint.serve.wire import Called, ToolCall


class PromptDetails(Struct):
    """What of a prompt was already in the cache."""

    cached_tokens: int


class CompletionUsage(Struct):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


Reason: TypeAlias = Literal["stop", "length", "tool_calls"]


class TopToken(Struct):
    """A token in words, the natural logarithm of its likelihood, and its UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class TokenScore(TopToken):
    """A token of an answer, and the likeliest ones of its place."""

    top_logprobs: list[TopToken]


class ChatScores(Struct):
    """The tokens of an answer, or of a piece of it."""

    content: list[TokenScore]
    refusal: None = None


class TextScores(Struct):
    """The tokens of a text, or of a piece of it, in lists of one length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


def call(part: speech.FunctionCall, index: int | None = None) -> ToolCall:
    """Return a call as it travels; in a stream it has its `index` among the answer's calls."""
    function = Called(part.name, part.arguments)
    return ToolCall(part.id, function, index=UNSET if index is None else index)


class Generated(Struct, kw_only=True):
    """What every generated answer begins with."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class Said(Struct):
    """The whole answer to a chat."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(Struct):
    """One of the answers to a chat."""

    message: Said
    finish_reason: Reason
    index: int = 0
    logprobs: ChatScores | None = None


class ChatCompletion(Generated, kw_only=True):
    """Answer of POST /v1/chat/completions."""

    choices: list[ChatChoice]
    usage: CompletionUsage
    object: Literal["chat.completion"] = "chat.completion"


class Delta(Struct):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChunkChoice(Struct):
    """One of the answers, in a chunk."""

    delta: Delta
    finish_reason: Reason | None = None
    index: int = 0
    logprobs: ChatScores | None = None


class ChatChunk(Generated, kw_only=True):
    """One event of a streamed chat."""

    choices: list[ChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class TextChoice(Struct):
    """One of the completed texts."""

    text: str
    finish_reason: Reason | None = None
    index: int = 0
    logprobs: TextScores | None = None


class Completion(Generated, kw_only=True):
    """Answer of POST /v1/completions, and one event of it streamed."""

    choices: list[TextChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"


class ModelCard(Struct):
    """One model that is served."""

    id: str
    created: int
    owned_by: str
    context: int
    display_name: str
    object: Literal["model"] = "model"


class ModelList(Struct):
    """Answer of GET /v1/models."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


class ErrorDetails(Struct):
    """What went wrong; `param` is the field that is to blame."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Error(Struct):
    """The body of every answer that is not a success."""

    error: ErrorDetails


class AnthropicDetails(Struct):
    """What went wrong, in Anthropic's words."""

    type: str
    message: str


class AnthropicError(Struct):
    """The same, as /v1/messages tells it."""

    error: AnthropicDetails
    type: Literal["error"] = "error"


class State(Struct):
    """Answer of /health and /ready."""

    status: str
    models: dict[str, str] = field(default_factory=dict)
