/* Datagrams by descriptor: loop.sock_recvfrom, sock_recvfrom_into, sock_sendto. */
#include "harness.h"
#include "sockets.h"

TEST(the_bytes_have_no_address_on_a_stream) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    const void *address = NULL, *data = NULL;
    uint32_t size = 77;
    int fds[2];
    tcp_pair(fds);
    CHECK(send(fds[1], "x", 1, 0) == 1);
    CHECK_CODE(evl_loop_sock_recvfrom(loop, fds[0], 10, &future), 0);
    finish(loop, future);
    CHECK_CODE(evl_future_result_address(future, &address, &size), 0);
    CHECK_INT(size, 0);
    CHECK_CODE(evl_future_result_bytes(future, &data, NULL), 0);
    CHECK(end_bytes(future, "x"));
    close_pair(fds);
    end_loop(loop);
}

TEST(datagrams_with_their_senders) {
    evl_loop *loop = real_loop();
    struct sockaddr_in here, there;
    evl_future *future = NULL;
    const void *address = NULL;
    uint32_t size = 0;
    char buffer[100];
    int a = bound(SOCK_DGRAM, &here), b = bound(SOCK_DGRAM, &there);
    CHECK_CODE(evl_loop_sock_recvfrom(loop, b, 100, &future), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    {
        evl_future *sending = NULL;
        CHECK_CODE(evl_loop_sock_sendto(loop, a, "datagram", 8, &there, sizeof there, &sending), 0);
        CHECK_INT(evl_future_done(sending), 1);
        CHECK_INT(end_number(sending), 8);
    }
    finish(loop, future);
    CHECK_CODE(evl_future_result_address(future, &address, &size), 0);
    CHECK_INT(size, sizeof here);
    CHECK(address != NULL && memcmp(address, &here, sizeof here) == 0);
    CHECK(end_bytes(future, "datagram"));

    CHECK_CODE(evl_loop_sock_sendto(loop, b, "back", 4, &here, sizeof here, NULL), 0);
    CHECK_CODE(evl_loop_sock_recvfrom_into(loop, a, buffer, sizeof buffer, &future), 0);
    finish(loop, future);
    CHECK_CODE(evl_future_result_address(future, &address, &size), 0);
    CHECK_INT(size, sizeof there);
    CHECK(address != NULL && memcmp(address, &there, sizeof there) == 0);
    CHECK_CODE(evl_future_result_address(future, &address, NULL), 0);
    CHECK_INT(end_number(future), 4);
    CHECK(memcmp(buffer, "back", 4) == 0);
    close(a);
    close(b);
    end_loop(loop);
}

TEST(empty_datagrams_and_cut_ones) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds) == 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], NULL, 0, NULL), 0);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "longer", 6, NULL, 0, &future), 0);
    CHECK_INT(end_number(future), 6);
    CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], "z", 1, NULL, 0, NULL), 0);
    CHECK(end_bytes(begin_recv(loop, fds[1], 10), ""));
    CHECK(end_bytes(begin_recv(loop, fds[1], 2), "lo"));
    CHECK(end_bytes(begin_recv(loop, fds[1], 10), "z"));
    close_pair(fds);
    end_loop(loop);
}

/* A datagram socket whose peer reads nothing: sendto waits. */
TEST(sendto_waits_for_room) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2], sent = 0;
    char block[1000] = {0};
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
    for (;;) {
        CHECK_CODE(evl_loop_sock_sendto(loop, fds[0], block, sizeof block, NULL, 0, &future), 0);
        if (!evl_future_done(future))
            break;
        CHECK_INT(end_number(future), sizeof block);
        if (!CHECK(sent++ < 100000))
            break;
    }
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    while (recv(fds[1], block, sizeof block, 0) > 0)
        sent--;
    CHECK_INT(sent, 0);
    finish(loop, future);
    CHECK_INT(end_number(future), sizeof block);
    close_pair(fds);
    end_loop(loop);
}

TEST_MAIN()
