/* Running loops: for a future, nested, stopped, ended by an exit; timers that were cancelled; what handlers are told; what is slow. */
#include "harness.h"

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static void settle(void *arg) {
    CHECK_CODE(evl_future_set_result((evl_future *)arg, "done", NULL), 0);
}

/* --- run_until_complete */

static evl_future *inner;
static evl_loop *outer_loop, *inner_loop;

static void run_inside(void *arg) {
    (void)arg;
    trace("inside");
    CHECK_INT(evl_loop_is_running(outer_loop), 1);
    CHECK_CODE(evl_loop_run_until_complete(outer_loop, inner), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_forever(inner_loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_once(inner_loop, 0), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_until_idle(inner_loop), EVL_ERUNNING);
    CHECK_INT(evl_loop_is_running(inner_loop), 0);
    CHECK_CODE(evl_loop_close(outer_loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_call_soon(outer_loop, settle, inner, NULL, NULL, NULL), 0);
}

TEST(no_loop_runs_inside_of_another) {
    void *value = NULL;
    outer_loop = real_loop();
    inner_loop = real_loop();
    inner = new_future(outer_loop);
    CHECK_CODE(evl_loop_call_soon(outer_loop, run_inside, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(outer_loop, inner), 0);
    CHECK_TRACE("inside");
    CHECK_CODE(evl_future_result(inner, &value), 0);
    CHECK_STRING((const char *)value, "done");
    evl_future_unref(inner);
    end_loop(inner_loop);
    end_loop(outer_loop);
}

TEST(stopped_before_the_future_is_done) {
    evl_loop *loop = real_loop();
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), EVL_ESTOPPED);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, "went on", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, settle, future, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), 0);
    CHECK_TRACE("went on");
    evl_future_unref(future);
    end_loop(loop);
}

static void exit_now(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise_exit(3), 0);
}

/* The future of a run that an exit has ended does not stop the runs that follow. */
TEST(an_orphan_of_an_earlier_run_stops_no_later_one) {
    evl_loop *loop = manual_loop();
    evl_future *first = NULL, *second = NULL;
    CHECK_CODE(evl_sleep(loop, EVL_MS(100), &first), 0);
    CHECK_CODE(evl_sleep(loop, EVL_MS(200), &second), 0);
    CHECK_CODE(evl_loop_call_soon(loop, exit_now, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, first), EVL_EEXIT);
    CHECK_INT(evl_future_done(first), 0);
    CHECK_CODE(evl_loop_advance(loop, EVL_MS(200)), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, second), 0);
    CHECK_INT(evl_future_done(first), 1);
    evl_future_unref(first);
    evl_future_unref(second);
    end_loop(loop);
}

static int exit_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)arg, (void)next;
    CHECK_CODE(evl_raise_exit(4), 0);
    return 0;
}

static int reported;

static void count_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)exception, (void)arg;
    reported++;
}

/* A task that asks for the exit is no failure to be told, and the next run is no shorter for it. */
TEST(an_exit_of_the_task_that_is_run_for) {
    evl_loop *loop = real_loop();
    evl_task *task = NULL;
    reported = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, count_report, NULL, NULL), 0);
    CHECK_CODE(evl_task_new(loop, exit_step, NULL, NULL, NULL, &task), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), EVL_EEXIT);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, "first", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(1), trace_call, "second", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(2), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("first second");
    evl_task_unref(task);
    end_loop(loop);
    CHECK_INT(reported, 0);
}

static void fail(void *arg) {
    CHECK_CODE(evl_raise(-EIO, (const char *)arg), 0);
}

TEST(a_callback_that_fails_ends_no_run) {
    evl_loop *loop = real_loop();
    evl_future *future = new_future(loop);
    reported = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, count_report, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fail, "once", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 0, fail, "twice", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(1), settle, future, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), 0);
    CHECK_INT(reported, 2);
    evl_future_unref(future);
    end_loop(loop);
}

/* --- timers */

static evl_metrics metrics_of(evl_loop *loop) {
    evl_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    return metrics;
}

TEST(cancelled_timers_are_forgotten) {
    enum { MANY = 500 };
    static struct probe probes[MANY];
    evl_loop *loop = manual_loop();
    evl_timer *timers[MANY];
    int i;
    for (i = 0; i < MANY; i++) {
        probes[i] = probe_named(NULL, loop);
        CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(i % 7 == 0 ? 3600 : 100 + i % 3), probe_call, &probes[i], probe_free, NULL,
                                       &timers[i]),
                   0);
    }
    CHECK_INT(metrics_of(loop).timers, MANY);
    for (i = 0; i < MANY; i++)
        if (i % 10 != 0) {
            CHECK_CODE(evl_timer_cancel(timers[i]), 0);
            CHECK_INT(probes[i].frees, 1); /* at once */
            CHECK_INT(evl_timer_scheduled(timers[i]), 0);
        }
    CHECK_INT(metrics_of(loop).timers, MANY / 10);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_CODE(evl_loop_advance(loop, EVL_SECONDS(4000)), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), MANY / 10);
    for (i = 0; i < MANY; i++) {
        CHECK_PROBE(probes[i], i % 10 == 0, 1);
        evl_timer_unref(timers[i]);
    }
    CHECK_INT(metrics_of(loop).timers, 0);
    end_loop(loop);
}

