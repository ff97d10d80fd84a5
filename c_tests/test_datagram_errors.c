/* Datagram endpoints when things go wrong. */
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

/* A port where nobody is. */
static int free_port(void) {
    struct sockaddr_in address;
    close(bound(SOCK_DGRAM, &address));
    return ntohs(address.sin_port);
}

TEST(nobody_there) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = connected_endpoint(loop, free_port(), one_by_one(), &told);
    int i;
    REQUIRE(d != NULL);
    for (i = 1; i <= 3; i++) {
        CHECK_CODE(evl_datagram_sendto(d, "x", 1, NULL, 0), 0);
        until(loop, &told.errors, i);
        CHECK_CODE(told.error, -ECONNREFUSED);
    }
    CHECK_INT(evl_datagram_is_closing(d), 0);
    end_endpoint(loop, d, &told);
    CHECK_INT(told.lost_code, 0);
    end_loop(loop);
}

/* A refusal of what was sent before does not cost the datagrams that follow. */
TEST(refusal_is_no_loss) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    int fd, port = free_port();
    evl_datagram *d = connected_endpoint(loop, port, one_by_one(), &told);
    struct sockaddr_in name = loopback();
    REQUIRE(d != NULL);
    /* The kernel has its answer before sendto returns. */
    CHECK_CODE(evl_datagram_sendto(d, "lost", 4, NULL, 0), 0);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    name.sin_port = htons((uint16_t)port);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK_CODE(evl_datagram_sendto(d, "found", 5, NULL, 0), 0);
    CHECK_INT(drain(fd), 5);
    until(loop, &told.errors, 1);
    CHECK_CODE(told.error, -ECONNREFUSED);
    close(fd);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

/* The other end of a pair is gone: that is told, and nothing spins. */
TEST(peer_gone) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    int fds[2], i;
    evl_datagram *d;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
    REQUIRE(d != NULL);
    CHECK(send(fds[1], "last", 4, 0) == 4);
    close(fds[1]);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, NULL, 0), 0);
    until(loop, &told.errors, 1);
    for (i = 0; i < 10; i++)
        settle(loop);
    CHECK(told.errors <= 2 && told.received <= 1);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

TEST(message_too_long) {
    static char block[70000];
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    struct sockaddr_in to = name_of(d);
    evl_datagram_message messages[3];
    int i;
    CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, &to, sizeof to), 0);
    CHECK_INT(told.errors, 0); /* not from inside of sendto */
    until(loop, &told.errors, 1);
    CHECK_CODE(told.error, -EMSGSIZE);
    /* One of a batch: the others are sent. */
    memset(messages, 0, sizeof messages);
    for (i = 0; i < 3; i++) {
        messages[i].data = block;
        messages[i].size = i == 1 ? sizeof block : 10;
        messages[i].address = &to;
        messages[i].address_size = sizeof to;
    }
    CHECK_CODE(evl_datagram_send_batch(d, messages, 3), 0);
    until(loop, &told.received, 2);
    until(loop, &told.errors, 2);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

/* Datagrams that the device cannot carry in one frame are not the kernel's to split, but are sent. */
TEST(batches_of_large_ones) {
    static char block[3 * 30000];
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = bound_endpoint(loop, in_batches(), &told);
    struct sockaddr_in to = name_of(d);
    evl_datagram_message messages[3];
    int i;
    memset(messages, 0, sizeof messages);
    for (i = 0; i < 3; i++) {
        messages[i].data = block + i * 30000;
        messages[i].size = 30000;
        messages[i].address = &to;
        messages[i].address_size = sizeof to;
    }
    CHECK_CODE(evl_datagram_send_batch(d, messages, 3), 0);
    until(loop, &told.received, 3);
    CHECK(told.errors == 0 && told.last_size == 30000);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

static void close_it(struct told *told) {
    CHECK_CODE(evl_datagram_close(told->datagram), 0);
}

static void abort_it(struct told *told) {
    CHECK_CODE(evl_datagram_abort(told->datagram), 0);
}

/* Closed from inside of each callback: connection_lost follows, and nothing else. */
TEST(closed_from_inside) {
    void (*ways[])(struct told *) = {close_it, abort_it};
    int way, which, batch;
    for (way = 0; way < 2; way++)
        for (batch = 0; batch < 2; batch++)
            for (which = 0; which < 4; which++) {
                evl_loop *loop = real_loop();
                struct told told = told_nothing();
                evl_datagram *d;
                struct sockaddr_in to;
                int i;
                if (which == 0)
                    told.on_made = ways[way];
                if (which == 1)
                    told.on_received = ways[way];
                if (which == 2)
                    told.on_error = ways[way];
                told.on_lost = ways[way];
                d = bound_endpoint(loop, batch ? in_batches() : one_by_one(), &told);
                REQUIRE(d != NULL);
                if (which == 0) {
                    until(loop, &told.lost, 1);
                } else {
                    static char block[70000];
                    to = name_of(d);
                    for (i = 0; i < 5; i++)
                        CHECK_CODE(evl_datagram_sendto(d, "x", 1, &to, sizeof to), 0);
                    if (which == 2)
                        CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, &to, sizeof to), 0);
                    if (which == 3)
                        close_it(&told);
                    until(loop, &told.lost, 1);
                    if (which == 1 && !batch)
                        CHECK_INT(told.received, 1);
                }
                settle(loop);
                CHECK(told.lost == 1 && told.frees == 1 && told.lost_code == 0);
                evl_datagram_unref(d);
                CHECK_INT(watchers(loop), 0);
                end_loop(loop);
            }
}

