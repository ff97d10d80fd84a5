/* Reading from streams: every kind of read, at once and waiting, over limits, to the end, and cancelled. */
#include "reading.h"

#include <sys/resource.h>

TEST(read_takes_what_there_is) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_some(stream, 100);
    CHECK_INT(evl_future_done(future), 0);
    feed(loop, fd, "hello");
    CHECK_GIVES(future, "hello");
    feed(loop, fd, "one two");
    CHECK_GIVES(read_some(stream, 3), "one");
    CHECK_GIVES(read_some(stream, 1), " ");
    CHECK_GIVES(read_some(stream, 100), "two");
    /* Less is wanted than comes. */
    future = read_some(stream, 2);
    feed(loop, fd, "abcd");
    CHECK_GIVES(future, "ab");
    CHECK_INT(evl_stream_at_eof(stream), 0);
    CHECK_GIVES(read_some(stream, INT64_MAX), "cd");
    close(fd);
    idle(loop);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(read_of_nothing_is_done_at_once) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *waiting = read_some(stream, 1);
    CHECK_GIVES(read_some(stream, 0), "");
    CHECK_GIVES(read_exactly(stream, 0), "");
    CHECK_INT(end_number(read_into(stream, NULL, 0)), 0);
    CHECK_INT(end_number(read_exactly_into(stream, NULL, 0)), 0);
    feed(loop, fd, "x");
    CHECK_GIVES(waiting, "x");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(the_end_gives_nothing_for_ever) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_some(stream, 1024);
    char byte = 'x';
    shutdown(fd, SHUT_WR);
    CHECK_WILL_GIVE(loop, future, "");
    CHECK_INT(evl_stream_at_eof(stream), 1);
    CHECK_GIVES(read_some(stream, 1024), "");
    CHECK_GIVES(read_some(stream, -1), "");
    CHECK_GIVES(read_line(stream), "");
    CHECK(is_incomplete(read_exactly(stream, 1), ""));
    CHECK(is_incomplete(read_until(stream, "x"), ""));
    CHECK_INT(end_number(read_into(stream, &byte, 1)), 0);
    CHECK(is_incomplete(read_exactly_into(stream, &byte, 1), ""));
    CHECK_INT(byte, 'x');
    CHECK_CODE(evl_stream_get_error(stream), 0);
    CHECK_INT(evl_stream_is_closing(stream), 0);
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(read_until_the_end) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_some(stream, -1);
    static char block[300000];
    size_t i;
    for (i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 7);
    /* More than any limit: a read that wants all is not held up. */
    CHECK_CODE(evl_stream_set_limit(stream, 1000), 0);
    pour(loop, fd, block, sizeof block);
    idle(loop);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(evl_stream_at_eof(stream), 0);
    shutdown(fd, SHUT_WR);
    finish(loop, future);
    CHECK(gives(future, block, sizeof block));
    CHECK_INT(evl_stream_at_eof(stream), 1);
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(lines) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_line(stream);
    feed(loop, fd, "chunk1 ");
    feed(loop, fd, "chunk2 ");
    CHECK_INT(evl_future_done(future), 0);
    feed(loop, fd, "chunk3 \n chunk4\n\nlast");
    CHECK_GIVES(future, "chunk1 chunk2 chunk3 \n");
    CHECK_GIVES(read_line(stream), " chunk4\n");
    CHECK_GIVES(read_line(stream), "\n");
    future = read_line(stream);
    idle(loop);
    CHECK_INT(evl_future_done(future), 0);
    shutdown(fd, SHUT_WR);
    CHECK_WILL_GIVE(loop, future, "last");
    CHECK_GIVES(read_line(stream), "");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(a_line_with_what_follows_it) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    feed(loop, fd, "line1\nline2\nrest");
    CHECK_GIVES(read_line(stream), "line1\n");
    CHECK_GIVES(read_exactly(stream, 3), "lin");
    CHECK_GIVES(read_until(stream, "2\nr"), "e2\nr");
    CHECK_GIVES(read_some(stream, 10), "est");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(lines_that_are_too_long) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future;
    CHECK_INT(evl_stream_get_limit(stream), 65536);
    CHECK_CODE(evl_stream_set_limit(stream, 4), 0);
    CHECK_INT(evl_stream_get_limit(stream), 4);
    /* The newline is there: the line is dropped, what follows is not. Just the limit is not too long. */
    feed(loop, fd, "12345\n1234\n");
    future = read_line(stream);
    check_message(future, "Separator is found, but chunk is longer than limit");
    CHECK(is_overrun(future, 5));
    CHECK_GIVES(read_line(stream), "1234\n");
    /* It is not: all that has come is dropped. */
    feed(loop, fd, "12345");
    future = read_line(stream);
    check_message(future, "Separator is not found, and chunk exceed the limit");
    CHECK(is_overrun(future, 5));
    feed(loop, fd, "6\n");
    CHECK_GIVES(read_line(stream), "6\n");
    /* The same of reads that wait. */
    future = read_line(stream);
    feed(loop, fd, "1234");
    CHECK_INT(evl_future_done(future), 0);
    feed(loop, fd, "5");
    CHECK(is_overrun(future, 5));
    future = read_line(stream);
    feed(loop, fd, "12345\nab\n");
    CHECK(is_overrun(future, 5));
    CHECK_GIVES(read_line(stream), "ab\n");
    /* Half of it was there before. */
    feed(loop, fd, "123");
    future = read_line(stream);
    feed(loop, fd, "45\nab\n");
    CHECK(is_overrun(future, 5));
    CHECK_GIVES(read_line(stream), "ab\n");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(separators_that_come_in_pieces) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    const char *pieces[] = {"A", "B", "A", "BAAA", "A", "A", "BA", "B"};
    const char *separator = "AAAB";
    evl_future *future;
    size_t i;
    future = read_until(stream, separator);
    for (i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        CHECK_INT(evl_future_done(future), i == 7);
        feed(loop, fd, pieces[i]);
    }
    CHECK_GIVES(future, "ABABAAAAAB");
    CHECK_GIVES(read_some(stream, 100), "AB");
    /* Byte by byte. */
    future = read_until(stream, "\r\n\r\n");
    for (i = 0; i < 11; i++) {
        char byte[2] = {"GET\r\r\nx\r\n\r\n"[i], 0};
        CHECK_INT(evl_future_done(future), 0);
        feed(loop, fd, byte);
    }
    CHECK_GIVES(future, "GET\r\r\nx\r\n\r\n");
    /* A separator that is longer than all there is. */
    future = read_until(stream, "0123456789");
    feed(loop, fd, "01");
    feed(loop, fd, "23456789abc");
    CHECK_GIVES(future, "0123456789");
    CHECK_GIVES(read_some(stream, 100), "abc");
    /* NULs are bytes like others. */
    {
        evl_future *nul = NULL;
        CHECK_CODE(evl_stream_read_until(stream, "\0", 1, &nul), 0);
        CHECK(send(fd, "a\0b", 3, 0) == 3);
        finish(loop, nul);
        CHECK(gives(nul, "a\0", 2));
        CHECK_GIVES(read_some(stream, 5), "b");
    }
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(separators_beyond_the_limit) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future;
    CHECK_CODE(evl_stream_set_limit(stream, 6), 0);
    feed(loop, fd, "some dataAA");
    /* Nothing is lost: the last bytes may be the separator's first. */
    future = read_until(stream, "AAA");
    check_message(future, "Separator is not found, and chunk exceed the limit");
    CHECK(is_overrun(future, 9));
    feed(loop, fd, "A");
    future = read_until(stream, "AAA");
    check_message(future, "Separator is found, but chunk is longer than limit");
    CHECK(is_overrun(future, 9));
    CHECK_GIVES(read_some(stream, 9), "some data");
    CHECK_GIVES(read_until(stream, "AAA"), "AAA");
    /* With a greater limit it goes on. */
    future = read_until(stream, "AAA");
    feed(loop, fd, "1234567AAA");
    CHECK(is_overrun(future, 7));
    CHECK_CODE(evl_stream_set_limit(stream, 7), 0);
    CHECK_GIVES(read_until(stream, "AAA"), "1234567AAA");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(the_end_before_the_separator) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_until(stream, "AA");
    feed(loop, fd, "some dataA");
    shutdown(fd, SHUT_WR);
    finish(loop, future);
    check_message(future, "10 bytes read before the end, and no separator");
    CHECK(is_incomplete(future, "some dataA"));
    CHECK_GIVES(read_some(stream, 10), "");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(exactly_so_many) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_exactly(stream, 12);
    static char block[200000];
    feed(loop, fd, "12345");
    feed(loop, fd, "67890");
    CHECK_INT(evl_future_done(future), 0);
    feed(loop, fd, "abcde");
    CHECK_GIVES(future, "1234567890ab");
    CHECK_GIVES(read_exactly(stream, 3), "cde");
    /* More than the limit allows to lie about. */
    memset(block, 'x', sizeof block);
    CHECK_CODE(evl_stream_set_limit(stream, 10), 0);
    future = read_exactly(stream, sizeof block);
    pour(loop, fd, block, sizeof block);
    finish(loop, future);
    CHECK(gives(future, block, sizeof block));
    /* The end comes before. */
    future = read_exactly(stream, 10);
    feed(loop, fd, "1234");
    shutdown(fd, SHUT_WR);
    finish(loop, future);
    check_message(future, "4 bytes read on a total of 10 expected bytes");
    CHECK(is_incomplete(future, "1234"));
    CHECK_GIVES(read_some(stream, 10), "");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(into_memory_of_ones_own) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    char room[20] = "";
    evl_future *future = read_into(stream, room, 5);
    CHECK_INT(evl_future_done(future), 0);
    feed(loop, fd, "hello, world");
    CHECK_INT(end_number(future), 5);
    CHECK_STRING(room, "hello");
    CHECK_INT(end_number(read_into(stream, room, sizeof room)), 7);
    CHECK_STRING(room, ", world");
    memset(room, 0, sizeof room);
    future = read_exactly_into(stream, room, 6);
    feed(loop, fd, "abc");
    /* It is written when all is there. */
    CHECK_STRING(room, "");
    feed(loop, fd, "defghi");
    CHECK_INT(end_number(future), 6);
    CHECK_STRING(room, "abcdef");
    CHECK_INT(end_number(read_exactly_into(stream, room, 2)), 2);
    CHECK_STRING(room, "ghcdef");
    future = read_exactly_into(stream, room, 9);
    shutdown(fd, SHUT_WR);
    finish(loop, future);
    CHECK(is_incomplete(future, "i"));
    CHECK_STRING(room, "ghcdef");
    future = read_into(stream, room, 1);
    CHECK_INT(end_number(future), 0);
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

