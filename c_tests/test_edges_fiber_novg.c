/* A host that switches stacks inside of a callback: no longjmp, and not to be taken for one. Not run under valgrind, which
 * does not follow it. */
#include "harness.h"

#include <ucontext.h>

enum { STACK = 1 << 18 };

static ucontext_t host, fiber;
static evl_loop *loop;
static int state, result;

static void switch_away(void *arg) {
    (void)arg;
    state = 1;
    CHECK(swapcontext(&fiber, &host) == 0);
    state = 2;
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"next", NULL, NULL, NULL), 0); /* still its callback */
}

static void run_in_fiber(void) {
    result = evl_loop_run_once(loop, 0);
    state = 3;
}

static void start_fiber(void (*function)(void), void *stack) {
    CHECK(getcontext(&fiber) == 0);
    fiber.uc_stack.ss_sp = stack;
    fiber.uc_stack.ss_size = STACK;
    fiber.uc_link = &host;
    makecontext(&fiber, function, 0);
    CHECK(swapcontext(&host, &fiber) == 0);
}

TEST(a_thread_whose_loop_is_suspended_in_a_fiber_runs_no_other) {
    evl_loop *other = manual_loop(), *running = NULL;
    struct probe p = probe_named(NULL, other);
    void *stack = malloc(STACK);
    loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(loop, switch_away, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(other, probe_call, &p, probe_free, NULL, NULL), 0);
    start_fiber(run_in_fiber, stack);
    REQUIRE(state == 1);
    CHECK_CODE(evl_loop_run_once(other, 0), EVL_ERUNNING);
    CHECK_CODE(evl_loop_run_once(loop, 0), EVL_ERUNNING);
    CHECK_CODE(evl_loop_close(loop), EVL_ERUNNING);
    CHECK_INT(evl_loop_is_running(loop), 1);
    CHECK_CODE(evl_get_running_loop(&running), 0);
    CHECK(running == loop);
    evl_loop_unref(running);
    CHECK_PROBE(p, 0, 0);
    CHECK(swapcontext(&host, &fiber) == 0); /* back into the callback */
    CHECK_INT(state, 3);
    CHECK_INT(result, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("next");
    CHECK_CODE(evl_loop_run_once(other, 0), 1);
    CHECK_PROBE(p, 1, 1);
    end_loop(loop);
    end_loop(other);
    free(stack);
}

static evl_loop *other_loop;

static void run_other_in_fiber(void) {
    result = evl_loop_run_once(other_loop, 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_call, (void *)"next", NULL, NULL, NULL), 0);
}

static void callback_with_a_fiber(void *stack) {
    start_fiber(run_other_in_fiber, stack);
    CHECK_CODE(evl_raise(-EIO, "still in the callback"), 0);
}

static void handle_failure(evl_loop *of, const evl_exception *exception, void *arg) {
    (void)of;
    (void)arg;
    CHECK_INT(exception->code, -EIO);
    trace("failure");
}

TEST(a_fiber_of_a_callback_runs_no_other_loop) {
    void *stack = malloc(STACK);
    loop = manual_loop();
    other_loop = manual_loop();
    CHECK_CODE(evl_loop_set_exception_handler(loop, handle_failure, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, callback_with_a_fiber, stack, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 2);
    CHECK_CODE(result, EVL_ERUNNING);
    CHECK_TRACE("failure next");
    end_loop(loop);
    end_loop(other_loop);
    free(stack);
}

TEST_MAIN()
