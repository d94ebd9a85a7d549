/* What the workloads do with connections, and the threads that run them. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "load.h"

#define PERIOD 257021u /* of the pattern, a prime: a shifted stream never matches */
#define OPENING_MAX 16
#define WARM_PINGS (opt.streams > 0 ? 20u : 200u)
#define STALL_WRITE 65536

atomic_ullong bulk_total, deadline, last_progress, finished, messages, streamed;
atomic_int server_open;
uint32_t *latency;
struct loop client, server, ping_client, ping_server;

static uint8_t pattern[PERIOD + MAX_WRITE];
static struct conn **pingers;
static int pinger_count;

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void pattern_init(uint64_t seed)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u | 1;
    for (size_t i = 0; i < PERIOD; i++) {
        x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
        pattern[i] = (uint8_t)(x * 0x2545f4914f6cdd1du >> 56);
    }
    for (size_t i = PERIOD; i < sizeof pattern; i++) pattern[i] = pattern[i - PERIOD];
    latency = malloc(LATENCIES * sizeof *latency);
    pingers = calloc((size_t)opt.conns + 1, sizeof *pingers);
    if (latency == NULL || pingers == NULL) fail("memory");
}

/* At least MAX_WRITE bytes of the connection's stream from pos on. */
const uint8_t *pattern_at(const struct conn *c, uint64_t pos)
{
    return pattern + (c->index * 7919u + pos) % PERIOD;
}

static bool differs(const uint8_t *p, const uint8_t *q, size_t n, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key, sum = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t a, b;
        memcpy(&a, p + i, 8);
        memcpy(&b, q + i, 8);
        sum |= a ^ b ^ wide;
    }
    for (; i < n; i++) sum |= p[i] ^ q[i] ^ (uint8_t)(wide >> (i % 8 * 8));
    return sum != 0;
}

/* n bytes of payload masked with key (0: not masked) must go on with the stream. */
void verify(struct conn *c, const uint8_t *p, size_t n, uint32_t key)
{
    while (n > 0) {
        size_t m = n < MAX_WRITE ? n : MAX_WRITE;
        if (differs(p, pattern_at(c, c->rx_pos), m, key))
            fail("%s %u: wrong bytes between %llu and %llu", c->client ? "client" : "server",
                 c->index, (unsigned long long)c->rx_pos, (unsigned long long)(c->rx_pos + m));
        c->rx_pos += m;
        key = turn_key(key, m & 3);
        p += m;
        n -= m;
    }
}

static void record(uint64_t started)
{
    uint64_t now = now_ns(), n = atomic_fetch_add(&messages, 1);
    if (n < LATENCIES) latency[n] = (uint32_t)(now - started);
    atomic_store(&finished, now);
}

/* ---- opening ---- */

void make_hello(const struct conn *c, uint8_t hello[HELLO])
{
    memset(hello, 0, HELLO);
    memcpy(hello, "BENCH", 5);
    hello[5] = c->kind;
    memcpy(hello + 8, &c->index, 4);
}

void open_more(struct loop *l)
{
    int most = l->open_kind == ONCE ? opt.conns : OPENING_MAX;
    while (l->to_open > 0 && l->opening < most) {
        l->to_open--;
        l->opening++;
        conn_open(l, l->open_kind);
    }
}

/* ---- bulk and stall ---- */

static bool sends_bulk(const struct conn *c)
{
    return c->kind == (c->client ? SINK : SOURCE);
}

static void send_bulk(struct conn *c)
{
    for (int turns = 0; c->out[0].iov_len + c->out[1].iov_len == 0; turns++) {
        uint64_t total = atomic_load(&bulk_total), n = opt.write;
        if (opt.streams > 0 && turns == TURNS) {
            conn_again(c);
            return;
        }
        if (c->tx_pos >= total) return;
        if (n > total - c->tx_pos) n = total - c->tx_pos;
        if (total == UINT64_MAX && opt.streams == 0
            && (now_ns() >= atomic_load(&deadline) || c->tx_pos + n >= opt.bytes))
            atomic_store(&bulk_total, c->tx_pos + n); /* this is the last write */
        conn_send(c, pattern_at(c, c->tx_pos), n);
        c->tx_pos += n;
    }
}

static void send_until_stalled(struct conn *c)
{
    do {
        conn_send(c, pattern_at(c, c->tx_pos), STALL_WRITE);
        c->tx_pos += STALL_WRITE;
    } while (c->out[0].iov_len + c->out[1].iov_len == 0);
}

void on_writable(struct conn *c)
{
    if (c->kind == STALL) send_until_stalled(c);
    else if (sends_bulk(c)) send_bulk(c);
}

void start_bulk(struct loop *l)
{
    on_writable(l->bulk);
}

/* ---- ping-pong ---- */

static void ping(struct conn *c)
{
    c->started = now_ns();
    conn_send(c, pattern_at(c, c->tx_pos), opt.ping);
    c->tx_pos += opt.ping;
}

static void on_pong(struct conn *c)
{
    uint64_t end = atomic_load(&deadline);
    c->pings++;
    if (end == 0) {
        if (c->pings < WARM_PINGS) ping(c);
        else if (c->pings == WARM_PINGS) notify();
    } else {
        record(c->started);
        if (atomic_load_explicit(&finished, memory_order_relaxed) < end) ping(c);
        else notify();
    }
}

void start_pings(struct loop *l)
{
    (void)l;
    for (int i = 0; i < pinger_count; i++) ping(pingers[i]);
}

