/* Every scheduling call captures the current context, or takes the one it is given; and the hooks of a host language. */
#include "harness.h"

static evl_context_var *var;

static void *number(intptr_t n) {
    return (void *)n;
}

static intptr_t get(void) {
    void *value = NULL;
    return evl_context_var_get(var, &value) == 0 ? (intptr_t)value : 0;
}

static void set(intptr_t n) {
    CHECK_CODE(evl_context_var_set(var, number(n), NULL, NULL), 0);
}

static void trace_value(void *arg) {
    char word[64];
    snprintf(word, sizeof word, "%s=%d", (const char *)arg, (int)get());
    trace(word);
}

/* Runs the body in a context of its own, with var made. */
static void in_context(evl_callback body) {
    evl_context *context = NULL;
    evl_loop *loop = manual_loop();
    var = NULL;
    CHECK_CODE(evl_context_var_new("v", NULL, NULL, &var), 0);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_run(context, body, loop), 0);
    evl_context_unref(context);
    end_loop(loop);
    evl_context_var_unref(var);
}

static void schedule_all_ways(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    evl_handle *handle = NULL;
    evl_timer *timer = NULL;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK(write(fds[1], "x", 1) == 1);
    set(1);
    CHECK_CODE(evl_loop_call_soon(loop, trace_value, (void *)"soon", NULL, NULL, NULL), 0);
    set(2);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, trace_value, (void *)"posted", NULL, NULL, NULL), 0);
    set(3);
    CHECK_CODE(evl_loop_call_later(loop, 5, trace_value, (void *)"later", NULL, NULL, NULL), 0);
    set(4);
    CHECK_CODE(evl_loop_call_at(loop, 6, trace_value, (void *)"at", NULL, NULL, NULL), 0);
    set(5);
    CHECK_CODE(evl_loop_call_every(loop, 7, trace_value, (void *)"every", NULL, NULL, NULL), 0);
    set(6);
    CHECK_CODE(evl_handle_new(loop, trace_value, (void *)"handle", NULL, NULL, &handle), 0);
    set(7);
    CHECK_CODE(evl_timer_new(loop, 8, trace_value, (void *)"timer", NULL, NULL, &timer), 0);
    set(8);
    CHECK_CODE(evl_loop_add_shutdown_hook(loop, trace_value, (void *)"hook", NULL, NULL, NULL), 0);
    set(9);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], trace_value, (void *)"reader", NULL, NULL, NULL), 0);
    set(10);
    CHECK_CODE(evl_loop_add_writer(loop, fds[1], trace_value, (void *)"writer", NULL, NULL, NULL), 0);
    set(11);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, trace_value, (void *)"signal", NULL, NULL, NULL), 0);
    set(99);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_timer_schedule(timer), 0);

    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_pause_writer(loop, fds[1]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 3);
    CHECK(strstr(harness_trace, "soon=1") != NULL);
    CHECK(strstr(harness_trace, "posted=2") != NULL);
    CHECK(strstr(harness_trace, "handle=6") != NULL);
    trace_reset();
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("reader=9");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("reader=9");
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_resume_writer(loop, fds[1]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("writer=10");
    CHECK_CODE(evl_loop_remove_writer(loop, fds[1]), 1);
    CHECK_CODE(evl_loop_advance(loop, 8), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 4);
    CHECK_TRACE("later=3 at=4 every=5 timer=7");
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("signal=11");
    CHECK_CODE(evl_loop_run_shutdown(loop), 1);
    CHECK_TRACE("hook=8");
    CHECK_INT(get(), 99);
    evl_handle_unref(handle);
    evl_timer_unref(timer);
    close(fds[0]);
    close(fds[1]);
}

TEST(every_scheduling_call_captures) {
    in_context(schedule_all_ways);
}

static void set_and_schedule(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    trace_value((void *)"outer");
    set(20);
    CHECK_CODE(evl_loop_call_soon(loop, trace_value, (void *)"inner", NULL, NULL, NULL), 0);
    set(30);
}

static void nested(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    set(10);
    CHECK_CODE(evl_loop_call_soon(loop, set_and_schedule, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_value, (void *)"sibling", NULL, NULL, NULL), 0);
    set(11);
    CHECK_CODE(evl_loop_run_until_idle(loop), 3);
    CHECK_TRACE("outer=10 sibling=10 inner=20");
    CHECK_INT(get(), 11); /* what callbacks set stays with them */
}

TEST(callbacks_pass_their_context_on_and_keep_their_changes) {
    in_context(nested);
}

static void count_up(void *arg) {
    trace_value(arg);
    set(get() + 1);
}

static void repeated(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    evl_handle *handle = NULL;
    set(1);
    CHECK_CODE(evl_handle_new(loop, count_up, (void *)"n", NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_handle_run(handle), 0);
    CHECK_CODE(evl_handle_schedule(handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("n=1 n=2 n=3");
    CHECK_INT(get(), 1);
    evl_handle_unref(handle);
}

TEST(a_handle_that_runs_again_has_the_same_context) {
    in_context(repeated);
}

static void explicit_context(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    evl_context *context = NULL;
    evl_handle *handle = NULL, *plain = NULL;
    evl_timer *timer = NULL;
    void *value = NULL;
    set(1);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_loop_call_soon(loop, count_up, (void *)"a", NULL, context, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, count_up, (void *)"b", NULL, context, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 0, count_up, (void *)"c", NULL, context, &timer), 0);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, count_up, (void *)"d", NULL, context, &handle), 0);
    CHECK(evl_handle_get_context(handle) == context);
    CHECK(evl_handle_get_context(evl_timer_as_handle(timer)) == context);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &plain), 0);
    CHECK(evl_handle_get_context(plain) != NULL);
    CHECK(evl_handle_get_context(plain) == evl_handle_get_context(plain));
    CHECK_CODE(evl_context_get(evl_handle_get_context(plain), var, &value), 0);
    CHECK(value == number(1));
    CHECK(evl_handle_get_context(NULL) == NULL);
    CHECK_CODE(evl_loop_run_until_idle(loop), 5);
    CHECK(strstr(harness_trace, "a=0 b=1") != NULL);
    trace_reset();
    CHECK_CODE(evl_context_get(context, var, &value), 0);
    CHECK(value == number(4));
    CHECK_INT(get(), 1);
    evl_handle_unref(handle);
    evl_handle_unref(plain);
    evl_timer_unref(timer);
    evl_context_unref(context);
}

