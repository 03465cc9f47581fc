# SPDX-License-Identifier: Apache-2.0
# Part of ``_walk.pyx``: the tree that the parser made, read where it stands in memory, as its JSON would say it.
#
# ``layout.py`` says where what stands, ``rawtree.py`` whether that is so of this library. Nothing is read but what both ways of reading have
# said alike at the start of the process (``_marks``): a field, a kind or a value that was not among it ends the reading with a
# ``ValueError``, and the text is read from JSON.

cdef struct Field:
    PyObject *key
    int form
    int offset
    int mark                            # of an enumeration that of its value 0
    int tag                             # of what a pointer to a structure points to
    int count                           # of an enumeration how many values
    PyObject **names                    # their names, NULL for a value without one
    bint naming


cdef struct Shape:
    PyObject *kind                      # NULL: not known
    int mark
    int count
    Field *fields


cdef struct Climb:
    int depth
    long left                           # how many more nodes
    bint proving


cdef enum Form:
    AS_NODE, AS_LIST, AS_STRUCT, AS_TEXT, AS_LABEL, AS_INT, AS_ENUM, AS_BOOL, AS_UINT, AS_CHAR


cdef enum:
    TAGS = 1024
    MARKS = 4096
    MOST_NODES = 200000
    DEEPEST_NODE = 200                  # levels; deeper trees are read from JSON, which has a bound of its own

cdef enum Mark:
    UNKNOWN_YET, SAID, ALIKE

ctypedef void *(*Enter)() noexcept
ctypedef void (*Leave)(void *) noexcept
ctypedef Answer (*Raw)(const char *, int) noexcept

cdef Enter _enter = NULL
cdef Leave _leave = NULL
cdef Raw _raw = NULL
cdef bint _direct = False
cdef Shape[TAGS] _shapes
cdef char[MARKS] _marks
cdef int _marked = 0
cdef dict _FORMS = {"node": AS_NODE, "list": AS_LIST, "struct": AS_STRUCT, "text": AS_TEXT, "int": AS_INT, "enum": AS_ENUM, "bool": AS_BOOL, "uint": AS_UINT,
                    "char": AS_CHAR}
cdef frozenset _LABELS = frozenset({"relname", "schemaname", "aliasname", "ctename", "ResTarget.name"})
cdef dict _CONSTANTS = {"Integer": "ival", "Float": "fval", "Boolean": "boolval", "String": "sval", "BitString": "bsval"}

# what has code of its own: a list, a constant, a statement
cdef int _list_tag, _list_length, _list_cells, _list_mark, _empty_mark, _string_tag, _string_text
cdef int _constant_tag, _constant_value, _constant_null, _constant_place, _constant_mark, _integer_tag, _integer_value
cdef int _statement_tag, _statement_body, _statement_start, _statement_size, _statement_mark



cdef list _held = []


def bind_tree(uintptr_t enter, uintptr_t leave, uintptr_t raw, dict nodes not None, dict enums not None, dict places not None):
    """The addresses of ``pg_query_enter_memory_context``, ``pg_query_exit_memory_context`` and ``pg_query_raw_parse``, and the tables of
    ``layout``. Once in a process; nothing is read this way before ``direct(True)``. Raises ``RuntimeError``, ``ValueError``."""
    global _enter, _leave, _raw, _list_tag, _list_length, _list_cells, _list_mark, _empty_mark, _string_tag, _string_text
    global _constant_tag, _constant_value, _constant_null, _constant_place, _constant_mark, _integer_tag, _integer_value
    global _statement_tag, _statement_body, _statement_start, _statement_size, _statement_mark
    if _raw != NULL:
        raise RuntimeError("the tree is bound already")
    if sizeof(void *) != 8 or sizeof(int) != 4 or places["size.ListCell"] != 8:
        raise RuntimeError("the layout is one of 64-bit machines")
    _list_length, _list_cells = places["at.List.length"], places["at.List.elements"]
    _constant_value, _constant_null = places["at.A_Const.val"], places["at.A_Const.isnull"]
    _constant_place = places["at.A_Const.location"]
    _statement_tag, _statement_body = places["tag.RawStmt"], places["at.RawStmt.stmt"]
    _statement_start, _statement_size = places["at.RawStmt.stmt_location"], places["at.RawStmt.stmt_len"]
    _list_mark, _empty_mark, _constant_mark, _statement_mark = _new_marks(1), _new_marks(1), _new_marks(2), _new_marks(2)
    for kind, (tag, fields) in nodes.items():
        _bind_shape(kind, tag, fields, nodes, enums)
    _list_tag, _string_tag, _constant_tag, _integer_tag = nodes["List"][0], nodes["String"][0], nodes["A_Const"][0], nodes["Integer"][0]
    _string_text, _integer_value = nodes["String"][1][0][2], nodes["Integer"][1][0][2]
    _enter, _leave, _raw = <Enter>enter, <Leave>leave, <Raw>raw


