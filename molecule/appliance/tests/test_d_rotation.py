# SPDX-License-Identifier: Apache-2.0
"""Credentials change while callers work: sessions under way go on, new ones come in all the time."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from segment import Segment, Session
from testinfra.host import Host
from verify import Lab

testinfra_hosts = ["lab://gw"]
LIVE = 6


@dataclass
class Load:
    """What callers saw. ``answers`` is for each of those that stay."""

    answers: list[int] = field(default_factory=lambda: [0] * LIVE)
    arrivals: int = 0
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def stay(self, number: int) -> None:
        """One session that asks again and again."""
        try:
            with Session("client") as session:
                backend = session.ask("select pg_backend_pid()").rows
                while not self.over.wait(0.05):
                    answer = session.ask("select pg_backend_pid() from customers where id = 1")
                    if (answer.rows, answer.code) != (backend, "00000"):
                        self.wrong.append(f"live: {answer}")
                        return
                    self.answers[number] += 1
        except EOFError as gone:
            self.wrong.append(f"live: gone: {gone}")

    def come(self, segment: Segment) -> None:
        """New sessions, one after the other."""
        while not self.over.wait(0.1):
            done = segment.psql("client", "select count(*) from customers")
            if done.stdout != "3\n":
                self.wrong.append(f"new: {done.stderr}")
            self.arrivals += 1


@contextmanager
def load(segment: Segment) -> Iterator[Load]:
    seen = Load()
    threads = [threading.Thread(target=seen.stay, args=(number,)) for number in range(LIVE)]
    threads.append(threading.Thread(target=seen.come, args=(segment,)))
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.over.set()
        for thread in threads:
            thread.join(timeout=120)
    assert not [thread for thread in threads if thread.is_alive()], "somebody waits for an answer that does not come"


def go_on(seen: Load) -> bool:
    """Whether each session gets two more answers from now on, and somebody new comes in: the second one was asked for after that."""
    before, arrived, end = list(seen.answers), seen.arrivals, time.monotonic() + 120
    while not seen.wrong and time.monotonic() < end:
        if all(now >= then + 2 for now, then in zip(seen.answers, before, strict=True)) and seen.arrivals >= arrived + 2:
            return True
        time.sleep(0.1)
    return False


def on_database(lab: Lab, sql: str) -> None:
    lab.host("db").check_output("runuser -u postgres -- psql -Xqc %s", sql)


def test_rotation_under_load_loses_no_session(host: Host, lab: Lab, segment: Segment) -> None:
    """As docs say: a second account on the target, the gateways over to it, the first account closed."""
    fresh = secrets.token_urlsafe(24)
    before = segment.gateway_pid()
    on_database(lab, f"alter role lockgate_next login password '{fresh}'")
    with load(segment) as seen:
        assert go_on(seen), seen.wrong
        run = segment.play("rotate_credentials.yml", {
            "gateway_credentials": {"orders-db": {"kind": "password", "username": "lockgate_next", "password": fresh}}})
        assert run.status == 0, run.output
        assert segment.psql("client", "select current_user").stdout == "lockgate_next\n"
        on_database(lab, "alter role lockgate nologin")
        assert go_on(seen), seen.wrong
    assert not seen.wrong
    assert segment.gateway_pid() == before
    assert fresh not in run.output
    assert host.run("grep -rqF %s /etc /opt /tmp /var", fresh).rc == 1
    assert host.run("journalctl --no-pager --grep %s", fresh).rc != 0


def test_back_to_the_first_account(lab: Lab, segment: Segment) -> None:
    """The next rotation: a new password for the first account, and nothing restarts."""
    fresh = secrets.token_urlsafe(24)
    on_database(lab, f"alter role lockgate login password '{fresh}'")
    (segment.world / "orders-db.password").write_text(fresh)
    run = segment.play("rotate_credentials.yml")
    assert run.status == 0, run.output
    assert segment.psql("client", "select current_user").stdout == "lockgate\n"
    on_database(lab, "alter role lockgate_next nologin")
    again = segment.play("rotate_credentials.yml")
    assert again.changed == {"gw": 0}, again.output
