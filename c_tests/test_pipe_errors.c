/* Pipe transports when things go wrong: peers that go, protocols that raise or close in every callback, loops that are closed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "harness.h"

struct side {
    evl_loop *loop;
    evl_transport *transport;
    const char *act_at; /* the callback in which something is done */
    int (*act)(struct side *side);
    int made, data, eof, code, lost, pauses, resumes, frees, acted;
    size_t total;
};

static void told(struct side *side, const char *what) {
    CHECK_INT(side->lost, 0);
    CHECK_INT(side->frees, 0);
    if (side->act_at && strcmp(side->act_at, what) == 0) {
        side->acted++;
        side->act(side);
    }
}

static void connection_made(evl_transport *transport, void *arg) {
    struct side *side = (struct side *)arg;
    CHECK(transport == side->transport || side->transport == NULL);
    CHECK_INT(side->made++, 0);
    told(side, "made");
}

static void data_received(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct side *side = (struct side *)arg;
    (void)transport;
    (void)data;
    side->data++;
    side->total += size;
    told(side, "data");
}

static int eof_received(evl_transport *transport, void *arg) {
    (void)transport;
    ((struct side *)arg)->eof++;
    told((struct side *)arg, "eof");
    return 0;
}

static void connection_lost(evl_transport *transport, int code, void *arg) {
    struct side *side = (struct side *)arg;
    (void)transport;
    side->code = code;
    told(side, "lost");
    side->lost++;
}

static void pause_writing(evl_transport *transport, void *arg) {
    (void)transport;
    ((struct side *)arg)->pauses++;
    told((struct side *)arg, "pause");
}

static void resume_writing(evl_transport *transport, void *arg) {
    (void)transport;
    ((struct side *)arg)->resumes++;
    told((struct side *)arg, "resume");
}

static void side_free(void *arg) {
    ((struct side *)arg)->frees++;
}

static void open_side(struct side *side, evl_loop *loop, int fd, int writes) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = connection_made;
    p.data_received = data_received;
    p.eof_received = eof_received;
    p.connection_lost = connection_lost;
    p.pause_writing = pause_writing;
    p.resume_writing = resume_writing;
    memset(side, 0, sizeof *side);
    side->loop = loop;
    if (writes)
        CHECK_CODE(evl_loop_connect_write_pipe(loop, fd, &p, side, side_free, &side->transport), 0);
    else
        CHECK_CODE(evl_loop_connect_read_pipe(loop, fd, &p, side, side_free, &side->transport), 0);
}

static void idle(evl_loop *loop) {
    CHECK(evl_loop_run_until_idle(loop) >= 0);
}

static int handled, handled_code;
static char handled_message[300];
static evl_transport *handled_transport;

static void handler(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    handled++;
    handled_code = exception->code;
    handled_transport = exception->transport;
    snprintf(handled_message, sizeof handled_message, "%s", exception->message);
}

static evl_loop *handled_loop(void) {
    evl_loop *loop = real_loop();
    handled = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, handler, NULL, NULL), 0);
    return loop;
}

static char much[200000];

/* --- the peer goes */

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int number) {
    (void)number;
    sigpipes++;
}

TEST(the_reader_goes_while_nothing_is_written) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    open_side(&side, loop, fds[1], 1);
    idle(loop);
    close(fds[0]);
    idle(loop);
    CHECK_INT(side.lost, 1);
    CHECK_CODE(side.code, 0);
    CHECK_INT(handled, 0);
    CHECK_CODE(evl_transport_write(side.transport, "x", 1), -EPIPE);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(the_reader_goes_while_something_is_queued) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    open_side(&side, loop, fds[1], 1);
    idle(loop);
    CHECK_CODE(evl_transport_write(side.transport, much, sizeof much), 0);
    close(fds[0]);
    idle(loop);
    CHECK_INT(side.lost, 1);
    CHECK_CODE(side.code, -EPIPE);
    CHECK_INT(handled, 0);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

