/* Sockets by descriptor: what asyncio's loop.sock_* do, over unix sockets, TCP and UDP. */
#include "harness.h"
#include "sockets.h"

static evl_future *recv_begun(evl_loop *loop, int fd, size_t size) {
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_sock_recv(loop, fd, size, &future), 0);
    return future;
}

TEST(recv_of_what_is_there_is_done_at_once) {
    evl_loop *loop = real_loop();
    evl_future *future;
    int fds[2];
    unix_pair(fds);
    CHECK(send(fds[1], "hello", 5, 0) == 5);
    future = recv_begun(loop, fds[0], 100);
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
    future = recv_begun(loop, fds[0], 3);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(watchers(loop), 1);
    CHECK(send(fds[1], "hello", 5, 0) == 5);
    finish(loop, future);
    CHECK_INT(watchers(loop), 0);
    CHECK(end_bytes(future, "hel"));
    CHECK(end_bytes(recv_begun(loop, fds[0], 100), "lo"));
    close_pair(fds);
    end_loop(loop);
}

TEST(recv_at_the_end_of_the_stream_has_no_bytes) {
    evl_loop *loop = real_loop();
    evl_future *future;
    int fds[2];
    unix_pair(fds);
    future = recv_begun(loop, fds[0], 10);
    close(fds[1]);
    finish(loop, future);
    CHECK(end_bytes(future, ""));
    CHECK(end_bytes(recv_begun(loop, fds[0], 10), ""));
    close(fds[0]);
    end_loop(loop);
}

TEST(the_bytes_have_no_address_on_a_stream) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    const void *address = NULL, *data = NULL;
    uint32_t size = 77;
    int fds[2];
    tcp_pair(fds);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    CHECK_CODE(evl_loop_sock_recvfrom(loop, fds[0], 10, &future), 0);
    finish(loop, future);
    CHECK_CODE(evl_future_result_address(future, &address, &size), 0);
    CHECK_INT(size, 0);
    CHECK_CODE(evl_future_result_bytes(future, &data, NULL), 0);
    CHECK(end_bytes(future, "x"));
    close_pair(fds);
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
    future = recv_begun(loop, fds[0], 10);
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
    CHECK(end_bytes(recv_begun(loop, fds[1], 100), "hello again"));
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
        evl_future *future = recv_begun(loop, fds[1], 1 + next_random(&seed) % 100000);
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

TEST(datagrams_with_their_senders) {
    evl_loop *loop = real_loop();
    struct sockaddr_in here, there;
    evl_future *future = NULL;
    const void *address = NULL;
    uint32_t size = 0;
    char buffer[100];
    int a = bound(SOCK_DGRAM, &here), b = bound(SOCK_DGRAM, &there);
    CHECK_CODE(evl_loop_sock_recvfrom(loop, b, 100, &future), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    {
        evl_future *sending = NULL;
        CHECK_CODE(evl_loop_sock_sendto(loop, a, "datagram", 8, &there, sizeof there, &sending), 0);
        CHECK_INT(evl_future_done(sending), 1);
        CHECK_INT(end_number(sending), 8);
    }
    finish(loop, future);
    CHECK_CODE(evl_future_result_address(future, &address, &size), 0);
    CHECK_INT(size, sizeof here);
    CHECK(address != NULL && memcmp(address, &here, sizeof here) == 0);
    CHECK(end_bytes(future, "datagram"));

    CHECK_CODE(evl_loop_sock_sendto(loop, b, "back", 4, &here, sizeof here, NULL), 0);
    CHECK_CODE(evl_loop_sock_recvfrom_into(loop, a, buffer, sizeof buffer, &future), 0);
    finish(loop, future);
    CHECK_CODE(evl_future_result_address(future, &address, &size), 0);
    CHECK_INT(size, sizeof there);
    CHECK(address != NULL && memcmp(address, &there, sizeof there) == 0);
    CHECK_CODE(evl_future_result_address(future, &address, NULL), 0);
    CHECK_INT(end_number(future), 4);
    CHECK(memcmp(buffer, "back", 4) == 0);
    close(a);
    close(b);
    end_loop(loop);
}

TEST(empty_datagrams_and_cut_ones) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], NULL, 0, NULL), 0);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "longer", 6, NULL, 0, &future), 0);
    CHECK_INT(end_number(future), 6);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "z", 1, NULL, 0, NULL), 0);
    CHECK(end_bytes(recv_begun(loop, fds[1], 10), ""));
    CHECK(end_bytes(recv_begun(loop, fds[1], 2), "lo"));
    CHECK(end_bytes(recv_begun(loop, fds[1], 10), "z"));
    close_pair(fds);
    end_loop(loop);
}

