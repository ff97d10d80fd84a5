/* Callbacks of futures: when they are called, in which order and context, and how they are removed. */
#include "harness.h"

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

/* A callback that traces its name. */
struct note {
    const char *name;
    evl_future *expected;
    int frees;
};

static void call_note(evl_future *future, void *arg) {
    struct note *note = (struct note *)arg;
    CHECK(future == note->expected);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(note->frees, 0);
    trace(note->name);
}

static void call_note_too(evl_future *future, void *arg) {
    call_note(future, arg);
}

static void free_note(void *arg) {
    ((struct note *)arg)->frees++;
}

static void add(evl_future *future, struct note *note) {
    note->expected = future;
    CHECK_CODE(evl_future_add_done_callback(future, call_note, note, free_note, NULL), 0);
}

TEST(they_are_called_in_the_next_iteration_in_their_order) {
    int how;
    for (how = 0; how < 3; how++) {
        evl_loop *loop = manual_loop();
        evl_future *future = new_future(loop);
        struct note a = {"a", NULL, 0}, b = {"b", NULL, 0}, c = {"c", NULL, 0};
        struct probe before = probe_named("before", loop), after = probe_named("after", loop);
        add(future, &a);
        add(future, &b);
        add(future, &c);
        CHECK_CODE(evl_loop_run_once(loop, 0), 0);
        CHECK_CODE(evl_loop_call_soon(loop, probe_call, &before, NULL, NULL, NULL), 0);
        if (how == 0)
            CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
        if (how == 1)
            CHECK_CODE(evl_future_set_error(future, -EIO, NULL), 0);
        if (how == 2)
            CHECK_INT(evl_future_cancel(future, NULL), 1);
        CHECK_CODE(evl_loop_call_soon(loop, probe_call, &after, NULL, NULL, NULL), 0);
        CHECK_TRACE("");
        CHECK_CODE(evl_loop_run_once(loop, 0), 5);
        CHECK_TRACE("before a b c after");
        CHECK_INT(a.frees + b.frees + c.frees, 3);
        CHECK_CODE(evl_loop_run_once(loop, 0), 0);
        evl_future_error(future, &(int){0});
        evl_future_unref(future);
        end_loop(loop);
    }
}

TEST(added_to_a_future_that_is_done) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0}, b = {"b", NULL, 0}, c = {"c", NULL, 0}, d = {"d", NULL, 0};
    add(future, &a);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    add(future, &b);
    add(future, &c);
    CHECK_TRACE("");
    CHECK_CODE(evl_loop_run_once(loop, 0), 3);
    CHECK_TRACE("a b c");
    add(future, &d);
    add(future, &a);
    a.frees = 0;
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("d a");
    evl_future_unref(future);
    end_loop(loop);
    CHECK_INT(a.frees + b.frees + c.frees + d.frees, 4);
}

TEST(removed) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0}, b = {"b", NULL, 0}, c = {"c", NULL, 0};
    int which;
    CHECK_INT(evl_future_remove_done_callback(future, call_note, &a), 0);
    for (which = 0; which < 3; which++) {
        struct note *gone = which == 0 ? &a : which == 1 ? &b : &c;
        a.frees = b.frees = c.frees = 0;
        add(future, &a);
        add(future, &b);
        add(future, &c);
        CHECK_INT(evl_future_remove_done_callback(future, call_note, gone), 1);
        CHECK_INT(evl_future_remove_done_callback(future, call_note, gone), 0);
        CHECK_INT(gone->frees, 1);
        CHECK_INT(a.frees + b.frees + c.frees, 1);
        CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
        CHECK_CODE(evl_loop_run_until_idle(loop), 2);
        CHECK_TRACE(which == 0 ? "b c" : which == 1 ? "a c" : "a b");
        CHECK_INT(a.frees + b.frees + c.frees, 3);
        evl_future_unref(future);
        future = new_future(loop);
    }
    evl_future_unref(future);
    end_loop(loop);
}

