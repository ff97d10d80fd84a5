/* Streams: how they are opened, served by functions and by tasks, kept, given up, and made of transports. */
#include "reading.h"

#include <sys/stat.h>

static struct {
    int calls, frees, raise, keep;
    evl_stream *streams[8];
} served;

static void served_free(void *arg) {
    CHECK(arg == &served);
    served.frees++;
}

/* Keeps what it is told to. */
static void on_connected(evl_stream *stream, void *arg) {
    CHECK(arg == &served);
    CHECK(evl_stream_get_transport(stream) != NULL);
    if (served.keep && served.calls < 8)
        served.streams[served.calls] = evl_stream_ref(stream);
    served.calls++;
    if (served.raise)
        CHECK_CODE(evl_raise(served.raise, "on purpose"), 0);
}

static evl_server *start_server(evl_loop *loop, evl_connected_fn connected) {
    evl_server_options options;
    evl_future *future = NULL;
    memset(&served, 0, sizeof served);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    CHECK_CODE(evl_start_server(loop, &options, connected, &served, served_free, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    return server_of(loop, future);
}

static void end_server(evl_loop *loop, evl_server *server) {
    evl_future *closed = NULL;
    CHECK_CODE(evl_server_close(server), 0);
    CHECK_CODE(evl_server_wait_closed(server, &closed), 0);
    finish(loop, closed);
    evl_future_unref(closed);
    evl_server_unref(server);
    CHECK_INT(served.frees, 1);
}

static evl_future *open_to(evl_loop *loop, int port) {
    evl_connect_options options;
    evl_future *future = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    options.service = service;
    CHECK_CODE(evl_open_connection(loop, &options, &future), 0);
    return future;
}

/* Text goes both ways. */
static void talk(evl_loop *loop, evl_stream *a, evl_stream *b) {
    CHECK_CODE(evl_stream_write(a, "ping\n", 5), 0);
    CHECK_WILL_GIVE(loop, read_line(b), "ping\n");
    CHECK_CODE(evl_stream_write(b, "pong\n", 5), 0);
    CHECK_WILL_GIVE(loop, read_line(a), "pong\n");
}

TEST(a_client_and_a_server) {
    evl_loop *loop = real_loop();
    evl_server *server = start_server(loop, on_connected);
    evl_stream *client;
    served.keep = 1;
    client = stream_of(loop, open_to(loop, evl_server_port(server)));
    UNTIL(loop, served.calls == 1);
    CHECK(evl_stream_get_loop(client) == loop);
    CHECK(evl_stream_get_loop(served.streams[0]) == loop);
    CHECK_INT(evl_stream_is_closing(client), 0);
    talk(loop, client, served.streams[0]);
    end_stream(loop, client);
    CHECK_WILL_GIVE(loop, read_line(served.streams[0]), "");
    end_stream(loop, served.streams[0]);
    end_server(loop, server);
    end_loop(loop);
}

TEST(a_unix_client_and_server) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    evl_server *server;
    evl_stream *client;
    char name[64];
    int size = snprintf(name, sizeof name, "%cevl-streams-%d", 0, (int)getpid());
    memset(&served, 0, sizeof served);
    served.keep = 1;
    CHECK_CODE(evl_start_unix_server(loop, name, (size_t)size, NULL, on_connected, &served, served_free, &future), 0);
    server = server_of(loop, future);
    CHECK_CODE(evl_open_unix_connection(loop, name, (size_t)size, &future), 0);
    client = stream_of(loop, future);
    UNTIL(loop, served.calls == 1);
    talk(loop, client, served.streams[0]);
    evl_stream_unref(served.streams[0]);
    CHECK_WILL_GIVE(loop, read_line(client), "");
    end_stream(loop, client);
    end_server(loop, server);
    end_loop(loop);
}

TEST(a_server_of_a_socket) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *future = NULL;
    evl_server *server;
    evl_stream *client;
    memset(&served, 0, sizeof served);
    served.keep = 1;
    CHECK_CODE(evl_start_server_from_socket(loop, bound(SOCK_STREAM, &address), NULL, on_connected, &served,
                                            served_free, &future),
               0);
    server = server_of(loop, future);
    client = stream_of(loop, open_to(loop, ntohs(address.sin_port)));
    UNTIL(loop, served.calls == 1);
    talk(loop, served.streams[0], client);
    evl_stream_unref(client);
    end_stream(loop, served.streams[0]);
    end_server(loop, server);
    end_loop(loop);
}