/* A datagram socket whose peer reads nothing: sendto waits. */
TEST(sendto_waits_for_room) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2], sent = 0;
    char block[1000] = {0};
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    for (;;) {
        CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], block, sizeof block, NULL, 0, &future), 0);
        if (!evl_future_done(future))
            break;
        CHECK_INT(end_number(future), sizeof block);
        if (!CHECK(sent++ < 100000))
            break;
    }
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    while (recv(fds[1], block, sizeof block, 0) > 0)
        sent--;
    CHECK_INT(sent, 0);
    finish(loop, future);
    CHECK_INT(end_number(future), sizeof block);
    close_pair(fds);
    end_loop(loop);
}

TEST(connect_and_accept) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address, local;
    socklen_t local_size = sizeof local;
    evl_future *accepting = NULL, *connecting = NULL;
    const void *peer = NULL;
    uint32_t peer_size = 0;
    int64_t number = -1, again = -1;
    int listener = listening(&address, 5), client = tcp_socket(), server;
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &accepting), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(evl_future_done(accepting), 0);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &connecting), 0);
    finish(loop, connecting);
    CHECK_CODE(end_code(connecting), 0);
    finish(loop, accepting);
    CHECK_CODE(evl_future_result_int(accepting, &number), 0);
    CHECK_CODE(evl_future_result_int(accepting, &again), 0);
    CHECK_INT(again, number);
    server = (int)number;
    CHECK(fcntl(server, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(server, F_GETFD) & FD_CLOEXEC);
    CHECK(getsockname(client, (struct sockaddr *)&local, &local_size) == 0);
    CHECK_CODE(evl_future_result_address(accepting, &peer, &peer_size), 0);
    CHECK_INT(peer_size, sizeof local);
    CHECK(peer != NULL && memcmp(peer, &local, sizeof local) == 0);
    evl_future_unref(accepting);
    CHECK(is_open(server));
    CHECK_CODE(evl_loop_sock_sendall(loop, client, "ping", 4, NULL), 0);
    {
        evl_future *future = recv_begun(loop, server, 100);
        finish(loop, future);
        CHECK(end_bytes(future, "ping"));
    }
    close(server);
    close(client);
    close(listener);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(accept_of_a_connection_that_waits_is_done_at_once) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *future = NULL;
    int64_t fd;
    int listener = listening(&address, 5), client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &future), 0);
    finish(loop, future);
    fd = end_number(future);
    CHECK(fd >= 0);
    close((int)fd);
    close(client);
    close(listener);
    end_loop(loop);
}

TEST(unix_sockets_by_path) {
    evl_loop *loop = real_loop();
    char directory[] = "/tmp/evl-test-XXXXXX";
    struct sockaddr_un address;
    evl_future *accepting = NULL, *connecting = NULL;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int64_t server;
    REQUIRE(mkdtemp(directory) != NULL);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(listener, 5) == 0);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &accepting), 0);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &connecting), 0);
    CHECK_CODE(end_code(connecting), 0); /* at once */
    finish(loop, accepting);
    server = end_number(accepting);
    CHECK(server >= 0);
    close((int)server);
    close(client);
    close(listener);
    unlink(address.sun_path);
    rmdir(directory);
    end_loop(loop);
}

/* Reads what was sent until the end of the stream. */
struct reader {
    int fd;
    size_t size;
    uint64_t hash;
};

static void *read_all(void *arg) {
    struct reader *reader = (struct reader *)arg;
    char block[10000];
    ssize_t n;
    reader->hash = HASH_BEGIN;
    reader->size = 0;
    while ((n = recv(reader->fd, block, sizeof block, 0)) > 0) {
        reader->hash = hash_on(reader->hash, block, (size_t)n);
        reader->size += (size_t)n;
    }
    return NULL;
}

/* Sends that part of a file to a blocking reader in another thread. Returns the future's result. */
static int64_t send_part(evl_loop *loop, int file, int64_t offset, int64_t count, struct reader *reader) {
    evl_future *future = NULL;
    pthread_t thread;
    int64_t sent;
    int fds[2];
    tcp_pair(fds);
    CHECK(fcntl(fds[1], F_SETFL, 0) == 0);
    reader->fd = fds[1];
    CHECK(pthread_create(&thread, NULL, read_all, reader) == 0);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, offset, count, &future), 0);
    finish(loop, future);
    sent = end_number(future);
    shutdown(fds[0], SHUT_WR);
    pthread_join(thread, NULL);
    close_pair(fds);
    return sent;
}