/* Closed while it pauses and resumes. */
TEST(closed_by_flow_control) {
    int which;
    for (which = 0; which < 2; which++) {
        evl_loop *loop = real_loop();
        struct told told = told_nothing();
        char block[1000] = {0};
        int fds[2], i;
        evl_datagram *d;
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
        if (which == 0)
            told.on_pause = close_it;
        else
            told.on_resume = close_it;
        d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
        REQUIRE(d != NULL);
        CHECK_CODE(evl_datagram_set_write_buffer_limits(d, 5000, 0), 0);
        for (i = 0; i < 1000 && !told.pauses; i++) {
            CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, NULL, 0), 0);
            if (i % 50 == 0)
                settle(loop);
        }
        while (!told.lost && CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0))
            drain(fds[1]);
        settle(loop);
        CHECK(told.lost == 1 && told.frees == 1 && told.pauses == 1);
        evl_datagram_unref(d);
        close(fds[1]);
        end_loop(loop);
    }
}

static int reports;

static void count_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)arg;
    CHECK_CODE(exception->code, -EPROTO);
    CHECK(exception->datagram != NULL && exception->transport == NULL);
    CHECK(evl_datagram_get_loop(exception->datagram) == loop);
    CHECK(strstr(exception->message, "<Datagram") != NULL && strstr(exception->message, "why") != NULL);
    reports++;
}

static void raise_it(struct told *told) {
    (void)told;
    CHECK_CODE(evl_raise(-EPROTO, "why"), 0);
}

/* A protocol that fails is told of; the endpoint goes on. */
TEST(raising) {
    static char block[70000];
    evl_loop *loop = real_loop();
    struct told told = told_nothing(), first = told_nothing();
    evl_datagram *d;
    struct sockaddr_in to;
    reports = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, count_report, NULL, NULL), 0);
    told.on_received = told.on_error = told.on_lost = raise_it;
    d = bound_endpoint(loop, one_by_one(), &told);
    to = name_of(d);
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, &to, sizeof to), 0);
    CHECK_CODE(evl_datagram_sendto(d, "y", 1, &to, sizeof to), 0);
    until(loop, &told.received, 2);
    CHECK_INT(reports, 2);
    CHECK_CODE(evl_datagram_sendto(d, block, sizeof block, &to, sizeof to), 0);
    until(loop, &told.errors, 1);
    CHECK_INT(reports, 3);
    CHECK_INT(evl_datagram_is_closing(d), 0);
    end_endpoint(loop, d, &told);
    CHECK_INT(reports, 4);
    /* What cannot begin is aborted. */
    first.on_made = raise_it;
    d = bound_endpoint(loop, one_by_one(), &first);
    until(loop, &first.lost, 1);
    CHECK_CODE(first.lost_code, -EPROTO);
    CHECK_INT(reports, 5);
    settle(loop);
    evl_datagram_unref(d);
    end_loop(loop);
}

static void exit_now(struct told *told) {
    if (told->received == 1)
        CHECK_CODE(evl_raise_exit(3), 0);
}

