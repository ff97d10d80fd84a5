/* Tasks: steps, what they await, how they end, and how a cancel reaches them. */
#include "harness.h"

/* A task that awaits given futures one after the other, notes each status, and ends as told. */
struct walk {
    evl_future *awaits[4];
    int count;
    int at;
    int statuses[8];
    int steps;
    int ignore_cancel; /* so many times */
    int answer;
    void *result;
    int frees;
};

static void walk_free(void *arg) {
    ((struct walk *)arg)->frees++;
}

static int walk_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct walk *w = (struct walk *)arg;
    if (w->steps < 8)
        w->statuses[w->steps] = status;
    w->steps++;
    CHECK(evl_current_task(NULL) == task);
    CHECK(w->frees == 0);
    if (status < 0) {
        if (w->ignore_cancel == 0)
            return status;
        w->ignore_cancel--;
    }
    if (w->at < w->count) {
        *next = evl_future_ref(w->awaits[w->at++]);
        return 0;
    }
    if (w->result)
        CHECK_CODE(evl_task_set_result(task, w->result, NULL), 0);
    return w->answer;
}

static evl_task *walk_task(evl_loop *loop, struct walk *w) {
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, walk_step, w, walk_free, NULL, &task), 0);
    return task;
}

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

TEST(first_step_comes_in_the_next_iteration_and_the_result_is_told) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 0, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    void *value = NULL;
    w.result = &w;
    task = walk_task(loop, &w);
    CHECK_INT(w.steps, 0);
    CHECK(!evl_future_done(evl_task_as_future(task)));
    CHECK_CODE(evl_future_result(evl_task_as_future(task), &value), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), 0);
    CHECK_INT(w.steps, 1);
    CHECK_INT(w.statuses[0], 0);
    CHECK_INT(w.frees, 1);
    CHECK_CODE(evl_future_result(evl_task_as_future(task), &value), 0);
    CHECK(value == &w);
    CHECK(evl_current_task(loop) == NULL);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(awaits_futures_that_are_done_and_that_are_not) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 2, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    w.awaits[0] = new_future(loop);
    w.awaits[1] = new_future(loop);
    CHECK_CODE(evl_future_set_result(w.awaits[0], NULL, NULL), 0);
    task = walk_task(loop, &w);
    CHECK_INT(evl_loop_run_once(loop, 0), 1);
    CHECK(evl_task_get_awaited(task) == w.awaits[0]);
    CHECK_INT(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(w.steps, 2);
    CHECK(evl_task_get_awaited(task) == w.awaits[1]);
    CHECK_INT(evl_loop_run_until_idle(loop), 0);
    CHECK_CODE(evl_future_set_result(w.awaits[1], NULL, NULL), 0);
    CHECK_INT(w.steps, 2); /* never from inside of the call that settles */
    CHECK_INT(evl_loop_run_until_idle(loop), 1);
    CHECK_INT(w.steps, 3);
    CHECK(evl_future_done(evl_task_as_future(task)));
    CHECK_INT(w.frees, 1);
    evl_future_unref(w.awaits[0]);
    evl_future_unref(w.awaits[1]);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(the_step_reads_the_result_of_what_it_awaited) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    void *value = NULL;
    int word = 0;
    w.awaits[0] = new_future(loop);
    task = walk_task(loop, &w);
    evl_loop_run_until_idle(loop);
    evl_future_set_result(w.awaits[0], &word, NULL);
    CHECK_CODE(evl_future_result(evl_task_get_awaited(task), &value), 0);
    CHECK(value == &word);
    evl_loop_run_until_idle(loop);
    CHECK(evl_task_get_awaited(task) == NULL);
    evl_future_unref(w.awaits[0]);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(an_error_is_passed_on_with_its_message) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    char text[64] = "";
    int object = 0, code = 0;
    w.awaits[0] = new_future(loop);
    task = walk_task(loop, &w);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_future_set_error_object(w.awaits[0], -EPIPE, "the other end", &object, NULL), 0);
    evl_future_unref(w.awaits[0]);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), -EPIPE);
    CHECK_INT(w.statuses[1], -EPIPE);
    CHECK_CODE(evl_future_error(evl_task_as_future(task), &code), 0);
    CHECK_CODE(code, -EPIPE);
    CHECK_INT(evl_future_error_message(evl_task_as_future(task), text, sizeof text), 13);
    CHECK_STRING(text, "the other end");
    CHECK(evl_future_error_object(evl_task_as_future(task)) == &object);
    evl_task_unref(task);
    end_loop(loop);
}

