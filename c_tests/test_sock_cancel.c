/* Operations on sockets that are cancelled, time out, or lose their descriptor or their loop, at every stage. */
#include "harness.h"
#include "sockets.h"

#include <poll.h>


enum { RECV, RECV_INTO, RECVFROM, RECVFROM_INTO, SENDALL, SENDTO, SENDFILE, ACCEPT, CONNECT, KINDS };

struct begun {
    evl_future *future;
    int fds[3]; /* the first is what is waited for */
    char *buffer;
};

static struct begun begin(evl_loop *loop, int kind) {
    struct begun b = {NULL, {-1, -1, -1}, (char *)calloc(1, 1 << 22)};
    struct sockaddr_in address;
    size_t size = 1 << 22;
    int i;
    if (kind == RECV || kind == RECV_INTO || kind == SENDALL || kind == SENDFILE)
        tcp_pair(b.fds);
    else if (kind != ACCEPT && kind != CONNECT)
        CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, b.fds) == 0);
    switch (kind) {
    case RECV:
        CHECK_CODE(evl_loop_sock_recv(loop, b.fds[0], 100, &b.future), 0);
        break;
    case RECV_INTO:
        CHECK_CODE(evl_loop_sock_recv_into(loop, b.fds[0], b.buffer, 100, &b.future), 0);
        break;
    case RECVFROM:
        CHECK_CODE(evl_loop_sock_recvfrom(loop, b.fds[0], 100, &b.future), 0);
        break;
    case RECVFROM_INTO:
        CHECK_CODE(evl_loop_sock_recvfrom_into(loop, b.fds[0], b.buffer, 100, &b.future), 0);
        break;
    case SENDALL:
        CHECK_CODE(evl_loop_sock_sendall(loop, b.fds[0], b.buffer, size, &b.future), 0);
        break;
    case SENDTO:
        while (send(b.fds[0], "x", 1, MSG_DONTWAIT) == 1)
            ;
        CHECK_CODE(evl_loop_sock_sendto(loop, b.fds[0], b.buffer, 10, NULL, 0, &b.future), 0);
        break;
    case SENDFILE:
        b.fds[2] = random_file(4 << 20, 3, NULL);
        CHECK_CODE(evl_loop_sock_sendfile(loop, b.fds[0], b.fds[2], 0, 0, &b.future), 0);
        break;
    case ACCEPT:
        b.fds[0] = listening(&address, 5);
        CHECK_CODE(evl_loop_sock_accept(loop, b.fds[0], &b.future), 0);
        b.fds[1] = socket(AF_INET, SOCK_STREAM, 0);
        break;
    case CONNECT:
        /* The backlog of fds[1] is full, so that connecting takes its time. */
        b.fds[1] = listening(&address, 0);
        b.fds[2] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(b.fds[2], (struct sockaddr *)&address, sizeof address) == 0);
        for (i = 0; i < 8; i++) {
            b.fds[0] = tcp_socket();
            CHECK_CODE(evl_loop_sock_connect(loop, b.fds[0], &address, sizeof address, &b.future), 0);
            {
                struct pollfd answered = {b.fds[0], POLLOUT, 0};
                if (poll(&answered, 1, 20) == 0)
                    break;
            }
            /* There was room for one more. */
            finish(loop, b.future);
            evl_future_unref(b.future);
            close(b.fds[0]);
        }
        break;
    }
    CHECK_INT(evl_future_done(b.future), 0);
    return b;
}

/* Makes the operation's descriptor ready. */
static void make_ready(struct begun *b, int kind) {
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    switch (kind) {
    case SENDALL:
    case SENDTO:
    case SENDFILE:
        CHECK(drain(b->fds[1]) > 0);
        break;
    case ACCEPT:
        CHECK(getsockname(b->fds[0], (struct sockaddr *)&address, &size) == 0);
        CHECK(connect(b->fds[1], (struct sockaddr *)&address, size) == 0);
        break;
    case CONNECT:
        shutdown(b->fds[0], SHUT_RDWR);
        break;
    default:
        CHECK(send(b->fds[1], "data", 4, 0) == 4);
    }
}

