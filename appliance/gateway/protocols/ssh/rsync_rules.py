# SPDX-License-Identifier: Apache-2.0
"""How an rsync begins, as far as its filter rules: those of the caller may name files that the target would read (rsync's ``exclude.c``).

A rule ``. FILE`` or ``: FILE`` makes the server half read any file the login may read: each of its lines becomes a rule, one that is
none comes back as an error with its text, and the others tell by what they leave out. The paths of the command say nothing of it, so
such rules are refused.

What comes first (``compat.c``, protocol 30 and later): four bytes of version each way; from the target its flags as a varint; where one
of these says so, from the caller a string for the checksum and one for the compression unless options name them; then, where the server
wants them, rules of four bytes of length and their text, up to a length of 0; plain, or in frames of four bytes (length and 7). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.errors import Refused
from gateway.protocols.ssh.transfers import rsync_letters, rsync_options

OLDEST = 30
_NEGOTIATED = 0x80
_DATA_FRAME = 7
_HEAD = 16
MOST = 2**20
"""Bytes until the rules end."""
_RULE = re.compile(rb"!|[-+HSPR],?[!/srpx]*[ _].*", re.DOTALL)
_DELETES = frozenset({"--delete", "--delete-before", "--delete-during", "--delete-delay", "--delete-after", "--delete-excluded"})
_CHOSEN = frozenset({"--new-compress", "--old-compress"})


class RsyncRules:
    """Both sides' first bytes. ``done``: all that follows may pass as it comes. Raises ``Refused``."""

    def __init__(self, words: Sequence[str]) -> None:
        options, _ = rsync_options(words[1:])
        short = [option for option in options if not option.startswith("--")]
        letters = "".join(map(rsync_letters, short))
        named = {option.partition("=")[0] for option in options}
        self.done = not ("--sender" in named or named & _DELETES or "--prune-empty-dirs" in named or "m" in letters)
        self._strings: int | None = None        # that are still to come
        self._most_strings = 0 if self.done else _strings(options, named, letters, short)
        self._theirs = b""
        self._version = 0                       # the caller's
        self._held = bytearray()                # what may not go on yet
        self._at = 0                            # in it: looked at up to here
        self._framed: bool | None = None
        self._left = 0                          # of a frame
        self._body = bytearray()                # rules without frames, not looked at yet

    def from_target(self, data: bytes) -> bytes:
        """Look at what the target sends. Gives what of the caller's may go on now."""
        if self.done or self._strings is not None:
            return b""
        self._theirs += data[:_HEAD]
        return self._next(b"")

    def from_caller(self, data: bytes) -> bytes:
        """What may go to the target now."""
        if self.done:
            return data
        self._held += data
        if len(self._held) > MOST:
            raise Refused("rsync: more filter rules than can be looked at")
        out = b""
        if not self._version and len(self._held) >= 4:      # the target waits for it
            out = bytes(self._held[:4])
            self._version = _number(out)
            del self._held[:4]
        return self._next(out)

    def _next(self, out: bytes) -> bytes:
        """``out``, the strings once they are there, for the target waits for them, and everything once the rules are known."""
        if not self._version or not self._begun():
            return out
        if self._framed is None and self._at:
            out += self._held[:self._at]
            del self._held[:self._at]
            self._at = 0
        if self._ended():
            self.done = True
            out += self._held
            self._held.clear()
        return out

    def _begun(self) -> bool:
        """Whether the rules begin at ``_at``."""
        if self._strings is None:
            if len(self._theirs) < 4:
                return False
            if min(_number(self._theirs), self._version) < OLDEST:
                raise Refused(f"rsync of a protocol before {OLDEST} is not passed on: its filter rules are not read")
            flags = _varint(self._theirs[4:])
            if flags is None:
                return False
            self._strings = self._most_strings if flags & _NEGOTIATED else 0
        while self._strings:
            found = _behind_string(self._held, self._at)
            if found is None:
                return False
            self._strings, self._at = self._strings - 1, found
        return True

    def _ended(self) -> bool:
        """Whether all rules were there."""
        sound = self._unframe()
        at = 0
        while len(self._body) - at >= 4:
            length = _number(self._body[at:at + 4])
            if not length:
                return True
            if length > MOST:
                raise Refused("what came is not rsync's protocol")
            if len(self._body) - at - 4 < length:
                break
            if not _RULE.fullmatch(self._body, at + 4, at + 4 + length):
                raise Refused("rsync: a filter rule that reads a file on the target is not passed on (merge, dir-merge, -F, -C)")
            at += 4 + length
        if not sound:
            raise Refused("what came is not rsync's protocol")
        del self._body[:at]
        return False

    def _unframe(self) -> bool:
        """Whether all frames so far were of data: what comes behind the rules may be of others."""
        held = self._held
        if self._framed is None and len(held) - self._at >= 4:
            self._framed = held[self._at + 3] == _DATA_FRAME
        while self._framed is not None and self._at < len(held):
            if self._framed and not self._left:
                if len(held) - self._at < 4:
                    return True
                if held[self._at + 3] != _DATA_FRAME:
                    return False
                self._left = int.from_bytes(held[self._at:self._at + 3], "little")
                self._at += 4
            upto = min(len(held), self._at + self._left) if self._framed else len(held)
            self._body += held[self._at:upto]
            self._left -= (upto - self._at) if self._framed else 0
            self._at = upto
        return True


def _strings(options: Sequence[str], named: set[str], letters: str, short: Sequence[str]) -> int:
    """How many strings the caller sends where both sides negotiate. Raises ``Refused`` where versions of rsync differ in that."""
    presses = letters.count("z") + options.count("--compress")
    odd = presses > 1 or ("--compress-level" in named and not presses) or any(option.endswith("-choice=auto") for option in options)
    if odd or any("V" in option for option in short):
        raise Refused("rsync: how its two halves agree is not clear")
    compresses = presses and not named & _CHOSEN and "--compress-choice" not in named
    return ("--checksum-choice" not in named) + bool(compresses)


def _number(data: bytes | bytearray) -> int:
    return int.from_bytes(data[:4], "little")


def _varint(data: bytes) -> int | None:
    """rsync's varint: the first byte's leading ones are how many bytes follow. ``None``: more is needed."""
    if not data:
        return None
    more = next(count for count in range(9) if not data[0] & 0x80 >> count)
    if more > 4:
        raise Refused("what the target sends is not rsync's protocol")
    if len(data) < 1 + more:
        return None
    return int.from_bytes(data[1:1 + more], "little") | (data[0] & 0x7F >> more) << 8 * more


def _behind_string(data: bytearray, place: int) -> int | None:
    """Behind a string with its length in a byte, or in two where the first has its top bit set."""
    if len(data) <= place:
        return None
    length, first = data[place], place + 1
    if length & 0x80:
        if len(data) <= first:
            return None
        length, first = (length & 0x7F) << 8 | data[first], first + 1
    return first + length if len(data) >= first + length else None
