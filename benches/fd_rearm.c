/*
 * fd_rearm: the reader of one descriptor is removed and added again, 10,000 times in a callback, which is that reader;
 * it reads a byte first and writes another last, so that the loop must come back with it. What the kernel is told is
 * the library's affair: libuv and libevent call it every time, libev, evl and libevent's changelist once before they
 * wait.
 *
 * The variants "1000 at a time" do the same once to each of 1000 descriptors: every one then costs what the library
 * does before it waits, too.
 */
#include "watchers.h"

enum { BATCH = 10000 };

static size_t n;
static struct pipe *pipes;
static uint64_t left, readable_count;

static void readable(size_t i) {
    if (i != 0)
        bench_fail("a reader was called that has nothing to read");
    read_byte(pipes[0]);
    readable_count++;
    unsigned batch = n == 1 ? BATCH : (unsigned)n;
    for (size_t k = 0; k < batch; k++)
        peer_rearm(n == 1 ? 0 : k);
    left -= batch;
    if (left == 0)
        peer_stop();
    else
        write_byte(pipes[0]);
}

static int64_t work(uint64_t *count) {
    uint64_t batch = n == 1 ? BATCH : n, batches = (*count + batch - 1) / batch;
    *count = left = batches * batch;
    readable_count = 0;
    int64_t start = bench_clock();
    write_byte(pipes[0]);
    peer_run();
    int64_t elapsed = bench_clock() - start;
    if (readable_count != batches)
        bench_fail("the reader was called %llu times, not %llu", (unsigned long long)readable_count,
                   (unsigned long long)batches);
    return elapsed;
}

static void measure(const struct bench_case *one) {
    n = one->n;
    pipes = open_pipes(n);
    peer_open(n, one->mode);
    for (size_t i = 0; i < n; i++)
        peer_watch(i, pipes[i].reader);
    double value = bench_per_operation(work, BATCH);
    peer_close();
    bench_result(one, one->workload, "ns", value);
}

#define FORMS(mode, name)                                                                                             \
    {"fd_rearm", name, measure, 1, mode, 0}, {"fd_rearm", name ", 1000 at a time", measure, 1000, mode, 0},

static const struct bench_case cases[] = {PEER_REARMS(FORMS)};

BENCH_MAIN(cases)
