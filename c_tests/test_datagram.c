/* Datagram endpoints: made, sending and receiving one by one and in batches, flow control, addresses. */
#include "harness.h"
#include "sockets.h"
#include "datagrams.h"

/* Closes the loop when the threads that looked names up have ended: valgrind counts what they hold. */
static void end_loop_and_threads(evl_loop *loop) {
    evl_future *ended = NULL;
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_SECONDS(100), &ended), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, ended), 0);
    evl_future_unref(ended);
    end_loop(loop);
}

TEST(echo_by_address) {
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    evl_datagram *a = bound_endpoint(loop, one_by_one(), &server);
    evl_datagram *b = bound_endpoint(loop, one_by_one(), &client);
    struct sockaddr_in to = name_of(a), from = name_of(b);
    struct sockaddr_in *seen = (struct sockaddr_in *)&server.from;
    char text[100];
    server.echo = 1;
    CHECK_CODE(evl_datagram_sendto(b, "hello", 5, &to, sizeof to), 0);
    until(loop, &client.received, 1);
    CHECK_STRING(client.last, "hello");
    CHECK_STRING(server.last, "hello");
    CHECK_INT(server.from_size, sizeof from);
    CHECK(seen->sin_port == from.sin_port && seen->sin_addr.s_addr == from.sin_addr.s_addr);
    CHECK_CODE(evl_datagram_get_peername(a, text, sizeof text), -ENOTCONN);
    CHECK(evl_datagram_get_loop(a) == loop);
    CHECK(evl_datagram_repr(a, text, sizeof text) > 0);
    CHECK(strncmp(text, "<Datagram fd=", 13) == 0);
    end_endpoint(loop, a, &server);
    end_endpoint(loop, b, &client);
    CHECK_INT(server.lost_code, 0);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(connected) {
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    evl_datagram *a = bound_endpoint(loop, one_by_one(), &server);
    struct sockaddr_in to = name_of(a), other = to, peer;
    evl_datagram *b = connected_endpoint(loop, ntohs(to.sin_port), one_by_one(), &client);
    server.echo = 1;
    CHECK_INT(evl_datagram_get_peername(b, &peer, sizeof peer), sizeof peer);
    CHECK(peer.sin_port == to.sin_port);
    CHECK_CODE(evl_datagram_sendto(b, "one", 3, NULL, 0), 0);
    CHECK_CODE(evl_datagram_sendto(b, "two", 3, &to, sizeof to), 0);
    other.sin_port ^= htons(1);
    CHECK_CODE(evl_datagram_sendto(b, "x", 1, &other, sizeof other), -EINVAL);
    CHECK_CODE(evl_datagram_sendto(a, "x", 1, NULL, 0), -EDESTADDRREQ);
    until(loop, &client.received, 2);
    CHECK_STRING(client.last, "two");
    end_endpoint(loop, b, &client);
    end_endpoint(loop, a, &server);
    end_loop(loop);
}

/* An empty datagram is a datagram. */
TEST(empty_and_largest) {
    static char block[65507];
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    evl_datagram *a = bound_endpoint(loop, one_by_one(), &server);
    struct sockaddr_in to = name_of(a);
    evl_datagram *b = connected_endpoint(loop, ntohs(to.sin_port), one_by_one(), &client);
    CHECK_CODE(evl_datagram_sendto(b, NULL, 0, NULL, 0), 0);
    until(loop, &server.received, 1);
    CHECK_INT(server.last_size, 0);
    CHECK_CODE(evl_datagram_sendto(b, block, sizeof block, NULL, 0), 0);
    until(loop, &server.received, 2);
    CHECK_INT(server.last_size, sizeof block);
    end_endpoint(loop, b, &client);
    end_endpoint(loop, a, &server);
    end_loop(loop);
}

/* Batches of many sizes arrive as they were sent, one by one or together. */
static void batches(evl_datagram_protocol receiver, const size_t *sizes, int kinds, int rounds) {
    static char bytes[100 * 1500];
    static evl_datagram_message messages[100];
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    evl_datagram *a = bound_endpoint(loop, receiver, &server);
    struct sockaddr_in to = name_of(a);
    evl_datagram *b = connected_endpoint(loop, ntohs(to.sin_port), one_by_one(), &client);
    uint64_t hash = HASH_BEGIN;
    unsigned seed = 1;
    int round, i, sent = 0;
    for (i = 0; i < (int)sizeof bytes; i++)
        bytes[i] = (char)next_random(&seed);
    for (round = 0; round < rounds; round++) {
        for (i = 0; i < 100; i++) {
            memset(&messages[i], 0, sizeof messages[i]);
            messages[i].data = bytes + i * 1500;
            messages[i].size = sizes[kinds == 1 ? 0 : next_random(&seed) % (unsigned)kinds];
            hash = hash_on(hash, messages[i].data, messages[i].size);
        }
        CHECK_CODE(evl_datagram_send_batch(b, messages, 100), 0);
        sent += 100;
        until(loop, &server.received, sent);
    }
    CHECK(server.hash == hash);
    CHECK_INT(client.errors, 0);
    end_endpoint(loop, b, &client);
    end_endpoint(loop, a, &server);
    end_loop(loop);
}

TEST(batches_of_one_size) {
    size_t size = 64;
    batches(in_batches(), &size, 1, 5);
    batches(one_by_one(), &size, 1, 5);
}

TEST(batches_of_many_sizes) {
    size_t sizes[] = {64, 64, 63, 0, 1, 1200, 1500, 64, 64};
    batches(in_batches(), sizes, 9, 10);
    batches(one_by_one(), sizes, 9, 10);
}

/* More than one call of the protocol takes. */
TEST(batch_larger_than_one_call) {
    static evl_datagram_message messages[600];
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    evl_datagram *a = bound_endpoint(loop, in_batches(), &server);
    evl_datagram *b = bound_endpoint(loop, one_by_one(), &client);
    struct sockaddr_in to = name_of(a);
    int i, big = 4 << 20;
    CHECK(setsockopt(evl_datagram_get_fd(a), SOL_SOCKET, SO_RCVBUF, &big, sizeof big) == 0);
    for (i = 0; i < 600; i++) {
        memset(&messages[i], 0, sizeof messages[i]);
        messages[i].data = "0123456789";
        messages[i].size = 10;
        messages[i].address = &to;
        messages[i].address_size = sizeof to;
    }
    CHECK_CODE(evl_datagram_send_batch(b, messages, 600), 0);
    until(loop, &server.received, 600);
    CHECK_INT(server.bytes, 6000);
    CHECK(server.batches > 1 && server.batches < 100);
    CHECK_CODE(evl_datagram_send_batch(b, NULL, 0), 0);
    end_endpoint(loop, b, &client);
    end_endpoint(loop, a, &server);
    end_loop(loop);
}

/* Each of a batch to a peer of its own. */
TEST(batch_to_several_peers) {
    evl_loop *loop = real_loop();
    struct told told[3] = {told_nothing(), told_nothing(), told_nothing()}, client = told_nothing();
    evl_datagram *peers[3], *b = bound_endpoint(loop, one_by_one(), &client);
    struct sockaddr_in names[3];
    evl_datagram_message messages[30];
    int i;
    for (i = 0; i < 3; i++) {
        peers[i] = bound_endpoint(loop, one_by_one(), &told[i]);
        names[i] = name_of(peers[i]);
    }
    for (i = 0; i < 30; i++) {
        memset(&messages[i], 0, sizeof messages[i]);
        messages[i].data = "abc" + i % 3;
        messages[i].size = 1;
        messages[i].address = &names[i < 15 ? i % 3 : i / 10];
        messages[i].address_size = sizeof names[0];
    }
    CHECK_CODE(evl_datagram_send_batch(b, messages, 30), 0);
    until(loop, &told[0].received, 5);
    until(loop, &told[1].received, 10);
    until(loop, &told[2].received, 15);
    for (i = 0; i < 3; i++)
        end_endpoint(loop, peers[i], &told[i]);
    end_endpoint(loop, b, &client);
    end_loop(loop);
}

static evl_datagram *unix_endpoint(evl_loop *loop, const char *local, size_t local_size, const char *remote,
                                   size_t remote_size, struct told *told) {
    evl_datagram_protocol p = one_by_one();
    evl_future *future = NULL;
    evl_datagram *made = NULL;
    int code;
    if (CHECK_CODE(evl_loop_create_unix_datagram_endpoint(loop, local, local_size, remote, remote_size, &p, told,
                                                          told_free, &future),
                   0)) {
        made = endpoint_of(loop, future, &code);
        CHECK_CODE(code, 0);
    }
    return made;
}

TEST(unix_paths) {
    static char block[100000];
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing(), again = told_nothing();
    char path[] = "/tmp/evl-test-XXXXXX";
    evl_datagram *a, *b;
    int fd = mkstemp(path);
    close(fd);
    unlink(path);
    a = unix_endpoint(loop, path, strlen(path), NULL, 0, &server);
    b = unix_endpoint(loop, NULL, 0, path, strlen(path), &client);
    REQUIRE(a != NULL && b != NULL);
    CHECK_CODE(evl_datagram_sendto(b, "hello", 5, NULL, 0), 0);
    until(loop, &server.received, 1);
    CHECK_STRING(server.last, "hello");
    CHECK_INT(server.from_size, 0);
    /* Larger than any of UDP. */
    CHECK_CODE(evl_datagram_sendto(b, block, sizeof block, NULL, 0), 0);
    until(loop, &server.received, 2);
    CHECK_INT(server.last_size, sizeof block);
    end_endpoint(loop, b, &client);
    end_endpoint(loop, a, &server);
    /* The file is left, and bound anew. */
    a = unix_endpoint(loop, path, strlen(path), NULL, 0, &again);
    end_endpoint(loop, a, &again);
    unlink(path);
    end_loop(loop);
}

TEST(abstract_names) {
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    char name[40], other[40];
    size_t size = (size_t)snprintf(name, sizeof name, "-evl-datagram-%d", (int)getpid());
    evl_datagram *a, *b;
    memcpy(other, name, sizeof name);
    name[0] = other[0] = 0;
    other[1] = '_';
    a = unix_endpoint(loop, name, size, NULL, 0, &server);
    b = unix_endpoint(loop, other, size, name, size, &client);
    REQUIRE(a != NULL && b != NULL);
    server.echo = 1;
    CHECK_CODE(evl_datagram_sendto(b, "hello", 5, NULL, 0), 0);
    until(loop, &client.received, 1);
    CHECK_STRING(client.last, "hello");
    end_endpoint(loop, b, &client);
    end_endpoint(loop, a, &server);
    end_loop(loop);
}

/* A socket pair whose other end does not read: what is sent is queued, in its order, and the protocol paused. */
TEST(pauses_and_resumes) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d;
    char block[1000], got[2000];
    int fds[2], i, received = 0;
    size_t size = 0, high, low;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
    REQUIRE(d != NULL);
    CHECK_CODE(evl_datagram_set_write_buffer_limits(d, 20000, 5000), 0);
    CHECK_CODE(evl_datagram_get_write_buffer_limits(d, &high, &low), 0);
    CHECK(high == 20000 && low == 5000);
    for (i = 0; i < 1000 && size <= 25000; i++) {
        memset(block, 0, sizeof block);
        memcpy(block, &i, sizeof i);
        CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, NULL, 0), 0);
        CHECK_CODE(evl_datagram_get_write_buffer_size(d, &size), 0);
    }
    CHECK(size == 26000);
    settle(loop);
    CHECK(told.pauses == 1 && told.resumes == 0);
    while (received < i) {
        int number = -1;
        if (recv(fds[1], got, sizeof got, MSG_DONTWAIT) == 1000) {
            memcpy(&number, got, sizeof number);
            CHECK_INT(number, received++);
        } else if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0)) {
            break;
        }
    }
    settle(loop);
    CHECK(told.pauses == 1 && told.resumes == 1);
    CHECK_CODE(evl_datagram_get_write_buffer_size(d, &size), 0);
    CHECK_INT(size, 0);
    end_endpoint(loop, d, &told);
    close(fds[1]);
    end_loop(loop);
}

