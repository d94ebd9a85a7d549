/* One connection: handshake, frames, sending, receiving. */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "load.h"

static void tune(int fd)
{
    int on = 1, small = 65536;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (opt.small_buffers) { /* what fills up shall be the relay, not the kernel */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }
}

static void watch(struct conn *c, int op)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(c->loop->epfd, op, c->fd, &ev) < 0) fail("epoll_ctl: %s", strerror(errno));
}

void conn_again(struct conn *c)
{
    watch(c, EPOLL_CTL_MOD);
}

void conn_done(struct conn *c)
{
    if (c->phase == CLOSED) return;
    c->phase = CLOSED;
    close(c->fd);
    free(c->masked);
    free(c->http);
    c->masked = NULL;
    c->http = NULL;
    on_closed(c);
}

/* From here on the connection belongs to the other thread. */
static void move(struct conn *c)
{
    epoll_ctl(c->loop->epfd, EPOLL_CTL_DEL, c->fd, NULL);
    c->loop = c->move_to;
    c->move_to = NULL;
    watch(c, EPOLL_CTL_ADD);
}

bool conn_flush(struct conn *c)
{
    while (c->out[0].iov_len + c->out[1].iov_len > 0) {
        struct iovec *v = c->out[0].iov_len > 0 ? c->out : c->out + 1;
        int n = v == c->out && c->out[1].iov_len > 0 ? 2 : 1;
        ssize_t sent = n == 1 ? send(c->fd, v->iov_base, v->iov_len, MSG_NOSIGNAL)
                              : writev(c->fd, v, n);
        if (sent < 0) {
            if (errno == EAGAIN) return false;
            if (errno == EINTR) continue;
            if (c->phase == CLOSING) {
                c->loop->resets++;
                conn_done(c);
                return false;
            }
            fail("send: %s", strerror(errno));
        }
        if (c->kind == STALL)
            atomic_store_explicit(&last_progress, now_ns(), memory_order_relaxed);
        for (size_t left = (size_t)sent; left > 0; v++) {
            size_t m = left < v->iov_len ? left : v->iov_len;
            v->iov_base = (uint8_t *)v->iov_base + m;
            v->iov_len -= m;
            left -= m;
        }
    }
    return true;
}

static void xor_copy(uint8_t *restrict to, const uint8_t *restrict from, size_t n, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, from + i, 8);
        v ^= wide;
        memcpy(to + i, &v, 8);
    }
    for (; i < n; i++) to[i] = from[i] ^ (uint8_t)(wide >> (i % 8 * 8));
}

static void send_frame(struct conn *c, int op, const uint8_t *p, size_t n)
{
    if (!c->client) {
        c->out[0] = (struct iovec){c->out_head, put_header(c->out_head, op, n, false, 0)};
        c->out[1] = (struct iovec){(void *)p, n};
    } else {
        uint8_t *to = c->out_head;
        if (n > CONTROL_MAX) {
            if (c->masked == NULL) c->masked = malloc(HEAD_MAX + MAX_WRITE);
            to = c->masked;
        }
        uint32_t key = fresh_key();
        size_t h = put_header(to, op, n, true, key);
        xor_copy(to + h, p, n, key);
        c->out[0] = (struct iovec){to, h + n};
        c->out[1].iov_len = 0;
    }
    conn_flush(c);
}

void conn_send(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->out[0].iov_len + c->out[1].iov_len > 0) fail("sending while something is unsent");
    if (c->ws) {
        send_frame(c, OP_BINARY, p, n);
    } else {
        c->out[0] = (struct iovec){(void *)p, n};
        c->out[1].iov_len = 0;
        conn_flush(c);
    }
}

void conn_start_close(struct conn *c)
{
    c->phase = CLOSING;
    if (c->ws) send_frame(c, OP_CLOSE, (const uint8_t *)"\x03\xe8", 2);
    else shutdown(c->fd, SHUT_WR);
}

