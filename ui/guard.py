"""Who may see the pages: this machine alone, or those who know the password.

The guard stands before every route, Streamlit's own and its websocket among them. A page of another
site is always refused; with a password, whoever has not said it yet gets a form and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from retrieval.errors import LibraryError
from ui.words import language_of, say

LEAST = 8  # characters of a password
_COOKIE = "fc7_session"
_FREE = 3  # wrong passwords that cost no wait
_LONGEST = 300.0  # seconds to wait after many wrong ones
_ADDRESSES = 10_000  # that are remembered for their wrong passwords
_FORM = 4096  # bytes
_FORM_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
}


def is_this_machine(host: str) -> bool:
    """Whether a server of this address is reached by nobody but this machine's own programs."""
    return host in ("127.0.0.1", "localhost")


def read_password(file: Path | None) -> str:
    """The first line of the file, else $FC7_PASSWORD.

    Raises LibraryError if there is none, or it is too short.
    """
    try:
        said = (
            os.environ.get("FC7_PASSWORD", "")
            if file is None
            else file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        )
    except OSError as error:
        raise LibraryError(f"the password in {file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LibraryError(f"the password in {file} can't be read: it is no text") from error
    if not said:
        raise LibraryError(
            "other machines are let in by a password only: set FC7_PASSWORD, or give "
            "--password-file FILE"
        )
    if len(said) < LEAST:
        raise LibraryError(f"the password has {len(said)} characters: {LEAST} at least")
    return said


@dataclass(frozen=True, slots=True)
class _Tries:
    """What an address has tried."""

    wrong: int = 0
    until: float = 0.0  # the clock's time before which it is not heard


class Guard:
    """The application, behind the door."""

    def __init__(
        self, app: ASGIApp, password: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """password: None where only this machine can ask. clock: seconds."""
        self._app = app
        self._password = None if password is None else _digest(password)
        self._session = secrets.token_urlsafe(32)  # of this server: a restart shuts the door
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, ask for the password, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _is_own(headers):
            await self._refuse(scope, receive, send)
        elif self._password is None or self._knows(headers):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._refuse(scope, receive, send)
        else:
            answer = await self._ask(Request(scope, receive))
            await answer(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)
        else:
            await PlainTextResponse("refused", 403)(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        try:
            said = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        except CookieError:
            return False
        return said is not None and hmac.compare_digest(said.value.encode(), self._session.encode())

    async def _ask(self, request: Request) -> Response:
        """The form; or, where it was sent, the page that was asked for first."""
        if request.method != "POST":
            return _form(request, "")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _FORM:
                return PlainTextResponse("refused", 413)
        who = request.client.host if request.client else ""
        tries = self._tries.get(who, _Tries())
        if (wait := tries.until - self._clock()) > 0:
            return _form(request, "login.wait", seconds=int(wait) + 1)
        said = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
        if not hmac.compare_digest(_digest(said), self._password or b""):
            self._remember(who, tries)
            return _form(request, "login.wrong")
        self._tries.pop(who, None)
        # What was asked for, on this server: two slashes at its head would name another one.
        path = "/" + request.url.path.lstrip("/\\")
        query = f"?{request.url.query}" if request.url.query else ""
        answer = RedirectResponse(path + query, 303, _FORM_HEADERS)
        answer.set_cookie(
            _COOKIE,
            self._session,
            httponly=True,
            samesite="lax",  # strict would ask again at each link from a mail
            secure=request.url.scheme == "https",
        )
        return answer

    def _remember(self, who: str, tries: _Tries) -> None:
        wrong = tries.wrong + 1
        wait = min(2.0 ** (wrong - _FREE), _LONGEST) if wrong >= _FREE else 0.0
        self._tries[who] = replace(tries, wrong=wrong, until=self._clock() + wait)
        self._tries.move_to_end(who)
        while len(self._tries) > _ADDRESSES:
            self._tries.popitem(last=False)


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode("utf-8", "surrogatepass")).digest()


def _is_own(headers: Headers) -> bool:
    """Whether no page of another site asks. (Streamlit would ask the internet what it is called.)

    Browsers say where a page that asks came from whenever it could do harm.
    """
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def _form(request: Request, trouble: str, **values: object) -> Response:
    """The form for the password, in the browser's first language. trouble: why it is there again.

    It goes to the address that was asked for, so that the page follows it.
    """
    language = language_of(request.headers.get("accept-language"))
    note = f'<p role="alert">{say(language, trouble, **values)}</p>' if trouble else ""
    page = f"""<!doctype html>
<html lang="{language}"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>fc7</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }}
form {{ max-width: 20rem; margin: 18vh auto; padding: 0 1rem; display: grid; gap: .75rem; }}
h1 {{ font-size: 1.4rem; margin: 0; }}
p {{ margin: 0; }}
input, button {{ font: inherit; padding: .5rem .75rem; border: 1px solid #8888; border-radius: 10px;
  box-sizing: border-box; width: 100%; }}
button {{ background: #3049d8; color: #fff; border-color: #3049d8; cursor: pointer; }}
</style>
<form method="post">
<h1>{say(language, "login.title")}</h1>
{note}
<label for="password">{say(language, "login.password")}</label>
<input id="password" name="password" type="password" required autofocus
  autocomplete="current-password">
<button>{say(language, "login.enter")}</button>
</form>
</html>"""
    status = 429 if trouble == "login.wait" else 401
    return HTMLResponse(page, status, _FORM_HEADERS)
