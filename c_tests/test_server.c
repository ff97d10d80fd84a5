/* Servers: made with every option, serving, failing to accept, and ending. */
#include "streams.h"

#include <sys/resource.h>

static evl_server_options server_options(void) {
    evl_server_options options;
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    return options;
}

static evl_future *begin_server(struct crowd *crowd, evl_loop *loop, const evl_server_options *options) {
    evl_future *future = NULL;
    crowd_init(crowd, loop);
    CHECK_CODE(evl_loop_create_server(loop, options, crowd_make, crowd, crowd_free, &future), 0);
    return future;
}

static struct crowd crowd;

/* Closes and gives back. */
static void end_crowd(evl_loop *loop) {
    CHECK_CODE(evl_server_close(crowd.server), 0);
    idle(loop);
    crowd_end(&crowd);
    end_loop(loop);
    CHECK_INT(crowd.frees, 1);
}

/* --- making */

TEST(on_every_interface) {
    evl_loop *loop = real_loop();
    int fds[8], count, fd;
    evl_future *future = begin_server(&crowd, loop, NULL);
    CHECK_INT(evl_future_done(future), 1);
    crowd.server = server_of(loop, future);
    count = evl_server_sockets(crowd.server, fds, 8);
    CHECK(count >= 1 && count <= 2);
    CHECK_INT(evl_server_sockets(crowd.server, NULL, 0), count);
    CHECK(evl_server_get_loop(crowd.server) == loop);
    CHECK_INT(evl_server_is_serving(crowd.server), 1);
    CHECK(evl_server_port(crowd.server) > 0);
    {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        int i;
        for (i = 0; i < count; i++) {
            CHECK(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
            size = sizeof address;
            CHECK(getsockname(fds[i], (struct sockaddr *)&address, &size) == 0);
            if (address.sin_family == AF_INET) {
                fd = dial(ntohs(address.sin_port));
                UNTIL(loop, made_of(&crowd) == 1);
                close(fd);
            }
        }
    }
    UNTIL(loop, crowd.peers[0].lost);
    end_crowd(loop);
}

TEST(on_several_hosts_and_one_named_twice) {
    evl_loop *loop = real_loop();
    const char *hosts[] = {"127.0.0.2", "127.0.0.3", "127.0.0.2"};
    evl_server_options options = server_options();
    int fds[8];
    options.hosts = hosts;
    options.host_count = 3;
    options.host = "127.0.0.1";
    crowd.server = server_of(loop, begin_server(&crowd, loop, &options));
    CHECK_INT(evl_server_sockets(crowd.server, fds, 8), 3);
    end_crowd(loop);
}

TEST(on_a_name) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    options.host = "localhost";
    options.family = AF_INET;
    crowd.server = server_of(loop, begin_server(&crowd, loop, &options));
    {
        int fd = dial(evl_server_port(crowd.server));
        UNTIL(loop, made_of(&crowd) == 1);
        close(fd);
        UNTIL(loop, crowd.peers[0].lost);
    }
    end_crowd(loop);
}

/* asyncio's create_server: an empty host is every interface. */
TEST(an_empty_host_is_every_interface) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int fds[2];
    options.host = "";
    options.family = AF_INET;
    crowd.server = server_of(loop, begin_server(&crowd, loop, &options));
    REQUIRE(crowd.server != NULL);
    CHECK_INT(evl_server_sockets(crowd.server, fds, 2), 1);
    CHECK(getsockname(fds[0], (struct sockaddr *)&address, &size) == 0);
    CHECK_INT(address.sin_addr.s_addr, INADDR_ANY);
    end_crowd(loop);
}

TEST(an_address_in_use) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    static struct crowd second;
    evl_future *future;
    char service[10], expected[100];
    int port = crowd_serve(&crowd, loop, 0), before;
    snprintf(service, sizeof service, "%d", port);
    options.host = "127.0.0.1";
    options.service = service;
    before = count_descriptors();
    future = begin_server(&second, loop, &options);
    finish(loop, future);
    CHECK_CODE(evl_future_result(future, NULL), -EADDRINUSE);
    snprintf(expected, sizeof expected, "bind 127.0.0.1:%d: ", port);
    {
        char text[200] = "";
        CHECK(evl_future_error_message(future, text, sizeof text) > 0);
        CHECK(strncmp(text, expected, strlen(expected)) == 0);
    }
    evl_future_unref(future);
    CHECK_INT(second.frees, 1);
    CHECK_INT(count_descriptors(), before);
    end_crowd(loop);
}

