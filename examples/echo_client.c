/*
 * A load for echo_server, itself on evl: echo_client port [seconds [connections]]
 *
 * Every connection sends a message, waits for all of its echo, compares each byte, and goes on with the next. Fails when a byte is lost
 * or wrong. Every 500th message or so is large, so that both sides meet partial writes. Progress goes to stderr, the summary to stdout.
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
#include <unistd.h>

enum { SMALL = 1024, LARGE = 256 * 1024, PATTERN = 1024 * 1024 };

struct client;

struct connection {
    struct client *client;
    int fd;
    const char *message; /* a piece of the pattern */
    size_t size, sent, received;
    int64_t started;
};

struct client {
    evl_loop *loop;
    char *pattern;
    uint64_t random;
    int wanted, connected, open, broken, ending;
    unsigned long long messages, bytes_sent, bytes_received, bytes_wrong;
    uint32_t *latencies; /* microseconds, one a message */
    size_t latency_capacity;
    int64_t begun;
};

static char scratch[65536];

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s: %s\n", what, evl_errname(code), evl_strerror(code));
        exit(1);
    }
}

static int64_t now(struct client *client)
{
    int64_t time_ns = 0;

    must(evl_loop_time(client->loop, &time_ns), "time");
    return time_ns;
}

static uint64_t next_random(struct client *client) /* xorshift64 */
{
    client->random ^= client->random << 13;
    client->random ^= client->random >> 7;
    client->random ^= client->random << 17;
    return client->random;
}

static void connection_close(struct connection *connection)
{
    struct client *client = connection->client;

    if (connection->fd < 0)
        return;
    must(evl_loop_remove_writer(client->loop, connection->fd), "remove writer");
    must(evl_loop_remove_reader(client->loop, connection->fd), "remove reader");
    close(connection->fd);
    connection->fd = -1;
    if (--client->open == 0)
        must(evl_loop_stop(client->loop), "stop");
}

/* An end that nobody asked for: what it sent and did not get back counts as lost. */
static void connection_broken(struct connection *connection)
{
    connection->client->broken++;
    connection_close(connection);
}

/* Sends what the socket takes. Returns 1 when the message is out, 0 when it must wait, -1 when the connection is broken. */
static int send_more(struct connection *connection)
{
    while (connection->sent < connection->size) {
        ssize_t n = send(connection->fd, connection->message + connection->sent, connection->size - connection->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        connection->sent += (size_t)n;
        connection->client->bytes_sent += (unsigned long long)n;
    }
    return 1;
}

static void on_writable(void *arg)
{
    struct connection *connection = arg;
    int done = send_more(connection);

    if (done < 0)
        connection_broken(connection);
    else if (done)
        must(evl_loop_remove_writer(connection->client->loop, connection->fd), "remove writer");
}

static void send_message(struct connection *connection)
{
    struct client *client = connection->client;
    size_t largest = next_random(client) % 500 == 0 ? LARGE : SMALL;
    int done;

    connection->size = 1 + next_random(client) % largest;
    connection->message = client->pattern + next_random(client) % (PATTERN - connection->size);
    connection->sent = 0;
    connection->received = 0;
    connection->started = now(client);
    done = send_more(connection);
    if (done < 0)
        connection_broken(connection);
    else if (!done)
        must(evl_loop_add_writer(client->loop, connection->fd, on_writable, connection, NULL, NULL, NULL), "add writer");
}

static void record_latency(struct client *client, int64_t nanoseconds)
{
    if (client->messages == client->latency_capacity) {
        client->latency_capacity = client->latency_capacity ? client->latency_capacity * 2 : 65536;
        client->latencies = realloc(client->latencies, client->latency_capacity * sizeof *client->latencies);
        if (client->latencies == NULL)
            exit(1);
    }
    client->latencies[client->messages++] = (uint32_t)(nanoseconds / 1000);
}

static void on_readable(void *arg)
{
    struct connection *connection = arg;
    struct client *client = connection->client;
    ssize_t n = recv(connection->fd, scratch, sizeof scratch, 0);
    size_t expected = connection->sent - connection->received;
    size_t size = n > 0 ? (size_t)n : 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || size > expected || memcmp(scratch, connection->message + connection->received, size) != 0) {
        client->bytes_wrong += size;
        connection_broken(connection);
        return;
    }
    connection->received += size;
    client->bytes_received += size;
    if (connection->received < connection->size)
        return;
    record_latency(client, now(client) - connection->started);
    if (client->ending)
        connection_close(connection);
    else
        send_message(connection);
}

