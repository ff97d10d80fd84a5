/* For spawn.c, evl: subprocess_exec and a protocol that is told of the end */

#define MECHANISM "subprocess_exec"

static evl_loop *loop;

static void on_lost(evl_process *process, int code, void *arg) {
    int status = -1;
    (void)arg;
    must(code);
    must(evl_process_get_returncode(process, &status));
    ended(status);
}

static void spawner_open(void) {
    must(evl_loop_new(NULL, &loop));
}

static void spawner_spawn(void) {
    evl_process_protocol protocol = {.size = sizeof protocol, .connection_lost = on_lost};
    evl_process_options options = {.size = sizeof options, .argv = arguments};
    must(evl_loop_subprocess_exec(loop, &options, &protocol, NULL, NULL, NULL));
}

static void spawner_run(void) {
    must(evl_loop_run_forever(loop));
}

static void spawner_stop(void) {
    must(evl_loop_stop(loop));
}

static void spawner_close(void) {
    evl_loop_unref(loop);
}
