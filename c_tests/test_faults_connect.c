/* Every system call of connecting, and of operations on sockets, failing in every way it can: every future is done, what was given is
 * released once, no descriptor is left; and nobody is told that a socket is connected before it is. */
#include "faults.h"
#include "jobs.h"
#include "streams.h"

#include <netdb.h>

/* --- to a name that has several addresses */

static int dead_port, full_port, alive_port;

/* The addresses of every name: one that does not answer, one that refuses, and one that is served. */
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **out) {
    const int ports[] = {full_port, dead_port, alive_port};
    struct addrinfo **place = out;
    int i, count = hints->ai_flags & AI_PASSIVE ? 1 : 3;
    (void)host, (void)service;
    for (i = 0; i < count; i++) {
        struct addrinfo *one = (struct addrinfo *)calloc(1, sizeof *one + sizeof(struct sockaddr_in));
        struct sockaddr_in address = loopback();
        address.sin_port = count == 1 ? 0 : htons((uint16_t)ports[i]);
        memcpy(one + 1, &address, sizeof address);
        one->ai_family = AF_INET;
        one->ai_socktype = hints->ai_socktype;
        one->ai_protocol = hints->ai_socktype == SOCK_STREAM ? IPPROTO_TCP : 0;
        one->ai_addr = (struct sockaddr *)(one + 1);
        one->ai_addrlen = sizeof address;
        *place = one;
        place = &one->ai_next;
    }
    *place = NULL;
    return 0;
}

