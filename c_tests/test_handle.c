/* Handles: schedule, cancel, run, repr, names, tracebacks, references and weak references. */
#include "harness.h"

TEST(new_handle_is_not_scheduled) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    REQUIRE(handle != NULL);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_PROBE(p, 0, 0);
    CHECK_INT(evl_handle_cancelled(handle), 0);
    CHECK(evl_handle_get_loop(handle) == loop);
    evl_handle_unref(handle);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
    CHECK_PROBE(p, 0, 1);
}

TEST(new_handle_is_scheduled_again_and_again) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("p", loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_handle_schedule(handle), EVL_ESCHEDULED);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 0);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 2, 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_PROBE(p, 2, 1);
    CHECK_INT(evl_handle_cancelled(handle), 1);
    CHECK_CODE(evl_handle_schedule(handle), EVL_ECANCELLED);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_handle_unref(handle);
    end_loop(loop);
    CHECK_PROBE(p, 2, 1);
}

TEST(schedule_goes_to_the_end_of_the_queue) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    CHECK_CODE(evl_handle_new(loop, trace_call, (void *)"h", NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"a", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"b", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 3);
    CHECK_TRACE("a h b");
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST(unref_of_a_scheduled_handle_keeps_it_scheduled) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    evl_handle_unref(handle);
    CHECK_PROBE(p, 0, 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 1);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

TEST(call_soon_handle_is_one_shot) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    REQUIRE(handle != NULL);
    CHECK_CODE(evl_handle_schedule(handle), EVL_ESCHEDULED);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 1);
    CHECK_CODE(evl_handle_schedule(handle), EVL_EDONE);
    CHECK_CODE(evl_handle_run(handle), EVL_EDONE);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_PROBE(p, 1, 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_handle_unref(handle);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

TEST(cancelled_handle_does_not_run) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_INT(evl_handle_cancelled(handle), 1);
    CHECK_CODE(evl_handle_run(handle), EVL_ECANCELLED);
    CHECK_CODE(evl_handle_schedule(handle), EVL_ECANCELLED);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_PROBE(p, 0, 1);
    evl_handle_unref(handle);
    end_loop(loop);
    CHECK_PROBE(p, 0, 1);
}

struct self {
    struct probe p;
    evl_handle *handle;
    int frees_inside;
    int again;
    int code;
};

static void cancel_self(void *arg) {
    struct self *s = (struct self *)arg;
    probe_call(&s->p);
    CHECK_CODE(evl_handle_cancel(s->handle), 0);
    CHECK_CODE(evl_handle_cancel(s->handle), 0);
    CHECK_INT(evl_handle_cancelled(s->handle), 1);
    s->frees_inside = s->p.frees;
}

