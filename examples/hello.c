/* A callback, a timer, a repeating timer. */
#include <evl.h>
#include <stdio.h>
#include <stdlib.h>

static evl_loop *loop;
static evl_timer *ticker;

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s: %s\n", what, evl_errname(code), evl_strerror(code));
        exit(1);
    }
}

static void greet(void *arg)
{
    printf("hello, %s\n", (const char *)arg);
}

static void finish(void *arg)
{
    (void)arg;
    puts("done");
    must(evl_loop_stop(loop), "stop");
}

static void tick(void *arg)
{
    int *left = arg;

    printf("%d\n", (*left)--);
    if (*left == 0) {
        must(evl_timer_cancel(ticker), "cancel"); /* its own timer: allowed */
        must(evl_loop_call_later(loop, EVL_MS(100), finish, NULL, NULL, NULL, NULL), "call later");
    }
}

int main(void)
{
    int left = 3;

    must(evl_loop_new(NULL, &loop), "new loop");
    /* The loop; what to call, with what, and what frees that; the context (NULL: the current one); the handle, if wanted. */
    must(evl_loop_call_soon(loop, greet, "world", NULL, NULL, NULL), "call soon");
    must(evl_loop_call_every(loop, EVL_MS(100), tick, &left, NULL, NULL, &ticker), "call every");

    must(evl_loop_run_forever(loop), "run");

    evl_timer_unref(ticker);
    evl_loop_unref(loop); /* the last reference closes it */
    return 0;
}
