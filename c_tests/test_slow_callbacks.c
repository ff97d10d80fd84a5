/* Debug mode reports what is slow, whatever it is: callbacks with and without a handle, timers, steps of tasks, callbacks of futures, readers,
 * signals, and what protocols and servers are told. */
#include "reading.h"
#include "datagrams.h"

/* What was called slow, as far as there is room. */
static struct {
    int count;
    char text[8][300];
} logged;

static void on_log(int level, const char *message, void *arg) {
    (void)arg;
    if (strstr(message, " took ") == NULL)
        return; /* debug mode says more than this is about */
    CHECK_INT(level, EVL_LOG_WARNING);
    if (logged.count < 8)
        snprintf(logged.text[logged.count++], sizeof logged.text[0], "%s", message);
}

static evl_loop *loop;
static int calls;

static void begin(void) {
    loop = real_loop();
    memset(&logged, 0, sizeof logged);
    calls = 0;
    CHECK_CODE(evl_loop_set_log(loop, on_log, NULL, NULL), 0);
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    CHECK_CODE(evl_loop_set_slow_callback_duration(loop, EVL_SECONDS(100)), 0);
}

/* What is slow from now on: more than anything else here takes. */
static int64_t limit(void) {
    return under_valgrind() ? EVL_MS(300) : EVL_MS(50);
}

static void arm(void) {
    CHECK_CODE(evl_loop_set_slow_callback_duration(loop, limit()), 0);
}

/* Takes longer than that. */
static void dawdle(void) {
    struct timespec begun, now;
    calls++;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - begun.tv_sec) * 1000000000L + (now.tv_nsec - begun.tv_nsec) < limit() + 1000000L);
}

/* It was called once, and reported once, by a name. (A machine that is busy may make other things slow.) */
static void check_reported(const char *name) {
    int i, found = 0;
    for (i = 0; i < logged.count; i++) {
        CHECK(strncmp(logged.text[i], "Executing ", 10) == 0 && strstr(logged.text[i], " seconds") != NULL);
        found += strstr(logged.text[i], name) != NULL;
    }
    CHECK_INT(calls, 1);
    if (!CHECK_INT(found, 1))
        printf("%s is not in: %s\n", name, logged.text[0]);
    memset(&logged, 0, sizeof logged);
    calls = 0;
    CHECK_CODE(evl_loop_set_slow_callback_duration(loop, EVL_SECONDS(100)), 0);
}

static void dawdle_plainly(void *arg) {
    (void)arg;
    dawdle();
}

static void dawdle_and_stop(void *arg) {
    dawdle();
    if (arg != NULL)
        CHECK_CODE(evl_loop_remove_reader(loop, *(int *)arg), 1);
}

TEST(callbacks) {
    evl_handle *handle = NULL;
    begin();
    CHECK_CODE(evl_loop_call_soon(loop, dawdle_plainly, NULL, NULL, NULL, NULL), 0);
    arm();
    idle(loop);
    check_reported("<Handle");
    CHECK_CODE(evl_loop_call_soon(loop, dawdle_plainly, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_set_name(handle, "sluggish"), 0);
    arm();
    idle(loop);
    check_reported("sluggish");
    evl_handle_unref(handle);
    CHECK_CODE(evl_loop_call_later(loop, 0, dawdle_plainly, NULL, NULL, NULL, NULL), 0);
    arm();
    idle(loop);
    check_reported("<TimerHandle");
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, dawdle_plainly, NULL, NULL, NULL, NULL), 0);
    arm();
    idle(loop);
    check_reported("<Handle");
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, dawdle_plainly, NULL, NULL, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0);
    arm();
    idle(loop);
    check_reported("<Handle");
    end_loop(loop);
}

TEST(readers) {
    int fds[2];
    begin();
    unix_pair(fds);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], dawdle_and_stop, &fds[0], NULL, NULL, NULL), 0);
    put(fds[1], "x");
    arm();
    idle(loop);
    check_reported("<Handle");
    close_pair(fds);
    end_loop(loop);
}

static int slow_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)arg, (void)next;
    dawdle();
    return 0;
}

TEST(steps_of_tasks) {
    evl_task *task = NULL;
    begin();
    CHECK_CODE(evl_task_new(loop, slow_step, NULL, NULL, NULL, &task), 0);
    arm();
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), 0);
    check_reported("<Task");
    evl_task_unref(task);
    end_loop(loop);
}