TEST(nobody_listens) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    int fd = bound(SOCK_STREAM, &address);
    evl_future *future = open_to(loop, ntohs(address.sin_port));
    char text[200] = "";
    finish(loop, future);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK(strstr(text, "connection refused") != NULL);
    CHECK_CODE(end_code(future), -ECONNREFUSED);
    CHECK_CODE(evl_open_unix_connection(loop, "/nowhere/at/all", 15, &future), 0);
    CHECK_CODE(will_fail(loop, future), -ENOENT);
    close(fd);
    end_loop(loop);
}

TEST(opening_is_given_up) {
    evl_loop *loop = real_loop();
    evl_server *server = start_server(loop, on_connected);
    int stage, port = evl_server_port(server), before;
    served.keep = 1;
    /* The loop has all descriptors of its own. */
    end_stream(loop, stream_of(loop, open_to(loop, port)));
    UNTIL(loop, served.calls == 1);
    evl_stream_unref(served.streams[--served.calls]);
    idle(loop);
    before = count_descriptors();
    for (stage = 0; stage < 8; stage++) {
        evl_future *future = open_to(loop, port);
        int i;
        for (i = 0; i < stage && !evl_future_done(future); i++)
            CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
        if (evl_future_done(future))
            CHECK_CODE(evl_future_cancel(future, NULL), 0);
        else
            CHECK_CODE(evl_future_cancel(future, NULL), 1);
        evl_future_unref(future);
    }
    /* The output may be missing: then the stream is closed once it is open. */
    {
        int pair[2];
        char byte;
        unix_pair(pair);
        CHECK_CODE(evl_open_connection_from_socket(loop, pair[0], NULL), 0);
        idle(loop);
        CHECK(recv(pair[1], &byte, 1, 0) == 0);
        close(pair[1]);
    }
    idle(loop);
    while (served.calls > 0)
        evl_stream_unref(served.streams[--served.calls]);
    idle(loop);
    CHECK_INT(count_descriptors(), before);
    end_server(loop, server);
    end_loop(loop);
}

TEST(a_connection_that_nobody_wants_is_closed) {
    evl_loop *loop = reporting_loop();
    evl_server *server = start_server(loop, on_connected);
    int fd = dial(evl_server_port(server));
    char byte;
    UNTIL(loop, served.calls == 1);
    idle(loop);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    close(fd);
    /* One whose function fails is aborted, whoever keeps it. */
    served.raise = -EPERM;
    served.keep = 1;
    fd = dial(evl_server_port(server));
    UNTIL(loop, served.calls == 2);
    idle(loop);
    CHECK_INT(reports.count, 1);
    CHECK_CODE(reports.code, -EPERM);
    CHECK_STRING(reports.message, "Fatal error: protocol.connection_made() call failed: on purpose");
    CHECK(recv(fd, &byte, 1, 0) == 0);
    CHECK_CODE(end_code(read_some(served.streams[1], 1)), -EPERM);
    evl_stream_unref(served.streams[1]);
    close(fd);
    end_server(loop, server);
    end_loop(loop);
}

TEST(the_last_reference_closes) {
    evl_loop *loop = real_loop();
    int fd;
    char byte[10];
    evl_stream *stream = open_pair(loop, &fd), *same;
    evl_future *future;
    same = evl_stream_ref(stream);
    CHECK(same == stream);
    evl_stream_unref(stream);
    idle(loop);
    CHECK(recv(fd, byte, 1, 0) < 0 && errno == EAGAIN);
    /* A read that is under way keeps it. */
    future = read_line(same);
    CHECK_CODE(evl_stream_write(same, "bye", 3), 0);
    evl_stream_unref(same);
    feed(loop, fd, "still ");
    CHECK_INT(evl_future_done(future), 0);
    feed(loop, fd, "here\n");
    CHECK_GIVES(future, "still here\n");
    idle(loop);
    CHECK(recv(fd, byte, sizeof byte, 0) == 3);
    CHECK(recv(fd, byte, 1, 0) == 0);
    close(fd);
    /* So does a future whose result it is, and it goes with it. */
    {
        int fds[2];
        unix_pair(fds);
        CHECK_CODE(evl_open_connection_from_socket(loop, fds[0], &future), 0);
        finish(loop, future);
        idle(loop);
        CHECK(recv(fds[1], byte, 1, 0) < 0 && errno == EAGAIN);
        evl_future_unref(future);
        idle(loop);
        CHECK(recv(fds[1], byte, 1, 0) == 0);
        close(fds[1]);
    }
    end_loop(loop);
}

static void *unref_it(void *stream) {
    evl_stream_unref((evl_stream *)stream);
    return NULL;
}

