/*
 * wake_samecore: two threads on one core, each running a loop, wake each other in turn. An operation is one wake-up:
 * from telling the other loop until its callback runs.
 */
#include "bench.h"

#include <pthread.h>

struct side {
    struct side *other;
    struct peer *peer;
    uint64_t woken;
};

/* What each library does, below. */
static struct peer *wake_open(struct side *side, int mode);
static void wake_send(struct peer *peer); /* from the other thread: woken(side) must run in the loop's */
static void wake_run(struct peer *peer);
static void wake_stop(struct peer *peer); /* in the loop's own callback */
static void wake_close(struct peer *peer);

static struct side sides[2];
static uint64_t wakes; /* each side's */

/* Side 0 is told first, and each then tells the other, until both were told that often. */
static void woken(struct side *side) {
    side->woken++;
    if (side->woken < wakes || side == &sides[0])
        wake_send(side->other->peer);
    if (side->woken == wakes)
        wake_stop(side->peer);
}

static void *run_side(void *arg) {
    wake_run(((struct side *)arg)->peer);
    return NULL;
}

static int64_t work(uint64_t *count) {
    pthread_t thread;
    wakes = *count / 2 + 1;
    *count = 2 * wakes;
    sides[0].woken = sides[1].woken = 0;
    if (pthread_create(&thread, NULL, run_side, &sides[1]) != 0)
        bench_fail("no thread");
    int64_t start = bench_clock();
    wake_send(sides[0].peer);
    run_side(&sides[0]);
    pthread_join(thread, NULL);
    int64_t elapsed = bench_clock() - start;
    if (sides[0].woken != wakes || sides[1].woken != wakes)
        bench_fail("%llu and %llu wake-ups, not %llu", (unsigned long long)sides[0].woken,
                   (unsigned long long)sides[1].woken, (unsigned long long)wakes);
    return elapsed;
}

static void measure(const struct bench_case *one) {
    for (int i = 0; i < 2; i++) {
        sides[i].other = &sides[1 - i];
        sides[i].peer = wake_open(&sides[i], one->mode);
    }
    double value = bench_per_operation(work, 2000);
    for (int i = 0; i < 2; i++)
        wake_close(sides[i].peer);
    bench_result(one, one->workload, "ns", value);
}

/* --- evl: evl_loop_call_soon_threadsafe */

#if defined(BENCH_EVL)

struct peer {
    evl_loop *loop;
    struct side *side;
};

static void on_post(void *side) {
    woken(side);
}

static struct peer *wake_open(struct side *side, int mode) {
    (void)mode;
    struct peer *peer = bench_new(1, sizeof *peer);
    must(evl_loop_new(NULL, &peer->loop));
    peer->side = side;
    return peer;
}

static void wake_send(struct peer *peer) {
    must(evl_loop_call_soon_threadsafe(peer->loop, on_post, peer->side, NULL, NULL, NULL));
}

static void wake_run(struct peer *peer) {
    must(evl_loop_run_forever(peer->loop));
}

static void wake_stop(struct peer *peer) {
    must(evl_loop_stop(peer->loop));
}

static void wake_close(struct peer *peer) {
    evl_loop_unref(peer->loop);
    free(peer);
}

static const struct bench_case cases[] = {{"wake_samecore", "call_soon_threadsafe", measure, 0, 0, 0}};

/* --- libuv */

#elif defined(BENCH_LIBUV)

struct peer {
    uv_loop_t loop;
    uv_async_t async;
};

static void on_async(uv_async_t *async) {
    woken(async->data);
}

static struct peer *wake_open(struct side *side, int mode) {
    (void)mode;
    struct peer *peer = bench_new(1, sizeof *peer);
    must(uv_loop_init(&peer->loop));
    must(uv_async_init(&peer->loop, &peer->async, on_async));
    peer->async.data = side;
    return peer;
}

static void wake_send(struct peer *peer) {
    must(uv_async_send(&peer->async));
}

static void wake_run(struct peer *peer) {
    uv_run(&peer->loop, UV_RUN_DEFAULT);
}

static void wake_stop(struct peer *peer) {
    uv_stop(&peer->loop);
}

static void wake_close(struct peer *peer) {
    uv_close((uv_handle_t *)&peer->async, NULL);
    uv_run(&peer->loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&peer->loop));
    free(peer);
}

static const struct bench_case cases[] = {{"wake_samecore", "uv_async_send", measure, 0, 0, 0}};

/* --- libev */

#elif defined(BENCH_LIBEV)

struct peer {
    struct ev_loop *loop;
    ev_async async;
};

static void on_async(struct ev_loop *loop, ev_async *async, int events) {
    (void)loop;
    (void)events;
    woken(async->data);
}