static int fail_by_raise(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)next;
    CHECK_CODE(evl_raise_object(-EDOM, "no root", arg, probe_free), 0);
    return 0;
}

TEST(a_step_fails_by_raise) {
    evl_loop *loop = manual_loop();
    struct probe object = probe_named(NULL, loop);
    evl_task *task = NULL;
    char text[16];
    CHECK_CODE(evl_task_new(loop, fail_by_raise, &object, NULL, NULL, &task), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), -EDOM);
    evl_future_error_message(evl_task_as_future(task), text, sizeof text);
    CHECK_STRING(text, "no root");
    CHECK(evl_future_error_object(evl_task_as_future(task)) == &object);
    CHECK_INT(object.frees, 0);
    evl_task_unref(task);
    CHECK_INT(object.frees, 1);
    end_loop(loop);
}

static int fail_at_once(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)next;
    return *(int *)arg;
}

struct told {
    int count;
    int code;
    evl_future *future;
    char message[120];
};

static void tell(evl_loop *loop, const evl_exception *exception, void *arg) {
    struct told *told = (struct told *)arg;
    (void)loop;
    told->count++;
    told->code = exception->code;
    told->future = exception->future;
    snprintf(told->message, sizeof told->message, "%s", exception->message);
}

TEST(an_error_nobody_asked_for_is_told_once) {
    evl_loop *loop = manual_loop();
    struct told told = {0, 0, NULL, ""};
    evl_task *task = NULL;
    int code = -EBADMSG;
    CHECK_CODE(evl_loop_set_exception_handler(loop, tell, &told, NULL), 0);
    CHECK_CODE(evl_task_new(loop, fail_at_once, &code, NULL, NULL, NULL), 0);
    evl_loop_run_until_idle(loop);
    CHECK_INT(told.count, 1);
    CHECK_CODE(told.code, -EBADMSG);
    CHECK(told.future != NULL);
    CHECK_STRING(told.message, "Task exception was never retrieved");
    CHECK_CODE(evl_task_new(loop, fail_at_once, &code, NULL, NULL, &task), 0);
    evl_loop_run_until_idle(loop);
    CHECK_INT(told.count, 1);
    CHECK_CODE(evl_future_result(evl_task_as_future(task), NULL), -EBADMSG);
    evl_task_unref(task);
    CHECK_INT(told.count, 1);
    end_loop(loop);
}

static int exit_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)arg, (void)next;
    CHECK_CODE(evl_raise_exit(7), 0);
    return 0;
}

TEST(an_exit_in_a_step_ends_the_run) {
    evl_loop *loop = manual_loop();
    evl_task *task = NULL;
    int code = 0;
    CHECK_CODE(evl_task_new(loop, exit_step, NULL, NULL, NULL, &task), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 7);
    CHECK(evl_future_done(evl_task_as_future(task)));
    CHECK_CODE(evl_future_result(evl_task_as_future(task), NULL), EVL_EEXIT);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(cancel_before_the_first_step) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 0, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task = walk_task(loop, &w);
    char text[16];
    CHECK_INT(evl_task_cancel(task, "too late"), 1);
    CHECK_INT(evl_task_cancelling(task), 1);
    CHECK(!evl_future_done(evl_task_as_future(task)));
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.steps, 1);
    CHECK_CODE(w.statuses[0], EVL_ECANCELLED);
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    CHECK_CODE(evl_future_result(evl_task_as_future(task), NULL), EVL_ECANCELLED);
    evl_future_error_message(evl_task_as_future(task), text, sizeof text);
    CHECK_STRING(text, "too late");
    CHECK_INT(evl_task_cancel(task, NULL), 0);
    CHECK_INT(w.frees, 1);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(cancel_while_it_waits_cancels_what_it_awaits) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    char text[16];
    w.awaits[0] = new_future(loop);
    task = walk_task(loop, &w);
    evl_loop_run_until_idle(loop);
    CHECK_INT(evl_task_cancel(task, "enough"), 1);
    CHECK(evl_future_cancelled(w.awaits[0]));
    CHECK(!evl_future_done(evl_task_as_future(task)));
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.steps, 2);
    CHECK_CODE(w.statuses[1], EVL_ECANCELLED);
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    evl_future_error_message(evl_task_as_future(task), text, sizeof text);
    CHECK_STRING(text, "enough");
    evl_future_unref(w.awaits[0]);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(cancel_after_what_it_awaits_is_done_but_before_its_step) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    w.awaits[0] = new_future(loop);
    task = walk_task(loop, &w);
    evl_loop_run_until_idle(loop);
    evl_future_set_result(w.awaits[0], NULL, NULL);
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    CHECK(!evl_future_cancelled(w.awaits[0]));
    evl_loop_run_until_idle(loop);
    CHECK_CODE(w.statuses[1], EVL_ECANCELLED);
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    evl_future_unref(w.awaits[0]);
    evl_task_unref(task);
    end_loop(loop);
}

