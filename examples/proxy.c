/*
 * proxy upstream-host upstream-port [port]: takes connections on 127.0.0.1 and passes what is sent on to the upstream, and back. Prints the
 * port it listens on. Ctrl-C takes no more, lets what is on its way arrive, and ends.
 *
 * What it shows: transports in pairs; back-pressure, which lets whoever sends too fast wait in place of filling the memory; half-closed
 * connections, passed on in both directions; connecting with a limit of time, and giving it up. docs/streams.md explains it.
 */
#include <errno.h>
#include <evl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_SECONDS = 10, GOODBYE_SECONDS = 5 };

struct pair;

/* One of the two connections, and its protocol's arg. */
struct side {
    struct pair *pair;
    struct side *other;
    evl_transport *transport; /* borrowed: from connection_made to connection_lost */
    int ended;                /* the peer sends no more */
    unsigned long long bytes; /* received */
};

struct pair {
    struct pair *next, **place;
    struct side client, upstream;
    evl_future *connecting;
    int users; /* the client's transport, the upstream's, the callback of connecting */
};

static struct {
    evl_connect_options upstream;
    const char *port;
    evl_server *server;
    struct pair *pairs;
    evl_future *all_gone; /* at the end */
    unsigned long long count, refused, sent, returned;
    int state;
} proxy;

static void pair_unref(void *arg)
{
    struct pair *pair = arg;
    if (--pair->users > 0)
        return;
    proxy.sent += pair->client.bytes;
    proxy.returned += pair->upstream.bytes;
    *pair->place = pair->next;
    if (pair->next != NULL)
        pair->next->place = pair->place;
    evl_future_unref(pair->connecting);
    free(pair);
    if (proxy.pairs == NULL && proxy.all_gone != NULL)
        evl_future_set_result(proxy.all_gone, NULL, NULL);
}

static void side_free(void *arg)
{
    pair_unref(((struct side *)arg)->pair);
}

/* --- passing on */

static void received(evl_transport *transport, const void *data, size_t size, void *arg)
{
    struct side *side = arg;
    (void)transport;
    side->bytes += size;
    evl_transport_write(side->other->transport, data, size); /* one that is closing drops it */
}

/* More waits for this side than it takes: the other is not read until it has gone. So the memory that a pair takes has a limit. */
static void pause_writing(evl_transport *transport, void *arg)
{
    struct side *side = arg;
    (void)transport;
    if (side->other->transport != NULL)
        evl_transport_pause_reading(side->other->transport);
}

static void resume_writing(evl_transport *transport, void *arg)
{
    struct side *side = arg;
    (void)transport;
    if (side->other->transport != NULL)
        evl_transport_resume_reading(side->other->transport);
}

/* The other side hears of it when all is written that came before; and it may still answer. */
static int ended(evl_transport *transport, void *arg)
{
    struct side *side = arg;
    side->ended = 1;
    evl_transport_write_eof(side->other->transport);
    if (side->other->ended) {
        evl_transport_close(transport);
        evl_transport_close(side->other->transport);
    }
    return 1;
}

static void lost(evl_transport *transport, int code, void *arg)
{
    struct side *side = arg;
    (void)transport;
    side->transport = NULL;
    if (side->other->transport == NULL)
        evl_future_cancel(side->pair->connecting, NULL); /* one that is done stays as it is */
    else if (code < 0)
        evl_transport_abort(side->other->transport);
    else
        evl_transport_close(side->other->transport);
}

/* --- the upstream's connection */

static void upstream_made(evl_transport *transport, void *arg)
{
    struct side *side = arg;
    side->transport = transport;
    if (side->other->transport != NULL)
        evl_transport_resume_reading(side->other->transport);
    else
        evl_transport_abort(transport); /* the client has gone meanwhile */
}

static void connected(evl_future *future, void *arg)
{
    struct pair *pair = arg;
    char why[300] = "";
    int code;
    if (evl_future_error(future, &code) < 0 || code == 0) /* cancelled, or connected */
        return;
    evl_future_error_message(future, why, sizeof why);
    fprintf(stderr, "proxy: %s\n", why[0] ? why : evl_strerror(code));
    proxy.refused++;
    if (pair->client.transport != NULL)
        evl_transport_abort(pair->client.transport);
}

