/*
 * Timers without a library, for timers.h: a slab of payloads and, by mode, a 4-ary heap or a wheel of vectors of their
 * keys.
 *
 * Cancelling leaves the key behind; when half of the keys are stale they are swept. Moving a deadline later writes the
 * payload, and the key is placed again when it comes up.
 */

#include "raw_heap.h"
#include "raw_wheel.h"

enum { HEAP, WHEEL, HEAP_AHEAD, WHEEL_AHEAD }; /* ahead: of the real clock */

#define AHEAD 8 /* how many payloads ahead are fetched into the cache */

#define PEER_TICK_NS 1
#define PEER_ORDERED 1
#define PEER_EARLY_NS 0
#define PEER_SLACK_NS 0
#define PEER_POINTERS(n) ((n) * 2 * sizeof(uint32_t))

struct payload {
    int64_t deadline, key_deadline;
    uint32_t sequence, key_sequence; /* key_sequence 0: free */
    void (*call)(size_t i);
    size_t i;
};

static struct {
    int mode, stopped;
    struct payload *slab;
    uint32_t *free_slots; /* a stack beside the slab: taking a slot waits for no cache miss of the one before */
    uint32_t slab_length, free_length, sequence;
    uint32_t *slots; /* where timer i is */
    struct keys heap;
    struct wheel wheel;
    size_t keys, stale;
    int64_t now, ahead;
    int own_clock;
    int (*body)(void);
} peer;

static inline int64_t peer_now(void) {
    return peer.now;
}

static inline int64_t peer_clock(void) {
    return bench_clock();
}

static inline void peer_open(size_t n, int mode) {
    peer.mode = mode % 2;
    peer.own_clock = mode >= HEAP_AHEAD;
    peer.slab = bench_new(n, sizeof *peer.slab);
    peer.free_slots = bench_new(n, sizeof *peer.free_slots);
    peer.slots = bench_new(n, sizeof *peer.slots);
    peer.now = bench_clock();
    peer.wheel.horizon = peer.now >> WHEEL_SHIFT(0) << WHEEL_SHIFT(0);
}

static inline void peer_make(size_t i) {
    (void)i;
}

/* Puts a payload's deadline into the structure. */
static inline void peer_place(uint32_t slot) {
    struct payload *payload = &peer.slab[slot];
    struct key key = {payload->deadline, payload->sequence, slot};
    payload->key_sequence = key.sequence;
    payload->key_deadline = key.deadline;
    peer.keys++;
    if (peer.mode == HEAP)
        heap_push(&peer.heap, key);
    else
        wheel_push(&peer.wheel, key);
}

static inline void peer_start(size_t i, int64_t delay_ns) {
    uint32_t slot = peer.free_length > 0 ? peer.free_slots[--peer.free_length] : peer.slab_length++;
    struct payload *payload = &peer.slab[slot];
    payload->deadline = peer.now + delay_ns;
    payload->sequence = ++peer.sequence;
    payload->call = fired;
    payload->i = i;
    peer.slots[i] = slot;
    peer_place(slot);
}

static inline void peer_release(uint32_t slot) {
    peer.slab[slot].key_sequence = 0;
    peer.free_slots[peer.free_length++] = slot;
}

static inline void peer_sweep_keys(struct keys *keys) {
    size_t kept = 0;
    for (size_t i = 0; i < keys->length; i++) {
        if (i + AHEAD < keys->length)
            __builtin_prefetch(&peer.slab[keys->at[i + AHEAD].slot]);
        if (peer.slab[keys->at[i].slot].key_sequence == keys->at[i].sequence)
            keys->at[kept++] = keys->at[i];
    }
    keys->length = kept;
}

static inline void peer_sweep(void) {
    struct wheel *wheel = &peer.wheel;
    peer_sweep_keys(&peer.heap);
    heap_build(&peer.heap);
    peer_sweep_keys(&wheel->near);
    heap_build(&wheel->near);
    peer_sweep_keys(&wheel->run);
    for (size_t level = 0; level < WHEEL_LEVELS; level++) {
        for (size_t slot = 0; slot < 256; slot++) {
            peer_sweep_keys(&wheel->slots[level][slot]);
            if (wheel->slots[level][slot].length == 0)
                wheel->used[level][slot / 64] &= ~(UINT64_C(1) << slot % 64);
        }
    }
    peer.keys -= peer.stale;
    peer.stale = 0;
}

static inline void peer_pass(int64_t ns) {
    peer.ahead += peer.own_clock ? ns : 0;
}

static inline int peer_holds(void) {
    return 1;
}

static inline void *peer_object(size_t i) {
    return &peer.slab[peer.slots[i]];
}

static inline void peer_leave_key(void) {
    if (++peer.stale > 64 && peer.stale > peer.keys / 2)
        peer_sweep();
}

static inline void peer_cancel(void *object) {
    peer_release((uint32_t)((struct payload *)object - peer.slab));
    peer_leave_key();
}

static inline void peer_rearm(void *object, int64_t to_ns, int64_t now_ns) {
    (void)now_ns;
    struct payload *payload = object;
    payload->deadline = to_ns;
    payload->sequence = ++peer.sequence;
    if (to_ns < payload->key_deadline) {
        payload->key_sequence = 0;
        peer_leave_key();
        peer_place((uint32_t)(payload - peer.slab));
    }
}

static inline int64_t peer_due(void *object) {
    return ((struct payload *)object)->deadline;
}

/* The next key if it is due; otherwise when to look again. */
static inline int peer_pop(struct key *key, int64_t *next) {
    if (peer.mode == WHEEL) {
        struct keys *run = &peer.wheel.run;
        if (run->length > AHEAD)
            __builtin_prefetch(&peer.slab[run->at[run->length - 1 - AHEAD].slot]);
        return wheel_pop(&peer.wheel, peer.now, key, next);
    }
    *next = peer.heap.length > 0 ? peer.heap.at[0].deadline : INT64_MAX;
    if (*next > peer.now)
        return 0;
    *key = heap_pop(&peer.heap);
    return 1;
}

/* Calls every timer that is due, and returns when to look again. */
static inline int64_t peer_fire(void) {
    struct key key;
    int64_t next = 0;
    while (!peer.stopped && peer_pop(&key, &next)) {
        struct payload payload = peer.slab[key.slot];
        peer.keys--;
        if (payload.key_sequence != key.sequence) {
            peer.stale--;
        } else if (payload.deadline > key.deadline) {
            peer_place(key.slot);
        } else {
            peer_release(key.slot);
            payload.call(payload.i);
        }
    }
    return next;
}

static inline void peer_run(int (*body)(void)) {
    peer.body = body;
    int more = 1;
    for (peer.stopped = 0; !peer.stopped;) {
        peer.now = bench_clock() + peer.ahead;
        if (more)
            more = peer.body();
        int64_t next = peer_fire();
        if (!more && !peer.stopped && next > peer.now + 100000)
            bench_sleep_until(next); /* nearer ones are waited for by looking */
    }
}

static inline void peer_stop(void) {
    peer.stopped = 1;
}

static inline void peer_close(void) {
    free(peer.slab);
    free(peer.free_slots);
    free(peer.slots);
    free(peer.heap.at);
    free(peer.wheel.run.at);
    free(peer.wheel.near.at);
    for (size_t level = 0; level < WHEEL_LEVELS; level++)
        for (size_t slot = 0; slot < 256; slot++)
            free(peer.wheel.slots[level][slot].at);
    memset(&peer, 0, sizeof peer);
}
