/* Every call on a loop that is closed, that another thread runs, or that was forked: the same table for all three. */
#include "harness.h"

#include <semaphore.h>

enum {
    ALWAYS = 0,
    RUNS = 1,       /* a run function: another thread's loop is running, too */
    ANYWHERE = 2,   /* any thread may call it */
    CANCELS = 4,    /* answers 0 when the loop is closed */
    FREES = 8       /* takes arg_free, which runs when it fails */
};

struct subject {
    evl_loop *loop;
    evl_handle *handle;
    evl_timer *timer;
    struct probe probe;
    int fd;
};

static void on_exception(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    (void)event_loop;
    (void)exception;
    (void)arg;
    CHECK(0 && "called");
}

static void on_log(int level, const char *message, void *arg) {
    (void)level;
    (void)message;
    (void)arg;
}

static int visit(evl_handle *handle, int kind, int number, void *arg) {
    (void)handle;
    (void)kind;
    (void)number;
    (void)arg;
    CHECK(0 && "visited");
    return 0;
}

static evl_exception some_exception(void) {
    evl_exception e;
    memset(&e, 0, sizeof e);
    e.size = sizeof e;
    e.code = -EIO;
    return e;
}

/* name, kind, and the call: s is the subject, h and t are outputs that must stay untouched. */
#define CALLS(X)                                                                                                      \
    X(handle_new, FREES, evl_handle_new(s->loop, probe_call, p, probe_free, NULL, h))                                 \
    X(handle_schedule, ALWAYS, evl_handle_schedule(s->handle))                                                        \
    X(handle_cancel, CANCELS, evl_handle_cancel(s->handle))                                                           \
    X(handle_set_name, ALWAYS, evl_handle_set_name(s->handle, "n"))                                                   \
    X(handle_run, ALWAYS, evl_handle_run(s->handle))                                                                  \
    X(timer_new, FREES, evl_timer_new(s->loop, 1, probe_call, p, probe_free, NULL, t))                                \
    X(timer_schedule, ALWAYS, evl_timer_schedule(s->timer))                                                           \
    X(timer_reschedule, ALWAYS, evl_timer_reschedule(s->timer, 1))                                                    \
    X(timer_cancel, CANCELS, evl_timer_cancel(s->timer))                                                              \
    X(run_forever, RUNS, evl_loop_run_forever(s->loop))                                                               \
    X(run_once, RUNS, evl_loop_run_once(s->loop, 0))                                                                  \
    X(run_until_idle, RUNS, evl_loop_run_until_idle(s->loop))                                                         \
    X(run_shutdown, RUNS, evl_loop_run_shutdown(s->loop))                                                             \
    X(stop, ALWAYS, evl_loop_stop(s->loop))                                                                           \
    X(stop_threadsafe, ANYWHERE, evl_loop_stop_threadsafe(s->loop))                                                   \
    X(now, ALWAYS, evl_loop_now(s->loop, &n64))                                                                       \
    X(advance, ALWAYS, evl_loop_advance(s->loop, 1))                                                                  \
    X(call_soon, FREES, evl_loop_call_soon(s->loop, probe_call, p, probe_free, NULL, h))                              \
    X(call_soon_threadsafe, FREES | ANYWHERE,                                                                         \
      evl_loop_call_soon_threadsafe(s->loop, probe_call, p, probe_free, NULL, NULL))                                  \
    X(call_later, FREES, evl_loop_call_later(s->loop, 1, probe_call, p, probe_free, NULL, t))                         \
    X(call_at, FREES, evl_loop_call_at(s->loop, 1, probe_call, p, probe_free, NULL, t))                               \
    X(call_every, FREES, evl_loop_call_every(s->loop, 1, probe_call, p, probe_free, NULL, t))                         \
    X(set_debug, ALWAYS, evl_loop_set_debug(s->loop, 1))                                                              \
    X(set_exception_handler, FREES, evl_loop_set_exception_handler(s->loop, on_exception, p, probe_free))             \
    X(get_exception_handler, ALWAYS, evl_loop_get_exception_handler(s->loop, NULL, NULL))                             \
    X(default_exception_handler, ALWAYS, evl_loop_default_exception_handler(s->loop, &e))                             \
    X(call_exception_handler, ALWAYS, evl_loop_call_exception_handler(s->loop, &e))                                   \
    X(add_shutdown_hook, FREES, evl_loop_add_shutdown_hook(s->loop, probe_call, p, probe_free, NULL, h))              \
    X(metrics, ALWAYS, evl_loop_metrics(s->loop, &m))                                                                 \
    X(prepare, ALWAYS, evl_loop_prepare(s->loop, &n64))                                                               \
    X(next_deadline, ALWAYS, evl_loop_next_deadline(s->loop, &n64))                                                   \
    X(fd, ALWAYS, evl_loop_fd(s->loop))                                                                               \
    X(set_wait_hooks, FREES, evl_loop_set_wait_hooks(s->loop, probe_call, probe_call, p, probe_free))                 \
    X(walk, ALWAYS, evl_loop_walk(s->loop, visit, NULL))                                                              \
    X(set_data, FREES, evl_loop_set_data(s->loop, p, probe_free))                                                     \
    X(set_log, FREES, evl_loop_set_log(s->loop, on_log, p, probe_free))                                               \
    X(add_reader, FREES, evl_loop_add_reader(s->loop, s->fd, probe_call, p, probe_free, NULL, h))                     \
    X(add_writer, FREES, evl_loop_add_writer(s->loop, s->fd, probe_call, p, probe_free, NULL, h))                     \
    X(remove_reader, ALWAYS, evl_loop_remove_reader(s->loop, s->fd))                                                  \
    X(remove_writer, ALWAYS, evl_loop_remove_writer(s->loop, s->fd))                                                  \
    X(pause_reader, ALWAYS, evl_loop_pause_reader(s->loop, s->fd))                                                    \
    X(resume_reader, ALWAYS, evl_loop_resume_reader(s->loop, s->fd))                                                  \
    X(pause_writer, ALWAYS, evl_loop_pause_writer(s->loop, s->fd))                                                    \
    X(resume_writer, ALWAYS, evl_loop_resume_writer(s->loop, s->fd))                                                  \
    X(add_signal_handler, FREES,                                                                                      \
      evl_loop_add_signal_handler(s->loop, SIGUSR2, probe_call, p, probe_free, NULL, h))                              \
    X(remove_signal_handler, ALWAYS, evl_loop_remove_signal_handler(s->loop, SIGUSR2))

