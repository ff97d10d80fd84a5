/* For accept.c, libevent: an evconnlistener. */

#include <event2/listener.h>

static struct event_base *base;
static struct evconnlistener *server;

static void on_connection(struct evconnlistener *from, evutil_socket_t fd, struct sockaddr *peer, int size, void *arg) {
    (void)from, (void)peer, (void)size, (void)arg;
    close(fd);
    taken();
}

static void accept_open(int listener) {
    base = must_have(event_base_new());
    server = must_have(evconnlistener_new(base, on_connection, NULL, LEV_OPT_CLOSE_ON_FREE, -1, listener));
}

static void accept_run(void) {
    event_base_dispatch(base);
}

static void accept_stop(void) {
    event_base_loopbreak(base);
}

static void accept_close(void) {
    evconnlistener_free(server);
    event_base_free(base);
}

#define VARIANTS VARIANT("evconnlistener")
