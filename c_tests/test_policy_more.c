/* Policies and the loop that runs: what evl_get_loop answers inside and outside of callbacks, whatever the policy says; child watchers
 * of threads and of loops that come and go. */
#include "harness.h"

/* --- a policy that has no loop */

static int asked;

static int refuse_loop(void *arg, evl_loop **out) {
    (void)arg, (void)out;
    asked++;
    return -ENXIO;
}

static int take_loop(void *arg, evl_loop *loop) {
    (void)arg, (void)loop;
    return 0;
}

static int make_loop(void *arg, evl_loop **out) {
    (void)arg;
    return evl_loop_new(NULL, out);
}

static void look_inside(void *arg) {
    evl_loop *loop = NULL;
    trace("inside");
    CHECK_CODE(evl_get_loop(&loop), 0);
    CHECK(loop == (evl_loop *)arg);
    evl_loop_unref(loop);
    loop = NULL;
    CHECK_CODE(evl_get_running_loop(&loop), 0);
    CHECK(loop == (evl_loop *)arg);
    evl_loop_unref(loop);
}

static void no_running_loop(void) {
    evl_loop *loop = NULL;
    CHECK_CODE(evl_get_running_loop(&loop), EVL_ENOLOOP);
    CHECK(loop == NULL);
}

static void run_once_inside(evl_loop *loop) {
    CHECK_CODE(evl_loop_call_soon(loop, look_inside, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("inside");
}

TEST(the_running_loop_whatever_the_policy_says) {
    evl_policy_vtable table = {sizeof table, 0, refuse_loop, take_loop, make_loop, NULL, NULL};
    evl_policy *policy = NULL;
    evl_loop *loop = NULL, *other = NULL;
    CHECK_CODE(evl_policy_new(&table, NULL, NULL, &policy), 0);
    CHECK_CODE(evl_set_policy(policy), 0);
    CHECK_CODE(evl_new_loop(&loop), 0);
    asked = 0;
    CHECK_CODE(evl_get_loop(&other), -ENXIO);
    CHECK_CODE(evl_set_loop(NULL), 0);
    CHECK_CODE(evl_get_loop(&other), -ENXIO);
    no_running_loop();
    run_once_inside(loop);
    no_running_loop();
    CHECK_INT(asked, 2); /* not while one runs */
    CHECK_CODE(evl_set_loop(loop), 0);
    CHECK_CODE(evl_get_loop(&other), -ENXIO);
    CHECK(other == NULL);
    end_loop(loop);
    CHECK_CODE(evl_set_policy(NULL), 0);
    evl_policy_unref(policy);
}

TEST(the_running_loop_is_not_the_policys) {
    evl_loop *loop = NULL, *policys = NULL, *other = NULL;
    CHECK_CODE(evl_set_policy(NULL), 0);
    CHECK_CODE(evl_new_loop(&loop), 0);
    CHECK_CODE(evl_get_loop(&policys), 0); /* makes one */
    CHECK(policys != loop);
    run_once_inside(loop);
    CHECK_CODE(evl_set_loop(NULL), 0);
    CHECK_CODE(evl_get_loop(&other), EVL_ENOLOOP);
    run_once_inside(loop);
    no_running_loop();
    CHECK_CODE(evl_get_loop(&other), EVL_ENOLOOP);
    CHECK_CODE(evl_set_loop(loop), 0);
    CHECK_CODE(evl_get_loop(&other), 0);
    CHECK(other == loop);
    evl_loop_unref(other);
    CHECK_CODE(evl_set_loop(NULL), 0);
    CHECK_CODE(evl_get_loop(&other), EVL_ENOLOOP);
    end_loop(policys);
    end_loop(loop);
    CHECK_CODE(evl_set_policy(NULL), 0);
}

/* A loop that was closed stays the policy's until it is replaced. */
TEST(a_closed_loop_stays_until_it_is_replaced) {
    evl_policy *policy = NULL;
    evl_loop *loop = NULL, *again = NULL;
    CHECK_CODE(evl_policy_new_default(NULL, NULL, NULL, &policy), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &loop), 0);
    end_loop(loop);
    CHECK_CODE(evl_policy_get_loop(policy, &again), 0);
    CHECK(again == loop);
    CHECK_INT(evl_loop_is_closed(again), 1);
    evl_loop_unref(again);
    CHECK_CODE(evl_policy_new_loop(policy, &loop), 0);
    CHECK_CODE(evl_policy_set_loop(policy, loop), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &again), 0);
    CHECK(again == loop);
    evl_loop_unref(again);
    end_loop(loop);
    evl_policy_unref(policy);
}