static void *left_over;

static int look_step(evl_task *task, int status, void *arg, evl_future **next) {
    if (status == EVL_ECANCELLED) {
        CHECK_CODE(evl_future_result(evl_task_get_awaited(task), &left_over), 0);
        return status;
    }
    *next = evl_future_ref((evl_future *)arg);
    return 0;
}

/* What was made is there for whoever is cancelled to close. */
TEST(a_step_that_is_cancelled_finds_what_it_awaited_done) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, look_step, future, NULL, NULL, &task), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    CHECK_CODE(evl_future_set_result(future, &left_over, NULL), 0);
    CHECK_CODE(evl_task_cancel(task, NULL), 1);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK(left_over == &left_over);
    CHECK_INT(evl_future_cancelled(evl_task_as_future(task)), 1);
    evl_task_unref(task);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(a_task_may_ignore_a_cancel_and_is_told_of_the_next) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 2, 0, {0}, 0, 1, 0, NULL, 0};
    evl_task *task;
    w.awaits[0] = new_future(loop);
    w.awaits[1] = new_future(loop);
    task = walk_task(loop, &w);
    evl_loop_run_until_idle(loop);
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.steps, 2);
    CHECK(!evl_future_done(evl_task_as_future(task)));
    CHECK(evl_task_get_awaited(task) == w.awaits[1]);
    CHECK_INT(evl_task_uncancel(task), 0);
    CHECK_INT(evl_task_uncancel(task), 0);
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    CHECK_INT(evl_task_cancelling(task), 2);
    evl_loop_run_until_idle(loop);
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    evl_future_unref(w.awaits[0]);
    evl_future_unref(w.awaits[1]);
    evl_task_unref(task);
    end_loop(loop);
}

static int cancel_itself(evl_task *task, int status, void *arg, evl_future **next) {
    struct walk *w = (struct walk *)arg;
    w->statuses[w->steps++] = status;
    if (status < 0)
        return status;
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    if (w->count)
        *next = evl_future_ref(w->awaits[0]);
    return 0;
}

TEST(a_step_may_cancel_its_own_task) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 0, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task = NULL;
    /* It ends in that step: cancelled, as asyncio has it. */
    CHECK_CODE(evl_task_new(loop, cancel_itself, &w, NULL, NULL, &task), 0);
    evl_loop_run_until_idle(loop);
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    CHECK_INT(w.steps, 1);
    evl_task_unref(task);
    /* It awaits something: that is cancelled. */
    w.steps = 0;
    w.count = 1;
    w.awaits[0] = new_future(loop);
    CHECK_CODE(evl_task_new(loop, cancel_itself, &w, NULL, NULL, &task), 0);
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.steps, 2);
    CHECK(evl_future_cancelled(w.awaits[0]));
    CHECK(evl_future_cancelled(evl_task_as_future(task)));
    evl_future_unref(w.awaits[0]);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(a_timeout_on_a_task_is_told_to_its_step_and_ends_it_as_timed_out) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    int code = 0;
    w.awaits[0] = new_future(loop);
    task = walk_task(loop, &w);
    CHECK_CODE(evl_future_set_timeout(evl_task_as_future(task), EVL_MS(5)), 0);
    evl_loop_run_until_idle(loop);
    evl_loop_advance(loop, EVL_MS(5));
    evl_loop_run_until_idle(loop);
    CHECK_CODE(w.statuses[1], EVL_ECANCELLED);
    CHECK(!evl_future_cancelled(evl_task_as_future(task)));
    CHECK_CODE(evl_future_error(evl_task_as_future(task), &code), 0);
    CHECK_CODE(code, -ETIMEDOUT);
    evl_future_unref(w.awaits[0]);
    evl_task_unref(task);
    end_loop(loop);
}

