/* Servers: both families and one, the options of their sockets, what is refused once they are closed, unix paths, and what is given back
 * when a server cannot be made. */
#include "streams.h"

static evl_loop *loop;
static struct crowd crowd;

static evl_server_options server_options(void) {
    evl_server_options options;
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    return options;
}

/* The code that making it ends with; the server is the crowd's. */
static int serve(const evl_server_options *options) {
    evl_future *future = NULL;
    void *made = NULL;
    int code;
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_server(loop, options, crowd_make, &crowd, crowd_free, &future), 0);
    finish(loop, future);
    code = evl_future_result(future, &made);
    if (code == 0)
        crowd.server = evl_server_ref((evl_server *)made);
    evl_future_unref(future);
    return code;
}

static void end_server(void) {
    CHECK_CODE(evl_server_close(crowd.server), 0);
    idle(loop);
    crowd_end(&crowd);
    CHECK_INT(crowd.frees, 1);
}

static int option_of(int fd, int level, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    CHECK(getsockopt(fd, level, option, &value, &size) == 0);
    return value;
}

static int family_of(int fd) {
    return option_of(fd, SOL_SOCKET, SO_DOMAIN);
}

/* Connects to a port of this machine by a family: 0, or the errno. */
static int try_connect(int family, int port, int *fd) {
    struct sockaddr_storage address;
    int size = evl_address_parse(family == AF_INET6 ? "::1" : "127.0.0.1", port, &address, sizeof address);
    *fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(*fd, (struct sockaddr *)&address, (socklen_t)size) == 0 ? 0 : errno;
}

