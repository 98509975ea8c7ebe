"""What clients send: the requests of OpenAI's API, as far as this server keeps it.

From these types come the validation, the JSON and the OpenAPI document. One rule for what they do
not name: a value that says nothing (null, false, "", [], {}) never is an error, whatever its field
is called; every other one is refused rather than passed over in silence (`fields`).
Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType, json, to_builtins

from entrypoint.common.catalog import ENDLESS
from entrypoint.common.language import _
from entrypoint.engines import Message, Options, Tokens
from entrypoint.serve import calls
from entrypoint.serve.limits import CHOICES, MESSAGES, SCHEMA, TOOLS
from entrypoint.serve.speech import Speech
from entrypoint.serve.vetting import vet

UNHEEDED = (  # what serves OpenAI's bookkeeping, or says what is the case anyway
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
    "modalities", "verbosity", "best_of",
)  # fmt: skip
SHORT = 16  # tokens of a completion that does not say how long it should be
SEEDS = 2**32 - 1  # engines know so many; the last one means chance to llama.cpp
Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000)]
Word: TypeAlias = Annotated[str, Meta(max_length=1000)]
Words: TypeAlias = Annotated[list[Word], Meta(max_length=4)]
Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
Repetition: TypeAlias = Annotated[float, Meta(gt=0, le=2)]
Bias: TypeAlias = Annotated[float, Meta(ge=-100, le=100)]
Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Number: TypeAlias = Annotated[int, Meta(ge=0, le=999_999_999)]  # of a token
TokenId: TypeAlias = Annotated[str, Meta(pattern="^[0-9]{1,9}$")]
Numbers: TypeAlias = Annotated[list[Number], Meta(min_length=1)]
Prompt: TypeAlias = Text | Annotated[list[Text | Number | Numbers], Meta(min_length=1)]
Top: TypeAlias = Annotated[int, Meta(ge=0, le=20)]  # of the likeliest tokens


class Unsupported(ValueError):
    """A field asks for what cannot be done here; `param` names it, "" the object at hand."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


class TextPart(Struct, forbid_unknown_fields=True):
    """A part of a message; this server reads text only."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: Any = None
    cache_control: Any = None


class Called(Struct, forbid_unknown_fields=True):
    """The function that a model wants to be called, and its arguments as JSON."""

    name: Annotated[str, Meta(min_length=1)]
    arguments: str = "{}"


class ToolCall(Struct, forbid_unknown_fields=True):
    """One call that the model asked for; a message of role "tool" answers its `id`."""

    id: str
    function: Called
    type: Literal["function"] = "function"
    index: int | UnsetType | None = UNSET


class ChatMessage(Struct, forbid_unknown_fields=True):
    """One message of a conversation.

    The last fields are what answers bring along; they only tell, so a history may have them.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    cache_control: Any = None
    parsed: Any = None

    def __post_init__(self) -> None:
        """Refuse a message that says nothing."""
        if self.content is None and self.role != "assistant":
            raise ValueError(_("A message of role {role} needs content").format(role=self.role))

    def message(self) -> Message:
        """Return it as engines read it."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        role = "system" if self.role == "developer" else self.role
        message = Message(role=role, content=text)
        if self.tool_calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in self.tool_calls
            ]
        if self.tool_call_id:
            message["tool_call_id"] = self.tool_call_id
        return message


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
        """Refuse one that the engine cannot keep, or that would hold up everybody's answers."""
        self.schema = vet(self.schema)


