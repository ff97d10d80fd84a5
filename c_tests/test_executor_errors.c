/* What goes wrong with jobs: executors that are full, shut down or stuck, cancels at every stage, loops that are closed, jobs that
 * fail. */
#include "jobs.h"

TEST(full_executor) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    struct gate gate;
    struct probe p = probe_named(NULL, loop);
    evl_future *running = NULL, *waiting[10];
    int i;
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, NULL, &running), 0);
    gate_await(&gate, 1);
    for (i = 0; i < 10; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, &waiting[i]), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_MS(1)), 0);
    for (i = 0; i < 10; i++)
        CHECK(!evl_future_done(waiting[i]));
    /* What has not started is withdrawn at once: from the middle, the beginning and the end of the queue. */
    CHECK_INT(evl_future_cancel(waiting[4], NULL), 1);
    CHECK_INT(evl_future_cancel(waiting[0], NULL), 1);
    CHECK_INT(evl_future_cancel(waiting[9], NULL), 1);
    CHECK(evl_future_cancelled(waiting[4]) && evl_future_cancelled(waiting[0]) && evl_future_cancelled(waiting[9]));
    CHECK_PROBE(p, 0, 3);
    gate_let_go(&gate, 1);
    run_until(loop, waiting[8]);
    CHECK_CODE(evl_future_result(running, NULL), 0);
    for (i = 0; i < 10; i++) {
        CHECK_CODE(evl_future_result(waiting[i], NULL), i == 0 || i == 4 || i == 9 ? EVL_ECANCELLED : 0);
        evl_future_unref(waiting[i]);
    }
    CHECK_PROBE(p, 0, 10);
    evl_future_unref(running);
    end_pool(pool);
    gate_close(&gate);
    end_loop(loop);
}

static int result_frees;

static void count_result(void *result) {
    (void)result;
    __atomic_add_fetch(&result_frees, 1, __ATOMIC_SEQ_CST);
}

/* One that runs cannot be withdrawn: it may touch its arg. */
TEST(cancel_of_a_running_job) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    struct gate gate;
    evl_future *future = NULL;
    char why[20];
    gate_open(&gate);
    result_frees = 0;
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, count_result, &future), 0);
    gate_await(&gate, 1);
    CHECK_INT(evl_future_cancel(future, "why not"), 1);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(evl_loop_run_once(loop, EVL_MS(1)), 0);
    CHECK(!evl_future_done(future));
    CHECK_INT(gate.frees, 0);
    gate_let_go(&gate, 1);
    run_until(loop, future);
    CHECK(evl_future_cancelled(future));
    CHECK(evl_future_error_message(future, why, sizeof why) > 0);
    CHECK_STRING(why, "why not");
    CHECK_INT(gate.frees, 1);
    CHECK_INT(result_frees, 1);
    CHECK_INT(evl_future_cancel(future, NULL), 0);
    evl_future_unref(future);
    end_pool(pool);
    gate_close(&gate);
    end_loop(loop);
}

TEST(timeout_of_a_job) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    struct gate gate;
    struct probe p = probe_named(NULL, loop);
    evl_future *running = NULL, *waiting = NULL;
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, NULL, &running), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, &waiting), 0);
    gate_await(&gate, 1);
    CHECK_CODE(evl_future_set_timeout(running, EVL_MS(1)), 0);
    CHECK_CODE(evl_future_set_timeout(waiting, EVL_MS(1)), 0);
    run_until(loop, waiting);
    CHECK_CODE(evl_future_result(waiting, NULL), -ETIMEDOUT);
    CHECK_PROBE(p, 0, 1);
    CHECK(!evl_future_done(running));
    gate_let_go(&gate, 1);
    run_until(loop, running);
    CHECK_CODE(evl_future_result(running, NULL), -ETIMEDOUT);
    evl_future_unref(running);
    evl_future_unref(waiting);
    end_pool(pool);
    gate_close(&gate);
    end_loop(loop);
}

