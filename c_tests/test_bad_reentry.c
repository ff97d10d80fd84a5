/* From inside of each kind of callback: close, run again, stop, cancel or replace what runs, unref the loop. */
#include "harness.h"

/* What every callback of this file does with its loop. */
struct subject {
    evl_loop *loop;
    evl_handle *self; /* the handle of what runs, when it has one */
    int fds[2];
    int calls, frees, frees_inside;
};

static void subject_free(void *arg) {
    ((struct subject *)arg)->frees++;
}

static void misbehave(struct subject *s) {
    struct probe p = probe_named(NULL, NULL);
    evl_handle *handle = NULL;
    s->calls++;
    CHECK_CODE(evl_loop_close(s->loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_close(s->loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_forever(s->loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_once(s->loop, 0), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_until_idle(s->loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_shutdown(s->loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_prepare(s->loop, NULL), EVL_ERUNNING);
    CHECK_INT(evl_loop_is_running(s->loop), 1);
    CHECK_INT(evl_loop_is_closed(s->loop), 0);
    evl_loop_unref(evl_loop_ref(s->loop));
    CHECK_CODE(evl_loop_call_soon(s->loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_PROBE(p, 0, 1);
    evl_handle_unref(handle);
    CHECK_CODE(evl_loop_stop(s->loop), 0);
    if (s->self) {
        CHECK_CODE(evl_handle_run(s->self), EVL_EENTERED);
        CHECK_CODE(evl_handle_cancel(s->self), 0);
        CHECK_CODE(evl_handle_cancel(s->self), 0);
        CHECK_CODE(evl_handle_schedule(s->self) < 0 ? -1 : 0, -1);
        CHECK_INT(evl_handle_cancelled(s->self), 1);
        evl_handle_unref(s->self); /* the last one */
        s->self = NULL;
    }
    s->frees_inside += s->frees;
}

static void misbehave_call(void *arg) {
    misbehave((struct subject *)arg);
}

static void begin(struct subject *s) {
    memset(s, 0, sizeof *s);
    s->loop = manual_loop();
    CHECK(pipe(s->fds) == 0);
}

static void finish(struct subject *s, int calls) {
    CHECK_INT(s->calls, calls);
    CHECK_INT(s->frees, 1);
    CHECK_INT(s->frees_inside, 0);
    CHECK_CODE(evl_loop_run_until_idle(s->loop), 0);
    end_loop(s->loop);
    CHECK_INT(s->calls, calls);
    CHECK_INT(s->frees, 1);
    close(s->fds[0]);
    close(s->fds[1]);
}

TEST(in_a_soon_callback) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_call_soon(s.loop, misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

TEST(in_a_handle) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_handle_new(s.loop, misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK_CODE(evl_handle_schedule(s.self), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

TEST(in_a_posted_callback) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_call_soon_threadsafe(s.loop, misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

TEST(in_a_timer) {
    struct subject s;
    evl_timer *timer = NULL;
    begin(&s);
    CHECK_CODE(evl_loop_call_later(s.loop, 0, misbehave_call, &s, subject_free, NULL, &timer), 0);
    s.self = evl_timer_as_handle(timer);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

TEST(in_a_tick) {
    struct subject s;
    evl_timer *timer = NULL;
    begin(&s);
    CHECK_CODE(evl_loop_call_every(s.loop, 5, misbehave_call, &s, subject_free, NULL, &timer), 0);
    s.self = evl_timer_as_handle(timer);
    CHECK_CODE(evl_loop_advance(s.loop, 5), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK_CODE(evl_loop_advance(s.loop, 50), 0);
    finish(&s, 1);
}

TEST(in_a_reader) {
    struct subject s;
    begin(&s);
    CHECK(write(s.fds[1], "x", 1) == 1);
    CHECK_CODE(evl_loop_add_reader(s.loop, s.fds[0], misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK_CODE(evl_loop_remove_reader(s.loop, s.fds[0]), 0);
    finish(&s, 1);
}

TEST(in_a_writer) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_add_writer(s.loop, s.fds[1], misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK_CODE(evl_loop_remove_writer(s.loop, s.fds[1]), 0);
    finish(&s, 1);
}

TEST(in_a_signal_handler) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_add_signal_handler(s.loop, SIGUSR1, misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK_CODE(evl_loop_remove_signal_handler(s.loop, SIGUSR1), 0);
    finish(&s, 1);
}

TEST(in_a_shutdown_hook) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_add_shutdown_hook(s.loop, misbehave_call, &s, subject_free, NULL, &s.self), 0);
    CHECK(evl_loop_run_shutdown(s.loop) >= 1);
    finish(&s, 1);
}

static void fail(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, "x"), 0);
}

static void misbehave_exception(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    struct subject *s = (struct subject *)arg;
    CHECK(event_loop == s->loop);
    CHECK(exception->handle == NULL || evl_handle_get_loop(exception->handle) == s->loop);
    if (exception->handle)
        CHECK_CODE(evl_handle_cancel(exception->handle), 0);
    misbehave(s);
    CHECK_CODE(evl_loop_set_exception_handler(event_loop, NULL, NULL, NULL), 0);
    s->frees_inside += s->frees;
}

TEST(in_an_exception_handler_that_removes_itself) {
    struct subject s;
    evl_handle *failing = NULL;
    begin(&s);
    CHECK_CODE(evl_loop_set_exception_handler(s.loop, misbehave_exception, &s, subject_free), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, fail, NULL, NULL, NULL, &failing), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    evl_handle_unref(failing);
    finish(&s, 1);
}

static void misbehave_wait(void *arg) {
    struct subject *s = (struct subject *)arg;
    misbehave(s);
    CHECK_CODE(evl_loop_set_wait_hooks(s->loop, NULL, NULL, NULL, NULL), 0);
    s->frees_inside += s->frees;
}

TEST(in_a_hook_before_the_wait_that_removes_itself) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_set_wait_hooks(s.loop, misbehave_wait, NULL, &s, subject_free), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0); /* the stop of the hook ends it: it does not wait */
    finish(&s, 1);
}

static void wake(void *arg) {
    struct subject *s = (struct subject *)arg;
    CHECK_CODE(evl_loop_stop_threadsafe(s->loop), 0);
}

TEST(in_a_hook_after_the_wait_that_removes_itself) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_set_wait_hooks(s.loop, wake, misbehave_wait, &s, subject_free), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

static void misbehave_log(int level, const char *message, void *arg) {
    struct subject *s = (struct subject *)arg;
    CHECK_INT(level, EVL_LOG_ERROR);
    CHECK(message != NULL);
    misbehave(s);
    CHECK_CODE(evl_loop_set_log(s->loop, NULL, NULL, NULL), 0);
    s->frees_inside += s->frees;
}

TEST(in_a_log_function_that_removes_itself) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_set_log(s.loop, misbehave_log, &s, subject_free), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, fail, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

static void misbehave_free(void *arg) {
    struct subject *s = (struct subject *)arg;
    s->frees++;
    s->frees_inside--;
    misbehave(s);
}

TEST(in_an_arg_free) {
    struct subject s;
    begin(&s);
    CHECK_CODE(evl_loop_call_soon(s.loop, nothing, &s, misbehave_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
    begin(&s);
    CHECK_CODE(evl_loop_call_later(s.loop, 0, nothing, &s, misbehave_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    finish(&s, 1);
}

static int misbehave_walk(evl_handle *handle, int kind, int number, void *arg) {
    struct subject *s = (struct subject *)arg;
    (void)kind;
    (void)number;
    if (!CHECK(handle != NULL))
        return 1;
    s->calls++;
    CHECK_CODE(evl_loop_call_soon(s->loop, nothing, NULL, NULL, NULL, NULL), 0); /* what is added need not be shown */
    CHECK_CODE(evl_loop_call_later(s->loop, 5, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    return s->calls == 3;
}

TEST(in_a_walk) {
    struct subject s;
    evl_handle *first = NULL, *second = NULL;
    begin(&s);
    CHECK_CODE(evl_loop_call_soon(s.loop, nothing, &s, subject_free, NULL, &first), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, nothing, NULL, NULL, NULL, &second), 0);
    CHECK_CODE(evl_loop_call_later(s.loop, 5, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK(evl_loop_walk(s.loop, misbehave_walk, &s) >= 0);
    CHECK(s.calls >= 3);
    CHECK(evl_loop_run_until_idle(s.loop) >= 2);
    evl_handle_unref(first);
    evl_handle_unref(second);
    finish(&s, s.calls);
}

/* arg_free outside of a run: the loop does not run, and may be used as it may be used there. */

struct freed {
    evl_loop *loop;
    int frees, soon_code, close_code, run_code;
    struct probe p;
};

static void use_loop(void *arg) {
    struct freed *f = (struct freed *)arg;
    f->frees++;
    f->soon_code = evl_loop_call_soon(f->loop, probe_call, &f->p, probe_free, NULL, NULL);
    f->run_code = evl_loop_run_once(f->loop, 0);
    f->close_code = evl_loop_close(f->loop);
}

TEST(arg_free_of_a_cancel_may_use_the_loop) {
    struct freed f;
    evl_handle *handle = NULL;
    memset(&f, 0, sizeof f);
    f.loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(f.loop, nothing, &f, use_loop, NULL, &handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_INT(f.frees, 1);
    CHECK_CODE(f.soon_code, 0);
    CHECK(f.run_code >= 0 || f.run_code == EVL_ERUNNING);
    CHECK(f.close_code == 0 || f.close_code == EVL_ERUNNING);
    evl_handle_unref(handle);
    end_loop(f.loop);
    CHECK_INT(f.frees, 1);
    CHECK_INT(f.p.frees, 1);
}

TEST(arg_free_of_a_close_finds_the_loop_closed) {
    struct freed f, g;
    memset(&f, 0, sizeof f);
    memset(&g, 0, sizeof g);
    f.loop = g.loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(f.loop, nothing, &f, use_loop, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(f.loop, 5, nothing, &g, use_loop, NULL, NULL), 0);
    CHECK_CODE(evl_loop_close(f.loop), 0);
    CHECK_INT(f.frees, 1);
    CHECK_INT(g.frees, 1);
    CHECK_CODE(f.soon_code, EVL_ECLOSED);
    CHECK_CODE(f.run_code, EVL_ECLOSED);
    CHECK_CODE(f.close_code, 0);
    CHECK_PROBE(f.p, 0, 1);
    CHECK_CODE(g.soon_code, EVL_ECLOSED);
    evl_loop_unref(f.loop);
    CHECK_INT(f.frees, 1);
}

static void close_other(void *arg) {
    struct subject *s = (struct subject *)arg;
    s->calls++;
    CHECK_CODE(evl_loop_close(s->loop), 0); /* another loop than the one that runs */
    CHECK_CODE(evl_loop_close(s->loop), 0);
    evl_loop_unref(s->loop);
}

TEST(a_callback_closes_another_loop) {
    evl_loop *loop = manual_loop();
    struct subject s;
    struct probe p = probe_named(NULL, NULL);
    memset(&s, 0, sizeof s);
    s.loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(s.loop, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, close_other, &s, subject_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(s.calls, 1);
    CHECK_INT(s.frees, 1);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
}

static void unref_loop(void *arg) {
    struct subject *s = (struct subject *)arg;
    s->calls++;
    evl_loop_unref(s->loop);
    CHECK_CODE(evl_loop_stop(s->loop), 0);
}

TEST(every_kind_of_callback_may_drop_the_last_reference) {
    int kind;
    for (kind = 0; kind < 5; kind++) {
        struct subject s;
        struct probe data = probe_named(NULL, NULL);
        begin(&s);
        CHECK_CODE(evl_loop_set_data(s.loop, &data, probe_free), 0);
        if (kind == 0)
            CHECK_CODE(evl_loop_call_later(s.loop, 0, unref_loop, &s, subject_free, NULL, NULL), 0);
        if (kind == 1)
            CHECK_CODE(evl_loop_add_writer(s.loop, s.fds[1], unref_loop, &s, subject_free, NULL, NULL), 0);
        if (kind == 2)
            CHECK_CODE(evl_loop_add_signal_handler(s.loop, SIGUSR1, unref_loop, &s, subject_free, NULL, NULL), 0);
        if (kind == 3)
            CHECK_CODE(evl_loop_call_soon_threadsafe(s.loop, unref_loop, &s, subject_free, NULL, NULL), 0);
        if (kind == 4)
            CHECK_CODE(evl_loop_call_soon(s.loop, nothing, &s, unref_loop, NULL, NULL), 0); /* its arg_free */
        if (kind == 2)
            CHECK(raise(SIGUSR1) == 0);
        CHECK_CODE(evl_loop_run_forever(s.loop), 0);
        CHECK_INT(s.calls, 1);
        CHECK_INT(s.frees, kind == 4 ? 0 : 1);
        CHECK_PROBE(data, 0, 1);
        close(s.fds[0]);
        close(s.fds[1]);
    }
}

TEST_MAIN()