static void write_to_nobody(int socket) {
    evl_loop *loop = handled_loop();
    struct side side;
    struct sigaction action, before, after;
    sigset_t mask, pending;
    int fds[2];
    REQUIRE((socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, fds) : pipe(fds)) == 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_sigpipe;
    sigaction(SIGPIPE, &action, &before);
    sigpipes = 0;
    open_side(&side, loop, fds[1], 1);
    idle(loop);
    close(fds[0]);
    CHECK_CODE(evl_transport_write(side.transport, "x", 1), 0);
    CHECK_INT(evl_transport_is_closing(side.transport), 1);
    CHECK_CODE(evl_transport_write(side.transport, "x", 1), -EPIPE);
    CHECK_INT(side.lost, 0);
    idle(loop);
    CHECK_INT(side.lost, 1);
    CHECK_CODE(side.code, -EPIPE);
    CHECK_INT(handled, 0);
    CHECK_INT(sigpipes, 0);
    sigaction(SIGPIPE, &before, &after);
    CHECK(after.sa_handler == on_sigpipe);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    CHECK_INT(sigismember(&mask, SIGPIPE), 0);
    sigpending(&pending);
    CHECK_INT(sigismember(&pending, SIGPIPE), 0);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(writing_to_nobody_raises_no_sigpipe) {
    write_to_nobody(0);
    write_to_nobody(1);
}

TEST(a_sigpipe_that_was_pending_stays_so) {
    evl_loop *loop = handled_loop();
    struct side side;
    sigset_t set, before, pending;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    pthread_kill(pthread_self(), SIGPIPE);
    open_side(&side, loop, fds[1], 1);
    close(fds[0]);
    CHECK_CODE(evl_transport_write(side.transport, "x", 1), 0);
    sigpending(&pending);
    CHECK_INT(sigismember(&pending, SIGPIPE), 1);
    {
        struct timespec zero = {0, 0};
        CHECK_INT(sigtimedwait(&set, NULL, &zero), SIGPIPE);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(the_socket_peer_goes) {
    evl_loop *loop = handled_loop();
    struct side reader, writer;
    int a[2], b[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, a) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, b) == 0);
    open_side(&reader, loop, a[0], 0);
    open_side(&writer, loop, b[0], 1);
    idle(loop);
    close(a[1]);
    close(b[1]);
    idle(loop);
    CHECK_INT(reader.eof, 1);
    CHECK_INT(reader.lost, 1);
    CHECK_INT(writer.lost, 1);
    CHECK_CODE(writer.code, 0);
    evl_transport_unref(reader.transport);
    evl_transport_unref(writer.transport);
    end_loop(loop);
}

/* A connection that is reset: a read fails. */
TEST(a_read_that_fails_is_told_and_closes) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    open_side(&side, loop, fds[0], 0);
    idle(loop);
    /* What the other end has not read when it closes resets the connection. */
    CHECK(write(fds[0], "unread", 6) == 6);
    close(fds[1]);
    idle(loop);
    CHECK_INT(side.lost, 1);
    CHECK_CODE(side.code, -ECONNRESET);
    CHECK_INT(handled, 1);
    CHECK(handled_transport == side.transport);
    CHECK_STRING(handled_message, "Fatal read error on pipe transport.");
    evl_transport_unref(side.transport);
    end_loop(loop);
}

/* --- wrong descriptors */

TEST(what_cannot_be_a_pipe) {
    evl_loop *loop = handled_loop();
    struct side side;
    evl_protocol p;
    evl_transport *out = NULL;
    char detail[100];
    int file = open("/proc/self/exe", O_RDONLY), fds[2];
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    memset(&side, 0, sizeof side);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, file, &p, &side, side_free, &out), -EINVAL);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "Pipe transport is for pipes/sockets only.");
    CHECK_CODE(evl_loop_connect_write_pipe(loop, file, &p, &side, side_free, &out), -EINVAL);
    CHECK(fcntl(file, F_GETFD) >= 0);
    close(file);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, file, &p, &side, side_free, &out), -EBADF);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, -1, &p, &side, side_free, &out), -EBADF);
    CHECK_INT(side.frees, 4);
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &side, side_free, &out), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &side, side_free, &out), EVL_EBUSY);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[0], &p, &side, side_free, &out), EVL_EBUSY);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
    CHECK(out == NULL);
    close(fds[1]);
    end_loop(loop);
}

/* --- doing something in every callback */

static int act_close(struct side *side) {
    return CHECK_CODE(evl_transport_close(side->transport), 0);
}

