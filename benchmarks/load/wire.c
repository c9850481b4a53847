#define _GNU_SOURCE
#include "wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes ---- */

uint8_t *bytes_room(struct bytes *b, size_t n)
{
    if (b->off == b->len)
        b->off = b->len = 0;
    if (b->len + n > b->cap) {
        if (b->off) {
            memmove(b->p, b->p + b->off, b->len - b->off);
            b->len -= b->off;
            b->off = 0;
        }
        if (b->len + n > b->cap) {
            b->cap = (b->len + n) * 2;
            b->p = realloc(b->p, b->cap);
            if (!b->p) {
                fputs("rtmpload: out of memory\n", stderr);
                exit(3);
            }
        }
    }
    b->len += n;
    return b->p + b->len - n;
}

void bytes_put(struct bytes *b, const void *data, size_t n) { memcpy(bytes_room(b, n), data, n); }
void bytes_consume(struct bytes *b, size_t n) { b->off += n; }

void bytes_free(struct bytes *b)
{
    free(b->p);
    *b = (struct bytes){0};
}

/* ---- reading ---- */

void chunk_reader_init(struct chunk_reader *r)
{
    r->chunk_size = 128; /* RTMP 5.4.1 */
    r->left = r->head_len = 0;
    r->current = NULL;
    r->used = 0;
}

static struct chunk_stream *find_stream(struct chunk_reader *r, uint32_t csid)
{
    for (int i = 0; i < r->used; i++)
        if (r->csids[i] == csid)
            return &r->streams[i];
    if (r->used == CHUNK_STREAMS)
        return NULL;
    r->csids[r->used] = csid;
    struct chunk_stream *s = &r->streams[r->used++];
    memset(s, 0, offsetof(struct chunk_stream, prefix));
    return s;
}

/* Reads one chunk header (RTMP 5.3.1). Returns its size, 0 when n bytes are too few, -1 with *error set. */
static int read_head(struct chunk_reader *r, const uint8_t *p, size_t n, const char **error)
{
    static const uint8_t sizes[4] = {11, 7, 3, 0};
    int fmt = p[0] >> 6;
    uint32_t csid = p[0] & 63;
    size_t basic = csid == 0 ? 2 : csid == 1 ? 3 : 1;
    size_t need = basic + sizes[fmt];
    if (n < need)
        return 0;
    if (basic > 1)
        csid = 64 + p[1] + (basic == 3 ? 256u * p[2] : 0);
    struct chunk_stream *s = find_stream(r, csid);
    if (!s) {
        *error = "too many chunk streams";
        return -1;
    }
    const uint8_t *h = p + basic;
    uint32_t field = fmt < 3 ? get_u24(h) : 0;
    bool extended = fmt < 3 ? field == 0xFFFFFF : s->extended; /* fmt 3 repeats the extended timestamp (5.3.1.3) */
    if (extended) {
        if (n < need + 4)
            return 0;
        if (fmt < 3)
            field = get_u32(p + need);
        need += 4;
    }
    if (s->got && fmt < 3) {
        *error = "a new message began inside another one on its chunk stream";
        return -1;
    }
    if (fmt < 3) {
        s->extended = extended;
        s->delta = field;
        s->timestamp = fmt == 0 ? field : s->timestamp + field;
    } else if (s->got == 0) {
        s->timestamp += s->delta;
    }
    if (fmt < 2) {
        s->length = get_u24(h + 3);
        s->type = h[6];
    }
    if (fmt == 0) /* little endian, the only such field (5.3.1.2.1) */
        s->msid = (uint32_t)h[7] | (uint32_t)h[8] << 8 | (uint32_t)h[9] << 16 | (uint32_t)h[10] << 24;
    uint32_t rest = s->length - s->got;
    r->left = rest < r->chunk_size ? rest : r->chunk_size;
    r->current = s;
    return (int)need;
}

static void finish_message(struct chunk_reader *r, struct chunk_stream *s, message_fn fn, void *context)
{
    struct message m = {.timestamp = s->timestamp, .length = s->length, .msid = s->msid, .type = s->type,
                        .prefix = s->prefix, .prefix_len = s->length < PREFIX ? s->length : PREFIX};
    s->got = 0;
    if (m.type == MSG_CHUNK_SIZE && m.length == 4) {
        uint32_t size = get_u32(m.prefix) & 0x7FFFFFFF;
        r->chunk_size = size ? size : 1;
    } else if (m.type == MSG_ABORT && m.length == 4) {
        struct chunk_stream *aborted = find_stream(r, get_u32(m.prefix));
        if (aborted)
            aborted->got = 0;
    }
    fn(context, &m);
}

