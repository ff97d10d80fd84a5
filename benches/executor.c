/*
 * executor_1 and executor_10000: jobs that do nothing run on a pool of threads, so many outstanding. An operation is one
 * job: from handing it to the pool until the loop calls back with its result. Whoever is called back hands the next one
 * in.
 *
 * Every job must run once and be told of once. raw is one thread with a queue under a mutex and a condition variable, and
 * an eventfd for the way back: what a round trip costs when both sleep. Libraries without a pool are left out.
 */
#include "bench.h"

#if defined(BENCH_EVL) || defined(BENCH_LIBUV) || defined(BENCH_RAW)

enum { MOST = 10000 };

/* What each library does, below. */
static void executor_open(int mode);
static void executor_submit(size_t slot); /* on another thread job(slot) must run, then on the loop's told(slot) */
static void executor_run(void);
static void executor_stop(void); /* by the last one */
static void executor_close(void);

static size_t outstanding;
static uint64_t to_submit, to_tell, lost;
static struct slot {
    uint64_t runs; /* written by the job, read when it was told of */
    uint64_t submitted;
} slots[MOST];

static inline void job(size_t slot) {
    slots[slot].runs++;
}

static inline void submit(size_t slot) {
    to_submit--;
    slots[slot].submitted++;
    executor_submit(slot);
}

static inline void told(size_t slot) {
    lost += slots[slot].runs != slots[slot].submitted;
    if (--to_tell == 0)
        executor_stop();
    else if (to_submit > 0)
        submit(slot);
}

static int64_t work(uint64_t *count) {
    if (*count < outstanding)
        *count = outstanding;
    to_submit = to_tell = *count;
    int64_t start = bench_clock();
    for (size_t slot = 0; slot < outstanding; slot++)
        submit(slot);
    executor_run();
    return bench_clock() - start;
}

static void measure(const struct bench_case *one) {
    outstanding = one->n;
    bench_keep_memory();
    executor_open(one->mode);
    double value = bench_per_operation(work, outstanding * 4);
    executor_close();
    if (to_tell != 0 || to_submit != 0 || lost != 0)
        bench_fail("%llu jobs were not told of, %llu did not run once", (unsigned long long)to_tell,
                   (unsigned long long)lost);
    bench_result(one, one->workload, "ns", value);
}

#include BENCH_PART(executor)

static const struct bench_case cases[] = {
    VARIANTS("executor_1", 1),
    VARIANTS("executor_10000", MOST),
};

BENCH_MAIN(cases)

#else

int main(int argc, char **argv) {
    return bench_main(argc, argv, NULL, 0);
}

#endif
