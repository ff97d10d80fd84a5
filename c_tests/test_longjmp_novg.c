/* A callback that is left by longjmp is undefined behaviour; where the stack tells, the next run notices instead of going on.
 * Not run under valgrind: what the lost frames held is lost. */
#include "harness.h"

#include <setjmp.h>

static jmp_buf out;

static void leave(void *arg)
{
    (void)arg;
    longjmp(out, 1);
}

static void count(void *arg)
{
    ++*(int *)arg;
}

static int run(evl_loop *loop)
{
    return evl_loop_run_once(loop, 0);
}

TEST(a_loop_left_by_longjmp_can_only_be_closed)
{
    evl_loop *left = NULL, *other = NULL;
    int calls = 0;
    CHECK_CODE(evl_loop_new(NULL, &left), 0);
    CHECK_CODE(evl_loop_new(NULL, &other), 0);
    CHECK_CODE(evl_loop_call_soon(left, leave, NULL, NULL, NULL, NULL), 0);
    if (setjmp(out) == 0) {
        run(left);
        CHECK(!"longjmp came here");
    }
    CHECK_CODE(run(left), EVL_EPANIC);
    CHECK_CODE(evl_loop_call_soon(left, count, &calls, NULL, NULL, NULL), EVL_EPANIC);
    CHECK_CODE(evl_loop_call_soon(other, count, &calls, NULL, NULL, NULL), 0);
    CHECK_CODE(run(other), 1);
    CHECK(calls == 1);
    CHECK_CODE(evl_loop_close(left), 0);
    CHECK_CODE(evl_loop_close(other), 0);
    evl_loop_unref(left);
    evl_loop_unref(other);
}

TEST_MAIN()