TEST(the_last_reference_goes_in_another_thread) {
    evl_loop *loop = real_loop();
    int fd;
    char byte;
    evl_stream *stream = open_pair(loop, &fd);
    in_thread(unref_it, stream);
    idle(loop);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    close(fd);
    /* And when the loop is closed. */
    stream = open_pair(loop, &fd);
    CHECK_CODE(evl_loop_close(loop), 0);
    in_thread(unref_it, stream);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    close(fd);
    evl_loop_unref(loop);
}

static void unref_later(void *arg) {
    in_thread(unref_it, arg);
}

TEST(the_last_reference_goes_in_another_thread_while_the_loop_runs) {
    evl_loop *loop = real_loop();
    int fd;
    char byte;
    evl_stream *stream = open_pair(loop, &fd);
    feed(loop, fd, "unread");
    CHECK_CODE(evl_loop_call_soon(loop, unref_later, stream, NULL, NULL, NULL), 0);
    idle(loop);
    CHECK(recv(fd, &byte, 1, 0) == 0 || errno == ECONNRESET);
    close(fd);
    end_loop(loop);
}

/* --- tasks */

/* Answers each line in capitals; "fail" fails, "quit" ends. */
struct session {
    evl_stream *stream; /* the task keeps it */
    int state, *frees;
};

static int session_frees;

static void session_free(void *arg) {
    session_frees++;
    free(arg);
}

static int session_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct session *me = (struct session *)arg;
    const void *data;
    size_t size, i;
    char line[100];
    if (status < 0)
        return status;
    if (me->state == 1) {
        CHECK_CODE(evl_future_result_bytes(evl_task_get_awaited(task), &data, &size), 0);
        if (size == 0 || strcmp((const char *)data, "quit\n") == 0)
            return 0;
        if (strcmp((const char *)data, "fail\n") == 0) {
            CHECK_CODE(evl_raise(-EDOM, "as asked"), 0);
            return 0;
        }
        for (i = 0; i < size && i < sizeof line; i++) {
            line[i] = ((const char *)data)[i];
            if (line[i] >= 'a' && line[i] <= 'z')
                line[i] -= 32;
        }
        status = evl_stream_write(me->stream, line, i);
        if (status < 0)
            return status;
        me->state = 2;
        return evl_stream_drain(me->stream, next);
    }
    me->state = 1;
    return evl_stream_read_line(me->stream, next);
}

static evl_task *last_task;

static void serve_by_task(evl_stream *stream, void *arg) {
    struct session *me = (struct session *)calloc(1, sizeof *me);
    (void)arg;
    me->stream = stream;
    served.calls++;
    evl_task_unref(last_task);
    last_task = NULL;
    CHECK_CODE(evl_stream_create_task(stream, session_step, me, session_free, &last_task), 0);
}

