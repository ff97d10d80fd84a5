/* Executors and fork. Not under valgrind: what the parent's threads hold is lost in a child. */
#include "jobs.h"

static void *count_run(void *arg) {
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
    return arg;
}

struct inherited {
    evl_loop *loop;
    evl_executor *pool;
    evl_future *running, *waiting;
    struct probe p;
};

static void in_forked_child(void *arg) {
    struct inherited *it = arg;
    CHECK_CODE(evl_loop_run_in_executor(it->loop, it->pool, return_arg, NULL, NULL, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_executor_shutdown(it->pool, EVL_SHUTDOWN_WAIT), EVL_EFORKED);
    CHECK_CODE(evl_executor_shutdown(it->pool, 0), EVL_EFORKED);
    CHECK_INT(thread_count(), 1);
    CHECK_CODE(evl_loop_close(it->loop), 0);
    CHECK_PROBE(it->p, 0, 1);
    evl_loop_unref(it->loop);
    evl_future_unref(it->waiting);
    evl_executor_unref(it->pool);
}

static void in_renewed_child(void *arg) {
    struct inherited *it = arg;
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_after_fork(it->loop), 0);
    /* The loop's own pool is made anew; one of the host's is not. */
    CHECK_CODE(evl_loop_run_in_executor(it->loop, it->pool, return_arg, NULL, NULL, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_run_in_executor(it->loop, NULL, return_arg, NULL, NULL, NULL, &future), 0);
    run_until(it->loop, future);
    evl_future_unref(future);
    CHECK_INT(evl_future_cancel(it->waiting, NULL), 1);
    CHECK(evl_future_cancelled(it->waiting));
    CHECK_PROBE(it->p, 0, 1);
    CHECK_CODE(evl_loop_shutdown_default_executor(it->loop, EVL_FOREVER, &future), 0);
    run_until(it->loop, future);
    evl_future_unref(future);
    evl_future_unref(it->waiting);
    end_loop(it->loop);
    evl_executor_unref(it->pool);
}

TEST(fork_with_jobs_under_way) {
    static struct inherited it;
    struct gate gate;
    evl_future *future = NULL;
    int i;
    it.loop = real_loop();
    it.pool = new_pool(1);
    it.p = probe_named(NULL, it.loop);
    gate_open(&gate);
    CHECK_CODE(evl_loop_run_in_executor(it.loop, NULL, return_arg, NULL, NULL, NULL, &future), 0);
    run_until(it.loop, future);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_run_in_executor(it.loop, it.pool, gate_job, &gate, NULL, NULL, &it.running), 0);
    gate_await(&gate, 1);
    CHECK_CODE(evl_loop_run_in_executor(it.loop, it.pool, return_arg, &it.p, probe_free, NULL, &it.waiting), 0);
    CHECK_INT(in_child(in_forked_child, &it), 0);
    CHECK_INT(in_child(in_renewed_child, &it), 0);
    /* Forks while threads send and sleep. */
    for (i = 0; i < 10; i++) {
        int ran[20], j;
        for (j = 0; j < 20; j++)
            CHECK_CODE(evl_loop_run_in_executor(it.loop, NULL, count_run, &ran[j], NULL, NULL, NULL), 0);
        CHECK_INT(in_child(nothing, NULL), 0);
        CHECK_CODE(evl_loop_run_in_executor(it.loop, NULL, return_arg, NULL, NULL, NULL, &future), 0);
        run_until(it.loop, future);
        evl_future_unref(future);
    }
    gate_let_go(&gate, 1);
    run_until(it.loop, it.waiting);
    CHECK_CODE(evl_future_result(it.running, NULL), 0);
    evl_future_unref(it.running);
    evl_future_unref(it.waiting);
    end_pool(it.pool);
    CHECK_CODE(evl_loop_shutdown_default_executor(it.loop, EVL_FOREVER, &future), 0);
    run_until(it.loop, future);
    evl_future_unref(future);
    end_loop(it.loop);
    gate_close(&gate);
}

TEST_MAIN()
