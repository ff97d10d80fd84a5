/* For accept.c, libuv: uv_accept, uv_close. */

static uv_loop_t loop;
static uv_tcp_t tcp;
static uv_pipe_t pipe_server;

static void on_closed(uv_handle_t *handle) {
    free(handle);
    taken();
}

static void on_connection(uv_stream_t *from, int status) {
    uv_stream_t *stream;
    must(status);
    if (is_unix) {
        uv_pipe_t *made = must_have(malloc(sizeof *made));
        must(uv_pipe_init(&loop, made, 0));
        stream = (uv_stream_t *)made;
    } else {
        uv_tcp_t *made = must_have(malloc(sizeof *made));
        must(uv_tcp_init(&loop, made));
        stream = (uv_stream_t *)made;
    }
    must(uv_accept(from, stream));
    uv_close((uv_handle_t *)stream, on_closed);
}

static void accept_open(int listener) {
    must(uv_loop_init(&loop));
    if (is_unix) {
        must(uv_pipe_init(&loop, &pipe_server, 0));
        must(uv_pipe_open(&pipe_server, listener));
        must(uv_listen((uv_stream_t *)&pipe_server, 128, on_connection));
    } else {
        must(uv_tcp_init(&loop, &tcp));
        must(uv_tcp_open(&tcp, listener));
        must(uv_listen((uv_stream_t *)&tcp, 128, on_connection));
    }
}

static void accept_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void accept_stop(void) {
    uv_stop(&loop);
}

static void accept_close(void) {
}

#define VARIANTS VARIANT("uv_accept")
