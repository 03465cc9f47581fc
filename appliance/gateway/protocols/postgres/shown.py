# SPDX-License-Identifier: Apache-2.0
"""A statement as the audit log may keep it: values that feed or are compared with masked columns, password literals and the
gateway's secrets replaced by ``****`` (contract section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.masking.model import MaskSet
from gateway.masking.rules import HIDDEN
from gateway.protocols.postgres.scrub import conceal
from gateway.protocols.postgres.statement import Literal, Statement

SYSTEM = frozenset({"pg_catalog", "information_schema"})


def shown_text(text: str, statements: Sequence[Statement], masks: MaskSet, secrets: tuple[str, ...] = ()) -> str:
    """``text`` with those literals replaced, by their offsets in it, and findings of the detectors too."""
    hides = bool(masks)
    spans = set()
    for statement in statements:
        for one in statement.literals:                  # of most texts there are few, and none is hidden
            if (one.secret or hides and masks.rule_of(one.origins) is not None) and one.end > one.start:
                spans.add((one.start, one.end))
        if statement.inner is not None:
            spans.update((one.start, one.end) for one in _literals((statement.inner,)) if one.end > one.start and _hidden(one, masks))
    for start, end in sorted(spans, reverse=True) if spans else ():
        text = f"{text[:start]}'{HIDDEN}'{text[end:]}"
    if masks.detect:
        text = _detected(text, masks)
    return conceal(text, secrets) if secrets else text


def shown_parameters(parameters: Sequence[tuple[str, str | None]], statements: Sequence[Statement], masks: MaskSet,
                     secrets: tuple[str, ...] = ()) -> tuple[str | None, ...]:
    """The values of bound parameters (``(type, text)`` in order), likewise. A binary value that has to be hidden is hidden as a whole."""
    hidden = hidden_parameters(statements, masks)
    return tuple([HIDDEN if number in hidden and value is not None else _shown(value, masks, secrets)
                  for number, (_, value) in enumerate(parameters, 1)])


def hidden_parameters(statements: Sequence[Statement], masks: MaskSet) -> frozenset[int]:
    """The numbers of the parameters that feed or are compared with masked columns."""
    return frozenset([one.parameter for one in _literals(statements) if one.parameter and _hidden(one, masks)])


def _shown(value: str | None, masks: MaskSet, secrets: tuple[str, ...]) -> str | None:
    return None if value is None else conceal(_detected(_undecoded(value, secrets), masks), secrets)


def _undecoded(value: str, secrets: tuple[str, ...]) -> str:
    """A binary parameter is shown as ``\\x`` and digits: a secret in it would not be recognised there."""
    if value.startswith("\\x") and any(len(secret) >= 6 and secret.encode().hex() in value for secret in secrets):
        return HIDDEN
    return value


def _detected(text: str, masks: MaskSet) -> str:
    detectors = masks.detectors
    if detectors is None:
        return text
    raw = text.encode(errors="surrogatepass")
    found = detectors.text(raw) if detectors.candidates(raw) else None
    return text if found is None else found.decode(errors="replace")


def _hidden(literal: Literal, masks: MaskSet) -> bool:
    if literal.secret:
        return True
    return bool(masks) and (masks.rule_of(literal.origins) is not None)


def _literals(statements: Iterable[Statement]) -> Iterable[Literal]:
    for statement in statements:
        yield from statement.literals
        if statement.inner is not None:
            yield from _literals((statement.inner,))
