/* Misuse of stream connections and servers: NULL, options of a wrong size or value, closed loops, other threads' loops, forked ones. */
#include "streams.h"

#include <semaphore.h>

struct call {
    evl_loop *loop;
    evl_server *server;
    evl_transport *transport;
    int fd, listener;
};

static int no_factory(void *arg, evl_protocol *protocol, void **protocol_arg, evl_free_fn *arg_free) {
    (void)arg;
    (void)protocol;
    (void)protocol_arg;
    (void)arg_free;
    CHECK(0 && "called");
    return -EPERM;
}

/* Every function that needs the loop, and whether it takes an arg over. */
#define CALLS(X)                                                                                                      \
    X(1, evl_loop_create_connection(c->loop, &connect, &p, &arg, probe_free, &out))                                   \
    X(1, evl_loop_create_unix_connection(c->loop, "/tmp/x", 6, &p, &arg, probe_free, &out))                           \
    X(1, evl_loop_connect_accepted_socket(c->loop, c->fd, &p, &arg, probe_free, &out))                                \
    X(1, evl_loop_create_server(c->loop, &options, no_factory, &arg, probe_free, &out))                               \
    X(1, evl_loop_create_unix_server(c->loop, "/tmp/x", 6, &options, no_factory, &arg, probe_free, &out))             \
    X(1, evl_loop_create_server_from_socket(c->loop, c->listener, &options, no_factory, &arg, probe_free, &out))      \
    X(0, evl_transport_get_peername(c->transport, text, sizeof text))                                                 \
    X(0, evl_server_start_serving(c->server))                                                                         \
    X(0, evl_server_serve_forever(c->server, &out))                                                                   \
    X(0, evl_server_close(c->server))                                                                                 \
    X(0, evl_server_close_clients(c->server))                                                                         \
    X(0, evl_server_abort_clients(c->server))                                                                         \
    X(0, evl_server_wait_closed(c->server, &out))                                                                     \
    X(0, evl_server_sockets(c->server, fds, 4))                                                                       \
    X(0, evl_server_port(c->server))                                                                                  \
    X(1, evl_server_set_data(c->server, &arg, probe_free))

static void expect_of_all(struct call *c, int code) {
    evl_connect_options connect;
    evl_server_options options;
    evl_protocol p = peer_protocol();
    evl_future *out = NULL;
    char text[10] = "";
    int fds[4] = {4711, 0, 0, 0};
    CHECK_CODE(evl_connect_options_init(&connect, sizeof connect), 0);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    connect.host = options.host = "127.0.0.1";
    connect.service = "9";
#define ONE(frees_arg, call)                                                                                          \
    {                                                                                                                 \
        struct probe arg = probe_named(NULL, NULL);                                                                   \
        CHECK_CODE(call, code);                                                                                       \
        CHECK_INT(arg.frees, frees_arg);                                                                              \
    }
    CALLS(ONE)
#undef ONE
    CHECK(out == NULL);
    CHECK_STRING(text, "");
    CHECK_INT(fds[0], 4711);
    if (c->fd >= 0)
        CHECK(is_open(c->fd) && is_open(c->listener));
}

TEST(null_loops_servers_and_transports) {
    struct call c = {NULL, NULL, NULL, -1, -1};
    expect_of_all(&c, -EINVAL);
    CHECK(evl_server_ref(NULL) == NULL);
    evl_server_unref(NULL);
    CHECK(evl_server_get_loop(NULL) == NULL);
    CHECK(evl_server_get_data(NULL) == NULL);
    CHECK_INT(evl_server_is_serving(NULL), 0);
    CHECK_CODE(evl_transport_get_sockname(NULL, NULL, 0), -EINVAL);
}

