/* rtmpload: the other side of an RTMP server under test, for benchmarks on loopback.
 *
 * One process, one epoll loop, three roles that may be combined in one run:
 *   publishers   send synthetic H.264-like and AAC-like messages in real time: 30 fps, a key frame every 2 s,
 *                valid sequence headers; every payload carries a mark (track, sequence number, length, send time);
 *   players      connect at a bounded pace, drain, check every mark; some may stop reading (--stall);
 *   sinks        the server side of publish on one listening port: destinations of a server that pushes.
 *
 * A run is: publishers, then players (and sinks as the server dials them), warm-up, window, one JSON object on
 * stdout. Everything counted belongs to the window, but for the first key frame of each player (ms after `play`)
 * and `early` (errors before the window). With --pid the CPU of the server over the window is read from the
 * schedstat of its tasks and its RSS from /proc/PID/status.
 *
 * It must cost no more than the server: one recv() of up to 256 KiB for each wake-up, headers parsed, bodies skipped.
 * --poll-us makes it look at its sockets only that often, which merges receives (for the capacity search).
 * Exit: 0 = measured (see `live` and the counters), 1 = could not start, 2 = usage; SIGALRM = past its deadline.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"
#include "wire.h"

enum { EVENTS = 4096, RECEIVE = 256 << 10, GOP = 60, FPS = 30, MAX_BACKLOG = 32 << 20, ACK_EVERY = 2500000 };
#define DRAIN (700 * MS) /* after the window, for what is still on its way; more than a merge_ms of 350 */

/* ---- what is asked for ---- */
static struct {
    int port, publishers, players, sinks, sink_port, chunk, audio_kbit, pace, rate, stall, player_delay_ms;
    int warmup_ms, window_ms, setup_ms, poll_us, pid;
    uint32_t ts_base;
    double mbit;
    const char *app, *publish_name, *play_name, *fault, *mux, *writes;
} opt = {.publishers = 1, .chunk = 4096, .audio_kbit = 128, .pace = 15, .warmup_ms = 2000, .window_ms = 5000,
         .setup_ms = 30000, .mbit = 2.5, .app = "live", .publish_name = "bench", .play_name = "bench", .fault = "",
         .mux = "none", .writes = "message"};

/* ---- the mark in each payload ---- */
struct mark {
    uint32_t magic;
    uint16_t stream;
    uint8_t track, pad;
    uint32_t sequence, length;
    int64_t sent_ns;
};
enum { MAGIC = 0x524C4231, VIDEO_MARK_AT = 10, AUDIO_MARK_AT = 2 }; /* after the tag, NAL length and NAL header */

/* ---- connections ---- */
enum role { PUBLISHER, PLAYER, SINK };
static const char *const role_names[] = {"publisher", "player", "sink"};
enum state { CLOSED, HANDSHAKING, TALKING, GRANTED };

struct track { /* what a receiver knows of one track */
    bool seen;
    uint32_t sequence, timestamp;
};

struct conn {
    int fd, index;
    enum role role;
    enum state state;
    bool want_write, stalled, first_key, sink_counted;
    uint32_t ack_every, msid;
    uint64_t received, acked;
    struct track tracks[2];
    struct bytes out;
    int64_t play_at;
    struct source *source;
    uint8_t *hello; /* handshake bytes of the peer, while shaking hands */
    uint32_t hello_len;
    struct chunk_reader reader;
};

struct source { /* what a publisher sends */
    struct conn *conn;
    int64_t start, video_due, audio_due;
    uint32_t sequence[2], last_ts[2];
    bool started, used[2];
    uint64_t sent_messages, sent_bytes; /* in the window */
};

static struct conn **conns; /* publishers, then players; sinks come from accept */
static struct source *sources;
static struct conn *sink_conns[4096];
static int sink_count;
static int epoll_fd, listen_fd = -1;
static int64_t now_ns;
static uint8_t receive_buffer[RECEIVE], *scratch;
static size_t key_size, delta_size, audio_size;

/* ---- what is counted ---- */
struct errors {
    uint64_t lost, repeated, reordered, backwards, wrong_length;
};
static struct {
    bool on;
    int64_t from, to; /* the window; `complete` counts what was sent in it, also when it arrives a little later */
    struct errors early, window;
    uint64_t messages, bytes, complete, other, blocked;
    int64_t late_max;
    struct histogram latency;
    int granted, published, refused, closed, stalled, stalled_closed;
    float *first_key_ms;
    int first_keys;
} count;

/* ---- sending ---- */

/* Edge-triggered: receive() empties the socket, and the kernel need not ask it again at the next wait. */
static void watch(struct conn *c, int op)
{
    struct epoll_event e = {.data.ptr = c, .events = EPOLLET | EPOLLRDHUP};
    if (!c->stalled)
        e.events |= EPOLLIN;
    if (c->want_write)
        e.events |= EPOLLOUT;
    epoll_ctl(epoll_fd, op, c->fd, &e);
}

