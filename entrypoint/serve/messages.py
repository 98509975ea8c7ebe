"""Anthropic's Messages: a request becomes a chat, its answer is told in their shape.

Source: https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct, to_builtins

from entrypoint.engines import Usage
from entrypoint.serve.blocks import Block, BlockReply, Event
from entrypoint.serve.limits import MESSAGES, TOOLS
from entrypoint.serve.problems import Problem
from entrypoint.serve.wire import Count, TextPart, Words

Chat: TypeAlias = dict[str, Any]  # a request or a message, as OpenAI's chat has it


class ContentBlock(Struct, forbid_unknown_fields=True):
    """A part of a message, of whichever type; what it has besides only tells."""

    type: Literal["text", "tool_use", "tool_result", "thinking", "redacted_thinking"]
    text: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    tool_use_id: str = ""
    content: str | list[TextPart] | None = None
    is_error: bool | None = None
    thinking: str = ""
    signature: str | None = None
    data: Any = None
    caller: Any = None
    citations: Any = None
    cache_control: Any = None


class AnthropicMessage(Struct, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    content: str | list[ContentBlock]

    def chat(self) -> list[Chat]:
        """Return it as messages of a chat: each result of a tool is one of its own."""
        if isinstance(self.content, str):
            return [{"role": self.role, "content": self.content}]
        results = [
            {"role": "tool", "tool_call_id": block.tool_use_id, "content": _text(block.content)}
            for block in self.content
            if block.type == "tool_result"
        ]
        calls = [_call(block) for block in self.content if block.type == "tool_use"]
        text = "".join(block.text for block in self.content if block.type == "text")
        if results and not text:
            return results
        return [*results, {"role": self.role, "content": text, "tool_calls": calls}]


class AnthropicTool(Struct, forbid_unknown_fields=True):
    """A function that the model may want to be called."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: Any = None


class AnthropicChoice(Struct, forbid_unknown_fields=True):
    """Whether a tool is used, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class AnthropicThinking(Struct, forbid_unknown_fields=True):
    """Whether the model thinks, and for how many tokens."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Count | None = None
    display: Any = None


class CountRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /v1/messages/count_tokens."""

    messages: Annotated[list[AnthropicMessage], Meta(min_length=1, max_length=MESSAGES)]
    model: str | None = None
    system: str | list[TextPart] | None = None
    tools: Annotated[list[AnthropicTool], Meta(max_length=TOOLS)] | None = None
    tool_choice: AnthropicChoice | None = None
    thinking: AnthropicThinking | None = None

    def chat(self) -> Chat:
        """Return it as OpenAI's chat has it."""
        system = _text(self.system)
        turns = [message for each in self.messages for message in each.chat()]
        chat: Chat = {
            "model": self.model,
            "messages": [*([{"role": "system", "content": system}] if system else []), *turns],
            "tools": [_tool(each) for each in self.tools or ()],
            "max_completion_tokens": 1,
        }
        if choice := self.tool_choice:
            function = {"type": "function", "function": {"name": choice.name or ""}}
            ways = {"any": "required", "tool": function}
            chat["tool_choice"] = ways.get(choice.type, choice.type)
            chat["parallel_tool_calls"] = not choice.disable_parallel_tool_use
        if self.thinking:
            chat["enable_thinking"] = self.thinking.type != "disabled"
            chat["thinking_budget"] = self.thinking.budget_tokens
        return chat


class MessagesRequest(CountRequest, kw_only=True):
    """Body of POST /v1/messages."""

    max_tokens: Count
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    stop_sequences: Words | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None

    def chat(self) -> Chat:
        """Return it as OpenAI's chat has it."""
        return super().chat() | {
            "max_completion_tokens": self.max_tokens,
            "stream": bool(self.stream),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "stop": self.stop_sequences,
        }


class TokenCount(Struct):
    """Answer of POST /v1/messages/count_tokens."""

    input_tokens: int


class MessagesReply(BlockReply):
    """Answer of /v1/messages."""

    prefix = "msg"

    def failed(self, problem: Problem) -> bytes:
        """Return what went wrong as the last event."""
        return self.event(to_builtins(problem.anthropic))

    def answer(self, usage: Usage) -> Event:
        """Return all that is answered, from the blocks."""
        return self._message(
            [_told(block, block.text) for block in self.blocks], self._reason(usage), _cost(usage)
        )

    def opening(self) -> list[Any]:
        """Return the event that tells who speaks; what was read is known at the end only."""
        cost = {"input_tokens": 0, "output_tokens": 0}
        return [{"type": "message_start", "message": self._message([], None, cost)}]

    def opened(self, block: Block) -> list[Event]:
        """Return the event of a block that begins."""
        begun = _told(block, "")
        return [{"type": "content_block_start", "index": block.index, "content_block": begun}]

    def grown(self, block: Block, text: str) -> Event:
        """Return the event of a piece of a block."""
        ways = {
            "thought": {"type": "thinking_delta", "thinking": str(text)},
            "words": {"type": "text_delta", "text": str(text)},
            "call": {"type": "input_json_delta", "partial_json": str(text)},
        }
        delta = ways[block.kind]
        return {"type": "content_block_delta", "index": block.index, "delta": delta}

    def closed(self, block: Block) -> list[Event]:
        """Return the event of a block that is whole."""
        return [{"type": "content_block_stop", "index": block.index}]

    def ended(self, usage: Usage) -> list[Event]:
        """Return why it ended and what it cost."""
        delta = {"stop_reason": self._reason(usage), "stop_sequence": None}
        return [
            {"type": "message_delta", "delta": delta, "usage": _cost(usage)},
            {"type": "message_stop"},
        ]

    def _reason(self, usage: Usage) -> str:
        if self.calls:
            return "tool_use"
        return "max_tokens" if usage.finish_reason == "length" else "end_turn"

    def _message(self, content: Sequence[Event], reason: str | None, cost: Event) -> Event:
        return {
            "id": self.head["id"].replace("-", "_"),
            "type": "message",
            "role": "assistant",
            "model": self.head["model"],
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": cost,
        }


class CountReply(MessagesReply):
    """Answer of /v1/messages/count_tokens: the prompt is read, which its answer need not repeat."""

    def answer(self, usage: Usage) -> Event:
        """Return the length of the prompt."""
        return {"input_tokens": usage.prompt_tokens}


def _text(content: str | Sequence[TextPart] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content)


def _call(block: ContentBlock) -> Chat:
    arguments = json.dumps(block.input, ensure_ascii=False)
    function = {"name": block.name, "arguments": arguments}
    return {"id": block.id, "type": "function", "function": function}


def _tool(tool: AnthropicTool) -> Chat:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _told(block: Block, text: str) -> Event:
    """Return a block with `text` in it; the arguments of a call are an object."""
    match block.kind:
        case "thought":
            return {"type": "thinking", "thinking": text, "signature": ""}
        case "words":
            return {"type": "text", "text": text}
    return {"type": "tool_use", "id": block.call, "name": block.name, "input": _object(text)}


def _object(text: str) -> Any:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _cost(usage: Usage) -> Event:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.completion_tokens,
    }
