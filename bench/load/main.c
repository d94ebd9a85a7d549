/*
 * load WORKLOAD --connect PORT --listen PORT [--client tcp|ws] [--server tcp|ws] ...
 *
 * Clients connect to PORT, where the program under test listens; it must connect to
 * the other PORT, where our server listens. Prints one JSON line. With --step it prints
 * {"event": "ready"} after the warm-up and waits for a line on stdin before it
 * measures, and again before it ends, so that the caller can read counters in between.
 * --client connect and --client socks5: TCP clients of a proxy, which has to connect them to
 * our server; they wait for each of its answers.
 * --features: WebSocket clients send a PROXY header, a token and a path, and the TCP server
 * wants a PROXY header. --size: bytes of a ping. A WebSocket server that echoes messages
 * does for ping, connect and idle with --client ws alone; nobody comes to --listen then.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>

#include "load.h"

struct options opt = {.conns = 1, .write = 65536, .ping = PING, .warm = 8 << 20, .bytes = UINT64_MAX,
                      .seconds = 1, .timeout = 60};
static int note[2];
static uint64_t begun;
static double begun_cpu;
static struct loop before[2];

void notify(void)
{
    if (write(note[1], "", 1) != 1) _exit(4);
}

static void await(int n)
{
    char buf[256];
    while (n > 0) {
        ssize_t r = read(note[0], buf, n < 256 ? (size_t)n : sizeof buf);
        if (r > 0) n -= (int)r;
    }
}

_Noreturn void fail(const char *format, ...)
{
    static atomic_flag once = ATOMIC_FLAG_INIT;
    char text[1024];
    va_list args;
    if (atomic_flag_test_and_set(&once)) for (;;) pause();
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ') *p = '\'';
    printf("{\"ok\": false, \"workload\": \"%s\", \"error\": \"%s\"}\n", opt.workload, text);
    fflush(stdout);
    _exit(1);
}

static void on_alarm(int sig)
{
    static const char text[] = "{\"ok\": false, \"error\": \"timed out\"}\n";
    (void)sig;
    if (write(1, text, sizeof text - 1) < 0) _exit(4);
    _exit(3);
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec)
           + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void wait_for_go(void)
{
    char line[64];
    fflush(stdout);
    if (opt.step && fgets(line, sizeof line, stdin) == NULL) _exit(0);
}

/* The end of the warm-up: from here on it counts. */
static void ready(void)
{
    if (opt.step) printf("{\"event\": \"ready\"}\n");
    wait_for_go();
    before[0] = client;
    before[1] = server;
    atomic_store(&messages, 0);
    atomic_store(&streamed, 0);
    begun = now_ns();
    begun_cpu = cpu_seconds();
    atomic_store(&deadline, begun + (uint64_t)(opt.seconds * 1e9));
}

static void open_conns(struct loop *l, int n, uint8_t kind)
{
    l->to_open = n;
    l->open_kind = kind;
    loop_tell(l, open_more);
}

/* ---- workloads; each returns the bytes it moved ---- */

static uint64_t bulk(bool up)
{
    atomic_store(&bulk_total, opt.warm);
    open_conns(&client, 1, up ? SINK : SOURCE);
    await(1);
    ready();
    atomic_store(&bulk_total, UINT64_MAX);
    if (opt.bytes != UINT64_MAX) opt.bytes += opt.warm;
    loop_tell(up ? &client : &server, start_bulk);
    await(1);
    return atomic_load(&bulk_total) - opt.warm;
}

static uint64_t pings(struct loop *l)
{
    open_conns(l, opt.conns, ECHO);
    await(opt.conns + (opt.streams > 0 ? opt.conns : 0));
    ready();
    loop_tell(l, start_pings);
    await(opt.conns);
    return 2 * opt.ping * atomic_load(&messages) + atomic_load(&streamed);
}

static uint64_t ping_workload(void)
{
    if (opt.idle > 0) {
        open_conns(&client, opt.idle, IDLE);
        await(opt.idle);
    }
    return pings(&client);
}

/* Ping-pong beside streams that fill the relay, half of them each way. */
static uint64_t mixed(void)
{
    atomic_store(&bulk_total, UINT64_MAX);
    open_conns(&client, opt.streams / 2, SOURCE);
    await(opt.streams / 2);
    open_conns(&client, opt.streams - opt.streams / 2, SINK);
    await(opt.streams - opt.streams / 2);
    ping_client.next_index = (uint32_t)opt.streams;
    return pings(&ping_client);
}

static uint64_t connects(void)
{
    open_conns(&client, 4 * opt.conns, ONCE);
    await(1);
    ready();
    open_conns(&client, opt.conns, ONCE);
    await(1);
    for (int i = 0; i < 3000 && atomic_load(&server_open) > 0; i++) usleep(1000);
    return 2 * HELLO * atomic_load(&messages);
}

/* Opens n connections; returns when they are idle, or nobody could send any more. */
static void open_held(int n, uint8_t kind)
{
    open_conns(&client, n, kind);
    await(n);
    if (kind == STALL)
        while (now_ns() - atomic_load(&last_progress) < 300000000u) usleep(20000);
}

static uint64_t hold(uint8_t kind)
{
    open_held(1, kind); /* pays for what all share */
    ready();
    open_held(opt.conns, kind);
    atomic_store(&messages, opt.conns);
    atomic_store(&finished, now_ns());
    return 0;
}

