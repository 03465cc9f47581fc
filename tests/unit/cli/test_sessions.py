# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.demo_folder import run
from tests.unit.cli.log_folder import make

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return make(tmp_path)


def test_list(etc: Path, capsys: Capture) -> None:
    assert run("sessions", "list", "--config", str(etc)) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "START", "DURATION", "IDENTITY", "RESOURCE", "COMMANDS", "DENIED", "STATE"]
    assert [(row.split()[0], row.split()[3], row.split()[5:]) for row in rows] == [
        ("s-0002", "reporting", ["0", "0", "ended"]), ("s-0001", "ci-bot", ["2", "1", "ended"])]
    assert run("sessions", "list", "--config", str(etc), "--identity", "reporting", "--json") == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ["s-0002"]
    assert run("sessions", "list", "--config", str(etc), "--open") == 0
    assert capsys.readouterr().out == "no sessions\n"


def test_show(etc: Path, capsys: Capture) -> None:
    assert run("sessions", "show", "s-0001", "--config", str(etc)) == 0
    said = capsys.readouterr().out
    for part in ("client closed", "DROP DATABASE orders", "refused", "SELECT email FROM customers"):
        assert part in said
    assert "\x1b" not in said
    assert run("sessions", "show", "s-0001", "--config", str(etc), "--json") == 0
    assert json.loads(capsys.readouterr().out)["commands"] == 2


def test_an_id_must_be_one(etc: Path, capsys: Capture) -> None:
    for name in ("s-", "s-9"):
        assert run("sessions", "show", name, "--config", str(etc)) == 1
        assert "session" in capsys.readouterr().err
    assert run("sessions", "show", "s-0002", "--config", str(etc)) == 0


def test_a_state_that_is_not_there(etc: Path, tmp_path: Path, capsys: Capture) -> None:
    import shutil
    shutil.rmtree(tmp_path / "state")
    assert run("sessions", "list", "--config", str(etc)) == 2
    assert "no audit log" in capsys.readouterr().out


# ---- asking a console

ONE = {"id": "s-0007", "start": "2026-11-22T10:00:00.000000Z", "end": None, "identity": "ci-bot", "resource": "orders-db", "commands": 1,
       "denied": 0, "state": "open", "duration": None, "live": True}
ANSWERS: dict[str, Any] = {
    "/api/v1/sessions": {"sessions": [ONE]}, "/api/v1/sessions/s-0007": ONE,
    "/api/v1/sessions/s-0007/events": {"events": [{"kind": "session.end", "seq": 1, "time": ONE["start"], "reason": "\x1b[2J"}]},
    "/api/v1/search": {"records": [{"kind": "command.begin", "seq": 4, "time": ONE["start"], "text": "VACUUM"}]},
}


@contextmanager
def console(asked: list[str]) -> Iterator[str]:
    """Answers as ``console.sessions`` documents it, over plain HTTP on loopback."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self._answer(200 if self.path.split("?")[0] in ANSWERS else 404, ANSWERS.get(self.path.split("?")[0]))

        def do_POST(self) -> None:
            asked.append(f"{self.path} {self.rfile.read(int(self.headers['Content-Length'])).decode()}")
            good = self.path == "/api/v1/sessions/s-0007/end"
            self._answer(200 if good else 404, {"session": "s-0007", "ended": True} if good else None)

        def _answer(self, status: int, document: Any) -> None:
            assert self.headers["Authorization"] == "Bearer the-token"
            body = json.dumps(document or {"status": 404, "detail": "there is no such live session", "code": "not-found"}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_with_a_token_the_console_is_asked(tmp_path: Path, capsys: Capture) -> None:
    asked: list[str] = []
    (tmp_path / "token").write_text("the-token\n")
    with console(asked) as url:
        where = ("--url", url, "--token-file", str(tmp_path / "token"))
        assert run("sessions", "list", *where) == 0
        assert "s-0007" in capsys.readouterr().out
        assert run("sessions", "show", "s-0007", "--json", *where) == 0
        assert json.loads(capsys.readouterr().out)["live"] is True
        assert run("sessions", "replay", "s-0007", *where) == 0
        assert "\\x1b[2J" in capsys.readouterr().out
        assert run("search", "vac uum", *where) == 0
        assert "VACUUM" in capsys.readouterr().out
        assert run("sessions", "show", "s-0001", *where) == 1
        assert "no such live session" in capsys.readouterr().err
    assert "/api/v1/search?q=vac+uum&limit=100" in asked


def test_ending_asks_the_gateway_with_the_whole_id(tmp_path: Path, capsys: Capture) -> None:
    asked: list[str] = []
    (tmp_path / "token").write_text("the-token\n")
    with console(asked) as url:
        where = ("--url", url, "--token-file", str(tmp_path / "token"))
        assert run("sessions", "end", "s-0007", "--reason", "runaway", *where) == 0
        assert run("sessions", "end", "s-00", *where) == 0
        assert run("sessions", "end", "s-9", *where) == 1
    assert asked[0] == '/api/v1/sessions/s-0007/end {"reason": "runaway"}'
    assert asked[-3] == "/api/v1/sessions/s-0007/end {}"


def test_ending_needs_a_token(etc: Path, capsys: Capture) -> None:
    assert run("sessions", "end", "s-0001", "--config", str(etc)) == 2
    assert "--token-file" in capsys.readouterr().out