static void on_connected(void *arg)
{
    struct connection *connection = arg;
    struct client *client = connection->client;
    int error = 0, one = 1;
    socklen_t length = sizeof error;

    must(evl_loop_remove_writer(client->loop, connection->fd), "remove writer");
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0 || error != 0) {
        fprintf(stderr, "connect: %s\n", strerror(error));
        connection_broken(connection);
        return;
    }
    client->connected++;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    must(evl_loop_add_reader(client->loop, connection->fd, on_readable, connection, NULL, NULL, NULL), "add reader");
    send_message(connection);
}

static void connection_open(struct connection *connection, struct client *client, int port)
{
    struct sockaddr_in address;

    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->client = client;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 ||
        (connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)) {
        perror("connect");
        exit(1);
    }
    client->open++;
    must(evl_loop_add_writer(client->loop, connection->fd, on_connected, connection, NULL, NULL, NULL), "add writer");
}

static void on_progress(void *arg)
{
    struct client *client = arg;

    fprintf(stderr, "client: %.0f s, %d connections, %llu messages, %.1f MB\n", (double)(now(client) - client->begun) / 1e9,
            client->open, client->messages, (double)client->bytes_received / 1e6);
}

static void on_end(void *arg)
{
    struct client *client = arg;

    client->ending = 1; /* every connection finishes its message and closes */
}

static void on_limit(void *arg)
{
    struct client *client = arg;

    fprintf(stderr, "%d connections still wait for an echo\n", client->open);
    must(evl_loop_stop(client->loop), "stop");
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int summarise(struct client *client, double seconds)
{
    size_t count = (size_t)client->messages;
    unsigned long long lost = client->bytes_sent - client->bytes_received;

    if (count > 0)
        qsort(client->latencies, count, sizeof *client->latencies, compare);
    printf("connections          %d\n", client->connected);
    printf("messages             %llu\n", client->messages);
    printf("bytes                %llu\n", client->bytes_received);
    printf("lost bytes           %llu\n", lost);
    printf("messages per second  %.0f\n", (double)count / seconds);
    if (count > 0)
        printf("latency              median %u us, p99 %u us\n", client->latencies[count / 2], client->latencies[count * 99 / 100]);
    if (client->bytes_wrong > 0)
        printf("wrong bytes          %llu\n", client->bytes_wrong);
    if (client->broken > 0)
        printf("broken connections   %d\n", client->broken);
    return lost == 0 && client->broken == 0 && client->open == 0 && client->connected == client->wanted && count > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct client client = {0};
    struct connection *connections;
    evl_timer *progress;
    int64_t seconds, ended;
    int i, failed;

    if (argc < 2) {
        fprintf(stderr, "usage: %s port [seconds [connections]]\n", argv[0]);
        return 2;
    }
    seconds = argc > 2 ? atoi(argv[2]) : 4;
    client.wanted = argc > 3 ? atoi(argv[3]) : 200;
    client.random = 88172645463325252u;
    client.pattern = malloc(PATTERN);
    connections = client.wanted > 0 ? calloc((size_t)client.wanted, sizeof *connections) : NULL;
    if (client.pattern == NULL || connections == NULL)
        return 1;
    for (i = 0; i < PATTERN; i++)
        client.pattern[i] = (char)next_random(&client);

    must(evl_loop_new(NULL, &client.loop), "new loop");
    for (i = 0; i < client.wanted; i++)
        connection_open(&connections[i], &client, atoi(argv[1]));
    client.begun = now(&client);
    must(evl_loop_call_every(client.loop, EVL_SECONDS(1), on_progress, &client, NULL, NULL, &progress), "call every");
    must(evl_loop_call_later(client.loop, EVL_SECONDS(seconds), on_end, &client, NULL, NULL, NULL), "call later");
    must(evl_loop_call_later(client.loop, EVL_SECONDS(seconds + 10), on_limit, &client, NULL, NULL, NULL), "call later");

    must(evl_loop_run_forever(client.loop), "run");

    ended = now(&client);
    evl_timer_unref(progress);
    evl_loop_unref(client.loop);
    for (i = 0; i < client.wanted; i++)
        if (connections[i].fd >= 0)
            close(connections[i].fd);
    failed = summarise(&client, (double)(ended - client.begun) / 1e9);
    free(connections);
    free(client.pattern);
    free(client.latencies);
    return failed;
}
