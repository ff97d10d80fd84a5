/*
 * Timers of each library behind the same few inline functions, for the programs timer_*.c.
 *
 *   peer_open(n, mode)           makes the loop and room for n timers, which nothing has touched yet
 *   peer_make(i)                 makes timer i, where that is a step of its own
 *   peer_start(i, delay_ns)      starts it that long after the loop's cached time; it calls fired(i) of the program
 *   peer_holds()                 whether there is something by which a started timer can be cancelled
 *   peer_object(i)               that: what the next three take
 *   peer_cancel(object)          the timer will not fire; evl's reference is given back, too
 *   peer_rearm(object, to, now)  moves a started timer to another deadline; both are times of peer_now
 *   peer_due(object)             its deadline
 *   peer_now()                   the loop's cached time, in nanoseconds of whatever clock it uses
 *   peer_clock()                 that clock, read now
 *   peer_pass(ns)                moves the clock on, in the modes that have one of their own; elsewhere does nothing
 *   peer_run(body)               calls body in a callback of the loop, once an iteration for as long as it returns 1,
 *                                and runs until peer_stop
 *   peer_close()
 *
 *   PEER_TICK_NS                 the resolution of deadlines
 *   PEER_ORDERED                 timers that are due together fire in the order of their deadlines
 *   PEER_EARLY_NS                how early a timer may fire by peer_clock, whose clock may be another than the timers'
 *   PEER_POINTERS(n)             bytes of a table of pointers that a user would have inside of his own objects
 *   PEER_SLACK_NS                how far peer_due may be from what was asked for
 */
#ifndef BENCH_TIMERS_H
#define BENCH_TIMERS_H

#include "bench.h"

static void fired(size_t i);

#include BENCH_PART(timers)

/* Delays of whole milliseconds, which every library can tell apart, or of nanoseconds; less than span. */
static inline int64_t *random_delays(size_t n, int64_t span_ns, int64_t unit_ns) {
    int64_t *delays = bench_new(n, sizeof *delays);
    for (size_t i = 0; i < n; i++)
        delays[i] = (int64_t)(bench_random() % (uint64_t)(span_ns / unit_ns)) * unit_ns;
    return delays;
}

#endif
