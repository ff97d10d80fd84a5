/* Connections that cannot be made, are given up, or break, at every stage. */
#include "jobs.h"
#include "streams.h"

static evl_connect_options connect_options(const char *host, const char *service) {
    evl_connect_options options;
    CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
    options.host = host;
    options.service = service;
    return options;
}

static evl_future *begin_with(struct peer *peer, evl_loop *loop, const evl_connect_options *options) {
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    peer_init(peer, loop, "");
    CHECK_CODE(evl_loop_create_connection(loop, options, &p, peer, peer_free, &future), 0);
    return future;
}

/* A port that nobody listens at: bound, so that nobody else gets it. */
static int dead_port(int *fd) {
    struct sockaddr_in address;
    *fd = bound(SOCK_STREAM, &address);
    return ntohs(address.sin_port);
}

static void expect_failure(evl_future *future, struct peer *peer, int code) {
    CHECK_CODE(evl_future_result(future, NULL), code);
    evl_future_unref(future);
    CHECK_INT(peer->made, 0);
    CHECK_INT(peer->frees, 1);
    CHECK_TRACE("");
}

/* --- not made */

TEST(refused) {
    int before = count_descriptors();
    evl_loop *loop = real_loop();
    struct peer peer;
    int fd, port = dead_port(&fd);
    char expected[100];
    evl_future *future = begin_connect(&peer, loop, "", "127.0.0.1", port);
    finish(loop, future);
    snprintf(expected, sizeof expected, "connect 127.0.0.1:%d: connection refused", port);
    check_message(future, expected);
    expect_failure(future, &peer, -ECONNREFUSED);
    CHECK_INT(watchers(loop), 0);
    close(fd);
    end_loop(loop);
    CHECK_INT(count_descriptors(), before);
}

TEST(unreachable) {
    evl_loop *loop = real_loop();
    struct peer peer;
    /* A TCP socket cannot be connected to everybody: the system says so at once. */
    evl_future *future = begin_connect(&peer, loop, "", "255.255.255.255", 80);
    finish(loop, future);
    CHECK(evl_future_result(future, NULL) == -ENETUNREACH || evl_future_result(future, NULL) == -EACCES);
    CHECK_INT(evl_future_error_message(future, NULL, 0) > 0, 1);
    evl_future_unref(future);
    CHECK_INT(peer.frees, 1);
    end_loop(loop);
}

TEST(no_such_name) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_connect_options options = connect_options("no.such.host.invalid", "80");
    evl_future *future = begin_with(&peer, loop, &options);
    int code;
    finish(loop, future);
    code = evl_future_result(future, NULL);
    CHECK(code == EVL_EAI_NONAME || code == EVL_EAI_AGAIN);
    evl_future_unref(future);
    CHECK_INT(peer.frees, 1);
    options = connect_options("127.0.0.1", "no-such-service");
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    expect_failure(future, &peer, EVL_EAI_SERVICE);
    /* The C library would connect to 4464. */
    options = connect_options("127.0.0.1", "70000");
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    expect_failure(future, &peer, EVL_EAI_SERVICE);
    options = connect_options("localhost", "100000");
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    expect_failure(future, &peer, EVL_EAI_SERVICE);
    options = connect_options("::1", "80");
    options.family = AF_INET;
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    CHECK(evl_future_result(future, NULL) < 0);
    evl_future_unref(future);
    CHECK_INT(peer.frees, 1);
    end_loop(loop);
}

/* How many addresses localhost has depends on the machine. */
TEST(all_addresses_fail_and_are_listed) {
    evl_loop *loop = real_loop();
    struct peer peer;
    int fd, port = dead_port(&fd);
    char service[10], text[300] = "", one[60];
    evl_future *future;
    evl_connect_options options = connect_options("localhost", service);
    snprintf(service, sizeof service, "%d", port);
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    snprintf(one, sizeof one, "connect 127.0.0.1:%d: connection refused", port);
    CHECK(strstr(text, one) != NULL);
    if (strchr(text, ';') != NULL) {
        CHECK(strncmp(text, "all ", 4) == 0 && strstr(text, " addresses failed: connect ") != NULL);
        CHECK(strstr(text, "connect [::1]:") != NULL);
    } else {
        CHECK_STRING(text, one);
    }
    expect_failure(future, &peer, -ECONNREFUSED);
    close(fd);
    end_loop(loop);
}