/* Cancels race with the threads that start the jobs: each either runs and is told of so, or is not run. */
static void *count_run(void *arg) {
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
    return arg;
}

TEST(cancels_while_jobs_start) {
    enum { JOBS = 50 };
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(2);
    int round, i;
    for (round = 0; round < (under_valgrind() ? 10 : 200); round++) {
        evl_future *futures[JOBS];
        int ran[JOBS];
        memset(ran, 0, sizeof ran);
        for (i = 0; i < JOBS; i++)
            CHECK_CODE(evl_loop_run_in_executor(loop, pool, count_run, &ran[i], NULL, NULL, &futures[i]), 0);
        for (i = 0; i < JOBS; i++) {
            CHECK_INT(evl_future_cancel(futures[i], NULL), 1);
            /* Done now means that it has not run, and will not. */
            if (evl_future_done(futures[i]))
                CHECK_INT(__atomic_load_n(&ran[i], __ATOMIC_SEQ_CST), 0);
        }
        for (i = 0; i < JOBS; i++) {
            if (!evl_future_done(futures[i])) {
                run_until(loop, futures[i]);
                CHECK_INT(ran[i], 1);
            }
            CHECK(evl_future_cancelled(futures[i]));
            evl_future_unref(futures[i]);
        }
        for (i = 0; i < JOBS; i++)
            CHECK(ran[i] <= 1);
    }
    end_pool(pool);
    end_loop(loop);
}

/* --- shutting down */

TEST(shut_down_executor) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    struct gate gate;
    struct probe p = probe_named(NULL, loop);
    evl_future *running = NULL, *waiting = NULL, *refused = (evl_future *)&p;
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, NULL, &running), 0);
    gate_await(&gate, 1);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, &waiting), 0);
    CHECK_CODE(evl_executor_shutdown(pool, 0), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, &refused), EVL_ESHUTDOWN);
    CHECK(refused == (evl_future *)&p);
    CHECK_PROBE(p, 0, 1);
    gate_let_go(&gate, 1);
    run_until(loop, waiting);
    CHECK_CODE(evl_future_result(waiting, NULL), 0);
    CHECK_CODE(evl_future_result(running, NULL), 0);
    CHECK_CODE(evl_executor_shutdown(pool, EVL_SHUTDOWN_WAIT | EVL_SHUTDOWN_CANCEL), 0);
    CHECK_CODE(evl_executor_shutdown(pool, EVL_SHUTDOWN_WAIT), 0);
    CHECK_INT(thread_count(), 1);
    evl_future_unref(waiting);
    evl_future_unref(running);
    evl_executor_unref(pool);
    gate_close(&gate);
    end_loop(loop);
}

TEST(shutdown_that_cancels) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(1);
    struct gate gate;
    struct probe p = probe_named(NULL, loop);
    evl_future *running = NULL, *waiting[5];
    int i;
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, NULL, &running), 0);
    gate_await(&gate, 1);
    for (i = 0; i < 5; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, &waiting[i]), 0);
    CHECK_INT(evl_future_cancel(waiting[2], NULL), 1);
    CHECK_CODE(evl_executor_shutdown(pool, EVL_SHUTDOWN_CANCEL), 0);
    run_until(loop, waiting[4]);
    CHECK_PROBE(p, 0, 5);
    for (i = 0; i < 5; i++) {
        CHECK(evl_future_cancelled(waiting[i]));
        evl_future_unref(waiting[i]);
    }
    CHECK(!evl_future_done(running));
    gate_let_go(&gate, 1);
    run_until(loop, running);
    CHECK_CODE(evl_future_result(running, NULL), 0);
    evl_future_unref(running);
    end_pool(pool);
    gate_close(&gate);
    end_loop(loop);
}

