/* Timers on a manual clock: order, cancel, reschedule, comparison; and that a real one never fires early. */
#include "harness.h"

static evl_timer *later(evl_loop *loop, int64_t delay, const char *word) {
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_later(loop, delay, trace_call, (void *)word, NULL, NULL, &timer), 0);
    return timer;
}

static void later_only(evl_loop *loop, int64_t delay, const char *word) {
    CHECK_CODE(evl_loop_call_later(loop, delay, trace_call, (void *)word, NULL, NULL, NULL), 0);
}

TEST(fires_at_its_deadline_and_not_before) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("p", loop);
    evl_timer *timer = NULL;
    int64_t when = 0;
    CHECK_CODE(evl_loop_call_later(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_timer_when(timer, &when), 0);
    CHECK_INT(when, 10);
    CHECK_INT(evl_timer_scheduled(timer), 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_advance(loop, 9), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_advance(loop, 1), 0);
    CHECK_PROBE(p, 0, 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 1);
    CHECK_INT(evl_timer_scheduled(timer), 0);
    CHECK_INT(evl_timer_cancelled(timer), 0);
    CHECK_CODE(evl_timer_when(timer, &when), 0);
    CHECK_INT(when, 10);
    CHECK_CODE(evl_timer_schedule(timer), EVL_EDONE);
    CHECK_CODE(evl_timer_reschedule(timer, 50), EVL_EDONE);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

TEST(order_is_deadline_then_first_made) {
    evl_loop *loop = manual_loop();
    later_only(loop, 30, "c1");
    later_only(loop, 10, "a1");
    later_only(loop, 20, "b1");
    later_only(loop, 10, "a2");
    later_only(loop, 30, "c2");
    CHECK_CODE(evl_loop_call_at(loop, 10, trace_call, (void *)"a3", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_at(loop, 20, trace_call, (void *)"b2", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_advance(loop, 20), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 5);
    CHECK_TRACE("a1 a2 a3 b1 b2");
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("c1 c2");
    end_loop(loop);
}

TEST(a_thousand_equal_deadlines_keep_their_order) {
    evl_loop *loop = manual_loop();
    static char words[1000][8];
    int i;
    char expected[4096] = "", *end = expected;
    for (i = 0; i < 1000; i++) {
        snprintf(words[i], sizeof words[i], "%d", i % 10);
        later_only(loop, 5, words[i]);
        end += snprintf(end, 8, i ? " %d" : "%d", i % 10);
    }
    CHECK_CODE(evl_loop_advance(loop, 5), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1000);
    CHECK_TRACE(expected);
    end_loop(loop);
}

TEST(past_deadlines_are_due_in_their_order) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    later_only(loop, 0, "zero");
    later_only(loop, -50, "minus50");
    later_only(loop, -60, "minus60");
    CHECK_CODE(evl_loop_call_at(loop, 3, trace_call, (void *)"at3", NULL, NULL, NULL), 0);
    later_only(loop, 0, "zero2");
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"soon", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 6);
    CHECK_TRACE("soon at3 minus60 minus50 zero zero2");
    end_loop(loop);
}

static void soon_and_later(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    trace("first");
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"soon1", NULL, NULL, NULL), 0);
    later_only(loop, 0, "later");
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"soon2", NULL, NULL, NULL), 0);
}

TEST(a_zero_delay_runs_after_what_is_soon) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, soon_and_later, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("first");
    CHECK_CODE(evl_loop_run_once(loop, 0), 3);
    CHECK_TRACE("soon1 soon2 later");
    end_loop(loop);
}

TEST(sums_saturate) {
    evl_loop *loop = manual_loop();
    evl_timer *forever, *never_early;
    int64_t when = 0;
    CHECK_CODE(evl_loop_advance(loop, 1000), 0);
    forever = later(loop, EVL_FOREVER, "forever");
    CHECK_CODE(evl_timer_when(forever, &when), 0);
    CHECK(when == INT64_MAX);
    never_early = later(loop, INT64_MIN, "past");
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("past");
    CHECK_CODE(evl_loop_advance(loop, EVL_SECONDS(1000000)), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_TRACE("");
    evl_timer_unref(forever);
    evl_timer_unref(never_early);
    end_loop(loop);
}

TEST(cancel_before_it_fires) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    evl_metrics metrics;
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_call_later(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    CHECK_INT(metrics.timers, 1);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_INT(evl_timer_cancelled(timer), 1);
    CHECK_INT(evl_handle_cancelled(evl_timer_as_handle(timer)), 1);
    CHECK_INT(evl_timer_scheduled(timer), 0);
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    CHECK_INT(metrics.timers, 0);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    CHECK_CODE(evl_timer_schedule(timer), EVL_ECANCELLED);
    CHECK_CODE(evl_timer_reschedule(timer, 5), EVL_ECANCELLED);
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 0, 1);
}

