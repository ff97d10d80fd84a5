/* include/evl/curl.h, against a small HTTP server on the same loop. */
#include "streams.h"

#include <evl/curl.h>

/* --- the server: /size/N sends N bytes, /hang nothing, /reset resets, everything else is not found */

struct guest {
    char data[2000];
    size_t size;
};

static int guests, guests_lost;

static void guest_made(evl_transport *transport, void *arg) {
    (void)transport;
    (void)arg;
    guests++;
}

static void guest_lost(evl_transport *transport, int code, void *arg) {
    (void)transport;
    (void)code;
    (void)arg;
    guests_lost++;
}

static void guest_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct guest *guest = (struct guest *)arg;
    char head[200];
    CHECK(guest->size + size < sizeof guest->data);
    memcpy(guest->data + guest->size, data, size);
    guest->size += size;
    guest->data[guest->size] = 0;
    if (strstr(guest->data, "\r\n\r\n") == NULL)
        return;
    guest->size = 0;
    if (strncmp(guest->data, "GET /size/", 10) == 0) {
        int count = atoi(guest->data + 10);
        char *body = (char *)malloc((size_t)count + 1);
        memset(body, 'x', (size_t)count);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", count);
        evl_transport_write(transport, head, strlen(head));
        evl_transport_write_owned(transport, body, (size_t)count, body, free);
    } else if (strncmp(guest->data, "GET /reset", 10) == 0) {
        evl_transport_abort(transport);
    } else if (strncmp(guest->data, "GET /hang", 9) != 0) {
        snprintf(head, sizeof head, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        evl_transport_write(transport, head, strlen(head));
    }
}

static int guest_new(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free) {
    (void)factory_arg;
    protocol->connection_made = guest_made;
    protocol->data_received = guest_data;
    protocol->connection_lost = guest_lost;
    *arg = calloc(1, sizeof(struct guest));
    *arg_free = free;
    return 0;
}

/* --- the world */

struct world {
    evl_loop *loop;
    evl_server *server;
    evl_curl *curl;
    int port;
};

static void world_begin(struct world *world) {
    evl_server_options options;
    evl_future *future = NULL;
    guests = guests_lost = 0;
    world->loop = reporting_loop();
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    options.backlog = 500;
    CHECK_CODE(evl_loop_create_server(world->loop, &options, guest_new, NULL, NULL, &future), 0);
    world->server = server_of(world->loop, future);
    world->port = evl_server_port(world->server);
    CHECK_CODE(evl_curl_new(world->loop, &world->curl), 0);
}

/* What is left to be watched is the server. */
static void world_end(struct world *world) {
    evl_metrics metrics;
    evl_curl_free(world->curl);
    UNTIL(world->loop, guests_lost == guests);
    CHECK_CODE(evl_server_close(world->server), 0);
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(world->loop, &metrics), 0);
    CHECK_INT(metrics.watchers, 0);
    evl_server_unref(world->server);
    end_loop(world->loop);
    CHECK_INT(reports.count, 0);
}

struct fetch {
    struct world *world;
    CURL *easy;
    size_t bytes;
    int calls, frees, paused;
    long status;
    CURLcode result;
    void (*at)(struct fetch *fetch);      /* in done */
    void (*at_data)(struct fetch *fetch); /* in the write function */
    int pause;                            /* pauses at the first data */
    struct fetch *other;
};

static size_t take(char *data, size_t size, size_t count, void *arg) {
    struct fetch *fetch = (struct fetch *)arg;
    (void)data;
    if (fetch->at_data != NULL)
        fetch->at_data(fetch);
    if (fetch->pause && !fetch->paused) {
        fetch->paused = 1;
        return CURL_WRITEFUNC_PAUSE;
    }
    fetch->bytes += size * count;
    return size * count;
}

static void fetch_done(CURL *easy, CURLcode result, void *arg) {
    struct fetch *fetch = (struct fetch *)arg;
    char *kept = NULL;
    CHECK(fetch->easy == easy);
    CHECK_INT(fetch->frees, 0);
    fetch->calls++;
    fetch->result = result;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &fetch->status);
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, &kept);
    CHECK((void *)kept == (void *)fetch->world);
    if (fetch->at != NULL)
        fetch->at(fetch);
}

static void fetch_free(void *arg) {
    ((struct fetch *)arg)->frees++;
}

