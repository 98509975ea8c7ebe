"""LlamaIndex."""

from __future__ import annotations

from attempts import BASE, KEY, MODEL, QUESTION, SHORT, Place, attempt, get_weather, require
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model=MODEL, api_base=BASE, api_key=KEY, is_chat_model=True, is_function_calling_model=True,
    max_tokens=64, max_retries=0,
)  # fmt: skip


def _whole() -> None:
    require(holds=model.complete(SHORT).text, why="no text")
    require(holds=model.chat([ChatMessage(content=SHORT)]).message.content, why="no content")


def _streamed() -> None:
    pieces = [piece.delta for piece in model.stream_chat([ChatMessage(content=SHORT)])]
    require(holds="".join(filter(None, pieces)), why="no content")


def _tools() -> None:
    weather = FunctionTool.from_defaults(get_weather)
    reply = model.chat_with_tools([weather], QUESTION, tool_required=True)
    require(holds=model.get_tool_calls_from_response(reply), why="no call")


def _structured() -> None:
    place = model.as_structured_llm(Place).complete(QUESTION).raw
    require(holds=isinstance(place, Place), why=f"got {place!r}")


attempt(
    "llama-index-llms-openai-like",
    {
        "OpenAILike.complete, .chat": _whole,
        "stream_chat": _streamed,
        "chat_with_tools": _tools,
        "as_structured_llm": _structured,
    },
)
