"""From where a browser may ask, where no key keeps strangers out.

Any page may send requests to this machine from its reader's browser. Under a name of its own that
leads here (DNS rebinding) it may read the answers too. A key stops both; without one, the names
that a request gives for us and for its page are looked at.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from entrypoint.common.language import _
from entrypoint.serve import journal
from entrypoint.serve.front import Front
from entrypoint.serve.keys import Keys
from entrypoint.serve.problems import Problem


class Hosts:
    """Wraps the application: without a key, only our own pages and other programs are answered.

    Where the front has any name, ours is not looked at; pages of its origins are as good as ours.
    """

    def __init__(self, app: ASGIApp, keys: Keys, front: Front) -> None:
        self._app, self._keys, self._front = app, keys, front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        problem = None if scope["type"] != "http" or self._keys else self._problem(scope)
        if problem is None:
            await self._app(scope, receive, send)
            return
        journal.note(scope, error=problem.code)
        await problem.response(scope["path"])(scope, receive, send)

    def _problem(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not (self._front.any_name or _is_ours(host)):
            return Problem(
                421,
                _("Without a key, this server answers to localhost or an address only."),
                code="wrong_host",
            )
        invited = headers.get("origin") in self._front.origins
        if not invited and _is_foreign(scope["method"], headers, host):
            return Problem(
                403,
                _("Without a key, pages of other sites are not answered."),
                code="wrong_origin",
            )
        return None


def _is_ours(host: str) -> bool:
    """Tell whether nobody elsewhere can own a name: an address, localhost, one without a dot."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name.removesuffix(".localhost")
    return True


def _is_foreign(method: str, headers: Headers, host: str) -> bool:
    """Tell whether a page of another site asks; who only follows a link to us does not."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        follows = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        return site not in {"same-origin", "none"} and not follows
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
