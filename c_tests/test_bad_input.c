/* NULL and worse, for every function of the header. What is called with BAD is noted by its name; the last test compares
 * the names with the list of all functions. */
#include "harness.h"

#define FUNCTIONS(X)                                                                                                  \
    X(evl_version) X(evl_abi_version) X(evl_strerror) X(evl_errname) X(evl_error_detail)                              \
    X(evl_raise) X(evl_raise_object) X(evl_raise_exit)                                                                \
    X(evl_handle_new) X(evl_handle_schedule) X(evl_handle_cancel) X(evl_handle_cancelled) X(evl_handle_set_name)      \
    X(evl_handle_repr) X(evl_handle_traceback) X(evl_handle_traceback_text) X(evl_handle_get_loop)                    \
    X(evl_handle_get_arg) X(evl_handle_as_timer) X(evl_handle_get_context) X(evl_handle_ref) X(evl_handle_unref)      \
    X(evl_handle_weak) X(evl_weak_handle_upgrade) X(evl_weak_handle_free) X(evl_handle_run)                           \
    X(evl_timer_new) X(evl_timer_schedule) X(evl_timer_reschedule) X(evl_timer_cancel) X(evl_timer_cancelled)         \
    X(evl_timer_when) X(evl_timer_as_handle) X(evl_timer_ref) X(evl_timer_unref) X(evl_timer_scheduled)               \
    X(evl_timer_compare) X(evl_timer_equal) X(evl_timer_hash)                                                         \
    X(evl_context_var_new) X(evl_context_var_ref) X(evl_context_var_unref) X(evl_context_var_name)                    \
    X(evl_context_var_get) X(evl_context_var_set) X(evl_context_var_reset) X(evl_context_token_get_var)               \
    X(evl_context_token_old_value) X(evl_context_token_ref) X(evl_context_token_unref) X(evl_context_new)             \
    X(evl_context_copy) X(evl_context_copy_current) X(evl_context_run) X(evl_context_enter) X(evl_context_exit)       \
    X(evl_context_get) X(evl_context_size) X(evl_context_ref) X(evl_context_unref)                                    \
    X(evl_loop_options_init) X(evl_loop_new) X(evl_loop_ref) X(evl_loop_unref) X(evl_loop_run_forever)                \
    X(evl_loop_run_once) X(evl_loop_run_until_idle) X(evl_loop_stop) X(evl_loop_stop_threadsafe) X(evl_loop_close)    \
    X(evl_loop_is_running) X(evl_loop_is_closed) X(evl_loop_time) X(evl_loop_now) X(evl_loop_clock_resolution)        \
    X(evl_loop_advance) X(evl_loop_exit_code) X(evl_loop_call_soon) X(evl_loop_call_soon_threadsafe)                  \
    X(evl_loop_call_later) X(evl_loop_call_at) X(evl_loop_call_every) X(evl_loop_set_debug) X(evl_loop_get_debug)     \
    X(evl_loop_set_slow_callback_duration) X(evl_loop_get_slow_callback_duration)                                     \
    X(evl_loop_set_exception_handler) X(evl_loop_get_exception_handler) X(evl_loop_default_exception_handler)         \
    X(evl_loop_call_exception_handler) X(evl_loop_add_shutdown_hook) X(evl_loop_run_shutdown) X(evl_loop_metrics)     \
    X(evl_loop_prepare) X(evl_loop_next_deadline) X(evl_loop_fd) X(evl_loop_set_wait_hooks) X(evl_loop_walk)         \
    X(evl_loop_set_data)                                                                                             \
    X(evl_loop_get_data) X(evl_loop_set_log) X(evl_loop_after_fork)                                                   \
    X(evl_loop_add_reader) X(evl_loop_add_writer) X(evl_loop_remove_reader) X(evl_loop_remove_writer)                 \
    X(evl_loop_pause_reader) X(evl_loop_resume_reader) X(evl_loop_pause_writer) X(evl_loop_resume_writer)             \
    X(evl_loop_add_signal_handler) X(evl_loop_remove_signal_handler)                                                  \
    X(evl_policy_new_default) X(evl_policy_new) X(evl_policy_ref) X(evl_policy_unref) X(evl_policy_get_loop)          \
    X(evl_policy_set_loop) X(evl_policy_new_loop) X(evl_policy_set_data) X(evl_policy_get_data)                       \
    X(evl_get_policy) X(evl_set_policy) X(evl_get_running_loop) X(evl_set_running_loop) X(evl_get_loop)               \
    X(evl_set_loop) X(evl_new_loop)