static int connect_upstream(struct pair *pair, evl_loop *loop)
{
    evl_protocol protocol = {0};
    int code;
    protocol.size = sizeof protocol;
    protocol.connection_made = upstream_made;
    protocol.data_received = received;
    protocol.eof_received = ended;
    protocol.pause_writing = pause_writing;
    protocol.resume_writing = resume_writing;
    protocol.connection_lost = lost;
    pair->users++;
    code = evl_loop_create_connection(loop, &proxy.upstream, &protocol, &pair->upstream, side_free, &pair->connecting);
    if (code < 0)
        return code;
    pair->users++;
    code = evl_future_add_done_callback(pair->connecting, connected, pair, pair_unref, NULL);
    return code < 0 ? code : evl_future_set_timeout(pair->connecting, EVL_SECONDS(CONNECT_SECONDS));
}

/* --- the client's connection */

/* Nothing is read before there is somebody to pass it on to. */
static void client_made(evl_transport *transport, void *arg)
{
    struct side *side = arg;
    int code;
    side->transport = transport;
    evl_transport_pause_reading(transport);
    code = connect_upstream(side->pair, evl_transport_get_loop(transport));
    if (code < 0)
        evl_raise(code, "cannot connect"); /* tells the exception handler, and aborts the transport */
}

static int new_pair(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free)
{
    struct pair *pair = calloc(1, sizeof *pair);
    (void)factory_arg;
    if (pair == NULL)
        return -ENOMEM;
    pair->users = 1;
    pair->client.pair = pair->upstream.pair = pair;
    pair->client.other = &pair->upstream;
    pair->upstream.other = &pair->client;
    pair->next = proxy.pairs;
    pair->place = &proxy.pairs;
    if (pair->next != NULL)
        pair->next->place = &pair->next;
    proxy.pairs = pair;
    proxy.count++;
    protocol->connection_made = client_made;
    protocol->data_received = received;
    protocol->eof_received = ended;
    protocol->pause_writing = pause_writing;
    protocol->resume_writing = resume_writing;
    protocol->connection_lost = lost;
    *arg = &pair->client;
    *arg_free = side_free;
    return 0;
}

/* --- the program */

static void end_pairs(int (*how)(evl_transport *transport))
{
    struct pair *pair;
    for (pair = proxy.pairs; pair != NULL; pair = pair->next) {
        if (pair->client.transport != NULL)
            how(pair->client.transport);
        if (pair->upstream.transport != NULL)
            how(pair->upstream.transport);
    }
}

static int serve(evl_task *task, int status, void *arg, evl_future **next)
{
    evl_loop *loop = evl_task_get_loop(task);
    evl_server_options options;
    evl_future *made;
    void *server;
    (void)arg;
    switch (proxy.state++) {
    case 0:
        evl_server_options_init(&options, sizeof options);
        options.host = "127.0.0.1";
        options.service = proxy.port;
        options.backlog = 1000;
        status = evl_loop_create_server(loop, &options, new_pair, NULL, NULL, &made);
        if (status < 0)
            return status;
        status = evl_future_result(made, &server); /* a numeric host is bound at once */
        if (status == 0) {
            proxy.server = evl_server_ref(server);
            printf("%d\n", evl_server_port(proxy.server));
            fflush(stdout);
            status = evl_server_serve_forever(proxy.server, next);
        }
        evl_future_unref(made);
        return status;
    case 1: /* Ctrl-C has cancelled serve_forever, which has closed the server. What is queued still goes out. */
        if (proxy.pairs == NULL)
            return 0;
        status = evl_future_new(loop, &proxy.all_gone);
        if (status < 0)
            return status;
        end_pairs(evl_transport_close);
        *next = evl_future_ref(proxy.all_gone);
        return evl_future_set_timeout(*next, EVL_SECONDS(GOODBYE_SECONDS));
    case 2:
        if (status == 0)
            return 0;
        end_pairs(evl_transport_abort); /* who does not read is not waited for */
        return evl_sleep(loop, 0, next);
    default:
        return 0;
    }
}

int main(int argc, char **argv)
{
    evl_run_options options;
    int code;
    if (argc < 3) {
        fprintf(stderr, "usage: proxy upstream-host upstream-port [port]\n");
        return 2;
    }
    evl_connect_options_init(&proxy.upstream, sizeof proxy.upstream);
    proxy.upstream.host = argv[1];
    proxy.upstream.service = argv[2];
    proxy.port = argc > 3 ? argv[3] : "0";
    evl_run_options_init(&options, sizeof options);
    options.flags = EVL_RUN_SIGINT;
    code = evl_run(serve, NULL, NULL, &options);
    evl_server_unref(proxy.server);
    evl_future_unref(proxy.all_gone);
    if (code < 0 && code != -EINTR)
        fprintf(stderr, "proxy: %s\n", evl_strerror(code));
    printf("%llu connections, %llu not passed on, %llu bytes there, %llu bytes back\n", proxy.count, proxy.refused, proxy.sent,
           proxy.returned);
    return code < 0 && code != -EINTR;
}
