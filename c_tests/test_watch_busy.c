/* Descriptors that something of evl's uses are no others' to watch; readers and writers across the runs of a loop. */
#include "streams.h"
#include "datagrams.h"

/* Everything that a host can ask of a descriptor by its number is refused, and changes nothing. */
static void refused(evl_loop *loop, int fd) {
    struct probe p = probe_named("never", loop);
    evl_handle *handle = NULL;
    evl_future *future = NULL;
    struct sockaddr_in address = loopback();
    char byte;
    CHECK_CODE(evl_loop_add_reader(loop, fd, probe_call, &p, probe_free, NULL, &handle), EVL_EBUSY);
    CHECK_CODE(evl_loop_add_writer(loop, fd, probe_call, &p, probe_free, NULL, &handle), EVL_EBUSY);
    CHECK(handle == NULL);
    CHECK_PROBE(p, 0, 2);
    CHECK_CODE(evl_loop_remove_reader(loop, fd), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_writer(loop, fd), EVL_EBUSY);
    CHECK_CODE(evl_loop_pause_reader(loop, fd), EVL_EBUSY);
    CHECK_CODE(evl_loop_resume_reader(loop, fd), EVL_EBUSY);
    CHECK_CODE(evl_loop_pause_writer(loop, fd), EVL_EBUSY);
    CHECK_CODE(evl_loop_resume_writer(loop, fd), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_recv(loop, fd, 1, &future), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fd, &byte, 1, &future), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_sendall(loop, fd, "x", 1, &future), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_connect(loop, fd, &address, sizeof address, &future), EVL_EBUSY);
    CHECK(future == NULL);
    CHECK_TRACE("");
}

TEST(a_stream_transports) {
    evl_loop *loop = real_loop();
    struct peer a;
    int fds[2];
    unix_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    CHECK_TRACE("made");
    refused(loop, fds[0]);
    /* Also while it does not read. */
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    idle(loop);
    refused(loop, fds[0]);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    put(fds[1], "data");
    idle(loop);
    CHECK_TRACE("data");
    peer_write(&a, "answer");
    CHECK_INT(drain(fds[1]), 6);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    refused(loop, fds[0]);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), 0);
    peer_end(&a);
    close(fds[1]);
    end_loop(loop);
}

TEST(a_stream_transports_that_writes) {
    static char block[1000000];
    evl_loop *loop = real_loop();
    struct peer a;
    size_t got = 0;
    int fds[2];
    unix_pair(fds);
    peer_open(&a, loop, NULL, fds[0]);
    CHECK_CODE(evl_transport_write(a.transport, block, sizeof block), 0);
    idle(loop);
    refused(loop, fds[0]);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    refused(loop, fds[0]);
    while (!a.lost) {
        got += drain(fds[1]);
        idle(loop);
    }
    CHECK_INT(got + drain(fds[1]), sizeof block);
    peer_end(&a);
    close(fds[1]);
    end_loop(loop);
}

TEST(a_datagram_endpoints) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    int fds[2];
    evl_datagram *d;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
    REQUIRE(d != NULL);
    refused(loop, fds[0]);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    until(loop, &told.received, 1);
    end_endpoint(loop, d, &told);
    close(fds[1]);
    end_loop(loop);
}

TEST(a_listening_socket_of_a_server) {
    static struct crowd crowd;
    evl_loop *loop = real_loop();
    int port = crowd_serve(&crowd, loop, 0), listener = -1, fd;
    evl_future *future = NULL;
    CHECK_INT(evl_server_sockets(crowd.server, &listener, 1), 1);
    CHECK_CODE(evl_loop_add_reader(loop, listener, nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_reader(loop, listener), EVL_EBUSY);
    CHECK_CODE(evl_loop_pause_reader(loop, listener), EVL_EBUSY);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &future), EVL_EBUSY);
    fd = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    close(fd);
    UNTIL(loop, crowd.peers[0].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

TEST(a_pipes) {
    evl_loop *loop = real_loop();
    struct peer reader, writer;
    evl_protocol p = peer_protocol();
    int fds[2];
    CHECK(pipe(fds) == 0);
    peer_init(&reader, loop, NULL);
    peer_init(&writer, loop, NULL);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &reader, peer_free, NULL), 0);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[1], &p, &writer, peer_free, NULL), 0);
    idle(loop);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), EVL_EBUSY);
    CHECK_CODE(evl_loop_add_writer(loop, fds[1], nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[1]), EVL_EBUSY);
    peer_write(&writer, "data");
    idle(loop);
    CHECK_STRING(reader.data, "data");
    CHECK_CODE(evl_transport_close(writer.transport), 0);
    UNTIL(loop, reader.lost && writer.lost);
    peer_end(&reader);
    peer_end(&writer);
    end_loop(loop);
}

