/*
 * pipes_1000 and pipes_9900: the chain that libevent's own benchmark runs. So many pipes are watched; a byte is written
 * into 100 of them, spread evenly; whoever reads one writes one into the next pipe, until 1000 have been written that
 * way. An operation is such a chain of 1100 bytes; the readers stay registered.
 */
#include "watchers.h"

enum { ACTIVE = 100, WRITES = 1000 };

static size_t n;
static struct pipe *pipes;
static unsigned writes_left, arrived;
static uint64_t chains_left;

static void begin_chain(void) {
    writes_left = WRITES;
    arrived = 0;
    for (size_t i = 0; i < ACTIVE; i++)
        write_byte(pipes[i * (n / ACTIVE)]);
}

static void readable(size_t i) {
    read_byte(pipes[i]);
    if (writes_left > 0) {
        writes_left--;
        write_byte(pipes[i + 1 == n ? 0 : i + 1]);
    }
    if (++arrived == ACTIVE + WRITES) {
        if (--chains_left == 0)
            peer_stop();
        else
            begin_chain();
    }
}

static int64_t work(uint64_t *count) {
    chains_left = *count;
    int64_t start = bench_clock();
    begin_chain();
    peer_run();
    return bench_clock() - start;
}

static void measure(const struct bench_case *one) {
    n = one->n;
    pipes = open_pipes(n);
    peer_open(n, one->mode);
    for (size_t i = 0; i < n; i++)
        peer_watch(i, pipes[i].reader);
    double value = bench_per_operation(work, 4);
    for (size_t i = 0; i < n; i++) {
        char byte;
        if (chains_left != 0 || writes_left != 0 || read(pipes[i].reader, &byte, 1) != -1)
            bench_fail("a byte was lost");
    }
    peer_close();
    bench_result(one, one->workload, "us", value / 1000);
}

static const struct bench_case cases[] = {
    {"pipes_1000", PEER_WATCH, measure, 1000, 0, 0},
    {"pipes_9900", PEER_WATCH, measure, 9900, 0, 0},
};

BENCH_MAIN(cases)
