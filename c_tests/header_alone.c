/* evl.h needs nothing included before it, and may be included twice; compiled as strict C99. */
#include <evl.h>
#include <evl.h>

int main(void)
{
    evl_loop *loop = 0;
    int64_t seconds = EVL_SECONDS(3);

    return evl_loop_new(0, &loop) == 0 && seconds == EVL_MS(3000) && EVL_ECLOSED < -20000 ? 0 : 1;
}
