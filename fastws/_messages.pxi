# Whole messages in and out of one WebSocket.
# The pure twin in _messages_py.py is the specification.

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawRealloc
from cpython.unicode cimport PyUnicode_DecodeUTF8

from fastws.exceptions import LocalProtocolError

cdef extern from *:
    """
    #if defined(_WIN32)
      static Py_ssize_t fws_send(int fd, void *a, Py_ssize_t an, void *b,
                                 Py_ssize_t bn, void *c, Py_ssize_t cn) {
          (void)fd; (void)a; (void)an; (void)b; (void)bn; (void)c; (void)cn;
          return 0;
      }
    #else
      #include <errno.h>
      #include <sys/socket.h>
      #include <sys/uio.h>
      #if !defined(MSG_NOSIGNAL)
        #define MSG_NOSIGNAL 0
      #endif
      /* Send three pieces without waiting; how many bytes left, 0 after an error:
         whoever tries again learns which. */
      static Py_ssize_t fws_send(int fd, void *a, Py_ssize_t an, void *b,
                                 Py_ssize_t bn, void *c, Py_ssize_t cn) {
          struct iovec pieces[3];
          struct msghdr message;
          Py_ssize_t sent;
          int count = 0;
          if (an) { pieces[count].iov_base = a; pieces[count++].iov_len = an; }
          if (bn) { pieces[count].iov_base = b; pieces[count++].iov_len = bn; }
          if (cn) { pieces[count].iov_base = c; pieces[count++].iov_len = cn; }
          if (count == 0) return 0;
          memset(&message, 0, sizeof message);
          message.msg_iov = pieces;
          message.msg_iovlen = count;
          do {
              if (count == 1)
                  sent = send(fd, pieces[0].iov_base, pieces[0].iov_len,
                              MSG_DONTWAIT | MSG_NOSIGNAL);
              else
                  sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
          } while (sent < 0 && errno == EINTR);
          return sent < 0 ? 0 : sent;
      }
    #endif
    """
    Py_ssize_t fws_send(
        int fd,
        void* a,
        Py_ssize_t an,
        void* b,
        Py_ssize_t bn,
        void* c,
        Py_ssize_t cn,
    ) nogil

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void* PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef int INVALID_PAYLOAD = _consts.CLOSE_INVALID_PAYLOAD
cdef Py_ssize_t READ = 256 * 1024  # bytes of one read
cdef Py_ssize_t TURN = 1024 * 1024  # bytes of full reads until others have their turn
cdef Py_ssize_t MANY_FRAMES = 1024
cdef Py_ssize_t OUT_SIZE = 128 * 1024
cdef Py_ssize_t COPIED = 8 * 1024  # payload up to here is copied behind its header
cdef Py_ssize_t SLACK = 4096  # behind a message: what follows comes in the same read
cdef Py_ssize_t SPARE_MAX = 1024 * 1024
cdef object UNLIMITED = (1 << 63) - 1


@cython.final
@cython.no_gc
cdef class MessageBlock:
    """Memory of reads or of one message; counts the views of it."""

    def __cinit__(self, Py_ssize_t size):
        self.memory = <unsigned char*> PyMem_RawMalloc(size)
        if self.memory == NULL:
            raise MemoryError()
        self.size = size
        self.exports = 0

    def __dealloc__(self):
        PyMem_RawFree(self.memory)

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.window, self.window_size, 0, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1

    cdef int resize(self, Py_ssize_t size) except -1:
        cdef void* memory = PyMem_RawRealloc(self.memory, size)
        if memory == NULL:
            raise MemoryError()
        self.memory = <unsigned char*> memory
        self.size = size
        return 0


