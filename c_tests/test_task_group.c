/* Task groups: tasks that end together. */
#include "harness.h"

struct member {
    evl_future *awaits;
    int status; /* what it was told last */
    int answer; /* what it ends with after its await; 0: what it was told */
    int steps;
};

static int member_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct member *m = (struct member *)arg;
    (void)task;
    m->status = status;
    if (m->steps++ == 0 && status == 0 && m->awaits) {
        *next = evl_future_ref(m->awaits);
        return 0;
    }
    return m->answer ? m->answer : status;
}

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static evl_task_group *new_group(evl_loop *loop) {
    evl_task_group *group = NULL;
    CHECK_CODE(evl_task_group_new(loop, &group), 0);
    return group;
}

static void add(evl_task_group *group, struct member *m) {
    CHECK_CODE(evl_task_group_create_task(group, member_step, m, NULL, NULL, NULL), 0);
}

TEST(join_is_done_when_all_tasks_are) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    struct member a = {NULL, 9, 0, 0}, b = {new_future(loop), 9, 0, 0};
    evl_future *join = NULL;
    add(group, &a);
    add(group, &b);
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    CHECK_CODE(evl_task_group_join(group, NULL), EVL_EINVALIDSTATE);
    evl_loop_run_until_idle(loop);
    CHECK_INT(a.steps, 1);
    CHECK(!evl_future_done(join));
    evl_future_set_result(b.awaits, NULL, NULL);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_future_result(join, NULL), 0);
    CHECK_CODE(evl_task_group_create_task(group, member_step, &a, NULL, NULL, NULL), EVL_ESHUTDOWN);
    CHECK_INT(evl_task_group_failed(group, NULL, 0), 0);
    evl_future_unref(join);
    evl_future_unref(b.awaits);
    evl_task_group_unref(group);
    end_loop(loop);
}

TEST(an_empty_group_is_done_at_once) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    evl_future *join = NULL;
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    CHECK(evl_future_done(join));
    evl_future_unref(join);
    evl_task_group_unref(evl_task_group_ref(group));
    evl_task_group_unref(group);
    end_loop(loop);
}

TEST(the_first_error_cancels_the_others_and_is_told) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    struct member waits = {new_future(loop), 9, 0, 0}, fails = {NULL, 9, -EIO, 0}, fails_too = {NULL, 9, -EPERM, 0};
    evl_task *failed[3] = {NULL, NULL, NULL};
    evl_future *join = NULL;
    char text[120];
    add(group, &waits);
    add(group, &fails);
    add(group, &fails_too);
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(waits.status, EVL_ECANCELLED);
    CHECK_CODE(evl_future_result(join, NULL), -EIO);
    evl_future_error_message(join, text, sizeof text);
    CHECK_STRING(text, "unhandled errors in a TaskGroup (2), the first EIO");
    CHECK_INT(evl_task_group_failed(group, failed, 3), 2);
    CHECK_CODE(evl_future_result(evl_task_as_future(failed[0]), NULL), -EIO);
    CHECK_CODE(evl_future_result(evl_task_as_future(failed[1]), NULL), -EPERM);
    CHECK_CODE(evl_task_group_create_task(group, member_step, &fails, NULL, NULL, NULL), EVL_ESHUTDOWN);
    evl_future_unref(join);
    evl_future_unref(waits.awaits);
    evl_task_group_unref(group);
    end_loop(loop);
}

TEST(a_cancelled_task_is_no_failure) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    struct member a = {new_future(loop), 9, 0, 0}, b = {new_future(loop), 9, 0, 0};
    evl_future *join = NULL;
    evl_task *task = NULL;
    CHECK_CODE(evl_task_group_create_task(group, member_step, &a, NULL, NULL, &task), 0);
    add(group, &b);
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    evl_loop_run_until_idle(loop);
    CHECK_INT(evl_task_cancel(task, NULL), 1);
    evl_loop_run_until_idle(loop);
    CHECK(!evl_future_done(join));
    evl_future_set_result(b.awaits, NULL, NULL);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_future_result(join, NULL), 0);
    evl_task_unref(task);
    evl_future_unref(join);
    evl_future_unref(a.awaits);
    evl_future_unref(b.awaits);
    evl_task_group_unref(group);
    end_loop(loop);
}