static void fetch_init(struct fetch *fetch, struct world *world, const char *path) {
    char url[200];
    memset(fetch, 0, sizeof *fetch);
    fetch->world = world;
    fetch->easy = curl_easy_init();
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", world->port, path);
    curl_easy_setopt(fetch->easy, CURLOPT_URL, url);
    curl_easy_setopt(fetch->easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(fetch->easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(fetch->easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_PRIVATE, world);
}

static void fetch_begin(struct fetch *fetch) {
    CHECK_CODE(evl_curl_add(fetch->world->curl, fetch->easy, fetch_done, fetch, fetch_free), 0);
}

static void fetch_open(struct fetch *fetch, struct world *world, const char *path) {
    fetch_init(fetch, world, path);
    fetch_begin(fetch);
}

#define CHECK_FETCH(f, expected_result, expected_status, expected_bytes)                                              \
    do {                                                                                                              \
        CHECK_INT((f).calls, 1);                                                                                      \
        CHECK_INT((f).frees, 1);                                                                                      \
        CHECK_INT((f).result, expected_result);                                                                       \
        CHECK_INT((f).status, expected_status);                                                                       \
        CHECK_INT((f).bytes, expected_bytes);                                                                         \
        curl_easy_cleanup((f).easy);                                                                                  \
    } while (0)

TEST(one) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_open(&fetch, &world, "/size/1000000");
    CHECK_INT(fetch.calls, 0);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_OK, 200, 1000000);
    fetch_open(&fetch, &world, "/nothing"); /* by the same connection */
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_OK, 404, 0);
    CHECK_INT(guests, 1);
    world_end(&world);
}

static int all_done(const struct fetch *fetches, int count) {
    int i, done = 0;
    for (i = 0; i < count; i++)
        done += fetches[i].frees;
    return done == count;
}

TEST(a_hundred_at_once) {
    static struct fetch fetches[100];
    struct world world;
    char path[30];
    int i;
    world_begin(&world);
    for (i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "/size/%d", i * 1000);
        fetch_open(&fetches[i], &world, path);
    }
    UNTIL(world.loop, all_done(fetches, 100));
    for (i = 0; i < 100; i++)
        CHECK_FETCH(fetches[i], CURLE_OK, 200, i * 1000);
    world_end(&world);
}

TEST(limited_connections) {
    static struct fetch fetches[50];
    struct world world;
    int i;
    world_begin(&world);
    CHECK_INT(curl_multi_setopt(evl_curl_get_multi(world.curl), CURLMOPT_MAX_TOTAL_CONNECTIONS, 3L), CURLM_OK);
    for (i = 0; i < 50; i++)
        fetch_open(&fetches[i], &world, "/size/100");
    UNTIL(world.loop, all_done(fetches, 50));
    for (i = 0; i < 50; i++)
        CHECK_FETCH(fetches[i], CURLE_OK, 200, 100);
    CHECK(guests <= 3);
    world_end(&world);
}

TEST(refused) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_init(&fetch, &world, "/size/1");
    CHECK_CODE(evl_server_close(world.server), 0);
    fetch_begin(&fetch);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_COULDNT_CONNECT, 0, 0);
    world_end(&world);
}

TEST(timeout) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_init(&fetch, &world, "/hang");
    curl_easy_setopt(fetch.easy, CURLOPT_TIMEOUT_MS, 50L);
    fetch_begin(&fetch);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_OPERATION_TIMEDOUT, 0, 0);
    world_end(&world);
}

TEST(reset_by_the_server) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_open(&fetch, &world, "/reset");
    UNTIL(world.loop, fetch.frees == 1);
    CHECK(fetch.result == CURLE_RECV_ERROR || fetch.result == CURLE_GOT_NOTHING);
    curl_easy_cleanup(fetch.easy);
    world_end(&world);
}

TEST(bad_url) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_init(&fetch, &world, "/");
    curl_easy_setopt(fetch.easy, CURLOPT_URL, "nonsense://127.0.0.1/");
    fetch_begin(&fetch);
    CHECK_INT(fetch.calls, 0); /* not at once */
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_UNSUPPORTED_PROTOCOL, 0, 0);
    world_end(&world);
}

TEST(waits_without_spinning) {
    struct world world;
    struct fetch fetch;
    uint64_t before;
    int i;
    world_begin(&world);
    fetch_open(&fetch, &world, "/hang");
    for (i = 0; i < 20; i++)
        CHECK(evl_loop_run_once(world.loop, EVL_MS(5)) >= 0);
    before = event_count(world.loop);
    CHECK(evl_loop_run_once(world.loop, EVL_MS(20)) >= 0);
    CHECK(event_count(world.loop) - before <= 1);
    CHECK_CODE(evl_curl_remove(world.curl, fetch.easy), 1);
    CHECK_INT(fetch.calls, 0);
    CHECK_INT(fetch.frees, 1);
    CHECK_CODE(evl_curl_remove(world.curl, fetch.easy), 0);
    curl_easy_cleanup(fetch.easy);
    world_end(&world);
}

static void again(struct fetch *fetch) {
    if (fetch->calls < 5)
        fetch_begin(fetch);
}