TEST(unix_names_that_nobody_listens_at) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    char path[60], name[200];
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_unix_connection(loop, "/no/such/socket", 15, &p, &peer, peer_free, &future), 0);
    finish(loop, future);
    check_message(future, "connect /no/such/socket: no such file, directory or entry");
    expect_failure(future, &peer, -ENOENT);
    snprintf(path, sizeof path, "/tmp/evl-test-errors-%d", (int)getpid());
    unlink(path);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, strlen(path));
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_unix_connection(loop, path, strlen(path), &p, &peer, peer_free, &future), 0);
    finish(loop, future);
    expect_failure(future, &peer, -ECONNREFUSED);
    unlink(path);
    close(fd);
    memset(name, 'x', sizeof name);
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_unix_connection(loop, name, 108, &p, &peer, peer_free, &future), -ENAMETOOLONG);
    CHECK_INT(peer.frees, 1);
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_unix_connection(loop, "/tmp/a\0b", 8, &p, &peer, peer_free, &future), -EINVAL);
    CHECK_INT(peer.frees, 1);
    end_loop(loop);
}

/* --- from a local address */

TEST(from_a_local_address) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct peer peer;
    struct sockaddr_in ours;
    int fd, port = crowd_serve(&crowd, loop, 0), from = dead_port(&fd);
    char service[10], local[10];
    evl_connect_options options = connect_options("127.0.0.1", service);
    evl_future *future;
    snprintf(service, sizeof service, "%d", port);
    snprintf(local, sizeof local, "%d", from);
    options.local_host = "127.0.0.5";
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    CHECK_CODE(end_code(future), 0);
    CHECK_INT(evl_transport_get_sockname(peer.transport, &ours, sizeof ours), (int)sizeof ours);
    CHECK_INT(ntohl(ours.sin_addr.s_addr), 0x7f000005);
    peer_close(&peer);
    CHECK_TRACE("made lost");
    close(fd);
    options.local_host = NULL;
    options.local_service = local;
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    CHECK_CODE(end_code(future), 0);
    CHECK_INT(evl_transport_get_sockname(peer.transport, &ours, sizeof ours), (int)sizeof ours);
    CHECK_INT(ntohs(ours.sin_port), from);
    peer_close(&peer);
    CHECK_TRACE("made lost");
    options.local_service = NULL;
    options.local_host = "192.0.2.1";
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    check_message(future, "bind 192.0.2.1:0: cannot assign the address");
    expect_failure(future, &peer, -EADDRNOTAVAIL);
    options.local_host = "::1";
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    CHECK(evl_future_result(future, NULL) < 0);
    evl_future_unref(future);
    CHECK_INT(peer.frees, 1);
    UNTIL(loop, crowd.count == 2 && crowd.peers[0].lost && crowd.peers[1].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

/* --- given up */

/* Keeps every thread of the default executor busy, so that names are not looked up. */
static evl_executor *pool;

static evl_future *occupy(evl_loop *loop, struct gate *gate) {
    evl_future *busy = NULL;
    pool = new_pool(1);
    CHECK_CODE(evl_loop_set_default_executor(loop, pool), 0);
    gate_open(gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, gate_job, gate, gate_free, NULL, &busy), 0);
    gate_await(gate, 1);
    return busy;
}

static void release_busy(evl_loop *loop, struct gate *gate, evl_future *busy) {
    gate_let_go(gate, 1);
    finish(loop, busy);
    evl_future_unref(busy);
    end_pool(pool);
    gate_close(gate);
}

static void give_up_resolving(int timeout) {
    evl_loop *loop = real_loop();
    struct gate gate;
    struct peer peer;
    evl_future *busy = occupy(loop, &gate), *future;
    future = begin_connect(&peer, loop, "", "localhost", 9);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    CHECK_INT(evl_future_done(future), 0);
    if (timeout) {
        CHECK_CODE(evl_future_set_timeout(future, EVL_MS(5)), 0);
        finish(loop, future);
        expect_failure(future, &peer, -ETIMEDOUT);
    } else {
        CHECK_INT(evl_future_cancel(future, NULL), 1);
        finish(loop, future);
        expect_failure(future, &peer, EVL_ECANCELLED);
    }
    release_busy(loop, &gate, busy);
    end_loop(loop);
}

TEST(cancelled_while_resolving) {
    give_up_resolving(0);
}

TEST(timed_out_while_resolving) {
    give_up_resolving(1);
}

