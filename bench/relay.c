/*
 * A minimal relay between TCP and WebSocket: one thread, level-triggered epoll.
 *
 *   relay stw LISTENPORT HOST PORT    TCP in, WebSocket client out
 *   relay wts LISTENPORT HOST PORT    WebSocket server in, TCP out
 *
 * It stands for the limit that fastws is measured against, so it works in the same
 * shape: reads of up to 2 MiB into one shared block, frames of at most 32 KiB with
 * their header, fresh masking keys, masks applied in place, one vectored write for
 * all frames of a read, and no reading while the other side has something unsent.
 * A block changes hands instead of being copied when the other side takes only part.
 *
 * Left out on purpose: TLS, half-close, timeouts, limits, logs. A TCP end becomes a
 * Close; a Close ends the connection once the bytes before it are delivered.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "wire.h"

#define READ_SIZE (2u << 20)
#define FRAME_SIZE 32768u /* header included */
#define FRAMES_MAX (READ_SIZE / (FRAME_SIZE - 8) + 1)
#define PIECES_MAX 1024 /* IOV_MAX */
#define JOIN_BELOW 4096 /* moving so little costs less than one more piece */
#define SPARE_BLOCKS 8

struct block {
    int first, count; /* the pieces still to be sent */
    struct iovec piece[PIECES_MAX];
    uint8_t head[FRAMES_MAX][8];
    uint8_t data[READ_SIZE];
};

struct conn;

struct end {
    int fd;
    uint32_t events; /* what epoll watches */
    bool ws, hung, close_sent, in_frame;
    uint8_t have;          /* bytes of an incomplete header in head */
    uint8_t control_have;  /* bytes of an incomplete control payload */
    uint8_t late_len;      /* answer to the newest ping that could not be sent */
    bool late_pong, late_close;
    uint8_t head[HEAD_MAX];
    struct header frame;
    uint64_t left; /* payload bytes of the frame still to come */
    struct conn *conn;
    struct end *peer;
    struct block *unsent;
    uint8_t control[CONTROL_MAX], late[CONTROL_MAX];
};

enum state { CONNECTING, REQUEST, ANSWER, OPEN };

struct conn {
    struct end in, out; /* accepted, dialled */
    enum state state;
    bool ending, dead;
    struct conn *next_dead;
    char *http; /* the handshake head, only until OPEN */
    size_t http_len;
    char accept[29];
};

static bool stw;
static int epfd;
static struct sockaddr_storage target;
static socklen_t target_len;
static struct block *scratch, *spare[SPARE_BLOCKS];
static int spares;
static struct conn *graveyard;
static char request_tail[256];

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct block *take_block(void)
{
    if (spares > 0) return spare[--spares];
    struct block *b = malloc(sizeof *b);
    if (b == NULL) die("memory");
    return b;
}

static void give_block(struct block *b)
{
    if (spares < SPARE_BLOCKS) spare[spares++] = b;
    else free(b);
}

static void destroy(struct conn *c)
{
    if (c->dead) return;
    c->dead = true;
    if (c->in.fd >= 0) close(c->in.fd);
    if (c->out.fd >= 0) close(c->out.fd);
    if (c->in.unsent) give_block(c->in.unsent);
    if (c->out.unsent) give_block(c->out.unsent);
    free(c->http);
    c->next_dead = graveyard;
    graveyard = c;
}

static void watch(struct end *e, uint32_t events)
{
    if (e->events == events) return;
    struct epoll_event ev = {.events = events, .data.ptr = e};
    if (epoll_ctl(epfd, EPOLL_CTL_MOD, e->fd, &ev) < 0) die("epoll_ctl");
    e->events = events;
}

static void watch_first(struct end *e, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = e};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, e->fd, &ev) < 0) die("epoll_ctl");
    e->events = events;
}

/* Reads where the other side has nothing unsent; ends what has nothing left to do. */
static void update(struct conn *c)
{
    if (c->dead || c->state != OPEN) return;
    for (int i = 0; i < 2; i++) {
        struct end *e = i ? &c->out : &c->in;
        bool reads = !e->hung && !c->ending && e->peer->unsent == NULL;
        watch(e, (reads ? EPOLLIN : 0) | (e->unsent ? EPOLLOUT : 0));
    }
    if (c->ending && c->in.unsent == NULL && c->out.unsent == NULL) destroy(c);
}

