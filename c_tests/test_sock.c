/* Streams by descriptor: what asyncio's loop.sock_recv, sock_recv_into and sock_sendall do. */
#include "harness.h"
#include "sockets.h"

TEST(recv_of_what_is_there_is_done_at_once) {
    evl_loop *loop = real_loop();
    evl_future *future;
    int fds[2];
    unix_pair(fds);
    CHECK(send(fds[1], "hello", 5, 0) == 5);
    future = begin_recv(loop, fds[0], 100);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(watchers(loop), 0);
    CHECK(end_bytes(future, "hello"));
    close_pair(fds);
    end_loop(loop);
}

TEST(recv_waits_for_data) {
    evl_loop *loop = real_loop();
    evl_future *future;
    int fds[2];
    unix_pair(fds);
    future = begin_recv(loop, fds[0], 3);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(watchers(loop), 1);
    CHECK(send(fds[1], "hello", 5, 0) == 5);
    finish(loop, future);
    CHECK_INT(watchers(loop), 0);
    CHECK(end_bytes(future, "hel"));
    CHECK(end_bytes(begin_recv(loop, fds[0], 100), "lo"));
    close_pair(fds);
    end_loop(loop);
}

TEST(recv_at_the_end_of_the_stream_has_no_bytes) {
    evl_loop *loop = real_loop();
    evl_future *future;
    int fds[2];
    unix_pair(fds);
    future = begin_recv(loop, fds[0], 10);
    close(fds[1]);
    finish(loop, future);
    CHECK(end_bytes(future, ""));
    CHECK(end_bytes(begin_recv(loop, fds[0], 10), ""));
    close(fds[0]);
    end_loop(loop);
}

TEST(recv_into_a_buffer) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    char buffer[16] = "................";
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], buffer, 4, &future), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK(send(fds[1], "hello", 5, 0) == 5);
    CHECK(memcmp(buffer, "....", 4) == 0);
    finish(loop, future);
    CHECK_INT(end_number(future), 4);
    CHECK(memcmp(buffer, "hell.", 5) == 0);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], buffer, sizeof buffer, &future), 0);
    CHECK_INT(end_number(future), 1);
    close(fds[1]);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], buffer, sizeof buffer, &future), 0);
    CHECK_INT(end_number(future), 0);
    close(fds[0]);
    end_loop(loop);
}

TEST(a_blocking_socket_does_not_block_the_loop) {
    evl_loop *loop = real_loop();
    evl_future *future, *sending = NULL;
    static char big[4 << 20];
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    future = begin_recv(loop, fds[0], 10);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], big, sizeof big, &sending), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(evl_future_done(future) + evl_future_done(sending), 0);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    finish(loop, future);
    CHECK(end_bytes(future, "x"));
    CHECK_INT(evl_future_cancel(sending, NULL), 1);
    evl_future_unref(sending);
    close_pair(fds);
    end_loop(loop);
}

TEST(sendall_that_fits_is_done_at_once) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    void *value = loop;
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "hello", 5, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_CODE(evl_future_result(future, &value), 0);
    CHECK(value == NULL);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], NULL, 0, &future), 0);
    CHECK_CODE(end_code(future), 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], " again", 6, NULL), 0);
    CHECK(end_bytes(begin_recv(loop, fds[1], 100), "hello again"));
    CHECK_INT(watchers(loop), 0);
    close_pair(fds);
    end_loop(loop);
}