TEST(a_server_cancelled_while_resolving) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct gate gate;
    evl_server_options options;
    evl_future *busy = occupy(loop, &gate), *future = NULL;
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "localhost";
    CHECK_CODE(evl_loop_create_server(loop, &options, crowd_make, &crowd, crowd_free, &future), 0);
    idle(loop);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(crowd.frees, 0);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    finish(loop, future);
    CHECK_INT(crowd.frees, 1);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    release_busy(loop, &gate, busy);
    end_loop(loop);
}

TEST(the_loop_closed_while_resolving) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct gate gate;
    struct peer peer;
    evl_server_options options;
    evl_future *busy = occupy(loop, &gate), *future;
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "localhost";
    CHECK_CODE(evl_loop_create_server(loop, &options, crowd_make, &crowd, crowd_free, NULL), 0);
    future = begin_connect(&peer, loop, "", "localhost", 9);
    gate_let_go(&gate, 1);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(peer.frees, 1);
    CHECK_INT(crowd.frees, 1);
    evl_future_unref(future);
    evl_future_unref(busy);
    evl_loop_unref(loop);
    end_pool(pool);
    gate_close(&gate);
}

/* A listening socket whose backlog is full, so that connecting to it takes its time. */
struct full {
    int listener, port, clients[8], count;
};

static void full_open(struct full *full) {
    struct sockaddr_in address;
    full->listener = listening(&address, 0);
    full->port = ntohs(address.sin_port);
    for (full->count = 0; full->count < 3; full->count++) {
        full->clients[full->count] = tcp_socket();
        CHECK(connect(full->clients[full->count], (struct sockaddr *)&address, sizeof address) == 0 ||
              errno == EINPROGRESS);
    }
}

static void full_close(struct full *full) {
    while (full->count > 0)
        close(full->clients[--full->count]);
    close(full->listener);
}

static void give_up_racing(int how) {
    evl_loop *loop = real_loop();
    struct full full;
    struct peer peer;
    evl_future *future;
    int before;
    full_open(&full);
    idle(loop);
    before = count_descriptors();
    future = begin_connect(&peer, loop, "", "127.0.0.1", full.port);
    CHECK_INT(count_descriptors(), before + 1);
    idle(loop);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(watchers(loop), 1);
    switch (how) {
    case 0:
        CHECK_INT(evl_future_cancel(future, "enough"), 1);
        CHECK_INT(count_descriptors(), before);
        CHECK_INT(peer.frees, 1);
        idle(loop);
        expect_failure(future, &peer, EVL_ECANCELLED);
        CHECK_INT(watchers(loop), 0);
        break;
    case 1:
        CHECK_CODE(evl_future_set_timeout(future, EVL_MS(5)), 0);
        finish(loop, future);
        CHECK_INT(count_descriptors() <= before + 1, 1);
        expect_failure(future, &peer, -ETIMEDOUT);
        CHECK_INT(watchers(loop), 0);
        break;
    default:
        CHECK_CODE(evl_loop_close(loop), 0);
        expect_failure(future, &peer, EVL_EINVALIDSTATE);
    }
    full_close(&full);
    end_loop(loop);
}

TEST(cancelled_while_racing) {
    give_up_racing(0);
}

TEST(timed_out_while_racing) {
    give_up_racing(1);
}

TEST(the_loop_closed_while_racing) {
    give_up_racing(2);
}

static void give_up_made(int how) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_future *future;
    int fds[2];
    char byte;
    unix_pair(fds);
    future = peer_adopt(&peer, loop, "", fds[0]);
    if (how == 0) {
        CHECK_INT(evl_future_cancel(future, NULL), 1);
        CHECK_INT(peer.frees, 0);
        finish(loop, future);
        UNTIL(loop, peer.frees);
        CHECK_CODE(end_code(future), EVL_ECANCELLED);
        CHECK_TRACE("made lost");
        CHECK_INT(peer.code, 0);
        CHECK_INT(recv(fds[1], &byte, 1, 0), 0);
    } else {
        CHECK_CODE(evl_loop_close(loop), 0);
        expect_failure(future, &peer, EVL_EINVALIDSTATE);
        CHECK_INT(recv(fds[1], &byte, 1, 0), 0);
    }
    peer_end(&peer);
    close(fds[1]);
    end_loop(loop);
}

TEST(cancelled_when_made) {
    give_up_made(0);
}

TEST(the_loop_closed_when_made) {
    give_up_made(1);
}

