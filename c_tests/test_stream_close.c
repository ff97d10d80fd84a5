/* How stream transports end: close and abort with and without a queue, what is still told then, and every function of one that is lost. */
#include "streams.h"
#include "answers.h"

static evl_loop *loop;
static struct peer a;
static int ours, other;

static void begin(void) {
    int fds[2];
    loop = reporting_loop();
    unix_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    ours = fds[0];
    other = fds[1];
    CHECK_TRACE("made");
    answers_for(ours);
}

static void end(void) {
    answers_for(-1);
    CHECK_INT(a.lost, 1);
    CHECK_INT(a.frees, 1);
    CHECK_INT(reports.count, 0);
    CHECK_INT(watchers(loop), 0);
    CHECK_TRACE("");
    peer_end(&a);
    close(other);
    end_loop(loop);
}

static void once(void) {
    CHECK(evl_loop_run_once(loop, 0) >= 0);
}

/* What has arrived at the other end, which must be the last. */
static void check_arrived(const char *expected) {
    char text[200];
    ssize_t size = recv(other, text, sizeof text - 1, MSG_DONTWAIT);
    text[size > 0 ? size : 0] = 0;
    CHECK_STRING(text, expected);
    CHECK_INT(recv(other, text, 1, MSG_DONTWAIT), 0);
}

/* --- close */

TEST(close_tells_in_the_next_iteration) {
    begin();
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    CHECK_TRACE("");
    CHECK(is_open(ours));
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0);
    CHECK(!is_open(ours));
    check_arrived("");
    end();
}

TEST(closing_again_is_closing_once) {
    begin();
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    end();
}

static void close_it(void *arg) {
    (void)arg;
    trace("close");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    trace("closed");
}

TEST(connection_lost_is_not_called_inside_of_close) {
    begin();
    CHECK_CODE(evl_loop_call_soon(loop, close_it, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, "rest", NULL, NULL, NULL), 0);
    once();
    CHECK_TRACE("close closed rest");
    once();
    CHECK_TRACE("lost");
    end();
}

TEST(what_comes_after_close_is_not_read) {
    begin();
    put(other, "too late");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    /* Nor by resuming. */
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_INT(called(READS), 0);
    CHECK_INT(a.total, 0);
    end();
}

TEST(close_waits_for_the_queue) {
    int i;
    begin();
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    put(other, "not read");
    for (i = 0; i < 3; i++) {
        answer(WRITES, -EAGAIN);
        once();
        CHECK_INT(a.lost, 0);
        CHECK_INT(queued(a.transport), 4);
    }
    answer(WRITES, 3);
    once();
    CHECK_INT(queued(a.transport), 1);
    CHECK_TRACE("");
    UNTIL(loop, a.lost);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0);
    CHECK_INT(called(READS), 0);
    CHECK_INT(a.total, 0);
    {
        char text[10] = "";
        CHECK(recv(other, text, sizeof text - 1, MSG_DONTWAIT) == 4);
        CHECK_STRING(text, "data");
    }
    end();
}

TEST(close_of_a_queue_that_fails) {
    struct probe owned = probe_named(NULL, NULL);
    begin();
    answer(WRITES, -EAGAIN);
    CHECK_CODE(evl_transport_write_owned(a.transport, "data", 4, &owned, probe_free), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    answer(WRITES, -EPIPE);
    UNTIL(loop, a.lost);
    CHECK_TRACE("lost");
    CHECK_CODE(a.code, -EPIPE);
    CHECK_INT(owned.frees, 1);
    check_arrived("");
    end();
}

/* A protocol that paused may still be resumed while the queue is written. */
TEST(close_resumes_who_was_paused) {
    begin();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 2, 0), 0);
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE("pause");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    UNTIL(loop, a.lost);
    CHECK_TRACE("resume lost");
    check_arrived("data");
    end();
}

/* --- abort */

TEST(abort_drops_the_queue) {
    struct probe owned = probe_named(NULL, NULL);
    begin();
    answer(WRITES, 2);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_write_owned(a.transport, "data", 4, &owned, probe_free), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    CHECK_INT(queued(a.transport), 0);
    CHECK_INT(owned.frees, 1);
    CHECK_TRACE("");
    put(other, "not read");
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0);
    CHECK_INT(called(WRITES), 1);
    CHECK_INT(called(READS), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    {
        char text[10] = "";
        CHECK(recv(other, text, sizeof text - 1, MSG_DONTWAIT) == 2);
        CHECK_STRING(text, "da");
    }
    end();
}