/* 1: all out, 0: some is left, -1: the connection is gone. */
static int send_block(struct end *to, struct block *b)
{
    struct iovec *v = &b->piece[b->first];
    int n = b->count - b->first;
    ssize_t sent = n == 1 ? send(to->fd, v->iov_base, v->iov_len, MSG_NOSIGNAL)
                          : writev(to->fd, v, n);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    size_t done = (size_t)sent;
    while (b->first < b->count && done >= b->piece[b->first].iov_len)
        done -= b->piece[b->first++].iov_len;
    if (b->first == b->count) return 1;
    b->piece[b->first].iov_base = (uint8_t *)b->piece[b->first].iov_base + done;
    b->piece[b->first].iov_len -= done;
    return 0;
}

/* Hands the scratch block to `to`; keeps it there when not all could be sent. */
static void deliver(struct end *to)
{
    if (scratch->count == 0) return;
    int r = send_block(to, scratch);
    if (r < 0) {
        destroy(to->conn);
    } else if (r == 0) {
        to->unsent = scratch;
        scratch = take_block();
    }
}

static void send_control(struct end *e, int op, const uint8_t *payload, size_t len)
{
    if (e->close_sent) return;
    if (e->unsent != NULL) { /* goes out after it; of pings only the newest is answered */
        if (op == OP_CLOSE) e->late_close = true;
        else e->late_pong = true, e->late_len = (uint8_t)len, memcpy(e->late, payload, len);
        return;
    }
    uint8_t frame[HEAD_MAX + CONTROL_MAX];
    if (len > CONTROL_MAX) return; /* never: get_header saw to it */
    uint32_t key = stw ? fresh_key() : 0;
    size_t n = put_header(frame, op, len, stw, key);
    memcpy(frame + n, payload, len);
    if (stw) xor_mask(frame + n, len, key);
    n += len;
    e->close_sent = op == OP_CLOSE;
    ssize_t sent = send(e->fd, frame, n, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        destroy(e->conn);
        return;
    }
    if (sent < 0) sent = 0;
    if ((size_t)sent == n) return;
    struct block *b = take_block();
    memcpy(b->data, frame + sent, n - (size_t)sent);
    b->piece[0] = (struct iovec){b->data, n - (size_t)sent};
    b->first = 0, b->count = 1;
    e->unsent = b;
}

static void on_writable(struct end *e)
{
    if (e->unsent == NULL) return;
    int r = send_block(e, e->unsent);
    if (r < 0) destroy(e->conn);
    if (r <= 0) return;
    give_block(e->unsent);
    e->unsent = NULL;
    if (e->late_pong) e->late_pong = false, send_control(e, OP_PONG, e->late, e->late_len);
    if (e->late_close) send_control(e, OP_CLOSE, (const uint8_t *)"\x03\xe8", 2);
}

static void on_control(struct end *e)
{
    if (e->frame.op == OP_PING) send_control(e, OP_PONG, e->control, e->control_have);
    if (e->frame.op == OP_CLOSE) {
        send_control(e, OP_CLOSE, e->control, e->control_have < 2 ? 0 : 2);
        e->hung = e->conn->ending = true;
    }
}

/* Takes the next header from [p, end); the new p, or NULL on a protocol error. */
static uint8_t *next_header(struct end *e, uint8_t *p, uint8_t *end)
{
    const uint8_t *head = p;
    if (e->have == 0 && end - p >= 2 && (size_t)(end - p) >= header_size(p)) {
        p += header_size(p);
    } else {
        while (p < end && (e->have < 2 || e->have < header_size(e->head)))
            e->head[e->have++] = *p++;
        if (e->have < 2 || e->have < header_size(e->head)) return p;
        head = e->head;
        e->have = 0;
    }
    if (get_header(head, &e->frame) != NULL || e->frame.masked == stw) return NULL;
    e->in_frame = true;
    e->left = e->frame.len;
    e->control_have = 0;
    return p;
}