static void schedule_more(void *arg) {
    trace("timer");
    CHECK_CODE(evl_loop_call_soon((evl_loop *)arg, trace_call, "soon", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_at((evl_loop *)arg, -1, trace_call, "overdue", NULL, NULL, NULL), 0);
}

TEST(what_a_timer_schedules_is_for_the_next_iteration) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_later(loop, -1, schedule_more, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("timer");
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("soon overdue");
    end_loop(loop);
}

static int step_sleeps(evl_task *task, int status, void *arg, evl_future **next) {
    static const int64_t delays[] = {10000000, 100000, 1000, 10, 1};
    int *at = (int *)arg;
    CHECK_CODE(status, 0);
    return *at < 5 ? evl_sleep(evl_task_get_loop(task), delays[(*at)++], next) : 0;
}

/* The shortest sleeps are slept, not spun through. */
TEST(short_sleeps_take_few_iterations) {
    evl_loop *loop = real_loop();
    evl_task *task = NULL;
    uint64_t before = metrics_of(loop).iterations;
    int at = 0;
    CHECK_CODE(evl_task_new(loop, step_sleeps, &at, NULL, NULL, &task), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), 0);
    CHECK_INT(at, 5);
    CHECK(metrics_of(loop).iterations - before <= 20);
    evl_task_unref(task);
    end_loop(loop);
}

/* --- what is told */

static struct {
    int count, level;
    char text[2000];
} logged;

static void on_log(int level, const char *message, void *arg) {
    (void)arg;
    logged.count++;
    logged.level = level;
    snprintf(logged.text, sizeof logged.text, "%s", message);
}

static evl_loop *logging_loop(void) {
    evl_loop *loop = real_loop();
    memset(&logged, 0, sizeof logged);
    CHECK_CODE(evl_loop_set_log(loop, on_log, NULL, NULL), 0);
    return loop;
}

TEST(a_failing_timer_is_logged_with_its_deadline) {
    evl_loop *loop = logging_loop();
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_later(loop, 0, fail, "no luck", NULL, NULL, &timer), 0);
    CHECK_CODE(evl_handle_set_name(evl_timer_as_handle(timer), "unlucky"), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(logged.count, 1);
    CHECK_INT(logged.level, EVL_LOG_ERROR);
    CHECK(strstr(logged.text, "no luck") != NULL && strstr(logged.text, "<TimerHandle") != NULL);
    CHECK(strstr(logged.text, "unlucky") != NULL && strstr(logged.text, "EIO") != NULL && strstr(logged.text, "when=") != NULL);
    evl_timer_unref(timer);
    end_loop(loop);
}

static int failing_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)arg, (void)next;
    CHECK_CODE(evl_raise(-EDOM, "in the step"), 0);
    return 0;
}

TEST(a_failing_task_is_logged_when_it_goes) {
    evl_loop *loop = logging_loop();
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, failing_step, NULL, NULL, NULL, &task), 0);
    CHECK(evl_loop_run_until_idle(loop) >= 1);
    CHECK_INT(logged.count, 0); /* somebody may still ask */
    evl_task_unref(task);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(logged.count, 1);
    CHECK_INT(logged.level, EVL_LOG_ERROR);
    CHECK(strstr(logged.text, "never retrieved") != NULL && strstr(logged.text, "in the step") != NULL);
    end_loop(loop);
}

static void fail_to_handle(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)arg;
    reported++;
    CHECK_CODE(exception->code, -EIO);
    CHECK_CODE(evl_raise(-ERANGE, "the handler's own"), 0);
}

/* Both failures are in the log: the handler's, and the one it was told of. */
TEST(a_handler_that_fails_hides_nothing) {
    evl_loop *loop = logging_loop();
    evl_handle *handle = NULL;
    reported = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, fail_to_handle, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fail, "the first", NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_set_name(handle, "culprit"), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(reported, 1);
    CHECK_INT(logged.count, 1);
    CHECK_INT(logged.level, EVL_LOG_ERROR);
    CHECK(strstr(logged.text, "Unhandled error in exception handler") != NULL);
    CHECK(strstr(logged.text, "the handler's own") != NULL && strstr(logged.text, "the first") != NULL);
    CHECK(strstr(logged.text, "ERANGE") != NULL && strstr(logged.text, "EIO") != NULL);
    CHECK(strstr(logged.text, "culprit") != NULL);
    /* The handler stays. */
    CHECK_CODE(evl_loop_call_soon(loop, fail, "the second", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(reported, 2);
    evl_handle_unref(handle);
    end_loop(loop);
}

static struct {
    int count;
    evl_handle *handle;
    size_t traceback;
} seen;

static void look(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)arg;
    seen.count++;
    seen.handle = exception->handle;
    seen.traceback = exception->traceback_length;
}

TEST(in_debug_mode_the_handler_is_told_where) {
    evl_loop *loop = real_loop();
    evl_handle *handle = NULL;
    evl_timer *timer = NULL;
    void *frames[4];
    memset(&seen, 0, sizeof seen);
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    CHECK_CODE(evl_loop_set_exception_handler(loop, look, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fail, "x", NULL, NULL, &handle), 0);
    CHECK(evl_handle_traceback(handle, frames, 4) > 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK(seen.count == 1 && seen.handle == handle && seen.traceback > 0);
    CHECK_CODE(evl_loop_call_later(loop, 0, fail, "x", NULL, NULL, &timer), 0);
    CHECK(evl_handle_traceback(evl_timer_as_handle(timer), frames, 4) > 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK(seen.count == 2 && seen.handle == evl_timer_as_handle(timer) && seen.traceback > 0);
    evl_handle_unref(handle);
    evl_timer_unref(timer);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, fail, "x", NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK(seen.count == 3 && seen.handle == handle && seen.traceback > 0);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST_MAIN()