static evl_future *to_cancel;

static void cancel_in_made(struct peer *peer, const char *what) {
    (void)peer;
    if (strcmp(what, "made") == 0)
        CHECK_INT(evl_future_cancel(to_cancel, NULL), 1);
}

TEST(cancelled_in_connection_made) {
    evl_loop *loop = real_loop();
    struct peer peer;
    int fds[2];
    unix_pair(fds);
    to_cancel = peer_adopt(&peer, loop, "", fds[0]);
    peer.at = cancel_in_made;
    UNTIL(loop, peer.frees);
    CHECK_CODE(end_code(to_cancel), EVL_ECANCELLED);
    CHECK_TRACE("made lost");
    peer_end(&peer);
    close(fds[1]);
    end_loop(loop);
}

/* Nobody keeps the future: the connection is made all the same. */
TEST(without_a_future) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct peer peer;
    char service[10];
    evl_connect_options options = connect_options("localhost", service);
    evl_protocol p = peer_protocol();
    snprintf(service, sizeof service, "%d", crowd_serve(&crowd, loop, 0));
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_connection(loop, &options, &p, &peer, peer_free, NULL), 0);
    UNTIL(loop, peer.made);
    peer_close(&peer);
    UNTIL(loop, crowd.peers[0].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
    trace_reset();
}

/* --- the peer resets */

enum { IDLE, PAUSED, QUEUED_WRITES, WRITE_EOF, KEPT_EOF, CLOSING, BEFORE_MADE, STATES };

TEST(reset_in_every_state) {
    static char block[8000000];
    int state;
    for (state = 0; state < STATES; state++) {
        evl_loop *loop = reporting_loop();
        struct peer a;
        evl_future *future;
        struct probe owned = probe_named(NULL, NULL);
        uint64_t events;
        int fds[2], i;
        tcp_pair(fds);
        future = peer_adopt(&a, loop, NULL, fds[0]);
        a.keep = 1;
        if (state != BEFORE_MADE)
            finish(loop, future);
        switch (state) {
        case PAUSED:
            CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
            idle(loop);
            break;
        case QUEUED_WRITES:
        case CLOSING:
            CHECK_CODE(evl_transport_write_owned(a.transport, block, sizeof block, &owned, probe_free), 0);
            CHECK(queued(a.transport) > 0);
            if (state == CLOSING)
                CHECK_CODE(evl_transport_close(a.transport), 0);
            break;
        case WRITE_EOF:
            CHECK_CODE(evl_transport_write_eof(a.transport), 0);
            break;
        case KEPT_EOF:
            shutdown(fds[1], SHUT_WR);
            UNTIL(loop, a.eofs);
            break;
        }
        reset(fds[1]);
        if (state == PAUSED || state == KEPT_EOF) {
            /* It is not looked at: nothing is told, and nothing spins. */
            idle(loop);
            events = event_count(loop);
            for (i = 0; i < 5; i++)
                CHECK(evl_loop_run_once(loop, EVL_MS(5)) >= 0);
            CHECK(event_count(loop) <= events + 1);
            CHECK_INT(a.lost, 0);
            if (state == PAUSED)
                CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
            else
                CHECK_CODE(evl_transport_write(a.transport, "x", 1), 0);
        }
        UNTIL(loop, a.lost);
        finish(loop, future);
        CHECK_CODE(end_code(future), 0);
        if (state == KEPT_EOF)
            CHECK(a.code == -EPIPE || a.code == -ECONNRESET);
        else
            CHECK_CODE(a.code, -ECONNRESET);
        CHECK_INT(reports.count, 0);
        if (state == QUEUED_WRITES || state == CLOSING)
            CHECK_INT(owned.frees, 1);
        CHECK_INT(a.frees, 1);
        peer_end(&a);
        end_loop(loop);
    }
}