/* An address that this machine does not have is left out, if there are others (bpo-30945). */
TEST(an_address_that_is_not_here) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    const char *hosts[] = {"192.0.2.1", "127.0.0.1"};
    evl_future *future;
    int fds[2];
    options.hosts = hosts;
    options.host_count = 2;
    crowd.server = server_of(loop, begin_server(&crowd, loop, &options));
    REQUIRE(crowd.server != NULL);
    CHECK_INT(evl_server_sockets(crowd.server, fds, 2), 1);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    options.host_count = 1;
    future = begin_server(&crowd, loop, &options);
    finish(loop, future);
    check_message(future, "bind 192.0.2.1:0: cannot assign the address");
    CHECK_CODE(end_code(future), -EADDRNOTAVAIL);
    end_loop(loop);
}

TEST(reuse_port) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    static struct crowd second;
    char service[10];
    options.host = "127.0.0.1";
    options.flags = EVL_SERVER_REUSE_PORT;
    crowd.server = server_of(loop, begin_server(&crowd, loop, &options));
    snprintf(service, sizeof service, "%d", evl_server_port(crowd.server));
    options.service = service;
    second.server = NULL;
    {
        evl_server *server = server_of(loop, begin_server(&second, loop, &options));
        CHECK_INT(evl_server_port(server), evl_server_port(crowd.server));
        CHECK_CODE(evl_server_close(server), 0);
        evl_server_unref(server);
    }
    end_crowd(loop);
}

/* The address of a server that has just closed its connections first can be bound again, unless told otherwise. */
TEST(reuse_address) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    evl_future *future;
    char service[10];
    int fd, flags[2] = {0, EVL_SERVER_NO_REUSE_ADDRESS}, i;
    for (i = 0; i < 2; i++) {
        snprintf(service, sizeof service, "%d", crowd_serve(&crowd, loop, 0));
        fd = dial(evl_server_port(crowd.server));
        UNTIL(loop, made_of(&crowd) == 1);
        CHECK_CODE(evl_server_close(crowd.server), 0);
        CHECK_INT(evl_server_close_clients(crowd.server), 1);
        UNTIL(loop, crowd.peers[0].lost);
        close(fd);
        crowd_end(&crowd);
        options.host = "127.0.0.1";
        options.service = service;
        options.flags = (uint32_t)flags[i];
        future = begin_server(&crowd, loop, &options);
        finish(loop, future);
        CHECK_CODE(end_code(future), i == 0 ? 0 : -EADDRINUSE);
    }
    end_loop(loop);
}

TEST(not_started) {
    evl_loop *loop = real_loop();
    int fd, port = crowd_serve(&crowd, loop, EVL_SERVER_NOT_STARTED);
    struct sockaddr_in address = loopback();
    CHECK_INT(evl_server_is_serving(crowd.server), 0);
    address.sin_port = htons((uint16_t)port);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno == ECONNREFUSED);
    close(fd);
    CHECK_CODE(evl_server_start_serving(crowd.server), 0);
    CHECK_CODE(evl_server_start_serving(crowd.server), 0);
    CHECK_INT(evl_server_is_serving(crowd.server), 1);
    fd = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    close(fd);
    UNTIL(loop, crowd.peers[0].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    CHECK_CODE(evl_server_start_serving(crowd.server), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_server_port(crowd.server), -EBADF);
    CHECK_INT(evl_server_sockets(crowd.server, NULL, 0), 0);
    end_crowd(loop);
}

TEST(not_started_and_given_back) {
    evl_loop *loop = real_loop();
    int before = count_descriptors();
    crowd_serve(&crowd, loop, EVL_SERVER_NOT_STARTED);
    CHECK_INT(count_descriptors(), before + 1);
    crowd_end(&crowd);
    CHECK_INT(crowd.frees, 1);
    CHECK_INT(count_descriptors(), before);
    end_loop(loop);
}

