# Every C signature and attribute of the compiled twin, in the order of the .pyx.
# Sizes are bytes. Pointers are borrowed for the call unless a line says otherwise.

# ---------------------------------------------------------------- masking, headers


cdef void xor_mask(
    unsigned char* dst,
    const unsigned char* src,
    Py_ssize_t n,
    const unsigned char* key,
    int phase,
) noexcept nogil

cdef int put_header(
    unsigned char* out,
    int b0,
    unsigned long long length,
    const unsigned char* key,
) noexcept nogil


cdef inline int header_size(unsigned long long length, bint masked) noexcept nogil:
    return (2 if length < 126 else 4 if length < 65536 else 10) + (4 if masked else 0)


cdef class MaskKeys:
    cdef object source              # callable(n) -> bytes
    cdef bytes block                # owns the keys of the next frames, or None
    cdef const unsigned char* at    # inside block
    cdef Py_ssize_t left            # unused bytes of block
    cdef unsigned long generation   # forks seen when block was drawn

    cdef const unsigned char* next_key(self) except NULL  # 4 bytes, till next call
    cdef int refill(self) except -1


# ----------------------------------------------------------------------- utf-8


cdef class Utf8Validator:
    cdef int need                   # continuation bytes still to come
    cdef unsigned char low          # bounds of the next continuation byte
    cdef unsigned char high
    cdef bint has_failed

    cdef bint feed_raw(self, const unsigned char* p, Py_ssize_t n) noexcept nogil


# ---------------------------------------------------------------- frame decoder


cdef struct Part:
    int opcode              # the message's (1, 2), a control frame's, or -1: nothing
    int flags               # _consts: FRAME_START | FRAME_END | MESSAGE_END | PART_RSV1
    unsigned char* start    # payload; of a control frame: valid until the next step
    Py_ssize_t length


cdef class FrameDecoder:
    cdef readonly object error              # RemoteProtocolError or None
    # Fixed at construction.
    cdef bint expects_mask                  # our side is the server
    cdef int rsv                            # header bits that extensions allow
    cdef unsigned long long max_payload     # of one data frame
    cdef unsigned long long max_message     # of one message, all fragments
    # The header being collected.
    cdef unsigned char header[14]
    cdef int have                           # bytes of it received, 0: none
    # The frame whose payload is being received.
    cdef bint in_frame
    cdef bint is_started                    # a part of it was delivered
    cdef bint fin
    cdef int opcode                         # as sent, 0 for a continuation
    cdef unsigned long long remaining       # payload still to come
    cdef unsigned char key[4]
    cdef int phase                          # payload received, modulo 4
    # The message it belongs to.
    cdef int message_opcode                 # 1, 2 or 0: none is open
    cdef int message_flags                  # PART_RSV1 or 0
    cdef unsigned long long message_size    # counted only if max_message is set
    # Control frames.
    cdef unsigned char control[125]
    cdef int control_size                   # bytes in it
    cdef bint is_closed                     # a Close was delivered

    cdef Py_ssize_t step(
        self, unsigned char* p, Py_ssize_t n, unsigned char* dst, Part* part
    ) except -2
    cdef Py_ssize_t read_header(self, const unsigned char* p, Py_ssize_t n) except -2
    cdef bint check_start(self, int b0, int b1) except -1
    cdef bint start_frame(self, const unsigned char* header, int size) except -1
    cdef bint fail(self, str reason, int close_code) except -1
    cdef Py_ssize_t take_data(
        self, unsigned char* p, Py_ssize_t n, unsigned char* dst, Part* part
    ) noexcept nogil
    cdef Py_ssize_t take_control(
        self, const unsigned char* p, Py_ssize_t n, Part* part
    ) noexcept nogil


# ------------------------------------------------------------------- binary buffer


cdef class Store:
    cdef unsigned char* memory      # owned
    cdef Py_ssize_t size
    cdef Py_ssize_t views           # buffer exports alive
    cdef Py_ssize_t window          # what the next export shows
    cdef Py_ssize_t window_size


cdef class BinaryMut:
    cdef Store store
    cdef Py_ssize_t base            # first byte of our part of the store
    cdef Py_ssize_t head            # first readable byte
    cdef Py_ssize_t tail            # first spare byte
    cdef Py_ssize_t limit           # end of our part

    cdef unsigned char* spare_for(self, Py_ssize_t n) except NULL
    cdef object export(self, Py_ssize_t start, Py_ssize_t size)


# -- CopyLoop (_copyloop.pxi) ---------------------------------------------------