/* What was received with the datagram that asked for the exit is not lost. */
TEST(exit_from_inside) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    struct sockaddr_in to = name_of(d);
    int i;
    told.on_received = exit_now;
    for (i = 0; i < 5; i++)
        CHECK_CODE(evl_datagram_sendto(d, "x", 1, &to, sizeof to), 0);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_EEXIT);
    until(loop, &told.received, 5);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

/* Closed with everything open: args are released, descriptors closed, nobody is told. */
TEST(loop_closed) {
    int before = count_descriptors();
    evl_loop *loop = real_loop();
    struct told a = told_nothing(), b = told_nothing(), c = told_nothing(), e = told_nothing();
    evl_datagram_protocol p = one_by_one();
    evl_datagram_options options = any_options();
    evl_future *made = NULL, *looking = NULL;
    evl_datagram *x = bound_endpoint(loop, one_by_one(), &a), *y;
    char block[1000] = {0};
    size_t size = 0;
    int fds[2], i;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    y = adopted_endpoint(loop, fds[0], one_by_one(), &b);
    while (size < 100000) {
        CHECK_CODE(evl_datagram_sendto(y, block, sizeof block, NULL, 0), 0);
        CHECK_CODE(evl_datagram_get_write_buffer_size(y, &size), 0);
    }
    options.local_host = "127.0.0.1";
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &c, told_free, &made), 0);
    options.local_host = "localhost";
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &e, told_free, &looking), 0);
    CHECK_CODE(evl_datagram_close(x), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK(a.frees == 1 && b.frees == 1 && c.frees == 1 && e.frees == 1);
    CHECK(a.lost == 0 && b.lost == 0 && c.made == 0 && e.made == 0);
    CHECK_CODE(evl_datagram_sendto(y, block, 1, NULL, 0), EVL_ECLOSED);
    CHECK_CODE(evl_datagram_get_fd(y), -EBADF);
    CHECK_INT(evl_datagram_is_closing(y), 1);
    CHECK_INT(evl_future_done(made), 0);
    evl_future_unref(made);
    evl_future_unref(looking);
    evl_datagram_unref(x);
    evl_datagram_unref(y);
    evl_loop_unref(loop);
    close(fds[1]);
    /* Whoever looks up "localhost" may still have a file open. */
    for (i = 0; i < 5000 && count_descriptors() != before; i++)
        usleep(1000);
    CHECK_INT(count_descriptors(), before);
}

/* Cancelled while names are looked up, and between the socket and the protocol. */
TEST(cancelled) {
    const char *hosts[] = {"localhost", "127.0.0.1"};
    int i;
    for (i = 0; i < 2; i++) {
        int before;
        evl_loop *loop = real_loop();
        struct told told = told_nothing();
        evl_datagram_protocol p = one_by_one();
        evl_datagram_options options = any_options();
        evl_future *future = NULL;
        before = count_descriptors();
        options.local_host = hosts[i];
        CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &told, told_free, &future), 0);
        CHECK_CODE(evl_future_cancel(future, NULL), 1);
        finish(loop, future);
        CHECK_INT(evl_future_cancelled(future), 1);
        evl_future_unref(future);
        settle(loop);
        settle(loop);
        CHECK_INT(told.frees, 1);
        CHECK_INT(told.lost, told.made);
        if (i == 1)
            CHECK_INT(count_descriptors(), before);
        end_loop_and_threads(loop);
    }
}

TEST(what_cannot_be_made) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing(), other = told_nothing();
    evl_datagram_protocol p = one_by_one();
    evl_datagram_options options = any_options();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &other);
    evl_future *future = NULL;
    char service[8], text[200] = "", expected[200];
    int code, before;
    options.local_host = "256.0.0.1";
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &told, told_free, &future), 0);
    finish(loop, future);
    code = end_code(future);
    CHECK(code < 0);
    CHECK_INT(told.frees, 1);
    before = count_descriptors();
    snprintf(service, sizeof service, "%d", ntohs(name_of(d).sin_port));
    options.local_host = "127.0.0.1";
    options.local_service = service;
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &told, told_free, &future), 0);
    finish(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), -EADDRINUSE);
    snprintf(expected, sizeof expected, "bind 127.0.0.1:%s: %s", service, evl_strerror(-EADDRINUSE));
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK_STRING(text, expected);
    evl_future_unref(future);
    CHECK_INT(told.frees, 2);
    options.local_service = NULL;
    options.remote_host = "::1";
    options.remote_service = "9";
    CHECK_CODE(evl_loop_create_datagram_endpoint(loop, &options, &p, &told, told_free, &future), 0);
    finish(loop, future);
    check_message(future, "can not get address information");
    CHECK_CODE(end_code(future), -EADDRNOTAVAIL);
    CHECK_INT(told.frees, 3);
    CHECK_CODE(evl_loop_create_unix_datagram_endpoint(loop, NULL, 0, "/nowhere/at/all", 15, &p, &told, told_free, NULL),
               -ENOENT);
    CHECK_INT(told.frees, 4);
    CHECK_INT(told.made, 0);
    CHECK_INT(count_descriptors(), before);
    end_endpoint(loop, d, &other);
    end_loop_and_threads(loop);
}