TEST(cancelling_the_join_cancels_the_tasks_and_waits_for_them) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    struct member a = {new_future(loop), 9, 0, 0};
    evl_future *join = NULL;
    add(group, &a);
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    evl_loop_run_until_idle(loop);
    CHECK_INT(evl_future_cancel(join, NULL), 1);
    CHECK(!evl_future_done(join));
    evl_loop_run_until_idle(loop);
    CHECK_CODE(a.status, EVL_ECANCELLED);
    CHECK(evl_future_cancelled(join));
    evl_future_unref(join);
    evl_future_unref(a.awaits);
    evl_task_group_unref(group);
    end_loop(loop);
}

TEST(cancelling_a_group_cancels_its_tasks) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    struct member a = {new_future(loop), 9, 0, 0};
    evl_future *join = NULL;
    add(group, &a);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_task_group_cancel(group), 0);
    CHECK_CODE(evl_task_group_create_task(group, member_step, &a, NULL, NULL, NULL), EVL_ESHUTDOWN);
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(a.status, EVL_ECANCELLED);
    CHECK_CODE(evl_future_result(join, NULL), 0);
    evl_future_unref(join);
    evl_future_unref(a.awaits);
    evl_task_group_unref(group);
    end_loop(loop);
}

static void group_free(void *group) {
    evl_task_group_unref((evl_task_group *)group);
}

/* Ends with the group it made as its result. */
static int keeper_step(evl_task *task, int status, void *arg, evl_future **next) {
    evl_task_group *group = NULL;
    (void)arg;
    if (evl_task_get_awaited(task))
        return status;
    CHECK_CODE(evl_task_group_new(evl_task_get_loop(task), &group), 0);
    CHECK_CODE(evl_task_set_result(task, group, group_free), 0);
    return evl_task_group_join(group, next);
}

TEST(a_task_may_end_with_the_group_it_made) {
    evl_loop *loop = manual_loop();
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, keeper_step, NULL, NULL, NULL, &task), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, evl_task_as_future(task)), 0);
    evl_task_unref(task);
    end_loop(loop); /* valgrind sees whether both are gone */
}

/* A task that makes a group, works on something else, and joins the group whatever happens. */
struct parent {
    evl_task_group *group;
    evl_future *elsewhere;
    struct member fails;
    int state;
    int told;
    int cancelling;
};

static int parent_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct parent *p = (struct parent *)arg;
    switch (p->state++) {
    case 0:
        CHECK_CODE(evl_task_group_new(evl_task_get_loop(task), &p->group), 0);
        add(p->group, &p->fails);
        *next = evl_future_ref(p->elsewhere);
        return 0;
    case 1:
        p->told = status;
        p->cancelling = evl_task_cancelling(task);
        return evl_task_group_join(p->group, next);
    default:
        CHECK_INT(evl_task_cancelling(task), 0);
        evl_task_group_unref(p->group);
        return status;
    }
}

TEST(a_failing_task_interrupts_the_task_that_made_the_group) {
    evl_loop *loop = manual_loop();
    struct parent p = {NULL, new_future(loop), {NULL, 9, -EIO, 0}, 0, 0, 0};
    evl_task *task = NULL;
    CHECK_CODE(evl_task_new(loop, parent_step, &p, NULL, NULL, &task), 0);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(p.told, EVL_ECANCELLED);
    CHECK_INT(p.cancelling, 1);
    CHECK_INT(p.state, 3);
    CHECK_CODE(evl_future_result(evl_task_as_future(task), NULL), -EIO);
    evl_task_unref(task);
    evl_future_unref(p.elsewhere);
    end_loop(loop);
}

TEST(the_loop_closed_with_a_group_open) {
    evl_loop *loop = manual_loop();
    evl_task_group *group = new_group(loop);
    struct member a = {new_future(loop), 9, 0, 0};
    struct probe p = probe_named(NULL, loop);
    evl_future *join = NULL;
    add(group, &a);
    CHECK_CODE(evl_task_group_create_task(group, member_step, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_task_group_join(group, &join), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(p.frees, 1);
    CHECK_CODE(evl_task_group_join(group, NULL), EVL_ECLOSED);
    evl_loop_unref(loop);
    evl_future_unref(a.awaits);
    evl_future_unref(join);
    evl_task_group_unref(group);
}

TEST_MAIN()
