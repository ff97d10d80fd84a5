/* What a child of fork does never reaches its parent. */
#include "harness.h"

#include <poll.h>

static int readable(evl_loop *loop) {
    struct pollfd p;
    p.fd = evl_loop_fd(loop);
    p.events = POLLIN;
    p.revents = 0;
    CHECK(p.fd >= 0);
    return poll(&p, 1, 0);
}

struct asleep {
    evl_loop *loop;
    evl_handle *handle;
    evl_timer *timer;
    evl_weak_handle *weak;
    int deed; /* what the child does first */
};

static void asleep_finish(struct asleep *a) {
    evl_weak_handle_free(a->weak);
    evl_timer_unref(a->timer);
    evl_handle_unref(a->handle);
    end_loop(a->loop);
}

static void do_deed(void *arg) {
    struct asleep *a = (struct asleep *)arg;
    switch (a->deed) {
    case 0:
        evl_handle_unref(a->handle);
        a->handle = NULL;
        break;
    case 1:
        evl_timer_unref(a->timer);
        a->timer = NULL;
        break;
    case 2:
        evl_handle_unref(evl_weak_handle_upgrade(a->weak));
        break;
    case 3:
        CHECK_CODE(evl_loop_call_soon_threadsafe(a->loop, nothing, NULL, NULL, NULL, NULL), EVL_EFORKED);
        CHECK_CODE(evl_loop_stop_threadsafe(a->loop), EVL_EFORKED);
        break;
    case 4:
        CHECK_CODE(evl_loop_close(a->loop), 0);
        CHECK_INT(evl_loop_is_closed(a->loop), 1);
        break;
    default: /* its own by then */
        CHECK_CODE(evl_loop_after_fork(a->loop), 0);
        CHECK_CODE(evl_loop_call_soon_threadsafe(a->loop, nothing, NULL, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_stop_threadsafe(a->loop), 0);
    }
    asleep_finish(a);
}

TEST(a_child_does_not_wake_its_parents_loop) {
    int deed;
    for (deed = 0; deed < 6; deed++) {
        struct asleep a;
        memset(&a, 0, sizeof a);
        a.deed = deed;
        a.loop = real_loop();
        CHECK_CODE(evl_handle_new(a.loop, nothing, NULL, NULL, NULL, &a.handle), 0);
        CHECK_CODE(evl_handle_weak(a.handle, &a.weak), 0);
        CHECK_CODE(evl_timer_new(a.loop, 0, nothing, NULL, NULL, NULL, &a.timer), 0);
        CHECK_CODE(evl_loop_run_once(a.loop, 0), 0);
        CHECK_CODE(evl_loop_prepare(a.loop, NULL), 0);
        CHECK_INT(readable(a.loop), 0);
        CHECK_INT(in_child(do_deed, &a), 0);
        CHECK_INT(readable(a.loop), 0);
        asleep_finish(&a);
    }
}

static void check_nothing_runs(void *arg) {
    evl_loop *running = NULL;
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    CHECK(running == NULL);
    CHECK_CODE(evl_set_running_loop(NULL), 0);
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    end_loop((evl_loop *)arg);
}

TEST(a_loop_that_was_said_to_run_does_not_run_in_the_child) {
    evl_loop *loop = manual_loop(), *running = NULL;
    CHECK_CODE(evl_set_running_loop(loop), 0);
    CHECK_INT(in_child(check_nothing_runs, loop), 0);
    CHECK_CODE(evl_get_running_loop(&running), 0);
    CHECK(running == loop);
    evl_loop_unref(running);
    CHECK_CODE(evl_set_running_loop(NULL), 0);
    end_loop(loop);
}

struct inside {
    evl_loop *loop;
    evl_handle *handle;
    struct probe p;
    pid_t child;
};

static void free_inside(void *arg) {
    probe_free(&((struct inside *)arg)->p);
}

static void fork_inside(void *arg) {
    struct inside *s = (struct inside *)arg;
    s->p.calls++;
    fflush(NULL);
    s->child = fork();
    if (s->child == 0) {
        alarm(HARNESS_TIME_LIMIT / 2);
        CHECK_CODE(evl_loop_close(s->loop), EVL_ERUNNING);
        CHECK_INT(s->p.frees, 0);
    }
}

TEST(close_in_the_child_waits_for_a_callback_of_handle_run_on_its_stack) {
    struct inside s;
    int status = -1, failures;
    memset(&s, 0, sizeof s);
    s.loop = manual_loop();
    CHECK_CODE(evl_handle_new(s.loop, fork_inside, &s, free_inside, NULL, &s.handle), 0);
    failures = harness_failures;
    status = evl_handle_run(s.handle);
    if (s.child == 0) {
        CHECK_INT(s.p.frees, 0);
        CHECK_CODE(evl_loop_close(s.loop), 0); /* the callback has returned */
        CHECK_PROBE(s.p, 1, 1);
        evl_handle_unref(s.handle);
        evl_loop_unref(s.loop);
        fflush(NULL);
        _exit(harness_failures != failures);
    }
    CHECK_CODE(status, 0);
    CHECK(waitpid(s.child, &status, 0) == s.child);
    CHECK_INT(status, 0);
    CHECK_PROBE(s.p, 1, 0);
    CHECK_CODE(evl_loop_run_once(s.loop, 0), 0);
    evl_handle_unref(s.handle);
    CHECK_PROBE(s.p, 1, 1);
    end_loop(s.loop);
}

static void not_told(void *arg) {
    struct probe *p = (struct probe *)arg;
    CHECK_CODE(evl_loop_after_fork(p->loop), 0);
    CHECK_CODE(evl_loop_run_once(p->loop, 0), 0);
    end_loop(p->loop);
    CHECK_PROBE(*p, 0, 1);
}

static void told_of_its_own(void *arg) {
    struct probe *p = (struct probe *)arg;
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_after_fork(p->loop), 0);
    CHECK_CODE(evl_loop_run_once(p->loop, 0), 1);
    CHECK_INT(p->calls, 1);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(p->loop, 0), 1);
    end_loop(p->loop);
    CHECK_PROBE(*p, 2, 1);
}

TEST(a_signal_that_the_parent_got_is_not_told_in_the_child) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_INT(in_child(not_told, &p), 0);
    CHECK_INT(in_child(told_of_its_own, &p), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 1, 0);
    end_loop(loop);
}

TEST_MAIN()
