/* For echo.c, evl: stream transports; one variant reads into memory of the protocol's, and the last two are evl_stream, read by
 * a task that awaits each read and each drain: into new memory, or into the task's own. */

static evl_loop *loop;
static int buffered;

enum { BUFFERED = 1, STREAM, STREAM_INTO };
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

/* A stream, read by a task. */
struct echoer {
    evl_stream *stream;
    int writing;
    char room[];
};

static int echo_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct echoer *me = arg;
    const void *data = me->room;
    int64_t count;
    size_t size;
    if (status < 0)
        return status;
    if (me->writing) {
        if (buffered == STREAM_INTO) {
            must(evl_future_result_int(evl_task_get_awaited(task), &count));
            size = (size_t)count;
        } else {
            must(evl_future_result_bytes(evl_task_get_awaited(task), &data, &size));
        }
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
    if (buffered == STREAM_INTO)
        return evl_stream_read_into(me->stream, me->room, sizeof hot, next);
    return evl_stream_read(me->stream, sizeof hot, next);
}

static void stream_add(int fd) {
    evl_future *future;
    struct echoer *me;
    void *stream;
    must(evl_open_connection_from_socket(loop, fd, &future));
    must(evl_loop_run_until_complete(loop, future));
    must(evl_future_result(future, &stream));
    evl_stream_ref(stream);
    evl_future_unref(future);
    me = bench_new(1, sizeof *me + (buffered == STREAM_INTO ? sizeof hot : 0));
    me->stream = stream;
    must(evl_stream_create_task(stream, echo_step, me, free, NULL));
    must(evl_loop_run_until_idle(loop));
}

static void echo_open(size_t n, int mode) {
    (void)n;
    buffered = mode;
    must(evl_loop_new(NULL, &loop));
}

static void echo_add(size_t i, int fd) {
    evl_protocol protocol;
    (void)i;
    if (buffered >= STREAM) {
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
    VARIANT(2, "stream, read")                                                                                        \
    VARIANT(3, "stream, read_into")                                                                                   \
    MEMORY(0, "transport")                                                                                            \
    MEMORY(2, "stream, read")
