/* Misuse of transports, pipes and child watchers: NULL, tables of a wrong size, wrong kinds, closed loops, other threads' loops. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <semaphore.h>

#include "harness.h"

struct pair {
    evl_loop *loop;
    evl_transport *reader, *writer;
    int fds[2];
};

static evl_protocol empty(void) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    return p;
}

static struct pair open_pair(void) {
    struct pair pair;
    evl_protocol p = empty();
    memset(&pair, 0, sizeof pair);
    pair.loop = real_loop();
    CHECK(pipe(pair.fds) == 0);
    CHECK_CODE(evl_loop_connect_read_pipe(pair.loop, pair.fds[0], &p, NULL, NULL, &pair.reader), 0);
    CHECK_CODE(evl_loop_connect_write_pipe(pair.loop, pair.fds[1], &p, NULL, NULL, &pair.writer), 0);
    return pair;
}

static void close_pair(struct pair *pair) {
    evl_transport_unref(pair->reader);
    evl_transport_unref(pair->writer);
    CHECK_CODE(evl_loop_close(pair->loop), 0);
    evl_loop_unref(pair->loop);
}

/* Every function that needs the loop, and whether it takes an arg over. */
#define CALLS(X)                                                                                                      \
    X(0, evl_transport_close(t))                                                                                      \
    X(0, evl_transport_abort(t))                                                                                      \
    X(0, evl_transport_write(t, "x", 1))                                                                              \
    X(0, evl_transport_writelines(t, &line, 1))                                                                       \
    X(1, evl_transport_write_owned(t, "x", 1, &arg, probe_free))                                                      \
    X(0, evl_transport_write_eof(t))                                                                                  \
    X(0, evl_transport_set_write_buffer_limits(t, 2, 1))                                                              \
    X(0, evl_transport_get_write_buffer_limits(t, &size, &size))                                                      \
    X(0, evl_transport_get_write_buffer_size(t, &size))                                                               \
    X(0, evl_transport_pause_reading(t))                                                                              \
    X(0, evl_transport_resume_reading(t))                                                                             \
    X(1, evl_transport_set_protocol(t, &p, &arg, probe_free))                                                         \
    X(0, evl_transport_repr(t, text, sizeof text))                                                                    \
    X(1, evl_transport_set_data(t, &arg, probe_free))

static void expect_of_all(evl_transport *t, int code) {
    evl_buffer line = {"x", 1};
    evl_protocol p = empty();
    size_t size = 4711;
    char text[10] = "";
#define ONE(frees_arg, call)                                                                                          \
    {                                                                                                                 \
        struct probe arg = probe_named(NULL, NULL);                                                                   \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_INT(arg.frees, frees_arg);                                                                              \
    }
    CALLS(ONE)
#undef ONE
    CHECK_INT(size, 4711);
    CHECK_STRING(text, "");
}

TEST(null_transports) {
    expect_of_all(NULL, -EINVAL);
    CHECK(evl_transport_ref(NULL) == NULL);
    evl_transport_unref(NULL);
    CHECK(evl_transport_get_loop(NULL) == NULL);
    CHECK_INT(evl_transport_is_closing(NULL), 0);
    CHECK_INT(evl_transport_is_reading(NULL), 0);
    CHECK_INT(evl_transport_can_write_eof(NULL), 0);
    CHECK_CODE(evl_transport_get_fd(NULL), -EINVAL);
    CHECK(evl_transport_get_data(NULL) == NULL);
}

