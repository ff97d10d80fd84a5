/* A callback that schedules itself for ever does not keep a ready descriptor, a post, a signal or a timer waiting. */
#include "harness.h"

#include <time.h>

#define MOST_ITERATIONS 65 /* 64 without a poll, and the one that polls */

struct spinner {
    evl_loop *loop;
    int64_t busy_ns; /* how long a call takes */
    int iterations, seen_at, fd;
    int to_post;
};

static int64_t clock_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void spin(void *arg) {
    struct spinner *s = (struct spinner *)arg;
    if (s->busy_ns > 0) {
        int64_t end = clock_ns() + s->busy_ns;
        while (clock_ns() < end)
            ;
    }
    s->iterations++;
    if (s->iterations == 3 && s->fd >= 0)
        CHECK(write(s->fd, "x", 1) == 1);
    if (s->iterations == 3 && s->fd == -2)
        CHECK(raise(SIGUSR1) == 0);
    if (s->iterations < 1000)
        CHECK_CODE(evl_loop_call_soon(s->loop, spin, s, NULL, NULL, NULL), 0);
    else
        CHECK_CODE(evl_loop_stop(s->loop), 0);
}

static void see(void *arg) {
    struct spinner *s = (struct spinner *)arg;
    s->seen_at = s->iterations;
    CHECK_CODE(evl_loop_stop(s->loop), 0);
}

static int iterations_until_a_reader_runs(int64_t busy_ns) {
    struct spinner s;
    int fds[2];
    memset(&s, 0, sizeof s);
    CHECK(pipe(fds) == 0);
    s.fd = fds[1];
    s.busy_ns = busy_ns;
    CHECK_CODE(evl_loop_new(NULL, &s.loop), 0);
    CHECK_CODE(evl_loop_add_reader(s.loop, fds[0], see, &s, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, spin, &s, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    evl_loop_unref(s.loop);
    close(fds[0]);
    close(fds[1]);
    return s.seen_at - 3;
}

TEST(a_ready_reader_waits_for_few_iterations) {
    int waited = iterations_until_a_reader_runs(0);
    CHECK(waited >= 0 && waited <= MOST_ITERATIONS);
}

TEST(a_ready_reader_does_not_wait_for_slow_callbacks) {
    /* Each iteration takes longer than a descriptor may wait: the next one polls. */
    int waited = iterations_until_a_reader_runs(EVL_MS(1) / 5);
    CHECK(waited >= 0 && waited <= 1);
}

TEST(a_signal_is_noticed_in_the_next_iteration) {
    struct spinner s;
    memset(&s, 0, sizeof s);
    s.fd = -2;
    CHECK_CODE(evl_loop_new(NULL, &s.loop), 0);
    CHECK_CODE(evl_loop_add_signal_handler(s.loop, SIGUSR1, see, &s, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, spin, &s, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK(s.seen_at == 3 || s.seen_at == 4);
    evl_loop_unref(s.loop);
}

static void *post_see(void *arg) {
    struct spinner *s = (struct spinner *)arg;
    CHECK_CODE(evl_loop_call_soon_threadsafe(s->loop, see, s, NULL, NULL, NULL), 0);
    __atomic_store_n(&s->to_post, 2, __ATOMIC_RELEASE);
    return NULL;
}

/* Spins until the other thread has posted, and then counts the iterations until the post runs. */
static void spin_for_post(void *arg) {
    struct spinner *s = (struct spinner *)arg;
    if (__atomic_load_n(&s->to_post, __ATOMIC_ACQUIRE) == 2)
        s->iterations++;
    CHECK(s->iterations < 1000);
    if (s->iterations < 1000)
        CHECK_CODE(evl_loop_call_soon(s->loop, spin_for_post, s, NULL, NULL, NULL), 0);
    else
        CHECK_CODE(evl_loop_stop(s->loop), 0);
}

TEST(a_post_is_noticed_in_the_next_iteration) {
    struct spinner s;
    pthread_t thread;
    memset(&s, 0, sizeof s);
    CHECK_CODE(evl_loop_new(NULL, &s.loop), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, spin_for_post, &s, NULL, NULL, NULL), 0);
    CHECK(pthread_create(&thread, NULL, post_see, &s) == 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(s.seen_at <= 2);
    evl_loop_unref(s.loop);
}

TEST(a_due_timer_runs_in_the_next_iteration) {
    struct spinner s;
    memset(&s, 0, sizeof s);
    s.fd = -1;
    CHECK_CODE(evl_loop_new(NULL, &s.loop), 0);
    CHECK_CODE(evl_loop_call_later(s.loop, 0, see, &s, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, spin, &s, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(s.loop), 0);
    CHECK(s.seen_at <= 1);
    evl_loop_unref(s.loop);
}

TEST_MAIN()
