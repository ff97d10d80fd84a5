/* Misuse of streams: NULL, wrong arguments, closed loops, other threads' loops, forked ones; and use from inside of everything. */
#include "reading.h"

#include <semaphore.h>

struct call {
    evl_loop *loop;
    evl_stream *stream;
    evl_transport *transport;
    int fd, listener;
};

static void not_connected(evl_stream *stream, void *arg) {
    (void)stream;
    (void)arg;
    CHECK(0 && "called");
}

static int no_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task;
    (void)status;
    (void)arg;
    (void)next;
    CHECK(0 && "called");
    return 0;
}

/* Every function that needs the loop, and whether it takes an arg over. */
#define CALLS(X)                                                                                                      \
    X(0, evl_open_connection(c->loop, &connect, &out))                                                                \
    X(0, evl_open_unix_connection(c->loop, "/tmp/x", 6, &out))                                                        \
    X(0, evl_open_connection_from_socket(c->loop, c->fd, &out))                                                       \
    X(1, evl_start_server(c->loop, &options, not_connected, &arg, probe_free, &out))                                  \
    X(1, evl_start_unix_server(c->loop, "/tmp/x", 6, &options, not_connected, &arg, probe_free, &out))                \
    X(1, evl_start_server_from_socket(c->loop, c->listener, &options, not_connected, &arg, probe_free, &out))         \
    X(0, evl_stream_from_transport(c->transport, &stream))                                                            \
    X(1, evl_stream_create_task(c->stream, no_step, &arg, probe_free, &task))                                         \
    X(0, evl_stream_read(c->stream, 10, &out))                                                                        \
    X(0, evl_stream_read(c->stream, -1, &out))                                                                        \
    X(0, evl_stream_read_into(c->stream, text, sizeof text, &out))                                                    \
    X(0, evl_stream_read_exactly(c->stream, 10, &out))                                                                \
    X(0, evl_stream_read_exactly_into(c->stream, text, sizeof text, &out))                                            \
    X(0, evl_stream_read_until(c->stream, "x", 1, &out))                                                              \
    X(0, evl_stream_read_line(c->stream, &out))                                                                       \
    X(0, evl_stream_set_limit(c->stream, 10))                                                                         \
    X(0, evl_stream_write(c->stream, "x", 1))                                                                         \
    X(0, evl_stream_writelines(c->stream, &buffer, 1))                                                                \
    X(0, evl_stream_write_eof(c->stream))                                                                             \
    X(0, evl_stream_drain(c->stream, &out))                                                                           \
    X(0, evl_stream_close(c->stream))                                                                                 \
    X(0, evl_stream_wait_closed(c->stream, &out))

static void expect_of_all(struct call *c, int code) {
    evl_connect_options connect;
    evl_server_options options;
    evl_buffer buffer = {"x", 1};
    evl_future *out = NULL;
    evl_stream *stream = NULL;
    evl_task *task = NULL;
    char text[10] = "";
    CHECK_CODE(evl_connect_options_init(&connect, sizeof connect), 0);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    connect.host = options.host = "127.0.0.1";
    connect.service = "9";
#define ONE(frees_arg, call)                                                                                          \
    {                                                                                                                 \
        struct probe arg = probe_named(NULL, NULL);                                                                   \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_INT(arg.frees, frees_arg);                                                                              \
    }
    CALLS(ONE)
#undef ONE
    CHECK(out == NULL);
    CHECK(stream == NULL);
    CHECK(task == NULL);
    CHECK_STRING(text, "");
    if (c->fd >= 0)
        CHECK(is_open(c->fd) && is_open(c->listener));
}

