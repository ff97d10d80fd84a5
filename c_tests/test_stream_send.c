/* The writing side of stream transports: the system takes all of a write, a part, nothing, or it fails; the queue, its limits, and
 * write_eof behind it. */
#include "streams.h"
#include "answers.h"

static evl_loop *loop;
static struct peer a;
static int other; /* the other end */

static void begin(void) {
    int fds[2];
    loop = reporting_loop();
    unix_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    other = fds[1];
    CHECK_TRACE("made");
    answers_for(fds[0]);
}

static void end(void) {
    answers_for(-1);
    if (!a.lost) {
        CHECK_CODE(evl_transport_abort(a.transport), 0);
        UNTIL(loop, a.lost);
    }
    CHECK_INT(a.frees, 1);
    peer_end(&a);
    close(other);
    end_loop(loop);
    trace_reset();
}

/* What has arrived at the other end since the last time. */
static const char *arrived(void) {
    static char text[4096];
    ssize_t size = recv(other, text, sizeof text - 1, MSG_DONTWAIT);
    text[size > 0 ? size : 0] = 0;
    return text;
}

static void once(void) {
    CHECK(evl_loop_run_once(loop, 0) >= 0);
}

/* --- what the system takes at once */

TEST(all_is_taken_at_once) {
    begin();
    peer_write(&a, "data");
    CHECK_INT(called(WRITES), 1);
    CHECK_INT(queued(a.transport), 0);
    CHECK_STRING(arrived(), "data");
    /* The descriptor is writable, and nobody asks. */
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(called(WRITES), 1);
    end();
}

TEST(nothing_to_write_asks_nobody) {
    evl_buffer empty[2] = {{NULL, 0}, {"", 0}};
    struct probe owned = probe_named(NULL, NULL);
    begin();
    CHECK_CODE(evl_transport_write(a.transport, "", 0), 0);
    CHECK_CODE(evl_transport_write(a.transport, NULL, 0), 0);
    CHECK_CODE(evl_transport_writelines(a.transport, empty, 2), 0);
    CHECK_CODE(evl_transport_writelines(a.transport, NULL, 0), 0);
    CHECK_CODE(evl_transport_write_owned(a.transport, "", 0, &owned, probe_free), 0);
    CHECK_INT(owned.frees, 1);
    CHECK_INT(called(WRITES), 0);
    /* Nor does it touch what is queued. */
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_write(a.transport, "", 0), 0);
    CHECK_CODE(evl_transport_writelines(a.transport, empty, 2), 0);
    CHECK_INT(called(WRITES), 1);
    CHECK_INT(queued(a.transport), 4);
    end();
}

TEST(a_part_is_taken) {
    char memory[] = "data";
    begin();
    answer(WRITES, 2);
    CHECK_CODE(evl_transport_write(a.transport, memory, 4), 0);
    CHECK_STRING(memory, "data");
    CHECK_INT(queued(a.transport), 2);
    CHECK_STRING(arrived(), "da");
    /* The memory is the caller's again. */
    memset(memory, 'x', 4);
    idle(loop);
    CHECK_STRING(arrived(), "ta");
    CHECK_INT(queued(a.transport), 0);
    CHECK_INT(called(WRITES), 2);
    end();
}

TEST(nothing_is_taken) {
    static const ssize_t nothing_now[] = {0, -EAGAIN};
    char memory[] = "data";
    size_t i;
    for (i = 0; i < 2; i++) {
        begin();
        memcpy(memory, "data", 4);
        answer(WRITES, nothing_now[i]);
        CHECK_CODE(evl_transport_write(a.transport, memory, 4), 0);
        memset(memory, 'x', 4);
        CHECK_INT(queued(a.transport), 4);
        CHECK_STRING(arrived(), "");
        CHECK_INT(evl_transport_is_closing(a.transport), 0);
        idle(loop);
        CHECK_STRING(arrived(), "data");
        CHECK_INT(queued(a.transport), 0);
        end();
    }
}

TEST(an_interrupted_write_is_tried_again) {
    begin();
    answer(WRITES, -EINTR);
    answer(WRITES, -EINTR);
    peer_write(&a, "data");
    CHECK_INT(called(WRITES), 3);
    CHECK_INT(queued(a.transport), 0);
    CHECK_STRING(arrived(), "data");
    end();
}

