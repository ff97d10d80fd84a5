/* Protocols with buffers of their own: what they may do from inside of get_buffer and buffer_updated. */
#include "streams.h"

struct buffered {
    struct peer peer; /* the first member, so that its functions serve */
    char room[10];
    int asked, updated;
    void (*in_get)(struct buffered *);
    void (*in_updated)(struct buffered *);
};

static void get_buffer(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    (void)transport;
    CHECK(hint > 0 && b->peer.lost == 0 && b->peer.frees == 0);
    b->asked++;
    *buffer = b->room;
    *size = sizeof b->room;
    if (b->in_get)
        b->in_get(b);
}

static void buffer_updated(evl_transport *transport, size_t size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    (void)transport;
    CHECK(size > 0 && size <= sizeof b->room && b->peer.lost == 0 && b->peer.frees == 0);
    b->updated++;
    b->peer.total += size;
    if (b->in_updated)
        b->in_updated(b);
}

static evl_future *open_buffered(struct buffered *b, evl_loop *loop, int fd) {
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    memset(b, 0, sizeof *b);
    peer_init(&b->peer, loop, NULL);
    p.get_buffer = get_buffer;
    p.buffer_updated = buffer_updated;
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, fd, &p, b, peer_free, &future), 0);
    return future;
}

static void act_close(struct buffered *b) {
    CHECK_CODE(evl_transport_close(b->peer.transport), 0);
}

static void act_abort(struct buffered *b) {
    CHECK_CODE(evl_transport_abort(b->peer.transport), 0);
}

static void act_raise(struct buffered *b) {
    (void)b;
    CHECK_CODE(evl_raise(-4242, "on purpose"), 0);
}

static void act_exit(struct buffered *b) {
    if (b->asked == 1 && b->updated <= 1)
        CHECK_CODE(evl_raise_exit(7), 0);
}

static void act_pause(struct buffered *b) {
    CHECK_CODE(evl_transport_pause_reading(b->peer.transport), 0);
}

static void act_stop(struct buffered *b) {
    CHECK_CODE(evl_loop_stop(b->peer.loop), 0);
}

/* From inside of either: the connection ends, or goes on, as it should. */
static void act(void (*what)(struct buffered *), int ends, int code, int expected_reports) {
    int where;
    for (where = 0; where < 2; where++) {
        evl_loop *loop = reporting_loop();
        struct buffered b;
        evl_future *future;
        int fds[2], i;
        unix_pair(fds);
        future = open_buffered(&b, loop, fds[0]);
        finish(loop, future);
        evl_future_unref(future);
        if (where == 0)
            b.in_get = what;
        else
            b.in_updated = what;
        put(fds[1], "0123456789abcde");
        for (i = 0; i < 6; i++)
            CHECK(evl_loop_run_once(loop, 0) >= 0 || what == act_exit);
        if (ends) {
            CHECK_INT(b.peer.lost, 1);
            CHECK_INT(b.asked, 1);
            CHECK_INT(b.updated, where);
            CHECK_CODE(b.peer.code, code);
        } else {
            CHECK_INT(b.peer.lost, 0);
            if (what == act_pause) {
                CHECK_INT(b.asked, 1);
                CHECK_INT(b.updated, where);
                b.in_get = b.in_updated = NULL;
                CHECK_CODE(evl_transport_resume_reading(b.peer.transport), 0);
            }
            UNTIL(loop, b.peer.total == 15);
            b.in_get = b.in_updated = NULL;
            CHECK_CODE(evl_transport_close(b.peer.transport), 0);
            UNTIL(loop, b.peer.lost);
        }
        CHECK_INT(reports.count, expected_reports);
        if (expected_reports) {
            CHECK_CODE(reports.code, -4242);
            CHECK(strstr(reports.message, where ? "buffer_updated" : "get_buffer") != NULL);
            CHECK(strstr(reports.message, "on purpose") != NULL);
        }
        CHECK_INT(b.peer.frees, 1);
        peer_end(&b.peer);
        close(fds[1]);
        end_loop(loop);
    }
}

TEST(closed_inside) {
    act(act_close, 1, 0, 0);
}

TEST(aborted_inside) {
    act(act_abort, 1, 0, 0);
}

TEST(failing_inside) {
    act(act_raise, 1, -4242, 1);
}

TEST(exits_inside) {
    act(act_exit, 0, 0, 0);
}

TEST(stops_inside) {
    act(act_stop, 0, 0, 0);
}

TEST(paused_inside) {
    act(act_pause, 0, 0, 0);
}

/* The peer resets, and ends, while the protocol's own buffer is in use. */
TEST(reset_and_ended) {
    int how;
    for (how = 0; how < 2; how++) {
        evl_loop *loop = reporting_loop();
        struct buffered b;
        evl_future *future;
        int fds[2];
        tcp_pair(fds);
        future = open_buffered(&b, loop, fds[0]);
        finish(loop, future);
        evl_future_unref(future);
        if (how == 0) {
            put(fds[1], "0123456789abcde");
            close(fds[1]);
            UNTIL(loop, b.peer.lost);
            CHECK_INT(b.peer.total, 15);
            CHECK_INT(b.peer.eofs, 1);
            CHECK_CODE(b.peer.code, 0);
        } else {
            reset(fds[1]);
            UNTIL(loop, b.peer.lost);
            CHECK_CODE(b.peer.code, -ECONNRESET);
        }
        CHECK_INT(reports.count, 0);
        CHECK_INT(b.peer.frees, 1);
        peer_end(&b.peer);
        end_loop(loop);
    }
}

TEST_MAIN()
