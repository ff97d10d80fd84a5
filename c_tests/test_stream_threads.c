/* Several loops, each in a thread of its own, with a server and clients that talk to the servers of all of them; threads post to each
 * other's loops, and hold and give back references to each other's transports. */
#include "streams.h"

enum { THREADS = 4, CLIENTS = 12, SIZE = 700 };

struct worker;

struct end {
    evl_transport *transport;
    struct worker *worker;
    int is_server, rounds, made, lost, frees;
    size_t got;
    char block[SIZE];
};

struct worker {
    pthread_t thread, self;
    int number, port, made, posts, lost, looked_up;
    evl_loop *loop;
    evl_server *server;
    struct end clients[CLIENTS], servers[THREADS * CLIENTS];
};

static struct worker workers[THREADS];
static pthread_barrier_t barrier;
static int rounds;

static void count_post(void *arg) {
    struct worker *worker = (struct worker *)arg;
    worker->posts++;
}

/* Another thread looks at a transport of this one, and gives it back. */
static void look_at(void *arg) {
    evl_transport *transport = (evl_transport *)arg;
    CHECK(evl_transport_is_closing(transport) >= 0);
    CHECK(evl_transport_get_fd(transport) != 0);
    CHECK(evl_transport_get_loop(transport) != NULL);
    evl_transport_unref(transport);
}

static void on_made(evl_transport *transport, void *arg) {
    struct end *end = (struct end *)arg;
    end->transport = transport;
    end->made++;
    if (end->is_server)
        return;
    memset(end->block, (int)(end - end->worker->clients) + 1, SIZE);
    CHECK_CODE(evl_transport_write(transport, end->block, SIZE), 0);
}

static void on_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct end *end = (struct end *)arg;
    struct worker *next = &workers[(end->worker->number + 1) % THREADS];
    CHECK(pthread_equal(pthread_self(), end->worker->self));
    if (end->is_server) {
        CHECK_CODE(evl_transport_write(transport, data, size), 0);
        return;
    }
    CHECK(memcmp(data, end->block, size) == 0);
    end->got += size;
    if (end->got < SIZE)
        return;
    end->got = 0;
    if (++end->rounds == rounds) {
        CHECK_CODE(evl_transport_close(transport), 0);
        return;
    }
    CHECK_CODE(evl_loop_call_soon_threadsafe(next->loop, count_post, next, NULL, NULL, NULL), 0);
    if (end->rounds % 4 == 0)
        CHECK_CODE(evl_loop_call_soon_threadsafe(next->loop, look_at, evl_transport_ref(transport), NULL, NULL, NULL), 0);
    CHECK_CODE(evl_transport_write(transport, end->block, SIZE), 0);
}

static void on_lost(evl_transport *transport, int code, void *arg) {
    struct end *end = (struct end *)arg;
    (void)transport;
    CHECK_CODE(code, 0);
    CHECK_INT(end->lost++, 0);
    end->worker->lost++;
}

static void on_free(void *arg) {
    ((struct end *)arg)->frees++;
}

static evl_protocol table(void) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = on_made;
    p.data_received = on_data;
    p.connection_lost = on_lost;
    return p;
}

static int make_end(void *arg, evl_protocol *protocol, void **protocol_arg, evl_free_fn *arg_free) {
    struct worker *worker = (struct worker *)arg;
    struct end *end = &worker->servers[worker->made++];
    end->worker = worker;
    end->is_server = 1;
    *protocol = table();
    *protocol_arg = end;
    *arg_free = on_free;
    return 0;
}

static void on_looked_up(evl_future *future, void *arg) {
    CHECK_INT(evl_future_done(future), 1);
    ((struct worker *)arg)->looked_up++;
}

static void *work(void *arg) {
    struct worker *worker = (struct worker *)arg;
    evl_server_options options;
    evl_future *future = NULL, *look_up = NULL;
    int i;
    worker->self = pthread_self();
    worker->loop = real_loop();
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    CHECK_CODE(evl_loop_create_server(worker->loop, &options, make_end, worker, NULL, &future), 0);
    worker->server = server_of(worker->loop, future);
    worker->port = evl_server_port(worker->server);
    pthread_barrier_wait(&barrier);
    /* Names are looked up by threads that all loops share. */
    CHECK_CODE(evl_loop_getaddrinfo(worker->loop, "localhost", "80", NULL, &look_up), 0);
    CHECK_CODE(evl_future_add_done_callback(look_up, on_looked_up, worker, NULL, NULL), 0);
    for (i = 0; i < CLIENTS; i++) {
        struct worker *other = &workers[(worker->number + i) % THREADS];
        evl_connect_options connect;
        evl_protocol p = table();
        char service[10];
        worker->clients[i].worker = worker;
        CHECK_CODE(evl_connect_options_init(&connect, sizeof connect), 0);
        snprintf(service, sizeof service, "%d", other->port);
        connect.host = i % 2 ? "127.0.0.1" : "localhost";
        connect.family = AF_INET;
        connect.service = service;
        CHECK_CODE(evl_loop_create_connection(worker->loop, &connect, &p, &worker->clients[i], on_free, NULL), 0);
    }
    UNTIL(worker->loop, worker->made == CLIENTS && worker->lost == 2 * CLIENTS && worker->looked_up);
    evl_future_unref(look_up);
    /* Nobody posts any more. */
    pthread_barrier_wait(&barrier);
    CHECK(evl_loop_run_until_idle(worker->loop) >= 0);
    CHECK_INT(worker->posts, CLIENTS * (rounds - 1));
    CHECK_CODE(evl_server_close(worker->server), 0);
    for (i = 0; i < CLIENTS; i++) {
        CHECK(worker->clients[i].rounds == rounds && worker->clients[i].frees == 1);
        CHECK(worker->servers[i].lost == 1 && worker->servers[i].frees == 1);
    }
    CHECK_INT(watchers(worker->loop), 0);
    pthread_barrier_wait(&barrier);
    CHECK_CODE(evl_loop_close(worker->loop), 0);
    pthread_barrier_wait(&barrier);
    /* The references to a neighbour's loop and server are given back here. */
    evl_server_unref(workers[(worker->number + 1) % THREADS].server);
    evl_loop_unref(workers[(worker->number + 1) % THREADS].loop);
    return NULL;
}

TEST(loops_in_threads_talk_to_each_other) {
    int i;
    memset(workers, 0, sizeof workers);
    rounds = under_valgrind() ? 10 : 100;
    REQUIRE(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (i = 0; i < THREADS; i++) {
        workers[i].number = i;
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (i = 0; i < THREADS; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
}

TEST_MAIN()
