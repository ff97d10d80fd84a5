/* evl's timers, for timers.h. */

enum { CALL_AT, CONTEXT, ARG_FREE, HANDLE, REUSED, MANUAL_CLOCK };

#define PEER_TICK_NS 1
#define PEER_ORDERED 1
#define PEER_EARLY_NS 0
#define PEER_SLACK_NS 0
#define PEER_POINTERS(n) (peer.timers == NULL ? 0 : (n) * sizeof(evl_timer *))

static struct {
    evl_loop *loop;
    int mode, manual;
    evl_free_fn arg_free;
    evl_timer **timers; /* kept by HANDLE, REUSED and MANUAL_CLOCK */
    evl_context_var *variable;
    uint64_t started, released;
    int (*body)(void);
} peer;

static inline void peer_on_timer(void *arg) {
    fired((size_t)arg);
}

static inline void peer_release(void *arg) {
    (void)arg;
    peer.released++;
}

static inline void peer_open(size_t n, int mode) {
    evl_loop_options options;
    must(evl_loop_options_init(&options, sizeof options));
    options.flags = mode == MANUAL_CLOCK ? EVL_LOOP_MANUAL_CLOCK : 0;
    must(evl_loop_new(&options, &peer.loop));
    peer.mode = mode == MANUAL_CLOCK ? REUSED : mode;
    peer.manual = mode == MANUAL_CLOCK;
    peer.arg_free = mode == ARG_FREE ? peer_release : NULL;
    if (mode == CONTEXT) {
        must(evl_context_var_new("request", NULL, NULL, &peer.variable));
        must(evl_context_var_set(peer.variable, &peer, NULL, NULL));
    }
    peer.timers = mode >= HANDLE ? bench_new(n, sizeof *peer.timers) : NULL;
}

static inline void peer_make(size_t i) {
    if (peer.mode == REUSED)
        must(evl_timer_new(peer.loop, 0, peer_on_timer, (void *)i, NULL, NULL, &peer.timers[i]));
}

static inline int64_t peer_now(void) {
    int64_t now = 0;
    must(evl_loop_now(peer.loop, &now));
    return now;
}

static inline int64_t peer_clock(void) {
    int64_t now = 0;
    must(evl_loop_time(peer.loop, &now));
    return now;
}

static inline void peer_start(size_t i, int64_t delay_ns) {
    int64_t when = peer_now() + delay_ns;
    if (peer.mode == REUSED) {
        must(evl_timer_reschedule(peer.timers[i], when));
        return;
    }
    must(evl_loop_call_at(peer.loop, when, peer_on_timer, (void *)i, peer.arg_free, NULL,
                          peer.mode == HANDLE ? &peer.timers[i] : NULL));
    peer.started += peer.arg_free != NULL;
}

static inline void peer_pass(int64_t ns) {
    if (peer.manual)
        must(evl_loop_advance(peer.loop, ns));
}

static inline int peer_holds(void) {
    return peer.timers != NULL;
}

static inline void *peer_object(size_t i) {
    return peer.timers[i];
}

static inline void peer_cancel(void *object) {
    must(evl_timer_cancel(object));
    evl_timer_unref(object);
}

static inline void peer_rearm(void *object, int64_t to_ns, int64_t now_ns) {
    (void)now_ns;
    must(evl_timer_reschedule(object, to_ns));
}

static inline int64_t peer_due(void *object) {
    int64_t when = 0;
    must(evl_timer_when(object, &when));
    return when;
}

static inline void peer_call_body(void *arg) {
    (void)arg;
    if (peer.body())
        must(evl_loop_call_soon(peer.loop, peer_call_body, NULL, NULL, NULL, NULL));
}

static inline void peer_run(int (*body)(void)) {
    peer.body = body;
    must(evl_loop_call_soon(peer.loop, peer_call_body, NULL, NULL, NULL, NULL));
    must(evl_loop_run_forever(peer.loop));
}

static inline void peer_stop(void) {
    must(evl_loop_stop(peer.loop));
}

static inline void peer_close(void) {
    must(evl_loop_close(peer.loop));
    evl_loop_unref(peer.loop);
    evl_context_var_unref(peer.variable);
    free(peer.timers);
    if (peer.released != peer.started)
        bench_fail("%llu arguments were released, not %llu", (unsigned long long)peer.released,
                   (unsigned long long)peer.started);
    memset(&peer, 0, sizeof peer);
}
