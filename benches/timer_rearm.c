/*
 * timer_rearm: one after the other of 100,000 live timers is pushed on by its own timeout (15 to 60 s), as the idle
 * timeouts of connections are. Every connection has something to do about every ten seconds, so that a timer moves on
 * by ten seconds each time. What holds a connection's timer lies in the order of use; the timers themselves were made
 * in a random order. The loop goes round after every 10,000.
 *
 * The loop's clock does not keep up with that: what a library puts off until an old deadline passes is not seen. The
 * variants "time passes" move a clock of their own along and show it. In the end every timer must have the deadline it
 * was pushed to.
 */
#include "timers.h"

#define STEP_NS 100000 /* from one connection to the next */

enum { BATCH = 10000 };

struct connection {
    void *timer;
    int64_t deadline, timeout;
};

static size_t n, next;
static struct connection *connections;
static int64_t now;
static uint64_t left;
static size_t fired_count;

static void fired(size_t i) {
    (void)i;
    fired_count++;
}

static int start_all(void) {
    size_t *order = bench_permutation(n);
    int64_t *timeouts = random_delays(n, INT64_C(45000000000), 1000000);
    now = peer_now();
    for (size_t i = 0; i < n; i++)
        peer_start(i, INT64_C(15000000000) + timeouts[i]);
    for (size_t i = 0; i < n; i++) {
        struct connection *connection = &connections[order[i]];
        connection->timer = peer_object(i);
        connection->timeout = INT64_C(15000000000) + timeouts[i];
        connection->deadline = now + connection->timeout;
    }
    free(order);
    free(timeouts);
    peer_stop();
    return 0;
}

static int push_on(void) {
    int64_t loop_now = peer_now();
    for (unsigned i = 0; i < BATCH; i++) {
        struct connection *connection = &connections[next];
        next = next + 1 == n ? 0 : next + 1;
        now += STEP_NS;
        connection->deadline = now + connection->timeout;
        peer_rearm(connection->timer, connection->deadline, loop_now);
    }
    peer_pass((int64_t)BATCH * STEP_NS);
    left -= BATCH;
    if (left == 0)
        peer_stop();
    return left > 0;
}

static int64_t work(uint64_t *count) {
    *count = (*count + BATCH - 1) / BATCH * BATCH;
    left = *count;
    int64_t start = bench_clock();
    peer_run(push_on);
    return bench_clock() - start;
}

static void measure(const struct bench_case *one) {
    n = one->n;
    connections = bench_new(n, sizeof *connections);
    peer_open(n, one->mode);
    for (size_t i = 0; i < n; i++)
        peer_make(i);
    peer_run(start_all);
    double value = bench_per_operation(work, 8 * n);
    for (size_t i = 0; i < n; i++) {
        int64_t wrong = peer_due(connections[i].timer) - connections[i].deadline;
        if (wrong < -PEER_SLACK_NS || wrong > PEER_SLACK_NS)
            bench_fail("a timer is due %lld ns later than it was pushed to", (long long)wrong);
    }
    if (fired_count != 0)
        bench_fail("%zu timers fired before they were due", fired_count);
    peer_close();
    bench_result(one, one->workload, "ns", value);
}

static const struct bench_case cases[] = {
#if defined(BENCH_EVL)
    {"timer_rearm", "evl_timer_reschedule", measure, 100000, REUSED, 0},
    {"timer_rearm", "evl_timer_reschedule, time passes", measure, 100000, MANUAL_CLOCK, 0},
#elif defined(BENCH_RAW)
    {"timer_rearm", "wheel", measure, 100000, WHEEL, 0},
    {"timer_rearm", "wheel, time passes", measure, 100000, WHEEL_AHEAD, 0},
    {"timer_rearm", "4-ary heap", measure, 100000, HEAP, 0},
    {"timer_rearm", "4-ary heap, time passes", measure, 100000, HEAP_AHEAD, 0},
#elif defined(BENCH_LIBUV)
    {"timer_rearm", "uv_timer_start", measure, 100000, START, 0},
#elif defined(BENCH_LIBEV)
    {"timer_rearm", "ev_timer_again", measure, 100000, START, 0},
#elif defined(BENCH_LIBEVENT)
    {"timer_rearm", "event_add", measure, 100000, START, 0},
#elif defined(BENCH_SD_EVENT)
    {"timer_rearm", "sd_event_source_set_time", measure, 100000, START, 0},
#endif
};

BENCH_MAIN(cases)
