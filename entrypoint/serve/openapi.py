"""The description of the API in the OpenAPI format, made from the types in `wire`."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

import entrypoint
from entrypoint.common.language import _
from entrypoint.serve import embeddings, fields, messages, objects, responses, wire

COMPONENTS = "#/components/schemas/{name}"
KEYED: list[dict[str, list[str]]] = [
    {"key": []},
    {},
]  # either with a key, or where none is set without one


@cache
def document() -> bytes:
    """Return the document as JSON."""
    types = (
        wire.ChatRequest, objects.ChatCompletion, objects.ChatChunk, wire.CompletionRequest,
        objects.Completion, objects.ModelList, objects.ModelCard, objects.State, objects.Error,
        responses.ResponsesRequest, responses.InputItem, messages.MessagesRequest,
        messages.CountRequest, messages.TokenCount, embeddings.EmbeddingsRequest,
        embeddings.EmbeddingList, objects.AnthropicError,
    )  # fmt: skip
    references, components = msgspec.json.schema_components(types, ref_template=COMPONENTS)
    lists = (kind for inside in fields.INSIDE.values() for kind in inside.values())
    flat = (wire.CompletionRequest, embeddings.EmbeddingsRequest)
    lenient: set[type] = {*flat, *fields.INSIDE, *lists}
    for kind in lenient:
        components[kind.__name__]["additionalProperties"] = {"enum": list(fields.NOTHING)}
    named: dict[Any, Any] = dict(zip(types, references, strict=True))
    named[dict] = {"type": "object"}  # what others describe

    def answer(kind: type, said: str, *others: tuple[str, Any]) -> dict[str, Any]:
        content = {"application/json": {"schema": named[kind]}, **dict(others)}
        return {"description": said, "content": content}

    def operation(name: str, said: str, **rest: Any) -> dict[str, Any]:
        return {"operationId": name, "summary": said, **rest}

    error = answer(objects.Error, _("What is wrong, in OpenAI's error shape."))
    theirs = answer(objects.AnthropicError, _("What is wrong, in Anthropic's error shape."))

    def asking(name: str, said: str, body: type, whole: type, *event: type) -> dict[str, Any]:
        # Each event's data is JSON, but for the last one, which is [DONE].
        data = [{"type": "string", "contentSchema": named[kind]} for kind in event]
        shapes = [
            {"type": "object", "properties": {"data": each}, "required": ["data"]} for each in data
        ]
        failure = theirs if issubclass(body, messages.CountRequest) else error
        events = [("text/event-stream", {"schema": shape}) for shape in shapes]
        return operation(
            name,
            said,
            security=KEYED,
            requestBody={
                "required": True,
                "content": {"application/json": {"schema": named[body]}},
            },
            responses={
                "200": answer(whole, _("The answer; with `stream`, its events."), *events),
                **dict.fromkeys(
                    ("400", "401", "404", "408", "413", "415", "429", "500", "503", "504"), failure
                ),
            },
        )

    def reading(name: str, said: str, kind: type, **others: Any) -> dict[str, Any]:
        return operation(name, said, responses={"200": answer(kind, said), **others})

    paths = {
        "/v1/chat/completions": {
            "post": asking(
                "chat",
                _("Answer a conversation"),
                wire.ChatRequest,
                objects.ChatCompletion,
                objects.ChatChunk,
            )
        },
        "/v1/completions": {
            "post": asking(
                "complete", _("Go on with a text"), wire.CompletionRequest,
                objects.Completion, objects.Completion,
            )
        },
        "/v1/embeddings": {
            "post": asking(
                "embed", _("Compute vectors of texts"), embeddings.EmbeddingsRequest,
                embeddings.EmbeddingList,
            )
        },
        "/v1/responses": {
            "post": asking(
                "respond", _("Answer a conversation as OpenAI's Responses do"),
                responses.ResponsesRequest, dict, dict,
            )
        },
        "/v1/messages": {
            "post": asking(
                "message", _("Answer a conversation as Anthropic's Messages do"),
                messages.MessagesRequest, dict, dict,
            )
        },
        "/v1/messages/count_tokens": {
            "post": asking(
                "count", _("Count the tokens of such a conversation's prompt"),
                messages.CountRequest, messages.TokenCount, messages.TokenCount,
            )
        },
        "/v1/models": {
            "get": {
                **reading("models", _("List the models"), objects.ModelList, **{"401": error}),
                "security": KEYED,
            }
        },
        "/v1/models/{name}": {
            "get": {
                **reading(
                    "model",
                    _("Describe one model"),
                    objects.ModelCard,
                    **{"401": error, "404": error},
                ),
                "security": KEYED,
                "parameters": [
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "minLength": 1},
                    }
                ],
            }
        },
        "/health": {"get": reading("health", _("Whether the program runs"), objects.State)},
        "/ready": {
            "get": reading(
                "ready", _("Whether the models are loaded"), objects.State,
                **{"503": answer(objects.State, _("Not yet"))},
            )
        },
        "/metrics": {
            "get": operation(
                "metrics",
                _("Figures for Prometheus"),
                security=KEYED,
                responses={
                    "401": error,
                    "200": {
                        "description": _("Figures for Prometheus"),
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    }
                },
            )
        },
    }  # fmt: skip
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "llmdeploy", "version": entrypoint.__version__},
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            },
        }
    )
