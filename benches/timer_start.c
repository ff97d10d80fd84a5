/*
 * timer_start and timer_cancel: in a callback, a million timers are started with random deadlines within a quarter of a
 * second, and then cancelled in a random order, with giving back evl's reference. What has no handle cannot be
 * cancelled.
 *
 * timer_start has three forms, for a library that keeps its timers itself cares what its memory is like:
 *   the plain one       a new loop in a process that has had as many timers before, whose memory is warm
 *   "same loop"         the loop had a million timers before, which went in random order: they are scattered now
 *   "new memory"        the process never had so many, and making the timer is timed where that is a step of its own
 */
#include "timers.h"

#define SPAN_NS INT64_C(250000000)

enum { CHECKED = 1001 }; /* so many are looked at in the end */

static size_t n;
static int timed_make, let_fire;
static int64_t *delays, start_ns, cancel_ns;
static size_t *order;
static void **line; /* the timers in the order in which they are cancelled */
static size_t fired_count, wrong;
static void (*on_fired)(size_t i);

static void fired(size_t i) {
    on_fired(i);
}

static void count(size_t i) {
    (void)i;
    if (++fired_count == n)
        peer_stop();
}

static void make_all(void) {
    for (size_t i = 0; i < n; i++)
        peer_make(i);
}

static void start_all(void) {
    int64_t begin = bench_clock();
    if (timed_make)
        make_all();
    for (size_t i = 0; i < n; i++)
        peer_start(i, delays[i]);
    start_ns += bench_clock() - begin;
}

static void cancel_all(void) {
    for (size_t i = 0; i < n; i++)
        line[i] = peer_object(order[i]);
    int64_t begin = bench_clock();
    for (size_t i = 0; i < n; i++)
        peer_cancel(line[i]);
    cancel_ns += bench_clock() - begin;
}

static int pass(void) {
    start_all();
    if (peer_holds()) {
        cancel_all();
        peer_stop();
    } else if (let_fire) {
        fired_count = 0;
        bench_sleep_until(bench_clock() + SPAN_NS);
    } else {
        peer_stop(); /* closing the loop ends them */
    }
    return 0;
}

/* Of the last timers every second one is cancelled; the last stops the loop. */
static int check(void) {
    for (size_t i = 0; i < CHECKED; i++)
        peer_start(i, i == CHECKED - 1 ? 30000000 : (int64_t)(i % 20) * 1000000);
    for (size_t i = 1; i < CHECKED && peer_holds(); i += 2)
        peer_cancel(peer_object(i));
    return 0;
}

static void check_fired(size_t i) {
    wrong += i >= CHECKED || (peer_holds() && i % 2 == 1);
    fired_count++;
    if (i == CHECKED - 1)
        peer_stop();
}

static void look_after(void) {
    fired_count = 0;
    on_fired = check_fired;
    peer_run(check);
    if (wrong != 0 || fired_count != (peer_holds() ? CHECKED / 2 + 1 : CHECKED))
        bench_fail("%zu timers fired, %zu of them cancelled ones", fired_count, wrong);
}

static void prepare(const struct bench_case *one) {
    n = one->n;
    delays = random_delays(n, SPAN_NS, 1);
    order = bench_permutation(n);
    line = bench_new(n, sizeof *line);
    memset(line, 1, n * sizeof *line);
    on_fired = count;
}

static int long_enough(unsigned passes) {
    return passes >= 4 || start_ns + cancel_ns >= bench_time_ns;
}

static void result(const struct bench_case *one, const char *workload, int64_t elapsed_ns, unsigned passes) {
    bench_result(one, workload, "ns", (double)elapsed_ns / (double)passes / (double)n);
}

static void measure(const struct bench_case *one) {
    prepare(one);
    bench_keep_memory();
    for (unsigned passes = 0;; passes++) {
        peer_open(n, one->mode);
        make_all();
        peer_run(pass);
        if (passes == 0) {
            start_ns = cancel_ns = 0;
        } else if (long_enough(passes)) {
            if (peer_holds())
                look_after();
            result(one, "timer_start", start_ns, passes);
            if (peer_holds())
                result(one, "timer_cancel", cancel_ns, passes);
            peer_close();
            return;
        }
        peer_close();
    }
}

static inline void measure_same_loop(const struct bench_case *one) {
    unsigned passes = 0;
    prepare(one);
    let_fire = 1;
    peer_open(n, one->mode);
    make_all();
    peer_run(pass);
    for (start_ns = cancel_ns = 0; !long_enough(passes); passes++)
        peer_run(pass);
    look_after();
    peer_close();
    result(one, "timer_start", start_ns, passes);
}

static inline void measure_new_memory(const struct bench_case *one) {
    prepare(one);
    timed_make = 1;
    peer_open(n, one->mode);
    peer_run(pass);
    result(one, "timer_start", start_ns, 1);
}

#define MILLION 1000000
#define FORMS(name, mode, traits)                                                                                     \
    {"timer_start", name ", same loop", measure_same_loop, MILLION, mode, traits},                                    \
        {"timer_start", name ", new memory", measure_new_memory, MILLION, mode, traits}
#define VARIANT(name, mode, traits)                                                                                   \
    {"timer_start,timer_cancel", name, measure, MILLION, mode, traits}, FORMS(name, mode, SLOW)

static const struct bench_case cases[] = {
#if defined(BENCH_EVL)
    {"timer_start", "call_at", measure, MILLION, CALL_AT, 0},
    {"timer_start", "call_at, context set", measure, MILLION, CONTEXT, 0},
    {"timer_start", "call_at, arg_free", measure, MILLION, ARG_FREE, 0},
    FORMS("call_at", CALL_AT, 0),
    VARIANT("call_at, handle wanted", HANDLE, 0),
#elif defined(BENCH_RAW)
    VARIANT("wheel", WHEEL, 0),
    VARIANT("4-ary heap", HEAP, 0),
#elif defined(BENCH_LIBUV)
    VARIANT("uv_timer_start", START, 0),
#elif defined(BENCH_LIBEV)
    VARIANT("ev_timer_start", START, 0),
#elif defined(BENCH_LIBEVENT)
    VARIANT("event_add", START, 0),
#elif defined(BENCH_SD_EVENT)
    {"timer_start,timer_cancel", "sd_event_source_set_time", measure, MILLION, START, SLOW},
#endif
};

BENCH_MAIN(cases)