TEST(an_explicit_context_is_shared) {
    in_context(explicit_context);
}

static void enter_and_forget(void *arg) {
    evl_context *a = NULL, *b = NULL;
    (void)arg;
    CHECK_CODE(evl_context_new(&a), 0);
    CHECK_CODE(evl_context_new(&b), 0);
    CHECK_CODE(evl_context_enter(a), 0);
    CHECK_CODE(evl_context_enter(b), 0);
    set(77);
    evl_context_unref(a);
    evl_context_unref(b);
}

static void forgotten(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    set(1);
    CHECK_CODE(evl_loop_call_soon(loop, enter_and_forget, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_value, (void *)"after", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("after=1");
    CHECK_INT(get(), 1);
}

TEST(evl_leaves_what_a_callback_entered_and_did_not_exit) {
    in_context(forgotten);
}

struct hooks {
    int captures, enters, leaves, releases, inside;
    int last;
};

static void *hook_capture(void *data) {
    struct hooks *h = (struct hooks *)data;
    return number(__atomic_add_fetch(&h->captures, 1, __ATOMIC_SEQ_CST));
}

static void hook_enter(void *data, void *captured) {
    struct hooks *h = (struct hooks *)data;
    h->enters++;
    h->inside++;
    h->last = (int)(intptr_t)captured;
    trace("{");
}

static void hook_leave(void *data, void *captured) {
    struct hooks *h = (struct hooks *)data;
    CHECK_INT(h->last, (intptr_t)captured);
    h->leaves++;
    h->inside--;
    trace("}");
}

static void hook_release(void *data, void *captured) {
    struct hooks *h = (struct hooks *)data;
    CHECK((intptr_t)captured >= 1 && (intptr_t)captured <= h->captures);
    __atomic_add_fetch(&h->releases, 1, __ATOMIC_SEQ_CST);
}

static evl_loop *hooked_loop(struct hooks *h, evl_context_hooks *table) {
    evl_loop_options options;
    evl_loop *loop = NULL;
    memset(h, 0, sizeof *h);
    CHECK_CODE(evl_loop_options_init(&options, sizeof options), 0);
    options.flags = EVL_LOOP_MANUAL_CLOCK;
    options.context_hooks = table;
    options.context_hooks_data = h;
    CHECK_CODE(evl_loop_new(&options, &loop), 0);
    memset(table, 0xff, sizeof *table); /* it was copied */
    return loop;
}

static void *post(void *arg) {
    CHECK_CODE(evl_loop_call_soon_threadsafe((evl_loop *)arg, trace_call, (void *)"post", NULL, NULL, NULL), 0);
    return NULL;
}

static void fail(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, "x"), 0);
}

static void ignore(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    (void)event_loop;
    (void)exception;
    (void)arg;
}

TEST(hooks_go_round_every_call) {
    struct hooks h;
    evl_context_hooks table = {sizeof table, 0, hook_capture, hook_enter, hook_leave, hook_release};
    evl_loop *loop = hooked_loop(&h, &table);
    evl_timer *every = NULL;
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_set_exception_handler(loop, ignore, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"a", NULL, NULL, NULL), 0);
    CHECK_INT(h.captures, 1);
    CHECK_CODE(evl_loop_call_soon(loop, fail, NULL, NULL, NULL, NULL), 0);
    CHECK_INT(h.captures, 2);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("{ a } { }");
    CHECK_INT(h.releases, 2);
    CHECK_INT(h.last, 2);
    in_thread(post, loop);
    CHECK_INT(h.captures, 3);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("{ post }");
    CHECK_CODE(evl_loop_call_every(loop, 5, trace_call, (void *)"t", NULL, NULL, &every), 0);
    CHECK_INT(h.captures, 4);
    CHECK_CODE(evl_loop_advance(loop, 5), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(h.last, 4);
    CHECK_CODE(evl_loop_advance(loop, 5), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(h.last, 4);
    CHECK_TRACE("{ t } { t }");
    CHECK_CODE(evl_timer_cancel(every), 0);
    CHECK_INT(h.enters, 5);
    CHECK_INT(h.leaves, 5);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"never", NULL, NULL, &handle), 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_CODE(evl_loop_call_later(loop, 5, trace_call, (void *)"never", NULL, NULL, NULL), 0);
    CHECK(evl_loop_call_soon(loop, NULL, NULL, NULL, NULL, NULL) == -EINVAL);
    evl_handle_unref(handle);
    evl_timer_unref(every);
    end_loop(loop);
    CHECK(h.captures >= 6);
    CHECK_INT(h.releases, h.captures);
    CHECK_INT(h.inside, 0);
    CHECK_INT(h.enters, 5);
}

TEST(hooks_may_be_capture_alone) {
    struct hooks h;
    evl_context_hooks table = {sizeof table, 0, hook_capture, NULL, NULL, NULL};
    evl_loop *loop = hooked_loop(&h, &table);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"a", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, 1, trace_call, (void *)"b", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("a");
    CHECK_INT(h.captures, 2);
    end_loop(loop);
}

TEST_MAIN()
