/*
 * What every benchmark program shares: its command line, the clock, random numbers, results, and failing loudly.
 *
 * A source file is compiled once for each library, with -DBENCH_EVL, -DBENCH_LIBUV, -DBENCH_LIBEV, -DBENCH_LIBEVENT,
 * -DBENCH_SD_EVENT or -DBENCH_RAW (no library at all), and linked with that library only. It ends with a table of its
 * cases and bench_main:
 *
 *   program --version       the library's version, as the library tells it
 *   program --list          its cases, a line each: workload, variant, traits (see bench_trait)
 *   program WORKLOAD VARIANT [MILLISECONDS]
 *                           measures for about that long; prints workload, variant, library, unit, value
 *
 * Fields are separated by tabs. A case that measures two workloads is listed, and asked for, as "one,other". A lost,
 * reordered or early event ends the program with a message and status 1.
 */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(BENCH_EVL)
#include <evl.h>
#define BENCH_LIBRARY "evl"
#define BENCH_NAME evl
#elif defined(BENCH_LIBUV)
#include <uv.h>
#define BENCH_LIBRARY "libuv"
#define BENCH_NAME libuv
#elif defined(BENCH_LIBEV)
#include <ev.h>
#define BENCH_LIBRARY "libev"
#define BENCH_NAME libev
#elif defined(BENCH_LIBEVENT)
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>
#define BENCH_LIBRARY "libevent"
#define BENCH_NAME libevent
#elif defined(BENCH_SD_EVENT)
#include <systemd/sd-event.h>
#define BENCH_LIBRARY "sd-event"
#define BENCH_NAME sd_event
#elif defined(BENCH_RAW)
#define BENCH_LIBRARY "raw"
#define BENCH_NAME raw
#else
#error "which library? -DBENCH_EVL, -DBENCH_LIBUV, -DBENCH_LIBEV, -DBENCH_LIBEVENT, -DBENCH_SD_EVENT or -DBENCH_RAW"
#endif

/* The file of a program's directory that is about the library: #include BENCH_PART(soon) is "soon/evl.h" for evl. */
#define BENCH_PART(directory) BENCH_QUOTE(directory, BENCH_NAME)
#define BENCH_QUOTE(directory, name) BENCH_QUOTE_PATH(directory/name.h)
#define BENCH_QUOTE_PATH(path) #path

struct bench_case {
    const char *workload;
    const char *variant; /* the mechanism that it uses */
    void (*measure)(const struct bench_case *one); /* ends in bench_result */
    size_t n;       /* how many callbacks, timers, pipes ... */
    int mode;       /* which variant, for the case's own code */
    unsigned traits;
};

enum bench_trait {
    EVERY_CORE = 1, /* not to be pinned to one core */
    SLOW = 2,       /* takes seconds: left out when it must be quick */
    ONCE = 4,       /* measures a single event: to be run many times for one value */
};

static inline void bench_result(const struct bench_case *one, const char *workload, const char *unit, double value) {
    printf("%s\t%s\t%s\t%s\t%.4f\n", workload, one->variant, BENCH_LIBRARY, unit, value);
}

/* How long a measurement should last. */
static int64_t bench_time_ns = 200 * INT64_C(1000000);

__attribute__((noreturn, format(printf, 1, 2))) static inline void bench_fail(const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "%s: ", BENCH_LIBRARY);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* Ends the program when a call answered a negative code. */
static inline void must(int code) {
    if (code < 0) {
#if defined(BENCH_EVL)
        bench_fail("a call answered %d (%s)", code, evl_strerror(code));
#elif defined(BENCH_LIBUV)
        bench_fail("a call answered %d (%s)", code, uv_strerror(code));
#else
        bench_fail("a call answered %d (%s)", code, strerror(errno));
#endif
    }
}

static inline void *must_have(void *memory) {
    if (memory == NULL)
        bench_fail("a call answered NULL (%s)", strerror(errno));
    return memory;
}

/* Zeroed memory that nothing has touched yet. */
static inline void *bench_new(size_t n, size_t size) {
    return must_have(calloc(n, size));
}

