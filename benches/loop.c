/*
 * loop_create: a loop is made and closed, again and again; and the first one of a process ("first"). loop_bytes: the
 * heap an idle loop has, after one iteration that found nothing to do: the mean of 64 loops, beside one that was there
 * before.
 *
 * What a process keeps beside its loops (the first one's) is not counted, nor is what the kernel holds.
 */
#include "bench.h"

#include <fcntl.h>

/* What each library does, below. */
static void *loop_new(void);
static void loop_iterate(void *loop);
static void loop_free(void *loop);

/* The lowest descriptor that is free. */
static int free_descriptor(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    must(fd);
    close(fd);
    return fd;
}

static int64_t work(uint64_t *count) {
    int64_t start = bench_clock();
    for (uint64_t i = 0; i < *count; i++)
        loop_free(loop_new());
    return bench_clock() - start;
}

static void measure_create(const struct bench_case *one) {
    loop_free(loop_new()); /* what the process keeps */
    int fd = free_descriptor();
    double value = bench_per_operation(work, 100);
    if (free_descriptor() != fd)
        bench_fail("descriptors were not closed");
    bench_result(one, one->workload, "us", value / 1000);
}

static void measure_first(const struct bench_case *one) {
    free(must_have(malloc(100))); /* every process has done this, and has read the clock */
    bench_clock();
    int64_t start = bench_clock();
    loop_free(loop_new());
    bench_result(one, one->workload, "us", (double)(bench_clock() - start) / 1000);
}

static void measure_bytes(const struct bench_case *one) {
    enum { LOOPS = 64 };
    void *loops[LOOPS], *other = loop_new();
    loop_iterate(other);
    size_t before = bench_memory();
    for (int i = 0; i < LOOPS; i++) {
        loops[i] = loop_new();
        loop_iterate(loops[i]);
    }
    size_t after = bench_memory();
    for (int i = 0; i < LOOPS; i++)
        loop_free(loops[i]);
    loop_free(other);
    bench_result(one, one->workload, "bytes", (double)(after - before) / LOOPS);
}

#define CASES(name)                                                                                                   \
    {"loop_create", name, measure_create, 0, 0, 0}, {"loop_create", name ", first", measure_first, 0, 0, ONCE},       \
        {"loop_bytes", name, measure_bytes, 0, 0, 0}

#if defined(BENCH_EVL)

static void *loop_new(void) {
    evl_loop *loop;
    must(evl_loop_new(NULL, &loop));
    return loop;
}

static void loop_iterate(void *loop) {
    must(evl_loop_run_once(loop, 0));
}

static void loop_free(void *loop) {
    must(evl_loop_close(loop));
    evl_loop_unref(loop);
}

static const struct bench_case cases[] = {CASES("evl_loop_new")};

#elif defined(BENCH_LIBUV)

static void *loop_new(void) {
    uv_loop_t *loop = must_have(malloc(sizeof *loop));
    must(uv_loop_init(loop));
    return loop;
}

static void loop_iterate(void *loop) {
    uv_run(loop, UV_RUN_NOWAIT);
}

static void loop_free(void *loop) {
    must(uv_loop_close(loop));
    free(loop);
}

static const struct bench_case cases[] = {CASES("uv_loop_init")};

#elif defined(BENCH_LIBEV)

static void *loop_new(void) {
    return must_have(ev_loop_new(EVFLAG_AUTO));
}

static void loop_iterate(void *loop) {
    ev_run(loop, EVRUN_NOWAIT);
}

static void loop_free(void *loop) {
    ev_loop_destroy(loop);
}

static const struct bench_case cases[] = {CASES("ev_loop_new")};

#elif defined(BENCH_LIBEVENT)

static void *loop_new(void) {
    return must_have(event_base_new());
}

static void loop_iterate(void *base) {
    must(event_base_loop(base, EVLOOP_NONBLOCK));
}

static void loop_free(void *base) {
    event_base_free(base);
}

static const struct bench_case cases[] = {CASES("event_base_new")};

#elif defined(BENCH_SD_EVENT)

static void *loop_new(void) {
    sd_event *loop;
    must(sd_event_new(&loop));
    return loop;
}

static void loop_iterate(void *loop) {
    must(sd_event_run(loop, 0));
}

static void loop_free(void *loop) {
    sd_event_unref(loop);
}

static const struct bench_case cases[] = {CASES("sd_event_new")};

/* An epoll that an eventfd can wake. */
#elif defined(BENCH_RAW)

#include <sys/epoll.h>
#include <sys/eventfd.h>

struct raw_loop {
    int poller, waker;
};

static void *loop_new(void) {
    struct raw_loop *loop = must_have(malloc(sizeof *loop));
    struct epoll_event event = {EPOLLIN | EPOLLET, {NULL}};
    must(loop->poller = epoll_create1(EPOLL_CLOEXEC));
    must(loop->waker = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    must(epoll_ctl(loop->poller, EPOLL_CTL_ADD, loop->waker, &event));
    return loop;
}

static void loop_iterate(void *loop) {
    struct epoll_event event;
    must(epoll_wait(((struct raw_loop *)loop)->poller, &event, 1, 0));
}

static void loop_free(void *loop) {
    close(((struct raw_loop *)loop)->waker);
    close(((struct raw_loop *)loop)->poller);
    free(loop);
}

static const struct bench_case cases[] = {CASES("epoll and eventfd")};

#endif

BENCH_MAIN(cases)
