/* Ten thousand connections at once on one loop, and their other ends on the one of another process: each sends data of its own, gets it
 * back, and nothing is lost. As many as the limit of descriptors allows, which is raised as far as it goes: how many were held is printed. */
#include "streams.h"

#include <sys/resource.h>

enum { WANTED = 10000, AT_ONCE = 50, LARGEST = 3000 };

struct end {
    evl_transport *transport;
    struct many *many;
    unsigned number;
    int is_server, made, lost, code, frees;
    size_t size, got;
    uint64_t sent_hash, got_hash;
};

struct many {
    evl_loop *loop;
    evl_server *server;
    struct end *ends;
    int count, begun, made, answered, lost, failed, port, is_unix;
    char name[40];
    size_t name_size;
};

/* What a connection sends: nobody else sends the same. */
static void send_own(struct end *end) {
    char block[LARGEST];
    unsigned seed = end->number * 2654435761u + (unsigned)end->got;
    size_t i;
    end->size = sizeof end->number + next_random(&seed) % (LARGEST - sizeof end->number);
    end->got = 0;
    memcpy(block, &end->number, sizeof end->number);
    for (i = sizeof end->number; i < end->size; i++)
        block[i] = (char)next_random(&seed);
    end->sent_hash = hash_on(HASH_BEGIN, block, end->size);
    end->got_hash = HASH_BEGIN;
    if (evl_transport_write(end->transport, block, end->size) != 0)
        end->many->failed++;
}

static void on_made(evl_transport *transport, void *arg) {
    struct end *end = (struct end *)arg;
    end->transport = transport;
    end->made++;
    end->many->made++;
    if (!end->is_server)
        send_own(end);
}

static void on_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct end *end = (struct end *)arg;
    if (end->is_server) {
        end->many->failed += evl_transport_write(transport, data, size) != 0;
        return;
    }
    end->got += size;
    end->got_hash = hash_on(end->got_hash, data, size);
    if (end->got == end->size) {
        end->many->answered++;
        end->many->failed += end->got_hash != end->sent_hash;
    } else if (end->got > end->size) {
        end->many->failed++;
    }
}

static void on_lost(evl_transport *transport, int code, void *arg) {
    struct end *end = (struct end *)arg;
    (void)transport;
    end->transport = NULL;
    end->lost++;
    end->code = code;
    end->many->lost++;
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
    struct many *many = (struct many *)arg;
    struct end *end = &many->ends[many->begun++];
    if (many->begun > many->count)
        return -EMFILE;
    end->many = many;
    end->is_server = 1;
    *protocol = table();
    *protocol_arg = end;
    *arg_free = on_free;
    return 0;
}

static void serve(struct many *many) {
    evl_server_options options;
    evl_future *future = NULL;
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    if (many->is_unix) {
        many->name_size = 1 + (size_t)snprintf(many->name + 1, sizeof many->name - 1, "evl-test-many-%d", (int)getpid());
        CHECK_CODE(evl_loop_create_unix_server(many->loop, many->name, many->name_size, NULL, make_end, many, NULL, &future), 0);
    } else {
        CHECK_CODE(evl_loop_create_server(many->loop, &options, make_end, many, NULL, &future), 0);
    }
    many->server = server_of(many->loop, future);
    if (!many->is_unix)
        many->port = evl_server_port(many->server);
}

static void connect_next(struct many *many) {
    struct end *end = &many->ends[many->begun];
    evl_protocol p = table();
    end->many = many;
    end->number = (unsigned)many->begun++;
    if (many->is_unix) {
        CHECK_CODE(evl_loop_create_unix_connection(many->loop, many->name, many->name_size, &p, end, on_free, NULL), 0);
    } else {
        evl_connect_options options;
        char service[10];
        CHECK_CODE(evl_connect_options_init(&options, sizeof options), 0);
        snprintf(service, sizeof service, "%d", many->port);
        options.host = "127.0.0.1";
        options.service = service;
        CHECK_CODE(evl_loop_create_connection(many->loop, &options, &p, end, on_free, NULL), 0);
    }
}

