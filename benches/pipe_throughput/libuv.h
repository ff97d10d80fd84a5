/* For pipe_throughput.c, libuv: two uv_pipe_t; so many writes under way */

static uv_loop_t loop;
static uv_pipe_t reader_pipe, writer_pipe;
static uv_write_t requests[2];
static int requests_count;
static char buffer[CHUNK];

static void write_next(uv_write_t *request);

static void on_written(uv_write_t *request, int status) {
    must(status);
    write_next(request);
}

static void write_next(uv_write_t *request) {
    char *chunk = next_chunk();
    if (chunk != NULL) {
        uv_buf_t bytes = uv_buf_init(chunk, CHUNK);
        must(uv_write(request, (uv_stream_t *)&writer_pipe, &bytes, 1, on_written));
    }
}

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *bytes) {
    (void)handle;
    (void)hint;
    *bytes = uv_buf_init(buffer, sizeof buffer);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *bytes) {
    (void)stream;
    must((int)size);
    if (size > 0)
        received(bytes->base, (size_t)size);
}

static void peer_open(int reader, int writer, int how) {
    requests_count = how;
    must(uv_loop_init(&loop));
    must(uv_pipe_init(&loop, &reader_pipe, 0));
    must(uv_pipe_init(&loop, &writer_pipe, 0));
    must(uv_pipe_open(&reader_pipe, reader));
    must(uv_pipe_open(&writer_pipe, writer));
    must(uv_read_start((uv_stream_t *)&reader_pipe, on_alloc, on_read));
}

static void peer_write(void) {
    for (int i = 0; i < requests_count; i++)
        write_next(&requests[i]);
}

static void peer_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void peer_stop(void) {
    uv_stop(&loop);
}

static void peer_close(void) {
    uv_close((uv_handle_t *)&reader_pipe, NULL);
    uv_close((uv_handle_t *)&writer_pipe, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop));
}

#define CASES                                                                                                         \
    {"pipe_throughput", "uv_write, two under way", measure, 0, 2, 0},                                                 \
        {"pipe_throughput", "uv_write, one under way", measure, 0, 1, 0},
