/* Stream transports: what asyncio's socket transports do, over TCP and unix sockets. */
#include "streams.h"

static void unix_peers(evl_loop *loop, struct peer *a, struct peer *b) {
    int fds[2];
    unix_pair(fds);
    peer_open(a, loop, "a.", fds[0]);
    peer_open(b, loop, "b.", fds[1]);
    trace_reset();
}

/* --- connecting */

static void connect_over(const char *host) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct peer client;
    evl_future *future;
    void *result = NULL;
    struct sockaddr_storage ours, theirs;
    int port = crowd_serve(&crowd, loop, 0);
    future = begin_connect(&client, loop, "", host, port);
    CHECK_TRACE("");
    finish(loop, future);
    CHECK_TRACE("made");
    CHECK_CODE(evl_future_result(future, &result), 0);
    CHECK(result == client.transport);
    evl_future_unref(future);
    UNTIL(loop, made_of(&crowd) == 1);
    CHECK_INT(evl_transport_get_sockname(client.transport, &ours, sizeof ours), (int)sizeof(struct sockaddr_in));
    CHECK_INT(evl_transport_get_peername(crowd.peers[0].transport, &theirs, sizeof theirs),
              (int)sizeof(struct sockaddr_in));
    CHECK(memcmp(&ours, &theirs, sizeof(struct sockaddr_in)) == 0);
    CHECK_INT(evl_transport_get_peername(client.transport, &theirs, sizeof theirs), (int)sizeof(struct sockaddr_in));
    CHECK_INT(ntohs(((struct sockaddr_in *)&theirs)->sin_port), port);
    CHECK_INT(evl_transport_get_peername(client.transport, NULL, 0), (int)sizeof(struct sockaddr_in));
    {
        int on = 0;
        socklen_t size = sizeof on;
        CHECK(getsockopt(evl_transport_get_fd(client.transport), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
        on = 0;
        CHECK(getsockopt(evl_transport_get_fd(crowd.peers[0].transport), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 &&
              on);
        CHECK(fcntl(evl_transport_get_fd(client.transport), F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(evl_transport_get_fd(crowd.peers[0].transport), F_GETFD) & FD_CLOEXEC);
    }
    peer_write(&client, "hello");
    UNTIL(loop, crowd.peers[0].total == 5);
    peer_write(&crowd.peers[0], "you");
    UNTIL(loop, client.total == 3);
    CHECK_STRING(crowd.peers[0].data, "hello");
    CHECK_STRING(client.data, "you");
    CHECK_TRACE("data");
    peer_close(&client);
    UNTIL(loop, crowd.peers[0].lost);
    CHECK_INT(crowd.peers[0].eofs, 1);
    CHECK_INT(crowd.peers[0].code, 0);
    CHECK_TRACE("lost");
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
    CHECK_INT(crowd.frees, 1);
}

TEST(connects_to_a_numeric_address) {
    connect_over("127.0.0.1");
}

TEST(connects_to_a_name) {
    connect_over("localhost");
}

static void connect_unix(const char *name, size_t size) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct peer client;
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    struct sockaddr_un address;
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_unix_server(loop, name, size, NULL, crowd_make, &crowd, crowd_free, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    crowd.server = server_of(loop, future);
    CHECK_CODE(evl_server_port(crowd.server), -EAFNOSUPPORT);
    peer_init(&client, loop, "");
    CHECK_CODE(evl_loop_create_unix_connection(loop, name, size, &p, &client, peer_free, &future), 0);
    finish(loop, future);
    CHECK_CODE(end_code(future), 0);
    memset(&address, 0, sizeof address);
    CHECK(evl_transport_get_peername(client.transport, &address, sizeof address) >= (int)(2 + size));
    CHECK(memcmp(address.sun_path, name, size) == 0);
    peer_write(&client, "over unix");
    UNTIL(loop, crowd.peers[0].total == 9);
    CHECK_STRING(crowd.peers[0].data, "over unix");
    CHECK_CODE(evl_transport_close(crowd.peers[0].transport), 0);
    UNTIL(loop, client.lost && crowd.peers[0].lost);
    CHECK_TRACE("made eof lost");
    peer_end(&client);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

TEST(connects_to_a_unix_path) {
    char path[100];
    snprintf(path, sizeof path, "/tmp/evl-test-stream-%d", (int)getpid());
    unlink(path);
    connect_unix(path, strlen(path));
    /* The file is left; it is replaced. */
    connect_unix(path, strlen(path));
    unlink(path);
}

TEST(connects_to_an_abstract_name) {
    char name[100] = "";
    connect_unix(name, 1 + (size_t)snprintf(name + 1, sizeof name - 1, "evl-test-stream-%d", (int)getpid()));
}

TEST(an_adopted_socket) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_future *future;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    put(fds[1], "early");
    future = peer_adopt(&peer, loop, "", fds[0]);
    CHECK(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_TRACE("");
    CHECK(evl_loop_run_once(loop, 0) >= 1);
    CHECK_TRACE("made");
    CHECK_INT(evl_transport_get_fd(peer.transport), fds[0]);
    CHECK(evl_transport_get_loop(peer.transport) == loop);
    CHECK_INT(evl_transport_can_write_eof(peer.transport), 1);
    finish(loop, future);
    evl_future_unref(future);
    idle(loop);
    CHECK_TRACE("data");
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
    close(fds[1]);
    idle(loop);
    CHECK_TRACE("eof lost");
    CHECK_INT(peer.frees, 1);
    CHECK(!is_open(fds[0]));
    CHECK_INT(evl_transport_is_closing(peer.transport), 1);
    CHECK_CODE(evl_transport_get_fd(peer.transport), -EBADF);
    CHECK_CODE(evl_transport_get_sockname(peer.transport, NULL, 0), -EBADF);
    peer_end(&peer);
    end_loop(loop);
}

/* --- writing */

TEST(writes_arrive_in_order) {
    evl_loop *loop = real_loop();
    struct peer a, b;
    struct probe owned = probe_named(NULL, NULL);
    evl_buffer lines[4] = {{"one ", 4}, {NULL, 0}, {"two ", 4}, {"three ", 6}};
    unix_peers(loop, &a, &b);
    CHECK_CODE(evl_transport_writelines(a.transport, lines, 4), 0);
    CHECK_CODE(evl_transport_write_owned(a.transport, "four ", 5, &owned, probe_free), 0);
    CHECK_INT(owned.frees, 1);
    CHECK_CODE(evl_transport_write(a.transport, NULL, 0), 0);
    peer_write(&a, "five");
    CHECK_INT(queued(a.transport), 0);
    idle(loop);
    CHECK_STRING(b.data, "one two three four five");
    peer_close(&a);
    UNTIL(loop, b.lost);
    peer_end(&b);
    end_loop(loop);
}

/* Writes made while the queue is full keep their order, whatever they are made of. */
TEST(queued_writes_of_all_kinds_arrive_in_order) {
    enum { BLOCK = 100000, ROUNDS = 40 };
    evl_loop *loop = real_loop();
    struct peer a, b;
    static char block[BLOCK];
    static struct probe owned[ROUNDS];
    uint64_t expected = HASH_BEGIN;
    unsigned seed = 5;
    size_t i, total = 0;
    evl_buffer lines[100];
    unix_peers(loop, &a, &b);
    for (i = 0; i < BLOCK; i++)
        block[i] = (char)next_random(&seed);
    for (i = 0; i < ROUNDS; i++) {
        size_t at = next_random(&seed) % (BLOCK / 2), size = next_random(&seed) % (BLOCK / 2), n, line;
        owned[i] = probe_named(NULL, NULL);
        switch (i % 3) {
        case 0:
            CHECK_CODE(evl_transport_write(a.transport, block + at, size), 0);
            expected = hash_on(expected, block + at, size);
            total += size;
            break;
        case 1:
            CHECK_CODE(evl_transport_write_owned(a.transport, block + at, size, &owned[i], probe_free), 0);
            expected = hash_on(expected, block + at, size);
            total += size;
            break;
        default:
            n = 1 + next_random(&seed) % 100;
            for (line = 0; line < n; line++) {
                lines[line].data = block + next_random(&seed) % BLOCK / 2;
                lines[line].size = next_random(&seed) % 999;
                expected = hash_on(expected, lines[line].data, lines[line].size);
                total += lines[line].size;
            }
            CHECK_CODE(evl_transport_writelines(a.transport, lines, n), 0);
        }
    }
    CHECK(queued(a.transport) > 0);
    UNTIL(loop, b.total == total);
    CHECK(b.hash == expected);
    CHECK_INT(queued(a.transport), 0);
    for (i = 1; i < ROUNDS; i += 3)
        CHECK_INT(owned[i].frees, 1);
    CHECK_INT(a.pauses, 1);
    CHECK_INT(a.resumes, 1);
    peer_close(&a);
    UNTIL(loop, b.lost);
    peer_end(&b);
    end_loop(loop);
    trace_reset();
}

static void write_more(struct peer *peer, const char *what) {
    static char block[30000];
    if (strcmp(what, "resume") != 0 && strcmp(what, "made") != 0)
        return;
    while (peer->pauses == peer->resumes && peer->keep > 0) {
        peer->keep--;
        CHECK_CODE(evl_transport_write(peer->transport, block, sizeof block), 0);
    }
}

/* A fast writer that heeds pause_writing queues no more than the limit and one write; a slow reader gets everything. */
TEST(a_slow_reader_bounds_the_queue) {
    evl_loop *loop = real_loop();
    struct peer a;
    evl_future *future;
    size_t got = 0, most = 0, high = 0, low = 0;
    char block[5000];
    int fds[2];
    unix_pair(fds);
    future = peer_adopt(&a, loop, NULL, fds[0]);
    a.at = write_more;
    a.keep = 200;
    finish(loop, future);
    evl_future_unref(future);
    CHECK_CODE(evl_transport_get_write_buffer_limits(a.transport, &high, &low), 0);
    CHECK_INT(high, 65536);
    CHECK_INT(low, 16384);
    CHECK_INT(a.pauses, 1);
    while (got < 200 * 30000) {
        ssize_t some = recv(fds[1], block, sizeof block, 0);
        if (some > 0)
            got += (size_t)some;
        CHECK(evl_loop_run_once(loop, some > 0 ? 0 : EVL_MS(1)) >= 0);
        if (queued(a.transport) > most)
            most = queued(a.transport);
    }
    CHECK(most > 65536 && most <= 65536 + 30000);
    CHECK(a.pauses > 10);
    CHECK_INT(a.pauses, a.resumes);
    peer_close(&a);
    close(fds[1]);
    end_loop(loop);
}

TEST(limits) {
    evl_loop *loop = real_loop();
    struct peer a;
    size_t high = 1, low = 1;
    int fds[2];
    unix_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    trace_reset();
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 1000, -1), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(a.transport, &high, &low), 0);
    CHECK(high == 1000 && low == 250);
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, -1, 100), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(a.transport, &high, &low), 0);
    CHECK(high == 400 && low == 100);
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 10, 11), -EINVAL);
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 0, -1), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(a.transport, &high, &low), 0);
    CHECK(high == 0 && low == 0);
    stuff(fds[0]);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), 0);
    CHECK_TRACE("");
    idle(loop);
    CHECK_TRACE("pause");
    drain(fds[1]);
    idle(loop);
    CHECK_TRACE("resume");
    /* Lowered below what is queued, they pause. */
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 100, 50), 0);
    stuff(fds[0]);
    CHECK_CODE(evl_transport_write(a.transport, "0123456789", 10), 0);
    idle(loop);
    CHECK_TRACE("");
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 9, -1), 0);
    idle(loop);
    CHECK_TRACE("pause");
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    peer_end(&a);
    close(fds[1]);
    end_loop(loop);
}