TEST(cancel_inside_its_own_callback_releases_arg_afterwards) {
    evl_loop *loop = manual_loop();
    struct self s;
    memset(&s, 0, sizeof s);
    CHECK_CODE(evl_handle_new(loop, cancel_self, &s, probe_free, NULL, &s.handle), 0);
    CHECK_CODE(evl_handle_schedule(s.handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(s.frees_inside, 0);
    CHECK_PROBE(s.p, 1, 1);
    CHECK_CODE(evl_handle_schedule(s.handle), EVL_ECANCELLED);
    evl_handle_unref(s.handle);
    end_loop(loop);
    CHECK_PROBE(s.p, 1, 1);
}

static void unref_self(void *arg) {
    struct self *s = (struct self *)arg;
    probe_call(&s->p);
    evl_handle_unref(s->handle);
    s->frees_inside = s->p.frees;
}

TEST(last_unref_inside_its_own_callback_releases_arg_afterwards) {
    evl_loop *loop = manual_loop();
    struct self reusable, one_shot;
    memset(&reusable, 0, sizeof reusable);
    memset(&one_shot, 0, sizeof one_shot);
    CHECK_CODE(evl_handle_new(loop, unref_self, &reusable, probe_free, NULL, &reusable.handle), 0);
    CHECK_CODE(evl_handle_schedule(reusable.handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, unref_self, &one_shot, probe_free, NULL, &one_shot.handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_INT(reusable.frees_inside, 0);
    CHECK_INT(one_shot.frees_inside, 0);
    CHECK_PROBE(reusable.p, 1, 1);
    CHECK_PROBE(one_shot.p, 1, 1);
    end_loop(loop);
    CHECK_PROBE(reusable.p, 1, 1);
}

static void schedule_self(void *arg) {
    struct self *s = (struct self *)arg;
    probe_call(&s->p);
    if (s->again-- > 0)
        s->code = evl_handle_schedule(s->handle);
}

TEST(handle_schedules_itself_from_its_callback) {
    evl_loop *loop = manual_loop();
    struct self s;
    memset(&s, 0, sizeof s);
    s.again = 2;
    s.code = 1;
    CHECK_CODE(evl_handle_new(loop, schedule_self, &s, probe_free, NULL, &s.handle), 0);
    CHECK_CODE(evl_handle_schedule(s.handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(s.code, 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_PROBE(s.p, 3, 0);
    evl_handle_unref(s.handle);
    CHECK_PROBE(s.p, 3, 1);
    end_loop(loop);
}

TEST(handle_cancelled_by_an_earlier_callback_of_its_batch_is_skipped) {
    evl_loop *loop = manual_loop();
    struct self s;
    struct probe p = probe_named(NULL, loop);
    memset(&s, 0, sizeof s);
    CHECK_CODE(evl_loop_call_soon(loop, cancel_self, &s, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &s.handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(s.p, 1, 1);
    evl_handle_unref(s.handle);
    end_loop(loop);
    CHECK_PROBE(p, 0, 1);
}

TEST(run_calls_at_once) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    struct probe q = probe_named(NULL, loop);
    evl_handle *reusable = NULL, *one_shot = NULL;
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &reusable), 0);
    CHECK_CODE(evl_handle_run(reusable), 0);
    CHECK_CODE(evl_handle_run(reusable), 0);
    CHECK_PROBE(p, 2, 0);
    CHECK_CODE(evl_handle_schedule(reusable), 0);
    CHECK_CODE(evl_handle_run(reusable), 0);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &q, probe_free, NULL, &one_shot), 0);
    CHECK_CODE(evl_handle_run(one_shot), 0);
    CHECK_PROBE(q, 1, 1);
    CHECK_CODE(evl_handle_run(one_shot), EVL_EDONE);
    CHECK_CODE(evl_handle_schedule(one_shot), EVL_EDONE);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_PROBE(q, 1, 1);
    CHECK_INT(p.frees, 0);
    CHECK_CODE(evl_handle_cancel(reusable), 0);
    CHECK_INT(p.frees, 1);
    CHECK_CODE(evl_handle_run(reusable), EVL_ECANCELLED);
    evl_handle_unref(reusable);
    evl_handle_unref(one_shot);
    end_loop(loop);
    CHECK_INT(p.frees, 1);
}

static void run_self(void *arg) {
    struct self *s = (struct self *)arg;
    probe_call(&s->p);
    s->code = evl_handle_run(s->handle);
}

TEST(run_inside_its_own_callback_is_refused) {
    evl_loop *loop = manual_loop();
    struct self s;
    memset(&s, 0, sizeof s);
    CHECK_CODE(evl_handle_new(loop, run_self, &s, probe_free, NULL, &s.handle), 0);
    CHECK_CODE(evl_handle_run(s.handle), 0);
    CHECK_CODE(s.code, EVL_EENTERED);
    CHECK_PROBE(s.p, 1, 0);
    s.code = 0;
    CHECK_CODE(evl_handle_schedule(s.handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(s.code, EVL_EENTERED);
    CHECK_PROBE(s.p, 2, 0);
    evl_handle_unref(s.handle);
    end_loop(loop);
    CHECK_PROBE(s.p, 2, 1);
}

TEST(run_of_another_handle_inside_a_callback) {
    evl_loop *loop = manual_loop();
    struct self s;
    struct probe p = probe_named(NULL, loop);
    memset(&s, 0, sizeof s);
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &s.handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, run_self, &s, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(s.code, 0);
    CHECK_PROBE(p, 1, 0);
    evl_handle_unref(s.handle);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

static void raise_exit_7(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise_exit(7), 0);
}

static void raise_eio(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, "boom"), 0);
}

static void count_failure(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    struct probe *p = (struct probe *)arg;
    CHECK(event_loop == p->loop);
    CHECK_CODE(exception->code, -EIO);
    probe_call(p);
}

TEST(run_reports_failures_and_exits) {
    evl_loop *loop = manual_loop();
    struct probe handler = probe_named(NULL, loop);
    evl_handle *exits = NULL, *fails = NULL;
    int code = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, count_failure, &handler, probe_free), 0);
    CHECK_CODE(evl_handle_new(loop, raise_exit_7, NULL, NULL, NULL, &exits), 0);
    CHECK_CODE(evl_handle_new(loop, raise_eio, NULL, NULL, NULL, &fails), 0);
    CHECK_CODE(evl_handle_run(exits), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 7);
    CHECK_CODE(evl_handle_run(fails), 0);
    CHECK_PROBE(handler, 1, 0);
    evl_handle_unref(exits);
    evl_handle_unref(fails);
    end_loop(loop);
    CHECK_PROBE(handler, 1, 1);
}

TEST(repr_tells_name_and_state) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    char text[300], cut[8];
    int length;
    CHECK_CODE(evl_handle_new(loop, nothing, NULL, NULL, NULL, &handle), 0);
    length = evl_handle_repr(handle, text, sizeof text);
    CHECK(length > 0 && (size_t)length < sizeof text);
    CHECK_INT(strlen(text), length);
    CHECK(strncmp(text, "<Handle ", 8) == 0 && text[length - 1] == '>');
    CHECK(strstr(text, "cancelled") == NULL);
    CHECK_INT(evl_handle_repr(handle, NULL, 0), length);
    memset(cut, 'x', sizeof cut);
    CHECK_INT(evl_handle_repr(handle, cut, sizeof cut), length);
    CHECK_STRING(cut, "<Handle");
    CHECK_INT(evl_handle_repr(handle, cut, 1), length);
    CHECK_STRING(cut, "");
    CHECK_CODE(evl_handle_repr(handle, NULL, 5), -EINVAL);

    CHECK_CODE(evl_handle_set_name(handle, "tick"), 0);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK(strstr(text, "tick") != NULL);
    CHECK_CODE(evl_handle_set_name(handle, "tock"), 0);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK(strstr(text, "tick") == NULL && strstr(text, "tock") != NULL);
    CHECK_CODE(evl_handle_set_name(handle, NULL), 0);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK(strstr(text, "tock") == NULL);
    CHECK_CODE(evl_handle_set_name(handle, "tick"), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK(strstr(text, "cancelled") != NULL);
    evl_loop_close(loop);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    evl_handle_unref(handle);
    evl_loop_unref(loop);
}

TEST(name_is_copied) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    char name[16] = "first", text[300];
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_set_name(handle, name), 0);
    memcpy(name, "other", 6);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK(strstr(text, "first") != NULL);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST(traceback_is_recorded_in_debug_mode_only) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    void *addresses[64];
    char text[4096];
    int count, length;
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &handle), 0);
    CHECK_INT(evl_handle_traceback(handle, addresses, 64), 0);
    CHECK_INT(evl_handle_traceback_text(handle, text, sizeof text), 0);
    CHECK_STRING(text, "");
    evl_handle_unref(handle);
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &handle), 0);
    count = evl_handle_traceback(handle, addresses, 64);
    CHECK(count > 0);
    CHECK(addresses[0] != NULL);
    CHECK_INT(evl_handle_traceback(handle, NULL, 0), count);
    addresses[1] = NULL;
    CHECK_INT(evl_handle_traceback(handle, addresses, 1), count);
    CHECK(addresses[1] == NULL);
    CHECK_CODE(evl_handle_traceback(handle, NULL, 3), -EINVAL);
    length = evl_handle_traceback_text(handle, text, sizeof text);
    CHECK(length > 0);
    CHECK(strchr(text, '\n') != NULL);
    CHECK_INT(evl_handle_traceback_text(handle, NULL, 0), length);
    CHECK_CODE(evl_handle_traceback_text(handle, NULL, 3), -EINVAL);
    evl_handle_unref(handle);
    evl_loop_set_debug(loop, 0);
    end_loop(loop);
}

