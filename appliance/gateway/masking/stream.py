# SPDX-License-Identifier: Apache-2.0
"""``StreamMasker``: secrets in a stream of bytes, however it is cut into pieces (decision 0031). Pure.

Bytes go out as soon as it is certain that they are no part of a secret; a secret goes out as ``****``. What comes out depends on the bytes
alone and not on how they arrived, except where ``due()`` was called: then what may yet become a secret is let go as far as it tells nothing
(its *stem*: ``AKIA``, ``eyJ``, the first six digits of a card, the first letters of a secret of the gateway's) and remembered, so that
the rest is masked when it comes; what stands behind a stem is masked at once, whether or not a secret comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy

from gateway.masking.detect import AWS_ACCESS_KEY, JWT, NAMES, PAYMENT_CARD, PRIVATE_KEY, prefilter
from gateway.masking.literals import Literals
from gateway.masking.model import MaskSet
from gateway.masking.patterns import Pattern, compile_pattern
from gateway.masking.prefix import beginnings
from gateway.masking.rules import HIDDEN, MaskRule
from gateway.masking.spotters import CONTEXT, AccessKeys, Cards, Lines, PrivateKeys, Span, Spotter, Tokens

_HIDDEN = HIDDEN.encode()
_MADE: Mapping[str, Callable[[MaskRule], Spotter]] = {
    PRIVATE_KEY: PrivateKeys, AWS_ACCESS_KEY: AccessKeys, JWT: Tokens, PAYMENT_CARD: Cards,
}
_REACH = 128
"""No beginning that the prefilter does not see is longer."""
_BEGINS = {
    PRIVATE_KEY: r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----", AWS_ACCESS_KEY: r"A[KS]IA[A-Z0-9]{16}",
    JWT: r"eyJ[A-Za-z0-9_-]{6}", PAYMENT_CARD: r"[0-9](?:[ -]?[0-9]){12}[ -]?x",
}


class _Quick:
    """Whether the shipped detectors have nothing to look at in a text: no candidate in it, none that could begin at its end."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = list(names)
        self._candidate = prefilter(wanted)
        parts = [beginnings(_BEGINS[name]).pattern.removesuffix("\\z") for name in wanted]
        self._tail: Pattern = compile_pattern("(?:" + "|".join(parts) + ")\\z", 32 << 20)

    def nothing(self, text: bytes) -> bool:
        found = self._tail.search(text[-_REACH:])
        return (found is None or found.end() == found.start()) and not self._candidate(text)


class Plan:
    """What is looked for: made once, shared by all streams that it holds for. Raises ``ValueError``: a pattern that names a line break,
    or more secrets than can be looked for."""

    def __init__(self, literals: Iterable[bytes], masks: MaskSet) -> None:
        self.literals = Literals(literals)
        self.shipped = [(name, masks.detect[name]) for name in NAMES if name in masks.detect]
        self.lines = [Lines(text, masks.detect[name]) for name, text in sorted(masks.patterns.items()) if name in masks.detect]
        self.quick = _Quick([name for name, _ in self.shipped]) if self.shipped else None

    def __bool__(self) -> bool:
        return bool(self.literals or self.shipped or self.lines)

    def spotters(self) -> tuple[list[Spotter], list[Spotter]]:
        """Those of one stream: the shipped detectors, and the others."""
        return [_MADE[name](rule) for name, rule in self.shipped], [
            *([self.literals] if self.literals else []), *map(copy, self.lines)]


