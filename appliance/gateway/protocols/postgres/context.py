# SPDX-License-Identifier: Apache-2.0
"""How this session sees names: search_path, role, prepared statements, cursors, and the catalog with what an open
transaction of its own added. Turns a text into a ``Compiled`` that frontend and backend follow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from gateway.errors import Refused, TargetFault
from gateway.govern import Gate, Policy
from gateway.masking.model import MaskSet
from gateway.model import Binding, Command, Operation, Session
from gateway.protocols.postgres.beside import NEAR, beside
from gateway.protocols.postgres.catalog.load import CONTEXT_SQL, Row, load_catalog, parse_context
from gateway.protocols.postgres.catalog.model import Catalog
from gateway.protocols.postgres.filters.rewrite import Filtered, filtered
from gateway.protocols.postgres.masking import MaskPlan, plan
from gateway.protocols.postgres.namesakes import doubled, others_temporary, refuse_unlike_names, refuse_unsure_names, unsure
from gateway.protocols.postgres.sandbox import sandbox
from gateway.protocols.postgres.shown import shown_parameters, shown_text
from gateway.protocols.postgres.sql.analyze import analyze
from gateway.protocols.postgres.sql.literals import hide_all_literals
from gateway.protocols.postgres.sql.parse import DEFAULT_LIMIT, Parsed, answer_of, checked, parse
from gateway.protocols.postgres.statement import Context, Output, SqlFault, Statement
from gateway.protocols.postgres.strict import Uses
from gateway.protocols.postgres.targets import SharedTarget

Rows = list[tuple[str | None, ...]]
Ask = Callable[[str], Awaitable[Rows]]

CATALOG_SAVEPOINT = "lockgate_catalog"

NO_NAMES = frozenset({
    "begin", "commit", "rollback", "savepoint", "set", "reset", "show", "discard", "deallocate", "close", "listen", "unlisten",
    "set-role", "set-session-authorization", "checkpoint", "prepare-transaction", "notify", "empty",
})
"""Verbs whose meaning does not depend on search_path: they need no look at the session's context first."""


Key = tuple[str, tuple[int, ...], int]
"""What a compiled text is kept by: the text, the types of its parameters, and the number of everything else that its meaning depends on."""
Reading = tuple[int, tuple[str, ...], bool]
"""Bytes a text may have, what is secret in all of them, and whether names on the path are ``unsure``."""
Understood = tuple[tuple[Statement, ...], Filtered | None, tuple[MaskPlan | None, ...], str, str]
"""The statements, what the target gets for them where that is not the text itself, their plans, the text as it is shown, and why masking
or a row filter forbids it."""

