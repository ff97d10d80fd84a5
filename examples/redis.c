/*
 * A Redis client on evl: redis port | redis path-of-a-unix-socket
 *
 * One connection, used by everybody at once. A command is put into the output and gives a future; what is sent goes out by
 * evl_loop_sock_sendall, everything that has come together meanwhile in one piece. A reader task awaits evl_loop_sock_recv_into and settles
 * the futures in the order of the commands. So commands that nobody waits between are pipelined by themselves. An error that the server
 * answers is the future's error. docs/sockets.md explains it.
 *
 * The program sets and gets, counts by a thousand pipelined INCRs and by ten tasks that each wait for their answers, runs into an error
 * and into a timeout, and reads a list. Its keys begin with "evl:example:".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <evl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- replies --- */

struct reply {
    char type; /* '+' and '$' text, ':' a number, '*' a list, '_' nothing */
    long long number;
    char *text;
    size_t size;
    struct reply *items; /* size of them */
};

static void *must_have(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static void reply_clear(struct reply *reply)
{
    size_t i;
    for (i = 0; reply->items != NULL && i < reply->size; i++)
        reply_clear(&reply->items[i]);
    free(reply->items);
    free(reply->text);
}

static void reply_free(void *reply)
{
    reply_clear(reply);
    free(reply);
}

static void reply_take_text(struct reply *reply, const char *text, size_t size)
{
    reply->text = must_have(calloc(1, size + 1));
    reply->size = size;
    memcpy(reply->text, text, size);
}

/* Reads one reply. Returns how many bytes it had, 0 when they are not all there yet, or a negative code. */
static long parse(const char *data, size_t size, struct reply *reply, int depth)
{
    const char *end = memchr(data, '\n', size);
    size_t used, i;
    long part;
    memset(reply, 0, sizeof *reply);
    if (end == NULL)
        return 0;
    if (end - data < 2 || end[-1] != '\r' || depth > 8)
        return -EPROTO;
    used = (size_t)(end - data) + 1;
    reply->type = data[0];
    reply->number = strtoll(data + 1, NULL, 10);
    switch (reply->type) {
    case '+':
    case '-':
        reply_take_text(reply, data + 1, used - 3);
        return (long)used;
    case ':':
        return (long)used;
    case '$':
    case '*':
        if (reply->number < 0) {
            reply->type = '_';
            return (long)used;
        }
        if (reply->number > 1 << 28)
            return -EPROTO;
        break;
    default:
        return -EPROTO;
    }
    if (reply->type == '$') {
        if (size - used < (size_t)reply->number + 2)
            return 0;
        reply_take_text(reply, data + used, (size_t)reply->number);
        return (long)(used + reply->size + 2);
    }
    reply->items = must_have(calloc((size_t)reply->number + 1, sizeof *reply->items));
    for (i = 0; i < (size_t)reply->number; i++, used += (size_t)part) {
        reply->size = i + 1;
        part = parse(data + used, size - used, &reply->items[i], depth + 1);
        if (part <= 0)
            return part;
    }
    return (long)used;
}

/* --- the connection --- */

struct bytes {
    char *data;
    size_t size, capacity;
};

struct redis {
    evl_loop *loop;
    int fd;
    struct bytes in, out;
    struct bytes sending;  /* evl's, until the future of the sendall is done */
    evl_future **waiting;  /* for their replies, first first */
    size_t first, count, capacity;
    int broken; /* why there is no connection any more */
};

static char *room(struct bytes *bytes, size_t more)
{
    if (bytes->capacity - bytes->size < more) {
        bytes->capacity = (bytes->size + more) * 2;
        bytes->data = must_have(realloc(bytes->data, bytes->capacity));
    }
    return bytes->data + bytes->size;
}

static void append(struct bytes *bytes, const void *data, size_t size)
{
    memcpy(room(bytes, size), data, size);
    bytes->size += size;
}

static evl_future *next_waiting(struct redis *redis)
{
    evl_future *future = redis->waiting[redis->first++];
    if (redis->first == redis->count)
        redis->first = redis->count = 0;
    return future;
}

/* The connection is gone: everybody who waits is told. */
static void redis_break(struct redis *redis, int code)
{
    redis->broken = code;
    while (redis->first < redis->count) {
        evl_future *future = next_waiting(redis);
        evl_future_set_error(future, code, "the connection to Redis is gone");
        evl_future_unref(future);
    }
}

static void flush(struct redis *redis);

static void sent(evl_future *future, void *arg)
{
    struct redis *redis = arg;
    int code = evl_future_result(future, NULL);
    redis->sending.size = 0;
    if (code < 0)
        redis_break(redis, code);
    else
        flush(redis);
}

/* Sends what has come together, unless that is going on: then it follows. */
static void flush(struct redis *redis)
{
    struct bytes empty = redis->sending;
    evl_future *future = NULL;
    int code;
    if (redis->sending.size > 0 || redis->out.size == 0)
        return;
    redis->sending = redis->out;
    redis->out = empty;
    code = evl_loop_sock_sendall(redis->loop, redis->fd, redis->sending.data, redis->sending.size, &future);
    if (code == 0)
        code = evl_future_add_done_callback(future, sent, redis, NULL, NULL);
    evl_future_unref(future);
    if (code < 0)
        redis_break(redis, code);
}

/* Sends a command; argv ends with NULL. The future's result is a struct reply. */
static int redis_command(struct redis *redis, const char *const *argv, evl_future **out)
{
    evl_future *future = NULL;
    char line[64];
    int count = 0, code;
    if (redis->broken)
        return redis->broken;
    code = evl_future_new(redis->loop, &future);
    if (code < 0)
        return code;
    if (redis->count == redis->capacity) {
        redis->capacity = redis->capacity * 2 + 16;
        redis->waiting = must_have(realloc(redis->waiting, redis->capacity * sizeof *redis->waiting));
    }
    redis->waiting[redis->count++] = evl_future_ref(future);
    while (argv[count] != NULL)
        count++;
    append(&redis->out, line, (size_t)sprintf(line, "*%d\r\n", count));
    for (; *argv != NULL; argv++) {
        append(&redis->out, line, (size_t)sprintf(line, "$%lu\r\n", (unsigned long)strlen(*argv)));
        append(&redis->out, *argv, strlen(*argv));
        append(&redis->out, "\r\n", 2);
    }
    flush(redis);
    *out = future;
    return 0;
}

/* Settles the futures of the replies that are there. One whose time was over, or that was cancelled, is done already. */
static int take_replies(struct redis *redis)
{
    size_t used = 0;
    while (used < redis->in.size) {
        struct reply *reply = must_have(malloc(sizeof *reply));
        long size = parse(redis->in.data + used, redis->in.size - used, reply, 0);
        evl_future *future;
        if (size <= 0 || redis->first == redis->count) {
            reply_free(reply);
            if (size != 0)
                return -EPROTO;
            break;
        }
        used += (size_t)size;
        future = next_waiting(redis);
        if (reply->type == '-') {
            evl_future_set_error(future, -EREMOTEIO, reply->text);
            reply_free(reply);
        } else {
            evl_future_set_result(future, reply, reply_free);
        }
        evl_future_unref(future);
    }
    redis->in.size -= used;
    memmove(redis->in.data, redis->in.data + used, redis->in.size);
    return 0;
}

/* A task: receives for ever. */
static int receive(evl_task *task, int status, void *arg, evl_future **next)
{
    struct redis *redis = arg;
    int64_t size = 0;
    if (evl_task_get_awaited(task) != NULL) {
        if (status == 0)
            status = evl_future_result_int(evl_task_get_awaited(task), &size);
        redis->in.size += (size_t)size;
        if (status == 0)
            status = size == 0 ? -ECONNRESET : take_replies(redis);
    }
    if (status < 0) {
        redis_break(redis, status);
        return status == EVL_ECANCELLED ? status : 0;
    }
    room(&redis->in, 4096);
    return evl_loop_sock_recv_into(redis->loop, redis->fd, redis->in.data + redis->in.size,
                                   redis->in.capacity - redis->in.size, next);
}

/* Begins to connect to a port of this machine, or to a unix socket. */
static int redis_connect(struct redis *redis, const char *where, evl_future **out)
{
    struct sockaddr_in port;
    struct sockaddr_un path;
    int is_path = strchr(where, '/') != NULL, one = 1;
    memset(&port, 0, sizeof port);
    port.sin_family = AF_INET;
    port.sin_port = htons((uint16_t)atoi(where));
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(&path, 0, sizeof path);
    path.sun_family = AF_UNIX;
    strncpy(path.sun_path, where, sizeof path.sun_path - 1);
    redis->fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (redis->fd < 0)
        return -errno;
    if (is_path)
        return evl_loop_sock_connect(redis->loop, redis->fd, &path, sizeof path, out);
    setsockopt(redis->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return evl_loop_sock_connect(redis->loop, redis->fd, &port, sizeof port, out);
}

static void redis_free(struct redis *redis)
{
    redis_break(redis, -ENOTCONN);
    if (redis->fd >= 0)
        close(redis->fd);
    free(redis->in.data);
    free(redis->out.data);
    free(redis->sending.data);
    free(redis->waiting);
}

/* --- the program --- */

enum { PIPELINED = 1000, WORKERS = 10, ROUNDS = 50 };

#define COMMAND(...) (const char *const[]){__VA_ARGS__, NULL}

static struct {
    const char *where;
    struct redis redis;
    int state;
    evl_future *futures[PIPELINED];
} program = {NULL, {NULL, -1, {NULL, 0, 0}, {NULL, 0, 0}, {NULL, 0, 0}, NULL, 0, 0, 0, 0}, 0, {NULL}};

struct worker {
    int left;
};

static void print_reply(evl_future *future)
{
    void *value = NULL;
    const struct reply *reply;
    size_t i;
    if (evl_future_result(future, &value) < 0 || value == NULL)
        return;
    reply = value;
    if (reply->type == ':')
        printf("%lld\n", reply->number);
    else if (reply->type == '_')
        printf("(nothing)\n");
    else if (reply->type != '*')
        printf("%s\n", reply->text);
    else
        for (i = 0; i < reply->size; i++)
            printf("%s%s", reply->items[i].text, i + 1 < reply->size ? " " : "\n");
}

/* A task: increments, and waits for the answer, ROUNDS times. */
static int work(evl_task *task, int status, void *arg, evl_future **next)
{
    struct worker *worker = arg;
    (void)task;
    if (status < 0)
        return status;
    if (worker->left-- == 0)
        return 0;
    return redis_command(&program.redis, COMMAND("INCR", "evl:example:count"), next);
}

static int begin_pipeline(evl_loop *loop, evl_future **next)
{
    int i, code;
    for (i = 0; i < PIPELINED; i++) {
        code = redis_command(&program.redis, COMMAND("INCR", "evl:example:count"), &program.futures[i]);
        if (code < 0)
            return code;
    }
    return evl_gather(loop, program.futures, PIPELINED, 0, next);
}

static void drop_futures(void)
{
    int i;
    for (i = 0; i < PIPELINED; i++) {
        evl_future_unref(program.futures[i]);
        program.futures[i] = NULL;
    }
}

static int begin_workers(evl_loop *loop, evl_future **next)
{
    int i, code;
    for (i = 0; i < WORKERS; i++) {
        struct worker *worker = must_have(malloc(sizeof *worker));
        evl_task *task = NULL;
        worker->left = ROUNDS;
        code = evl_task_new(loop, work, worker, free, NULL, &task);
        if (code < 0)
            return code;
        program.futures[i] = evl_task_as_future(task);
    }
    return evl_gather(loop, program.futures, WORKERS, 0, next);
}

/* What the server said, or why it could not. */
static void print_error(evl_task *task, int status)
{
    char text[200] = "";
    evl_future_error_message(evl_task_get_awaited(task), text, sizeof text);
    printf("error: %s\n", text[0] ? text : evl_strerror(status));
}

static int run(evl_task *task, int status, void *arg, evl_future **next)
{
    struct redis *redis = &program.redis;
    evl_loop *loop = evl_task_get_loop(task);
    evl_future *awaited = evl_task_get_awaited(task);
    int state = program.state++, code;
    (void)arg;
    if (status < 0 && state != 5 && state != 9) {
        print_error(task, status);
        return status;
    }
    switch (state) {
    case 0:
        redis->loop = loop;
        return redis_connect(redis, program.where, next);
    case 1:
        code = evl_task_new(loop, receive, redis, NULL, NULL, NULL);
        if (code < 0)
            return code;
        return redis_command(
            redis, COMMAND("DEL", "evl:example:greeting", "evl:example:count", "evl:example:list", "evl:example:none"), next);
    case 2:
        return redis_command(redis, COMMAND("SET", "evl:example:greeting", "hello, world"), next);
    case 3:
        print_reply(awaited);
        return redis_command(redis, COMMAND("GET", "evl:example:greeting"), next);
    case 4:
        print_reply(awaited);
        return redis_command(redis, COMMAND("INCR", "evl:example:greeting"), next);
    case 5: /* which is no number */
        print_error(task, status);
        return begin_pipeline(loop, next);
    case 6:
        print_reply(program.futures[PIPELINED - 1]);
        drop_futures();
        return begin_workers(loop, next);
    case 7:
        drop_futures();
        return redis_command(redis, COMMAND("GET", "evl:example:count"), next);
    case 8:
        print_reply(awaited);
        /* Nothing is ever pushed there: the server answers after half a second, when nobody waits any more. */
        code = redis_command(redis, COMMAND("BLPOP", "evl:example:none", "0.5"), next);
        return code < 0 ? code : evl_future_set_timeout(*next, EVL_MS(20));
    case 9:
        printf("%s\n", status == -ETIMEDOUT ? "timed out" : "no timeout");
        return redis_command(redis, COMMAND("RPUSH", "evl:example:list", "one", "two", "three"), next);
    case 10:
        return redis_command(redis, COMMAND("LRANGE", "evl:example:list", "0", "-1"), next);
    case 11:
        print_reply(awaited);
        return redis_command(redis, COMMAND("GET", "evl:example:none"), next);
    default:
        print_reply(awaited);
        return 0;
    }
}

int main(int argc, char **argv)
{
    int code;
    if (argc != 2) {
        fprintf(stderr, "usage: redis port | path-of-a-unix-socket\n");
        return 2;
    }
    program.where = argv[1];
    code = evl_run(run, NULL, NULL, NULL);
    drop_futures();
    redis_free(&program.redis);
    return code < 0;
}
