/* Many timers at once: none is lost, none is late, and the order is the same as of few. */
#include "harness.h"

static evl_timer *at(evl_loop *loop, int64_t when, struct probe *p) {
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_at(loop, when, probe_call, p, probe_free, NULL, &timer), 0);
    return timer;
}

static void at_only(evl_loop *loop, int64_t when, struct probe *p) {
    CHECK_CODE(evl_loop_call_at(loop, when, probe_call, p, probe_free, NULL, NULL), 0);
}

static void advance_to(evl_loop *loop, int64_t when) {
    int64_t now = 0;
    CHECK_CODE(evl_loop_time(loop, &now), 0);
    CHECK_CODE(evl_loop_advance(loop, when - now), 0);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
}

static int64_t started(evl_loop *loop) {
    evl_metrics m;
    memset(&m, 0, sizeof m);
    m.size = sizeof m;
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    return (int64_t)m.timers;
}

/* One timer is moved after so many others were cancelled. */
static void move_among_cancelled(int cancelled, int64_t to) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), others = probe_named(NULL, loop);
    evl_timer *timer = at(loop, 1000, &p);
    int i;
    for (i = 0; i < cancelled; i++) {
        evl_timer *other = at(loop, 2000, &others);
        CHECK_CODE(evl_timer_cancel(other), 0);
        evl_timer_unref(other);
    }
    CHECK_CODE(evl_timer_reschedule(timer, to), 0);
    CHECK_INT(started(loop), 1);
    CHECK_INT(evl_timer_scheduled(timer), 1);
    advance_to(loop, to - 1);
    CHECK_PROBE(p, 0, 0);
    advance_to(loop, to);
    CHECK_PROBE(p, 1, 1);
    CHECK_PROBE(others, 0, cancelled);
    evl_timer_unref(timer);
    end_loop(loop);
}

TEST(a_timer_moved_among_cancelled_ones_is_not_lost) {
    int cancelled;
    for (cancelled = 0; cancelled < 200; cancelled++) {
        move_among_cancelled(cancelled, 500);
        move_among_cancelled(cancelled, 1500);
    }
    move_among_cancelled(3000, 500);
}

TEST(a_crowd_of_earlier_timers_is_not_held_by_later_ones) {
    enum { CROWD = 1100 };
    evl_loop *loop = manual_loop();
    struct probe first = probe_named(NULL, loop), early = probe_named(NULL, loop), late = probe_named(NULL, loop);
    int64_t deadline = 0;
    int i;
    at_only(loop, 10000, &first);
    for (i = 0; i < CROWD; i++)
        at_only(loop, 20000, &late);
    advance_to(loop, 10000);
    CHECK_PROBE(first, 1, 1);
    for (i = 0; i < CROWD; i++)
        at_only(loop, 15000, &early);
    CHECK(evl_loop_prepare(loop, &deadline) == 1 || deadline <= 15000); /* the host must not sleep longer */
    advance_to(loop, 15000);
    CHECK_INT(early.calls, CROWD);
    CHECK_INT(late.calls, 0);
    advance_to(loop, 20000);
    CHECK_INT(late.calls, CROWD);
    end_loop(loop);
}

/* Deadlines on both sides of each power of two, the second of a pair made after the first has fired. */
TEST(deadlines_round_powers_of_two_fire_in_time) {
    int bits, step;
    for (bits = 8; bits <= 40; bits++) {
        for (step = 4; step <= 12; step += 4) {
            evl_loop *loop = manual_loop();
            struct probe far = probe_named(NULL, loop), a = probe_named("a", loop), b = probe_named("b", loop),
                         c = probe_named("c", loop);
            int64_t border = INT64_C(1) << bits, unit = bits > step ? INT64_C(1) << (bits - step) : 1;
            int i;
            at_only(loop, border - unit / 2 - 1, &a);
            at_only(loop, border + unit * 5 / 2, &b);
            for (i = 0; i < 1100; i++) /* many, far away */
                at_only(loop, INT64_C(1) << 60, &far);
            advance_to(loop, border - unit / 2 - 1);
            CHECK_TRACE("a");
            at_only(loop, border + unit * 3 + 1, &c);
            advance_to(loop, border + unit * 5 / 2 - 1);
            CHECK_TRACE("");
            advance_to(loop, border + unit * 5 / 2);
            CHECK_TRACE("b");
            advance_to(loop, border + unit * 3 + 1);
            CHECK_TRACE("c");
            end_loop(loop);
            CHECK_INT(far.frees, 1100);
        }
    }
}