static void expect_line(evl_loop *loop, int fd, const char *text) {
    char line[100] = "";
    size_t got = 0;
    while (got < strlen(text)) {
        ssize_t some = recv(fd, line + got, strlen(text) - got, MSG_DONTWAIT);
        if (some > 0)
            got += (size_t)some;
        else if (!CHECK(some < 0 && errno == EAGAIN) || !CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    }
    CHECK_STRING(line, text);
}

TEST(tasks_serve) {
    evl_loop *loop = reporting_loop();
    evl_server *server = start_server(loop, serve_by_task);
    int port = evl_server_port(server), fd = dial(port), other = dial(port);
    char byte;
    session_frees = 0;
    put(fd, "hello\nwor");
    put(other, "other\n");
    expect_line(loop, fd, "HELLO\n");
    expect_line(loop, other, "OTHER\n");
    put(fd, "ld\nquit\n");
    expect_line(loop, fd, "WORLD\n");
    /* A task that ends closes what nobody else has. */
    UNTIL(loop, session_frees == 1);
    idle(loop);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    close(fd);
    CHECK_INT(reports.count, 0);
    /* One that fails is told of. */
    put(other, "fail\n");
    UNTIL(loop, reports.count == 1);
    CHECK_CODE(reports.code, -EDOM);
    CHECK_STRING(reports.message, "Unhandled exception in client_connected_cb: as asked");
    idle(loop);
    CHECK(recv(other, &byte, 1, 0) == 0);
    close(other);
    CHECK_INT(session_frees, 2);
    /* A reset is an error, too: the task passes it on. */
    fd = dial(port);
    UNTIL(loop, served.calls == 3);
    idle(loop);
    reset(fd);
    UNTIL(loop, session_frees == 3);
    idle(loop);
    CHECK_INT(reports.count, 2);
    CHECK_CODE(reports.code, -ECONNRESET);
    /* A cancel is none. */
    fd = dial(port);
    UNTIL(loop, served.calls == 4);
    idle(loop);
    CHECK_CODE(evl_task_cancel(last_task, NULL), 1);
    UNTIL(loop, session_frees == 4);
    idle(loop);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    CHECK_INT(reports.count, 2);
    close(fd);
    /* The loop is closed while one reads. */
    fd = dial(port);
    UNTIL(loop, served.calls == 5);
    idle(loop);
    CHECK_CODE(evl_server_close(server), 0);
    evl_server_unref(server);
    evl_task_unref(last_task);
    last_task = NULL;
    end_loop(loop);
    CHECK_INT(session_frees, 5);
    CHECK_INT(served.frees, 1);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    close(fd);
}

/* --- from transports */

TEST(a_stream_of_standard_input) {
    evl_loop *loop = real_loop();
    int fds[2];
    evl_transport *transport = NULL;
    evl_protocol none;
    evl_stream *stream = NULL;
    evl_future *future;
    memset(&none, 0, sizeof none);
    none.size = sizeof none;
    CHECK(pipe(fds) == 0);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &none, NULL, NULL, &transport), 0);
    CHECK_CODE(evl_stream_from_transport(transport, &stream), 0);
    CHECK(evl_stream_get_transport(stream) == transport);
    evl_transport_unref(transport);
    future = read_line(stream);
    CHECK(write(fds[1], "a line\nand", 10) == 10);
    CHECK_WILL_GIVE(loop, future, "a line\n");
    CHECK_CODE(evl_stream_write(stream, "x", 1), -EOPNOTSUPP);
    CHECK_INT(evl_stream_can_write_eof(stream), 0);
    future = read_line(stream);
    close(fds[1]);
    CHECK_WILL_GIVE(loop, future, "and");
    end_stream(loop, stream);
    /* The other way. */
    CHECK(pipe(fds) == 0);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[1], &none, NULL, NULL, &transport), 0);
    idle(loop);
    CHECK_CODE(evl_stream_from_transport(transport, &stream), 0);
    evl_transport_unref(transport);
    CHECK_CODE(evl_stream_read(stream, 1, NULL), -EOPNOTSUPP);
    CHECK_CODE(evl_stream_write(stream, "abc", 3), 0);
    CHECK_CODE(end_code(begin_drain(stream)), 0);
    {
        char text[10] = "";
        CHECK(read(fds[0], text, sizeof text) == 3);
        CHECK_STRING(text, "abc");
    }
    end_stream(loop, stream);
    close(fds[0]);
    end_loop(loop);
}

TEST(protocols_become_streams_and_streams_protocols) {
    evl_loop *loop = real_loop();
    struct peer peer, second;
    evl_protocol p = peer_protocol();
    int fds[2];
    evl_stream *stream = NULL;
    evl_future *line, *drain;
    unix_pair(fds);
    peer_open(&peer, loop, NULL, fds[0]);
    feed(loop, fds[1], "for the protocol");
    CHECK_STRING(peer.data, "for the protocol");
    CHECK_CODE(evl_transport_pause_reading(peer.transport), 0);
    put(fds[1], "for the stream\n");
    CHECK_CODE(evl_stream_from_transport(peer.transport, &stream), 0);
    CHECK_INT(peer.frees, 1);
    idle(loop);
    CHECK_WILL_GIVE(loop, read_line(stream), "for the stream\n");
    /* And back: what waits fails. */
    line = read_line(stream);
    drain = begin_wait_closed(stream);
    peer_init(&second, loop, NULL);
    second.transport = peer.transport;
    second.made = 1;
    CHECK_CODE(evl_transport_set_protocol(peer.transport, &p, &second, peer_free), 0);
    CHECK_CODE(end_code(line), EVL_EINVALIDSTATE);
    CHECK_CODE(end_code(drain), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_stream_close(stream), 0);
    evl_stream_unref(stream);
    feed(loop, fds[1], "again");
    CHECK_STRING(second.data, "again");
    peer_close(&second);
    /* Too late. */
    CHECK(peer.lost == 0);
    close(fds[1]);
    unix_pair(fds);
    peer_open(&peer, loop, NULL, fds[0]);
    evl_transport_abort(peer.transport);
    UNTIL(loop, peer.lost);
    CHECK_CODE(evl_stream_from_transport(peer.transport, &stream), EVL_EINVALIDSTATE);
    peer_end(&peer);
    close(fds[1]);
    /* The peer's end had come before. */
    unix_pair(fds);
    peer_open(&peer, loop, NULL, fds[0]);
    peer.keep = 1;
    shutdown(fds[1], SHUT_WR);
    UNTIL(loop, peer.eofs);
    CHECK_CODE(evl_stream_from_transport(peer.transport, &stream), 0);
    CHECK_GIVES(read_line(stream), "");
    peer_end(&peer);
    end_stream(loop, stream);
    close(fds[1]);
    end_loop(loop);
}