/* --- ends */

TEST(half_closed_by_us) {
    evl_loop *loop = real_loop();
    struct peer a;
    char text[10] = "";
    int fds[2];
    tcp_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    peer_write(&a, "last");
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), EVL_EINVALIDSTATE);
    CHECK_INT(evl_transport_is_closing(a.transport), 0);
    fcntl(fds[1], F_SETFL, 0);
    CHECK(recv(fds[1], text, sizeof text, MSG_WAITALL) == 4);
    CHECK_STRING(text, "last");
    put(fds[1], "answer");
    UNTIL(loop, a.total == 6);
    CHECK_STRING(a.data, "answer");
    close(fds[1]);
    UNTIL(loop, a.lost);
    CHECK_TRACE("made data eof lost");
    CHECK_INT(a.code, 0);
    peer_end(&a);
    end_loop(loop);
}

TEST(eof_follows_what_is_queued) {
    evl_loop *loop = real_loop();
    struct peer a, b;
    static char block[1000000];
    unix_peers(loop, &a, &b);
    b.keep = 1;
    CHECK_CODE(evl_transport_write(a.transport, block, sizeof block), 0);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    CHECK(queued(a.transport) > 0);
    UNTIL(loop, b.eofs);
    CHECK_INT(b.total, sizeof block);
    peer_write(&b, "and back");
    UNTIL(loop, a.total == 8);
    CHECK_INT(evl_transport_is_reading(b.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(b.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(b.transport), 0);
    idle(loop);
    CHECK_INT(b.lost, 0);
    peer_close(&b);
    UNTIL(loop, a.lost);
    peer_end(&a);
    end_loop(loop);
    trace_reset();
}

TEST(half_closed_by_the_peer) {
    evl_loop *loop = real_loop();
    struct peer a;
    uint64_t before;
    char text[20] = "";
    int fds[2];
    tcp_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    a.keep = 1;
    put(fds[1], "bye");
    CHECK(shutdown(fds[1], SHUT_WR) == 0);
    UNTIL(loop, a.eofs);
    CHECK_TRACE("made data eof");
    /* Nothing more is told of it, over and over. */
    idle(loop);
    before = event_count(loop);
    CHECK(evl_loop_run_once(loop, EVL_MS(20)) >= 0);
    CHECK_INT(event_count(loop), before);
    peer_write(&a, "still here");
    fcntl(fds[1], F_SETFL, 0);
    CHECK(recv(fds[1], text, 10, MSG_WAITALL) == 10);
    CHECK_STRING(text, "still here");
    peer_close(&a);
    CHECK_TRACE("lost");
    close(fds[1]);
    end_loop(loop);
}

TEST(close_writes_what_is_queued) {
    evl_loop *loop = real_loop();
    struct peer a, b;
    static char block[3000000];
    unix_peers(loop, &a, &b);
    CHECK_CODE(evl_transport_write(a.transport, block, sizeof block), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    /* More is taken as long as something waits. */
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), 0);
    CHECK_CODE(evl_transport_write_owned(a.transport, block, 1, NULL, NULL), 0);
    CHECK_CODE(evl_transport_write_eof(a.transport), 0);
    /* What the peer writes is not told any more. */
    peer_write(&b, "too late");
    UNTIL(loop, a.lost && b.lost);
    CHECK_INT(a.total, 0);
    CHECK_INT(b.total, sizeof block + 2);
    CHECK_INT(a.code, 0);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
    peer_end(&a);
    peer_end(&b);
    end_loop(loop);
    trace_reset();
}

static void write_when_resumed(struct peer *peer, const char *what) {
    if (strcmp(what, "resume") == 0)
        CHECK_CODE(evl_transport_write(peer->transport, "more", 4), 0);
}

TEST(a_socket_that_is_closing_takes_more_when_it_resumes) {
    evl_loop *loop = real_loop();
    struct peer a, b;
    static char block[3000000];
    unix_peers(loop, &a, &b);
    a.at = write_when_resumed;
    CHECK_CODE(evl_transport_set_write_buffer_limits(a.transport, 1000, 0), 0);
    CHECK_CODE(evl_transport_write(a.transport, block, sizeof block), 0);
    UNTIL(loop, a.pauses);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    UNTIL(loop, a.lost && b.lost);
    CHECK_INT(b.total, sizeof block + 4);
    CHECK_INT(a.code, 0);
    peer_end(&a);
    peer_end(&b);
    end_loop(loop);
    trace_reset();
}

TEST(abort_drops_what_is_queued) {
    evl_loop *loop = real_loop();
    struct peer a, b;
    struct probe owned = probe_named(NULL, NULL);
    static char block[3000000];
    unix_peers(loop, &a, &b);
    CHECK_CODE(evl_transport_write_owned(a.transport, block, sizeof block, &owned, probe_free), 0);
    CHECK_INT(owned.frees, 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_INT(owned.frees, 1);
    CHECK_CODE(evl_transport_abort(a.transport), 0);
    CHECK_INT(a.lost, 0);
    CHECK_INT(queued(a.transport), 0);
    UNTIL(loop, a.lost && b.lost);
    CHECK(b.total < sizeof block);
    CHECK_INT(a.code, 0);
    peer_end(&a);
    peer_end(&b);
    end_loop(loop);
    trace_reset();
}

/* --- reading */

static void pause_at_data(struct peer *peer, const char *what) {
    if (strcmp(what, "data") == 0)
        CHECK_CODE(evl_transport_pause_reading(peer->transport), 0);
}

TEST(pausing_and_resuming_reading) {
    evl_loop *loop = real_loop();
    struct peer a;
    static char block[300000];
    size_t sent = 0;
    int fds[2], rounds = 0;
    unix_pair(fds);
    peer_open(&a, loop, NULL, fds[0]);
    CHECK_INT(evl_transport_is_reading(a.transport), 1);
    a.at = pause_at_data;
    sent = (size_t)send(fds[1], block, sizeof block, MSG_DONTWAIT);
    CHECK(sent > 70000);
    shutdown(fds[1], SHUT_WR);
    while (!a.eofs && rounds++ < 1000) {
        size_t before = a.total;
        idle(loop);
        CHECK(a.total > before || a.eofs);
        CHECK_INT(evl_transport_is_reading(a.transport), 0);
        before = a.total;
        idle(loop);
        CHECK_INT(a.total, before);
        if (!a.eofs)
            CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    }
    CHECK_INT(a.total, sent);
    UNTIL(loop, a.lost);
    peer_end(&a);
    close(fds[1]);
    end_loop(loop);
}

TEST(paused_before_it_is_made) {
    evl_loop *loop = real_loop();
    struct peer a;
    evl_future *future;
    int fds[2];
    unix_pair(fds);
    put(fds[1], "x");
    future = peer_adopt(&a, loop, "", fds[0]);
    CHECK(evl_loop_run_once(loop, 0) >= 1);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    finish(loop, future);
    evl_future_unref(future);
    idle(loop);
    CHECK_TRACE("made");
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    idle(loop);
    CHECK_TRACE("data");
    peer_close(&a);
    close(fds[1]);
    end_loop(loop);
    trace_reset();
}

struct buffered {
    struct peer *peer;
    char room[16];
    char data[200];
    size_t size;
    int frees, asked;
};

static void buffered_get(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    (void)transport;
    CHECK(hint > 0);
    CHECK_INT(b->frees, 0);
    b->asked++;
    *buffer = b->room;
    *size = sizeof b->room;
}

static void buffered_updated(evl_transport *transport, size_t size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    (void)transport;
    CHECK_INT(b->frees, 0);
    CHECK(size > 0 && size <= sizeof b->room);
    memcpy(b->data + b->size, b->room, size);
    b->size += size;
}

static void buffered_free(void *arg) {
    ((struct buffered *)arg)->frees++;
}

static evl_protocol buffered_protocol(void) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.get_buffer = buffered_get;
    p.buffer_updated = buffered_updated;
    return p;
}

TEST(another_protocol_and_one_with_its_own_buffer) {
    evl_loop *loop = real_loop();
    struct peer a, c;
    struct buffered b;
    evl_protocol p = buffered_protocol(), q = peer_protocol();
    int fds[2];
    unix_pair(fds);
    memset(&b, 0, sizeof b);
    peer_open(&a, loop, "a.", fds[0]);
    put(fds[1], "first");
    idle(loop);
    CHECK_CODE(evl_transport_set_protocol(a.transport, &p, &b, buffered_free), 0);
    CHECK_INT(a.frees, 1);
    put(fds[1], "this is more than fits into the buffer at once, and is read in pieces");
    idle(loop);
    CHECK_STRING(b.data, "this is more than fits into the buffer at once, and is read in pieces");
    peer_init(&c, loop, "c.");
    c.transport = evl_transport_ref(a.transport);
    c.made = 1;
    CHECK_CODE(evl_transport_set_protocol(a.transport, &q, &c, peer_free), 0);
    CHECK_INT(b.frees, 1);
    put(fds[1], "second");
    close(fds[1]);
    idle(loop);
    CHECK_STRING(a.data, "first");
    CHECK_STRING(c.data, "second");
    CHECK_TRACE("a.made a.data c.data c.eof c.lost");
    CHECK_CODE(evl_transport_set_protocol(a.transport, &q, &b, buffered_free), EVL_EINVALIDSTATE);
    CHECK_INT(b.frees, 2);
    CHECK_INT(c.frees, 1);
    peer_end(&a);
    peer_end(&c);
    end_loop(loop);
}

static struct peer *successor;

static void buffered_replaced(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    evl_protocol q = peer_protocol();
    (void)hint;
    *buffer = b->room;
    *size = sizeof b->room;
    CHECK_CODE(evl_transport_set_protocol(transport, &q, successor, peer_free), 0);
}

/* The buffer of a protocol that is replaced while it hands it out goes with it; what there is, its successor gets. */
TEST(a_protocol_replaced_while_it_hands_out_its_buffer) {
    evl_loop *loop = real_loop();
    struct peer a, c;
    struct buffered *b = (struct buffered *)calloc(1, sizeof *b);
    evl_protocol p = buffered_protocol();
    int fds[2];
    unix_pair(fds);
    p.get_buffer = buffered_replaced;
    peer_open(&a, loop, "a.", fds[0]);
    CHECK_CODE(evl_transport_set_protocol(a.transport, &p, b, free), 0);
    peer_init(&c, loop, "c.");
    c.transport = evl_transport_ref(a.transport);
    c.made = 1;
    successor = &c;
    put(fds[1], "for the successor");
    idle(loop);
    CHECK_STRING(c.data, "for the successor");
    CHECK_TRACE("a.made c.data");
    peer_close(&c);
    peer_end(&a);
    close(fds[1]);
    end_loop(loop);
    trace_reset();
}

static void buffered_none(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    (void)transport;
    (void)hint;
    (void)arg;
    *buffer = NULL;
    *size = 0;
}

TEST(an_empty_buffer_ends_the_connection) {
    evl_loop *loop = reporting_loop();
    struct peer a;
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    int fds[2];
    unix_pair(fds);
    peer_init(&a, loop, "");
    p.get_buffer = buffered_none;
    p.buffer_updated = buffered_updated;
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, fds[0], &p, &a, peer_free, &future), 0);
    put(fds[1], "x");
    finish(loop, future);
    evl_future_unref(future);
    UNTIL(loop, a.lost);
    CHECK_TRACE("made lost");
    CHECK_CODE(a.code, -EINVAL);
    CHECK_INT(reports.count, 1);
    peer_end(&a);
    close(fds[1]);
    end_loop(loop);
}

