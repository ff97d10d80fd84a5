/* What happens to failures: exception handlers, the log, debug mode, slow callbacks, shutdown hooks. */
#include "harness.h"

struct seen {
    evl_loop *loop;
    int calls, frees, code;
    char message[200];
    void *object;
    evl_handle *handle;
    size_t traceback_length;
    int raise;
    int exit_code;
};

static void seen_free(void *arg) {
    ((struct seen *)arg)->frees++;
}

static void on_exception(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    struct seen *s = (struct seen *)arg;
    CHECK(event_loop == s->loop);
    CHECK(exception->size >= sizeof *exception);
    s->calls++;
    s->code = exception->code;
    if (CHECK(exception->message != NULL))
        snprintf(s->message, sizeof s->message, "%s", exception->message);
    s->object = exception->object;
    s->handle = exception->handle;
    s->traceback_length = exception->traceback_length;
    CHECK((exception->traceback != NULL) == (exception->traceback_length != 0));
    if (s->raise)
        CHECK_CODE(evl_raise(-EDOM, "handler failed"), 0);
    if (s->exit_code)
        CHECK_CODE(evl_raise_exit(s->exit_code), 0);
}

struct logged {
    int calls[3], frees;
    char last[3][2000];
};

static void on_log(int level, const char *message, void *arg) {
    struct logged *l = (struct logged *)arg;
    if (CHECK(level >= EVL_LOG_DEBUG && level <= EVL_LOG_ERROR) && CHECK(message != NULL)) {
        l->calls[level]++;
        snprintf(l->last[level], sizeof l->last[level], "%s", message);
    }
}

static void logged_free(void *arg) {
    ((struct logged *)arg)->frees++;
}

static evl_loop *logging_loop(struct logged *l) {
    evl_loop *loop = manual_loop();
    memset(l, 0, sizeof *l);
    CHECK_CODE(evl_loop_set_log(loop, on_log, l, logged_free), 0);
    return loop;
}

static void fails(void *arg) {
    CHECK_CODE(evl_raise(-EIO, (const char *)arg), 0);
}

TEST(handler_is_told_and_the_loop_goes_on) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    struct seen s;
    evl_handle *handle = NULL;
    char message[] = "boom";
    memset(&s, 0, sizeof s);
    s.loop = loop;
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, seen_free), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fails, message, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"after", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("after");
    CHECK_INT(s.calls, 1);
    CHECK_CODE(s.code, -EIO);
    CHECK_STRING(s.message, "boom");
    CHECK(s.handle == handle);
    CHECK(s.object == NULL);
    CHECK_INT(s.traceback_length, 0);
    CHECK_INT(l.calls[EVL_LOG_ERROR], 0);
    evl_handle_unref(handle);
    end_loop(loop);
    CHECK_INT(s.frees, 1);
    CHECK_INT(l.frees, 1);
}

TEST(handler_without_a_message_still_gets_one) {
    evl_loop *loop = manual_loop();
    struct seen s;
    memset(&s, 0, sizeof s);
    s.loop = loop;
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fails, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(s.calls, 1);
    end_loop(loop);
}

TEST(default_handler_logs_an_error) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"kaboom", NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_set_name(handle, "culprit"), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(l.calls[EVL_LOG_ERROR], 1);
    CHECK(strstr(l.last[EVL_LOG_ERROR], "kaboom") != NULL);
    CHECK(strstr(l.last[EVL_LOG_ERROR], "culprit") != NULL);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST(failing_handler_falls_back_to_the_default) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    struct seen s;
    memset(&s, 0, sizeof s);
    s.loop = loop;
    s.raise = 1;
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, seen_free), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"first", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"after", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("after");
    CHECK_INT(s.calls, 1);
    CHECK(l.calls[EVL_LOG_ERROR] >= 1);
    end_loop(loop);
    CHECK_INT(s.frees, 1);
}

TEST(handler_may_end_the_program) {
    evl_loop *loop = manual_loop();
    struct seen s;
    evl_exception exception;
    int code = 0;
    memset(&s, 0, sizeof s);
    memset(&exception, 0, sizeof exception);
    exception.size = sizeof exception;
    exception.code = -EIO;
    s.loop = loop;
    s.exit_code = 5;
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"x", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"rest", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 5);
    CHECK_TRACE("");
    CHECK_CODE(evl_loop_call_exception_handler(loop, &exception), EVL_EEXIT);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("rest");
    end_loop(loop);
}

