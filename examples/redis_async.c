/*
 * Redis by hiredis on evl: redis_async port | path-of-a-unix-socket [shutdown]
 *
 * What it shows: <evl/hiredis.h>, which lets hiredis wait in evl's loop; hiredis' callbacks made futures, which tasks await; a thousand
 * commands on their way at once; a subscription beside them; a command with a limit of time; seeing the server go. With "shutdown" it is
 * this program that sends it away. docs/adapters.md explains it. (redis.c is a client without hiredis.)
 */
#include <errno.h>
#include <evl.h>
#include <evl/hiredis.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIPELINED = 1000, MESSAGES = 3 };

/* --- a connection: what hiredis tells, as futures */

struct client {
    redisAsyncContext *redis; /* NULL: hiredis has freed it */
    evl_future *connected, *gone;
};

static void on_connect(const redisAsyncContext *redis, int status)
{
    struct client *client = redis->data;
    if (status == REDIS_OK) {
        evl_future_set_result(client->connected, NULL, NULL);
    } else { /* hiredis frees the context after this */
        evl_future_set_error(client->connected, -ENOTCONN, redis->errstr);
        client->redis = NULL;
    }
}

static void on_disconnect(const redisAsyncContext *redis, int status)
{
    struct client *client = redis->data;
    (void)status;
    client->redis = NULL; /* freed after this, whoever has ended it */
    evl_future_set_result(client->gone, NULL, NULL);
}

/* connected and gone are there when this succeeds. */
static int client_open(struct client *client, evl_loop *loop, const char *where)
{
    int code;
    client->redis = strchr(where, '/') ? redisAsyncConnectUnix(where) : redisAsyncConnect("127.0.0.1", atoi(where));
    if (client->redis == NULL)
        return -ENOMEM;
    client->redis->data = client;
    code = evl_future_new(loop, &client->connected);
    if (code >= 0)
        code = evl_future_new(loop, &client->gone);
    if (code < 0)
        return code;
    if (client->redis->err != 0)
        return evl_future_set_error(client->connected, -ENOTCONN, client->redis->errstr);
    code = evl_hiredis_attach(client->redis, loop);
    if (code < 0)
        return code;
    redisAsyncSetConnectCallback(client->redis, on_connect);
    redisAsyncSetDisconnectCallback(client->redis, on_disconnect);
    return 0;
}

static void client_free(struct client *client)
{
    if (client->redis != NULL)
        redisAsyncFree(client->redis); /* also when the loop is closed already */
    evl_future_unref(client->connected);
    evl_future_unref(client->gone);
}

/* --- a command: its reply settles a future, whose result is text */

static char *text_of(const redisReply *reply)
{
    char number[32];
    const char *text = reply->str;
    char *copy;
    if (reply->type == REDIS_REPLY_INTEGER) {
        snprintf(number, sizeof number, "%lld", reply->integer);
        text = number;
    } else if (text == NULL) {
        text = "(nothing)";
    }
    copy = malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

/* A future that is done already, because it was cancelled or its time was up, answers EVL_EINVALIDSTATE here: the reply comes too late. */
static void on_reply(redisAsyncContext *redis, void *answer, void *arg)
{
    const redisReply *reply = answer; /* hiredis frees it after this */
    evl_future *future = arg;
    if (reply == NULL)
        evl_future_set_error(future, -ENOTCONN, redis->errstr && redis->errstr[0] ? redis->errstr : "not connected");
    else if (reply->type == REDIS_REPLY_ERROR)
        evl_future_set_error(future, -EPROTO, reply->str);
    else
        evl_future_set_result(future, text_of(reply), free);
    evl_future_unref(future);
}

static int ask(struct client *client, evl_future **out, const char *format, ...)
{
    evl_future *future;
    va_list arguments;
    int code, asked;
    if (client->redis == NULL)
        return -ENOTCONN;
    code = evl_future_new(evl_future_get_loop(client->gone), &future);
    if (code < 0)
        return code;
    va_start(arguments, format);
    asked = redisvAsyncCommand(client->redis, on_reply, evl_future_ref(future), format, arguments);
    va_end(arguments);
    if (asked != REDIS_OK) {
        evl_future_unref(future); /* on_reply's */
        evl_future_unref(future);
        return -ENOTCONN;
    }
    *out = future;
    return 0;
}

/* --- the program */

static struct {
    const char *where;
    int shutdown, state, heard;
    struct client client, listener;
    evl_future *subscribed, *all_heard;
    evl_future *futures[PIPELINED];
} program;

/* Three elements: "subscribe", the channel, a count; then for each message "message", the channel, the text. */
static void on_message(redisAsyncContext *redis, void *answer, void *arg)
{
    const redisReply *reply = answer;
    (void)redis, (void)arg;
    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3)
        return;
    if (strcmp(reply->element[0]->str, "subscribe") == 0) {
        evl_future_set_result(program.subscribed, NULL, NULL);
    } else {
        printf("heard: %s\n", reply->element[2]->str);
        if (++program.heard == MESSAGES)
            evl_future_set_result(program.all_heard, NULL, NULL);
    }
}