static int has_ipv6(void) {
    struct sockaddr_in6 address;
    int fd = socket(AF_INET6, SOCK_STREAM, 0), has;
    memset(&address, 0, sizeof address);
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

/* --- families */

/* A socket of its own for each family, at one port. */
TEST(both_families_at_one_port) {
    evl_server_options options = server_options();
    struct sockaddr_in address;
    char service[10];
    int fds[4], count, i, clients[2], tries;
    loop = real_loop();
    for (tries = 0; tries < 20; tries++) {
        int code, free_one = bound(SOCK_STREAM, &address);
        close(free_one);
        snprintf(service, sizeof service, "%d", ntohs(address.sin_port));
        options.service = service;
        code = serve(&options);
        if (code == 0 || !CHECK_CODE(code, -EADDRINUSE))
            break; /* somebody else may be quicker */
    }
    REQUIRE(crowd.server != NULL);
    CHECK_INT(evl_server_port(crowd.server), ntohs(address.sin_port));
    count = evl_server_sockets(crowd.server, fds, 4);
    CHECK_INT(count, has_ipv6() ? 2 : 1);
    for (i = 0; i < count; i++) {
        if (family_of(fds[i]) == AF_INET6)
            CHECK_INT(option_of(fds[i], IPPROTO_IPV6, IPV6_V6ONLY), 1);
        CHECK_INT(try_connect(family_of(fds[i]), ntohs(address.sin_port), &clients[i]), 0);
        put(clients[i], "xxx");
        UNTIL(loop, crowd.count == i + 1 && crowd.peers[i].total == 3);
    }
    for (i = 0; i < count; i++) {
        close(clients[i]);
        UNTIL(loop, crowd.peers[i].lost);
    }
    end_server();
    end_loop(loop);
}

TEST(one_family) {
    evl_server_options options = server_options();
    int fds[4], client;
    if (!has_ipv6())
        return;
    loop = real_loop();
    options.family = AF_INET6;
    CHECK_CODE(serve(&options), 0);
    CHECK_INT(evl_server_sockets(crowd.server, fds, 4), 1);
    CHECK_INT(family_of(fds[0]), AF_INET6);
    CHECK_INT(try_connect(AF_INET, evl_server_port(crowd.server), &client), ECONNREFUSED);
    close(client);
    end_server();
    options.family = 0;
    options.host = "::1";
    CHECK_CODE(serve(&options), 0);
    CHECK_INT(evl_server_sockets(crowd.server, fds, 4), 1);
    CHECK_INT(try_connect(AF_INET6, evl_server_port(crowd.server), &client), 0);
    UNTIL(loop, made_of(&crowd) == 1);
    close(client);
    UNTIL(loop, crowd.peers[0].lost);
    end_server();
    /* A number of the other family. */
    options.family = AF_INET;
    CHECK(serve(&options) < 0);
    CHECK_INT(crowd.frees, 1);
    end_loop(loop);
}

/* --- the sockets */

TEST(options_of_the_sockets) {
    static const struct {
        uint32_t flags;
        int reuse_address, reuse_port;
    } cases[] = {{0, 1, 0},
                 {EVL_SERVER_NO_REUSE_ADDRESS, 0, 0},
                 {EVL_SERVER_REUSE_PORT, 1, 1},
                 {EVL_SERVER_REUSE_PORT | EVL_SERVER_NO_REUSE_ADDRESS, 0, 1}};
    evl_server_options options = server_options();
    int fd, i;
    loop = real_loop();
    options.host = "127.0.0.1";
    for (i = 0; i < 4; i++) {
        options.flags = cases[i].flags;
        CHECK_CODE(serve(&options), 0);
        CHECK_INT(evl_server_sockets(crowd.server, &fd, 1), 1);
        CHECK_INT(option_of(fd, SOL_SOCKET, SO_REUSEADDR), cases[i].reuse_address);
        CHECK_INT(option_of(fd, SOL_SOCKET, SO_REUSEPORT), cases[i].reuse_port);
        CHECK_INT(option_of(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
        CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        end_server();
        CHECK(!is_open(fd));
    }
    end_loop(loop);
}

TEST(a_socket_that_is_given) {
    struct sockaddr_in address;
    evl_future *future = NULL;
    int kinds[] = {SOCK_STREAM, SOCK_STREAM | SOCK_NONBLOCK}, i, fd, client;
    loop = real_loop();
    for (i = 0; i < 2; i++) {
        fd = socket(AF_INET, kinds[i], 0);
        address = loopback();
        CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
        crowd_init(&crowd, loop);
        CHECK_CODE(evl_loop_create_server_from_socket(loop, fd, NULL, crowd_make, &crowd, crowd_free, &future), 0);
        crowd.server = server_of(loop, future);
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
        CHECK_INT(try_connect(AF_INET, evl_server_port(crowd.server), &client), 0);
        UNTIL(loop, made_of(&crowd) == 1);
        close(client);
        UNTIL(loop, crowd.peers[0].lost);
        end_server();
        CHECK(!is_open(fd));
    }
    end_loop(loop);
}

/* --- closing */

TEST(a_closed_server_refuses) {
    int port, fd, clients[2];
    loop = real_loop();
    port = crowd_serve(&crowd, loop, 0);
    CHECK_INT(evl_server_sockets(crowd.server, &fd, 1), 1);
    clients[0] = dial(port);
    UNTIL(loop, made_of(&crowd) == 1);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    CHECK(!is_open(fd)); /* at once */
    CHECK_INT(try_connect(AF_INET, port, &clients[1]), ECONNREFUSED);
    close(clients[1]);
    /* The connection there is goes on. */
    put(clients[0], "still");
    UNTIL(loop, crowd.peers[0].total == 5);
    close(clients[0]);
    UNTIL(loop, crowd.peers[0].lost);
    end_server();
    end_loop(loop);
}

/* What waits to be taken when a server is closed is turned away. */
TEST(closed_with_connections_that_wait) {
    char byte;
    int client;
    loop = real_loop();
    client = dial(crowd_serve(&crowd, loop, 0));
    put(client, "xxx");
    CHECK_CODE(evl_server_close(crowd.server), 0);
    idle(loop);
    CHECK_INT(crowd.count, 0);
    CHECK(recv(client, &byte, 1, 0) <= 0);
    close(client);
    end_server();
    end_loop(loop);
}

static evl_future *closed;

static void wait_for_it(struct peer *peer, const char *what) {
    (void)peer;
    if (strcmp(what, "lost") == 0)
        CHECK_INT(evl_future_done(closed), 0);
}

TEST(waiting_until_it_is_closed) {
    int client;
    loop = real_loop();
    client = dial(crowd_serve(&crowd, loop, 0));
    crowd.at = wait_for_it;
    UNTIL(loop, made_of(&crowd) == 1);
    CHECK_CODE(evl_server_wait_closed(crowd.server, &closed), 0);
    idle(loop);
    CHECK_INT(evl_future_done(closed), 0);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    idle(loop);
    CHECK_INT(evl_future_done(closed), 0); /* its connection lives */
    close(client);
    finish(loop, closed);
    CHECK_INT(crowd.peers[0].lost, 1);
    CHECK_CODE(end_code(closed), 0);
    CHECK(evl_server_get_loop(crowd.server) == loop);
    end_server();
    end_loop(loop);
}

/* --- unix sockets */

static const char *path_of(const char *name) {
    static char path[60];
    snprintf(path, sizeof path, "/tmp/evl-test-%s-%d", name, (int)getpid());
    unlink(path);
    return path;
}

static int serve_unix(const char *path) {
    evl_future *future = NULL;
    int code;
    crowd_init(&crowd, loop);
    code = evl_loop_create_unix_server(loop, path, strlen(path), NULL, crowd_make, &crowd, crowd_free, &future);
    if (code == 0)
        crowd.server = server_of(loop, future);
    return code;
}

static int dial_unix(const char *path) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, strlen(path));
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : (close(fd), -1);
}

static int bound_unix(const char *path, int kind) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, kind, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, path, strlen(path));
    CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