#define DEFINE(name, kind, call)                                                                                      \
    static int call_##name(struct subject *s, struct probe *p, evl_handle **h, evl_timer **t) {                       \
        int64_t n64 = 0;                                                                                              \
        evl_exception e = some_exception();                                                                           \
        evl_metrics m;                                                                                                \
        m.size = sizeof m;                                                                                            \
        (void)s, (void)p, (void)h, (void)t, (void)n64, (void)e, (void)m;                                              \
        return call;                                                                                                  \
    }
CALLS(DEFINE)

static const struct {
    const char *name;
    int kind;
    int (*call)(struct subject *, struct probe *, evl_handle **, evl_timer **);
} calls[] = {
#define ROW(name, kind, call) {#name, kind, call_##name},
    CALLS(ROW)};

static void begin(struct subject *s) {
    memset(s, 0, sizeof *s);
    s->loop = manual_loop();
    s->fd = 0;
    CHECK_CODE(evl_handle_new(s->loop, probe_call, &s->probe, probe_free, NULL, &s->handle), 0);
    CHECK_CODE(evl_timer_new(s->loop, 5, probe_call, &s->probe, NULL, NULL, &s->timer), 0);
}

static void finish(struct subject *s) {
    evl_handle_unref(s->handle);
    evl_timer_unref(s->timer);
    evl_loop_unref(s->loop);
    CHECK_PROBE(s->probe, 0, 1);
}

