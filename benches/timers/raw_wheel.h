/*
 * A wheel of vectors that keeps the exact order: the bare timers' other structure.
 *
 * Six levels of 256 vectors hold what is due at or after the horizon, by the highest eight bits in which deadline and
 * horizon differ; a vector of the lowest level spans 2^16 ns. What is due before the horizon is in `run`, sorted with
 * the first at its end, or, if it was started later, in the heap `near`.
 */
#ifndef BENCH_RAW_WHEEL_H
#define BENCH_RAW_WHEEL_H

#include "raw_heap.h"

#define WHEEL_LEVELS 6
#define WHEEL_SHIFT(level) (16 + 8 * (level))

struct wheel {
    int64_t horizon;
    struct keys run, near;
    struct keys slots[WHEEL_LEVELS][256];
    uint64_t used[WHEEL_LEVELS][4]; /* a bit for each vector that has something */
};

static inline void wheel_push(struct wheel *wheel, struct key key) {
    if (key.deadline < wheel->horizon) {
        heap_push(&wheel->near, key);
        return;
    }
    uint64_t differ = (uint64_t)(key.deadline ^ wheel->horizon) >> WHEEL_SHIFT(0);
    size_t level = differ == 0 ? 0 : (size_t)(63 - __builtin_clzll(differ)) / 8;
    if (level >= WHEEL_LEVELS)
        bench_fail("a deadline is too far");
    size_t slot = (size_t)(key.deadline >> WHEEL_SHIFT(level)) & 255;
    keys_push(&wheel->slots[level][slot], key);
    wheel->used[level][slot / 64] |= UINT64_C(1) << slot % 64;
}

/* The first vector in use of a level, or 256. */
static inline size_t wheel_first(const struct wheel *wheel, size_t level) {
    for (size_t word = 0; word < 4; word++)
        if (wheel->used[level][word] != 0)
            return 64 * word + (size_t)__builtin_ctzll(wheel->used[level][word]);
    return 256;
}

/* Sorts so that the first to fire is the last. */
static inline void keys_sort(struct key *at, size_t n) {
    while (n > 24) {
        struct key a = at[0], b = at[n / 2], c = at[n - 1];
        struct key pivot = key_before(a, b) ? (key_before(b, c) ? b : key_before(a, c) ? c : a)
                                            : (key_before(a, c) ? a : key_before(b, c) ? c : b);
        size_t i = 0, j = n - 1;
        for (;;) {
            while (key_before(pivot, at[i]))
                i++;
            while (key_before(at[j], pivot))
                j--;
            if (i >= j)
                break;
            struct key swap = at[i];
            at[i++] = at[j];
            at[j--] = swap;
        }
        keys_sort(at, i);
        at += i;
        n -= i;
    }
    for (size_t i = 1; i < n; i++) {
        struct key key = at[i];
        size_t j = i;
        for (; j > 0 && key_before(at[j - 1], key); j--)
            at[j] = at[j - 1];
        at[j] = key;
    }
}

/* Spreads a vector over the levels below. */
static inline void wheel_cascade(struct wheel *wheel, size_t level, size_t slot) {
    struct keys *keys = &wheel->slots[level][slot];
    wheel->used[level][slot / 64] &= ~(UINT64_C(1) << slot % 64);
    for (size_t i = 0; i < keys->length; i++)
        wheel_push(wheel, keys->at[i]);
    keys->length = 0;
}

/* Takes the next vector that has begun. Returns 0 when none has, and tells when one will. */
static inline int wheel_advance(struct wheel *wheel, int64_t now, int64_t *next) {
    /* The horizon may have come to where vectors of higher levels begin: those first. */
    for (size_t level = WHEEL_LEVELS - 1; level > 0; level--) {
        size_t slot = (size_t)(wheel->horizon >> WHEEL_SHIFT(level)) & 255;
        if (wheel->used[level][slot / 64] >> slot % 64 & 1)
            wheel_cascade(wheel, level, slot);
    }
    for (size_t level = 0; level < WHEEL_LEVELS; level++) {
        size_t slot = wheel_first(wheel, level);
        if (slot == 256)
            continue;
        int64_t above = (int64_t)(UINT64_MAX << WHEEL_SHIFT(level + 1));
        int64_t begin = (wheel->horizon & above) | (int64_t)slot << WHEEL_SHIFT(level);
        if (begin > now) {
            *next = begin;
            return 0;
        }
        wheel->horizon = begin;
        if (level > 0) {
            wheel_cascade(wheel, level, slot);
        } else {
            struct keys taken = wheel->slots[0][slot];
            wheel->used[0][slot / 64] &= ~(UINT64_C(1) << slot % 64);
            wheel->slots[0][slot] = wheel->run; /* which is empty */
            wheel->run = taken;
            keys_sort(taken.at, taken.length);
            wheel->horizon += INT64_C(1) << WHEEL_SHIFT(0);
        }
        return 1;
    }
    *next = INT64_MAX;
    return 0;
}

/* The next key if it is due. Returns 0 when it is not, and tells when to look again. */
static inline int wheel_pop(struct wheel *wheel, int64_t now, struct key *key, int64_t *next) {
    for (;;) {
        struct keys *run = &wheel->run, *near = &wheel->near;
        int from_run = run->length > 0;
        if (near->length > 0 && (!from_run || key_before(near->at[0], run->at[run->length - 1])))
            from_run = 0;
        else if (!from_run) {
            if (!wheel_advance(wheel, now, next))
                return 0;
            continue;
        }
        *key = from_run ? run->at[run->length - 1] : near->at[0];
        if (key->deadline > now) {
            *next = key->deadline;
            return 0;
        }
        if (from_run)
            run->length--;
        else
            heap_pop(near);
        return 1;
    }
}

#endif
