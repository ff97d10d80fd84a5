/* A loop inside of another: prepare, fd and run_once(0) round poll(2); wait hooks; walk; data. */
#include "harness.h"

#include <poll.h>

static int readable(int fd, int timeout_ms) {
    struct pollfd entry;
    entry.fd = fd;
    entry.events = POLLIN;
    entry.revents = 0;
    return poll(&entry, 1, timeout_ms) == 1 && (entry.revents & POLLIN) != 0;
}

/* One turn of a host that waits by poll(2). Returns how many callbacks ran. */
static int host_turn(evl_loop *loop) {
    int64_t deadline = 0, now = 0;
    int ready = evl_loop_prepare(loop, &deadline);
    int timeout_ms = -1;
    CHECK(ready == 0 || ready == 1);
    if (ready == 0) {
        if (deadline != EVL_FOREVER) {
            CHECK_CODE(evl_loop_time(loop, &now), 0);
            timeout_ms = deadline > now ? (int)((deadline - now + 999999) / 1000000) : 0;
        }
        readable(evl_loop_fd(loop), timeout_ms);
    }
    return evl_loop_run_once(loop, 0);
}

TEST(prepare_tells_whether_work_is_ready_and_the_next_deadline) {
    evl_loop *loop = manual_loop();
    int64_t deadline = 5;
    CHECK_CODE(evl_loop_prepare(loop, &deadline), 0);
    CHECK(deadline == EVL_FOREVER);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 30, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 20, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_prepare(loop, &deadline), 0);
    CHECK_INT(deadline, 20);
    CHECK_CODE(evl_loop_advance(loop, 20), 0);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_prepare(loop, &deadline), 0);
    CHECK_INT(deadline, 30);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_prepare(loop, &deadline), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_prepare(loop, &deadline), 0);
    end_loop(loop);
}

TEST(cancelled_timers_do_not_wake_the_host) {
    evl_loop *loop = manual_loop();
    evl_timer *timer = NULL;
    int64_t deadline = 0;
    CHECK_CODE(evl_loop_call_later(loop, 20, nothing, NULL, NULL, NULL, &timer), 0);
    CHECK_CODE(evl_loop_call_later(loop, 50, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_timer_cancel(timer), 0);
    CHECK_CODE(evl_loop_prepare(loop, &deadline), 0);
    CHECK_INT(deadline, 50);
    evl_timer_unref(timer);
    end_loop(loop);
}

static void read_byte(void *arg) {
    struct probe *p = (struct probe *)arg;
    char c;
    p->calls++;
    CHECK(read((int)(intptr_t)p->loop, &c, 1) == 1); /* its descriptor, kept there */
}

TEST(descriptors_make_the_fd_readable) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, NULL);
    int fds[2], fd;
    REQUIRE(pipe(fds) == 0);
    p.loop = (evl_loop *)(intptr_t)fds[0];
    fd = evl_loop_fd(loop);
    CHECK(fd >= 0);
    CHECK_INT(evl_loop_fd(loop), fd);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_INT(readable(fd, 0), 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], read_byte, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_INT(readable(fd, 0), 0);
    CHECK(write(fds[1], "ab", 2) == 2);
    CHECK_INT(readable(fd, 10000), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_INT(readable(fd, 10000), 1); /* level-triggered: one byte is left */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_INT(readable(fd, 0), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK(write(fds[1], "c", 1) == 1);
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_INT(readable(fd, 0), 0);
    end_loop(loop);
    close(fds[0]);
    close(fds[1]);
    CHECK_PROBE(p, 2, 1);
}

static void *post(void *arg) {
    struct probe *p = (struct probe *)arg;
    CHECK_CODE(evl_loop_call_soon_threadsafe(p->loop, probe_call, p, probe_free, NULL, NULL), 0);
    return NULL;
}

TEST(posts_make_the_fd_readable) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    pthread_t thread;
    int fd = evl_loop_fd(loop), i;
    for (i = 1; i <= 3; i++) {
        CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
        REQUIRE(pthread_create(&thread, NULL, post, &p) == 0);
        CHECK_INT(readable(fd, 10000), 1);
        pthread_join(thread, NULL);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_PROBE(p, i, i);
        CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
        CHECK_INT(readable(fd, 0), 0); /* used up */
    }
    in_thread(post, &p);
    CHECK(evl_loop_prepare(loop, NULL) == 1 || readable(fd, 0)); /* one before it was prepared */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_stop_threadsafe(loop), 0);
    CHECK(evl_loop_prepare(loop, NULL) == 1 || readable(fd, 0));
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    end_loop(loop);
}

TEST(signals_make_the_fd_readable) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    int fd = evl_loop_fd(loop), i;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &p, probe_free, NULL, NULL), 0);
    for (i = 1; i <= 3; i++) {
        CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
        CHECK_INT(readable(fd, 0), 0);
        CHECK(raise(SIGUSR1) == 0);
        CHECK_INT(readable(fd, 10000), 1);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_PROBE(p, i, 0);
    }
    CHECK_CODE(evl_loop_prepare(loop, NULL), 0);
    CHECK_INT(readable(fd, 0), 0);
    end_loop(loop);
}

