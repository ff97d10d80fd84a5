/* Timers at the edges: moved often, cancelled in masses, far and near deadlines side by side, withdrawn calls. */
#include "harness.h"

static int64_t time_of(evl_loop *loop) {
    int64_t t = -1;
    CHECK_CODE(evl_loop_time(loop, &t), 0);
    return t;
}

static void advance_to(evl_loop *loop, int64_t when) {
    CHECK_CODE(evl_loop_advance(loop, when - time_of(loop)), 0);
}

static uint64_t timers_of(evl_loop *loop) {
    evl_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    return metrics.timers;
}

TEST(a_timer_that_is_moved_earlier_many_times_stays_started) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    int i;
    CHECK_CODE(evl_timer_new(loop, EVL_MS(1), probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_timer_schedule(timer), 0);
    for (i = 1; i <= 500; i++) {
        CHECK_CODE(evl_timer_reschedule(timer, EVL_MS(1) - i), 0);
        CHECK_INT(timers_of(loop), 1);
    }
    CHECK_INT(evl_timer_scheduled(timer), 1);
    advance_to(loop, EVL_MS(1) - 501);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    advance_to(loop, EVL_MS(1) - 500);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 0);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    CHECK_INT(timers_of(loop), 0);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

TEST(a_lone_timer_is_moved_back_and_forth) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    int round, i;
    CHECK_CODE(evl_timer_new(loop, 0, probe_call, &p, probe_free, NULL, &timer), 0);
    for (round = 1; round <= 20; round++) {
        int64_t base = time_of(loop);
        for (i = 0; i < 40 * round; i++)
            CHECK_CODE(evl_timer_reschedule(timer, base + EVL_MS(10) + (i % 2 ? i : -i)), 0);
        CHECK_CODE(evl_timer_reschedule(timer, base + 5), 0);
        CHECK_INT(timers_of(loop), 1);
        advance_to(loop, base + 4);
        CHECK_CODE(evl_loop_run_until_idle(loop), 0);
        advance_to(loop, base + 5);
        CHECK_CODE(evl_loop_run_until_idle(loop), 1);
        CHECK_INT(timers_of(loop), 0);
    }
    CHECK_PROBE(p, 20, 0);
    evl_timer_unref(timer);
    end_loop(loop);
}

struct at {
    evl_loop *loop;
    const char *name;
    int64_t when;
    struct at *then; /* started by this one */
};

static void note_at(void *arg) {
    struct at *a = (struct at *)arg;
    trace(a->name);
    CHECK_INT(time_of(a->loop) / 65536, a->when / 65536); /* neither early nor late */
    if (a->then)
        CHECK_CODE(evl_loop_call_at(a->loop, a->then->when, note_at, a->then, NULL, NULL, NULL), 0);
}