static int act_abort(struct side *side) {
    return CHECK_CODE(evl_transport_abort(side->transport), 0);
}

static int act_raise(struct side *side) {
    (void)side;
    return CHECK_CODE(evl_raise(-4242, "on purpose"), 0);
}

static int act_unref(struct side *side) {
    if (side->acted == 1)
        evl_transport_unref(side->transport);
    return 0;
}

static int act_write(struct side *side) {
    if (side->acted < 5)
        evl_transport_write(side->transport, much, sizeof much);
    return 0;
}

static int act_everything(struct side *side) {
    size_t high, size;
    char text[100];
    evl_transport_pause_reading(side->transport);
    evl_transport_resume_reading(side->transport);
    evl_transport_set_write_buffer_limits(side->transport, 100, 0);
    evl_transport_get_write_buffer_limits(side->transport, &high, NULL);
    evl_transport_get_write_buffer_size(side->transport, &size);
    evl_transport_repr(side->transport, text, sizeof text);
    CHECK_CODE(evl_loop_close(side->loop), EVL_ERUNNING);
    evl_transport_write_eof(side->transport);
    return evl_transport_close(side->transport);
}

static void act_in(const char *where, int (*act)(struct side *side), int writes) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2], i, unrefs = act == act_unref;
    REQUIRE(pipe(fds) == 0);
    open_side(&side, loop, fds[writes], writes);
    side.act_at = where;
    side.act = act;
    if (writes) {
        evl_transport_write(side.transport, much, sizeof much);
    } else {
        CHECK(write(fds[1], much, 60000) == 60000);
        close(fds[1]);
    }
    for (i = 0; i < 50 && side.lost == 0; i++) {
        idle(loop);
        if (writes) {
            fcntl(fds[0], F_SETFL, O_NONBLOCK);
            while (read(fds[0], much, sizeof much) > 0) {
            }
            if (i == 20 && side.lost == 0)
                CHECK_CODE(evl_transport_close(side.transport), 0);
        }
    }
    CHECK_INT(side.made, 1);
    CHECK_INT(side.lost, 1);
    CHECK_INT(side.frees, 1);
    CHECK(side.acted > 0);
    if (act == act_raise) {
        char message[200];
        int fatal = strcmp(where, "pause") != 0 && strcmp(where, "resume") != 0;
        const char *name = strcmp(where, "made") == 0     ? "connection_made"
                           : strcmp(where, "data") == 0   ? "data_received"
                           : strcmp(where, "eof") == 0    ? "eof_received"
                           : strcmp(where, "lost") == 0   ? "connection_lost"
                           : strcmp(where, "pause") == 0  ? "pause_writing"
                                                          : "resume_writing";
        snprintf(message, sizeof message, "%sprotocol.%s() call failed: on purpose", fatal ? "Fatal error: " : "",
                 name);
        CHECK_STRING(handled_message, message);
        CHECK_CODE(handled_code, -4242);
        CHECK(handled_transport == side.transport);
        CHECK_CODE(side.code, fatal && strcmp(where, "lost") != 0 ? -4242 : 0);
    } else {
        CHECK_INT(handled, 0);
    }
    if (writes)
        close(fds[0]);
    if (!unrefs)
        evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(closed_aborted_raised_and_more_inside_of_every_callback) {
    static const char *const reading[] = {"made", "data", "eof", "lost"};
    static const char *const writing[] = {"made", "pause", "resume", "lost"};
    static int (*const acts[])(struct side *) = {act_close, act_abort, act_raise, act_unref, act_write, act_everything};
    size_t i, j;
    for (i = 0; i < 4; i++) {
        for (j = 0; j < sizeof acts / sizeof acts[0]; j++) {
            act_in(reading[i], acts[j], 0);
            act_in(writing[i], acts[j], 1);
        }
    }
}

static int act_exit(struct side *side) {
    (void)side;
    return CHECK_CODE(evl_raise_exit(7), 0);
}

TEST(exit_inside_of_a_callback_ends_the_run) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2], code = 0;
    REQUIRE(pipe(fds) == 0);
    open_side(&side, loop, fds[0], 0);
    side.act_at = "data";
    side.act = act_exit;
    CHECK(write(fds[1], "x", 1) == 1);
    close(fds[1]);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 7);
    side.act_at = NULL;
    idle(loop);
    CHECK_INT(side.lost, 1);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