static void close_conn(struct conn *c, const char *why)
{
    if (c->state == CLOSED)
        return;
    if (c->stalled)
        count.stalled_closed++;
    else if (c->state == GRANTED && c->role != SINK)
        count.closed++;
    else if (c->role != SINK)
        count.refused++;
    else if (c->sink_counted && count.on)
        count.closed++;
    if (c->role == PUBLISHER || (!c->stalled && count.refused + count.closed <= 3))
        fprintf(stderr, "rtmpload: %s %d: %s\n", role_names[c->role], c->index, why);
    if (c->role == SINK && c->sink_counted)
        sink_count--;
    c->state = CLOSED;
    close(c->fd);
    bytes_free(&c->out);
    free(c->hello);
    c->hello = NULL;
}

static void flush(struct conn *c)
{
    size_t n = c->out.len - c->out.off;
    if (n) {
        ssize_t sent = send(c->fd, c->out.p + c->out.off, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            close_conn(c, strerror(errno));
            return;
        }
        if (sent > 0)
            bytes_consume(&c->out, (size_t)sent);
        n -= sent > 0 ? (size_t)sent : 0;
    }
    if (n && c->role == PUBLISHER)
        count.blocked += count.on;
    if (n > MAX_BACKLOG) {
        close_conn(c, "the server does not read");
    } else if ((n > 0) != c->want_write) {
        c->want_write = n > 0;
        watch(c, EPOLL_CTL_MOD);
    }
}

/* Writes the one message that is in `out` in the pieces in which an encoder writes it, each of them a packet and a
 * wake-up as a rule: OBS (librtmp) one for each chunk, FFmpeg the header of the first chunk and then the rest. */
static void flush_message(struct conn *c)
{
    struct bytes *out = &c->out;
    size_t head = out->len > out->off && out->p[out->off] >= 0x40 ? 8 : 12;
    size_t piece = opt.writes[0] == 'c' ? head + (size_t)opt.chunk : opt.writes[0] == 'h' ? head : SIZE_MAX;
    for (bool whole = true; whole && out->len - out->off > piece; piece = (size_t)opt.chunk + 1) {
        ssize_t sent = send(c->fd, out->p + out->off, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0)
            bytes_consume(out, (size_t)sent);
        whole = sent == (ssize_t)piece;
        if (opt.writes[0] == 'h')
            break;
    }
    flush(c);
}

static void command(struct conn *c, uint32_t csid, uint32_t msid, struct bytes *body)
{
    put_message(&c->out, (uint32_t)opt.chunk, 0, csid, 0, MSG_COMMAND, msid, body->p, body->len);
    bytes_free(body);
}

static struct bytes begin_command(const char *name, double transaction)
{
    struct bytes b = {0};
    amf_string(&b, name);
    amf_number(&b, transaction);
    return b;
}

/* `%d` in a name stands for the index, once. */
static void expand_name(char *to, size_t size, const char *pattern, int index)
{
    const char *hole = strstr(pattern, "%d");
    if (hole)
        snprintf(to, size, "%.*s%d%s", (int)(hole - pattern), pattern, index, hole + 2);
    else
        snprintf(to, size, "%s", pattern);
}

static void send_connect(struct conn *c)
{
    struct bytes b = begin_command("connect", 1);
    char url[256];
    snprintf(url, sizeof url, "rtmp://127.0.0.1:%d/%s", opt.port, opt.app);
    amf_object(&b);
    amf_key(&b, "app"), amf_string(&b, opt.app);
    amf_key(&b, "flashVer"), amf_string(&b, c->role == PUBLISHER ? "FMLE/3.0 (compatible; rtmpload)" : "LNX 9,0,124,2");
    amf_key(&b, "tcUrl"), amf_string(&b, url);
    if (c->role == PUBLISHER)
        amf_key(&b, "type"), amf_string(&b, "nonprivate");
    amf_key(&b, "fpad"), amf_bool(&b, false);
    amf_key(&b, "audioCodecs"), amf_number(&b, 4071);
    amf_key(&b, "videoCodecs"), amf_number(&b, 252);
    amf_end(&b);
    put_control_u32(&c->out, MSG_CHUNK_SIZE, (uint32_t)opt.chunk);
    command(c, CSID_COMMAND, 0, &b);
}

static void send_create_stream(struct conn *c)
{
    char name[128];
    expand_name(name, sizeof name, opt.publish_name, c->index);
    for (int i = 0; c->role == PUBLISHER && i < 2; i++) {
        struct bytes b = begin_command(i ? "FCPublish" : "releaseStream", 2 + i);
        amf_null(&b);
        amf_string(&b, name);
        command(c, CSID_COMMAND, 0, &b);
    }
    struct bytes b = begin_command("createStream", 4);
    amf_null(&b);
    command(c, CSID_COMMAND, 0, &b);
}