/* Megabytes through a small window, to a reader that takes a little at a time. */
TEST(sendall_of_megabytes_to_a_slow_reader) {
    enum { SIZE = 8 << 20 };
    evl_loop *loop = real_loop();
    unsigned char *data = (unsigned char *)malloc(SIZE);
    evl_future *sending = NULL;
    uint64_t expected, got = HASH_BEGIN;
    unsigned seed = 7;
    size_t i, left = SIZE;
    int fds[2], rounds = 0;
    REQUIRE(data != NULL);
    for (i = 0; i < SIZE; i++)
        data[i] = (unsigned char)next_random(&seed);
    expected = hash_on(HASH_BEGIN, data, SIZE);
    tcp_pair(fds);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], data, SIZE, &sending), 0);
    CHECK_INT(evl_future_done(sending), 0);
    while (left > 0 && rounds++ < 100000) {
        evl_future *future = begin_recv(loop, fds[1], 1 + next_random(&seed) % 100000);
        const void *bytes = NULL;
        size_t size = 0;
        finish(loop, future);
        CHECK_CODE(evl_future_result_bytes(future, &bytes, &size), 0);
        if (!CHECK(size > 0))
            break;
        got = hash_on(got, bytes, size);
        left -= size;
        evl_future_unref(future);
    }
    finish(loop, sending);
    CHECK_CODE(end_code(sending), 0);
    CHECK(got == expected);
    CHECK_INT(watchers(loop), 0);
    close_pair(fds);
    free(data);
    end_loop(loop);
}

/* One direction of a connection: pieces of random sizes, one operation after another. */
struct flow {
    evl_loop *loop;
    int fd;
    unsigned char buffer[50000];
    unsigned seed;
    size_t left;
    uint64_t hash;
    int pieces;
};

static size_t piece_of(struct flow *flow) {
    size_t size = 1 + next_random(&flow->seed) % sizeof flow->buffer;
    return size < flow->left ? size : flow->left;
}

static void send_next(evl_future *future, void *arg) {
    struct flow *flow = (struct flow *)arg;
    size_t size = piece_of(flow), i;
    evl_future *next = NULL;
    if (future != NULL)
        CHECK_CODE(evl_future_result(future, NULL), 0);
    if (size == 0)
        return;
    for (i = 0; i < size; i++)
        flow->buffer[i] = (unsigned char)next_random(&flow->seed);
    flow->hash = hash_on(flow->hash, flow->buffer, size);
    flow->left -= size;
    flow->pieces++;
    CHECK_CODE(evl_loop_sock_sendall(flow->loop, flow->fd, flow->buffer, size, &next), 0);
    CHECK_CODE(evl_future_add_done_callback(next, send_next, flow, NULL, NULL), 0);
    evl_future_unref(next);
}

static void recv_next(evl_future *future, void *arg) {
    struct flow *flow = (struct flow *)arg;
    evl_future *next = NULL;
    if (future != NULL) {
        int64_t got = -1;
        CHECK_CODE(evl_future_result_int(future, &got), 0);
        if (!CHECK(got > 0 && (size_t)got <= flow->left))
            return;
        flow->hash = hash_on(flow->hash, flow->buffer, (size_t)got);
        flow->left -= (size_t)got;
        flow->pieces++;
    }
    if (flow->left == 0)
        return;
    CHECK_CODE(evl_loop_sock_recv_into(flow->loop, flow->fd, flow->buffer, piece_of(flow), &next), 0);
    CHECK_CODE(evl_future_add_done_callback(next, recv_next, flow, NULL, NULL), 0);
    evl_future_unref(next);
}

static void both_ways(const int fds[2], unsigned seed) {
    enum { TOTAL = 3 << 20 };
    static struct flow flows[4]; /* 0 sends to 3, 1 sends to 2 */
    evl_loop *loop = real_loop();
    int i, rounds = 0;
    for (i = 0; i < 4; i++) {
        flows[i].loop = loop;
        flows[i].fd = fds[i % 2];
        flows[i].seed = seed + (unsigned)i;
        flows[i].left = TOTAL;
        flows[i].hash = HASH_BEGIN;
        flows[i].pieces = 0;
    }
    send_next(NULL, &flows[0]);
    send_next(NULL, &flows[1]);
    recv_next(NULL, &flows[2]);
    recv_next(NULL, &flows[3]);
    while (flows[2].left + flows[3].left > 0 && rounds++ < 1000000)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    CHECK(flows[0].hash == flows[3].hash);
    CHECK(flows[1].hash == flows[2].hash);
    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(random_sizes_both_ways) {
    int fds[2];
    unix_pair(fds);
    both_ways(fds, 1);
    close_pair(fds);
    tcp_pair(fds);
    both_ways(fds, 2);
    close_pair(fds);
}

TEST(one_reads_and_one_writes_at_a_time) {
    evl_loop *loop = real_loop();
    evl_future *reading, *writing = NULL, *other = (evl_future *)loop;
    static char big[1 << 20];
    char buffer[1];
    int fds[2];
    unix_pair(fds);
    stuff(fds[0]);
    reading = begin_recv(loop, fds[0], 10);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], big, sizeof big, &writing), 0);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &other), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], buffer, 1, &other), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, &other), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "x", 1, NULL, 0, &other), EVL_EBUSY);
    CHECK(other == (evl_future *)loop);
    CHECK(send(fds[1], "in", 2, 0) == 2);
    finish(loop, reading);
    CHECK(end_bytes(reading, "in"));
    CHECK_INT(evl_future_done(writing), 0);
    while (!evl_future_done(writing)) {
        drain(fds[1]);
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    }
    CHECK_CODE(end_code(writing), 0);
    CHECK_INT(watchers(loop), 0);
    close_pair(fds);
    end_loop(loop);
}