TEST(added_anew_when_done) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_init(&fetch, &world, "/size/10");
    fetch.at = again;
    fetch_begin(&fetch);
    /* fetch_done checks that nothing was freed: forget what was. */
    while (fetch.calls < 5 && CHECK(evl_loop_run_once(world.loop, EVL_SECONDS(20)) >= 0))
        fetch.frees = 0;
    CHECK_INT(fetch.bytes, 50);
    CHECK_INT(guests, 1);
    curl_easy_cleanup(fetch.easy);
    world_end(&world);
}

static void remove_other(struct fetch *fetch) {
    CHECK_CODE(evl_curl_remove(fetch->world->curl, fetch->other->easy), 1);
}

TEST(removed_when_another_is_done) {
    struct world world;
    struct fetch one, two;
    world_begin(&world);
    fetch_init(&one, &world, "/size/10");
    one.at = remove_other;
    one.other = &two;
    fetch_open(&two, &world, "/hang");
    fetch_begin(&one);
    UNTIL(world.loop, one.frees == 1);
    CHECK_INT(two.calls, 0);
    CHECK_INT(two.frees, 1);
    curl_easy_cleanup(two.easy);
    CHECK_FETCH(one, CURLE_OK, 200, 10);
    world_end(&world);
}

static void free_all(struct fetch *fetch) {
    evl_curl_free(fetch->world->curl);
    fetch->world->curl = NULL;
}

TEST(freed_when_one_is_done) {
    struct world world;
    struct fetch one, two;
    world_begin(&world);
    fetch_init(&one, &world, "/size/10");
    one.at = free_all;
    fetch_open(&two, &world, "/hang");
    fetch_begin(&one);
    UNTIL(world.loop, one.frees == 1);
    CHECK_INT(two.calls, 0);
    CHECK_INT(two.frees, 1);
    curl_easy_cleanup(two.easy);
    CHECK_FETCH(one, CURLE_OK, 200, 10);
    world_end(&world);
}

TEST(freed_while_curl_calls) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_init(&fetch, &world, "/size/10");
    fetch.at_data = free_all;
    fetch_begin(&fetch);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_INT(fetch.calls, 0);
    curl_easy_cleanup(fetch.easy);
    world_end(&world);
}

static void misuse_inside(struct fetch *fetch) {
    struct fetch *other = fetch->other;
    CHECK_CODE(evl_curl_add(fetch->world->curl, other->easy, fetch_done, other, fetch_free), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_curl_remove(fetch->world->curl, fetch->easy), EVL_EINVALIDSTATE);
}

TEST(misuse) {
    struct world world;
    struct fetch fetch, other;
    evl_curl *curl = NULL;
    world_begin(&world);
    fetch_init(&fetch, &world, "/size/10");
    fetch_init(&other, &world, "/size/10");
    CHECK_CODE(evl_curl_new(NULL, &curl), -EINVAL);
    CHECK_CODE(evl_curl_new(world.loop, NULL), -EINVAL);
    CHECK(evl_curl_get_multi(NULL) == NULL);
    evl_curl_free(NULL);
    CHECK_CODE(evl_curl_add(NULL, fetch.easy, fetch_done, &fetch, fetch_free), -EINVAL);
    CHECK_CODE(evl_curl_add(world.curl, NULL, fetch_done, &fetch, fetch_free), -EINVAL);
    CHECK_CODE(evl_curl_add(world.curl, fetch.easy, NULL, &fetch, fetch_free), -EINVAL);
    CHECK_CODE(evl_curl_remove(NULL, fetch.easy), -EINVAL);
    CHECK_CODE(evl_curl_remove(world.curl, NULL), -EINVAL);
    CHECK_CODE(evl_curl_remove(world.curl, fetch.easy), 0);
    CHECK_INT(fetch.frees, 3);
    fetch.frees = 0;
    fetch.other = &other;
    fetch.at_data = misuse_inside;
    fetch_begin(&fetch);
    CHECK_CODE(evl_curl_add(world.curl, fetch.easy, fetch_done, &other, fetch_free), EVL_EBUSY);
    CHECK_INT(other.frees, 1);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_INT(other.frees, 2);
    CHECK_FETCH(fetch, CURLE_OK, 200, 10);
    curl_easy_cleanup(other.easy);
    world_end(&world);
}

static evl_context_var *var;
static void *var_seen;

static void look(struct fetch *fetch) {
    (void)fetch;
    CHECK_CODE(evl_context_var_get(var, &var_seen), 0);
}

