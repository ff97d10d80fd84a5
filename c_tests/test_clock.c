/* The loop's clock: the real one, and the manual one that moves only when it is told. */
#include "harness.h"

TEST(manual_clock_starts_where_it_is_told_and_stands_still) {
    evl_loop_options options;
    evl_loop *loop = NULL;
    int64_t time = -1, now = -1, resolution = -1;
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    options.flags = EVL_LOOP_MANUAL_CLOCK;
    options.start_time_ns = 12345;
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 12345);
    CHECK_CODE(evl_loop_now(loop, &now), 0);
    CHECK_INT(now, 12345);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 12345);
    CHECK_CODE(evl_loop_advance(loop, 0), 0);
    CHECK_CODE(evl_loop_advance(loop, 5), 0);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 12350);
    CHECK_CODE(evl_loop_now(loop, &now), 0);
    CHECK_INT(now, 12350);
    CHECK_CODE(evl_loop_advance(loop, -1), -EINVAL);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 12350);
    CHECK_CODE(evl_loop_clock_resolution(loop, &resolution), 0);
    CHECK(resolution >= 1);
    end_loop(loop);
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    options.flags = EVL_LOOP_MANUAL_CLOCK;
    options.start_time_ns = -500;
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, -500);
    end_loop(loop);
}

TEST(manual_clock_starts_at_zero) {
    evl_loop *loop = manual_loop();
    int64_t time = -1;
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 0);
    end_loop(loop);
}

static void advance_inside(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    int64_t now = -1, time = -1;
    trace("advance");
    CHECK_CODE(evl_loop_now(loop, &now), 0);
    CHECK_INT(now, 100);
    CHECK_CODE(evl_loop_advance(loop, 7), 0);
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_INT(time, 107);
    CHECK_CODE(evl_loop_now(loop, &now), 0);
    CHECK_INT(now, 100); /* the iteration's */
    CHECK_CODE(evl_loop_call_later(loop, 0, trace_call, (void *)"at107", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_at(loop, 104, trace_call, (void *)"at104", NULL, NULL, NULL), 0);
}

TEST(now_is_the_iterations_time) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    CHECK_CODE(evl_loop_call_soon(loop, advance_inside, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("advance");
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("at104 at107");
    end_loop(loop);
}

TEST(advance_runs_nothing_itself) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_later(loop, 10, trace_call, (void *)"a", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_TRACE("");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("a");
    end_loop(loop);
}

TEST(timers_made_due_by_a_callback_fire_in_the_next_iteration) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    CHECK_CODE(evl_loop_call_later(loop, 5, trace_call, (void *)"at105", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, advance_inside, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 4);
    CHECK_TRACE("advance at104 at105 at107");
    end_loop(loop);
}

static void advance_before(void *arg) {
    struct probe *p = (struct probe *)arg;
    probe_call(p);
    CHECK_CODE(evl_loop_advance(p->loop, 20), 0);
}

static void count_after(void *arg) {
    ((struct probe *)arg)->calls += 1000;
}

TEST(a_wait_hook_moves_the_clock_to_the_next_timer) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_set_wait_hooks(loop, advance_before, count_after, &p, probe_free), 0);
    CHECK_CODE(evl_loop_call_later(loop, 30, stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 10, trace_call, (void *)"at10", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE("at10");
    CHECK_INT(p.calls, 2002); /* as often after as before */
    end_loop(loop);
    CHECK_INT(p.frees, 1);
}

TEST(real_clock_is_monotonic_and_not_advanced) {
    evl_loop *loop = real_loop();
    int64_t a = 0, b = 0, now = 0, resolution = 0;
    int i;
    CHECK_CODE(evl_loop_time(loop, &a), 0);
    for (i = 0; i < 1000; i++) {
        CHECK_CODE(evl_loop_time(loop, &b), 0);
        CHECK(b >= a);
        a = b;
    }
    CHECK_CODE(evl_loop_now(loop, &now), 0);
    CHECK(now >= a);
    CHECK_CODE(evl_loop_advance(loop, 5), EVL_ECLOCK);
    CHECK_CODE(evl_loop_clock_resolution(loop, &resolution), 0);
    CHECK(resolution >= 1 && resolution <= EVL_MS(20));
    end_loop(loop);
}

static void nothing_at_all(void *arg) {
    (void)arg;
}

static void advance_to_the_next_deadline(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    int64_t deadline = 0, now = 0;
    CHECK_CODE(evl_loop_next_deadline(loop, &deadline), 0);
    CHECK_CODE(evl_loop_time(loop, &now), 0);
    CHECK_CODE(evl_loop_advance(loop, deadline - now), 0);
}

static void stop_at(void *arg) {
    CHECK_CODE(evl_loop_stop((evl_loop *)arg), 0);
}

TEST(a_hook_takes_the_clock_from_deadline_to_deadline) {
    evl_loop *loop = manual_loop();
    evl_timer *cancelled = NULL;
    int64_t deadline = 0, now = 0;
    int i;
    CHECK_CODE(evl_loop_next_deadline(loop, &deadline), 0);
    CHECK(deadline == EVL_FOREVER);
    CHECK_CODE(evl_loop_call_at(loop, 5, stop_at, loop, NULL, NULL, &cancelled), 0);
    for (i = 0; i < 3000; i++)
        CHECK_CODE(evl_loop_call_at(loop, EVL_SECONDS(i + 1), nothing_at_all, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_at(loop, EVL_SECONDS(1000) + 1, stop_at, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_next_deadline(loop, &deadline), 0);
    CHECK(deadline == 5);
    CHECK_CODE(evl_timer_cancel(cancelled), 0);
    evl_timer_unref(cancelled);
    CHECK_CODE(evl_loop_next_deadline(loop, &deadline), 0);
    CHECK(deadline == EVL_SECONDS(1));
    CHECK_CODE(evl_loop_set_wait_hooks(loop, advance_to_the_next_deadline, NULL, loop, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_CODE(evl_loop_time(loop, &now), 0);
    CHECK(now == EVL_SECONDS(1000) + 1);
    end_loop(loop);
}

TEST_MAIN()
