/* Executors: jobs and pools. Executors of the host's are in test_executor_host.c, what goes wrong in test_executor_errors.c. */
#include "jobs.h"

#include <sys/prctl.h>

static void *double_it(void *arg) {
    int *made = malloc(sizeof *made);
    *made = *(int *)arg * 2;
    return made;
}

static int results_freed;

static void free_result(void *result) {
    results_freed++;
    free(result);
}

TEST(job_result) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    struct probe p = probe_named(NULL, loop);
    int number = 21;
    void *result = NULL;
    results_freed = 0;
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, double_it, &number, NULL, free_result, &future), 0);
    CHECK(!evl_future_done(future));
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, &result), 0);
    CHECK_INT(*(int *)result, 42);
    CHECK_INT(results_freed, 0);
    evl_future_unref(future);
    CHECK_INT(results_freed, 1);
    /* The arg is released when the future is done, before its callbacks. */
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, &p, probe_free, NULL, &future), 0);
    run_until(loop, future);
    CHECK_PROBE(p, 0, 1);
    CHECK_CODE(evl_future_result(future, &result), 0);
    CHECK(result == &p);
    evl_future_unref(future);
    end_loop(loop);
    await_threads(1);
}

TEST(nobody_wants_the_future) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int number = 1, i;
    results_freed = 0;
    for (i = 0; i < 100; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, NULL, double_it, &number, NULL, free_result, NULL), 0);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_FOREVER, &future), 0);
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    CHECK_INT(results_freed, 100);
    evl_future_unref(future);
    end_loop(loop);
    CHECK_INT(thread_count(), 1);
}

static int loop_thread_freed;
static pthread_t loop_thread;

static void free_on_loop_thread(void *arg) {
    (void)arg;
    loop_thread_freed += pthread_equal(pthread_self(), loop_thread) != 0;
}

static void *not_this_thread(void *arg) {
    sigset_t blocked;
    int signal_number, missing = 0;
    CHECK(!pthread_equal(pthread_self(), loop_thread));
    CHECK(evl_get_running_loop(NULL) < 0);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    for (signal_number = 1; signal_number < 32; signal_number++)
        missing += signal_number != SIGKILL && signal_number != SIGSTOP && !sigismember(&blocked, signal_number);
    CHECK_INT(missing, 0);
    return arg;
}

TEST(where_things_run) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    sigset_t mask;
    loop_thread = pthread_self();
    loop_thread_freed = 0;
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, not_this_thread, loop, free_on_loop_thread, free_on_loop_thread,
                                        &future),
               0);
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGTERM));
    run_until(loop, future);
    evl_future_unref(future);
    CHECK_INT(loop_thread_freed, 2);
    end_loop(loop);
    await_threads(1);
}

/* --- pools */

TEST(threads_are_started_one_by_one) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(3);
    evl_future *futures[5];
    struct gate gate;
    int i;
    gate_open(&gate);
    CHECK_INT(thread_count(), 1);
    /* One after the other: the first thread does them all. */
    for (i = 0; i < 5; i++) {
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, NULL, NULL, NULL, &futures[0]), 0);
        run_until(loop, futures[0]);
        evl_future_unref(futures[0]);
        CHECK(thread_count() <= 3);
    }
    /* At once: as many as there may be, and the others wait. */
    for (i = 0; i < 5; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, NULL, NULL, &futures[i]), 0);
    gate_await(&gate, 3);
    CHECK_INT(thread_count(), 4);
    CHECK_INT(gate.runs, 3);
    gate_let_go(&gate, 5);
    for (i = 0; i < 5; i++) {
        if (!evl_future_done(futures[i]))
            run_until(loop, futures[i]);
        CHECK_CODE(evl_future_result(futures[i], NULL), 0);
        evl_future_unref(futures[i]);
    }
    CHECK_INT(gate.runs, 5);
    end_pool(pool);
    CHECK_INT(thread_count(), 1);
    gate_close(&gate);
    end_loop(loop);
}

enum { MANY = 20000 };

static int ran[MANY], told;

static void *count_run(void *arg) {
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
    return arg;
}

