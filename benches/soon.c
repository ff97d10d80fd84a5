/*
 * Callbacks that schedule themselves again: soon_10000, soon_100 and soon_1, so many in flight, no handle wanted; and
 * soon_handle_10000, where each keeps something by which it could be cancelled until it has run.
 *
 * The n callbacks go round in passes. Where the library promises the order of scheduling, every call is compared with
 * the one whose turn it is; elsewhere every pass must have called each of them once.
 */
#include "bench.h"

static struct {
    size_t n, turn;
    uint64_t passes_left, sum, disorder;
} soon;

/* What each library does, below. */
static void soon_open(size_t n, int mode);
static void soon_schedule(size_t index);
static void soon_run(void);
static void soon_stop(void); /* called by the last callback */
static void soon_close(void);

static inline void next_turn(void) {
    if (++soon.turn == soon.n) {
        soon.turn = 0;
        if (--soon.passes_left == 0)
            soon_stop();
    }
}

/* A callback runs: whether it schedules itself again. */
static inline int again(size_t index) {
    int more = soon.passes_left > 1;
    soon.disorder += index != soon.turn;
    next_turn();
    return more;
}

/* The same for a library that keeps no order. */
static inline int again_in_any_order(size_t index) {
    int more = soon.passes_left > 1;
    soon.sum += index;
    if (soon.turn == soon.n - 1) {
        soon.disorder += soon.sum != (uint64_t)soon.n * (soon.n - 1) / 2;
        soon.sum = 0;
    }
    next_turn();
    return more;
}

static int64_t work(uint64_t *count) {
    uint64_t passes = *count / soon.n < 2 ? 2 : *count / soon.n;
    *count = passes * soon.n;
    soon.turn = 0;
    soon.passes_left = passes;
    int64_t start = bench_clock();
    for (size_t i = 0; i < soon.n; i++)
        soon_schedule(i);
    soon_run();
    int64_t elapsed = bench_clock() - start;
    if (soon.passes_left != 0 || soon.disorder != 0)
        bench_fail("%llu passes are missing, %llu callbacks ran out of order", (unsigned long long)soon.passes_left,
                   (unsigned long long)soon.disorder);
    return elapsed;
}

static void measure(const struct bench_case *one) {
    soon.n = one->n;
    soon_open(one->n, one->mode);
    double value = bench_per_operation(work, one->n * 10);
    soon_close();
    bench_result(one, one->workload, "ns", value);
}

/* --- a FIFO of callbacks: all there is to raw, and what a user builds where the library has none */

struct job {
    void (*run)(size_t index);
    size_t index;
};

static struct {
    struct job *jobs;
    size_t mask, head, tail;
} fifo;

static inline void fifo_open(size_t n) {
    size_t capacity = 2;
    while (capacity < n)
        capacity *= 2;
    fifo.jobs = bench_new(capacity, sizeof *fifo.jobs);
    fifo.mask = capacity - 1;
}

static inline void fifo_push(void (*run)(size_t index), size_t index) {
    struct job *job = &fifo.jobs[fifo.tail++ & fifo.mask];
    job->run = run;
    job->index = index;
}

/* Runs those that are ready now. */
static inline void fifo_run(void) {
    for (size_t end = fifo.tail; fifo.head != end;) {
        struct job job = fifo.jobs[fifo.head++ & fifo.mask];
        job.run(job.index);
    }
}

static inline void fifo_job(size_t index) {
    if (again(index))
        fifo_push(fifo_job, index);
}

#include BENCH_PART(soon)

BENCH_MAIN(cases)