TEST(deadlines_across_a_boundary_stay_in_order) {
    const int64_t slot = 65536, level = slot * 256;
    evl_loop *loop = manual_loop();
    struct probe far = probe_named(NULL, loop), p = probe_named("0", loop), a = probe_named("a", loop),
                 b = probe_named("b", loop), c = probe_named("c", loop);
    int i;
    at_only(loop, 5, &p);
    at_only(loop, level - slot + 5, &a);
    at_only(loop, level + 5 * slot, &b);
    for (i = 0; i < 1100; i++)
        at_only(loop, EVL_SECONDS(1000), &far);
    advance_to(loop, level - slot + 5);
    CHECK_TRACE("0 a");
    at_only(loop, level + 16 * slot, &c);
    advance_to(loop, level + 5 * slot);
    CHECK_TRACE("b");
    advance_to(loop, level + 16 * slot);
    CHECK_TRACE("c");
    end_loop(loop);
}

/* Equal, near and far deadlines in a mixed-up order: they fire sorted, equal ones in the order they were made. */
struct item {
    int64_t when;
    int number;
    struct fired *fired;
};

struct fired {
    int count, wrong;
    struct item last;
};

static void fire(void *arg) {
    struct item *item = (struct item *)arg;
    struct fired *f = item->fired;
    if (f->count++ && (item->when < f->last.when || (item->when == f->last.when && item->number < f->last.number)))
        f->wrong++;
    f->last = *item;
}

TEST(ten_thousand_timers_fire_in_order) {
    enum { COUNT = 10000 };
    static struct item items[COUNT];
    static const int64_t spans[] = {100, 100000, EVL_MS(100), EVL_SECONDS(100), EVL_SECONDS(1000000)};
    size_t s;
    for (s = 0; s < sizeof spans / sizeof spans[0]; s++) {
        evl_loop *loop = manual_loop();
        struct fired fired;
        uint64_t random = 88172645463325252u;
        int i;
        memset(&fired, 0, sizeof fired);
        for (i = 0; i < COUNT; i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            items[i].when = (int64_t)(random % (uint64_t)spans[s]);
            items[i].number = i;
            items[i].fired = &fired;
            CHECK_CODE(evl_loop_call_at(loop, items[i].when, fire, &items[i], NULL, NULL, NULL), 0);
        }
        CHECK_INT(started(loop), COUNT);
        for (i = 1; i <= 10; i++) {
            advance_to(loop, spans[s] / 10 * i);
            CHECK(fired.count == 0 || fired.last.when <= spans[s] / 10 * i);
        }
        CHECK_INT(fired.count, COUNT);
        CHECK_INT(fired.wrong, 0);
        CHECK_INT(started(loop), 0);
        end_loop(loop);
    }
}

static int visit_in_order(evl_handle *handle, int kind, int number, void *arg) {
    struct probe *p = (struct probe *)arg;
    (void)handle;
    (void)number;
    CHECK_INT(kind, EVL_WALK_TIMER);
    p->calls++;
    return 0;
}

TEST(walk_shows_all_of_many) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop), seen = probe_named(NULL, loop);
    int i;
    for (i = 0; i < 5000; i++)
        at_only(loop, (int64_t)(i * 7919 % 5000) * 100000, &p);
    advance_to(loop, 100000 * 100);
    CHECK_CODE(evl_loop_walk(loop, visit_in_order, &seen), 0);
    CHECK_INT(seen.calls, started(loop));
    CHECK_INT(seen.calls + p.calls, 5000);
    end_loop(loop);
    CHECK_INT(p.frees, 5000);
}

TEST_MAIN()
