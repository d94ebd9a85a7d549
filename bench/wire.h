/*
 * What the relay and the load generator share: SHA-1 and base64 for the opening
 * handshake, masking, masking keys, frame headers (RFC 6455 sections 4 and 5), listening.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { OP_CONT = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

#define HEAD_MAX 14          /* longest frame header: 2 + 8 + 4 */
#define CONTROL_MAX 125      /* longest control payload, section 5.5 */
#define HTTP_MAX 16384       /* longest handshake head we take */

static inline uint32_t rol32(uint32_t x, int n) { return x << n | x >> (32 - n); }

static inline void sha1_block(uint32_t state[5], const uint8_t *p)
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rol32(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20) f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40) f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60) f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t t = rol32(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rol32(b, 30), b = a, a = t;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* out: 20 bytes. len is at most 119: two blocks are enough for a handshake. */
static inline void sha1(const uint8_t *data, size_t len, uint8_t out[20])
{
    uint32_t s[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t buf[128] = {0};
    size_t total = len < 56 ? 64 : 128;
    memcpy(buf, data, len);
    buf[len] = 0x80;
    for (int i = 0; i < 8; i++)
        buf[total - 1 - i] = (uint8_t)((uint64_t)len * 8 >> (8 * i));
    for (size_t off = 0; off < total; off += 64)
        sha1_block(s, buf + off);
    for (int i = 0; i < 20; i++)
        out[i] = (uint8_t)(s[i / 4] >> (24 - 8 * (i % 4)));
}

/* Writes 4 * ceil(n / 3) characters and a NUL. */
static inline void base64(const uint8_t *in, size_t n, char *out)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16;
        if (i + 1 < n) v |= in[i + 1] << 8;
        if (i + 2 < n) v |= in[i + 2];
        *out++ = set[v >> 18];
        *out++ = set[v >> 12 & 63];
        *out++ = i + 1 < n ? set[v >> 6 & 63] : '=';
        *out++ = i + 2 < n ? set[v & 63] : '=';
    }
    *out = 0;
}

/* Sec-WebSocket-Accept of a 24-character key, section 4.2.2. out: 29 bytes. */
static inline void accept_value(const char key[24], char out[29])
{
    uint8_t buf[60], digest[20];
    memcpy(buf, key, 24);
    memcpy(buf + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1(buf, 60, digest);
    base64(digest, 20, out);
}

/* A fresh Sec-WebSocket-Key and what must answer it, section 4.1. */
static inline void make_key(char key[25], char accept[29])
{
    uint8_t raw[16];
    if (getrandom(raw, sizeof raw, 0) != (ssize_t)sizeof raw) abort();
    base64(raw, sizeof raw, key);
    accept_value(key, accept);
}

/* The value of one field of a NUL-terminated head, or NULL; *len gets its length. */
static inline const char *field(const char *head, const char *name, size_t *len)
{
    size_t n = strlen(name);
    for (const char *p = strstr(head, "\r\n"); p != NULL; p = strstr(p, "\r\n")) {
        p += 2;
        if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
            const char *v = p + n + 1;
            while (*v == ' ' || *v == '\t') v++;
            const char *end = strstr(v, "\r\n");
            if (end == NULL) return NULL;
            while (end > v && (end[-1] == ' ' || end[-1] == '\t')) end--;
            *len = (size_t)(end - v);
            return v;
        }
    }
    return NULL;
}

/* Four unpredictable bytes, drawn from the kernel in blocks (section 5.3). */
static inline uint32_t fresh_key(void)
{
    static __thread uint32_t block[64];
    static __thread unsigned left;
    if (left == 0) {
        /* up to 256 bytes are never cut short nor interrupted */
        if (getrandom(block, sizeof block, 0) != (ssize_t)sizeof block) abort();
        left = 64;
    }
    return block[--left];
}

/* The key as it lies on the next byte after `phase` payload bytes. */
static inline uint32_t turn_key(uint32_t key, unsigned phase)
{
    phase = phase % 4 * 8;
    return phase == 0 ? key : key >> phase | key << (32 - phase); /* little endian */
}

static inline void xor_mask(uint8_t *restrict p, size_t n, uint32_t key)
{
    uint64_t wide = (uint64_t)key << 32 | key;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, 8);
        v ^= wide;
        memcpy(p + i, &v, 8);
    }
    for (; i < n; i++)
        p[i] ^= (uint8_t)(wide >> (i % 8 * 8));
}

/* Returns the length of the header. key is used when masked. */
static inline size_t put_header(uint8_t *h, int op, uint64_t len, bool masked, uint32_t key)
{
    size_t n = 2;
    uint8_t bit = masked ? 0x80 : 0;
    h[0] = (uint8_t)(0x80 | op);
    if (len < 126) {
        h[1] = (uint8_t)(bit | len);
    } else if (len < 65536) {
        h[1] = bit | 126;
        h[2] = (uint8_t)(len >> 8), h[3] = (uint8_t)len;
        n = 4;
    } else {
        h[1] = bit | 127;
        for (int i = 0; i < 8; i++) h[2 + i] = (uint8_t)(len >> (56 - 8 * i));
        n = 10;
    }
    if (masked) {
        memcpy(h + n, &key, 4);
        n += 4;
    }
    return n;
}

/* How many bytes the header has, judged by its first two. */
static inline size_t header_size(const uint8_t *h)
{
    size_t n = 2;
    if ((h[1] & 127) == 126) n = 4;
    else if ((h[1] & 127) == 127) n = 10;
    return h[1] & 0x80 ? n + 4 : n;
}

struct header { int op; bool fin, masked; uint64_t len; uint32_t key; };

/* Decodes a whole header; NULL, or what is wrong with it. */
static inline const char *get_header(const uint8_t *h, struct header *out)
{
    size_t n = 2;
    out->fin = h[0] >> 7;
    out->op = h[0] & 15;
    out->masked = h[1] >> 7;
    out->len = h[1] & 127;
    if (out->len == 126) {
        out->len = (uint64_t)h[2] << 8 | h[3];
        n = 4;
        if (out->len < 126) return "length not in the shortest form";
    } else if (out->len == 127) {
        out->len = 0;
        for (int i = 0; i < 8; i++) out->len = out->len << 8 | h[2 + i];
        n = 10;
        if (out->len >> 63) return "top bit of a 64-bit length is set";
        if (out->len < 65536) return "length not in the shortest form";
    }
    out->key = 0;
    if (out->masked) memcpy(&out->key, h + n, 4);
    if (h[0] & 0x70) return "reserved bit";
    if (out->op > OP_PONG || (out->op > OP_BINARY && out->op < OP_CLOSE)) return "reserved opcode";
    if (out->op >= OP_CLOSE && (!out->fin || out->len > CONTROL_MAX)) return "bad control frame";
    return NULL;
}

/* Listens on 127.0.0.1; -1 and errno on failure. receive_buffer: bytes, 0 for the system's. */
static inline int listen_on(int port, int receive_buffer)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, size = receive_buffer;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (size > 0) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0) return -1;
    return fd;
}

static inline void raise_file_limit(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

#endif