/* As many connections as there may be: a descriptor each, and some for all else. */
static int raise_limit(void) {
    struct rlimit limit, higher;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    higher = limit;
    if (higher.rlim_max < WANTED + 200)
        higher.rlim_max = WANTED + 200;
    higher.rlim_cur = higher.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &higher) != 0) {
        limit.rlim_cur = limit.rlim_max;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    }
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    return limit.rlim_cur >= WANTED + 200 ? WANTED : (int)limit.rlim_cur - 200;
}

static void open_many(struct many *many, evl_loop *loop) {
    many->loop = loop;
    many->begun = 0;
    many->ends = (struct end *)calloc((size_t)many->count + 1, sizeof *many->ends);
}

/* All of this side's connections are gone, as they should. */
static void close_many(struct many *many) {
    int i, bad = 0;
    UNTIL(many->loop, many->lost == many->count);
    for (i = 0; i < many->count; i++)
        bad += many->ends[i].lost != 1 || many->ends[i].frees != 1 || many->ends[i].code != 0;
    CHECK_INT(bad, 0);
    CHECK_INT(many->failed, 0);
    CHECK_INT(watchers(many->loop), 0);
    end_loop(many->loop);
    free(many->ends);
}

/* The clients, in a process of their own: `held` is told that all are connected, `go` tells that they may go on. */
static void run_clients(struct many *many, int held, int go) {
    char byte = 0;
    int i;
    open_many(many, real_loop());
    /* Who has an answer was accepted. */
    while (many->answered < many->count) {
        while (many->begun < many->count && many->begun < many->answered + AT_ONCE)
            connect_next(many);
        if (!CHECK(evl_loop_run_once(many->loop, EVL_SECONDS(20)) > 0))
            return;
    }
    CHECK(write(held, &byte, 1) == 1 && read(go, &byte, 1) == 1);
    CHECK_INT(watchers(many->loop), many->count);
    /* All at once, and once more. */
    for (i = 0; i < many->count; i++)
        send_own(&many->ends[i]);
    UNTIL(many->loop, many->answered == 2 * many->count || many->failed);
    CHECK_INT(many->lost, 0);
    for (i = 0; i < many->count; i++)
        CHECK_CODE(evl_transport_close(many->ends[i].transport), 0);
    close_many(many);
}

static void on_held(void *arg) {
    *(int *)arg = 1;
}

static void hold(int is_unix) {
    static struct many many;
    int held[2], go[2], is_held = 0, status = -1;
    char byte = 0;
    pid_t child;
    memset(&many, 0, sizeof many);
    many.is_unix = is_unix;
    many.count = raise_limit();
    REQUIRE(pipe(held) == 0 && pipe(go) == 0);
    open_many(&many, real_loop());
    serve(&many);
    fflush(NULL);
    if ((child = fork()) == 0) {
        int before = harness_failures;
        alarm(HARNESS_TIME_LIMIT / 2);
        /* Its copy of the loop is of no use to it. */
        evl_loop_close(many.loop);
        evl_loop_unref(many.loop);
        free(many.ends);
        run_clients(&many, held[1], go[0]);
        fflush(NULL);
        _exit(harness_failures == before ? 0 : 1);
    }
    CHECK_CODE(evl_loop_add_reader(many.loop, held[0], on_held, &is_held, NULL, NULL, NULL), 0);
    UNTIL(many.loop, is_held);
    CHECK_INT(evl_loop_remove_reader(many.loop, held[0]), 1);
    CHECK_INT(many.made, many.count);
    CHECK_INT(many.lost, 0);
    CHECK_INT(watchers(many.loop), many.count + 1);
    printf("%d connections held at once, over %s\n", many.made, is_unix ? "unix sockets" : "TCP");
    CHECK(write(go[1], &byte, 1) == 1);
    UNTIL(many.loop, many.lost == many.count);
    CHECK_CODE(evl_server_close(many.server), 0);
    evl_server_unref(many.server);
    close_many(&many);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    close_pair(held);
    close_pair(go);
}

TEST(ten_thousand_over_tcp) {
    hold(0);
}

TEST(ten_thousand_over_unix) {
    hold(1);
}

TEST_MAIN()