TEST(several_pieces_of_which_a_part_is_taken) {
    evl_buffer lines[3] = {{"one", 3}, {"two", 3}, {"three", 5}};
    begin();
    answer(WRITES, 4);
    CHECK_CODE(evl_transport_writelines(a.transport, lines, 3), 0);
    CHECK_INT(called(WRITES), 1);
    CHECK_INT(queued(a.transport), 7);
    CHECK_STRING(arrived(), "onet");
    idle(loop);
    CHECK_STRING(arrived(), "wothree");
    end();
}

/* --- the queue */

TEST(behind_a_queue_nothing_is_tried) {
    evl_buffer lines[2] = {{"thr", 3}, {"ee", 2}};
    struct probe owned = probe_named(NULL, NULL);
    begin();
    answer(WRITES, -EAGAIN);
    peer_write(&a, "one");
    peer_write(&a, "two");
    CHECK_CODE(evl_transport_writelines(a.transport, lines, 2), 0);
    CHECK_CODE(evl_transport_write_owned(a.transport, "four", 4, &owned, probe_free), 0);
    CHECK_INT(called(WRITES), 1);
    CHECK_INT(queued(a.transport), 15);
    CHECK_INT(owned.frees, 0);
    idle(loop);
    CHECK_STRING(arrived(), "onetwothreefour");
    CHECK_INT(owned.frees, 1);
    /* The next one is tried at once again. */
    peer_write(&a, "five");
    CHECK_STRING(arrived(), "five");
    end();
}

TEST(the_queue_is_taken_bit_by_bit) {
    struct probe owned = probe_named(NULL, NULL);
    begin();
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data1");
    CHECK_CODE(evl_transport_write_owned(a.transport, "data2", 5, &owned, probe_free), 0);
    answer(WRITES, 2);
    once();
    CHECK_INT(queued(a.transport), 8);
    CHECK_STRING(arrived(), "da");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_INT(queued(a.transport), 8);
    answer(WRITES, 0);
    once();
    CHECK_INT(queued(a.transport), 8);
    CHECK_STRING(arrived(), "");
    answer(WRITES, 6); /* across the two */
    once();
    CHECK_INT(queued(a.transport), 2);
    CHECK_STRING(arrived(), "ta1dat");
    CHECK_INT(owned.frees, 0);
    once();
    CHECK_INT(queued(a.transport), 0);
    CHECK_INT(owned.frees, 1);
    CHECK_STRING(arrived(), "a2");
    CHECK_INT(called(WRITES), 6);
    idle(loop);
    CHECK_INT(called(WRITES), 6);
    CHECK_INT(a.lost, 0);
    end();
}

/* --- failing */

static const int failures[] = {EPIPE, ECONNRESET, ECONNABORTED, ETIMEDOUT, EHOSTUNREACH, ENOBUFS, EIO, EACCES};
enum { FAILURES = sizeof failures / sizeof *failures };

TEST(a_write_that_fails_closes) {
    struct probe owned = probe_named(NULL, NULL);
    evl_buffer line = {"x", 1};
    int i, more;
    for (i = 0; i < FAILURES; i++) {
        begin();
        owned.frees = 0;
        answer(WRITES, -failures[i]);
        peer_write(&a, "data"); /* it is connection_lost that tells */
        CHECK_INT(evl_transport_is_closing(a.transport), 1);
        CHECK_INT(evl_transport_is_reading(a.transport), 0);
        CHECK_INT(queued(a.transport), 0);
        for (more = 0; more < 6; more++)
            CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
        CHECK_CODE(evl_transport_writelines(a.transport, &line, 1), -EPIPE);
        CHECK_CODE(evl_transport_write_owned(a.transport, "x", 1, &owned, probe_free), -EPIPE);
        CHECK_INT(owned.frees, 1);
        CHECK_INT(called(WRITES), 1);
        CHECK_TRACE("");
        put(other, "not read any more");
        idle(loop);
        CHECK_TRACE("lost");
        CHECK_CODE(a.code, -failures[i]);
        CHECK_INT(reports.count, 0); /* a connection that breaks is no error of the program */
        CHECK_CODE(evl_transport_get_fd(a.transport), -EBADF);
        end();
    }
}

TEST(a_queue_that_fails_is_dropped) {
    struct probe owned = probe_named(NULL, NULL);
    int i;
    for (i = 0; i < FAILURES; i++) {
        begin();
        owned.frees = 0;
        answer(WRITES, 2);
        peer_write(&a, "data");
        CHECK_CODE(evl_transport_write_owned(a.transport, "owned", 5, &owned, probe_free), 0);
        answer(WRITES, -failures[i]);
        UNTIL(loop, a.lost);
        CHECK_TRACE("lost");
        CHECK_CODE(a.code, -failures[i]);
        CHECK_INT(queued(a.transport), 0);
        CHECK_INT(owned.frees, 1);
        CHECK_INT(called(WRITES), 2);
        CHECK_INT(reports.count, 0);
        CHECK_STRING(arrived(), "da");
        end();
    }
}