TEST(handle_outlives_its_loop) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), q = probe_named(NULL, loop);
    evl_handle *soon = NULL, *idle = NULL;
    char text[200];
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &soon), 0);
    CHECK_CODE(evl_handle_new(loop, probe_call, &q, probe_free, NULL, &idle), 0);
    evl_loop_unref(loop); /* the last one: closes */
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 1);
    CHECK_CODE(evl_handle_schedule(soon), EVL_ECLOSED);
    CHECK_CODE(evl_handle_schedule(idle), EVL_ECLOSED);
    CHECK_CODE(evl_handle_run(idle), EVL_ECLOSED);
    CHECK_CODE(evl_handle_set_name(idle, "x"), EVL_ECLOSED);
    CHECK_CODE(evl_handle_cancel(soon), 0);
    CHECK_CODE(evl_handle_cancel(idle), 0);
    CHECK(evl_handle_repr(idle, text, sizeof text) > 0);
    CHECK_INT(evl_loop_is_closed(evl_handle_get_loop(idle)), 1);
    evl_handle_unref(soon);
    evl_handle_unref(idle);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 1);
}

TEST(references_are_counted) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK(evl_handle_ref(handle) == handle);
    CHECK(evl_handle_ref(NULL) == NULL);
    evl_handle_unref(handle);
    CHECK_INT(p.frees, 0);
    CHECK_CODE(evl_handle_run(handle), 0);
    evl_handle_unref(handle);
    CHECK_PROBE(p, 1, 1);
    evl_handle_unref(NULL);
    end_loop(loop);
}

