/* For executor.c, evl: evl_loop_run_in_executor on the default executor, a callback at the future */

static evl_loop *loop;

static void *run_job(void *arg) {
    job((size_t)arg);
    return arg;
}

static void on_done(evl_future *future, void *arg) {
    void *result = NULL;
    must(evl_future_result(future, &result));
    if (result != arg)
        bench_fail("the result of another job");
    told((size_t)arg);
}

static void executor_open(int mode) {
    (void)mode;
    must(evl_loop_new(NULL, &loop));
}

static void executor_submit(size_t slot) {
    evl_future *future;
    must(evl_loop_run_in_executor(loop, NULL, run_job, (void *)slot, NULL, NULL, &future));
    must(evl_future_add_done_callback(future, on_done, (void *)slot, NULL, NULL));
    evl_future_unref(future);
}

static void executor_run(void) {
    must(evl_loop_run_forever(loop));
}

static void executor_stop(void) {
    must(evl_loop_stop(loop));
}

static void executor_close(void) {
    evl_loop_unref(loop);
}

#define VARIANTS(workload, jobs) {workload, "run_in_executor", measure, jobs, 0, EVERY_CORE}