typedef void (*any_function)(void);

static const struct {
    const char *name;
    any_function function;
} functions[] = {
#define ROW(name) {#name, (any_function)name},
    FUNCTIONS(ROW)};

enum { FUNCTION_COUNT = sizeof functions / sizeof functions[0] };

static int named[FUNCTION_COUNT];

/* Notes which function a call's text begins with. */
static void note(const char *text) {
    size_t length = strcspn(text, "("), i;
    for (i = 0; i < FUNCTION_COUNT; i++)
        if (strlen(functions[i].name) == length && strncmp(functions[i].name, text, length) == 0)
            named[i] = 1;
}

/* The call answers a code. */
#define BAD(call, code) (note(#call), CHECK_CODE(call, code))
/* The call answers a value that compares so. */
#define GIVES(call, value) (note(#call), CHECK((call) == (value)))
/* The call answers nothing. */
#define NO_HARM(call) (note(#call), (call))

static struct probe p;
static void *const untouched = &p;

/* A failing call that takes the callback triple releases its arg exactly once. */
#define BAD_TRIPLE(call, code)                                                                                        \
    do {                                                                                                              \
        p.frees = p.calls = 0;                                                                                        \
        BAD(call, code);                                                                                              \
        CHECK_PROBE(p, 0, 1);                                                                                         \
    } while (0)

TEST(errors) {
    GIVES(evl_version() != NULL, 1);
    GIVES(evl_abi_version(), EVL_ABI_VERSION);
    GIVES(evl_strerror(12345) != NULL, 1);
    GIVES(evl_errname(12345) != NULL, 1);
    BAD(evl_error_detail(NULL, 1), -EINVAL);
    BAD(evl_raise(-1, NULL), EVL_ENOTINCALLBACK);
    BAD_TRIPLE(evl_raise_object(-1, NULL, &p, probe_free), EVL_ENOTINCALLBACK);
    BAD(evl_raise_exit(0), EVL_ENOTINCALLBACK);
}

