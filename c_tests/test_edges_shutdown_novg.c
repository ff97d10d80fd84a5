/* Shutdown hooks that are cancelled cost nothing. Not run under valgrind: the size of its own memory would be measured. */
#include "harness.h"

static long resident_kib(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = -1;
    if (CHECK(file != NULL)) {
        CHECK(fscanf(file, "%*d %ld", &pages) == 1);
        fclose(file);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void add_and_cancel(evl_loop *loop, int count) {
    while (count--) {
        evl_handle *hook = NULL;
        if (evl_loop_add_shutdown_hook(loop, nothing, NULL, NULL, NULL, &hook) != 0)
            CHECK(!"added");
        if (evl_handle_cancel(hook) != 0)
            CHECK(!"cancelled");
        evl_handle_unref(hook);
    }
}

TEST(cancelled_hooks_keep_no_memory) {
    evl_loop *loop = manual_loop();
    long before;
    add_and_cancel(loop, 1000);
    before = resident_kib();
    add_and_cancel(loop, 300000);
    CHECK(resident_kib() - before < 4096);
    CHECK_CODE(evl_loop_run_shutdown(loop), 0);
    end_loop(loop);
}

TEST(hooks_among_cancelled_ones_keep_their_order) {
    static const char *const names[] = {"a", "b", "c", "d"};
    evl_loop *loop = manual_loop();
    evl_handle *crossed[4] = {NULL};
    int i;
    for (i = 0; i < 4; i++) {
        add_and_cancel(loop, 100);
        CHECK_CODE(evl_loop_add_shutdown_hook(loop, trace_call, (void *)names[i], NULL, NULL, NULL), 0);
        CHECK_CODE(evl_loop_add_shutdown_hook(loop, trace_call, (void *)"never", NULL, NULL, &crossed[i]), 0);
    }
    for (i = 0; i < 4; i++) {
        CHECK_CODE(evl_handle_cancel(crossed[i]), 0);
        evl_handle_unref(crossed[i]);
        add_and_cancel(loop, 100);
    }
    CHECK_CODE(evl_loop_run_shutdown(loop), 4);
    CHECK_TRACE("d c b a");
    end_loop(loop);
}

TEST_MAIN()
