/* Executors of the host's, and which executor is a loop's default one. */
#include "jobs.h"

static int ran[3];

static void *count_run(void *arg) {
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
    return arg;
}

struct host {
    evl_job *jobs[10];
    int count, answer, at_once, shutdowns, waits, cancels, frees;
};

static int host_submit(void *arg, evl_job *job) {
    struct host *host = arg;
    if (host->answer < 0)
        return host->answer;
    if (host->at_once)
        CHECK_INT(evl_job_run(job), 1);
    else
        host->jobs[host->count++] = job;
    return 0;
}

static void host_shutdown(void *arg, int wait, int cancel) {
    struct host *host = arg;
    __atomic_add_fetch(&host->shutdowns, 1, __ATOMIC_SEQ_CST);
    host->waits += wait;
    host->cancels += cancel;
}

static void host_free(void *arg) {
    ((struct host *)arg)->frees++;
}

static evl_executor *host_executor(struct host *host) {
    evl_executor_vtable table;
    evl_executor *executor = NULL;
    memset(host, 0, sizeof *host);
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.submit = host_submit;
    table.shutdown = host_shutdown;
    CHECK_CODE(evl_executor_new(&table, host, host_free, &executor), 0);
    return executor;
}

static void *run_it(void *job) {
    CHECK_INT(evl_job_run((evl_job *)job), 1);
    return NULL;
}

TEST(host_runs_jobs) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    evl_future *futures[3];
    int i;
    memset(ran, 0, sizeof ran);
    for (i = 0; i < 3; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, executor, count_run, &ran[i], NULL, NULL, &futures[i]), 0);
    CHECK_INT(host.count, 3);
    in_thread(run_it, host.jobs[1]);
    CHECK_INT(evl_job_run(host.jobs[0]), 1);
    evl_job_discard(host.jobs[2]);
    for (i = 0; i < 3; i++)
        CHECK(!evl_future_done(futures[i]));
    run_until(loop, futures[2]);
    CHECK_CODE(evl_future_result(futures[0], NULL), 0);
    CHECK_CODE(evl_future_result(futures[1], NULL), 0);
    CHECK_CODE(evl_future_result(futures[2], NULL), EVL_ECANCELLED);
    CHECK(ran[0] == 1 && ran[1] == 1 && ran[2] == 0);
    for (i = 0; i < 3; i++)
        evl_future_unref(futures[i]);
    CHECK_CODE(evl_executor_shutdown(executor, EVL_SHUTDOWN_CANCEL), 0);
    CHECK(host.shutdowns == 1 && host.waits == 0 && host.cancels == 1);
    evl_executor_unref(executor);
    CHECK_INT(host.frees, 1);
    end_loop(loop);
}

/* An executor may run a job before it returns; the future is done later all the same. */
TEST(host_runs_at_once) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    evl_future *future = NULL;
    host.at_once = 1;
    ran[0] = 0;
    CHECK_CODE(evl_loop_run_in_executor(loop, executor, count_run, ran, NULL, NULL, &future), 0);
    CHECK_INT(ran[0], 1);
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    evl_future_unref(future);
    evl_executor_unref(executor);
    end_loop(loop);
}

/* --- the default executor */

TEST(default_executor) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    evl_future *future = NULL;
    host.at_once = 1;
    CHECK_CODE(evl_loop_set_default_executor(loop, executor), 0);
    evl_executor_unref(executor);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, count_run, ran, NULL, NULL, &future), 0);
    run_until(loop, future);
    evl_future_unref(future);
    CHECK_INT(host.frees, 0);
    end_loop(loop);
    CHECK(host.shutdowns == 1 && host.waits == 0 && host.frees == 1);
}