/* --- from inside of every callback */

static const char *const moments[] = {"made", "data", "eof", "pause", "resume", "lost"};
static const char *moment;
static int acted;
static void (*act)(struct peer *peer);

static void act_at(struct peer *peer, const char *what) {
    if (strcmp(what, moment) == 0) {
        acted++;
        act(peer);
    }
}

static void act_close(struct peer *peer) {
    CHECK_CODE(evl_transport_close(peer->transport), 0);
}

static void act_abort(struct peer *peer) {
    CHECK_CODE(evl_transport_abort(peer->transport), 0);
}

static void act_both(struct peer *peer) {
    CHECK_CODE(evl_transport_close(peer->transport), 0);
    CHECK_CODE(evl_transport_abort(peer->transport), 0);
}

static void act_raise(struct peer *peer) {
    (void)peer;
    CHECK_CODE(evl_raise(-4242, "on purpose"), 0);
}

static void act_exit(struct peer *peer) {
    (void)peer;
    CHECK_CODE(evl_raise_exit(7), 0);
}

/* Lets a connection live through all it can be told, the end by its peer's last. */
static void live(evl_loop *loop, struct peer *a, int fd, int exits) {
    static char block[200000];
    int rounds = 0, exit_code = 0, exited = 0, wrote = 0;
    put(fd, "hello");
    while (rounds++ < 300 && !a->lost) {
        int code = evl_loop_run_until_idle(loop);
        if (exits && code == EVL_EEXIT) {
            exited++;
            CHECK_CODE(evl_loop_exit_code(loop, &exit_code), 0);
            CHECK_INT(exit_code, 7);
            continue;
        }
        CHECK(code >= 0);
        if (a->made && !wrote && !evl_transport_is_closing(a->transport)) {
            wrote = 1;
            CHECK_CODE(evl_transport_write(a->transport, block, sizeof block), 0);
            CHECK_CODE(evl_transport_write(a->transport, block, sizeof block), 0);
        } else if (a->resumes == 0 && a->pauses) {
            drain(fd);
        } else if (wrote) {
            drain(fd);
            shutdown(fd, SHUT_WR);
        }
    }
    if (exits)
        CHECK_INT(exited, 1);
    CHECK_INT(a->lost, 1);
    CHECK_INT(a->frees, 1);
}