@cython.final
cdef class MessagePool:
    """The memory of one event loop: for every read, and for what is sent meanwhile."""

    def __cinit__(self, call_soon=None):
        self.call_soon = call_soon
        self.out = <unsigned char*> PyMem_RawMalloc(OUT_SIZE)
        if self.out == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_RawFree(self.out)

    def __len__(self):
        return self.window_size

    def __getitem__(self, index):
        # asyncio's own TLS fills the buffer piece by piece.
        return PyMemoryView_FromObject(self)[index]

    def __getbuffer__(self, Py_buffer* view, int flags):
        # What one read may fill. Not counted: a read ends before anything else.
        PyBuffer_FillInfo(view, self, self.window, self.window_size, 0, flags)

    cdef MessageBlock fresh(self):
        """Memory for a read, which nobody views."""
        if self.current is None or self.current.exports:
            self.current = MessageBlock.__new__(MessageBlock, READ)
        return self.current

    cdef MessageBlock take(self, Py_ssize_t size):
        """Memory for one message."""
        cdef MessageBlock block = self.spare
        if block is not None and block.size >= size:
            self.spare = None
            return block
        return MessageBlock.__new__(MessageBlock, size)

    cdef int give_back(self, MessageBlock block) except -1:
        if block.exports == 0 and block.size <= SPARE_MAX:
            if self.spare is None or self.spare.size < block.size:
                self.spare = block
        return 0

    cdef int make_room(self, Py_ssize_t size) except -1:
        """Write what is corked if less than ``size`` bytes are left behind it."""
        if OUT_SIZE - self.used < size and self.corked is not None:
            self.corked.flush_out()
        return 0