static void end_begun(struct begun *b) {
    int i;
    for (i = 0; i < 3; i++)
        if (b->fds[i] >= 0)
            close(b->fds[i]);
    free(b->buffer);
}

/* It is cancelled, and nothing touches its buffer any more. */
static void cancelled_now(evl_loop *loop, struct begun *b, int kind) {
    char text[100] = "";
    CHECK_INT(evl_future_cancel(b->future, "not wanted"), 1);
    CHECK_INT(evl_future_cancelled(b->future), 1);
    CHECK_INT(evl_future_cancel(b->future, NULL), 0);
    CHECK_INT(watchers(loop), 0);
    free(b->buffer); /* valgrind would tell */
    b->buffer = NULL;
    CHECK(evl_future_error_message(b->future, text, sizeof text) > 0);
    CHECK_STRING(text, "not wanted");
    if (kind != CONNECT && kind != ACCEPT)
        make_ready(b, kind);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_CODE(end_code(b->future), EVL_ECANCELLED);
}

TEST(cancelled_before_the_first_poll) {
    evl_loop *loop = real_loop();
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct begun b = begin(loop, kind);
        cancelled_now(loop, &b, kind);
        end_begun(&b);
    }
    end_loop(loop);
}

TEST(cancelled_while_it_waits) {
    evl_loop *loop = real_loop();
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct begun b = begin(loop, kind);
        CHECK_CODE(evl_loop_run_once(loop, 0) < 0, 0);
        CHECK_CODE(evl_loop_run_once(loop, 0) < 0, 0);
        cancelled_now(loop, &b, kind);
        end_begun(&b);
    }
    end_loop(loop);
}

TEST(cancelled_when_it_is_ready_but_was_not_called) {
    evl_loop *loop = real_loop();
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct begun b = begin(loop, kind);
        CHECK_CODE(evl_loop_run_once(loop, 0) < 0, 0);
        make_ready(&b, kind);
        CHECK_INT(evl_future_cancel(b.future, NULL), 1);
        free(b.buffer);
        b.buffer = NULL;
        CHECK_INT(watchers(loop), 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), 0);
        CHECK_CODE(end_code(b.future), EVL_ECANCELLED);
        end_begun(&b);
    }
    end_loop(loop);
}

struct canceller {
    struct begun b;
    int fd;
};

static void cancel_other(void *arg) {
    struct canceller *c = (struct canceller *)arg;
    char byte;
    CHECK(read(c->fd, &byte, 1) == 1);
    CHECK_INT(evl_future_cancel(c->b.future, NULL), 1);
    free(c->b.buffer);
    c->b.buffer = NULL;
}

/* Both are found ready by one poll, and the first cancels the second, whose call is in the queue already. */
TEST(cancelled_when_its_call_is_queued) {
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        evl_loop *loop = real_loop();
        struct canceller c;
        int pipes[2], rounds = 0;
        if (kind == CONNECT)
            continue; /* its readiness cannot be ordered */
        REQUIRE(pipe(pipes) == 0);
        c.fd = pipes[0];
        CHECK_CODE(evl_loop_add_reader(loop, pipes[0], cancel_other, &c, NULL, NULL, NULL), 0);
        c.b = begin(loop, kind);
        CHECK(write(pipes[1], "x", 1) == 1);
        make_ready(&c.b, kind);
        while (!evl_future_done(c.b.future) && rounds++ < 1000)
            CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0);
        if (evl_future_cancelled(c.b.future))
            CHECK_CODE(evl_future_result(c.b.future, NULL), EVL_ECANCELLED);
        CHECK_INT(watchers(loop), 1);
        evl_future_unref(c.b.future);
        end_begun(&c.b);
        close_pair(pipes);
        end_loop(loop);
    }
}

TEST(timeouts) {
    evl_loop *loop = real_loop();
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct begun b = begin(loop, kind);
        CHECK_CODE(evl_future_set_timeout(b.future, EVL_MS(1)), 0);
        finish(loop, b.future);
        free(b.buffer);
        b.buffer = NULL;
        CHECK_INT(watchers(loop), 0);
        CHECK_INT(evl_future_cancelled(b.future), 0);
        CHECK_CODE(end_code(b.future), -ETIMEDOUT);
        end_begun(&b);
    }
    end_loop(loop);
}