static void look_in_child(void *arg) {
    evl_loop *loop = NULL;
    (void)arg;
    no_running_loop();
    CHECK_CODE(evl_new_loop(&loop), 0);
    CHECK_CODE(evl_set_loop(loop), 0);
    run_once_inside(loop);
    no_running_loop();
    end_loop(loop);
    CHECK_CODE(evl_set_loop(NULL), 0);
}

static int child_status;

static void fork_inside(void *arg) {
    look_inside(arg);
    trace_reset();
    child_status = in_child(look_in_child, NULL);
    look_inside(arg);
}

/* A child that is forked inside of a callback has no running loop, and may run its own. */
TEST(a_forked_child_has_no_running_loop) {
    evl_loop *loop = NULL;
    CHECK_CODE(evl_new_loop(&loop), 0);
    child_status = -1;
    CHECK_CODE(evl_loop_call_soon(loop, fork_inside, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("inside");
    CHECK_INT(child_status, 0);
    end_loop(loop);
}

/* --- child watchers */

static void *ask_in_thread(void *arg) {
    evl_policy *policy = (evl_policy *)arg;
    evl_loop *loop = NULL, *other = NULL;
    evl_child_watcher *watcher = NULL;
    CHECK_CODE(evl_policy_get_loop(policy, &other), EVL_ENOLOOP);
    CHECK_CODE(evl_policy_get_child_watcher(policy, &watcher), 0); /* it needs no loop */
    CHECK_INT(evl_child_watcher_is_active(watcher), 1);
    CHECK_CODE(evl_policy_new_loop(policy, &loop), 0);
    CHECK_CODE(evl_policy_set_loop(policy, loop), 0);
    CHECK_CODE(evl_policy_get_loop(policy, &other), 0);
    CHECK(other == loop);
    evl_loop_unref(other);
    end_loop(loop);
    return watcher;
}

static evl_policy *asked_policy;
static evl_child_watcher *threads_watcher;

static void *note_watcher(void *arg) {
    threads_watcher = (evl_child_watcher *)ask_in_thread(asked_policy);
    return arg;
}

TEST(every_thread_has_the_same_child_watcher) {
    evl_child_watcher *first = NULL, *again = NULL;
    CHECK_CODE(evl_policy_new_default(NULL, NULL, NULL, &asked_policy), 0);
    CHECK_CODE(evl_policy_get_child_watcher(asked_policy, &first), 0);
    CHECK_CODE(evl_policy_get_child_watcher(asked_policy, &again), 0);
    CHECK(first == again);
    evl_child_watcher_unref(again);
    in_thread(note_watcher, NULL);
    CHECK(threads_watcher == first);
    evl_child_watcher_unref(threads_watcher);
    evl_child_watcher_unref(first);
    CHECK_CODE(evl_child_watcher_new_threaded(&first), 0);
    CHECK_CODE(evl_policy_set_child_watcher(asked_policy, first), 0);
    in_thread(note_watcher, NULL);
    CHECK(threads_watcher == first);
    evl_child_watcher_unref(threads_watcher);
    evl_child_watcher_unref(first);
    evl_policy_unref(asked_policy);
}

static int wait_for_child(evl_loop *loop, const char *command) {
    evl_process *process = NULL;
    evl_future *future = NULL;
    int64_t code = -1;
    CHECK_CODE(evl_loop_subprocess_shell(loop, command, NULL, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_wait(process, &future), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), 0);
    CHECK_CODE(evl_future_result_int(future, &code), 0);
    evl_future_unref(future);
    evl_process_unref(process);
    return (int)code;
}

/* The watcher serves whichever loop starts a child: the policy's, its successor, one that is nobody's. */
TEST(a_child_watcher_and_loops_that_come_and_go) {
    evl_loop *first = NULL, *second = NULL;
    CHECK_CODE(evl_set_policy(NULL), 0);
    CHECK_CODE(evl_get_loop(&first), 0);
    CHECK_INT(wait_for_child(first, "exit 1"), 1);
    CHECK_CODE(evl_new_loop(&second), 0);
    CHECK_CODE(evl_set_loop(second), 0);
    CHECK_INT(wait_for_child(second, "exit 2"), 2);
    CHECK_INT(wait_for_child(first, "exit 3"), 3);
    end_loop(first);
    CHECK_CODE(evl_set_loop(NULL), 0);
    CHECK_INT(wait_for_child(second, "exit 4"), 4);
    end_loop(second);
    CHECK_CODE(evl_set_policy(NULL), 0);
}

TEST_MAIN()