cdef class MessageEnd:
    """One end of a WebSocket that sends and receives messages.

    See the pure twin for the contract.
    """

    def __init__(
        self,
        MessagePool pool not None,
        side,
        *,
        max_size=_consts.MAX_INCOMING,
        MaskKeys keys=None,
        codec=None,
    ):
        self.pool = pool
        self.side = side
        self.max_size = max_size
        self.codec = codec
        self.keys = None
        if side == 0:
            self.keys = default_keys() if keys is None else keys
        self.decoder = FrameDecoder(
            side, max_message=max_size, rsv=0 if codec is None else RSV1
        )
        self.fd = -1
        self.assembles = True

    def attach(self, transport, int fd=-1, bint swap=True):
        """Become the transport's protocol, open to send; reading is left as it is."""
        self.transport = transport
        self.write = transport.write
        self.fd = fd
        self.is_open = self.can_write = True
        self.is_reading = False
        if swap:
            transport.set_protocol(self)

    def set_codec(self, codec):
        """Compress messages from now on; before the first one only."""
        self.codec = codec
        self.decoder = FrameDecoder(self.side, max_message=self.max_size, rsv=RSV1)

    def take_partial(self):
        """What has come of an unfinished message, and forget it; not within a read."""
        cdef MessageBlock partial = self.partial
        cdef object inflating = self.inflating
        cdef object payload
        if partial is not None:
            payload = PyBytes_FromStringAndSize(<char*> partial.memory, self.filled)
            self.partial = None
            self.filled = 0
            self.pool.give_back(partial)
        elif inflating is not None:
            payload = bytes(inflating)
            self.inflating = None
        else:
            return 0, b""
        return self.decoder.message_opcode, payload

    def detach(self):
        """Forget transport and handler, so that reference cycles end here."""
        self.transport = self.write = None
        self.on_message = self.on_ping = self.on_pong = self.on_bytes = None
        self.is_reading = False
        self.mute()

    cpdef mute(self):
        """Write nothing and hand out nothing from now on; drop what is corked."""
        self.is_open = self.can_write = False
        self.is_discarding = True
        self.fd = -1
        self.ping = None
        self.forget()
        if self.pool.corked is self:
            self.pool.used = 0

    cdef int forget(self) except -1:
        """What has come of a message will not be handed out."""
        self.partial = None
        self.inflating = None
        self.text = None
        return 0

    @property
    def unsent(self):
        """Bytes the transport has taken and not yet sent."""
        if self.transport is None:
            return 0
        return self.transport.get_write_buffer_size()

    # -- reading ---------------------------------------------------------------

    def connection_made(self, transport):
        pass

    @cython.binding(False)
    def get_buffer(self, Py_ssize_t sizehint):
        cdef MessagePool pool = self.pool
        cdef MessageBlock block = self.partial
        if block is None:
            block = pool.fresh()
            pool.window = block.memory
            pool.window_size = READ
        else:
            if block.size - self.filled < SLACK:
                block.resize(self.wanted_size())
            pool.window = block.memory + self.filled
            pool.window_size = block.size - self.filled
        return pool

    @cython.binding(False)
    def buffer_updated(self, Py_ssize_t nbytes):
        cdef MessagePool pool = self.pool
        cdef MessageBlock block = pool.current if self.partial is None else self.partial
        cdef bint is_full = nbytes == pool.window_size
        if self.on_bytes is not None:
            self.on_bytes((<char*> pool.window)[:nbytes])
            return
        self.receive(block, pool.window, nbytes)
        if is_full:
            self.turn += nbytes
        elif self.turn < TURN:
            self.turn = 0
            return
        if self.turn >= TURN and pool.call_soon is not None:
            self.turn = 0
            if self.is_reading and self.transport is not None:
                self.transport.pause_reading()
                pool.call_soon(self.take_turn)

    def take_turn(self):
        """Go on reading: libuv would read on at once, and let all others wait."""
        if self.is_reading and self.transport is not None:
            self.transport.resume_reading()

    def feed(self, data):
        """Take ``data`` (copied) as if it had just been read."""
        cdef object view = byte_view(data, False)
        cdef Py_buffer* info = PyMemoryView_GET_BUFFER(view)
        cdef unsigned char* source = <unsigned char*> info.buf
        cdef Py_ssize_t left = info.len
        cdef Py_ssize_t n
        cdef MessageBlock block
        while left > 0:
            n = left if left < READ else READ
            block = self.pool.fresh()
            memcpy(block.memory, source, n)
            self.receive(block, block.memory, n)
            source += n
            left -= n

    cdef int receive(
        self, MessageBlock block, unsigned char* p, Py_ssize_t n
    ) except -1:
        cdef MessagePool pool = self.pool
        cdef MessageEnd outer = pool.corked
        self.reads += 1
        if self.is_discarding:
            return 0
        if outer is not None:
            outer.flush_out()
        pool.corked = self
        self.answers = not self.is_write_paused
        if block is pool.current:
            pool.current = None  # nobody else reads there meanwhile
        try:
            self.receive_frames(block, p, n)
        finally:
            self.flush_out()
            pool.corked = outer
            if pool.current is None and block.size == READ:
                pool.current = block
        if self.is_write_paused and self.can_write:
            self.write_stalled()
        return 0

    cdef int receive_frames(
        self, MessageBlock block, unsigned char* p, Py_ssize_t n
    ) except -1:
        cdef Part part
        cdef MessageBlock partial
        cdef unsigned char* target
        cdef Py_ssize_t used
        cdef Py_ssize_t frames = 0
        while n > 0:
            target = NULL
            partial = self.partial
            if partial is not None:
                if partial is not block and partial.size - self.filled < n:
                    partial.resize(max(self.filled + n, self.wanted_size()))
                target = partial.memory + self.filled
            used = self.decoder.step(p, n, target, &part)
            if used < 0:
                self.fail(self.decoder.error)
                return self.forget()
            p += used
            n -= used
            if part.opcode < 0:
                continue
            frames += 1
            if part.opcode >= OP_CLOSE:
                self.receive_control(&part)
            elif part.flags & PART_RSV1:
                self.receive_compressed(&part)
            elif partial is not None:
                if part.start != target:
                    memmove(target, part.start, part.length)
                    part.start = target
                self.receive_more(partial, &part)
            elif part.flags & MESSAGE_END or not self.assembles:
                self.receive_whole(block, &part)
            else:
                self.receive_first(block, &part)
            if self.is_discarding:
                return self.forget()
        if frames > MANY_FRAMES:
            self.turn = TURN
        return 0

    cdef int receive_control(self, Part* part) except -1:
        cdef bytes payload = (<char*> part.start)[:part.length]
        if part.opcode == 9:
            self.ping = payload
            if self.answers:
                self.answer_ping()
            if self.on_ping is not None:
                self.tell(self.on_ping, payload)
        elif part.opcode == 10:
            if self.on_pong is not None:
                self.tell(self.on_pong, payload)
        else:
            self.close_received(payload)
        return 0

    cdef int receive_whole(self, MessageBlock block, Part* part) except -1:
        """A message complete in one read, or what came of it: from where it lies."""
        cdef bint final = part.flags & MESSAGE_END != 0
        if part.opcode == 1 and not (self.copies and self.assembles):
            if not self.is_valid(part.start, part.length, final):
                return self.refuse_text()
        if part.length == 0 and not final:
            return 0
        return self.deliver(block, part.start, part.length, part.opcode, final)

    cdef int receive_first(self, MessageBlock block, Part* part) except -1:
        """The start of a message that is not complete: it gets memory of its own."""
        if part.opcode == 1 and not self.is_valid(part.start, part.length, False):
            return self.refuse_text()
        self.filled = part.length
        self.partial = self.pool.take(self.wanted_size())
        memcpy(self.partial.memory, part.start, part.length)
        return 0

    cdef int receive_more(self, MessageBlock partial, Part* part) except -1:
        """The next bytes of that message, in place behind the others."""
        cdef bint final = part.flags & MESSAGE_END != 0
        cdef Py_ssize_t size
        self.filled += part.length
        if part.opcode == 1 and not self.is_valid(part.start, part.length, final):
            return self.refuse_text()
        if not final:
            return 0
        size = self.filled
        self.partial = None
        self.filled = 0
        self.deliver(partial, partial.memory, size, part.opcode, True)
        return self.pool.give_back(partial)

    cdef Py_ssize_t wanted_size(self) noexcept:
        """How long the memory of an unfinished message should be.

        A header alone reserves little: what is announced need not come.
        """
        cdef Py_ssize_t most = max(4 * self.filled, READ)
        cdef unsigned long long rest = READ_MIN
        if self.decoder.in_frame:
            rest = self.decoder.remaining
        if rest < <unsigned long long> (most - self.filled):
            most = self.filled + <Py_ssize_t> rest
        return most + SLACK

    cdef bint is_valid(self, unsigned char* p, Py_ssize_t n, bint final) except? False:
        """RFC 6455 section 8.1, while it arrives."""
        if self.text is None:
            if final and fws_ascii(p, n) == n:
                return True
            self.text = Utf8Validator()
        if not self.text.feed_raw(p, n):
            return False
        return not final or self.text.need == 0

    cdef int refuse_text(self) except -1:
        return self.fail(
            RemoteProtocolError("text is not valid UTF-8", close_code=INVALID_PAYLOAD)
        )

    cdef int deliver(
        self,
        MessageBlock block,
        unsigned char* p,
        Py_ssize_t n,
        int opcode,
        bint final,
    ) except -1:
        cdef object payload
        if not self.copies:
            block.window = p
            block.window_size = n
            payload = PyMemoryView_FromObject(block)
        elif opcode == 1 and self.assembles:
            try:
                payload = PyUnicode_DecodeUTF8(<char*> p, n, NULL)
            except UnicodeDecodeError:
                return self.refuse_text()
        else:
            payload = PyBytes_FromStringAndSize(<char*> p, n)
        if self.on_message is None:
            return 0
        try:
            self.on_message(payload, opcode, final)
        except Exception as exc:
            self.handler_failed(exc)
        return 0

    cdef int receive_compressed(self, Part* part) except -1:
        """RFC 7692: RSV1 marks a compressed message."""
        cdef bint final = part.flags & MESSAGE_END != 0
        cdef const unsigned char[::1] memory
        cdef object limit = UNLIMITED if self.max_size is None else self.max_size
        cdef object data
        chunk = PyBytes_FromStringAndSize(<char*> part.start, part.length)
        try:
            data = self.codec.decompress(chunk, final, limit - self.inflated)
        except RemoteProtocolError as error:
            return self.fail(error)
        self.inflated = 0 if final else self.inflated + len(data)
        if part.opcode == 1:
            memory = data
            if not self.is_valid(
                <unsigned char*> &memory[0] if len(data) else NULL, len(data), final
            ):
                return self.refuse_text()
        if not self.assembles and self.inflating is None:
            if not data and not final:
                return 0
        else:
            if self.inflating is not None or not final:
                if self.inflating is None:
                    self.inflating = bytearray()
                self.inflating += data
                if not final:
                    return 0
                data = self.inflating
                self.inflating = None
        if not self.copies:
            data = PyMemoryView_FromObject(data)
        elif part.opcode == 1 and self.assembles:
            data = str(data, "utf-8")
        else:
            data = bytes(data)
        if self.on_message is None:
            return 0
        try:
            self.on_message(data, part.opcode, final)
        except Exception as exc:
            self.handler_failed(exc)
        return 0

    cdef int tell(self, hook, bytes payload) except -1:
        """Call into the user's handler; what it raises stays out of the event loop."""
        try:
            hook(payload)
        except Exception as exc:
            self.handler_failed(exc)
        return 0

    cdef int fail(self, error) except -1:
        self.protocol_error(error)
        return 0

    cdef int answer_ping(self) except -1:
        """Each ping in its turn; while anything is unsent, only the newest."""
        cdef bytes payload = self.ping
        if payload is not None:
            self.ping = None
            if self.is_open:
                self.put(
                    FIN | 10,
                    <const unsigned char*> PyBytes_AS_STRING(payload),
                    PyBytes_GET_SIZE(payload),
                )
        return 0

    # -- writing ---------------------------------------------------------------

    def send(self, data, int opcode=-1, bint final=True):
        """Send a message, or the next fragment of one; ``False``: it was dropped."""
        cdef Py_buffer view
        cdef int kind = 2
        cdef int rsv = 0
        if not self.is_open:
            return False
        if isinstance(data, str):
            kind = 1
            if not PyUnicode_IS_COMPACT_ASCII(data):
                data = data.encode()
        if opcode < 0:
            opcode = 0 if self.is_sending_fragments else kind
        if opcode > 2:
            byte_view(b"" if isinstance(data, str) else data, False)
            raise ValueError("opcode must be OP_TEXT, OP_BINARY or OP_CONT")
        if self.is_sending_fragments != (opcode == 0):
            byte_view(b"" if isinstance(data, str) else data, False)
            raise LocalProtocolError(
                "a new message inside a fragmented one"
                if self.is_sending_fragments
                else "no fragmented message to go on with"
            )
        if self.codec is not None:
            if isinstance(data, str):
                data = data.encode()
            data = self.codec.compress(byte_view(data, False), final)
            rsv = RSV1 if opcode else 0
        rsv |= opcode | (FIN if final else 0)
        if type(data) is bytes:
            self.is_sending_fragments = not final
            self.put(
                rsv,
                <const unsigned char*> PyBytes_AS_STRING(data),
                PyBytes_GET_SIZE(data),
            )
        elif isinstance(data, str):
            self.is_sending_fragments = not final
            self.put(
                rsv,
                <const unsigned char*> PyUnicode_DATA(data),
                PyUnicode_GET_LENGTH(data),
            )
        else:
            acquire(data, &view, False)
            self.is_sending_fragments = not final
            try:
                self.put(rsv, <const unsigned char*> view.buf, view.len)
            finally:
                PyBuffer_Release(&view)
        return True

    def send_control(self, int opcode, payload):
        """Send a control frame of at most 125 bytes, behind what was sent before."""
        cdef Py_buffer view
        acquire(payload, &view, False)
        try:
            self.put(FIN | opcode, <const unsigned char*> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int put(self, int b0, const unsigned char* p, Py_ssize_t n) except -1:
        """Frame and write ``n`` bytes, or cork them while we are being read."""
        cdef MessagePool pool = self.pool
        cdef const unsigned char* key = NULL
        cdef unsigned char header[14]
        cdef unsigned char* q
        cdef Py_ssize_t corked = 0
        cdef Py_ssize_t size
        if not self.can_write:
            return 0
        if self.keys is not None:
            key = self.keys.next_key()
        size = header_size(n, key != NULL) + n
        if size <= OUT_SIZE and (n <= COPIED or key != NULL):
            if OUT_SIZE - pool.used < size:
                pool.make_room(size)
            q = pool.out + pool.used
            q += put_header(q, b0, n, key)
            if key == NULL:
                memcpy(q, p, n)
            else:
                xor_mask(q, p, n, key, 0)
            if pool.corked is self:
                pool.used += size
                return 0
            self.emit(pool.out + pool.used, size, NULL, 0, NULL, 0)
        elif key != NULL:
            self.put_masked(b0, p, n, key)
        else:
            size = put_header(header, b0, n, NULL)
            if pool.corked is self:
                corked = pool.used
                pool.used = 0
            self.emit(pool.out, corked, header, size, <unsigned char*> p, n)
        if self.is_write_paused and pool.corked is not self and self.can_write:
            self.write_stalled()
        return 0

    cdef int put_masked(
        self, int b0, const unsigned char* p, Py_ssize_t n, const unsigned char* key
    ) except -1:
        """A long masked frame, piece by piece through the memory of the pool."""
        cdef MessagePool pool = self.pool
        cdef unsigned char four[4]
        cdef unsigned char* q
        cdef Py_ssize_t size, length
        memcpy(four, key, 4)
        pool.make_room(OUT_SIZE)
        q = pool.out
        size = put_header(q, b0, n, four)
        while True:
            length = min(n, (OUT_SIZE - size) & ~3)
            xor_mask(q + size, p, length, four, 0)
            p += length
            n -= length
            if self.is_write_paused or self.fd < 0:
                return self.emit_rest(q, size + length, p, n, four)
            self.emit(q, size + length, NULL, 0, NULL, 0)
            if n == 0:
                return 0
            size = 0

    cdef int emit_rest(
        self,
        unsigned char* q,
        Py_ssize_t size,
        const unsigned char* p,
        Py_ssize_t n,
        const unsigned char* key,
    ) except -1:
        """Give the transport ``size`` bytes and ``n`` more to be masked."""
        cdef bytes rest = PyBytes_FromStringAndSize(NULL, size + n)
        cdef unsigned char* out = <unsigned char*> PyBytes_AS_STRING(rest)
        memcpy(out, q, size)
        xor_mask(out + size, p, n, key, 0)
        self.write(rest)
        return 0

    cdef int emit(
        self,
        unsigned char* a,
        Py_ssize_t an,
        unsigned char* b,
        Py_ssize_t bn,
        unsigned char* c,
        Py_ssize_t cn,
    ) except -1:
        """Write three pieces; whatever the kernel does not take is copied."""
        cdef Py_ssize_t sent = 0
        cdef Py_ssize_t skip
        cdef bytes rest
        cdef unsigned char* q
        if self.fd >= 0 and not self.is_write_paused:
            sent = fws_send(self.fd, a, an, b, bn, c, cn)
            if sent == an + bn + cn:
                return 0
        rest = PyBytes_FromStringAndSize(NULL, an + bn + cn - sent)
        q = <unsigned char*> PyBytes_AS_STRING(rest)
        skip = min(sent, an)
        memcpy(q, a + skip, an - skip)
        q += an - skip
        sent -= skip
        skip = min(sent, bn)
        memcpy(q, b + skip, bn - skip)
        q += bn - skip
        sent -= skip
        memcpy(q, c + sent, cn - sent)
        self.write(rest)
        return 0

    cdef int flush_out(self) except -1:
        cdef Py_ssize_t size = self.pool.used
        self.pool.used = 0
        if size:
            self.emit(self.pool.out, size, NULL, 0, NULL, 0)
        return 0

    def write_raw(self, bytes data not None):
        """Write ``data`` without a frame: the end of an opening handshake."""
        self.emit(
            <unsigned char*> PyBytes_AS_STRING(data),
            PyBytes_GET_SIZE(data),
            NULL,
            0,
            NULL,
            0,
        )

    def flush(self):
        """Write now what was sent in this call of a handler."""
        if self.pool.corked is self:
            self.flush_out()

    # -- flow control ----------------------------------------------------------

    def pause_reading(self):
        """Stop reading; messages that were read already still come."""
        if self.is_reading:
            self.is_reading = False
            self.transport.pause_reading()

    def resume_reading(self):
        """Go on reading."""
        if not self.is_reading and self.transport is not None:
            self.is_reading = True
            self.transport.resume_reading()

    @cython.binding(False)
    def pause_writing(self):
        self.is_write_paused = True

    @cython.binding(False)
    def resume_writing(self):
        if self.transport is None or self.unsent:
            return
        self.is_write_paused = False
        self.answer_ping()
        if not self.is_write_paused:
            self.drained()

    # -- what a subclass decides -------------------------------------------------

    def eof_received(self):
        raise NotImplementedError

    def connection_lost(self, exc):
        raise NotImplementedError

    def close_received(self, payload):
        raise NotImplementedError

    def protocol_error(self, error):
        raise NotImplementedError

    def handler_failed(self, exc):
        raise NotImplementedError

    def write_stalled(self):
        raise NotImplementedError

    def drained(self):
        raise NotImplementedError
