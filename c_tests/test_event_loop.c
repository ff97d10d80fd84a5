/* How a loop runs: what one iteration is, stop, close, exit codes, the running loop. */
#include "harness.h"

static void soon(evl_loop *loop, const char *word) {
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)word, NULL, NULL, NULL), 0);
}

static void nested(void *arg) {
    trace("n");
    soon((evl_loop *)arg, "late");
}

TEST(one_iteration_runs_what_was_ready_when_it_began) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, nested, loop, NULL, NULL, NULL), 0);
    soon(loop, "a");
    soon(loop, "b");
    CHECK_CODE(evl_loop_run_once(loop, 0), 3);
    CHECK_TRACE("n a b");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("late");
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    end_loop(loop);
}

static void stop_and_schedule(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    trace("stop");
    CHECK_CODE(evl_loop_stop(loop), 0);
    CHECK_CODE(evl_loop_stop(loop), 0);
    soon(loop, "next");
}

TEST(stop_finishes_the_batch_and_keeps_the_rest) {
    evl_loop *loop = manual_loop();
    soon(loop, "a");
    CHECK_CODE(evl_loop_call_soon(loop, stop_and_schedule, loop, NULL, NULL, NULL), 0);
    soon(loop, "b");
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("a stop b");
    CHECK_INT(evl_loop_is_running(loop), 0);
    CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("next");
    end_loop(loop);
}

TEST(stop_before_run_gives_one_iteration_that_polls) {
    evl_loop *loop = manual_loop();
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], trace_call, (void *)"reader", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, nested, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_stop(loop), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("n reader");
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_stop(loop), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("late");
    CHECK_CODE(evl_loop_stop(loop), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0); /* does not wait */
    CHECK_TRACE("");
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
}

TEST(run_once_uses_up_a_stop_and_does_not_wait) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_stop(loop), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_FOREVER), 0);
    soon(loop, "a");
    CHECK_CODE(evl_loop_call_soon(loop, nested, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 3); /* the stop is gone */
    CHECK_TRACE("a n late");
    end_loop(loop);
}

TEST(a_stop_inside_run_once_ends_with_it) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, stop_and_schedule, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_call_soon(loop, nested, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 3);
    CHECK_TRACE("stop next n late");
    end_loop(loop);
}

TEST(run_until_idle_stops_at_stop) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, stop_and_schedule, loop, NULL, NULL, NULL), 0);
    soon(loop, "a");
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_TRACE("stop a");
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("next");
    end_loop(loop);
}

TEST(run_until_idle_is_not_held_by_timers_and_watchers) {
    evl_loop *loop = real_loop();
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(1000), nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_call_soon(loop, nested, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    evl_loop_remove_reader(loop, fds[0]);
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
}

TEST(run_once_waits_no_longer_than_its_timeout) {
    evl_loop *loop = real_loop();
    int64_t before = 0, after = 0;
    CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(1000), nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_time(loop, &before), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_MS(3)), 0);
    CHECK_CODE(evl_loop_time(loop, &after), 0);
    CHECK(after - before >= EVL_MS(3));
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(2), nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_FOREVER), 1);
    soon(loop, "a");
    CHECK_CODE(evl_loop_run_once(loop, EVL_FOREVER), 1); /* ready: no wait */
    CHECK_CODE(evl_loop_run_once(loop, -1), -EINVAL);
    end_loop(loop);
}

static void exits_with_3(void *arg) {
    trace("exit");
    CHECK_CODE(evl_raise_exit(3), 0);
    soon((evl_loop *)arg, "later");
}