static void send_pong(struct conn *c)
{
    if (c->out[0].iov_len + c->out[1].iov_len > 0) return; /* after it */
    c->pong_due = false;
    send_frame(c, OP_PONG, c->pong, c->pong_len);
}

static void on_control(struct conn *c)
{
    if (c->frame.op == OP_PING) {
        c->pong_len = c->control_have;
        memcpy(c->pong, c->control, c->control_have);
        c->pong_due = true;
        send_pong(c);
    } else if (c->frame.op == OP_CLOSE) {
        if (c->kind != ONCE || (c->phase != RUNNING && c->phase != CLOSING)) {
            int code = c->control_have < 2 ? 0 : c->control[0] << 8 | c->control[1];
            fail("%s got an early Close %d", c->client ? "client" : "server", code);
        }
        if (c->phase == RUNNING) conn_start_close(c);
        if (!c->client && c->phase != CLOSED) shutdown(c->fd, SHUT_WR);
    }
}

static void on_header(struct conn *c)
{
    struct loop *l = c->loop;
    if (c->frame.masked == c->client)
        fail("%s got %s frame", c->client ? "client" : "server",
             c->client ? "a masked" : "an unmasked");
    c->in_frame = true;
    c->left = c->frame.len;
    c->control_have = 0;
    if (c->frame.masked) {
        if (c->frame.key == c->last_key) l->same_keys++;
        c->last_key = c->frame.key;
    }
    if (c->frame.op >= OP_CLOSE) return;
    l->frames++;
    l->frame_bytes += c->frame.len + header_size(c->head);
    if (!c->frame.fin || c->frame.op == OP_CONT) l->not_fin++;
    if (c->frame.op == OP_TEXT) l->text++;
}

static void ws_bytes(struct conn *c, uint8_t *p, size_t n)
{
    uint8_t *end = p + n;
    while (p < end && c->phase != CLOSED) {
        if (!c->in_frame) {
            while (p < end && (c->have < 2 || c->have < header_size(c->head)))
                c->head[c->have++] = *p++;
            if (c->have < 2 || c->have < header_size(c->head)) return;
            const char *wrong = get_header(c->head, &c->frame);
            if (wrong != NULL) fail("frame from the relay: %s", wrong);
            on_header(c);
            c->have = 0;
        }
        size_t m = c->left < (uint64_t)(end - p) ? (size_t)c->left : (size_t)(end - p);
        c->left -= m;
        if (c->frame.op >= OP_CLOSE) {
            memcpy(c->control + c->control_have, p, m);
            xor_mask(c->control + c->control_have, m, c->frame.key);
            c->control_have += (uint8_t)m;
        } else if (m > 0) {
            on_payload(c, p, m, c->frame.key);
        }
        c->frame.key = turn_key(c->frame.key, m & 3);
        p += m;
        if (c->left == 0) {
            c->in_frame = false;
            if (c->frame.op >= OP_CLOSE) on_control(c);
        }
    }
}

/* How many bytes of p belong to the PROXY header that the relay has to send first. */
static size_t take_proxy(struct conn *c, const uint8_t *p, size_t n)
{
    static const uint8_t want[] = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
                                  "\xc0\0\2\1\xc0\0\2\2\x9c\x40\x01\xbb";
    size_t m = n < c->proxy_left ? n : c->proxy_left;
    if (memcmp(p, want + PROXY_V2 - c->proxy_left, m) != 0) fail("wrong PROXY header");
    c->proxy_left -= (uint8_t)m;
    return m;
}

static void bytes(struct conn *c, uint8_t *p, size_t n)
{
    size_t m = c->proxy_left > 0 ? take_proxy(c, p, n) : 0;
    p += m;
    n -= m;
    if (c->ws) ws_bytes(c, p, n);
    else on_payload(c, p, n, 0);
}

static void send_text(struct conn *c, const char *text, size_t n)
{
    if (send(c->fd, text, n, MSG_NOSIGNAL) != (ssize_t)n) fail("handshake: %s", strerror(errno));
}