static void count_told(evl_future *future, void *arg) {
    void *result = NULL;
    CHECK_CODE(evl_future_result(future, &result), 0);
    if (++told == MANY)
        CHECK_CODE(evl_loop_stop((evl_loop *)arg), 0);
}

TEST(many_jobs) {
    evl_loop *loop = real_loop();
    int i, missing = 0;
    memset(ran, 0, sizeof ran);
    told = 0;
    for (i = 0; i < MANY; i++) {
        evl_future *future = NULL;
        CHECK_CODE(evl_loop_run_in_executor(loop, NULL, count_run, &ran[i], NULL, NULL, &future), 0);
        CHECK_CODE(evl_future_add_done_callback(future, count_told, loop, NULL, NULL), 0);
        evl_future_unref(future);
    }
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    for (i = 0; i < MANY; i++)
        missing += ran[i] != 1;
    CHECK_INT(missing, 0);
    CHECK_INT(told, MANY);
    end_loop(loop);
    await_threads(1);
}

/* Jobs that take a while beside quick ones: every thread there may be comes to run them, however quick the others were. */
TEST(quick_jobs_and_slow_ones) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(4);
    struct gate gate;
    int i, round;
    gate_open(&gate);
    for (round = 0; round < 20; round++) {
        evl_future *last = NULL;
        memset(ran, 0, sizeof ran);
        for (i = 0; i < 1000; i++)
            CHECK_CODE(evl_loop_run_in_executor(loop, pool, count_run, &ran[i], NULL, NULL, NULL), 0);
        for (i = 0; i < 4; i++)
            CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, NULL, NULL, i < 3 ? NULL : &last), 0);
        gate_await(&gate, 4);
        gate_let_go(&gate, 4);
        run_until(loop, last);
        evl_future_unref(last);
    }
    CHECK_INT(gate.runs, 80);
    end_pool(pool);
    gate_close(&gate);
    end_loop(loop);
}

struct submitter {
    evl_executor *pool;
    int ran;
};

static void *submit_from_own_loop(void *arg) {
    struct submitter *submitter = arg;
    evl_loop *loop = real_loop();
    int i;
    for (i = 0; i < 300; i++) {
        evl_future *future = NULL;
        CHECK_CODE(evl_loop_run_in_executor(loop, submitter->pool, count_run, &submitter->ran, NULL, NULL, &future), 0);
        if (i % 3 == 0)
            run_until(loop, future);
        evl_future_unref(future);
    }
    end_loop(loop);
    return NULL;
}

TEST(one_pool_for_several_loops) {
    struct submitter submitters[3];
    pthread_t threads[3];
    evl_executor *pool = new_pool(2);
    int i;
    for (i = 0; i < 3; i++) {
        submitters[i].pool = pool;
        submitters[i].ran = 0;
        CHECK(pthread_create(&threads[i], NULL, submit_from_own_loop, &submitters[i]) == 0);
    }
    for (i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        /* Those that its closed loop withdrew did not run. */
        CHECK(submitters[i].ran >= 100 && submitters[i].ran <= 300);
    }
    end_pool(pool);
}

static void *its_name(void *arg) {
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    snprintf((char *)arg, 16, "%s", name);
    return NULL;
}

TEST(pool_options) {
    evl_loop *loop = real_loop();
    evl_pool_options options;
    evl_executor *pool = NULL;
    evl_future *future = NULL;
    char name[16] = "";
    CHECK_CODE(evl_pool_options_init(&options, sizeof options), 0);
    options.thread_name = "worker";
    options.spin_ns = -1;
    options.max_threads = 1;
    CHECK_CODE(evl_executor_new_pool(&options, &pool), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, its_name, name, NULL, NULL, &future), 0);
    run_until(loop, future);
    CHECK_STRING(name, "worker");
    evl_future_unref(future);
    end_pool(pool);
    CHECK_CODE(evl_executor_new_pool(NULL, &pool), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, its_name, name, NULL, NULL, &future), 0);
    run_until(loop, future);
    CHECK_STRING(name, "evl");
    evl_future_unref(future);
    end_pool(pool);
    end_loop(loop);
}