_PART_BYTES = 160
"""A result column, literal, assignment or operation with its lineage: measured."""
KEPT_BINDINGS = KEPT_OPERATIONS = 256
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A text, understood: statements and, per statement, the mask plan. ``refusal`` is set when masking or a row filter forbids it.

    ``sent`` is what the target gets in place of ``text``, the same where no row filter applies; ``filtered`` names the relations of which
    only some rows are there, ``executes`` what the target must hold for the statements that EXECUTE runs."""

    text: str
    statements: tuple[Statement, ...]
    plans: tuple[MaskPlan | None, ...]
    operations: tuple[Operation, ...]
    shown: str
    binding: Binding
    key: Key
    types: tuple[int, ...] = ()
    refusal: str = ""
    sent: str = ""
    filtered: tuple[str, ...] = ()
    executes: Mapping[str, str] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """About how many bytes it takes: a short text may have 1664 columns."""
        parts = sum(len(s.columns or ()) + len(s.reads) + len(s.writes) + len(s.literals) + len(s.operations) for s in self.statements)
        return 1024 + len(self.text) + (len(self.sent) if self.sent is not self.text else 0) + _PART_BYTES * parts

    @property
    def early(self) -> bool:
        if len(self.statements) == 1:
            return self.statements[0].early
        return bool(self.statements) and False not in [statement.early for statement in self.statements]


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """All that texts are understood by beside themselves: one object for as long as none of it is another. ``number`` stands for it in
    keys; ``unsure`` and ``doubled`` say whether names on the path need a look (``namesakes``)."""

    context: Context
    catalog: Catalog
    policy: Policy
    masks: MaskSet
    number: int
    unsure: bool
    doubled: bool
    own: dict[int, tuple[Operation, ...]] = field(default_factory=dict)     # seen not to be on another session's temporary relations


def understood(text: str, context: Context, catalog: Catalog, masks: MaskSet, reading: Reading,
               answer: bytes | None = None) -> Understood:
    """Everything that can be said of a text without its session. Pure. Raises ``SqlFault``."""
    limit, secrets, doubtful = reading
    if masks.strict and answer is None:
        answer = answer_of(checked(text, limit))        # parsed once, walked twice
    statements = analyze(text, context, catalog, limit, answer)
    plans: list[MaskPlan | None] = []
    refusal = ""
    given: Filtered | None = None
    if masks.filters:
        try:
            given = filtered(text, statements, masks, context, catalog)
            statements = given.statements
        except Refused as no:
            given, refusal = Filtered(text, statements), str(no)
    if doubtful:
        try:
            refuse_unsure_names(_texts(text, statements, context.prepared), masks, catalog, context.path)
        except Refused as no:
            refusal = refusal or str(no)
    uses = Uses(text, context, catalog, statements, limit, answer) if masks.strict else None
    for statement in statements:
        try:
            made = plan(statement, masks, catalog, uses)
            if given is not None:
                shown = None if statement.uses_cursor else given.relations
                made = replace(made, filtered=shown, scrub=made.scrub or bool(given.relations and statement.dml))
            plans.append(made)
        except Refused as no:
            plans.append(None)
            refusal = refusal or str(no)
    return statements, given, tuple(plans), shown_text(text, statements, masks, secrets), refusal


def _texts(text: str, statements: Sequence[Statement], prepared: Mapping[str, str]) -> tuple[str, ...]:
    """It and what it runs by EXECUTE."""
    return text, *(prepared.get(one.uses_prepared, "") for one in statements if one.uses_prepared)


def _others_temporary(operations: tuple[Operation, ...], ground: Ground) -> str:
    """As ``others_temporary``; looked for once where analysis gives the same operations again."""
    if ground.own.get(id(operations)) is operations:
        return ""
    refusal = others_temporary(operations, ground.context.temp_schema)
    if not refusal:
        if len(ground.own) >= KEPT_OPERATIONS:
            ground.own.clear()
        ground.own[id(operations)] = operations            # held, so that its id stays its own
    return refusal


class SessionContext:
    """One session's names. ``ask`` runs a query of the gateway's own on the session's connection."""

    def __init__(self, session: Session, gate: Gate, shared: SharedTarget, ask: Ask, in_block: Callable[[], bool],
                 secrets: tuple[str, ...], text_limit: int) -> None:
        self._session, self._gate, self._shared, self._ask, self._secrets = session, gate, shared, ask, secrets
        self._in_block, self._text_limit = in_block, text_limit
        self.prepared: dict[str, str] = {}
        self.cursors: dict[str, tuple[Output, ...] | None] = {}
        self.early_cursors: Callable[[], frozenset[str]] = frozenset     # ``names.Names`` tells
        self.stale = True                    # the target's settings may differ from ``_context``
        self._touched = False                # settings changed in the transaction still open
        self.own_changes = False             # this session changed the catalog in a transaction still open
        self.reload = False                  # it changed the catalog, now committed
        self._overlay: Catalog | None = None
        self._context = Context(path=("pg_catalog",))
        self._bound: dict[str, str] = {}
        self._bound_key: tuple[str, ...] = ()
        self._masks: tuple[Policy, MaskSet] | None = None
        self._made: tuple[Context, tuple[int, ...], Context] | None = None
        self._ground: Ground | None = None
        self._bindings: dict[tuple[tuple[str, int], ...], Binding] = {}

    def masks(self) -> MaskSet:
        """What is hidden from this identity; asked of the policy once per policy."""
        policy = self._gate.policy
        if self._masks is None or self._masks[0] is not policy:
            self._masks = (policy, policy.masks(self._session.identity, self._session.resource, self._gate.now()))
        return self._masks[1]

    async def compile(self, text: str, types: tuple[int, ...] = ()) -> Compiled:
        """Understand ``text`` as the target would now. Raises ``SqlFault``, ``TargetFault``."""
        if self._too_long(text):
            raise SqlFault("54000", f"the statement is longer than {self._text_limit} bytes (limits.statement_text)")
        answer = await self._parsed_apart(text)
        if self.stale and not await self._independent(text, answer):
            await self._refresh()
        compiled = self._compiled if len(text) <= NEAR else self._compiled_beside
        catalog = await self.catalog()
        try:
            return await compiled(text, catalog, types, answer)
        except SqlFault as fault:
            if fault.code not in ("42P01", "42703", "42883", "3F000", "42704", "42P02"):
                raise
            return await compiled(text, await self.catalog(fresh=True), types, answer)

    def compile_now(self, text: str, types: tuple[int, ...], catalog: Catalog) -> Compiled | None:
        """As ``compile`` by the catalog that ``generation`` has just given, or ``None`` where that would wait or raise ``SqlFault``."""
        found, key, ground = self._kept(text, catalog, types)
        if found is not None or len(text) > NEAR or self._too_long(text):
            return found
        try:
            return self._keep(self._whole(understood(text, self._context_now(types), catalog, ground.masks, self._reading(ground)), key,
                                          ground))
        except SqlFault:
            return None

    async def _parsed_apart(self, text: str) -> bytes | None:
        """What the parser says of a text that is too long for this process; ``None`` for any other. Raises ``SqlFault``."""
        if 4 * len(text) <= DEFAULT_LIMIT:
            return None
        data = checked(text, self._text_limit)
        return await sandbox().parse(data) if len(data) > DEFAULT_LIMIT else None

    async def parsed(self, text: str) -> tuple[list[Parsed], bytes]:
        """The statements of a text, and its bytes. Raises ``SqlFault``."""
        answer = await self._parsed_apart(text)
        given = (text, self._text_limit, answer)
        return parse(*given) if len(text) <= NEAR else await beside(parse, *given)

    def _too_long(self, text: str) -> bool:
        return 4 * len(text) > self._text_limit and len(text.encode(errors="surrogatepass")) > self._text_limit

    def generation(self) -> tuple[Context, Catalog] | None:
        """What texts are understood by: the same objects for as long as it does not change. ``None`` where the target has to be asked
        first, or an open transaction changed something of it."""
        if self.stale or self.reload or self.own_changes or self._touched:
            return None
        catalog = self._shared.fresh()
        return None if catalog is None else (self._context, catalog)

    def still(self, context: Context, catalog: Catalog) -> bool:
        """Whether these are what texts are understood by, as far as is known without a look at the target."""
        return self._context is context and self._shared.last is catalog and not self.own_changes

    async def _independent(self, text: str, answer: bytes | None) -> bool:
        """True when every statement of the text means the same under any search_path (SET, BEGIN …)."""
        try:
            given = (text, self._context_now(), self._overlay or self._shared_now(), self._text_limit, answer)
            statements = analyze(*given) if len(text) <= NEAR else await beside(analyze, *given)
        except SqlFault:
            return False
        return all(s.verb in NO_NAMES and not s.reads and not s.relations for s in statements)

    def _shared_now(self) -> Catalog:
        found = self._shared.last
        if found is None:
            raise SqlFault("55000", "no catalog yet")
        return found

    def _context_now(self, types: tuple[int, ...] = ()) -> Context:
        known = self._made
        if known is not None and known[0] is self._context and known[1] == types and not self.cursors:
            made = known[2]
            if made.prepared is self.prepared and made.cursors is self.cursors:
                return made
        made = replace(self._context, prepared=self.prepared, cursors=self.cursors, parameter_types=types,
                       early_cursors=self.early_cursors() if self.cursors else frozenset())
        self._made = None if self.cursors else (self._context, types, made)
        return made

    async def _compiled(self, text: str, catalog: Catalog, types: tuple[int, ...], answer: bytes | None) -> Compiled:
        found, key, ground = self._kept(text, catalog, types)
        if found is None:
            reading = self._reading(ground)
            found = self._keep(self._whole(understood(text, self._context_now(types), catalog, ground.masks, reading, answer), key, ground))
        return found

    async def _compiled_beside(self, text: str, catalog: Catalog, types: tuple[int, ...], answer: bytes | None) -> Compiled:
        """Likewise on the thread for long texts; again where the policy or the session's names changed meanwhile."""
        while True:
            found, key, ground = self._kept(text, catalog, types)
            if found is not None:
                return found
            now = self._context_now(types)
            now = replace(now, prepared=dict(now.prepared), cursors=dict(now.cursors))
            parts = await beside(understood, text, now, catalog, ground.masks, self._reading(ground), answer)
            if key[2] == self._understood_by(catalog).number:
                return self._keep(self._whole(parts, key, ground))

    def _kept(self, text: str, catalog: Catalog, types: tuple[int, ...]) -> tuple[Compiled | None, Key, Ground]:
        """What was understood before, if it is still there, what it goes by, and what it would be understood by now."""
        ground = self._understood_by(catalog)
        key = (text, types, ground.number)
        return self._shared.compiled.get(key), key, ground

    def _keep(self, made: Compiled) -> Compiled:
        if self._shared.compiled.again(made.key) and not any(s.uses_prepared or s.uses_cursor for s in made.statements):
            self._shared.compiled.put(made.key, made, made.weight)
        return made

    def _understood_by(self, catalog: Catalog) -> Ground:
        known, now, policy = self._ground, self._context, self._gate.policy
        if known is None or known.context is not now or known.catalog is not catalog or known.policy is not policy:
            who, masks = self._session.identity, self.masks()
            key = (now.path, now.user, now.switched, now.temp_schema, catalog.epoch, id(catalog), policy.digest, who.name, who.groups,
                   self._bound_key)
            known = self._ground = Ground(now, catalog, policy, masks, self._shared.compiled.number(key),
                                          unsure=bool(masks and unsure(masks, catalog, now.path)), doubled=bool(doubled(catalog, now.path)))
            self._bindings.clear()
        return known

    def _binding(self, statements: tuple[Statement, ...]) -> Binding:
        """What an approval is bound to: the same value for statements on the same relations."""
        relations = statements[0].relations if len(statements) == 1 else tuple(pair for s in statements for pair in s.relations)
        found = self._bindings.get(relations)
        if found is None:
            found = Binding(login=self._context.user, database=self._session.database, context=dict(self._bound),
                            objects=tuple(f"{name}={oid}" for name, oid in relations))
            if len(self._bindings) >= KEPT_BINDINGS:
                self._bindings.clear()
            self._bindings[relations] = found
        return found

    def _reading(self, ground: Ground) -> Reading:
        return self._text_limit, self._secrets, ground.unsure

    def _whole(self, parts: Understood, key: Key, ground: Ground) -> Compiled:
        statements, given, plans, shown, refusal = parts
        operations = statements[0].operations if len(statements) == 1 else tuple(op for s in statements for op in s.operations)
        refusal = refusal or _others_temporary(operations, ground)
        if ground.doubled:
            refusal = refusal or self._unlike(key[0], statements, operations, ground.catalog)
        sent, relations, executes = (key[0], (), _NOTHING) if given is None else (given.text, given.relations, given.executes)
        return Compiled(key[0], statements, plans, operations, shown, self._binding(statements), key, key[1], refusal, sent, relations,
                        executes)

    def _unlike(self, text: str, statements: Sequence[Statement], operations: Sequence[Operation], catalog: Catalog) -> str:
        """Why rules by relation forbid it: a name may come to mean another relation while the statement waits."""
        session, policy = self._session, self._gate.policy

        def alike(one: Operation, other: Operation) -> bool:
            return policy.alike(session.identity, session.resource, one, other)

        try:
            refuse_unlike_names(_texts(text, statements, self.prepared), operations, alike, catalog, self._context.path)
        except Refused as no:
            return str(no)
        return ""

    def command(self, compiled: Compiled, parameters: tuple[tuple[str, str | None], ...] = (), *,
                wait: bool = True, phase: str = "") -> Command:
        """The command that ``govern`` decides."""
        shown = shown_parameters(parameters, compiled.statements, self.masks(), self._secrets) if parameters else ()
        return Command(compiled.operations, compiled.text, compiled.shown, parameters, shown, compiled.binding,
                       early=compiled.early, wait=wait, phase=phase, filtered=compiled.filtered)

    def known(self) -> Catalog:
        """The catalog that the statement in hand was understood with."""
        return self._overlay or self._shared_now()

    def last(self) -> Catalog | None:
        """The catalog as last read, if it ever was."""
        return self._overlay or self._shared.last

    async def unparsable(self, text: str) -> Command:
        """The command of a text that could not be understood: recorded with every literal hidden, as far as a text may be long."""
        shown = hide_all_literals(text) if len(text) <= NEAR else await beside(hide_all_literals, text[:self._text_limit])
        return Command((), text, shown if len(text) <= self._text_limit else f"{shown} …")

    async def catalog(self, *, fresh: bool = False) -> Catalog:
        """The catalog this session's next statement would be resolved in."""
        if self.own_changes and self._in_block():
            if self._overlay is None or fresh:
                self._overlay = await self._as_this_transaction_sees_it()
            return self._overlay
        fresh, self.reload = fresh or self.reload, False
        return await self._shared.catalog(fresh=fresh)

    async def _as_this_transaction_sees_it(self) -> Catalog:
        """The catalog through the session's own connection, inside a savepoint so that its search_path stays as it is."""
        base = await self._shared.catalog()
        await self._ask(f"savepoint {CATALOG_SAVEPOINT}")
        try:
            await self._ask("set local search_path = pg_catalog")
            return await load_catalog(self._ask, base.builtin, self._session.database, base)
        finally:
            await self._ask(f"rollback to savepoint {CATALOG_SAVEPOINT}")
            await self._ask(f"release savepoint {CATALOG_SAVEPOINT}")

    async def _refresh(self) -> None:
        """Ask the target itself which settings change meaning right now."""
        self._refreshed((await self._ask(CONTEXT_SQL))[0])

    def begin(self, row: Row) -> None:
        """What the target said to ``CONTEXT_SQL`` right after the login. Where it cannot be used, the first statement asks again."""
        with suppress(SqlFault, TargetFault):
            self._refreshed(row)

    def _refreshed(self, row: Row) -> None:
        state = parse_context(row)
        if state.standard_conforming_strings != "on" or state.client_encoding.upper() != "UTF8":
            raise SqlFault("42501", "a pinned setting (standard_conforming_strings, client_encoding) was changed on the target")
        user, session_user = self._shared.common_name(state.user), self._shared.common_name(state.session_user)
        self._context = Context(path=state.path, user=user, switched=user != session_user or self._shared.own_roles,
                                temp_schema=state.temp_schema)
        self._bound = {"search_path": state.search_path, "user": user, "session_user": session_user,
                       "row_security": state.row_security, "session_replication_role": state.session_replication_role}
        self._bound_key = tuple(self._bound.values())
        self.stale = False

    # what statements change

    def sent(self, statement: Statement) -> None:
        """A statement is on its way that may change how later ones are understood."""
        if statement.changes_context or (self._touched and statement.transaction):
            self.stale = self._touched = True
        if statement.changes_catalog:
            self.stale = self.own_changes = True
            self._overlay = None

    def ready(self, status: str) -> None:
        """ReadyForQuery arrived: a transaction that ended settles what was open."""
        if status != "I":
            return
        if self._touched:
            self.stale, self._touched = True, False
        if self.own_changes:
            self.own_changes, self.reload, self._overlay = False, True, None
            self.stale = True
            self._shared.changed()
