/* For spawn.c, libuv: uv_spawn */

#define MECHANISM "uv_spawn"

static uv_loop_t loop;
static uv_process_t process;

static void on_close(uv_handle_t *handle) {
    (void)handle;
    ended(0);
}

static void on_exit_status(uv_process_t *done, int64_t status, int signal_number) {
    if (status != 0 || signal_number != 0)
        ended(1);
    uv_close((uv_handle_t *)done, on_close); /* before the handle can be used again */
}

static void spawner_open(void) {
    must(uv_loop_init(&loop));
}

static void spawner_spawn(void) {
    uv_stdio_container_t stdio[3];
    uv_process_options_t options;
    memset(&options, 0, sizeof options);
    for (int fd = 0; fd < 3; fd++) {
        stdio[fd].flags = UV_INHERIT_FD;
        stdio[fd].data.fd = fd;
    }
    options.file = arguments[0];
    options.args = (char **)(uintptr_t)arguments;
    options.exit_cb = on_exit_status;
    options.stdio_count = 3;
    options.stdio = stdio;
    must(uv_spawn(&loop, &process, &options));
}

static void spawner_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void spawner_stop(void) {
    uv_stop(&loop);
}

static void spawner_close(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop));
}