TEST(null_and_wrong_arguments_of_connections) {
    evl_loop *loop = real_loop();
    struct probe arg = probe_named(NULL, NULL);
    evl_connect_options connect, other;
    evl_protocol p = peer_protocol(), q = p;
    evl_future *out = NULL;
    int before = count_descriptors(), file = open("/dev/null", O_RDWR), datagrams = socket(AF_INET, SOCK_DGRAM, 0), frees;
    CHECK_CODE(evl_connect_options_init(NULL, sizeof connect), -EINVAL);
    CHECK_CODE(evl_connect_options_init(&connect, 3), EVL_EOPTIONS);
    CHECK_CODE(evl_connect_options_init(&connect, sizeof connect + 1), EVL_EOPTIONS);
    CHECK_CODE(evl_connect_options_init(&connect, sizeof connect), 0);
    connect.host = "127.0.0.1";
    connect.service = "9";
#define WITH(change, code)                                                                                            \
    other = connect;                                                                                                  \
    q = p;                                                                                                            \
    change;                                                                                                           \
    frees = arg.frees;                                                                                                \
    CHECK_CODE(evl_loop_create_connection(loop, &other, &q, &arg, probe_free, &out), code);                           \
    CHECK_INT(arg.frees, frees + 1)
    WITH(other.host = NULL, -EINVAL);
    WITH(other.service = NULL, -EINVAL);
    WITH(other.size = 0, EVL_EOPTIONS);
    WITH(other.size = 2, EVL_EOPTIONS);
    WITH(other.interleave = -1, EVL_EOPTIONS);
    WITH(other.happy_eyeballs_delay_ns = -1, EVL_EOPTIONS);
    WITH(q.size = 1, EVL_EOPTIONS);
    WITH(q.reserved = 1, EVL_EOPTIONS);
    WITH(q.get_buffer = (void (*)(evl_transport *, size_t, void **, size_t *, void *))abort, EVL_EOPTIONS);
#undef WITH
    frees = arg.frees;
    CHECK_CODE(evl_loop_create_connection(loop, NULL, &p, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_connection(loop, &connect, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_connection(loop, NULL, 5, &p, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_connection(loop, NULL, 0, &p, &arg, probe_free, &out), -ENAMETOOLONG);
    CHECK_CODE(evl_loop_create_unix_connection(loop, "/tmp/x", 6, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_connection(loop, "/tmp/x", SIZE_MAX, &p, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, -1, &p, &arg, probe_free, &out), -EBADF);
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, 999, &p, &arg, probe_free, &out), -EBADF);
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, file, &p, &arg, probe_free, &out), -ENOTSOCK);
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, datagrams, &p, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_connect_accepted_socket(loop, datagrams, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_INT(arg.frees, frees + 11);
    CHECK(out == NULL);
    close(file);
    close(datagrams);
    end_loop(loop);
    CHECK(count_descriptors() <= before);
}

TEST(null_and_wrong_arguments_of_servers) {
    evl_loop *loop = real_loop();
    struct probe arg = probe_named(NULL, NULL);
    evl_server_options options, other;
    const char *hosts[2] = {"127.0.0.1", NULL};
    evl_future *out = NULL;
    int file = open("/dev/null", O_RDWR), datagrams = socket(AF_INET, SOCK_DGRAM, 0), frees;
    CHECK_CODE(evl_server_options_init(NULL, sizeof options), -EINVAL);
    CHECK_CODE(evl_server_options_init(&options, 3), EVL_EOPTIONS);
    CHECK_CODE(evl_server_options_init(&options, sizeof options + 1), EVL_EOPTIONS);
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
#define WITH(change, code)                                                                                            \
    other = options;                                                                                                  \
    change;                                                                                                           \
    frees = arg.frees;                                                                                                \
    CHECK_CODE(evl_loop_create_server(loop, &other, no_factory, &arg, probe_free, &out), code);                       \
    CHECK_INT(arg.frees, frees + 1)
    WITH(other.size = 2, EVL_EOPTIONS);
    WITH(other.flags = 8, EVL_EOPTIONS);
    WITH(other.backlog = -1, EVL_EOPTIONS);
    WITH(other.host_count = 1, -EINVAL);
#undef WITH
    frees = arg.frees;
    CHECK_CODE(evl_loop_create_server(loop, &options, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_server(loop, "/tmp/x", 6, NULL, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_unix_server(loop, NULL, 6, NULL, no_factory, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, 0, NULL, NULL, &arg, probe_free, &out), -EINVAL);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, -1, NULL, no_factory, &arg, probe_free, &out), -EBADF);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, 999, NULL, no_factory, &arg, probe_free, &out), -EBADF);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, file, NULL, no_factory, &arg, probe_free, &out), -ENOTSOCK);
    CHECK_CODE(evl_loop_create_server_from_socket(loop, datagrams, NULL, no_factory, &arg, probe_free, &out), -EINVAL);
    CHECK_INT(arg.frees, frees + 8);
    CHECK(out == NULL);
    CHECK(is_open(file) && is_open(datagrams));
    /* A host that is NULL is every interface, as in asyncio. */
    options.host = NULL;
    options.hosts = hosts + 1;
    options.host_count = 1;
    options.family = AF_INET;
    CHECK_CODE(evl_loop_create_server(loop, &options, no_factory, &arg, probe_free, &out), 0);
    CHECK_CODE(evl_future_result(out, NULL), 0);
    evl_future_unref(out);
    close(file);
    close(datagrams);
    end_loop(loop);
}

