# cython: language_level=3
"""Compiled twin of the codec and the pump; ``_speedups_py`` is the specification.

Every C signature and attribute stands in ``_speedups.pxd``, the typed public face
in ``_speedups.pyi``. Docstrings here are short; the contracts are the pure twin's.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.number cimport PyNumber_Index
from libc.string cimport memcpy, memmove, strcmp

import os

from fastws import _consts
from fastws._consts import FrameHeader
from fastws.exceptions import RemoteProtocolError

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Blocks of eight words that are all loaded before the first is stored: any
       alignment, dst may lie below src, and compilers use vector registers. An
       array in place of the eight names would be written to the stack as well. */
    #define FWS_EIGHT(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
    #define FWS_LOAD(k) uint64_t w##k; memcpy(&w##k, src + 8 * k, 8);
    #define FWS_STORE(k) w##k ^= word; memcpy(dst + 8 * k, &w##k, 8);
    #define FWS_SEE(k) memcpy(&word, p + i + 8 * k, 8); seen |= word;

    static void fws_xor(unsigned char *dst, const unsigned char *src, Py_ssize_t n,
                        const unsigned char *key, int phase) {
        unsigned char pattern[8];
        uint64_t word;
        Py_ssize_t i;
        for (i = 0; i < 8; i++) pattern[i] = key[(phase + i) & 3];
        memcpy(&word, pattern, 8);
        for (; n >= 64; n -= 64, src += 64, dst += 64) {
            FWS_EIGHT(FWS_LOAD)
            FWS_EIGHT(FWS_STORE)
        }
        for (; n >= 8; n -= 8, src += 8, dst += 8) {
            FWS_LOAD(0)
            FWS_STORE(0)
        }
        for (i = 0; i < n; i++) dst[i] = (unsigned char)(src[i] ^ pattern[i]);
    }

    /* How many bytes from p are ASCII. */
    static Py_ssize_t fws_ascii(const unsigned char *p, Py_ssize_t n) {
        const uint64_t high = UINT64_C(0x8080808080808080);
        Py_ssize_t i = 0;
        uint64_t word, seen;
        for (; n - i >= 64; i += 64) {
            seen = 0;
            FWS_EIGHT(FWS_SEE)
            if (seen & high) break;
        }
        for (; n - i >= 8; i += 8) {
            memcpy(&word, p + i, 8);
            if (word & high) break;
        }
        while (i < n && p[i] < 0x80) i++;
        return i;
    }
    """
    void fws_xor(
        unsigned char* dst,
        const unsigned char* src,
        Py_ssize_t n,
        const unsigned char* key,
        int phase,
    ) noexcept nogil
    Py_ssize_t fws_ascii(const unsigned char* p, Py_ssize_t n) noexcept nogil

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX
    # With NULL a number out of range is clipped, so that our own check refuses it.
    Py_ssize_t PyNumber_AsSsize_t(object number, void* error) except? -1

cdef int FIN = _consts.FIN
cdef int MASK = _consts.MASK
cdef int RSV1 = _consts.RSV1
cdef int RSV_MASK = _consts.RSV_MASK
cdef int OPCODE_MASK = _consts.OPCODE_MASK
cdef int LENGTH_MASK = _consts.LENGTH_MASK
cdef int OP_CONT = _consts.OP_CONT
cdef int OP_BINARY = _consts.OP_BINARY
cdef int OP_CLOSE = _consts.OP_CLOSE
cdef int OP_PONG = _consts.OP_PONG
cdef int MAX_CONTROL_PAYLOAD = _consts.MAX_CONTROL_PAYLOAD
cdef int FRAME_START = _consts.FRAME_START
cdef int FRAME_END = _consts.FRAME_END
cdef int MESSAGE_END = _consts.MESSAGE_END
cdef int PART_RSV1 = _consts.PART_RSV1
cdef int PACKED_SHIFT = _consts.PACKED_SHIFT
cdef unsigned long long PACKED_EXTRA = _consts.PACKED_EXTRA
cdef int PROTOCOL_ERROR = _consts.CLOSE_PROTOCOL_ERROR
cdef int TOO_BIG = _consts.CLOSE_TOO_BIG

