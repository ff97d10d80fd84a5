/* The version of the library and of the header. */
#include "harness.h"

TEST(version_is_the_headers) {
    char text[64];
    CHECK_STRING(evl_version(), EVL_VERSION);
    snprintf(text, sizeof text, "%d.%d.%d", EVL_VERSION_MAJOR, EVL_VERSION_MINOR, EVL_VERSION_PATCH);
    CHECK(strncmp(EVL_VERSION, text, strlen(text)) == 0);
    CHECK(evl_version() == evl_version());
}

TEST(abi_version_is_the_headers) {
    CHECK_INT(evl_abi_version(), EVL_ABI_VERSION);
}

TEST(time_macros_are_64_bits_wide) {
    CHECK(sizeof(EVL_SECONDS(1)) == 8);
    CHECK(EVL_SECONDS(3) == INT64_C(3000000000));
    CHECK(EVL_MS(10000) == INT64_C(10000000000));
    CHECK(EVL_MS(-1) == -INT64_C(1000000));
    CHECK(EVL_FOREVER == INT64_MAX);
}

TEST_MAIN()
