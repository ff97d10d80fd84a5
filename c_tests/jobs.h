/* What the tests of executors share: running a loop for a future, jobs that wait until they are let go, and waiting for
 * what threads do. */
#ifndef EVL_TEST_JOBS_H
#define EVL_TEST_JOBS_H

#include "harness.h"

#include <dirent.h>
#include <sched.h>

static inline void stop_at(evl_future *future, void *loop) {
    (void)future;
    CHECK_CODE(evl_loop_stop((evl_loop *)loop), 0);
}

/* Runs the loop until the future is done. */
static inline void run_until(evl_loop *loop, evl_future *future) {
    CHECK_CODE(evl_future_add_done_callback(future, stop_at, loop, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK(evl_future_done(future));
}

/* A job that tells that it has begun, and waits until it is let go. */
struct gate {
    int begun[2], go[2];
    int runs, frees;
};

static inline void gate_open(struct gate *gate) {
    memset(gate, 0, sizeof *gate);
    CHECK(pipe(gate->begun) == 0 && pipe(gate->go) == 0);
}

static inline void *gate_job(void *arg) {
    struct gate *gate = (struct gate *)arg;
    char byte = 'b';
    __atomic_add_fetch(&gate->runs, 1, __ATOMIC_SEQ_CST);
    if (write(gate->begun[1], &byte, 1) != 1 || read(gate->go[0], &byte, 1) < 0)
        CHECK(!"the gate's pipes work");
    return arg;
}

static inline void gate_free(void *arg) {
    __atomic_add_fetch(&((struct gate *)arg)->frees, 1, __ATOMIC_SEQ_CST);
}

/* Waits until so many of its jobs run. */
static inline void gate_await(struct gate *gate, int count) {
    char byte;
    while (count-- > 0)
        CHECK(read(gate->begun[0], &byte, 1) == 1);
}

/* Lets so many of them return. */
static inline void gate_let_go(struct gate *gate, int count) {
    char byte = 'g';
    while (count-- > 0)
        CHECK(write(gate->go[1], &byte, 1) == 1);
}

static inline void gate_close(struct gate *gate) {
    close(gate->begun[0]);
    close(gate->begun[1]);
    close(gate->go[0]);
    close(gate->go[1]);
}

/* Waits until a number that other threads change is what it should be. */
static inline void await_number(int *number, int expected) {
    while (__atomic_load_n(number, __ATOMIC_SEQ_CST) != expected)
        sched_yield();
}

/* How many threads this process has. */
static inline int thread_count(void) {
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    while (tasks != NULL && (entry = readdir(tasks)) != NULL)
        count += entry->d_name[0] != '.';
    if (tasks != NULL)
        closedir(tasks);
    return count;
}

/* Waits until there are so many threads: those of a pool that nobody waits for end by themselves. */
static inline void await_threads(int expected) {
    while (thread_count() != expected)
        sched_yield();
}

static inline void *return_arg(void *arg) {
    return arg;
}

static inline evl_executor *new_pool(uint32_t max_threads) {
    evl_pool_options options;
    evl_executor *executor = NULL;
    CHECK_CODE(evl_pool_options_init(&options, sizeof options), 0);
    options.max_threads = max_threads;
    CHECK_CODE(evl_executor_new_pool(&options, &executor), 0);
    return executor;
}

/* Waits for the pool's threads, and gives it back. */
static inline void end_pool(evl_executor *executor) {
    CHECK_CODE(evl_executor_shutdown(executor, EVL_SHUTDOWN_WAIT), 0);
    evl_executor_unref(executor);
}

#endif