cdef unsigned long long NO_LIMIT = <unsigned long long> -1
cdef unsigned long long TOP_BIT = 1ULL << 63
cdef Py_ssize_t KEY_BLOCK = 4096
cdef Py_ssize_t MIN_STORE = 64
cdef unsigned long forks = 0

__all__ = (
    "BinaryMut",
    "CopyEnd",
    "FrameDecoder",
    "FrameHeader",
    "MaskKeys",
    "MessageEnd",
    "MessagePool",
    "Scratch",
    "Unpacker",
    "Utf8Validator",
    "apply_mask",
    "decode_header",
    "default_keys",
    "encode_frame",
    "write_header",
)


# ------------------------------------------------------------------ arguments


cdef object byte_view(object buf, bint writable):
    """A memoryview of plain bytes; raises what the pure twin raises."""
    cdef object view = PyMemoryView_FromObject(buf)
    cdef Py_buffer* info = PyMemoryView_GET_BUFFER(view)
    if writable and info.readonly:
        raise BufferError("the buffer is read-only")
    if not PyBuffer_IsContiguous(info, c"C"):
        raise BufferError("the buffer is not contiguous")
    if info.ndim == 1 and info.format != NULL and strcmp(info.format, b"B") == 0:
        return view
    return view.cast("B")


cdef int acquire(object buf, Py_buffer* view, bint writable) except -1:
    try:
        PyObject_GetBuffer(buf, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    except (BufferError, TypeError):
        byte_view(buf, writable)
        raise
    return 0


cdef bytes mask_key(object key):
    if type(key) is not bytes:
        key = bytes(byte_view(key, False))
    if len(key) != 4:
        raise ValueError("a masking key is exactly 4 bytes")
    return key


cdef int first_byte(object opcode, bint fin, object rsv) except -1:
    cdef Py_ssize_t op = PyNumber_AsSsize_t(opcode, NULL)
    cdef Py_ssize_t bits
    if not 0 <= op <= 15:
        raise ValueError("opcode must be in 0..15")
    bits = PyNumber_AsSsize_t(rsv, NULL)
    if bits & ~RSV_MASK:
        raise ValueError("rsv may only hold the bits 0x70")
    return (FIN if fin else 0) | <int> bits | <int> op


# ---------------------------------------------------------------- apply_mask


cdef void xor_mask(
    unsigned char* dst,
    const unsigned char* src,
    Py_ssize_t n,
    const unsigned char* key,
    int phase,
) noexcept nogil:
    fws_xor(dst, src, n, key, phase)


def apply_mask(buf, key, phase=0):
    """XOR ``buf`` in place with a masking key; returns the next phase."""
    cdef bytes four = mask_key(key)
    cdef Py_ssize_t first = PyNumber_AsSsize_t(phase, NULL)
    cdef Py_ssize_t n
    cdef Py_buffer view
    if not 0 <= first <= 3:
        raise ValueError("phase must be in 0..3")
    acquire(buf, &view, True)
    n = view.len
    xor_mask(
        <unsigned char*> view.buf,
        <unsigned char*> view.buf,
        n,
        <const unsigned char*> PyBytes_AS_STRING(four),
        <int> first,
    )
    PyBuffer_Release(&view)
    return (first + (n & 3)) & 3


def _forget_keys():
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_keys)


@cython.final
cdef class MaskKeys:
    """Fresh, unpredictable masking keys, drawn in blocks; one per frame."""

    def __cinit__(self, source=None):
        self.source = os.urandom if source is None else source
        self.block = None
        self.at = NULL
        self.left = 0
        self.generation = forks

    def __call__(self):
        return PyBytes_FromStringAndSize(<const char*> self.next_key(), 4)

    cdef const unsigned char* next_key(self) except NULL:
        cdef const unsigned char* key
        if self.left < 4 or self.generation != forks:
            self.refill()
        key = self.at
        self.at += 4
        self.left -= 4
        return key

    cdef int refill(self) except -1:
        block = self.source(KEY_BLOCK)
        if type(block) is not bytes or len(block) != KEY_BLOCK:
            raise ValueError(f"a key source must return {KEY_BLOCK} bytes")
        self.block = <bytes> block
        self.at = <const unsigned char*> PyBytes_AS_STRING(block)
        self.left = KEY_BLOCK
        self.generation = forks
        return 0


