/* Timers and handles started and cancelled in great number: memory stays flat. */
#include "harness.h"

static long resident_pages(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long size = 0, resident = 0;
    if (file) {
        CHECK(fscanf(file, "%ld %ld", &size, &resident) == 2);
        fclose(file);
    }
    return resident;
}

/* Runs round() often, and checks that the second half took no more memory than the first left. */
static void check_flat(void (*round)(evl_loop *, int), int rounds) {
    evl_loop *loop = manual_loop();
    long before, growth, page_kib = sysconf(_SC_PAGESIZE) / 1024;
    int i;
    for (i = 0; i < rounds / 2; i++)
        round(loop, i);
    before = resident_pages();
    for (; i < rounds; i++)
        round(loop, i);
    growth = (resident_pages() - before) * page_kib;
    if (growth > 512)
        printf("grew by %ld KiB\n", growth);
    CHECK(growth <= 512);
    end_loop(loop);
}

static void start_and_cancel(evl_loop *loop, int i) {
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(1 + i % 100), nothing, NULL, NULL, NULL, &timer), 0);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    evl_timer_unref(timer);
    if (i % 1000 == 0)
        CHECK_CODE(evl_loop_run_once(loop, 0), 0);
}

TEST(timers_started_and_cancelled) {
    check_flat(start_and_cancel, 2000000);
}

/* A request's timeout: started, moved on and on, cancelled, and the loop never comes to its deadline. */
static void move_timeouts(evl_loop *loop, int i) {
    enum { COUNT = 100 };
    static evl_timer *timers[COUNT];
    int n = i % COUNT, rounds_left = 2000000 - 1 - i;
    int64_t now = 0;
    CHECK_CODE(evl_loop_time(loop, &now), 0);
    if (!timers[n])
        CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(30), nothing, NULL, NULL, NULL, &timers[n]), 0);
    else
        CHECK_CODE(evl_timer_reschedule(timers[n], now + EVL_SECONDS(30)), 0);
    if (i % 7 == 0 || rounds_left < COUNT) {
        CHECK_CODE(evl_timer_cancel(timers[n]), 0);
        evl_timer_unref(timers[n]);
        timers[n] = NULL;
    }
    if (i % 100 == 0) {
        CHECK_CODE(evl_loop_advance(loop, EVL_MS(1)), 0);
        CHECK(evl_loop_run_once(loop, 0) >= 0);
    }
}

TEST(timeouts_moved_again_and_again) {
    check_flat(move_timeouts, 2000000);
}

static void thousand_at_once(evl_loop *loop, int i) {
    static evl_timer *timers[1000];
    int n;
    for (n = 0; n < 1000; n++)
        CHECK_CODE(evl_loop_call_later(loop, EVL_MS(n * 7 % 500), nothing, NULL, NULL, NULL, &timers[n]), 0);
    for (n = 0; n < 1000; n++) {
        if (n % 3)
            CHECK_CODE(evl_timer_cancel(timers[n]), 0);
        evl_timer_unref(timers[n]);
    }
    CHECK_CODE(evl_loop_advance(loop, EVL_SECONDS(1)), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 334);
    (void)i;
}

TEST(a_thousand_timers_at_once) {
    check_flat(thousand_at_once, 1000);
}

static void cancel_soon(evl_loop *loop, int i) {
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    evl_handle_unref(handle);
    if (i % 100 == 0)
        CHECK_CODE(evl_loop_run_once(loop, 0), 0);
}

TEST(callbacks_scheduled_and_cancelled) {
    check_flat(cancel_soon, 2000000);
}

static void post_and_run(evl_loop *loop, int i) {
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, nothing, NULL, NULL, NULL, NULL), 0);
    if (i % 50 == 49)
        CHECK_CODE(evl_loop_run_until_idle(loop), 50);
}

TEST(posts) {
    check_flat(post_and_run, 500000);
}

static void loops(evl_loop *loop, int i) {
    evl_loop *own = NULL;
    (void)loop;
    (void)i;
    CHECK_CODE(evl_loop_new(NULL, &own), 0);
    CHECK_CODE(evl_loop_call_soon(own, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(own), 1);
    evl_loop_unref(own);
}

TEST(loops_made_and_closed) {
    check_flat(loops, 2000);
}

static void readers(evl_loop *loop, int i) {
    int fds[2];
    if (!CHECK(pipe(fds) == 0))
        return;
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
    if (i % 2)
        CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    if (i % 3 == 0)
        close(fds[0]); /* behind the loop's back */
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    if (i % 3)
        close(fds[0]);
    close(fds[1]);
}

TEST(readers_added_and_removed) {
    check_flat(readers, 100000);
}

TEST_MAIN()
