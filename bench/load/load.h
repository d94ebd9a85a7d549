/*
 * The load generator: clients and servers around the program under test, in one
 * process, a thread each. Every byte is compared with a seeded pattern.
 *
 * main.c  options, steps, the JSON line        work.c  what the workloads do
 * conn.c  one connection: handshake, frames, sending, receiving
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../wire.h"

#define HELLO 16             /* first message of a connection, answered in kind */
#define PING 64              /* message of the ping-pong, unless --size says else */
#define MAX_WRITE (1u << 20)
#define RX_SIZE (256u << 10)
#define PROXY_V2 28          /* bytes of a PROXY header, version 2, for TCP over IPv4 */
#define TURNS 16             /* full reads or writes before others have their turn */
#define LATENCIES (1u << 22) /* samples kept */

/* What a connection is for; the client says it in its hello. */
enum kind { ECHO = 1, SINK, SOURCE, IDLE, STALL, ONCE };
enum phase { CONNECTING, ASKING, HTTP, GREETING, RUNNING, CLOSING, CLOSED };

struct loop;

struct conn {
    int fd;
    bool client, ws, in_frame, pong_due, unread;
    enum phase phase;
    uint8_t kind;
    uint32_t index;
    struct loop *loop;
    /* receiving */
    uint8_t head[HEAD_MAX], have;
    uint8_t control[CONTROL_MAX], control_have;
    struct header frame;
    uint8_t proxy_left; /* of the PROXY header that comes first */
    uint32_t last_key;
    uint64_t left, rx_pos;
    uint8_t small[PING];
    unsigned small_have;
    size_t ping_have;
    char *http;
    size_t http_len;
    char accept[29];
    /* sending */
    struct iovec out[2];
    uint8_t out_head[HEAD_MAX + CONTROL_MAX], pong[CONTROL_MAX], pong_len;
    uint8_t *masked; /* a client's frame, for large writes */
    uint64_t tx_pos;
    uint64_t started; /* ns: connect or last ping */
    unsigned pings;
    struct conn *next;
    struct loop *move_to; /* at the end of this event */
};

/* Everything one thread owns. Counters are read by main while the loop is quiet. */
struct loop {
    int epfd, wake, listener;
    pthread_t thread;
    void (*command)(struct loop *);
    uint8_t *rx;
    int to_open, opening; /* clients: connections to make, under way */
    uint8_t open_kind;
    uint32_t next_index;
    struct conn *bulk, *closed; /* the one that sends; those to be freed */
    uint64_t frames, frame_bytes, not_fin, text, same_keys, resets;
};

struct options {
    const char *workload;
    enum proxy { NONE, CONNECT, SOCKS5 } proxy; /* what the clients ask first */
    bool client_ws, server_ws, server_closes, step, small_buffers, features;
    int connect_port, listen_port, conns, idle, streams;
    size_t write, warm, ping;
    uint64_t bytes;
    double seconds, timeout;
};

extern struct options opt;

/* Shared state of the run, see work.c. */
extern atomic_ullong bulk_total;    /* where the bulk sender stops, bytes */
extern atomic_ullong deadline;      /* ns; 0 while warming up */
extern atomic_ullong last_progress; /* ns; when something could be sent to a stalled reader */
extern atomic_ullong finished;      /* ns; when the last byte or answer came */
extern atomic_ullong streamed;      /* bytes of the streams beside ping-pongs */
extern atomic_ullong messages;      /* ping-pongs or connections since the warm-up */
extern atomic_int server_open;      /* accepted and not yet closed */
extern uint32_t *latency;           /* ns */
extern struct loop client, server, ping_client, ping_server;

uint64_t now_ns(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void notify(void); /* tells main that one of the awaited things has happened */

/* pattern */
void pattern_init(uint64_t seed);
const uint8_t *pattern_at(const struct conn *c, uint64_t pos);
void verify(struct conn *c, const uint8_t *p, size_t n, uint32_t key);

/* conn.c */
void make_hello(const struct conn *c, uint8_t hello[HELLO]);
struct conn *conn_open(struct loop *l, uint8_t kind);
void conn_accept(struct loop *l);
void conn_event(struct conn *c, uint32_t events);
void conn_send(struct conn *c, const uint8_t *p, size_t n); /* p outlives the sending */
bool conn_flush(struct conn *c);                            /* all out? */
void conn_start_close(struct conn *c);
void conn_done(struct conn *c);
void conn_again(struct conn *c); /* epoll shall report it once more */

/* work.c: what the connection layer calls */
void on_payload(struct conn *c, uint8_t *p, size_t n, uint32_t key);
void on_writable(struct conn *c);                            /* nothing is unsent */
void on_closed(struct conn *c);

/* main tells a loop what to do next */
void loop_start(struct loop *l, int listener);
void loop_tell(struct loop *l, void (*command)(struct loop *));
void open_more(struct loop *l); /* as to_open and open_kind say */
void start_pings(struct loop *l);
void start_bulk(struct loop *l);

#endif