static void on_whole(struct conn *c)
{
    c->ping_have = 0;
    if (c->client) {
        on_pong(c);
    } else {
        conn_send(c, pattern_at(c, c->tx_pos), opt.ping);
        c->tx_pos += opt.ping;
    }
}

/* ---- what the connection layer calls ---- */

static void on_greeted(struct conn *c)
{
    struct loop *l = c->loop;
    c->phase = RUNNING;
    if (c->kind == ONCE) {
        if (atomic_load(&deadline) != 0) record(c->started);
        if (!opt.server_closes) conn_start_close(c);
        return;
    }
    l->opening--;
    if (c->kind == ECHO) {
        pingers[pinger_count++] = c;
        ping(c);
    } else if (c->kind == SINK) {
        l->bulk = c;
        on_writable(c);
    } else if (c->kind == STALL) {
        on_writable(c);
    }
    if (c->kind == IDLE || c->kind == STALL || opt.streams > 0) notify();
    open_more(l);
}

static void on_hello(struct conn *c)
{
    uint8_t hello[HELLO];
    memcpy(hello, c->small, HELLO);
    if (memcmp(hello, "BENCH", 5) != 0) fail("server got something else than a hello");
    c->kind = hello[5];
    memcpy(&c->index, hello + 8, 4);
    c->phase = RUNNING;
    conn_send(c, hello, HELLO);
    if (!conn_flush(c)) fail("hello did not fit");
    if (c->kind == ONCE && opt.server_closes) {
        conn_start_close(c);
    } else if (c->kind == ECHO && opt.streams > 0) {
        c->move_to = &ping_server;
    } else if (c->kind == SOURCE || c->kind == STALL) {
        c->loop->bulk = c;
        on_writable(c);
    }
}

static size_t take_ping(struct conn *c, const uint8_t *p, size_t n, uint32_t key)
{
    size_t m = opt.ping - c->ping_have < n ? opt.ping - c->ping_have : n;
    verify(c, p, m, key);
    c->ping_have += m;
    if (c->ping_have == opt.ping) on_whole(c);
    return m;
}

static size_t take_hello(struct conn *c, const uint8_t *p, size_t n, uint32_t key)
{
    size_t m = HELLO - c->small_have < n ? HELLO - c->small_have : n;
    memcpy(c->small + c->small_have, p, m);
    xor_mask(c->small + c->small_have, m, key);
    c->small_have += (unsigned)m;
    if (c->small_have < HELLO) return m;
    c->small_have = 0;
    if (c->client) {
        uint8_t want[HELLO];
        make_hello(c, want);
        if (memcmp(c->small, want, HELLO) != 0) fail("the answer is not our hello");
        on_greeted(c);
    } else {
        on_hello(c);
    }
    return m;
}

void on_payload(struct conn *c, uint8_t *p, size_t n, uint32_t key)
{
    while (n > 0) {
        size_t m = n;
        if (c->phase == GREETING) {
            m = take_hello(c, p, n, key);
        } else if (c->kind == ECHO) {
            m = take_ping(c, p, n, key);
        } else if (c->kind == SINK || c->kind == SOURCE) {
            verify(c, p, n, key);
            if (opt.streams > 0)
                atomic_fetch_add_explicit(&streamed, n, memory_order_relaxed);
            uint64_t total = atomic_load(&bulk_total);
            if (c->rx_pos > total) fail("more bytes came than were sent");
            if (c->rx_pos == total) atomic_store(&finished, now_ns()), notify();
        } else if (c->kind != STALL) { /* what came with the hello is dropped */
            fail("unexpected bytes");
        }
        p += m;
        n -= m;
        key = turn_key(key, m & 3);
    }
}

void on_closed(struct conn *c)
{
    struct loop *l = c->loop;
    c->next = l->closed;
    l->closed = c;
    if (!c->client) {
        atomic_fetch_sub(&server_open, 1);
        return;
    }
    l->opening--;
    if (now_ns() < atomic_load(&deadline)) l->to_open = opt.conns - l->opening;
    open_more(l);
    if (l->opening == 0 && l->to_open == 0) notify();
}

/* ---- threads ---- */

static void *run(void *arg)
{
    struct loop *l = arg;
    struct epoll_event got[256];
    /* Streams shall delay the ping-pong in the relay, not here. */
    if (opt.streams > 0 && (l == &client || l == &server))
        setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
    for (;;) {
        int n = epoll_wait(l->epfd, got, 256, -1);
        for (int i = 0; i < n; i++) {
            uint64_t count;
            if (got[i].data.ptr == l) {
                conn_accept(l);
            } else if (got[i].data.ptr != NULL) {
                conn_event(got[i].data.ptr, got[i].events);
            } else if (read(l->wake, &count, sizeof count) == sizeof count) {
                l->command(l);
            }
        }
        while (l->closed != NULL) {
            struct conn *c = l->closed;
            l->closed = c->next;
            free(c);
        }
    }
    return NULL;
}

static void add(struct loop *l, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) fail("epoll_ctl: %s", strerror(errno));
}

void loop_start(struct loop *l, int listener)
{
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->listener = listener;
    l->rx = malloc(RX_SIZE);
    if (l->epfd < 0 || l->wake < 0 || l->rx == NULL) fail("loop: %s", strerror(errno));
    add(l, l->wake, NULL);
    if (listener >= 0) add(l, listener, l);
    if (pthread_create(&l->thread, NULL, run, l) != 0) fail("thread");
}

void loop_tell(struct loop *l, void (*command)(struct loop *))
{
    uint64_t one = 1;
    l->command = command;
    if (write(l->wake, &one, sizeof one) != sizeof one) fail("wake: %s", strerror(errno));
}
