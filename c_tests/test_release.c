/* arg_free, data_free, value_free and their like: once, in every path, and free to use evl themselves. */
#include "harness.h"

struct chain {
    evl_loop *loop;
    evl_handle *handle;
    int frees, left;
};

static void replace_data(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    if (c->left-- > 0)
        CHECK_CODE(evl_loop_set_data(c->loop, c, replace_data), 0);
}

TEST(data_free_sets_data) {
    struct chain c = {NULL, NULL, 0, 3};
    c.loop = manual_loop();
    CHECK_CODE(evl_loop_set_data(c.loop, &c, replace_data), 0);
    CHECK_CODE(evl_loop_set_data(c.loop, NULL, NULL), 0);
    c.left = 0;
    end_loop(c.loop);
    CHECK(c.frees >= 1 && c.frees <= 5);
}

static void on_exception(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    (void)event_loop;
    (void)exception;
    (void)arg;
}

static void set_handler_again(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    if (c->left-- > 0)
        CHECK_CODE(evl_loop_set_exception_handler(c->loop, on_exception, c, set_handler_again), 0);
}

TEST(handlers_arg_free_sets_a_handler) {
    struct chain c = {NULL, NULL, 0, 2};
    int set;
    c.loop = manual_loop();
    CHECK_CODE(evl_loop_set_exception_handler(c.loop, on_exception, &c, set_handler_again), 0);
    CHECK_CODE(evl_loop_set_exception_handler(c.loop, on_exception, NULL, NULL), 0);
    CHECK(c.frees >= 1);
    c.left = 0;
    end_loop(c.loop);
    set = 1 + 2; /* the first, and what the frees set while some were left */
    CHECK(c.frees >= 1 && c.frees <= set);
}

static void cancel_other(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    if (c->handle) {
        CHECK_CODE(evl_handle_cancel(c->handle), 0);
        evl_handle_unref(c->handle);
        c->handle = NULL;
    }
}

TEST(arg_free_cancels_the_next_and_the_next) {
    enum { COUNT = 100 };
    static struct chain chain[COUNT];
    evl_loop *loop = manual_loop();
    evl_handle *handle = NULL;
    int i;
    memset(chain, 0, sizeof chain);
    for (i = COUNT - 1; i >= 0; i--) {
        chain[i].handle = handle; /* of the one behind it */
        CHECK_CODE(evl_loop_call_soon(loop, nothing, &chain[i], cancel_other, NULL, &handle), 0);
    }
    CHECK_CODE(evl_handle_cancel(handle), 0);
    evl_handle_unref(handle);
    for (i = 0; i < COUNT; i++)
        CHECK_INT(chain[i].frees, 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    end_loop(loop);
}

static void schedule_more(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    if (c->left-- > 0)
        CHECK_CODE(evl_loop_call_soon(c->loop, trace_call, (void *)"x", NULL, NULL, NULL), 0);
}

TEST(arg_free_after_a_call_schedules) {
    struct chain c = {NULL, NULL, 0, 1};
    c.loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(c.loop, nothing, &c, schedule_more, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(c.loop, 0), 1);
    CHECK_INT(c.frees, 1);
    CHECK_CODE(evl_loop_run_once(c.loop, 0), 1);
    CHECK_TRACE("x");
    end_loop(c.loop);
}

static evl_context_var *var;

static void value_sets_again(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    if (c->left-- > 0)
        CHECK_CODE(evl_context_var_set(var, c, value_sets_again, NULL), 0);
}

static void set_values(void *arg) {
    struct chain *c = (struct chain *)arg;
    CHECK_CODE(evl_context_var_set(var, c, value_sets_again, NULL), 0);
    CHECK_CODE(evl_context_var_set(var, NULL, NULL, NULL), 0); /* releases the first */
    CHECK(c->frees >= 1);
    c->left = 0;
}

TEST(value_free_sets_the_variable) {
    struct chain c = {NULL, NULL, 0, 1};
    evl_context *context = NULL;
    CHECK_CODE(evl_context_var_new("v", NULL, NULL, &var), 0);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_run(context, set_values, &c), 0);
    evl_context_unref(context);
    evl_context_var_unref(var);
    CHECK_INT(c.frees, 2);
}

static void drop_reference(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    evl_loop_unref(c->loop);
}

