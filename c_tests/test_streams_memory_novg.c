/* Streams when there is no more memory. This program has its own malloc, which valgrind would not bear. */
#include "reading.h"

#include <dlfcn.h>
#include <stddef.h>

/* Only a little memory can be had. */
static volatile int scarce;

void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "malloc");
    return scarce && size >= 1000 ? NULL : real(size);
}

static char room[100000], bytes[50000];

/* A large read that does not come to its end, when what it has got cannot be kept: nobody is told that there was less. */
TEST(an_end_in_the_middle_of_a_large_read) {
    int how;
    for (how = 0; how < 3; how++) {
        evl_loop *loop = real_loop();
        int fd, code = 0;
        evl_stream *stream = open_pair(loop, &fd);
        evl_future *future = read_exactly_into(stream, room, sizeof room);
        pour(loop, fd, bytes, sizeof bytes);
        idle(loop);
        CHECK_INT(evl_future_done(future), 0);
        scarce = 1;
        if (how == 0)
            shutdown(fd, SHUT_WR);
        else if (how == 1)
            evl_transport_abort(evl_stream_get_transport(stream));
        else
            CHECK_CODE(evl_future_cancel(future, NULL), 1);
        while (!evl_future_done(future))
            CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
        scarce = 0;
        evl_future_error(future, &code);
        evl_future_unref(future);
        CHECK_CODE(code, how == 2 ? 0 : -ENOMEM);
        future = begin_wait_closed(stream);
        CHECK_CODE(will_fail(loop, future), -ENOMEM);
        CHECK_CODE(end_code(read_some(stream, 1)), -ENOMEM);
        evl_stream_unref(stream);
        close(fd);
        end_loop(loop);
    }
}

TEST_MAIN()