/* Large reads into one's own memory have the system fill it. */
TEST(much_into_memory_of_ones_own) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    static char block[500000], room[sizeof block + 1];
    evl_future *future;
    size_t i;
    for (i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 11 + i / 1000);
    /* Part of it is there before, and more comes than is wanted. */
    feed(loop, fd, "abc");
    put(fd, "def");
    future = read_exactly_into(stream, room, 3 + 3 + 400000);
    CHECK_INT(evl_future_done(future), 0);
    pour(loop, fd, block, sizeof block);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(end_number(future), 400006);
    CHECK(memcmp(room, "abcdef", 6) == 0 && memcmp(room + 6, block, 400000) == 0);
    future = read_exactly_into(stream, room, 100000);
    finish(loop, future);
    CHECK_INT(end_number(future), 100000);
    CHECK(memcmp(room, block + 400000, 100000) == 0);
    /* What there is. */
    future = read_into(stream, room, sizeof room);
    feed(loop, fd, "hello");
    CHECK_INT(end_number(future), 5);
    CHECK(memcmp(room, "hello", 5) == 0);
    feed(loop, fd, " world");
    CHECK_INT(end_number(read_into(stream, room, sizeof room)), 6);
    /* Cancelled, or out of time: nothing is lost. */
    feed(loop, fd, "one ");
    future = read_exactly_into(stream, room, 5000);
    feed(loop, fd, "two ");
    CHECK_CODE(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    memset(room, 'x', sizeof room);
    feed(loop, fd, "three\n");
    CHECK_GIVES(read_line(stream), "one two three\n");
    future = read_into(stream, room, 5000);
    CHECK_CODE(evl_future_set_timeout(future, 1), 0);
    CHECK_CODE(will_fail(loop, future), -ETIMEDOUT);
    feed(loop, fd, "more\n");
    CHECK_GIVES(read_line(stream), "more\n");
    CHECK(room[0] == 'x');
    /* The end comes before. */
    future = read_exactly_into(stream, room, 5000);
    feed(loop, fd, "the end");
    CHECK_INT(evl_future_done(future), 0);
    shutdown(fd, SHUT_WR);
    finish(loop, future);
    CHECK(is_incomplete(future, "the end"));
    CHECK_INT(end_number(read_into(stream, room, 5000)), 0);
    CHECK_INT(evl_stream_at_eof(stream), 1);
    close(fd);
    end_stream(loop, stream);
    /* It is closed, reset, or the loop is closed. */
    stream = open_pair(loop, &fd);
    future = read_exactly_into(stream, room, 5000);
    feed(loop, fd, "abc");
    CHECK_CODE(evl_stream_close(stream), 0);
    finish(loop, future);
    CHECK(is_incomplete(future, "abc"));
    evl_stream_unref(stream);
    close(fd);
    stream = open_tcp_pair(loop, &fd);
    future = read_exactly_into(stream, room, 5000);
    feed(loop, fd, "abc");
    reset(fd);
    CHECK_CODE(will_fail(loop, future), -ECONNRESET);
    evl_stream_unref(stream);
    stream = open_pair(loop, &fd);
    future = read_into(stream, room, 5000);
    shutdown(fd, SHUT_WR);
    finish(loop, future);
    CHECK_INT(end_number(future), 0);
    end_stream(loop, stream);
    close(fd);
    stream = open_pair(loop, &fd);
    future = read_exactly_into(stream, room, 5000);
    feed(loop, fd, "abc");
    end_loop(loop);
    evl_future_unref(future);
    evl_stream_unref(stream);
    close(fd);
}