static uint64_t run_workload(void)
{
    if (strcmp(opt.workload, "up") == 0) return bulk(true);
    if (strcmp(opt.workload, "down") == 0) return bulk(false);
    if (strcmp(opt.workload, "ping") == 0) return ping_workload();
    if (strcmp(opt.workload, "mixed") == 0) return mixed();
    if (strcmp(opt.workload, "connect") == 0) return connects();
    if (strcmp(opt.workload, "idle") == 0) return hold(IDLE);
    if (strcmp(opt.workload, "stall") == 0) return hold(STALL);
    fail("no such workload: up down ping mixed connect idle stall");
}

/* ---- result ---- */

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_side(const char *name, const struct loop *then, const struct loop *now)
{
    uint64_t frames = now->frames - then->frames;
    printf(", \"%s\": {\"frames\": %llu, \"frame_bytes\": %llu, \"not_fin\": %llu, "
           "\"text\": %llu, \"same_keys\": %llu, \"resets\": %llu}", name,
           (unsigned long long)frames, (unsigned long long)(now->frame_bytes - then->frame_bytes),
           (unsigned long long)now->not_fin, (unsigned long long)now->text,
           (unsigned long long)now->same_keys, (unsigned long long)now->resets);
}

static void print_result(uint64_t moved)
{
    uint64_t n = atomic_load(&messages), kept = n < LATENCIES ? n : LATENCIES;
    double seconds = (double)(atomic_load(&finished) - begun) / 1e9;
    printf("{\"ok\": true, \"workload\": \"%s\", \"seconds\": %.6f, \"bytes\": %llu, "
           "\"messages\": %llu, \"load_cpu\": %.4f, \"unclosed\": %d", opt.workload, seconds,
           (unsigned long long)moved, (unsigned long long)n, cpu_seconds() - begun_cpu,
           strcmp(opt.workload, "connect") == 0 ? atomic_load(&server_open) : 0);
    if (kept > 0 && opt.workload[0] != 'i' && opt.workload[0] != 's') {
        qsort(latency, kept, sizeof *latency, by_size);
        printf(", \"p50_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f",
               latency[kept / 2] / 1e3, latency[kept - 1 - kept / 100] / 1e3,
               latency[kept - 1] / 1e3);
    }
    print_side("client", &before[0], &client);
    print_side("server", &before[1], &server);
    printf("}\n");
}

/* ---- options ---- */

static bool is_ws(const char *value)
{
    if (strcmp(value, "ws") != 0 && strcmp(value, "tcp") != 0) fail("tcp or ws, not %s", value);
    return value[0] == 'w';
}

static void parse(int argc, char **argv)
{
    static const struct option known[] = {
        {"client", 1, 0, 'c'}, {"server", 1, 0, 's'}, {"connect", 1, 0, 'C'},
        {"listen", 1, 0, 'L'}, {"write", 1, 0, 'w'}, {"conns", 1, 0, 'n'},
        {"idle", 1, 0, 'i'}, {"streams", 1, 0, 'm'}, {"seconds", 1, 0, 't'},
        {"bytes", 1, 0, 'b'}, {"warm", 1, 0, 'W'}, {"closer", 1, 0, 'x'},
        {"timeout", 1, 0, 'T'}, {"seed", 1, 0, 'S'}, {"step", 0, 0, 'p'},
        {"features", 0, 0, 'f'}, {"size", 1, 0, 'z'}, {0, 0, 0, 0}};
    uint64_t seed = 1;
    opt.workload = argc > 1 ? argv[1] : "";
    for (int o; (o = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (o) {
        case 'c':
            opt.proxy = strcmp(optarg, "connect") == 0 ? CONNECT
                        : strcmp(optarg, "socks5") == 0 ? SOCKS5 : NONE;
            opt.client_ws = opt.proxy == NONE && is_ws(optarg);
            break;
        case 's': opt.server_ws = is_ws(optarg); break;
        case 'C': opt.connect_port = atoi(optarg); break;
        case 'L': opt.listen_port = atoi(optarg); break;
        case 'w': opt.write = strtoull(optarg, NULL, 10); break;
        case 'n': opt.conns = atoi(optarg); break;
        case 'i': opt.idle = atoi(optarg); break;
        case 'm': opt.streams = atoi(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'b': opt.bytes = strtoull(optarg, NULL, 10); break;
        case 'W': opt.warm = strtoull(optarg, NULL, 10); break;
        case 'x': opt.server_closes = strcmp(optarg, "server") == 0; break;
        case 'T': opt.timeout = atof(optarg); break;
        case 'S': seed = strtoull(optarg, NULL, 10); break;
        case 'p': opt.step = true; break;
        case 'z': opt.ping = strtoull(optarg, NULL, 10); break;
        case 'f': opt.features = true; break;
        default: exit(2);
        }
    }
    if (opt.connect_port <= 0 || opt.listen_port <= 0) fail("--connect and --listen are needed");
    if (opt.write == 0 || opt.write > MAX_WRITE) fail("--write: 1 to %u", MAX_WRITE);
    if (opt.ping == 0 || opt.ping > MAX_WRITE) fail("--size: 1 to %u", MAX_WRITE);
    if (opt.conns < 1 || opt.warm == 0) fail("--conns and --warm: at least 1");
    opt.small_buffers = strcmp(opt.workload, "stall") == 0;
    pattern_init(seed);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, on_alarm);
    alarm((unsigned)(opt.timeout + 1));
    raise_file_limit();
    if (pipe(note) < 0) fail("pipe: %s", strerror(errno));
    int listener = listen_on(opt.listen_port, opt.small_buffers ? 65536 : 0);
    if (listener < 0) fail("listen on %d: %s", opt.listen_port, strerror(errno));
    loop_start(&server, listener);
    loop_start(&client, -1);
    loop_start(&ping_client, -1);
    loop_start(&ping_server, -1);
    uint64_t moved = run_workload();
    print_result(moved);
    wait_for_go();
    fflush(stdout);
    _exit(0);
}