/* close sends what is queued, abort does not. */
static void closed_while_queued(int abort_it) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    char block[1000] = {0};
    int fds[2], sent = 0, got = 0;
    size_t size = 0;
    evl_datagram *d;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
    REQUIRE(d != NULL);
    while (size < 10000) {
        CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, NULL, 0), 0);
        CHECK_CODE(evl_datagram_get_write_buffer_size(d, &size), 0);
        sent++;
    }
    if (abort_it)
        CHECK_CODE(evl_datagram_abort(d), 0);
    CHECK_CODE(evl_datagram_close(d), 0);
    CHECK_INT(evl_datagram_is_closing(d), 1);
    CHECK_CODE(evl_datagram_sendto(d, block, 1, NULL, 0), -EPIPE);
    settle(loop);
    CHECK_INT(told.lost, abort_it);
    while (!told.lost && CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0))
        while (recv(fds[1], block, sizeof block, MSG_DONTWAIT) > 0)
            got++;
    while (recv(fds[1], block, sizeof block, MSG_DONTWAIT) > 0)
        got++;
    CHECK_INT(got, abort_it ? sent - 10 : sent);
    CHECK(told.lost == 1 && told.lost_code == 0);
    settle(loop);
    evl_datagram_unref(d);
    close(fds[1]);
    end_loop(loop);
}

