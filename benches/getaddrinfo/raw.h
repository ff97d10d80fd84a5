/* For getaddrinfo.c, raw: the call that blocks */

#define MECHANISM "getaddrinfo"

static const char *asked;
static int stopped;

static void resolver_open(void) {
}

static void resolver_ask(const char *name) {
    asked = name;
}

static void resolver_run(void) {
    struct addrinfo hints = {0}, *list;
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    for (stopped = 0; !stopped;) {
        if (getaddrinfo(asked, "80", &hints, &list) != 0)
            bench_fail("no address");
        found(list->ai_addr);
        freeaddrinfo(list);
    }
}

static void resolver_stop(void) {
    stopped = 1;
}

static void resolver_close(void) {
}
