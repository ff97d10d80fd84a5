/* include/evl/hiredis.h, against a server of a few commands on the same loop. */
#include "streams.h"

#include <evl/hiredis.h>

/* --- the server: PING, ECHO text, HANG (no answer), DIE (the connection is reset), SUBSCRIBE (and a message at once) */

struct guest {
    char data[65536];
    size_t size;
};

static evl_transport *last_guest; /* borrowed */
static int guests_lost;

static void guest_made(evl_transport *transport, void *arg) {
    (void)arg;
    last_guest = transport;
}

static void guest_lost(evl_transport *transport, int code, void *arg) {
    (void)transport;
    (void)code;
    (void)arg;
    guests_lost++;
}

static void answer(evl_transport *transport, const char *text) {
    evl_transport_write(transport, text, strlen(text));
}

/* Reads "$size\r\ntext\r\n" at *at. Returns 0 when it is not all there. */
static int next_word(const struct guest *guest, size_t *at, char *word, size_t room) {
    const char *from = guest->data + *at;
    const char *line = (const char *)memchr(from, '\n', guest->size - *at);
    size_t size;
    if (line == NULL)
        return 0;
    size = (size_t)atoi(from + 1);
    if ((size_t)(line + 1 - guest->data) + size + 2 > guest->size)
        return 0;
    snprintf(word, room, "%.*s", (int)size, line + 1);
    *at = (size_t)(line + 1 - guest->data) + size + 2;
    return 1;
}

/* Answers the first command. Returns how many bytes it had, or 0 when it is not all there. */
static size_t serve_one(evl_transport *transport, const struct guest *guest) {
    char words[3][200], text[500];
    size_t at = 0;
    int count, i;
    const char *line = (const char *)memchr(guest->data, '\n', guest->size);
    if (line == NULL)
        return 0;
    count = atoi(guest->data + 1);
    CHECK(guest->data[0] == '*' && count >= 1 && count <= 3);
    at = (size_t)(line + 1 - guest->data);
    for (i = 0; i < count; i++)
        if (!next_word(guest, &at, words[i], sizeof words[i]))
            return 0;
    if (strcmp(words[0], "PING") == 0)
        answer(transport, "+PONG\r\n");
    else if (strcmp(words[0], "DIE") == 0)
        evl_transport_abort(transport);
    else if (strcmp(words[0], "ECHO") == 0) {
        snprintf(text, sizeof text, "$%d\r\n%s\r\n", (int)strlen(words[1]), words[1]);
        answer(transport, text);
    } else if (strcmp(words[0], "SUBSCRIBE") == 0) {
        snprintf(text, sizeof text,
                 "*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n$5\r\nhello\r\n",
                 (int)strlen(words[1]), words[1], (int)strlen(words[1]), words[1]);
        answer(transport, text);
    } else
        CHECK_STRING(words[0], "HANG");
    return at;
}

static void guest_data(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct guest *guest = (struct guest *)arg;
    size_t at;
    CHECK(guest->size + size <= sizeof guest->data);
    memcpy(guest->data + guest->size, data, size);
    guest->size += size;
    while (guest->size > 0 && !evl_transport_is_closing(transport)) {
        at = serve_one(transport, guest);
        if (at == 0)
            return;
        guest->size -= at;
        memmove(guest->data, guest->data + at, guest->size);
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

/* --- the client */

static struct {
    int connected, connect_status, disconnected, disconnect_status;
    int replies, errors, nothing; /* by kind; nothing: NULL */
    char last[200];
    void (*at)(redisAsyncContext *redis, const redisReply *reply);
} seen;

static void on_connect(const redisAsyncContext *redis, int status) {
    (void)redis;
    seen.connected++;
    seen.connect_status = status;
}

static void on_disconnect(const redisAsyncContext *redis, int status) {
    (void)redis;
    seen.disconnected++;
    seen.disconnect_status = status;
}

static void on_reply(redisAsyncContext *redis, void *answered, void *arg) {
    const redisReply *reply = (const redisReply *)answered;
    (void)arg;
    if (reply == NULL)
        seen.nothing++;
    else {
        seen.replies++;
        if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 && reply->element[2]->str != NULL)
            snprintf(seen.last, sizeof seen.last, "%s", reply->element[2]->str);
        else if (reply->str != NULL)
            snprintf(seen.last, sizeof seen.last, "%s", reply->str);
    }
    if (seen.at != NULL)
        seen.at(redis, reply);
}

struct world {
    evl_loop *loop;
    evl_server *server;
    int port;
    uint64_t watchers; /* without a client */
};

static uint64_t watchers_of(evl_loop *loop) {
    evl_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    return metrics.watchers;
}

static void world_begin(struct world *world) {
    evl_server_options options;
    evl_future *future = NULL;
    signal(SIGPIPE, SIG_IGN); /* hiredis writes to a socket whose peer has gone */
    memset(&seen, 0, sizeof seen);
    guests_lost = 0;
    world->loop = real_loop();
    CHECK_CODE(evl_server_options_init(&options, sizeof options), 0);
    options.host = "127.0.0.1";
    CHECK_CODE(evl_loop_create_server(world->loop, &options, guest_new, NULL, NULL, &future), 0);
    world->server = server_of(world->loop, future);
    world->port = evl_server_port(world->server);
    world->watchers = watchers_of(world->loop);
}

static void world_end(struct world *world) {
    evl_server_unref(world->server);
    end_loop(world->loop);
}

static redisAsyncContext *open_client(struct world *world) {
    redisAsyncContext *redis = redisAsyncConnect("127.0.0.1", world->port);
    CHECK_INT(redis->err, 0);
    CHECK_CODE(evl_hiredis_attach(redis, world->loop), 0);
    CHECK_INT(redisAsyncSetConnectCallback(redis, on_connect), REDIS_OK);
    CHECK_INT(redisAsyncSetDisconnectCallback(redis, on_disconnect), REDIS_OK);
    return redis;
}

static void ask(redisAsyncContext *redis, const char *command) {
    CHECK_INT(redisAsyncCommand(redis, on_reply, NULL, command), REDIS_OK);
}

TEST(commands) {
    struct world world;
    redisAsyncContext *redis;
    int i;
    world_begin(&world);
    redis = open_client(&world);
    for (i = 0; i < 5000; i++)
        CHECK_INT(redisAsyncCommand(redis, on_reply, NULL, "ECHO %d", i), REDIS_OK);
    UNTIL(world.loop, seen.replies == 5000);
    CHECK_STRING(seen.last, "4999");
    CHECK_INT(seen.connected, 1);
    CHECK_INT(seen.connect_status, REDIS_OK);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 5001);
    CHECK_STRING(seen.last, "PONG");
    redisAsyncDisconnect(redis);
    UNTIL(world.loop, seen.disconnected == 1 && guests_lost == 1);
    CHECK_INT(seen.disconnect_status, REDIS_OK);
    CHECK_INT(watchers_of(world.loop), world.watchers);
    world_end(&world);
}

