"""The routes: what each address answers."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from entrypoint.common.errors import Failure
from entrypoint.common.language import _
from entrypoint.engines import Message
from entrypoint.serve import fields, journal, metrics, objects, openapi, problems, wire
from entrypoint.serve.embeddings import EmbeddingsReply, EmbeddingsRequest
from entrypoint.serve.front import ANY, Front
from entrypoint.serve.hosts import Hosts
from entrypoint.serve.journal import Journal
from entrypoint.serve.keys import Keys
from entrypoint.serve.limits import BODY, PATIENCE, Limits
from entrypoint.serve.messages import CountReply, CountRequest, MessagesReply, MessagesRequest
from entrypoint.serve.problems import Problem
from entrypoint.serve.replies import ChatReply, ComputedReply, GeneratedReply, TextReply
from entrypoint.serve.responses import ResponsesReply, ResponsesRequest
from entrypoint.serve.service import Service

PAGE = Path(__file__).with_name("page")
EAS = "/api/predict/{service}"  # what PAI-EAS puts before every path of a service

CLIENT_GONE = 499  # nginx's word
GZIP = ("gzip", "x-gzip")  # the same, by an old name
GZIP_WINDOW = zlib.MAX_WBITS | 16  # how zlib is told that a stream has gzip's head and tail
CREATED = 0  # OpenAI's clients want a time; a catalogue that repeats its bytes has none

Asked = TypeVar("Asked", bound=msgspec.Struct)


class Routes:
    """The endpoints, with what they need: the models, the keys, the limits."""

    def __init__(
        self, services: Sequence[Service], keys: Keys, limits: Limits, front: Front
    ) -> None:
        self._services = {service.model.name: service for service in services}
        self._keys, self._limits, self._front = keys, limits, front
        aliases = [_card(services[0], name) for name in front.aliases if name != ANY]
        self._models = objects.ModelList([*map(_card, services), *aliases])

    def all(self) -> list[BaseRoute]:
        """Return the routes, each with its method."""
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/embeddings", self.embed, methods=["POST"]),
            Route("/v1/responses", self.respond, methods=["POST"]),
            Route("/v1/messages", self.message, methods=["POST"]),
            Route("/v1/messages/count_tokens", self.count, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.model),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.document),
            Route("/docs", self.page),
            Route("/", self.page),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]

    async def chat(self, request: Request) -> GeneratedReply:
        """Answer a conversation."""
        body = await self._read(request, wire.ChatRequest)
        return ChatReply(self._find(body.model), body, self._prompt(body), self._limits)

    async def respond(self, request: Request) -> GeneratedReply:
        """Answer a conversation as OpenAI's Responses do."""
        body = await self._read(request, ResponsesRequest)
        chat = fields.convert(body.chat(), wire.ChatRequest)
        service = self._find(body.model)
        return ResponsesReply(service, chat, self._prompt(chat), self._limits, body)

    async def message(self, request: Request) -> GeneratedReply:
        """Answer a conversation as Anthropic's Messages do."""
        body = await self._read(request, MessagesRequest)
        chat = fields.convert(body.chat(), wire.ChatRequest)
        return MessagesReply(self._find(body.model), chat, self._prompt(chat), self._limits)

    async def count(self, request: Request) -> GeneratedReply:
        """Count the tokens of such a conversation's prompt."""
        body = await self._read(request, CountRequest)
        chat = fields.convert(body.chat(), wire.ChatRequest)
        return CountReply(self._find(body.model), chat, self._prompt(chat), self._limits)

    async def complete(self, request: Request) -> GeneratedReply:
        """Go on with a text."""
        body = await self._read(request, wire.CompletionRequest)
        return TextReply(self._find(body.model), body, self._limits)

    async def embed(self, request: Request) -> ComputedReply:
        """Compute vectors of texts."""
        body = await self._read(request, EmbeddingsRequest)
        return EmbeddingsReply(self._find(body.model), body, self._limits)

    async def models(self, request: Request) -> Response:
        """List the models."""
        self._require_key(request)
        return _json(self._models)

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        self._require_key(request)
        return _json(_card(self._find(request.path_params["name"])))

    async def health(self, _request: Request) -> Response:
        """Tell that the program runs."""
        return _json(objects.State("alive"))

    async def ready(self, _request: Request) -> Response:
        """Tell whether every model is loaded, and works: an engine is listened to for a second."""
        states = {name: await asyncio.to_thread(each.look) for name, each in self._services.items()}
        ready = set(states.values()) == {"ready"}
        return _json(objects.State("ready" if ready else "loading", states), 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """Tell Prometheus how it goes."""
        if not self._front.open_metrics:
            self._require_key(request)
        return Response(metrics.page(self._front.metrics_alias), media_type=metrics.MEDIA_TYPE)

    async def document(self, request: Request) -> Response:
        """Describe this API."""
        self._require_key(request)
        return Response(openapi.document(), media_type="application/json")

    async def page(self, request: Request) -> Response:
        """Return the chat page, or the one that shows the description of the API."""
        name = "docs.html" if request.url.path.endswith("/docs") else "index.html"
        return FileResponse(PAGE / name)

    def _prompt(self, asked: wire.ChatRequest) -> list[Message]:
        """Return a conversation as engines read it, with the front's orders."""
        prompt = [turn.message() for turn in asked.messages]
        if self._front.system and all(turn["role"] != "system" for turn in prompt):
            prompt.insert(0, Message(role="system", content=self._front.system))
        return prompt

    def _require_key(self, request: Request) -> None:
        credentials = request.headers.get("authorization") or request.headers.get("x-api-key", "")
        if not self._keys.allow(credentials):
            raise Problem(
                401,
                _("The key is missing or wrong."),
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _find(self, name: str | None) -> Service:
        """Return the model called `name`, the first without one; raise Problem otherwise."""
        known = name in self._services
        if name is None or (not known and {name, ANY} & {*self._front.aliases}):
            return next(iter(self._services.values()))
        if not known:
            raise Problem(
                404,
                _("There is no model called {name}.").format(name=name),
                code="model_not_found",
                param="model",
            )
        return self._services[name]

    async def _read(self, request: Request, kind: type[Asked]) -> Asked:
        """Return a body that is valid JSON of this kind; raise Problem otherwise."""
        self._require_key(request)
        # A page of another site cannot send this type without asking us first.
        kind_of_body = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind_of_body.lower() != "application/json":
            raise Problem(
                415, _("The body must be application/json."), code="unsupported_media_type"
            )
        try:
            async with asyncio.timeout(PATIENCE):
                body = await _body(request)
        except TimeoutError:
            raise Problem(408, _("The body came too slowly."), code="timeout") from None
        return fields.read(_unpacked(body, request.headers.get("content-encoding", "")), kind)


def build(services: Sequence[Service], keys: Keys, limits: Limits, front: Front) -> ASGIApp:
    """Return the application."""
    routes = Routes(services, keys, limits, front).all()
    app = Starlette(
        routes=[Mount(EAS, routes=routes), *routes],
        exception_handlers={
            Exception: _problem,
            Failure: _problem,
            Problem: _problem,
            HTTPException: _unknown,
            ClientDisconnect: _gone,
        },
    )
    # What is streamed is left as it is, since each piece has to be there at once.
    guarded = Hosts(_without_slash(GZipMiddleware(app)), keys, front)
    if not front.origins:
        return Journal(guarded)
    return Journal(
        CORSMiddleware(
            guarded,
            allow_origins=front.origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=("x-request-id", "retry-after"),
        )
    )


def _without_slash(app: ASGIApp) -> ASGIApp:
    """Wrap the application: an address of the API is the same with a slash at its end."""

    async def pass_on(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and "/v1/" in scope["path"]:
            scope["path"] = scope["path"].removesuffix("/")
        await app(scope, receive, send)

    return pass_on


async def _body(request: Request) -> bytes:
    """Return the body; a long one is read on for a while, so that its sender sees the answer."""
    announced = request.headers.get("content-length", "0")
    too_long = int(announced) > BODY if announced.isdecimal() else True
    parts: list[bytes] = []
    size = 0
    if not (too_long and "expect" in request.headers):
        async for part in request.stream():
            size += len(part)
            too_long = too_long or size > BODY
            if size > 4 * BODY:
                break
            if not too_long:
                parts.append(part)
    if too_long:
        raise _too_long()
    return b"".join(parts)


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Return a body without its content encoding; raise Problem for one that is not gzip.

    Never makes more than one byte above the limit, whatever a small body unpacks to.
    """
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in GZIP:
        raise Problem(
            415,
            _("The content encoding {name} is not supported; gzip is.").format(name=encoding),
            code="unsupported_media_type",
            headers={"Accept-Encoding": "gzip"},
        )
    unpacking = zlib.decompressobj(GZIP_WINDOW)
    try:
        text = unpacking.decompress(body, BODY + 1)
    except zlib.error:
        text = b""
    if len(text) > BODY:
        raise _too_long()
    if not unpacking.eof or unpacking.unused_data:
        raise Problem(400, _("The body is not whole gzip data."), code="invalid_value")
    return text


def _too_long() -> Problem:
    return Problem(
        413, _("The body has more than {bytes} bytes.").format(bytes=BODY), code="too_long"
    )


async def _problem(request: Request, error: Exception) -> Response:
    problem = problems.of(error)
    journal.note(request.scope, error=problem.code)
    return problem.response(request.url.path)


async def _unknown(request: Request, error: Exception) -> Response:
    """Answer for what has no route: 404 and 405."""
    assert isinstance(error, HTTPException)  # noqa: S101 (tells the type)
    wrong_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    code = "method_not_allowed" if wrong_method else "unknown_url"
    journal.note(request.scope, error=code)
    problem = Problem(error.status_code, error.detail, code=code, headers=error.headers)
    return problem.response(request.url.path)


async def _gone(request: Request, _error: Exception) -> Response:
    """Count who left in the middle of a body; nobody reads this."""
    journal.note(request.scope, error="client_gone")
    return Response(status_code=CLIENT_GONE)


def _card(service: Service, alias: str = "") -> objects.ModelCard:
    model = service.model
    return objects.ModelCard(
        alias or model.name, CREATED, "llmdeploy", service.context, model.display_name
    )


def _json(struct: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(struct), status, media_type="application/json")
