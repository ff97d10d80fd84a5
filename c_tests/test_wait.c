/* What is made of futures: sleep, gather, wait, wait_for, shield. */
#include "harness.h"

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static void fill(evl_loop *loop, evl_future **futures, int count) {
    int i;
    for (i = 0; i < count; i++)
        futures[i] = new_future(loop);
}

static void drop(evl_future **futures, int count) {
    int i;
    for (i = 0; i < count; i++)
        evl_future_unref(futures[i]);
}

static void settle(evl_loop *loop, evl_future *future, int code) {
    if (code == 0)
        CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    else if (code == EVL_ECANCELLED)
        CHECK_INT(evl_future_cancel(future, NULL), 1);
    else
        CHECK_CODE(evl_future_set_error(future, code, "failed"), 0);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
}

TEST(sleep_is_done_when_its_time_has_come) {
    evl_loop *loop = manual_loop();
    evl_future *future = NULL, *at_once = NULL, *never = NULL;
    CHECK_CODE(evl_sleep(loop, 100, &future), 0);
    CHECK_CODE(evl_sleep(loop, 0, &at_once), 0);
    CHECK_CODE(evl_sleep(loop, EVL_FOREVER, &never), 0);
    CHECK_CODE(evl_sleep(loop, 1, NULL), 0);
    CHECK(evl_future_done(at_once));
    evl_loop_advance(loop, 99);
    evl_loop_run_until_idle(loop);
    CHECK(!evl_future_done(future));
    evl_loop_advance(loop, 1);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_future_result(future, NULL), 0);
    CHECK(!evl_future_done(never));
    CHECK_INT(evl_future_cancel(never, NULL), 1);
    CHECK(evl_future_cancelled(never));
    evl_future_unref(future);
    evl_future_unref(at_once);
    evl_future_unref(never);
    end_loop(loop);
}

TEST(a_cancelled_sleep_leaves_no_timer) {
    evl_loop *loop = manual_loop();
    evl_metrics metrics;
    evl_future *future = NULL;
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_sleep(loop, 100, &future), 0);
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    CHECK_INT(metrics.timers, 1);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    CHECK_INT(metrics.timers, 0);
    evl_future_unref(future);
    end_loop(loop);
}

TEST(gather_is_done_when_all_are) {
    evl_loop *loop = manual_loop();
    evl_future *futures[3], *all = NULL, *none = NULL;
    fill(loop, futures, 3);
    CHECK_CODE(evl_gather(loop, futures, 3, 0, &all), 0);
    settle(loop, futures[1], 0);
    settle(loop, futures[2], 0);
    CHECK(!evl_future_done(all));
    settle(loop, futures[0], 0);
    CHECK_CODE(evl_future_result(all, NULL), 0);
    CHECK_CODE(evl_gather(loop, NULL, 0, 0, &none), 0);
    CHECK(evl_future_done(none));
    evl_future_unref(none);
    evl_future_unref(all);
    drop(futures, 3);
    end_loop(loop);
}

TEST(gather_of_futures_that_are_done_and_of_one_twice) {
    evl_loop *loop = manual_loop();
    evl_future *futures[2], *all = NULL;
    futures[0] = futures[1] = new_future(loop);
    settle(loop, futures[0], 0);
    CHECK_CODE(evl_gather(loop, futures, 2, 0, &all), 0);
    CHECK(!evl_future_done(all)); /* told by the loop, as everything is */
    evl_loop_run_until_idle(loop);
    CHECK(evl_future_done(all));
    evl_future_unref(all);
    evl_future_unref(futures[0]);
    end_loop(loop);
}

TEST(gather_fails_with_the_first_error_and_the_others_go_on) {
    evl_loop *loop = manual_loop();
    evl_future *futures[3], *all = NULL;
    char text[16];
    fill(loop, futures, 3);
    CHECK_CODE(evl_gather(loop, futures, 3, 0, &all), 0);
    settle(loop, futures[1], -EIO);
    CHECK_CODE(evl_future_result(all, NULL), -EIO);
    evl_future_error_message(all, text, sizeof text);
    CHECK_STRING(text, "failed");
    CHECK(!evl_future_done(futures[0]));
    settle(loop, futures[0], -EPERM); /* nobody is told: the gather has taken it on */
    settle(loop, futures[2], 0);
    evl_future_unref(all);
    drop(futures, 3);
    end_loop(loop);
}

TEST(gather_with_errors_as_results) {
    evl_loop *loop = manual_loop();
    evl_future *futures[3], *all = NULL;
    int code = 0;
    fill(loop, futures, 3);
    CHECK_CODE(evl_gather(loop, futures, 3, 1, &all), 0);
    settle(loop, futures[1], -EIO);
    settle(loop, futures[2], EVL_ECANCELLED);
    CHECK(!evl_future_done(all));
    settle(loop, futures[0], 0);
    CHECK_CODE(evl_future_result(all, NULL), 0);
    CHECK_CODE(evl_future_error(futures[1], &code), 0);
    CHECK_CODE(code, -EIO);
    evl_future_unref(all);
    drop(futures, 3);
    end_loop(loop);
}

