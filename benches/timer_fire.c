/*
 * timer_fire: a million timers whose deadlines lie within a second fire. They are started in a callback, which then
 * sleeps until the last of them is due, so that what is timed is the work and no waiting.
 *
 * Every timer must have fired once, in the exact order of the deadlines as fine as the library tells them apart; evl's
 * and the bare ones, when equal, in the order they were started. Afterwards a thousand timers fire as time goes by, and
 * each must find that the loop's clock has reached its deadline.
 */
#include "timers.h"

#define SPAN_NS INT64_C(1000000000)

enum { LIVELY = 1000 };

static size_t n, fired_count;
static int64_t *delays, begin_ns, elapsed_ns;
static uint32_t *sequence; /* which timer fired when */
static int64_t started_at, earliest_ns;
static void (*on_fired)(size_t i);

static void fired(size_t i) {
    on_fired(i);
}

static void record(size_t i) {
    sequence[fired_count] = (uint32_t)i;
    if (++fired_count == n) {
        elapsed_ns = bench_clock() - begin_ns;
        peer_stop();
    }
}

static int start_all(void) {
    int64_t called = bench_clock();
    for (size_t i = 0; i < n; i++)
        peer_start(i, delays[i]);
    bench_sleep_until(called + SPAN_NS + PEER_EARLY_NS);
    begin_ns = bench_clock();
    return 0;
}

static void check_order(void) {
    unsigned char *seen = bench_new(n, 1);
    for (size_t k = 0; k < n; k++) {
        size_t i = sequence[k];
        if (i >= n || seen[i]++)
            bench_fail("timer %zu fired twice", i);
        if (k == 0 || !PEER_ORDERED)
            continue;
        int64_t before = delays[sequence[k - 1]] / PEER_TICK_NS, now = delays[i] / PEER_TICK_NS;
        if (before > now || (before == now && PEER_TICK_NS == 1 && sequence[k - 1] > i))
            bench_fail("a timer of %lld ns fired before one of %lld", (long long)delays[sequence[k - 1]],
                       (long long)delays[i]);
    }
    free(seen);
}

static void look_at_clock(size_t i) {
    int64_t late = peer_clock() - (started_at + delays[i]);
    earliest_ns = late < earliest_ns ? late : earliest_ns;
    if (++fired_count == LIVELY)
        peer_stop();
}

static int start_lively(void) {
    started_at = peer_now();
    for (size_t i = 0; i < LIVELY; i++) {
        delays[i] /= 20;
        peer_start(i, delays[i]);
    }
    return 0;
}

static void measure(const struct bench_case *one) {
    n = one->n;
    delays = random_delays(n, SPAN_NS, 1);
    sequence = bench_new(n, sizeof *sequence);
    memset(sequence, 1, n * sizeof *sequence);
    peer_open(n, one->mode);
    for (size_t i = 0; i < n; i++)
        peer_make(i);
    on_fired = record;
    peer_run(start_all);
    check_order();

    fired_count = 0;
    on_fired = look_at_clock;
    peer_run(start_lively);
    if (fired_count != LIVELY || earliest_ns < -PEER_EARLY_NS)
        bench_fail("%zu of %d timers fired, one %lld ns early", fired_count, LIVELY, (long long)-earliest_ns);
    peer_close();
    bench_result(one, one->workload, "ns", (double)elapsed_ns / (double)n);
}

#define MILLION 1000000

static const struct bench_case cases[] = {
#if defined(BENCH_EVL)
    {"timer_fire", "call_at", measure, MILLION, CALL_AT, 0},
    {"timer_fire", "call_at, handle wanted", measure, MILLION, HANDLE, SLOW},
#elif defined(BENCH_RAW)
    {"timer_fire", "wheel", measure, MILLION, WHEEL, 0},
    {"timer_fire", "4-ary heap", measure, MILLION, HEAP, SLOW},
#elif defined(BENCH_LIBUV)
    {"timer_fire", "uv_timer_start", measure, MILLION, START, 0},
#elif defined(BENCH_LIBEV)
    {"timer_fire", "ev_timer_start", measure, MILLION, START, 0},
#elif defined(BENCH_LIBEVENT)
    {"timer_fire", "event_add", measure, MILLION, START, 0},
#elif defined(BENCH_SD_EVENT)
    {"timer_fire", "sd_event_source_set_time, of 20,000", measure, 20000, START, 0}, /* a million take half a minute */
#endif
};

BENCH_MAIN(cases)