static struct side *writer_side;

static int write_until_paused(struct side *side) {
    (void)side;
    CHECK_CODE(evl_raise(-1001, "the outer one"), 0);
    evl_transport_write(writer_side->transport, much, sizeof much);
    return 0;
}

TEST(a_raise_inside_of_pause_writing_is_not_the_writers) {
    evl_loop *loop = handled_loop();
    struct side reader, writer;
    int a[2], b[2];
    REQUIRE(pipe(a) == 0 && pipe(b) == 0);
    open_side(&reader, loop, a[0], 0);
    open_side(&writer, loop, b[1], 1);
    writer_side = &writer;
    reader.act_at = "data";
    reader.act = write_until_paused;
    writer.act_at = "pause";
    writer.act = act_raise;
    CHECK(write(a[1], "x", 1) == 1);
    idle(loop);
    CHECK_INT(handled, 2);
    CHECK_STRING(handled_message, "Fatal error: protocol.data_received() call failed: the outer one");
    CHECK_CODE(reader.code, -1001);
    CHECK_INT(writer.pauses, 1);
    CHECK_INT(writer.lost, 0);
    close(a[1]);
    close(b[0]);
    evl_transport_unref(reader.transport);
    evl_transport_unref(writer.transport);
    end_loop(loop);
}

/* --- the loop is closed */

TEST(the_loop_is_closed_with_everything_open) {
    evl_loop *loop = handled_loop();
    struct side sides[6];
    struct probe lent = probe_named(NULL, NULL);
    int fds[6][2], i, mine;
    for (i = 0; i < 6; i++) {
        REQUIRE(pipe(fds[i]) == 0);
        open_side(&sides[i], loop, fds[i][i % 2], i % 2);
        if (i == 1)
            idle(loop);
        if (i % 2)
            CHECK_CODE(evl_transport_write_owned(sides[i].transport, much, sizeof much, i == 1 ? &lent : NULL,
                                                 i == 1 ? probe_free : NULL), 0);
    }
    CHECK_CODE(evl_transport_close(sides[0].transport), 0);
    CHECK_CODE(evl_transport_close(sides[1].transport), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(lent.frees, 1);
    for (i = 0; i < 6; i++) {
        CHECK_INT(sides[i].lost, 0);
        CHECK_INT(sides[i].frees, 1);
        CHECK_INT(evl_transport_is_closing(sides[i].transport), 1);
        CHECK_CODE(evl_transport_close(sides[i].transport), EVL_ECLOSED);
        CHECK_CODE(evl_transport_write(sides[i].transport, "x", 1), EVL_ECLOSED);
        CHECK_CODE(evl_transport_get_fd(sides[i].transport), -EBADF);
        mine = fds[i][1 - i % 2];
        CHECK(fcntl(fds[i][i % 2], F_GETFD) < 0);
        close(mine);
    }
    evl_loop_unref(loop);
    for (i = 0; i < 6; i++)
        evl_transport_unref(sides[i].transport);
}

static void close_in_child(void *arg) {
    struct side *side = (struct side *)arg;
    CHECK_CODE(evl_transport_write(side->transport, "x", 1), EVL_EFORKED);
    CHECK_CODE(evl_loop_close(side->loop), 0);
    evl_transport_unref(side->transport);
    evl_loop_unref(side->loop);
}

TEST(a_forked_child_closes_its_copy) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    open_side(&side, loop, fds[0], 0);
    idle(loop);
    CHECK_INT(in_child(close_in_child, &side), 0);
    CHECK(write(fds[1], "x", 1) == 1);
    idle(loop);
    CHECK_INT(side.total, 1);
    close(fds[1]);
    idle(loop);
    CHECK_INT(side.lost, 1);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(a_descriptor_closed_behind_the_transports_back) {
    evl_loop *loop = handled_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    open_side(&side, loop, fds[1], 1);
    idle(loop);
    close(fds[1]);
    CHECK_CODE(evl_transport_write(side.transport, "x", 1), 0);
    idle(loop);
    CHECK_INT(side.lost, 1);
    CHECK_CODE(side.code, -EBADF);
    close(fds[0]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST_MAIN()