TEST(close_flushes) {
    closed_while_queued(0);
}

TEST(abort_drops) {
    closed_while_queued(1);
}

TEST(names_of_both_ends) {
    evl_loop *loop = real_loop();
    struct told one = told_nothing(), two = told_nothing(), three = told_nothing();
    evl_datagram_options options = any_options();
    evl_datagram *a, *b, *c;
    char service[8];
    options.local_host = "localhost";
    options.family = AF_INET;
    options.flags = EVL_DATAGRAM_REUSE_PORT;
    a = create_endpoint(loop, &options, one_by_one(), &one);
    REQUIRE(a != NULL);
    snprintf(service, sizeof service, "%d", ntohs(name_of(a).sin_port));
    options.local_service = service;
    b = create_endpoint(loop, &options, one_by_one(), &two);
    REQUIRE(b != NULL);
    CHECK(name_of(b).sin_port == name_of(a).sin_port);
    options.flags = 0;
    options.local_service = "0";
    options.remote_host = "127.0.0.1";
    options.remote_service = service;
    c = create_endpoint(loop, &options, one_by_one(), &three);
    REQUIRE(c != NULL);
    CHECK_CODE(evl_datagram_sendto(c, "x", 1, NULL, 0), 0);
    while (one.received + two.received == 0)
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0);
    end_endpoint(loop, a, &one);
    end_endpoint(loop, b, &two);
    end_endpoint(loop, c, &three);
    end_loop_and_threads(loop);
}