TEST(null_arguments) {
    struct pair pair = open_pair();
    evl_buffer bad[2] = {{"x", 1}, {NULL, 1}};
    struct probe arg = probe_named(NULL, NULL);
    CHECK_CODE(evl_transport_write(pair.writer, NULL, 1), -EINVAL);
    CHECK_CODE(evl_transport_writelines(pair.writer, NULL, 1), -EINVAL);
    CHECK_CODE(evl_transport_writelines(pair.writer, bad, 2), -EINVAL);
    CHECK_CODE(evl_transport_writelines(pair.writer, NULL, 0), 0);
    CHECK_CODE(evl_transport_write_owned(pair.writer, NULL, 1, &arg, probe_free), -EINVAL);
    CHECK_INT(arg.frees, 1);
    CHECK_CODE(evl_transport_write_owned(pair.writer, NULL, 0, &arg, probe_free), 0);
    CHECK_INT(arg.frees, 2);
    CHECK_CODE(evl_transport_write_owned(pair.writer, "x", 1, NULL, NULL), 0);
    CHECK_CODE(evl_transport_get_write_buffer_size(pair.writer, NULL), -EINVAL);
    CHECK_CODE(evl_transport_get_write_buffer_limits(pair.writer, NULL, NULL), 0);
    CHECK_CODE(evl_transport_set_protocol(pair.reader, NULL, &arg, probe_free), -EINVAL);
    CHECK_INT(arg.frees, 3);
    CHECK_CODE(evl_transport_repr(pair.reader, NULL, 5), -EINVAL);
    CHECK(evl_transport_repr(pair.reader, NULL, 0) > 0);
    close_pair(&pair);
}

TEST(connecting_wrongly) {
    evl_loop *loop = real_loop();
    struct probe arg = probe_named(NULL, NULL);
    evl_protocol p = empty();
    evl_transport *out = NULL;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_connect_read_pipe(NULL, fds[0], &p, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[1], NULL, &arg, probe_free, &out), -EINVAL);
    p.size = 3;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &arg, probe_free, &out), EVL_EOPTIONS);
    p.size = 5000;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &arg, probe_free, &out), EVL_EOPTIONS);
    p = empty();
    p.reserved = 1;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &arg, probe_free, &out), EVL_EOPTIONS);
    p = empty();
    p.buffer_updated = (void (*)(evl_transport *, size_t, void *))(void (*)(void))abort;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &arg, probe_free, &out), EVL_EOPTIONS);
    CHECK_INT(arg.frees, 7);
    CHECK(out == NULL);
    /* A table that ends after connection_made is one without the rest. */
    p = empty();
    p.size = 16;
    p.buffer_updated = (void (*)(evl_transport *, size_t, void *))(void (*)(void))abort;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &arg, probe_free, &out), 0);
    CHECK(write(fds[1], "dropped", 7) == 7);
    close(fds[1]);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(arg.frees, 8);
    evl_transport_unref(out);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, 0, &p, &arg, probe_free, &out), EVL_ECLOSED);
    CHECK_INT(arg.frees, 9);
    evl_loop_unref(loop);
}

TEST(wrong_kinds) {
    struct pair pair = open_pair();
    size_t size;
    struct probe arg = probe_named(NULL, NULL);
    CHECK_CODE(evl_transport_write(pair.reader, "x", 1), -EOPNOTSUPP);
    CHECK_CODE(evl_transport_write_owned(pair.reader, "x", 1, &arg, probe_free), -EOPNOTSUPP);
    CHECK_INT(arg.frees, 1);
    CHECK_CODE(evl_transport_write_eof(pair.reader), -EOPNOTSUPP);
    CHECK_INT(evl_transport_can_write_eof(pair.reader), 0);
    CHECK_CODE(evl_transport_set_write_buffer_limits(pair.reader, 1, 1), -EOPNOTSUPP);
    CHECK_CODE(evl_transport_get_write_buffer_limits(pair.reader, &size, &size), -EOPNOTSUPP);
    CHECK_CODE(evl_transport_get_write_buffer_size(pair.reader, &size), 0);
    CHECK_INT(size, 0);
    CHECK_CODE(evl_transport_pause_reading(pair.writer), -EOPNOTSUPP);
    CHECK_CODE(evl_transport_resume_reading(pair.writer), -EOPNOTSUPP);
    CHECK_INT(evl_transport_is_reading(pair.writer), 0);
    close_pair(&pair);
}

