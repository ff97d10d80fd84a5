/* For getaddrinfo.c, evl: evl_loop_getaddrinfo, a callback at the future */

#define MECHANISM "evl_loop_getaddrinfo"

static evl_loop *loop;
static evl_address_hints hints;

static void on_done(evl_future *future, void *arg) {
    evl_address_info info = {0};
    void *list;
    (void)arg;
    must(evl_future_result(future, &list));
    info.size = sizeof info;
    must(evl_addresses_get((evl_addresses *)list, 0, &info));
    found(info.address);
}

static void resolver_open(void) {
    must(evl_loop_new(NULL, &loop));
    hints.size = sizeof hints;
    hints.family = AF_INET;
    hints.type = SOCK_STREAM;
}

static void resolver_ask(const char *name) {
    evl_future *future;
    must(evl_loop_getaddrinfo(loop, name, "80", &hints, &future));
    must(evl_future_add_done_callback(future, on_done, NULL, NULL, NULL));
    evl_future_unref(future);
}

static void resolver_run(void) {
    must(evl_loop_run_forever(loop));
}

static void resolver_stop(void) {
    must(evl_loop_stop(loop));
}

static void resolver_close(void) {
    evl_loop_unref(loop);
}
