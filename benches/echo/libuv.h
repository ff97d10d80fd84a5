/* For echo.c, libuv: one read buffer for all, written by uv_try_write, the rest by uv_write; or all by uv_write. */

static uv_loop_t loop;
static int with_requests;
static char hot[65536];

struct request {
    uv_write_t request;
    char data[];
};

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buffer) {
    (void)handle, (void)hint;
    *buffer = uv_buf_init(hot, sizeof hot);
}

static void on_written(uv_write_t *request, int status) {
    (void)status;
    free(request);
}

static void on_closed(uv_handle_t *handle) {
    free(handle);
    echo_gone();
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    ssize_t written = 0;
    if (size < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    if (!with_requests) {
        uv_buf_t all = uv_buf_init(buffer->base, (unsigned)size);
        written = uv_try_write(stream, &all, 1);
        if (written == UV_EAGAIN)
            written = 0;
        must((int)written);
    }
    if (written < size) {
        struct request *request = must_have(malloc(sizeof *request + (size_t)(size - written)));
        uv_buf_t rest = uv_buf_init(request->data, (unsigned)(size - written));
        memcpy(request->data, buffer->base + written, (size_t)(size - written));
        must(uv_write(&request->request, stream, &rest, 1, on_written));
    }
}

static void echo_open(size_t n, int mode) {
    (void)n;
    with_requests = mode;
    must(uv_loop_init(&loop));
}

static void echo_add(size_t i, int fd) {
    (void)i;
    if (plan.is_unix) {
        uv_pipe_t *stream = must_have(malloc(sizeof *stream));
        must(uv_pipe_init(&loop, stream, 0));
        must(uv_pipe_open(stream, fd));
        must(uv_read_start((uv_stream_t *)stream, on_alloc, on_read));
    } else {
        uv_tcp_t *stream = must_have(malloc(sizeof *stream));
        must(uv_tcp_init(&loop, stream));
        must(uv_tcp_open(stream, fd));
        must(uv_read_start((uv_stream_t *)stream, on_alloc, on_read));
    }
}

static void echo_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void echo_stop(void) {
    uv_stop(&loop);
}

static void echo_close(void) {
    must(uv_loop_close(&loop));
}

#define VARIANTS VARIANT(0, "uv_try_write") VARIANT(1, "uv_write") MEMORY(0, "uv_tcp_t")
