/* loop.sock_connect and sock_accept, and whose the connections are. */
#include "harness.h"
#include "sockets.h"

TEST(connect_and_accept) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address, local;
    socklen_t local_size = sizeof local;
    evl_future *accepting = NULL, *connecting = NULL;
    const void *peer = NULL;
    uint32_t peer_size = 0;
    int64_t number = -1, again = -1;
    int listener = listening(&address, 5), client = tcp_socket(), server;
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &accepting), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(evl_future_done(accepting), 0);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &connecting), 0);
    finish(loop, connecting);
    CHECK_CODE(end_code(connecting), 0);
    finish(loop, accepting);
    CHECK_CODE(evl_future_result_int(accepting, &number), 0);
    CHECK_CODE(evl_future_result_int(accepting, &again), 0);
    CHECK_INT(again, number);
    server = (int)number;
    CHECK(fcntl(server, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(server, F_GETFD) & FD_CLOEXEC);
    CHECK(getsockname(client, (struct sockaddr *)&local, &local_size) == 0);
    CHECK_CODE(evl_future_result_address(accepting, &peer, &peer_size), 0);
    CHECK_INT(peer_size, sizeof local);
    CHECK(peer != NULL && memcmp(peer, &local, sizeof local) == 0);
    evl_future_unref(accepting);
    CHECK(is_open(server));
    CHECK_CODE(evl_loop_sock_sendall(loop, client, "ping", 4, NULL), 0);
    {
        evl_future *future = begin_recv(loop, server, 100);
        finish(loop, future);
        CHECK(end_bytes(future, "ping"));
    }
    close(server);
    close(client);
    close(listener);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(accept_of_a_connection_that_waits_is_done_at_once) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *future = NULL;
    int64_t fd;
    int listener = listening(&address, 5), client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &future), 0);
    finish(loop, future);
    fd = end_number(future);
    CHECK(fd >= 0);
    close((int)fd);
    close(client);
    close(listener);
    end_loop(loop);
}

TEST(unix_sockets_by_path) {
    evl_loop *loop = real_loop();
    char directory[] = "/tmp/evl-test-XXXXXX";
    struct sockaddr_un address;
    evl_future *accepting = NULL, *connecting = NULL;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int64_t server;
    REQUIRE(mkdtemp(directory) != NULL);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(listener, 5) == 0);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &accepting), 0);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &connecting), 0);
    CHECK_CODE(end_code(connecting), 0); /* at once */
    finish(loop, accepting);
    server = end_number(accepting);
    CHECK(server >= 0);
    close((int)server);
    close(client);
    close(listener);
    unlink(address.sun_path);
    rmdir(directory);
    end_loop(loop);
}

/* An accepted descriptor belongs to the future until somebody asks for it. */
TEST(connections_do_not_leak) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    int before = count_descriptors(), listener = listening(&address, 50), clients[6], i;
    evl_future *futures[6];
    for (i = 0; i < 6; i++) {
        futures[i] = NULL;
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(connect(clients[i], (struct sockaddr *)&address, sizeof address) == 0);
        CHECK_CODE(evl_loop_sock_accept(loop, listener, &futures[i]), 0);
        finish(loop, futures[i]);
    }
    CHECK_INT(count_descriptors(), before + 1 + 6 + 6);
    evl_future_unref(futures[0]);
    CHECK_INT(count_descriptors(), before + 1 + 6 + 5);
    /* Asking how it ended, or for the address, does not take it. */
    CHECK_CODE(evl_future_result(futures[1], NULL), 0);
    {
        const void *peer = NULL;
        int code = 1;
        CHECK_CODE(evl_future_result_address(futures[1], &peer, NULL), 0);
        CHECK_CODE(evl_future_error(futures[1], &code), 0);
        CHECK_CODE(evl_future_result_int(futures[1], NULL), -EINVAL);
    }
    evl_future_unref(futures[1]);
    CHECK_INT(count_descriptors(), before + 1 + 6 + 4);
    for (i = 2; i < 4; i++) {
        int64_t fd = end_number(futures[i]);
        CHECK(is_open((int)fd));
        close((int)fd);
    }
    end_loop(loop);
    CHECK_INT(count_descriptors() <= before + 1 + 6 + 2, 1); /* the loop's are gone, too */
    {
        int64_t fd = end_number(futures[4]); /* of a closed loop */
        CHECK(is_open((int)fd));
        close((int)fd);
    }
    evl_future_unref(futures[5]);
    for (i = 0; i < 6; i++)
        close(clients[i]);
    close(listener);
    CHECK(count_descriptors() <= before);
}

/* A future that ends as the accept does hands the connection on, or closes it. */
TEST(connections_through_another_future) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    int before = count_descriptors(), listener = listening(&address, 5), taken, i;
    for (taken = 0; taken < 2; taken++)
        for (i = 0; i < 2; i++) {
            evl_future *accepting = NULL, *outer = NULL;
            const void *peer = NULL;
            uint32_t size = 0;
            int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (i == 1)
                CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
            CHECK_CODE(evl_loop_sock_accept(loop, listener, &accepting), 0);
            CHECK_CODE(evl_wait_for(accepting, EVL_SECONDS(20), &outer), 0);
            evl_future_unref(accepting);
            if (i == 0)
                CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
            finish(loop, outer);
            CHECK_CODE(evl_future_result_address(outer, &peer, &size), 0);
            CHECK_INT(size, sizeof address);
            if (taken) {
                int64_t fd = end_number(outer);
                CHECK(is_open((int)fd));
                close((int)fd);
            } else {
                evl_future_unref(outer);
            }
            CHECK(recv(client, &size, 1, 0) == 0); /* closed either way */
            close(client);
        }
    close(listener);
    end_loop(loop);
    CHECK(count_descriptors() <= before);
}

TEST_MAIN()
