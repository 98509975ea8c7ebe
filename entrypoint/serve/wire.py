"""The shapes that travel: requests and answers of OpenAI's API, as far as this server keeps it.

From these types come the validation, the JSON and the OpenAPI document. What this server cannot do
is refused rather than passed over in silence; fields that serve OpenAI's bookkeeping only (`user`,
`metadata`, ...) are taken and have no effect.
Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, field, json

from entrypoint.common.language import _
from entrypoint.engines import Message, Options
from entrypoint.serve.limits import MESSAGES, SCHEMA

SHORT = 16  # tokens of a completion that does not say how long it should be
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Nothing: TypeAlias = Annotated[float, Meta(ge=0, le=0)]
Word: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]
Words: TypeAlias = Annotated[list[Word], Meta(max_length=4)]


class TextPart(Struct, forbid_unknown_fields=True):
    """A part of a message; this server reads text only."""

    type: Literal["text"]
    text: str


class Turn(Struct, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None
    refusal: None = None

    def message(self) -> Message:
        """Return it as engines read it."""
        content = self.content
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class PlainText(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """The answer may be any text."""


class JsonObject(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    """The answer is any JSON object."""


class Schema(Struct, forbid_unknown_fields=True):
    """A JSON Schema with a name."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None

    def __post_init__(self) -> None:
        """Refuse one that would hold up everybody's answers."""
        if len(json.encode(self.schema)) > SCHEMA:
            raise ValueError(_("The schema has more than {bytes} bytes").format(bytes=SCHEMA))


class JsonSchema(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """The answer is JSON that follows a schema."""

    json_schema: Schema


class StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream ends with."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Sampling(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request for a chat and one for a raw text have in common."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    seed: Annotated[int, Meta(ge=0, le=2**32 - 2)] | None = None
    stop: Word | Words | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    presence_penalty: Nothing | None = None
    frequency_penalty: Nothing | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=0)] | None = None
    user: str | None = None

    def options(self, most: int | None) -> Options:
        """Return how to sample the answer, of `most` tokens at most."""
        chosen: dict[str, Any] = {
            name: value
            for name in ("temperature", "top_p", "seed")
            if (value := getattr(self, name)) is not None
        }
        asked = [count for count in (self.limit, most) if count is not None]
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        return Options(
            **chosen,
            max_tokens=min(asked, default=None),
            stop=tuple(stop),
            schema=self.schema,
        )

    @property
    def limit(self) -> int | None:
        """The most tokens that the request asks for."""
        return self.max_tokens

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer must follow, if any."""
        return None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what the answer cost."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Sampling, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[Turn], Meta(min_length=1, max_length=MESSAGES)]
    max_completion_tokens: Count | None = None
    response_format: PlainText | JsonObject | JsonSchema | None = None
    logprobs: bool | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    def __post_init__(self) -> None:
        """Refuse what there is no way to answer."""
        if self.logprobs:
            raise ValueError(_("Log probabilities are not to be had here"))

    @property
    def limit(self) -> int | None:
        """The most tokens that the request asks for; the newer name counts first."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer must follow, if any."""
        match self.response_format:
            case JsonSchema(json_schema=named):
                return named.schema
            case JsonObject():
                return {"type": "object"}
        return None


class CompletionRequest(Sampling, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: Annotated[str, Meta(min_length=1)]
    best_of: Annotated[int, Meta(ge=1, le=1)] | None = None
    echo: bool | None = None
    logprobs: None = None
    suffix: None = None

    def __post_init__(self) -> None:
        """Refuse what there is no way to answer."""
        if self.echo:
            raise ValueError(_("The prompt is not sent back"))

    @property
    def limit(self) -> int:
        """The most tokens that the request asks for; OpenAI's default is as short."""
        return self.max_tokens or SHORT


class PromptDetails(Struct):
    """What of a prompt was already in the cache."""

    cached_tokens: int


class Cost(Struct):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


Reason: TypeAlias = Literal["stop", "length"]


class Said(Struct):
    """The whole answer to a chat."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(Struct):
    """The only choice that an answer has."""

    message: Said
    finish_reason: Reason
    index: int = 0
    logprobs: None = None


class Chat(Struct, kw_only=True):
    """Answer of POST /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Cost
    object: Literal["chat.completion"] = "chat.completion"


class Delta(Struct):
    """What a chunk adds to the answer."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct):
    """The only choice of a chunk."""

    delta: Delta
    finish_reason: Reason | None = None
    index: int = 0
    logprobs: None = None


class ChatChunk(Struct, kw_only=True):
    """One event of a streamed chat."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Cost | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class TextChoice(Struct):
    """The only choice of a completed text."""

    text: str
    finish_reason: Reason | None = None
    index: int = 0
    logprobs: None = None


class Completion(Struct, kw_only=True):
    """Answer of POST /v1/completions, and one event of it streamed."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Cost | UnsetType | None = UNSET
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


class Problem(Struct):
    """What went wrong; `param` is the field that is to blame."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Error(Struct):
    """The body of every answer that is not a success."""

    error: Problem


class State(Struct):
    """Answer of /health and /ready."""

    status: str
    models: dict[str, str] = field(default_factory=dict)
