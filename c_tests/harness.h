/*
 * A small test harness for C99 and C++11. A file includes it once, writes TEST(name) { ... } and ends with TEST_MAIN().
 *
 * CHECK and its like record a failure with its place and go on; the test that made one fails. They may be used on any
 * thread. A program prints every failure, ends with "N passed, N failed" and returns 1 when any failed. An argument
 * names the only test to run. A test that hangs is reported and ends the program.
 */
#ifndef EVL_TEST_HARNESS_H
#define EVL_TEST_HARNESS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <evl.h>

/* Seconds a test may take. */
#define HARNESS_TIME_LIMIT (under_valgrind() ? 250 : 50)

struct test_case {
    const char *name;
    void (*run)(void);
};

static struct test_case harness_tests[400];
static int harness_test_count;
static const char *volatile harness_running = "";
static int harness_failures;

static inline int under_valgrind(void) {
    const char *preloaded = getenv("LD_PRELOAD");
    return preloaded != NULL && strstr(preloaded, "vgpreload") != NULL;
}

#define TEST(test_name)                                                                                               \
    static void test_##test_name(void);                                                                               \
    __attribute__((constructor)) static void register_##test_name(void) {                                             \
        harness_tests[harness_test_count].name = #test_name;                                                          \
        harness_tests[harness_test_count++].run = test_##test_name;                                                   \
    }                                                                                                                 \
    static void test_##test_name(void)

static inline void harness_fail(const char *file, int line, const char *what, const char *detail) {
    __atomic_add_fetch(&harness_failures, 1, __ATOMIC_SEQ_CST);
    printf("%s:%d: %s: %s%s%s\n", file, line, harness_running, what, detail[0] ? ": " : "", detail);
    fflush(stdout);
}

static inline int harness_check(int ok, const char *text, const char *file, int line) {
    if (!ok)
        harness_fail(file, line, text, "");
    return ok;
}

static inline int harness_check_code(int got, int expected, const char *text, const char *file, int line) {
    if (got != expected) {
        char detail[200];
        snprintf(detail, sizeof detail, "got %d (%s), expected %d (%s)", got, evl_errname(got), expected,
                 evl_errname(expected));
        harness_fail(file, line, text, detail);
    }
    return got == expected;
}

static inline int harness_check_int(long long got, long long expected, const char *text, const char *file, int line) {
    if (got != expected) {
        char detail[100];
        snprintf(detail, sizeof detail, "got %lld, expected %lld", got, expected);
        harness_fail(file, line, text, detail);
    }
    return got == expected;
}

static inline int harness_check_string(const char *got, const char *expected, const char *text, const char *file,
                                       int line) {
    if (got == NULL || strcmp(got, expected) != 0) {
        char detail[600];
        snprintf(detail, sizeof detail, "got \"%.280s\", expected \"%.280s\"", got ? got : "(NULL)", expected);
        harness_fail(file, line, text, detail);
        return 0;
    }
    return 1;
}