cdef int _new_marks(int count) except -1:
    """The first of so many places for marks."""
    global _marked
    if count < 0 or _marked + count > MARKS:
        raise ValueError("too many fields")
    _marked += count
    return _marked - count


cdef PyObject *_hold(object text) except NULL:
    found = intern(text)
    _held.append(found)
    return <PyObject *>found


cdef int _bind_shape(str kind, int tag, tuple fields, dict nodes, dict enums) except -1:
    cdef Shape *shape
    cdef Field *field
    cdef int at = 0
    if not 0 < tag < TAGS or _shapes[tag].kind != NULL:
        raise ValueError("a tag is wrong")
    shape = &_shapes[tag]
    shape.mark = _new_marks(1)
    shape.fields = <Field *>calloc(len(fields) + 1, sizeof(Field))
    if shape.fields == NULL:
        raise MemoryError
    for key, form, offset, of in fields:
        field = &shape.fields[at]
        field.key = _hold(key)
        field.form = AS_LABEL if key in _LABELS or f"{kind}.{key}" in _LABELS else _FORMS[form]
        field.offset = offset
        field.naming = key in _NAMING
        field.tag = nodes[of][0] if form == "struct" and of in nodes else 0
        if form == "enum":
            _bind_names(field, enums[of])
        field.mark = _new_marks(max(field.count, 1))
        at += 1
    shape.count = at
    shape.kind = _hold(kind)
    return 0


cdef int _bind_names(Field *field, dict names) except -1:
    field.count = max(names) + 1
    field.names = <PyObject **>calloc(field.count, sizeof(PyObject *))
    if field.names == NULL:
        raise MemoryError
    for value, name in names.items():
        if not 0 <= value < field.count:
            raise ValueError("a value is wrong")
        field.names[<int>value] = _hold(name)
    return 0


def direct(bint on):
    """Whether texts are read this way from now on."""
    global _direct
    if on and _raw == NULL:
        raise RuntimeError("the tree is not bound")
    _direct = on


def is_direct():
    """Whether texts are read this way."""
    return _direct


def alike(bint same):
    """What was read by ``raw_tree(…, True)`` since the last call is what the JSON says, or not."""
    for at in range(_marked):
        if _marks[at] == SAID:
            _marks[at] = ALIKE if same else UNKNOWN_YET


def unproven():
    """Fields, values and kinds that are known, and are never read this way: no statement of the start's check held them."""
    cdef Shape *shape
    cdef Field *field
    found = []
    for tag in range(TAGS):
        shape = &_shapes[tag]
        if shape.kind == NULL:
            continue
        kind = <object>shape.kind
        if _marks[shape.mark] != ALIKE:
            found.append(kind)
        for at in range(shape.count):
            field = &shape.fields[at]
            if field.form != AS_ENUM and _marks[field.mark] != ALIKE:
                found.append(f"{kind}.{<object>field.key}")
            for value in range(field.count):
                if field.names[value] != NULL and _marks[field.mark + value] != ALIKE:
                    found.append(f"{kind}.{<object>field.key}={<object>field.names[value]}")
    return found


def raw_tree(bytes data not None, bint proving=False):
    """The statements of a text without NUL, read from memory; ``None`` where there is something that is not read this way, ``False``
    for a text that does not parse."""
    return _climbed(PyBytes_AsString(data), proving)


