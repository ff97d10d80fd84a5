/*
 * spawn: a child that runs true(1), one at a time: from starting it until the loop tells that it has ended with status 0.
 * It has the standard descriptors of this process, and no others. raw is posix_spawnp and waitpid, without a loop.
 */
#include "bench.h"

#if defined(BENCH_EVL) || defined(BENCH_LIBUV) || defined(BENCH_RAW)

/* What each library does, below. */
static void spawner_open(void);
static void spawner_spawn(void); /* ended(status) must be called */
static void spawner_run(void);   /* until spawner_stop */
static void spawner_stop(void);
static void spawner_close(void);

static uint64_t left;
static const char *const arguments[] = {"true", NULL};

static void ended(int64_t status) {
    if (status != 0)
        bench_fail("the child has ended with status %d", (int)status);
    if (--left == 0)
        spawner_stop();
    else
        spawner_spawn();
}

static int64_t work(uint64_t *count) {
    left = *count;
    int64_t start = bench_clock();
    spawner_spawn();
    spawner_run();
    return bench_clock() - start;
}

static void measure(const struct bench_case *one) {
    spawner_open();
    double value = bench_per_operation(work, 20);
    spawner_close();
    if (left != 0)
        bench_fail("%llu children were lost", (unsigned long long)left);
    bench_result(one, one->workload, "us", value / 1000);
}

#include BENCH_PART(spawn)

static const struct bench_case cases[] = {{"spawn", MECHANISM, measure, 0, 0, EVERY_CORE}};

BENCH_MAIN(cases)

#else

int main(int argc, char **argv) {
    return bench_main(argc, argv, NULL, 0);
}

#endif