TEST(handles) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = (evl_handle *)untouched;
    evl_weak_handle *weak = (evl_weak_handle *)untouched;
    char text[8] = "same";
    void *addresses[2] = {NULL, NULL};
    BAD_TRIPLE(evl_handle_new(NULL, probe_call, &p, probe_free, NULL, &handle), -EINVAL);
    BAD_TRIPLE(evl_handle_new(loop, NULL, &p, probe_free, NULL, &handle), -EINVAL);
    BAD_TRIPLE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, NULL), -EINVAL);
    CHECK(handle == untouched);
    BAD(evl_handle_new(NULL, NULL, NULL, NULL, NULL, NULL), -EINVAL);
    BAD(evl_handle_schedule(NULL), -EINVAL);
    BAD(evl_handle_cancel(NULL), -EINVAL);
    BAD(evl_handle_set_name(NULL, "x"), -EINVAL);
    BAD(evl_handle_set_name(NULL, NULL), -EINVAL);
    BAD(evl_handle_repr(NULL, text, sizeof text), -EINVAL);
    BAD(evl_handle_repr(NULL, NULL, 0), -EINVAL);
    BAD(evl_handle_traceback(NULL, addresses, 2), -EINVAL);
    BAD(evl_handle_traceback_text(NULL, text, sizeof text), -EINVAL);
    CHECK_STRING(text, "same");
    BAD(evl_handle_weak(NULL, &weak), -EINVAL);
    CHECK(weak == untouched);
    BAD(evl_handle_run(NULL), -EINVAL);
    GIVES(evl_handle_cancelled(NULL), 0);
    GIVES(evl_handle_get_loop(NULL), NULL);
    GIVES(evl_handle_get_arg(NULL), NULL);
    GIVES(evl_handle_as_timer(NULL), NULL);
    GIVES(evl_handle_get_context(NULL), NULL);
    GIVES(evl_handle_ref(NULL), NULL);
    GIVES(evl_weak_handle_upgrade(NULL), NULL);
    NO_HARM(evl_handle_unref(NULL));
    NO_HARM(evl_weak_handle_free(NULL));
    CHECK_CODE(evl_handle_new(loop, nothing, NULL, NULL, NULL, &handle), 0);
    BAD(evl_handle_weak(handle, NULL), -EINVAL);
    BAD(evl_handle_repr(handle, NULL, 1), -EINVAL);
    BAD(evl_handle_traceback(handle, NULL, 1), -EINVAL);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST(timers) {
    evl_loop *loop = manual_loop();
    evl_timer *timer = (evl_timer *)untouched;
    int64_t when = 9;
    uint64_t hash = 9;
    int order = 9;
    BAD_TRIPLE(evl_timer_new(NULL, 1, probe_call, &p, probe_free, NULL, &timer), -EINVAL);
    BAD_TRIPLE(evl_timer_new(loop, 1, NULL, &p, probe_free, NULL, &timer), -EINVAL);
    BAD_TRIPLE(evl_timer_new(loop, 1, probe_call, &p, probe_free, NULL, NULL), -EINVAL);
    CHECK(timer == untouched);
    BAD(evl_timer_schedule(NULL), -EINVAL);
    BAD(evl_timer_reschedule(NULL, 1), -EINVAL);
    BAD(evl_timer_cancel(NULL), -EINVAL);
    BAD(evl_timer_when(NULL, &when), -EINVAL);
    BAD(evl_timer_compare(NULL, NULL, &order), -EINVAL);
    BAD(evl_timer_hash(NULL, &hash), -EINVAL);
    CHECK(when == 9 && hash == 9 && order == 9);
    GIVES(evl_timer_cancelled(NULL), 0);
    GIVES(evl_timer_scheduled(NULL), 0);
    GIVES(evl_timer_equal(NULL, NULL), 0);
    GIVES(evl_timer_as_handle(NULL), NULL);
    GIVES(evl_timer_ref(NULL), NULL);
    NO_HARM(evl_timer_unref(NULL));
    CHECK_CODE(evl_timer_new(loop, 1, nothing, NULL, NULL, NULL, &timer), 0);
    BAD(evl_timer_when(timer, NULL), -EINVAL);
    BAD(evl_timer_compare(timer, timer, NULL), -EINVAL);
    BAD(evl_timer_compare(timer, NULL, &order), -EINVAL);
    BAD(evl_timer_hash(timer, NULL), -EINVAL);
    GIVES(evl_timer_equal(timer, NULL), 0);
    evl_timer_unref(timer);
    end_loop(loop);
}

