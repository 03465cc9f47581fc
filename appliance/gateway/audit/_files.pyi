# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable

import apsw

SYSTEM_ZSTD: bool

class Appender:
    def __init__(self, connection: apsw.Connection, compress: Callable[[bytes], bytes], system: bool = True) -> None: ...
    def close(self) -> None: ...
    def append(self, first: int, count: int, data: bytes) -> int: ...
