/* What tests of stream transports and servers share: a protocol that notes what it is told. */
#ifndef EVL_TEST_STREAMS_H
#define EVL_TEST_STREAMS_H

#include "harness.h"
#include "sockets.h"

/* Runs the loop until the condition holds. */
#define UNTIL(loop, condition)                                                                                        \
    do {                                                                                                              \
        while (!(condition))                                                                                          \
            if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))                                                \
                break;                                                                                                \
    } while (0)

/* One end of a connection: its protocol's arg. */
struct peer {
    evl_loop *loop;
    evl_transport *transport; /* a reference, from connection_made on */
    const char *name;         /* traced before what happens; NULL: nothing is traced */
    char data[4096];          /* the first of what was received */
    size_t size, total;
    uint64_t hash;
    int made, eofs, keep, lost, code, frees, pauses, resumes;
    void (*at)(struct peer *peer, const char *what); /* called in every callback */
};

static inline void peer_told(struct peer *peer, evl_transport *transport, const char *what) {
    char word[64];
    CHECK(peer->transport == transport);
    CHECK_INT(peer->lost, 0);
    CHECK_INT(peer->frees, 0);
    CHECK_INT(peer->made, 1);
    if (peer->name != NULL) {
        snprintf(word, sizeof word, "%s%s", peer->name, what);
        trace(word);
    }
    if (peer->at != NULL)
        peer->at(peer, what);
}

static inline void peer_made(evl_transport *transport, void *arg) {
    struct peer *peer = (struct peer *)arg;
    if (peer->transport == NULL)
        peer->transport = evl_transport_ref(transport);
    peer->made++;
    peer_told(peer, transport, "made");
}

static inline void peer_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct peer *peer = (struct peer *)arg;
    size_t room = sizeof peer->data - 1 - peer->size, some = size < room ? size : room;
    memcpy(peer->data + peer->size, data, some);
    peer->size += some;
    peer->total += size;
    peer->hash = hash_on(peer->hash, data, size);
    CHECK_INT(peer->eofs, 0);
    peer_told(peer, transport, "data");
}

static inline int peer_eof(evl_transport *transport, void *arg) {
    struct peer *peer = (struct peer *)arg;
    peer->eofs++;
    CHECK_INT(peer->eofs, 1);
    peer_told(peer, transport, "eof");
    return peer->keep;
}

static inline void peer_lost(evl_transport *transport, int code, void *arg) {
    struct peer *peer = (struct peer *)arg;
    peer->code = code;
    peer_told(peer, transport, "lost");
    peer->lost++;
}

static inline void peer_pause(evl_transport *transport, void *arg) {
    struct peer *peer = (struct peer *)arg;
    peer->pauses++;
    CHECK_INT(peer->pauses, peer->resumes + 1);
    peer_told(peer, transport, "pause");
}

static inline void peer_resume(evl_transport *transport, void *arg) {
    struct peer *peer = (struct peer *)arg;
    peer->resumes++;
    CHECK_INT(peer->pauses, peer->resumes);
    peer_told(peer, transport, "resume");
}

static inline void peer_free(void *arg) {
    struct peer *peer = (struct peer *)arg;
    peer->frees++;
    CHECK_INT(peer->frees, 1);
}

static inline evl_protocol peer_protocol(void) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = peer_made;
    p.data_received = peer_data;
    p.eof_received = peer_eof;
    p.connection_lost = peer_lost;
    p.pause_writing = peer_pause;
    p.resume_writing = peer_resume;
    return p;
}

static inline void peer_init(struct peer *peer, evl_loop *loop, const char *name) {
    memset(peer, 0, sizeof *peer);
    peer->loop = loop;
    peer->name = name;
    peer->hash = HASH_BEGIN;
}

/* Makes a connected socket the peer's. The future is yours. */
static inline evl_future *peer_adopt(struct peer *peer, evl_loop *loop, const char *name, int fd) {
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    peer_init(peer, loop, name);
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, fd, &p, peer, peer_free, &future), 0);
    return future;
}

/* The same, and it is told that it is connected. */
static inline void peer_open(struct peer *peer, evl_loop *loop, const char *name, int fd) {
    evl_future *future = peer_adopt(peer, loop, name, fd);
    finish(loop, future);
    CHECK_CODE(end_code(future), 0);
}

/* Gives the transport back. */
static inline void peer_end(struct peer *peer) {
    evl_transport_unref(peer->transport);
    peer->transport = NULL;
}

/* Closes the transport and waits until it is lost. */
static inline void peer_close(struct peer *peer) {
    CHECK_CODE(evl_transport_close(peer->transport), 0);
    UNTIL(peer->loop, peer->lost);
    CHECK_INT(peer->frees, 1);
    peer_end(peer);
}