TEST(contexts) {
    evl_context_var *var = NULL;
    evl_context *context = (evl_context *)untouched;
    evl_context_token *token = (evl_context_token *)untouched;
    void *value = untouched;
    size_t size = 9;
    BAD_TRIPLE(evl_context_var_new("x", &p, probe_free, NULL), -EINVAL);
    BAD_TRIPLE(evl_context_var_set(NULL, &p, probe_free, &token), -EINVAL);
    CHECK(token == untouched);
    CHECK_CODE(evl_context_var_new(NULL, NULL, NULL, &var), 0);
    BAD(evl_context_var_name(NULL, NULL, 0), -EINVAL);
    BAD(evl_context_var_name(var, NULL, 1), -EINVAL);
    BAD(evl_context_var_get(NULL, &value), -EINVAL);
    BAD(evl_context_var_get(var, NULL), -EINVAL);
    BAD(evl_context_var_get(var, &value), EVL_ENOVALUE);
    BAD(evl_context_var_reset(NULL, NULL), -EINVAL);
    BAD(evl_context_var_reset(var, NULL), -EINVAL);
    BAD(evl_context_token_old_value(NULL, &value), -EINVAL);
    BAD(evl_context_new(NULL), -EINVAL);
    BAD(evl_context_copy(NULL, &context), -EINVAL);
    BAD(evl_context_copy_current(NULL), -EINVAL);
    CHECK(context == untouched);
    CHECK_CODE(evl_context_new(&context), 0);
    BAD(evl_context_copy(context, NULL), -EINVAL);
    BAD(evl_context_run(NULL, nothing, NULL), -EINVAL);
    BAD(evl_context_run(context, NULL, NULL), -EINVAL);
    BAD(evl_context_enter(NULL), -EINVAL);
    BAD(evl_context_exit(NULL), -EINVAL);
    BAD(evl_context_exit(context), EVL_ENOTENTERED);
    BAD(evl_context_get(NULL, var, &value), -EINVAL);
    BAD(evl_context_get(context, NULL, &value), -EINVAL);
    BAD(evl_context_get(context, var, NULL), -EINVAL);
    BAD(evl_context_size(NULL, &size), -EINVAL);
    BAD(evl_context_size(context, NULL), -EINVAL);
    CHECK(value == untouched && size == 9);
    GIVES(evl_context_var_ref(NULL), NULL);
    GIVES(evl_context_token_get_var(NULL), NULL);
    GIVES(evl_context_token_ref(NULL), NULL);
    GIVES(evl_context_ref(NULL), NULL);
    NO_HARM(evl_context_var_unref(NULL));
    NO_HARM(evl_context_token_unref(NULL));
    NO_HARM(evl_context_unref(NULL));
    CHECK_CODE(evl_context_run(context, nothing, NULL), 0);
    CHECK_CODE(evl_context_enter(context), 0);
    CHECK_CODE(evl_context_var_set(var, NULL, NULL, &token), 0); /* NULL is a value */
    CHECK_CODE(evl_context_var_get(var, &value), 0);
    CHECK(value == NULL);
    BAD(evl_context_var_reset(NULL, token), -EINVAL);
    BAD(evl_context_token_old_value(token, NULL), -EINVAL);
    CHECK_CODE(evl_context_exit(context), 0);
    evl_context_token_unref(token);
    evl_context_unref(context);
    evl_context_var_unref(var);
}

