/*
 * A TCP echo server on evl's descriptors: echo_server [port]
 *
 * Prints its port as the first line and its progress every second; SIGINT or SIGTERM ends it cleanly. A connection reads only while
 * nothing waits to be written, so a slow peer costs one buffer and no more.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <evl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
    evl_loop *loop;
    int listener;
    int open;
    unsigned long long accepted, bytes;
};

struct connection {
    struct server *server;
    int fd;
    size_t start, end; /* what of the buffer is still to be written */
    char buffer[16384];
};

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s: %s\n", what, evl_errname(code), evl_strerror(code));
        exit(1);
    }
}

static void must_system(int result, const char *what)
{
    must(result < 0 ? -errno : 0, what);
}

/* The reader's arg_free: runs once, when the reader is removed or the loop closed, and never while the reader's callback runs. */
static void connection_free(void *arg)
{
    struct connection *connection = arg;

    close(connection->fd);
    connection->server->open--;
    free(connection);
}

/* The connection must not be used after this. */
static void connection_close(struct connection *connection)
{
    evl_loop *loop = connection->server->loop;

    must(evl_loop_remove_writer(loop, connection->fd), "remove writer");
    must(evl_loop_remove_reader(loop, connection->fd), "remove reader");
}

/* Writes what is buffered as far as the socket takes it. Returns 1 when all is written, 0 when it must wait, -1 when it is broken. */
static int connection_flush(struct connection *connection)
{
    while (connection->start < connection->end) {
        ssize_t n = send(connection->fd, connection->buffer + connection->start, connection->end - connection->start, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        connection->start += (size_t)n;
        connection->server->bytes += (unsigned long long)n;
    }
    return 1;
}

static void on_writable(void *arg)
{
    struct connection *connection = arg;
    evl_loop *loop = connection->server->loop;
    int done = connection_flush(connection);

    if (done < 0) {
        connection_close(connection);
    } else if (done) {
        must(evl_loop_remove_writer(loop, connection->fd), "remove writer");
        must(evl_loop_resume_reader(loop, connection->fd), "resume reader");
    }
}

static void on_readable(void *arg)
{
    struct connection *connection = arg;
    evl_loop *loop = connection->server->loop;
    ssize_t n = recv(connection->fd, connection->buffer, sizeof connection->buffer, 0);
    int done;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return; /* level-triggered: evl calls again */
    if (n <= 0) {
        connection_close(connection);
        return;
    }
    connection->start = 0;
    connection->end = (size_t)n;
    done = connection_flush(connection);
    if (done < 0) {
        connection_close(connection);
    } else if (!done) {
        must(evl_loop_pause_reader(loop, connection->fd), "pause reader");
        must(evl_loop_add_writer(loop, connection->fd, on_writable, connection, NULL, NULL, NULL), "add writer");
    }
}

static void accept_again(void *arg)
{
    struct server *server = arg;

    must(evl_loop_resume_reader(server->loop, server->listener), "resume reader");
}

static void on_connection(void *arg)
{
    struct server *server = arg;

    for (;;) {
        struct connection *connection;
        int one = 1;
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno != EAGAIN) { /* out of descriptors, say: the listener stays readable, so look away for a second */
                fprintf(stderr, "accept: %s\n", strerror(errno));
                must(evl_loop_pause_reader(server->loop, server->listener), "pause reader");
                must(evl_loop_call_later(server->loop, EVL_SECONDS(1), accept_again, server, NULL, NULL, NULL), "call later");
            }
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection = malloc(sizeof *connection);
        if (connection == NULL) {
            close(fd);
            return;
        }
        connection->server = server;
        connection->fd = fd;
        server->open++;
        server->accepted++;
        must(evl_loop_add_reader(server->loop, fd, on_readable, connection, connection_free, NULL, NULL), "add reader");
    }
}

static void on_progress(void *arg)
{
    struct server *server = arg;

    if (server->open > 0)
        printf("%d connections, %.1f MB echoed\n", server->open, (double)server->bytes / 1e6);
}

static void on_signal(void *arg)
{
    struct server *server = arg;

    must(evl_loop_stop(server->loop), "stop");
}

static int listen_on(int port)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    must_system(fd, "socket");
    must_system(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must_system(bind(fd, (struct sockaddr *)&address, sizeof address), "bind");
    must_system(listen(fd, SOMAXCONN), "listen");
    must_system(getsockname(fd, (struct sockaddr *)&address, &length), "getsockname");
    printf("%d\n", ntohs(address.sin_port));
    return fd;
}

int main(int argc, char **argv)
{
    struct server server = {0};
    evl_timer *progress;

    setvbuf(stdout, NULL, _IOLBF, 0);
    server.listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    must(evl_loop_new(NULL, &server.loop), "new loop");
    must(evl_loop_add_reader(server.loop, server.listener, on_connection, &server, NULL, NULL, NULL), "add reader");
    must(evl_loop_add_signal_handler(server.loop, SIGINT, on_signal, &server, NULL, NULL, NULL), "SIGINT");
    must(evl_loop_add_signal_handler(server.loop, SIGTERM, on_signal, &server, NULL, NULL, NULL), "SIGTERM");
    must(evl_loop_call_every(server.loop, EVL_SECONDS(1), on_progress, &server, NULL, NULL, &progress), "call every");

    must(evl_loop_run_forever(server.loop), "run");

    must(evl_timer_cancel(progress), "cancel");
    evl_timer_unref(progress);
    must(evl_loop_close(server.loop), "close"); /* removes every reader; their arg_free closes the connections left */
    evl_loop_unref(server.loop);
    close(server.listener);
    printf("stopped: %llu connections served, %llu bytes echoed, %d left open\n", server.accepted, server.bytes, server.open);
    return 0;
}