TEST(deadlines_make_the_fd_readable_when_asked) {
    evl_loop *loop = loop_with_flags(EVL_LOOP_FD_DEADLINES);
    struct probe p = probe_named(NULL, loop);
    int64_t deadline = 0, now = 0;
    int fd = evl_loop_fd(loop), i;
    for (i = 1; i <= 2; i++) {
        CHECK_CODE(evl_loop_call_later(loop, EVL_MS(2), probe_call, &p, probe_free, NULL, NULL), 0);
        CHECK(evl_loop_prepare(loop, &deadline) == 1 || readable(fd, 10000));
        CHECK_CODE(evl_loop_time(loop, &now), 0);
        CHECK(now >= deadline);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_PROBE(p, i, i);
        CHECK_CODE(evl_loop_prepare(loop, &deadline), 0);
        CHECK(deadline == EVL_FOREVER);
        CHECK_INT(readable(fd, 5), 0);
    }
    end_loop(loop);
}

struct host {
    evl_loop *loop;
    int ticks, posts;
    evl_timer *every;
};

static void tick(void *arg) {
    struct host *h = (struct host *)arg;
    if (++h->ticks == 3)
        evl_timer_cancel(h->every);
}

static void count_post(void *arg) {
    ((struct host *)arg)->posts++;
}

static void *post_from_thread(void *arg) {
    struct host *h = (struct host *)arg;
    int i;
    for (i = 0; i < 200; i++)
        CHECK_CODE(evl_loop_call_soon_threadsafe(h->loop, count_post, h, NULL, NULL, NULL), 0);
    return NULL;
}

TEST(a_host_with_poll_runs_everything) {
    struct host h;
    pthread_t thread;
    memset(&h, 0, sizeof h);
    h.loop = real_loop();
    CHECK_CODE(evl_loop_call_every(h.loop, EVL_MS(2), tick, &h, NULL, NULL, &h.every), 0);
    REQUIRE(pthread_create(&thread, NULL, post_from_thread, &h) == 0);
    while (h.ticks < 3 || h.posts < 200)
        if (!CHECK(host_turn(h.loop) >= 0))
            break;
    pthread_join(thread, NULL);
    CHECK_INT(h.ticks, 3);
    CHECK_INT(h.posts, 200);
    evl_timer_unref(h.every);
    end_loop(h.loop);
}

static void prepare_inside(void *arg) {
    int64_t deadline = 5;
    trace("in");
    CHECK_CODE(evl_loop_prepare((evl_loop *)arg, &deadline), EVL_ERUNNING);
    CHECK_INT(deadline, 5);
}

TEST(prepare_inside_a_callback_is_refused) {
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, prepare_inside, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("in");
    end_loop(loop);
}

struct waits {
    int before, after, frees;
};

static void before_wait(void *arg) {
    struct waits *w = (struct waits *)arg;
    CHECK_INT(w->before, w->after);
    w->before++;
}

static void after_wait(void *arg) {
    struct waits *w = (struct waits *)arg;
    w->after++;
    CHECK_INT(w->before, w->after);
}

static void waits_free(void *arg) {
    ((struct waits *)arg)->frees++;
}

TEST(wait_hooks_go_round_real_waits_only) {
    evl_loop *loop = real_loop();
    struct waits w = {0, 0, 0}, other = {0, 0, 0};
    int64_t delay;
    CHECK_CODE(evl_loop_set_wait_hooks(loop, before_wait, after_wait, &w, waits_free), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_FOREVER), 1); /* ready: it does not wait */
    CHECK_INT(w.before, 0);
    for (delay = EVL_MS(1); w.before == 0 && delay < EVL_SECONDS(20); delay *= 10) /* longer than we are kept from running */
        CHECK_CODE(evl_loop_run_once(loop, delay), 0);
    CHECK(w.before >= 1);
    CHECK_INT(w.before, w.after);
    w.before = w.after = 0;
    for (delay = EVL_MS(1); w.before == 0 && delay < EVL_SECONDS(20); delay *= 10) {
        CHECK_CODE(evl_loop_call_later(loop, delay, stop_loop, loop, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_run_forever(loop), 0);
    }
    CHECK(w.before >= 1);
    CHECK_INT(w.before, w.after);
    CHECK_INT(w.frees, 0);
    CHECK_CODE(evl_loop_set_wait_hooks(loop, NULL, after_wait, &other, waits_free), 0); /* either may be NULL */
    CHECK_INT(w.frees, 1);
    CHECK_CODE(evl_loop_set_wait_hooks(loop, NULL, NULL, NULL, NULL), 0);
    CHECK_INT(other.frees, 1);
    w.before = w.after = 0;
    CHECK_CODE(evl_loop_run_once(loop, EVL_MS(1)), 0);
    CHECK_INT(w.before, 0);
    end_loop(loop);
    CHECK_INT(w.frees, 1);
}

