/* Futures and tasks at their edges: who releases, exits, cancels or forks from inside of what, and from which thread. */
#include "harness.h"

/* What the exception handler was told, and what it does about it. */
struct told {
    int calls;
    int exits;
};

static void on_error(evl_loop *loop, const evl_exception *exception, void *arg) {
    struct told *t = (struct told *)arg;
    (void)loop, (void)exception;
    t->calls++;
    if (t->exits)
        CHECK_CODE(evl_raise_exit(t->exits), 0);
}

static evl_loop *told_loop(struct told *t) {
    evl_loop *loop = manual_loop();
    memset(t, 0, sizeof *t);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_error, t, NULL), 0);
    return loop;
}

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static void run_idle(void *loop) {
    CHECK(evl_loop_run_until_idle((evl_loop *)loop) >= 0);
}

static void done_probe(evl_future *future, void *arg) {
    (void)future;
    probe_call(arg);
}

static void drop_future(void *future) {
    evl_future_unref((evl_future *)future);
}

static void exit_now(void *code) {
    CHECK_CODE(evl_raise_exit(*(int *)code), 0);
}

/* Awaits the futures it was given, one after the other; what fails ends it. */
struct walk {
    evl_future *next[2];
    int at;
};

static int walk(evl_task *task, int status, void *arg, evl_future **next) {
    struct walk *w = (struct walk *)arg;
    (void)task;
    if (status < 0)
        return status;
    if (w != NULL && w->at < 2) {
        *next = w->next[w->at];
        w->next[w->at++] = NULL;
    }
    return 0;
}

static int fail(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)arg, (void)next;
    return -EIO;
}

static evl_task *new_task(evl_loop *loop, evl_step_fn step, void *arg) {
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, step, arg, NULL, NULL, &task), 0);
    return task;
}

TEST(callback_whose_context_is_in_use_is_released) {
    struct told t;
    evl_loop *loop = told_loop(&t);
    struct probe p = probe_named(NULL, loop), value = probe_named(NULL, loop);
    evl_context *context = NULL;
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_future_add_done_callback(future, done_probe, &p, probe_free, context), 0);
    CHECK_CODE(evl_future_set_result(future, &value, probe_free), 0);
    evl_future_unref(future);
    CHECK_CODE(evl_context_run(context, run_idle, loop), 0);
    CHECK_INT(t.calls, 1);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(value, 0, 1);
    evl_context_unref(context);
    end_loop(loop);
}

TEST(handler_of_an_error_nobody_asked_for_exits) {
    struct told t;
    evl_loop *loop = told_loop(&t);
    evl_future *future = new_future(loop);
    int code = 0;
    t.exits = 7;
    CHECK_CODE(evl_future_set_error(future, -EIO, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, drop_future, future, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 7);
    CHECK_INT(t.calls, 1);
    end_loop(loop);
}

static void close_loop(void *loop) {
    CHECK_CODE(evl_loop_close((evl_loop *)loop), 0);
}

TEST(a_value_that_is_released_closes_the_loop) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    CHECK_CODE(evl_future_set_result(future, loop, close_loop), 0);
    evl_future_unref(future);
    CHECK(evl_loop_is_closed(loop));
    evl_loop_unref(loop);
}

enum { MANY = 20000 };
static evl_future *many[MANY];

static void *drop_many(void *arg) {
    int i;
    (void)arg;
    for (i = 0; i < MANY; i++)
        evl_future_unref(many[i]);
    return NULL;
}