TEST(null_loops_streams_and_transports) {
    struct call c = {NULL, NULL, NULL, -1, -1};
    const void *data = NULL;
    size_t size = 0;
    expect_of_all(&c, -EINVAL);
    CHECK(evl_stream_ref(NULL) == NULL);
    evl_stream_unref(NULL);
    CHECK(evl_stream_get_loop(NULL) == NULL);
    CHECK(evl_stream_get_transport(NULL) == NULL);
    CHECK_INT(evl_stream_is_closing(NULL), 0);
    CHECK_INT(evl_stream_can_write_eof(NULL), 0);
    CHECK_INT(evl_stream_at_eof(NULL), 0);
    CHECK_INT(evl_stream_get_limit(NULL), 0);
    CHECK_CODE(evl_stream_get_error(NULL), -EINVAL);
    CHECK_CODE(evl_future_error_bytes(NULL, &data, &size), -EINVAL);
}

TEST(wrong_arguments) {
    evl_loop *loop = real_loop();
    struct probe arg = probe_named(NULL, NULL);
    int fd, file = open("/dev/null", O_RDWR), datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *out = NULL, *future;
    evl_connect_options connect;
    const void *data = NULL;
    size_t size = 4711;
    char detail[100] = "";
    CHECK_CODE(evl_open_connection(loop, NULL, &out), -EINVAL);
    CHECK_CODE(evl_connect_options_init(&connect, sizeof connect), 0);
    CHECK_CODE(evl_open_connection(loop, &connect, &out), -EINVAL);
    connect.size = 2;
    CHECK_CODE(evl_open_connection(loop, &connect, &out), EVL_EOPTIONS);
    CHECK_CODE(evl_open_unix_connection(loop, NULL, 5, &out), -EINVAL);
    CHECK_CODE(evl_open_unix_connection(loop, "", 0, &out), -ENAMETOOLONG);
    CHECK_CODE(evl_open_connection_from_socket(loop, -1, &out), -EBADF);
    CHECK_CODE(evl_open_connection_from_socket(loop, file, &out), -ENOTSOCK);
    CHECK_CODE(evl_open_connection_from_socket(loop, datagrams, &out), -EINVAL);
    CHECK_CODE(evl_open_connection_from_socket(loop, evl_transport_get_fd(evl_stream_get_transport(stream)), &out),
               EVL_EBUSY);
    CHECK_CODE(evl_start_server(loop, NULL, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_start_unix_server(loop, "/tmp/x", 6, NULL, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_start_unix_server(loop, NULL, 6, NULL, not_connected, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_start_server_from_socket(loop, -1, NULL, not_connected, &arg, probe_free, &out), -EBADF);
    CHECK_CODE(evl_start_server_from_socket(loop, file, NULL, not_connected, &arg, probe_free, &out), -ENOTSOCK);
    CHECK_CODE(evl_stream_create_task(stream, NULL, &arg, probe_free, NULL), -EINVAL);
    CHECK_INT(arg.frees, 6);
    CHECK_CODE(evl_stream_from_transport(evl_stream_get_transport(stream), NULL), -EINVAL);
    CHECK_CODE(evl_stream_read_into(stream, NULL, 1, &out), -EINVAL);
    CHECK_CODE(evl_stream_read_exactly_into(stream, NULL, 1, &out), -EINVAL);
    CHECK_CODE(evl_stream_read_until(stream, NULL, 1, &out), -EINVAL);
    CHECK_CODE(evl_stream_read_until(stream, "x", 0, &out), -EINVAL);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "Separator should be at least one-byte string");
    CHECK_CODE(evl_stream_read_until(stream, NULL, 0, &out), -EINVAL);
    CHECK_CODE(evl_stream_read_until(stream, "x", SIZE_MAX, &out), -EINVAL);
    CHECK_CODE(evl_stream_set_limit(stream, 0), -EINVAL);
    CHECK_CODE(evl_stream_write(stream, NULL, 1), -EINVAL);
    CHECK_CODE(evl_stream_writelines(stream, NULL, 1), -EINVAL);
    CHECK(out == NULL);
    /* More than there will ever be: nothing is kept for it beforehand. */
    future = read_exactly(stream, SIZE_MAX);
    feed(loop, fd, "abc");
    CHECK_CODE(evl_future_error_bytes(future, &data, &size), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(evl_future_error_bytes(future, &data, &size), EVL_ECANCELLED);
    evl_future_unref(future);
    CHECK_CODE(evl_stream_set_limit(stream, SIZE_MAX), 0);
    future = read_some(stream, INT64_MIN);
    feed(loop, fd, "def");
    shutdown(fd, SHUT_WR);
    CHECK_WILL_GIVE(loop, future, "abcdef");
    future = read_exactly(stream, 5);
    CHECK_CODE(evl_future_error_bytes(future, NULL, &size), -EINVAL);
    CHECK_CODE(evl_future_error_bytes(future, &data, NULL), 0);
    CHECK_INT(size, 4711);
    /* It is settled: nobody else settles it. */
    CHECK(evl_future_set_result(future, NULL, NULL) < 0);
    CHECK(is_incomplete(future, ""));
    future = read_some(stream, 5);
    CHECK_CODE(evl_future_error_bytes(future, &data, &size), -EINVAL);
    evl_future_unref(future);
    CHECK_CODE(evl_future_new(loop, &future), 0);
    CHECK_CODE(evl_future_set_error(future, EVL_EINCOMPLETE, "of mine"), 0);
    CHECK_CODE(evl_future_error_bytes(future, &data, &size), -EINVAL);
    evl_future_unref(future);
    CHECK_STRING(evl_errname(EVL_EINCOMPLETE), "EVL_EINCOMPLETE");
    CHECK_STRING(evl_errname(EVL_EOVERRUN), "EVL_EOVERRUN");
    CHECK(strcmp(evl_strerror(EVL_EOVERRUN), evl_strerror(-1)) != 0);
    end_stream(loop, stream);
    close(fd);
    close(file);
    close(datagrams);
    end_loop(loop);
}

TEST(settling_what_waits) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_line(stream);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), -EINVAL);
    feed(loop, fd, "a line\n");
    CHECK_GIVES(future, "a line\n");
    end_stream(loop, stream);
    close(fd);
    end_loop(loop);
}