cdef object _climbed(const char *data, bint proving):
    cdef Answer answer
    cdef Climb climb
    cdef void *memory
    if _raw == NULL:
        raise RuntimeError("the tree is not bound")
    climb.depth, climb.left, climb.proving = 0, MOST_NODES, proving
    memory = _enter()
    answer = _raw(data, 0)              # an error of the parser comes back as one: it does not jump past here
    try:
        if answer.error != NULL:
            return False
        return _all_statements(answer.parse_tree, &climb)
    except ValueError:
        return None
    finally:
        answer.parse_tree = NULL        # it is the memory's
        _leave(memory)
        _free(answer)


cdef list _all_statements(const char *trees, Climb *climb):
    cdef list found = []
    cdef const char **cells
    cdef const char *statement
    cdef int count, at, number
    cdef dict entry
    if trees == NULL:
        return found
    count = _cells_of(trees, climb, &cells)
    for at in range(count):
        statement = cells[at]
        if statement == NULL or (<const int *>statement)[0] != _statement_tag:
            raise ValueError("no statement")
        entry = {"stmt": _at_node(statement + _statement_body, climb)}
        number = (<const int *>(statement + _statement_start))[0]
        if number:
            _sure(_statement_mark, climb)
            entry["stmt_location"] = number
        number = (<const int *>(statement + _statement_size))[0]
        if number:
            _sure(_statement_mark + 1, climb)
            entry["stmt_len"] = number
        found.append(entry)
    return found


cdef inline int _sure(int mark, Climb *climb) except -1:
    """What stands at a mark was read alike in both ways. Raises ``ValueError``."""
    if _marks[mark] == ALIKE:
        return 0
    if not climb.proving:
        raise ValueError("unproven")
    _marks[mark] = SAID
    return 0


cdef inline int _cells_of(const char *listed, Climb *climb, const char ***cells) except -1:
    """How many cells a list has, and where. Raises ``ValueError`` for a list of numbers, and for one that is too long."""
    cdef int count
    if (<const int *>listed)[0] != _list_tag:
        raise ValueError("no list of nodes")
    count = (<const int *>(listed + _list_length))[0]
    climb.left -= count
    if count < 1 or climb.left < 0:
        raise ValueError("long")
    cells[0] = (<const char ***>(listed + _list_cells))[0]
    if cells[0] == NULL:
        raise ValueError("no cells")
    return count


cdef inline object _at_node(const char *place, Climb *climb):
    """What the pointer at a place points to."""
    cdef const char *node = (<const char **>place)[0]
    if node == NULL:
        raise ValueError("nothing there")
    return _node(node, climb)


cdef dict _node(const char *node, Climb *climb):
    """``{kind: …}``."""
    cdef int tag = (<const int *>node)[0]
    if not 0 < tag < TAGS or _shapes[tag].kind == NULL:
        raise ValueError("unknown")
    return {<object>_shapes[tag].kind: _body(node, tag, climb)}


cdef dict _body(const char *node, int tag, Climb *climb):
    cdef Shape *shape = &_shapes[tag]
    cdef dict found
    if climb.depth >= DEEPEST_NODE:
        raise ValueError("deep")
    _sure(shape.mark, climb)
    if tag == _constant_tag:
        return _constant_body(node, climb)
    climb.depth += 1
    if tag == _list_tag:
        found = {"items": _listed(node, False, climb)}
    else:
        found = _fields(node, shape, climb)
    climb.depth -= 1                    # after an error nothing is read further
    return found


