/* A small user of evl: header and library fit, and a timer fires. */
#include <evl.h>
#include <stdio.h>
#include <string.h>

static evl_loop *loop;
static int fired;

static void on_timer(void *arg)
{
    *(int *)arg += 1;
    evl_loop_stop(loop);
}

int main(void)
{
    if (strcmp(evl_version(), EVL_VERSION) != 0 || evl_abi_version() != EVL_ABI_VERSION)
        return 1;
    if (evl_loop_new(NULL, &loop) < 0)
        return 2;
    if (evl_loop_call_later(loop, EVL_MS(1), on_timer, &fired, NULL, NULL, NULL) < 0)
        return 3;
    if (evl_loop_run_forever(loop) < 0 || fired != 1)
        return 4;
    evl_loop_unref(loop);
    printf("evl %s\n", evl_version());
    return 0;
}
