/* For echo.c, libev: ev_io with recv and send; what cannot be sent at once would be lost, and fails. */

static struct ev_loop *loop;
static char hot[65536];

static void on_readable(struct ev_loop *of, ev_io *watcher, int events) {
    ssize_t size = recv(watcher->fd, hot, sizeof hot, 0);
    (void)events;
    if (size > 0) {
        if (send(watcher->fd, hot, (size_t)size, MSG_NOSIGNAL) != size)
            bench_fail("a short send");
    } else if (size == 0 || errno != EAGAIN) {
        ev_io_stop(of, watcher);
        close(watcher->fd);
        free(watcher);
        echo_gone();
    }
}

static void echo_open(size_t n, int mode) {
    (void)n, (void)mode;
    loop = must_have(ev_loop_new(EVFLAG_AUTO));
}

static void echo_add(size_t i, int fd) {
    ev_io *watcher = must_have(malloc(sizeof *watcher));
    (void)i;
    ev_io_init(watcher, on_readable, fd, EV_READ);
    ev_io_start(loop, watcher);
}

static void echo_run(void) {
    ev_run(loop, 0);
}

static void echo_stop(void) {
    ev_break(loop, EVBREAK_ALL);
}

static void echo_close(void) {
    ev_loop_destroy(loop);
}

#define VARIANTS VARIANT(0, "ev_io") MEMORY(0, "ev_io")