TEST(set_and_get_handler) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    struct seen s, t;
    evl_exception_handler handler = on_exception;
    void *arg = &l;
    memset(&s, 0, sizeof s);
    memset(&t, 0, sizeof t);
    s.loop = t.loop = loop;
    CHECK_CODE(evl_loop_get_exception_handler(loop, &handler, &arg), 0);
    CHECK(handler == NULL);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, seen_free), 0);
    CHECK_CODE(evl_loop_get_exception_handler(loop, &handler, &arg), 0);
    CHECK(handler == on_exception);
    CHECK(arg == &s);
    CHECK_CODE(evl_loop_get_exception_handler(loop, NULL, NULL), 0);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &t, seen_free), 0);
    CHECK_INT(s.frees, 1);
    CHECK_CODE(evl_loop_set_exception_handler(loop, NULL, NULL, NULL), 0);
    CHECK_INT(t.frees, 1);
    CHECK_CODE(evl_loop_get_exception_handler(loop, &handler, NULL), 0);
    CHECK(handler == NULL);
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"x", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(l.calls[EVL_LOG_ERROR], 1);
    CHECK_INT(s.calls + t.calls, 0);
    end_loop(loop);
    CHECK_INT(s.frees, 1);
    CHECK_INT(t.frees, 1);
}

static void replace_handler(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    struct seen *s = (struct seen *)arg;
    (void)exception;
    s->calls++;
    CHECK_CODE(evl_loop_set_exception_handler(event_loop, NULL, NULL, NULL), 0);
    CHECK_INT(s->frees, 0); /* not while it is on the stack */
}

TEST(handler_replaced_inside_itself_is_released_afterwards) {
    evl_loop *loop = manual_loop();
    struct seen s;
    memset(&s, 0, sizeof s);
    CHECK_CODE(evl_loop_set_exception_handler(loop, replace_handler, &s, seen_free), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"x", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(s.calls, 1);
    CHECK_INT(s.frees, 1);
    end_loop(loop);
    CHECK_INT(s.frees, 1);
}

TEST(call_handler_by_hand) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    struct seen s;
    evl_exception exception;
    memset(&s, 0, sizeof s);
    memset(&exception, 0, sizeof exception);
    s.loop = loop;
    exception.size = sizeof exception;
    exception.code = -ENOENT;
    exception.message = "by hand";
    exception.object = &l;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &exception), 0);
    CHECK_INT(l.calls[EVL_LOG_ERROR], 1);
    CHECK(strstr(l.last[EVL_LOG_ERROR], "by hand") != NULL);
    CHECK_CODE(evl_loop_default_exception_handler(loop, &exception), 0);
    CHECK_INT(l.calls[EVL_LOG_ERROR], 2);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, NULL), 0);
    CHECK_CODE(evl_loop_call_exception_handler(loop, &exception), 0);
    CHECK_INT(s.calls, 1);
    CHECK_CODE(s.code, -ENOENT);
    CHECK_STRING(s.message, "by hand");
    CHECK(s.object == &l);
    exception.message = NULL;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &exception), 0);
    CHECK_STRING(s.message, "Unhandled exception in event loop");
    CHECK_INT(l.calls[EVL_LOG_ERROR], 2);
    exception.size = 2;
    CHECK_CODE(evl_loop_call_exception_handler(loop, &exception), EVL_EOPTIONS);
    CHECK_CODE(evl_loop_default_exception_handler(loop, &exception), EVL_EOPTIONS);
    CHECK_INT(s.calls, 2);
    end_loop(loop);
}

static void make_failing(void *arg) {
    CHECK_CODE(evl_loop_call_soon((evl_loop *)arg, fails, (void *)"traced", NULL, NULL, NULL), 0);
}

TEST(debug_mode_tells_where_the_callback_was_scheduled) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    struct seen s;
    memset(&s, 0, sizeof s);
    s.loop = loop;
    CHECK_INT(evl_loop_get_debug(loop), 0);
    CHECK_CODE(evl_loop_set_debug(loop, 7), 0);
    CHECK_INT(evl_loop_get_debug(loop), 1);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, make_failing, loop, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_until_idle(loop) == 2);
    CHECK_INT(s.calls, 1);
    CHECK(s.traceback_length > 0);
    CHECK_CODE(evl_loop_set_debug(loop, 0), 0);
    CHECK_INT(evl_loop_get_debug(loop), 0);
    end_loop(loop);
}

static void busy(void *arg) {
    volatile int i;
    (void)arg;
    for (i = 0; i < 200000; i++)
        ;
}