TEST(called_in_the_context_of_new) {
    struct world world;
    struct fetch fetch;
    static char first, second;
    evl_context *context = NULL;
    CHECK_CODE(evl_context_var_new("var", NULL, NULL, &var), 0);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_enter(context), 0);
    CHECK_CODE(evl_context_var_set(var, &first, NULL, NULL), 0);
    world_begin(&world);
    CHECK_CODE(evl_context_var_set(var, &second, NULL, NULL), 0);
    CHECK_CODE(evl_context_exit(context), 0);
    evl_context_unref(context);
    fetch_init(&fetch, &world, "/size/100000");
    fetch.at = look;
    fetch_begin(&fetch);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK(var_seen == &first);
    CHECK_FETCH(fetch, CURLE_OK, 200, 100000);
    world_end(&world);
    evl_context_var_unref(var);
}

TEST(loop_closed_first) {
    struct world world;
    struct fetch fetch;
    int i;
    world_begin(&world);
    fetch_open(&fetch, &world, "/hang");
    for (i = 0; i < 20; i++)
        CHECK(evl_loop_run_once(world.loop, EVL_MS(5)) >= 0);
    evl_server_unref(world.server);
    end_loop(world.loop);
    CHECK_INT(fetch.frees, 0);
    CHECK_CODE(evl_curl_add(world.curl, fetch.easy, fetch_done, &fetch, NULL), EVL_ECLOSED);
    evl_curl_free(world.curl);
    CHECK_INT(fetch.calls, 0);
    CHECK_INT(fetch.frees, 1);
    curl_easy_cleanup(fetch.easy);
}

TEST(new_on_a_closed_loop) {
    evl_loop *loop = real_loop();
    evl_curl *curl = NULL;
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_CODE(evl_curl_new(loop, &curl), EVL_ECLOSED);
    evl_loop_unref(loop);
}

static void go_on(void *arg) {
    curl_easy_pause(((struct fetch *)arg)->easy, CURLPAUSE_CONT);
}

TEST(paused) {
    struct world world;
    struct fetch fetch;
    world_begin(&world);
    fetch_init(&fetch, &world, "/size/3000000");
    fetch.pause = 1;
    fetch_begin(&fetch);
    UNTIL(world.loop, fetch.paused);
    CHECK_CODE(evl_loop_call_later(world.loop, EVL_MS(20), go_on, &fetch, NULL, NULL, NULL), 0);
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_OK, 200, 3000000);
    world_end(&world);
}

/* A descriptor that somebody else uses already: the socket cannot be watched. */
static evl_future *busy;

static curl_socket_t open_busy(void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
    evl_loop *loop = (evl_loop *)arg;
    int fd = socket(address->family, address->socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, address->protocol);
    static char byte;
    (void)purpose;
    CHECK(connect(fd, &address->addr, address->addrlen) == 0 || errno == EINPROGRESS);
    CHECK_CODE(evl_loop_sock_recv_into(loop, fd, &byte, 1, &busy), 0);
    return fd;
}

static int close_busy(void *arg, curl_socket_t fd) {
    (void)arg;
    CHECK_CODE(evl_future_cancel(busy, NULL), 1);
    evl_future_unref(busy);
    return close(fd);
}

static int is_connected(void *arg, curl_socket_t fd, curlsocktype purpose) {
    (void)arg;
    (void)fd;
    (void)purpose;
    return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static void begin_other(struct fetch *fetch) {
    if (fetch->other->paused++ == 0)
        fetch_begin(fetch->other);
}

TEST(socket_that_cannot_be_watched) {
    struct world world;
    struct fetch fetch, other, third;
    world_begin(&world);
    fetch_open(&other, &world, "/hang");
    fetch_init(&fetch, &world, "/hang");
    curl_easy_setopt(fetch.easy, CURLOPT_OPENSOCKETFUNCTION, open_busy);
    curl_easy_setopt(fetch.easy, CURLOPT_OPENSOCKETDATA, world.loop);
    curl_easy_setopt(fetch.easy, CURLOPT_CLOSESOCKETFUNCTION, close_busy);
    curl_easy_setopt(fetch.easy, CURLOPT_SOCKOPTFUNCTION, is_connected);
    fetch.at = other.at = begin_other; /* one of them is the first */
    fetch.other = other.other = &third;
    fetch_init(&third, &world, "/size/7");
    fetch_begin(&fetch);
    UNTIL(world.loop, fetch.frees == 1 && other.frees == 1);
    CHECK_INT(reports.count, 1);
    CHECK_INT(reports.code, EVL_EBUSY);
    reports.count = 0;
    CHECK_FETCH(fetch, CURLE_ABORTED_BY_CALLBACK, 0, 0);
    CHECK_FETCH(other, CURLE_ABORTED_BY_CALLBACK, 0, 0);
    UNTIL(world.loop, third.frees == 1);
    CHECK_FETCH(third, CURLE_OK, 200, 7);
    fetch_open(&fetch, &world, "/size/5"); /* and everything is as before */
    UNTIL(world.loop, fetch.frees == 1);
    CHECK_FETCH(fetch, CURLE_OK, 200, 5);
    world_end(&world);
}

TEST_MAIN()
