/*
 * echo_multi [threads [port]]: a TCP echo server on all cores. Every thread has a loop and a server of its own; all servers are bound to the
 * same port, and the system shares the connections out among them. Prints the port it listens on. SIGINT or SIGTERM ends it: what
 * was received is still echoed, and each thread's counts are printed.
 *
 * What it shows: EVL_SERVER_REUSE_PORT; loops that one thread makes and others run; a signal that one loop handles and tells the others by
 * evl_loop_call_soon_threadsafe. No lock is needed: what a thread counts is its own until it has ended. docs/threads.md explains it.
 */
#define _POSIX_C_SOURCE 200809L
#include <evl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { GOODBYE_SECONDS = 5 };

struct worker {
    pthread_t thread;
    evl_loop *loop;
    evl_server *server;
    unsigned long long connections, bytes;
    int code;
};

static struct worker *workers;
static int worker_count;

static void must(int code, const char *what)
{
    char detail[300] = "";
    if (code >= 0)
        return;
    evl_error_detail(detail, sizeof detail);
    fprintf(stderr, "echo_multi: %s: %s %s\n", what, evl_strerror(code), detail);
    exit(1);
}

/* --- on each thread: the connections of its loop */

static void made(evl_transport *transport, void *arg)
{
    (void)transport;
    ((struct worker *)arg)->connections++;
}

static void received(evl_transport *transport, const void *data, size_t size, void *arg)
{
    ((struct worker *)arg)->bytes += size;
    evl_transport_write(transport, data, size);
}

/* Who does not read what it is sent is not read from, either. */
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

static int new_protocol(void *worker, evl_protocol *protocol, void **arg, evl_free_fn *arg_free)
{
    (void)arg_free;
    protocol->connection_made = made;
    protocol->data_received = received;
    protocol->pause_writing = pause_writing;
    protocol->resume_writing = resume_writing;
    *arg = worker;
    return 0;
}

static void closed(evl_future *future, void *arg)
{
    struct worker *worker = arg;
    if (evl_future_result(future, NULL) < 0) /* somebody does not read: it is not waited for any longer */
        evl_server_abort_clients(worker->server);
    evl_loop_stop(worker->loop);
}

/* Posted by the main thread. */
static void finish(void *arg)
{
    struct worker *worker = arg;
    evl_future *done;
    evl_server_close(worker->server);
    evl_server_close_clients(worker->server);
    must(evl_server_wait_closed(worker->server, &done), "wait");
    must(evl_future_set_timeout(done, EVL_SECONDS(GOODBYE_SECONDS)), "limit");
    must(evl_future_add_done_callback(done, closed, worker, NULL, NULL), "wait");
    evl_future_unref(done);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    worker->code = evl_loop_run_forever(worker->loop);
    return NULL;
}

/* --- on the main thread */

/* A loop that does not run yet may be used by any thread. Returns the port. */
static int prepare(struct worker *worker, const char *port)
{
    evl_server_options options;
    evl_future *future;
    void *server;
    must(evl_loop_new(NULL, &worker->loop), "new loop");
    must(evl_server_options_init(&options, sizeof options), "options");
    options.host = "127.0.0.1";
    options.service = port;
    options.flags = EVL_SERVER_REUSE_PORT;
    options.backlog = 1000;
    must(evl_loop_create_server(worker->loop, &options, new_protocol, worker, NULL, &future), "new server");
    must(evl_future_result(future, &server), "new server"); /* a numeric host is bound at once */
    worker->server = evl_server_ref(server);
    evl_future_unref(future);
    return evl_server_port(worker->server);
}

static void on_signal(void *arg)
{
    int i;
    for (i = 0; i < worker_count; i++)
        must(evl_loop_call_soon_threadsafe(workers[i].loop, finish, &workers[i], NULL, NULL, NULL), "post");
    must(evl_loop_stop(arg), "stop");
}

int main(int argc, char **argv)
{
    evl_loop *loop;
    char port[16] = "0";
    int i, failed = 0;
    worker_count = argc > 1 ? atoi(argv[1]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (worker_count < 1 || worker_count > 1000) {
        fprintf(stderr, "usage: echo_multi [threads [port]]\n");
        return 2;
    }
    if (argc > 2)
        snprintf(port, sizeof port, "%s", argv[2]);
    workers = calloc((size_t)worker_count, sizeof *workers);
    if (workers == NULL)
        return 1;

    /* The first server's port is everybody's. */
    for (i = 0; i < worker_count; i++)
        snprintf(port, sizeof port, "%d", prepare(&workers[i], port));
    must(evl_loop_new(NULL, &loop), "new loop");
    must(evl_loop_add_signal_handler(loop, SIGINT, on_signal, loop, NULL, NULL, NULL), "SIGINT");
    must(evl_loop_add_signal_handler(loop, SIGTERM, on_signal, loop, NULL, NULL, NULL), "SIGTERM");
    for (i = 0; i < worker_count; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    printf("%s\n", port);
    fflush(stdout);

    must(evl_loop_run_forever(loop), "run"); /* until a signal comes */

    for (i = 0; i < worker_count; i++) {
        struct worker *worker = &workers[i];
        pthread_join(worker->thread, NULL);
        printf("thread %d: %llu connections, %llu bytes\n", i, worker->connections, worker->bytes);
        failed |= worker->code < 0;
        evl_server_unref(worker->server);
        evl_loop_close(worker->loop);
        evl_loop_unref(worker->loop);
    }
    evl_loop_close(loop);
    evl_loop_unref(loop);
    free(workers);
    return failed;
}