/* --- across runs */

struct watched {
    evl_loop *loop;
    int fd, calls;
};

static void count_call(void *arg) {
    ((struct watched *)arg)->calls++;
}

static void remove_it(void *arg) {
    struct watched *w = (struct watched *)arg;
    CHECK_CODE(evl_loop_remove_reader(w->loop, w->fd), 1);
}

/* A stop in the iteration in which a descriptor is ready does not have it told twice, nor when it was removed meanwhile. */
TEST(a_reader_of_a_loop_that_stops) {
    evl_loop *loop = real_loop();
    struct watched w = {loop, -1, 0};
    int fds[2], run;
    unix_pair(fds);
    w.fd = fds[0];
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], count_call, &w, NULL, NULL, NULL), 0);
    put(fds[1], "x");
    CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_INT(w.calls, 1);
    for (run = 0; run < 2; run++) {
        if (run == 0)
            CHECK_CODE(evl_loop_call_soon(loop, remove_it, &w, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_run_forever(loop), 0);
        CHECK_INT(w.calls, 1); /* removed by what was scheduled before it was seen to be ready */
    }
    close_pair(fds);
    end_loop(loop);
}

static void add_and_read(void *arg) {
    struct watched *w = (struct watched *)arg;
    char byte;
    CHECK(recv(w->fd, &byte, 1, 0) == 1);
    w->calls++;
    CHECK_CODE(evl_loop_remove_reader(w->loop, w->fd), 1);
    CHECK_CODE(evl_loop_add_writer(w->loop, w->fd, stop_loop, w->loop, NULL, NULL, NULL), 0);
}

TEST(a_reader_becomes_a_writer) {
    evl_loop *loop = real_loop();
    struct watched w = {loop, -1, 0};
    int fds[2];
    unix_pair(fds);
    w.fd = fds[0];
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], add_and_read, &w, NULL, NULL, NULL), 0);
    put(fds[1], "xy");
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_INT(w.calls, 1);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    close_pair(fds);
    end_loop(loop);
}

/* The kernel's list has what was read from, the transport's socket only the number; nothing is told to it in between. */
TEST(a_transport_with_the_number_of_a_descriptor_that_was_read_from) {
    int direction;
    for (direction = 0; direction < 2; direction++) {
        evl_loop *loop = real_loop();
        struct peer peer;
        evl_future *future;
        int old[2], fds[2], number;
        unix_pair(old);
        unix_pair(fds);
        if (direction == 0)
            CHECK_CODE(evl_loop_add_reader(loop, old[0], nothing, NULL, NULL, NULL, NULL), 0);
        else
            CHECK_CODE(evl_loop_add_writer(loop, old[0], nothing, NULL, NULL, NULL, NULL), 0);
        CHECK(evl_loop_run_once(loop, 0) >= 0);
        CHECK_INT(direction == 0 ? evl_loop_remove_reader(loop, old[0]) : evl_loop_remove_writer(loop, old[0]), 1);
        number = old[0];
        close(old[0]);
        CHECK_INT(dup2(fds[0], number), number);
        close(fds[0]);
        future = peer_adopt(&peer, loop, "", number);
        put(fds[1], "hello");
        UNTIL(loop, peer.total == 5);
        CHECK_CODE(end_code(future), 0);
        peer_close(&peer);
        close(fds[1]);
        close(old[1]);
        end_loop(loop);
        trace_reset();
    }
}

TEST_MAIN()
