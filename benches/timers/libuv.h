/* libuv's timers, for timers.h: milliseconds. */

enum { START };

#define PEER_TICK_NS 1000000
#define PEER_ORDERED 1
#define PEER_EARLY_NS 1000000
#define PEER_SLACK_NS 3000000 /* its cached time is whole milliseconds, too */
#define PEER_POINTERS(n) 0

static struct {
    uv_loop_t loop;
    uv_idle_t idle;
    uv_timer_t *timers;
    size_t made;
    int (*body)(void);
} peer;

static inline void peer_on_timer(uv_timer_t *timer) {
    fired((size_t)timer->data);
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    must(uv_loop_init(&peer.loop));
    must(uv_idle_init(&peer.loop, &peer.idle));
    peer.timers = bench_new(n, sizeof *peer.timers);
}

static inline void peer_make(size_t i) {
    must(uv_timer_init(&peer.loop, &peer.timers[i]));
    peer.timers[i].data = (void *)i;
    peer.made++;
}

static inline int64_t peer_now(void) {
    return (int64_t)uv_now(&peer.loop) * 1000000;
}

static inline int64_t peer_clock(void) {
    return (int64_t)uv_hrtime();
}

static inline void peer_start(size_t i, int64_t delay_ns) {
    must(uv_timer_start(&peer.timers[i], peer_on_timer, (uint64_t)delay_ns / 1000000, 0));
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
    must(uv_timer_stop(object));
}

static inline void peer_rearm(void *object, int64_t to_ns, int64_t now_ns) {
    must(uv_timer_start(object, peer_on_timer, (uint64_t)(to_ns - now_ns) / 1000000, 0));
}

static inline int64_t peer_due(void *object) {
    return peer_now() + (int64_t)uv_timer_get_due_in(object) * 1000000;
}

static inline void peer_on_idle(uv_idle_t *idle) {
    if (!peer.body())
        uv_idle_stop(idle);
}

static inline void peer_run(int (*body)(void)) {
    peer.body = body;
    must(uv_idle_start(&peer.idle, peer_on_idle));
    uv_run(&peer.loop, UV_RUN_DEFAULT);
}

static inline void peer_stop(void) {
    uv_stop(&peer.loop);
}

static inline void peer_close(void) {
    for (size_t i = 0; i < peer.made; i++)
        uv_close((uv_handle_t *)&peer.timers[i], NULL);
    uv_close((uv_handle_t *)&peer.idle, NULL);
    uv_run(&peer.loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&peer.loop));
    free(peer.timers);
    peer.made = 0;
}
