/*
 * A TCP echo server on evl's transports: echo_server [port]
 *
 * Prints its port as the first line and its progress every second. SIGINT or SIGTERM ends it: what was received is still echoed, and then
 * its connections are closed. (echo_client.c, its load, does without transports: it uses sockets and evl_loop_add_reader.)
 */
#include <evl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { GOODBYE_SECONDS = 5 };

static struct {
    evl_loop *loop;
    evl_server *server;
    int open;
    unsigned long long served, bytes;
} state;

static void must(int code, const char *what)
{
    char detail[300] = "";
    if (code >= 0)
        return;
    evl_error_detail(detail, sizeof detail);
    fprintf(stderr, "echo_server: %s: %s %s\n", what, evl_strerror(code), detail);
    exit(1);
}

/* --- a connection */

static void made(evl_transport *transport, void *arg)
{
    (void)transport, (void)arg;
    state.open++;
    state.served++;
}

/* Written now; what the system does not take yet is kept. */
static void received(evl_transport *transport, const void *data, size_t size, void *arg)
{
    (void)arg;
    state.bytes += size;
    evl_transport_write(transport, data, size);
}

/* More than 64 KiB is kept: a peer that does not read is not read from, either, and costs no more than that. */
static void pause_writing(evl_transport *transport, void *arg)
{
    (void)arg;
    evl_transport_pause_reading(transport);
}

static void resume_writing(evl_transport *transport, void *arg)
{
    (void)arg;
    evl_transport_resume_reading(transport);
}

static void lost(evl_transport *transport, int code, void *arg)
{
    (void)transport, (void)code, (void)arg;
    state.open--;
}

static int new_protocol(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free)
{
    (void)factory_arg, (void)arg, (void)arg_free; /* what belongs to one connection would go into *arg */
    protocol->connection_made = made;
    protocol->data_received = received;
    protocol->pause_writing = pause_writing;
    protocol->resume_writing = resume_writing;
    protocol->connection_lost = lost;
    return 0;
}

/* --- the program */

static void on_progress(void *arg)
{
    (void)arg;
    if (state.open > 0)
        printf("%d connections, %.1f MB echoed\n", state.open, (double)state.bytes / 1e6);
}

static void stop(void *arg)
{
    (void)arg;
    must(evl_loop_stop(state.loop), "stop");
}

static void on_closed(evl_future *closed, void *arg)
{
    (void)arg;
    if (evl_future_result(closed, NULL) < 0) /* somebody does not read: it is not waited for any longer */
        evl_server_abort_clients(state.server);
    must(evl_loop_call_soon(state.loop, stop, NULL, NULL, NULL, NULL), "call soon"); /* after the connections that were aborted are lost */
}

static void on_signal(void *arg)
{
    evl_future *closed;
    (void)arg;
    must(evl_server_close(state.server), "close");
    must(evl_server_close_clients(state.server), "close clients");
    must(evl_server_wait_closed(state.server, &closed), "wait closed");
    must(evl_future_set_timeout(closed, EVL_SECONDS(GOODBYE_SECONDS)), "set timeout");
    must(evl_future_add_done_callback(closed, on_closed, NULL, NULL, NULL), "add done callback");
    evl_future_unref(closed);
}

static void serve(const char *port)
{
    evl_server_options options;
    evl_future *made_server;
    void *server;
    must(evl_server_options_init(&options, sizeof options), "options");
    options.host = "127.0.0.1";
    options.service = port;
    options.backlog = 1000;
    must(evl_loop_create_server(state.loop, &options, new_protocol, NULL, NULL, &made_server), "create server");
    must(evl_future_result(made_server, &server), "create server"); /* done already: a numeric host is bound at once */
    state.server = evl_server_ref(server);
    evl_future_unref(made_server);
    printf("%d\n", evl_server_port(state.server));
}

int main(int argc, char **argv)
{
    evl_timer *progress;

    setvbuf(stdout, NULL, _IOLBF, 0);
    must(evl_loop_new(NULL, &state.loop), "new loop");
    serve(argc > 1 ? argv[1] : "0");
    must(evl_loop_add_signal_handler(state.loop, SIGINT, on_signal, NULL, NULL, NULL, NULL), "SIGINT");
    must(evl_loop_add_signal_handler(state.loop, SIGTERM, on_signal, NULL, NULL, NULL, NULL), "SIGTERM");
    must(evl_loop_call_every(state.loop, EVL_SECONDS(1), on_progress, NULL, NULL, NULL, &progress), "call every");

    must(evl_loop_run_forever(state.loop), "run");

    evl_timer_unref(progress);
    evl_server_unref(state.server);
    must(evl_loop_close(state.loop), "close");
    evl_loop_unref(state.loop);
    printf("stopped: %llu connections served, %llu bytes echoed, %d left open\n", state.served, state.bytes, state.open);
    return 0;
}
