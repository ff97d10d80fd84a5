/* What an exception handler may do while the loop tells of a descriptor that cannot be watched any more; which exit wins. */
#include "harness.h"

#include <fcntl.h>

struct broken {
    evl_loop *loop;
    int pipe[2];
    struct probe reader, writer;
    evl_handle *read, *write;
    int told; /* calls of the exception handler */
    int code; /* what it was told */
};

static void stop_from_timer(void *arg) {
    trace("timer");
    stop_loop(arg);
}

/* A loop whose reader turns out to be unwatchable at the next poll: it was closed while it was paused. */
static void begin(struct broken *b, evl_exception_handler handler) {
    memset(b, 0, sizeof *b);
    b->loop = real_loop();
    CHECK(pipe(b->pipe) == 0);
    CHECK_CODE(evl_loop_set_exception_handler(b->loop, handler, b, NULL), 0);
    CHECK_CODE(evl_loop_add_reader(b->loop, b->pipe[0], probe_call, &b->reader, probe_free, NULL, &b->read), 0);
}

static void break_it(struct broken *b) {
    CHECK_CODE(evl_loop_pause_reader(b->loop, b->pipe[0]), 0);
    CHECK_CODE(evl_loop_run_once(b->loop, 0), 0);
    CHECK_CODE(evl_loop_resume_reader(b->loop, b->pipe[0]), 0);
    CHECK(close(b->pipe[0]) == 0);
}

static void finish(struct broken *b) {
    struct probe p = probe_named(NULL, b->loop);
    CHECK_CODE(evl_loop_call_soon(b->loop, probe_call, &p, probe_free, NULL, NULL), 0); /* it still works */
    CHECK_CODE(evl_loop_run_once(b->loop, 0), 1);
    CHECK_PROBE(p, 1, 1);
    evl_handle_unref(b->read);
    evl_handle_unref(b->write);
    end_loop(b->loop);
    CHECK_PROBE(b->reader, 0, 1);
    close(b->pipe[1]);
}

static void note(struct broken *b, const evl_exception *exception) {
    b->told++;
    b->code = exception->code;
    CHECK(exception->code < 0);
    CHECK(exception->message != NULL);
}

static void cancel_and_unref(evl_loop *loop, const evl_exception *exception, void *arg) {
    struct broken *b = (struct broken *)arg;
    note(b, exception);
    CHECK(loop == b->loop);
    CHECK(exception->handle == b->read);
    CHECK_CODE(evl_handle_cancel(b->read), 0);
    evl_handle_unref(b->read);
    b->read = NULL;
}

TEST(handler_gives_back_the_handle_it_is_told_of) {
    struct broken b;
    struct probe p, q;
    evl_handle *first = NULL, *second = NULL;
    begin(&b, cancel_and_unref);
    break_it(&b);
    CHECK_CODE(evl_loop_run_once(b.loop, 0), 0);
    CHECK_INT(b.told, 1);
    CHECK_PROBE(b.reader, 0, 1);
    p = probe_named("p", b.loop);
    q = probe_named("q", b.loop);
    CHECK_CODE(evl_handle_new(b.loop, probe_call, &p, probe_free, NULL, &first), 0);
    CHECK_CODE(evl_handle_new(b.loop, probe_call, &q, probe_free, NULL, &second), 0);
    REQUIRE(first != second);
    CHECK_CODE(evl_handle_schedule(first), 0);
    CHECK_CODE(evl_handle_schedule(second), 0);
    CHECK_CODE(evl_loop_run_once(b.loop, 0), 2);
    CHECK_TRACE("p q");
    evl_handle_unref(first);
    evl_handle_unref(second);
    CHECK_PROBE(p, 1, 1);
    CHECK_PROBE(q, 1, 1);
    finish(&b);
}

static void stop_there(evl_loop *loop, const evl_exception *exception, void *arg) {
    note((struct broken *)arg, exception);
    CHECK_CODE(evl_loop_stop(loop), 0);
}

TEST(stop_from_the_handler_is_noticed_before_the_loop_sleeps) {
    struct broken b;
    begin(&b, stop_there);
    break_it(&b);
    CHECK_CODE(evl_loop_run_forever(b.loop), 0);
    CHECK_INT(b.told, 1);
    finish(&b);
}

static void stop_later(evl_loop *loop, const evl_exception *exception, void *arg) {
    note((struct broken *)arg, exception);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(5), stop_from_timer, loop, NULL, NULL, NULL), 0);
}

TEST(a_timer_of_the_handler_is_waited_for) {
    struct broken b;
    begin(&b, stop_later);
    break_it(&b);
    CHECK_CODE(evl_loop_run_forever(b.loop), 0);
    CHECK_INT(b.told, 1);
    CHECK_TRACE("timer");
    finish(&b);
}

static void stop_soon(evl_loop *loop, const evl_exception *exception, void *arg) {
    note((struct broken *)arg, exception);
    CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
}

TEST(a_callback_that_the_handler_schedules_is_run) {
    struct broken b;
    begin(&b, stop_soon);
    break_it(&b);
    CHECK_CODE(evl_loop_run_forever(b.loop), 0);
    CHECK_INT(b.told, 1);
    finish(&b);
}

static void exit_there(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    note((struct broken *)arg, exception);
    CHECK_CODE(evl_raise_exit(3), 0);
}

TEST(exit_from_the_handler_leaves_no_watcher_half_removed) {
    struct broken b;
    evl_metrics metrics;
    int code = 0;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    begin(&b, exit_there);
    CHECK_CODE(evl_loop_add_writer(b.loop, b.pipe[0], probe_call, &b.writer, probe_free, NULL, &b.write), 0);
    CHECK_CODE(evl_loop_pause_reader(b.loop, b.pipe[0]), 0);
    CHECK(close(b.pipe[0]) == 0);
    CHECK_CODE(evl_loop_run_once(b.loop, 0), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(b.loop, &code), 0);
    CHECK_INT(code, 3);
    CHECK(b.told >= 1);
    CHECK_INT(evl_handle_cancelled(b.read), 1);
    CHECK_INT(evl_handle_cancelled(b.write), 1);
    CHECK_PROBE(b.reader, 0, 1);
    CHECK_PROBE(b.writer, 0, 1);
    CHECK_CODE(evl_loop_metrics(b.loop, &metrics), 0);
    CHECK_INT(metrics.watchers, 0);
    finish(&b);
    CHECK_PROBE(b.writer, 0, 1);
}

static void exit_7(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise_exit(7), 0);
}

static void exit_5_and_run(void *arg) {
    CHECK_CODE(evl_raise_exit(5), 0);
    CHECK_CODE(evl_handle_run((evl_handle *)arg), EVL_EEXIT);
}

static void run_and_exit_5(void *arg) {
    CHECK_CODE(evl_handle_run((evl_handle *)arg), EVL_EEXIT);
    CHECK_CODE(evl_raise_exit(5), 0);
}

TEST(of_two_exits_in_a_callback_the_first_wins_whatever_it_runs) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    int code = 0;
    CHECK_CODE(evl_handle_new(loop, exit_7, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_soon(loop, exit_5_and_run, handle, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 5);
    CHECK_CODE(evl_loop_call_soon(loop, run_and_exit_5, handle, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 5); /* handle_run's was answered to its caller */
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST_MAIN()