static void act_everywhere(void (*what)(struct peer *), int expected_code, int expected_reports, int exits) {
    size_t i;
    for (i = 0; i < sizeof moments / sizeof *moments; i++) {
        evl_loop *loop = reporting_loop();
        struct peer a;
        evl_future *future;
        int fds[2], pausing;
        unix_pair(fds);
        moment = moments[i];
        act = what;
        acted = 0;
        pausing = strcmp(moment, "pause") == 0 || strcmp(moment, "resume") == 0;
        future = peer_adopt(&a, loop, NULL, fds[0]);
        a.at = act_at;
        evl_future_unref(future);
        live(loop, &a, fds[1], exits);
        if (!CHECK_INT(acted, 1))
            printf("at %s\n", moment);
        CHECK_INT(reports.count, expected_reports);
        if (expected_reports) {
            char text[100];
            CHECK_CODE(reports.code, -4242);
            snprintf(text, sizeof text, "%s", i == 0 ? "connection_made" : i == 1 ? "data_received" : moment);
            CHECK(strstr(reports.message, text) != NULL && strstr(reports.message, "on purpose") != NULL);
        }
        CHECK_CODE(a.code, pausing || strcmp(moment, "lost") == 0 ? 0 : expected_code);
        peer_end(&a);
        close(fds[1]);
        end_loop(loop);
    }
}