TEST(of_a_bound_socket) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *future = NULL;
    int listener = bound(SOCK_STREAM, &address), fd;
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, listener, NULL, crowd_make, &crowd, crowd_free, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    crowd.server = server_of(loop, future);
    fd = dial(ntohs(address.sin_port));
    UNTIL(loop, made_of(&crowd) == 1);
    close(fd);
    UNTIL(loop, crowd.peers[0].lost);
    end_crowd(loop);
    CHECK(!is_open(listener));
}

/* What cannot be served stays the caller's. */
TEST(a_socket_that_cannot_be_served) {
    evl_loop *loop = real_loop();
    struct sockaddr_in address;
    evl_future *future = NULL;
    int listener = bound(SOCK_STREAM, &address), datagrams = bound(SOCK_DGRAM, &address);
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_add_reader(loop, listener, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, listener, NULL, crowd_make, &crowd, crowd_free, &future),
               EVL_EBUSY);
    CHECK(is_open(listener));
    CHECK_CODE(evl_loop_create_server_from_socket(loop, datagrams, NULL, crowd_make, &crowd, crowd_free, &future),
               -EINVAL);
    CHECK(is_open(datagrams));
    CHECK_INT(crowd.frees, 2);
    CHECK(evl_loop_remove_reader(loop, listener) >= 0);
    close(listener);
    close(datagrams);
    end_loop(loop);
}

TEST(unix_names) {
    evl_loop *loop = real_loop();
    char name[200], path[64];
    evl_future *future = NULL;
    memset(name, 'x', sizeof name);
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_unix_server(loop, name, 108, NULL, crowd_make, &crowd, crowd_free, &future),
               -ENAMETOOLONG);
    CHECK_CODE(evl_loop_create_unix_server(loop, name, 0, NULL, crowd_make, &crowd, crowd_free, &future),
               -ENAMETOOLONG);
    CHECK_CODE(evl_loop_create_unix_server(loop, "/no/such/directory", 18, NULL, crowd_make, &crowd, crowd_free,
                                           &future),
               -ENOENT);
    /* A path with a NUL inside would be cut by the system. */
    CHECK_CODE(evl_loop_create_unix_server(loop, "/tmp/evl\0x", 10, NULL, crowd_make, &crowd, crowd_free, &future),
               -EINVAL);
    CHECK_INT(crowd.frees, 4);
    /* What is no socket is not replaced. */
    snprintf(path, sizeof path, "/tmp/evl-test-server-%d", (int)getpid());
    close(open(path, O_CREAT | O_RDWR, 0600));
    CHECK_CODE(evl_loop_create_unix_server(loop, path, strlen(path), NULL, crowd_make, &crowd, crowd_free, &future),
               -EADDRINUSE);
    CHECK(access(path, F_OK) == 0);
    unlink(path);
    name[0] = 0;
    snprintf(name + 1, 100, "evl-test-server-%d", (int)getpid());
    memset(name + 1 + strlen(name + 1), '.', 107 - strlen(name + 1));
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_unix_server(loop, name, 108, NULL, crowd_make, &crowd, crowd_free, &future), 0);
    crowd.server = server_of(loop, future);
    end_crowd(loop);
}

/* --- serving */

TEST(many_clients) {
    enum { MANY = 50 };
    evl_loop *loop = real_loop();
    int port = crowd_serve(&crowd, loop, 0), fds[MANY], i;
    for (i = 0; i < MANY; i++) {
        fds[i] = dial(port);
        put(fds[i], "hello");
    }
    UNTIL(loop, made_of(&crowd) == MANY);
    for (i = 0; i < MANY; i++)
        UNTIL(loop, crowd.peers[i].total == 5);
    for (i = 0; i < MANY; i++)
        close(fds[i]);
    for (i = 0; i < MANY; i++)
        UNTIL(loop, crowd.peers[i].lost);
    end_crowd(loop);
}

TEST(a_small_backlog_still_accepts) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    int fds[10], i;
    options.host = "127.0.0.1";
    options.backlog = 1;
    crowd.server = server_of(loop, begin_server(&crowd, loop, &options));
    for (i = 0; i < 10; i++) {
        fds[i] = dial(evl_server_port(crowd.server));
        UNTIL(loop, made_of(&crowd) == i + 1);
    }
    for (i = 0; i < 10; i++)
        close(fds[i]);
    for (i = 0; i < 10; i++)
        UNTIL(loop, crowd.peers[i].lost);
    end_crowd(loop);
}

