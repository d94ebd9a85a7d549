# Compressed messages unpacked. The pure twin in _unpack_py.py is the specification.

cdef Py_ssize_t UNPACK_STEP = 1024 * 1024
cdef object UNPACK_STEP_OBJECT = 1024 * 1024
cdef bytes UNPACK_TAIL = b"\x00\x00\xff\xff"
cdef bytes UNPACK_LAST = b"\x03\x00"
cdef int MAX_STREAMS = 256


@cython.final
cdef class Unpacker:
    """Unpacks the messages of one connection (RFC 7692 section 7.2.2)."""

    def __init__(self, new, error, int wbits, bint forgets):
        self.new = new
        self.error = error
        self.wbits = wbits
        self.forgets = forgets
        self.end = UNPACK_TAIL + UNPACK_LAST if forgets else UNPACK_TAIL

    cdef object fresh(self):
        """The next stream."""
        self.inflate = self.new(self.wbits)
        if not self.forgets:
            self.call = self.inflate.decompress
        return self.inflate

    def decompress(self, chunk, bint final, max_size):
        """Return what ``chunk`` unpacks to; see the pure twin."""
        cdef Py_ssize_t limit = PyNumber_AsSsize_t(max_size, NULL)
        cdef Py_ssize_t step = UNPACK_STEP
        cdef object asked = UNPACK_STEP_OBJECT
        cdef bytes out
        if not self.is_inside and not chunk:
            if final:
                raise invalid("an empty payload")  # section 7.2.3.6: one byte
            return b""
        if self.inflate is None:
            self.fresh()
        self.is_inside = not final
        data = self.ended(chunk) if final else chunk
        if limit < UNPACK_STEP:
            step = limit + 1
            asked = step
        try:
            if self.forgets:
                out = self.inflate.decompress(data, asked)
            else:
                out = self.call(data, asked)
            if PyBytes_GET_SIZE(out) < step:
                if not self.inflate.eof:
                    if final and self.forgets:
                        raise invalid("the last block is not complete")
                    return out
                if not self.inflate.unused_data:
                    self.inflate = self.call = None
                    self.is_inside = False
                    return out
            out = self.go_on(out, step, final, limit)
        except self.error as error:
            raise invalid(str(error)) from None
        if self.inflate.eof:  # by the last block, or because the peer ended its stream
            self.inflate = self.call = None
            self.is_inside = False
        elif final and self.forgets:
            raise invalid("the last block is not complete")
        return out

    cdef object ended(self, chunk):
        """The last bytes of a message, and those that were cut off."""
        cdef Py_ssize_t n, m
        cdef bytes data
        cdef char* out
        if type(chunk) is not bytes:
            return b"".join((chunk, self.end))
        n = PyBytes_GET_SIZE(chunk)
        m = PyBytes_GET_SIZE(self.end)
        data = PyBytes_FromStringAndSize(NULL, n + m)
        out = PyBytes_AS_STRING(data)
        memcpy(out, PyBytes_AS_STRING(chunk), n)
        memcpy(out + n, PyBytes_AS_STRING(self.end), m)
        return data

    cdef bytes go_on(self, bytes out, Py_ssize_t asked, bint final, Py_ssize_t limit):
        """Take further steps, and go over the ends of streams (section 7.2.3.4)."""
        cdef list parts = [out]
        cdef Py_ssize_t size = PyBytes_GET_SIZE(out)
        cdef int ends = 0
        while True:
            if size > limit:
                raise RemoteProtocolError(
                    "decompressed message is too big", close_code=TOO_BIG
                )
            if self.inflate.eof:
                data = self.inflate.unused_data
                if not data or (final and data == self.end):
                    break
                ends += 1
                if ends > MAX_STREAMS:
                    raise invalid("too many final blocks")
                self.fresh()
            elif PyBytes_GET_SIZE(out) == asked:
                data = self.inflate.unconsumed_tail
            else:
                break
            asked = UNPACK_STEP
            if limit - size < UNPACK_STEP:
                asked = limit - size + 1
            out = self.inflate.decompress(data, asked)
            parts.append(out)
            size += PyBytes_GET_SIZE(out)
        return b"".join(parts) if len(parts) > 1 else out


cdef object invalid(str reason):
    return RemoteProtocolError(
        f"compressed message is invalid: {reason}", close_code=INVALID_PAYLOAD
    )