/* No host: every interface, and for the remote one this machine. */
TEST(no_hosts) {
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), client = told_nothing();
    evl_datagram_options options = any_options();
    evl_datagram *a, *b;
    char service[8];
    options.family = AF_INET;
    options.local_host = "";
    a = create_endpoint(loop, &options, one_by_one(), &server);
    REQUIRE(a != NULL);
    CHECK(name_of(a).sin_addr.s_addr == htonl(INADDR_ANY));
    snprintf(service, sizeof service, "%d", ntohs(name_of(a).sin_port));
    options.local_host = NULL;
    options.remote_service = service;
    b = create_endpoint(loop, &options, one_by_one(), &client);
    REQUIRE(b != NULL);
    CHECK_CODE(evl_datagram_sendto(b, "x", 1, NULL, 0), 0);
    until(loop, &server.received, 1);
    end_endpoint(loop, a, &server);
    end_endpoint(loop, b, &client);
    end_loop(loop);
}

/* With EVL_DATAGRAM_BROADCAST the remote address is noted, but others may answer. */
TEST(broadcast_is_not_connected) {
    evl_loop *loop = real_loop();
    struct told server = told_nothing(), other = told_nothing(), client = told_nothing();
    evl_datagram *a = bound_endpoint(loop, one_by_one(), &server), *o = bound_endpoint(loop, one_by_one(), &other), *b;
    evl_datagram_options options = any_options();
    struct sockaddr_in from;
    char service[8];
    int on = 0;
    socklen_t size = sizeof on;
    snprintf(service, sizeof service, "%d", ntohs(name_of(a).sin_port));
    options.remote_host = "127.0.0.1";
    options.remote_service = service;
    options.flags = EVL_DATAGRAM_BROADCAST;
    b = create_endpoint(loop, &options, one_by_one(), &client);
    REQUIRE(b != NULL);
    CHECK(getsockopt(evl_datagram_get_fd(b), SOL_SOCKET, SO_BROADCAST, &on, &size) == 0 && on == 1);
    CHECK_CODE(evl_datagram_get_peername(b, &from, sizeof from), -ENOTCONN);
    CHECK_CODE(evl_datagram_sendto(b, "where", 5, NULL, 0), 0);
    until(loop, &server.received, 1);
    memcpy(&from, &server.from, sizeof from);
    CHECK_CODE(evl_datagram_sendto(o, "here", 4, &from, sizeof from), 0);
    until(loop, &client.received, 1);
    CHECK_STRING(client.last, "here");
    end_endpoint(loop, a, &server);
    end_endpoint(loop, o, &other);
    end_endpoint(loop, b, &client);
    end_loop(loop);
}

