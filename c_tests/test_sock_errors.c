/* Sockets by descriptor when things go wrong: what is refused, and what fails. */
#include "harness.h"
#include "sockets.h"

static evl_future *const untouched = (evl_future *)(void *)&harness_failures;

static void check_detail(const char *expected) {
    char text[200] = "";
    CHECK(evl_error_detail(text, sizeof text) >= 0);
    CHECK_STRING(text, expected);
}

/* Every operation on fd answers this code at once. */
static void refuses(evl_loop *loop, int fd, int code, int connect_code) {
    struct sockaddr_in address = loopback();
    evl_future *future = untouched;
    char buffer[4];
    int file = random_file(1, 1, NULL);
    address.sin_port = htons(9);
    CHECK_CODE(evl_loop_sock_recv(loop, fd, 4, &future), code);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fd, buffer, 4, &future), code);
    CHECK_CODE(evl_loop_sock_recvfrom(loop, fd, 4, &future), code);
    CHECK_CODE(evl_loop_sock_recvfrom_into(loop, fd, buffer, 4, &future), code);
    CHECK_CODE(evl_loop_sock_sendall(loop, fd, "x", 1, &future), code);
    CHECK_CODE(evl_loop_sock_sendto(loop, fd, "x", 1, &address, sizeof address, &future), code);
    CHECK_CODE(evl_loop_sock_connect(loop, fd, &address, sizeof address, &future), connect_code);
    CHECK_CODE(evl_loop_sock_accept(loop, fd, &future), connect_code);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fd, file, 0, 0, &future), code);
    CHECK(future == untouched);
    close(file);
}

TEST(closed_descriptors_and_no_sockets) {
    evl_loop *loop = real_loop();
    int fds[2], file = random_file(10, 1, NULL);
    REQUIRE(pipe2(fds, O_NONBLOCK) == 0);
    CHECK(fcntl(file, F_SETFL, O_NONBLOCK) == 0);
    refuses(loop, fds[0], -ENOTSOCK, -ENOTSOCK);
    refuses(loop, fds[1], -ENOTSOCK, -ENOTSOCK);
    refuses(loop, file, -ENOTSOCK, -ENOTSOCK);
    close_pair(fds);
    close(file);
    refuses(loop, fds[0], -EBADF, -EBADF);
    refuses(loop, -1, -EBADF, -EBADF);
    refuses(loop, 1 << 30, -EBADF, -EBADF);
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(blocking_descriptors) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *future = untouched;
    int listener = listening(&address, 5), client = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &future), -EINVAL);
    check_detail("the socket must be non-blocking");
    CHECK(fcntl(listener, F_SETFL, 0) == 0);
    CHECK_CODE(evl_loop_sock_accept(loop, listener, &future), -EINVAL);
    check_detail("the socket must be non-blocking");
    CHECK(future == untouched);
    close(client);
    close(listener);
    end_loop(loop);
}

TEST(sockets_of_the_wrong_kind) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    struct sockaddr_un path;
    evl_future *future = untouched;
    int udp = bound(SOCK_DGRAM, &address), tcp = tcp_socket();
    CHECK_CODE(evl_loop_sock_accept(loop, udp, &future), -EOPNOTSUPP);
    CHECK_CODE(evl_loop_sock_accept(loop, tcp, &future), -EINVAL);
    memset(&path, 0, sizeof path);
    path.sun_family = AF_UNIX;
    strcpy(path.sun_path, "/nowhere");
    CHECK_CODE(evl_loop_sock_connect(loop, tcp, &path, sizeof path, &future), -EAFNOSUPPORT);
    check_detail("connect /nowhere: address family not supported");
    CHECK_CODE(evl_loop_sock_connect(loop, tcp, &address, 8, &future), -EINVAL);
    CHECK(future == untouched);
    /* Not connected: what the socket says of its state is the operation's error. */
    CHECK_CODE(evl_loop_sock_recv(loop, tcp, 10, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    check_message(future, "recv: not connected");
    CHECK_CODE(end_code(future), -ENOTCONN);
    CHECK_CODE(evl_loop_sock_sendall(loop, tcp, "x", 1, &future), 0);
    CHECK_CODE(end_code(future), -EPIPE);
    CHECK_CODE(evl_loop_sock_sendall(loop, udp, "x", 1, &future), 0);
    CHECK_CODE(end_code(future), -EDESTADDRREQ);
    close(udp);
    close(tcp);
    end_loop(loop);
}

TEST(connection_refused) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    struct sockaddr_un path;
    evl_future *future = NULL;
    char expected[100];
    int fd = bound(SOCK_STREAM, &address), client = tcp_socket(), local = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &future), 0);
    finish(loop, future);
    snprintf(expected, sizeof expected, "connect 127.0.0.1:%d: connection refused", ntohs(address.sin_port));
    check_message(future, expected);
    CHECK_CODE(end_code(future), -ECONNREFUSED);
    CHECK_INT(watchers(loop), 0);

    memset(&path, 0, sizeof path);
    path.sun_family = AF_UNIX;
    strcpy(path.sun_path, "/nowhere/at/all");
    CHECK_CODE(evl_loop_sock_connect(loop, local, &path, sizeof path, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    check_message(future, "connect /nowhere/at/all: no such file, directory or entry");
    CHECK_CODE(end_code(future), -ENOENT);
    close(fd);
    close(client);
    close(local);
    end_loop(loop);
}

TEST(refused_by_ipv6) {
    evl_loop *loop = real_loop();
    struct sockaddr_in6 address;
    socklen_t size = sizeof address;
    evl_future *future = NULL;
    char expected[100];
    int fd = socket(AF_INET6, SOCK_STREAM, 0), client = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    memset(&address, 0, sizeof address);
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        printf("skipped: there is no IPv6 here\n");
    } else {
        CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
        CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &future), 0);
        finish(loop, future);
        snprintf(expected, sizeof expected, "connect [::1]:%d: connection refused", ntohs(address.sin6_port));
        check_message(future, expected);
        CHECK_CODE(end_code(future), -ECONNREFUSED);
    }
    if (fd >= 0)
        close(fd);
    if (client >= 0)
        close(client);
    end_loop(loop);
}