TEST(references_given_up_elsewhere_do_not_take_the_loop) {
    int settled;
    for (settled = 0; settled < 2; settled++) {
        evl_loop *loop = manual_loop();
        struct probe p = probe_named(NULL, loop);
        pthread_t thread;
        int i, refused = 0;
        for (i = 0; i < MANY; i++) {
            many[i] = new_future(loop);
            if (settled)
                CHECK_CODE(evl_future_set_result(many[i], &p, probe_free), 0);
            else
                CHECK_CODE(evl_future_set_data(many[i], &p, probe_free), 0);
        }
        REQUIRE(pthread_create(&thread, NULL, drop_many, NULL) == 0);
        for (i = 0; i < MANY; i++) {
            refused += evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, NULL) != 0;
            refused += evl_loop_run_once(loop, 0) < 0;
        }
        pthread_join(thread, NULL);
        CHECK_INT(refused, 0);
        end_loop(loop);
        CHECK_INT(p.frees, MANY);
    }
}

TEST(a_borrowed_task_is_run_until_complete) {
    struct told t;
    evl_loop *loop = told_loop(&t);
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, fail, NULL, NULL, NULL, NULL), 0);
    CHECK_INT(evl_all_tasks(loop, &task, 1), 1);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), -EIO);
    CHECK_INT(t.calls, 0);
    end_loop(loop);
}

TEST(a_run_that_an_exit_ended_does_not_stop_the_next) {
    evl_loop *loop = manual_loop();
    evl_task *first = new_task(loop, walk, NULL), *second;
    struct walk w = {{NULL, NULL}, 0};
    int code = 3;
    CHECK_CODE(evl_loop_call_soon(loop, exit_now, &code, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(first)), EVL_EEXIT);
    CHECK(evl_future_done(evl_task_as_future(first)));
    CHECK_CODE(evl_sleep(loop, 0, &w.next[0]), 0);
    CHECK_CODE(evl_sleep(loop, 0, &w.next[1]), 0);
    second = new_task(loop, walk, &w);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(second)), 0);
    evl_task_unref(first);
    evl_task_unref(second);
    end_loop(loop);
}

struct exiting {
    evl_loop *loop;
    int code;
    int left;
};

/* Needs some time to end. */
static int slow(evl_task *task, int status, void *arg, evl_future **next) {
    int *left = (int *)arg;
    if (--*left > 0)
        return evl_sleep(evl_task_get_loop(task), 0, next);
    return status < 0 ? status : EVL_ECANCELLED;
}

static int exiting_main(evl_task *task, int status, void *arg, evl_future **next) {
    struct exiting *e = (struct exiting *)arg;
    if (status < 0)
        return status;
    e->loop = evl_loop_ref(evl_task_get_loop(task));
    CHECK_CODE(evl_task_new(e->loop, slow, &e->left, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(e->loop, exit_now, &e->code, NULL, NULL, NULL), 0);
    return evl_sleep(e->loop, EVL_FOREVER, next);
}

TEST(run_leaves_the_exit_code) {
    struct exiting e = {NULL, 5, 6};
    int code = 0;
    CHECK_CODE(evl_run(exiting_main, &e, NULL, NULL), EVL_EEXIT);
    CHECK_INT(e.left, 0);
    CHECK_CODE(evl_loop_exit_code(e.loop, &code), 0);
    CHECK_INT(code, 5);
    evl_loop_unref(e.loop);
}

TEST(a_group_that_nobody_joins_has_its_errors_told) {
    struct told t;
    evl_loop *loop = told_loop(&t);
    evl_task_group *group = NULL;
    CHECK_CODE(evl_task_group_new(loop, &group), 0);
    CHECK_CODE(evl_task_group_create_task(group, fail, NULL, NULL, NULL, NULL), 0);
    run_idle(loop);
    CHECK_INT(t.calls, 0);
    evl_task_group_unref(group);
    CHECK_INT(t.calls, 1);
    end_loop(loop);
}

TEST(a_cancelled_shield_leaves_the_error_to_others) {
    struct told t;
    evl_loop *loop = told_loop(&t);
    evl_future *inner = new_future(loop), *outer = NULL;
    CHECK_CODE(evl_shield(inner, &outer), 0);
    CHECK_CODE(evl_future_cancel(outer, NULL), 1);
    run_idle(loop);
    CHECK(!evl_future_done(inner));
    CHECK_CODE(evl_future_set_error(inner, -EIO, NULL), 0);
    run_idle(loop);
    evl_future_unref(outer);
    CHECK_INT(t.calls, 0);
    evl_future_unref(inner);
    CHECK_INT(t.calls, 1);
    end_loop(loop);
}

TEST(errors_that_are_results_are_not_told) {
    struct told t;
    evl_loop *loop = told_loop(&t);
    evl_future *child = new_future(loop), *all = NULL;
    CHECK_CODE(evl_gather(loop, &child, 1, 1, &all), 0);
    CHECK_CODE(evl_future_set_error(child, -EIO, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, all), 0);
    evl_future_unref(all);
    evl_future_unref(child);
    CHECK_INT(t.calls, 0);
    end_loop(loop);
}

static void cancel_task(void *task) {
    CHECK_CODE(evl_task_cancel(*(evl_task **)task, NULL), 1);
}

TEST(a_task_cancelled_by_the_release_of_what_it_awaited_is_told) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL, NULL}, 0};
    evl_task *task = NULL;
    w.next[0] = new_future(loop);
    w.next[1] = new_future(loop);
    CHECK_CODE(evl_future_set_result(w.next[0], &task, cancel_task), 0);
    task = new_task(loop, walk, &w);
    run_idle(loop);
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    evl_task_unref(task);
    end_loop(loop);
}

