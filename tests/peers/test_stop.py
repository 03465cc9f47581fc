# SPDX-License-Identifier: Apache-2.0
"""SIGTERM drains: what runs may end, what is idle is ended at once, and the gateway exits 0."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from gateway.testing.appliance import Appliance
from tests.peers.gateway import running
from tests.peers.postgres import PostgresServer
from tests.peers.wire import Frame, Wire, codes, tags


def connect(gateway: Appliance) -> Wire:
    return Wire.connect(gateway.port, "ci-bot", gateway.token("ci-bot"), "orders-db", ca=gateway.ca, timeout=60)


def test_a_running_statement_ends_before_the_gateway_does(tmp_path: Path, postgres: PostgresServer) -> None:
    with running(tmp_path, postgres, role="stop_app") as gateway, connect(gateway) as busy, connect(gateway) as idle:
        blocker = Wire.connect(postgres.port, "postgres", postgres.password, "orders")
        assert blocker.query("begin; select * from orders where id = 1 for update")
        answer: list[Frame] = []
        asking = threading.Thread(target=lambda: answer.extend(busy.query("update orders set total = total where id = 1")))
        asking.start()
        for _ in range(60):
            if postgres.execute("select count(*) from pg_locks where not granted")[-1].rows[0][0] != "0":
                break
            time.sleep(0.05)
        os.kill(gateway.pid, signal.SIGTERM)
        assert codes(idle.until("E")) == ["57P01"], "an idle session ends at once"
        assert asking.is_alive(), answer
        blocker.query("rollback")
        asking.join(30)
        assert tags(answer) == ["UPDATE 1"]
        assert codes(busy.until("E")) == ["57P01"]
        blocker.close()
    told = [line for line in gateway.lines("audit", "export", "--json") if line["kind"] in ("session.end", "gateway.stop")]
    assert [line["kind"] for line in told][-1] == "gateway.stop"
    assert {line["reason"] for line in told if line["kind"] == "session.end"} == {"the gateway is stopping"}
