/* RTMP on the wire, as much as a load program needs: reading chunks of any size and form, writing messages,
 * the AMF0 of connect/publish/play. No I/O and no clock here; the names follow RTMP 1.0 §5 and §7. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HANDSHAKE = 1536 };
enum {
    MSG_CHUNK_SIZE = 1, MSG_ABORT = 2, MSG_ACK = 3, MSG_USER_CONTROL = 4, MSG_WINDOW = 5, MSG_BANDWIDTH = 6,
    MSG_AUDIO = 8, MSG_VIDEO = 9, MSG_DATA = 18, MSG_COMMAND = 20
};
enum { CSID_CONTROL = 2, CSID_COMMAND = 3, CSID_AUDIO = 4, CSID_STREAM = 5, CSID_VIDEO = 6, CSID_DATA = 7 };

/* ---- bytes: a growing buffer; what is before `off` has been sent ---- */
struct bytes {
    uint8_t *p;
    size_t off, len, cap;
};
uint8_t *bytes_room(struct bytes *b, size_t n); /* n writable bytes at the end, already counted in len */
void bytes_put(struct bytes *b, const void *data, size_t n);
void bytes_consume(struct bytes *b, size_t n);
void bytes_free(struct bytes *b);

/* ---- reading ---- */
enum { PREFIX = 512, CHUNK_STREAMS = 12, MAX_HEAD = 18 };

/* Only the first PREFIX bytes of a message are kept: enough for every command and for the mark in our payloads. */
struct message {
    uint32_t timestamp, length, msid;
    uint8_t type;
    const uint8_t *prefix;
    uint32_t prefix_len;
};

struct chunk_stream {
    uint32_t timestamp, delta, length, msid, got;
    uint8_t type;
    bool extended;
    uint8_t prefix[PREFIX];
};

struct chunk_reader {
    uint32_t chunk_size;
    uint32_t left;               /* bytes still missing from the current chunk */
    struct chunk_stream *current; /* NULL: a chunk header comes next */
    uint32_t head_len;           /* bytes of a header that was cut by the end of a read */
    uint32_t csids[CHUNK_STREAMS]; /* apart from the streams, so that a search touches one cache line */
    int used;
    uint8_t head[MAX_HEAD];
    struct chunk_stream streams[CHUNK_STREAMS];
};

typedef void (*message_fn)(void *context, const struct message *message);
void chunk_reader_init(struct chunk_reader *r);
/* Feeds n bytes; calls fn for each complete message. Set Chunk Size and Abort are obeyed and also reported.
 * Returns NULL, or what is wrong with the stream. */
const char *chunk_read(struct chunk_reader *r, const uint8_t *data, size_t n, message_fn fn, void *context);

/* ---- writing ---- */
/* fmt 0 (time = absolute timestamp) or fmt 1 (time = delta); fmt 3 for the rest of the message. */
void put_message(struct bytes *out, uint32_t chunk_size, int fmt, uint32_t csid, uint32_t time, uint8_t type,
                 uint32_t msid, const uint8_t *body, size_t len);
void put_control_u32(struct bytes *out, uint8_t type, uint32_t value);
void put_user_control(struct bytes *out, uint16_t event, uint32_t value);

/* ---- AMF0 ---- */
void amf_string(struct bytes *b, const char *s);
void amf_key(struct bytes *b, const char *s);
void amf_number(struct bytes *b, double v);
void amf_bool(struct bytes *b, bool v);
void amf_null(struct bytes *b);
void amf_object(struct bytes *b);
void amf_ecma_array(struct bytes *b, uint32_t count);
void amf_end(struct bytes *b);
/* Takes a command apart: its name (cut to size) and transaction id. Returns what follows them, NULL if malformed. */
const uint8_t *amf_command(const struct message *m, char *name, size_t size, double *transaction);
double amf_read_number(const uint8_t *p);
/* The string value of the first property `key` (searched as bytes: good enough for onStatus). */
bool amf_find_string(const struct message *m, const char *key, char *value, size_t size);

static inline uint32_t get_u24(const uint8_t *p) { return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2]; }
static inline uint32_t get_u32(const uint8_t *p) { return (uint32_t)p[0] << 24 | get_u24(p + 1); }
static inline void set_u24(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 16);
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)v;
}
static inline void set_u32(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 24); set_u24(p + 1, v & 0xFFFFFF); }

#endif
