/* Timers that repeat, and what bindings ask of them: compare, equal, hash. */
#include "harness.h"

static int ticks(evl_loop *loop, struct probe *p, int64_t advance) {
    int before = p->calls;
    CHECK_CODE(evl_loop_advance(loop, advance), 0);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    return p->calls - before;
}

TEST(call_every_ticks_at_a_fixed_rate) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    int64_t when = 0;
    CHECK_CODE(evl_loop_advance(loop, 3), 0);
    CHECK_CODE(evl_loop_call_every(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_timer_when(timer, &when), 0);
    CHECK_INT(when, 13);
    CHECK_INT(ticks(loop, &p, 0), 0);
    CHECK_INT(ticks(loop, &p, 9), 0);
    CHECK_INT(ticks(loop, &p, 1), 1); /* 13 */
    CHECK_INT(ticks(loop, &p, 14), 1); /* 27: the tick of 23, late */
    CHECK_CODE(evl_timer_when(timer, &when), 0);
    CHECK_INT(when, 33);
    CHECK_INT(ticks(loop, &p, 5), 0); /* 32 */
    CHECK_INT(ticks(loop, &p, 1), 1); /* 33: the rate did not shift */
    CHECK_INT(evl_timer_scheduled(timer), 1);
    CHECK_PROBE(p, 3, 0);
    CHECK_CODE(evl_timer_schedule(timer), EVL_ESCHEDULED);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    CHECK_PROBE(p, 3, 1);
    CHECK_INT(ticks(loop, &p, 100), 0);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 3, 1);
}

TEST(call_every_makes_missed_ticks_one) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    int64_t when = 0;
    CHECK_CODE(evl_loop_call_every(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_INT(ticks(loop, &p, 35), 1);
    CHECK_CODE(evl_timer_when(timer, &when), 0);
    CHECK_INT(when, 40);
    CHECK_INT(ticks(loop, &p, 4), 0);
    CHECK_INT(ticks(loop, &p, 1), 1); /* 40 */
    CHECK_INT(ticks(loop, &p, EVL_SECONDS(1)), 1);
    CHECK_INT(ticks(loop, &p, 10), 1);
    evl_timer_unref(timer); /* goes on */
    CHECK_INT(ticks(loop, &p, 10), 1);
    CHECK_PROBE(p, 5, 0);
    end_loop(loop);
    CHECK_PROBE(p, 5, 1);
}

TEST(call_every_moves_its_next_tick_and_keeps_the_interval) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_every(loop, 10, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_timer_reschedule(timer, 15), 0);
    CHECK_INT(ticks(loop, &p, 10), 0);
    CHECK_INT(ticks(loop, &p, 5), 1);  /* 15 */
    CHECK_INT(ticks(loop, &p, 9), 0);  /* 24 */
    CHECK_INT(ticks(loop, &p, 1), 1);  /* 25 */
    CHECK_INT(ticks(loop, &p, 10), 1); /* 35 */
    evl_timer_cancel(timer);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 3, 1);
}

TEST(call_every_refuses_an_interval_that_is_not_positive) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_every(loop, 0, probe_call, &p, probe_free, NULL, &timer), -EINVAL);
    CHECK_CODE(evl_loop_call_every(loop, -1, probe_call, &p, probe_free, NULL, &timer), -EINVAL);
    CHECK(timer == NULL);
    CHECK_PROBE(p, 0, 2);
    CHECK_INT(ticks(loop, &p, 100), 0);
    CHECK_CODE(evl_loop_call_every(loop, EVL_FOREVER, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_INT(ticks(loop, &p, 100), 0);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 0, 3);
}

struct every {
    evl_timer *timer;
    evl_loop *loop;
    int calls, frees, cancel_at;
    int64_t busy;
};

static void every_free(void *arg) {
    ((struct every *)arg)->frees++;
}

static void every_tick(void *arg) {
    struct every *e = (struct every *)arg;
    e->calls++;
    CHECK_INT(e->frees, 0);
    if (e->busy)
        CHECK_CODE(evl_loop_advance(e->loop, e->busy), 0);
    if (e->calls == e->cancel_at) {
        CHECK_CODE(evl_timer_cancel(e->timer), 0);
        CHECK_INT(e->frees, 0);
    }
}

TEST(call_every_cancels_itself) {
    evl_loop *loop = manual_loop();
    struct every e;
    int i;
    memset(&e, 0, sizeof e);
    e.cancel_at = 3;
    CHECK_CODE(evl_loop_call_every(loop, 10, every_tick, &e, every_free, NULL, &e.timer), 0);
    for (i = 0; i < 10; i++) {
        CHECK_CODE(evl_loop_advance(loop, 10), 0);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
    }
    CHECK_INT(e.calls, 3);
    CHECK_INT(e.frees, 1);
    evl_timer_unref(e.timer);
    end_loop(loop);
    CHECK_INT(e.frees, 1);
}

TEST(call_every_whose_callback_takes_longer_than_the_interval_does_not_pile_up) {
    evl_loop *loop = manual_loop();
    struct every e;
    memset(&e, 0, sizeof e);
    e.loop = loop;
    e.busy = 25;
    CHECK_CODE(evl_loop_call_every(loop, 10, every_tick, &e, every_free, NULL, &e.timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 10), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1); /* runs from 10 to 35 */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1); /* the ticks of 20 and 30 are one; to 60 */
    CHECK_CODE(evl_timer_cancel(e.timer), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(e.calls, 2);
    evl_timer_unref(e.timer);
    end_loop(loop);
    CHECK_INT(e.frees, 1);
}

