/* For accept.c, raw: epoll, accept4 until there is no more. */

#include <sys/epoll.h>

static int poller, from, stopping;

static void accept_open(int listener) {
    struct epoll_event event = {EPOLLIN, {.fd = listener}};
    from = listener;
    poller = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event));
}

static void accept_run(void) {
    struct epoll_event event;
    int fd;
    stopping = 0;
    while (!stopping && epoll_wait(poller, &event, 1, -1) >= 0)
        while (!stopping && (fd = accept4(from, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
            close(fd);
            taken();
        }
}

static void accept_stop(void) {
    stopping = 1;
}

static void accept_close(void) {
    close(from);
    close(poller);
}

#define VARIANTS VARIANT("epoll, accept4")