TEST(a_factory_that_refuses_or_fails) {
    evl_loop *loop = reporting_loop();
    int port = crowd_serve(&crowd, loop, 0), fd;
    char byte;
    crowd.refuse = -EACCES;
    fd = dial(port);
    UNTIL(loop, reports.count == 1);
    CHECK_CODE(reports.code, -EACCES);
    CHECK(strstr(reports.message, "Error on transport creation for incoming connection") != NULL);
    CHECK(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    crowd.refuse = 0;
    crowd.raise = -4242;
    fd = dial(port);
    UNTIL(loop, reports.count == 2);
    CHECK_CODE(reports.code, -4242);
    CHECK_STRING(reports.message, "Error on transport creation for incoming connection: on purpose");
    CHECK(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    CHECK_INT(crowd.count, 1);
    CHECK_INT(crowd.peers[0].frees, 1);
    CHECK_INT(crowd.peers[0].made, 0);
    crowd.raise = 0;
    fd = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    close(fd);
    UNTIL(loop, crowd.peers[1].lost);
    CHECK_INT(reports.count, 2);
    end_crowd(loop);
}

static int closing_factory(void *arg, evl_protocol *protocol, void **protocol_arg, evl_free_fn *arg_free) {
    CHECK_CODE(evl_server_close(((struct crowd *)arg)->server), 0);
    return crowd_make(arg, protocol, protocol_arg, arg_free);
}

TEST(closed_by_its_factory) {
    evl_loop *loop = real_loop();
    evl_server_options options = server_options();
    evl_future *future = NULL, *closed = NULL;
    int fds[2], i;
    options.host = "127.0.0.1";
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_server(loop, &options, closing_factory, &crowd, crowd_free, &future), 0);
    crowd.server = server_of(loop, future);
    CHECK_CODE(evl_server_wait_closed(crowd.server, &closed), 0);
    for (i = 0; i < 2; i++)
        fds[i] = dial(evl_server_port(crowd.server));
    UNTIL(loop, made_of(&crowd) == 1);
    idle(loop);
    CHECK_INT(crowd.count, 1);
    /* The connection that it made lives, and is waited for. */
    CHECK_INT(evl_future_done(closed), 0);
    for (i = 0; i < 2; i++)
        close(fds[i]);
    UNTIL(loop, crowd.peers[0].lost);
    finish(loop, closed);
    evl_future_unref(closed);
    end_crowd(loop);
}

/* --- ending */

TEST(closed_with_live_connections) {
    evl_loop *loop = real_loop();
    evl_future *closed = NULL, *again = NULL;
    int port = crowd_serve(&crowd, loop, 0), fds[3], i;
    for (i = 0; i < 3; i++)
        fds[i] = dial(port);
    UNTIL(loop, made_of(&crowd) == 3);
    CHECK_CODE(evl_server_wait_closed(crowd.server, &closed), 0);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    CHECK_INT(evl_server_is_serving(crowd.server), 0);
    idle(loop);
    CHECK_INT(evl_future_done(closed), 0);
    peer_write(&crowd.peers[1], "goes on");
    put(fds[0], "on and on");
    UNTIL(loop, crowd.peers[0].total == 9 || crowd.peers[1].total == 9 || crowd.peers[2].total == 9);
    CHECK_INT(evl_server_close_clients(crowd.server), 3);
    for (i = 0; i < 3; i++)
        CHECK_INT(evl_transport_is_closing(crowd.peers[i].transport), 1);
    finish(loop, closed);
    CHECK_CODE(end_code(closed), 0);
    for (i = 0; i < 3; i++) {
        CHECK_INT(crowd.peers[i].lost, 1);
        close(fds[i]);
    }
    CHECK_CODE(evl_server_wait_closed(crowd.server, &again), 0);
    CHECK_INT(evl_future_done(again), 1);
    CHECK_CODE(end_code(again), 0);
    CHECK_INT(evl_server_close_clients(crowd.server), 0);
    end_crowd(loop);
}

TEST(clients_are_closed_in_order_and_aborted_at_once) {
    evl_loop *loop = real_loop();
    static char block[8000000];
    int port = crowd_serve(&crowd, loop, 0), fd = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    CHECK_CODE(evl_transport_write(crowd.peers[0].transport, block, sizeof block), 0);
    CHECK(queued(crowd.peers[0].transport) > 0);
    CHECK_INT(evl_server_close_clients(crowd.server), 1);
    idle(loop);
    CHECK_INT(crowd.peers[0].lost, 0);
    CHECK_INT(evl_server_abort_clients(crowd.server), 1);
    idle(loop);
    CHECK_INT(crowd.peers[0].lost, 1);
    CHECK_INT(evl_server_is_serving(crowd.server), 1);
    close(fd);
    end_crowd(loop);
}

TEST(waiting_for_the_end_can_be_cancelled) {
    evl_loop *loop = real_loop();
    evl_future *first = NULL, *second = NULL;
    crowd_serve(&crowd, loop, 0);
    CHECK_CODE(evl_server_wait_closed(crowd.server, &first), 0);
    CHECK_CODE(evl_server_wait_closed(crowd.server, &second), 0);
    CHECK_INT(evl_future_cancel(first, NULL), 1);
    CHECK_INT(evl_server_is_serving(crowd.server), 1);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    finish(loop, second);
    CHECK_CODE(end_code(second), 0);
    CHECK_INT(evl_future_cancelled(first), 1);
    evl_future_unref(first);
    end_crowd(loop);
}

TEST(served_forever) {
    evl_loop *loop = real_loop();
    evl_future *forever = NULL, *again = NULL;
    int round;
    for (round = 0; round < 2; round++) {
        crowd_serve(&crowd, loop, EVL_SERVER_NOT_STARTED);
        CHECK_CODE(evl_server_serve_forever(crowd.server, &forever), 0);
        CHECK_INT(evl_server_is_serving(crowd.server), 1);
        CHECK_CODE(evl_server_serve_forever(crowd.server, &again), EVL_EINVALIDSTATE);
        idle(loop);
        CHECK_INT(evl_future_done(forever), 0);
        if (round == 0)
            CHECK_INT(evl_future_cancel(forever, NULL), 1);
        else
            CHECK_CODE(evl_server_close(crowd.server), 0);
        finish(loop, forever);
        CHECK_INT(evl_future_cancelled(forever), 1);
        evl_future_unref(forever);
        CHECK_INT(evl_server_is_serving(crowd.server), 0);
        CHECK_CODE(evl_server_serve_forever(crowd.server, &again), EVL_EINVALIDSTATE);
        CHECK_INT(evl_server_sockets(crowd.server, NULL, 0), 0);
        crowd_end(&crowd);
        CHECK_INT(crowd.frees, 1);
    }
    end_loop(loop);
}

TEST(the_loop_closed_with_everything_open) {
    evl_loop *loop = real_loop();
    int before = count_descriptors(), fd, port = crowd_serve(&crowd, loop, 0);
    static char block[8000000];
    struct probe owned = probe_named(NULL, NULL), data = probe_named(NULL, NULL);
    evl_future *closed = NULL, *forever = NULL;
    fd = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    CHECK_CODE(evl_transport_write_owned(crowd.peers[0].transport, block, sizeof block, &owned, probe_free), 0);
    CHECK_CODE(evl_server_wait_closed(crowd.server, &closed), 0);
    CHECK_CODE(evl_server_serve_forever(crowd.server, &forever), 0);
    CHECK_CODE(evl_server_set_data(crowd.server, &data, probe_free), 0);
    CHECK(evl_server_get_data(crowd.server) == &data);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(crowd.peers[0].lost, 0);
    CHECK_INT(crowd.peers[0].frees, 1);
    CHECK_INT(owned.frees, 1);
    CHECK_INT(data.frees, 0);
    CHECK_INT(evl_future_done(closed), 0);
    CHECK_INT(evl_future_done(forever), 0);
    CHECK_CODE(evl_server_close(crowd.server), EVL_ECLOSED);
    CHECK_INT(evl_server_is_serving(crowd.server), 0);
    evl_future_unref(closed);
    evl_future_unref(forever);
    crowd_end(&crowd);
    CHECK_INT(data.frees, 1);
    CHECK_INT(crowd.frees, 1);
    close(fd);
    evl_loop_unref(loop);
    CHECK(count_descriptors() <= before);
}

/* --- accepting fails */

static int64_t until_descriptors_end(int *held, int most) {
    int count = 0, fd;
    while (count < most && (fd = open("/dev/null", O_RDONLY)) >= 0)
        held[count++] = fd;
    return count;
}

TEST(out_of_descriptors) {
    evl_loop *loop = reporting_loop();
    int port = crowd_serve(&crowd, loop, 0), held[512], count, clients[3], i, first, last;
    /* Valgrind keeps the limit by closing what the system has accepted: one is lost there. */
    int all = under_valgrind() ? 3 : 4;
    uint64_t events;
    int64_t begun;
    struct rlimit limit, low;
    for (i = 0; i < 3; i++)
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
    first = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    idle(loop);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    low = limit;
    low.rlim_cur = 200;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    count = (int)until_descriptors_end(held, 512);
    CHECK(count > 0 && count < 512);
    for (i = 0; i < 3; i++) {
        struct sockaddr_in address = loopback();
        address.sin_port = htons((uint16_t)port);
        CHECK(connect(clients[i], (struct sockaddr *)&address, sizeof address) == 0);
    }
    begun = time_of(loop);
    UNTIL(loop, reports.count == 1);
    CHECK_CODE(reports.code, -EMFILE);
    CHECK(strstr(reports.message, "out of system resource") != NULL);
    /* Connections that are there are served meanwhile; nothing spins. */
    put(first, "hello");
    UNTIL(loop, crowd.peers[0].total == 5);
    idle(loop);
    events = event_count(loop);
    while (time_of(loop) < begun + EVL_MS(500))
        CHECK(evl_loop_run_once(loop, EVL_MS(100)) >= 0);
    CHECK_INT(reports.count, 1);
    CHECK(event_count(loop) <= events + 1);
    for (i = 0; i < count; i++)
        close(held[i]);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    UNTIL(loop, made_of(&crowd) == all);
    CHECK(time_of(loop) >= begun + EVL_MS(1000));
    CHECK_INT(reports.count, 1);
    /* And it goes on without another wait. */
    begun = time_of(loop);
    last = dial(port);
    UNTIL(loop, made_of(&crowd) == all + 1);
    CHECK(time_of(loop) < begun + EVL_MS(900));
    for (i = 0; i < 3; i++)
        close(clients[i]);
    close(first);
    close(last);
    for (i = 0; i <= all; i++)
        UNTIL(loop, crowd.peers[i].lost);
    end_crowd(loop);
}

TEST(closed_while_out_of_descriptors) {
    evl_loop *loop = reporting_loop();
    int port = crowd_serve(&crowd, loop, 0), held[512], count, client = socket(AF_INET, SOCK_STREAM, 0), i;
    struct sockaddr_in address = loopback();
    struct rlimit limit, low;
    /* What the loop needs to wait for anything, it has. */
    CHECK(evl_loop_run_once(loop, EVL_MS(1)) >= 0);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    low = limit;
    low.rlim_cur = 200;
    CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
    count = (int)until_descriptors_end(held, 512);
    address.sin_port = htons((uint16_t)port);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    UNTIL(loop, reports.count == 1);
    for (i = 0; i < count; i++)
        close(held[i]);
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    idle(loop);
    CHECK_INT(crowd.frees, 1);
    close(client);
    end_loop(loop);
}

/* A listening socket that was shut down behind the server's back is readable for ever, and accepts nothing. */
TEST(a_listening_socket_that_is_broken_does_not_spin) {
    evl_loop *loop = reporting_loop();
    uint64_t events;
    int64_t begun;
    int fds[1];
    crowd_serve(&crowd, loop, 0);
    idle(loop);
    CHECK_INT(evl_server_sockets(crowd.server, fds, 1), 1);
    CHECK(shutdown(fds[0], SHUT_RDWR) == 0);
    begun = time_of(loop);
    CHECK(evl_loop_run_once(loop, EVL_MS(100)) >= 0);
    events = event_count(loop);
    while (time_of(loop) < begun + EVL_MS(300))
        CHECK(evl_loop_run_once(loop, EVL_MS(50)) >= 0);
    CHECK(event_count(loop) <= events + 2);
    CHECK_INT(reports.count, 1);
    CHECK_CODE(reports.code, -EINVAL);
    end_crowd(loop);
}

TEST_MAIN()