/* A connection that was reset before it was taken. */
TEST(reset_before_it_is_accepted) {
    evl_loop *loop = reporting_loop();
    static struct crowd crowd;
    int port = crowd_serve(&crowd, loop, 0), fd = dial(port), good;
    struct sockaddr_in address;
    reset(fd);
    good = dial(port);
    put(good, "good");
    UNTIL(loop, crowd.count >= 1 && crowd.peers[crowd.count - 1].total == 4);
    if (crowd.count == 2) {
        UNTIL(loop, crowd.peers[0].lost);
        CHECK_CODE(crowd.peers[0].code, -ECONNRESET);
        CHECK_INT(crowd.peers[0].made, 1);
        CHECK_CODE(evl_transport_get_peername(crowd.peers[0].transport, &address, sizeof address), -EBADF);
    }
    CHECK_INT(reports.count, 0);
    close(good);
    UNTIL(loop, crowd.peers[crowd.count - 1].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

/* A descriptor's number that the host watches still, though it has closed it: the connection fails, and leaks nothing. */
TEST(a_number_that_is_watched_already) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct peer peer;
    char name[60] = "";
    size_t size = 1 + (size_t)snprintf(name + 1, sizeof name - 1, "evl-test-number-%d", (int)getpid());
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    int stale, before;
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_unix_server(loop, name, size, NULL, crowd_make, &crowd, crowd_free, &future), 0);
    crowd.server = server_of(loop, future);
    CHECK(evl_loop_run_once(loop, EVL_MS(1)) >= 0);
    before = count_descriptors();
    {
        int fds[2];
        unix_pair(fds);
        stale = fds[0];
        CHECK_CODE(evl_loop_add_reader(loop, stale, nothing, NULL, NULL, NULL, NULL), 0);
        close_pair(fds);
    }
    peer_init(&peer, loop, "");
    CHECK_CODE(evl_loop_create_unix_connection(loop, name, size, &p, &peer, peer_free, &future), 0);
    finish(loop, future);
    expect_failure(future, &peer, EVL_EBUSY);
    CHECK(evl_loop_remove_reader(loop, stale) >= 0);
    UNTIL(loop, crowd.count == 1 && crowd.peers[0].lost);
    CHECK_INT(count_descriptors(), before);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

/* --- addresses beside each other */

static void race_localhost(int64_t delay, int interleave) {
    evl_loop *loop = real_loop();
    static struct crowd crowd;
    struct peer peer;
    char service[10];
    evl_connect_options options = connect_options("localhost", service);
    evl_future *future;
    snprintf(service, sizeof service, "%d", crowd_serve(&crowd, loop, 0));
    options.happy_eyeballs_delay_ns = delay;
    options.interleave = interleave;
    future = begin_with(&peer, loop, &options);
    finish(loop, future);
    CHECK_CODE(end_code(future), 0);
    peer_close(&peer);
    CHECK_TRACE("made lost");
    UNTIL(loop, crowd.count == 1 && crowd.peers[0].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

TEST(happy_eyeballs) {
    race_localhost(EVL_MS(250), 0);
    race_localhost(1, 0);
    race_localhost(EVL_FOREVER, 3);
    race_localhost(0, 1);
}

/* --- everything open */

TEST(the_loop_closed_with_everything_open) {
    static char block[8000000];
    evl_loop *loop = real_loop();
    struct peer open, written, half, made, racing;
    struct probe owned = probe_named(NULL, NULL);
    struct full full;
    evl_future *futures[2];
    int fds[4][2], i;
    full_open(&full);
    for (i = 0; i < 4; i++)
        tcp_pair(fds[i]);
    peer_open(&open, loop, NULL, fds[0][0]);
    peer_open(&written, loop, NULL, fds[1][0]);
    peer_open(&half, loop, NULL, fds[2][0]);
    futures[0] = peer_adopt(&made, loop, NULL, fds[3][0]);
    futures[1] = begin_connect(&racing, loop, NULL, "127.0.0.1", full.port);
    CHECK_CODE(evl_transport_write_owned(written.transport, block, sizeof block, &owned, probe_free), 0);
    CHECK_CODE(evl_transport_close(written.transport), 0);
    CHECK_CODE(evl_transport_write_eof(half.transport), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(open.lost + written.lost + half.lost + made.lost + racing.lost, 0);
    CHECK_INT(open.frees + written.frees + half.frees + made.frees + racing.frees, 5);
    CHECK_INT(owned.frees, 1);
    for (i = 0; i < 4; i++) {
        CHECK(!is_open(fds[i][0]));
        close(fds[i][1]);
    }
    CHECK_CODE(evl_transport_write(open.transport, "x", 1), EVL_ECLOSED);
    peer_end(&open);
    peer_end(&written);
    peer_end(&half);
    for (i = 0; i < 2; i++) {
        CHECK_INT(evl_future_done(futures[i]), 0);
        evl_future_unref(futures[i]);
    }
    full_close(&full);
    evl_loop_unref(loop);
    await_threads(1);
}

TEST_MAIN()
