/* For soon.c, libevent: event_active on an event each; or event_base_once */

enum { EVENTS, BASE_ONCE };

static struct event_base *base;
static struct event *events;
static int mechanism;

static void on_event(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    size_t index = (size_t)arg;
    if (again(index))
        event_active(&events[index], EV_TIMEOUT, 1);
}

static void on_once(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    if (again((size_t)arg))
        must(event_base_once(base, -1, EV_TIMEOUT, on_once, arg, NULL));
}

static void soon_open(size_t n, int mode) {
    mechanism = mode;
    base = must_have(event_base_new());
    events = bench_new(n, sizeof *events);
    for (size_t i = 0; i < n; i++)
        must(event_assign(&events[i], base, -1, 0, on_event, (void *)i));
}

static void soon_schedule(size_t index) {
    if (mechanism == EVENTS)
        event_active(&events[index], EV_TIMEOUT, 1);
    else
        must(event_base_once(base, -1, EV_TIMEOUT, on_once, (void *)index, NULL));
}

static void soon_run(void) {
    must(event_base_dispatch(base)); /* until no event is active */
}

static void soon_stop(void) {
}

static void soon_close(void) {
    event_base_free(base);
    free(events);
}

#define VARIANTS(workload, n)                                                                                         \
    {workload, "event_active", measure, n, EVENTS, 0}, {workload, "event_base_once", measure, n, BASE_ONCE, 0}

static const struct bench_case cases[] = {
    VARIANTS("soon_10000", 10000),
    VARIANTS("soon_100", 100),
    VARIANTS("soon_1", 1),
    {"soon_handle_10000", "event_active", measure, 10000, EVENTS, 0},
};
