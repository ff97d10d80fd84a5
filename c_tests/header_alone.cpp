// evl.h needs nothing included before it, and may be included twice; compiled as strict C++11.
#include <evl.h>
#include <evl.h>

int main()
{
    evl_loop *loop = nullptr;
    int64_t seconds = EVL_SECONDS(3);

    return evl_loop_new(nullptr, &loop) == 0 && seconds == EVL_MS(3000) && EVL_ECLOSED < -20000 ? 0 : 1;
}
