/*
 * timer_bytes: the memory of one of a million live timers, the library's and what the user holds for it. Counted is
 * what malloc has in use, with its own overhead, and what was mapped beside malloc. The pointers by which evl's handles
 * and sd-event's sources are kept are the user's own and are not counted.
 */
#include "timers.h"

static size_t n;
static int64_t *delays;

static void fired(size_t i) {
    bench_fail("timer %zu fired", i);
}

static int start_all(void) {
    for (size_t i = 0; i < n; i++)
        peer_start(i, INT64_C(60000000000) + delays[i]);
    peer_stop();
    return 0;
}

static int nothing(void) {
    peer_stop();
    return 0;
}

static void measure(const struct bench_case *one) {
    n = one->n;
    delays = random_delays(n, INT64_C(60000000000), 1);
    size_t before = bench_memory();
    peer_open(n, one->mode);
    peer_run(nothing);
    for (size_t i = 0; i < n; i++)
        peer_make(i);
    peer_run(start_all);
    size_t after = bench_memory() - PEER_POINTERS(n);
    bench_result(one, one->workload, "bytes", (double)(after - before) / (double)n);
}

#define MILLION 1000000

static const struct bench_case cases[] = {
#if defined(BENCH_EVL)
    {"timer_bytes", "call_at", measure, MILLION, CALL_AT, 0},
    {"timer_bytes", "call_at, handle wanted", measure, MILLION, HANDLE, 0},
#elif defined(BENCH_RAW)
    {"timer_bytes", "4-ary heap", measure, MILLION, HEAP, 0},
    {"timer_bytes", "wheel", measure, MILLION, WHEEL, 0},
#elif defined(BENCH_LIBUV)
    {"timer_bytes", "uv_timer_start", measure, MILLION, START, 0},
#elif defined(BENCH_LIBEV)
    {"timer_bytes", "ev_timer_start", measure, MILLION, START, 0},
#elif defined(BENCH_LIBEVENT)
    {"timer_bytes", "event_add", measure, MILLION, START, 0},
#elif defined(BENCH_SD_EVENT)
    {"timer_bytes", "sd_event_source_set_time", measure, MILLION, START, SLOW},
#endif
};

BENCH_MAIN(cases)