static inline void idle(evl_loop *loop) {
    CHECK(evl_loop_run_until_idle(loop) >= 0);
}

static inline size_t queued(evl_transport *transport) {
    size_t size = 4711;
    CHECK_CODE(evl_transport_get_write_buffer_size(transport, &size), 0);
    return size;
}

static inline void peer_write(struct peer *peer, const char *text) {
    CHECK_CODE(evl_transport_write(peer->transport, text, strlen(text)), 0);
}

static inline void put(int fd, const char *text) {
    CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

/* Closes a TCP socket so that its peer is reset. */
static inline void reset(int fd) {
    struct linger at_once = {1, 0};
    CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    close(fd);
}

static inline int64_t time_of(evl_loop *loop) {
    int64_t now = 0;
    CHECK_CODE(evl_loop_time(loop, &now), 0);
    return now;
}

/* How many events the loop had. */
static inline uint64_t event_count(evl_loop *loop) {
    evl_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    return metrics.events;
}

/* What the exception handler was told. */
static struct {
    int count, code;
    char message[300];
} reports;

static inline void on_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    reports.count++;
    reports.code = exception->code;
    snprintf(reports.message, sizeof reports.message, "%s", exception->message);
}

static inline evl_loop *reporting_loop(void) {
    evl_loop *loop = real_loop();
    memset(&reports, 0, sizeof reports);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_report, NULL, NULL), 0);
    return loop;
}

/* --- servers */

/* The peers that a server's factory hands out, one after the other. */
struct crowd {
    evl_loop *loop;
    evl_server *server;
    struct peer peers[64];
    int count;  /* handed out so far */
    int lost;   /* gone so far: only if gone is their at */
    int refuse; /* a code */
    int raise;  /* a code */
    int frees;
    void (*at)(struct peer *peer, const char *what);
};

static inline int crowd_make(void *arg, evl_protocol *protocol, void **protocol_arg, evl_free_fn *arg_free) {
    struct crowd *crowd = (struct crowd *)arg;
    CHECK_INT(protocol->size, sizeof *protocol);
    if (crowd->raise)
        CHECK_CODE(evl_raise(crowd->raise, "on purpose"), 0);
    if (crowd->refuse)
        return crowd->refuse;
    peer_init(&crowd->peers[crowd->count], crowd->loop, NULL);
    crowd->peers[crowd->count].at = crowd->at;
    *protocol = peer_protocol();
    *protocol_arg = &crowd->peers[crowd->count++];
    *arg_free = peer_free;
    return 0;
}

static inline void crowd_free(void *arg) {
    ((struct crowd *)arg)->frees++;
}

static inline void crowd_init(struct crowd *crowd, evl_loop *loop) {
    memset(crowd, 0, sizeof *crowd);
    crowd->loop = loop;
}

/* The server that a future results in: a reference. Gives the future back. */
static inline evl_server *server_of(evl_loop *loop, evl_future *future) {
    void *server = NULL;
    finish(loop, future);
    CHECK_CODE(evl_future_result(future, &server), 0);
    evl_server_ref((evl_server *)server);
    evl_future_unref(future);
    return (evl_server *)server;
}

/* Serves on 127.0.0.1: the port. */
static inline int crowd_serve(struct crowd *crowd, evl_loop *loop, uint32_t flags) {
    evl_server_options options;
    evl_future *future = NULL;
    crowd_init(crowd, loop);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    options.flags = flags;
    CHECK_CODE(evl_loop_create_server(loop, &options, crowd_make, crowd, crowd_free, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    crowd->server = server_of(loop, future);
    return evl_server_port(crowd->server);
}

static inline int made_of(struct crowd *crowd) {
    int i, made = 0;
    for (i = 0; i < crowd->count; i++)
        made += crowd->peers[i].made;
    return made;
}

/* Gives the peers' transports back. */
static inline void crowd_end(struct crowd *crowd) {
    int i;
    for (i = 0; i < crowd->count; i++)
        peer_end(&crowd->peers[i]);
    evl_server_unref(crowd->server);
    crowd->server = NULL;
}

/* A plain client, connected to a port of 127.0.0.1. */
static inline int dial(int port) {
    struct sockaddr_in address = loopback();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_port = htons((uint16_t)port);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* Begins to connect to a host. */
static inline evl_future *begin_connect(struct peer *peer, evl_loop *loop, const char *name, const char *host, int port) {
    evl_connect_options options;
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    char service[16];
    peer_init(peer, loop, name);
    snprintf(service, sizeof service, "%d", port);
    CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
    options.host = host;
    options.service = service;
    CHECK_CODE(evl_loop_create_connection(loop, &options, &p, peer, peer_free, &future), 0);
    return future;
}

#endif
