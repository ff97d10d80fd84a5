/* The reading side of stream transports, with the transport's buffer and with one of the protocol's own: what the system answers,
 * pausing, the end, protocols that fail, and protocols that are exchanged. */
#include "streams.h"
#include "answers.h"

static evl_loop *loop;
static struct peer a;
static evl_future *made;
static int other;

/* A protocol with a buffer of its own: what is read goes on to the peer's functions. */
static struct {
    char memory[8];
    size_t size;             /* of it, that is handed out */
    int asked, updated;
    int fail_get, fail_updated;
} own;

static void own_get(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    (void)transport, (void)arg;
    CHECK(hint > 0);
    own.asked++;
    if (own.fail_get)
        CHECK_CODE(evl_raise(-4242, "get"), 0);
    *buffer = own.memory;
    *size = own.size;
}

static void own_updated(evl_transport *transport, size_t size, void *arg) {
    own.updated++;
    CHECK(size > 0 && size <= own.size);
    if (own.fail_updated)
        CHECK_CODE(evl_raise(-4242, "updated"), 0);
    peer_data(transport, own.memory, size, arg);
}

static evl_protocol table(int buffered) {
    evl_protocol p = peer_protocol();
    if (buffered) {
        p.get_buffer = own_get;
        p.buffer_updated = own_updated;
    }
    memset(&own, 0, sizeof own);
    own.size = sizeof own.memory;
    return p;
}

/* Up to the moment before connection_made. */
static void adopt(int buffered) {
    evl_protocol p = table(buffered);
    int fds[2];
    loop = reporting_loop();
    unix_pair(fds);
    other = fds[1];
    answers_for(fds[0]);
    peer_init(&a, loop, "");
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, fds[0], &p, &a, peer_free, &made), 0);
}

static void begin(int buffered) {
    adopt(buffered);
    finish(loop, made);
    CHECK_TRACE("made");
}

static void end(void) {
    answers_for(-1);
    if (!a.lost) {
        CHECK_CODE(evl_transport_close(a.transport), 0);
        idle(loop);
    }
    CHECK_INT(a.lost, 1);
    CHECK_INT(a.frees, 1);
    CHECK_INT(watchers(loop), 0);
    CHECK_CODE(end_code(made), 0);
    peer_end(&a);
    close(other);
    end_loop(loop);
    trace_reset();
}

#define PLAIN_AND_BUFFERED                                                                                            \
    int buffered;                                                                                                     \
    for (buffered = 0; buffered < 2; buffered++)

/* --- what the system answers */

TEST(data_is_told) {
    PLAIN_AND_BUFFERED {
        begin(buffered);
        put(other, "data");
        idle(loop);
        CHECK_TRACE("data");
        CHECK_STRING(a.data, "data");
        CHECK_INT(own.updated, buffered);
        put(other, "0123456789abcdef01"); /* more than the protocol's own buffer has */
        idle(loop);
        CHECK_STRING(a.data, "data0123456789abcdef01");
        CHECK_INT(own.updated, buffered ? 4 : 0);
        CHECK(own.asked >= own.updated);
        end();
    }
}

TEST(nothing_is_there_after_all) {
    static const int harmless[] = {EAGAIN, EINTR};
    size_t i;
    PLAIN_AND_BUFFERED {
        for (i = 0; i < 2; i++) {
            begin(buffered);
            answer(READS, -harmless[i]);
            put(other, "data");
            CHECK(evl_loop_run_once(loop, 0) >= 0);
            CHECK_TRACE("");
            CHECK_INT(called(READS), 1);
            CHECK_INT(own.updated, 0);
            CHECK_INT(evl_transport_is_reading(a.transport), 1);
            idle(loop);
            CHECK_TRACE("data");
            CHECK_STRING(a.data, "data");
            CHECK_INT(reports.count, 0);
            end();
        }
    }
}

TEST(a_read_that_fails_is_the_end) {
    static const int failures[] = {ECONNRESET, ECONNABORTED, ETIMEDOUT, EHOSTUNREACH, ENOBUFS, EIO};
    size_t i;
    PLAIN_AND_BUFFERED {
        for (i = 0; i < sizeof failures / sizeof *failures; i++) {
            begin(buffered);
            answer(READS, -failures[i]);
            put(other, "data");
            CHECK(evl_loop_run_once(loop, 0) >= 0);
            CHECK_INT(evl_transport_is_closing(a.transport), 1);
            CHECK_TRACE("");
            idle(loop);
            CHECK_TRACE("lost"); /* no eof_received */
            CHECK_CODE(a.code, -failures[i]);
            CHECK_INT(called(READS), 1);
            CHECK_INT(reports.count, 0);
            end();
        }
    }
}