cdef MaskKeys shared_keys = None


def default_keys():
    """The instance that everything in this process shares, made at first use."""
    global shared_keys
    if shared_keys is None:
        shared_keys = MaskKeys()
    return shared_keys


# ------------------------------------------------------------- header, frame


cdef int put_header(
    unsigned char* out,
    int b0,
    unsigned long long length,
    const unsigned char* key,
) noexcept nogil:
    cdef int size = 2
    cdef int masked = 0 if key == NULL else MASK
    cdef int shift
    out[0] = <unsigned char> b0
    if length < 126:
        out[1] = <unsigned char> (masked | <int> length)
    elif length < 65536:
        out[1] = <unsigned char> (masked | 126)
        out[2] = <unsigned char> (length >> 8)
        out[3] = <unsigned char> (length & 0xFF)
        size = 4
    else:
        out[1] = <unsigned char> (masked | 127)
        for shift in range(8):
            out[2 + shift] = <unsigned char> ((length >> (56 - 8 * shift)) & 0xFF)
        size = 10
    if key != NULL:
        memcpy(out + size, key, 4)
        size += 4
    return size


def write_header(buf, offset, opcode, length, *, fin=True, rsv=0, key=None):
    """Write a frame header at ``buf[offset:]``; returns its size."""
    cdef int b0 = first_byte(opcode, fin, rsv)
    cdef const unsigned char* four = NULL
    cdef Py_ssize_t start
    cdef int size
    cdef Py_buffer view
    length = PyNumber_Index(length)
    if length < 0 or length >= TOP_BIT:
        raise ValueError("length must be in 0..2**63-1")
    if key is not None:
        key = mask_key(key)
        four = <const unsigned char*> PyBytes_AS_STRING(key)
    start = PyNumber_AsSsize_t(offset, NULL)
    size = header_size(length, four != NULL)
    acquire(buf, &view, True)
    if start < 0 or view.len - start < size:
        PyBuffer_Release(&view)
        raise ValueError(f"a header of {size} bytes does not fit at {offset}")
    put_header(<unsigned char*> view.buf + start, b0, length, four)
    PyBuffer_Release(&view)
    return size


def encode_frame(opcode, payload, *, fin=True, rsv=0, key=None):
    """One frame, header and payload, as new bytes; masked if there is a key."""
    cdef int b0 = first_byte(opcode, fin, rsv)
    cdef const unsigned char* four = NULL
    cdef unsigned char* out
    cdef bytes frame
    cdef int size
    cdef Py_buffer view
    if key is not None:
        key = mask_key(key)
        four = <const unsigned char*> PyBytes_AS_STRING(key)
    acquire(payload, &view, False)
    try:
        size = header_size(view.len, four != NULL)
        frame = PyBytes_FromStringAndSize(NULL, size + view.len)
        out = <unsigned char*> PyBytes_AS_STRING(frame)
        put_header(out, b0, view.len, four)
        if four == NULL:
            memcpy(out + size, view.buf, view.len)
        else:
            xor_mask(out + size, <unsigned char*> view.buf, view.len, four, 0)
    finally:
        PyBuffer_Release(&view)
    return frame


cdef inline int whole_header(int b1) noexcept nogil:
    """Header bytes that a frame with this second byte has."""
    cdef int code = b1 & LENGTH_MASK
    cdef int size = 2 if code < 126 else 4 if code == 126 else 10
    return size + 4 if b1 & MASK else size


cdef inline unsigned long long read_length(const unsigned char* h) noexcept nogil:
    cdef int code = h[1] & LENGTH_MASK
    cdef unsigned long long length = 0
    cdef int i
    if code < 126:
        return code
    for i in range(2, 4 if code == 126 else 10):
        length = length << 8 | h[i]
    return length


