/* libev's timers, for timers.h: seconds as double. */

enum { START };

#define PEER_TICK_NS 1000
#define PEER_ORDERED 1
#define PEER_EARLY_NS 1000000 /* its timers go by a monotonic clock, ev_now by the time of day */
#define PEER_SLACK_NS 1000000
#define PEER_POINTERS(n) 0

static struct {
    struct ev_loop *loop;
    ev_idle idle;
    ev_timer *timers;
    int (*body)(void);
} peer;

static inline void peer_on_timer(struct ev_loop *loop, ev_timer *timer, int events) {
    (void)loop;
    (void)events;
    fired((size_t)timer->data);
}

static inline void peer_on_idle(struct ev_loop *loop, ev_idle *idle, int events) {
    (void)events;
    if (!peer.body())
        ev_idle_stop(loop, idle);
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    peer.loop = must_have(ev_loop_new(EVFLAG_AUTO));
    ev_init(&peer.idle, peer_on_idle);
    peer.timers = bench_new(n, sizeof *peer.timers);
}

static inline void peer_make(size_t i) {
    ev_init(&peer.timers[i], peer_on_timer);
    peer.timers[i].data = (void *)i;
}

static inline int64_t peer_now(void) {
    return (int64_t)(ev_now(peer.loop) * 1e9);
}

static inline int64_t peer_clock(void) {
    return (int64_t)(ev_time() * 1e9);
}

static inline void peer_start(size_t i, int64_t delay_ns) {
    ev_timer_set(&peer.timers[i], (double)delay_ns * 1e-9, 0.);
    ev_timer_start(peer.loop, &peer.timers[i]);
}

static inline void peer_pass(int64_t ns) {
    (void)ns;
}

static inline int peer_holds(void) {
    return 1;
}

static inline void *peer_object(size_t i) {
    return &peer.timers[i];
}

static inline void peer_cancel(void *object) {
    ev_timer_stop(peer.loop, object);
}

static inline void peer_rearm(void *object, int64_t to_ns, int64_t now_ns) {
    ev_timer *timer = object;
    timer->repeat = (double)(to_ns - now_ns) * 1e-9;
    ev_timer_again(peer.loop, timer);
}

static inline int64_t peer_due(void *object) {
    return peer_now() + (int64_t)(ev_timer_remaining(peer.loop, object) * 1e9);
}

static inline void peer_run(int (*body)(void)) {
    peer.body = body;
    ev_idle_start(peer.loop, &peer.idle);
    ev_run(peer.loop, 0);
}

static inline void peer_stop(void) {
    ev_break(peer.loop, EVBREAK_ALL);
}

static inline void peer_close(void) {
    ev_loop_destroy(peer.loop);
    free(peer.timers);
}