/* Is told of a cancel twice before it obeys. */
static int stubborn(evl_task *task, int status, void *arg, evl_future **next) {
    if (status == EVL_ECANCELLED && ++*(int *)arg == 2)
        return status;
    return evl_sleep(evl_task_get_loop(task), EVL_FOREVER, next);
}

TEST(a_cancel_wins_over_a_timeout) {
    evl_loop *loop = manual_loop();
    int told[2] = {0, 0}, i;
    evl_task *tasks[2];
    evl_future *futures[2];
    tasks[0] = new_task(loop, stubborn, &told[0]);
    tasks[1] = new_task(loop, stubborn, &told[1]);
    futures[0] = evl_future_ref(evl_task_as_future(tasks[0]));
    futures[1] = evl_task_as_future(tasks[1]);
    CHECK_CODE(evl_gather(loop, &futures[1], 1, 0, &futures[1]), 0);
    run_idle(loop);
    for (i = 0; i < 2; i++) {
        CHECK_CODE(evl_future_set_timeout(futures[i], 0), 0);
        run_idle(loop);
        CHECK_INT(told[i], 1);
        CHECK(!evl_future_done(futures[i]));
        CHECK_CODE(evl_future_cancel(futures[i], NULL), 1);
        run_idle(loop);
        CHECK_CODE(evl_future_result(futures[i], NULL), EVL_ECANCELLED);
        evl_future_unref(futures[i]);
        evl_task_unref(tasks[i]);
    }
    end_loop(loop);
}

/* Awaits a task that is given later. */
static int await_task(evl_task *task, int status, void *arg, evl_future **next) {
    evl_task **other = (evl_task **)arg;
    (void)task;
    if (status == 0)
        *next = evl_future_ref(evl_task_as_future(*other));
    return status;
}

TEST(tasks_that_await_each_other_can_be_cancelled) {
    evl_loop *loop = manual_loop();
    evl_task *first, *second;
    first = new_task(loop, await_task, &second);
    second = new_task(loop, await_task, &first);
    run_idle(loop);
    CHECK_CODE(evl_task_cancel(first, NULL), 1);
    run_idle(loop);
    CHECK(evl_future_cancelled(evl_task_as_future(first)));
    CHECK(evl_future_cancelled(evl_task_as_future(second)));
    evl_task_unref(first);
    evl_task_unref(second);
    end_loop(loop);
}

enum { DEEP = 50000 };

/* arg is what it awaits, whose reference it gives away. */
static int await_arg(evl_task *task, int status, void *arg, evl_future **next) {
    if (status < 0)
        return status;
    *next = (evl_future *)arg;
    (void)task;
    return 0;
}

