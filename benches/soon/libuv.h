/* For soon.c, libuv: an idle handle each, stopped and started; or one that runs a FIFO */

enum { IDLES, FIFO };

static uv_loop_t loop;
static uv_idle_t *idles;
static uv_idle_t fifo_idle;
static int uses_fifo;

static void on_idle(uv_idle_t *idle) {
    uv_idle_stop(idle);
    if (again_in_any_order((size_t)idle->data))
        uv_idle_start(idle, on_idle);
}

static void on_fifo(uv_idle_t *idle) {
    fifo_run();
    if (fifo.head == fifo.tail)
        uv_idle_stop(idle);
}

static void soon_open(size_t n, int mode) {
    uses_fifo = mode == FIFO;
    must(uv_loop_init(&loop));
    must(uv_idle_init(&loop, &fifo_idle));
    fifo_open(n);
    idles = bench_new(n, sizeof *idles);
    for (size_t i = 0; i < n; i++) {
        must(uv_idle_init(&loop, &idles[i]));
        idles[i].data = (void *)i;
    }
}

static void soon_schedule(size_t index) {
    if (uses_fifo) {
        fifo_push(fifo_job, index);
        must(uv_idle_start(&fifo_idle, on_fifo));
    } else {
        must(uv_idle_start(&idles[index], on_idle));
    }
}

static void soon_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT); /* until no handle is active */
}

static void soon_stop(void) {
}

static void soon_close(void) {
    for (size_t i = 0; i < soon.n; i++)
        uv_close((uv_handle_t *)&idles[i], NULL);
    uv_close((uv_handle_t *)&fifo_idle, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop));
    free(idles);
}

#define VARIANTS(workload, n)                                                                                         \
    {workload, "FIFO in an idle handle", measure, n, FIFO, 0}, {workload, "idle stop/start", measure, n, IDLES, 0}

static const struct bench_case cases[] = {
    VARIANTS("soon_10000", 10000),
    VARIANTS("soon_100", 100),
    VARIANTS("soon_1", 1),
    {"soon_handle_10000", "idle stop/start", measure, 10000, IDLES, 0},
};