/* A connection that a protocol takes over from inside of the function that is told of it. */
static struct {
    const char *how;
    struct peer peer;
    evl_stream *stream;
    evl_future *read;
    char room[10000];
} taken;

static void take_over(evl_stream *stream, void *arg) {
    evl_protocol p = peer_protocol();
    evl_transport *transport = evl_stream_get_transport(stream);
    CHECK(arg == NULL);
    if (strcmp(taken.how, "cancelled read") == 0)
        taken.read = read_exactly_into(stream, taken.room, sizeof taken.room);
    taken.peer.transport = evl_transport_ref(transport);
    taken.peer.made = 1;
    CHECK_CODE(evl_transport_set_protocol(transport, &p, &taken.peer, peer_free), 0);
    if (strcmp(taken.how, "cancelled read") == 0)
        CHECK_INT(evl_future_cancel(taken.read, NULL), 1);
    if (strcmp(taken.how, "late read") == 0)
        taken.read = read_exactly_into(stream, taken.room, sizeof taken.room);
    if (strcmp(taken.how, "closed") == 0)
        CHECK_CODE(evl_stream_close(stream), 0);
    if (strcmp(taken.how, "not kept") != 0)
        taken.stream = evl_stream_ref(stream);
}

TEST(a_protocol_takes_a_new_stream_over) {
    static const char *const hows[] = {"not kept", "closed", "cancelled read", "late read"};
    evl_loop *loop = real_loop();
    evl_server_options options;
    size_t i;
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    for (i = 0; i < sizeof hows / sizeof *hows; i++) {
        evl_future *future = NULL;
        evl_server *server;
        struct sockaddr_in address = loopback();
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        memset(&taken, 0, sizeof taken);
        peer_init(&taken.peer, loop, NULL);
        taken.how = hows[i];
        CHECK_CODE(evl_start_server(loop, &options, take_over, NULL, NULL, &future), 0);
        server = server_of(loop, future);
        address.sin_port = htons((uint16_t)evl_server_port(server));
        CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
        put(fd, "for the protocol");
        UNTIL(loop, taken.peer.size == 16 || taken.peer.lost);
        CHECK_STRING(taken.peer.data, "for the protocol");
        if (taken.read != NULL)
            CHECK_CODE(end_code(taken.read), i == 2 ? EVL_ECANCELLED : EVL_EINVALIDSTATE);
        if (taken.stream != NULL) {
            CHECK_CODE(evl_stream_read(taken.stream, 1, &future), 0);
            CHECK_CODE(end_code(future), EVL_EINVALIDSTATE);
            evl_stream_unref(taken.stream);
        }
        idle(loop);
        CHECK_INT(taken.peer.lost, 0);
        peer_close(&taken.peer);
        close(fd);
        CHECK_CODE(evl_server_close(server), 0);
        evl_server_unref(server);
    }
    end_loop(loop);
}

struct parent {
    evl_loop *loop;
    evl_stream *stream;
    evl_future *line;
};

/* Whatever a child does with its parent's streams, nothing happens. */
static void in_forked_child(void *arg) {
    struct parent *parent = (struct parent *)arg;
    evl_future *future = NULL;
    CHECK_CODE(evl_stream_read_line(parent->stream, &future), EVL_EFORKED);
    CHECK_CODE(evl_stream_write(parent->stream, "x", 1), EVL_EFORKED);
    CHECK_CODE(evl_stream_close(parent->stream), EVL_EFORKED);
    evl_stream_unref(parent->stream);
    CHECK_INT(evl_future_done(parent->line), 0);
    evl_future_unref(parent->line);
    end_loop(parent->loop);
}

TEST(forked) {
    struct parent parent;
    int fd, status;
    parent.loop = real_loop();
    parent.stream = open_pair(parent.loop, &fd);
    parent.line = read_line(parent.stream);
    status = in_child(in_forked_child, &parent);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    feed(parent.loop, fd, "all is well\n");
    CHECK_GIVES(parent.line, "all is well\n");
    end_stream(parent.loop, parent.stream);
    close(fd);
    end_loop(parent.loop);
}

TEST_MAIN()