TEST(ipv6) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram_options options = any_options();
    evl_datagram_protocol p = one_by_one();
    evl_future *future = NULL;
    evl_datagram *d;
    struct sockaddr_in6 name;
    int code;
    options.local_host = "::1";
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &told, told_free, &future), 0);
    d = endpoint_of(loop, future, &code);
    if (code == 0) { /* a machine may have no IPv6 */
        CHECK_INT(evl_datagram_get_sockname(d, &name, sizeof name), sizeof name);
        CHECK_CODE(evl_datagram_sendto(d, "me", 2, &name, sizeof name), 0);
        until(loop, &told.received, 1);
        CHECK_STRING(told.last, "me");
        end_endpoint(loop, d, &told);
    } else {
        CHECK_CODE(code, -EADDRNOTAVAIL);
    }
    CHECK_INT(told.frees, 1);
    end_loop(loop);
}

static evl_context_var *var;

static void check_variable(struct told *told) {
    void *value = NULL;
    CHECK_CODE(evl_context_var_get(var, &value), 0);
    CHECK(value == (void *)told);
}

static void set_variable(struct told *told) {
    CHECK_CODE(evl_context_var_set(var, told, NULL, NULL), 0);
}

/* All of a protocol is called in one context: what connection_made sets, the others see. */
TEST(one_context) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d;
    struct sockaddr_in name;
    CHECK_CODE(evl_context_var_new("name", NULL, NULL, &var), 0);
    told.on_made = set_variable;
    told.on_received = told.on_lost = check_variable;
    d = bound_endpoint(loop, one_by_one(), &told);
    name = name_of(d);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, &name, sizeof name), 0);
    until(loop, &told.received, 1);
    end_endpoint(loop, d, &told);
    evl_context_var_unref(var);
    end_loop(loop);
}