/* The transport gets another protocol in the middle of it. */
TEST(another_protocol_in_the_middle_of_a_large_read) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    struct peer peer;
    evl_protocol p = peer_protocol();
    static char room[10000];
    evl_future *future = read_exactly_into(stream, room, sizeof room);
    feed(loop, fd, "for the read ");
    peer_init(&peer, loop, NULL);
    peer.transport = evl_transport_ref(evl_stream_get_transport(stream));
    peer.made = 1;
    CHECK_CODE(evl_transport_set_protocol(peer.transport, &p, &peer, peer_free), 0);
    CHECK_CODE(end_code(future), EVL_EINVALIDSTATE);
    feed(loop, fd, "for the protocol");
    CHECK_STRING(peer.data, "for the protocol");
    evl_stream_unref(stream);
    idle(loop);
    CHECK_INT(peer.lost, 0);
    peer_close(&peer);
    close(fd);
    end_loop(loop);
}

TEST(two_readers) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *first = read_line(stream), *second = NULL;
    char byte, detail[100] = "";
    CHECK_CODE(evl_stream_read(stream, 1, &second), EVL_EBUSY);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "another read is waiting for data already");
    CHECK_CODE(evl_stream_read_line(stream, &second), EVL_EBUSY);
    CHECK_CODE(evl_stream_read_into(stream, &byte, 1, &second), EVL_EBUSY);
    CHECK_CODE(evl_stream_read_exactly(stream, 1, NULL), EVL_EBUSY);
    feed(loop, fd, "half");
    CHECK_CODE(evl_stream_read(stream, 1, &second), EVL_EBUSY);
    CHECK(second == NULL);
    feed(loop, fd, " a line\nx");
    CHECK_GIVES(first, "half a line\n");
    CHECK_GIVES(read_some(stream, 1), "x");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(a_cancelled_read_loses_nothing) {
    evl_loop *loop = real_loop();
    int fd, kind;
    evl_stream *stream = open_pair(loop, &fd);
    char room[100];
    for (kind = 0; kind < 6; kind++) {
        evl_future *future = kind == 0   ? read_some(stream, 10)
                             : kind == 1 ? read_exactly(stream, 10)
                             : kind == 2 ? read_until(stream, "end")
                             : kind == 3 ? read_line(stream)
                             : kind == 4 ? read_some(stream, -1)
                                         : read_exactly_into(stream, room, 10);
        if (kind > 0)
            feed(loop, fd, "abc");
        CHECK_INT(evl_future_done(future), 0);
        CHECK_CODE(evl_future_cancel(future, "enough"), 1);
        CHECK_INT(evl_future_cancelled(future), 1);
        check_message(future, "enough");
        CHECK_CODE(end_code(future), EVL_ECANCELLED);
        /* The next one gets what came before and after. */
        feed(loop, fd, "def\n");
        CHECK_GIVES(read_line(stream), kind > 0 ? "abcdef\n" : "def\n");
    }
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(a_read_that_is_out_of_time) {
    evl_loop *loop = manual_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_exactly(stream, 10);
    CHECK_CODE(evl_future_set_timeout(future, EVL_SECONDS(5)), 0);
    feed(loop, fd, "12345");
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_loop_advance(loop, EVL_SECONDS(5)), 0);
    idle(loop);
    CHECK_CODE(end_code(future), -ETIMEDOUT);
    CHECK_GIVES(read_some(stream, 10), "12345");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(a_read_that_nobody_keeps) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    CHECK_CODE(evl_stream_read(stream, 3, NULL), 0);
    feed(loop, fd, "abcdef");
    CHECK_GIVES(read_some(stream, 10), "def");
    evl_future_unref(read_line(stream));
    feed(loop, fd, "a line\nand more");
    CHECK_GIVES(read_some(stream, 10), "and more");
    close(fd);
    end_stream(loop, stream);
    end_loop(loop);
}