/* From now on malloc gives nothing back to the system, so that what is freed is warm when it is used again. */
static inline void bench_keep_memory(void) {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
}

/*
 * Bytes that are in use: by malloc with its overhead, and by private writable memory that is not malloc's (whole pages,
 * so that small differences are malloc's alone).
 */
static inline size_t bench_memory(void) {
    struct mallinfo2 heap = mallinfo2();
    unsigned long long data_pages = 0;
    FILE *statm = must_have(fopen("/proc/self/statm", "re"));
    if (fscanf(statm, "%*u %*u %*u %*u %*u %llu", &data_pages) != 1)
        bench_fail("/proc/self/statm does not tell");
    fclose(statm);
    size_t mapped = (size_t)data_pages * (size_t)sysconf(_SC_PAGESIZE);
    return heap.uordblks + heap.hblkhd + (mapped - heap.arena - heap.hblkhd);
}

static inline int64_t bench_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Sleeps until that time of bench_clock. */
static inline void bench_sleep_until(int64_t when_ns) {
    struct timespec when;
    when.tv_sec = (time_t)(when_ns / 1000000000);
    when.tv_nsec = (long)(when_ns % 1000000000);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR) {
    }
}

/* The same numbers in every run (splitmix64). */
static inline uint64_t bench_random(void) {
    static uint64_t state = 42;
    uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 ... n-1 in a random order. */
static inline size_t *bench_permutation(size_t n) {
    size_t *order = bench_new(n, sizeof *order);
    for (size_t i = 0; i < n; i++) {
        size_t j = (size_t)(bench_random() % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
    return order;
}

/*
 * The nanoseconds of one operation. work(count) does at least count operations, says how many, and returns how long
 * they took; it is called with growing counts until that is long enough, so that the last call is warm.
 */
static inline double bench_per_operation(int64_t (*work)(uint64_t *count), uint64_t count) {
    for (;;) {
        int64_t elapsed = work(&count);
        if (elapsed >= bench_time_ns)
            return (double)elapsed / (double)count;
        if (elapsed < bench_time_ns / 16)
            count *= 8;
        else
            count = (uint64_t)((double)count * 1.2 * (double)bench_time_ns / (double)elapsed) + 1;
    }
}

static inline const char *bench_version(void) {
#if defined(BENCH_EVL)
    return evl_version();
#elif defined(BENCH_LIBUV)
    return uv_version_string();
#elif defined(BENCH_LIBEV)
    static char text[32];
    snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
    return text;
#elif defined(BENCH_LIBEVENT)
    return event_get_version();
#else
    return ""; /* sd-event does not tell: its pkg-config file does */
#endif
}

static inline int bench_main(int argc, char **argv, const struct bench_case *cases, size_t n) {
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("%s\n", bench_version());
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < n; i++)
            printf("%s\t%s\t%u\n", cases[i].workload, cases[i].variant, cases[i].traits);
        return 0;
    }
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: %s --list | --version | WORKLOAD VARIANT [MILLISECONDS]\n", argv[0]);
        return 2;
    }
    if (argc == 4)
        bench_time_ns = (int64_t)atoi(argv[3]) * 1000000;
    for (size_t i = 0; i < n; i++) {
        const struct bench_case *one = &cases[i];
        if (strcmp(one->workload, argv[1]) == 0 && strcmp(one->variant, argv[2]) == 0) {
            one->measure(one);
            return 0;
        }
    }
    fprintf(stderr, "%s: no case \"%s\" \"%s\"; see --list\n", argv[0], argv[1], argv[2]);
    return 2;
}

#define BENCH_MAIN(cases)                                                                                             \
    int main(int argc, char **argv) {                                                                                 \
        return bench_main(argc, argv, cases, sizeof(cases) / sizeof(cases)[0]);                                       \
    }

/* A program that has no case for this library. */
#define BENCH_NO_CASES()                                                                                              \
    int main(int argc, char **argv) {                                                                                 \
        return bench_main(argc, argv, NULL, 0);                                                                       \
    }

#endif