TEST(data_and_references) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    struct probe one = probe_named(NULL, loop), two = one;
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    CHECK(evl_datagram_get_data(d) == NULL);
    CHECK_CODE(evl_datagram_set_data(d, &one, probe_free), 0);
    CHECK_CODE(evl_datagram_set_data(d, &two, probe_free), 0);
    CHECK_INT(one.frees, 1);
    CHECK(evl_datagram_get_data(d) == &two);
    CHECK(evl_datagram_ref(d) == d);
    evl_datagram_unref(d);
    end_endpoint(loop, d, &told);
    CHECK_INT(two.frees, 1);
    end_loop(loop);
}

/* --- sent while several are told */

static int how_to_end;

/* Answers each, in one of several ways, and ends with the fourth. */
static void answer(struct told *told) {
    size_t size = 1;
    evl_datagram_message two[2];
    if (told->received == 3) {
        memset(two, 0, sizeof two);
        two[0].data = "3a";
        two[1].data = "3b";
        two[0].size = two[1].size = 2;
        two[0].address = two[1].address = &told->from;
        two[0].address_size = two[1].address_size = told->from_size;
        CHECK_CODE(evl_datagram_send_batch(told->datagram, two, 2), 0);
    } else {
        CHECK_CODE(evl_datagram_sendto(told->datagram, told->last, strlen(told->last), &told->from, told->from_size), 0);
    }
    /* It counts as sent. */
    CHECK_CODE(evl_datagram_get_write_buffer_size(told->datagram, &size), 0);
    CHECK_INT(size, 0);
    if (told->received != 4)
        return;
    switch (how_to_end) {
    case 0:
        CHECK_CODE(evl_datagram_close(told->datagram), 0);
        break;
    case 1:
        CHECK_CODE(evl_datagram_abort(told->datagram), 0);
        break;
    case 2:
        CHECK_CODE(evl_datagram_set_write_buffer_limits(told->datagram, 0, 0), 0);
        break;
    case 3:
        CHECK_CODE(evl_raise(-EIO, "on purpose"), 0);
        break;
    default:
        CHECK_CODE(evl_raise_exit(1), 0);
    }
}

static void no_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)exception, (void)arg;
}