TEST(arg_owns_a_reference_to_its_loop) {
    /* a cycle that close breaks, and that a run breaks */
    struct chain closed = {NULL, NULL, 0, 0}, ran = {NULL, NULL, 0, 0}, cancelled = {NULL, NULL, 0, 0};
    evl_loop *loop = manual_loop();
    closed.loop = evl_loop_ref(loop);
    CHECK_CODE(evl_loop_call_later(loop, 5, nothing, &closed, drop_reference, NULL, NULL), 0);
    end_loop(loop);
    CHECK_INT(closed.frees, 1);

    loop = manual_loop();
    ran.loop = evl_loop_ref(loop);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, &ran, drop_reference, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
    evl_loop_unref(loop);
    CHECK_CODE(evl_loop_run_forever(ran.loop), 0); /* the last reference goes while it runs */
    CHECK_INT(ran.frees, 1);

    loop = manual_loop();
    cancelled.loop = loop;
    CHECK_CODE(evl_loop_call_soon(loop, nothing, &cancelled, drop_reference, NULL, &cancelled.handle), 0);
    CHECK_CODE(evl_handle_cancel(cancelled.handle), 0); /* the last reference goes inside of the cancel */
    CHECK_INT(cancelled.frees, 1);
    CHECK_INT(evl_loop_is_closed(evl_handle_get_loop(cancelled.handle)), 1);
    evl_handle_unref(cancelled.handle);
}

static void own_handle(void *arg) {
    struct chain *c = (struct chain *)arg;
    c->frees++;
    evl_handle_unref(c->handle);
}

TEST(arg_owns_a_reference_to_its_handle) {
    struct chain c = {NULL, NULL, 0, 0}, d = {NULL, NULL, 0, 0};
    evl_loop *loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, nothing, &c, own_handle, NULL, &c.handle), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(c.frees, 1);
    CHECK_CODE(evl_loop_call_soon(loop, nothing, &d, own_handle, NULL, &d.handle), 0);
    CHECK_CODE(evl_handle_cancel(d.handle), 0);
    CHECK_INT(d.frees, 1);
    end_loop(loop);
}

struct policy_user {
    evl_policy *policy;
    int calls, frees, frees_inside;
};

static int drop_policy_and_fail(void *arg, evl_loop **out) {
    struct policy_user *u = (struct policy_user *)arg;
    evl_policy *current = NULL;
    (void)out;
    u->calls++;
    CHECK_CODE(evl_get_policy(&current), 0); /* no lock is held */
    CHECK(current == u->policy);
    evl_policy_unref(current);
    CHECK_CODE(evl_set_policy(NULL), 0); /* the last reference but the call's own */
    u->frees_inside = u->frees;
    return -EAGAIN;
}

static void policy_user_free(void *arg) {
    ((struct policy_user *)arg)->frees++;
}

TEST(a_policy_is_replaced_by_its_own_function) {
    evl_policy_vtable table = {sizeof table, 0, drop_policy_and_fail, NULL, NULL, NULL, NULL};
    struct policy_user u = {NULL, 0, 0, 0};
    evl_loop *loop = NULL;
    CHECK_CODE(evl_policy_new(&table, &u, policy_user_free, &u.policy), 0);
    CHECK_CODE(evl_set_policy(u.policy), 0);
    evl_policy_unref(u.policy);
    CHECK_CODE(evl_get_loop(&loop), -EAGAIN);
    CHECK_INT(u.calls, 1);
    CHECK_INT(u.frees_inside, 0);
    CHECK_INT(u.frees, 1);
    CHECK(loop == NULL);
    CHECK_CODE(evl_set_policy(NULL), 0);
}

static void replace_policy_data(void *arg) {
    struct policy_user *u = (struct policy_user *)arg;
    u->frees++;
    if (u->calls-- > 0)
        CHECK_CODE(evl_policy_set_data(u->policy, u, replace_policy_data), 0);
}

TEST(policy_data_free_sets_data) {
    struct policy_user u = {NULL, 1, 0, 0};
    CHECK_CODE(evl_policy_new_default(NULL, NULL, NULL, &u.policy), 0);
    CHECK_CODE(evl_policy_set_data(u.policy, &u, replace_policy_data), 0);
    CHECK_CODE(evl_policy_set_data(u.policy, NULL, NULL), 0);
    u.calls = 0;
    evl_policy_unref(u.policy);
    CHECK(u.frees >= 1 && u.frees <= 2);
}

TEST(a_long_list_of_pending_callbacks_is_released_at_close) {
    enum { COUNT = 20000 };
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    int i;
    for (i = 0; i < COUNT; i++) {
        CHECK_CODE(evl_loop_call_soon(loop, probe_call, &p, probe_free, NULL, NULL), 0);
        CHECK_CODE(evl_loop_call_later(loop, i % 7, probe_call, &p, probe_free, NULL, NULL), 0);
    }
    end_loop(loop);
    CHECK_PROBE(p, 0, 2 * COUNT);
}

TEST_MAIN()
