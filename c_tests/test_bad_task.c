/* NULL, closed loops and wrong threads, for every function of tasks, groups and waits. */
#include "harness.h"

static struct probe p;
static void *const untouched = &p;

/* A failing call that takes an arg over releases it exactly once. */
#define BAD_TRIPLE(call, code)                                                                                        \
    do {                                                                                                              \
        p.frees = 0;                                                                                                  \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_INT(p.frees, 1);                                                                                        \
    } while (0)

static int step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)arg, (void)next;
    return status;
}

/* What every function answers that needs a loop which cannot be used, with this code. */
static void check_unusable(evl_loop *loop, evl_future *future, evl_task *task, evl_task_group *group, int code) {
    evl_task *made = (evl_task *)untouched;
    evl_future *out = (evl_future *)untouched;
    evl_task_group *new_group = (evl_task_group *)untouched;
    evl_task_factory factory;
    BAD_TRIPLE(evl_task_new(loop, step, &p, probe_free, NULL, &made), code);
    BAD_TRIPLE(evl_loop_create_task(loop, step, &p, probe_free, NULL, &made), code);
    BAD_TRIPLE(evl_loop_set_task_factory(loop, NULL, &p, probe_free), code);
    CHECK_CODE(evl_loop_get_task_factory(loop, &factory, NULL), code);
    BAD_TRIPLE(evl_task_set_result(task, &p, probe_free), code);
    CHECK_CODE(evl_task_set_result_int(task, 1), code);
    CHECK_CODE(evl_task_cancel(task, NULL), code);
    CHECK_CODE(evl_task_cancelling(task), code);
    CHECK_CODE(evl_task_uncancel(task), code);
    CHECK_CODE(evl_task_set_name(task, "x"), code);
    CHECK_CODE(evl_task_get_name(task, NULL, 0), code);
    CHECK_CODE(evl_all_tasks(loop, NULL, 0), code);
    CHECK_CODE(evl_sleep(loop, 1, &out), code);
    CHECK_CODE(evl_gather(loop, &future, future != NULL, 0, &out), code);
    CHECK_CODE(evl_wait(loop, &future, 1, EVL_ALL_COMPLETED, EVL_FOREVER, &out), code);
    CHECK_CODE(evl_wait_for(future, 1, &out), code);
    CHECK_CODE(evl_shield(future, &out), code);
    CHECK_CODE(evl_task_group_new(loop, &new_group), code);
    BAD_TRIPLE(evl_task_group_create_task(group, step, &p, probe_free, NULL, &made), code);
    CHECK_CODE(evl_task_group_join(group, &out), code);
    CHECK_CODE(evl_task_group_failed(group, NULL, 0), code);
    CHECK_CODE(evl_task_group_cancel(group), code);
    CHECK(evl_current_task(loop) == NULL);
    CHECK(made == untouched && out == untouched && new_group == untouched);
}

TEST(null) {
    check_unusable(NULL, NULL, NULL, NULL, -EINVAL);
    CHECK_CODE(evl_loop_run_until_complete(NULL, NULL), -EINVAL);
    CHECK(evl_task_ref(NULL) == NULL);
    CHECK(evl_task_as_future(NULL) == NULL);
    CHECK(evl_future_as_task(NULL) == NULL);
    CHECK(evl_task_get_loop(NULL) == NULL);
    CHECK(evl_task_get_awaited(NULL) == NULL);
    CHECK(evl_task_group_ref(NULL) == NULL);
    evl_task_unref(NULL);
    evl_task_group_unref(NULL);
}

