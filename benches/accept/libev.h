/* For accept.c, libev: ev_io, accept4 until there is no more. */

static struct ev_loop *loop;
static ev_io watcher;

static void on_readable(struct ev_loop *of, ev_io *one, int events) {
    int fd;
    (void)of, (void)events;
    while (left > 0 && (fd = accept4(one->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        close(fd);
        taken();
    }
}

static void accept_open(int listener) {
    loop = must_have(ev_loop_new(EVFLAG_AUTO));
    ev_io_init(&watcher, on_readable, listener, EV_READ);
    ev_io_start(loop, &watcher);
}

static void accept_run(void) {
    ev_run(loop, 0);
}

static void accept_stop(void) {
    ev_break(loop, EVBREAK_ALL);
}

static void accept_close(void) {
    ev_loop_destroy(loop);
}

#define VARIANTS VARIANT("ev_io, accept4")