/* Each gives 1 when it holds. */
#define CHECK(condition) harness_check((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define CHECK_CODE(expression, expected) harness_check_code((expression), (expected), #expression, __FILE__, __LINE__)
#define CHECK_INT(expression, expected) harness_check_int((expression), (expected), #expression, __FILE__, __LINE__)
#define CHECK_STRING(expression, expected)                                                                            \
    harness_check_string((expression), (expected), #expression, __FILE__, __LINE__)
/* Ends the test when it does not hold. Only in functions that return void. */
#define REQUIRE(condition)                                                                                            \
    do {                                                                                                              \
        if (!CHECK(condition))                                                                                        \
            return;                                                                                                   \
    } while (0)

/* What happened, in order: words with a space between them. One thread at a time. */
static char harness_trace[4096];

static inline void trace(const char *word) {
    size_t used = strlen(harness_trace);
    snprintf(harness_trace + used, sizeof harness_trace - used, "%s%s", used ? " " : "", word);
}

static inline void trace_reset(void) {
    harness_trace[0] = 0;
}

/* Compares what was traced since the last time, and forgets it. */
#define CHECK_TRACE(expected)                                                                                         \
    do {                                                                                                              \
        CHECK_STRING(harness_trace, expected);                                                                        \
        trace_reset();                                                                                                \
    } while (0)

/* An arg that counts: probe_call as the callback, probe_free as its arg_free. */
struct probe {
    const char *name; /* traced by probe_call when it is not NULL */
    evl_loop *loop;
    int calls;
    int frees;
};

static inline struct probe probe_named(const char *name, evl_loop *event_loop) {
    struct probe p;
    memset(&p, 0, sizeof p);
    p.name = name;
    p.loop = event_loop;
    return p;
}

static inline void probe_call(void *arg) {
    struct probe *p = (struct probe *)arg;
    if (p->name)
        trace(p->name);
    __atomic_add_fetch(&p->calls, 1, __ATOMIC_SEQ_CST);
}

static inline void probe_free(void *arg) {
    __atomic_add_fetch(&((struct probe *)arg)->frees, 1, __ATOMIC_SEQ_CST);
}

/* Counts the callback, and that its arg was not released while it ran or before. */
#define CHECK_PROBE(p, expected_calls, expected_frees)                                                                \
    do {                                                                                                              \
        CHECK_INT((p).calls, expected_calls);                                                                         \
        CHECK_INT((p).frees, expected_frees);                                                                         \
    } while (0)

static inline void trace_call(void *arg) {
    trace((const char *)arg);
}

static inline void nothing(void *arg) {
    (void)arg;
}

static inline void stop_loop(void *arg) {
    CHECK_CODE(evl_loop_stop((evl_loop *)arg), 0);
}

static inline evl_loop *loop_with_flags(uint32_t flags) {
    evl_loop_options options;
    evl_loop *made = NULL;
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    options.flags = flags;
    CHECK_CODE(evl_loop_new(&options, &made), 0);
    return made;
}

static inline evl_loop *real_loop(void) {
    return loop_with_flags(0);
}

static inline evl_loop *manual_loop(void) {
    return loop_with_flags(EVL_LOOP_MANUAL_CLOCK);
}

/* Closes the loop and gives the reference back. */
static inline void end_loop(evl_loop *event_loop) {
    CHECK_CODE(evl_loop_close(event_loop), 0);
    evl_loop_unref(event_loop);
}

/* Runs function(arg) on a thread of its own and waits for it. */
static inline void in_thread(void *(*function)(void *), void *arg) {
    pthread_t thread;
    if (CHECK(pthread_create(&thread, NULL, function, arg) == 0))
        pthread_join(thread, NULL);
}

/* Runs function(arg) in a forked child and returns how it ended, as waitpid tells it. Its failed checks make the child
 * return 1. */
static inline int in_child(void (*function)(void *), void *arg) {
    int status = -1;
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        int before = harness_failures;
        alarm(HARNESS_TIME_LIMIT / 2);
        function(arg);
        fflush(NULL);
        _exit(harness_failures == before ? 0 : 1);
    }
    if (CHECK(child > 0))
        CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static inline void harness_hang(int signal_number) {
    const char *name = harness_running;
    (void)signal_number;
    if (write(1, name, strlen(name)) < 0 || write(1, ": hangs\n", 8) < 0)
        _exit(4);
    _exit(3);
}

static inline int harness_main(int argc, char **argv) {
    int passed = 0, failed = 0, i;
    signal(SIGALRM, harness_hang);
    for (i = 0; i < harness_test_count; i++) {
        int before = harness_failures;
        if (argc > 1 && strcmp(argv[1], harness_tests[i].name) != 0)
            continue;
        harness_running = harness_tests[i].name;
        trace_reset();
        alarm(HARNESS_TIME_LIMIT);
        harness_tests[i].run();
        if (harness_failures == before)
            passed++;
        else
            failed++;
    }
    alarm(0);
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0 || passed == 0;
}

#define TEST_MAIN()                                                                                                   \
    int main(int argc, char **argv) {                                                                                 \
        return harness_main(argc, argv);                                                                              \
    }

#endif