TEST(waits_without_spinning) {
    struct world world;
    redisAsyncContext *redis;
    uint64_t before;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 1);
    CHECK(evl_loop_run_until_idle(world.loop) >= 0);
    before = event_count(world.loop);
    CHECK(evl_loop_run_once(world.loop, EVL_MS(20)) >= 0);
    CHECK(event_count(world.loop) - before <= 1);
    redisAsyncFree(redis);
    world_end(&world);
}

TEST(pubsub) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "SUBSCRIBE news");
    UNTIL(world.loop, seen.replies == 2);
    CHECK_STRING(seen.last, "hello");
    redisAsyncFree(redis);
    CHECK_INT(seen.disconnected, 1);
    world_end(&world);
}

static evl_context_var *var;
static void *var_seen;

static void look(redisAsyncContext *redis, const redisReply *reply) {
    (void)redis;
    if (reply != NULL)
        CHECK_CODE(evl_context_var_get(var, &var_seen), 0);
}

TEST(called_in_the_context_of_attach) {
    struct world world;
    redisAsyncContext *redis;
    static char first, second;
    evl_context *context = NULL;
    CHECK_CODE(evl_context_var_new("var", NULL, NULL, &var), 0);
    CHECK_CODE(evl_context_new(&context), 0);
    CHECK_CODE(evl_context_enter(context), 0);
    CHECK_CODE(evl_context_var_set(var, &first, NULL, NULL), 0);
    world_begin(&world);
    redis = open_client(&world);
    CHECK_CODE(evl_context_var_set(var, &second, NULL, NULL), 0);
    CHECK_CODE(evl_context_exit(context), 0);
    evl_context_unref(context);
    seen.at = look;
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 1);
    CHECK(var_seen == &first);
    redisAsyncFree(redis);
    world_end(&world);
    evl_context_var_unref(var);
}

static void free_at_two(redisAsyncContext *redis, const redisReply *reply) {
    if (reply != NULL && seen.replies == 2)
        redisAsyncFree(redis);
}

TEST(freed_in_a_reply) {
    struct world world;
    redisAsyncContext *redis;
    int i;
    world_begin(&world);
    seen.at = free_at_two;
    redis = open_client(&world);
    for (i = 0; i < 10; i++)
        ask(redis, "PING");
    UNTIL(world.loop, seen.disconnected == 1);
    CHECK_INT(seen.replies, 2);
    CHECK_INT(seen.nothing, 8);
    CHECK_INT(watchers_of(world.loop), world.watchers + 1); /* the server's end, still */
    UNTIL(world.loop, guests_lost == 1);
    CHECK_INT(watchers_of(world.loop), world.watchers);
    world_end(&world);
}

static void disconnect_at_two(redisAsyncContext *redis, const redisReply *reply) {
    if (reply != NULL && seen.replies == 2)
        redisAsyncDisconnect(redis);
}

TEST(disconnected_in_a_reply) {
    struct world world;
    redisAsyncContext *redis;
    int i;
    world_begin(&world);
    seen.at = disconnect_at_two;
    redis = open_client(&world);
    for (i = 0; i < 10; i++)
        ask(redis, "PING");
    UNTIL(world.loop, seen.disconnected == 1);
    CHECK_INT(seen.replies, 10); /* what was asked for is still answered */
    CHECK_INT(seen.nothing, 0);
    UNTIL(world.loop, guests_lost == 1);
    CHECK_INT(watchers_of(world.loop), world.watchers);
    world_end(&world);
}