TEST(closed_loops) {
    struct pair pair = open_pair();
    CHECK_CODE(evl_loop_close(pair.loop), 0);
    expect_of_all(pair.reader, EVL_ECLOSED);
    expect_of_all(pair.writer, EVL_ECLOSED);
    CHECK_INT(evl_transport_is_closing(pair.reader), 1);
    CHECK_CODE(evl_transport_get_fd(pair.reader), -EBADF);
    close_pair(&pair);
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
    struct pair pair = open_pair();
    pthread_t thread;
    sem_init(&inside, 0, 0);
    sem_init(&go_on, 0, 0);
    CHECK_CODE(evl_loop_call_soon(pair.loop, wait_inside, NULL, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_once, pair.loop) == 0);
    while (sem_wait(&inside) != 0) {
    }
    expect_of_all(pair.reader, EVL_EWRONGTHREAD);
    expect_of_all(pair.writer, EVL_EWRONGTHREAD);
    CHECK_INT(evl_transport_is_closing(pair.writer), 0);
    CHECK_INT(evl_transport_is_reading(pair.reader), 1);
    CHECK_INT(evl_transport_get_fd(pair.reader), pair.fds[0]);
    CHECK(evl_transport_get_loop(pair.reader) == pair.loop);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    close_pair(&pair);
}

static void in_forked(void *arg) {
    struct pair *pair = (struct pair *)arg;
    expect_of_all(pair->reader, EVL_EFORKED);
    expect_of_all(pair->writer, EVL_EFORKED);
    close_pair(pair);
}

TEST(forked_loops) {
    struct pair pair = open_pair();
    CHECK_INT(in_child(in_forked, &pair), 0);
    close_pair(&pair);
}

/* --- child watchers */

static void on_child(int pid, int returncode, void *arg) {
    (void)pid;
    (void)returncode;
    (void)arg;
    CHECK(0 && "called");
}

TEST(child_watchers) {
    evl_loop *loop = real_loop();
    evl_child_watcher *watcher = NULL, *out = NULL;
    evl_child_watcher_vtable table;
    struct probe arg = probe_named(NULL, NULL);
    memset(&table, 0, sizeof table);
    CHECK_CODE(evl_child_watcher_new_pidfd(NULL), -EINVAL);
    CHECK_CODE(evl_child_watcher_new_threaded(NULL), -EINVAL);
    CHECK_CODE(evl_child_watcher_new(NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_child_watcher_new(&table, &arg, probe_free, &out), EVL_EOPTIONS);
    table.size = sizeof table;
    CHECK_CODE(evl_child_watcher_new(&table, &arg, probe_free, NULL), -EINVAL);
    table.reserved = 1;
    CHECK_CODE(evl_child_watcher_new(&table, &arg, probe_free, &out), EVL_EOPTIONS);
    CHECK_INT(arg.frees, 4);
    CHECK(out == NULL);
    CHECK(evl_child_watcher_ref(NULL) == NULL);
    evl_child_watcher_unref(NULL);
    CHECK_INT(evl_child_watcher_is_active(NULL), 0);
    CHECK_CODE(evl_child_watcher_close(NULL), -EINVAL);
    CHECK_CODE(evl_child_watcher_remove_child_handler(NULL, 1), -EINVAL);
    CHECK_CODE(evl_child_watcher_new_pidfd(&watcher), 0);
    CHECK_CODE(evl_child_watcher_add_child_handler(NULL, loop, 1, on_child, &arg, probe_free), -EINVAL);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, NULL, 1, on_child, &arg, probe_free), -EINVAL);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, 1, NULL, &arg, probe_free), -EINVAL);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, 0, on_child, &arg, probe_free), -EINVAL);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, -5, on_child, &arg, probe_free), -EINVAL);
    CHECK_INT(arg.frees, 9);
    CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, -5), 0);
    CHECK_CODE(evl_get_child_watcher(NULL), -EINVAL);
    CHECK_CODE(evl_policy_get_child_watcher(NULL, &out), -EINVAL);
    CHECK_CODE(evl_policy_set_child_watcher(NULL, watcher), -EINVAL);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, 1, on_child, &arg, probe_free), EVL_ECLOSED);
    evl_loop_unref(loop);
    CHECK_INT(arg.frees, 10);
    evl_child_watcher_unref(watcher);
}

TEST_MAIN()