TEST(reads_when_the_stream_is_closed) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_exactly(stream, 5);
    feed(loop, fd, "abc");
    CHECK_CODE(evl_stream_close(stream), 0);
    CHECK_INT(evl_future_done(future), 0);
    finish(loop, future);
    CHECK(is_incomplete(future, "abc"));
    CHECK_GIVES(read_some(stream, 5), "");
    CHECK_INT(evl_stream_at_eof(stream), 1);
    evl_stream_unref(stream);
    close(fd);
    end_loop(loop);
}

TEST(a_reset_fails_reads) {
    evl_loop *loop = real_loop();
    int fd, code;
    evl_stream *stream = open_tcp_pair(loop, &fd);
    evl_future *future = read_until(stream, "x"), *closed = begin_wait_closed(stream);
    feed(loop, fd, "abc");
    CHECK_CODE(evl_stream_get_error(stream), 0);
    reset(fd);
    finish(loop, future);
    check_message(future, "Connection lost");
    CHECK_CODE(end_code(future), -ECONNRESET);
    CHECK_CODE(evl_stream_get_error(stream), -ECONNRESET);
    /* From here on all fails with it, also what could be read. */
    CHECK_CODE(end_code(read_some(stream, 1)), -ECONNRESET);
    CHECK_CODE(end_code(read_some(stream, 0)), -ECONNRESET);
    CHECK_CODE(end_code(read_some(stream, -1)), -ECONNRESET);
    CHECK_CODE(end_code(read_line(stream)), -ECONNRESET);
    CHECK_CODE(end_code(read_exactly_into(stream, &code, sizeof code)), -ECONNRESET);
    CHECK_CODE(end_code(begin_drain(stream)), -ECONNRESET);
    CHECK_CODE(will_fail(loop, closed), -ECONNRESET);
    CHECK_CODE(end_code(begin_wait_closed(stream)), -ECONNRESET);
    CHECK_CODE(evl_stream_write(stream, "x", 1), -EPIPE);
    CHECK_INT(evl_stream_is_closing(stream), 1);
    CHECK_CODE(evl_stream_close(stream), 0);
    evl_stream_unref(stream);
    end_loop(loop);
}

