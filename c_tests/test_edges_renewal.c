/* A post of another thread wakes the loop whenever it comes while the loop makes its poller anew: the system call by which
 * the poller is exchanged is watched, and the post is made right before or after it. */
#include "harness.h"

#include <sys/syscall.h>

static evl_loop *loop;
static int armed;      /* calls to come until the post */
static int after_call; /* post after that call, not before */
static int seen;       /* calls since it was armed */
static int failing;    /* calls to come until one fails */
static int fds[2], copy;

static void stop_and_trace(void *arg) {
    trace("post");
    stop_loop(arg);
}

static void *post(void *arg) {
    CHECK_CODE(evl_loop_call_soon_threadsafe((evl_loop *)arg, stop_and_trace, arg, NULL, NULL, NULL), 0);
    return NULL;
}

/* In place of the C library's. */
int dup3(int old, int new, int flags) {
    int result, now;
    seen++;
    if (failing > 0 && --failing == 0) {
        errno = EMFILE;
        return -1;
    }
    now = armed > 0 && --armed == 0;
    if (now && !after_call)
        in_thread(post, loop);
    result = (int)syscall(SYS_dup3, old, new, flags);
    if (now && after_call)
        in_thread(post, loop);
    return result;
}

/* Leaves a descriptor in the poller that nobody can remove, because a copy of it lives on. */
static void make_stale(void *arg) {
    char c = 'x';
    (void)arg;
    copy = dup(fds[0]);
    CHECK(copy >= 0);
    CHECK(close(fds[0]) == 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK(write(fds[1], &c, 1) == 1);
    seen = 0;
    armed = *(int *)arg;
}

/* Returns how often the poller's descriptors were exchanged. */
static int run_with_post_at(int call, int after) {
    int quiet[2], later = call, i;
    loop = real_loop();
    CHECK(pipe(fds) == 0 && pipe(quiet) == 0);
    after_call = after;
    CHECK_CODE(evl_loop_add_reader(loop, quiet[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, make_stale, &later, NULL, NULL, NULL), 0);
    if (call == 0)
        for (i = 0; i < 5; i++) /* each polls until nothing is found: no time passes that could be too short */
            CHECK(evl_loop_run_until_idle(loop) >= 0);
    else
        CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_TRACE(call == 0 ? "" : "post");
    CHECK_INT(armed, 0);
    armed = 0;
    end_loop(loop);
    close(fds[1]);
    close(copy);
    close(quiet[0]);
    close(quiet[1]);
    return seen;
}

TEST(a_post_while_the_poller_is_made_anew_wakes_the_loop) {
    int calls = run_with_post_at(0, 0), call;
    CHECK(calls >= 1);
    CHECK(calls <= 10); /* once, not for every poll */
    for (call = 1; call <= calls; call++) {
        run_with_post_at(call, 0);
        run_with_post_at(call, 1);
    }
}

static void take_byte(void *arg) {
    char c;
    CHECK(read(*(int *)arg, &c, 1) == 1);
    trace("heard");
}

TEST(a_poller_that_cannot_be_made_anew_loses_nothing) {
    int call, i, quiet[2], never = 0;
    for (call = 1; call <= 2; call++) {
        loop = real_loop();
        CHECK(pipe(fds) == 0 && pipe(quiet) == 0);
        CHECK_CODE(evl_loop_add_reader(loop, quiet[0], take_byte, quiet, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
        CHECK(evl_loop_run_once(loop, 1) >= 0);
        CHECK_CODE(evl_loop_call_soon(loop, make_stale, &never, NULL, NULL, NULL), 0);
        failing = call;
        for (i = 0; i < 5; i++)
            evl_loop_run_until_idle(loop); /* one of these may answer -EMFILE */
        CHECK_INT(failing, 0);
        CHECK(write(quiet[1], "x", 1) == 1);
        CHECK(evl_loop_run_until_idle(loop) >= 1);
        CHECK_TRACE("heard");
        in_thread(post, loop);
        CHECK_CODE(evl_loop_run_forever(loop), 0);
        CHECK_TRACE("post");
        end_loop(loop);
        close(fds[1]);
        close(copy);
        close(quiet[0]);
        close(quiet[1]);
    }
}

TEST_MAIN()
