"""The web server of the pages: `launch` starts it, for this machine only, or with a password.

Besides Streamlit's own routes there are four, all without file names in them: the thumbnail and the
file of a library's photo by its number, an album as a ZIP file by its number, and the picture of an
upload by its token.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache, lru_cache
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import streamlit as st
import uvicorn
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from indexer import Library, open_library
from retrieval.errors import Fc7Error, ImageError, LibraryError
from retrieval.formats import open_picture
from ui.guard import Guard, is_this_machine
from ui.landscape import scene_of
from ui.memory import bound_arenas
from ui.uploads import Uploads
from ui.zipping import zip_name, zip_photos

ADDRESS = "127.0.0.1"
PORTS = range(8501, 8601)
UPLOAD_MEGABYTES = 50
LAST_ANSWERS = 3  # seconds after Ctrl-C for what is being sent
UPLOADS = Uploads()

# A page can only be shown by a name that means this machine, whatever a foreign DNS answers. With a
# password any name will do: who has not said it under that name has no cookie for it.
_HOSTS = [ADDRESS, "localhost"]
_ANY_ADDRESS = ("0.0.0.0", "::")
# Addresses of pictures change with their content, so what was fetched once stays good.
_HEADERS = {
    "Cache-Control": "private, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
# Formats that browsers show, and what they are called there.
_SHOWN = {name: f"image/{name.lower()}" for name in ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP")}
_LARGEST_ID = 2**63 - 1  # SQLite's

_OPTIONS = {
    "browser.gatherUsageStats": False,
    "browser.serverAddress": ADDRESS,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "global.developmentMode": False,
    # st.pagination always has a default, and the address sets its page: that is meant so.
    "global.disableWidgetStateDuplicationWarning": True,
    "logger.hideWelcomeMessage": True,
    "runner.postScriptGC": False,  # with a network loaded it takes half a second after each click
    "server.address": ADDRESS,
    "server.baseUrlPath": "",
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.headless": True,  # the browser is opened here, once the port is known
    "server.maxUploadSize": UPLOAD_MEGABYTES,
    "ui.hideTopBar": False,
    "theme.baseRadius": "10px",
    "theme.light.primaryColor": "#3049d8",
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


def launch(
    library: Path | None,
    port: int | None,
    open_browser: bool,
    host: str = ADDRESS,
    password: str | None = None,
) -> int:
    """Serve the page until Ctrl-C; return the exit status.

    library: its folder; None for the default one.
    port: None takes the first of PORTS that is free.
    host: the address to listen at; without a password only this machine's.

    Raises LibraryError when the library can't be opened.
    """
    if library is not None:
        os.environ["FC7_LIBRARY"] = str(library)
    bound_arenas()
    served_library()
    assert password is not None or is_this_machine(host)
    free = next((one for one in (PORTS if port is None else [port]) if _is_free(host, one)), None)
    if free is None:
        which = f"ports {PORTS[0]} to {PORTS[-1]} are" if port is None else f"port {port} is"
        print(f"fc7 ui: {which} taken or not allowed: name another with --port", file=sys.stderr)
        return 1
    where = {"server.address": host, "server.port": free}
    try:
        _application(open_browser, host, password).run(config={**_OPTIONS, **where})
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


def _application(open_browser: bool, host: str, password: str | None) -> st.App:
    @asynccontextmanager
    async def announce(_app: st.App) -> AsyncIterator[None]:
        name = socket.gethostname() if host in _ANY_ADDRESS else host
        name = f"[{name}]" if ":" in name else name
        address = f"http://{name}:{st.get_option('server.port')}"
        _bound_the_end()
        print(f"Your photos are at {address} (Ctrl-C stops)", flush=True)
        if open_browser:
            Thread(target=webbrowser.open, args=[address], daemon=True).start()  # may block
        yield

    return st.App(
        Path(__file__).with_name("pages") / "app.py",
        lifespan=announce,
        # Mounted, so that an address that fits no route is a 404 and not Streamlit's page.
        routes=[
            Mount("/thumb", routes=[Route("/{photo_id}.jpg", _thumbnail)]),
            Mount("/original", routes=[Route("/{photo_id}", _original)]),
            Mount("/landscape", routes=[Route("/{change}.json", _landscape)]),
            Mount("/upload", routes=[Route("/{token}.jpg", _upload)]),
            Mount("/album", routes=[Route("/{album}.zip", _album)]),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS if password is None else ["*"]),
            Middleware(Guard, password=password),
        ],
    )


def _bound_the_end() -> None:
    """Let the server end although a browser keeps a connection open without asking anything.

    uvicorn closes such connections, but waits for ever for one that came in the same moment as
    Ctrl-C. Its setting for that is not among Streamlit's; its handler of the signal knows it.
    """
    server = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if isinstance(server, uvicorn.Server):
        server.config.timeout_graceful_shutdown = LAST_ANSWERS


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
    _warm_up()  # the first page is there: now there is time
    return Response(jpeg, media_type="image/jpeg", headers=_HEADERS)


@cache
def _warm_up() -> None:
    """Load what answers need, once, while people look at the first page."""

    def warm() -> None:
        with suppress(Fc7Error):  # whoever asks is told
            served_library().warm()

    Thread(target=warm, daemon=True).start()


def _original(request: Request) -> Response:
    """A photo's file, found by its number alone; shown by the browser, or kept, if it can't."""
    photo_id = parse_photo_id(request.path_params["photo_id"])
    try:
        photo = served_library().photo(photo_id or 0)
        open_picture(photo.path).close()
    except (LibraryError, ImageError, OSError) as error:
        raise HTTPException(404) from error
    headers = {
        **_HEADERS,
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "sandbox",
    }
    return FileResponse(
        photo.path,
        media_type=_SHOWN.get(photo.format, "application/octet-stream"),
        filename=photo.path.name.encode("utf-8", "replace").decode("utf-8"),
        content_disposition_type="inline" if photo.format in _SHOWN else "attachment",
        headers=headers,
    )


def _landscape(request: Request) -> Response:
    """The map's places and names as they are now, whatever state of the library is asked for."""
    change = served_library().change()
    asked = request.path_params["change"]
    headers = _HEADERS if asked == change else {**_HEADERS, "Cache-Control": "no-store"}
    return Response(_scene(change), media_type="application/json", headers=headers)


@lru_cache(maxsize=1)
def _scene(_change: str) -> bytes:
    library = served_library()
    return json.dumps(scene_of(library, library.map.points())).encode()


def _album(request: Request) -> Response:
    """All photos of an album, as a ZIP file that is made while it is sent."""
    album_id = parse_photo_id(request.path_params["album"])
    try:
        album = served_library().albums.get(album_id or 0)
        photos = served_library().albums.photos(album.id)
    except LibraryError as error:
        raise HTTPException(404) from error
    name = quote(zip_name(album.name))
    headers = {
        **_HEADERS,
        "Cache-Control": "no-store",
        "Content-Disposition": f"attachment; filename*=utf-8''{name}",
    }
    return StreamingResponse(zip_photos(photos), media_type="application/zip", headers=headers)


def _upload(request: Request) -> Response:
    upload = UPLOADS.find(request.path_params["token"])
    if upload is None:
        raise HTTPException(404)
    return Response(upload.picture, media_type="image/jpeg", headers=_HEADERS)


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
