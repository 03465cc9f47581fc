# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from segment import Segment
from verify import Lab, Playbook


@pytest.fixture(scope="session")
def segment(lab: Lab, playbook: Playbook) -> Segment:
    made = Segment(lab, playbook)
    made.give_token("client", "ci-bot")
    made.give_token("rogue", "ci-bot")
    return made