TEST(an_end_goes_through_any_number_of_tasks) {
    int cancel;
    for (cancel = 0; cancel < 2; cancel++) {
        evl_loop *loop = manual_loop();
        evl_future *first = new_future(loop), *last = evl_future_ref(first);
        int i, deep = under_valgrind() ? DEEP / 10 : DEEP;
        for (i = 0; i < deep; i++)
            last = evl_task_as_future(new_task(loop, await_arg, last));
        run_idle(loop);
        if (cancel)
            CHECK_CODE(evl_future_cancel(last, NULL), 1);
        else
            CHECK_CODE(evl_future_set_error(first, -EIO, NULL), 0);
        run_idle(loop);
        CHECK_CODE(evl_future_result(last, NULL), cancel ? EVL_ECANCELLED : -EIO);
        CHECK(evl_future_cancelled(first) == cancel);
        evl_future_unref(first);
        evl_future_unref(last);
        end_loop(loop);
    }
}

static void wait_in_child(void *future) {
    CHECK_CODE(evl_future_wait((evl_future *)future, EVL_FOREVER), EVL_EFORKED);
}

TEST(a_forked_child_does_not_wait) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    CHECK_INT(in_child(wait_in_child, future), 0);
    evl_future_unref(future);
    end_loop(loop);
}

static int forking(evl_task *task, int status, void *arg, evl_future **next) {
    (void)status;
    *next = new_future(evl_task_get_loop(task));
    fflush(NULL);
    *(pid_t *)arg = fork();
    return 0;
}

TEST(a_step_that_forks) {
    evl_loop *loop = manual_loop();
    pid_t child = -1;
    int status = -1, before = harness_failures;
    evl_task *task = new_task(loop, forking, &child), *other;
    int ran = evl_loop_run_once(loop, 0);
    if (child == 0) {
        CHECK_CODE(ran, EVL_EFORKED);
        CHECK_CODE(evl_loop_after_fork(loop), 0);
        CHECK(evl_current_task(loop) == NULL);
        other = new_task(loop, walk, NULL);
        CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(other)), 0);
        evl_task_unref(other);
        evl_task_unref(task);
        end_loop(loop);
        fflush(NULL);
        _exit(harness_failures != before);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    evl_task_unref(task);
    end_loop(loop);
}

static int cancel_shown(evl_handle *handle, int kind, int number, void *arg) {
    (void)kind, (void)number;
    (*(int *)arg)++;
    if (handle != NULL)
        CHECK_CODE(evl_handle_cancel(handle), 0);
    return 0;
}

static int one_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)arg, (void)next;
    return status;
}

TEST(what_is_shown_of_a_task_in_debug_mode_cannot_be_cancelled_away) {
    evl_loop *event_loop = loop_with_flags(EVL_LOOP_MANUAL_CLOCK | EVL_LOOP_DEBUG);
    evl_task *task = NULL;
    int shown = 0;
    CHECK_CODE(evl_task_new(event_loop, one_step, NULL, NULL, NULL, &task), 0);
    CHECK_CODE(evl_loop_walk(event_loop, cancel_shown, &shown), 0);
    CHECK_INT(shown, 1);
    CHECK_CODE(evl_loop_run_until_complete(event_loop, evl_task_as_future(task)), 0);
    evl_task_unref(task);
    end_loop(event_loop);
}

TEST(the_last_cancel_says_why) {
    evl_loop *event_loop = manual_loop();
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(event_loop, one_step, NULL, NULL, NULL, &task), 0);
    CHECK_INT(evl_task_cancel(task, "first"), 1);
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    CHECK_CODE(evl_loop_run_until_complete(event_loop, evl_task_as_future(task)), EVL_ECANCELLED);
    CHECK_INT(evl_future_error_message(evl_task_as_future(task), NULL, 0), 0);
    evl_task_unref(task);
    end_loop(event_loop);
}

TEST_MAIN()
