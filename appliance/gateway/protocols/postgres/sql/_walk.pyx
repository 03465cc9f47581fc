# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=True, nonecheck=True, binding=False
"""The compiled twin of what nearly every statement passes through: ``values``, ``scope``, the state of ``walk``, and the common
handlers of ``expressions``, ``calls``, ``functions``, ``select``, ``tables``, ``draft`` and ``parse``.

Function by function the same rules as in those modules. Whatever is not written out here is handed to the pure form of the same
function, which works on the same values: ``bind_pure`` is told them when the package is loaded. ``binding=False``: a method that is
called with something else as its object is a ``TypeError``, not a write into foreign memory.
"""

cimport cython
from cpython.dict cimport PyDict_GetItemWithError, PyDict_Next
from cpython.object cimport PyObject, PyObject_GenericSetAttr
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromString, PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport calloc
from libc.string cimport memchr, memcmp, strlen

from dataclasses import MISSING, fields
from sys import intern

import orjson

from gateway.model import Operation
from gateway.protocols.postgres.statement import Flow, Literal, Output, Sink, SqlFault, Statement, Write

cdef frozenset _NONE = frozenset()
cdef tuple _EMPTY = ()
cdef int BOOL = 16, INT4 = 23, TEXT = 25, UNKNOWN = 705, NUMERIC = 1700, RECORD = 2249
cdef int MAX_STEPS = 200_000
cdef int MAX_COLUMNS = 1664
cdef int MOST_NESTED = 400
cdef int TURN = 1023            # a mask: so often the interpreter may give another thread its turn

cdef extern from *:
    """
    static __thread int nested = 0;     /* levels of the walk on this thread's stack */
    """
    int nested

NO_ORIGINS = _NONE


cdef inline PyObject *_at(dict node, str key) except? NULL:
    """What stands under a key, borrowed; NULL where there is nothing."""
    return PyDict_GetItemWithError(node, key)


cdef object _named(dict node):
    """The text of a String node, ``None`` for another."""
    cdef PyObject *found = _at(node, "String")
    if found is NULL:
        return None
    found = _at(<dict?><object>found, "sval")
    return <object>found if found is not NULL else ""


# values made without their frozen dataclass's slow __init__


cdef extern from *:
    object PyType_GenericAlloc(type kind, Py_ssize_t items)


cdef object _new(type kind):
    """``object.__new__(kind)``."""
    return PyType_GenericAlloc(kind, 0)


cdef object _flow_of(frozenset origins, bint plain, bint unknown, bint system):
    made = _new(Flow)
    PyObject_GenericSetAttr(made, "origins", origins)
    PyObject_GenericSetAttr(made, "plain", plain)
    PyObject_GenericSetAttr(made, "unknown", unknown)
    PyObject_GenericSetAttr(made, "system", system)
    return made


cdef object _write_of(tuple column, flow):
    made = _new(Write)
    PyObject_GenericSetAttr(made, "column", column)
    PyObject_GenericSetAttr(made, "flow", flow)
    return made


cdef object _literal_of(frozenset origins, object start, object end, object parameter, bint secret):
    made = _new(Literal)
    PyObject_GenericSetAttr(made, "origins", origins)
    PyObject_GenericSetAttr(made, "start", start)
    PyObject_GenericSetAttr(made, "end", end)
    PyObject_GenericSetAttr(made, "parameter", parameter)
    PyObject_GenericSetAttr(made, "secret", secret)
    return made


# values.py


@cython.no_gc
@cython.final
cdef class Value:
    """``values.Value``."""

    cdef readonly frozenset origins
    cdef readonly bint plain
    cdef readonly bint unknown
    cdef readonly bint system
    cdef readonly long type
    cdef readonly tuple fields
    cdef readonly tuple literals
    cdef object _flow
    cdef object _output
    cdef object _only

    def __init__(self, frozenset origins=_NONE, bint plain=False, bint unknown=False, bint system=True, long type=0,
                 tuple fields=None, tuple literals=_EMPTY):
        self.origins = origins
        self.plain = plain
        self.unknown = unknown
        self.system = system
        self.type = type
        self.fields = fields
        self.literals = literals

    @property
    def flow(self):
        return _flow(self)

    @property
    def carries(self):
        return self.unknown or len(self.origins) > 0

    def derived(self, long type=0, *, bint keep_literals=True):
        return _value(self.origins, False, self.unknown, self.system, type, None, self.literals if keep_literals else _EMPTY)

    def as_type(self, long type):
        return _as_type(self, type)

    def field(self, name):
        for own, value in self.fields or ():
            if own == name:
                return value
        return None


cdef Value _value(frozenset origins, bint plain, bint unknown, bint system, long type, tuple fields, tuple literals):
    cdef Value made = Value.__new__(Value)
    made.origins = origins
    made.plain = plain
    made.unknown = unknown
    made.system = system
    made.type = type
    made.fields = fields
    made.literals = literals
    return made


cdef Value _typed(long type, tuple literals):
    return _value(_NONE, False, False, True, type, None, literals)


cdef Value _derived(Value value, long type, bint keep):
    return _value(value.origins, False, value.unknown, value.system, type, None, value.literals if keep else _EMPTY)


cdef Value _as_type(Value value, long type):
    return _value(value.origins, value.plain, value.unknown, value.system, type, value.fields, value.literals)


cdef object _OF_CONSTANTS = _flow_of(_NONE, False, False, True)


cdef object _flow(Value value):
    if value._flow is None:
        if not len(value.origins) and not value.plain and not value.unknown and value.system:
            return _OF_CONSTANTS
        value._flow = _flow_of(value.origins, value.plain, value.unknown, value.system)
    return value._flow


def combine(values, long type=0):
    """``values.combine``."""
    return _combine(values if isinstance(values, list) else list(values), type)


cdef Value _combine(list values, long type):
    cdef Value value
    cdef Py_ssize_t count = len(values)
    if count < 2:
        return _derived(<Value?>values[0], type, True) if count else _typed(type, _EMPTY)
    cdef bint unknown = False, system = True
    cdef frozenset origins = _NONE, last = _NONE
    cdef tuple literals = _EMPTY
    cdef list several_origins = None, several_literals = None
    for entry in values:
        value = <Value?>entry
        if len(value.origins):
            if last is _NONE:
                origins = value.origins
            elif last is not value.origins:
                if several_origins is None:
                    several_origins = []
                several_origins.append(value.origins)
            last = value.origins
        unknown = unknown or value.unknown
        system = system and value.system
        if len(value.literals):
            if not len(literals):
                literals = value.literals
            else:
                if several_literals is None:
                    several_literals = [literals]
                if several_literals[-1] is not value.literals:
                    several_literals.append(value.literals)
    if several_origins is not None:
        origins = origins.union(*several_origins)
    if several_literals is not None and len(several_literals) > 1:
        literals = _each_once(several_literals)
    return _value(origins, False, unknown, system, type, None, literals)


cdef Value _pair(Value left, Value right, long type):
    """``combine([left, right], type)``."""
    cdef frozenset origins
    cdef tuple literals
    if not len(left.origins) or left.origins is right.origins:
        origins = right.origins
    elif not len(right.origins):
        origins = left.origins
    else:
        origins = left.origins.union(right.origins)
    if not len(left.literals) or left.literals is right.literals:
        literals = right.literals
    elif not len(right.literals):
        literals = left.literals
    else:
        literals = _each_once([left.literals, right.literals])
    return _value(origins, False, left.unknown or right.unknown, left.system and right.system, type, None, literals)


cdef tuple _each_once(list found):
    cdef dict seen = {}
    for literals in found:
        for literal in <tuple>literals:
            seen[literal] = None
    return tuple(seen)


def union_type(values):
    """``values.union_type``."""
    return _union_type(list(values))


cdef long _union_type(list values):
    cdef long found = 0
    cdef bint any = False
    cdef Value value
    for entry in values:
        value = <Value?>entry
        if value.type == UNKNOWN:
            continue
        if any and value.type != found:
            return 0
        found, any = value.type, True
    return found if any else TEXT


def row(names, values, long type=RECORD):
    """``values.row``."""
    cdef list listed = list(values)
    cdef Value whole = _combine(listed, type)
    return _value(whole.origins, False, whole.unknown, whole.system, type, tuple(zip(names, listed, strict=True)), whole.literals)


def constant(long type):
    """``values.constant``."""
    return _typed(type, _EMPTY)


# scope.py

AMBIGUOUS = Value(unknown=True)
cdef Value _AMBIGUOUS = AMBIGUOUS
SYSTEM_COLUMNS = {"tableoid": constant(26), "xmin": constant(28), "cmin": constant(29), "xmax": constant(28), "cmax": constant(29),
                  "ctid": constant(27)}
cdef dict _SYSTEM_COLUMNS = SYSTEM_COLUMNS


def indexed(names, values):
    """``scope.indexed``."""
    return _indexed(names, values)


cdef dict _indexed(names, values):
    cdef dict found = {}
    for name, value in zip(names, values, strict=True):
        found[name] = _AMBIGUOUS if name in found else value
    return found


@cython.final
cdef class Item:
    """``scope.Item``; its index is made when a column is looked for."""

    cdef public object name
    cdef public object names
    cdef public object values
    cdef dict _index
    cdef public object relation
    cdef public bint aliased
    cdef public long row_type
    cdef public Value any_column
    cdef public bint named
    cdef public bint open_columns
    cdef public bint target
    cdef Value _whole

    def __init__(self, name, names, values, *, dict index=None, relation=None, bint aliased=False, long row_type=2249,
                 Value any_column=None):
        self.name = name
        self.names = names
        self.values = values
        self._index = index
        if index is None and len(names) != len(values):
            raise ValueError("an item has a name for each of its values")
        self.relation = relation
        self.aliased = aliased
        self.row_type = row_type
        self.any_column = any_column
        self.named = name is not None
        self.open_columns = True
        self.target = False

    @property
    def index(self):
        return self.by_name()

    cdef dict by_name(self):
        if self._index is None:
            self._index = _indexed(self.names, self.values)
        return self._index

    def column(self, name):
        return self.find(name)

    cdef Value find(self, name):
        cdef PyObject *held = PyDict_GetItemWithError(self.by_name(), name)
        found = <object>held if held is not NULL else None
        if found is None:
            if self.relation is not None and name in _SYSTEM_COLUMNS and self.relation.kind in "rpmft":
                return <Value?>_SYSTEM_COLUMNS[name]
            return self.any_column
        if found is _AMBIGUOUS:
            raise SqlFault("42702", f'column reference "{name}" is ambiguous')
        return <Value?>found

    def whole(self):
        cdef Value whole
        if self._whole is None:
            if self.any_column is not None:
                whole = _as_type(self.any_column, self.row_type)
            else:
                whole = row(self.names, self.values, self.row_type)
                if self.row_type != RECORD and self.relation is not None and not self._own_names():
                    whole = _derived(whole, self.row_type, True)
            self._whole = whole
        return self._whole

    def _own_names(self):
        return self.relation is not None and list(self.names) == [column.name for column in self.relation.columns]

    def renamed(self, dict alias):
        return _renamed(self, alias)


cdef Item _renamed(Item item, dict alias):
    cdef list new = [entry["String"]["sval"] for entry in alias["colnames"]] if "colnames" in alias else []
    cdef Py_ssize_t count = len(new)
    if count > len(item.names) and item.any_column is None:
        raise SqlFault("42P10", f'table "{alias["aliasname"]}" has fewer columns than its alias names')
    cdef Item made = Item.__new__(Item)
    made.name = alias["aliasname"]
    made.names = [*new, *item.names[count:]] if count else item.names
    made.values = item.values
    if len(made.names) > len(made.values) and item.any_column is not None:
        made.values = [*made.values, *([item.any_column] * (len(made.names) - len(made.values)))]
    made._index = None if count else item._index
    made.relation = item.relation
    made.aliased = True
    made.row_type = item.row_type
    made.any_column = item.any_column
    made.named = made.name is not None
    made.open_columns = True
    made.target = item.target
    return made