static void send_publish_or_play(struct conn *c)
{
    char name[128];
    bool publishes = c->role == PUBLISHER;
    expand_name(name, sizeof name, publishes ? opt.publish_name : opt.play_name,
                publishes || !opt.publishers ? c->index : c->index % opt.publishers);
    struct bytes b = begin_command(publishes ? "publish" : "play", 5);
    amf_null(&b);
    amf_string(&b, name);
    if (publishes)
        amf_string(&b, opt.app);
    else
        amf_number(&b, -2000);
    command(c, CSID_STREAM, c->msid, &b);
    c->play_at = now_ns;
}

/* ---- publishing ---- */

static void put_media(struct source *s, int track, uint32_t ts, const uint8_t *body, size_t len)
{
    struct conn *c = s->conn;
    bool delta = s->used[track] && ts >= s->last_ts[track];
    put_message(&c->out, (uint32_t)opt.chunk, delta ? 1 : 0, track ? CSID_AUDIO : CSID_VIDEO,
                delta ? ts - s->last_ts[track] : ts, track ? MSG_AUDIO : MSG_VIDEO, c->msid, body, len);
    s->used[track] = true;
    s->last_ts[track] = ts;
}

static void send_headers(struct source *s)
{
    static const uint8_t avc[] = { /* AVCDecoderConfigurationRecord: 1280x720, baseline 3.1 */
        0x17, 0, 0, 0, 0, 1, 0x42, 0xC0, 0x1F, 0xFF, 0xE1, 0, 0x17, 0x67, 0x42, 0xC0, 0x1F, 0xDA, 0x01, 0x40, 0x16,
        0xEC, 0x04, 0x40, 0, 0, 3, 0, 0x40, 0, 0, 0x0F, 3, 0xC6, 0x0C, 0xA8, 1, 0, 4, 0x68, 0xCE, 0x0F, 0xC8};
    static const uint8_t aac[] = {0xAF, 0, 0x12, 0x10}; /* AudioSpecificConfig: AAC-LC, 44.1 kHz, stereo */
    static const struct { const char *key; double value; } meta[] = {
        {"width", 1280}, {"height", 720}, {"framerate", FPS}, {"videocodecid", 7}, {"audiocodecid", 10},
        {"audiosamplerate", 44100}, {"audiosamplesize", 16}};
    enum { N = sizeof meta / sizeof *meta };
    struct bytes b = {0};
    amf_string(&b, "@setDataFrame");
    amf_string(&b, "onMetaData");
    amf_ecma_array(&b, N + 2);
    for (int i = 0; i < N; i++)
        amf_key(&b, meta[i].key), amf_number(&b, meta[i].value);
    amf_key(&b, "videodatarate"), amf_number(&b, opt.mbit * 1000);
    amf_key(&b, "audiodatarate"), amf_number(&b, opt.audio_kbit);
    amf_end(&b);
    put_message(&s->conn->out, (uint32_t)opt.chunk, 0, CSID_DATA, opt.ts_base, MSG_DATA, s->conn->msid, b.p, b.len);
    bytes_free(&b);
    put_media(s, 0, opt.ts_base, avc, sizeof avc);
    put_media(s, 1, opt.ts_base, aac, sizeof aac);
}

/* --fault: publisher 0 spoils every hundredth message, to see that the checks can fail. */
static void spoil(struct mark *m, uint32_t *ts, uint32_t *sequence)
{
    if (*sequence % 100 != 99)
        return;
    if (!strcmp(opt.fault, "skip"))
        m->sequence = ++*sequence;
    else if (!strcmp(opt.fault, "repeat"))
        m->sequence--;
    else if (!strcmp(opt.fault, "reorder"))
        m->sequence -= 2;
    else if (!strcmp(opt.fault, "length"))
        m->length++;
    else if (!strcmp(opt.fault, "backwards"))
        *ts -= 100;
}

static void send_frame(struct source *s, int track)
{
    uint32_t *sequence = &s->sequence[track];
    bool key = track == 0 && *sequence % GOP == 0;
    size_t len = track ? audio_size : key ? key_size : delta_size;
    uint32_t ts = opt.ts_base + (uint32_t)(track ? *sequence * 1024000ULL / 44100 : *sequence * 1000ULL / FPS);
    struct mark m = {.magic = MAGIC, .stream = (uint16_t)s->conn->index, .track = (uint8_t)track, .sequence = *sequence,
                     .length = (uint32_t)len, .sent_ns = clock_ns()};
    if (*opt.fault && s->conn->index == 0)
        spoil(&m, &ts, sequence);
    uint8_t *b = scratch;
    if (track) {
        b[0] = 0xAF, b[1] = 1;
    } else {
        b[0] = key ? 0x17 : 0x27, b[1] = 1, b[2] = b[3] = b[4] = 0;
        set_u32(b + 5, (uint32_t)len - 9);
        b[9] = key ? 0x65 : 0x41;
    }
    memcpy(b + (track ? AUDIO_MARK_AT : VIDEO_MARK_AT), &m, sizeof m);
    put_media(s, track, ts, b, len);
    ++*sequence;
    s->sent_messages += count.on;
    s->sent_bytes += count.on ? len : 0;
}

