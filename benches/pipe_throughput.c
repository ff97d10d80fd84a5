/*
 * pipe_throughput: chunks of 64 KiB through a pipe whose two ends one loop has, as a library's own objects for that: written
 * as fast as they are taken, and read. An operation is a chunk (1 us is 524 Gbit/s divided by as many). Every chunk
 * bears its number, which is checked. raw writes and reads by turns, without a loop.
 */
#include "bench.h"

#include <fcntl.h>

#if defined(BENCH_EVL) || defined(BENCH_LIBUV) || defined(BENCH_RAW)

enum { CHUNK = 64 * 1024, CHUNKS = 8 };

/* What each library does, below. */
static void peer_open(int reader, int writer, int mode);
static void peer_write(void); /* begins writing chunks: next_chunk until it is NULL */
static void peer_run(void);   /* until peer_stop; data must be handed to received */
static void peer_stop(void);
static void peer_close(void);

static char *chunks[CHUNKS];
static uint64_t to_write, written, to_read, bytes;

/* The next one to be written. It must have gone out before CHUNKS - 1 others are asked for. */
static char *next_chunk(void) {
    if (written == to_write)
        return NULL;
    char *chunk = chunks[written % CHUNKS];
    memcpy(chunk, &written, sizeof written);
    written++;
    return chunk;
}

static void received(const char *data, size_t size) {
    uint64_t number;
    size_t next = (size_t)((CHUNK - bytes % CHUNK) % CHUNK);
    if (next + sizeof number <= size) {
        memcpy(&number, data + next, sizeof number);
        if (number != (bytes + next) / CHUNK)
            bench_fail("a chunk is another one");
    }
    bytes += size;
    if (bytes == to_read)
        peer_stop();
}

static int64_t work(uint64_t *count) {
    to_write += *count;
    to_read = to_write * CHUNK;
    int64_t start = bench_clock();
    peer_write();
    peer_run();
    return bench_clock() - start;
}

static void measure(const struct bench_case *one) {
    int fds[2];
    must(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
    for (int i = 0; i < CHUNKS; i++)
        memset(chunks[i] = bench_new(1, CHUNK), i, CHUNK);
    peer_open(fds[0], fds[1], one->mode);
    double value = bench_per_operation(work, 1000);
    if (bytes != to_read)
        bench_fail("bytes were lost");
    peer_close();
    bench_result(one, one->workload, "us", value / 1000);
}

#include BENCH_PART(pipe_throughput)

static const struct bench_case cases[] = {CASES};

BENCH_MAIN(cases)

#else

int main(int argc, char **argv) {
    return bench_main(argc, argv, NULL, 0);
}

#endif
