/*
 * kv_server [port]: keeps values by their keys, for clients that speak in lines:
 *
 *     set KEY SIZE     and so many bytes and a newline after it     -> ok
 *     get KEY                                                       -> value SIZE, the bytes, a newline; or none
 *     del KEY                                                       -> ok, or none
 *     quit
 *
 * Ctrl-C ends it. Prints the port it listens on.
 *
 * What it shows: a server whose connections are streams, each served by a task of its own; reading lines and counted bytes; writing
 * without filling the memory for a client that does not read; a time limit for those who say nothing.
 */
#include <evl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_KEY = 64, MOST_VALUE = 1 << 20 };

struct pair {
    struct pair *next;
    char key[MOST_KEY];
    size_t size;
    char value[1];
};

static struct pair *pairs;

static struct pair **find(const char *key)
{
    struct pair **place = &pairs;
    while (*place != NULL && strcmp((*place)->key, key) != 0)
        place = &(*place)->next;
    return place;
}

static int forget(const char *key)
{
    struct pair **place = find(key), *old = *place;
    if (old == NULL)
        return 0;
    *place = old->next;
    free(old);
    return 1;
}

static int keep(const char *key, const void *value, size_t size)
{
    struct pair *made = malloc(sizeof *made + size);
    if (made == NULL)
        return -1;
    forget(key);
    snprintf(made->key, sizeof made->key, "%s", key);
    memcpy(made->value, value, size);
    made->size = size;
    made->next = pairs;
    pairs = made;
    return 0;
}

/* What a client's task knows. */
struct session {
    evl_stream *stream; /* the task keeps it */
    enum { READ, TAKE_LINE, TAKE_VALUE } state;
    char key[MOST_KEY];
};

static int say(struct session *me, const char *text)
{
    return evl_stream_write(me->stream, text, strlen(text));
}

/* Reads the next line, when the client has taken what it was told. */
static int read_next(struct session *me, evl_future **next)
{
    me->state = READ;
    return evl_stream_drain(me->stream, next);
}

/* A line: answers it, or has its value read. */
static int take_line(struct session *me, const char *line, evl_future **next)
{
    char verb[8] = "";
    unsigned long size = 0;
    int words, code;
    me->key[0] = 0;
    words = sscanf(line, "%7s %63s %lu", verb, me->key, &size);
    if (strcmp(verb, "set") == 0 && words == 3 && size <= MOST_VALUE) {
        me->state = TAKE_VALUE;
        return evl_stream_read_exactly(me->stream, size + 1, next);
    }
    if (strcmp(verb, "get") == 0 && words == 2) {
        struct pair *found = *find(me->key);
        char head[32];
        if (found != NULL) {
            evl_buffer pieces[3] = {{head, 0}, {found->value, found->size}, {"\n", 1}};
            pieces[0].size = (size_t)snprintf(head, sizeof head, "value %lu\n", (unsigned long)found->size);
            code = evl_stream_writelines(me->stream, pieces, 3);
        } else {
            code = say(me, "none\n");
        }
    } else if (strcmp(verb, "del") == 0 && words == 2) {
        code = say(me, forget(me->key) ? "ok\n" : "none\n");
    } else if (strcmp(verb, "quit") == 0) {
        return 0; /* the task ends, and the stream with it */
    } else {
        code = say(me, "error: set KEY SIZE, get KEY, del KEY or quit\n");
    }
    return code < 0 ? 0 : read_next(me, next); /* it cannot be written to when the client has gone */
}

static int session(evl_task *task, int status, void *arg, evl_future **next)
{
    struct session *me = arg;
    const void *data = NULL;
    size_t size = 0;
    evl_future *line;
    if (status == EVL_EOVERRUN || status == -ETIMEDOUT)
        return say(me, status == EVL_EOVERRUN ? "error: too long\n" : "error: too late\n"), 0;
    if (status < 0)
        return 0; /* the client has gone, in the middle of something or not */
    switch (me->state) {
    case READ:
        me->state = TAKE_LINE;
        status = evl_stream_read_line(me->stream, &line);
        if (status < 0)
            return status;
        evl_future_set_timeout(line, EVL_SECONDS(60));
        *next = line;
        return 0;
    case TAKE_LINE:
        evl_future_result_bytes(evl_task_get_awaited(task), &data, &size);
        if (size == 0)
            return 0; /* the client says no more */
        return take_line(me, data, next);
    default:
        evl_future_result_bytes(evl_task_get_awaited(task), &data, &size);
        status = say(me, keep(me->key, data, size - 1) == 0 ? "ok\n" : "error: no memory\n");
        return status < 0 ? 0 : read_next(me, next);
    }
}

static void connected(evl_stream *stream, void *arg)
{
    struct session *me = calloc(1, sizeof *me);
    (void)arg;
    if (me == NULL)
        return; /* nobody keeps the stream: it is closed */
    me->stream = stream;
    evl_stream_set_limit(stream, 256); /* of a line: a value may be longer */
    evl_stream_create_task(stream, session, me, free, NULL);
}

struct program {
    const char *port;
    evl_server *server;
    int state;
};

static int serve(evl_task *task, int status, void *arg, evl_future **next)
{
    struct program *p = arg;
    evl_server_options options;
    evl_future *made;
    void *server;
    switch (p->state++) {
    case 0:
        evl_server_options_init(&options, sizeof options);
        options.host = "127.0.0.1";
        options.service = p->port;
        status = evl_start_server(evl_task_get_loop(task), &options, connected, NULL, NULL, &made);
        if (status < 0)
            return status;
        status = evl_future_result(made, &server); /* a numeric host is bound at once */
        if (status == 0) {
            p->server = evl_server_ref(server);
            printf("%d\n", evl_server_port(p->server));
            fflush(stdout);
            status = evl_server_serve_forever(p->server, next);
        }
        evl_future_unref(made);
        return status;
    case 1: /* Ctrl-C has cancelled serve_forever, which has closed the server */
        evl_server_close_clients(p->server);
        return evl_server_wait_closed(p->server, next);
    default:
        evl_server_unref(p->server);
        return 0;
    }
}

int main(int argc, char **argv)
{
    struct program p = {"0", NULL, 0};
    evl_run_options options;
    int code;
    if (argc > 1)
        p.port = argv[1];
    evl_run_options_init(&options, sizeof options);
    options.flags = EVL_RUN_SIGINT;
    code = evl_run(serve, &p, NULL, &options);
    while (pairs != NULL)
        forget(pairs->key);
    if (code < 0)
        fprintf(stderr, "kv_server: %s\n", evl_strerror(code));
    return code < 0;
}