TEST(freed_before_it_is_connected) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "PING");
    CHECK_INT(watchers_of(world.loop), world.watchers + 2);
    redisAsyncFree(redis);
    CHECK_INT(seen.nothing, 1);
    CHECK_INT(watchers_of(world.loop), world.watchers);
    UNTIL(world.loop, guests_lost == 1);
    world_end(&world);
}

TEST(refused) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    CHECK_CODE(evl_server_close(world.server), 0);
    redis = open_client(&world);
    ask(redis, "PING");
    UNTIL(world.loop, seen.connected == 1);
    CHECK_INT(seen.connect_status, REDIS_ERR);
    CHECK_INT(seen.nothing, 1);
    CHECK_INT(watchers_of(world.loop), 0);
    world_end(&world);
}

TEST(server_dies) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "PING");
    ask(redis, "HANG");
    ask(redis, "DIE");
    UNTIL(world.loop, seen.disconnected == 1);
    CHECK_INT(seen.replies, 1);
    CHECK_INT(seen.nothing, 2);
    CHECK_INT(seen.disconnect_status, REDIS_ERR);
    CHECK_INT(watchers_of(world.loop), world.watchers);
    world_end(&world);
}

TEST(server_dies_while_nothing_waits) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 1);
    CHECK_CODE(evl_transport_abort(last_guest), 0);
    UNTIL(world.loop, seen.disconnected == 1);
    CHECK_INT(seen.nothing, 0);
    world_end(&world);
    (void)redis;
}

TEST(loop_closed_first) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 1);
    ask(redis, "HANG");
    world_end(&world); /* the adapter has the last reference */
    CHECK_INT(seen.nothing, 0);
    redisAsyncCommand(redis, on_reply, NULL, "PING");
    redisAsyncFree(redis);
    CHECK_INT(seen.nothing, 2);
    CHECK_INT(seen.disconnected, 1);
}

TEST(last_reference_is_the_context) {
    struct world world;
    redisAsyncContext *redis;
    evl_loop *loop;
    world_begin(&world);
    redis = open_client(&world);
    evl_server_unref(world.server);
    loop = world.loop;
    evl_loop_unref(loop);
    ask(redis, "PING");
    UNTIL(loop, seen.replies == 1);
    redisAsyncFree(redis); /* closes the loop */
    CHECK_INT(seen.disconnected, 1);
}

TEST(misuse) {
    struct world world;
    redisAsyncContext *redis;
    world_begin(&world);
    redis = open_client(&world);
    CHECK_CODE(evl_hiredis_attach(NULL, world.loop), -EINVAL);
    CHECK_CODE(evl_hiredis_attach(redis, NULL), -EINVAL);
    CHECK_CODE(evl_hiredis_attach(redis, world.loop), EVL_EBUSY);
    redisAsyncFree(redis);
    redis = redisAsyncConnectUnix("/nowhere/at/all");
    CHECK(redis->err != 0);
    CHECK_CODE(evl_hiredis_attach(redis, world.loop), -ENOTCONN);
    redisAsyncFree(redis);
    redis = redisAsyncConnect("127.0.0.1", world.port);
    CHECK_CODE(evl_loop_close(world.loop), 0);
    CHECK_CODE(evl_hiredis_attach(redis, world.loop), EVL_ECLOSED);
    redisAsyncFree(redis);
    world_end(&world);
}

struct forked {
    struct world *world;
    redisAsyncContext *redis;
};

static void in_fork(void *arg) {
    struct forked *forked = (struct forked *)arg;
    evl_loop *loop = forked->world->loop;
    redisAsyncFree(forked->redis);
    CHECK_CODE(evl_loop_after_fork(loop), 0); /* its watchers could not be removed before: nothing is called with them */
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    world_end(forked->world);
}

TEST(freed_in_a_child) {
    struct world world;
    redisAsyncContext *redis;
    struct forked forked;
    world_begin(&world);
    redis = open_client(&world);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 1);
    CHECK_CODE(evl_loop_set_exception_handler(world.loop, on_report, NULL, NULL), 0);
    forked.world = &world;
    forked.redis = redis;
    CHECK_INT(in_child(in_fork, &forked), 0);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 2);
    redisAsyncFree(redis);
    world_end(&world);
}

#if HIREDIS_MAJOR >= 1
TEST(timeout) {
    struct world world;
    redisAsyncContext *redis;
    struct timeval limit = {0, 30000};
    world_begin(&world);
    redis = open_client(&world);
    CHECK_INT(redisAsyncSetTimeout(redis, limit), REDIS_OK);
    ask(redis, "PING");
    UNTIL(world.loop, seen.replies == 1);
    ask(redis, "HANG");
    UNTIL(world.loop, seen.disconnected == 1);
    CHECK_INT(seen.nothing, 1);
    CHECK_INT(seen.disconnect_status, REDIS_ERR);
    world_end(&world);
}
#endif

TEST_MAIN()