class StreamMasker:
    """One stream. ``masked`` counts what was replaced. Not for several threads."""

    def __init__(self, plan: Plan, hold: float) -> None:
        shipped, others = plan.spotters()
        self._spotters: list[Spotter] = [*shipped, *others]
        self._shipped, self._quick, self._hold = len(shipped), plan.quick, hold
        self._at = [0] * len(self._spotters)        # from where each has to look
        self._text = b""                            # context, what is undecided, what was not given out
        self._out = 0                               # given out, or replaced, up to here
        self._covered = False                       # the byte before that was replaced
        self._spans: list[Span] = []
        self._patient = False
        self.masked = 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes, give those that may go out."""
        before = len(self._text)
        idle = self._out == before and not self._spans and min(self._at) == before
        self._text += data
        self._patient = False
        calm = self._calm()
        if idle and calm and self._untouched(before):
            self._keep()
            return data
        self._look(calm, final=False)
        return self._given(min(self._at))

    def _untouched(self, before: int) -> bool:
        """Nothing for the others in what just came, and nothing can begin at its end."""
        size = len(self._text)
        for index in range(self._shipped, len(self._spotters)):
            spans, live = self._spotters[index].look(self._text, before, final=False)
            if spans or live < size:
                return False
        self._at = [size] * len(self._spotters)
        self._out, self._covered = size, False
        return True

    def _calm(self) -> bool:
        """The shipped detectors have nothing to look at."""
        if self._quick is None:
            return True
        return not any(spotter.open for spotter in self._spotters[:self._shipped]) and self._quick.nothing(self._text)

    def _look(self, calm: bool, *, final: bool) -> None:
        size = len(self._text)
        for index, spotter in enumerate(self._spotters):
            if calm and index < self._shipped:
                self._at[index] = size
            elif self._at[index] < size or final:
                spans, self._at[index] = spotter.look(self._text, self._at[index], final=final)
                self._spans += spans

    @property
    def holding(self) -> float | None:
        """Seconds after which ``due()`` should be called unless more came; ``None`` where that would change nothing."""
        return None if self._patient or self._out >= len(self._text) else self._hold

    def due(self) -> bytes:
        """Nothing came for a while: give what tells nothing, mask what stands behind a stem."""
        size = len(self._text)
        limit = min([at for at, spotter in zip(self._at, self._spotters, strict=True) if isinstance(spotter, Lines) and not spotter.stem],
                    default=size)
        live = [(at, spotter) for at, spotter in zip(self._at, self._spotters, strict=True) if at < limit]
        seen = min([limit, *(spotter.known(self._text, at) for at, spotter in live)])
        if seen < limit:
            self._spans.append((seen, limit, None))
        self._patient = True
        return self._given(limit)

    def end(self) -> bytes:
        """Nothing comes any more: everything is decided. The tail that a secret of the gateway's begins with is masked behind its stem."""
        self._look(False, final=True)
        return self._given(len(self._text))

    def _given(self, upto: int) -> bytes:
        out: list[bytes] = []
        text = self._text
        for start, end, shown in _joined(self._spans):
            if end <= self._out:
                continue
            if start >= upto:
                break
            if end > upto and shown is not None:
                upto = max(start, self._out)
                break
            if start >= self._out:
                out += (text[self._out:start], _HIDDEN if shown is None else shown)
                self.masked += 1
            elif not self._covered:
                out.append(_HIDDEN)
                self.masked += 1
            self._out, self._covered = end, True
        if self._out < upto:
            out.append(text[self._out:upto])
            self._out, self._covered = upto, False
        self._spans = [span for span in self._spans if span[1] > self._out]
        self._keep()
        return b"".join(out)

    def _keep(self) -> None:
        """Forget what nobody has to see again."""
        cut = min(self._out, *self._at, *(span[0] for span in self._spans)) - CONTEXT
        if cut > 0:
            self._text = self._text[cut:]
            self._out -= cut
            self._at = [at - cut for at in self._at]
            self._spans = [(start - cut, end - cut, shown) for start, end, shown in self._spans]


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans that overlap as one, which shows nothing."""
    found: list[Span] = []
    for start, end, shown in sorted(set(spans), key=lambda span: span[:2]):
        if found and start < found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]), None)
        else:
            found.append((start, end, shown))
    return found


def stream_masker(literals: Iterable[bytes], masks: MaskSet, hold: float) -> StreamMasker | None:
    """For one stream; ``None`` where nothing is looked for. ``hold``: seconds. Who masks many streams makes one ``Plan`` for them.
    Raises ``ValueError`` as ``Plan`` does."""
    plan = Plan(literals, masks)
    return StreamMasker(plan, hold) if plan else None