/* When the next message leaves. OBS and FFmpeg keep their output in order of time: a packet leaves when the other track
 * has a later one. So the track that comes later sets the pace, and with it leaves all of the other that is older. */
static int64_t next_due(const struct source *s)
{
    if (opt.mux[0] == 'v')
        return s->video_due;
    if (opt.mux[0] == 'a')
        return s->audio_due;
    return s->video_due < s->audio_due ? s->video_due : s->audio_due;
}

/* Sends what is due for every publisher; returns when the next message is. */
static int64_t publish_due(void)
{
    int64_t next = now_ns + SECOND;
    for (int i = 0; i < opt.publishers; i++) {
        struct source *s = &sources[i];
        if (!s->conn || s->conn->state != GRANTED)
            continue;
        int64_t due = next_due(s);
        if (due <= now_ns) {
            if (!s->started) {
                s->started = true;
                count.published++;
                send_headers(s);
            }
            if (count.on && now_ns - due > count.late_max)
                count.late_max = now_ns - due;
            for (; due <= now_ns; due = next_due(s)) {
                int track = s->audio_due < s->video_due;
                send_frame(s, track);
                flush_message(s->conn);
                /* from the count, so that no rounding adds up; --fault moves only what is in the message */
                if (track)
                    s->audio_due = s->start + (int64_t)s->sequence[1] * 1024 * SECOND / 44100;
                else
                    s->video_due = s->start + (int64_t)s->sequence[0] * SECOND / FPS;
            }
        }
        if (due < next)
            next = due;
    }
    return next;
}

static void start_source(struct conn *c)
{
    struct source *s = c->source;
    /* Publishers start spread over one GOP: real encoders do not send their key frames together. */
    s->start = now_ns + (int64_t)c->index * (GOP / FPS) * SECOND / opt.publishers;
    s->video_due = s->audio_due = s->start;
}

/* ---- checking what arrives ---- */

static void check_media(struct conn *c, const struct message *m)
{
    int track = m->type == MSG_AUDIO;
    size_t at = track ? AUDIO_MARK_AT : VIDEO_MARK_AT;
    struct mark mark;
    if (m->prefix_len < at + sizeof mark || m->prefix[1] != 1) { /* sequence headers */
        count.other++;
        return;
    }
    memcpy(&mark, m->prefix + at, sizeof mark);
    if (mark.magic != MAGIC) {
        count.other++;
        return;
    }
    struct errors *e = count.from ? &count.window : &count.early;
    struct track *t = &c->tracks[track];
    if (!t->seen) {
        t->seen = true;
    } else {
        if (mark.sequence == t->sequence)
            e->repeated++;
        else if (mark.sequence < t->sequence)
            e->reordered++;
        else
            e->lost += mark.sequence - t->sequence - 1;
        if (m->timestamp < t->timestamp)
            e->backwards++;
    }
    if (mark.length != m->length || mark.track != track)
        e->wrong_length++;
    t->sequence = mark.sequence;
    t->timestamp = m->timestamp;
    if (!c->first_key && track == 0 && m->prefix[0] >> 4 == 1) {
        c->first_key = true;
        if (c->role == PLAYER)
            count.first_key_ms[count.first_keys++] = (float)(now_ns - c->play_at) / (float)MS;
    }
    count.complete += mark.sent_ns >= count.from && mark.sent_ns < count.to;
    if (count.on) {
        histogram_add(&count.latency, (now_ns - mark.sent_ns) / 1000);
        count.messages++;
        count.bytes += m->length;
    }
}

static void grant(struct conn *c)
{
    c->state = GRANTED;
    count.granted++;
    if (c->role == PUBLISHER)
        start_source(c);
}

static void on_client_command(struct conn *c, const struct message *m)
{
    char name[64], code[128];
    double transaction;
    const uint8_t *rest = amf_command(m, name, sizeof name, &transaction);
    if (!rest)
        return;
    if (!strcmp(name, "_result") && transaction == 1) {
        send_create_stream(c);
    } else if (!strcmp(name, "_result") && transaction == 4) {
        const uint8_t *last = m->prefix + m->prefix_len - 9;
        c->msid = m->length <= PREFIX && last >= rest && last[0] == 0 ? (uint32_t)amf_read_number(last + 1) : 1;
        send_publish_or_play(c);
    } else if (!strcmp(name, "onStatus") && amf_find_string(m, "code", code, sizeof code)) {
        if (c->state == TALKING && (!strcmp(code, "NetStream.Publish.Start") || !strcmp(code, "NetStream.Play.Start")))
            grant(c);
        else if (strncmp(code, "NetStream.Play.", 15) || strstr(code, "Failed") || strstr(code, "NotFound"))
            close_conn(c, code);
    } else if (!strcmp(name, "_error") && (transaction == 1 || transaction == 4)) {
        close_conn(c, amf_find_string(m, "description", code, sizeof code) ? code : "refused");
    }
}

