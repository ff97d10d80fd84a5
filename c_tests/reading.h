/* What tests of evl_stream share: a stream over one end of a connection, and what its futures result in. */
#ifndef EVL_TEST_READING_H
#define EVL_TEST_READING_H

#include "streams.h"

/* The stream that a future results in: a reference. Gives the future back. */
static inline evl_stream *stream_of(evl_loop *loop, evl_future *future) {
    void *stream = NULL;
    finish(loop, future);
    if (CHECK_CODE(evl_future_result(future, &stream), 0))
        evl_stream_ref((evl_stream *)stream);
    evl_future_unref(future);
    return (evl_stream *)stream;
}

/* Makes a connected socket a stream. */
static inline evl_stream *stream_on(evl_loop *loop, int fd) {
    evl_future *future = NULL;
    CHECK_CODE(evl_open_connection_from_socket(loop, fd, &future), 0);
    return stream_of(loop, future);
}

/* A stream over one end of a unix socket pair; the other end is *fd. */
static inline evl_stream *open_pair(evl_loop *loop, int *fd) {
    int fds[2];
    unix_pair(fds);
    *fd = fds[1];
    return stream_on(loop, fds[0]);
}

/* The same, over TCP. */
static inline evl_stream *open_tcp_pair(evl_loop *loop, int *fd) {
    int fds[2];
    tcp_pair(fds);
    *fd = fds[1];
    return stream_on(loop, fds[0]);
}

/* Closes a stream, waits until it is lost, and gives it back. */
static inline void end_stream(evl_loop *loop, evl_stream *stream) {
    evl_future *future = NULL;
    CHECK_CODE(evl_stream_close(stream), 0);
    CHECK_CODE(evl_stream_wait_closed(stream, &future), 0);
    finish(loop, future);
    evl_future_result(future, NULL);
    evl_future_unref(future);
    evl_stream_unref(stream);
}

#define BEGIN(name, call)                                                                                             \
    static inline evl_future *name {                                                                                  \
        evl_future *future = NULL;                                                                                    \
        CHECK_CODE(call, 0);                                                                                          \
        return future;                                                                                                \
    }
BEGIN(read_some(evl_stream *stream, int64_t size), evl_stream_read(stream, size, &future))
BEGIN(read_exactly(evl_stream *stream, size_t size), evl_stream_read_exactly(stream, size, &future))
BEGIN(read_line(evl_stream *stream), evl_stream_read_line(stream, &future))
BEGIN(read_until(evl_stream *stream, const char *separator),
      evl_stream_read_until(stream, separator, strlen(separator), &future))
BEGIN(read_into(evl_stream *stream, void *buffer, size_t size), evl_stream_read_into(stream, buffer, size, &future))
BEGIN(read_exactly_into(evl_stream *stream, void *buffer, size_t size),
      evl_stream_read_exactly_into(stream, buffer, size, &future))
BEGIN(begin_drain(evl_stream *stream), evl_stream_drain(stream, &future))
BEGIN(begin_wait_closed(evl_stream *stream), evl_stream_wait_closed(stream, &future))
#undef BEGIN

/* Whether the future is done and results in these bytes, with a NUL after them. Gives it back. */
static inline int gives(evl_future *future, const void *expected, size_t size) {
    const void *data = NULL;
    size_t count = 4711;
    int same = CHECK_CODE(evl_future_result_bytes(future, &data, &count), 0) && CHECK_INT(count, size) &&
               CHECK(memcmp(data, expected, size) == 0) && CHECK_INT(((const char *)data)[size], 0);
    evl_future_unref(future);
    return same;
}

#define CHECK_GIVES(future, text) CHECK(gives(future, text, strlen(text)))

/* The same of one that waits. */
static inline int will_give(evl_loop *loop, evl_future *future, const char *text) {
    finish(loop, future);
    return gives(future, text, strlen(text));
}

#define CHECK_WILL_GIVE(loop, future, text) CHECK(will_give(loop, future, text))

/* The code of a future that waits. */
static inline int will_fail(evl_loop *loop, evl_future *future) {
    finish(loop, future);
    return end_code(future);
}

/* Whether the future has failed with EVL_EINCOMPLETE and these bytes. Gives it back. */
static inline int is_incomplete(evl_future *future, const char *text) {
    const void *data = NULL;
    size_t size = 4711;
    int code = 0, good;
    CHECK_CODE(evl_future_error(future, &code), 0);
    good = CHECK_CODE(code, EVL_EINCOMPLETE) && CHECK_CODE(evl_future_error_bytes(future, &data, &size), 0) &&
           CHECK_INT(size, strlen(text)) && CHECK(memcmp(data, text, size) == 0);
    evl_future_unref(future);
    return good;
}

/* Whether the future has failed with EVL_EOVERRUN, and tells that so many bytes can be read. Gives it back. */
static inline int is_overrun(evl_future *future, size_t expected) {
    const void *data = "not this";
    size_t size = 4711;
    int code = 0, good;
    CHECK_CODE(evl_future_error(future, &code), 0);
    good = CHECK_CODE(code, EVL_EOVERRUN) && CHECK_CODE(evl_future_error_bytes(future, &data, &size), 0) &&
           CHECK(data == NULL) && CHECK_INT(size, expected);
    evl_future_unref(future);
    return good;
}

/* Sends all, while the loop runs. */
static inline void pour(evl_loop *loop, int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            data += sent;
            size -= (size_t)sent;
        } else if (!CHECK(errno == EAGAIN)) {
            return;
        }
        if (!CHECK(evl_loop_run_once(loop, sent > 0 ? 0 : EVL_SECONDS(20)) >= 0))
            return;
    }
}

/* Sends text, and has the loop take it. */
static inline void feed(evl_loop *loop, int fd, const char *text) {
    put(fd, text);
    idle(loop);
}

#endif