/* Makes every call of the table, and checks that it answers code, or what other(kind) says in its place. */
static void check_all(struct subject *s, int code, int (*other)(int kind, int code)) {
    static struct probe probes[sizeof calls / sizeof calls[0]]; /* a call that succeeds keeps its arg */
    size_t i;
    memset(probes, 0, sizeof probes);
    for (i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        struct probe *p = &probes[i];
        evl_handle *const no_handle = (evl_handle *)(void *)p;
        evl_timer *const no_timer = (evl_timer *)(void *)p;
        evl_handle *h = no_handle;
        evl_timer *t = no_timer;
        int expected = other(calls[i].kind, code);
        int got = calls[i].call(s, p, &h, &t);
        harness_check_code(got, expected, calls[i].name, __FILE__, __LINE__);
        CHECK(h == no_handle && t == no_timer);
        if (!harness_check_int(p->frees, expected < 0 && (calls[i].kind & FREES) ? 1 : 0, calls[i].name, __FILE__,
                               __LINE__))
            continue;
        CHECK_INT(p->calls, 0);
    }
}

static int when_closed(int kind, int code) {
    return kind & CANCELS ? 0 : code;
}

TEST(closed) {
    struct subject s;
    int round;
    begin(&s);
    CHECK_CODE(evl_loop_close(s.loop), 0);
    for (round = 0; round < 2; round++) {
        check_all(&s, EVL_ECLOSED, when_closed);
        CHECK_CODE(evl_loop_close(s.loop), 0);
        CHECK_CODE(evl_loop_after_fork(s.loop), EVL_ECLOSED);
    }
    finish(&s);
}

TEST(closed_answers_what_any_thread_may_ask) {
    struct subject s;
    evl_weak_handle *weak = NULL;
    evl_handle *strong;
    int64_t n = 0;
    int code = 9, order = 9;
    uint64_t hash = 0;
    char text[200];
    void *addresses[2];
    begin(&s);
    CHECK_CODE(evl_loop_close(s.loop), 0);
    CHECK_INT(evl_loop_is_closed(s.loop), 1);
    CHECK_INT(evl_loop_is_running(s.loop), 0);
    CHECK_CODE(evl_loop_time(s.loop, &n), 0);
    CHECK_CODE(evl_loop_clock_resolution(s.loop, &n), 0);
    CHECK_CODE(evl_loop_exit_code(s.loop, &code), 0);
    CHECK_INT(evl_loop_get_debug(s.loop), 0);
    CHECK_CODE(evl_loop_set_slow_callback_duration(s.loop, 5), 0);
    CHECK_CODE(evl_loop_get_slow_callback_duration(s.loop, &n), 0);
    CHECK(evl_loop_get_data(s.loop) == NULL);
    CHECK(evl_loop_ref(s.loop) == s.loop);
    evl_loop_unref(s.loop);
    CHECK(evl_handle_repr(s.handle, text, sizeof text) > 0);
    CHECK(evl_handle_traceback(s.handle, addresses, 2) >= 0);
    CHECK(evl_handle_traceback_text(s.handle, text, sizeof text) >= 0);
    CHECK(evl_handle_get_loop(s.handle) == s.loop);
    CHECK_CODE(evl_handle_weak(s.handle, &weak), 0);
    strong = evl_weak_handle_upgrade(weak);
    CHECK(strong == s.handle);
    evl_handle_unref(strong);
    evl_weak_handle_free(weak);
    CHECK_CODE(evl_timer_when(s.timer, &n), 0);
    CHECK_INT(n, 5);
    CHECK_INT(evl_timer_scheduled(s.timer), 0);
    CHECK_CODE(evl_timer_compare(s.timer, s.timer, &order), 0);
    CHECK_INT(evl_timer_equal(s.timer, s.timer), 1);
    CHECK_CODE(evl_timer_hash(s.timer, &hash), 0);
    finish(&s);
}

struct holder {
    struct subject s;
    sem_t entered, leave;
};

static void hold(void *arg) {
    struct holder *h = (struct holder *)arg;
    sem_post(&h->entered);
    while (sem_wait(&h->leave) != 0)
        ;
}

static void *run_loop(void *arg) {
    struct holder *h = (struct holder *)arg;
    CHECK_CODE(evl_loop_run_once(h->s.loop, 0), 1);
    return NULL;
}