struct act {
    evl_timer *timer;
    const char *word;
    int64_t when;
    int calls, frees, code;
};

static void act_free(void *arg) {
    ((struct act *)arg)->frees++;
}

static void act_cancel(void *arg) {
    struct act *a = (struct act *)arg;
    a->calls++;
    CHECK_CODE(evl_timer_cancel(a->timer), 0);
    CHECK_INT(evl_timer_cancelled(a->timer), 1);
}

static void act_reschedule(void *arg) {
    struct act *a = (struct act *)arg;
    a->calls++;
    CHECK_INT(evl_timer_scheduled(a->timer), 0);
    a->code = evl_timer_reschedule(a->timer, a->when);
    CHECK_INT(a->frees, 0);
}

TEST(due_timer_cancelled_by_an_earlier_one_does_not_fire) {
    evl_loop *loop = manual_loop();
    struct act a;
    struct probe p = probe_named(NULL, loop);
    memset(&a, 0, sizeof a);
    CHECK_CODE(evl_loop_call_later(loop, 5, act_cancel, &a, act_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 6, probe_call, &p, probe_free, NULL, &a.timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 0, 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_timer_unref(a.timer);
    end_loop(loop);
    CHECK_INT(a.frees, 1);
}

static void act_move_other(void *arg) {
    struct act *a = (struct act *)arg;
    a->calls++;
    a->code = evl_timer_reschedule(a->timer, a->when);
}

TEST(due_timer_moved_by_an_earlier_one_fires_at_the_new_deadline_only) {
    evl_loop *loop = manual_loop();
    struct act a;
    struct probe p = probe_named(NULL, loop);
    memset(&a, 0, sizeof a);
    a.when = 50;
    CHECK_CODE(evl_loop_call_later(loop, 5, act_move_other, &a, act_free, NULL, NULL), 0);
    CHECK_CODE(evl_timer_new(loop, 6, probe_call, &p, probe_free, NULL, &a.timer), 0);
    CHECK_CODE(evl_timer_schedule(a.timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(a.code, 0);
    CHECK_PROBE(p, 0, 0);
    CHECK_INT(evl_timer_scheduled(a.timer), 1);
    CHECK_CODE(evl_loop_advance(loop, 40), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 0);
    evl_timer_unref(a.timer);
    CHECK_PROBE(p, 1, 1);
    end_loop(loop);
}

TEST(timer_cancels_itself_in_its_callback) {
    evl_loop *loop = manual_loop();
    struct act a;
    memset(&a, 0, sizeof a);
    CHECK_CODE(evl_timer_new(loop, 5, act_cancel, &a, act_free, NULL, &a.timer), 0);
    CHECK_CODE(evl_timer_schedule(a.timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 5), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(a.frees, 1);
    CHECK_CODE(evl_timer_reschedule(a.timer, 5), EVL_ECANCELLED);
    evl_timer_unref(a.timer);
    end_loop(loop);
    CHECK_INT(a.frees, 1);
}

TEST(new_timer_is_started_again_after_it_fired) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    int64_t when = 0;
    CHECK_CODE(evl_timer_new(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_INT(evl_timer_scheduled(timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_timer_schedule(timer), 0);
    CHECK_CODE(evl_timer_schedule(timer), EVL_ESCHEDULED);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(evl_timer_schedule(timer), 0); /* its deadline is past: due at once */
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(evl_timer_reschedule(timer, 30), 0);
    CHECK_CODE(evl_timer_when(timer, &when), 0);
    CHECK_INT(when, 30);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_advance(loop, 20), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 3, 0);
    evl_timer_unref(timer);
    CHECK_PROBE(p, 3, 1);
    end_loop(loop);
}

TEST(timer_moves_itself_in_its_callback) {
    evl_loop *loop = manual_loop();
    struct act a, one_shot;
    memset(&a, 0, sizeof a);
    a.when = 20;
    CHECK_CODE(evl_timer_new(loop, 10, act_reschedule, &a, act_free, NULL, &a.timer), 0);
    CHECK_CODE(evl_timer_schedule(a.timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(a.code, 0);
    CHECK_INT(evl_timer_scheduled(a.timer), 1);
    a.when = 1000;
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(a.calls, 2);
    evl_timer_unref(a.timer); /* stays started */
    CHECK_INT(a.frees, 0);
    memset(&one_shot, 0, sizeof one_shot);
    one_shot.when = 40;
    CHECK_CODE(evl_loop_call_later(loop, 5, act_reschedule, &one_shot, act_free, NULL, &one_shot.timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 5), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_CODE(one_shot.code, EVL_EDONE);
    CHECK_INT(one_shot.frees, 1);
    evl_timer_unref(one_shot.timer);
    end_loop(loop);
    CHECK_INT(a.frees, 1);
    CHECK_INT(one_shot.frees, 1);
}

TEST(reschedule_moves_both_ways) {
    evl_loop *loop = manual_loop();
    evl_timer *a = later(loop, 10, "a"), *b = later(loop, 20, "b"), *c = later(loop, 30, "c");
    CHECK_CODE(evl_timer_reschedule(a, 25), 0); /* later */
    CHECK_CODE(evl_timer_reschedule(c, 5), 0);  /* earlier */
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("c");
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("b");
    CHECK_CODE(evl_timer_reschedule(a, 40), 0);
    CHECK_CODE(evl_timer_reschedule(a, 22), 0); /* later, then earlier than it was */
    CHECK_CODE(evl_loop_advance(loop, 2), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("a");
    evl_timer_unref(a);
    evl_timer_unref(b);
    evl_timer_unref(c);
    end_loop(loop);
}

TEST(equal_deadlines_fire_in_the_order_they_were_set) {
    evl_loop *loop = manual_loop();
    evl_timer *a = later(loop, 10, "a"), *b = later(loop, 20, "b"), *c = later(loop, 20, "c");
    later_only(loop, 20, "d");
    CHECK_CODE(evl_timer_reschedule(a, 20), 0); /* from before: behind all of them */
    CHECK_CODE(evl_timer_reschedule(b, 20), 0); /* set again: last */
    CHECK_CODE(evl_timer_reschedule(c, 50), 0);
    CHECK_CODE(evl_timer_reschedule(c, 20), 0); /* from behind: last now */
    later_only(loop, 20, "e");
    CHECK_CODE(evl_loop_advance(loop, 20), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 5);
    CHECK_TRACE("d a b c e");
    evl_timer_unref(a);
    evl_timer_unref(b);
    evl_timer_unref(c);
    end_loop(loop);
}

TEST(the_handle_of_a_timer_is_the_same_object) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    evl_handle *handle;
    char text[300];
    CHECK_CODE(evl_loop_call_later(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    handle = evl_timer_as_handle(timer);
    REQUIRE(handle != NULL);
    CHECK(evl_timer_as_handle(timer) == handle);
    CHECK(evl_timer_as_handle(NULL) == NULL);
    CHECK(evl_handle_get_loop(handle) == loop);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK(strstr(text, "Timer") != NULL);
    CHECK_CODE(evl_handle_schedule(handle), -EINVAL);
    evl_handle_ref(handle);
    evl_timer_unref(timer);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_INT(evl_timer_cancelled(timer), 1);
    CHECK_CODE(evl_loop_advance(loop, 20), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST(close_releases_timers) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), q = probe_named(NULL, loop), r = probe_named(NULL, loop);
    evl_timer *held = NULL, *idle = NULL;
    CHECK_CODE(evl_loop_call_later(loop, 10, probe_call, &p, probe_free, NULL, &held), 0);
    CHECK_CODE(evl_loop_call_later(loop, 10, probe_call, &q, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_timer_new(loop, 10, probe_call, &r, probe_free, NULL, &idle), 0);
    end_loop(loop);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 1);
    CHECK_PROBE(r, 0, 1);
    CHECK_INT(evl_timer_scheduled(held), 0);
    CHECK_CODE(evl_timer_schedule(idle), EVL_ECLOSED);
    CHECK_CODE(evl_timer_reschedule(held, 3), EVL_ECLOSED);
    CHECK_CODE(evl_timer_cancel(held), 0);
    evl_timer_unref(held);
    evl_timer_unref(idle);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(r, 0, 1);
}

static void check_not_early(void *arg) {
    struct act *a = (struct act *)arg;
    int64_t now = 0, time = 0;
    evl_loop *loop = evl_handle_get_loop(evl_timer_as_handle(a->timer));
    CHECK_CODE(evl_loop_time(loop, &time), 0);
    CHECK_CODE(evl_loop_now(loop, &now), 0);
    CHECK(time >= a->when);
    CHECK(now >= a->when);
    a->calls++;
}

TEST(real_timers_never_fire_early) {
    static const int64_t delays[] = {0, 1, 1000, 50000, 999999, 1000001, 1500000, 3200000, 7777777, 12000001};
    enum { COUNT = sizeof delays / sizeof delays[0] };
    evl_loop *loop = real_loop();
    struct act acts[COUNT];
    int i;
    memset(acts, 0, sizeof acts);
    for (i = 0; i < COUNT; i++) {
        CHECK_CODE(evl_loop_call_later(loop, delays[i], check_not_early, &acts[i], act_free, NULL, &acts[i].timer), 0);
        CHECK_CODE(evl_timer_when(acts[i].timer, &acts[i].when), 0);
    }
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(15), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    for (i = 0; i < COUNT; i++) {
        CHECK_INT(acts[i].calls, 1);
        CHECK_INT(acts[i].frees, 1);
        evl_timer_unref(acts[i].timer);
    }
    end_loop(loop);
}

TEST_MAIN()