/* No stream goes to everybody at once: the kernel knows no way. */
TEST(unreachable) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address = loopback();
    evl_future *future = NULL;
    int client = tcp_socket();
    address.sin_addr.s_addr = htonl(INADDR_BROADCAST);
    address.sin_port = htons(80);
    CHECK_CODE(evl_loop_sock_connect(loop, client, &address, sizeof address, &future), 0);
    finish(loop, future);
    check_message(future, "connect 255.255.255.255:80: network is unreachable");
    CHECK_CODE(end_code(future), -ENETUNREACH);
    close(client);
    end_loop(loop);
}

/* A listener that accepts nothing: with its backlog full, the kernel answers no more. */
TEST(connecting_times_out) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *futures[8], *late = NULL;
    int listener = listening(&address, 0), fds[8], i;
    for (i = 0; i < 8; i++) {
        futures[i] = NULL;
        fds[i] = tcp_socket();
        CHECK_CODE(evl_loop_sock_connect(loop, fds[i], &address, sizeof address, &futures[i]), 0);
        CHECK_CODE(evl_future_set_timeout(futures[i], EVL_MS(100)), 0);
    }
    for (i = 0; i < 8; i++) {
        finish(loop, futures[i]);
        if (evl_future_result(futures[i], NULL) == -ETIMEDOUT)
            late = futures[i];
        else
            CHECK_CODE(evl_future_result(futures[i], NULL), 0);
    }
    CHECK(late != NULL);
    CHECK_INT(watchers(loop), 0);
    for (i = 0; i < 8; i++) {
        evl_future_unref(futures[i]);
        close(fds[i]);
    }
    close(listener);
    end_loop(loop);
}

TEST(the_peer_is_gone) {
    evl_loop *loop = real_loop();
    struct linger reset = {1, 0};
    evl_future *reading = NULL, *writing = NULL;
    static char big[4 << 20];
    int fds[2];
    tcp_pair(fds);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 10, &reading), 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], big, sizeof big, &writing), 0);
    CHECK_INT(evl_future_done(writing), 0);
    CHECK(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
    close(fds[1]);
    finish(loop, reading);
    finish(loop, writing);
    check_message(reading, "recv: connection reset by the peer");
    /* The error is told once: who comes second sees a broken pipe, or the end. */
    CHECK_CODE(end_code(reading), -ECONNRESET);
    CHECK_CODE(end_code(writing), -EPIPE);
    CHECK_INT(watchers(loop), 0);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, &writing), 0);
    check_message(writing, "send: broken pipe");
    CHECK_CODE(end_code(writing), -EPIPE);
    close(fds[0]);
    end_loop(loop);
}

static void note_error(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    trace(evl_errname(exception->code));
    ++*(int *)arg;
}

TEST(an_error_that_nobody_asks_for_is_reported) {
    evl_loop *loop = real_loop();
    int fds[2], errors = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, note_error, &errors, NULL), 0);
    unix_pair(fds);
    close(fds[1]);
    CHECK_CODE(evl_loop_sock_sendall(loop, fds[0], "x", 1, NULL), 0);
    CHECK_INT(errors, 1);
    CHECK_TRACE("EPIPE");
    close(fds[0]);
    end_loop(loop);
}

/* Told to the kernel only after it was closed: it ends by itself. */
TEST(closed_before_the_kernel_was_told_of_it) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2];
    unix_pair(fds);
    /* Cancelled and begun again before the next poll, so that the kernel is asked there. */
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &future), 0);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    evl_future_unref(future);
    CHECK_CODE(evl_loop_sock_recv(loop, fds[0], 1, &future), 0);
    close(fds[0]);
    finish(loop, future);
    check_message(future, "recv: bad file descriptor");
    CHECK_CODE(end_code(future), -EBADF);
    CHECK_INT(watchers(loop), 0);
    close(fds[1]);
    end_loop(loop);
}

static void *use_from_elsewhere(void *loop) {
    refuses((evl_loop *)loop, 0, EVL_EWRONGTHREAD, EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_stop_threadsafe((evl_loop *)loop), 0);
    return NULL;
}

static void begin_elsewhere(void *loop) {
    static pthread_t thread;
    CHECK(pthread_create(&thread, NULL, use_from_elsewhere, loop) == 0);
    pthread_detach(thread);
}

TEST(from_the_wrong_thread) {
    evl_loop *loop = real_loop();
    CHECK_CODE(evl_loop_call_soon(loop, begin_elsewhere, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    end_loop(loop);
}

TEST_MAIN()
