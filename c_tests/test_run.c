/* evl_run: a main task from beginning to end. */
#include "harness.h"

struct program {
    int state;
    int answer;
    int frees;
    int helper_status;
    int hook_calls;
    evl_loop *loop;
};

static void program_free(void *arg) {
    ((struct program *)arg)->frees++;
}

static int helper_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct program *p = (struct program *)arg;
    if (status < 0) {
        p->helper_status = status;
        return status;
    }
    return evl_sleep(evl_task_get_loop(task), EVL_FOREVER, next);
}

static void hook(void *arg) {
    ((struct program *)arg)->hook_calls++;
}

static int main_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct program *p = (struct program *)arg;
    evl_loop *current = NULL;
    if (status < 0)
        return status;
    switch (p->state++) {
    case 0:
        p->loop = evl_task_get_loop(task);
        CHECK_CODE(evl_get_loop(&current), 0);
        CHECK(current == p->loop);
        evl_loop_unref(current);
        CHECK_CODE(evl_task_new(p->loop, helper_step, p, NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_add_shutdown_hook(p->loop, hook, p, NULL, NULL, NULL), 0);
        return evl_sleep(p->loop, 1000, next);
    default:
        return p->answer;
    }
}

TEST(runs_the_main_task_and_cleans_up) {
    static const int answers[] = {0, -EIO, EVL_ECANCELLED};
    evl_loop *current = NULL;
    int i;
    for (i = 0; i < 3; i++) {
        struct program p = {0, 0, 0, 0, 0, NULL};
        p.answer = answers[i];
        CHECK_CODE(evl_run(main_step, &p, program_free, NULL), answers[i]);
        CHECK_INT(p.state, 2);
        CHECK_INT(p.frees, 1);
        CHECK_CODE(p.helper_status, EVL_ECANCELLED);
        CHECK_INT(p.hook_calls, 1);
        CHECK_CODE(evl_get_loop(&current), EVL_ENOLOOP);
    }
    CHECK_CODE(evl_set_policy(NULL), 0);
}

static int nested_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct program *p = (struct program *)arg;
    (void)task, (void)status, (void)next;
    CHECK_CODE(evl_run(main_step, p, program_free, NULL), EVL_ERUNNING);
    CHECK_INT(p->frees, 1);
    return 0;
}

TEST(not_inside_of_a_running_loop) {
    struct program p = {0, 0, 0, 0, 0, NULL};
    CHECK_CODE(evl_run(nested_step, &p, NULL, NULL), 0);
}

static int exit_step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)status, (void)arg, (void)next;
    evl_raise_exit(3);
    return 0;
}

TEST(an_exit_ends_the_run) {
    CHECK_CODE(evl_run(exit_step, NULL, NULL, NULL), EVL_EEXIT);
}

static int interrupted_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct program *p = (struct program *)arg;
    if (p->state++ == 0) {
        CHECK(raise(SIGINT) == 0);
        return evl_sleep(evl_task_get_loop(task), EVL_FOREVER, next);
    }
    p->helper_status = status;
    return p->answer ? status : 0;
}

TEST(sigint_cancels_the_main_task) {
    struct program p = {0, 1, 0, 0, 0, NULL};
    evl_run_options options;
    CHECK_CODE(evl_run_options_init(&options, sizeof options), 0);
    options.flags = EVL_RUN_SIGINT;
    CHECK_CODE(evl_run(interrupted_step, &p, NULL, &options), -EINTR);
    CHECK_CODE(p.helper_status, EVL_ECANCELLED);
    CHECK_INT(p.state, 2);
    /* A task that ends well all the same was not interrupted. */
    p.state = p.answer = 0;
    CHECK_CODE(evl_run(interrupted_step, &p, NULL, &options), 0);
}

/* Ignores the first cancel; SIGINT comes again. */
static int stubborn_step(evl_task *task, int status, void *arg, evl_future **next) {
    struct program *p = (struct program *)arg;
    if (p->state < 2) {
        p->state++;
        CHECK(raise(SIGINT) == 0);
        return evl_sleep(evl_task_get_loop(task), EVL_FOREVER, next);
    }
    p->helper_status = status;
    return status;
}

TEST(a_second_sigint_ends_the_run) {
    struct program p = {0, 0, 0, 0, 0, NULL};
    evl_run_options options;
    CHECK_CODE(evl_run_options_init(&options, sizeof options), 0);
    options.flags = EVL_RUN_SIGINT;
    CHECK_CODE(evl_run(stubborn_step, &p, NULL, &options), -EINTR);
    CHECK_CODE(p.helper_status, EVL_ECANCELLED); /* by the end of the run, as every task that is left */
}

TEST(bad_calls) {
    evl_run_options options;
    struct probe p = probe_named(NULL, NULL);
    CHECK_CODE(evl_run(NULL, &p, probe_free, NULL), -EINVAL);
    CHECK_INT(p.frees, 1);
    CHECK_CODE(evl_run_options_init(NULL, sizeof options), -EINVAL);
    CHECK_CODE(evl_run_options_init(&options, 1), EVL_EOPTIONS);
    CHECK_CODE(evl_run_options_init(&options, sizeof options), 0);
    options.flags = 4;
    CHECK_CODE(evl_run(main_step, &p, probe_free, &options), EVL_EOPTIONS);
    CHECK_INT(p.frees, 2);
}

TEST_MAIN()
