/*
 * timer_hold_100, _10k and _1m: so many timers are live, and each that fires starts another one.
 *
 * The new deadline lies a random part of 8 ns times the number of timers after the loop's cached time: a little sooner
 * than any library can get through them all, so that there is always one due and no loop sleeps. Where the clock is
 * coarser than that, as libuv's and libevent's are, the delay is none.
 *
 * What is timed are whole rounds of all timers. Then they run out. Up to 10,000 of them, a round that is not timed
 * comes first, in which every timer must fire in the order of its deadline, and never before it.
 */
#include "timers.h"

static size_t n, next_delay, delay_count, live;
static int64_t *delays, *deadlines;
static int64_t last_deadline, begin_ns, elapsed_ns;
static uint64_t left, fired_count, disorder, early;
static int checking;

static inline void start(size_t i) {
    int64_t delay = delays[next_delay];
    next_delay = next_delay + 1 == delay_count ? 0 : next_delay + 1;
    if (checking)
        deadlines[i] = peer_now() / PEER_TICK_NS + delay / PEER_TICK_NS;
    peer_start(i, delay);
}

static void check(size_t i) {
    int64_t deadline = deadlines[i] * PEER_TICK_NS;
    disorder += PEER_ORDERED && deadline < last_deadline - PEER_EARLY_NS;
    last_deadline = deadline;
    early += peer_clock() < deadline - PEER_EARLY_NS;
}

static void fired(size_t i) {
    fired_count++;
    if (checking)
        check(i);
    if (left > 0) {
        if (--left == 0)
            elapsed_ns = bench_clock() - begin_ns;
        start(i);
    } else if (--live == 0) {
        peer_stop();
    }
}

static int start_all(void) {
    for (live = 0; live < n; live++)
        start(live);
    begin_ns = bench_clock();
    return 0;
}

/* Fires count timers that start another, and then the n that are left. */
static int64_t work(uint64_t *count) {
    *count = (*count + n - 1) / n * n;
    left = *count;
    fired_count = 0;
    last_deadline = 0;
    peer_run(start_all);
    if (fired_count != *count + n || disorder != 0 || early != 0)
        bench_fail("%llu timers fired, not %llu; %llu out of order, %llu early", (unsigned long long)fired_count,
                   (unsigned long long)(*count + n), (unsigned long long)disorder, (unsigned long long)early);
    return elapsed_ns;
}

static void measure(const struct bench_case *one) {
    n = one->n;
    delay_count = n + 1000;
    delays = random_delays(delay_count, 8 * (int64_t)n, 1);
    deadlines = bench_new(n, sizeof *deadlines);
    peer_open(n, one->mode);
    for (size_t i = 0; i < n; i++)
        peer_make(i);
    if (n <= 10000) {
        uint64_t count = 4 * n;
        checking = 1;
        work(&count);
        checking = 0;
    }
    double value = bench_per_operation(work, n);
    peer_close();
    bench_result(one, one->workload, "ns", value);
}

#define SIZES(name, mode, million_traits)                                                                             \
    {"timer_hold_100", name, measure, 100, mode, 0}, {"timer_hold_10k", name, measure, 10000, mode, 0},               \
        {"timer_hold_1m", name, measure, 1000000, mode, million_traits}

static const struct bench_case cases[] = {
#if defined(BENCH_EVL)
    SIZES("call_at", CALL_AT, 0),
    SIZES("evl_timer_reschedule", REUSED, 0),
#elif defined(BENCH_RAW)
    SIZES("4-ary heap", HEAP, 0),
    SIZES("wheel", WHEEL, 0),
#elif defined(BENCH_LIBUV)
    SIZES("uv_timer_start", START, SLOW),
#elif defined(BENCH_LIBEV)
    SIZES("ev_timer_start", START, SLOW),
#elif defined(BENCH_LIBEVENT)
    SIZES("event_add", START, SLOW),
#elif defined(BENCH_SD_EVENT)
    {"timer_hold_100", "sd_event_source_set_time", measure, 100, START, 0},
    {"timer_hold_10k", "sd_event_source_set_time", measure, 10000, START, SLOW},
#endif
};

BENCH_MAIN(cases)
