/* For datagram.c, evl: an endpoint that is told of its datagrams one by one, or of many at once. */

static evl_loop *loop;

static void on_datagram(evl_datagram *datagram, const void *data, size_t size, const void *address, uint32_t address_size,
                        void *arg) {
    (void)arg;
    if (size == 1)
        datagram_stop();
    else
        must(evl_datagram_sendto(datagram, data, size, address, address_size));
}

static void on_datagrams(evl_datagram *datagram, const evl_datagram_message *messages, size_t count, void *arg) {
    (void)arg;
    if (messages[0].size == 1)
        datagram_stop();
    else
        must(evl_datagram_send_batch(datagram, messages, count));
}

static void on_error(evl_datagram *datagram, int code, void *arg) {
    (void)datagram, (void)arg;
    must(code);
}

static void datagram_open(int fd, int mode, size_t batch) {
    evl_datagram_protocol protocol;
    (void)batch;
    must(evl_loop_new(NULL, &loop));
    memset(&protocol, 0, sizeof protocol);
    protocol.size = sizeof protocol;
    if (mode)
        protocol.datagrams_received = on_datagrams;
    else
        protocol.datagram_received = on_datagram;
    protocol.error_received = on_error;
    must(evl_loop_create_datagram_endpoint_fd(loop, fd, &protocol, NULL, NULL, NULL));
    must(evl_loop_run_until_idle(loop)); /* it receives from now on */
}

static void datagram_run(void) {
    must(evl_loop_run_forever(loop));
}

static void datagram_stop(void) {
    must(evl_loop_stop(loop));
}

static void datagram_close(void) {
    must(evl_loop_close(loop));
    evl_loop_unref(loop);
}

#define VARIANTS SINGLE(0, "sendto") BATCH(0, "sendto") BATCH(1, "send_batch")