TEST(with_many_timers_one_of_the_next_round_does_not_wait_for_a_later_one) {
    enum { SPAN = 65536 };
    evl_loop *loop = manual_loop();
    struct at late = {loop, "261", 261 * SPAN, NULL};
    struct at first = {loop, "255", 255 * SPAN, &late};
    struct at old = {loop, "257", 257 * SPAN, NULL};
    int i;
    CHECK_CODE(evl_loop_call_at(loop, first.when, note_at, &first, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_at(loop, old.when, note_at, &old, NULL, NULL, NULL), 0);
    for (i = 0; i < 1100; i++)
        CHECK_CODE(evl_loop_call_at(loop, INT64_C(1000000) * SPAN + i, nothing, NULL, NULL, NULL, NULL), 0);
    for (i = 254; i < 264; i++) {
        advance_to(loop, (int64_t)i * SPAN + 100);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        if (i == 255)
            CHECK_TRACE("255");
        else if (i == 257)
            CHECK_TRACE("257");
        else if (i == 261)
            CHECK_TRACE("261");
        else
            CHECK_TRACE("");
    }
    end_loop(loop);
}

enum { MASS = 3000 };
static evl_timer *mass[MASS];

static void cancel_mass(void *arg) {
    int i;
    (void)arg;
    for (i = 0; i < MASS; i++) {
        CHECK_CODE(evl_timer_cancel(mass[i]), 0);
        evl_timer_unref(mass[i]);
    }
}

TEST(a_loop_sleeps_past_the_deadlines_of_cancelled_timers) {
    evl_loop *loop = real_loop();
    int64_t begin = time_of(loop), end = begin + EVL_MS(150), now;
    int i, rounds = 0;
    for (i = 0; i < MASS; i++)
        CHECK_CODE(evl_loop_call_at(loop, begin + EVL_MS(60) + i * EVL_MS(1), nothing, NULL, NULL, NULL, &mass[i]), 0);
    CHECK_CODE(evl_loop_call_at(loop, begin + EVL_SECONDS(1000), nothing, NULL, NULL, NULL, NULL), 0);
    CHECK(evl_loop_prepare(loop, NULL) >= 0);
    CHECK_CODE(evl_loop_call_soon(loop, cancel_mass, NULL, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 1);
    while ((now = time_of(loop)) < end) {
        CHECK_CODE(evl_loop_run_once(loop, end - now), 0);
        rounds++;
    }
    CHECK(rounds < 100); /* it would be a million if it did not sleep */
    end_loop(loop);
}

static void move_and_exit(void *arg) {
    CHECK_CODE(evl_timer_reschedule((evl_timer *)arg, 100), 0);
    CHECK_CODE(evl_raise_exit(1), 0);
}

TEST(a_due_timer_that_is_moved_keeps_the_order_of_deadlines_across_an_exit) {
    evl_loop *loop = manual_loop();
    evl_timer *timer = NULL;
    CHECK_CODE(evl_timer_new(loop, 0, trace_call, (void *)"T", NULL, NULL, &timer), 0);
    CHECK_CODE(evl_loop_call_soon(loop, move_and_exit, timer, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_timer_schedule(timer), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_EEXIT);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"soon", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_at(loop, 50, trace_call, (void *)"50", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_advance(loop, 200), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 3);
    CHECK_TRACE("soon 50 T");
    evl_timer_unref(timer);
    end_loop(loop);
}

static void run_and_move(void *arg) {
    evl_timer *timer = *(evl_timer **)arg;
    CHECK_CODE(evl_handle_run(evl_timer_as_handle(timer)), 0);
    CHECK_INT(evl_timer_scheduled(timer), 1);
    CHECK_CODE(evl_timer_reschedule(timer, EVL_MS(1)), 0);
}

TEST(a_due_tick_that_is_moved_does_not_fire_in_this_iteration) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_every(loop, 100, probe_call, &p, probe_free, NULL, &timer), 0);
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    CHECK_CODE(evl_loop_call_soon(loop, run_and_move, &timer, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 1, 0);
    advance_to(loop, EVL_MS(1) - 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    advance_to(loop, EVL_MS(1));
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 2, 0);
    advance_to(loop, EVL_MS(1) + 100); /* the interval stayed */
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK_PROBE(p, 3, 1);
}

/* Random programs beside a model: a started timer fires when it is due, in the order of deadlines, equal ones in the order
 * they were set. */
enum { MOST = 6000 };

static struct model {
    evl_timer *timer;
    int64_t when;
    long set; /* the number of the setting */
    int started;
} models[MOST];
static evl_loop *model_loop;
static unsigned random_state;
static long settings, fired, wrong, last_set;
static int64_t last_when;

static unsigned any(unsigned limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

static int64_t any_deadline(void) {
    int64_t now = time_of(model_loop);
    switch (any(5)) {
    case 0:
        return now + any(1000);
    case 1:
        return now + any(200000);
    case 2:
        return now + any(16000000);
    case 3:
        return now + (int64_t)any(1 << 24) * 300;
    default:
        return now + (int64_t)any(1 << 24) * 60000;
    }
}

static void set(struct model *m, int64_t when) {
    m->when = when;
    m->set = ++settings;
    m->started = 1;
    CHECK_CODE(evl_timer_reschedule(m->timer, when), 0);
}

static void model_call(void *arg) {
    struct model *m = (struct model *)arg;
    fired++;
    wrong += !m->started || m->when > time_of(model_loop); /* not started, or early */
    wrong += m->when < last_when || (m->when == last_when && m->set < last_set);
    last_when = m->when;
    last_set = m->set;
    m->started = 0;
    if (any(2))
        set(m, any_deadline());
}

/* later: a started timer is only ever moved later. */
static void compare_with_model(unsigned seed, int count, int later) {
    int step, steps = under_valgrind() ? 300 : 4000, i;
    model_loop = manual_loop();
    random_state = seed;
    fired = wrong = 0;
    for (i = 0; i < count; i++) {
        models[i].started = 0;
        CHECK_CODE(evl_timer_new(model_loop, 0, model_call, &models[i], NULL, NULL, &models[i].timer), 0);
    }
    for (step = 0; step < steps && wrong == 0; step++) {
        int moves = (int)any(60), missed = 0;
        uint64_t started = 0;
        int64_t now;
        while (moves--) {
            struct model *m = &models[any((unsigned)count)];
            int64_t when = any_deadline();
            if (!later || !m->started || when >= m->when)
                set(m, when);
        }
        if (any(3))
            CHECK_CODE(evl_loop_advance(model_loop, any(300000)), 0);
        else
            CHECK_CODE(evl_loop_advance(model_loop, any(30) ? any(20000000) : (int64_t)any(1 << 24) * 500), 0);
        last_when = INT64_MIN;
        CHECK(evl_loop_run_once(model_loop, 0) >= 0);
        now = time_of(model_loop);
        for (i = 0; i < count; i++) {
            missed += models[i].started && models[i].when < now;
            started += models[i].started;
        }
        if (missed || timers_of(model_loop) != started)
            wrong++;
    }
    if (wrong) {
        char what[100];
        snprintf(what, sizeof what, "seed %u, %d timers, only later %d, step %d", seed, count, later, step);
        harness_fail(__FILE__, __LINE__, "differs from the model", what);
    }
    CHECK(fired > 0 || count < 10);
    for (i = 0; i < count; i++)
        evl_timer_unref(models[i].timer);
    end_loop(model_loop);
}

TEST(random_settings_fire_as_a_model_says) {
    static const int counts[] = {5, 100, 1500, MOST};
    size_t i;
    unsigned seed;
    for (seed = 1; seed <= (under_valgrind() ? 1u : 3u); seed++)
        for (i = 0; i < sizeof counts / sizeof counts[0]; i++)
            compare_with_model(seed, counts[i], 0);
}

TEST(random_settings_that_only_move_later_fire_as_a_model_says) {
    static const int counts[] = {100, 1500, 3000, MOST};
    size_t i;
    unsigned seed;
    for (seed = 1; seed <= (under_valgrind() ? 1u : 3u); seed++)
        for (i = 0; i < sizeof counts / sizeof counts[0]; i++)
            compare_with_model(seed, counts[i], 1);
}

TEST_MAIN()