TEST(loops) {
    evl_loop *loop = manual_loop();
    int64_t t = 9;
    int code = 9;
    evl_exception exception;
    evl_metrics metrics;
    memset(&exception, 0, sizeof exception);
    exception.size = sizeof exception;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    BAD(evl_loop_options_init(NULL, 0), -EINVAL);
    BAD(evl_loop_new(NULL, NULL), -EINVAL);
    GIVES(evl_loop_ref(NULL), NULL);
    NO_HARM(evl_loop_unref(NULL));
    BAD(evl_loop_run_forever(NULL), -EINVAL);
    BAD(evl_loop_run_once(NULL, 0), -EINVAL);
    BAD(evl_loop_run_once(loop, -1), -EINVAL);
    BAD(evl_loop_run_once(loop, INT64_MIN), -EINVAL);
    BAD(evl_loop_run_until_idle(NULL), -EINVAL);
    BAD(evl_loop_stop(NULL), -EINVAL);
    BAD(evl_loop_stop_threadsafe(NULL), -EINVAL);
    BAD(evl_loop_close(NULL), -EINVAL);
    GIVES(evl_loop_is_running(NULL), 0);
    GIVES(evl_loop_is_closed(NULL), 0);
    BAD(evl_loop_time(NULL, &t), -EINVAL);
    BAD(evl_loop_time(loop, NULL), -EINVAL);
    BAD(evl_loop_now(NULL, &t), -EINVAL);
    BAD(evl_loop_now(loop, NULL), -EINVAL);
    BAD(evl_loop_clock_resolution(NULL, &t), -EINVAL);
    BAD(evl_loop_clock_resolution(loop, NULL), -EINVAL);
    BAD(evl_loop_advance(NULL, 1), -EINVAL);
    BAD(evl_loop_advance(loop, -1), -EINVAL);
    BAD(evl_loop_exit_code(NULL, &code), -EINVAL);
    BAD(evl_loop_exit_code(loop, NULL), -EINVAL);
    CHECK(t == 9 && code == 9);
    BAD(evl_loop_set_debug(NULL, 1), -EINVAL);
    GIVES(evl_loop_get_debug(NULL), 0);
    BAD(evl_loop_set_slow_callback_duration(NULL, 1), -EINVAL);
    BAD(evl_loop_set_slow_callback_duration(loop, -1), -EINVAL);
    BAD(evl_loop_get_slow_callback_duration(NULL, &t), -EINVAL);
    BAD(evl_loop_get_slow_callback_duration(loop, NULL), -EINVAL);
    BAD(evl_loop_get_exception_handler(NULL, NULL, NULL), -EINVAL);
    BAD(evl_loop_default_exception_handler(NULL, &exception), -EINVAL);
    BAD(evl_loop_default_exception_handler(loop, NULL), -EINVAL);
    BAD(evl_loop_call_exception_handler(NULL, &exception), -EINVAL);
    BAD(evl_loop_call_exception_handler(loop, NULL), -EINVAL);
    BAD(evl_loop_run_shutdown(NULL), -EINVAL);
    BAD(evl_loop_metrics(NULL, &metrics), -EINVAL);
    BAD(evl_loop_metrics(loop, NULL), -EINVAL);
    BAD(evl_loop_prepare(NULL, &t), -EINVAL);
    BAD(evl_loop_next_deadline(NULL, &t), -EINVAL);
    BAD(evl_loop_next_deadline(loop, NULL), -EINVAL);
    BAD(evl_loop_fd(NULL), -EINVAL);
    BAD(evl_loop_walk(NULL, NULL, NULL), -EINVAL);
    BAD(evl_loop_walk(loop, NULL, NULL), -EINVAL);
    GIVES(evl_loop_get_data(NULL), NULL);
    BAD(evl_loop_after_fork(NULL), -EINVAL);
    BAD(evl_loop_remove_reader(NULL, 0), -EINVAL);
    BAD(evl_loop_remove_writer(NULL, 0), -EINVAL);
    BAD(evl_loop_pause_reader(NULL, 0), -EINVAL);
    BAD(evl_loop_resume_reader(NULL, 0), -EINVAL);
    BAD(evl_loop_pause_writer(NULL, 0), -EINVAL);
    BAD(evl_loop_resume_writer(NULL, 0), -EINVAL);
    BAD(evl_loop_remove_signal_handler(NULL, SIGUSR1), -EINVAL);
    end_loop(loop);
}