TEST(cancelling_a_gather_cancels_all_and_waits_for_them) {
    evl_loop *loop = manual_loop();
    evl_future *futures[2], *all = NULL;
    int errors_are_results;
    for (errors_are_results = 0; errors_are_results < 2; errors_are_results++) {
        fill(loop, futures, 2);
        CHECK_CODE(evl_gather(loop, futures, 2, errors_are_results, &all), 0);
        CHECK_INT(evl_future_cancel(all, NULL), 1);
        CHECK(evl_future_cancelled(futures[0]) && evl_future_cancelled(futures[1]));
        CHECK(!evl_future_done(all));
        evl_loop_run_until_idle(loop);
        CHECK(evl_future_cancelled(all));
        evl_future_unref(all);
        drop(futures, 2);
    }
    end_loop(loop);
}

TEST(a_cancelled_child_cancels_the_gather) {
    evl_loop *loop = manual_loop();
    evl_future *futures[2], *all = NULL;
    fill(loop, futures, 2);
    CHECK_CODE(evl_gather(loop, futures, 2, 0, &all), 0);
    settle(loop, futures[0], EVL_ECANCELLED);
    CHECK_CODE(evl_future_result(all, NULL), EVL_ECANCELLED);
    CHECK(!evl_future_done(futures[1]));
    evl_future_unref(all);
    drop(futures, 2);
    end_loop(loop);
}

static void check_wait(evl_loop *loop, evl_future **futures, int until, const int *codes, int64_t expected) {
    evl_future *wait = NULL;
    int64_t done = -1;
    int i;
    fill(loop, futures, 3);
    CHECK_CODE(evl_wait(loop, futures, 3, until, EVL_FOREVER, &wait), 0);
    for (i = 0; i < 3 && !evl_future_done(wait); i++)
        settle(loop, futures[i], codes[i]);
    CHECK_CODE(evl_future_result_int(wait, &done), 0);
    CHECK_INT(done, expected);
    for (i = 0; i < 3; i++)
        evl_future_result(futures[i], NULL); /* asked for */
    evl_future_unref(wait);
    drop(futures, 3);
}

TEST(wait_until) {
    static const int well[] = {0, 0, 0}, second_fails[] = {0, -EIO, 0}, cancelled[] = {EVL_ECANCELLED, 0, 0};
    evl_loop *loop = manual_loop();
    evl_future *futures[3];
    check_wait(loop, futures, EVL_ALL_COMPLETED, well, 3);
    check_wait(loop, futures, EVL_ALL_COMPLETED, second_fails, 3);
    check_wait(loop, futures, EVL_FIRST_COMPLETED, well, 1);
    check_wait(loop, futures, EVL_FIRST_ERROR, second_fails, 2);
    check_wait(loop, futures, EVL_FIRST_ERROR, cancelled, 3);
    end_loop(loop);
}

TEST(wait_with_a_timeout_tells_how_many_are_done_and_leaves_the_others_alone) {
    evl_loop *loop = manual_loop();
    evl_future *futures[2], *wait = NULL;
    int64_t done = -1;
    fill(loop, futures, 2);
    CHECK_CODE(evl_wait(loop, futures, 2, EVL_ALL_COMPLETED, 10, &wait), 0);
    settle(loop, futures[0], 0);
    evl_loop_advance(loop, 10);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_future_result_int(wait, &done), 0);
    CHECK_INT(done, 1);
    CHECK(!evl_future_done(futures[1]));
    evl_future_unref(wait);
    settle(loop, futures[1], 0);
    drop(futures, 2);
    end_loop(loop);
}

TEST(a_cancelled_wait_leaves_what_it_waited_for_alone) {
    evl_loop *loop = manual_loop();
    evl_future *futures[1], *wait = NULL, *done = NULL;
    fill(loop, futures, 1);
    CHECK_CODE(evl_wait(loop, futures, 1, EVL_ALL_COMPLETED, EVL_FOREVER, &wait), 0);
    CHECK_INT(evl_future_cancel(wait, NULL), 1);
    CHECK(evl_future_cancelled(wait));
    CHECK(!evl_future_done(futures[0]));
    settle(loop, futures[0], 0);
    CHECK_CODE(evl_wait(loop, futures, 1, EVL_ALL_COMPLETED, EVL_FOREVER, &done), 0);
    CHECK(evl_future_done(done));
    evl_future_unref(done);
    evl_future_unref(wait);
    drop(futures, 1);
    end_loop(loop);
}