cdef Item _item_of(name, names, values):
    """``Item(name, names, values)``."""
    cdef Item made = Item.__new__(Item)
    if len(names) != len(values):
        raise ValueError("an item has a name for each of its values")
    made.name = name
    made.names = names
    made.values = values
    made.row_type = RECORD
    made.named = name is not None
    made.open_columns = True
    return made


cdef Scope _below(Scope outer, list items):
    """``Scope(outer, items)``."""
    cdef Scope made = Scope.__new__(Scope)
    made.outer = outer
    made.items = items
    return made


cdef Item _shaped(relation, shape):
    """The item of a relation: ``Item(relation.name, shape.names, shape.values, …)``."""
    cdef Item made = Item.__new__(Item)
    made.name = relation.name
    made.names = shape.names
    made.values = shape.values
    made._index = <dict?>shape.index
    made.relation = relation
    made.row_type = shape.row_type
    made.named = made.name is not None
    made.open_columns = True
    return made


@cython.final
cdef class Scope:
    """``scope.Scope``."""

    cdef public Scope outer
    cdef public list items
    cdef public dict ctes

    def __init__(self, Scope outer=None, list items=None, dict ctes=None):
        self.outer = outer
        self.items = [] if items is None else items
        self.ctes = ctes

    def cte(self, name):
        return _cte(self, name)

    def column(self, name, position=0):
        cdef PyObject *item = NULL
        cdef Value value = _find_column(self, name, position, &item)
        return None if value is None else (value, <object>item)

    def item(self, name):
        return _find_item(self, name)

    def relation_item(self, relation):
        cdef Scope level = self
        cdef Item item
        while level is not None:
            for entry in level.items:
                item = <Item?>entry
                if item.named and not item.aliased and item.relation is not None and item.relation.oid == relation.oid:
                    return item
            level = level.outer
        return None


cdef object _cte(Scope scope, name):
    while scope is not None:
        if scope.ctes is not None and name in scope.ctes:
            return scope.ctes[name]
        scope = scope.outer
    return None


cdef Value _find_column(Scope scope, name, place, PyObject **place_item):
    """The innermost column of that name, and its item, borrowed; or ``None``. ``place``: a position, or the node that has it."""
    cdef Value value, best = None
    cdef Item item, where = None
    while scope is not None:
        for entry in scope.items:
            item = <Item?>entry
            if item.open_columns:
                value = item.find(name)
                if value is not None:
                    if best is not None and where.any_column is None and item.any_column is None:
                        position = place if isinstance(place, int) else (<dict?>place).get("location", 0) + 1
                        raise SqlFault("42702", f'column reference "{name}" is ambiguous', position)
                    if best is None or where.any_column is not None:
                        best, where = value, item
        if best is not None:
            place_item[0] = <PyObject *>where       # held by ``scope.items``
            return best
        scope = scope.outer
    return None


cdef Item _find_item(Scope scope, name):
    cdef Item item, found
    while scope is not None:
        found = None
        for entry in scope.items:
            item = <Item?>entry
            if item.named and (item.name is name or item.name == name):
                if found is not None:
                    raise SqlFault("42P09", f'table reference "{name}" is ambiguous')
                found = item
        if found is not None:
            return found
        scope = scope.outer
    return None


# knowledge.py: what is looked up again and again


@cython.final
cdef class Facts:
    """What one catalog snapshot says of common names; made by ``knowledge.facts_of``.

    ``operators``: built-in operators whose name no user operator has; ``functions``: likewise, and simple; ``types``: built-in types by
    name that no user cast converts to; ``implicit``: types that a user cast may convert unseen. ``relations`` and ``reads`` grow, and hold
    nothing but what the catalog has.
    """

    cdef public frozenset operators
    cdef public frozenset predicates
    cdef public dict results
    cdef public dict functions
    cdef public dict types
    cdef public dict shapes
    cdef public frozenset implicit
    cdef public dict relations
    cdef public dict reads
    cdef dict results_of
    cdef dict named
    cdef dict targets
    cdef dict together

    def __init__(self, frozenset operators, frozenset predicates, dict results, dict functions, dict types, dict shapes,
                 frozenset implicit):
        self.operators = operators
        self.predicates = predicates
        self.results = results
        self.functions = functions
        self.types = types
        self.shapes = shapes
        self.implicit = implicit
        self.relations = {}
        self.reads = {}
        self.results_of = {}
        self.named = {}
        self.targets = {}
        self.together = {}


cdef int MOST_KEPT = 65_536


cdef int _kept(dict into, key, value) except -1:
    """Keep what was looked up, among so many others at most."""
    if len(into) >= MOST_KEPT:
        into.clear()
    into[key] = value
    return 0


# walk.py


cdef class State:
    """``walk.State``: what ``walk.Walk`` adds its look-ups to."""

    cdef public object knowledge
    cdef public object catalog
    cdef public object names
    cdef public object context
    cdef public bint quiet
    cdef public object depth
    cdef public long steps
    cdef public set reads
    cdef public set named
    cdef public object unseen
    cdef public object condition
    cdef public dict relations
    cdef public dict operations
    cdef public list sinks
    cdef public list writes
    cdef public dict bound
    cdef public dict reasons
    cdef public bint early
    cdef public bint user_code
    cdef public bint volatile_code
    cdef public set target_refs
    cdef public dict settings
    cdef public bint changes_context
    cdef public bint changes_catalog
    cdef public set dml
    cdef public object uses_cursor
    cdef public object version
    cdef Facts facts
    cdef bint fresh
    cdef object where

    def __init__(self, knowledge, names, context, *, bint quiet=False, depth=0):
        self.knowledge = knowledge
        self.catalog = knowledge.catalog
        self.names = names
        self.context = context
        self.quiet = quiet
        self.depth = depth
        self.reads = set()
        self.named = set()
        self.relations = {}
        self.operations = {}
        self.sinks = []
        self.writes = []
        self.bound = {}
        self.reasons = {}
        self.early = True
        self.target_refs = set()
        self.settings = {}
        self.dml = set()
        self.version = self.catalog.server_version
        self.facts = knowledge.facts
        self.fresh = not names.stale
        self.where = (names.path, names.temp)

    def step(self, long count=1):
        _step(self, count)

    def on_relation(self, str verb, relation, **attributes):
        if verb == "select" and not attributes:
            _selected(self, relation)
            return
        name = f"{relation.schema}.{relation.name}"
        self.relations[name] = relation.oid
        self.operation(verb, name, None, relations=(name,), **attributes)

    def operation(self, verb, name="", objects=None, **attributes):
        if self.quiet:
            return
        key = (verb, name)
        known = self.operations.get(key)
        merged = {**known.attributes, **attributes} if known is not None else attributes
        shown = objects if objects is not None else (name,) if name else ()
        self.operations[key] = Operation("postgres", verb, shown, merged)

    def uncertain(self, reason):
        self.reasons[reason] = None

    def read(self, Value value not None):
        return _read(self, value)

    def sink(self, what, Value value not None):
        if (value.unknown or len(value.origins)) and not self.quiet:
            self.sinks.append(Sink(what, _flow(value)))

    def write(self, tuple column, Value value not None):
        self.writes.append(_write_of(column, _flow(value)))
        if len(value.literals):
            _bind(self, value, frozenset((column,)))

    def bind(self, Value value not None, frozenset origins not None):
        _bind(self, value, origins)

    def compare(self, values):
        _compare(self, values if isinstance(values, list) else list(values))

    def mark_target(self, Item item not None, node):
        if item.target:
            self.target_refs.add(<uintptr_t><PyObject*>node)


cdef int _step(State walk, long count) except -1:
    walk.steps += count
    if (walk.steps & TURN) <= count:
        _turn()
    if walk.steps > MAX_STEPS:
        raise SqlFault("54001", "the statement is too complex")
    return 0


cdef int _turn() except -1:
    """Texts that are long are walked beside the event loop, whose thread may be waiting."""
    with nogil:
        pass
    return 0


cdef int _deeper() except -1:
    """One level further down the C stack. Raises ``RecursionError``."""
    global nested
    if nested >= MOST_NESTED:
        raise RecursionError("the statement is nested too deeply")
    nested += 1
    return 0


cdef object _read(State walk, Value value):
    if value._only is not None:
        walk.reads.add(value._only)
    elif len(value.origins):
        walk.reads.update(value.origins)
        if len(value.origins) == 1:
            value._only = next(iter(value.origins))
    if value.type >= 16384:
        walk.early = False
    return value


cdef int _bind(State walk, Value value, frozenset origins) except -1:
    if not len(origins) or not len(value.literals) or walk.quiet:
        return 0
    _step(walk, len(value.literals))
    for literal in value.literals:
        known = walk.bound.get(literal)
        if known is None:
            walk.bound[literal] = origins           # a set of its own where there are more
        elif known is not origins:
            if isinstance(known, frozenset):
                known = walk.bound[literal] = set(known)
            (<set?>known).update(origins)
    return 0


cdef int _compare(State walk, list values) except -1:
    cdef frozenset origins = _NONE
    cdef bint literals = False
    cdef Value value
    for entry in values:
        value = <Value?>entry
        if len(value.origins):
            origins = value.origins if not len(origins) else origins | value.origins
        literals = literals or len(value.literals) > 0
    if literals and len(origins):
        for entry in values:
            _bind(walk, <Value?>entry, origins)
    return 0


cdef int _selected(State walk, relation) except -1:
    """``walk.on_relation("select", relation)``: the operation of a relation is made once for each catalog."""
    cdef tuple kept = walk.facts.reads.get(relation.oid)
    if kept is None or kept[3] is not relation:
        name = f"{relation.schema}.{relation.name}"
        kept = (name, ("select", name), Operation("postgres", "select", (name,), {"relations": (name,)}), relation)
        _kept(walk.facts.reads, relation.oid, kept)
    walk.relations[kept[0]] = relation.oid
    if walk.quiet:
        return 0
    if kept[1] in walk.operations:
        walk.operation("select", kept[0], None, relations=(kept[0],))
    else:
        walk.operations[kept[1]] = kept[2]
    return 0


cdef object _relation(State walk, name, schema, location):
    """``walk.relation``: what was found under a name once is found there again."""
    if not walk.fresh:
        return walk.relation(name, schema, location)
    cdef tuple key = (name, schema, walk.where)
    found = walk.facts.relations.get(key)
    if found is None:
        found = walk.relation(name, schema, location)
        _kept(walk.facts.relations, key, found)
    return found


# expressions.py

ctypedef Value (*Native)(State, dict, Scope)


@cython.final
cdef class Handler:
    cdef Native run


cdef dict _NATIVE = {}
cdef dict _HANDLERS = {}
cdef dict _PURE = {}


def bind_pure(handlers, pure):
    """The table of node kinds, and the pure functions by name, for what is not written out here."""
    global _HANDLERS, _PURE
    _HANDLERS, _PURE = handlers, pure


cdef int _native(str kind, Native run) except -1:
    cdef Handler made = Handler.__new__(Handler)
    made.run = run
    _NATIVE[kind] = made
    return 0


def expression(State walk not None, dict node not None, Scope scope not None):
    """``expressions.expression``."""
    return _expression(walk, node, scope)


def each(State walk not None, nodes, Scope scope not None):
    """``expressions.each``."""
    return _each(walk, nodes, scope)