static void add_piece(struct block *b, uint8_t *p, size_t n)
{
    if (b->count > 0) {
        struct iovec *last = &b->piece[b->count - 1];
        uint8_t *tail = (uint8_t *)last->iov_base + last->iov_len;
        if (n < JOIN_BELOW || b->count == PIECES_MAX) {
            memmove(tail, p, n);
            last->iov_len += n;
            return;
        }
    }
    b->piece[b->count++] = (struct iovec){p, n};
}

/* n bytes from a WebSocket stand at p in scratch: payload goes to the TCP side. */
static void ws_bytes(struct end *e, uint8_t *p, size_t n)
{
    uint8_t *end = p + n;
    scratch->first = scratch->count = 0;
    while (p < end && !e->hung && !e->conn->dead) {
        if (!e->in_frame) {
            p = next_header(e, p, end);
            if (p == NULL) {
                destroy(e->conn);
                return;
            }
            if (!e->in_frame) break;
        }
        size_t m = e->left < (uint64_t)(end - p) ? (size_t)e->left : (size_t)(end - p);
        if (e->frame.masked && m > 0) {
            xor_mask(p, m, e->frame.key);
            e->frame.key = turn_key(e->frame.key, m & 3);
        }
        if (e->frame.op >= OP_CLOSE) {
            memcpy(e->control + e->control_have, p, m);
            e->control_have += (uint8_t)m;
        } else if (m > 0) {
            add_piece(scratch, p, m);
        }
        p += m;
        e->left -= m;
        if (e->left == 0) {
            e->in_frame = false;
            if (e->frame.op >= OP_CLOSE) on_control(e);
        }
    }
    if (!e->conn->dead) deliver(e->peer);
}

static void read_ws(struct end *e)
{
    ssize_t n = recv(e->fd, scratch->data, READ_SIZE, 0);
    if (n > 0) ws_bytes(e, scratch->data, (size_t)n);
    else if (n == 0) e->hung = e->conn->ending = true;
    else if (errno != EAGAIN && errno != EINTR) destroy(e->conn);
}

static void read_tcp(struct end *e)
{
    struct block *b = scratch;
    ssize_t n = recv(e->fd, b->data, READ_SIZE, 0);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) destroy(e->conn);
        return;
    }
    if (n == 0) {
        e->hung = true;
        send_control(e->peer, OP_CLOSE, (const uint8_t *)"\x03\xe8", 2);
        return;
    }
    size_t most = FRAME_SIZE - (stw ? 8 : 4), left = (size_t)n;
    uint8_t *p = b->data;
    b->first = b->count = 0;
    for (int i = 0; left > 0; i++) {
        size_t m = left < most ? left : most;
        uint32_t key = stw ? fresh_key() : 0;
        size_t h = put_header(b->head[i], OP_BINARY, m, stw, key);
        if (stw) xor_mask(p, m, key);
        b->piece[b->count++] = (struct iovec){b->head[i], h};
        b->piece[b->count++] = (struct iovec){p, m};
        p += m;
        left -= m;
    }
    deliver(e->peer);
}

static void send_all(struct end *e, const char *text, size_t len)
{
    if (send(e->fd, text, len, MSG_NOSIGNAL) != (ssize_t)len) destroy(e->conn);
}

/* Both sides stand: bytes after the handshake head are the first frames. */
static void open_conn(struct conn *c, struct end *ws, const char *rest)
{
    size_t n = (size_t)(c->http + c->http_len - rest);
    memcpy(scratch->data, rest, n);
    free(c->http);
    c->http = NULL;
    c->state = OPEN;
    if (n > 0) ws_bytes(ws, scratch->data, n);
}

static void connected(struct conn *c)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(c->out.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    char text[512];
    if (error != 0) {
        destroy(c);
    } else if (stw) {
        char key[25];
        make_key(key, c->accept);
        int n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n%sSec-WebSocket-Key: %s\r\n\r\n",
                         request_tail, key);
        c->state = ANSWER;
        watch(&c->out, EPOLLIN);
        send_all(&c->out, text, (size_t)n);
    } else {
        int n = snprintf(text, sizeof text,
                         "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                         "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", c->accept);
        send_all(&c->in, text, (size_t)n);
        if (!c->dead) open_conn(c, &c->in, strstr(c->http, "\r\n\r\n") + 4);
    }
}