cdef class Block:
    cdef unsigned char* memory  # BLOCK_SIZE bytes, owned
    cdef unsigned char* window  # start of the next view
    cdef Py_ssize_t window_length
    cdef unsigned char* used_to  # end of what was handed out when it was given away
    cdef Py_ssize_t gaps  # bytes before it, at most, that were not handed out
    cdef readonly Py_ssize_t exports  # live views
    cdef bint is_lent  # given away; goes back to the pool with its last view
    cdef bint is_old  # was given away before the last trim
    cdef Scratch pool
    cdef CopyEnd sink  # whose transport holds it; None: nobody
    cdef int trim(self) except -1
    cdef object view(self, unsigned char* start, Py_ssize_t length)

cdef class Scratch:
    cdef Block current  # the next read goes here; None until needed
    cdef list spare
    cdef Py_ssize_t window  # bytes the read in progress may fill
    cdef object call_soon  # of the loop; None: ends never give way
    cdef set given  # blocks that wait for their views
    cdef Block take(self)
    cdef int give_back(self, Block block) except -1
    cdef int settle(
        self, Block block, unsigned char* used_to, CopyEnd sink, Py_ssize_t gaps
    ) except -1

cdef class CopyEnd:
    cdef readonly object transport
    cdef object write, unsent_size  # bound methods of the transport
    cdef Scratch scratch
    cdef readonly CopyEnd peer
    cdef readonly FrameDecoder decoder  # None: raw bytes
    cdef readonly MaskKeys keys  # None: frames leave unmasked
    cdef Utf8Validator validator  # made by the first text message
    cdef bytes signal  # start of a fragmented signal
    cdef readonly int data_kind  # first byte of messages with payload; -1: none
    cdef int prefix  # bytes of payload that a kind takes: 0 or 1
    cdef int kind  # of the message that is being read; -1: between messages
    cdef public int data_fate  # _consts.DATA_*
    cdef bytes packet  # body so far of a message that is not forwarded
    cdef Py_ssize_t packet_size  # bytes so far behind the kind of a message
    cdef public bytes held  # payload that came while there was no peer
    cdef public int fd  # of the socket, for its capacity; -1: unknown
    cdef public int text_mode  # _consts.TEXT_*
    cdef bint vectored  # writelines is one vectored write
    cdef public bint is_sending  # payload may still be written here
    cdef public bint is_discarding  # whatever is read is dropped
    cdef public bint is_deaf  # nothing more will be read
    cdef public bint eof_signalled  # the peer's signal F has come
    cdef public bint wants_drained  # call drained() when nothing is unsent
    cdef public bint is_reading
    cdef public bint keeps_reading  # pause() does nothing any more
    cdef readonly Py_ssize_t max_payload  # payload bytes of one outgoing frame
    cdef public Py_ssize_t read_limit  # bytes of one read meant for this end
    cdef Py_ssize_t read_size, requested
    cdef Py_ssize_t turn  # bytes of full reads since others had their turn
    cdef bint is_crumbly  # the last read held many tiny frames
    cdef bint is_write_paused  # between pause_writing and resume_writing
    cdef Block last_lent  # holds what this end's transport could not send last
    cdef readonly unsigned long long payload_in, payload_out  # bytes
    cdef readonly unsigned long long reads
    cdef int receive(self, Block block, unsigned char* p, Py_ssize_t n) except -1
    cdef int receive_frames(
        self, CopyEnd peer, Block block, unsigned char* p, Py_ssize_t n
    ) except -1
    cdef int flush(
        self,
        CopyEnd peer,
        Block block,
        list runs,
        unsigned char* run,
        Py_ssize_t run_length,
    ) except -1
    cdef bint receive_rare(self, CopyEnd peer, Block block, Part* part) except? False
    cdef int receive_signal(self, Part* part) except -1
    cdef int receive_confirmation(self, CopyEnd peer, Part* part) except -1
    cdef bint is_confirmation(self, Part* part) except? False
    cdef bint is_text(self, Part* part) except? False
    cdef int take_kind(
        self, unsigned char* target, unsigned char saved, Part* part
    ) noexcept
    cdef bint is_data(self, CopyEnd peer, Part* part) noexcept
    cdef int receive_packet(self, Part* part) except -1
    cdef int put_head(
        self, unsigned char* q, Py_ssize_t n, const unsigned char* key
    ) noexcept
    cdef int refuse(self, int code, str reason) except -1
    cdef int send(
        self, CopyEnd source, Block block, unsigned char* p, Py_ssize_t n, bint headroom
    ) except -1
    cdef int send_runs(self, CopyEnd source, Block block, list runs) except -1
    cdef bint has_unsent(self) except? True
    cdef int send_small(self, unsigned char* p, Py_ssize_t n) except -1
    cdef int send_in_place(self, Block block, unsigned char* p, Py_ssize_t n) except -1
    cdef int send_vectored(self, Block block, unsigned char* p, Py_ssize_t n) except -1
    cdef int send_copied(self, unsigned char* p, Py_ssize_t n) except -1
    cpdef pause(self)
    cpdef resume(self)


