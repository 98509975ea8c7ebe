"""OpenAI's Responses, without a memory: a request becomes a chat, its answer is told as items.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

from entrypoint.common.language import _
from entrypoint.engines import Prompt, ScoredToken, Usage, scores
from entrypoint.serve import likelihood, objects, wire
from entrypoint.serve.blocks import Block, BlockReply, Event
from entrypoint.serve.limits import MESSAGES, TOOLS, Limits
from entrypoint.serve.problems import Problem
from entrypoint.serve.service import Service
from entrypoint.serve.wire import Count, TextPart, Top, Unsupported

Chat: TypeAlias = dict[str, Any]  # a request or a message, as OpenAI's chat has it
Role: TypeAlias = Literal["user", "assistant", "system", "developer"]


LOGPROBS = "message.output_text.logprobs"  # the rest that can be included is of tools we lack


class InputItem(Struct, forbid_unknown_fields=True):
    """A message, a call, what it brought, or a thought; what it has besides only tells."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Role = "user"
    content: Any = None
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    output: str | list[TextPart] = ""
    id: str | None = None
    status: str | None = None
    phase: Any = None
    summary: Any = None
    encrypted_content: Any = None
    namespace: Any = None


class ResponseTool(Struct, forbid_unknown_fields=True):
    """A function that the model may want to be called."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedTool(Struct, forbid_unknown_fields=True):
    """The function that has to be called."""

    type: Literal["function"]
    name: str


class ResponseFormat(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The form of the answer's text."""

    type: Literal["text", "json_object", "json_schema"]
    name: str = ""
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseText(Struct, forbid_unknown_fields=True):
    """What is asked of the answer's text."""

    format: ResponseFormat | None = None
    verbosity: Any = None


class ResponseReasoning(Struct, forbid_unknown_fields=True):
    """How much the model thinks."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: str | None = None
    generate_summary: str | None = None


class ResponsesRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /v1/responses."""

    input: (
        Annotated[str, Meta(min_length=1)]
        | Annotated[list[InputItem], Meta(min_length=1, max_length=MESSAGES)]
    )
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: ResponseText | None = None
    reasoning: ResponseReasoning | None = None
    truncation: Literal["disabled"] | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    stream_options: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    include: list[str] | None = None
    top_logprobs: Top | None = None

    def __post_init__(self) -> None:
        """Refuse to go on from what nobody kept."""
        if self.previous_response_id:
            raise Unsupported(
                _("No response is kept here: send the conversation in input."),
                "previous_response_id",
            )

    def chat(self) -> Chat:
        """Return it as OpenAI's chat has it."""
        content = self.input
        items = [InputItem(content=content)] if isinstance(content, str) else content
        orders = self.instructions
        likely = LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
        choice: Any = self.tool_choice
        if isinstance(choice, NamedTool):
            choice = {"type": "function", "function": {"name": choice.name}}
        return {
            "model": self.model,
            "messages": [*([{"role": "system", "content": orders}] if orders else []),
                         *_messages(items)],
            "stream": bool(self.stream),
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "tools": [_tool(each) for each in self.tools or ()],
            "tool_choice": choice,
            "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": _format(self.text.format if self.text else None),
            "reasoning_effort": self.reasoning and self.reasoning.effort,
            "logprobs": likely,
            "top_logprobs": self.top_logprobs if likely else None,
        }  # fmt: skip


