/* For post.c, libev: an async watcher */

static struct ev_loop *loop;
static ev_async async;

static void on_async(struct ev_loop *on, ev_async *watcher, int events) {
    (void)on;
    (void)watcher;
    (void)events;
    queue_run();
}

static void post_open(int mode) {
    (void)mode;
    loop = must_have(ev_loop_new(EVFLAG_AUTO));
    ev_async_init(&async, on_async);
    ev_async_start(loop, &async);
}

static void post(size_t thread, uint32_t number) {
    if (queue_push(arrived, message_of(thread, number)))
        ev_async_send(loop, &async);
}

static void post_run(void) {
    ev_run(loop, 0);
}

static void post_stop(void) {
    ev_break(loop, EVBREAK_ALL);
}

static void post_close(void) {
    ev_loop_destroy(loop);
}

#define VARIANTS(workload, threads) {workload, "ev_async_send, array under a mutex", measure, threads, 0, EVERY_CORE}