TEST(missing_functions_and_outputs) {
    evl_loop *loop = manual_loop();
    evl_future *future = NULL, *none[1] = {NULL};
    evl_task *made = (evl_task *)untouched;
    evl_task_group *group = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    BAD_TRIPLE(evl_task_new(loop, NULL, &p, probe_free, NULL, &made), -EINVAL);
    BAD_TRIPLE(evl_loop_create_task(loop, NULL, &p, probe_free, NULL, &made), -EINVAL);
    CHECK_CODE(evl_task_group_new(loop, NULL), -EINVAL);
    CHECK_CODE(evl_task_group_new(loop, &group), 0);
    BAD_TRIPLE(evl_task_group_create_task(group, NULL, &p, probe_free, NULL, &made), -EINVAL);
    CHECK_CODE(evl_task_group_failed(group, NULL, 1), -EINVAL);
    CHECK_CODE(evl_all_tasks(loop, NULL, 1), -EINVAL);
    CHECK_CODE(evl_all_tasks(NULL, NULL, 0), -EINVAL); /* no loop runs here */
    CHECK_CODE(evl_gather(loop, NULL, 1, 0, NULL), -EINVAL);
    CHECK_CODE(evl_gather(loop, none, 1, 0, NULL), -EINVAL);
    CHECK_CODE(evl_wait(loop, &future, 0, EVL_ALL_COMPLETED, EVL_FOREVER, NULL), -EINVAL);
    CHECK_CODE(evl_wait(loop, &future, 1, 3, EVL_FOREVER, NULL), -EINVAL);
    CHECK_CODE(evl_wait(loop, none, 1, EVL_ALL_COMPLETED, EVL_FOREVER, NULL), -EINVAL);
    CHECK_CODE(evl_wait(loop, &future, 1, EVL_ALL_COMPLETED, EVL_FOREVER, NULL), 0);
    CHECK_CODE(evl_gather(loop, &future, 1, 0, NULL), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, NULL), -EINVAL);
    CHECK(made == untouched);
    evl_future_unref(future);
    evl_task_group_unref(group);
    end_loop(loop);
}

TEST(another_loops_futures) {
    evl_loop *loop = manual_loop(), *other = manual_loop();
    evl_future *futures[2] = {NULL, NULL};
    CHECK_CODE(evl_future_new(loop, &futures[0]), 0);
    CHECK_CODE(evl_future_new(other, &futures[1]), 0);
    CHECK_CODE(evl_gather(loop, futures, 2, 0, NULL), -EINVAL);
    CHECK_CODE(evl_wait(loop, futures, 2, EVL_ALL_COMPLETED, EVL_FOREVER, NULL), -EINVAL);
    evl_future_unref(futures[0]);
    evl_future_unref(futures[1]);
    end_loop(other);
    end_loop(loop);
}

TEST(a_closed_loop) {
    evl_loop *loop = manual_loop();
    evl_future *future = NULL;
    evl_task *task = NULL;
    evl_task_group *group = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    CHECK_CODE(evl_task_new(loop, step, NULL, NULL, NULL, &task), 0);
    CHECK_CODE(evl_task_group_new(loop, &group), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    check_unusable(loop, future, task, group, EVL_ECLOSED);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), EVL_ECLOSED);
    evl_loop_unref(loop);
    evl_future_unref(future);
    evl_task_unref(task);
    evl_task_group_unref(group);
}

struct objects {
    evl_loop *loop;
    evl_future *future;
    evl_task *task;
    evl_task_group *group;
};

static void *from_elsewhere(void *arg) {
    struct objects *o = (struct objects *)arg;
    check_unusable(o->loop, o->future, o->task, o->group, EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_run_until_complete(o->loop, o->future), EVL_ERUNNING);
    return NULL;
}

static void call_from_elsewhere(void *arg) {
    in_thread(from_elsewhere, arg);
}

TEST(a_wrong_thread) {
    struct objects o = {manual_loop(), NULL, NULL, NULL};
    CHECK_CODE(evl_future_new(o.loop, &o.future), 0);
    CHECK_CODE(evl_task_new(o.loop, step, NULL, NULL, NULL, &o.task), 0);
    CHECK_CODE(evl_task_group_new(o.loop, &o.group), 0);
    CHECK_CODE(evl_loop_call_soon(o.loop, call_from_elsewhere, &o, NULL, NULL, NULL), 0);
    evl_loop_run_until_idle(o.loop);
    evl_future_unref(o.future);
    evl_task_unref(o.task);
    evl_task_group_unref(o.group);
    end_loop(o.loop);
}

TEST(a_task_that_is_done) {
    evl_loop *loop = manual_loop();
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, step, NULL, NULL, NULL, &task), 0);
    CHECK_CODE(evl_future_set_result(evl_task_as_future(task), NULL, NULL), -EINVAL);
    BAD_TRIPLE(evl_future_set_result(evl_task_as_future(task), &p, probe_free), -EINVAL);
    CHECK_CODE(evl_future_set_error(evl_task_as_future(task), -1, NULL), -EINVAL);
    CHECK_CODE(evl_future_set_result_threadsafe(evl_task_as_future(task), NULL, NULL), -EINVAL);
    evl_loop_run_until_idle(loop);
    BAD_TRIPLE(evl_task_set_result(task, &p, probe_free), EVL_EINVALIDSTATE);
    CHECK_INT(evl_task_cancel(task, NULL), 0);
    evl_task_unref(task);
    end_loop(loop);
}

TEST_MAIN()