TEST(wait_for_ends_as_the_future_does) {
    static const int codes[] = {0, -EIO, EVL_ECANCELLED};
    evl_loop *loop = manual_loop();
    evl_future *future, *outer = NULL;
    int i, word = 0;
    void *value = NULL;
    for (i = 0; i < 3; i++) {
        future = new_future(loop);
        CHECK_CODE(evl_wait_for(future, 100, &outer), 0);
        settle(loop, future, codes[i]);
        evl_future_unref(future);
        CHECK_CODE(evl_future_result(outer, NULL), codes[i]);
        evl_future_unref(outer);
    }
    future = new_future(loop);
    CHECK_CODE(evl_future_set_result(future, &word, NULL), 0);
    CHECK_CODE(evl_wait_for(future, 0, &outer), 0);
    evl_future_unref(future);
    CHECK_CODE(evl_future_result(outer, &value), 0); /* the result lives with the outer future */
    CHECK(value == &word);
    evl_future_unref(outer);
    end_loop(loop);
}

TEST(wait_for_cancels_when_time_is_out) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop), *outer = NULL;
    CHECK_CODE(evl_wait_for(future, 100, &outer), 0);
    evl_loop_advance(loop, 100);
    evl_loop_run_until_idle(loop);
    CHECK(evl_future_cancelled(future));
    CHECK_CODE(evl_future_result(outer, NULL), -ETIMEDOUT);
    evl_future_unref(future);
    evl_future_unref(outer);
    end_loop(loop);
}

TEST(cancelling_a_wait_for_cancels_the_future) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop), *outer = NULL;
    CHECK_CODE(evl_wait_for(future, EVL_FOREVER, &outer), 0);
    CHECK_INT(evl_future_cancel(outer, NULL), 1);
    CHECK(evl_future_cancelled(future));
    CHECK(!evl_future_done(outer));
    evl_loop_run_until_idle(loop);
    CHECK(evl_future_cancelled(outer));
    evl_future_unref(future);
    evl_future_unref(outer);
    end_loop(loop);
}

/* A task that takes its time to end when it is cancelled. */
static int slow_to_end(evl_task *task, int status, void *arg, evl_future **next) {
    int *steps = (int *)arg;
    (*steps)++;
    if (*steps == 1)
        return evl_sleep(evl_task_get_loop(task), EVL_FOREVER, next);
    if (status == EVL_ECANCELLED)
        return evl_sleep(evl_task_get_loop(task), 50, next);
    return EVL_ECANCELLED;
}

TEST(wait_for_waits_until_the_cancelled_task_has_ended) {
    evl_loop *loop = manual_loop();
    evl_future *outer = NULL;
    evl_task *task = NULL;
    int steps = 0;
    CHECK_CODE(evl_task_new(loop, slow_to_end, &steps, NULL, NULL, &task), 0);
    CHECK_CODE(evl_wait_for(evl_task_as_future(task), 10, &outer), 0);
    evl_loop_run_until_idle(loop);
    evl_loop_advance(loop, 10);
    evl_loop_run_until_idle(loop);
    CHECK_INT(steps, 2);
    CHECK(!evl_future_done(outer));
    evl_loop_advance(loop, 50);
    evl_loop_run_until_idle(loop);
    CHECK_CODE(evl_future_result(outer, NULL), -ETIMEDOUT);
    evl_task_unref(task);
    evl_future_unref(outer);
    end_loop(loop);
}

TEST(shield_keeps_a_cancel_away) {
    evl_loop *loop = manual_loop();
    evl_future *inner = new_future(loop), *outer = NULL, *again = NULL;
    CHECK_CODE(evl_shield(inner, &outer), 0);
    CHECK_INT(evl_future_cancel(outer, NULL), 1);
    CHECK(evl_future_cancelled(outer));
    CHECK(!evl_future_done(inner));
    evl_future_unref(outer);
    CHECK_CODE(evl_shield(inner, &outer), 0);
    settle(loop, inner, -EIO);
    CHECK_CODE(evl_future_result(outer, NULL), -EIO);
    CHECK_CODE(evl_shield(inner, &again), 0);
    CHECK(again == inner);
    evl_future_unref(again);
    evl_future_unref(outer);
    evl_future_unref(inner);
    end_loop(loop);
}

TEST(the_loop_closed_with_everything_open) {
    evl_loop *loop = manual_loop();
    evl_future *futures[2], *made[6];
    int i;
    fill(loop, futures, 2);
    CHECK_CODE(evl_gather(loop, futures, 2, 0, &made[0]), 0);
    CHECK_CODE(evl_wait(loop, futures, 2, EVL_ALL_COMPLETED, 10, &made[1]), 0);
    CHECK_CODE(evl_wait_for(futures[0], 10, &made[2]), 0);
    CHECK_CODE(evl_shield(futures[0], &made[3]), 0);
    CHECK_CODE(evl_sleep(loop, 10, &made[4]), 0);
    made[5] = new_future(loop);
    CHECK_CODE(evl_future_set_timeout(made[5], 10), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    for (i = 0; i < 6; i++) {
        CHECK(!evl_future_done(made[i]));
        CHECK_CODE(evl_future_cancel(made[i], NULL), EVL_ECLOSED);
    }
    evl_loop_unref(loop);
    drop(made, 6);
    drop(futures, 2);
}

TEST_MAIN()