static struct peer *wake_open(struct side *side, int mode) {
    (void)mode;
    struct peer *peer = bench_new(1, sizeof *peer);
    peer->loop = must_have(ev_loop_new(EVFLAG_AUTO));
    ev_async_init(&peer->async, on_async);
    peer->async.data = side;
    ev_async_start(peer->loop, &peer->async);
    return peer;
}

static void wake_send(struct peer *peer) {
    ev_async_send(peer->loop, &peer->async);
}

static void wake_run(struct peer *peer) {
    ev_run(peer->loop, 0);
}

static void wake_stop(struct peer *peer) {
    ev_break(peer->loop, EVBREAK_ALL);
}

static void wake_close(struct peer *peer) {
    ev_loop_destroy(peer->loop);
    free(peer);
}

static const struct bench_case cases[] = {{"wake_samecore", "ev_async_send", measure, 0, 0, 0}};

/* --- libevent */

#elif defined(BENCH_LIBEVENT)

struct peer {
    struct event_base *base;
    struct event event;
};

static void on_event(evutil_socket_t fd, short what, void *side) {
    (void)fd;
    (void)what;
    woken(side);
}

static struct peer *wake_open(struct side *side, int mode) {
    (void)mode;
    struct peer *peer = bench_new(1, sizeof *peer);
    must(evthread_use_pthreads());
    peer->base = must_have(event_base_new());
    must(event_assign(&peer->event, peer->base, -1, EV_PERSIST, on_event, side));
    return peer;
}

static void wake_send(struct peer *peer) {
    event_active(&peer->event, EV_READ, 0);
}

static void wake_run(struct peer *peer) {
    must(event_base_loop(peer->base, EVLOOP_NO_EXIT_ON_EMPTY));
}

static void wake_stop(struct peer *peer) {
    must(event_base_loopbreak(peer->base));
}

static void wake_close(struct peer *peer) {
    event_base_free(peer->base);
    free(peer);
}

static const struct bench_case cases[] = {{"wake_samecore", "event_active", measure, 0, 0, 0}};

/* --- sd-event and raw: an eventfd */

#else

#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { READ, EDGE };

struct peer {
#if defined(BENCH_SD_EVENT)
    sd_event *loop;
    sd_event_source *source;
#endif
    int poller, fd, reads, stopped;
    struct side *side;
};

static void wake_send(struct peer *peer) {
    static const uint64_t one = 1;
    if (write(peer->fd, &one, sizeof one) < 0)
        bench_fail("write: %s", strerror(errno));
}

static void take(struct peer *peer) {
    uint64_t count;
    if (peer->reads && read(peer->fd, &count, sizeof count) < 0)
        bench_fail("read: %s", strerror(errno));
    woken(peer->side);
}

static void wake_stop(struct peer *peer) {
    peer->stopped = 1;
}

#if defined(BENCH_SD_EVENT)

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *peer) {
    (void)source;
    (void)fd;
    (void)events;
    take(peer);
    return 0;
}

#endif

static struct peer *wake_open(struct side *side, int mode) {
    struct peer *peer = bench_new(1, sizeof *peer);
    peer->side = side;
    peer->reads = mode == READ;
    must(peer->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
#if defined(BENCH_SD_EVENT)
    must(sd_event_new(&peer->loop));
    must(sd_event_add_io(peer->loop, &peer->source, peer->fd, EPOLLIN, on_readable, peer));
#else
    struct epoll_event event = {mode == EDGE ? EPOLLIN | EPOLLET : EPOLLIN, {NULL}};
    must(peer->poller = epoll_create1(EPOLL_CLOEXEC));
    must(epoll_ctl(peer->poller, EPOLL_CTL_ADD, peer->fd, &event));
#endif
    return peer;
}

static void wake_run(struct peer *peer) {
    for (peer->stopped = 0; !peer->stopped;) {
#if defined(BENCH_SD_EVENT)
        must(sd_event_run(peer->loop, UINT64_MAX));
#else
        struct epoll_event events[64];
        if (epoll_wait(peer->poller, events, 64, -1) == 1)
            take(peer);
#endif
    }
}

static void wake_close(struct peer *peer) {
#if defined(BENCH_SD_EVENT)
    sd_event_source_unref(peer->source);
    sd_event_unref(peer->loop);
#else
    close(peer->poller);
#endif
    close(peer->fd);
    free(peer);
}

static const struct bench_case cases[] = {
#if defined(BENCH_SD_EVENT)
    {"wake_samecore", "eventfd", measure, 0, READ, 0},
#else
    {"wake_samecore", "eventfd and epoll", measure, 0, READ, 0},
    {"wake_samecore", "eventfd and epoll, edge-triggered", measure, 0, EDGE, 0},
#endif
};

#endif

BENCH_MAIN(cases)