def decode_header(buf):
    """Read one header without any check; ``None`` while it is incomplete."""
    cdef Py_buffer view
    cdef const unsigned char* h
    cdef int size
    acquire(buf, &view, False)
    try:
        h = <const unsigned char*> view.buf
        if view.len < 2:
            return None
        size = whole_header(h[1])
        if view.len < size:
            return None
        return FrameHeader(
            bool(h[0] & FIN),
            h[0] & RSV_MASK,
            h[0] & OPCODE_MASK,
            h[size - 4:size] if h[1] & MASK else None,
            read_length(h),
            size,
        )
    finally:
        PyBuffer_Release(&view)


# --------------------------------------------------------------------- utf-8


@cython.final
cdef class Utf8Validator:
    """Incremental check that text is UTF-8; fails at the first wrong byte."""

    @property
    def complete(self):
        """Nothing was wrong and no character is unfinished."""
        return not self.has_failed and self.need == 0

    def feed(self, buf):
        """Check the next bytes; ``False`` from the first wrong byte on."""
        cdef Py_buffer view
        cdef bint valid
        acquire(buf, &view, False)
        valid = self.feed_raw(<const unsigned char*> view.buf, view.len)
        PyBuffer_Release(&view)
        return valid

    cdef bint feed_raw(self, const unsigned char* p, Py_ssize_t n) noexcept nogil:
        # RFC 3629 section 4, as bounds for the second byte of each sequence.
        cdef Py_ssize_t i = 0
        cdef unsigned char c
        if self.has_failed:
            return False
        while i < n:
            c = p[i]
            if self.need:
                if c < self.low or c > self.high:
                    self.has_failed = True
                    return False
                self.need -= 1
                self.low = 0x80
                self.high = 0xBF
            elif c < 0x80:
                i += fws_ascii(p + i, n - i)
                continue
            elif c < 0xC2 or c > 0xF4:
                self.has_failed = True
                return False
            else:
                self.need = 1 if c < 0xE0 else 2 if c < 0xF0 else 3
                self.low = 0xA0 if c == 0xE0 else 0x90 if c == 0xF0 else 0x80
                self.high = 0x9F if c == 0xED else 0x8F if c == 0xF4 else 0xBF
            i += 1
        return True


# ------------------------------------------------------------- FrameDecoder


cdef unsigned long long size_limit(str name, object value) except? 0:
    if value is None:
        return NO_LIMIT
    value = PyNumber_Index(value)
    if value < 0:
        raise ValueError(f"{name} must be None or at least 0")
    return NO_LIMIT if value >= TOP_BIT else <unsigned long long> value