class ResponsesReply(BlockReply):
    """Answer of /v1/responses."""

    prefix = "resp"

    def __init__(
        self,
        service: Service,
        request: wire.ChatRequest,
        prompt: Prompt,
        limits: Limits,
        asked: ResponsesRequest,
    ) -> None:
        super().__init__(service, request, prompt, limits)
        self._asked, self._events = asked, 0

    def event(self, struct: Any) -> bytes:
        """Return an event as it travels: with its name and number."""
        self._events += 1
        return super().event({**struct, "sequence_number": self._events - 1})

    def failed(self, problem: Problem) -> bytes:
        """Return what went wrong as the last event."""
        error = {"code": problem.code, "message": problem.message, "param": problem.param}
        return self.event({"type": "error", **error})

    def answer(self, usage: Usage) -> Event:
        """Return all that is answered, from the blocks."""
        cut = usage.finish_reason == "length"
        items = [_item(block, "completed") for block in self.blocks]
        if cut and items:
            items[-1] = _item(self.blocks[-1], "incomplete")
        return self._response("incomplete" if cut else "completed", items, usage)

    def opening(self) -> list[Any]:
        """Return the events that tell of an answer to come."""
        begun = self._response("in_progress", [], None)
        return [{"type": f"response.{name}", "response": begun} for name in BEGINNING]

    def opened(self, block: Block) -> list[Event]:
        """Return the events of an item that begins."""
        empty = Block(block.index, block.kind, "", block.name, block.call, block.id)
        item = {**_item(empty, "in_progress"), **({} if block.kind == "call" else {"content": []})}
        added = {"type": "response.output_item.added", "output_index": block.index, "item": item}
        if block.kind == "call":
            return [added]
        return [added, _at(block, "content_part.added", part=_part(empty))]

    def grown(self, block: Block, text: str) -> Event:
        """Return the event of a piece of an item."""
        return _at(block, f"{NAMES[block.kind]}.delta", scores(text), delta=str(text))

    def closed(self, block: Block) -> list[Event]:
        """Return the events of an item that is whole."""
        ending = {
            "type": "response.output_item.done",
            "output_index": block.index,
            "item": _item(block, "completed"),
        }
        if block.kind == "call":
            whole = {"arguments": block.text, "name": block.name}
            return [_at(block, f"{NAMES['call']}.done", **whole), ending]
        return [
            _at(block, f"{NAMES[block.kind]}.done", block.tokens, text=block.text),
            _at(block, "content_part.done", part=_part(block)),
            ending,
        ]

    def ended(self, usage: Usage) -> list[Event]:
        """Return the event that has all of the answer."""
        answer = self.answer(usage)
        return [{"type": f"response.{answer['status']}", "response": answer}]

    def _response(self, status: str, items: Sequence[Event], usage: Usage | None) -> Event:
        asked, options = self._asked, self.questions[0][1]
        cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self.head["id"].replace("-", "_"),
            "object": "response",
            "created_at": self.head["created"],
            "completed_at": None if usage is None else int(time.time()),
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": cut,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "model": self.head["model"],
            "output": items,
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning and asked.reasoning.effort, "summary": None},
            "store": False,
            "temperature": options.temperature,
            "text": {"format": (asked.text and asked.text.format) or {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
            "top_logprobs": asked.top_logprobs or 0,
            "top_p": options.top_p,
            "truncation": "disabled",
            "usage": usage and _cost(usage),
            "user": asked.user,
            "metadata": asked.metadata or {},
        }


BEGINNING = ("created", "in_progress")
NAMES = {
    "words": "output_text",
    "thought": "reasoning_text",
    "call": "function_call_arguments",
}


def _messages(items: Sequence[InputItem]) -> list[Chat]:
    """Return items as messages; calls that follow each other, or their words, are one turn."""
    messages: list[Chat] = []
    for item in items:
        match item.type:
            case "message":
                messages.append({"role": item.role, "content": item.content})
            case "function_call":
                if not messages or messages[-1]["role"] != "assistant":
                    messages.append({"role": "assistant", "content": None})
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                messages[-1].setdefault("tool_calls", []).append(call)
            case "function_call_output":
                output = {"tool_call_id": item.call_id, "content": item.output}
                messages.append({"role": "tool", **output})
    return messages


def _tool(tool: ResponseTool) -> Chat:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _format(wish: ResponseFormat | None) -> Chat | None:
    if wish is None:
        return None
    if wish.type != "json_schema":
        return {"type": wish.type}
    schema = {"name": wish.name, "schema": wish.schema, "strict": wish.strict}
    return {"type": "json_schema", "json_schema": schema}


def _item(block: Block, status: str) -> Event:
    match block.kind:
        case "call":
            return {
                "type": "function_call",
                "id": f"fc_{block.id}",
                "call_id": block.call,
                "name": block.name,
                "arguments": block.text,
                "status": status,
            }
        case "thought":
            item = {"type": "reasoning", "summary": [], "content": [_part(block)]}
            return {**item, "id": _id(block), "status": status}
    item = {"type": "message", "role": "assistant", "content": [_part(block)]}
    return {**item, "id": _id(block), "status": status}


def _part(block: Block) -> Event:
    if block.kind == "thought":
        return {"type": "reasoning_text", "text": block.text}
    part = {"type": "output_text", "text": block.text, "annotations": []}
    return {**part, "logprobs": _scores(block.tokens)}


def _id(block: Block) -> str:
    kinds = {"words": "msg", "thought": "rs", "call": "fc"}
    return f"{kinds[block.kind]}_{block.id}"


def _scores(tokens: Sequence[ScoredToken]) -> list[objects.TokenScore]:
    likely = likelihood.of_chat(tokens)
    return likely.content if likely else []


def _at(block: Block, name: str, tokens: Sequence[ScoredToken] = (), /, **facts: Any) -> Event:
    """Return an event of a block, of words with the scores of their tokens."""
    place: Event = {"item_id": _id(block), "output_index": block.index}
    if block.kind != "call":
        place["content_index"] = 0
    if name.startswith("output_text"):
        place["logprobs"] = _scores(tokens)
    return {"type": f"response.{name}", **place, **facts}


def _cost(usage: Usage) -> Event:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
