/* For echo.c, libevent: an event with recv and send; or a bufferevent. */

#include <event2/buffer.h>
#include <event2/bufferevent.h>

static struct event_base *base;
static int with_buffers;
static char hot[65536];

static void on_readable(evutil_socket_t fd, short events, void *arg) {
    struct event *event = *(struct event **)arg;
    ssize_t size = recv(fd, hot, sizeof hot, 0);
    (void)events;
    if (size > 0) {
        if (send(fd, hot, (size_t)size, MSG_NOSIGNAL) != size)
            bench_fail("a short send");
    } else if (size == 0 || errno != EAGAIN) {
        event_free(event);
        close(fd);
        free(arg);
        echo_gone();
    }
}

static void on_data(struct bufferevent *buffer, void *arg) {
    (void)arg;
    evbuffer_add_buffer(bufferevent_get_output(buffer), bufferevent_get_input(buffer));
}

static void on_event(struct bufferevent *buffer, short what, void *arg) {
    (void)what, (void)arg;
    bufferevent_free(buffer);
    echo_gone();
}

static void echo_open(size_t n, int mode) {
    (void)n;
    with_buffers = mode;
    base = must_have(event_base_new());
}

static void echo_add(size_t i, int fd) {
    (void)i;
    if (with_buffers) {
        struct bufferevent *buffer = must_have(bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE));
        bufferevent_setcb(buffer, on_data, NULL, on_event, NULL);
        bufferevent_enable(buffer, EV_READ | EV_WRITE);
    } else {
        struct event **own = must_have(malloc(sizeof *own));
        *own = must_have(event_new(base, fd, EV_READ | EV_PERSIST, on_readable, own));
        event_add(*own, NULL);
    }
}

static void echo_run(void) {
    event_base_dispatch(base);
}

static void echo_stop(void) {
    event_base_loopbreak(base);
}

static void echo_close(void) {
    event_base_free(base);
}

#define VARIANTS VARIANT(0, "event") VARIANT(1, "bufferevent") MEMORY(0, "event") MEMORY(1, "bufferevent")