# -- whole messages (_messages.pxi) ---------------------------------------------

cdef class MessageBlock:
    cdef unsigned char* memory  # owned
    cdef Py_ssize_t size
    cdef readonly Py_ssize_t exports  # live views
    cdef unsigned char* window  # what the next view shows
    cdef Py_ssize_t window_size
    cdef int resize(self, Py_ssize_t size) except -1

cdef class MessagePool:
    cdef object call_soon  # of the loop; None: ends never give way
    cdef MessageBlock current  # the next read goes here; None until needed
    cdef MessageBlock spare  # memory of a long message that is through
    cdef unsigned char* window  # what the read in progress may fill
    cdef Py_ssize_t window_size
    cdef unsigned char* out  # OUT_SIZE bytes, owned: what is framed
    cdef Py_ssize_t used  # corked bytes at its start
    cdef MessageEnd corked  # whose they are: the end that is being read
    cdef MessageBlock fresh(self)
    cdef MessageBlock take(self, Py_ssize_t size)
    cdef int give_back(self, MessageBlock block) except -1
    cdef int make_room(self, Py_ssize_t size) except -1

cdef class MessageEnd:
    cdef readonly MessagePool pool
    cdef readonly object side
    cdef readonly object max_size  # bytes of one incoming message; None: unlimited
    cdef readonly object codec  # None: nothing is compressed
    cdef readonly MaskKeys keys  # None: frames leave unmasked
    cdef readonly FrameDecoder decoder
    cdef readonly object transport
    cdef object write  # bound method of the transport
    cdef public int fd  # of a plain socket, to send without detour; -1: none
    cdef public object on_message, on_ping, on_pong
    cdef public object on_bytes  # hears what is read while it is not None
    cdef public bint assembles
    cdef public bint copies
    cdef public bint is_open
    cdef public bint can_write
    cdef public bint is_discarding
    cdef public bint is_reading
    cdef public bint is_write_paused
    cdef readonly unsigned long long reads
    cdef bint is_sending_fragments
    cdef MessageBlock partial  # payload of an unfinished message
    cdef Py_ssize_t filled  # bytes of it
    cdef bytearray inflating  # an unfinished compressed one
    cdef unsigned long long inflated  # bytes that a compressed message had so far
    cdef Utf8Validator text  # made by the first text that is not plain ASCII
    cdef bytes ping  # newest that waits until everything is sent
    cdef bint answers  # pings of this read are answered as they come
    cdef Py_ssize_t turn  # bytes of full reads since others had their turn
    cpdef mute(self)
    cdef int forget(self) except -1
    cdef int receive(self, MessageBlock block, unsigned char* p, Py_ssize_t n) except -1
    cdef int receive_frames(
        self, MessageBlock block, unsigned char* p, Py_ssize_t n
    ) except -1
    cdef int receive_control(self, Part* part) except -1
    cdef int receive_whole(self, MessageBlock block, Part* part) except -1
    cdef int receive_first(self, MessageBlock block, Part* part) except -1
    cdef int receive_more(self, MessageBlock partial, Part* part) except -1
    cdef int receive_compressed(self, Part* part) except -1
    cdef Py_ssize_t wanted_size(self) noexcept
    cdef bint is_valid(self, unsigned char* p, Py_ssize_t n, bint final) except? False
    cdef int refuse_text(self) except -1
    cdef int deliver(
        self,
        MessageBlock block,
        unsigned char* p,
        Py_ssize_t n,
        int opcode,
        bint final,
    ) except -1
    cdef int tell(self, hook, bytes payload) except -1
    cdef int fail(self, error) except -1
    cdef int answer_ping(self) except -1
    cdef int put(self, int b0, const unsigned char* p, Py_ssize_t n) except -1
    cdef int put_masked(
        self, int b0, const unsigned char* p, Py_ssize_t n, const unsigned char* key
    ) except -1
    cdef int emit_rest(
        self,
        unsigned char* q,
        Py_ssize_t size,
        const unsigned char* p,
        Py_ssize_t n,
        const unsigned char* key,
    ) except -1
    cdef int emit(
        self,
        unsigned char* a,
        Py_ssize_t an,
        unsigned char* b,
        Py_ssize_t bn,
        unsigned char* c,
        Py_ssize_t cn,
    ) except -1
    cdef int flush_out(self) except -1


cdef class Unpacker:
    cdef object new
    cdef object error
    cdef object inflate  # the stream, None between those that are forgotten
    cdef object call  # its method
    cdef bytes end
    cdef int wbits
    cdef bint forgets
    cdef bint is_inside  # a message has begun to arrive
    cdef object fresh(self)
    cdef object ended(self, chunk)
    cdef bytes go_on(self, bytes out, Py_ssize_t asked, bint final, Py_ssize_t limit)