static void on_server_command(struct conn *c, const struct message *m)
{
    char name[64];
    double transaction;
    if (!amf_command(m, name, sizeof name, &transaction))
        return;
    if (!strcmp(name, "connect")) {
        put_control_u32(&c->out, MSG_WINDOW, ACK_EVERY);
        put_control_u32(&c->out, MSG_BANDWIDTH, ACK_EVERY);
        put_control_u32(&c->out, MSG_CHUNK_SIZE, (uint32_t)opt.chunk);
        struct bytes b = begin_command("_result", transaction);
        amf_object(&b);
        amf_key(&b, "fmsVer"), amf_string(&b, "FMS/3,0,1,123");
        amf_key(&b, "capabilities"), amf_number(&b, 31);
        amf_end(&b);
        amf_object(&b);
        amf_key(&b, "level"), amf_string(&b, "status");
        amf_key(&b, "code"), amf_string(&b, "NetConnection.Connect.Success");
        amf_key(&b, "description"), amf_string(&b, "Connection succeeded.");
        amf_key(&b, "objectEncoding"), amf_number(&b, 0);
        amf_end(&b);
        command(c, CSID_COMMAND, 0, &b);
    } else if (!strcmp(name, "createStream")) {
        struct bytes b = begin_command("_result", transaction);
        amf_null(&b);
        amf_number(&b, 1);
        command(c, CSID_COMMAND, 0, &b);
    } else if (!strcmp(name, "publish")) {
        put_user_control(&c->out, 0, 1); /* StreamBegin */
        struct bytes b = begin_command("onStatus", 0);
        amf_null(&b);
        amf_object(&b);
        amf_key(&b, "level"), amf_string(&b, "status");
        amf_key(&b, "code"), amf_string(&b, "NetStream.Publish.Start");
        amf_key(&b, "description"), amf_string(&b, "Publishing.");
        amf_end(&b);
        command(c, CSID_STREAM, 1, &b);
        c->state = GRANTED;
    }
}

static void on_message(void *context, const struct message *m)
{
    struct conn *c = context;
    if (c->state == CLOSED)
        return;
    switch (m->type) {
    case MSG_AUDIO:
    case MSG_VIDEO:
        check_media(c, m);
        if (c->role == SINK && !c->sink_counted) {
            c->sink_counted = true;
            sink_count++;
        }
        break;
    case MSG_COMMAND:
        if (c->role == SINK)
            on_server_command(c, m);
        else
            on_client_command(c, m);
        break;
    case MSG_WINDOW:
        if (m->length == 4)
            c->ack_every = get_u32(m->prefix) / 2;
        break;
    case MSG_USER_CONTROL:
        if (m->length >= 6 && m->prefix[1] == 6) /* PingRequest */
            put_user_control(&c->out, 7, get_u32(m->prefix + 2));
        break;
    }
}

/* ---- receiving ---- */

/* Plain handshake (RTMP 5.2): returns how many of n bytes belong to it. */
static size_t shake_hands(struct conn *c, const uint8_t *data, size_t n)
{
    size_t whole = c->role == SINK ? 1 + HANDSHAKE + HANDSHAKE : 1 + 2 * HANDSHAKE; /* C0 C1 C2, S0 S1 S2 */
    size_t before = c->hello_len, take = n < whole - before ? n : whole - before;
    memcpy(c->hello + before, data, take);
    c->hello_len += (uint32_t)take;
    if (c->role == SINK && before < 1 + HANDSHAKE && c->hello_len >= 1 + HANDSHAKE) {
        uint8_t *p = bytes_room(&c->out, 1 + 2 * HANDSHAKE);
        memset(p, 0, 1 + HANDSHAKE);
        p[0] = 3;
        memcpy(p + 1 + HANDSHAKE, c->hello + 1, HANDSHAKE);
    }
    if (c->hello_len == whole) {
        if (c->role != SINK) {
            bytes_put(&c->out, c->hello + 1, HANDSHAKE);
            send_connect(c);
        }
        free(c->hello);
        c->hello = NULL;
        c->state = TALKING;
    }
    return take;
}

static void receive(struct conn *c, bool to_the_end)
{
    for (;;) {
        ssize_t n = recv(c->fd, receive_buffer, sizeof receive_buffer, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            close_conn(c, n ? strerror(errno) : "closed by the server");
            return;
        }
        if (n < 0)
            return;
        now_ns = clock_ns();
        c->received += (uint64_t)n;
        const uint8_t *data = receive_buffer;
        size_t left = (size_t)n;
        if (c->state == HANDSHAKING) {
            size_t took = shake_hands(c, data, left);
            data += took;
            left -= took;
        }
        const char *wrong = left ? chunk_read(&c->reader, data, left, on_message, c) : NULL;
        if (wrong)
            close_conn(c, wrong);
        if (c->state == CLOSED)
            return;
        if (c->ack_every && c->received - c->acked >= c->ack_every) {
            put_control_u32(&c->out, MSG_ACK, (uint32_t)c->received);
            c->acked = c->received;
        }
        if (c->out.len != c->out.off && !c->want_write) {
            flush(c);
            if (c->state == CLOSED)
                return;
        }
        if ((size_t)n < sizeof receive_buffer && !to_the_end)
            break;
    }
    if (c->role == PLAYER && c->first_key && !c->stalled && c->index >= opt.players - opt.stall) {
        c->stalled = true;
        count.stalled++;
        watch(c, EPOLL_CTL_MOD);
    }
}

