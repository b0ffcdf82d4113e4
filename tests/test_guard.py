"""Who is let in: a real `fc7 ui` at another address than this machine's own, and its password."""

from __future__ import annotations

import base64
import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect
from serving import free_port, serving, start_ui
from starlette.responses import PlainTextResponse
from starlette.types import Message

from indexer import Library, open_library
from retrieval.extractor import Extractor
from ui.cli import main
from ui.guard import Guard

PASSWORD = "correct horse ä"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def shared(
    gallery: Path, tmp_path_factory: pytest.TempPathFactory, extractor: Extractor
) -> Iterator[Library]:
    where = tmp_path_factory.mktemp("shared") / "library"
    with open_library(where, extractor=extractor) as library:
        library.index([gallery / "cats"])
        yield library


@pytest.fixture(scope="module")
def server(shared: Library) -> Iterator[str]:
    # 127.0.0.2 is this machine too, but not the address that needs no password.
    with serving(shared.path, "127.0.0.2", PASSWORD) as address:
        yield address


def ask(server: str, path: str, method: str = "GET", body: str = "", **headers: str) -> Answer:
    place = urlsplit(server)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
    try:
        connection.request(method, path, body.encode(), headers)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, told, answer.read()
    finally:
        connection.close()


def say_password(server: str, password: str, path: str = "/") -> Answer:
    return ask(server, path, "POST", urlencode({"password": password}), **FORM)


def websocket_status(server: str, *headers: str) -> int:
    """Open Streamlit's websocket as a browser does, by hand; 101 if it is opened."""
    place = urlsplit(server)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET /_stcore/stream HTTP/1.1",
        f"Host: {place.netloc}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=60) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(line.recv(64).split()[1])


@pytest.mark.parametrize(
    "path", ["/", "/albums", "/thumb/1.jpg", "/original/1", "/_stcore/health", "/static/x.js", "/x"]
)
def test_nothing_but_the_form_is_there_without_the_password(server: str, path: str) -> None:
    status, headers, body = ask(server, path)
    assert status == 401
    assert b'type="password"' in body
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers


def test_the_websocket_is_shut_without_the_password_and_open_with_it(server: str) -> None:
    assert websocket_status(server) == 403
    assert websocket_status(server, "Cookie: fc7_session=guessed") == 403
    cookie = say_password(server, PASSWORD)[1]["set-cookie"].partition(";")[0]
    assert websocket_status(server, f"Cookie: {cookie}") == 101
    foreign = "Origin: http://photos.example.com"
    assert websocket_status(server, f"Cookie: {cookie}", foreign) == 403
    own = f"Origin: {server}"
    assert websocket_status(server, f"Cookie: {cookie}", own) == 101


def test_the_password_opens_what_was_asked_for(server: str, shared: Library) -> None:
    photo = shared.photos()[0]
    status, headers, _ = say_password(server, PASSWORD, f"/thumb/{photo.id}.jpg?v=1")
    assert (status, headers["location"]) == (303, f"/thumb/{photo.id}.jpg?v=1")
    cookie, *rules = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(rules)
    assert ask(server, f"/thumb/{photo.id}.jpg")[0] == 401
    assert ask(server, f"/thumb/{photo.id}.jpg", Cookie=cookie)[::2] == (
        200,
        shared.thumbnail(photo.id),
    )


def test_the_password_leads_to_no_other_server(server: str) -> None:
    for path in ("//photos.example.com/x", "/\\photos.example.com/x"):
        location = say_password(server, PASSWORD, path)[1]["location"]
        assert location.startswith("/")
        assert not location.startswith(("//", "/\\"))


def test_a_page_of_another_site_is_refused(server: str) -> None:
    foreign = {**FORM, "Origin": "http://photos.example.com"}
    body = urlencode({"password": PASSWORD})
    assert ask(server, "/", "POST", body, **foreign)[0] == 403
    assert ask(server, "/", "POST", "x" * 5000, **FORM)[0] == 413


def test_a_person_says_the_password_and_sees_the_photos(
    browser: BrowserContext, server: str, shared: Library
) -> None:
    page = browser.new_page()
    page.goto(f"{server}/?photo=1")
    page.get_by_label("Password").fill("a wrong one")
    page.get_by_role("button", name="Enter").click()
    expect(page.get_by_role("alert")).to_have_text("That was not it.")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server}/?photo=1")
    expect(page.locator("ol a.photo")).to_have_count(shared.count() - 1)
    page.goto("about:blank")
    page.close()


def test_many_wrong_passwords_must_wait_longer_and_longer() -> None:
    now = 0.0
    guard = Guard(PlainTextResponse("photos"), PASSWORD, clock=lambda: now)

    def status(password: str, who: str = "10.0.0.1") -> int:
        body = urlencode({"password": password}).encode()
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "query_string": b"",
            "headers": [],
            "client": (who, 1),
            "server": ("10.0.0.9", 80),
            "scheme": "http",
        }
        with pytest.raises(StopIteration):  # it waits for nothing, so one step is all
            guard(scope, receive, send).send(None)
        told: int = sent[0]["status"]
        return told

    assert [status("wrong") for _ in range(3)] == [401] * 3
    assert status(PASSWORD) == 429  # a second must pass
    assert status(PASSWORD, who="10.0.0.2") == 303  # for others it need not
    now = 1.1
    assert status("wrong") == 401
    now = 2.2
    assert status("wrong") == 429  # now it is two
    now = 3.2
    assert status(PASSWORD) == 303
    assert status("wrong") == 401  # and all is forgotten


def test_other_machines_are_not_served_without_a_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FC7_PASSWORD", raising=False)
    command = ["ui", "--host", "127.0.0.2", "--library", str(tmp_path / "library")]

    def refused(*more: str) -> str:
        assert main([*command, *more]) == 1
        return capsys.readouterr().err

    assert refused().startswith("fc7: other machines are let in by a password only: set FC7_PASS")
    monkeypatch.setenv("FC7_PASSWORD", "seven77")
    assert refused() == "fc7: the password has 7 characters: 8 at least\n"
    file = tmp_path / "password"
    assert "No such file" in refused("--password-file", str(file))
    file.write_bytes(b"\xff\xfe")
    assert "it is no text" in refused("--password-file", str(file))
    file.write_text("\nsecond line\n")
    assert "by a password only" in refused("--password-file", str(file))


def test_an_address_that_is_not_this_machines_is_told_in_one_line(shared: Library) -> None:
    process = start_ui(shared.path, free_port(), "192.0.2.1", PASSWORD)
    out, _ = process.communicate(timeout=180)
    assert process.returncode == 1
    assert out.startswith("fc7 ui: port ")
    assert out.count("\n") == 1