@cython.final
cdef class FrameDecoder:
    """Resumable frame decoder; see the pure twin for the rules it enforces."""

    def __cinit__(self, side, *, max_payload=None, max_message=None, rsv=0):
        cdef Py_ssize_t ours = PyNumber_AsSsize_t(side, NULL)
        if not 0 <= ours <= 1:
            raise ValueError("side must be Side.CLIENT or Side.SERVER")
        self.error = None
        self.expects_mask = ours == 1
        self.max_payload = size_limit("max_payload", max_payload)
        self.max_message = size_limit("max_message", max_message)
        self.rsv = first_byte(0, False, rsv)

    @property
    def in_message(self):
        """A fragmented or partly received data message is open."""
        return self.message_opcode != 0

    @property
    def at_boundary(self):
        """No frame is partly received and no error was found."""
        return self.error is None and self.have == 0 and not self.in_frame

    def receive_data(self, buf):
        """Decode ``buf``: a list of (opcode, payload, flags) parts."""
        cdef object view = byte_view(buf, self.expects_mask)
        cdef unsigned char* p = <unsigned char*> PyMemoryView_GET_BUFFER(view).buf
        cdef Py_ssize_t n = PyMemoryView_GET_BUFFER(view).len
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t used, start
        cdef Part part
        parts = []
        while at < n:
            used = self.step(p + at, n - at, NULL, &part)
            if used < 0:
                break
            at += used
            if part.opcode < 0:
                continue
            if part.opcode >= OP_CLOSE:
                payload = PyBytes_FromStringAndSize(<char*> part.start, part.length)
            else:
                start = part.start - p
                payload = view[start:start + part.length]
            parts.append((part.opcode, payload, part.flags))
        return parts

    cdef Py_ssize_t step(
        self, unsigned char* p, Py_ssize_t n, unsigned char* dst, Part* part
    ) except -2:
        """Consume 1..n bytes, deliver at most one part; -1 after an error."""
        cdef Py_ssize_t used = 0
        part.opcode = -1
        part.flags = 0
        part.start = NULL
        part.length = 0
        if self.error is not None:
            return -1
        if n <= 0 or self.is_closed:
            return n
        if not self.in_frame:
            used = self.read_header(p, n)
            if not self.in_frame or (used == n and self.remaining):
                return used
        if self.opcode >= OP_CLOSE:
            return used + self.take_control(p + used, n - used, part)
        return used + self.take_data(p + used, n - used, dst, part)

    cdef Py_ssize_t read_header(self, const unsigned char* p, Py_ssize_t n) except -2:
        cdef Py_ssize_t used = 0
        cdef int size
        if self.have == 0 and n >= 2:
            size = whole_header(p[1])
            if n >= size:
                if self.check_start(p[0], p[1]) or self.start_frame(p, size):
                    return -1
                return size
        while self.have < 2:
            if used == n:
                return used
            self.header[self.have] = p[used]
            self.have += 1
            used += 1
            if self.have == 2 and self.check_start(self.header[0], self.header[1]):
                return -1
        size = whole_header(self.header[1])
        while self.have < size:
            if used == n:
                return used
            self.header[self.have] = p[used]
            self.have += 1
            used += 1
        self.have = 0
        return -1 if self.start_frame(self.header, size) else used

    cdef bint check_start(self, int b0, int b1) except -1:
        """Check the first two bytes (RFC 6455 sections 5.1, 5.2, 5.4, 5.5)."""
        cdef int opcode = b0 & OPCODE_MASK
        cdef int bits = b0 & RSV_MASK & ~self.rsv
        if bits:
            return self.fail(
                f"reserved bits 0x{bits:02x} are set without an extension",
                PROTOCOL_ERROR,
            )
        if OP_BINARY < opcode < OP_CLOSE or opcode > OP_PONG:
            return self.fail(f"opcode 0x{opcode:x} is reserved", PROTOCOL_ERROR)
        if self.expects_mask and not b1 & MASK:
            return self.fail("a frame from a client is not masked", PROTOCOL_ERROR)
        if not self.expects_mask and b1 & MASK:
            return self.fail("a frame from a server is masked", PROTOCOL_ERROR)
        if opcode >= OP_CLOSE:
            if not b0 & FIN:
                return self.fail("a control frame is fragmented", PROTOCOL_ERROR)
            if b1 & LENGTH_MASK > MAX_CONTROL_PAYLOAD:
                return self.fail(
                    "a control frame has more than 125 bytes", PROTOCOL_ERROR
                )
            if b0 & RSV1:
                return self.fail("RSV1 is set on a control frame", PROTOCOL_ERROR)
        elif opcode == OP_CONT:
            if not self.message_opcode:
                return self.fail(
                    "a continuation frame has no message to continue", PROTOCOL_ERROR
                )
            if b0 & RSV1:
                return self.fail("RSV1 is set on a continuation frame", PROTOCOL_ERROR)
        elif self.message_opcode:
            return self.fail(
                "a new message starts inside a fragmented message", PROTOCOL_ERROR
            )
        return False

    cdef bint start_frame(self, const unsigned char* header, int size) except -1:
        """Check the length, then begin the frame."""
        cdef unsigned long long length = read_length(header)
        cdef unsigned long long counted = length
        cdef int opcode = header[0] & OPCODE_MASK
        if length >= TOP_BIT:
            return self.fail("a 64-bit length has its top bit set", PROTOCOL_ERROR)
        if header_size(length, header[1] & MASK != 0) != size:
            return self.fail(
                f"length {length} is not in its shortest form", PROTOCOL_ERROR
            )
        if opcode < OP_CLOSE:
            if length > self.max_payload:
                return self.fail(
                    f"a frame of {length} bytes exceeds {self.max_payload}", TOO_BIG
                )
            if opcode != OP_CONT:
                self.message_flags = PART_RSV1 if header[0] & RSV1 else 0
            if self.max_message != NO_LIMIT:
                if self.message_flags & PART_RSV1:
                    counted -= length >> PACKED_SHIFT
                    counted -= min(counted, PACKED_EXTRA)
                if counted > self.max_message - self.message_size:
                    return self.fail(
                        f"a message of {self.message_size + counted} bytes or more"
                        f" exceeds {self.max_message}",
                        TOO_BIG,
                    )
                self.message_size += counted
            if opcode != OP_CONT:
                self.message_opcode = opcode
        if header[1] & MASK:
            memcpy(self.key, header + size - 4, 4)
        self.opcode = opcode
        self.fin = header[0] & FIN != 0
        self.remaining = length
        self.phase = 0
        self.control_size = 0
        self.is_started = False
        self.in_frame = True
        return False

    cdef bint fail(self, str reason, int close_code) except -1:
        self.error = RemoteProtocolError(reason, close_code=close_code)
        return True

    cdef Py_ssize_t take_data(
        self, unsigned char* p, Py_ssize_t n, unsigned char* dst, Part* part
    ) noexcept nogil:
        if self.remaining < <unsigned long long> n:
            n = <Py_ssize_t> self.remaining
        part.opcode = self.message_opcode
        part.flags = self.message_flags
        part.start = p
        part.length = n
        if self.expects_mask:
            if dst != NULL:
                part.start = dst
            xor_mask(part.start, p, n, self.key, self.phase)
            self.phase = (self.phase + <int> (n & 3)) & 3
        if not self.is_started:
            self.is_started = True
            part.flags |= FRAME_START
        self.remaining -= n
        if self.remaining == 0:
            self.in_frame = False
            part.flags |= FRAME_END
            if self.fin:
                part.flags |= MESSAGE_END
                self.message_opcode = 0
                self.message_size = 0
        return n

    cdef Py_ssize_t take_control(
        self, const unsigned char* p, Py_ssize_t n, Part* part
    ) noexcept nogil:
        if self.remaining < <unsigned long long> n:
            n = <Py_ssize_t> self.remaining
        memcpy(self.control + self.control_size, p, n)
        self.control_size += <int> n
        self.remaining -= n
        if self.remaining:
            return n
        if self.expects_mask:
            xor_mask(self.control, self.control, self.control_size, self.key, 0)
        self.in_frame = False
        self.is_closed = self.opcode == OP_CLOSE
        part.opcode = self.opcode
        part.flags = FRAME_START | FRAME_END | MESSAGE_END
        part.start = self.control
        part.length = self.control_size
        return n