static void slow_done(evl_future *future, void *arg) {
    (void)future, (void)arg;
    dawdle();
}

TEST(callbacks_of_futures) {
    evl_future *future = NULL;
    begin();
    CHECK_CODE(evl_future_new(loop, &future), 0);
    CHECK_CODE(evl_future_add_done_callback(future, slow_done, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    arm();
    idle(loop);
    check_reported("<Future");
    evl_future_unref(future);
    end_loop(loop);
}

static void dawdle_at_data(struct peer *peer, const char *what) {
    (void)peer;
    if (strcmp(what, "data") == 0)
        dawdle();
}

static void dawdle_at_lost(struct peer *peer, const char *what) {
    (void)peer;
    if (strcmp(what, "lost") == 0)
        dawdle();
}

TEST(protocols_of_streams) {
    struct peer a;
    int fds[2];
    begin();
    unix_pair(fds);
    peer_open(&a, loop, NULL, fds[0]);
    a.at = dawdle_at_data;
    put(fds[1], "data");
    arm();
    idle(loop);
    check_reported("data_received");
    a.at = dawdle_at_lost;
    arm();
    peer_close(&a);
    check_reported("connection_lost");
    close(fds[1]);
    end_loop(loop);
}

static void dawdle_when_told(struct told *told) {
    (void)told;
    dawdle();
}

TEST(protocols_of_datagrams) {
    struct told told = told_nothing();
    int fds[2];
    evl_datagram *d;
    begin();
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    told.on_received = dawdle_when_told;
    d = adopted_endpoint(loop, fds[0], one_by_one(), &told);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    arm();
    until(loop, &told.received, 1);
    check_reported("datagram_received");
    end_endpoint(loop, d, &told);
    close(fds[1]);
    end_loop(loop);
}

static void slow_exit(evl_process *process, void *arg) {
    (void)process, (void)arg;
    dawdle();
}

TEST(protocols_of_processes) {
    evl_process_protocol p;
    begin();
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.process_exited = slow_exit;
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exit 0", NULL, &p, NULL, NULL, NULL), 0);
    arm();
    UNTIL(loop, calls);
    idle(loop);
    check_reported("process_exited");
    end_loop(loop);
}

static void slow_child(int pid, int returncode, void *arg) {
    (void)pid, (void)returncode, (void)arg;
    dawdle();
}

TEST(child_watchers) {
    evl_child_watcher *watcher = NULL;
    int pid;
    begin();
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(1);
    }
    CHECK_CODE(evl_child_watcher_new_threaded(&watcher), 0);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, slow_child, NULL, NULL), 0);
    arm();
    UNTIL(loop, calls);
    check_reported("child");
    evl_child_watcher_unref(watcher);
    end_loop(loop);
}

static int slow_factory(void *arg, evl_protocol *protocol, void **protocol_arg, evl_free_fn *arg_free) {
    (void)arg, (void)protocol, (void)protocol_arg, (void)arg_free;
    dawdle();
    return -EACCES;
}

static void ignore(evl_loop *of, const evl_exception *exception, void *arg) {
    (void)of, (void)exception, (void)arg;
}

TEST(factories_of_servers) {
    evl_server_options options;
    evl_future *future = NULL;
    evl_server *server;
    int fd;
    begin();
    CHECK_CODE(evl_loop_set_exception_handler(loop, ignore, NULL, NULL), 0);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    CHECK_CODE(evl_loop_create_server(loop, &options, slow_factory, NULL, NULL, &future), 0);
    server = server_of(loop, future);
    fd = dial(evl_server_port(server));
    arm();
    UNTIL(loop, calls);
    idle(loop);
    check_reported("factory");
    close(fd);
    CHECK_CODE(evl_server_close(server), 0);
    evl_server_unref(server);
    end_loop(loop);
}

TEST(what_is_quick_is_not_reported) {
    struct peer a;
    int fds[2];
    begin();
    unix_pair(fds);
    peer_open(&a, loop, NULL, fds[0]);
    a.at = dawdle_at_data;
    put(fds[1], "data");
    idle(loop);
    CHECK_INT(calls, 1);
    CHECK_INT(logged.count, 0);
    arm();
    CHECK_CODE(evl_loop_set_debug(loop, 0), 0);
    put(fds[1], "data");
    idle(loop);
    CHECK_INT(calls, 2);
    CHECK_INT(logged.count, 0);
    peer_close(&a);
    close(fds[1]);
    end_loop(loop);
}

TEST_MAIN()