static void in_the_child(void *arg) {
    struct told *told = (struct told *)arg;
    CHECK_CODE(evl_datagram_sendto(told->datagram, "x", 1, NULL, 0), EVL_EFORKED);
    CHECK_CODE(evl_datagram_close(told->datagram), EVL_EFORKED);
    CHECK_INT(evl_datagram_is_closing(told->datagram), 0);
}

static void fork_inside(struct told *told) {
    fflush(NULL);
    if (fork() == 0) {
        in_the_child(told);
        CHECK_INT(told->received, 1);
        fflush(NULL);
        told->echo = -1;
    }
}

static void fork_and_run(void *arg) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    struct sockaddr_in to = name_of(d);
    int status = 0, before = harness_failures;
    (void)arg;
    told.on_received = fork_inside;
    CHECK_CODE(evl_datagram_sendto(d, "x", 1, &to, sizeof to), 0);
    while (told.received == 0)
        if (evl_loop_run_once(loop, EVL_SECONDS(10)) == EVL_EFORKED)
            break;
    if (told.echo == -1) {
        CHECK_CODE(evl_loop_close(loop), 0);
        evl_datagram_unref(d);
        evl_loop_unref(loop);
        fflush(NULL);
        _exit(harness_failures > before ? 1 : 0);
    }
    CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    end_endpoint(loop, d, &told);
    end_loop_and_threads(loop);
}

TEST(forked) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    CHECK_INT(in_child(in_the_child, &told), 0);
    end_endpoint(loop, d, &told);
    end_loop(loop);
    CHECK_INT(in_child(fork_and_run, NULL), 0);
}

static int is_child;

static void answer_and_fork(struct told *told) {
    CHECK_CODE(evl_datagram_sendto(told->datagram, told->last, told->last_size, &told->from, told->from_size), 0);
    fflush(NULL);
    if (told->received == 2)
        is_child = fork() == 0;
}

/* What was sent before is the parent's; what a child that goes on sends is sent. */
TEST(forked_while_several_are_told) {
    evl_loop *loop = real_loop();
    struct told told = told_nothing();
    struct sockaddr_in own, to;
    static const char *const expected[] = {"1", "2", "3", "child"};
    int fd = bound(SOCK_DGRAM, &own), i, status = 0, before = harness_failures;
    evl_datagram *d = bound_endpoint(loop, one_by_one(), &told);
    char text[2] = "", got[10];
    int ended[2];
    CHECK(pipe(ended) == 0);
    to = name_of(d);
    told.on_received = answer_and_fork;
    for (i = 0; i < 3; i++) {
        text[0] = (char)('1' + i);
        CHECK(sendto(fd, text, 1, 0, (struct sockaddr *)&to, sizeof to) == 1);
    }
    while (told.received < 3 && !is_child)
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0 || is_child);
    close(ended[1]);
    if (is_child) {
        /* When the parent has sent all. */
        CHECK(read(ended[0], text, 1) == 0);
        CHECK_CODE(evl_loop_after_fork(loop), 0);
        CHECK(evl_loop_run_once(loop, 0) >= 0);
        CHECK_CODE(evl_datagram_sendto(d, "child", 5, &own, sizeof own), 0);
        evl_datagram_unref(d);
        end_loop(loop);
        fflush(NULL);
        _exit(harness_failures > before);
    }
    CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(ended[0]);
    for (i = 0; i < 4; i++) {
        ssize_t size = recv(fd, got, sizeof got - 1, MSG_DONTWAIT);
        got[size > 0 ? size : 0] = 0;
        CHECK_STRING(got, expected[i]);
    }
    CHECK(recv(fd, got, sizeof got, MSG_DONTWAIT) < 0);
    close(fd);
    end_endpoint(loop, d, &told);
    end_loop(loop);
}

TEST_MAIN()
