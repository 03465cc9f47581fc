# SPDX-License-Identifier: Apache-2.0
from gateway.protocols.postgres.lanerun import Entry as Entry
from gateway.protocols.postgres.lanerun import Run as Run
from gateway.protocols.postgres.lanerun import Totals as Totals
