# CopyLoop: blocks, the scratch pool and the two linked ends of one copy.
# The pure twin in _copyloop_py.py is the specification.

cdef extern from *:
    """
    #include <string.h>
    #if defined(_WIN32)
      #include <stdlib.h>
      static void *fws_map(size_t n) { return malloc(n); }
      static void fws_unmap(void *p, size_t n) { (void)n; free(p); }
      static void fws_trim(void *p, size_t n) { (void)p; (void)n; }
      static long fws_capacity(int fd) { (void)fd; return -1; }
    #else
      #include <sys/mman.h>
      #include <sys/ioctl.h>
      #include <sys/socket.h>
      #include <unistd.h>
      #if defined(__linux__)
        #include <linux/sockios.h>
      #endif
      #if !defined(MAP_ANONYMOUS)
        #define MAP_ANONYMOUS MAP_ANON
      #endif
      static void *fws_map(size_t n) {
          void *p = mmap(NULL, n, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          return p == MAP_FAILED ? NULL : p;
      }
      static void fws_unmap(void *p, size_t n) { munmap(p, n); }
      /* Give whole pages inside [p, p + n) back to the kernel. */
      static void fws_trim(void *p, size_t n) {
          size_t page = (size_t)sysconf(_SC_PAGESIZE);
          size_t from = ((size_t)p + page - 1) & ~(page - 1);
          size_t to = ((size_t)p + n) & ~(page - 1);
          if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
      }
      /* Bytes the socket can take at once, or -1 where nobody can tell. */
      static long fws_capacity(int fd) {
      #if defined(SIOCOUTQ)
          int size = 0, queued = 0;
          socklen_t len = sizeof(size);
          if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) < 0) return -1;
          if (ioctl(fd, SIOCOUTQ, &queued) < 0) return -1;
          return size > queued ? (long)size - queued : 0;
      #else
          (void)fd;
          return -1;
      #endif
      }
    #endif
    """
    void *fws_map(size_t n) nogil
    void fws_unmap(void *p, size_t n) nogil
    void fws_trim(void *p, size_t n) nogil
    long fws_capacity(int fd) nogil

cdef Py_ssize_t HEADROOM = _consts.HEADROOM
cdef Py_ssize_t SCRATCH_SIZE = _consts.SCRATCH_SIZE
cdef Py_ssize_t READ_MIN = _consts.READ_MIN
cdef Py_ssize_t BLOCK_SIZE = HEADROOM + SCRATCH_SIZE + 64 * 1024
cdef Py_ssize_t SMALL = 2048
cdef Py_ssize_t COMPACT_BELOW = 4096
cdef int SPARE_BLOCKS = 2
cdef int UNTRIMMED_BLOCKS = 8
cdef Py_ssize_t CRUMBS = 256
cdef Py_ssize_t MANY_PIECES = 256  # frames; so many short ones are cheaper copied
cdef Py_ssize_t MAX_PACKET = _consts.MAX_PACKET


@cython.final
@cython.no_gc
cdef class Block:
    """Memory for one read, exported through the buffer protocol.

    ``exports`` counts the views that transports still hold. While it is above 0
    nobody writes here; when it falls to 0 and the block was given away, it goes
    back to its pool by itself.
    """

    def __cinit__(self, Scratch pool):
        self.memory = <unsigned char*> fws_map(BLOCK_SIZE)
        if self.memory == NULL:
            raise MemoryError()
        self.pool = pool
        self.exports = 0
        self.window = self.memory
        self.window_length = 0

    def __dealloc__(self):
        if self.memory != NULL:
            fws_unmap(self.memory, BLOCK_SIZE)

    def __len__(self):
        return self.window_length

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.window, self.window_length, 0, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1
        if self.exports == 0 and self.is_lent:
            self.is_lent = False
            self.pool.give_back(self)

    cdef int trim(self) except -1:
        """Keep the pages of the unsent bytes only; they end where the use ended."""
        cdef Py_ssize_t unsent = self.used_to - self.memory
        cdef CopyEnd sink = self.sink
        if sink is not None and sink.last_lent is self and sink.transport is not None:
            unsent = min(unsent, self.gaps + <Py_ssize_t> sink.unsent_size())
        fws_trim(self.memory, self.used_to - unsent - self.memory)
        fws_trim(self.used_to, self.memory + BLOCK_SIZE - self.used_to)
        return 0

    cdef object view(self, unsigned char* start, Py_ssize_t length):
        self.window = start
        self.window_length = length
        return PyMemoryView_FromObject(self)


