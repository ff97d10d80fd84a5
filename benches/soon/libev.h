/*
 * For soon.c, libev: an idle or a prepare watcher each, stopped and started; or an idle watcher that runs a FIFO.
 * ev_feed_event cannot do this: what a callback feeds runs next, before all others that wait.
 */

enum { IDLES, PREPARES, FIFO };

static struct ev_loop *loop;
static ev_idle *idles, fifo_idle;
static ev_prepare *prepares;
static int mechanism;

static void on_idle(struct ev_loop *on, ev_idle *idle, int events) {
    (void)events;
    ev_idle_stop(on, idle);
    if (again_in_any_order((size_t)idle->data))
        ev_idle_start(on, idle);
}

static void on_prepare(struct ev_loop *on, ev_prepare *prepare, int events) {
    (void)events;
    ev_prepare_stop(on, prepare);
    if (again_in_any_order((size_t)prepare->data))
        ev_prepare_start(on, prepare);
}

static void on_fifo(struct ev_loop *on, ev_idle *idle, int events) {
    (void)events;
    fifo_run();
    if (fifo.head == fifo.tail)
        ev_idle_stop(on, idle);
}

static void soon_open(size_t n, int mode) {
    mechanism = mode;
    loop = must_have(ev_loop_new(EVFLAG_AUTO));
    fifo_open(n);
    ev_init(&fifo_idle, on_fifo);
    idles = bench_new(n, sizeof *idles);
    prepares = bench_new(n, sizeof *prepares);
    for (size_t i = 0; i < n; i++) {
        ev_init(&idles[i], on_idle);
        idles[i].data = (void *)i;
        ev_init(&prepares[i], on_prepare);
        prepares[i].data = (void *)i;
    }
}

static void soon_schedule(size_t index) {
    if (mechanism == IDLES) {
        ev_idle_start(loop, &idles[index]);
    } else if (mechanism == PREPARES) {
        ev_prepare_start(loop, &prepares[index]);
    } else {
        fifo_push(fifo_job, index);
        ev_idle_start(loop, &fifo_idle);
    }
}

static void soon_run(void) {
    if (mechanism != PREPARES)
        ev_run(loop, 0); /* until no watcher is active */
    while (soon.passes_left > 0)
        ev_run(loop, EVRUN_NOWAIT);
}

static void soon_stop(void) {
}

static void soon_close(void) {
    ev_loop_destroy(loop);
    free(idles);
    free(prepares);
}

#define VARIANTS(workload, n)                                                                                         \
    {workload, "FIFO in an idle watcher", measure, n, FIFO, 0},                                                       \
        {workload, "ev_idle stop/start", measure, n, IDLES, 0},                                                       \
        {workload, "ev_prepare stop/start", measure, n, PREPARES, 0}

static const struct bench_case cases[] = {
    VARIANTS("soon_10000", 10000),
    VARIANTS("soon_100", 100),
    VARIANTS("soon_1", 1),
    {"soon_handle_10000", "ev_idle stop/start", measure, 10000, IDLES, 0},
};
