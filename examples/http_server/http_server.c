/*
 * http_server [--host H] [--port N] [--limit SECONDS] directory: serves the files below a directory by HTTP/1.1. Prints the port it
 * listens on. SIGINT or SIGTERM lets what is under way be finished, the second one does not.
 *
 * What it shows: a protocol with a state of its own, requests that come in pieces or several at once and are answered one after the
 * other, files by evl_loop_sendfile, back-pressure both ways (a client that does not read is not read from), one timer for each
 * connection, and an orderly end. connection.c takes requests, answer.c answers them, request.c
 * knows HTTP, files.c the directory; this file is the program.
 */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct server self;

static void all_gone(evl_future *future, void *arg)
{
    (void)future, (void)arg;
    evl_loop_stop(self.loop);
}

/* The first time: no more connections, no more requests. The second time: no more of anything. */
static void stop(void *arg)
{
    struct connection *c, *next;
    evl_future *gone;
    (void)arg;
    if (self.stopping++) {
        evl_server_abort_clients(self.server);
        return;
    }
    evl_server_close(self.server);
    for (c = self.connections; c != NULL; c = next) {
        next = c->next;
        connection_end(c);
    }
    if (evl_server_wait_closed(self.server, &gone) < 0) {
        evl_loop_stop(self.loop);
        return;
    }
    evl_future_add_done_callback(gone, all_gone, NULL, NULL, NULL);
    evl_future_unref(gone);
}

static int serve(const char *host, const char *port)
{
    evl_server_options options;
    evl_future *making;
    void *server;
    int code = evl_loop_add_signal_handler(self.loop, SIGINT, stop, NULL, NULL, NULL, NULL);
    if (code == 0)
        code = evl_loop_add_signal_handler(self.loop, SIGTERM, stop, NULL, NULL, NULL, NULL);
    if (code < 0)
        return code;
    evl_server_options_init(&options, sizeof options);
    options.host = host;
    options.service = port;
    options.backlog = 1024;
    code = evl_loop_create_server(self.loop, &options, new_connection, NULL, NULL, &making);
    if (code < 0)
        return code;
    code = evl_loop_run_until_complete(self.loop, making);
    if (code == 0)
        code = evl_future_result(making, &server);
    if (code == 0) {
        self.server = evl_server_ref(server);
        printf("%d\n", evl_server_port(self.server));
        fflush(stdout);
        code = evl_loop_run_forever(self.loop);
        evl_server_unref(self.server);
    }
    evl_future_unref(making);
    return code;
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1", *port = "8080", *directory = NULL;
    int code, i;
    self.limit = EVL_SECONDS(15);
    for (i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--host") == 0)
            host = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--port") == 0)
            port = argv[++i];
        else if (i + 1 < argc && strcmp(argv[i], "--limit") == 0)
            self.limit = EVL_SECONDS(atoi(argv[++i]));
        else
            directory = argv[i];
    }
    if (directory == NULL) {
        fprintf(stderr, "usage: http_server [--host H] [--port N] [--limit SECONDS] directory\n");
        return 2;
    }
    self.root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (self.root < 0) {
        fprintf(stderr, "http_server: %s: %s\n", directory, strerror(errno));
        return 1;
    }
    code = evl_loop_new(NULL, &self.loop);
    if (code == 0)
        code = serve(host, port);
    if (code < 0)
        fprintf(stderr, "http_server: %s\n", evl_strerror(code));
    evl_loop_close(self.loop);
    evl_loop_unref(self.loop);
    close(self.root);
    return code < 0;
}