/* A part of what is there, and the rest later. */
TEST(data_that_comes_bit_by_bit) {
    PLAIN_AND_BUFFERED {
        begin(buffered);
        answer(READS, 1);
        answer(READS, 2);
        put(other, "data");
        idle(loop);
        CHECK_STRING(a.data, "data");
        CHECK(called(READS) >= 3);
        end();
    }
}

/* --- the end */

TEST(the_end_closes) {
    PLAIN_AND_BUFFERED {
        begin(buffered);
        put(other, "last");
        shutdown(other, SHUT_WR);
        idle(loop);
        CHECK_TRACE("data eof lost");
        CHECK_INT(a.code, 0);
        CHECK_INT(reports.count, 0);
        end();
    }
}

TEST(the_end_that_keeps_it_open) {
    char text[10] = "";
    int reads;
    PLAIN_AND_BUFFERED {
        begin(buffered);
        a.keep = 1;
        shutdown(other, SHUT_WR);
        idle(loop);
        CHECK_TRACE("eof");
        CHECK_INT(evl_transport_is_closing(a.transport), 0);
        reads = called(READS);
        idle(loop);
        CHECK_INT(called(READS), reads); /* there is nothing more to read, ever */
        peer_write(&a, "answer");
        CHECK(recv(other, text, 6, MSG_DONTWAIT) == 6);
        CHECK_STRING(text, "answer");
        CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
        idle(loop);
        CHECK_TRACE("");
        CHECK_CODE(evl_transport_close(a.transport), 0);
        idle(loop);
        CHECK_TRACE("lost");
        end();
    }
}

static int raising_eof(evl_transport *transport, void *arg) {
    peer_eof(transport, arg);
    CHECK_CODE(evl_raise(-4242, "eof"), 0);
    return 1; /* does not count */
}

TEST(an_eof_received_that_fails) {
    evl_protocol p;
    PLAIN_AND_BUFFERED {
        begin(buffered);
        p = table(buffered);
        p.eof_received = raising_eof;
        CHECK_CODE(evl_transport_set_protocol(a.transport, &p, &a, NULL), 0);
        CHECK_INT(a.frees, 1);
        a.frees = 0;
        shutdown(other, SHUT_WR);
        idle(loop);
        CHECK_TRACE("eof lost");
        CHECK_CODE(a.code, -4242);
        CHECK_INT(reports.count, 1);
        CHECK_STRING(reports.message, "Fatal error: protocol.eof_received() call failed: eof");
        a.frees = 1;
        end();
    }
}

TEST(the_end_of_a_protocol_that_does_not_ask) {
    evl_protocol p;
    PLAIN_AND_BUFFERED {
        begin(buffered);
        p = table(buffered);
        p.eof_received = NULL;
        CHECK_CODE(evl_transport_set_protocol(a.transport, &p, &a, NULL), 0);
        a.frees = 0;
        shutdown(other, SHUT_WR);
        idle(loop);
        CHECK_TRACE("lost");
        CHECK_INT(a.code, 0);
        a.frees = 1;
        end();
    }
}

/* --- protocols that fail */

static void raise_at_data(struct peer *peer, const char *what) {
    (void)peer;
    if (strcmp(what, "data") == 0)
        CHECK_CODE(evl_raise(-4242, "data"), 0);
}

TEST(a_data_received_that_fails) {
    begin(0);
    a.at = raise_at_data;
    put(other, "data");
    shutdown(other, SHUT_WR);
    idle(loop);
    CHECK_TRACE("data lost");
    CHECK_CODE(a.code, -4242);
    CHECK_INT(reports.count, 1);
    CHECK_STRING(reports.message, "Fatal error: protocol.data_received() call failed: data");
    end();
}

TEST(a_get_buffer_that_fails) {
    begin(1);
    own.fail_get = 1;
    put(other, "data");
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(a.code, -4242);
    CHECK_INT(own.asked, 1);
    CHECK_INT(own.updated, 0);
    CHECK_INT(called(READS), 0);
    CHECK_INT(reports.count, 1);
    CHECK_STRING(reports.message, "Fatal error: protocol.get_buffer() call failed: get");
    end();
}

TEST(a_get_buffer_without_a_buffer) {
    begin(1);
    own.size = 0;
    put(other, "data");
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(a.code, -EINVAL);
    CHECK_INT(own.asked, 1);
    CHECK_INT(own.updated, 0);
    CHECK_INT(called(READS), 0);
    CHECK_INT(reports.count, 1);
    CHECK_STRING(reports.message, "get_buffer() returned an empty buffer.");
    end();
}

