# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled twin of how ``files.LogFile`` appends a batch: compressed and committed with the interpreter let go of once, not four times.

SQLite is apsw's own, reached as its loadable extensions reach it: this library is loaded into the connection as one
(https://sqlite.org/loadext.html) and keeps the table of functions that it is given. Their places in it are fixed: SQLite only ever adds at
its end. zstd is the system's library; where there is none, zstandard compresses.
"""

from cpython.bytes cimport PyBytes_AsStringAndSize
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

import apsw

cdef extern from *:
    """
    #include <dlfcn.h>
    #include <stddef.h>

    enum { SLOT_BIND_INT64 = 5, SLOT_ERRMSG = 53, SLOT_FINALIZE = 57, SLOT_LIBVERSION = 66, SLOT_RESET = 77, SLOT_STEP = 94,
           SLOT_PREPARE_V2 = 116, SLOT_EXTENDED_ERRCODE = 166, SLOT_BIND_BLOB64 = 193 };

    static void *const *lockgate_slots = NULL;

    __attribute__((visibility("default"))) int sqlite3_lockgate_init(void *db, char **error, void *const *slots) {
        (void)db; (void)error;
        lockgate_slots = slots;
        return 256;                     /* SQLITE_OK_LOAD_PERMANENTLY */
    }

    static int lockgate_raised(void) { return PyErr_Occurred() != NULL; }
    static int lockgate_has_slots(void) { return lockgate_slots != NULL; }
    static const char *db_version(void) { return ((const char *(*)(void))lockgate_slots[SLOT_LIBVERSION])(); }
    static const char *db_message(void *db) { return ((const char *(*)(void *))lockgate_slots[SLOT_ERRMSG])(db); }
    static int db_code(void *db) { return ((int (*)(void *))lockgate_slots[SLOT_EXTENDED_ERRCODE])(db); }
    static int db_prepare(void *db, const char *sql, void **row) {
        return ((int (*)(void *, const char *, int, void **, const char **))lockgate_slots[SLOT_PREPARE_V2])(db, sql, -1, row, NULL);
    }
    static int db_finalize(void *row) { return ((int (*)(void *))lockgate_slots[SLOT_FINALIZE])(row); }
    static int db_integer(void *row, int place, long long value) {
        return ((int (*)(void *, int, long long))lockgate_slots[SLOT_BIND_INT64])(row, place, value);
    }
    static int db_blob(void *row, int place, const void *data, size_t size) {
        return ((int (*)(void *, int, const void *, unsigned long long, void (*)(void *)))lockgate_slots[SLOT_BIND_BLOB64])(
            row, place, data, size, NULL);
    }
    static int db_step(void *row) { return ((int (*)(void *))lockgate_slots[SLOT_STEP])(row); }
    static int db_reset(void *row) { return ((int (*)(void *))lockgate_slots[SLOT_RESET])(row); }

    typedef size_t (*lockgate_compress)(void *, void *, size_t, const void *, size_t, int);
    typedef size_t (*lockgate_bound)(size_t);
    typedef unsigned (*lockgate_is_error)(size_t);
    typedef void *(*lockgate_create)(void);
    typedef size_t (*lockgate_drop)(void *);

    static lockgate_compress zstd_compress = NULL;
    static lockgate_bound zstd_bound = NULL;
    static lockgate_is_error zstd_failed = NULL;
    static lockgate_create zstd_create = NULL;
    static lockgate_drop zstd_drop = NULL;

    static int zstd_load(const char *name) {
        void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            return 0;
        zstd_compress = (lockgate_compress)dlsym(library, "ZSTD_compressCCtx");
        zstd_bound = (lockgate_bound)dlsym(library, "ZSTD_compressBound");
        zstd_failed = (lockgate_is_error)dlsym(library, "ZSTD_isError");
        zstd_create = (lockgate_create)dlsym(library, "ZSTD_createCCtx");
        zstd_drop = (lockgate_drop)dlsym(library, "ZSTD_freeCCtx");
        return zstd_compress && zstd_bound && zstd_failed && zstd_create && zstd_drop;
    }
    """
    int lockgate_has_slots() noexcept
    const char* db_version() noexcept nogil
    const char* db_message(void* db) noexcept nogil
    int db_code(void* db) noexcept nogil
    int db_prepare(void* db, const char* sql, void** row) noexcept nogil
    int db_finalize(void* row) noexcept nogil
    int db_integer(void* row, int place, long long value) noexcept nogil
    int db_blob(void* row, int place, const void* data, size_t size) noexcept nogil
    int db_step(void* row) noexcept nogil
    int db_reset(void* row) noexcept nogil
    size_t zstd_compress(void* context, void* to, size_t room, const void* data, size_t size, int level) noexcept nogil
    size_t zstd_bound(size_t size) noexcept nogil
    unsigned int zstd_failed(size_t code) noexcept nogil
    void* zstd_create() noexcept nogil
    size_t zstd_drop(void* context) noexcept nogil
    int zstd_load(const char* name) noexcept
    int lockgate_raised() noexcept

cdef enum:
    OK = 0
    DONE = 101
    LEVEL = 1
    KEPT = 1024 * 1024                  # bytes of the room for compressed batches that are kept between them

SYSTEM_ZSTD = bool(zstd_load(b"libzstd.so.1"))
"""Whether batches are compressed by the system's library."""


cdef int _passed() except -1:
    """What a VFS written in Python raised meanwhile is raised here."""
    return -1 if lockgate_raised() else 0


cdef class Appender:
    """The INSERT of batches, prepared on one connection; for the thread that has the connection, and to be closed before it."""

    cdef void* _db
    cdef void* _row
    cdef void* _context
    cdef char* _room
    cdef size_t _size
    cdef object _compress

    def __init__(self, connection, compress, bint system=True):
        """``connection`` is apsw's, with the table ``batch``; ``compress`` is what to compress with where there is no ``system`` library.

        Raises ``apsw.Error``; ``RuntimeError`` where SQLite cannot be reached."""
        connection.enable_load_extension(True)
        try:
            connection.load_extension(__file__, "sqlite3_lockgate_init")
        finally:
            connection.enable_load_extension(False)
        if not lockgate_has_slots() or db_version() != (<str?>apsw.sqlite_lib_version()).encode():
            raise RuntimeError("another SQLite than apsw's")
        self._compress = compress
        self._db = <void*><uintptr_t>connection.sqlite3_pointer()
        if db_prepare(self._db, b"INSERT INTO batch VALUES (?, ?, ?)", &self._row) != OK:
            _passed()
            raise self._fault(db_code(self._db))
        if SYSTEM_ZSTD and system:
            self._context = zstd_create()
            if self._context == NULL:
                raise MemoryError

    def __dealloc__(self):
        if self._context != NULL:
            zstd_drop(self._context)
        free(self._room)

    def close(self):
        """Give the statement back."""
        row, self._row = <uintptr_t>self._row, NULL
        if row:
            db_finalize(<void*><uintptr_t>row)

    def append(self, long long first, long long count, bytes data not None):
        """Commit ``data``, the lines of ``count`` records from ``first`` on; on return it is on disk. Gives the bytes of the row.

        Raises ``apsw.Error``, and then nothing is."""
        cdef bytes packed
        cdef char* at
        cdef Py_ssize_t size
        cdef size_t used
        cdef int code
        if self._row == NULL:
            raise RuntimeError("closed")
        if self._context == NULL:
            packed = self._compress(data)
            PyBytes_AsStringAndSize(packed, &at, &size)
            used = <size_t>size
            with nogil:
                code = self._insert(first, count, at, used)
        else:
            PyBytes_AsStringAndSize(data, &at, &size)
            self._make_room(zstd_bound(<size_t>size))
            with nogil:
                used = zstd_compress(self._context, self._room, self._size, at, <size_t>size, LEVEL)
                code = DONE if zstd_failed(used) else self._insert(first, count, self._room, used)
            if zstd_failed(used):
                raise MemoryError
            self._keep_little()
        if code != OK:
            _passed()
            raise self._fault(code)
        _passed()
        return used

    cdef int _insert(self, long long first, long long count, const char* data, size_t size) noexcept nogil:
        cdef int code = db_integer(self._row, 1, first)
        if code == OK:
            code = db_integer(self._row, 2, count)
        if code == OK:
            code = db_blob(self._row, 3, data, size)
        if code != OK:
            return code
        code = db_step(self._row)
        if code == DONE:
            return db_reset(self._row)
        code = db_code(self._db)
        db_reset(self._row)
        return code if code != OK else 1

    cdef int _make_room(self, size_t size) except -1:
        if self._size >= size:
            return 0
        free(self._room)
        self._size = 0
        self._room = <char*>malloc(size)
        if self._room == NULL:
            raise MemoryError
        self._size = size
        return 0

    cdef int _keep_little(self) except -1:
        if self._size > KEPT:
            free(self._room)
            self._room, self._size = NULL, 0
        return 0

    cdef object _fault(self, int code):
        fault = apsw.exception_for(code)
        fault.args = ((<bytes>db_message(self._db)).decode("utf-8", "replace"),)
        return fault
