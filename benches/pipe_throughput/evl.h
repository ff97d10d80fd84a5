/* For pipe_throughput.c, evl: a read and a write pipe transport */

enum { OWNED, COPIED, BUFFERED };

static evl_loop *loop;
static evl_transport *writer_transport;
static int paused, mode;
static char buffer[CHUNK];

static void write_more(evl_transport *transport) {
    char *chunk;
    while (!paused && (chunk = next_chunk()) != NULL) {
        if (mode == COPIED)
            must(evl_transport_write(transport, chunk, CHUNK));
        else
            must(evl_transport_write_owned(transport, chunk, CHUNK, NULL, NULL));
    }
}

static void on_pause(evl_transport *transport, void *arg) {
    (void)transport;
    (void)arg;
    paused = 1;
}

static void on_resume(evl_transport *transport, void *arg) {
    (void)arg;
    paused = 0;
    write_more(transport);
}

static void on_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    (void)transport;
    (void)arg;
    received(data, size);
}

static void on_get_buffer(evl_transport *transport, size_t hint, void **memory, size_t *size, void *arg) {
    (void)transport;
    (void)hint;
    (void)arg;
    *memory = buffer;
    *size = sizeof buffer;
}

static void on_updated(evl_transport *transport, size_t size, void *arg) {
    (void)transport;
    (void)arg;
    received(buffer, size);
}

static void on_write(void *arg) {
    (void)arg;
    write_more(writer_transport);
}

static void peer_open(int reader, int writer, int how) {
    evl_protocol protocol = {.size = sizeof protocol, .data_received = on_data, .pause_writing = on_pause,
                             .resume_writing = on_resume};
    mode = how;
    if (mode == BUFFERED) {
        protocol.get_buffer = on_get_buffer;
        protocol.buffer_updated = on_updated;
    }
    must(evl_loop_new(NULL, &loop));
    must(evl_loop_connect_read_pipe(loop, reader, &protocol, NULL, NULL, NULL));
    must(evl_loop_connect_write_pipe(loop, writer, &protocol, NULL, NULL, &writer_transport));
}

static void peer_write(void) {
    must(evl_loop_call_soon(loop, on_write, NULL, NULL, NULL, NULL));
}

static void peer_run(void) {
    must(evl_loop_run_forever(loop));
}

static void peer_stop(void) {
    must(evl_loop_stop(loop));
}

static void peer_close(void) {
    evl_transport_unref(writer_transport);
    evl_loop_unref(loop);
}

#define CASES                                                                                                         \
    {"pipe_throughput", "transports, write_owned", measure, 0, OWNED, 0},                                             \
        {"pipe_throughput", "transports, write", measure, 0, COPIED, 0},                                              \
        {"pipe_throughput", "transports, write_owned and get_buffer", measure, 0, BUFFERED, 0},