TEST(a_socket_that_was_left_is_replaced) {
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM};
    const char *path = path_of("left");
    struct stat status;
    int i, fd, client;
    loop = real_loop();
    for (i = 0; i < 2; i++) {
        fd = bound_unix(path, kinds[i]);
        if (i == 0)
            CHECK(listen(fd, 1) == 0);
        close(fd);
        CHECK(dial_unix(path) < 0);
        CHECK_CODE(serve_unix(path), 0);
        client = dial_unix(path);
        CHECK(client >= 0);
        UNTIL(loop, made_of(&crowd) == 1);
        close(client);
        UNTIL(loop, crowd.peers[0].lost);
        end_server();
        /* Its own file is left, too. */
        CHECK(stat(path, &status) == 0 && S_ISSOCK(status.st_mode));
        unlink(path);
    }
    end_loop(loop);
}

TEST(what_is_no_socket_is_left_alone) {
    const char *path = path_of("file");
    struct stat status;
    int before, fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    char detail[200];
    CHECK(write(fd, "precious", 8) == 8);
    close(fd);
    loop = real_loop();
    before = count_descriptors();
    CHECK_CODE(serve_unix(path), -EADDRINUSE);
    CHECK(evl_error_detail(detail, sizeof detail) > 0 && strstr(detail, path) != NULL);
    CHECK_INT(crowd.frees, 1);
    CHECK(stat(path, &status) == 0 && status.st_size == 8);
    unlink(path);
    CHECK(mkdir(path, 0700) == 0);
    CHECK_CODE(serve_unix(path), -EADDRINUSE);
    CHECK(rmdir(path) == 0);
    CHECK_CODE(serve_unix("/no/such/directory/socket"), -ENOENT);
    CHECK_INT(count_descriptors(), before);
    end_loop(loop);
}

TEST(unix_sockets_that_are_given) {
    const char *path = path_of("given");
    evl_future *future = NULL;
    int fd, client, kinds[] = {SOCK_STREAM, SOCK_STREAM | SOCK_NONBLOCK}, i;
    loop = real_loop();
    for (i = 0; i < 2; i++) {
        fd = bound_unix(path, kinds[i]);
        crowd_init(&crowd, loop);
        CHECK_CODE(evl_loop_create_server_from_socket(loop, fd, NULL, crowd_make, &crowd, crowd_free, &future), 0);
        crowd.server = server_of(loop, future);
        client = dial_unix(path);
        CHECK(client >= 0);
        UNTIL(loop, made_of(&crowd) == 1);
        close(client);
        UNTIL(loop, crowd.peers[0].lost);
        end_server();
        unlink(path);
    }
    /* One for datagrams cannot serve, and stays the caller's. */
    fd = bound_unix(path, SOCK_DGRAM);
    crowd_init(&crowd, loop);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, fd, NULL, crowd_make, &crowd, crowd_free, &future), -EINVAL);
    CHECK_INT(crowd.frees, 1);
    CHECK(is_open(fd));
    close(fd);
    unlink(path);
    end_loop(loop);
}

TEST_MAIN()