void freeaddrinfo(struct addrinfo *list) {
    while (list != NULL) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

static int port_of(const struct sockaddr_in *address) {
    return ntohs(address->sin_port);
}

/* Sockets that are there all the time: one whose backlog is full, one that does not listen, one that does. */
static int full_fd, full_clients[3], dead_fd, alive_fd;

static void open_places(void) {
    struct sockaddr_in address;
    int i;
    fault.armed = 0;
    dead_fd = bound(SOCK_STREAM, &address);
    dead_port = port_of(&address);
    alive_fd = listening(&address, 100);
    alive_port = port_of(&address);
    full_fd = listening(&address, 0);
    full_port = port_of(&address);
    for (i = 0; i < 3; i++) {
        full_clients[i] = tcp_socket();
        CHECK(connect(full_clients[i], (struct sockaddr *)&address, sizeof address) == 0 || errno == EINPROGRESS);
    }
}

static void close_places(void) {
    int i;
    for (i = 0; i < 3; i++)
        if (full_clients[i] >= 0)
            close(full_clients[i]);
    close(full_fd);
    close(dead_fd);
    close(alive_fd);
}

static void close_when_made(struct peer *peer, const char *what) {
    if (strcmp(what, "made") == 0) {
        struct sockaddr_in theirs;
        int armed = fault.armed;
        fault.armed = 0;
        CHECK_INT(evl_transport_get_peername(peer->transport, &theirs, sizeof theirs), (int)sizeof theirs);
        CHECK_INT(port_of(&theirs), alive_port);
        fault.armed = armed;
        CHECK_CODE(evl_transport_close(peer->transport), 0);
    }
}

static void connecting(void) {
    evl_loop *loop = fault_loop();
    evl_connect_options options;
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    struct peer peer;
    struct patience patience = {0, 0, 3000};
    int before, code, taken;
    fault.armed = 0;
    while ((taken = accept(alive_fd, NULL, NULL)) >= 0)
        close(taken);
    before = count_descriptors();
    fault.armed = 1;
    peer_init(&peer, loop, NULL);
    peer.at = close_when_made;
    CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
    options.host = "many.test";
    options.service = "9";
    options.local_host = "127.0.0.1";
    options.happy_eyeballs_delay_ns = EVL_MS(250);
    code = evl_loop_create_connection(loop, &options, &p, &peer, peer_free, &future);
    if (code < 0) {
        CHECK(future == NULL && fault.hits > 0);
    } else {
        /* Other threads look the name up, which no clock of this test's measures. */
        while (fault.seen[SOCKET] == 0 && !evl_future_done(future) && patience.rounds++ < 20000)
            if (evl_loop_run_once(loop, EVL_MS(1)) < 0)
                CHECK(fault.hits > 0);
        /* What is left may be the address that does not answer. */
        CHECK_CODE(evl_future_set_timeout(future, EVL_SECONDS(5)), 0);
        while ((!evl_future_done(future) || peer.lost != peer.made) && CHECK(fault_step(loop, &patience)))
            ;
        code = evl_future_result(future, NULL);
        if (code == 0)
            CHECK(peer.made == 1);
        else
            CHECK(fault.hits > 0 && (code == -ETIMEDOUT || evl_future_error_message(future, NULL, 0) > 0));
        /* One fault is no failure, when there is another address. */
        if (fault.hits == 1 && (fault.call == CONNECT || fault.call == SOCKET) && fault.first != 3)
            CHECK_CODE(code, 0);
    }
    CHECK_INT(peer.frees, 1);
    evl_future_unref(future);
    if (peer.transport != NULL)
        peer_end(&peer);
    fault.armed = 0;
    end_loop(loop);
    CHECK(count_descriptors() < before);
}

TEST(connecting_to_several_addresses) {
    open_places();
    /* Its files are open for good. */
    {
        evl_loop *loop = fault_loop();
        end_loop(loop);
    }
    fault_play_all(connecting, 6);
    close_places();
    await_threads(1);
    printf("%d scenarios, %d faults\n", fault_count, fault_hits);
}

/* --- operations on sockets */

enum { SIZE = 300000 };

static char sent[SIZE], got[SIZE];

static void begin(evl_future **future, int code) {
    if (code < 0)
        CHECK(*future == NULL && fault.hits > 0);
}

/* Its outcome: a number, 0 if it has none, or a code. */
static int64_t finish_one(evl_loop *loop, evl_future *future, struct patience *patience) {
    int64_t number = 0;
    int code;
    if (future == NULL)
        return -1;
    while (!evl_future_done(future) && CHECK(fault_step(loop, patience)))
        ;
    code = evl_future_result_int(future, &number);
    if (code == -EINVAL)
        code = evl_future_result(future, NULL);
    if (code < 0)
        CHECK(fault.hits > 0);
    evl_future_unref(future);
    return code < 0 ? code : number;
}

static void operations(void) {
    evl_loop *loop = fault_loop();
    struct sockaddr_in address;
    struct patience patience = {0, 0, 300};
    evl_future *connecting_ = NULL, *accepting = NULL, *sending = NULL, *receiving = NULL, *from = NULL, *to = NULL;
    int before, listener, client, server = -1, one, other, i, failed = 0;
    size_t all = 0;
    fault.armed = 0;
    before = count_descriptors();
    listener = listening(&address, 5);
    client = tcp_socket();
    fault.armed = 1;
    begin(&accepting, evl_loop_sock_accept(loop, listener, &accepting));
    begin(&connecting_, evl_loop_sock_connect(loop, client, &address, sizeof address, &connecting_));
    failed |= finish_one(loop, connecting_, &patience) < 0;
    if (failed) {
        /* So that accepting has an end. */
        if (accepting != NULL && !evl_future_done(accepting))
            CHECK_INT(evl_future_cancel(accepting, NULL), 1);
        evl_future_unref(accepting);
    } else {
        if (accepting != NULL) {
            server = (int)finish_one(loop, accepting, &patience);
        }
    }
    if (server >= 0) {
        begin(&sending, evl_loop_sock_sendall(loop, client, sent, SIZE, &sending));
        while (all < SIZE) {
            int64_t some;
            if (sending == NULL || (evl_future_done(sending) && evl_future_result(sending, NULL) < 0)) {
                fault.armed = 0;
                shutdown(client, SHUT_RDWR);
                fault.armed = 1;
            }
            begin(&receiving, evl_loop_sock_recv_into(loop, server, got + all, SIZE - all, &receiving));
            if (receiving == NULL || (some = finish_one(loop, receiving, &patience)) <= 0) {
                /* So that sending has an end. */
                fault.armed = 0;
                shutdown(server, SHUT_RDWR);
                shutdown(client, SHUT_RDWR);
                fault.armed = 1;
                failed = 1;
                break;
            }
            all += (size_t)some;
            receiving = NULL;
        }
        if (sending != NULL) {
            while (!evl_future_done(sending) && CHECK(fault_step(loop, &patience)))
                ;
            failed |= evl_future_result(sending, NULL) < 0;
            evl_future_unref(sending);
        } else {
            failed = 1;
        }
        CHECK(memcmp(sent, got, all) == 0);
        if (!failed)
            CHECK(all == SIZE);
        if (fault_is_harmless())
            CHECK_INT(failed, 0);
    }
    fault.armed = 0;
    one = bound(SOCK_DGRAM, &address);
    other = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    fault.armed = 1;
    begin(&from, evl_loop_sock_recvfrom_into(loop, one, got, SIZE, &from));
    for (i = 0; i < 2 && from != NULL && !evl_future_done(from); i++) {
        to = NULL;
        begin(&to, evl_loop_sock_sendto(loop, other, "hello", 5, &address, sizeof address, &to));
        if (finish_one(loop, to, &patience) == 5) {
            while (!evl_future_done(from) && CHECK(fault_step(loop, &patience)))
                ;
        } else {
            CHECK(fault.hits > 0 && !fault_is_harmless());
        }
    }
    if (from != NULL && !evl_future_done(from))
        CHECK_INT(evl_future_cancel(from, NULL), 1);
    if (from != NULL && evl_future_result(from, NULL) < 0)
        CHECK(fault.hits > 0);
    evl_future_unref(from);
    fault.armed = 0;
    close(one);
    close(other);
    close(listener);
    close(client);
    if (server >= 0)
        close(server);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
    CHECK(count_descriptors() < before);
}

TEST(operations_on_sockets) {
    unsigned seed = 3, i;
    for (i = 0; i < SIZE; i++)
        sent[i] = (char)next_random(&seed);
    fault_count = fault_hits = 0;
    fault_play_all(operations, 12);
    printf("%d scenarios, %d faults\n", fault_count, fault_hits);
}

/* --- what waits is not watched any more */

/* Has the poller start over, and the kernel refuse so many of what it is told then. */
static void start_over(evl_loop *loop, int refusals) {
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    /* What the kernel goes on watching tells of itself. */
    fault_none();
    fault.thread = pthread_self();
    fault.armed = 1;
    fault.call = EPOLL_CTL;
    fault.spares_wakers = 1;
    fault.code = ENOSPC;
    fault.first = fault.last = 1;
    CHECK_INT(evl_loop_remove_reader(loop, fds[0]), 1);
    put(fds[1], "x");
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    CHECK_INT(fault.hits, 1);
    fault.first = fault.seen[EPOLL_CTL] + 1;
    fault.last = fault.seen[EPOLL_CTL] + refusals;
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    if (refusals > 0)
        CHECK(fault.hits > 1);
    fault.armed = 0;
    close_pair(fds);
}

/* Makes room where a connection waits, which nobody else is to take. */
static void let_in(void) {
    int taken, i;
    for (i = 0; i < 3; i++) {
        close(full_clients[i]);
        full_clients[i] = -1;
    }
    CHECK(fcntl(full_fd, F_SETFL, O_NONBLOCK) == 0);
    while ((taken = accept(full_fd, NULL, NULL)) >= 0)
        close(taken);
}

TEST(a_connection_whose_descriptor_is_not_watched_any_more) {
    int refusals, raw;
    for (raw = 0; raw < 2; raw++)
        for (refusals = 0; refusals < 10; refusals += refusals < 3 ? 1 : 7) {
            evl_loop *loop = real_loop();
            evl_future *future = NULL;
            struct peer peer;
            int fd = -1, code;
            fault_none();
            open_places();
            if (raw) {
                struct sockaddr_in address = loopback();
                address.sin_port = htons((uint16_t)full_port);
                fd = tcp_socket();
                CHECK_CODE(evl_loop_sock_connect(loop, fd, &address, sizeof address, &future), 0);
            } else {
                future = begin_connect(&peer, loop, NULL, "127.0.0.1", full_port);
            }
            idle(loop);
            CHECK_INT(evl_future_done(future), 0);
            start_over(loop, refusals);
            idle(loop);
            /* The backlog is full as it was: it is not connected, whatever the kernel watches. */
            code = evl_future_done(future) ? evl_future_result(future, NULL) : EVL_EINVALIDSTATE;
            CHECK_CODE(code, refusals < 2 ? EVL_EINVALIDSTATE : -ENOSPC);
            if (code == EVL_EINVALIDSTATE) {
                let_in();
                finish(loop, future);
                CHECK_CODE(evl_future_result(future, NULL), 0);
            }
            evl_future_unref(future);
            if (!raw && peer.transport != NULL)
                peer_close(&peer);
            if (!raw)
                CHECK_INT(peer.frees, 1);
            if (raw)
                close(fd);
            CHECK_INT(watchers(loop), 0);
            close_places();
            end_loop(loop);
        }
}

/* An attempt that ends so, after some time. */
TEST(the_kernel_says_why_a_connection_failed) {
    static const int codes[] = {ETIMEDOUT, EHOSTUNREACH};
    size_t i;
    for (i = 0; i < sizeof codes / sizeof *codes; i++) {
        evl_loop *loop = real_loop();
        struct peer peer;
        char expected[100];
        evl_future *future;
        fault_none();
        open_places();
        future = begin_connect(&peer, loop, NULL, "127.0.0.1", full_port);
        idle(loop);
        CHECK_INT(evl_future_done(future), 0);
        fault.thread = pthread_self();
        fault.call = SO_ERROR_VALUE;
        fault.first = fault.last = 1;
        fault.code = codes[i];
        fault.armed = 1;
        let_in();
        finish(loop, future);
        CHECK_INT(fault.hits, 1);
        snprintf(expected, sizeof expected, "connect 127.0.0.1:%d: %s", full_port, evl_strerror(-codes[i]));
        check_message(future, expected);
        CHECK_CODE(evl_future_result(future, NULL), -codes[i]);
        evl_future_unref(future);
        CHECK(peer.made == 0 && peer.frees == 1);
        fault.armed = 0;
        CHECK_INT(watchers(loop), 0);
        close_places();
        end_loop(loop);
    }
}

/* A server goes on as soon as it can. */
TEST(a_server_whose_socket_is_not_watched_any_more) {
    static struct crowd crowd;
    int refusals;
    for (refusals = 0; refusals < 10; refusals += refusals < 3 ? 1 : 7) {
        evl_loop *loop = reporting_loop();
        int fd, port;
        fault_none();
        port = crowd_serve(&crowd, loop, 0);
        idle(loop);
        start_over(loop, refusals);
        CHECK_INT(reports.count, refusals >= 2);
        if (reports.count)
            CHECK_CODE(reports.code, -ENOSPC);
        fd = dial(port);
        UNTIL(loop, made_of(&crowd) == 1);
        close(fd);
        UNTIL(loop, crowd.peers[0].lost);
        CHECK_CODE(evl_server_close(crowd.server), 0);
        crowd_end(&crowd);
        end_loop(loop);
    }
}

TEST_MAIN()
