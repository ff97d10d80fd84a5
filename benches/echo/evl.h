/* For echo.c, evl: stream transports; one variant reads into memory of the protocol's, and the last two are evl_stream: read by
 * callbacks of futures, and by a task that awaits each read and each drain. */

static evl_loop *loop;
static int buffered;

enum { BUFFERED = 1, CALLBACK, TASK };
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

/* A stream, read by callbacks. */
static void on_read(evl_future *future, void *arg) {
    const void *data;
    size_t size;
    if (evl_future_result_bytes(future, &data, &size) < 0 || size == 0) {
        evl_stream_unref(arg);
        echo_gone();
        return;
    }
    must(evl_stream_write(arg, data, size));
    must(evl_stream_read(arg, 65536, &future));
    must(evl_future_add_done_callback(future, on_read, arg, NULL, NULL));
    evl_future_unref(future);
}

/* A stream, read by a task. */
struct echoer {
    evl_stream *stream;
    int writing;
};

static int echo_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct echoer *me = arg;
    const void *data;
    size_t size;
    if (status < 0)
        return status;
    if (me->writing) {
        must(evl_future_result_bytes(evl_task_get_awaited(task), &data, &size));
        if (size == 0) {
            evl_stream_unref(me->stream);
            echo_gone();
            return 0;
        }
        must(evl_stream_write(me->stream, data, size));
        me->writing = 0;
        return evl_stream_drain(me->stream, next);
    }
    me->writing = 1;
    return evl_stream_read(me->stream, 65536, next);
}

static void stream_add(int fd) {
    evl_future *future;
    void *stream;
    must(evl_open_connection_from_socket(loop, fd, &future));
    must(evl_loop_run_until_complete(loop, future));
    must(evl_future_result(future, &stream));
    evl_stream_ref(stream);
    evl_future_unref(future);
    if (buffered == TASK) {
        struct echoer *me = bench_new(1, sizeof *me);
        me->stream = stream;
        must(evl_stream_create_task(stream, echo_step, me, free, NULL));
        must(evl_loop_run_until_idle(loop));
    } else {
        must(evl_stream_read(stream, 65536, &future));
        must(evl_future_add_done_callback(future, on_read, stream, NULL, NULL));
        evl_future_unref(future);
    }
}

static void echo_open(size_t n, int mode) {
    (void)n;
    buffered = mode;
    must(evl_loop_new(NULL, &loop));
}

static void echo_add(size_t i, int fd) {
    evl_protocol protocol;
    (void)i;
    if (buffered >= CALLBACK) {
        stream_add(fd);
        return;
    }
    memset(&protocol, 0, sizeof protocol);
    protocol.size = sizeof protocol;
    if (buffered == BUFFERED) {
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

#define VARIANTS                                                                                                      \
    VARIANT(0, "transport")                                                                                           \
    VARIANT(1, "transport, get_buffer")                                                                               \
    VARIANT(2, "stream, callback")                                                                                    \
    VARIANT(3, "stream, task")                                                                                        \
    MEMORY(0, "transport")                                                                                            \
    MEMORY(3, "stream, task")