TEST(unreffed_while_it_waits) {
    evl_loop *loop = real_loop();
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct begun b = begin(loop, kind);
        evl_future_unref(b.future);
        CHECK_INT(watchers(loop), 1);
        if (kind != CONNECT) {
            int rounds = 0;
            while (watchers(loop) > 0 && rounds++ < 10000) {
                if (kind == SENDALL || kind == SENDTO || kind == SENDFILE)
                    drain(b.fds[1]);
                else if (rounds == 1)
                    make_ready(&b, kind);
                CHECK(evl_loop_run_once(loop, EVL_SECONDS(10)) >= 0);
            }
            CHECK_INT(watchers(loop), 0);
        } else {
            evl_future *none = NULL;
            CHECK_CODE(evl_loop_sock_sendall(loop, b.fds[0], "x", 1, &none), EVL_EBUSY);
            evl_loop_unref(evl_loop_ref(loop));
            CHECK_CODE(evl_loop_close(loop), 0);
            evl_loop_unref(loop);
            loop = real_loop();
        }
        end_begun(&b);
    }
    end_loop(loop);
}

TEST(the_loop_is_closed_with_everything_open) {
    evl_loop *loop = real_loop();
    struct begun b[KINDS];
    struct probe probes[KINDS];
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        b[kind] = begin(loop, kind);
        probes[kind] = probe_named(NULL, loop);
        CHECK_CODE(evl_future_set_data(b[kind].future, &probes[kind], probe_free), 0);
    }
    for (kind = 0; kind < KINDS; kind++)
        if (kind != CONNECT)
            make_ready(&b[kind], kind);
    CHECK_CODE(evl_loop_close(loop), 0);
    for (kind = 0; kind < KINDS; kind++) {
        free(b[kind].buffer);
        b[kind].buffer = NULL;
        CHECK_INT(evl_future_done(b[kind].future), 0);
        CHECK_CODE(evl_future_cancel(b[kind].future, NULL), EVL_ECLOSED);
        evl_future_unref(b[kind].future);
        CHECK_PROBE(probes[kind], 0, 1);
        end_begun(&b[kind]);
    }
    CHECK_CODE(evl_loop_sock_recv(loop, 0, 1, NULL), EVL_ECLOSED);
    evl_loop_unref(loop);
}

/* Which asyncio leaves undefined. */
TEST(closed_while_an_operation_waits) {
    evl_loop *loop = real_loop();
    int kind;
    for (kind = 0; kind < KINDS; kind++) {
        struct begun b = begin(loop, kind);
        evl_future *other = NULL;
        int fds[2];
        CHECK_CODE(evl_loop_run_once(loop, 0) < 0, 0);
        close(b.fds[0]);
        /* Others go on. */
        unix_pair(fds);
        CHECK(fds[0] == b.fds[0] || fds[1] == b.fds[0]);
        if (fds[1] == b.fds[0]) {
            fds[1] = fds[0];
            fds[0] = b.fds[0];
        }
        CHECK_CODE(evl_loop_sock_recv(loop, fds[1], 1, &other), 0);
        CHECK(send(fds[0], "x", 1, 0) == 1);
        finish(loop, other);
        CHECK(end_bytes(other, "x"));
        CHECK_INT(evl_future_done(b.future), 0);
        CHECK_INT(evl_future_cancel(b.future, NULL), 1);
        CHECK_CODE(end_code(b.future), EVL_ECANCELLED);
        /* The number is free again. */
        CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &other), 0);
        CHECK(send(fds[1], "y", 1, 0) == 1);
        finish(loop, other);
        CHECK(end_bytes(other, "y"));
        CHECK_INT(watchers(loop), 0);
        close(fds[1]);
        end_begun(&b); /* closes fds[0] */
    }
    end_loop(loop);
}

TEST_MAIN()