TEST(slow_callbacks_are_reported_in_debug_mode) {
    struct logged l;
    evl_loop *loop = real_loop();
    evl_handle *handle = NULL;
    int64_t duration = 0;
    memset(&l, 0, sizeof l);
    CHECK_CODE(evl_loop_set_log(loop, on_log, &l, NULL), 0);
    CHECK_CODE(evl_loop_get_slow_callback_duration(loop, &duration), 0);
    CHECK(duration == EVL_MS(100));
    CHECK_CODE(evl_loop_set_slow_callback_duration(loop, 1000), 0);
    CHECK_CODE(evl_loop_get_slow_callback_duration(loop, &duration), 0);
    CHECK_INT(duration, 1000);
    CHECK_CODE(evl_loop_call_soon(loop, busy, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(l.calls[EVL_LOG_WARNING], 0);
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    CHECK_CODE(evl_loop_call_soon(loop, busy, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_set_name(handle, "sluggish"), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(l.calls[EVL_LOG_WARNING], 1);
    CHECK(strstr(l.last[EVL_LOG_WARNING], "sluggish") != NULL);
    CHECK_CODE(evl_loop_set_slow_callback_duration(loop, EVL_FOREVER), 0);
    CHECK_CODE(evl_loop_call_soon(loop, busy, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(l.calls[EVL_LOG_WARNING], 1);
    CHECK_CODE(evl_loop_set_slow_callback_duration(loop, -1), -EINVAL);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST(a_loop_nobody_closed_is_reported_in_debug_mode) {
    struct logged l;
    evl_loop *loop = logging_loop(&l);
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    evl_loop_unref(loop);
    CHECK_INT(l.calls[EVL_LOG_WARNING], 1);
    loop = logging_loop(&l);
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    end_loop(loop);
    CHECK_INT(l.calls[EVL_LOG_WARNING], 0);
}

TEST(log_is_replaced_and_released) {
    struct logged a, b;
    evl_loop *loop = logging_loop(&a);
    memset(&b, 0, sizeof b);
    CHECK_CODE(evl_loop_set_log(loop, on_log, &b, logged_free), 0);
    CHECK_INT(a.frees, 1);
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"to b", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(a.calls[EVL_LOG_ERROR], 0);
    CHECK_INT(b.calls[EVL_LOG_ERROR], 1);
    CHECK_CODE(evl_loop_set_log(loop, NULL, NULL, NULL), 0);
    CHECK_INT(b.frees, 1);
    end_loop(loop);
    CHECK_INT(a.frees, 1);
    CHECK_INT(b.frees, 1);
}

static void hook_schedules(void *arg) {
    trace("hook2");
    CHECK_CODE(evl_loop_call_soon((evl_loop *)arg, trace_call, (void *)"soon", NULL, NULL, NULL), 0);
}

static void log_and_raise(int level, const char *message, void *arg) {
    int *calls = (int *)arg;
    (void)level;
    (void)message;
    ++*calls;
    evl_raise(-EDOM, "from the log");
}

TEST(a_raise_in_the_log_is_not_blamed_on_another_callback) {
    evl_loop *loop = manual_loop();
    struct seen s;
    int calls = 0;
    memset(&s, 0, sizeof s);
    s.loop = loop;
    CHECK_CODE(evl_loop_set_log(loop, log_and_raise, &calls, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fails, (void *)"x", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"innocent", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("innocent");
    CHECK_INT(calls, 1);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"another", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("another");
    CHECK_INT(s.calls, 0);
    end_loop(loop);
}

TEST(shutdown_hooks_run_last_first_and_once) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("hook1", loop), q = probe_named("never", loop), r = probe_named("rest", loop);
    evl_handle *cancelled = NULL;
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, hook_schedules, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, probe_call, &q, probe_free, NULL, &cancelled), 0);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, trace_call, (void *)"hook3", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_TRACE("");
    CHECK_CODE(evl_handle_cancel(cancelled), 0);
    CHECK_PROBE(q, 0, 1);
    CHECK_CODE(evl_loop_run_shutdown(loop), 4);
    CHECK_TRACE("hook3 hook2 hook1 soon");
    CHECK_PROBE(p, 1, 1);
    CHECK_CODE(evl_loop_run_shutdown(loop), 0);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, probe_call, &r, probe_free, NULL, NULL), 0);
    evl_handle_unref(cancelled);
    end_loop(loop); /* runs no callbacks */
    CHECK_PROBE(p, 1, 1);
    CHECK_PROBE(q, 0, 1);
    CHECK_PROBE(r, 0, 1);
}

TEST(failing_shutdown_hook_is_told_and_the_others_run) {
    evl_loop *loop = manual_loop();
    struct seen s;
    memset(&s, 0, sizeof s);
    s.loop = loop;
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, &s, NULL), 0);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, trace_call, (void *)"a", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, fails, (void *)"x", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_shutdown(loop), 2);
    CHECK_TRACE("a");
    CHECK_INT(s.calls, 1);
    end_loop(loop);
}

TEST_MAIN()