TEST(a_queue_that_fails_resumes_nobody) {
    begin();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 3, 1), 0);
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE("pause");
    answer(WRITES, -ECONNRESET);
    UNTIL(loop, a.lost);
    CHECK_TRACE("lost");
    CHECK_CODE(a.code, -ECONNRESET);
    end();
}

/* --- limits */

TEST(pause_and_resume_at_the_very_limits) {
    begin();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 10, 4), 0);
    answer(WRITES, -EAGAIN);
    CHECK_CODE(evl_transport_write(a.transport, "0123456789", 10), 0);
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE(""); /* 10 are not more than 10 */
    peer_write(&a, "a");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE("pause");
    peer_write(&a, "b"); /* told once */
    answer(WRITES, 7);
    once();
    CHECK_INT(queued(a.transport), 5);
    CHECK_TRACE("");
    answer(WRITES, 1);
    once();
    CHECK_INT(queued(a.transport), 4);
    CHECK_TRACE("resume");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE("");
    CHECK_CODE(evl_transport_write(a.transport, "0123456", 7), 0);
    answer(WRITES, 4);
    once();
    CHECK_TRACE("pause"); /* and again */
    idle(loop);
    CHECK_TRACE("resume");
    CHECK_STRING(arrived(), "0123456789ab0123456");
    end();
}

TEST(limits_of_zero) {
    begin();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 0, 0), 0);
    peer_write(&a, "all at once");
    idle(loop);
    CHECK_TRACE("");
    answer(WRITES, 3);
    peer_write(&a, "four");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE("pause");
    idle(loop);
    CHECK_TRACE("resume");
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 0, 1), -EINVAL);
    end();
}

static void write_inside(void *arg) {
    (void)arg;
    trace("before");
    peer_write(&a, "12345");
    trace("between");
    peer_write(&a, "6");
    trace("after");
}

TEST(pause_comes_before_write_returns) {
    begin();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 5, -1), 0);
    answer(WRITES, -EAGAIN);
    CHECK_CODE(evl_loop_call_soon(loop, write_inside, NULL, NULL, NULL, NULL), 0);
    idle(loop);
    CHECK_TRACE("before between pause after resume");
    end();
}

/* --- write_eof */

TEST(write_eof_with_nothing_queued) {
    begin();
    CHECK_INT(evl_transport_can_write_eof(a.transport), 1);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_INT(called(SHUTDOWNS), 1);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_INT(called(SHUTDOWNS), 1);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_transport_write(a.transport, "", 0), EVL_EINVALIDSTATE);
    CHECK_INT(called(WRITES), 0);
    CHECK_INT(recv(other, harness_trace, 1, 0), 0);
    /* It goes on reading. */
    put(other, "answer");
    idle(loop);
    CHECK_TRACE("data");
    CHECK_STRING(a.data, "answer");
    end();
}

TEST(write_eof_behind_what_is_queued) {
    begin();
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_INT(queued(a.transport), 4);
    CHECK_INT(called(SHUTDOWNS), 0);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), EVL_EINVALIDSTATE);
    CHECK_INT(queued(a.transport), 4);
    answer(WRITES, 3);
    once();
    CHECK_INT(called(SHUTDOWNS), 0);
    once();
    CHECK_INT(called(SHUTDOWNS), 1);
    CHECK_STRING(arrived(), "data");
    CHECK_INT(recv(other, harness_trace, 1, 0), 0);
    idle(loop);
    CHECK_INT(called(SHUTDOWNS), 1);
    CHECK_INT(a.lost, 0);
    end();
}

TEST(write_eof_after_close_does_nothing) {
    begin();
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    UNTIL(loop, a.lost);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_INT(called(SHUTDOWNS), 0);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0);
    end();
}

TEST(close_after_write_eof_waits_for_the_queue) {
    begin();
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    answer(WRITES, 3);
    once();
    CHECK_INT(a.lost, 0);
    UNTIL(loop, a.lost);
    CHECK_INT(a.code, 0);
    CHECK_STRING(arrived(), "data");
    end();
}

TEST_MAIN()
