/* What an exception handler or an arg_free does to the current context ends with it. */
#include "harness.h"

static evl_context_var *var;
static evl_context *entered;

static void begin(void) {
    CHECK_CODE(evl_context_var_new("var", NULL, NULL, &var), 0);
    CHECK_CODE(evl_context_new(&entered), 0);
}

static void finish(evl_loop *loop) {
    end_loop(loop);
    evl_context_unref(entered);
    evl_context_var_unref(var);
}

static void check_no_value(void *arg) {
    void *value = NULL;
    CHECK_CODE(evl_context_var_get(var, &value), EVL_ENOVALUE);
    probe_call(arg);
}

/* Nobody is in the context: it can be entered. */
static void check_left(void) {
    CHECK_CODE(evl_context_exit(entered), EVL_ENOTENTERED);
    CHECK_CODE(evl_context_run(entered, nothing, NULL), 0);
}

static void set_value(void *arg) {
    CHECK_CODE(evl_context_var_set(var, arg, probe_free, NULL), 0);
}

static void enter(void *arg) {
    (void)arg;
    CHECK_CODE(evl_context_enter(entered), 0);
}

static void set_in_handler(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)exception;
    set_value(arg);
}

static void enter_in_handler(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)exception;
    enter(arg);
}

static void report(void *arg) {
    evl_exception exception;
    memset(&exception, 0, sizeof exception);
    exception.size = sizeof exception;
    exception.code = -EIO;
    CHECK_CODE(evl_loop_call_exception_handler((evl_loop *)arg, &exception), 0);
}

static void fail(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise(-EIO, "x"), 0);
}

/* A thread of its own, which ends: what is current there outside of callbacks ends, too. */
struct setter {
    evl_callback reason; /* has value set outside of a callback's context */
    evl_free_fn arg_free;
    struct probe value, seen;
};

static void *set_outside(void *arg) {
    struct setter *s = (struct setter *)arg;
    evl_loop *loop = manual_loop();
    begin();
    CHECK_CODE(evl_loop_set_exception_handler(loop, set_in_handler, &s->value, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, s->reason, s->arg_free ? (void *)&s->value : loop, s->arg_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, check_no_value, &s->seen, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_INT(s->seen.calls, 1);
    finish(loop);
    return NULL;
}

static void check_set_outside(evl_callback reason, evl_free_fn arg_free) {
    struct setter s;
    memset(&s, 0, sizeof s);
    s.reason = reason;
    s.arg_free = arg_free;
    in_thread(set_outside, &s);
    CHECK_INT(s.value.frees, 1);
}

TEST(a_value_that_a_handler_sets_is_not_seen_by_the_next_callback) {
    check_set_outside(fail, NULL);
}

TEST(a_value_that_a_handler_sets_is_not_seen_after_call_exception_handler) {
    check_set_outside(report, NULL);
}

TEST(a_value_that_an_arg_free_sets_is_not_seen_by_the_next_callback) {
    check_set_outside(nothing, set_value);
}

TEST(a_context_that_a_handler_entered_is_left) {
    evl_loop *loop = manual_loop();
    begin();
    CHECK_CODE(evl_loop_set_exception_handler(loop, enter_in_handler, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, fail, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    check_left();
    CHECK_CODE(evl_loop_call_soon(loop, report, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    check_left();
    finish(loop);
}

TEST(a_context_that_an_arg_free_entered_is_left) {
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    begin();
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, enter, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    check_left();
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, enter, NULL, &handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    check_left();
    evl_handle_unref(handle);
    CHECK_CODE(evl_loop_call_later(loop, 0, nothing, NULL, enter, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    check_left();
    finish(loop);
}

struct asker {
    evl_handle *handle;
    int calls;
};

static void ask_while_another_is_current(void *arg) {
    struct asker *a = (struct asker *)arg;
    evl_context *own;
    a->calls++;
    CHECK_CODE(evl_context_enter(entered), 0);
    own = evl_handle_get_context(a->handle);
    CHECK(own != NULL && own != entered);
    CHECK_CODE(evl_context_exit(entered), 0);
    CHECK_CODE(evl_context_run(own, nothing, NULL), EVL_EENTERED); /* it is the current one */
    CHECK(evl_handle_get_context(a->handle) == own);
}

TEST(the_context_of_a_running_handle_is_entered_whoever_asks) {
    evl_loop *loop = manual_loop();
    struct asker a = {NULL, 0};
    begin();
    CHECK_CODE(evl_loop_call_soon(loop, ask_while_another_is_current, &a, NULL, NULL, &a.handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(a.calls, 1);
    CHECK_CODE(evl_context_run(evl_handle_get_context(a.handle), nothing, NULL), 0); /* left */
    evl_handle_unref(a.handle);
    finish(loop);
}

TEST_MAIN()
