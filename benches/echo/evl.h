/* For echo.c, evl: stream transports; the last variant reads into memory of the protocol's. */

static evl_loop *loop;
static int buffered;
static char hot[65536];

static void on_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    (void)arg;
    must(evl_transport_write(transport, data, size));
}

static void on_buffer(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    (void)transport, (void)hint, (void)arg;
    *buffer = hot;
    *size = sizeof hot;
}

static void on_filled(evl_transport *transport, size_t size, void *arg) {
    (void)arg;
    must(evl_transport_write(transport, hot, size));
}

static void on_lost(evl_transport *transport, int code, void *arg) {
    (void)transport, (void)code, (void)arg;
    echo_gone();
}

static void echo_open(size_t n, int mode) {
    (void)n;
    buffered = mode;
    must(evl_loop_new(NULL, &loop));
}

static void echo_add(size_t i, int fd) {
    evl_protocol protocol;
    (void)i;
    memset(&protocol, 0, sizeof protocol);
    protocol.size = sizeof protocol;
    if (buffered) {
        protocol.get_buffer = on_buffer;
        protocol.buffer_updated = on_filled;
    } else {
        protocol.data_received = on_data;
    }
    protocol.connection_lost = on_lost;
    must(evl_loop_connect_accepted_socket(loop, fd, &protocol, NULL, NULL, NULL));
    must(evl_loop_run_until_idle(loop)); /* it reads from now on */
}

static void echo_run(void) {
    must(evl_loop_run_forever(loop));
}

static void echo_stop(void) {
    must(evl_loop_stop(loop));
}

static void echo_close(void) {
    must(evl_loop_close(loop));
    evl_loop_unref(loop);
}

#define VARIANTS VARIANT(0, "transport") VARIANT(1, "transport, get_buffer") MEMORY(0, "transport")