TEST(every_one_of_the_same_is_removed) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0}, b = {"b", NULL, 0};
    add(future, &a);
    add(future, &b);
    add(future, &a);
    add(future, &a);
    CHECK_CODE(evl_future_add_done_callback(future, call_note_too, &a, free_note, NULL), 0);
    CHECK_INT(evl_future_remove_done_callback(future, call_note, &a), 3);
    CHECK_INT(a.frees, 3);
    a.frees = 0;
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("b a");
    evl_future_unref(future);
    end_loop(loop);
    CHECK_INT(a.frees + b.frees, 2);
}

TEST(scheduled_ones_are_not_removed) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0}, b = {"b", NULL, 0};
    add(future, &a);
    add(future, &b);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK_INT(evl_future_remove_done_callback(future, call_note, &a), 0);
    CHECK_INT(evl_future_remove_done_callback(future, call_note, &b), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("a b");
    evl_future_unref(future);
    end_loop(loop);
}

/* --- what a callback may do */

static void add_more(evl_future *future, void *arg) {
    trace("first");
    add(future, (struct note *)arg);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), EVL_EINVALIDSTATE);
    CHECK_INT(evl_future_cancel(future, NULL), 0);
    CHECK_INT(evl_future_remove_done_callback(future, add_more, arg), 0);
}

TEST(a_callback_adds_another) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0}, b = {"b", NULL, 0};
    CHECK_CODE(evl_future_add_done_callback(future, add_more, &b, NULL, NULL), 0);
    add(future, &a);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("first a");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("b");
    evl_future_unref(future);
    end_loop(loop);
    CHECK_INT(a.frees + b.frees, 2);
}

struct again {
    int left, frees;
};

static void call_again(evl_future *future, void *arg);

static void free_again(void *arg) {
    ((struct again *)arg)->frees++;
}

static void call_again(evl_future *future, void *arg) {
    struct again *again = (struct again *)arg;
    if (again->left-- > 0)
        CHECK_CODE(evl_future_add_done_callback(future, call_again, again, free_again, NULL), 0);
}

TEST(a_callback_adds_itself) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct again again = {100, 0};
    CHECK_CODE(evl_future_add_done_callback(future, call_again, &again, free_again, NULL), 0);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_run_until_idle(loop), 101);
    CHECK_INT(again.frees, 101);
    end_loop(loop);
}

static void unref_it(evl_future *future, void *arg) {
    *(int *)arg = 1;
    evl_future_unref(future);
    CHECK_INT(evl_future_done(future), 1); /* the call keeps it */
}

TEST(a_callback_gives_the_last_reference_back) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop);
    int called = 0;
    CHECK_CODE(evl_future_add_done_callback(future, unref_it, &called, NULL, NULL), 0);
    CHECK_CODE(evl_future_set_result(future, &p, probe_free), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(called, 1);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
}

static void fail_it(evl_future *future, void *arg) {
    (void)future;
    trace("fails");
    CHECK_CODE(evl_raise(-EPERM, (const char *)arg), 0);
}

static void note_failure(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    trace(evl_errname(exception->code));
    trace(exception->message);
    CHECK(exception->future == NULL);
}

TEST(a_callback_that_fails) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0};
    CHECK_CODE(evl_loop_set_exception_handler(loop, note_failure, NULL, NULL), 0);
    CHECK_CODE(evl_future_add_done_callback(future, fail_it, (void *)"why", NULL, NULL), 0);
    add(future, &a);
    CHECK_CODE(evl_future_add_done_callback(future, fail_it, (void *)"too", NULL, NULL), 0);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 3);
    CHECK_TRACE("fails EPERM why a fails EPERM too");
    evl_future_unref(future);
    end_loop(loop);
}

static void exit_it(evl_future *future, void *arg) {
    (void)future;
    (void)arg;
    CHECK_CODE(evl_raise_exit(3), 0);
}

TEST(a_callback_that_exits) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct note a = {"a", NULL, 0};
    int exit_code = 0;
    CHECK_CODE(evl_future_add_done_callback(future, exit_it, NULL, NULL, NULL), 0);
    add(future, &a);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &exit_code), 0);
    CHECK_INT(exit_code, 3);
    CHECK_TRACE("");
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("a");
    evl_future_unref(future);
    end_loop(loop);
}

