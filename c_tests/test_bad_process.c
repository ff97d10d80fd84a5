/* Misuse of processes: NULL, unknown options, closed loops, other threads' loops. */
#define _GNU_SOURCE
#include <semaphore.h>

#include "harness.h"

static evl_process_options some_options(void) {
    static const char *const argv[] = {"cat", NULL};
    evl_process_options o;
    CHECK_CODE(evl_process_options_init(&o, sizeof o), 0);
    o.argv = argv;
    o.stdin_mode = EVL_PROCESS_PIPE;
    o.stdout_mode = EVL_PROCESS_DEVNULL;
    return o;
}

static evl_process *cat(evl_loop *loop) {
    evl_process_options o = some_options();
    evl_process *process = NULL;
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), 0);
    return process;
}

static void end(evl_loop *loop, evl_process *process) {
    int code = 0;
    CHECK_CODE(evl_process_close(process), 0);
    while (evl_process_get_returncode(process, &code) == EVL_EINVALIDSTATE)
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    evl_process_unref(process);
    end_loop(loop);
}

static void expect_of_all(evl_process *p, int code) {
    struct probe arg = probe_named(NULL, NULL);
    evl_future *future = NULL;
    CHECK_CODE(evl_process_send_signal(p, 0), code);
    CHECK_CODE(evl_process_terminate(p), code);
    CHECK_CODE(evl_process_kill(p), code);
    CHECK_CODE(evl_process_wait(p, &future), code);
    CHECK_CODE(evl_process_communicate(p, "x", 1, &future), code);
    CHECK_CODE(evl_process_close(p), code);
    CHECK_CODE(evl_process_set_data(p, &arg, probe_free), code);
    CHECK_INT(arg.frees, 1);
    CHECK(future == NULL);
}

TEST(null_processes) {
    int number = 4711;
    const void *data = NULL;
    expect_of_all(NULL, -EINVAL);
    CHECK(evl_process_ref(NULL) == NULL);
    evl_process_unref(NULL);
    CHECK(evl_process_get_loop(NULL) == NULL);
    CHECK_CODE(evl_process_get_pid(NULL), -EINVAL);
    CHECK_CODE(evl_process_get_returncode(NULL, &number), -EINVAL);
    CHECK(evl_process_get_pipe_transport(NULL, 0) == NULL);
    CHECK_INT(evl_process_is_closing(NULL), 0);
    CHECK_CODE(evl_process_repr(NULL, NULL, 0), -EINVAL);
    CHECK(evl_process_get_data(NULL) == NULL);
    CHECK_CODE(evl_future_result_output(NULL, 1, &data, NULL), -EINVAL);
    CHECK_CODE(evl_process_options_init(NULL, sizeof(evl_process_options)), -EINVAL);
    CHECK_INT(number, 4711);
}

TEST(null_arguments) {
    evl_loop *loop = real_loop();
    evl_process *process = cat(loop);
    evl_future *future = NULL;
    const void *data = NULL;
    CHECK_CODE(evl_process_get_returncode(process, NULL), -EINVAL);
    CHECK_CODE(evl_process_communicate(process, NULL, 1, &future), -EINVAL);
    CHECK_CODE(evl_process_repr(process, NULL, 5), -EINVAL);
    CHECK(evl_process_repr(process, NULL, 0) > 0);
    CHECK_CODE(evl_process_send_signal(process, 1000), -EINVAL);
    CHECK_CODE(evl_process_send_signal(process, -1), -EINVAL);
    CHECK(evl_process_get_pipe_transport(process, -1) == NULL);
    CHECK(evl_process_get_pipe_transport(process, 1) == NULL);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &future), 0);
    CHECK_CODE(evl_future_result_output(future, 1, &data, NULL), EVL_EINVALIDSTATE);
    while (!evl_future_done(future))
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    CHECK_CODE(evl_future_result_output(future, 1, NULL, NULL), -EINVAL);
    CHECK_CODE(evl_future_result_output(future, 0, &data, NULL), -EINVAL);
    CHECK_CODE(evl_future_result_output(future, 3, &data, NULL), -EINVAL);
    CHECK_CODE(evl_future_result_output(future, 2, &data, NULL), 0);
    CHECK_CODE(evl_future_result_bytes(future, &data, NULL), -EINVAL);
    evl_future_unref(future);
    end(loop, process);
}

