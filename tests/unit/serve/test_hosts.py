"""Which browsers are answered where no key keeps strangers out."""

from __future__ import annotations

import json

import pytest

from entrypoint.serve.front import Front
from entrypoint.serve.keys import Keys
from tests.served import Serve, Served

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
EVIL = "evil.example:8000"


def ask(served: Served, **headers: str) -> tuple[int, str]:
    """Return the status and the error's code of a chat."""
    status, _headers, content = served.ask("POST", "/v1/chat/completions", HELLO, **headers)
    return status, json.loads(content).get("error", {}).get("code", "")


@pytest.mark.parametrize("host", [EVIL, "evil.example", "127.0.0.1.evil.example", "localhost.cn"])
def test_a_name_that_others_can_own_is_refused(served: Served, host: str) -> None:
    assert ask(served, Host=host) == (421, "wrong_host")
    assert ask(served, Host=host, Origin=f"http://{host}") == (421, "wrong_host")
    assert served.ask("GET", "/v1/models", Host=host)[0] == 421


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "192.0.2.7", "llmdeploy:8000"]
)
def test_an_address_or_a_name_of_this_machine_is_answered(served: Served, host: str) -> None:
    assert ask(served, Host=host) == (200, "")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_a_page_of_another_site_is_refused(served: Served, headers: dict[str, str]) -> None:
    assert ask(served, Host="localhost:8000", **headers) == (403, "wrong_origin")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8000"},
        {"Origin": "https://outside.example", "Sec-Fetch-Site": "same-origin"},  # behind a proxy
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_our_own_page_is_answered(served: Served, headers: dict[str, str]) -> None:
    assert ask(served, Host="localhost:8000", **headers) == (200, "")


def test_a_link_from_elsewhere_leads_to_the_page(served: Served) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert served.ask("GET", "/", **link)[0] == 200
    assert served.ask("GET", "/v1/models", **{**link, "Sec-Fetch-Mode": "no-cors"})[0] == 403


def test_with_a_key_the_key_decides(serve: Serve) -> None:
    served = serve(keys=Keys("sesame", None))
    foreign = {"Host": EVIL, "Origin": f"http://{EVIL}"}
    assert ask(served, **foreign) == (401, "invalid_api_key")
    assert ask(served, Authorization="Bearer sesame", **foreign) == (200, "")


def test_an_open_server_has_any_name_but_no_foreign_pages(serve: Serve) -> None:
    served = serve(front=Front(any_name=True))
    assert ask(served, Host="llm.company.example") == (200, "")
    assert ask(served, Host="llm.company.example", Origin="http://evil.example")[0] == 403


def test_a_page_that_was_invited_is_answered(serve: Serve) -> None:
    served = serve(front=Front(origins=("http://localhost:9000",)))
    invited = {"Host": "localhost:8000", "Sec-Fetch-Site": "same-site"}
    assert ask(served, Origin="http://localhost:9000", **invited) == (200, "")
    assert ask(served, Origin="http://localhost:9001", **invited) == (403, "wrong_origin")