static void greet(struct conn *c)
{
    uint8_t hello[HELLO];
    c->phase = GREETING;
    make_hello(c, hello);
    conn_send(c, hello, HELLO);
    if (!conn_flush(c)) fail("hello did not fit");
}

/* What a client says to the proxy before its stream: one step after the other. */
static void ask(struct conn *c)
{
    char text[128];
    int n;
    uint8_t port[2] = {(uint8_t)(opt.listen_port >> 8), (uint8_t)opt.listen_port};
    c->phase = ASKING;
    if (opt.proxy == CONNECT) {
        n = snprintf(text, sizeof text, "CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n",
                     opt.listen_port, opt.listen_port);
    } else if (c->small_have == 0) { /* RFC 1928: no authentication */
        memcpy(text, "\5\1", n = 3);
    } else { /* connect to an IPv4 address */
        memcpy(text, "\5\1\0\1\x7f\0\0\1", 8);
        memcpy(text + 8, port, sizeof port);
        n = 10;
    }
    send_text(c, text, (size_t)n);
}

/* One byte of the proxy's answer; an IPv4 address in its reply is all that may come. */
static void take_answer(struct conn *c, uint8_t byte)
{
    if (c->small_have == sizeof c->small) /* of a long head the beginning and the end */
        memmove(c->small + 12, c->small + 13, sizeof c->small - 13), c->small_have--;
    c->small[c->small_have++] = byte;
    unsigned n = c->small_have;
    if (opt.proxy == CONNECT) {
        if (n < 12 || memcmp(c->small + n - 4, "\r\n\r\n", 4) != 0) return;
        if (memcmp(c->small, "HTTP/1.", 7) != 0 || memcmp(c->small + 8, " 200", 4) != 0)
            fail("CONNECT refused: %.12s", (char *)c->small);
    } else if (n == 2) {
        if (memcmp(c->small, "\5\0", 2) != 0) fail("SOCKS5 wants a login");
        ask(c);
        return;
    } else if (n < 12) {
        return;
    } else if (memcmp(c->small + 2, "\5\0\0\1", 4) != 0) {
        fail("SOCKS5 reply %d, address type %d", c->small[3], c->small[5]);
    }
    c->small_have = 0;
    greet(c);
}

static void on_connected(struct conn *c)
{
    if (opt.proxy != NONE) {
        ask(c);
        return;
    }
    if (!c->ws) {
        greet(c);
        return;
    }
    char key[25], text[384];
    make_key(key, c->accept);
    int n = snprintf(text, sizeof text,
                     "%sGET /%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: %s\r\n%s\r\n",
                     opt.features ? "PROXY TCP4 192.0.2.1 192.0.2.2 40000 443\r\n" : "",
                     opt.features ? "bench/one" : "", opt.connect_port, key,
                     opt.features ? "Authorization: Bearer bench-token\r\n" : "");
    c->phase = HTTP;
    send_text(c, text, (size_t)n);
}

static void answer_upgrade(struct conn *c)
{
    size_t len, protocol_len = 0;
    char text[512], accept[29], line[128] = "";
    const char *key = field(c->http, "Sec-WebSocket-Key", &len);
    if (key == NULL || len != 24) fail("no usable Sec-WebSocket-Key: %s", c->http);
    accept_value(key, accept);
    const char *protocol = field(c->http, "Sec-WebSocket-Protocol", &protocol_len);
    if (protocol != NULL) {
        const char *comma = memchr(protocol, ',', protocol_len);
        if (comma != NULL) protocol_len = (size_t)(comma - protocol);
        snprintf(line, sizeof line, "Sec-WebSocket-Protocol: %.*s\r\n", (int)protocol_len,
                 protocol);
    }
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n", accept, line);
    c->phase = GREETING;
    send_text(c, text, (size_t)n);
}