cdef Value _expression(State walk, dict node, Scope scope):
    global nested
    cdef PyObject *kind_slot = NULL
    cdef PyObject *body_slot = NULL
    cdef Py_ssize_t at = 0
    walk.steps += 1
    if walk.steps > MAX_STEPS or not walk.steps & TURN:
        _step(walk, 0)
    if not PyDict_Next(node, &at, &kind_slot, &body_slot):
        return _typed(0, _EMPTY)
    kind, body = <object>kind_slot, <object>body_slot
    _deeper()
    try:
        native = _NATIVE.get(kind)
        if native is not None:
            return (<Handler?>native).run(walk, <dict?>body, scope)
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise SqlFault("0A000", f"{kind} is not supported here")
        return <Value?>handler(walk, body, scope)
    finally:
        nested -= 1


cdef list _each(State walk, nodes, Scope scope):
    cdef list values = []
    for node in nodes:
        values.append(_expression(walk, <dict?>node, scope))
    return values


cdef Value _const(State walk, dict body, Scope scope):
    cdef tuple literals = _EMPTY
    cdef long kind
    cdef long location
    cdef PyObject *place = _at(body, "location")
    cdef bint alone = place is not NULL and len(body) == 2      # a value and where it stands, nothing else
    if alone and _at(body, "ival") is not NULL:
        kind = INT4
    elif alone and _at(body, "sval") is not NULL:
        kind = UNKNOWN
    elif "ival" in body:
        kind = INT4
        if "isnull" in body or "sval" in body:
            return <Value?>_PURE["_constant"](walk, body, scope)
    elif "sval" in body:
        kind = UNKNOWN
        if "isnull" in body:
            return _typed(kind, _EMPTY)
    elif "isnull" in body:
        return _typed(UNKNOWN, _EMPTY)
    elif "boolval" in body:
        kind = BOOL
    elif "fval" in body and not (<str?>body["fval"]["fval"]).isdecimal():
        kind = NUMERIC
    else:
        return <Value?>_PURE["_constant"](walk, body, scope)
    location = <object>place if place is not NULL else 0
    if location >= 0 and not walk.quiet:
        literals = (location + 1,)
    return _typed(kind, literals)


cdef Value _parameter(State walk, dict body, Scope scope):
    cdef long number = body.get("number", 0)
    cdef long kind = 0
    types = walk.context.parameter_types
    if 0 < number <= len(types):
        kind = types[number - 1]
    return _typed(kind if kind else UNKNOWN, (-number,) if number > 0 and not walk.quiet else _EMPTY)


cdef Value _column(State walk, dict body, Scope scope):
    cdef list fields = <list?>body["fields"]
    cdef Py_ssize_t count = len(fields)
    cdef Item item
    cdef Value value
    cdef PyObject *held = NULL
    name = _named(<dict?>fields[count - 1]) if 0 < count <= 2 else None
    if name is None:
        return <Value?>_PURE["_column"](walk, body, scope)
    if count == 1:
        value = _find_column(scope, name, body, &held)
        if value is None:
            return <Value?>_PURE["_column"](walk, body, scope)
        item = <Item?><object>held
    else:
        qualifier = _named(<dict?>fields[0])
        item = _find_item(scope, qualifier) if qualifier is not None else None
        value = item.find(name) if item is not None else None
        if value is None:
            return <Value?>_PURE["_column"](walk, body, scope)
    if item.target:
        walk.target_refs.add(<uintptr_t><PyObject*>body)
    return <Value?>_read(walk, value)


# operators


cdef object _one_name(nodes):
    """The name of a list of one String node, ``None`` for a qualified one."""
    cdef list listed = <list?>nodes
    if len(listed) != 1:
        return None
    node = <dict?>listed[0]
    return node["String"].get("sval", "") if "String" in node else None


cdef Value _operator(State walk, dict body, Scope scope):
    cdef str kind = body.get("kind", "AEXPR_OP")
    if kind == "AEXPR_OP":
        return _binary(walk, body, scope)
    if kind == "AEXPR_IN":
        return _in(walk, body, scope)
    if kind in _COMPARISONS:
        return _comparison(walk, body, scope)
    if kind == "AEXPR_OP_ANY" or kind == "AEXPR_OP_ALL":
        return _array_operator(walk, body, scope)
    if kind in _BETWEEN:
        return _between(walk, body, kind, scope)
    return <Value?>_PURE["_operator"](walk, body, scope)