/* ---- connecting ---- */

static struct conn *new_conn(int fd, enum role role, int index)
{
    int one = 1;
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd;
    c->role = role;
    c->index = index;
    c->state = HANDSHAKING;
    c->hello = malloc(1 + 2 * HANDSHAKE);
    c->ack_every = role == SINK ? ACK_EVERY : 0;
    chunk_reader_init(&c->reader);
    return c;
}

static struct conn *dial(enum role role, int index)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 && errno != EINPROGRESS)) {
        perror("rtmpload: connect");
        exit(1);
    }
    struct conn *c = new_conn(fd, role, index);
    if (role == PUBLISHER) {
        c->source = &sources[index];
        c->source->conn = c;
    }
    uint8_t *hello = bytes_room(&c->out, 1 + HANDSHAKE);
    memset(hello, 0, 1 + HANDSHAKE);
    hello[0] = 3;
    for (int i = 9; i <= HANDSHAKE; i++)
        hello[i] = (uint8_t)(i * 31 + index);
    c->want_write = true; /* sent when the connection is up */
    watch(c, EPOLL_CTL_ADD);
    return c;
}

static void accept_sinks(void)
{
    static int accepted;
    int fd;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (accepted == (int)(sizeof sink_conns / sizeof *sink_conns)) {
            close(fd); /* a server that reconnects in a loop */
            continue;
        }
        struct conn *c = sink_conns[accepted] = new_conn(fd, SINK, accepted);
        accepted++;
        watch(c, EPOLL_CTL_ADD);
    }
}

static void listen_for_sinks(void)
{
    int one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.sink_port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listen_fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(listen_fd, 1024) < 0) {
        perror("rtmpload: listen");
        exit(1);
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &e);
}

/* Dials as many as --pace (not granted yet) and --rate (per second) allow; true while there is more to do. */
static bool dial_more(int64_t live_since)
{
    static int dialled;
    static int64_t players_from;
    int all = opt.publishers + opt.players;
    while (dialled < all && dialled - count.granted - count.refused < opt.pace) {
        if (dialled >= opt.publishers) {
            if (count.published + count.refused < opt.publishers)
                return true;
            if (!players_from)
                players_from = live_since + opt.player_delay_ms * MS;
            int64_t at = players_from + (opt.rate ? (dialled - opt.publishers) * SECOND / opt.rate : 0);
            if (now_ns < at)
                return true;
        }
        bool publisher = dialled < opt.publishers;
        conns[dialled] = dial(publisher ? PUBLISHER : PLAYER, publisher ? dialled : dialled - opt.publishers);
        dialled++;
    }
    return dialled < all;
}

/* ---- the run ---- */

/* Serves sockets and publishers until *deadline* (or sooner: the caller loops). */
static void turn(int64_t deadline)
{
    static struct epoll_event events[EVENTS];
    static int64_t next_poll;
    int64_t due = publish_due();
    now_ns = clock_ns();
    int64_t wake = due < deadline ? due : deadline;
    if (opt.poll_us) {
        next_poll += opt.poll_us * 1000LL;
        if (next_poll < now_ns)
            next_poll = now_ns;
        struct timespec at = {next_poll / SECOND, next_poll % SECOND};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        wake = now_ns;
    }
    int64_t wait = wake > now_ns ? wake - now_ns : 0;
    struct timespec timeout = {wait / SECOND, wait % SECOND};
    int n = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < n; i++) {
        struct conn *c = events[i].data.ptr;
        if (!c) {
            accept_sinks();
            continue;
        }
        if (c->state != CLOSED && events[i].events & EPOLLOUT)
            flush(c);
        if (c->state == CLOSED)
            continue;
        if (c->stalled && events[i].events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
            close_conn(c, "closed by the server");
        else if (!c->stalled && events[i].events & ~(uint32_t)EPOLLOUT)
            receive(c, events[i].events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP));
    }
    now_ns = clock_ns();
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double first_key_at(double quantile)
{
    return count.first_keys ? count.first_key_ms[(int)(quantile * (count.first_keys - 1) + 0.5)] : 0;
}

static int live_receivers(void)
{
    int live = sink_count;
    for (int i = opt.publishers; i < opt.publishers + opt.players; i++)
        live += conns[i] && conns[i]->state == GRANTED && !conns[i]->stalled;
    return live;
}

