/* For echo.c, raw: epoll, recv, send. */

static int poller, stopping;
static char hot[65536];

static void echo_open(size_t n, int mode) {
    (void)n, (void)mode;
    poller = epoll_create1(EPOLL_CLOEXEC);
    must(poller);
}

static void echo_add(size_t i, int fd) {
    struct epoll_event event = {EPOLLIN, {.fd = fd}};
    (void)i;
    must(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event));
}

static void echo_run(void) {
    struct epoll_event events[256];
    while (!stopping) {
        int count = epoll_wait(poller, events, 256, -1), e;
        for (e = 0; e < count; e++) {
            int fd = events[e].data.fd;
            ssize_t size = recv(fd, hot, sizeof hot, 0);
            if (size > 0) {
                if (send(fd, hot, (size_t)size, MSG_NOSIGNAL) != size)
                    bench_fail("a short send");
            } else if (size == 0 || errno != EAGAIN) {
                close(fd);
                echo_gone();
            }
        }
    }
}

static void echo_stop(void) {
    stopping = 1;
}

static void echo_close(void) {
    close(poller);
}

#define VARIANTS VARIANT(0, "epoll")
