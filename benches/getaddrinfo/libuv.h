/* For getaddrinfo.c, libuv: uv_getaddrinfo */

#define MECHANISM "uv_getaddrinfo"

static uv_loop_t loop;
static uv_getaddrinfo_t request;
static struct addrinfo hints;

static void on_done(uv_getaddrinfo_t *done, int status, struct addrinfo *list) {
    struct sockaddr_in address;
    (void)done;
    must(status);
    memcpy(&address, list->ai_addr, sizeof address);
    uv_freeaddrinfo(list);
    found(&address);
}

static void resolver_open(void) {
    must(uv_loop_init(&loop));
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
}

static void resolver_ask(const char *name) {
    must(uv_getaddrinfo(&loop, &request, on_done, name, "80", &hints));
}

static void resolver_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void resolver_stop(void) {
    uv_stop(&loop);
}

static void resolver_close(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop));
}