cdef frozenset _COMPARISONS = frozenset({"AEXPR_DISTINCT", "AEXPR_NOT_DISTINCT", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"})
cdef dict _BETWEEN = {"AEXPR_BETWEEN": (">=", "<="), "AEXPR_NOT_BETWEEN": ("<", ">")}


cdef Value _comparison(State walk, dict body, Scope scope):
    cdef Value left = _expression(walk, <dict?>body["lexpr"], scope)
    cdef Value right = _expression(walk, <dict?>body["rexpr"], scope)
    name = _one_name(body["name"])
    if name is None:
        schema, name = _PURE["split_name"](body["name"], "")
        return <Value?>_PURE["_rowwise"](walk, schema, name, left, right, predicate=True)
    return _rowwise(walk, name, left, right, True)


cdef Value _array_operator(State walk, dict body, Scope scope):
    cdef Value left = _expression(walk, <dict?>body["lexpr"], scope)
    cdef Value right = _expression(walk, <dict?>body["rexpr"], scope)
    schema, name = None, _one_name(body["name"])
    if name is None:
        schema, name = _PURE["split_name"](body["name"], "")
    return _operate(walk, schema, name, left, _as_type(right, _PURE["element_type"](walk, right.type)), True)


cdef Value _between(State walk, dict body, kind, Scope scope):
    cdef Value value = _expression(walk, <dict?>body["lexpr"], scope)
    cdef list bounds = _each(walk, body["rexpr"]["List"]["items"], scope)
    cdef tuple names = <tuple>_BETWEEN[kind]
    if len(bounds) != 2:
        raise ValueError("two bounds")
    low = _rowwise(walk, names[0], value, <Value?>bounds[0], True)
    return _combine([low, _rowwise(walk, names[1], value, <Value?>bounds[1], True)], BOOL)


cdef Value _binary(State walk, dict body, Scope scope):
    cdef Value left = _expression(walk, <dict?>body["lexpr"], scope) if "lexpr" in body else None
    cdef Value right = _expression(walk, <dict?>body["rexpr"], scope)
    name = _one_name(body["name"])
    if name is None:
        schema, name = _PURE["split_name"](body["name"], "")
        return <Value?>_PURE["_rowwise"](walk, schema, name, left, right)
    return _rowwise(walk, name, left, right, False)


cdef Value _rowwise(State walk, name, Value left, Value right, bint predicate):
    if left is not None and left.fields is not None and right.fields is not None:
        return <Value?>_PURE["_rowwise"](walk, None, name, left, right, predicate=predicate)
    return _operate(walk, None, name, left, right, predicate)


cdef Value _in(State walk, dict body, Scope scope):
    cdef Value left = _expression(walk, <dict?>body["lexpr"], scope)
    name = _one_name(body["name"])
    schema = None
    if name is None:
        schema, name = _PURE["split_name"](body["name"], "")
    cdef list items = _each(walk, body["rexpr"]["List"]["items"], scope)
    cdef Value found
    if schema is not None:
        found = <Value?>_PURE["_rowwise"](walk, schema, name, left, items[0], predicate=True)
    else:
        found = _rowwise(walk, name, left, <Value?>items[0], True)
    if len(items) == 1:
        return found
    if left.fields is None:
        _compare(walk, [left, *items])
    if left.fields is not None or name in walk.knowledge.user_operators:
        found = _combine([found, *[_PURE["_rowwise"](walk, schema, name, left, item, predicate=True) for item in items[1:]]], 0)
    return _derived(_combine([found, *items], BOOL), BOOL, False)


def operate(State walk not None, schema, name, Value left, Value right not None, *, bint predicate=False):
    """``calls.operate``."""
    return _operate(walk, schema, name, left, right, predicate)


cdef Value _operate(State walk, schema, name, Value left, Value right, bint predicate):
    cdef Facts facts = walk.facts
    cdef Value value
    cdef long result
    if not (walk.fresh and name in facts.operators and (schema is None or schema == "pg_catalog")) or len(facts.implicit) and (
            _converted(facts, right) or left is not None and _converted(facts, left)):
        return <Value?>_PURE["operate"](walk, schema, name, left, right, predicate=predicate)
    if left is not None:
        if len(left.literals) or len(right.literals):
            _compare(walk, [left, right])
    elif len(right.literals):
        _bind(walk, right, right.origins)
    if predicate or name in facts.predicates:
        result = BOOL
    elif left is None or name == "||":
        result = _PURE["_operator_type"](walk, name, left, right)
    else:
        result = _operator_type(facts, name, left.type, right.type)
    value = _pair(left, right, result) if left is not None else _derived(right, result, True)
    if result == BOOL and len(value.literals):
        value.literals = _EMPTY
    return value


cdef bint _converted(Facts facts, Value value) except -1:
    """Whether a user cast may run unseen on this value: ``calls._implicit_casts``."""
    return value.type != UNKNOWN and (value.type == 0 or value.type in facts.implicit)


cdef long _operator_type(Facts facts, name, long own, long other) except -1:
    """``calls._operator_type`` of two operands and any operator but ``||``."""
    cdef bint open_right = other == UNKNOWN
    if own == UNKNOWN:
        own = other
    elif other == UNKNOWN:
        other = own
    if own == 1043:
        own = TEXT
    if other == 1043:
        other = TEXT
    found = facts.results.get((name, own, other), 0)
    if not found and open_right:
        found = facts.results.get((name, own, TEXT), 0)
    return 0 if found in _POLYMORPHIC else found


cdef frozenset _POLYMORPHIC = frozenset({2276, 2277, 2283, 2776, 3500, 3831, 4537, 4538, 5077, 5078, 5079, 5080})


cdef Value _boolean(State walk, dict body, Scope scope):
    return _derived(_combine(_each(walk, body["args"], scope), BOOL), BOOL, False)


cdef Value _test(State walk, dict body, Scope scope):
    return _derived(_expression(walk, <dict?>body["arg"], scope), BOOL, False)


cdef Value _coalesce(State walk, dict body, Scope scope):
    cdef list values = _each(walk, body["args"], scope)
    _compare(walk, values)
    return _combine(values, _union_type(values))


cdef Value _case(State walk, dict body, Scope scope):
    cdef Value subject = _expression(walk, <dict?>body["arg"], scope) if "arg" in body else None
    cdef Value condition
    cdef list conditions = [], results = []
    for when in body["args"]:
        inner = <dict?>when["CaseWhen"]
        condition = _expression(walk, <dict?>inner["expr"], scope)
        if subject is not None:
            condition = _operate(walk, None, "=", subject, condition, True)
        conditions.append(_derived(condition, BOOL, False))
        results.append(_expression(walk, <dict?>inner["result"], scope))
    if "defresult" in body:
        results.append(_expression(walk, <dict?>body["defresult"], scope))
    _compare(walk, results)
    return _combine(results + conditions, _union_type(results))


cdef Value _cast(State walk, dict body, Scope scope):
    cdef Value value = _expression(walk, <dict?>body["arg"], scope)
    cdef dict named = <dict?>body["typeName"]
    cdef list names
    cdef long oid
    if "names" in named and "arrayBounds" not in named and "pct_type" not in named:
        names = <list?>named["names"]
        if len(names) == 2 and names[0]["String"].get("sval") == "pg_catalog":
            kind = walk.facts.types.get(names[1]["String"].get("sval"))
            if kind is not None:
                return _derived(value, kind, True)
        elif len(names) == 1 and walk.fresh:
            oid = _type_alone(walk, names[0]["String"].get("sval", ""))
            if oid > 0:
                return _derived(value, oid, True)
    return <Value?>_PURE["cast"](walk, value, _PURE["type_named"](walk, named))


cdef long _type_alone(State walk, name) except -2:
    """The built-in type that a name without a schema means and that no user cast converts to, -1 for any other."""
    cdef tuple key = (name, walk.where)
    known = walk.facts.named.get(key)
    if known is None:
        own = walk.facts.types.get(name)
        found = walk.type(name, None) if own is not None else None
        known = own if found is not None and found.oid == own else -1
        _kept(walk.facts.named, key, known)
    return known


cdef long _result_type(State walk, name, known, list args) except -2:
    """``calls._result``: it goes by the types of the arguments."""
    cdef list types = [name]
    for entry in args:
        types.append((<Value?>entry).type)
    cdef tuple key = tuple(types)
    found = walk.facts.results_of.get(key)
    if found is None:
        found = _PURE["_result"](walk, known, args)
        _kept(walk.facts.results_of, key, found)
    return found


cdef Value _called(State walk, dict body, Scope scope):
    """FuncCall of a built-in function that is simple: no effect, no user function of that name, no clause of an aggregate."""
    cdef list names = <list?>body["funcname"]
    cdef Py_ssize_t count = len(names)
    cdef list args
    if len(walk.facts.implicit) or not walk.fresh or "agg_within_group" in body:
        return <Value?>_PURE["_function"](walk, body, scope)
    name = names[count - 1]["String"].get("sval", "")
    if count > 2 or (count == 2 and names[0]["String"].get("sval", "") != "pg_catalog"):
        return <Value?>_PURE["_function"](walk, body, scope)
    kept = walk.facts.functions.get(name)
    if kept is None:
        return <Value?>_PURE["_function"](walk, body, scope)
    known, result, key, operation = <tuple?>kept
    if "args" in body:
        nodes = body["args"]
        for node in nodes:
            if "NamedArgExpr" in node:
                return <Value?>_PURE["_function"](walk, body, scope)
        args = _each(walk, nodes, scope)
    else:
        args = []
    extra = _modifiers(walk, body, scope) if "over" in body or "agg_filter" in body or "agg_order" in body else None
    if len(args) > 1:
        _compare(walk, args)
    if not walk.quiet and key not in walk.operations:
        walk.operations[key] = operation
    return _combine(args if extra is None else [*args, extra], result if result else _result_type(walk, name, known, args))


cdef Value _modifiers(State walk, dict body, Scope scope):
    """``functions._modifiers`` without WITHIN GROUP: what a FILTER lets into the result, ``None`` without one."""
    cdef Value extra = None
    if "agg_order" in body:
        for entry in body["agg_order"]:
            _expression(walk, <dict?>entry["SortBy"]["node"], scope)
        for entry in body["agg_order"]:
            if "useOp" in entry["SortBy"]:
                _PURE["sort_operator"](walk, entry["SortBy"], scope)
    if "agg_filter" in body:
        extra = _derived(_expression(walk, <dict?>body["agg_filter"], scope), 0, False)
    if "over" in body:
        _window(walk, <dict?>body["over"], scope)
    return extra


cdef int _window(State walk, dict body, Scope scope) except -1:
    """``functions.window``."""
    if "partitionClause" in body:
        _each(walk, body["partitionClause"], scope)
    if "orderClause" in body:
        for entry in body["orderClause"]:
            _expression(walk, <dict?>entry["SortBy"]["node"], scope)
            if "useOp" in entry["SortBy"]:
                _PURE["sort_operator"](walk, entry["SortBy"], scope)
    if "startOffset" in body:
        _expression(walk, <dict?>body["startOffset"], scope)
    if "endOffset" in body:
        _expression(walk, <dict?>body["endOffset"], scope)
    return 0


cdef Value _default(State walk, dict body, Scope scope):
    return _typed(UNKNOWN, _EMPTY)


_native("A_Const", _const)
_native("ParamRef", _parameter)
_native("ColumnRef", _column)
_native("A_Expr", _operator)
_native("BoolExpr", _boolean)
_native("NullTest", _test)
_native("BooleanTest", _test)
_native("CoalesceExpr", _coalesce)
_native("MinMaxExpr", _coalesce)
_native("CaseExpr", _case)
_native("TypeCast", _cast)
_native("FuncCall", _called)
_native("SetToDefault", _default)
_native("SubLink", _sublink)


# select.py


@cython.final
cdef class Columns:
    """``select.Columns``."""

    cdef public list names
    cdef public list values

    def __init__(self, list names, list values):
        self.names = names
        self.values = values


cdef frozenset _PLAIN = frozenset({"targetList", "fromClause", "whereClause", "limitOption", "op", "withClause"})
cdef frozenset _ORDERED = frozenset({"sortClause", "limitCount", "limitOffset"})


def query(State walk not None, dict body not None, Scope outer):
    """``select.query``."""
    return _query(walk, body, outer)


cdef Columns _query(State walk, dict body, Scope outer):
    global nested
    _deeper()
    try:
        _step(walk, 1)
        if "withClause" in body:
            outer = _with_scope(walk, <dict?>body["withClause"], outer)
        if "lockingClause" in body and body["lockingClause"] or "intoClause" in body:
            walk.early = False
        if "larg" in body:
            return _set_operation(walk, body, outer)
        if "valuesLists" in body:
            return _values(walk, body, outer)
        return _simple(walk, body, outer)
    finally:
        nested -= 1


cdef Columns _set_operation(State walk, dict body, Scope outer):
    cdef Columns left = _query(walk, <dict?>body["larg"], outer)
    cdef Columns right = _query(walk, <dict?>body["rarg"], outer)
    cdef Columns columns = _merged(left, right)
    _order_by(walk, body, _below(outer, []), columns)
    return columns


def merged(Columns left not None, Columns right not None):
    """``select.merged``."""
    return _merged(left, right)


cdef Columns _merged(Columns left, Columns right):
    cdef Columns columns = Columns.__new__(Columns)
    cdef Py_ssize_t count = len(left.values), at
    cdef list pair
    if count != len(right.values):
        raise SqlFault("42601", "each set operation query must have the same number of columns")
    columns.names = left.names
    columns.values = []
    for at in range(count):
        pair = [left.values[at], right.values[at]]
        columns.values.append(_combine(pair, _union_type(pair)))
    return columns


cdef Columns _values(State walk, dict body, Scope outer):
    cdef Columns columns = Columns.__new__(Columns)
    cdef Scope scope = _below(outer, [])
    cdef list rows = [], cells, row
    cdef Py_ssize_t width, at
    for entry in body["valuesLists"]:
        rows.append(_expanded(walk, entry["List"]["items"], scope))
    width = len(<list?>rows[0])
    for entry in rows:
        if len(<list>entry) != width:
            raise SqlFault("42601", "VALUES lists must all be the same length")
    columns.names = [f"column{number}" for number in range(1, width + 1)]
    columns.values = []
    for at in range(width):
        cells = []
        for entry in rows:
            row = <list>entry
            cells.append(row[at])
        columns.values.append(_combine(cells, _union_type(cells)))
    _order_by(walk, body, _below(outer, []), columns)
    return columns


# WITH


@cython.final
cdef class Cte:
    """``select.Cte``."""

    cdef public object name
    cdef public dict body
    cdef public Scope scope
    cdef public bint recursive
    cdef public Columns columns
    cdef public bint working

    def __init__(self, name, dict body not None, Scope scope not None, bint recursive):
        self.name = name
        self.body = body
        self.scope = scope
        self.recursive = recursive


def with_scope(State walk not None, dict body not None, Scope outer):
    """``select.with_scope``."""
    return _with_scope(walk, body, outer)


cdef Scope _with_scope(State walk, dict body, Scope outer):
    cdef dict ctes = {}, node
    cdef Scope scope = _below(outer, []), inside
    cdef bint recursive = bool(body.get("recursive"))
    cdef Cte cte
    scope.ctes = ctes
    for entry in body["ctes"]:
        node = <dict?>entry["CommonTableExpr"]
        name = node["ctename"]
        if name in ctes:
            raise SqlFault("42712", f'WITH query name "{name}" specified more than once')
        inside = scope
        if not recursive:
            inside = _below(outer, [])
            inside.ctes = dict(ctes)
        cte = Cte.__new__(Cte)
        cte.name = name
        cte.body = node
        cte.scope = inside
        cte.recursive = recursive
        ctes[name] = cte
        if not recursive:
            _cte_columns(walk, cte)
    for entry in list(ctes.values()):
        _cte_columns(walk, <Cte?>entry)
    return scope


def cte_columns(State walk not None, Cte cte not None):
    """``select.cte_columns``."""
    return _cte_columns(walk, cte)


cdef Columns _cte_columns(State walk, Cte cte):
    cdef Columns columns
    cdef dict body
    if cte.columns is not None:
        return cte.columns
    if cte.working:
        raise SqlFault("42P19", f'recursive reference to query "{cte.name}" is not supported here')
    cte.working = True
    ((kind, found),) = cte.body["ctequery"].items()
    body = <dict?>found
    if kind != "SelectStmt":
        walk.early = False
        columns = <Columns?>_PURE["MODIFYING"][kind](walk, kind, body, cte.scope)
    elif cte.recursive and "larg" in body:
        columns = <Columns?>_PURE["_recursive"](walk, cte, body)
    else:
        columns = _query(walk, body, cte.scope)
    if "aliascolnames" in cte.body:
        columns = <Columns?>_PURE["_aliased"](cte, columns)
    if "search_clause" in cte.body or "cycle_clause" in cte.body:
        columns = <Columns?>_PURE["_with_extra"](cte, columns)
    cte.columns = columns
    cte.working = False
    return columns


# sub-queries in expressions


cdef Value _sublink(State walk, dict body, Scope scope):
    cdef str kind = body.get("subLinkType", "EXISTS_SUBLINK")
    cdef Value test, first, whole
    cdef Columns columns
    cdef list pairs = []
    if kind == "EXISTS_SUBLINK":
        return _exists(walk, body, scope)
    test = _expression(walk, <dict?>body["testexpr"], scope) if "testexpr" in body else None
    columns = _query(walk, <dict?>body["subselect"]["SelectStmt"], scope)
    if (kind == "ANY_SUBLINK" or kind == "ALL_SUBLINK") and test is not None:
        if "operName" in body or test.fields is not None or len(columns.values) != 1:
            return <Value?>_PURE["_quantified"](walk, body, test, columns)
        return _derived(_operate(walk, None, "=", test, <Value?>columns.values[0], True), BOOL, True)
    if kind != "EXPR_SUBLINK" and kind != "ARRAY_SUBLINK":
        raise SqlFault("0A000", f"{kind} is not supported")
    if not len(columns.values):
        raise SqlFault("42601", "subquery must return only one column")
    first = <Value?>columns.values[0]
    if kind == "ARRAY_SUBLINK":
        return _combine(columns.values, _PURE["array_type"](walk, first.type))
    if len(columns.values) > 1:
        whole = _combine(columns.values, 0)
        return _value(whole.origins, False, whole.unknown, whole.system, RECORD,
                      tuple(zip(columns.names, columns.values, strict=True)), _EMPTY)
    return _value(first.origins, False, first.unknown, first.system, first.type, first.fields, first.literals)


cdef Value _exists(State walk, dict body, Scope scope):
    cdef set before = walk.reads, found
    cdef dict select = <dict?>body["subselect"]["SelectStmt"]
    cdef bint unseen = True, system = True
    walk.reads = set()
    if "targetList" in select:
        for entry in select["targetList"]:
            if next(iter(entry["ResTarget"]["val"])) not in _SEEN_IN_NOTHING:
                unseen = False
                break
    if unseen:
        walk.unseen = select
    _query(walk, select, scope)
    found = walk.reads
    walk.reads = before
    before.update(found)
    for column in found:
        if (<tuple?>column)[0] not in _OF_THE_SYSTEM:
            system = False
            break
    return _value(frozenset(found) if found else _NONE, False, False, system, BOOL, None, _EMPTY)


cdef frozenset _SEEN_IN_NOTHING = frozenset({"A_Const", "ColumnRef"})
cdef frozenset _OF_THE_SYSTEM = frozenset({"pg_catalog", "information_schema"})


def simple(State walk not None, dict body not None, Scope outer):
    """``select._simple``."""
    return _simple(walk, body, outer)


cdef Columns _simple(State walk, dict body, Scope outer):
    cdef Scope scope = Scope.__new__(Scope)
    cdef Columns columns
    cdef bint clauses = False, ordered = True
    scope.outer = outer
    scope.items = []
    outside = walk.condition
    walk.condition = None
    if "fromClause" in body:
        _from_clause(walk, body["fromClause"], scope)
    walk.condition = body.get("whereClause")
    if walk.unseen is body:
        columns = <Columns?>_PURE["_unseen"](walk, body, scope)
    else:
        columns = _targets(walk, body.get("targetList", _EMPTY), scope, False)
    walk.condition = None
    if "whereClause" in body:
        _expression(walk, <dict?>body["whereClause"], scope)
    for key in body:
        if key not in _PLAIN:
            clauses = True
            if key not in _ORDERED:
                ordered = False
    if clauses and ordered:
        _order_by(walk, body, scope, columns)
    elif clauses:
        _clauses(walk, body, scope, columns)
    walk.condition = outside
    return columns


cdef int _clauses(State walk, dict body, Scope scope, Columns columns) except -1:
    if "groupClause" in body:
        _group_by(walk, body["groupClause"], scope, columns)
    if "havingClause" in body:
        _expression(walk, <dict?>body["havingClause"], scope)
    if "windowClause" in body:
        for entry in body["windowClause"]:
            _window(walk, <dict?>entry["WindowDef"], scope)
    if "distinctClause" in body:
        for entry in body["distinctClause"]:
            _by_output(walk, <dict?>entry, scope, columns)
    return _order_by(walk, body, scope, columns)


cdef int _by_output(State walk, dict node, Scope scope, Columns columns) except -1:
    """ORDER BY and DISTINCT ON take a result column's name or number before anything else."""
    name = _bare_name(node)
    if node and "A_Const" not in node and not (name is not None and name in columns.names):
        _expression(walk, node, scope)
    return 0


cdef int _group_by(State walk, nodes, Scope scope, Columns columns) except -1:
    """GROUP BY takes an input column before a result column."""
    cdef dict node
    cdef PyObject *item = NULL
    for entry in nodes:
        node = <dict?>entry
        if "GroupingSet" in node or "RowExpr" in node:
            _PURE["group_by"](walk, [node], scope, columns)
            continue
        name = _bare_name(node)
        if "A_Const" in node or (name is not None and name in columns.names and _find_column(scope, name, 0, &item) is None):
            continue
        _expression(walk, node, scope)
    return 0


def order_by(State walk not None, dict body not None, Scope scope not None, Columns columns not None):
    """``select.order_by``."""
    _order_by(walk, body, scope, columns)


cdef int _order_by(State walk, dict body, Scope scope, Columns columns) except -1:
    if "sortClause" in body:
        for entry in body["sortClause"]:
            sort = <dict?>entry["SortBy"]
            _by_output(walk, <dict?>sort["node"], scope, columns)
            if "useOp" in sort:
                _PURE["sort_operator"](walk, sort, scope)
    if "limitOffset" in body:
        _expression(walk, <dict?>body["limitOffset"], scope)
    if "limitCount" in body:
        _expression(walk, <dict?>body["limitCount"], scope)
    return 0


cdef object _bare_name(dict node):
    cdef list fields
    if "ColumnRef" not in node:
        return None
    fields = <list?>node["ColumnRef"]["fields"]
    return fields[0]["String"]["sval"] if len(fields) == 1 and "String" in fields[0] else None


def targets(State walk not None, nodes, Scope scope not None, *, bint keep_unknown=False):
    """``select.targets``."""
    return _targets(walk, nodes, scope, keep_unknown)


cdef Columns _targets(State walk, nodes, Scope scope, bint keep_unknown):
    cdef Columns columns = Columns.__new__(Columns)
    cdef list names = [], values = []
    cdef dict target, val
    cdef list fields
    cdef Value value
    cdef PyObject *held
    cdef PyObject *reference
    for node in nodes:
        target = <dict?>(<dict?>node)["ResTarget"]
        val = <dict?>target["val"]
        own = None                          # what a column reference names
        reference = _at(val, "ColumnRef")
        if reference is not NULL:
            fields = <list?>(<dict?><object>reference)["fields"]
            own = _named(<dict?>fields[len(fields) - 1])
        if own is None and _may_be_star(val):
            found = _star(walk, val, scope)
            if found is not None:
                for name, value in found:
                    names.append(name)
                    values.append(value)
                if len(names) > MAX_COLUMNS:
                    raise SqlFault("54011", f"target lists can have at most {MAX_COLUMNS} entries")
                continue
        value = _expression(walk, val, scope)
        if value.type == UNKNOWN and not keep_unknown:
            value = _as_type(value, TEXT)
        held = _at(target, "name")
        names.append(<object>held if held is not NULL else own if own and len(val) == 1 else _column_name(val))
        values.append(value)
        if len(names) > MAX_COLUMNS:
            raise SqlFault("54011", f"target lists can have at most {MAX_COLUMNS} entries")
    columns.names = names
    columns.values = values
    return columns


cdef object _star(State walk, dict val, Scope scope):
    """``select._star``."""
    cdef list fields, found
    cdef Item item
    if "ColumnRef" not in val:
        return _PURE["_star"](walk, val, scope)
    body = <dict?>val["ColumnRef"]
    fields = <list?>body["fields"]
    if len(fields) == 1:
        found = []
        for entry in scope.items:
            if (<Item?>entry).target:
                walk.target_refs.add(<uintptr_t><PyObject*>body)
        for entry in scope.items:
            if (<Item?>entry).open_columns:
                found.extend(_item_columns(walk, <Item?>entry))
        return found
    first = <dict?>fields[0]
    item = _find_item(scope, first["String"].get("sval", "")) if len(fields) == 2 and "String" in first else None
    if item is None:
        return _PURE["_star"](walk, val, scope)
    if item.target:
        walk.target_refs.add(<uintptr_t><PyObject*>body)
    return _item_columns(walk, item)


cdef bint _may_be_star(dict val) except -1:
    cdef PyObject *body = _at(val, "ColumnRef")
    cdef list fields
    if body is NULL:
        return _at(val, "A_Indirection") is not NULL
    fields = <list?>(<dict?><object>body)["fields"]
    return _at(<dict?>fields[len(fields) - 1], "A_Star") is not NULL


cdef object _column_name(dict val):
    """``naming.column_name``."""
    cdef list names
    if len(val) == 1:
        if "ColumnRef" in val:
            names = <list?>val["ColumnRef"]["fields"]
            last = names[len(names) - 1]
            if "String" in last:
                return last["String"]["sval"] or "?column?"
        elif "FuncCall" in val:
            names = <list?>val["FuncCall"]["funcname"]
            return names[len(names) - 1]["String"]["sval"] or "?column?"
    return _PURE["column_name"](val)


def item_columns(State walk not None, Item item not None):
    """``expressions.item_columns``."""
    return _item_columns(walk, item)


cdef list _item_columns(State walk, Item item):
    if item.any_column is not None:
        return <list?>_PURE["item_columns"](walk, item)
    cdef Py_ssize_t count = len(item.names)
    _step(walk, count // 8 + 1)
    cdef list found = []
    for at in range(count):
        found.append((item.names[at], _read(walk, <Value?>item.values[at])))
    return found


def expanded(State walk not None, nodes, Scope scope not None):
    """``expressions.expanded``."""
    return _expanded(walk, nodes, scope)


cdef list _expanded(State walk, nodes, Scope scope):
    cdef list values = []
    for node in nodes:
        star = _PURE["star_columns"](walk, node, scope) if _may_be_star(<dict?>node) else None
        if star is None:
            values.append(_expression(walk, <dict?>node, scope))
        else:
            for _, value in star:
                values.append(value)
    return values


# dml.py


def write(State walk not None, relation, column, Value value not None):
    """``dml.write``."""
    if relation.kind == "v" or walk.knowledge.casting:
        _PURE["write"](walk, relation, column, value)
        return
    name = column.name
    walk.write((relation.schema, relation.name, name), value)
    if len(value.literals):
        under = walk.shape(relation).index.get(name)
        if under is not None:
            _bind(walk, value, (<Value?>under).origins)


@cython.final
cdef class Place:
    """A column that is written to: itself, its name in three parts, and the columns under it where they are others."""

    cdef tuple own
    cdef frozenset alone
    cdef frozenset under
    cdef object constant            # a ``Write`` of a constant


@cython.final
cdef class Target:
    """What writing to an ordinary table means, looked up once for each catalog. ``computes``: a default runs code that is not built
    in, 2 where nobody has asked yet."""

    cdef object relation
    cdef str name
    cdef dict places
    cdef list columns
    cdef bint triggers
    cdef int computes
    cdef dict operations


cdef Target _target(State walk, relation):
    """``None`` for what is left to the pure form: views, foreign tables, the system's own, rewrite rules, user casts."""
    cdef Target target
    cdef Place place
    if walk.knowledge.casting or relation.oid < 16384 or relation.kind not in "rp":
        return None
    target = walk.facts.targets.get(relation.oid)
    if target is not None and target.relation is relation:
        return target
    target = Target.__new__(Target)
    target.relation = relation
    target.name = f"{relation.schema}.{relation.name}"
    target.computes = 2
    for entry in _PURE["below"](walk, relation):
        if entry.rules:
            return None
        if entry.triggers:
            target.triggers = True
    target.places = {}
    target.columns = []
    index = walk.shape(relation).index
    for column in relation.columns:
        place = Place.__new__(Place)
        place.own = (relation.schema, relation.name, column.name)
        place.alone = frozenset((place.own,))
        place.constant = _write_of(place.own, _OF_CONSTANTS)
        under = index.get(column.name)
        place.under = (<Value?>under).origins if under is not None else None
        if place.under == place.alone:
            place.under = None
        target.columns.append(place)
        target.places.setdefault(column.name, place)
    target.operations = {verb: Operation("postgres", verb, (target.name,), {"relations": (target.name,)})
                         for verb in ("insert", "update", "delete")}
    _kept(walk.facts.targets, relation.oid, target)
    return target


cdef Place _place(Target target, dict node):
    cdef object place = target.places.get(node["name"])
    if place is None:
        _PURE["written_column"](target.relation, node["name"], node.get("location", -1))
    return <Place?>place


cdef int _put(State walk, Place place, Value value) except -1:
    flow = _flow(value)
    walk.writes.append(place.constant if flow is _OF_CONSTANTS else _write_of(place.own, flow))
    if len(value.literals):
        _bind(walk, value, place.alone)
        if place.under is not None:
            _bind(walk, value, place.under)
    return 0


cdef int _done(State walk, Target target, str verb) except -1:
    """``walk.on_relation(verb, relation)``."""
    cdef tuple key = (verb, target.name)
    walk.relations[target.name] = target.relation.oid
    if walk.quiet:
        return 0
    if key in walk.operations:
        walk.operation(verb, target.name, None, relations=(target.name,))
    else:
        walk.operations[key] = target.operations[verb]
    return 0


def modify(State walk not None, str kind not None, dict body not None, Scope outer):
    """``dml.modify``."""
    return _modify(walk, kind, body, outer)


cdef Columns _modify(State walk, str kind, dict body, Scope outer):
    global nested
    cdef Target target
    cdef Item item
    cdef dict named
    cdef long location
    if kind not in _MODIFIED:
        return <Columns?>_PURE["modify"](walk, kind, body, outer)
    _deeper()
    try:
        _step(walk, 1)
        walk.early = False
        if "withClause" in body:
            outer = _with_scope(walk, <dict?>body["withClause"], outer)
        named = <dict?>body["relation"]
        location = named.get("location", 0)
        target = _target(walk, _relation(walk, named["relname"], named.get("schemaname"), location if location > 0 else 0))
        if target is None:
            return <Columns?>_PURE["modified"][kind](walk, body, outer)
        item = _relation_item(walk, target.relation)
        item.target = True
        if "alias" in named:
            item = _renamed(item, <dict?>named["alias"])
        if kind == "InsertStmt":
            return _insert(walk, body, target, item, outer)
        return _update(walk, body, target, item, outer, kind == "UpdateStmt")
    finally:
        nested -= 1


cdef frozenset _MODIFIED = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt"})


cdef Columns _update(State walk, dict body, Target target, Item item, Scope outer, bint updates):
    """UPDATE and DELETE."""
    cdef Scope scope = _below(outer, [item]), others
    cdef str more = "fromClause" if updates else "usingClause"
    cdef str verb = "update" if updates else "delete"
    cdef bint unbounded
    if more in body:
        others = _below(outer, [])
        _from_clause(walk, body[more], others)
        scope.items.extend(others.items)
    if updates:
        _assign(walk, <list?>body["targetList"], target, scope)
    unbounded = _where(walk, body.get("whereClause"), scope)
    if unbounded or (verb, target.name) in walk.operations:
        _PURE["write_operation"](walk, verb, target.relation, unbounded)
    else:
        walk.dml.add(verb)
        _done(walk, target, verb)
    return _returning(walk, body, verb, target, item, scope, outer)


cdef int _assign(State walk, list nodes, Target target, Scope scope) except -1:
    cdef dict node
    for entry in nodes:
        node = <dict?>entry["ResTarget"]
        if "indirection" in node or "MultiAssignRef" in node["val"]:
            _PURE["assign"](walk, target.relation, nodes, scope)
            return 0
    for entry in nodes:
        node = <dict?>entry["ResTarget"]
        place = _place(target, node)
        _put(walk, place, _expression(walk, <dict?>node["val"], scope))
    return 0


cdef bint _where(State walk, node, Scope scope) except -1:
    """Walk a WHERE clause; true when it is missing in the contract's sense."""
    if node is None:
        return True
    condition = <dict?>node
    if "CurrentOfExpr" in condition:
        walk.uses_cursor = condition["CurrentOfExpr"].get("cursor_name")
        return False
    _expression(walk, condition, scope)
    return not _plain_condition(walk, condition) and _PURE["missing"](condition, walk.target_refs)


cdef bint _plain_condition(State walk, dict node) except -1:
    """``where._plain``, or several of them under AND."""
    cdef dict body, right
    if "BoolExpr" in node:
        body = <dict?>node["BoolExpr"]
        if body.get("boolop") != "AND_EXPR":
            return False
        for entry in body["args"]:
            if not _plain_condition(walk, <dict?>entry):
                return False
        return True
    found = node.get("A_Expr")
    if found is None:
        return False
    body = <dict?>found
    if body.get("kind", "AEXPR_OP") != "AEXPR_OP" or "lexpr" not in body:
        return False
    left = body["lexpr"].get("ColumnRef")
    if left is None or <uintptr_t><PyObject*>left not in walk.target_refs:
        return False
    right = <dict?>body["rexpr"]
    return "ParamRef" in right or "A_Const" in right and "boolval" not in right["A_Const"]


cdef Columns _insert(State walk, dict body, Target target, Item item, Scope outer):
    cdef list places = [], rows, row
    cdef dict node, select
    cdef Py_ssize_t width, at
    if "cols" in body:
        for entry in body["cols"]:
            if "indirection" in entry["ResTarget"]:
                return <Columns?>_PURE["modified"]["InsertStmt"](walk, body, outer)
    _done(walk, target, "insert")
    walk.dml.add("insert")
    if target.computes == 2:
        target.computes = any([column.default and _PURE["computed"](walk, column.default) for column in target.relation.columns])
    if target.computes:
        walk.changes_context = True
    if "cols" in body:
        for entry in body["cols"]:
            places.append(_place(target, <dict?>entry["ResTarget"]))
    else:
        places = target.columns
    if "selectStmt" in body:
        select = <dict?>body["selectStmt"]["SelectStmt"]
        if "valuesLists" in select and "withClause" not in select:
            rows = []
            for entry in select["valuesLists"]:
                rows.append(_expanded(walk, entry["List"]["items"], _below(outer, [])))
        else:
            rows = [_query(walk, select, outer).values]
        for entry in rows:
            row = <list?>entry
            width = len(row)
            if width > len(places):
                raise SqlFault("42601", "INSERT has more expressions than target columns")
            for at in range(width):
                _put(walk, <Place?>places[at], <Value?>row[at])
    if "onConflictClause" in body:
        _PURE["on_conflict"](walk, target.relation, item, body["onConflictClause"], outer)
    return _returning(walk, body, "insert", target, item, None, outer)


cdef Columns _returning(State walk, dict body, str verb, Target target, Item item, Scope scope, Scope outer):
    if "returningClause" in body and body["returningClause"]:
        return <Columns?>_PURE["returning"](walk, body, verb, item, scope.items[1:] if scope is not None else (), outer)
    if target.triggers:
        walk.changes_context = True
    return Columns([], [])


# tables.py

cdef str _READABLE = "rpvmfSt"


def from_clause(State walk not None, nodes, Scope scope not None):
    """``tables.from_clause``."""
    _from_clause(walk, nodes, scope)


cdef int _from_clause(State walk, nodes, Scope scope) except -1:
    for node in nodes:
        scope.items.extend(<list?>_entry(walk, <dict?>node, scope)[1])
    return 0


def entry(State walk not None, dict node not None, Scope scope not None):
    """``tables._entry``."""
    return _entry(walk, node, scope)


cdef tuple _entry(State walk, dict node, Scope scope):
    global nested
    cdef Item item
    _deeper()
    try:
        if len(node) != 1:
            return <tuple?>_PURE["_entry"](walk, node, scope)
        if "RangeVar" in node:
            item = _range_var(walk, <dict?>node["RangeVar"], scope)
            return item, [item]
        if "JoinExpr" in node:
            return _join(walk, <dict?>node["JoinExpr"], scope)
        if "RangeSubselect" in node:
            item = _subselect(walk, <dict?>node["RangeSubselect"], scope)
            return item, [item]
        return <tuple?>_PURE["_entry"](walk, node, scope)
    finally:
        nested -= 1


cdef Item _range_var(State walk, dict body, Scope scope):
    cdef Item item
    cdef Columns columns
    cdef long location
    name, schema = body["relname"], body.get("schemaname")
    if schema is None:
        cte = _cte(scope, name)
        if cte is not None:
            columns = _cte_columns(walk, <Cte?>cte)
            item = _item_of(name, columns.names, columns.values)
            return _renamed(item, <dict?>body["alias"]) if "alias" in body else item
    location = body.get("location", 0)
    item = _relation_item(walk, _relation(walk, name, schema, location if location > 0 else 0))
    _selected(walk, item.relation)
    return _renamed(item, <dict?>body["alias"]) if "alias" in body else item


cdef Item _subselect(State walk, dict body, Scope scope):
    cdef Columns columns = _query(walk, <dict?>body["subquery"]["SelectStmt"], scope if body.get("lateral") else scope.outer)
    cdef Item item = _item_of(None, columns.names, columns.values)
    return _renamed(item, <dict?>body["alias"]) if "alias" in body else item


def relation_item(State walk not None, relation):
    """``tables.relation_item``."""
    return _relation_item(walk, relation)


cdef Item _relation_item(State walk, relation):
    if relation.kind not in _READABLE:
        raise SqlFault("42809", f'"{relation.name}" is not a table')
    shape = walk.facts.shapes.get(relation.oid)
    if shape is None:
        shape = walk.shape(relation)
    if not shape.early:
        walk.early = False
    if shape.code:
        walk.user_code = True
    for reason in shape.reasons:
        walk.reasons[reason] = None
    return _shaped(relation, shape)


cdef tuple _join(State walk, dict body, Scope scope):
    cdef Item left, right, item
    cdef list left_items, right_items, inside
    cdef Scope beside
    if "isNatural" in body or "usingClause" in body or "alias" in body or "join_using_alias" in body:
        return <tuple?>_PURE["_join"](walk, body, scope)
    left, left_items = _entry(walk, <dict?>body["larg"], scope)
    beside = Scope.__new__(Scope)
    beside.outer = scope.outer
    beside.items = scope.items + left_items
    right, right_items = _entry(walk, <dict?>body["rarg"], beside)
    inside = left_items + right_items
    if "quals" in body:
        beside = Scope.__new__(Scope)
        beside.outer = scope.outer
        beside.items = inside
        _expression(walk, <dict?>body["quals"], beside)
    item = Item.__new__(Item)
    item.names = [*left.names, *right.names]
    item.values = [*left.values, *right.values]
    item.row_type = RECORD
    item.any_column = left.any_column if left.any_column is not None else right.any_column
    item.open_columns = True
    for entry in inside:
        (<Item?>entry).open_columns = False
    return item, [*inside, item]


# draft.py

cdef frozenset _OF_THE_WALK = frozenset({
    "verb", "operations", "start", "end", "reads", "writes", "sinks", "literals", "early", "dml", "uses_cursor", "settings",
    "changes_context", "changes_catalog", "relations", "hidden_reasons"})
cdef list _DEFAULTS = [(field.name, field.default) for field in fields(Statement) if field.name not in _OF_THE_WALK]
if any(default is MISSING for _, default in _DEFAULTS):
    raise ImportError("a field of Statement that this module does not know: build it anew")


def outputs(State walk not None, names, values):
    """``walk.outputs``."""
    return _outputs(walk, names if isinstance(names, list) else list(names), values if isinstance(values, list) else list(values))


cdef tuple _outputs(State walk, list names, list values):
    cdef Value value
    cdef list found = []
    cdef Py_ssize_t count = len(names)
    if len(values) != count:
        raise ValueError("as many names as values")
    for at in range(count):
        name, value = names[at], <Value?>values[at]
        if value._output is not None and (<tuple>value._output)[0] == name:
            found.append((<tuple>value._output)[1])
            continue
        made = _new(Output)
        PyObject_GenericSetAttr(made, "name", name)
        PyObject_GenericSetAttr(made, "flow", _flow(value))
        PyObject_GenericSetAttr(made, "type_oid", _PURE["base_type"](walk, value.type) if value.type > 10000 else value.type)
        if value.type <= 10000:
            value._output = (name, made)
        found.append(made)
    return tuple(found)


def select_statement(job):
    """``containers.select_statement``."""
    cdef State walk = <State?>job.walk()
    cdef Columns columns = _selection(walk, <dict?>job.body)
    return _finish(job, walk, "select", {"returns": "rows", "columns": _outputs(walk, columns.names, columns.values)})


cdef Columns _selection(State walk, dict body):
    """A whole SELECT; one that names no relation is an operation all the same."""
    cdef Columns columns = _query(walk, body, None)
    for verb, _ in walk.operations:
        if verb == "select":
            return columns
    walk.operations = {("select", ""): Operation("postgres", "select"), **walk.operations}
    return columns


def query_statement(job):
    """``containers.query_statement``."""
    cdef State walk
    cdef Columns columns
    cdef str kind = job.kind
    cdef dict body = <dict?>job.body
    if "intoClause" in body or kind not in _VERBS:
        return _PURE["query_statement"](job)
    if kind == "SelectStmt":
        return select_statement(job)
    walk = <State?>job.walk()
    columns = _modify(walk, kind, body, None)
    walk.early = False
    return _finish(job, walk, _VERBS[kind], {} if not len(columns.names) else {
        "returns": "rows", "columns": _outputs(walk, columns.names, columns.values)})


cdef dict _VERBS = {"SelectStmt": "select", "InsertStmt": "insert", "UpdateStmt": "update", "DeleteStmt": "delete"}


def finish(job, State walk not None, str verb not None, **fields):
    """``draft.finish``."""
    return _finish(job, walk, verb, fields)


cdef object _finish(job, State walk, str verb, dict fields):
    made = _statement(walk, verb, job.start, job.end, _literals(job, walk))
    for name in fields:
        PyObject_GenericSetAttr(made, name, fields[name])
    return made


cdef object _statement(State walk, str verb, start, end, tuple literals):
    """A ``Statement`` that answers with nothing."""
    made = _new(Statement)
    cdef list operations = list(walk.operations.values())
    if operations and operations[0].verb != verb:
        operations = [op for op in operations if op.verb == verb] + [op for op in operations if op.verb != verb]
    for name, value in _DEFAULTS:
        PyObject_GenericSetAttr(made, name, value)
    PyObject_GenericSetAttr(made, "verb", verb)
    PyObject_GenericSetAttr(made, "operations", _together(walk.facts, operations))
    PyObject_GenericSetAttr(made, "start", start)
    PyObject_GenericSetAttr(made, "end", end)
    PyObject_GenericSetAttr(made, "reads", frozenset(walk.reads | walk.named) if walk.named else frozenset(walk.reads))
    PyObject_GenericSetAttr(made, "writes", tuple(walk.writes))
    PyObject_GenericSetAttr(made, "sinks", tuple(walk.sinks))
    PyObject_GenericSetAttr(made, "literals", literals)
    PyObject_GenericSetAttr(made, "early", walk.early)
    PyObject_GenericSetAttr(made, "dml", frozenset(walk.dml))
    PyObject_GenericSetAttr(made, "uses_cursor", walk.uses_cursor)
    PyObject_GenericSetAttr(made, "settings", walk.settings)
    PyObject_GenericSetAttr(made, "changes_context", walk.changes_context or walk.user_code)
    PyObject_GenericSetAttr(made, "changes_catalog", walk.changes_catalog or walk.volatile_code)
    PyObject_GenericSetAttr(made, "relations", tuple(walk.relations.items()))
    PyObject_GenericSetAttr(made, "hidden_reasons", tuple(walk.reasons))
    return made


# analyze.py

cdef type _WALK = None


def bind_walk(type kind not None):
    """``walk.Walk``."""
    global _WALK
    _WALK = kind


def analyzed(str text not None, names, context, knowledge, Py_ssize_t limit):
    """``analyze._analyze`` of an ordinary text of one plain statement, at most ``limit`` bytes long: the statements. Of another ordinary
    text what the parser said of it (``stmts``); ``None``, and nothing done, for what is not ordinary or does not parse."""
    cdef Py_ssize_t size = 0
    cdef const char *data
    cdef list entries
    cdef tuple found
    if not text.isascii():
        return None
    data = PyUnicode_AsUTF8AndSize(text, &size)
    if size > limit or not _ordinary(<const unsigned char *>data, size):
        return None
    entries = _entries(data)
    if entries is None:
        return None
    if len(entries) != 1:
        return entries
    found = _one(text, data, size, <dict?>entries[0], names, context, knowledge)
    return entries if found is None else found


cdef tuple _one(str text, const char *data, Py_ssize_t size, dict entry, names, context, knowledge):
    """The one statement of an ASCII text, ``None`` for one that is not a plain query or may hold a secret by what it calls."""
    cdef PyObject *kind_slot = NULL
    cdef PyObject *body_slot = NULL
    cdef Py_ssize_t at = 0, start = entry.get("stmt_location", 0), end = entry.get("stmt_len", 0)
    cdef State walk
    cdef Columns columns
    cdef dict body
    cdef str kind
    if not PyDict_Next(<dict?>entry["stmt"], &at, &kind_slot, &body_slot):
        return None
    kind, body = <str?><object>kind_slot, <dict?><object>body_slot
    if end:
        end += start
    else:
        end = size
    if kind not in _VERBS or "intoClause" in body or not 0 <= start <= end <= size or _may_call(data + start, end - start):
        return None
    walk = <State?>_WALK(knowledge, names, context)
    if kind == "SelectStmt":
        columns = _selection(walk, body)
    else:
        columns = _modify(walk, kind, body, None)
        walk.early = False
    made = _statement(walk, _VERBS[kind], start, end, tuple(_bound_literals(walk, text, data, size, None)))
    if kind == "SelectStmt" or len(columns.names):
        PyObject_GenericSetAttr(made, "returns", "rows")
        PyObject_GenericSetAttr(made, "columns", _outputs(walk, columns.names, columns.values))
    return (made,)


cdef tuple _together(Facts facts, list operations):
    """The same tuple for the same operations: what a policy said of it is remembered by its identity."""
    cdef Py_ssize_t count = len(operations)
    cdef list ids = []
    cdef tuple kept, key
    if not 0 < count <= 8:
        return tuple(operations)
    for entry in operations:
        ids.append(<uintptr_t><PyObject*>entry)
    key = tuple(ids)
    kept = facts.together.get(key)
    if kept is None:
        kept = tuple(operations)
        if len(facts.together) >= 1024:
            facts.together.clear()
        facts.together[key] = kept      # it holds the operations, so that their addresses stay theirs
    return kept


cdef tuple _literals(job, State walk):
    cdef bytes data = <bytes?>job.offsets.data
    cdef bint ascii = job.offsets.ascii
    cdef const char *start = PyBytes_AsString(data)
    cdef Py_ssize_t size = len(data), first = job.start, last = job.end
    cdef list found = _bound_literals(walk, <str?>job.text, start, size, None if ascii else job.offsets)
    if not ascii or job.kind in _SECRETIVE or not 0 <= first <= last <= size or _may_call(start + first, last - first):
        for span in _PURE["secret_spans"](job.kind, job.body, job.text, first, last, job.offsets):
            found.append(_literal_of(_NONE, span[0], span[1], 0, True))
    return tuple(found)


cdef list _bound_literals(State walk, str text, const char *data, Py_ssize_t size, offsets):
    """The literals that feed or are compared with columns. ``offsets`` is ``None`` for an ASCII text."""
    cdef list found = []
    cdef dict shared = {}
    cdef Py_ssize_t start, end
    cdef frozenset origins
    cdef long place
    for entry, columns in walk.bound.items():
        place = entry
        if isinstance(columns, frozenset):
            origins = <frozenset>columns
        else:                                   # made for this literal: equal ones are one
            origins = frozenset(columns)
            origins = <frozenset>shared.setdefault(origins, origins)
        if place < 0:
            found.append(_literal_of(origins, 0, 0, -place, False))
            continue
        start = place - 1
        end = _literal_end(data, size, &start) if offsets is None else 0
        if end:
            found.append(_literal_of(origins, start, end, 0, False))
        else:
            span = _PURE["literal_span"](text, place - 1 if offsets is None else offsets.character(place - 1))
            found.append(_literal_of(origins, span[0], span[1], 0, False))
    return found


cdef frozenset _SECRETIVE = frozenset()


def bind_secretive(frozenset kinds):
    """The statement kinds whose literals may be secrets: ``passwords.SECRETIVE``."""
    global _SECRETIVE
    _SECRETIVE = kinds


cdef Py_ssize_t _literal_end(const char *text, Py_ssize_t size, Py_ssize_t *start) noexcept:
    """The end of a plain decimal or quoted literal of an ASCII text; 0 for any other: ``literals.literal_span`` reads those."""
    cdef Py_ssize_t at = start[0]
    cdef char c
    if at < 0 or at >= size:
        return 0
    c = text[at]
    if c == 45 or c == 43:                      # - +
        at += 1
        if at >= size or not 48 <= text[at] <= 57:
            return 0
        c = text[at]
    if 48 <= c <= 57:
        start[0] = at
        while at < size and 48 <= text[at] <= 57:
            at += 1
        if at + 1 < size and text[at] == 46 and 48 <= text[at + 1] <= 57:      # digits on both sides of a point
            at += 2
            while at < size and 48 <= text[at] <= 57:
                at += 1
        if at < size and (_is_word(text[at]) or text[at] == 46):
            return 0
        return at
    if c != 39:
        return 0
    cdef const char *quote = <const char *>memchr(text + at + 1, 39, size - at - 1)
    if quote == NULL:
        return 0
    cdef Py_ssize_t end = quote - text + 1
    at = end
    if at < size and text[at] == 39:
        return 0
    while at < size and (text[at] == 32 or text[at] == 9 or text[at] == 11 or text[at] == 12):
        at += 1
    if at < size and (text[at] == 45 or text[at] == 10 or text[at] == 13):
        return 0
    return end


cdef bint _is_word(char c) noexcept:
    return 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == 95 or c == 36


cdef bint _may_call(const char *text, Py_ssize_t size) noexcept:
    """Whether an ASCII text holds ``dblink``, ``crypt`` or ``u&"`` in any case: ``passwords.secret_spans`` looks closer."""
    return _holds(text, size, b"dblink", 5, 6) or _holds(text, size, b"crypt", 2, 5) or _holds(text, size, b'u&"', 1, 3)


cdef bint _holds(const char *text, Py_ssize_t size, const char *word, int rare, int length) noexcept:
    """Whether a word stands there, letters in any case; looked for by its rarest character, the one at ``rare``."""
    cdef const char *stop = text + size - length + rare + 1     # behind the last place where that one can stand
    cdef const char *at
    cdef char small = word[rare]
    cdef char large = small - 32 if 97 <= small <= 122 else small
    cdef int turn
    if size < length:
        return False
    for turn in range(1 if small == large else 2):
        at = text + rare
        while at < stop:
            at = <const char *>memchr(at, large if turn else small, stop - at)
            if at == NULL:
                break
            if _is(at - rare, word, length):
                return True
            at += 1
    return False


cdef bint _is(const char *text, const char *word, int size) noexcept:
    cdef int at
    cdef char c
    for at in range(size):
        c = text[at]
        if c != word[at] and not (65 <= c <= 90 and c + 32 == word[at]):
            return False
    return True


# parse.py

cdef struct Fault:
    char *message
    char *funcname
    char *filename
    int lineno
    int cursorpos
    char *context


cdef struct Answer:
    char *parse_tree
    char *stderr_buffer
    Fault *error


ctypedef Answer (*Parse)(const char *) noexcept
ctypedef void (*Free)(Answer) noexcept

cdef Parse _parse = NULL
cdef Free _free = NULL


def bind_library(uintptr_t parse, uintptr_t free):
    """The addresses of ``pg_query_parse`` and ``pg_query_free_parse_result``."""
    global _parse, _free
    _parse, _free = <Parse>parse, <Free>free


def tree(bytes data not None):
    """The parser's JSON for a text without NUL, or (its message, its position)."""
    if _parse == NULL or _free == NULL:
        raise RuntimeError("the library is not bound")
    cdef Answer answer = _parse(PyBytes_AsString(data))
    try:
        if answer.error != NULL:
            return (PyBytes_FromString(answer.error.message) if answer.error.message != NULL else b"", answer.error.cursorpos)
        if answer.parse_tree == NULL:
            raise MemoryError("the parser gave no answer")
        return PyBytes_FromString(answer.parse_tree)
    finally:
        _free(answer)


cdef list _entries(const char *data):
    """The parser's statements of a text without NUL; ``None`` where there is an error."""
    cdef object found
    if _direct:
        found = _climbed(data, False)
        if found is False:
            return None
        if found is not None:
            return <list>found
    return _from_json(data)


cdef list _from_json(const char *data):
    if _parse == NULL or _free == NULL:
        raise RuntimeError("the library is not bound")
    cdef Answer answer = _parse(data)
    try:
        if answer.error != NULL:
            return None
        if answer.parse_tree == NULL:
            raise MemoryError("the parser gave no answer")
        return <list?>(<dict?>_decoded(answer.parse_tree, <Py_ssize_t>strlen(answer.parse_tree))).get("stmts", [])
    except ValueError:                  # nested too deeply for orjson: the pure form says so
        return None
    finally:
        _free(answer)


def ordinary(bytes data not None):
    """Whether a text is ASCII without NUL, without a long run of operator characters and without ``) =``: nothing that
    ``parse`` has to look at more closely."""
    return _ordinary(<const unsigned char *>PyBytes_AsString(data), len(data))


cdef bint _ordinary(const unsigned char *text, Py_ssize_t size) noexcept:
    cdef const unsigned char *close
    cdef Py_ssize_t at, ahead
    cdef unsigned char every = 0
    if memchr(text, 0, size) != NULL:
        return False
    for at in range(size):
        every |= text[at]
    if every >= 128:
        return False
    at = RUN - 1                        # a run that long stands over every place of that distance
    while at < size:
        if _OPERATOR[text[at]] and _run_around(text, at, size) >= RUN:
            return False
        at += RUN
    at = 0
    while True:
        close = <const unsigned char *>memchr(text + at, 41, size - at)
        if close == NULL:
            return True
        at = ahead = close - text + 1
        while ahead < size and (text[ahead] == 32 or 9 <= text[ahead] <= 13 or 28 <= text[ahead] <= 31):
            ahead += 1
        if ahead < size and (text[ahead] == 61 or text[ahead] == 45 or text[ahead] == 47):
            return False


cdef int RUN = 512


cdef Py_ssize_t _run_around(const unsigned char *text, Py_ssize_t at, Py_ssize_t size) noexcept:
    """How many operator characters stand together around a place."""
    cdef Py_ssize_t first = at, last = at
    while first > 0 and _OPERATOR[text[first - 1]]:
        first -= 1
    while last + 1 < size and _OPERATOR[text[last + 1]]:
        last += 1
    return last - first + 1


cdef bint[128] _OPERATOR
for _code in range(128):
    _OPERATOR[_code] = chr(_code) in "-+*/<>=~!@#%^&|`?"


# the parser's JSON: what orjson gives, with names that stand often as the same nodes

cdef extern from *:
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)


cdef struct Reading:
    const char *at
    const char *end                     # a NUL stands there


cdef struct Word:
    uint32_t hash
    Py_ssize_t size
    const char *data                    # of ``text``
    PyObject *text                      # owned
    PyObject *node                      # of a name {"String": {"sval": text}}, owned; of a key NULL
    bint naming                         # of a key: below it stand names


cdef enum:
    KEYS = 4096                         # places; half of them are filled at most
    NAMES = 4096
    LONGEST = 63                        # bytes of a key or of a name that is kept
    DEEPEST = 512

cdef Word[KEYS] _keys
cdef Word[NAMES] _nodes
cdef int _known_keys = 0
cdef object _loads = orjson.loads
cdef frozenset _NAMING = frozenset({"fields", "names", "funcname", "name", "colnames"})
cdef const char *_STRING = b'{"String":{"sval":"'


def decoded(bytes answer not None):
    """``orjson.loads`` of the parser's answer; its names are shared, so nobody may change them. What is not of the plain form that the
    parser writes, or is deep, is left to orjson. Raises ``orjson.JSONDecodeError``."""
    return _decoded(PyBytes_AsString(answer), len(answer))


cdef object _decoded(const char *answer, Py_ssize_t size):
    cdef Reading text
    text.at = answer
    text.end = text.at + size
    try:
        found = _anything(&text, 0, False)
        if text.at == text.end:
            return found
    except ValueError:
        pass
    return _loads(PyBytes_FromStringAndSize(answer, size))


cdef object _anything(Reading *text, int depth, bint naming):
    cdef char c = text.at[0]
    if depth > DEEPEST:
        raise ValueError("deep")
    if c == 123:
        return _members(text, depth + 1, naming)
    if c == 91:
        return _several(text, depth + 1, naming)
    if c == 34:
        text.at += 1
        return _text(text)
    if c == 45 or 48 <= c <= 57:
        return _whole(text)
    if c == 116 and _skip(text, b"true", 4):
        return True
    if c == 102 and _skip(text, b"false", 5):
        return False
    raise ValueError("unusual")


cdef bint _skip(Reading *text, const char *word, Py_ssize_t size):
    if text.end - text.at < size or memcmp(text.at, word, size) != 0:
        return False
    text.at += size
    return True


cdef object _whole(Reading *text):
    cdef bint negative = text.at[0] == 45
    cdef long long number = 0
    cdef int digits = 0
    text.at += negative
    if text.at[0] == 48 and 48 <= text.at[1] <= 57:
        raise ValueError("unusual")
    while 48 <= text.at[0] <= 57:
        number = number * 10 + (text.at[0] - 48)
        text.at += 1
        digits += 1
        if digits > 17:
            raise ValueError("long")
    if not digits or text.at[0] == 46 or text.at[0] == 101 or text.at[0] == 69 or negative and not number:
        raise ValueError("unusual")
    return -number if negative else number


cdef list _several(Reading *text, int depth, bint naming):
    cdef list found = []
    text.at += 1
    if text.at[0] == 93:
        text.at += 1
        return found
    while True:
        found.append(_anything(text, depth, naming))
        text.at += 1
        if text.at[-1] == 93:
            return found
        if text.at[-1] != 44:
            raise ValueError("unusual")


cdef dict _members(Reading *text, int depth, bint naming):
    cdef dict found
    cdef Word *key
    cdef object name
    if naming and text.end - text.at > 19 and memcmp(text.at, _STRING, 19) == 0:
        node = _name(text)
        if node is not None:
            return <dict>node
    found = {}
    text.at += 1
    if text.at[0] == 125:
        text.at += 1
        return found
    while True:
        if text.at[0] != 34:
            raise ValueError("unusual")
        text.at += 1
        key = _key(text)
        if key != NULL:
            name = <object>key.text
            found[name] = _anything(text, depth, key.naming)
        else:
            name = _text(text)
            text.at += 1
            if text.at[-1] != 58:
                raise ValueError("unusual")
            found[name] = _anything(text, depth, False)
        text.at += 1
        if text.at[-1] == 125:
            return found
        if text.at[-1] != 44:
            raise ValueError("unusual")


cdef inline Py_ssize_t _word(const char *at, const char *end, uint32_t *hash) noexcept:
    """Bytes up to the closing quote, -1 where that is not near or something stands before it that is not plain ASCII; and their hash."""
    cdef Py_ssize_t size = 0
    cdef uint32_t sum = 2166136261
    cdef unsigned char c
    while size <= LONGEST:
        c = <unsigned char>at[size]
        if c == 34:
            hash[0] = sum
            return size
        if c < 32 or c >= 127 or c == 92:
            return -1
        sum = (sum ^ c) * 16777619
        size += 1
    return -1


cdef Word *_key(Reading *text) except? NULL:
    """A key and the colon behind it, from the table; NULL, and nothing read, for one that has no place there."""
    global _known_keys
    cdef uint32_t hash = 0
    cdef Py_ssize_t size = _word(text.at, text.end, &hash)
    cdef uint32_t place = hash & (KEYS - 1)
    cdef Word *word
    if size < 0 or text.at[size + 1] != 58:
        return NULL
    while _keys[place].text != NULL:
        word = &_keys[place]
        if word.hash == hash and word.size == size and memcmp(word.data, text.at, size) == 0:
            text.at += size + 2
            return word
        place = (place + 1) & (KEYS - 1)
    if _known_keys >= KEYS // 2:
        return NULL
    made = intern(PyUnicode_DecodeUTF8(text.at, size, NULL))
    word = &_keys[place]
    if word.text != NULL:               # filled meanwhile: making a text may run the collector, and that another thread
        return NULL
    word.data = PyUnicode_AsUTF8AndSize(made, &word.size)
    word.hash = hash
    word.naming = made in _NAMING
    Py_INCREF(made)
    word.text = <PyObject *>made
    _known_keys += 1
    text.at += size + 2
    return word


cdef object _name(Reading *text):
    """The node of a name: one that is there already, where the same name stood before. ``None``, and nothing read, for an unusual one."""
    cdef const char *at = text.at + 19
    cdef uint32_t hash = 0
    cdef Py_ssize_t size = _word(at, text.end, &hash)
    if size < 1 or at[size + 1] != 125 or at[size + 2] != 125:
        return None
    text.at = at + size + 3
    return <object>_kept_name(at, size, hash).node


cdef Word *_kept_name(const char *at, Py_ssize_t size, uint32_t hash) except NULL:
    """A name's place in the table, filled; what stands there is to be held before anything else is done."""
    cdef Word *word = &_nodes[hash & (NAMES - 1)]
    cdef Py_ssize_t kept = 0
    cdef PyObject *old_text
    cdef PyObject *old_node
    cdef const char *data
    if word.node != NULL and word.hash == hash and word.size == size and memcmp(word.data, at, size) == 0:
        return word
    made = PyUnicode_DecodeUTF8(at, size, NULL)
    node = {"String": {"sval": made}}
    data = PyUnicode_AsUTF8AndSize(made, &kept)
    Py_INCREF(made)
    Py_INCREF(node)
    old_text, old_node = word.text, word.node
    word.hash, word.size, word.data = hash, kept, data
    word.text, word.node = <PyObject *>made, <PyObject *>node
    Py_XDECREF(old_node)
    Py_XDECREF(old_text)
    return word


cdef object _text(Reading *text):
    """A string behind its opening quote."""
    cdef const char *start = text.at
    cdef const char *at = start
    cdef unsigned char c
    while True:
        c = <unsigned char>at[0]
        if c == 34:
            text.at = at + 1
            return PyUnicode_DecodeUTF8(start, at - start, NULL)
        if c == 92:
            return _escaped(text, at)
        if c < 32:
            raise ValueError("unusual")
        at += 1


cdef object _escaped(Reading *text, const char *at):
    """One with a backslash in it, the first at ``at``: orjson reads it."""
    cdef const char *start = text.at - 1
    while at < text.end and at[0] != 34:
        at += 2 if at[0] == 92 else 1
    if at >= text.end:
        raise ValueError("unusual")
    text.at = at + 1
    return _loads(PyBytes_FromStringAndSize(start, at + 1 - start))


include "_tree.pxi"