TEST(shutdown_of_the_default_executor) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_set_default_executor(loop, executor), 0);
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, EVL_FOREVER, &future), 0);
    run_until(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    evl_future_unref(future);
    CHECK(host.shutdowns == 1 && host.waits == 1 && host.cancels == 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, NULL, NULL, NULL, NULL), EVL_ESHUTDOWN);
    CHECK_CODE(evl_loop_run_in_executor(loop, executor, return_arg, NULL, NULL, NULL, NULL), EVL_ESHUTDOWN);
    evl_executor_unref(executor);
    end_loop(loop);
    CHECK_INT(host.frees, 1);
    /* One that was never made has nothing to wait for. */
    loop = real_loop();
    CHECK_CODE(evl_loop_shutdown_default_executor(loop, 0, &future), 0);
    CHECK(evl_future_done(future));
    evl_future_unref(future);
    CHECK_CODE(evl_loop_run_in_executor(loop, NULL, return_arg, NULL, NULL, NULL, NULL), EVL_ESHUTDOWN);
    end_loop(loop);
}

/* --- submit fails, and jobs that it kept come too late */

TEST(submit_fails) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    struct probe p = probe_named(NULL, loop);
    evl_future *future = (evl_future *)&p;
    host.answer = -ENOSPC;
    CHECK_CODE(evl_loop_run_in_executor(loop, executor, return_arg, &p, probe_free, probe_free, &future), -ENOSPC);
    CHECK_PROBE(p, 0, 1);
    CHECK(future == (evl_future *)&p);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_executor_unref(executor);
    end_loop(loop);
}

TEST(cancelled_before_the_host_runs_it) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    evl_future *future = NULL;
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_run_in_executor(loop, executor, return_arg, &p, probe_free, NULL, &future), 0);
    CHECK_INT(evl_future_cancel(future, "no need"), 1);
    CHECK(evl_future_cancelled(future));
    CHECK_PROBE(p, 0, 1);
    evl_future_unref(future);
    CHECK_INT(evl_job_run(host.jobs[0]), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, executor, return_arg, &p, probe_free, NULL, &future), 0);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    evl_future_unref(future);
    evl_job_discard(host.jobs[1]);
    evl_executor_unref(executor);
    end_loop(loop);
    CHECK_PROBE(p, 0, 2);
}

static void *run_withdrawn(void *job) {
    CHECK_INT(evl_job_run((evl_job *)job), 0);
    return NULL;
}

TEST(loop_closed_before_the_host_runs_it) {
    evl_loop *loop = real_loop();
    struct host host;
    evl_executor *executor = host_executor(&host);
    struct probe p = probe_named(NULL, loop);
    int i;
    for (i = 0; i < 3; i++)
        CHECK_CODE(evl_loop_run_in_executor(loop, executor, return_arg, &p, probe_free, NULL, NULL), 0);
    end_loop(loop);
    CHECK_PROBE(p, 0, 3);
    /* The jobs keep what they need of the loop. */
    in_thread(run_withdrawn, host.jobs[0]);
    CHECK_INT(evl_job_run(host.jobs[1]), 0);
    evl_job_discard(host.jobs[2]);
    evl_executor_unref(executor);
    CHECK_PROBE(p, 0, 3);
}

/* What a job raises is not what the callback raised inside of which it runs. */
static void *raise_in_job(void *arg) {
    CHECK_CODE(evl_raise(-EIO, "in the job"), 0);
    return arg;
}

static evl_executor *for_callback;
static evl_future *of_callback;

static void submit_and_raise(void *loop) {
    CHECK_CODE(evl_raise(-EPERM, "in the callback"), 0);
    CHECK_CODE(evl_loop_run_in_executor(loop, for_callback, raise_in_job, NULL, NULL, NULL, &of_callback), 0);
}

static void note_code(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    *(int *)arg = exception->code;
}

TEST(raise_in_a_job_inside_of_a_callback) {
    evl_loop *loop = real_loop();
    struct host host;
    int code = 0, reported = 0;
    for_callback = host_executor(&host);
    host.at_once = 1;
    CHECK_CODE(evl_loop_set_exception_handler(loop, note_code, &reported, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, submit_and_raise, loop, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_until_idle(loop) > 0);
    CHECK_CODE(evl_future_error(of_callback, &code), 0);
    CHECK_INT(code, -EIO);
    CHECK_INT(reported, -EPERM);
    evl_future_unref(of_callback);
    evl_executor_unref(for_callback);
    end_loop(loop);
}

TEST_MAIN()
