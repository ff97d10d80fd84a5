/* Writing to streams: drain and its limits, write_eof, closing, and memory that stays bounded both ways. */
#include "reading.h"

static char block[65536];

TEST(drain_is_done_at_once_when_there_is_room) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_buffer lines[3] = {{"one ", 4}, {NULL, 0}, {"two", 3}};
    char text[20] = "";
    CHECK_CODE(evl_stream_write(stream, "zero ", 5), 0);
    CHECK_CODE(evl_stream_writelines(stream, lines, 3), 0);
    CHECK_CODE(evl_stream_writelines(stream, NULL, 0), 0);
    CHECK_CODE(end_code(begin_drain(stream)), 0);
    CHECK_CODE(evl_stream_drain(stream, NULL), 0);
    CHECK(recv(fd, text, sizeof text, 0) == 12);
    CHECK_STRING(text, "zero one two");
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

static void write_too_much(void *arg) {
    evl_stream *stream = (evl_stream *)arg;
    int i;
    for (i = 0; i < 40; i++)
        CHECK_CODE(evl_stream_write(stream, block, sizeof block), 0);
}

TEST(many_drain_at_once) {
    evl_loop *loop = real_loop();
    int fd, i;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *drains[5], *cancelled;
    CHECK_CODE(evl_loop_call_soon(loop, write_too_much, stream, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    for (i = 0; i < 5; i++) {
        drains[i] = begin_drain(stream);
        CHECK_INT(evl_future_done(drains[i]), 0);
    }
    cancelled = begin_drain(stream);
    CHECK_CODE(evl_future_cancel(cancelled, NULL), 1);
    CHECK_CODE(end_code(cancelled), EVL_ECANCELLED);
    CHECK_CODE(evl_future_cancel(drains[0], NULL), 1);
    CHECK_CODE(end_code(drains[0]), EVL_ECANCELLED);
    while (queued(evl_stream_get_transport(stream)) > 0) {
        for (i = 1; i < 5; i++)
            CHECK_INT(evl_future_done(drains[i]), queued(evl_stream_get_transport(stream)) <= 16384);
        drain(fd);
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    }
    for (i = 1; i < 5; i++)
        CHECK_CODE(end_code(drains[i]), 0);
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

TEST(a_drain_of_what_was_written_while_the_loop_did_not_run) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future;
    write_too_much(stream);
    future = begin_drain(stream);
    CHECK_INT(evl_future_done(future), 0);
    idle(loop);
    CHECK_INT(evl_future_done(future), 0);
    while (!evl_future_done(future)) {
        drain(fd);
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    }
    CHECK_CODE(end_code(future), 0);
    /* All is gone before the loop comes to it. */
    while (queued(evl_stream_get_transport(stream)) > 0) {
        drain(fd);
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    }
    write_too_much(stream);
    future = begin_drain(stream);
    CHECK_CODE(evl_transport_set_write_buffer_limits(evl_stream_get_transport(stream), 1 << 30, -1), 0);
    idle(loop);
    CHECK_CODE(will_fail(loop, future), 0);
    evl_transport_abort(evl_stream_get_transport(stream));
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

TEST(drain_while_the_connection_is_lost) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future;
    CHECK_CODE(evl_loop_call_soon(loop, write_too_much, stream, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    future = begin_drain(stream);
    CHECK_INT(evl_future_done(future), 0);
    /* Closed by us: asyncio's drain is done then. */
    evl_transport_abort(evl_stream_get_transport(stream));
    CHECK_CODE(will_fail(loop, future), 0);
    future = begin_drain(stream);
    CHECK_INT(evl_future_done(future), 1);
    check_message(future, "Connection lost");
    CHECK_CODE(end_code(future), -ECONNRESET);
    evl_stream_unref(stream);
    close(fd);
    /* By the peer. */
    stream = open_pair(loop, &fd);
    CHECK_CODE(evl_loop_call_soon(loop, write_too_much, stream, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    future = begin_drain(stream);
    close(fd);
    finish(loop, future);
    {
        int code = end_code(future);
        CHECK(code == -EPIPE || code == -ECONNRESET);
        CHECK_CODE(end_code(begin_drain(stream)), code);
        CHECK_CODE(evl_stream_get_error(stream), code);
    }
    evl_stream_unref(stream);
    end_loop(loop);
}

static void trace_done(evl_future *future, void *arg) {
    (void)future;
    trace((const char *)arg);
}

/* As asyncio's: the end first, then the drains, each in the order in which they came. */
TEST(in_the_order_in_which_they_wait) {
    static char names[][8] = {"drain1", "closed1", "drain2", "drain3", "closed2", "drain4", "read"};
    evl_loop *loop = real_loop();
    evl_future *futures[7];
    int fd, i;
    evl_stream *stream = open_pair(loop, &fd);
    CHECK_CODE(evl_loop_call_soon(loop, write_too_much, stream, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    for (i = 0; i < 7; i++) {
        futures[i] = i == 6 ? read_some(stream, 1) : names[i][0] == 'd' ? begin_drain(stream) : begin_wait_closed(stream);
        CHECK_CODE(evl_future_add_done_callback(futures[i], trace_done, names[i], NULL, NULL), 0);
    }
    CHECK_CODE(evl_future_cancel(futures[0], NULL), 1);
    CHECK_CODE(evl_transport_abort(evl_stream_get_transport(stream)), 0);
    finish(loop, futures[6]);
    idle(loop);
    CHECK_TRACE("drain1 read closed1 closed2 drain2 drain3 drain4");
    for (i = 0; i < 6; i++)
        CHECK_CODE(end_code(futures[i]), i == 0 ? EVL_ECANCELLED : 0);
    CHECK_GIVES(futures[6], "");
    evl_stream_unref(stream);
    close(fd);
    end_loop(loop);
}

/* Whoever writes and drains in a loop hears of the end. */
TEST(drain_of_a_closing_stream) {
    evl_loop *loop = real_loop();
    int fd, i;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future, *cancelled;
    CHECK_CODE(evl_stream_close(stream), 0);
    CHECK_CODE(evl_stream_write(stream, "x", 1), -EPIPE);
    future = begin_drain(stream);
    cancelled = begin_drain(stream);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_future_cancel(cancelled, NULL), 1);
    CHECK_CODE(end_code(cancelled), EVL_ECANCELLED);
    CHECK_CODE(will_fail(loop, future), -ECONNRESET);
    evl_stream_unref(stream);
    close(fd);
    /* One that has much to write yet. */
    stream = open_pair(loop, &fd);
    write_too_much(stream);
    idle(loop);
    CHECK_CODE(evl_stream_close(stream), 0);
    future = begin_drain(stream);
    for (i = 0; i < 5; i++)
        CHECK(evl_loop_run_once(loop, 0) >= 0);
    CHECK_INT(evl_future_done(future), 0);
    while (!evl_future_done(future)) {
        drain(fd);
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    }
    CHECK_CODE(end_code(future), 0);
    future = begin_wait_closed(stream);
    while (!evl_future_done(future)) {
        drain(fd);
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    }
    CHECK_CODE(end_code(future), 0);
    evl_stream_unref(stream);
    close(fd);
    end_loop(loop);
}

TEST(write_eof_and_what_the_peer_says_then) {
    evl_loop *loop = real_loop();
    int fd;
    char byte;
    evl_stream *stream = open_pair(loop, &fd);
    CHECK_INT(evl_stream_can_write_eof(stream), 1);
    CHECK_CODE(evl_stream_write(stream, "x", 1), 0);
    CHECK_CODE(evl_stream_write_eof(stream), 0);
    CHECK_CODE(evl_stream_write_eof(stream), 0);
    CHECK_CODE(evl_stream_write(stream, "y", 1), EVL_EINVALIDSTATE);
    CHECK(recv(fd, &byte, 1, 0) == 1 && byte == 'x');
    CHECK(recv(fd, &byte, 1, 0) == 0);
    put(fd, "the answer");
    shutdown(fd, SHUT_WR);
    CHECK_WILL_GIVE(loop, read_some(stream, -1), "the answer");
    CHECK_INT(evl_stream_is_closing(stream), 0);
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

TEST(the_peer_ends_and_goes_on_reading) {
    evl_loop *loop = real_loop();
    int fd;
    char text[10] = "";
    evl_stream *stream = open_pair(loop, &fd);
    put(fd, "question");
    shutdown(fd, SHUT_WR);
    CHECK_WILL_GIVE(loop, read_some(stream, -1), "question");
    idle(loop);
    CHECK_CODE(evl_stream_write(stream, "answer", 6), 0);
    CHECK_CODE(end_code(begin_drain(stream)), 0);
    CHECK(recv(fd, text, sizeof text, 0) == 6);
    CHECK_STRING(text, "answer");
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

TEST(wait_closed) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *first = begin_wait_closed(stream), *second = begin_wait_closed(stream), *cancelled;
    cancelled = begin_wait_closed(stream);
    CHECK_CODE(evl_stream_wait_closed(stream, NULL), 0);
    CHECK_CODE(evl_future_cancel(cancelled, NULL), 1);
    CHECK_CODE(end_code(cancelled), EVL_ECANCELLED);
    /* Unread data does not matter. */
    feed(loop, fd, "unread");
    CHECK_INT(evl_future_done(first), 0);
    CHECK_CODE(evl_stream_close(stream), 0);
    CHECK_INT(evl_stream_is_closing(stream), 1);
    CHECK_INT(evl_future_done(first), 0);
    CHECK_CODE(will_fail(loop, first), 0);
    CHECK_CODE(end_code(second), 0);
    CHECK_CODE(end_code(begin_wait_closed(stream)), 0);
    CHECK_GIVES(read_some(stream, 100), "unread");
    CHECK_GIVES(read_some(stream, 100), "");
    evl_stream_unref(stream);
    close(fd);
    end_loop(loop);
}

/* --- memory */

/* A peer that sends for ever is stopped: what lies about is bounded, whatever the limit. */
TEST(a_fast_writer_and_no_reader) {
    static const size_t limits[] = {1, 1000, 65536, 500000};
    evl_loop *loop = real_loop();
    size_t i;
    for (i = 0; i < sizeof limits / sizeof *limits; i++) {
        int fd, rounds;
        evl_stream *stream = open_pair(loop, &fd);
        size_t sent = 0, in_socket, unread, got = 0;
        CHECK_CODE(evl_stream_set_limit(stream, limits[i]), 0);
        for (rounds = 0; rounds < 100; rounds++) {
            sent += stuff(fd);
            idle(loop);
        }
        CHECK_INT(evl_transport_is_reading(evl_stream_get_transport(stream)), 0);
        in_socket = drain(evl_transport_get_fd(evl_stream_get_transport(stream)));
        CHECK(in_socket > 0);
        unread = sent - in_socket;
        /* One more read of the system's than twice the limit. */
        CHECK(unread > 2 * limits[i] && unread <= 2 * limits[i] + 65536);
        while (got < unread) {
            evl_future *future = read_some(stream, 10000);
            const void *data;
            size_t size = 0;
            CHECK_INT(evl_future_done(future), 1);
            CHECK_CODE(evl_future_result_bytes(future, &data, &size), 0);
            got += size;
            evl_future_unref(future);
            /* It goes on once no more than the limit is left. */
            CHECK_INT(evl_transport_is_reading(evl_stream_get_transport(stream)), unread - got <= limits[i]);
        }
        CHECK_INT(got, unread);
        end_stream(loop, stream);
        close(fd);
    }
    end_loop(loop);
}

TEST(changing_the_limit_stops_and_resumes) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_transport *transport = evl_stream_get_transport(stream);
    evl_future *future;
    feed(loop, fd, "0123456789");
    CHECK_INT(evl_transport_is_reading(transport), 1);
    CHECK_CODE(evl_stream_set_limit(stream, 4), 0);
    CHECK_INT(evl_transport_is_reading(transport), 0);
    CHECK_CODE(evl_stream_set_limit(stream, 5), 0);
    CHECK_INT(evl_transport_is_reading(transport), 0);
    CHECK_CODE(evl_stream_set_limit(stream, 10), 0);
    CHECK_INT(evl_transport_is_reading(transport), 1);
    CHECK_CODE(evl_stream_set_limit(stream, 4), 0);
    /* A read that needs more has the transport read; when it is cancelled, that ends. */
    future = read_exactly(stream, 20);
    CHECK_INT(evl_transport_is_reading(transport), 1);
    feed(loop, fd, "abc");
    CHECK_CODE(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    CHECK_INT(evl_transport_is_reading(transport), 0);
    CHECK_GIVES(read_exactly(stream, 13), "0123456789abc");
    CHECK_INT(evl_transport_is_reading(transport), 1);
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

/* A task that writes as fast as it may; its peer reads slowly. */
struct writer {
    evl_stream *stream;
    size_t left, most;
};

static int writer_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct writer *me = (struct writer *)arg;
    size_t waiting = queued(evl_stream_get_transport(me->stream));
    (void)task;
    if (status < 0)
        return status;
    if (waiting > me->most)
        me->most = waiting;
    if (me->left == 0)
        return evl_stream_write_eof(me->stream);
    me->left -= 10000;
    status = evl_stream_write(me->stream, block, 10000);
    return status < 0 ? status : evl_stream_drain(me->stream, next);
}

TEST(a_fast_writer_and_a_slow_reader) {
    evl_loop *loop = real_loop();
    int fds[2];
    struct writer writer = {NULL, 10000 * 1000, 0};
    evl_stream *reader;
    size_t got = 0;
    unix_pair(fds);
    writer.stream = stream_on(loop, fds[0]);
    reader = stream_on(loop, fds[1]);
    CHECK_CODE(evl_stream_create_task(writer.stream, writer_step, &writer, NULL, NULL), 0);
    evl_stream_unref(writer.stream);
    for (;;) {
        char room[5000];
        evl_future *future = read_into(reader, room, sizeof room);
        int64_t some;
        finish(loop, future);
        some = end_number(future);
        if (some <= 0)
            break;
        got += (size_t)some;
    }
    CHECK_INT(got, 10000 * 1000);
    CHECK(writer.most <= 65536 + 10000);
    end_stream(loop, reader);
    end_loop(loop);
}

TEST_MAIN()