static void drop_futures(void)
{
    int i;
    for (i = 0; i < PIPELINED; i++) {
        evl_future_unref(program.futures[i]);
        program.futures[i] = NULL;
    }
}

/* The same command, count times, without waiting in between. */
static int ask_many(int count, evl_loop *loop, evl_future **next, const char *command)
{
    int i, code;
    drop_futures();
    for (i = 0; i < count; i++) {
        code = ask(&program.client, &program.futures[i], command, i);
        if (code < 0)
            return code;
    }
    return evl_gather(loop, program.futures, (size_t)count, 0, next);
}

static void print_text(evl_future *future)
{
    void *text = NULL;
    if (evl_future_result(future, &text) == 0 && text != NULL)
        printf("%s\n", (const char *)text);
}

static int run(evl_task *task, int status, void *arg, evl_future **next)
{
    struct client *client = &program.client, *listener = &program.listener;
    evl_loop *loop = evl_task_get_loop(task);
    evl_future *awaited = evl_task_get_awaited(task), *both[2];
    char why[200] = "";
    int state = program.state++, code;
    (void)arg;
    if (status < 0) {
        evl_future_error_message(awaited, why, sizeof why);
        printf("error: %s\n", why[0] ? why : evl_strerror(status));
        if (state != 7 && state != 8 && state != 10) /* where an error is what is shown */
            return status;
    }
    switch (state) {
    case 0:
        code = client_open(client, loop, program.where);
        if (code >= 0)
            code = client_open(listener, loop, program.where);
        if (code < 0)
            return code;
        both[0] = client->connected;
        both[1] = listener->connected;
        return evl_gather(loop, both, 2, 0, next);
    case 1:
        if ((code = evl_future_new(loop, &program.subscribed)) < 0 || (code = evl_future_new(loop, &program.all_heard)) < 0)
            return code;
        if (redisAsyncCommand(listener->redis, on_message, NULL, "SUBSCRIBE evl:example:news") != REDIS_OK)
            return -ENOTCONN;
        *next = evl_future_ref(program.subscribed);
        return 0;
    case 2:
        return ask(client, next, "DEL evl:example:count evl:example:none");
    case 3:
        return ask_many(PIPELINED, loop, next, "INCR evl:example:count");
    case 4:
        print_text(program.futures[PIPELINED - 1]);
        return ask_many(MESSAGES, loop, next, "PUBLISH evl:example:news message-%d");
    case 5:
        *next = evl_future_ref(program.all_heard);
        return 0;
    case 6:
        return ask(client, next, "INCR"); /* that is not enough: the server tells an error */
    case 7: /* nothing is ever pushed there: the server answers after half a second, when nobody waits any more */
        code = ask(client, next, "BLPOP evl:example:none 0.5");
        return code < 0 ? code : evl_future_set_timeout(*next, EVL_MS(20));
    case 8:
        return ask(client, next, "PING"); /* the late answer has not taken this one's place */
    case 9:
        print_text(awaited);
        if (program.shutdown)
            return ask(client, next, "SHUTDOWN NOSAVE");
        redisAsyncDisconnect(client->redis);
        redisAsyncFree(listener->redis); /* a subscription would not end by itself */
        return evl_sleep(loop, 0, next);
    case 10:
        both[0] = client->gone;
        both[1] = listener->gone;
        return evl_gather(loop, both, 2, 0, next);
    default:
        printf("%s\n", program.shutdown ? "the server has gone" : "disconnected");
        code = ask(client, next, "PING");
        printf("%s\n", code == -ENOTCONN ? "nobody is asked any more" : "asked nevertheless");
        return 0;
    }
}

int main(int argc, char **argv)
{
    int code;
    if (argc < 2) {
        fprintf(stderr, "usage: redis_async port | path-of-a-unix-socket [shutdown]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN); /* hiredis may write to a socket whose peer has gone */
    program.where = argv[1];
    program.shutdown = argc > 2 && strcmp(argv[2], "shutdown") == 0;
    code = evl_run(run, NULL, NULL, NULL);
    client_free(&program.client);
    client_free(&program.listener);
    drop_futures();
    evl_future_unref(program.subscribed);
    evl_future_unref(program.all_heard);
    return code < 0;
}