TEST(callbacks_of_loops) {
    evl_loop *loop = manual_loop();
    evl_handle *h = (evl_handle *)untouched;
    evl_timer *t = (evl_timer *)untouched;
    BAD_TRIPLE(evl_loop_call_soon(NULL, probe_call, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_call_soon(loop, NULL, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_call_soon_threadsafe(NULL, probe_call, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_call_soon_threadsafe(loop, NULL, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_call_later(NULL, 1, probe_call, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_call_later(loop, 1, NULL, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_call_at(NULL, 1, probe_call, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_call_at(loop, 1, NULL, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_call_every(NULL, 1, probe_call, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_call_every(loop, 1, NULL, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_call_every(loop, INT64_MIN, probe_call, &p, probe_free, NULL, &t), -EINVAL);
    BAD_TRIPLE(evl_loop_add_shutdown_hook(NULL, probe_call, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_add_shutdown_hook(loop, NULL, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_set_exception_handler(NULL, NULL, &p, probe_free), -EINVAL);
    BAD_TRIPLE(evl_loop_set_wait_hooks(NULL, probe_call, probe_call, &p, probe_free), -EINVAL);
    BAD_TRIPLE(evl_loop_set_data(NULL, &p, probe_free), -EINVAL);
    BAD_TRIPLE(evl_loop_set_log(NULL, NULL, &p, probe_free), -EINVAL);
    BAD_TRIPLE(evl_loop_add_reader(NULL, 0, probe_call, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_add_reader(loop, 0, NULL, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_add_writer(NULL, 0, probe_call, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_add_writer(loop, 0, NULL, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_add_signal_handler(NULL, SIGUSR1, probe_call, &p, probe_free, NULL, &h), -EINVAL);
    BAD_TRIPLE(evl_loop_add_signal_handler(loop, SIGUSR1, NULL, &p, probe_free, NULL, &h), -EINVAL);
    CHECK(h == untouched && t == untouched);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    end_loop(loop);
}

static int lazy_factory(void *arg, evl_loop **out) {
    (void)out; /* says 0 and makes nothing */
    return *(int *)arg;
}

TEST(policies) {
    evl_policy *policy = (evl_policy *)untouched;
    evl_loop *loop = (evl_loop *)untouched;
    evl_policy_vtable table = {sizeof table, 0, NULL, NULL, NULL, NULL, NULL};
    int answer = 0;
    BAD_TRIPLE(evl_policy_new_default(NULL, &p, probe_free, NULL), -EINVAL);
    BAD_TRIPLE(evl_policy_new(NULL, &p, probe_free, &policy), -EINVAL);
    BAD_TRIPLE(evl_policy_new(&table, &p, probe_free, NULL), -EINVAL);
    CHECK(policy == untouched);
    BAD(evl_policy_get_loop(NULL, &loop), -EINVAL);
    BAD(evl_policy_set_loop(NULL, NULL), -EINVAL);
    BAD(evl_policy_new_loop(NULL, &loop), -EINVAL);
    BAD_TRIPLE(evl_policy_set_data(NULL, &p, probe_free), -EINVAL);
    GIVES(evl_policy_get_data(NULL), NULL);
    GIVES(evl_policy_ref(NULL), NULL);
    NO_HARM(evl_policy_unref(NULL));
    BAD(evl_get_policy(NULL), -EINVAL);
    BAD(evl_get_running_loop(NULL), -EINVAL);
    BAD(evl_get_running_loop(&loop), EVL_ENOLOOP);
    BAD(evl_set_running_loop(NULL), 0);
    BAD(evl_get_loop(NULL), -EINVAL);
    BAD(evl_new_loop(NULL), -EINVAL);
    CHECK_CODE(evl_policy_new_default(lazy_factory, &answer, NULL, &policy), 0);
    BAD(evl_policy_get_loop(policy, NULL), -EINVAL);
    BAD(evl_policy_new_loop(policy, NULL), -EINVAL);
    CHECK(evl_policy_new_loop(policy, &loop) < 0); /* a factory that made none is a failure */
    CHECK(evl_policy_get_loop(policy, &loop) < 0);
    CHECK(loop == untouched);
    evl_policy_unref(policy);
    BAD(evl_set_loop(NULL), 0);
    BAD(evl_set_policy(NULL), 0);
}

TEST(every_function_of_the_list_was_tried) {
    int i;
    for (i = 0; i < FUNCTION_COUNT; i++) {
        CHECK(functions[i].function != NULL);
        if (!named[i])
            harness_fail(__FILE__, __LINE__, functions[i].name, "is tried by no test of this file");
    }
}

TEST_MAIN()