TEST(awaiting_itself_or_another_loops_future_is_told_to_the_step) {
    evl_loop *loop = manual_loop(), *other = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task = walk_task(loop, &w);
    w.awaits[0] = evl_task_as_future(task);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), -EINVAL);
    CHECK_CODE(w.statuses[1], -EINVAL);
    evl_task_unref(task);
    memset(&w, 0, sizeof w);
    w.count = 1;
    w.awaits[0] = new_future(other);
    task = walk_task(loop, &w);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), -EINVAL);
    evl_future_unref(w.awaits[0]);
    evl_task_unref(task);
    end_loop(other);
    end_loop(loop);
}

TEST(names) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 0, 0, {0}, 0, 0, 0, NULL, 0};
    struct walk v = w;
    evl_task *first = walk_task(loop, &w), *second = walk_task(loop, &v);
    char text[16];
    CHECK_INT(evl_task_get_name(first, text, sizeof text), 6);
    CHECK_STRING(text, "Task-1");
    CHECK_CODE(evl_task_set_name(second, "fetch"), 0);
    CHECK_INT(evl_task_get_name(second, text, 4), 5);
    CHECK_STRING(text, "fet");
    CHECK_CODE(evl_task_set_name(second, NULL), 0);
    evl_task_get_name(second, text, sizeof text);
    CHECK_STRING(text, "Task-2");
    evl_loop_run_until_idle(loop);
    evl_task_unref(first);
    evl_task_unref(second);
    end_loop(loop);
}

TEST(all_tasks_are_those_that_are_not_done) {
    evl_loop *loop = manual_loop();
    struct walk a = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0}, b = a;
    evl_task *first, *second, *found[2] = {NULL, NULL};
    a.awaits[0] = new_future(loop);
    b.count = 0;
    first = walk_task(loop, &a);
    second = walk_task(loop, &b);
    CHECK_INT(evl_all_tasks(loop, NULL, 0), 2);
    evl_loop_run_until_idle(loop);
    CHECK_INT(evl_all_tasks(loop, found, 2), 1);
    CHECK(found[0] == first && found[1] == NULL);
    CHECK(evl_future_as_task(evl_task_as_future(second)) == second);
    CHECK(evl_future_as_task(a.awaits[0]) == NULL);
    evl_future_set_result(a.awaits[0], NULL, NULL);
    evl_loop_run_until_idle(loop);
    CHECK_INT(evl_all_tasks(loop, NULL, 0), 0);
    evl_future_unref(a.awaits[0]);
    evl_task_unref(first);
    evl_task_unref(second);
    end_loop(loop);
}

static int factory_calls;

static int factory(evl_loop *loop, evl_step_fn step, void *arg, evl_free_fn arg_free, evl_context *context,
                   void *factory_arg, evl_task **out) {
    CHECK(factory_arg == &factory_calls);
    factory_calls++;
    return evl_task_new(loop, step, arg, arg_free, context, out);
}

TEST(task_factory) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 0, 0, {0}, 0, 0, 0, NULL, 0};
    struct probe p = probe_named(NULL, loop);
    evl_task_factory found = factory;
    void *arg = NULL;
    CHECK_CODE(evl_loop_get_task_factory(loop, &found, &arg), 0);
    CHECK(found == NULL);
    CHECK_CODE(evl_loop_set_task_factory(loop, factory, &factory_calls, NULL), 0);
    CHECK_CODE(evl_loop_create_task(loop, walk_step, &w, walk_free, NULL, NULL), 0);
    CHECK_INT(factory_calls, 1);
    CHECK_CODE(evl_loop_get_task_factory(loop, &found, &arg), 0);
    CHECK(found == factory && arg == &factory_calls);
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.frees, 1);
    CHECK_CODE(evl_loop_set_task_factory(loop, factory, &p, probe_free), 0);
    CHECK_CODE(evl_loop_set_task_factory(loop, NULL, NULL, NULL), 0);
    CHECK_INT(p.frees, 1);
    CHECK_CODE(evl_loop_create_task(loop, walk_step, &w, NULL, NULL, NULL), 0);
    CHECK_INT(factory_calls, 1);
    end_loop(loop);
}