TEST(compare_orders_by_deadline) {
    evl_loop *loop = manual_loop();
    evl_timer *a = NULL, *b = NULL, *c = NULL;
    int order = 9;
    CHECK_CODE(evl_timer_new(loop, 10, nothing, NULL, NULL, NULL, &a), 0);
    CHECK_CODE(evl_timer_new(loop, 20, nothing, NULL, NULL, NULL, &b), 0);
    CHECK_CODE(evl_timer_new(loop, 20, trace_call, loop, NULL, NULL, &c), 0);
    CHECK_CODE(evl_timer_compare(a, b, &order), 0);
    CHECK_INT(order, -1);
    CHECK_CODE(evl_timer_compare(b, a, &order), 0);
    CHECK_INT(order, 1);
    CHECK_CODE(evl_timer_compare(b, c, &order), 0);
    CHECK_INT(order, 0);
    CHECK_CODE(evl_timer_compare(a, a, &order), 0);
    CHECK_INT(order, 0);
    order = 9;
    CHECK_CODE(evl_timer_compare(NULL, a, &order), -EINVAL);
    CHECK_CODE(evl_timer_compare(a, NULL, &order), -EINVAL);
    CHECK_CODE(evl_timer_compare(a, b, NULL), -EINVAL);
    CHECK_INT(order, 9);
    CHECK_CODE(evl_timer_reschedule(a, 30), 0);
    CHECK_CODE(evl_timer_compare(a, b, &order), 0);
    CHECK_INT(order, 1);
    evl_timer_unref(a);
    evl_timer_unref(b);
    evl_timer_unref(c);
    end_loop(loop);
}

TEST(equal_compares_deadline_callback_arg_and_cancelled_state) {
    evl_loop *loop = manual_loop();
    evl_timer *t[6] = {NULL, NULL, NULL, NULL, NULL, NULL};
    uint64_t h[6] = {0, 0, 0, 0, 0, 0}, again = 0;
    int arg = 0, i;
    CHECK_CODE(evl_timer_new(loop, 10, nothing, &arg, NULL, NULL, &t[0]), 0);
    CHECK_CODE(evl_timer_new(loop, 10, nothing, &arg, NULL, NULL, &t[1]), 0);
    CHECK_CODE(evl_timer_new(loop, 11, nothing, &arg, NULL, NULL, &t[2]), 0);
    CHECK_CODE(evl_timer_new(loop, 10, trace_call, &arg, NULL, NULL, &t[3]), 0);
    CHECK_CODE(evl_timer_new(loop, 10, nothing, NULL, NULL, NULL, &t[4]), 0);
    CHECK_CODE(evl_timer_new(loop, 10, nothing, &arg, NULL, NULL, &t[5]), 0);
    CHECK_INT(evl_timer_equal(t[0], t[0]), 1);
    CHECK_INT(evl_timer_equal(t[0], t[1]), 1);
    CHECK_INT(evl_timer_equal(t[1], t[0]), 1);
    CHECK_INT(evl_timer_equal(t[0], t[2]), 0);
    CHECK_INT(evl_timer_equal(t[0], t[3]), 0);
    CHECK_INT(evl_timer_equal(t[0], t[4]), 0);
    CHECK_CODE(evl_timer_cancel(t[5]), 0);
    CHECK_INT(evl_timer_equal(t[0], t[5]), 0);
    CHECK_INT(evl_timer_equal(NULL, t[0]), 0);
    CHECK_INT(evl_timer_equal(t[0], NULL), 0);
    CHECK_INT(evl_timer_equal(NULL, NULL), 0);
    for (i = 0; i < 6; i++)
        CHECK_CODE(evl_timer_hash(t[i], &h[i]), 0);
    CHECK(h[0] == h[1]);
    CHECK(h[0] != h[2]);
    CHECK_CODE(evl_timer_hash(t[0], &again), 0);
    CHECK(again == h[0]);
    CHECK_CODE(evl_timer_hash(NULL, &again), -EINVAL);
    CHECK_CODE(evl_timer_hash(t[0], NULL), -EINVAL);
    for (i = 0; i < 6; i++)
        evl_timer_unref(t[i]);
    end_loop(loop);
}

TEST(references_are_counted) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    evl_weak_handle *weak = NULL;
    evl_handle *strong;
    CHECK_CODE(evl_timer_new(loop, 1, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK(evl_timer_ref(timer) == timer);
    CHECK(evl_timer_ref(NULL) == NULL);
    evl_timer_unref(timer);
    CHECK_INT(p.frees, 0);
    CHECK_CODE(evl_handle_weak(evl_timer_as_handle(timer), &weak), 0);
    strong = evl_weak_handle_upgrade(weak);
    CHECK(strong == evl_timer_as_handle(timer));
    evl_handle_unref(strong);
    evl_timer_unref(timer);
    CHECK_PROBE(p, 0, 1);
    CHECK(evl_weak_handle_upgrade(weak) == NULL);
    evl_weak_handle_free(weak);
    evl_timer_unref(NULL);
    end_loop(loop);
}

TEST(timer_without_a_reference_is_freed_when_it_fired) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    CHECK_CODE(evl_timer_new(loop, 1, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_timer_schedule(timer), 0);
    evl_timer_unref(timer);
    CHECK_PROBE(p, 0, 0);
    CHECK_INT(ticks(loop, &p, 1), 1);
    CHECK_PROBE(p, 1, 1);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

TEST_MAIN()