static uint64_t expected_messages(void)
{
    uint64_t n = opt.publishers ? sources[0].sent_messages * (uint64_t)sink_count : 0;
    for (int i = 0; opt.publishers && i < opt.players - opt.stall; i++)
        if (conns[opt.publishers + i] && conns[opt.publishers + i]->state == GRANTED)
            n += sources[strstr(opt.play_name, "%d") ? i % opt.publishers : 0].sent_messages;
    return n;
}

static void print_errors(const char *name, const struct errors *e)
{
    printf("\"%s\": {\"lost\": %lu, \"repeated\": %lu, \"reordered\": %lu, ", name, e->lost, e->repeated, e->reordered);
    printf("\"backwards\": %lu, \"wrong_length\": %lu}, ", e->backwards, e->wrong_length);
}

static struct cpu since(struct cpu now, struct cpu before)
{
    return (struct cpu){now.ran_s - before.ran_s, now.waited_s - before.waited_s};
}

static void report(double window_s, struct cpu server, struct cpu own, int rss_start, int rss_end, int rss_max)
{
    uint64_t sent_messages = 0, sent_bytes = 0;
    int publishing = 0;
    for (int i = 0; i < opt.publishers; i++) {
        sent_messages += sources[i].sent_messages;
        sent_bytes += sources[i].sent_bytes;
        publishing += sources[i].conn && sources[i].conn->state == GRANTED;
    }
    qsort(count.first_key_ms, (size_t)count.first_keys, sizeof(float), by_value);
    const struct histogram *l = &count.latency;
    printf("{\"publishing\": %d, \"live\": %d, \"refused\": %d, \"closed\": %d, ", publishing, live_receivers(),
           count.refused, count.closed);
    printf("\"stalled\": %d, \"stalled_closed\": %d, ", count.stalled, count.stalled_closed);
    printf("\"window_s\": %.4f, \"server_cpu_s\": %.4f, \"load_cpu_s\": %.4f, ", window_s, server.ran_s, own.ran_s);
    printf("\"server_wait_s\": %.4f, \"load_wait_s\": %.4f, ", server.waited_s, own.waited_s);
    printf("\"rss_start_kib\": %d, \"rss_end_kib\": %d, \"rss_max_kib\": %d, ", rss_start, rss_end, rss_max);
    printf("\"sent_messages\": %lu, \"sent_bytes\": %lu, \"blocked\": %lu, \"late_max_ms\": %.2f, ", sent_messages,
           sent_bytes, count.blocked, (double)count.late_max / (double)MS);
    printf("\"messages\": %lu, \"bytes\": %lu, ", count.messages, count.bytes);
    printf("\"complete_messages\": %lu, \"expected_messages\": %lu, \"other\": %lu, ", count.complete,
           expected_messages(), count.other);
    print_errors("errors", &count.window);
    print_errors("early", &count.early);
    printf("\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f, ", histogram_ms(l, 0.5), histogram_ms(l, 0.99),
           histogram_ms(l, 1));
    printf("\"first_keys\": %d, \"first_key_p50_ms\": %.1f, ", count.first_keys, first_key_at(0.5));
    printf("\"first_key_p90_ms\": %.1f, \"first_key_max_ms\": %.1f}\n", first_key_at(0.9), first_key_at(1));
}

static void run(void)
{
    int64_t give_up = clock_ns() + opt.setup_ms * MS, live_since = 0;
    now_ns = clock_ns();
    for (bool more = true;;) {
        if (!live_since && count.published == opt.publishers)
            live_since = now_ns;
        more = dial_more(live_since);
        if (!more && count.granted + count.refused >= opt.publishers + opt.players &&
            count.published + count.refused >= opt.publishers && sink_count >= opt.sinks)
            break;
        if (now_ns > give_up) {
            fprintf(stderr, "rtmpload: not everybody is live after %d ms\n", opt.setup_ms);
            break;
        }
        turn(more ? now_ns + MS : now_ns + 20 * MS);
    }
    for (int64_t end = now_ns + opt.warmup_ms * MS; now_ns < end;)
        turn(end);
    int rss_start = process_rss_kib(opt.pid), rss_max = rss_start;
    struct cpu own = process_cpu(getpid()), server = process_cpu(opt.pid);
    int64_t start = clock_ns(), end = start + opt.window_ms * MS, sample = start;
    count.on = true;
    count.from = start;
    count.to = INT64_MAX;
    for (now_ns = start; now_ns < end;) {
        if (now_ns >= sample) {
            int rss = process_rss_kib(opt.pid);
            rss_max = rss > rss_max ? rss : rss_max;
            sample += 250 * MS;
        }
        turn(sample < end ? sample : end);
    }
    count.on = false;
    count.to = clock_ns();
    server = since(process_cpu(opt.pid), server);
    own = since(process_cpu(getpid()), own);
    int rss_end = process_rss_kib(opt.pid);
    for (end = count.to + DRAIN; now_ns < end && count.complete < expected_messages();)
        turn(now_ns + 20 * MS);
    report((double)(count.to - start) / 1e9, server, own, rss_start, rss_end, rss_max);
}