TEST(abort_ends_a_close_that_waits) {
    begin();
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_INT(called(WRITES), 1);
    check_arrived("");
    end();
}

TEST(abort_of_one_that_has_failed_keeps_the_reason) {
    begin();
    answer(WRITES, -ECONNRESET);
    peer_write(&a, "data");
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(a.code, -ECONNRESET);
    end();
}

TEST(abort_of_a_paused_one) {
    begin();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 0, 0), 0);
    answer(WRITES, -EAGAIN);
    peer_write(&a, "data");
    answer(WRITES, -EAGAIN);
    once();
    CHECK_TRACE("pause");
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost"); /* there is nothing to resume */
    end();
}

/* --- in connection_lost, and after it */

static int lost_open;

static void look_when_lost(struct peer *peer, const char *what) {
    struct sockaddr_un address;
    if (strcmp(what, "lost") != 0)
        return;
    lost_open = evl_transport_get_fd(peer->transport) == ours && is_open(ours);
    CHECK_INT(evl_transport_is_closing(peer->transport), 1);
    CHECK_INT(evl_transport_is_reading(peer->transport), 0);
    CHECK(evl_transport_get_sockname(peer->transport, &address, sizeof address) >= 0);
    CHECK_CODE(evl_transport_write(peer->transport, "x", 1), -EPIPE);
    CHECK_CODE(evl_transport_close(peer->transport), 0);
    CHECK_CODE(evl_transport_abort(peer->transport), 0);
    CHECK_CODE(evl_transport_resume_reading(peer->transport), 0);
}

TEST(the_descriptor_is_open_in_connection_lost) {
    begin();
    a.at = look_when_lost;
    CHECK_CODE(evl_transport_close(a.transport), 0);
    idle(loop);
    CHECK_INT(lost_open, 1);
    CHECK(!is_open(ours));
    CHECK_TRACE("lost");
    end();
}

TEST(every_function_of_one_that_is_lost) {
    evl_protocol p = peer_protocol();
    struct peer next;
    struct probe owned = probe_named(NULL, NULL);
    evl_buffer line = {"x", 1};
    evl_future *future = NULL;
    char text[100];
    size_t high = 0, low = 0;
    int file;
    begin();
    CHECK_CODE(evl_transport_close(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
    CHECK_CODE(evl_transport_writelines(a.transport, &line, 1), -EPIPE);
    CHECK_CODE(evl_transport_write_owned(a.transport, "x", 1, &owned, probe_free), -EPIPE);
    CHECK_INT(owned.frees, 1);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 0, 0), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(a.transport, &high, &low), 0);
    CHECK_INT(queued(a.transport), 0);
    CHECK_CODE(evl_transport_get_fd(a.transport), -EBADF);
    CHECK(evl_transport_repr(a.transport, text, sizeof text) > 0);
    CHECK(strstr(text, "closed") != NULL);
    peer_init(&next, loop, "next:");
    CHECK_CODE(evl_transport_set_protocol(a.transport, &p, &next, peer_free), EVL_EINVALIDSTATE);
    CHECK_INT(next.frees, 1);
    file = open("/dev/null", O_RDONLY);
    CHECK_CODE(evl_loop_sendfile(loop, a.transport, file, 0, 0, 1, &future), -EPIPE);
    close(file);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(called(WRITES), 0);
    CHECK_INT(called(SHUTDOWNS), 0);
    end();
}

/* The number of a descriptor that was closed may be another's at once: the transport does not touch it. */
TEST(the_next_with_the_same_number_is_left_alone) {
    struct probe reader = probe_named(NULL, NULL);
    int fds[2];
    begin();
    CHECK_CODE(evl_transport_close(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    unix_pair(fds);
    CHECK_INT(fds[0], ours);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &reader, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    evl_transport_unref(evl_transport_ref(a.transport));
    put(fds[1], "x");
    once();
    CHECK_INT(reader.calls, 1);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    close_pair(fds);
    end();
}

TEST_MAIN()
