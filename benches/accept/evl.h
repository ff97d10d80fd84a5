/* For accept.c, evl: a server whose protocols close their transports when they are told of them. */

static evl_loop *loop;
static evl_server *server;

static void on_made(evl_transport *transport, void *arg) {
    (void)arg;
    must(evl_transport_close(transport));
}

static void on_lost(evl_transport *transport, int code, void *arg) {
    (void)transport, (void)code, (void)arg;
    taken();
}

static int new_protocol(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free) {
    (void)factory_arg, (void)arg, (void)arg_free;
    protocol->connection_made = on_made;
    protocol->connection_lost = on_lost;
    return 0;
}

static void accept_open(int listener) {
    evl_future *made;
    void *result;
    must(evl_loop_new(NULL, &loop));
    must(evl_loop_create_server_from_socket(loop, listener, NULL, new_protocol, NULL, NULL, &made));
    must(evl_future_result(made, &result));
    server = evl_server_ref(result);
    evl_future_unref(made);
}

static void accept_run(void) {
    must(evl_loop_run_forever(loop));
}

static void accept_stop(void) {
    must(evl_loop_stop(loop));
}

static void accept_close(void) {
    must(evl_server_close(server));
    evl_server_unref(server);
    must(evl_loop_close(loop));
    evl_loop_unref(loop);
}

#define VARIANTS VARIANT("create_server")