/* ---- options ---- */

struct option_row {
    const char *name, *help;
    int *number;
    const char **text;
};
static int ts_base_option;
static const struct option_row rows[] = {
    {"port", "RTMP port of the server on 127.0.0.1", &opt.port, NULL},
    {"app", "application [live]", NULL, &opt.app},
    {"publishers", "streams to publish [1]", &opt.publishers, NULL},
    {"publish-name", "name to publish; %d is the index [bench]", NULL, &opt.publish_name},
    {"audio-kbit", "audio bit rate [128]", &opt.audio_kbit, NULL},
    {"chunk", "chunk size we send with [4096]", &opt.chunk, NULL},
    {"ts-base", "first timestamp in ms; 16777000 crosses into extended ones [0]", &ts_base_option, NULL},
    {"mux", "the track whose packets let the other one's go: video, audio; none: each has its own clock [none]", NULL,
     &opt.mux},
    {"writes", "a write for each: message, chunk (as OBS), header (as FFmpeg: it, then the rest) [message]", NULL,
     &opt.writes},
    {"fault", "spoil messages of publisher 0: skip, repeat, reorder, length, backwards", NULL, &opt.fault},
    {"players", "players [0]", &opt.players, NULL},
    {"play-name", "name to play; %d is the index modulo publishers [bench]", NULL, &opt.play_name},
    {"pace", "connections not granted yet at one time [15]", &opt.pace, NULL},
    {"rate", "players to dial per second [0: as --pace allows]", &opt.rate, NULL},
    {"player-delay-ms", "wait between publishers live and first player [0]", &opt.player_delay_ms, NULL},
    {"stall", "players that stop reading after their first key frame [0]", &opt.stall, NULL},
    {"sink-port", "be RTMP destinations on this port", &opt.sink_port, NULL},
    {"sinks", "destinations to wait for [0]", &opt.sinks, NULL},
    {"setup-ms", "give up waiting for everybody to be live [30000]", &opt.setup_ms, NULL},
    {"warmup-ms", "[2000]", &opt.warmup_ms, NULL},
    {"window-ms", "[5000]", &opt.window_ms, NULL},
    {"poll-us", "look at sockets only this often [0: at once]", &opt.poll_us, NULL},
    {"pid", "process under test: report its CPU and RSS", &opt.pid, NULL},
};
enum { ROWS = sizeof rows / sizeof *rows };

static void usage(void)
{
    fputs("rtmpload --port PORT [options]\n  --mbit N             video bit rate [2.5]\n", stderr);
    for (int i = 0; i < ROWS; i++)
        fprintf(stderr, "  --%-18s %s\n", rows[i].name, rows[i].help);
    exit(2);
}

static bool is_one_of(const char *text, const char *a, const char *b, const char *c)
{
    return !strcmp(text, a) || !strcmp(text, b) || !strcmp(text, c);
}

static void parse_options(int argc, char **argv)
{
    struct option longs[ROWS + 2] = {0};
    for (int i = 0; i < ROWS; i++)
        longs[i] = (struct option){rows[i].name, required_argument, NULL, i};
    longs[ROWS] = (struct option){"mbit", required_argument, NULL, ROWS};
    for (int i; (i = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (i == '?')
            usage();
        else if (i == ROWS)
            opt.mbit = atof(optarg);
        else if (rows[i].number)
            *rows[i].number = atoi(optarg);
        else
            *rows[i].text = optarg;
    }
    opt.ts_base = (uint32_t)ts_base_option;
    if (!opt.port || opt.chunk < 1 || opt.publishers < 0 || opt.players < 0 || opt.pace < 1 || optind != argc)
        usage();
    if (!is_one_of(opt.mux, "video", "audio", "none") || !is_one_of(opt.writes, "message", "chunk", "header"))
        usage();
}

int main(int argc, char **argv)
{
    parse_options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the runner */
    alarm((unsigned)(opt.setup_ms + opt.player_delay_ms + opt.warmup_ms + opt.window_ms) / 1000 + 20);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    /* A key frame is six times another frame; the average makes --mbit. */
    delta_size = (size_t)(opt.mbit * 1e6 / 8 * (GOP / FPS) / (GOP - 1 + 6));
    key_size = delta_size * 6;
    audio_size = (size_t)(opt.audio_kbit * 1000.0 / 8 * 1024 / 44100);
    if (audio_size < 64 || delta_size < 64) {
        fputs("rtmpload: bit rate too low for the mark in each message\n", stderr);
        return 2;
    }
    scratch = malloc(key_size);
    memset(scratch, 0x5A, key_size);
    conns = calloc((size_t)(opt.publishers + opt.players) + 1, sizeof *conns);
    sources = calloc((size_t)opt.publishers + 1, sizeof *sources);
    count.first_key_ms = calloc((size_t)opt.players + 1, sizeof(float));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (opt.sink_port)
        listen_for_sinks();
    run();
    return 0;
}