static void *wait_for_own_pool(void *pool) {
    CHECK_CODE(evl_executor_shutdown((evl_executor *)pool, EVL_SHUTDOWN_WAIT), -EDEADLK);
    CHECK_CODE(evl_executor_shutdown((evl_executor *)pool, 0), 0);
    /* The last reference may go in a job, too. */
    evl_executor_unref((evl_executor *)pool);
    return NULL;
}

TEST(a_job_shuts_its_pool_down) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(2);
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, wait_for_own_pool, pool, NULL, NULL, &future), 0);
    run_until(loop, future);
    evl_future_unref(future);
    end_loop(loop);
    await_threads(1);
}

static void *shut_down_waiting(void *pool) {
    CHECK_CODE(evl_executor_shutdown((evl_executor *)pool, EVL_SHUTDOWN_WAIT), 0);
    return NULL;
}

TEST(several_threads_wait_for_the_end) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(3);
    pthread_t threads[3];
    struct gate gate;
    int i;
    gate_open(&gate);
    for (i = 0; i < 3; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, NULL, NULL), 0);
    gate_await(&gate, 3);
    for (i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, shut_down_waiting, pool) == 0);
    gate_let_go(&gate, 3);
    for (i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(thread_count(), 1);
    evl_executor_unref(pool);
    end_loop(loop);
    CHECK_INT(gate.frees, 3);
    gate_close(&gate);
}

/* A job that does not end holds up neither the shutdown, which is out of time, nor the close, nor the loop's memory. */
TEST(job_that_never_ends) {
    evl_loop *loop = real_loop();
    struct gate gate;
    evl_future *future = NULL, *job = NULL;
    gate_open(&gate);
    result_frees = 0;
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, gate_job, &gate, gate_free, count_result, &job), 0);
    gate_await(&gate, 1);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_MS(5), &future), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, NULL, NULL, NULL, NULL), EVL_ESHUTDOWN);
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), -ETIMEDOUT);
    evl_future_unref(future);
    CHECK(!evl_future_done(job));
    end_loop(loop);
    CHECK(!evl_future_done(job));
    evl_future_unref(job);
    CHECK_INT(gate.frees, 0);
    gate_let_go(&gate, 1);
    await_number(&gate.frees, 1);
    await_number(&result_frees, 1);
    await_threads(1);
    gate_close(&gate);
}

TEST(shutdown_is_cancelled_or_abandoned) {
    evl_loop *loop = real_loop();
    struct gate gate;
    evl_future *future = NULL;
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, gate_job, &gate, gate_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_FOREVER, &future), 0);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK(evl_future_cancelled(future));
    evl_future_unref(future);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_FOREVER, NULL), 0);
    gate_await(&gate, 1);
    end_loop(loop);
    gate_let_go(&gate, 1);
    await_threads(1);
    CHECK_INT(gate.frees, 1);
    gate_close(&gate);
}

/* --- closing */

TEST(loop_closed_with_everything_open) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(2);
    struct gate gate;
    struct probe p = probe_named(NULL, loop);
    evl_future *running[2], *waiting[5];
    int i;
    gate_open(&gate);
    result_frees = 0;
    for (i = 0; i < 2; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, gate_job, &gate, gate_free, count_result, &running[i]), 0);
    gate_await(&gate, 2);
    for (i = 0; i < 5; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, count_result, &waiting[i]), 0);
    /* One that is being cancelled, too. */
    CHECK_INT(evl_future_cancel(running[0], NULL), 1);
    evl_future_unref(waiting[0]);
    end_loop(loop);
    CHECK_PROBE(p, 0, 5);
    CHECK_INT(gate.frees, 0);
    for (i = 0; i < 2; i++)
        CHECK(!evl_future_done(running[i]));
    evl_future_unref(running[0]);
    gate_let_go(&gate, 2);
    await_number(&gate.frees, 2);
    await_number(&result_frees, 2);
    /* Futures of a closed loop stay as they are. */
    CHECK(!evl_future_done(running[1]));
    evl_future_unref(running[1]);
    for (i = 1; i < 5; i++) {
        CHECK(!evl_future_done(waiting[i]));
        evl_future_unref(waiting[i]);
    }
    end_pool(pool);
    CHECK_PROBE(p, 0, 5);
    gate_close(&gate);
}