static void dial(struct conn *c)
{
    int fd = socket(target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) {
        destroy(c);
        return;
    }
    c->out.fd = fd;
    c->state = CONNECTING;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int r = connect(fd, (struct sockaddr *)&target, target_len);
    watch_first(&c->out, r == 0 ? 0 : EPOLLOUT);
    if (r == 0) connected(c);
    else if (errno != EINPROGRESS) destroy(c);
}

static void on_head(struct end *e)
{
    struct conn *c = e->conn;
    if (c->http == NULL) c->http = malloc(HTTP_MAX + 1);
    if (c->http == NULL) die("memory");
    ssize_t n = recv(e->fd, c->http + c->http_len, HTTP_MAX - c->http_len, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) destroy(c);
        return;
    }
    c->http_len += (size_t)n;
    c->http[c->http_len] = 0;
    const char *rest = strstr(c->http, "\r\n\r\n");
    if (rest == NULL) {
        if (c->http_len == HTTP_MAX) destroy(c);
        return;
    }
    size_t len = 0;
    const char *v = field(c->http, stw ? "Sec-WebSocket-Accept" : "Sec-WebSocket-Key", &len);
    if (stw) {
        if (v == NULL || len != 28 || memcmp(v, c->accept, 28) != 0
            || strncmp(c->http, "HTTP/1.1 101", 12) != 0) destroy(c);
        else open_conn(c, e, rest + 4);
    } else if (v == NULL || len != 24) {
        destroy(c);
    } else {
        accept_value(v, c->accept);
        watch(e, 0);
        dial(c);
    }
}

static void on_event(struct end *e, uint32_t events)
{
    struct conn *c = e->conn;
    if (c->dead) return;
    if (events & EPOLLERR || (events & EPOLLHUP && !(e->events & EPOLLIN))) {
        destroy(c);
    } else if (c->state == OPEN) {
        if (events & EPOLLOUT) on_writable(e);
        if (events & (EPOLLIN | EPOLLHUP) && e->events & EPOLLIN && !c->dead) {
            if (e->ws) read_ws(e);
            else read_tcp(e);
        }
    } else if (c->state == CONNECTING) {
        connected(c);
    } else {
        on_head(e);
    }
    update(c);
}

static void accept_some(int listener)
{
    for (int i = 0; i < 64; i++) {
        int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = calloc(1, sizeof *c);
        if (c == NULL) die("memory");
        c->in = (struct end){.fd = fd, .conn = c, .peer = &c->out, .ws = !stw};
        c->out = (struct end){.fd = -1, .conn = c, .peer = &c->in, .ws = stw};
        c->state = REQUEST;
        watch_first(&c->in, stw ? 0 : EPOLLIN);
        if (stw) dial(c);
    }
}

static void resolve(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int r = getaddrinfo(host, port, &hints, &found);
    if (r != 0) {
        fprintf(stderr, "relay: %s: %s\n", host, gai_strerror(r));
        exit(1);
    }
    memcpy(&target, found->ai_addr, found->ai_addrlen);
    target_len = found->ai_addrlen;
    freeaddrinfo(found);
    snprintf(request_tail, sizeof request_tail,
             "Host: %.64s:%.5s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Version: 13\r\n", host, port);
}

int main(int argc, char **argv)
{
    if (argc != 5 || (strcmp(argv[1], "stw") != 0 && strcmp(argv[1], "wts") != 0)) {
        fprintf(stderr, "usage: relay stw|wts LISTENPORT HOST PORT\n");
        return 2;
    }
    stw = strcmp(argv[1], "stw") == 0;
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    resolve(argv[3], argv[4]);
    scratch = take_block();
    epfd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[2]), 0);
    if (listener < 0) die(argv[2]);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL}, got[256];
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &ev) < 0) die("epoll_ctl");
    for (;;) {
        int n = epoll_wait(epfd, got, 256, -1);
        for (int i = 0; i < n; i++) {
            if (got[i].data.ptr == NULL) accept_some(listener);
            else on_event(got[i].data.ptr, got[i].events);
        }
        while (graveyard != NULL) {
            struct conn *c = graveyard;
            graveyard = c->next_dead;
            free(c);
        }
    }
}