TEST(references_and_data) {
    evl_executor *pool = new_pool(1);
    struct probe p = probe_named(NULL, NULL);
    CHECK(evl_executor_ref(pool) == pool);
    evl_executor_unref(pool);
    CHECK(evl_executor_get_data(pool) == NULL);
    CHECK_CODE(evl_executor_set_data(pool, &p, probe_free), 0);
    CHECK(evl_executor_get_data(pool) == &p);
    CHECK_CODE(evl_executor_set_data(pool, &p, probe_free), 0);
    CHECK_PROBE(p, 0, 1);
    evl_executor_unref(pool);
    CHECK_PROBE(p, 0, 2);
}

/* The last reference goes while jobs wait: they are still run, and the threads end. */
TEST(unref_runs_what_waits) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    evl_future *last = NULL;
    struct gate gate;
    int i;
    gate_open(&gate);
    memset(ran, 0, sizeof ran);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, NULL, NULL, NULL), 0);
    gate_await(&gate, 1);
    for (i = 0; i < 10; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, count_run, &ran[i], NULL, NULL, i == 9 ? &last : NULL), 0);
    evl_executor_unref(pool);
    gate_let_go(&gate, 1);
    run_until(loop, last);
    evl_future_unref(last);
    for (i = 0; i < 10; i++)
        CHECK_INT(ran[i], 1);
    gate_close(&gate);
    end_loop(loop);
    await_threads(1);
}

/* Sets the size of the stacks of threads that are started from now on; returns the one before. */
static size_t set_stack_size(size_t size) {
    pthread_attr_t attributes;
    size_t before = 0;
    CHECK(pthread_getattr_default_np(&attributes) == 0);
    pthread_attr_getstacksize(&attributes, &before);
    pthread_attr_setstacksize(&attributes, size);
    CHECK(pthread_setattr_default_np(&attributes) == 0);
    pthread_attr_destroy(&attributes);
    return before;
}

/* No thread can be started, because there is no room for its stack. */
TEST(no_thread_to_be_had) {
    const size_t huge = (size_t)1 << 46;
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    struct gate gate;
    evl_future *running = NULL, *waiting = NULL;
    size_t before = set_stack_size(huge);
    int code = under_valgrind() ? -EINVAL : -EAGAIN; /* which has less room for addresses */
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, &p, probe_free, NULL, &waiting), code);
    CHECK_PROBE(p, 0, 1);
    CHECK(waiting == NULL);
    set_stack_size(before);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, gate_job, &gate, NULL, NULL, &running), 0);
    gate_await(&gate, 1);
    /* Those that are there have to do. */
    set_stack_size(huge);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, &p, probe_free, NULL, &waiting), 0);
    gate_let_go(&gate, 1);
    run_until(loop, waiting);
    CHECK_PROBE(p, 0, 2);
    evl_future_unref(running);
    evl_future_unref(waiting);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_FOREVER, &waiting), 0);
    CHECK_CODE(evl_future_result(waiting, NULL), code);
    evl_future_unref(waiting);
    set_stack_size(before);
    end_loop(loop);
    await_threads(1);
    gate_close(&gate);
}

static void *set_variable(void *arg) {
    evl_context_var *var = arg;
    void *value = NULL;
    CHECK_CODE(evl_context_var_get(var, &value), EVL_ENOVALUE);
    CHECK_CODE(evl_context_var_set(var, arg, NULL, NULL), 0);
    CHECK_CODE(evl_context_var_get(var, &value), 0);
    return NULL;
}

/* A job sees no variables, and what it sets is gone with it. */
TEST(context_of_a_job) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    evl_context_var *var = NULL;
    evl_future *future = NULL;
    int i;
    CHECK_CODE(evl_context_var_new("v", NULL, NULL, &var), 0);
    for (i = 0; i < 3; i++) {
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, set_variable, var, NULL, NULL, &future), 0);
        run_until(loop, future);
        CHECK_CODE(evl_future_result(future, NULL), 0);
        evl_future_unref(future);
    }
    end_pool(pool);
    evl_context_var_unref(var);
    end_loop(loop);
}

TEST_MAIN()