TEST(input_without_a_pipe) {
    evl_loop *loop = real_loop();
    evl_process_options o = some_options();
    evl_process *process = NULL;
    evl_future *future = NULL;
    o.stdin_mode = EVL_PROCESS_DEVNULL;
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, "x", 1, &future), -EINVAL);
    CHECK(future == NULL);
    end(loop, process);
}

TEST(starting_wrongly) {
    evl_loop *loop = real_loop();
    struct probe arg = probe_named(NULL, NULL);
    evl_process *out = NULL;
    evl_process_options o = some_options(), good = o;
    evl_process_protocol p;
    const char *const nothing_at_all[] = {NULL};
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
#define REFUSED(call, code)                                                                                           \
    do {                                                                                                              \
        int before = arg.frees;                                                                                       \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_INT(arg.frees, before + 1);                                                                             \
        CHECK(out == NULL);                                                                                           \
        o = good;                                                                                                     \
    } while (0)
#define EXEC() evl_loop_subprocess_exec(loop, &o, &p, &arg, probe_free, &out)
    REFUSED(evl_loop_subprocess_exec(NULL, &o, &p, &arg, probe_free, &out), -EINVAL);
    REFUSED(evl_loop_subprocess_exec(loop, NULL, &p, &arg, probe_free, &out), -EINVAL);
    REFUSED(evl_loop_subprocess_shell(loop, NULL, &o, &p, &arg, probe_free, &out), -EINVAL);
    o.argv = NULL;
    REFUSED(EXEC(), -EINVAL);
    o.argv = nothing_at_all;
    REFUSED(EXEC(), -EINVAL);
    o.size = 3;
    REFUSED(EXEC(), EVL_EOPTIONS);
    o.flags = EVL_PROCESS_SET_UMASK << 1;
    REFUSED(EXEC(), EVL_EOPTIONS);
    o.reserved = 1;
    REFUSED(EXEC(), EVL_EOPTIONS);
    o.stdin_mode = 5;
    REFUSED(EXEC(), -EINVAL);
    o.stdin_mode = EVL_PROCESS_STDOUT;
    REFUSED(EXEC(), -EINVAL);
    o.stdout_mode = EVL_PROCESS_STDOUT;
    REFUSED(EXEC(), -EINVAL);
    o.stderr_mode = -1;
    REFUSED(EXEC(), -EINVAL);
    o.pass_fds_count = 1;
    REFUSED(EXEC(), -EINVAL);
    o.flags = EVL_PROCESS_SET_GROUPS;
    o.groups_count = 1;
    REFUSED(EXEC(), -EINVAL);
    o.pipe_size = -1;
    REFUSED(EXEC(), -EINVAL);
    p.size = 2;
    REFUSED(EXEC(), EVL_EOPTIONS);
    p.size = sizeof p;
    p.reserved = 1;
    REFUSED(EXEC(), EVL_EOPTIONS);
    p.reserved = 0;
    CHECK_CODE(evl_loop_close(loop), 0);
    REFUSED(EXEC(), EVL_ECLOSED);
    evl_loop_unref(loop);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST(closed_loops) {
    evl_loop *loop = real_loop();
    evl_process *process = cat(loop);
    int pid = evl_process_get_pid(process), code;
    CHECK_CODE(evl_loop_close(loop), 0);
    expect_of_all(process, EVL_ECLOSED);
    CHECK_INT(evl_process_is_closing(process), 1);
    CHECK_INT(evl_process_get_pid(process), pid);
    CHECK_CODE(evl_process_get_returncode(process, &code), EVL_EINVALIDSTATE);
    evl_process_unref(process);
    evl_loop_unref(loop);
    if (under_valgrind())
        sleep(1); /* the thread that waits for the child, there being no pidfds, must not look like a leak */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
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
    evl_loop *loop = real_loop();
    evl_process *process = cat(loop), *out = NULL;
    evl_process_options o = some_options();
    pthread_t thread;
    sem_init(&inside, 0, 0);
    sem_init(&go_on, 0, 0);
    CHECK_CODE(evl_loop_call_soon(loop, wait_inside, NULL, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_once, loop) == 0);
    while (sem_wait(&inside) != 0) {
    }
    expect_of_all(process, EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &out), EVL_EWRONGTHREAD);
    CHECK(evl_process_get_pid(process) > 0);
    CHECK(evl_process_get_pipe_transport(process, 0) != NULL);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    end(loop, process);
}

TEST_MAIN()