TEST(closed_in_every_callback) {
    act_everywhere(act_close, 0, 0, 0);
}

TEST(aborted_in_every_callback) {
    act_everywhere(act_abort, 0, 0, 0);
}

TEST(closed_and_aborted_in_every_callback) {
    act_everywhere(act_both, 0, 0, 0);
}

TEST(failing_in_every_callback) {
    act_everywhere(act_raise, -4242, 1, 0);
}

TEST(exits_from_every_callback) {
    act_everywhere(act_exit, 0, 0, 1);
}

/* --- what is left */

/* A second descriptor of the same socket keeps the kernel's registration alive: it is told of no more. */
TEST(a_duplicate_that_outlives_the_transport) {
    evl_loop *loop = real_loop();
    struct peer a, b;
    uint64_t before;
    int fds[2], more[2], copy, i;
    unix_pair(fds);
    peer_open(&a, loop, "a.", fds[0]);
    copy = dup(fds[0]);
    idle(loop);
    peer_close(&a);
    put(fds[1], "for nobody");
    /* The next one gets the same number. */
    unix_pair(more);
    peer_open(&b, loop, "b.", more[0]);
    CHECK_INT(more[0], fds[0]);
    idle(loop);
    CHECK_TRACE("a.made a.lost b.made");
    before = event_count(loop);
    for (i = 0; i < 5; i++)
        CHECK(evl_loop_run_once(loop, EVL_MS(5)) >= 0);
    CHECK(event_count(loop) <= before + 1);
    put(more[1], "for b");
    UNTIL(loop, b.total == 5);
    peer_close(&b);
    close(more[1]);
    close(fds[1]);
    close(copy);
    end_loop(loop);
    trace_reset();
}

TEST(a_write_of_nothing_finds_no_broken_peer) {
    evl_loop *loop = real_loop();
    struct peer a;
    int fds[2];
    unix_pair(fds);
    peer_open(&a, loop, "", fds[0]);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    close(fds[1]);
    CHECK_CODE(evl_transport_write(a.transport, "", 0), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 0);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    idle(loop);
    CHECK_CODE(a.code, -EPIPE);
    CHECK_TRACE("made lost");
    peer_end(&a);
    end_loop(loop);
}

TEST_MAIN()
