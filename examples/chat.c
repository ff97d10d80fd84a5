/*
 * chat [port]: a chat server. Whoever connects says a name first; every line after that goes to all the others. Ctrl-C says goodbye
 * and ends when everybody has heard it. Prints the port it listens on.
 *
 * What it shows: a server and its protocol factory, a connection's state in the protocol's arg, lines out of a stream, writing to many
 * transports, a client that reads too slowly, closing a server and waiting for its connections.
 */
#include <evl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_LINE = 512, MOST_WAITING = 1 << 20 };

struct guest {
    evl_transport *transport; /* borrowed: valid until connection_lost */
    struct guest *next;
    char name[32]; /* "": not said yet */
    char line[MOST_LINE];
    size_t length;
};

static struct guest *guests;

static void say(struct guest *guest, const char *text)
{
    size_t waiting = 0;
    evl_transport_get_write_buffer_size(guest->transport, &waiting);
    if (waiting > MOST_WAITING) /* it does not read: who lets it would run out of memory for it */
        evl_transport_abort(guest->transport);
    else
        evl_transport_write(guest->transport, text, strlen(text));
}

static void say_to_others(const struct guest *from, const char *format, const char *name, const char *text)
{
    char line[MOST_LINE + 64];
    struct guest *guest;
    snprintf(line, sizeof line, format, name, text);
    for (guest = guests; guest != NULL; guest = guest->next)
        if (guest != from && guest->name[0] != 0)
            say(guest, line);
}

static void take_line(struct guest *guest)
{
    guest->line[guest->length] = 0;
    if (guest->length > 0 && guest->line[guest->length - 1] == '\r')
        guest->line[guest->length - 1] = 0;
    guest->length = 0;
    if (guest->name[0] == 0) {
        snprintf(guest->name, sizeof guest->name, "%.31s", guest->line[0] ? guest->line : "nobody");
        say(guest, "welcome\n");
        say_to_others(guest, "* %s%s has come\n", guest->name, "");
    } else {
        say_to_others(guest, "%s: %s\n", guest->name, guest->line);
    }
}

static void came(evl_transport *transport, void *arg)
{
    struct guest *guest = arg;
    guest->transport = transport;
    guest->next = guests;
    guests = guest;
    say(guest, "your name?\n");
}

static void heard(evl_transport *transport, const void *data, size_t size, void *arg)
{
    struct guest *guest = arg;
    const char *at = data;
    (void)transport;
    for (; size > 0; size--, at++) {
        if (*at == '\n')
            take_line(guest);
        else if (guest->length < MOST_LINE - 1)
            guest->line[guest->length++] = *at;
    }
}

static void went(evl_transport *transport, int code, void *arg)
{
    struct guest *guest = arg, **place = &guests;
    (void)transport, (void)code;
    while (*place != guest)
        place = &(*place)->next;
    *place = guest->next;
    if (guest->name[0] != 0)
        say_to_others(guest, "* %s%s has gone\n", guest->name, "");
}

static int new_guest(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free)
{
    (void)factory_arg;
    *arg = calloc(1, sizeof(struct guest));
    *arg_free = free;
    protocol->connection_made = came;
    protocol->data_received = heard;
    protocol->connection_lost = went;
    return *arg ? 0 : -1;
}

struct program {
    const char *port;
    evl_server *server;
    int state;
};

static int serve(evl_task *task, int status, void *arg, evl_future **next)
{
    struct program *p = arg;
    struct guest *guest;
    evl_server_options options;
    evl_future *made;
    void *server;
    switch (p->state++) {
    case 0:
        evl_server_options_init(&options, sizeof options);
        options.host = "127.0.0.1";
        options.service = p->port;
        status = evl_loop_create_server(evl_task_get_loop(task), &options, new_guest, NULL, NULL, &made);
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
        for (guest = guests; guest != NULL; guest = guest->next)
            say(guest, "* goodbye\n");
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
    if (code < 0)
        fprintf(stderr, "chat: %s\n", evl_strerror(code));
    return code < 0;
}
