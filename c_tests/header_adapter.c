/* A header of include/evl/ needs nothing included before it, and may be included twice; compiled as strict C and C++, with
 * -DEVL_ADAPTER='<evl/name.h>'. */
#include EVL_ADAPTER
#include EVL_ADAPTER

int main(void)
{
    return 0;
}
