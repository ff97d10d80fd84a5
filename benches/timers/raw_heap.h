/* What the bare timers are kept by: keys of a deadline and a sequence number, vectors of them, and a 4-ary heap. */
#ifndef BENCH_RAW_HEAP_H
#define BENCH_RAW_HEAP_H

#include "../bench.h"

struct key {
    int64_t deadline;
    uint32_t sequence; /* equal deadlines fire in the order in which they were started */
    uint32_t slot;     /* the timer; the key is stale when the timer's sequence is another */
};

struct keys {
    struct key *at;
    size_t length, capacity;
};

static inline int key_before(struct key a, struct key b) {
    return a.deadline < b.deadline || (a.deadline == b.deadline && a.sequence < b.sequence);
}

static inline void keys_push(struct keys *keys, struct key key) {
    if (keys->length == keys->capacity) {
        keys->capacity = keys->capacity == 0 ? 16 : keys->capacity * 2;
        keys->at = must_have(realloc(keys->at, keys->capacity * sizeof key));
    }
    keys->at[keys->length++] = key;
}

static inline void heap_sift_up(struct keys *heap, size_t i) {
    struct key key = heap->at[i];
    while (i > 0 && key_before(key, heap->at[(i - 1) / 4])) {
        heap->at[i] = heap->at[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    heap->at[i] = key;
}

static inline void heap_sift_down(struct keys *heap, size_t i) {
    struct key key = heap->at[i];
    for (;;) {
        size_t child = 4 * i + 1, least = child;
        if (child >= heap->length)
            break;
        size_t end = child + 4 < heap->length ? child + 4 : heap->length;
        for (size_t other = child + 1; other < end; other++)
            if (key_before(heap->at[other], heap->at[least]))
                least = other;
        if (!key_before(heap->at[least], key))
            break;
        heap->at[i] = heap->at[least];
        i = least;
    }
    heap->at[i] = key;
}

static inline void heap_push(struct keys *heap, struct key key) {
    keys_push(heap, key);
    heap_sift_up(heap, heap->length - 1);
}

static inline struct key heap_pop(struct keys *heap) {
    struct key top = heap->at[0];
    heap->at[0] = heap->at[--heap->length];
    if (heap->length > 0)
        heap_sift_down(heap, 0);
    return top;
}

/* Puts any keys into the order of a heap. */
static inline void heap_build(struct keys *heap) {
    for (size_t i = heap->length / 4 + 1; i-- > 0;)
        if (i < heap->length)
            heap_sift_down(heap, i);
}

#endif
