/*
 * sd-event's timers, for timers.h: microseconds, asked for the best accuracy. It calls one callback an iteration, and
 * of those that are due together any one first.
 */

enum { START };

#define PEER_TICK_NS 1000
#define PEER_ORDERED 0
#define PEER_EARLY_NS 1000
#define PEER_SLACK_NS 1000
#define PEER_POINTERS(n) ((n) * sizeof(sd_event_source *))

static struct {
    sd_event *loop;
    sd_event_source **sources;
    sd_event_source *body_source;
    size_t made;
    int (*body)(void);
    int stopped;
} peer;

static inline int peer_on_timer(sd_event_source *source, uint64_t usec, void *arg) {
    (void)source;
    (void)usec;
    fired((size_t)arg);
    return 0;
}

static inline int peer_on_body(sd_event_source *source, void *arg) {
    (void)arg;
    if (peer.body())
        must(sd_event_source_set_enabled(source, SD_EVENT_ONESHOT));
    return 0;
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    must(sd_event_new(&peer.loop));
    peer.sources = bench_new(n, sizeof(sd_event_source *));
    must(sd_event_add_defer(peer.loop, &peer.body_source, peer_on_body, NULL));
    must(sd_event_source_set_enabled(peer.body_source, SD_EVENT_OFF));
}

static inline void peer_make(size_t i) {
    must(sd_event_add_time(peer.loop, &peer.sources[i], CLOCK_MONOTONIC, UINT64_MAX, 1, peer_on_timer, (void *)i));
    must(sd_event_source_set_enabled(peer.sources[i], SD_EVENT_OFF));
    peer.made++;
}

static inline int64_t peer_now(void) {
    uint64_t now = 0;
    must(sd_event_now(peer.loop, CLOCK_MONOTONIC, &now));
    return (int64_t)now * 1000;
}

static inline int64_t peer_clock(void) {
    return bench_clock();
}

static inline void peer_start(size_t i, int64_t delay_ns) {
    must(sd_event_source_set_time(peer.sources[i], (uint64_t)(peer_now() + delay_ns) / 1000));
    must(sd_event_source_set_enabled(peer.sources[i], SD_EVENT_ONESHOT));
}

static inline void peer_pass(int64_t ns) {
    (void)ns;
}

static inline int peer_holds(void) {
    return 1;
}

static inline void *peer_object(size_t i) {
    return peer.sources[i];
}

static inline void peer_cancel(void *object) {
    must(sd_event_source_set_enabled(object, SD_EVENT_OFF));
}

static inline void peer_rearm(void *object, int64_t to_ns, int64_t now_ns) {
    (void)now_ns;
    must(sd_event_source_set_time(object, (uint64_t)to_ns / 1000));
}

static inline int64_t peer_due(void *object) {
    uint64_t due = 0;
    must(sd_event_source_get_time(object, &due));
    return (int64_t)due * 1000;
}

static inline void peer_run(int (*body)(void)) {
    peer.body = body;
    must(sd_event_source_set_enabled(peer.body_source, SD_EVENT_ONESHOT));
    for (peer.stopped = 0; !peer.stopped;)
        must(sd_event_run(peer.loop, UINT64_MAX));
}

static inline void peer_stop(void) {
    peer.stopped = 1;
}

static inline void peer_close(void) {
    for (size_t i = 0; i < peer.made; i++)
        sd_event_source_unref(peer.sources[i]);
    sd_event_source_unref(peer.body_source);
    sd_event_unref(peer.loop);
    free(peer.sources);
    peer.made = 0;
}
