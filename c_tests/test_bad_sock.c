/* NULL and worse, for every function of sockets by descriptor: nothing crashes, nothing is written. */
#include "harness.h"
#include "sockets.h"

static evl_future *const untouched = (evl_future *)(void *)&harness_failures;

TEST(null_loops) {
    evl_future *future = untouched;
    struct sockaddr_in address = loopback();
    char buffer[4] = "abc";
    int fds[2], file = random_file(1, 1, NULL);
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_recv(NULL, fds[0], 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_recv_into(NULL, fds[0], buffer, 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_recvfrom(NULL, fds[0], 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_recvfrom_into(NULL, fds[0], buffer, 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendall(NULL, fds[0], "x", 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendto(NULL, fds[0], "x", 1, &address, sizeof address, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(NULL, fds[0], &address, sizeof address, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_accept(NULL, fds[0], &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(NULL, fds[0], file, 0, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_recv(NULL, -1, 0, NULL), -EINVAL);
    CHECK_CODE(evl_loop_sock_accept(NULL, -1, NULL), -EINVAL);
    CHECK(future == untouched);
    CHECK_STRING(buffer, "abc");
    CHECK_INT(drain(fds[1]), 0);
    close_pair(fds);
    close(file);
}

TEST(null_buffers_and_addresses) {
    evl_loop *loop = real_loop();
    evl_future *future = untouched;
    struct sockaddr_in address = loopback();
    char many[1000] = {0};
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], NULL, 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], NULL, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_recvfrom_into(loop, fds[0], NULL, 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], NULL, 4, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], NULL, 4, &address, sizeof address, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "x", 1, NULL, sizeof address, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "x", 1, &address, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "x", 1, many, sizeof many, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(loop, fds[0], NULL, sizeof address, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(loop, fds[0], NULL, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(loop, fds[0], &address, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(loop, fds[0], many, sizeof many, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(loop, fds[0], many, UINT32_MAX, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_connect(loop, fds[0], many, 1, &future), -EINVAL);
    CHECK(future == untouched);
    CHECK_INT(drain(fds[1]), 0);
    CHECK_INT(watchers(loop), 0);
    close_pair(fds);
    end_loop(loop);
}

TEST(sizes_that_cannot_be) {
    evl_loop *loop = real_loop();
    evl_future *future = untouched;
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], SIZE_MAX, &future), -ENOMEM);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], SIZE_MAX / 2 + 1, &future), -ENOMEM);
    CHECK_CODE(evl_loop_sock_recvfrom(loop, fds[0], SIZE_MAX, &future), -ENOMEM);
    CHECK(future == untouched);
    CHECK_INT(watchers(loop), 0);
    /* Nothing at all is asked for. */
    CHECK(send(fds[1], "x", 1, 0) == 1);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 0, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    CHECK(end_bytes(future, ""));
    CHECK_INT(drain(fds[0]), 1);
    close_pair(fds);
    end_loop(loop);
}

/* Readable and writable, but no memory of this process. */
TEST(buffers_that_are_not_there) {
    evl_loop *loop = real_loop();
    evl_future *future = untouched;
    int fds[2];
    if (under_valgrind()) {
        end_loop(loop);
        return; /* which tells of it */
    }
    unix_pair(fds);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], (void *)16, 10, &future), -EFAULT);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], (void *)16, 10, &future), -EFAULT);
    CHECK(future == untouched);
    close_pair(fds);
    end_loop(loop);
}

/* The wrong accessor for each kind of result. */
TEST(results_of_another_kind) {
    evl_loop *loop = real_loop();
    evl_future *bytes = NULL, *number = NULL, *none = NULL, *numbered = NULL, *waiting = NULL;
    const void *data = untouched;
    void *pointer = untouched;
    int64_t value = 7;
    uint32_t size = 7;
    size_t length = 7;
    char buffer[4];
    int fds[2];
    unix_pair(fds);
    CHECK(send(fds[1], "abcdef", 6, 0) == 6);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &bytes), 0);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fds[0], buffer, 1, &number), 0);
    CHECK_CODE(evl_loop_sock_recvfrom_into(loop, fds[0], buffer, 4, &numbered), 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, &none), 0);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &waiting), 0);
    CHECK_CODE(evl_future_result_int(bytes, &value), -EINVAL);
    CHECK_CODE(evl_future_result(bytes, &pointer), -EINVAL);
    CHECK_CODE(evl_future_result_bytes(number, &data, &length), -EINVAL);
    CHECK_CODE(evl_future_result_address(number, &data, &size), -EINVAL);
    CHECK_CODE(evl_future_result(number, &pointer), -EINVAL);
    CHECK_CODE(evl_future_result(numbered, &pointer), -EINVAL);
    CHECK_CODE(evl_future_result_bytes(numbered, &data, &length), -EINVAL);
    CHECK_CODE(evl_future_result_address(numbered, NULL, &size), -EINVAL);
    CHECK_CODE(evl_future_result_int(none, &value), -EINVAL);
    CHECK_CODE(evl_future_result_bytes(none, &data, &length), -EINVAL);
    CHECK_CODE(evl_future_result_address(none, &data, &size), -EINVAL);
    CHECK_CODE(evl_future_result_int(waiting, &value), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_result_bytes(waiting, &data, &length), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_future_result_address(waiting, &data, &size), EVL_EINVALIDSTATE);
    CHECK(data == untouched && pointer == untouched && value == 7 && size == 7 && length == 7);
    evl_future_cancel(waiting, NULL);
    evl_future_unref(bytes);
    evl_future_unref(number);
    evl_future_unref(numbered);
    evl_future_unref(none);
    evl_future_unref(waiting);
    close_pair(fds);
    end_loop(loop);
}

static void in_the_child(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    evl_future *future = untouched;
    CHECK_CODE(evl_loop_sock_recv(loop, 0, 1, &future), EVL_EFORKED);
    CHECK_CODE(evl_loop_sock_sendall(loop, 0, "x", 1, &future), EVL_EFORKED);
    CHECK(future == untouched);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_CODE(evl_loop_sock_recv(loop, 0, 1, &future), EVL_ECLOSED);
}

TEST(in_a_forked_child) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2];
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 10, &future), 0);
    CHECK_INT(in_child(in_the_child, loop), 0);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    finish(loop, future);
    CHECK(end_bytes(future, "x"));
    close_pair(fds);
    end_loop(loop);
}

TEST_MAIN()