# ---------------------------------------------------------------- BinaryMut


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class Store:
    """The memory of one or more BinaryMut; counts the views onto it."""

    def __cinit__(self, Py_ssize_t size):
        self.memory = <unsigned char*> PyMem_RawMalloc(size if size else 1)
        if self.memory == NULL:
            raise MemoryError()
        self.size = size
        self.views = 0
        self.window = 0
        self.window_size = 0

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(
            view, self, self.memory + self.window, self.window_size, 0, flags
        )
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.views -= 1


# What an empty BinaryMut has.
cdef Store nothing = Store.__new__(Store, 0)


@cython.final
@cython.freelist(16)
cdef class BinaryMut:
    """A growable byte queue whose parts can be viewed and split without a copy."""

    def __cinit__(self, capacity=0):
        cdef Py_ssize_t size = PyNumber_AsSsize_t(capacity, NULL)
        if size < 0:
            raise ValueError("capacity must be at least 0")
        self.store = Store.__new__(Store, size) if size else nothing
        self.base = self.head = self.tail = 0
        self.limit = size

    def __len__(self):
        return self.tail - self.head

    def __repr__(self):
        size = self.tail - self.head
        return f"<BinaryMut {size} bytes, room for {self.limit - self.tail}>"

    def __bytes__(self):
        return PyBytes_FromStringAndSize(
            <char*> self.store.memory + self.head, self.tail - self.head
        )

    def __getbuffer__(self, Py_buffer* view, int flags):
        # The store is the exporter: it outlives us and counts the views.
        PyBuffer_FillInfo(
            view,
            self.store,
            self.store.memory + self.head,
            self.tail - self.head,
            0,
            flags,
        )
        self.store.views += 1

    @property
    def spare(self):
        """Bytes that can be added without growing."""
        return self.limit - self.tail

    def chunk(self):
        """The readable bytes, viewed."""
        return self.export(self.head, self.tail - self.head)

    def advance(self, n):
        """Drop the first ``n`` readable bytes."""
        cdef Py_ssize_t size = PyNumber_AsSsize_t(n, NULL)
        if not 0 <= size <= self.tail - self.head:
            raise ValueError(f"advance needs 0..{self.tail - self.head} bytes")
        self.head += size

    def chunk_mut(self, n):
        """All spare bytes, viewed for writing; at least ``n`` of them."""
        self.reserve(n)
        return self.export(self.tail, self.limit - self.tail)

    def advance_mut(self, n):
        """Make the first ``n`` spare bytes readable."""
        cdef Py_ssize_t size = PyNumber_AsSsize_t(n, NULL)
        if not 0 <= size <= self.limit - self.tail:
            raise ValueError(f"advance_mut needs 0..{self.limit - self.tail} bytes")
        self.tail += size

    def reserve(self, n):
        """Make room for ``n`` more bytes."""
        cdef Py_ssize_t size = PyNumber_AsSsize_t(n, NULL)
        if size < 0:
            raise ValueError("reserve needs at least 0 bytes")
        self.spare_for(size)

    def split_to(self, n):
        """Move the first ``n`` readable bytes into a BinaryMut of their own."""
        cdef Py_ssize_t size = PyNumber_AsSsize_t(n, NULL)
        cdef BinaryMut front
        if not 0 <= size <= self.tail - self.head:
            raise ValueError(f"split_to needs 0..{self.tail - self.head} bytes")
        front = BinaryMut.__new__(BinaryMut)
        front.store = self.store
        front.base = self.base
        front.head = self.head
        self.head += size
        self.base = front.tail = front.limit = self.head
        return front

    def clear(self):
        """Drop every readable byte; memory is kept."""
        self.head = self.tail

    def extend(self, data):
        """Append a copy of ``data``."""
        cdef Py_buffer view
        acquire(data, &view, False)
        try:
            memmove(self.spare_for(view.len), view.buf, view.len)
            self.tail += view.len
        finally:
            PyBuffer_Release(&view)

    cdef unsigned char* spare_for(self, Py_ssize_t n) except NULL:
        """At least ``n`` spare bytes; see the pure twin for when memory is reused."""
        cdef Py_ssize_t size = self.tail - self.head
        cdef Py_ssize_t capacity = self.limit - self.base
        cdef Store old = self.store
        if n <= self.limit - self.tail:
            return old.memory + self.tail
        if n > PY_SSIZE_T_MAX - size:
            raise MemoryError()
        if size + n > capacity or self.head - self.base < size:
            capacity = max(MIN_STORE, size + n, 2 * capacity)
        elif old.views == 0:
            memmove(old.memory + self.base, old.memory + self.head, size)
            self.head = self.base
            self.tail = self.base + size
            return old.memory + self.tail
        self.store = Store.__new__(Store, capacity)
        memcpy(self.store.memory, old.memory + self.head, size)
        self.base = self.head = 0
        self.tail = size
        self.limit = capacity
        return self.store.memory + size

    cdef object export(self, Py_ssize_t start, Py_ssize_t size):
        self.store.window = start
        self.store.window_size = size
        return PyMemoryView_FromObject(self.store)


include "_copyloop.pxi"
include "_messages.pxi"
include "_unpack.pxi"
