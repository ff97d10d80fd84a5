/* For post.c, evl: evl_loop_call_soon_threadsafe */

static evl_loop *loop;

static void post_open(int mode) {
    (void)mode;
    must(evl_loop_new(NULL, &loop));
}

static void post(size_t thread, uint32_t number) {
    must(evl_loop_call_soon_threadsafe(loop, arrived, message_of(thread, number), NULL, NULL, NULL));
}

static void post_run(void) {
    must(evl_loop_run_forever(loop));
}

static void post_stop(void) {
    must(evl_loop_stop(loop));
}

static void post_close(void) {
    evl_loop_unref(loop);
}

#define VARIANTS(workload, threads) {workload, "call_soon_threadsafe", measure, threads, 0, EVERY_CORE}
