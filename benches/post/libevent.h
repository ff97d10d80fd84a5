/* For post.c, libevent: event_base_once with its own locks, or an event that is made active */

enum { BASE_ONCE, ARRAY };

static struct event_base *base;
static struct event wake;
static int mechanism;

static void on_wake(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    (void)arg;
    queue_run();
}

static void on_once(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    arrived(arg);
}

static void post_open(int mode) {
    mechanism = mode;
    must(evthread_use_pthreads());
    base = must_have(event_base_new());
    must(event_assign(&wake, base, -1, EV_PERSIST, on_wake, NULL));
}

static void post(size_t thread, uint32_t number) {
    if (mechanism == BASE_ONCE)
        must(event_base_once(base, -1, EV_TIMEOUT, on_once, message_of(thread, number), NULL));
    else if (queue_push(arrived, message_of(thread, number)))
        event_active(&wake, EV_READ, 0);
}

static void post_run(void) {
    must(event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY));
}

static void post_stop(void) {
    must(event_base_loopbreak(base));
}

static void post_close(void) {
    event_base_free(base);
}

#define VARIANTS(workload, threads)                                                                                   \
    {workload, "event_active, array under a mutex", measure, threads, ARRAY, EVERY_CORE},                             \
        {workload, "event_base_once", measure, threads, BASE_ONCE, EVERY_CORE | SLOW}
