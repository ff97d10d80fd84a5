/*
 * libevent's timers, for timers.h: microseconds, and by default a monotonic clock that ticks every few milliseconds, of
 * which only the time of day is told.
 */

enum { START };

#define PEER_TICK_NS 1000
#define PEER_ORDERED 1
#define PEER_EARLY_NS 10000000
#define PEER_SLACK_NS 30000000
#define PEER_POINTERS(n) 0

static struct {
    struct event_base *base;
    struct event *events;
    struct event body_event;
    int (*body)(void);
} peer;

static inline void peer_on_timer(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    fired((size_t)arg);
}

/* An event that makes itself active again runs in the same iteration; a timer of zero runs in the next. */
static inline void peer_next_body(void) {
    struct timeval zero = {0, 0};
    must(event_add(&peer.body_event, &zero));
}

static inline void peer_on_body(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    (void)arg;
    if (peer.body())
        peer_next_body();
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    peer.base = must_have(event_base_new());
    peer.events = bench_new(n, sizeof *peer.events);
    must(event_assign(&peer.body_event, peer.base, -1, 0, peer_on_body, NULL));
}

static inline void peer_make(size_t i) {
    must(event_assign(&peer.events[i], peer.base, -1, 0, peer_on_timer, (void *)i));
}

static inline struct timeval peer_timeval(int64_t delay_ns) {
    struct timeval time;
    time.tv_sec = (time_t)(delay_ns / 1000000000);
    time.tv_usec = (suseconds_t)(delay_ns % 1000000000 / 1000);
    return time;
}

static inline int64_t peer_nanoseconds(const struct timeval *time) {
    return (int64_t)time->tv_sec * 1000000000 + (int64_t)time->tv_usec * 1000;
}

static inline int64_t peer_now(void) {
    struct timeval now;
    must(event_base_gettimeofday_cached(peer.base, &now));
    return peer_nanoseconds(&now);
}

static inline int64_t peer_clock(void) {
    struct timeval now;
    must(evutil_gettimeofday(&now, NULL));
    return peer_nanoseconds(&now);
}

static inline void peer_start(size_t i, int64_t delay_ns) {
    struct timeval delay = peer_timeval(delay_ns);
    must(event_add(&peer.events[i], &delay));
}

static inline void peer_pass(int64_t ns) {
    (void)ns;
}

static inline int peer_holds(void) {
    return 1;
}

static inline void *peer_object(size_t i) {
    return &peer.events[i];
}

static inline void peer_cancel(void *object) {
    must(event_del(object));
}

static inline void peer_rearm(void *object, int64_t to_ns, int64_t now_ns) {
    struct timeval delay = peer_timeval(to_ns - now_ns);
    must(event_add(object, &delay));
}

static inline int64_t peer_due(void *object) {
    struct timeval due = {0, 0};
    if (!event_pending(object, EV_TIMEOUT, &due))
        bench_fail("a timer is not pending");
    return peer_nanoseconds(&due);
}

static inline void peer_run(int (*body)(void)) {
    peer.body = body;
    peer_next_body();
    must(event_base_dispatch(peer.base));
}

static inline void peer_stop(void) {
    must(event_base_loopbreak(peer.base));
}

static inline void peer_close(void) {
    event_base_free(peer.base);
    free(peer.events);
}