/* One settles the next: each is called an iteration later. */
static void settle_next(evl_future *future, void *arg) {
    CHECK_CODE(evl_future_result(future, NULL), 0);
    CHECK_CODE(evl_future_set_result((evl_future *)arg, NULL, NULL), 0);
}

TEST(a_chain) {
    enum { LENGTH = 50 };
    evl_loop *loop = manual_loop();
    evl_future *futures[LENGTH];
    int i;
    for (i = 0; i < LENGTH; i++)
        futures[i] = new_future(loop);
    for (i = 0; i + 1 < LENGTH; i++)
        CHECK_CODE(evl_future_add_done_callback(futures[i], settle_next, futures[i + 1], NULL, NULL), 0);
    CHECK_CODE(evl_future_set_result(futures[0], NULL, NULL), 0);
    for (i = 0; i + 1 < LENGTH; i++) {
        CHECK_INT(evl_future_done(futures[i + 1]), 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_INT(evl_future_done(futures[i + 1]), 1);
    }
    for (i = 0; i < LENGTH; i++)
        evl_future_unref(futures[i]);
    end_loop(loop);
}

/* --- contexts */

static evl_context_var *variable;

static void note_value(evl_future *future, void *arg) {
    void *value = NULL;
    (void)future;
    (void)arg;
    CHECK(evl_context_var_get(variable, &value) == 0);
    trace((const char *)value);
}

static void set_value(evl_future *future, void *arg) {
    note_value(future, NULL);
    CHECK_CODE(evl_context_var_set(variable, arg, NULL, NULL), 0);
}

TEST(contexts) {
    int debug;
    for (debug = 0; debug < 2; debug++) {
        evl_loop *loop = loop_with_flags(EVL_LOOP_MANUAL_CLOCK | (debug ? EVL_LOOP_DEBUG : 0));
        evl_future *future = new_future(loop);
        evl_context *inside = NULL, *other = NULL;
        CHECK_CODE(evl_context_var_new("v", (void *)"default", NULL, &variable), 0);
        CHECK_CODE(evl_context_new(&inside), 0);
        CHECK_CODE(evl_context_new(&other), 0);
        CHECK_CODE(evl_context_enter(inside), 0);
        CHECK_CODE(evl_context_var_set(variable, (void *)"inside", NULL, NULL), 0);
        CHECK_CODE(evl_future_add_done_callback(future, note_value, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_future_add_done_callback(future, set_value, (void *)"changed", NULL, other), 0);
        CHECK_CODE(evl_future_add_done_callback(future, note_value, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_future_add_done_callback(future, note_value, NULL, NULL, other), 0);
        CHECK_CODE(evl_context_exit(inside), 0);
        CHECK_CODE(evl_future_add_done_callback(future, note_value, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
        /* Where it is settled does not matter; that of one added late is captured then. */
        CHECK_CODE(evl_context_enter(inside), 0);
        CHECK_CODE(evl_future_add_done_callback(future, note_value, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_context_exit(inside), 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), 6);
        CHECK_TRACE("inside default inside changed default inside");
        evl_future_unref(future);
        evl_context_unref(inside);
        evl_context_unref(other);
        evl_context_var_unref(variable);
        end_loop(loop);
    }
}

TEST(many) {
    enum { COUNT = 1000 };
    static struct note notes[COUNT];
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    int i, removed = 0, frees = 0;
    for (i = 0; i < COUNT; i++) {
        notes[i].name = "";
        notes[i].frees = 0;
        add(future, &notes[i]);
    }
    for (i = 0; i < COUNT; i += 7, removed++)
        CHECK_INT(evl_future_remove_done_callback(future, call_note, &notes[i]), 1);
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_run_once(loop, 0), COUNT - removed);
    for (i = 0; i < COUNT; i++)
        frees += notes[i].frees;
    CHECK_INT(frees, COUNT);
    end_loop(loop);
}

TEST_MAIN()