TEST(the_loop_is_closed_with_everything_waiting) {
    evl_loop *loop = real_loop();
    int fd, other;
    evl_stream *stream = open_pair(loop, &fd), *second = open_pair(loop, &other);
    evl_future *read = read_line(stream), *closed = begin_wait_closed(stream), *drain;
    char room[4];
    CHECK_CODE(evl_stream_read_into(second, room, sizeof room, NULL), 0);
    feed(loop, fd, "abc");
    while (evl_stream_drain(second, &drain) == 0 && evl_future_done(drain)) {
        static char block[65536];
        evl_future_unref(drain);
        CHECK_CODE(evl_stream_write(second, block, sizeof block), 0);
        idle(loop);
    }
    evl_stream_unref(second);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(evl_future_done(read) + evl_future_done(closed) + evl_future_done(drain), 0);
    CHECK_CODE(evl_stream_read(stream, 1, NULL), EVL_ECLOSED);
    CHECK_CODE(evl_stream_close(stream), EVL_ECLOSED);
    CHECK(evl_stream_get_loop(stream) == loop);
    CHECK_INT(evl_stream_is_closing(stream), 1);
    evl_future_unref(read);
    evl_future_unref(closed);
    evl_future_unref(drain);
    close(fd);
    close(other);
    evl_loop_unref(loop);
    evl_stream_unref(stream);
}

/* Reads all of a peer that never ends, with little memory. */
static void read_without_memory(void *arg) {
    evl_loop *loop = real_loop();
    static char block[65536];
    struct rlimit limit;
    unsigned long pages = 0;
    int fd, turn = 0;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_some(stream, -1);
    FILE *file = fopen("/proc/self/statm", "r");
    (void)arg;
    CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = pages * (unsigned long)sysconf(_SC_PAGESIZE) + (48u << 20);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
    while (!evl_future_done(future) && turn++ < 100000) {
        CHECK(send(fd, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT) > 0 || errno == EAGAIN || errno == EPIPE);
        if (!CHECK(evl_loop_run_once(loop, 0) >= 0))
            break;
    }
    CHECK_CODE(end_code(future), -ENOMEM);
    CHECK_CODE(evl_stream_get_error(stream), -ENOMEM);
    CHECK_INT(evl_stream_is_closing(stream), 1);
    evl_stream_unref(stream);
    end_loop(loop);
}

TEST(a_read_that_is_too_much_for_the_memory) {
    if (!under_valgrind())
        CHECK_INT(in_child(read_without_memory, NULL), 0);
}

TEST_MAIN()