TEST(weak_reference_does_not_keep_the_handle) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL, *strong;
    evl_weak_handle *weak = NULL, *second = NULL;
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_weak(handle, &weak), 0);
    CHECK_CODE(evl_handle_weak(handle, &second), 0);
    strong = evl_weak_handle_upgrade(weak);
    CHECK(strong == handle);
    evl_handle_unref(strong);
    CHECK_INT(p.frees, 0);
    evl_handle_unref(handle);
    CHECK_PROBE(p, 0, 1);
    CHECK(evl_weak_handle_upgrade(weak) == NULL);
    CHECK(evl_weak_handle_upgrade(second) == NULL);
    CHECK(evl_weak_handle_upgrade(NULL) == NULL);
    evl_weak_handle_free(weak);
    end_loop(loop);
    CHECK(evl_weak_handle_upgrade(second) == NULL);
    evl_weak_handle_free(second);
    evl_weak_handle_free(NULL);
}

TEST(weak_reference_sees_a_scheduled_handle) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL, *strong;
    evl_weak_handle *weak = NULL;
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_weak(handle, &weak), 0);
    evl_handle_unref(handle);
    strong = evl_weak_handle_upgrade(weak); /* the queue keeps it */
    CHECK(strong == handle);
    CHECK_CODE(evl_handle_cancel(strong), 0);
    evl_handle_unref(strong);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK(evl_weak_handle_upgrade(weak) == NULL);
    CHECK_PROBE(p, 0, 1);
    evl_weak_handle_free(weak);
    end_loop(loop);
}

TEST(arg_is_shown) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), q = probe_named(NULL, loop), r = probe_named(NULL, loop);
    evl_handle *handle = NULL, *once = NULL, *none = NULL;
    evl_timer *timer = NULL;
    CHECK(evl_handle_get_arg(NULL) == NULL);
    CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, probe_call, &q, probe_free, NULL, &once), 0);
    CHECK_CODE(evl_loop_call_every(loop, 10, probe_call, &r, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &none), 0);
    CHECK(evl_handle_get_arg(handle) == &p);
    CHECK(evl_handle_get_arg(once) == &q);
    CHECK(evl_handle_get_arg(evl_timer_as_handle(timer)) == &r);
    CHECK(evl_handle_get_arg(none) == NULL);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 3);
    CHECK(evl_handle_get_arg(handle) == &p); /* it can run again */
    CHECK_PROBE(p, 1, 0);
    CHECK_PROBE(q, 1, 1);
    evl_handle_unref(handle);
    evl_handle_unref(once);
    evl_handle_unref(none);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
    CHECK_PROBE(r, 0, 1);
}

static int show_timers(evl_handle *handle, int kind, int number, void *arg) {
    evl_timer *timer = evl_handle_as_timer(handle);
    (void)number;
    CHECK((timer != NULL) == (kind == EVL_WALK_TIMER));
    if (timer) {
        int64_t when = 0;
        CHECK(timer == *(evl_timer **)arg);
        CHECK_CODE(evl_timer_when(timer, &when), 0);
        CHECK_INT(when, 10);
        trace((const char *)evl_handle_get_arg(handle));
    }
    return 0;
}

static void *ask_elsewhere(void *arg) {
    evl_handle *handle = (evl_handle *)arg;
    CHECK(evl_handle_as_timer(handle) != NULL);
    CHECK_STRING((const char *)evl_handle_get_arg(handle), "T");
    return NULL;
}

TEST(handle_of_a_timer_is_shown_as_one) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL, *ready = NULL;
    evl_timer *timer = NULL, *made = NULL;
    CHECK(evl_handle_as_timer(NULL) == NULL);
    CHECK_CODE(evl_handle_new(loop, nothing, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &ready), 0);
    CHECK_CODE(evl_loop_call_later(loop, 10, trace_call, (void *)"T", NULL, NULL, &timer), 0);
    CHECK_CODE(evl_timer_new(loop, 20, trace_call, (void *)"M", NULL, NULL, &made), 0);
    CHECK(evl_handle_as_timer(handle) == NULL);
    CHECK(evl_handle_as_timer(ready) == NULL);
    CHECK(evl_handle_as_timer(evl_timer_as_handle(timer)) == timer);
    CHECK(evl_handle_as_timer(evl_timer_as_handle(made)) == made);
    CHECK(evl_timer_as_handle(evl_handle_as_timer(evl_timer_as_handle(timer))) == evl_timer_as_handle(timer));
    CHECK_CODE(evl_loop_walk(loop, show_timers, &timer), 0);
    CHECK_TRACE("T");
    in_thread(ask_elsewhere, evl_timer_as_handle(timer));
    CHECK_CODE(evl_timer_cancel(made), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_TRACE("T");
    end_loop(loop);
    CHECK(evl_handle_as_timer(evl_timer_as_handle(timer)) == timer); /* done, cancelled, closed: still timers */
    CHECK(evl_handle_as_timer(evl_timer_as_handle(made)) == made);
    evl_timer_unref(timer);
    evl_timer_unref(made);
    evl_handle_unref(handle);
    evl_handle_unref(ready);
}

TEST_MAIN()
