"""The web server of the browser page: `launch` starts it, for this machine only.

Besides Streamlit's own routes there are two, both without file names in them: the thumbnail of a
library's photo by its number, and the picture of an upload by its token.
"""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from threading import Thread

import streamlit as st
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from indexer import Library, open_library
from retrieval.errors import LibraryError
from ui.uploads import Uploads

ADDRESS = "127.0.0.1"
PORTS = range(8501, 8601)
UPLOAD_MEGABYTES = 50
UPLOADS = Uploads()

# A page can only be shown by a name that means this machine, whatever a foreign DNS answers.
_HOSTS = [ADDRESS, "localhost"]
# Addresses of pictures change with their content, so what was fetched once stays good.
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_LARGEST_ID = 2**63 - 1  # SQLite's

_OPTIONS = {
    "browser.gatherUsageStats": False,
    "browser.serverAddress": ADDRESS,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "global.developmentMode": False,
    "logger.hideWelcomeMessage": True,
    "server.address": ADDRESS,
    "server.baseUrlPath": "",
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.headless": True,  # the browser is opened here, once the port is known
    "server.maxUploadSize": UPLOAD_MEGABYTES,
    "ui.hideTopBar": True,
    "theme.baseRadius": "10px",
    "theme.light.primaryColor": "#3d5afe",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f4f6",
    "theme.light.textColor": "#1c1d21",
    "theme.light.borderColor": "#dfe1e6",
    "theme.dark.primaryColor": "#93a4ff",
    "theme.dark.backgroundColor": "#101114",
    "theme.dark.secondaryBackgroundColor": "#1c1e23",
    "theme.dark.textColor": "#e8e9ed",
    "theme.dark.borderColor": "#33363e",
}


def launch(library: Path | None, port: int | None, open_browser: bool) -> int:
    """Serve the page until Ctrl-C; return the exit status.

    library: its folder; None for the default one.
    port: None takes the first of PORTS that is free.

    Raises LibraryError when the library can't be opened.
    """
    if library is not None:
        os.environ["FC7_LIBRARY"] = str(library)
    served_library()
    free = next(filter(_is_free, PORTS if port is None else [port]), None)
    if free is None:
        which = f"ports {PORTS[0]} to {PORTS[-1]} are" if port is None else f"port {port} is"
        print(f"fc7 ui: {which} taken or not allowed: name another with --port", file=sys.stderr)
        return 1
    try:
        _application(open_browser).run(config={**_OPTIONS, "server.port": free})
    except KeyboardInterrupt:  # how uvicorn reports Ctrl-C, after it has closed everything
        pass
    finally:
        served_library().close()
    print("\nStopped.")
    return 0


@cache
def served_library() -> Library:
    """Open the library that $FC7_LIBRARY names, or the default one; the same object each time."""
    return open_library()


def parse_photo_id(text: str) -> int | None:
    """Read the number of a photo from an address; None when it can't be one."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0
    return number if 0 < number <= _LARGEST_ID else None


def _application(open_browser: bool) -> st.App:
    @asynccontextmanager
    async def announce(_app: st.App) -> AsyncIterator[None]:
        address = f"http://{ADDRESS}:{st.get_option('server.port')}"
        print(f"Your photos are at {address} (Ctrl-C stops)", flush=True)
        if open_browser:
            Thread(target=webbrowser.open, args=[address], daemon=True).start()  # may block
        yield

    return st.App(
        Path(__file__).with_name("app.py"),
        lifespan=announce,
        # Mounted, so that an address that fits no route is a 404 and not Streamlit's page.
        routes=[
            Mount("/thumb", routes=[Route("/{photo_id}.jpg", _thumbnail)]),
            Mount("/upload", routes=[Route("/{token}.jpg", _upload)]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)],
    )


def _thumbnail(request: Request) -> Response:
    photo_id = parse_photo_id(request.path_params["photo_id"])
    if photo_id is None:
        raise HTTPException(404)
    try:
        jpeg = served_library().thumbnail(photo_id)
    except LibraryError as error:
        raise HTTPException(404) from error
    if jpeg is None:
        raise HTTPException(404)
    return Response(jpeg, media_type="image/jpeg", headers=_HEADERS)


def _upload(request: Request) -> Response:
    upload = UPLOADS.find(request.path_params["token"])
    if upload is None:
        raise HTTPException(404)
    return Response(upload.picture, media_type="image/jpeg", headers=_HEADERS)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError):
            return False
    return True