static struct crowd crowd;

static struct call everything(struct peer *peer, int *other) {
    struct call c;
    struct sockaddr_in address;
    int fds[2];
    c.loop = real_loop();
    crowd_serve(&crowd, c.loop, 0);
    c.server = crowd.server;
    unix_pair(fds);
    peer_open(peer, c.loop, NULL, fds[0]);
    c.transport = peer->transport;
    *other = fds[1];
    c.fd = fds[1];
    c.listener = bound(SOCK_STREAM, &address);
    return c;
}

static void end_everything(struct call *c, struct peer *peer) {
    int sockets = evl_server_sockets(c->server, NULL, 0);
    CHECK(sockets == 1 || sockets == EVL_ECLOSED || sockets == EVL_EFORKED);
    peer_end(peer);
    evl_server_unref(c->server);
    CHECK_CODE(evl_loop_close(c->loop), 0);
    evl_loop_unref(c->loop);
    close(c->fd);
    close(c->listener);
}

TEST(server_arguments) {
    struct peer peer;
    int other, fds[2] = {4711, 4711};
    struct call c = everything(&peer, &other);
    char text[200];
    CHECK_CODE(evl_server_sockets(c.server, NULL, 1), -EINVAL);
    CHECK_INT(evl_server_sockets(c.server, fds, 0), 1);
    CHECK_INT(fds[0], 4711);
    CHECK_INT(evl_server_sockets(c.server, fds, 2), 1);
    CHECK_INT(fds[1], 4711);
    CHECK_CODE(evl_transport_get_sockname(c.transport, NULL, 1), -EINVAL);
    CHECK_CODE(evl_transport_get_peername(c.transport, NULL, 1), -EINVAL);
    CHECK_INT(evl_transport_get_peername(c.transport, text, 1), 2);
    CHECK_CODE(evl_server_wait_closed(c.server, NULL), 0);
    CHECK_CODE(evl_server_serve_forever(c.server, NULL), 0);
    CHECK_CODE(evl_server_set_data(c.server, &c, NULL), 0);
    CHECK(evl_server_get_data(c.server) == &c);
    CHECK_CODE(evl_server_set_data(c.server, NULL, NULL), 0);
    CHECK(evl_server_get_data(c.server) == NULL);
    CHECK(evl_server_ref(c.server) == c.server);
    evl_server_unref(c.server);
    /* A descriptor that is a transport's or a server's already. */
    {
        struct probe arg = probe_named(NULL, NULL);
        evl_protocol p = peer_protocol();
        int fd = evl_transport_get_fd(c.transport);
        CHECK_CODE(evl_loop_connect_accepted_socket(c.loop, fd, &p, &arg, probe_free, NULL), EVL_EBUSY);
        CHECK_CODE(evl_loop_connect_accepted_socket(c.loop, fds[0], &p, &arg, probe_free, NULL), EVL_EBUSY);
        CHECK_CODE(evl_loop_create_server_from_socket(c.loop, fds[0], NULL, no_factory, &arg, probe_free, NULL),
                   EVL_EBUSY);
        CHECK_CODE(evl_loop_create_server_from_socket(c.loop, fd, NULL, no_factory, &arg, probe_free, NULL), -EINVAL);
        CHECK_CODE(evl_loop_add_reader(c.loop, fds[0], nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
        CHECK_INT(arg.frees, 4);
        CHECK(is_open(fd) && is_open(fds[0]));
        put(other, "still there");
        UNTIL(c.loop, peer.total == 11);
        CHECK_INT(evl_server_is_serving(c.server), 1);
        other = dial(evl_server_port(c.server));
        UNTIL(c.loop, made_of(&crowd) == 1);
        close(other);
        UNTIL(c.loop, crowd.peers[0].lost);
        peer_end(&crowd.peers[0]);
    }
    end_everything(&c, &peer);
}

TEST(closed_loops) {
    struct peer peer;
    int other;
    struct call c = everything(&peer, &other);
    CHECK_CODE(evl_loop_close(c.loop), 0);
    expect_of_all(&c, EVL_ECLOSED);
    CHECK_INT(evl_server_is_serving(c.server), 0);
    CHECK(evl_server_get_loop(c.server) == c.loop);
    CHECK_CODE(evl_transport_get_sockname(c.transport, NULL, 0), -EBADF);
    end_everything(&c, &peer);
}

static sem_t inside, go_on;

static void wait_inside(void *arg) {
    (void)arg;
    sem_post(&inside);
    while (sem_wait(&go_on) != 0) {
    }
}

static void *run_once(void *loop) {
    CHECK(evl_loop_run_once((evl_loop *)loop, 0) >= 0);
    return NULL;
}

TEST(another_thread_runs_the_loop) {
    struct peer peer;
    int other;
    struct call c = everything(&peer, &other);
    pthread_t thread;
    sem_init(&inside, 0, 0);
    sem_init(&go_on, 0, 0);
    CHECK_CODE(evl_loop_call_soon(c.loop, wait_inside, NULL, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_once, c.loop) == 0);
    while (sem_wait(&inside) != 0) {
    }
    expect_of_all(&c, EVL_EWRONGTHREAD);
    CHECK(evl_server_get_loop(c.server) == c.loop);
    CHECK_INT(evl_transport_get_sockname(c.transport, NULL, 0), 2);
    sem_post(&go_on);
    pthread_join(thread, NULL);
    CHECK_INT(evl_server_is_serving(c.server), 1);
    end_everything(&c, &peer);
}

struct forked {
    struct call *call;
    struct peer *peer;
};

static void in_forked(void *arg) {
    struct forked *forked = (struct forked *)arg;
    expect_of_all(forked->call, EVL_EFORKED);
    end_everything(forked->call, forked->peer);
}

TEST(forked_loops) {
    struct peer peer;
    int other;
    struct call c = everything(&peer, &other);
    struct forked forked = {&c, &peer};
    CHECK_INT(in_child(in_forked, &forked), 0);
    /* The parent's are as they were. */
    CHECK_INT(evl_server_is_serving(c.server), 1);
    put(other, "hello");
    UNTIL(c.loop, peer.total == 5);
    close(dial(evl_server_port(c.server)));
    CHECK(evl_loop_run_once(c.loop, EVL_SECONDS(20)) >= 0);
    end_everything(&c, &peer);
}

TEST_MAIN()
