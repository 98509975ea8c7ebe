"""Further names of a model, other sites' pages, and the operator's own system message."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError

import pytest

from entrypoint.serve import origin
from entrypoint.serve.front import Front
from tests.served import Serve

SITE = "http://localhost:3000"
PREFLIGHT = {"Origin": SITE, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip


def test_a_model_answers_to_its_aliases(serve: Serve) -> None:
    served = serve(front=Front(aliases=("gpt-4o-mini",)))
    assert served.chat("hi", model="gpt-4o-mini")[2]["model"] == "polly"
    assert served.chat("hi", model="gpt-4")[0] == 404
    listed = json.loads(served.ask("GET", "/v1/models")[2])["data"]
    assert [card["id"] for card in listed] == ["polly", "gpt-4o-mini"]
    assert served.ask("GET", "/v1/models/gpt-4o-mini")[0] == 200


def test_a_star_is_any_name(serve: Serve) -> None:
    served = serve(front=Front(aliases=("*",)))
    assert served.chat("hi", model="whatever")[0] == 200
    assert served.chat("hi", model="polly")[0] == 200


def test_the_operators_system_message_begins_what_has_none(serve: Serve) -> None:
    served = serve(front=Front(system="Be brief."))
    served.chat("hi")
    assert served.engine.asked[-1][0] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    own = [{"role": "system", "content": "Sing."}, {"role": "user", "content": "hi"}]
    served.ask("POST", "/v1/chat/completions", {"messages": own})
    assert served.engine.asked[-1][0] == own


def test_pages_of_a_named_site_may_ask_and_no_others(serve: Serve) -> None:
    served = serve(front=Front(origins=(SITE,)))
    status, headers, _body = served.ask("OPTIONS", "/v1/chat/completions", **PREFLIGHT)
    assert (status, headers["access-control-allow-origin"]) == (200, SITE)
    assert "authorization" in headers["access-control-allow-headers"]
    hello = {"messages": [{"role": "user", "content": "hi"}]}
    _status, headers, _body = served.ask("POST", "/v1/chat/completions", hello, Origin=SITE)
    assert headers["access-control-allow-origin"] == SITE
    evil = PREFLIGHT | {"Origin": "http://evil.example"}
    status, headers, _body = served.ask("OPTIONS", "/v1/chat/completions", **evil)
    assert (status, "access-control-allow-origin" in headers) == (400, False)


def test_without_a_named_site_no_page_elsewhere_may_ask(serve: Serve) -> None:
    status, headers, _body = serve().ask("OPTIONS", "/v1/chat/completions", **PREFLIGHT)
    assert (status, "access-control-allow-origin" in headers) == (403, False)


@pytest.mark.parametrize("text", ["localhost:3000", "http://host/path", "*", "file:///x"])
def test_what_is_no_origin_is_told(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is not an origin"):
        origin(text)


def test_an_origin_is_written_as_browsers_do() -> None:
    assert origin("HTTPS://Example.org/") == "https://example.org"


def test_a_slash_at_the_end_changes_nothing(serve: Serve) -> None:
    served = serve()
    assert served.ask("POST", "/v1/completions/", {"prompt": "x"})[0] == 200
    assert json.loads(served.ask("GET", "/v1/models/")[2])["object"] == "list"
    status, _headers, body = served.ask("GET", "/v1/completions")
    assert (status, json.loads(body)["error"]["code"]) == (405, "method_not_allowed")


def test_the_fingerprint_stays_while_nothing_changes(serve: Serve) -> None:
    served = serve()
    prints = {served.chat(text)[2]["system_fingerprint"] for text in ("one", "two")}
    assert len(prints) == 1