static struct call everything(void) {
    struct call c;
    struct sockaddr_in address;
    c.loop = real_loop();
    c.stream = open_pair(c.loop, &c.fd);
    c.transport = evl_stream_get_transport(c.stream);
    c.listener = bound(SOCK_STREAM, &address);
    return c;
}

static void end_everything(struct call *c) {
    evl_stream_unref(c->stream);
    end_loop(c->loop);
    close(c->fd);
    close(c->listener);
}

TEST(closed_loops) {
    struct call c = everything();
    CHECK_CODE(evl_loop_close(c.loop), 0);
    expect_of_all(&c, EVL_ECLOSED);
    CHECK_INT(evl_stream_is_closing(c.stream), 1);
    CHECK(evl_stream_get_loop(c.stream) == c.loop);
    end_everything(&c);
}

static sem_t inside, go_on;

static void wait_inside(void *arg) {
    (void)arg;
    sem_post(&inside);
    while (sem_wait(&go_on) != 0) {
    }
}

static void *run_once(void *loop) {
    CHECK(evl_loop_run_once((evl_loop *)loop, 0) >= 0);
    return NULL;
}

TEST(another_thread_runs_the_loop) {
    struct call c = everything();
    pthread_t thread;
    sem_init(&inside, 0, 0);
    sem_init(&go_on, 0, 0);
    CHECK_CODE(evl_loop_call_soon(c.loop, wait_inside, NULL, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_once, c.loop) == 0);
    while (sem_wait(&inside) != 0) {
    }
    expect_of_all(&c, EVL_EWRONGTHREAD);
    CHECK_INT(evl_stream_is_closing(c.stream), 0);
    CHECK(evl_stream_ref(c.stream) == c.stream);
    evl_stream_unref(c.stream);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    feed(c.loop, c.fd, "hello\n");
    CHECK_GIVES(read_line(c.stream), "hello\n");
    end_everything(&c);
}