cdef dict _fields(const char *node, Shape *shape, Climb *climb):
    cdef dict found = {}
    cdef Field *field = shape.fields
    cdef Field *end = field + shape.count
    cdef const char *pointed
    cdef const char *at
    cdef int number
    while field < end:
        at = node + field.offset
        if field.form <= AS_LABEL:
            pointed = (<const char **>at)[0]
            if pointed != NULL:
                _sure(field.mark, climb)
                found[<object>field.key] = _pointed(pointed, field, climb)
        elif field.form == AS_INT:
            number = (<const int *>at)[0]
            if number:
                _sure(field.mark, climb)
                found[<object>field.key] = number
        elif field.form == AS_ENUM:
            number = (<const int *>at)[0]
            if not 0 <= number < field.count or field.names[number] == NULL:
                raise ValueError("unknown")
            _sure(field.mark + number, climb)
            found[<object>field.key] = <object>field.names[number]
        elif field.form == AS_BOOL:
            if at[0]:
                _sure(field.mark, climb)
                found[<object>field.key] = True
        elif field.form == AS_UINT:
            if (<const uint32_t *>at)[0]:
                _sure(field.mark, climb)
                found[<object>field.key] = (<const uint32_t *>at)[0]
        elif at[0]:
            _sure(field.mark, climb)
            found[<object>field.key] = PyUnicode_DecodeUTF8(at, 1, NULL)
        field += 1
    return found


cdef object _pointed(const char *pointed, Field *field, Climb *climb):
    if field.form == AS_LIST:
        return _listed(pointed, field.naming, climb)
    if field.form == AS_NODE:
        return _node(pointed, climb)
    if field.form == AS_LABEL:
        return _label(pointed)
    if field.form == AS_TEXT:
        return PyUnicode_DecodeUTF8(pointed, strlen(pointed), NULL)
    if not field.tag or (<const int *>pointed)[0] != field.tag:
        raise ValueError("unknown")
    return _body(pointed, field.tag, climb)


cdef list _listed(const char *listed, bint naming, Climb *climb):
    cdef list found = []
    cdef const char **cells
    cdef const char *cell
    cdef int count = _cells_of(listed, climb, &cells), at
    _sure(_list_mark, climb)
    for at in range(count):
        cell = cells[at]
        if cell == NULL:
            _sure(_empty_mark, climb)
            found.append({})
        elif naming and (<const int *>cell)[0] == _string_tag:
            found.append(_named_node(cell, climb))
        else:
            found.append(_node(cell, climb))
    return found


cdef dict _constant_body(const char *node, Climb *climb):
    cdef dict found = {}
    cdef const char *value = node + _constant_value
    cdef int tag = (<const int *>value)[0], number
    if node[_constant_null]:
        _sure(_constant_mark, climb)
        found["isnull"] = True
    elif tag == _integer_tag:
        number = (<const int *>(value + _integer_value))[0]
        _sure(_shapes[tag].mark, climb)
        found["ival"] = {"ival": number} if number else {}
    else:
        if not 0 < tag < TAGS or _shapes[tag].kind == NULL:
            raise ValueError("unknown")
        found[_CONSTANTS[<object>_shapes[tag].kind]] = _body(value, tag, climb)
    number = (<const int *>(node + _constant_place))[0]
    if number:
        _sure(_constant_mark + 1, climb)
        found["location"] = number
    return found


# names: the same objects again, as the reader of JSON has them


cdef inline Py_ssize_t _letters(const char *at, uint32_t *hash) noexcept:
    """The size of a short plain text and its hash, as ``_word`` has them; -1 for another."""
    cdef Py_ssize_t size = 0
    cdef uint32_t sum = 2166136261
    cdef unsigned char c
    while size <= LONGEST:
        c = <unsigned char>at[size]
        if c == 0:
            hash[0] = sum
            return size
        if c < 32 or c >= 127 or c == 92 or c == 34:
            return -1
        sum = (sum ^ c) * 16777619
        size += 1
    return -1


cdef dict _named_node(const char *node, Climb *climb):
    cdef const char *text = (<const char **>(node + _string_text))[0]
    cdef uint32_t hash = 0
    cdef Py_ssize_t size
    _sure(_shapes[_string_tag].mark, climb)
    if text == NULL:
        raise ValueError("nothing there")
    size = _letters(text, &hash)
    if size < 1:
        return _node(node, climb)
    return <dict><object>_kept_name(text, size, hash).node


cdef object _label(const char *text):
    cdef uint32_t hash = 0
    cdef Py_ssize_t size = _letters(text, &hash)
    if size < 1:
        return PyUnicode_DecodeUTF8(text, strlen(text), NULL)
    return <object>_kept_name(text, size, hash).text