static void schedule_before_wait(void *arg) {
    struct probe *p = (struct probe *)arg;
    if (p->frees == 0 && p->calls == 0)
        CHECK_CODE(evl_loop_call_soon(p->loop, probe_call, p, NULL, NULL, NULL), 0);
}

TEST(what_a_wait_hook_schedules_is_not_waited_for) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_set_wait_hooks(loop, schedule_before_wait, NULL, &p, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_SECONDS(1000)), 1);
    CHECK_INT(p.calls, 1);
    end_loop(loop);
}

struct walk {
    int kinds[8], stop_at, count;
    evl_loop *loop;
};

static int visit(evl_handle *handle, int kind, int number, void *arg) {
    struct walk *w = (struct walk *)arg;
    (void)number;
    if (CHECK(kind >= EVL_WALK_READY && kind <= EVL_WALK_SIGNAL))
        w->kinds[kind]++;
    if (handle)
        CHECK(evl_handle_get_loop(handle) == w->loop);
    if (kind == EVL_WALK_TIMER) {
        char text[300];
        CHECK(handle != NULL);
        CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
        trace(strstr(text, "early") ? "early" : strstr(text, "late") ? "late" : "?");
    }
    if (kind == EVL_WALK_READER || kind == EVL_WALK_WRITER)
        CHECK(number >= 0);
    return ++w->count == w->stop_at ? 42 : 0;
}

static int cancel_visit(evl_handle *handle, int kind, int number, void *arg) {
    (void)kind;
    (void)number;
    (void)arg;
    CHECK_CODE(evl_handle_cancel(handle), 0);
    return 0;
}

TEST(walk_shows_everything_and_may_cancel_it) {
    evl_loop *loop = manual_loop();
    struct walk w;
    struct probe p = probe_named(NULL, loop);
    evl_timer *late = NULL, *early = NULL;
    evl_handle *soon = NULL;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    memset(&w, 0, sizeof w);
    CHECK_CODE(evl_loop_walk(loop, visit, &w), 0);
    CHECK_INT(w.count, 0);
    CHECK_CODE(evl_loop_call_later(loop, 20, probe_call, &p, probe_free, NULL, &late), 0);
    CHECK_CODE(evl_loop_call_later(loop, 10, probe_call, &p, probe_free, NULL, &early), 0);
    CHECK_CODE(evl_handle_set_name(evl_timer_as_handle(late), "late"), 0);
    CHECK_CODE(evl_handle_set_name(evl_timer_as_handle(early), "early"), 0);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &soon), 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_writer(loop, fds[1], probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &p, probe_free, NULL, NULL), 0);
    memset(&w, 0, sizeof w);
    w.loop = loop;
    CHECK_CODE(evl_loop_walk(loop, visit, &w), 0);
    CHECK_INT(w.count, 6);
    CHECK_INT(w.kinds[EVL_WALK_READY], 1);
    CHECK_INT(w.kinds[EVL_WALK_TIMER], 2);
    CHECK_INT(w.kinds[EVL_WALK_READER], 1);
    CHECK_INT(w.kinds[EVL_WALK_WRITER], 1);
    CHECK_INT(w.kinds[EVL_WALK_SIGNAL], 1);
    CHECK_TRACE("early late");
    memset(&w, 0, sizeof w);
    w.loop = loop;
    w.stop_at = 2;
    CHECK_INT(evl_loop_walk(loop, visit, &w), 42);
    CHECK_INT(w.count, 2);
    trace_reset();
    CHECK_CODE(evl_loop_walk(loop, cancel_visit, NULL), 0);
    CHECK_PROBE(p, 0, 6);
    memset(&w, 0, sizeof w);
    w.loop = loop;
    CHECK_CODE(evl_loop_walk(loop, visit, &w), 0);
    CHECK_INT(w.count, 0); /* what was cancelled is registered no more */
    CHECK_CODE(evl_loop_advance(loop, 100), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    evl_timer_unref(late);
    evl_timer_unref(early);
    evl_handle_unref(soon);
    end_loop(loop);
    close(fds[0]);
    close(fds[1]);
}

TEST(loop_keeps_data) {
    evl_loop *loop = manual_loop();
    struct probe a = probe_named(NULL, loop), b = probe_named(NULL, loop);
    CHECK(evl_loop_get_data(loop) == NULL);
    CHECK_CODE(evl_loop_set_data(loop, &a, probe_free), 0);
    CHECK(evl_loop_get_data(loop) == &a);
    CHECK_CODE(evl_loop_set_data(loop, &b, probe_free), 0);
    CHECK_INT(a.frees, 1);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(b.frees, 0); /* with the loop's memory */
    CHECK(evl_loop_get_data(loop) == &b);
    CHECK_CODE(evl_loop_set_data(loop, &a, probe_free), EVL_ECLOSED);
    CHECK_INT(a.frees, 2);
    evl_loop_unref(loop);
    CHECK_INT(b.frees, 1);
    CHECK(evl_loop_get_data(NULL) == NULL);
}

TEST_MAIN()