TEST(sendfile_of_every_size) {
    static const size_t sizes[] = {0, 1, 4095, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5000001};
    evl_loop *loop = real_loop();
    struct reader reader;
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t hash;
        int file = random_file(sizes[i], 99, &hash);
        CHECK(lseek(file, 0, SEEK_SET) == 0);
        CHECK_INT(send_part(loop, file, 0, 0, &reader), sizes[i]);
        CHECK_INT(reader.size, sizes[i]);
        CHECK(reader.hash == hash);
        CHECK_INT(lseek(file, 0, SEEK_CUR), 0);
        close(file);
    }
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(sendfile_of_a_part) {
    evl_loop *loop = real_loop();
    struct reader reader;
    static unsigned char data[300000];
    unsigned seed = 5;
    int file = random_file(sizeof data, 5, NULL), i;
    CHECK(pread(file, data, sizeof data, 0) == (ssize_t)sizeof data);
    for (i = 0; i < 20; i++) {
        size_t offset = next_random(&seed) % sizeof data;
        size_t count = 1 + next_random(&seed) % sizeof data;
        size_t expected = count < sizeof data - offset ? count : sizeof data - offset;
        CHECK_INT(send_part(loop, file, (int64_t)offset, (int64_t)count, &reader), expected);
        CHECK_INT(reader.size, expected);
        CHECK(reader.hash == hash_on(HASH_BEGIN, data + offset, expected));
    }
    CHECK_INT(send_part(loop, file, sizeof data, 10, &reader), 0);
    CHECK_INT(send_part(loop, file, INT64_C(1) << 40, 0, &reader), 0);
    close(file);
    end_loop(loop);
}

/* Files under /proc have no size, and the kernel does not send from all of them. */
TEST(sendfile_of_what_the_kernel_cannot_send) {
    static const char *const paths[] = {"/proc/self/auxv", "/proc/self/stat", "/proc/version", "/proc/self/environ"};
    evl_loop *loop = real_loop();
    struct reader reader;
    size_t i;
    for (i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        static char text[1 << 20];
        int file = open(paths[i], O_RDONLY | O_CLOEXEC);
        ssize_t size;
        if (file < 0)
            continue;
        size = pread(file, text, sizeof text, 0);
        CHECK(size > 0);
        CHECK_INT(send_part(loop, file, 0, 0, &reader), size);
        if (strcmp(paths[i], "/proc/self/stat") != 0) /* which changes */
            CHECK(reader.hash == hash_on(HASH_BEGIN, text, (size_t)size));
        if (size > 3) {
            CHECK_INT(send_part(loop, file, 1, 2, &reader), 2);
            CHECK(strcmp(paths[i], "/proc/self/stat") == 0 || reader.hash == hash_on(HASH_BEGIN, text + 1, 2));
        }
        close(file);
    }
    end_loop(loop);
}

TEST(one_reads_and_one_writes_at_a_time) {
    evl_loop *loop = real_loop();
    evl_future *reading, *writing = NULL, *other = (evl_future *)loop;
    static char big[1 << 20];
    char buffer[1];
    int fds[2];
    unix_pair(fds);
    stuff(fds[0]);
    reading = recv_begun(loop, fds[0], 10);
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
    future = recv_begun(loop, fds[0], 1);
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

/* An accepted descriptor belongs to the future until somebody asks for it. */
TEST(connections_do_not_leak) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    int before = count_descriptors(), listener = listening(&address, 50), clients[6], i;
    evl_future *futures[6];
    for (i = 0; i < 6; i++) {
        futures[i] = NULL;
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(clients[i], (struct sockaddr *)&address, sizeof address) == 0);
        CHECK_CODE(evl_loop_sock_accept(loop, listener, &futures[i]), 0);
        finish(loop, futures[i]);
    }
    CHECK_INT(count_descriptors(), before + 1 + 6 + 6);
    evl_future_unref(futures[0]);
    CHECK_INT(count_descriptors(), before + 1 + 6 + 5);
    /* Asking how it ended, or for the address, does not take it. */
    CHECK_CODE(evl_future_result(futures[1], NULL), 0);
    {
        const void *peer = NULL;
        int code = 1;
        CHECK_CODE(evl_future_result_address(futures[1], &peer, NULL), 0);
        CHECK_CODE(evl_future_error(futures[1], &code), 0);
        CHECK_CODE(evl_future_result_int(futures[1], NULL), -EINVAL);
    }
    evl_future_unref(futures[1]);
    CHECK_INT(count_descriptors(), before + 1 + 6 + 4);
    for (i = 2; i < 4; i++) {
        int64_t fd = end_number(futures[i]);
        CHECK(is_open((int)fd));
        close((int)fd);
    }
    end_loop(loop);
    CHECK_INT(count_descriptors() <= before + 1 + 6 + 2, 1); /* the loop's are gone, too */
    {
        int64_t fd = end_number(futures[4]); /* of a closed loop */
        CHECK(is_open((int)fd));
        close((int)fd);
    }
    evl_future_unref(futures[5]);
    for (i = 0; i < 6; i++)
        close(clients[i]);
    close(listener);
    CHECK(count_descriptors() <= before);
}

TEST(operations_have_names) {
    evl_loop *loop = real_loop();
    evl_future *future;
    char text[100] = "";
    int fds[2];
    unix_pair(fds);
    future = recv_begun(loop, fds[0], 1);
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