class JsonSchema(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    """The answer is JSON that follows a schema."""

    json_schema: Schema


class StreamOptions(Struct, forbid_unknown_fields=True):
    """What a stream ends with."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Function(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A function that a model may want to be called; `parameters` is a JSON Schema."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    def __post_init__(self) -> None:
        """Refuse parameters that are not kept as promised, or would hold up everybody."""
        if len(json.encode(self.parameters)) > SCHEMA:
            raise ValueError(_("The schema has more than {bytes} bytes").format(bytes=SCHEMA))
        if self.strict:
            vet(self.parameters or {})


class Tool(Struct, forbid_unknown_fields=True):
    """What a model may use; this server knows functions only."""

    type: Literal["function"]
    function: Function


class ChosenFunction(Struct, forbid_unknown_fields=True):
    """The name of a function."""

    name: str


class Chosen(Struct, forbid_unknown_fields=True):
    """The function that a model has to call."""

    type: Literal["function"]
    function: ChosenFunction


class GenerationRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request for a chat and one for a raw text have in common."""

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repeat_penalty: Repetition | None = None
    repetition_penalty: Repetition | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Meta(max_length=300)] | None = None
    max_tokens: Count | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Word | Words | None = None
    n: Annotated[int, Meta(ge=1, le=CHOICES)] | None = None
    user: str | None = None

    def options(self, default: Options, most: int | None) -> Options:
        """Return how to sample the answer, of `most` tokens at most: `default` but as asked for."""
        limits = [count for count in (self.limit, most) if count is not None]
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        sampling: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": None if self.seed in {None, -1} else (self.seed or 0) % SEEDS,
            **self._unusual(),
        }
        return replace(
            default,
            **{name: value for name, value in sampling.items() if value is not None},
            max_tokens=min(limits, default=None),
            stop=tuple(word for word in stop if word),
            schema=self.schema,
            logprobs=self.scores,
        )

    def _unusual(self) -> dict[str, Any]:
        """Return what not every engine knows, so only where it is asked for: None leaves it out."""
        repeat = self.repetition_penalty if self.repeat_penalty is None else self.repeat_penalty
        return {
            "top_k": None if self.top_k is None else max(self.top_k, 0),  # some call all of them -1
            "min_p": self.min_p,
            "repeat_penalty": repeat,
            "presence_penalty": self.presence_penalty or None,
            "frequency_penalty": self.frequency_penalty or None,
            "logit_bias": self.logit_bias or None,
        }

    @property
    def limit(self) -> int | None:
        """The most tokens that the request asks for."""
        return self.max_tokens

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema that the answer must follow, if any."""
        return None

    @property
    def scores(self) -> int | None:
        """How many of the likeliest tokens are told of for each token; None: no scores at all."""
        return None

    @property
    def whole_schema(self) -> dict[str, Any] | None:
        """The schema that a whole answer is held against; a stop text cuts answers anywhere."""
        return None if self.stop else self.schema

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what the answer cost."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(GenerationRequest, kw_only=True):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES)]
    max_completion_tokens: Count | None = None
    response_format: PlainText | JsonObject | JsonSchema | None = None
    logprobs: bool | None = None
    top_logprobs: Top | None = None
    tools: Annotated[list[Tool], Meta(max_length=TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | Chosen | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    enable_thinking: bool | None = None
    thinking_budget: Count | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    modalities: list[Literal["text"]] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    verbosity: Any = None

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
        return self._schema_of_a_call() if self._must_call else None

    def _schema_of_a_call(self) -> dict[str, Any]:
        try:
            return calls.schema_of({each.name: each.parameters or {} for each in self.offered})
        except ValueError as error:
            raise Unsupported(str(error), "tools") from None

    @property
    def scores(self) -> int | None:
        """How many of the likeliest tokens are told of for each token; None: no scores at all."""
        return self.top_logprobs or 0 if self.logprobs else None

    @property
    def whole_schema(self) -> dict[str, Any] | None:
        """The schema that a whole answer is held against; one that had begun is the rest of it."""
        return None if self.messages[-1].role == "assistant" else super().whole_schema

    @property
    def _must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, Chosen)

    @property
    def offered(self) -> list[Function]:
        """The functions that the model may call."""
        functions = [tool.function for tool in self.tools or ()]
        if self.tool_choice == "none":
            return []
        if isinstance(self.tool_choice, Chosen):
            return [each for each in functions if each.name == self.tool_choice.function.name]
        return functions

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and a conversation that asks for nothing."""
        last = self.messages[-1]
        if last.role in {"system", "developer"} or (last.role == "assistant" and not last.content):
            raise Unsupported(_("There is nothing to answer in the last message."), "messages")
        if self._must_call and not self.offered:
            raise Unsupported(
                _("tool_choice asks for a function that is not in tools."), "tool_choice"
            )
        if self._must_call:
            self._schema_of_a_call()
        if self.top_logprobs and not self.logprobs:
            raise Unsupported(_("top_logprobs needs logprobs: true."), "top_logprobs")
        if self.offered and isinstance(self.response_format, JsonObject | JsonSchema):
            raise Unsupported(
                _("An answer either calls tools or follows a response_format."), "response_format"
            )

    def options(self, default: Options, most: int | None) -> Options:
        """Return how to sample the answer, and what its template is told beside the messages."""
        template = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort not in {None, "none", "medium"}:  # which is everybody's default
            template["reasoning_effort"] = self.reasoning_effort
        think = self._think(template.pop("enable_thinking", None), default.think)
        tools = tuple(
            {"type": "function", "function": to_builtins(function)} for function in self.offered
        )
        return replace(
            super().options(default, most),
            tools=tools,
            template=template or None,
            think=think,
            counts_thought=self.max_completion_tokens is not None,  # as OpenAI has it
        )

    def _think(self, told: Any, default: int | None) -> int | None:
        """Return how many tokens the model may think: whether it may can be said in three ways."""
        wish = told if self.enable_thinking is None else self.enable_thinking
        if self.reasoning_effort == "none" or wish is False:
            return 0
        return self.thinking_budget or (default if wish is None else default or ENDLESS)

    def speech(self) -> Speech:
        """Return what tells an answer's parts apart."""
        most = 1 if self.parallel_tool_calls is False else None
        return Speech([function.name for function in self.offered], most)