static evl_context_var *colour;

static int context_step(evl_task *task, int status, void *arg, evl_future **next) {
    int *steps = (int *)arg;
    void *value = NULL;
    if (status < 0)
        return status;
    CHECK_CODE(evl_context_var_get(colour, &value), 0);
    CHECK_STRING((const char *)value, *steps == 0 ? "red" : "blue");
    if ((*steps)++)
        return 0;
    CHECK_CODE(evl_context_var_set(colour, (void *)"blue", NULL, NULL), 0);
    return evl_sleep(evl_task_get_loop(task), 0, next);
}

TEST(all_steps_run_in_one_context) {
    evl_loop *loop = manual_loop();
    evl_task *task = NULL;
    void *value = NULL;
    int steps = 0;
    CHECK_CODE(evl_context_var_new("colour", NULL, NULL, &colour), 0);
    CHECK_CODE(evl_context_var_set(colour, (void *)"red", NULL, NULL), 0);
    CHECK_CODE(evl_task_new(loop, context_step, &steps, NULL, NULL, &task), 0);
    CHECK_CODE(evl_context_var_set(colour, (void *)"green", NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), 0);
    CHECK_INT(steps, 2);
    CHECK_CODE(evl_context_var_get(colour, &value), 0);
    CHECK_STRING((const char *)value, "green");
    evl_task_unref(task);
    evl_context_var_unref(colour);
    end_loop(loop);
}

TEST(closing_the_loop_abandons_tasks) {
    evl_loop *loop = manual_loop();
    struct walk waiting = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0}, fresh = waiting, unwanted = waiting;
    evl_task *task, *kept;
    fresh.count = unwanted.count = 0;
    waiting.awaits[0] = new_future(loop);
    task = walk_task(loop, &waiting);
    evl_loop_run_until_idle(loop);
    kept = walk_task(loop, &fresh);
    CHECK_CODE(evl_task_new(loop, walk_step, &unwanted, walk_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(waiting.frees, 1);
    CHECK_INT(fresh.frees, 1);
    CHECK_INT(unwanted.frees, 1);
    CHECK_INT(fresh.steps, 0);
    CHECK(!evl_future_done(evl_task_as_future(task)));
    CHECK_CODE(evl_task_cancel(task, NULL), EVL_ECLOSED);
    evl_loop_unref(loop);
    evl_future_unref(waiting.awaits[0]);
    evl_task_unref(task);
    evl_task_unref(kept);
}

TEST(a_task_without_references_goes_on_and_is_freed) {
    evl_loop *loop = manual_loop();
    struct walk w = {{NULL}, 1, 0, {0}, 0, 0, 0, NULL, 0};
    evl_task *task;
    w.awaits[0] = new_future(loop);
    task = walk_task(loop, &w);
    evl_task_unref(task);
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.frees, 0);
    evl_future_set_result(w.awaits[0], NULL, NULL);
    evl_loop_run_until_idle(loop);
    CHECK_INT(w.steps, 2);
    CHECK_INT(w.frees, 1);
    evl_future_unref(w.awaits[0]);
    end_loop(loop);
}

TEST(run_until_complete) {
    evl_loop *loop = real_loop(), *other = real_loop();
    evl_future *future = new_future(loop), *foreign = new_future(other);
    CHECK_CODE(evl_loop_call_soon(loop, stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), EVL_ESTOPPED);
    CHECK_CODE(evl_loop_run_until_complete(loop, foreign), -EINVAL);
    CHECK_CODE(evl_future_set_timeout(future, EVL_MS(1)), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), -ETIMEDOUT);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), -ETIMEDOUT);
    evl_future_unref(future);
    future = new_future(loop);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), EVL_ECANCELLED);
    evl_future_unref(future);
    evl_future_unref(foreign);
    end_loop(other);
    end_loop(loop);
}

TEST_MAIN()
