"""LangChain."""

from __future__ import annotations

import json

from attempts import BASE, KEY, MODEL, QUESTION, SHORT, Place, attempt, get_weather, require
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

chat = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, max_retries=0, max_tokens=64)
weather = tool(get_weather)


def _whole() -> None:
    require(holds=chat.invoke(SHORT).content, why="no content")


def _streamed() -> None:
    require(holds="".join(str(piece.content) for piece in chat.stream(SHORT)), why="no content")


def _tools() -> None:
    bound = chat.bind_tools([weather], tool_choice="any")
    reply = bound.invoke(QUESTION)
    (call,) = reply.tool_calls[:1]
    result = ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
    answer = chat.bind_tools([weather], tool_choice="none").invoke(
        [HumanMessage(QUESTION), reply, result]
    )
    require(holds=answer.content, why="no content")


def _structured_by_function() -> None:
    place = chat.with_structured_output(Place, method="function_calling").invoke(QUESTION)
    require(holds=isinstance(place, Place), why=f"got {place!r}")


def _structured_by_schema() -> None:
    place = chat.with_structured_output(Place, method="json_schema").invoke(QUESTION)
    require(holds=isinstance(place, Place), why=f"got {place!r}")


def _structured_by_mode() -> None:
    asking = f"{QUESTION} Answer in JSON with the keys city and country."
    raw = chat.with_structured_output(None, method="json_mode", include_raw=True).invoke(asking)
    require(holds=isinstance(json.loads(raw["raw"].content), dict), why="no object")


def _embeddings() -> None:
    model = OpenAIEmbeddings(
        model=MODEL, base_url=BASE, api_key=KEY, max_retries=0, check_embedding_ctx_length=False
    )
    require(holds=model.embed_query(SHORT), why="no vector")


attempt(
    "langchain-openai",
    {
        "ChatOpenAI.invoke": _whole,
        "ChatOpenAI.stream": _streamed,
        "bind_tools, ToolMessage": _tools,
        'with_structured_output(method="function_calling")': _structured_by_function,
        'with_structured_output(method="json_schema")': _structured_by_schema,
        'with_structured_output(method="json_mode")': _structured_by_mode,
        "OpenAIEmbeddings.embed_query": _embeddings,
    },
)