@cython.final
cdef class Scratch:
    """The blocks of one event loop: one in use for every read, a few spare.

    ``call_soon`` is that of the loop; with it, ends that read much take turns.
    """

    def __cinit__(self, call_soon=None):
        self.call_soon = call_soon
        self.current = None
        self.spare = []
        self.given = set()

    @property
    def lent(self):
        """Blocks that transports still hold."""
        return len(self.given)

    def __len__(self):
        return self.window

    def __getitem__(self, index):
        # asyncio's own TLS fills the buffer piece by piece.
        return PyMemoryView_FromObject(self)[index]

    def __getbuffer__(self, Py_buffer* view, int flags):
        # What one read may fill. Not counted: a read ends before anything else.
        PyBuffer_FillInfo(
            view, self, self.current.memory + HEADROOM, self.window, 0, flags
        )

    cdef Block take(self):
        if self.spare:
            return <Block> self.spare.pop()
        return Block(self)

    cdef int give_back(self, Block block) except -1:
        self.given.discard(block)
        block.sink = None
        if len(self.spare) < SPARE_BLOCKS:
            self.spare.append(block)
        return 0

    cdef int settle(
        self, Block block, unsigned char* used_to, CopyEnd sink, Py_ssize_t gaps
    ) except -1:
        """After a write: keep the block for its views, or for the next read.

        ``gaps`` bytes of what was read were not written: headers and control frames,
        which may lie between the others.
        """
        if block.exports == 0:
            if self.current is None:
                self.current = block
            elif self.current is not block and len(self.spare) < SPARE_BLOCKS:
                self.spare.append(block)
            return 0
        if self.current is block:
            self.current = None
        block.is_lent = True
        block.is_old = False
        block.used_to = used_to
        block.gaps = gaps
        block.sink = sink
        self.given.add(block)
        if len(self.given) > UNTRIMMED_BLOCKS:
            block.trim()  # many stall at once: none keeps a whole block, not even now
        return 0

    def trim(self):
        """Give back the memory around the unsent bytes of long-held blocks.

        Call it about once a second: what was held at the last call already is
        trimmed, so that a stalled connection holds what it could not send and not a
        whole block, and a merely busy one never pays for it.
        """
        cdef Block block
        for block in self.given:
            if block.is_old:
                block.trim()
            block.is_old = True