const char *chunk_read(struct chunk_reader *r, const uint8_t *data, size_t n, message_fn fn, void *context)
{
    const char *error = NULL;
    const uint8_t *end = data + n;
    for (;;) {
        if (!r->current) {
            if (data == end)
                return NULL;
            int size;
            if (r->head_len == 0) {
                size = read_head(r, data, (size_t)(end - data), &error);
                if (size > 0) {
                    data += size;
                } else if (size == 0) { /* cut by the end of the read: at most MAX_HEAD - 1 bytes */
                    r->head_len = (uint32_t)(end - data);
                    memcpy(r->head, data, r->head_len);
                    return NULL;
                }
            } else {
                r->head[r->head_len++] = *data++;
                size = read_head(r, r->head, r->head_len, &error);
                if (size > 0)
                    r->head_len = 0;
            }
            if (size < 0)
                return error;
            if (size == 0)
                continue;
        }
        struct chunk_stream *s = r->current;
        uint32_t take = (size_t)(end - data) < r->left ? (uint32_t)(end - data) : r->left;
        if (s->got < PREFIX && take)
            memcpy(s->prefix + s->got, data, take < PREFIX - s->got ? take : PREFIX - s->got);
        data += take;
        s->got += take;
        r->left -= take;
        if (r->left)
            return NULL;
        r->current = NULL;
        if (s->got == s->length)
            finish_message(r, s, fn, context);
    }
}

/* ---- writing ---- */

void put_message(struct bytes *out, uint32_t chunk_size, int fmt, uint32_t csid, uint32_t time, uint8_t type,
                 uint32_t msid, const uint8_t *body, size_t len)
{
    bool extended = time >= 0xFFFFFF;
    size_t chunks = len ? (len + chunk_size - 1) / chunk_size : 1;
    size_t head = (fmt == 0 ? 12 : 8) + (extended ? 4 : 0), again = 1 + (extended ? 4 : 0);
    uint8_t *p = bytes_room(out, head + (chunks - 1) * again + len);
    *p = (uint8_t)(fmt << 6 | csid);
    set_u24(p + 1, extended ? 0xFFFFFF : time);
    set_u24(p + 4, (uint32_t)len);
    p[7] = type;
    if (fmt == 0)
        for (int i = 0; i < 4; i++)
            p[8 + i] = (uint8_t)(msid >> 8 * i);
    p += head;
    if (extended)
        set_u32(p - 4, time);
    for (;;) {
        size_t take = len < chunk_size ? len : chunk_size;
        memcpy(p, body, take);
        body += take;
        len -= take;
        if (!len)
            return;
        p += take;
        *p++ = (uint8_t)(0xC0 | csid);
        if (extended) {
            set_u32(p, time);
            p += 4;
        }
    }
}

void put_control_u32(struct bytes *out, uint8_t type, uint32_t value)
{
    uint8_t body[5];
    set_u32(body, value);
    body[4] = 2; /* limit type "dynamic", for Set Peer Bandwidth */
    put_message(out, 128, 0, CSID_CONTROL, 0, type, 0, body, type == MSG_BANDWIDTH ? 5 : 4);
}

void put_user_control(struct bytes *out, uint16_t event, uint32_t value)
{
    uint8_t body[6] = {(uint8_t)(event >> 8), (uint8_t)event};
    set_u32(body + 2, value);
    put_message(out, 128, 0, CSID_CONTROL, 0, MSG_USER_CONTROL, 0, body, 6);
}

/* ---- AMF0 ---- */

void amf_key(struct bytes *b, const char *s)
{
    size_t n = strlen(s);
    uint8_t size[2] = {(uint8_t)(n >> 8), (uint8_t)n};
    bytes_put(b, size, 2);
    bytes_put(b, s, n);
}

void amf_string(struct bytes *b, const char *s)
{
    bytes_put(b, "\2", 1);
    amf_key(b, s);
}

void amf_number(struct bytes *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    uint8_t *p = bytes_room(b, 9);
    p[0] = 0;
    set_u32(p + 1, (uint32_t)(bits >> 32));
    set_u32(p + 5, (uint32_t)bits);
}

void amf_bool(struct bytes *b, bool v) { bytes_put(b, v ? "\1\1" : "\1\0", 2); }
void amf_null(struct bytes *b) { bytes_put(b, "\5", 1); }
void amf_object(struct bytes *b) { bytes_put(b, "\3", 1); }
void amf_end(struct bytes *b) { bytes_put(b, "\0\0\11", 3); }

void amf_ecma_array(struct bytes *b, uint32_t count)
{
    uint8_t *p = bytes_room(b, 5);
    p[0] = 8;
    set_u32(p + 1, count);
}

double amf_read_number(const uint8_t *p)
{
    uint64_t bits = (uint64_t)get_u32(p) << 32 | get_u32(p + 4);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

const uint8_t *amf_command(const struct message *m, char *name, size_t size, double *transaction)
{
    if (m->prefix_len < 3 || m->prefix[0] != 2)
        return NULL;
    size_t n = (size_t)m->prefix[1] << 8 | m->prefix[2];
    if (3 + n + 9 > m->prefix_len || m->prefix[3 + n] != 0)
        return NULL;
    snprintf(name, size, "%.*s", (int)n, (const char *)m->prefix + 3);
    *transaction = amf_read_number(m->prefix + 3 + n + 1);
    return m->prefix + 3 + n + 9;
}

bool amf_find_string(const struct message *m, const char *key, char *value, size_t size)
{
    size_t n = strlen(key);
    const uint8_t *end = m->prefix + m->prefix_len;
    const uint8_t *p = memmem(m->prefix, m->prefix_len, key, n);
    if (!p || p + n + 3 > end || p[n] != 2)
        return false;
    size_t len = (size_t)p[n + 1] << 8 | p[n + 2];
    if (p + n + 3 + len > end)
        return false;
    snprintf(value, size, "%.*s", (int)len, (const char *)p + n + 3);
    return true;
}