TEST(a_buffer_updated_that_fails) {
    begin(1);
    own.fail_updated = 1;
    put(other, "0123456789");
    idle(loop);
    CHECK_TRACE("data lost");
    CHECK_CODE(a.code, -4242);
    CHECK_INT(own.asked, 1);
    CHECK_INT(own.updated, 1);
    CHECK_INT(a.total, 8);
    CHECK_INT(reports.count, 1);
    CHECK_STRING(reports.message, "Fatal error: protocol.buffer_updated() call failed: updated");
    end();
}

/* --- pausing */

TEST(paused_twice_and_resumed_once) {
    PLAIN_AND_BUFFERED {
        begin(buffered);
        CHECK_INT(evl_transport_is_reading(a.transport), 1);
        CHECK_CODE(evl_transport_resume_reading(a.transport), 0); /* which it does anyway */
        CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
        CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
        CHECK_INT(evl_transport_is_reading(a.transport), 0);
        put(other, "data");
        shutdown(other, SHUT_WR);
        CHECK_CODE(evl_loop_run_until_idle(loop), 0);
        CHECK_INT(called(READS), 0);
        CHECK_INT(own.asked, 0);
        CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
        CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
        CHECK_INT(evl_transport_is_reading(a.transport), 1);
        CHECK_TRACE("");
        idle(loop);
        CHECK_TRACE("data eof lost");
        CHECK_INT(evl_transport_is_reading(a.transport), 0);
        end();
    }
}

static void pause_when_made(struct peer *peer, const char *what) {
    if (strcmp(what, "made") == 0) {
        CHECK_CODE(evl_transport_pause_reading(peer->transport), 0);
        CHECK_INT(evl_transport_is_reading(peer->transport), 0);
    }
}

TEST(paused_in_connection_made) {
    PLAIN_AND_BUFFERED {
        adopt(buffered);
        a.at = pause_when_made;
        put(other, "data");
        finish(loop, made);
        idle(loop);
        CHECK_TRACE("made");
        CHECK_INT(called(READS), 0);
        CHECK_INT(evl_transport_is_reading(a.transport), 0);
        CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
        CHECK_INT(evl_transport_is_reading(a.transport), 1);
        idle(loop);
        CHECK_TRACE("data");
        CHECK_CODE(evl_transport_close(a.transport), 0);
        CHECK_INT(evl_transport_is_reading(a.transport), 0);
        put(other, "more");
        idle(loop);
        CHECK_TRACE("lost");
        end();
    }
}

static void pause_at_data(struct peer *peer, const char *what) {
    if (strcmp(what, "data") == 0) {
        CHECK_CODE(evl_transport_pause_reading(peer->transport), 0);
        CHECK_CODE(evl_transport_resume_reading(peer->transport), 0);
        CHECK_CODE(evl_transport_pause_reading(peer->transport), 0);
    }
}

TEST(paused_when_data_comes) {
    PLAIN_AND_BUFFERED {
        begin(buffered);
        a.at = pause_at_data;
        put(other, "01234567");
        idle(loop);
        CHECK_TRACE("data");
        put(other, "89");
        idle(loop);
        CHECK_TRACE("");
        CHECK_STRING(a.data, "01234567");
        a.at = NULL;
        CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
        idle(loop);
        CHECK_STRING(a.data, "0123456789");
        end();
    }
}

/* --- protocols that are exchanged */

TEST(from_plain_to_buffered_and_back) {
    struct peer b, c;
    evl_protocol p;
    begin(0);
    put(other, "plain");
    idle(loop);
    CHECK_STRING(a.data, "plain");
    peer_init(&b, loop, "b.");
    b.transport = evl_transport_ref(a.transport);
    b.made = 1;
    p = table(1);
    CHECK_CODE(evl_transport_set_protocol(a.transport, &p, &b, peer_free), 0);
    CHECK_INT(a.frees, 1);
    CHECK_INT(own.asked, 0);
    put(other, "buffered");
    idle(loop);
    CHECK_STRING(b.data, "buffered");
    CHECK_INT(own.updated, 1);
    peer_init(&c, loop, "c.");
    c.transport = evl_transport_ref(a.transport);
    c.made = 1;
    p = peer_protocol();
    CHECK_CODE(evl_transport_set_protocol(a.transport, &p, &c, peer_free), 0);
    CHECK_INT(b.frees, 1);
    put(other, "plain again");
    idle(loop);
    CHECK_STRING(c.data, "plain again");
    CHECK_INT(own.updated, 1);
    shutdown(other, SHUT_WR);
    idle(loop);
    CHECK_TRACE("data b.data c.data c.eof c.lost");
    CHECK_INT(c.frees, 1);
    peer_end(&b);
    peer_end(&c);
    a.lost = 1;
    end();
}

TEST_MAIN()
