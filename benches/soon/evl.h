/* For soon.c, evl: evl_loop_call_soon */

enum { BARE, CONTEXT, ARG_FREE, HANDLE };

static evl_loop *loop;
static evl_context_var *variable;
static evl_handle **handles;
static uint64_t released, scheduled;
static evl_callback callback;

static void on_bare(void *arg) {
    if (again((size_t)arg))
        must(evl_loop_call_soon(loop, on_bare, arg, NULL, NULL, NULL));
}

static void on_context(void *arg) {
    if (soon.turn == 0) {
        void *value = NULL;
        must(evl_context_var_get(variable, &value));
        soon.disorder += value != (void *)&soon;
    }
    if (again((size_t)arg))
        must(evl_loop_call_soon(loop, on_context, arg, NULL, NULL, NULL));
}

static void release(void *arg) {
    (void)arg;
    released++;
}

static void on_arg_free(void *arg) {
    if (again((size_t)arg)) {
        must(evl_loop_call_soon(loop, on_arg_free, arg, release, NULL, NULL));
        scheduled++;
    }
}

static void on_handle(void *arg) {
    size_t index = (size_t)arg;
    evl_handle_unref(handles[index]);
    handles[index] = NULL;
    if (again(index))
        must(evl_loop_call_soon(loop, on_handle, arg, NULL, NULL, &handles[index]));
}

static void soon_open(size_t n, int mode) {
    static const evl_callback callbacks[] = {on_bare, on_context, on_arg_free, on_handle};
    must(evl_loop_new(NULL, &loop));
    callback = callbacks[mode];
    handles = bench_new(n, sizeof *handles);
    if (mode == CONTEXT) {
        must(evl_context_var_new("request", NULL, NULL, &variable));
        must(evl_context_var_set(variable, &soon, NULL, NULL));
    }
}

static void soon_schedule(size_t index) {
    must(evl_loop_call_soon(loop, callback, (void *)index, callback == on_arg_free ? release : NULL, NULL,
                            callback == on_handle ? &handles[index] : NULL));
    scheduled += callback == on_arg_free;
}

static void soon_run(void) {
    must(evl_loop_run_forever(loop));
}

static void soon_stop(void) {
    must(evl_loop_stop(loop));
}

static void soon_close(void) {
    evl_loop_unref(loop);
    evl_context_var_unref(variable);
    free(handles);
    if (released != scheduled)
        bench_fail("%llu arguments were released, not %llu", (unsigned long long)released,
                   (unsigned long long)scheduled);
}

static const struct bench_case cases[] = {
    {"soon_10000", "call_soon", measure, 10000, BARE, 0},
    {"soon_10000", "call_soon, context set", measure, 10000, CONTEXT, 0},
    {"soon_10000", "call_soon, arg_free", measure, 10000, ARG_FREE, 0},
    {"soon_10000", "call_soon, handle wanted", measure, 10000, HANDLE, 0},
    {"soon_100", "call_soon", measure, 100, BARE, 0},
    {"soon_1", "call_soon", measure, 1, BARE, 0},
    {"soon_handle_10000", "call_soon", measure, 10000, HANDLE, 0},
};