static int on_another_thread(int kind, int code) {
    if (kind & ANYWHERE)
        return 0;
    return kind & RUNS ? EVL_ERUNNING : code;
}

TEST(run_by_another_thread) {
    struct holder h;
    pthread_t thread;
    memset(&h, 0, sizeof h);
    begin(&h.s);
    CHECK(sem_init(&h.entered, 0, 0) == 0 && sem_init(&h.leave, 0, 0) == 0);
    CHECK_CODE(evl_loop_call_soon(h.s.loop, hold, &h, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_loop, &h) == 0);
    while (sem_wait(&h.entered) != 0)
        ;
    check_all(&h.s, EVL_EWRONGTHREAD, on_another_thread);
    CHECK_CODE(evl_loop_close(h.s.loop), EVL_ERUNNING);
    CHECK(evl_handle_get_context(h.s.handle) == NULL);
    sem_post(&h.leave);
    pthread_join(thread, NULL);
    CHECK_CODE(evl_loop_close(h.s.loop), 0);
    finish(&h.s);
    sem_destroy(&h.entered);
    sem_destroy(&h.leave);
}

static int when_forked(int kind, int code) {
    (void)kind;
    return code;
}

static void child(void *arg) {
    struct subject *s = (struct subject *)arg;
    check_all(s, EVL_EFORKED, when_forked);
    CHECK_CODE(evl_loop_close(s->loop), 0);
    check_all(s, EVL_ECLOSED, when_closed);
    finish(s);
}

TEST(forked) {
    struct subject s;
    begin(&s);
    CHECK_INT(in_child(child, &s), 0);
    CHECK_CODE(evl_handle_schedule(s.handle), 0);
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 1);
    s.probe.calls = 0;
    finish(&s);
}

/* Handles that are done or cancelled, in an open loop. */
TEST(done_and_cancelled) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *done = NULL, *cancelled = NULL;
    evl_timer *fired = NULL, *stopped = NULL;
    int round;
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &done), 0);
    CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, &cancelled), 0);
    CHECK_CODE(evl_loop_call_later(loop, 0, probe_call, &p, probe_free, NULL, &fired), 0);
    CHECK_CODE(evl_loop_call_later(loop, 0, probe_call, &p, probe_free, NULL, &stopped), 0);
    CHECK_CODE(evl_handle_cancel(cancelled), 0);
    CHECK_CODE(evl_timer_cancel(stopped), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_PROBE(p, 2, 4);
    for (round = 0; round < 2; round++) {
        CHECK_CODE(evl_handle_schedule(done), EVL_EDONE);
        CHECK_CODE(evl_handle_run(done), EVL_EDONE);
        CHECK_CODE(evl_handle_schedule(cancelled), EVL_ECANCELLED);
        CHECK_CODE(evl_handle_run(cancelled), EVL_ECANCELLED);
        CHECK_CODE(evl_timer_schedule(fired), EVL_EDONE);
        CHECK_CODE(evl_timer_reschedule(fired, 100), EVL_EDONE);
        CHECK_CODE(evl_handle_run(evl_timer_as_handle(fired)), EVL_EDONE);
        CHECK_CODE(evl_timer_schedule(stopped), EVL_ECANCELLED);
        CHECK_CODE(evl_timer_reschedule(stopped, 100), EVL_ECANCELLED);
        CHECK_CODE(evl_handle_run(evl_timer_as_handle(stopped)), EVL_ECANCELLED);
        CHECK_CODE(evl_handle_cancel(cancelled), 0);
        CHECK_CODE(evl_timer_cancel(stopped), 0);
        if (round == 0)
            CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    }
    CHECK_CODE(evl_handle_cancel(done), 0);
    CHECK_CODE(evl_timer_cancel(fired), 0);
    CHECK_CODE(evl_handle_cancel(done), 0);
    CHECK_CODE(evl_timer_cancel(fired), 0);
    CHECK_CODE(evl_loop_advance(loop, 1000), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    evl_handle_unref(done);
    evl_handle_unref(cancelled);
    evl_timer_unref(fired);
    evl_timer_unref(stopped);
    end_loop(loop);
    CHECK_PROBE(p, 2, 4);
}

TEST_MAIN()