def raw(given: Prompt, name: str, most: int) -> list[str | Tokens]:
    """Return the texts that the field `name` has; raise Unsupported for a mixture, or too many."""
    if isinstance(given, str):
        return [given]
    kinds = set(map(type, given))
    if len(kinds) > 1:
        raise Unsupported(_("A list of prompts has texts, or tokens, not both."), name)
    if numbers := [each for each in given if isinstance(each, int)]:
        return [Tokens(numbers)]
    if len(given) > most:
        raise Unsupported(_("There are more than {most} prompts.").format(most=most), name)
    return [
        each if isinstance(each, str) else Tokens(each)
        for each in given
        if not isinstance(each, int)
    ]


class CompletionRequest(GenerationRequest, kw_only=True):
    """Body of POST /v1/completions."""

    prompt: Prompt
    best_of: Annotated[int, Meta(ge=1, le=CHOICES)] | None = None
    echo: bool | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    logprobs: Top | None = None
    suffix: str | None = None

    def __post_init__(self) -> None:
        """Refuse what asks for more answers than are returned, for none, or for a mixture."""
        if (self.best_of or 1) > (self.n or 1):
            raise Unsupported(_("best_of cannot be more than n."), "best_of")
        if self.max_tokens == 0 and not self.echo:
            raise Unsupported(_("Without echo, max_tokens 0 asks for nothing."), "max_tokens")
        raw(self.prompt, "prompt", CHOICES)
        if self.suffix and not (isinstance(self.prompt, str) and not self._scored):
            words = _("A suffix needs one prompt that is a text, and tells no likelihoods of it.")
            raise Unsupported(words, "suffix")

    @property
    def prompts(self) -> list[str | Tokens]:
        """The texts to go on with."""
        return raw(self.prompt, "prompt", CHOICES)

    @property
    def _scored(self) -> bool:
        return self.logprobs is not None or self.max_tokens == 0

    @property
    def limit(self) -> int:
        """The most tokens that the request asks for; OpenAI's default is as short."""
        return SHORT if self.max_tokens is None else self.max_tokens

    @property
    def scores(self) -> int | None:
        """How many of the likeliest tokens are told of for each token; None: no scores at all."""
        return self.logprobs

    def options(self, default: Options, most: int | None) -> Options:
        """Return how to sample the answer; what the engine alone can send back is asked of it."""
        echo = bool(self.echo) and (self._scored or not isinstance(self.prompts[0], str))
        return replace(super().options(default, most), echo=echo, suffix=self.suffix or None)