static void on_head(struct conn *c, const uint8_t *p, size_t n)
{
    if (c->http == NULL) c->http = malloc(HTTP_MAX + 1);
    if (c->http_len + n > HTTP_MAX) fail("handshake head too long");
    memcpy(c->http + c->http_len, p, n);
    c->http_len += n;
    c->http[c->http_len] = 0;
    char *rest = strstr(c->http, "\r\n\r\n");
    if (rest == NULL) return;
    rest += 4;
    if (c->client) {
        size_t len = 0;
        const char *v = field(c->http, "Sec-WebSocket-Accept", &len);
        if (strncmp(c->http, "HTTP/1.1 101", 12) != 0 || v == NULL || len != 28
            || memcmp(v, c->accept, 28) != 0) fail("upgrade refused: %.200s", c->http);
        greet(c);
    } else {
        answer_upgrade(c);
    }
    size_t left = (size_t)(c->http + c->http_len - rest);
    if (left > 0) bytes(c, (uint8_t *)rest, left);
    free(c->http);
    c->http = NULL;
}

static void on_end(struct conn *c, int error)
{
    if (error == 0 && c->kind == ONCE && c->phase == RUNNING) {
        conn_done(c); /* the other side closed first */
    } else if (c->phase == CLOSING || (!c->client && c->phase != RUNNING)) {
        /* also a leftover of an earlier run that never said hello */
        if (error != 0) c->loop->resets++;
        conn_done(c);
    } else {
        fail("%s %u (kind %d, phase %d) lost: %s", c->client ? "client" : "server", c->index,
             c->kind, c->phase, error ? strerror(error) : "end of file");
    }
}

/* Edge-triggered: reads until a read comes short. */
static void receive(struct conn *c)
{
    for (int turns = 0; c->phase != CLOSED; turns++) {
        if (turns == TURNS) {
            conn_again(c);
            return;
        }
        if (c->kind == STALL && c->phase == RUNNING) return; /* never reads */
        ssize_t n = recv(c->fd, c->loop->rx, RX_SIZE, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            on_end(c, n == 0 ? 0 : errno);
            return;
        }
        uint8_t *p = c->loop->rx;
        while (c->phase == ASKING && n > 0) take_answer(c, *p++), n--;
        if (n == 0) continue;
        if (c->phase == HTTP) on_head(c, c->loop->rx, (size_t)n);
        else bytes(c, p, (size_t)n);
        if (n < (ssize_t)RX_SIZE && !(c->unread)) return;
    }
}

void conn_event(struct conn *c, uint32_t events)
{
    if (c->phase == CLOSED) return;
    c->unread = events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP); /* an end follows the data */
    if (c->phase == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0) fail("connect to the relay: %s", strerror(error));
        if (!(events & EPOLLOUT)) return;
        on_connected(c);
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
    if (events & EPOLLOUT && c->phase != CLOSED && conn_flush(c)) {
        if (c->pong_due) send_pong(c);
        if (c->phase == RUNNING) on_writable(c);
    }
    if (c->move_to != NULL) move(c);
}

struct conn *conn_open(struct loop *l, uint8_t kind)
{
    struct conn *c = calloc(1, sizeof *c);
    if (c == NULL) fail("memory");
    c->client = true;
    c->ws = opt.client_ws;
    c->kind = kind;
    c->loop = l;
    c->index = l->next_index++;
    c->started = now_ns();
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket: %s", strerror(errno));
    tune(c->fd);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)opt.connect_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS)
        fail("connect to the relay: %s", strerror(errno));
    watch(c, EPOLL_CTL_ADD);
    return c;
}

void conn_accept(struct loop *l)
{
    int fd;
    while ((fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (c == NULL) fail("memory");
        *c = (struct conn){.fd = fd, .ws = opt.server_ws, .loop = l};
        c->phase = c->ws ? HTTP : GREETING;
        c->proxy_left = opt.features ? PROXY_V2 : 0;
        tune(fd);
        atomic_fetch_add(&server_open, 1);
        watch(c, EPOLL_CTL_ADD);
    }
    if (errno != EAGAIN && errno != EINTR) fail("accept: %s", strerror(errno));
}