/* Nothing of it is lost or out of order, whatever else the callback does. */
TEST(sent_while_several_are_told) {
    static const char *const expected[] = {"1", "2", "3a", "3b", "4", "5", "6"};
    for (how_to_end = 0; how_to_end < 5; how_to_end++) {
        evl_loop *loop = real_loop();
        struct told told = told_nothing();
        struct sockaddr_in own, to;
        int fd = bound(SOCK_DGRAM, &own), i, answers = how_to_end < 2 ? 5 : 7;
        evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
        char text[2] = "", got[10];
        to = name_of(d);
        told.on_received = answer;
        CHECK_CODE(evl_loop_set_exception_handler(loop, no_report, NULL, NULL), 0);
        for (i = 0; i < 6; i++) {
            text[0] = (char)('1' + i);
            CHECK(sendto(fd, text, 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
        }
        for (i = 0; i < 5; i++)
            CHECK(evl_loop_run_once(loop, EVL_MS(1)) >= 0 || how_to_end == 4);
        CHECK_INT(told.received, how_to_end < 2 ? 4 : 6);
        CHECK(told.pauses == 0 && told.errors == 0);
        for (i = 0; i < answers; i++) {
            ssize_t size = recv(fd, got, sizeof got - 1, 0);
            got[size > 0 ? size : 0] = 0;
            CHECK_STRING(got, expected[i]);
        }
        CHECK(recv(fd, got, sizeof got, 0) < 0);
        if (how_to_end < 2) {
            CHECK_INT(told.lost, 1);
            CHECK_CODE(told.lost_code, 0);
            CHECK_INT(told.frees, 1);
            evl_datagram_unref(d);
        } else {
            end_endpoint(loop, d, &told);
        }
        close(fd);
        end_loop(loop);
    }
}

/* A peer that takes no more: what was collected waits, and the protocol is told to pause. */
TEST(sent_while_several_are_told_to_a_peer_that_is_full) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    int fds[2], i, got = 0;
    char block[800];
    evl_datagram *d;
    size_t size = 0;
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
    told.echo = 1;
    CHECK_CODE(evl_datagram_set_write_buffer_limits(d, 4000, 1000), 0);
    memset(block, 'b', sizeof block);
    for (i = 0; i < 2000 && !told.pauses; i++) {
        CHECK(send(fds[1], block, sizeof block, 0) == (ssize_t)sizeof block);
        if (i % 5 == 4)
            settle(loop);
    }
    CHECK_INT(told.pauses, 1);
    CHECK_CODE(evl_datagram_get_write_buffer_size(d, &size), 0);
    CHECK(size > 4000);
    while (got < told.received || size > 0) {
        while (recv(fds[1], block, sizeof block, 0) == (ssize_t)sizeof block)
            got++;
        CHECK(evl_loop_run_once(loop, 0) >= 0);
        CHECK_CODE(evl_datagram_get_write_buffer_size(d, &size), 0);
    }
    CHECK_INT(got, told.received);
    CHECK_INT(told.resumes, 1);
    CHECK_INT(told.errors, 0);
    end_endpoint(loop, d, &told);
    close(fds[1]);
    end_loop(loop);
}

/* --- another protocol */

static struct told successor;
static int successor_is_batch;

static void replace(struct told *told) {
    evl_datagram_protocol p = successor_is_batch ? in_batches() : one_by_one();
    if (successor.made)
        return;
    successor.datagram = told->datagram;
    successor.made = 1;
    CHECK_CODE(evl_datagram_set_protocol(told->datagram, &p, &successor, told_free), 0);
    /* It is being called. */
    CHECK_INT(told->frees, 0);
}

/* Replaced by the first of several datagrams: the rest, errors and the end are the successor's, whichever way each is told. */
TEST(another_protocol) {
    static char block[70000];
    int way;
    for (way = 0; way < 4; way++) {
        evl_loop *loop = real_loop();
        struct told told = told_nothing();
        struct sockaddr_in own, to;
        int fd = bound(SOCK_DGRAM, &own), i;
        evl_datagram *d = bound_endpoint(loop, way & 2 ? in_batches() : one_by_one(), &told);
        evl_datagram_protocol p = one_by_one();
        struct told late = told_nothing();
        successor = told_nothing();
        successor_is_batch = way & 1;
        to = name_of(d);
        told.on_received = replace;
        for (i = 0; i < 3; i++)
            CHECK(sendto(fd, "abc" + i, 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
        until(loop, &told.frees, 1);
        for (i = 3; i < 6; i++)
            CHECK(sendto(fd, "abcdef" + i, 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
        until(loop, &successor.received, 6 - told.received);
        CHECK_INT(told.received, way & 2 ? 3 : 1);
        CHECK_STRING(successor.last, "f");
        CHECK_INT(successor.batches > 0, successor_is_batch);
        CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, &to, sizeof to), 0);
        until(loop, &successor.errors, 1);
        CHECK_INT(told.errors, 0);
        /* From outside of any callback the arg before goes at once. */
        CHECK_CODE(evl_datagram_set_protocol(d, &p, &successor, NULL), 0);
        CHECK_INT(successor.frees, 1);
        successor.frees = 0;
        CHECK_CODE(evl_datagram_set_protocol(d, &p, &successor, told_free), 0);
        CHECK_INT(successor.frees, 0);
        CHECK_CODE(evl_datagram_close(d), 0);
        until(loop, &successor.lost, 1);
        settle(loop);
        CHECK(successor.frees == 1 && told.lost == 0 && told.frees == 1);
        CHECK_CODE(evl_datagram_set_protocol(d, &p, &late, told_free), EVL_EINVALIDSTATE);
        CHECK_INT(late.frees, 1);
        evl_datagram_unref(d);
        close(fd);
        end_loop(loop);
    }
}

TEST_MAIN()