TEST(readers_of_the_host_and_operations_keep_apart) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop), q = probe_named(NULL, loop);
    evl_future *future = NULL;
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &future), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, NULL), 0);
    stuff(fds[0]);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, &future), 0);
    CHECK_INT(evl_future_done(future), 0);
    /* The reader is the host's; the writer is not. */
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_add_writer(loop, fds[0], probe_call, &q, probe_free, NULL, NULL), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), EVL_EBUSY);
    CHECK_CODE(evl_loop_pause_writer(loop, fds[0]), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &q, probe_free, NULL, NULL), EVL_EBUSY);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_add_writer(loop, fds[0], probe_call, &q, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, NULL), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), 1);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 3);
    close_pair(fds);
    end_loop(loop);
}

static void count_done(evl_future *future, void *arg) {
    CHECK_INT(evl_future_done(future), 1);
    ++*(int *)arg;
}

TEST(callbacks_are_never_called_from_inside) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2], calls = 0;
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[1], "x", 1, &future), 0);
    CHECK_CODE(evl_future_add_done_callback(future, count_done, &calls, NULL, NULL), 0);
    CHECK_INT(calls, 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(calls, 1);
    evl_future_unref(future);
    future = begin_recv(loop, fds[0], 1);
    CHECK_CODE(evl_future_add_done_callback(future, count_done, &calls, NULL, NULL), 0);
    CHECK_INT(evl_future_cancel(future, NULL), 0);
    CHECK_INT(calls, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(calls, 2);
    evl_future_unref(future);
    close_pair(fds);
    end_loop(loop);
}

/* What nobody wants is still done. */
TEST(without_an_out) {
    evl_loop *loop = real_loop();
    static char big[1 << 20];
    struct sockaddr_in address;
    int fds[2], listener, client, before;
    char buffer[4] = "...";
    size_t got = 0;
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], big, sizeof big, NULL), 0);
    CHECK_INT(watchers(loop), 1);
    while (watchers(loop) > 0) {
        got += drain(fds[1]);
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    }
    got += drain(fds[1]);
    CHECK_INT(got, sizeof big);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], buffer, 3, NULL), 0);
    CHECK(send(fds[1], "abc", 3, 0) == 3);
    CHECK_CODE(evl_loop_run_once(loop, EVL_SECONDS(20)), 1);
    CHECK_STRING(buffer, "abc");
    close_pair(fds);

    /* Connections that nobody wants are closed. */
    before = count_descriptors();
    listener = listening(&address, 5);
    client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, NULL), 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_SECONDS(20)), 1);
    CHECK(recv(client, buffer, 1, 0) == 0);
    close(client);
    close(listener);
    CHECK_INT(count_descriptors(), before);
    end_loop(loop);
}

TEST(operations_have_names) {
    evl_loop *loop = real_loop();
    evl_future *future;
    char text[100] = "";
    int fds[2];
    unix_pair(fds);
    future = begin_recv(loop, fds[0], 1);
    CHECK(evl_future_repr(future, text, sizeof text) > 0);
    CHECK(strncmp(text, "<SocketOperation pending at ", 28) == 0);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_error(future, -EIO, NULL), -EINVAL);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    evl_future_unref(future);
    close_pair(fds);
    end_loop(loop);
}

TEST_MAIN()
