"""Who may ask what: every request passes here before anything of it is read.

The token covers every route. Host names are checked against DNS rebinding, and requests that change something must come from
our own pages. Bodies are counted while they are read, whatever their length is said to be.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Collection, Mapping
from html import escape
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dreambooth.files import write_text

__all__ = ["API", "HEADERS", "MOST_BODY_BYTES", "MOST_UPLOAD_BYTES", "Guard", "TooLargeError", "access_token", "link"]

API = "/api/v1"
"""Where the same routes answer in JSON."""

MOST_BODY_BYTES = 1 << 20
MOST_UPLOAD_BYTES = 600 << 20
"""Of one request that uploads photos."""

MOST_MASK_BYTES = 60 << 20
"""Of one request that uploads a mask."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
"""Of every answer: the browser itself then refuses other hosts, frames, and scripts or styles inside a page."""

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE = frozenset({"GET", "HEAD"})
_MOST_TRIES = 5
_ENTER = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>dreambooth</title>'
    '<meta http-equiv="refresh" content="0;url=/"></head><body><p><a href="/">Continue</a></p></body></html>'
)
_PROBLEM = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta name="color-scheme" content="light dark"><title>dreambooth</title></head>'
    "<body><main><h1>dreambooth</h1><p>{}</p></main></body></html>"
)
_NO_TOKEN = "This page needs the link that `dreambooth web` printed when it started."


class TooLargeError(Exception):
    """The body of a request grew beyond its limit."""


def access_token(path: Path) -> str:
    """The token in a file that only its owner can read; made on first use, so that a link outlives the server."""
    if path.is_file() and re.fullmatch(r"[\w-]{40,}", found := path.read_text(encoding="ascii", errors="replace").strip()):
        path.chmod(0o600)
        return found
    token = secrets.token_urlsafe(32)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    write_text(path, token)
    path.chmod(0o600)
    return token


class Guard:
    """Lets requests with the token, a known host and the same origin through to the application."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str], port: int) -> None:
        """`hosts` are the names under which browsers may reach the server, besides those of the machine itself."""
        self._app = app
        self._token = token
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}
        self._cookie = f"dreambooth_{port}"
        self._tries: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what may not pass, and put the headers on everything."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower().encode(): value.encode() for name, value in HEADERS.items()}
                others = [(name, value) for name, value in message["headers"] if name.lower() not in own]
                message = {**message, "headers": [*others, *own.items()]}
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        counted = _Counted(receive, _most_bytes(scope["path"]))
        await self._app(scope, counted, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = _host_name(headers.get("host", ""))
        if host not in self._hosts:
            return _refused(scope, 421, f"This server is not called {host or 'that'}; see --allow-host.")
        bearer = headers.get("authorization", "").removeprefix("Bearer ").strip()
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if scope["method"] in _SAFE and scope["path"] == "/" and "token" in query:
            return self._entered(scope, query["token"][-1])
        if not (self._is_token(bearer) if bearer else self._is_token(_cookie(headers, self._cookie))):
            return _refused(scope, 429 if self._has_tried_too_often(bearer) else 401, _NO_TOKEN)
        if scope["method"] not in _SAFE and not bearer and not _is_same_origin(headers):
            return _refused(scope, 403, "This request came from another site.")
        return None

    def _entered(self, scope: Scope, token: str) -> Response:
        if self._has_tried_too_often(token):
            return _refused(scope, 429, "Too many attempts; wait a second.")
        if not self._is_token(token):
            return _refused(scope, 401, _NO_TOKEN)
        self._tries.clear()
        # A page and no redirect: a browser sends a strict cookie only where the way began on this site.
        answer = HTMLResponse(_ENTER)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/", max_age=30 * 86400)
        return answer

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", errors="replace"), self._token.encode())

    def _has_tried_too_often(self, given: str) -> bool:
        if not given:
            return False
        now = time.monotonic()
        self._tries = [*(moment for moment in self._tries if now - moment < 1), now]
        return len(self._tries) > _MOST_TRIES


def _most_bytes(path: str) -> int:
    if path.endswith("/photos"):
        return MOST_UPLOAD_BYTES
    return MOST_MASK_BYTES if path.endswith("/mask") else MOST_BODY_BYTES


class _Counted:
    """Passes a body on and gives up when it is too large."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._left = most

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLargeError
        return message


def _refused(scope: Scope, status: int, text: str) -> Response:
    if scope["path"].startswith(API):
        return JSONResponse({"problems": [text]}, status)
    return HTMLResponse(_PROBLEM.format(escape(text)), status)


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(headers: Mapping[str, str], name: str) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


def _is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether the browser says that our own page asked. What says nothing, or says null, is refused."""
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] == "same-origin"
    origin = urlsplit(headers.get("origin", ""))
    return origin.scheme in ("http", "https") and origin.netloc.lower() == headers.get("host", "").lower()


def link(host: str, port: int, token: str) -> str:
    """The address with the token, to be opened once in each browser."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/?{urlencode({'token': token})}"