cdef class CopyEnd:
    """One end of a copy: an asyncio ``BufferedProtocol`` that forwards to its peer.

    The kernel reads into the loop's scratch block; payload leaves through the
    peer's transport from that same memory. See the pure twin for the contract.
    """

    def __init__(
        self,
        Scratch scratch not None,
        *,
        FrameDecoder decoder=None,
        MaskKeys keys=None,
        Py_ssize_t max_message=_consts.MAX_MESSAGE,
        bint vectored=False,
        int data_kind=-1,
    ):
        if not -1 <= data_kind <= 255:
            raise ValueError("data_kind must be in -1..255")
        self.scratch = scratch
        self.decoder = decoder
        self.keys = keys
        self.vectored = vectored
        self.max_payload = max_message - (4 if keys is None else 8)
        if self.max_payload > 65535:
            self.max_payload -= 6
        self.data_kind = data_kind
        self.prefix = 0 if data_kind < 0 else 1
        self.max_payload -= self.prefix
        self.kind = -1
        self.held = self.packet = b""
        self.read_size = READ_MIN
        self.read_limit = SCRATCH_SIZE
        self.fd = -1
        self.is_sending = True
        self.text_mode = 0
        self.signal = b""

    def link(self, CopyEnd peer not None):
        """Forward to ``peer`` and let it forward here."""
        self.peer = peer
        peer.peer = self

    def unlink(self):
        """Part from the peer: what comes now is held here, the other end is idle."""
        cdef CopyEnd peer = self.peer
        if peer is not None:
            self.peer = peer.peer = None

    def attach(self, transport, int fd=-1):
        """Become the transport's protocol; it must be paused and stays so."""
        self.transport = transport
        self.fd = fd
        self.write = transport.write
        self.unsent_size = transport.get_write_buffer_size
        self.is_reading = False
        transport.set_protocol(self)

    def detach(self):
        """Forget transport and peer, so that reference cycles end here."""
        self.transport = self.write = self.unsent_size = None
        self.peer = None
        self.last_lent = None
        self.is_sending = self.is_reading = False

    # -- reading ---------------------------------------------------------------

    def connection_made(self, transport):
        pass

    @cython.binding(False)
    def get_buffer(self, Py_ssize_t sizehint):
        cdef Scratch scratch = self.scratch
        cdef Block block = scratch.current
        cdef Py_ssize_t size = self.read_size
        cdef long capacity
        if block is None:
            block = scratch.current = scratch.take()
        if self.peer is None:
            if self.prefix:
                size = READ_MIN  # what is held is bounded by that
        elif size > READ_MIN:
            size = min(size, self.peer.read_limit)
            capacity = -1 if self.peer.fd < 0 else fws_capacity(self.peer.fd)
            if 0 <= capacity < size:
                size = capacity if capacity > READ_MIN else READ_MIN
        if sizehint > size:
            size = sizehint if sizehint < SCRATCH_SIZE else SCRATCH_SIZE
        self.requested = size
        scratch.window = size
        return scratch

    @cython.binding(False)
    def buffer_updated(self, Py_ssize_t nbytes):
        cdef Block block = self.scratch.current
        if nbytes < self.requested:
            self.read_size = READ_MIN
            self.turn = 0
        else:
            self.turn += nbytes
            if self.read_size < SCRATCH_SIZE:
                self.read_size *= 2
        self.receive(block, block.memory + HEADROOM, nbytes)
        if self.is_crumbly:
            self.read_size = READ_MIN
            self.is_crumbly = False
        elif self.turn < SCRATCH_SIZE:
            return
        if self.vectored and self.turn:
            self.turn = 0
            if self.is_reading and self.scratch.call_soon is not None:
                self.transport.pause_reading()
                self.scratch.call_soon(self.take_turn)

    def take_turn(self):
        """Go on reading: libuv would read on at once, and let all others wait."""
        if self.is_reading and self.transport is not None:
            self.transport.resume_reading()

    def feed(self, data):
        """Take ``data`` (copied) as if it had just been read."""
        cdef const unsigned char[::1] source = data
        cdef Py_ssize_t position = 0
        cdef Py_ssize_t n
        cdef Block block
        while position < source.shape[0]:
            n = min(source.shape[0] - position, SCRATCH_SIZE)
            block = self.scratch.current
            if block is None:
                block = self.scratch.current = self.scratch.take()
            # The block exports nothing now, so nobody else reads it.
            memcpy(block.memory + HEADROOM, &source[position], n)
            self.receive(block, block.memory + HEADROOM, n)
            position += n

    cdef int receive(self, Block block, unsigned char* p, Py_ssize_t n) except -1:
        cdef CopyEnd peer = self.peer
        cdef unsigned long long before = self.payload_in
        cdef Py_ssize_t payload
        self.reads += 1
        if self.is_discarding or (peer is None and not self.prefix):
            return 0
        if self.decoder is None:
            self.payload_in += n
            peer.send(self, block, p, n, True)
        else:
            self.receive_frames(peer, block, p, n)
        # One byte of the payload may have been held since the last read.
        payload = <Py_ssize_t> (self.payload_in - before)
        self.scratch.settle(block, p + n, peer, n + 1 - payload)
        return 0

    cdef int receive_frames(
        self, CopyEnd peer, Block block, unsigned char* p, Py_ssize_t n
    ) except -1:
        """Decode, unmask and forward whatever payload ``[p, p + n)`` holds.

        Payload is collected downwards into one run of bytes. Unmasked payload is
        only moved when it is small: long pieces become runs of their own.
        """
        cdef Part part
        cdef unsigned char* run = p
        cdef unsigned char* target
        cdef Py_ssize_t run_length = 0
        cdef Py_ssize_t used
        cdef Py_ssize_t size = n
        cdef Py_ssize_t parts = 0
        cdef unsigned char ping[125]
        cdef Py_ssize_t ping_length = -1
        cdef list runs = None
        cdef bint has_kinds = self.prefix != 0
        cdef bint is_start
        cdef unsigned char saved = 0
        while n > 0:
            target = run + run_length
            is_start = has_kinds and self.kind < 0
            if is_start:
                # The kind is to land in front of the payload, which then needs no
                # second move, on a byte that is put back.
                target -= 1
                saved = target[0]
            used = self.decoder.step(p, n, target, &part)
            if is_start:
                target += 1
                self.take_kind(target, saved, &part)
            parts += 1
            if used < 0:
                self.flush(peer, block, runs, run, run_length)
                self.protocol_error(self.decoder.error)
                return 0
            p += used
            n -= used
            if part.opcode < 0 or part.opcode == 10:
                continue  # a pong says what every byte says: the peer lives
            if part.opcode == 9:
                memcpy(ping, part.start, part.length)
                ping_length = part.length  # of several the newest is answered
                continue
            if has_kinds and part.opcode < 8:
                if self.text_mode == 2 and part.opcode == 2:
                    self.text_mode = 0
                    self.signal_received(b"")  # the first message: no C, and no run
                    peer = self.peer
                    if self.is_discarding:
                        return 0
                if not self.is_data(peer, &part):
                    self.flush(peer, block, runs, run, run_length)
                    runs = None
                    self.receive_packet(&part)
                    peer = self.peer
                    if self.is_discarding:
                        return 0
                    run = p
                    run_length = 0
                    continue
            if part.opcode == 1 and self.text_mode == 0 and not self.eof_signalled:
                if not self.is_text(&part):
                    self.flush(peer, block, runs, run, run_length)
                    return self.refuse(1007, "text is not valid UTF-8")
            elif (
                part.opcode != 2
                or (self.text_mode == 2 and not has_kinds)  # with kinds: done above
                or self.eof_signalled
            ):
                self.flush(peer, block, runs, run, run_length)
                runs = None
                if not self.receive_rare(peer, block, &part):
                    return 0
                # A part that is left to be delivered starts the next run.
                run = part.start
                run_length = part.length
                self.payload_in += run_length
                if part.opcode >= 8 or run_length == 0:
                    run = p
                    run_length = 0
                continue
            self.payload_in += part.length
            if part.start == target:
                run_length += part.length
            elif part.length < COMPACT_BELOW or not peer.vectored:
                memmove(target, part.start, part.length)
                run_length += part.length
            else:
                if run_length:
                    if runs is None:
                        runs = []
                    runs.append(block.view(run, run_length))
                run = part.start
                run_length = part.length
        self.flush(peer, block, runs, run, run_length)
        self.is_crumbly = parts > CRUMBS and size < parts * 1024
        if ping_length >= 0:
            self.control_received(9, (<char*> ping)[:ping_length])
        return 0

    cdef int flush(
        self, CopyEnd peer, Block block, list runs, unsigned char* run,
        Py_ssize_t run_length,
    ) except -1:
        if runs is None:
            if run_length:
                peer.send(self, block, run, run_length, False)
            return 0
        if run_length:
            runs.append(block.view(run, run_length))
        peer.send_runs(self, block, runs)
        return 0

    # -- messages that begin with a kind -------------------------------------------

    cdef int take_kind(
        self, unsigned char* target, unsigned char saved, Part* part
    ) noexcept:
        """Take the kind off a part that was decoded to one byte before ``target``."""
        if part.opcode < 0 or part.opcode >= 8 or part.length == 0:
            return 0
        if part.opcode == 2:
            self.kind = part.start[0]
            part.start += 1
            part.length -= 1
        elif part.start == target - 1:
            memmove(target, part.start, part.length)
            part.start = target
        target[-1] = saved
        return 0

    cdef bint is_data(self, CopyEnd peer, Part* part) noexcept:
        """Whether this is payload for the peer; takes note of the message's end."""
        if self.kind != self.data_kind or self.data_fate != 0 or peer is None:
            return False
        if part.opcode != 2:
            return False
        if part.flags & 4:
            if part.length == 0:
                return False
            self.kind = -1
            self.packet_size = 0
        else:
            self.packet_size += part.length
        return True

    cdef int receive_packet(self, Part* part) except -1:
        """Take what is not payload for the peer; see the pure twin."""
        cdef int kind = self.kind
        cdef bytes body
        if part.opcode == 1:
            if self.text_mode == 1:
                return self.receive_signal(part)
            if self.text_mode == 2:
                if self.is_confirmation(part):
                    return 0
                self.text_mode = 0
                self.signal_received(b"")
                if self.is_discarding:
                    return 0
            return self.refuse(1002, "text in place of a packet")
        body = b""
        if part.length:
            body = (<char*> part.start)[:part.length]
        self.packet_size += part.length
        if kind != self.data_kind or self.data_fate == 2:
            if 1 + len(self.packet) + part.length > MAX_PACKET:
                return self.refuse(1002, f"packet of more than {MAX_PACKET} bytes")
            self.packet += body
        elif self.data_fate == 0:
            self.payload_in += part.length
            self.held += body
            self.pause()
        if not part.flags & 4:
            return 0
        body = self.packet
        self.packet = b""
        self.kind = -1
        if kind != self.data_kind or self.data_fate == 2 or self.packet_size == 0:
            self.packet_size = 0
            self.packet_received(kind, body)
        self.packet_size = 0
        return 0

    # -- rare parts: control frames, signals, text -------------------------------

    cdef bint receive_rare(
        self, CopyEnd peer, Block block, Part* part
    ) except? False:
        """Handle one part; what it leaves in ``part`` is payload. False: stop."""
        if part.opcode >= 8:
            self.control_received(part.opcode, (<char*> part.start)[:part.length])
            part.length = 0
        elif self.text_mode == 1:
            self.receive_signal(part)
        elif self.text_mode == 2:
            self.receive_confirmation(peer, part)
        elif self.eof_signalled:
            self.refuse(1002, "data after the end was signalled")
        return self.peer is not None and not self.is_discarding

    cdef int receive_signal(self, Part* part) except -1:
        cdef bytes text = self.signal
        if part.opcode == 2:
            return self.refuse(1002, "binary data after signal F")
        if part.length:
            text += (<char*> part.start)[:min(part.length, 2)]
        part.length = 0
        if len(text) > 1 or (part.flags & 4 and text not in (b"F", b"R")):
            return self.refuse(1002, "unknown signal")
        self.signal = b"" if part.flags & 4 else text
        if part.flags & 4:
            self.signal_received(text)
        return 0

    cdef int receive_confirmation(self, CopyEnd peer, Part* part) except -1:
        """Only a first data message that is exactly the text ``C`` confirms."""
        cdef bytes text
        if part.opcode == 1 and self.is_confirmation(part):
            return 0
        text = self.signal
        self.signal = b""
        self.text_mode = 0
        self.signal_received(b"")
        if text and self.peer is not None:
            self.validator = Utf8Validator()
            self.validator.feed(text)
            self.payload_in += 1
            peer.send_bytes(text)
        if part.opcode == 1 and not self.is_text(part):
            part.length = 0
            return self.refuse(1007, "text is not valid UTF-8")
        return 0

    cdef bint is_confirmation(self, Part* part) except? False:
        """Whether a first text may be ``C`` still, or is: its part is used up then."""
        cdef bytes text = self.signal
        if part.length:
            text += (<char*> part.start)[:min(part.length, 2)]
        if not part.flags & 4 and text in (b"", b"C"):
            self.signal = text
            part.length = 0
            return True
        if text != b"C":
            return False
        self.signal = b""
        self.text_mode = 1
        part.length = 0
        self.signal_received(text)
        return True

    cdef bint is_text(self, Part* part) except? False:
        """RFC 6455 section 8.1, while it is forwarded."""
        if self.validator is None:
            self.validator = Utf8Validator()
        if not self.validator.feed_raw(part.start, part.length):
            return False
        return not part.flags & 4 or self.validator.complete

    cdef int refuse(self, int code, str reason) except -1:
        self.protocol_error(RemoteProtocolError(reason, close_code=code))
        return 0

    # -- writing ---------------------------------------------------------------

    cdef int send(
        self, CopyEnd source, Block block, unsigned char* p, Py_ssize_t n,
        bint headroom,
    ) except -1:
        """Write payload that came from ``source`` and lies in ``block``."""
        if not self.is_sending:
            self.payload_refused()
            return 0
        self.payload_out += n
        if n <= SMALL:
            self.send_small(p, n)
        elif self.decoder is None:
            self.write(block.view(p, n))
        elif n <= self.max_payload and headroom:
            self.send_in_place(block, p, n)
        elif self.vectored and headroom and n <= MANY_PIECES * self.max_payload:
            self.send_vectored(block, p, n)
        else:
            self.send_copied(p, n)
        if self.has_unsent():
            self.last_lent = block
            if source.is_reading:
                source.pause()
        return 0

    cdef bint has_unsent(self) except? True:
        """Whether the transport kept anything of what was written.

        With a limit of 0 it has called ``pause_writing`` if so, and not yet
        ``resume_writing``. The limit of TLS is above 0, so there its size tells.
        """
        if self.vectored:
            return self.is_write_paused
        return self.unsent_size() != 0

    cdef int send_runs(self, CopyEnd source, Block block, list runs) except -1:
        cdef const unsigned char[::1] memory
        if not self.is_sending:
            self.payload_refused()
            return 0
        for run in runs:
            self.payload_out += len(run)
        if self.decoder is not None:
            for run in runs:
                memory = run
                self.send_copied(<unsigned char*> &memory[0], memory.shape[0])
        elif self.vectored:
            self.transport.writelines(runs)
        else:
            for run in runs:
                self.write(run)
        del runs[:]
        if self.has_unsent():
            self.last_lent = block
            if source.is_reading:
                source.pause()
        return 0

    def send_bytes(self, bytes data not None):
        """Write a short ``data`` as payload of its own."""
        if not self.is_sending:
            self.payload_refused()
            return
        self.payload_out += len(data)
        if self.decoder is None:
            self.write(data)
        else:
            key = None if self.keys is None else self.keys()
            if self.prefix:
                data = bytes((self.data_kind,)) + data
            self.write(encode_frame(2, data, key=key))

    cdef int put_head(
        self, unsigned char* q, Py_ssize_t n, const unsigned char* key
    ) noexcept:
        """The header of a frame with ``n`` bytes of payload, and its kind."""
        cdef int size = put_header(q, 0x82, n + self.prefix, key)
        if self.prefix:
            q[size] = <unsigned char> self.data_kind
            if key != NULL:
                q[size] ^= key[0]
            size += 1
        return size

    cdef int send_small(self, unsigned char* p, Py_ssize_t n) except -1:
        """One short piece, copied: cheaper than a view, and no block waits for it."""
        cdef const unsigned char* key = NULL
        cdef Py_ssize_t size = 0
        cdef bytes frame
        cdef unsigned char* q
        if self.decoder is None:
            self.write((<char*> p)[:n])
            return 0
        if n > self.max_payload:
            return self.send_copied(p, n)
        if self.keys is not None:
            key = self.keys.next_key()
        size = header_size(n + self.prefix, key != NULL) + self.prefix
        frame = PyBytes_FromStringAndSize(NULL, size + n)
        q = <unsigned char*> PyBytes_AS_STRING(frame)
        self.put_head(q, n, key)
        if key == NULL:
            memcpy(q + size, p, n)
        else:
            xor_mask(q + size, p, n, key, self.prefix)
        self.write(frame)
        return 0

    cdef int send_in_place(
        self, Block block, unsigned char* p, Py_ssize_t n
    ) except -1:
        cdef const unsigned char* key = NULL
        cdef int size
        if self.keys is not None:
            key = self.keys.next_key()
            xor_mask(p, p, n, key, self.prefix)
        size = header_size(n + self.prefix, key != NULL) + self.prefix
        self.put_head(p - size, n, key)
        self.write(block.view(p - size, size + n))
        return 0

    cdef int send_vectored(
        self, Block block, unsigned char* p, Py_ssize_t n
    ) except -1:
        """Several frames as one vectored write: headers apart, payload in place."""
        cdef const unsigned char* key = NULL
        cdef unsigned char header[16]
        cdef Py_ssize_t length
        cdef int size
        cdef bytes full = None
        cdef list pieces = []
        while n > 0:
            length = n if n < self.max_payload else self.max_payload
            if self.keys is not None:
                key = self.keys.next_key()
                xor_mask(p, p, length, key, self.prefix)
            if key == NULL and full is not None and length == self.max_payload:
                pieces.append(full)
            else:
                size = self.put_head(header, length, key)
                full = (<char*> header)[:size]
                pieces.append(full)
            pieces.append(block.view(p, length))
            p += length
            n -= length
        self.transport.writelines(pieces)
        return 0

    cdef int send_copied(self, unsigned char* p, Py_ssize_t n) except -1:
        """Several frames as one contiguous write, masked on their way over."""
        cdef Block out = self.scratch.take()
        cdef unsigned char* q = out.memory
        cdef unsigned char* end = out.memory + BLOCK_SIZE
        cdef const unsigned char* key = NULL
        cdef Py_ssize_t length
        while n > 0:
            length = n if n < self.max_payload else self.max_payload
            if length + 15 > end - q:
                self.write(out.view(out.memory, q - out.memory))
                self.scratch.settle(out, q, self, 0)
                out = self.scratch.take()
                q = out.memory
                end = out.memory + BLOCK_SIZE
            if self.keys is not None:
                key = self.keys.next_key()
            q += self.put_head(q, length, key)
            if key == NULL:
                memcpy(q, p, length)
            else:
                xor_mask(q, p, length, key, self.prefix)
            q += length
            p += length
            n -= length
        self.write(out.view(out.memory, q - out.memory))
        self.scratch.settle(out, q, self, 0)
        return 0

    # -- flow control ----------------------------------------------------------

    cpdef pause(self):
        """Stop reading from this end."""
        if self.is_reading and not self.keeps_reading:
            self.is_reading = False
            self.transport.pause_reading()

    cpdef resume(self):
        """Read from this end, unless it has ended."""
        if not self.is_reading and not self.is_deaf and self.transport is not None:
            self.is_reading = True
            self.transport.resume_reading()

    def start(self):
        """Begin to read, unless the peer cannot take anything yet."""
        if not self.peer.unsent_size():
            self.resume()

    @cython.binding(False)
    def pause_writing(self):
        self.is_write_paused = True

    @cython.binding(False)
    def resume_writing(self):
        self.is_write_paused = False
        self.last_lent = None
        if self.transport is None or self.unsent_size():
            return
        if self.wants_drained:
            self.drained()
        if self.peer is not None and not self.peer.is_reading:
            self.peer.resume()

    # -- what a subclass decides -------------------------------------------------

    def eof_received(self):
        raise NotImplementedError

    def connection_lost(self, exc):
        raise NotImplementedError

    def control_received(self, opcode, payload):
        raise NotImplementedError

    def signal_received(self, text):
        raise NotImplementedError

    def packet_received(self, kind, body):
        raise NotImplementedError

    def protocol_error(self, error):
        raise NotImplementedError

    def payload_refused(self):
        raise NotImplementedError

    def drained(self):
        raise NotImplementedError