TEST(exit_ends_the_run_at_once_and_keeps_the_queue) {
    evl_loop *loop = manual_loop();
    int code = 9;
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 0);
    soon(loop, "a");
    CHECK_CODE(evl_loop_call_soon(loop, exits_with_3, loop, NULL, NULL, NULL), 0);
    soon(loop, "b");
    CHECK_CODE(evl_loop_run_forever(loop), EVL_EEXIT);
    CHECK_TRACE("a exit");
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 3);
    CHECK_INT(evl_loop_is_running(loop), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_TRACE("b later");
    CHECK_CODE(evl_loop_call_soon(loop, exits_with_3, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_EEXIT);
    CHECK_CODE(evl_loop_call_soon(loop, exits_with_3, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), EVL_EEXIT);
    end_loop(loop);
    CHECK_TRACE("exit later exit");
}

static void look_around(void *arg) {
    evl_loop *loop = (evl_loop *)arg, *running = NULL;
    trace("look");
    CHECK_INT(evl_loop_is_running(loop), 1);
    CHECK_CODE(evl_get_running_loop(&running), 0);
    CHECK(running == loop);
    evl_loop_unref(running);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_until_idle(loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_shutdown(loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_close(loop), EVL_ERUNNING);
    CHECK_CODE(evl_loop_after_fork(loop), 0); /* not forked: left alone */
}

TEST(loop_is_running_inside_callbacks_only) {
    evl_loop *loop = manual_loop(), *running = loop;
    CHECK_INT(evl_loop_is_running(loop), 0);
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    CHECK(running == loop);
    CHECK_CODE(evl_loop_call_soon(loop, look_around, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("look");
    CHECK_INT(evl_loop_is_running(loop), 0);
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    CHECK_INT(evl_loop_is_closed(loop), 0);
    end_loop(loop);
}

struct two {
    evl_loop *outer, *inner;
    int calls;
};

static void run_inner(void *arg) {
    struct two *t = (struct two *)arg;
    t->calls++;
    CHECK_CODE(evl_loop_run_once(t->inner, 0), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_forever(t->inner), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_until_idle(t->inner), EVL_ERUNNING);
    CHECK_INT(evl_loop_is_running(t->inner), 0);
    CHECK_CODE(evl_loop_call_soon(t->inner, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(t->outer, stop_loop, t->outer, NULL, NULL, NULL), 0);
}

TEST(a_second_loop_does_not_run_inside_the_first) {
    struct two t;
    t.outer = manual_loop();
    t.inner = manual_loop();
    t.calls = 0;
    CHECK_CODE(evl_loop_call_soon(t.outer, run_inner, &t, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(t.outer), 0);
    CHECK_INT(t.calls, 1);
    CHECK_CODE(evl_loop_run_until_idle(t.inner), 1);
    end_loop(t.inner);
    end_loop(t.outer);
}

TEST(close_abandons_what_is_pending) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), q = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 0, probe_call, &q, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 1);
    CHECK_INT(evl_loop_is_closed(loop), 1);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_ECLOSED);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_ECLOSED);
    CHECK_CODE(evl_loop_run_until_idle(loop), EVL_ECLOSED);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, NULL), EVL_ECLOSED);
    CHECK_PROBE(p, 0, 2);
    evl_loop_unref(loop);
    CHECK_PROBE(q, 0, 1);
}

TEST(last_unref_closes) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), data = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_set_data(loop, &data, probe_free), 0);
    CHECK(evl_loop_ref(loop) == loop);
    CHECK(evl_loop_ref(NULL) == NULL);
    evl_loop_unref(loop);
    CHECK_PROBE(p, 0, 0);
    evl_loop_unref(loop);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(data, 0, 1);
    evl_loop_unref(NULL);
}

static void unref_and_go_on(void *arg) {
    evl_loop *loop = ((struct probe *)arg)->loop;
    probe_call(arg);
    evl_loop_unref(loop); /* the last one, of a running loop */
    CHECK_INT(evl_loop_is_running(loop), 1);
    CHECK_INT(evl_loop_is_closed(loop), 0);
    soon(loop, "still");
    CHECK_CODE(evl_loop_call_soon(loop, stop_and_schedule, loop, NULL, NULL, NULL), 0);
}

TEST(last_unref_of_a_running_loop_closes_it_when_it_stops) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("unref", loop), data = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_set_data(loop, &data, probe_free), 0);
    CHECK_CODE(evl_loop_call_soon(loop, unref_and_go_on, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("unref still stop");
    CHECK_PROBE(p, 1, 1);
    CHECK_PROBE(data, 0, 1);
}

static int visit_kinds(evl_handle *handle, int kind, int number, void *arg) {
    char word[32];
    (void)arg;
    (void)handle;
    snprintf(word, sizeof word, "%d:%d", kind, kind == EVL_WALK_SIGNAL ? number == SIGUSR1 : 0);
    trace(word);
    return 0;
}

TEST(callbacks_of_a_batch_count_in_the_metrics) {
    evl_loop *loop = manual_loop();
    evl_metrics m;
    memset(&m, 0, sizeof m);
    m.size = sizeof m;
    soon(loop, "a");
    soon(loop, "b");
    CHECK_CODE(evl_loop_call_later(loop, 5, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    CHECK_INT(m.iterations, 0);
    CHECK_INT(m.callbacks, 0);
    CHECK_INT(m.ready, 2);
    CHECK_INT(m.timers, 1);
    CHECK_INT(m.watchers, 0);
    CHECK_CODE(evl_loop_walk(loop, visit_kinds, NULL), 0);
    CHECK_TRACE("0:0 0:0 1:0");
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    CHECK_INT(m.iterations, 2);
    CHECK_INT(m.callbacks, 3);
    CHECK_INT(m.ready, 0);
    CHECK_INT(m.timers, 1);
    end_loop(loop);
}

TEST_MAIN()