static void in_forked(void *arg) {
    struct call *c = (struct call *)arg;
    expect_of_all(c, EVL_EFORKED);
    end_everything(c);
}

TEST(forked_loops) {
    struct call c = everything();
    CHECK_INT(in_child(in_forked, &c), 0);
    feed(c.loop, c.fd, "hello\n");
    CHECK_GIVES(read_line(c.stream), "hello\n");
    end_everything(&c);
}

static void on_process_lost(evl_process *process, int code, void *arg) {
    (void)process;
    CHECK_CODE(code, 0);
    ++*(int *)arg;
}

TEST(pipes_of_processes_stay_theirs) {
    evl_loop *loop = real_loop();
    evl_process_options options;
    evl_process_protocol p;
    evl_process *process = NULL;
    evl_transport *input;
    evl_stream *stream = NULL;
    int lost = 0;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_lost = on_process_lost;
    CHECK_CODE(evl_process_options_init(&options, sizeof options), 0);
    options.stdin_mode = EVL_PROCESS_PIPE;
    REQUIRE(evl_loop_subprocess_shell(loop, "read line", &options, &p, &lost, NULL, &process) == 0);
    input = evl_process_get_pipe_transport(process, 0);
    CHECK_CODE(evl_stream_from_transport(input, &stream), -EOPNOTSUPP);
    CHECK(stream == NULL);
    CHECK_CODE(evl_transport_write(input, "x\n", 2), 0);
    UNTIL(loop, lost);
    evl_process_unref(process);
    end_loop(loop);
}

/* --- from inside */

/* Ends everything from inside of what is called when memory is given back. */
static void free_and_end(void *arg) {
    evl_stream *stream = (evl_stream *)arg;
    CHECK_CODE(evl_stream_close(stream), 0);
    evl_stream_unref(stream);
}

TEST(the_last_reference_goes_inside_of_a_write) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    char text[10] = "";
    CHECK_CODE(evl_transport_write_owned(evl_stream_get_transport(stream), "abc", 3, stream, free_and_end), 0);
    idle(loop);
    CHECK(recv(fd, text, sizeof text, 0) == 3);
    CHECK(recv(fd, text, sizeof text, 0) == 0);
    close(fd);
    end_loop(loop);
}

static int dones;

/* Cancels, closes and gives back when the first read is done. */
static void end_it(evl_future *future, void *arg) {
    evl_stream *stream = (evl_stream *)arg;
    evl_future *next = NULL;
    dones++;
    CHECK_CODE(evl_future_result(future, NULL) < -20000 ? EVL_EINCOMPLETE : 0, 0);
    CHECK_CODE(evl_stream_read_line(stream, &next), 0);
    CHECK_CODE(evl_stream_drain(stream, NULL), 0);
    CHECK_CODE(evl_stream_wait_closed(stream, NULL), 0);
    CHECK_CODE(evl_future_cancel(next, NULL), 1);
    CHECK_CODE(evl_stream_read_line(stream, NULL), 0);
    evl_future_unref(next);
    CHECK_CODE(evl_stream_close(stream), 0);
    evl_stream_unref(stream);
}

TEST(a_stream_is_ended_by_its_own_read) {
    evl_loop *loop = real_loop();
    int fd;
    evl_stream *stream = open_pair(loop, &fd);
    evl_future *future = read_line(stream);
    char byte;
    CHECK_CODE(evl_future_add_done_callback(future, end_it, stream, NULL, NULL), 0);
    evl_future_unref(future);
    dones = 0;
    feed(loop, fd, "line\nand more");
    CHECK_INT(dones, 1);
    CHECK(recv(fd, &byte, 1, 0) == 0);
    close(fd);
    end_loop(loop);
}

TEST_MAIN()