/* The job has returned, but the loop was closed before it took the result. */
TEST(loop_closed_with_results_on_their_way) {
    evl_loop *loop = real_loop();
    evl_executor *pool = new_pool(2);
    struct probe p = probe_named(NULL, loop);
    int ran[20], i;
    memset(ran, 0, sizeof ran);
    result_frees = 0;
    for (i = 0; i < 20; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, pool, count_run, &ran[i], NULL, count_result, NULL), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, pool, return_arg, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_executor_shutdown(pool, EVL_SHUTDOWN_WAIT), 0);
    for (i = 0; i < 20; i++)
        CHECK_INT(ran[i], 1);
    CHECK_INT(result_frees, 0);
    end_loop(loop);
    CHECK_INT(result_frees, 20);
    CHECK_PROBE(p, 0, 1);
    evl_executor_unref(pool);
}

/* --- jobs that fail */

static void *raise_error(void *arg) {
    CHECK_CODE(evl_raise(-EIO, "the disk is gone"), 0);
    CHECK_CODE(evl_raise(-EPERM, "too late"), 0);
    return arg;
}

static void *raise_object(void *arg) {
    CHECK_CODE(evl_raise_object(-5000, NULL, arg, probe_free), 0);
    return NULL;
}

static void *raise_cancelled(void *arg) {
    CHECK_CODE(evl_raise(EVL_ECANCELLED, "not today"), 0);
    return arg;
}

static void *raise_exit(void *arg) {
    CHECK_CODE(evl_raise_exit(7), 0);
    return arg;
}

static evl_future *run_job(evl_loop *loop, evl_job_fn job, void *arg) {
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, job, arg, NULL, count_result, &future), 0);
    run_until(loop, future);
    return future;
}

TEST(jobs_that_raise) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    evl_future *future;
    char text[40];
    result_frees = 0;
    future = run_job(loop, raise_error, loop);
    CHECK_CODE(evl_future_result(future, NULL), -EIO);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK_STRING(text, "the disk is gone");
    CHECK_INT(result_frees, 1);
    evl_future_unref(future);
    future = run_job(loop, raise_object, &p);
    CHECK_CODE(evl_future_result(future, NULL), -5000);
    CHECK(evl_future_error_object(future) == &p);
    /* NULL is no result to be released, where there is an error. */
    CHECK_INT(result_frees, 1);
    CHECK_PROBE(p, 0, 0);
    evl_future_unref(future);
    CHECK_PROBE(p, 0, 1);
    future = run_job(loop, raise_cancelled, loop);
    CHECK(evl_future_cancelled(future));
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK_STRING(text, "not today");
    evl_future_unref(future);
    /* A job cannot end the loop's run: its future's error tells what it asked for. */
    future = run_job(loop, raise_exit, loop);
    CHECK_CODE(evl_future_result(future, NULL), EVL_EEXIT);
    CHECK(evl_future_error_message(future, text, sizeof text) > 0);
    CHECK_STRING(text, "exit code 7");
    evl_future_unref(future);
    /* The thread is none the worse for it. */
    future = run_job(loop, return_arg, loop);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    evl_future_unref(future);
    end_loop(loop);
    await_threads(1);
}

static int reports;

static void count_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    CHECK_INT(exception->code, -EIO);
    reports++;
}

TEST(errors_that_nobody_asks_for) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    reports = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, count_report, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, raise_error, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_FOREVER, &future), 0);
    run_until(loop, future);
    evl_future_unref(future);
    CHECK_INT(reports, 1);
    end_loop(loop);
}

TEST_MAIN()
