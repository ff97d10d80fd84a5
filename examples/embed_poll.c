/*
 * evl inside a program that has a loop of its own, here a plain poll(2): the program waits on evl's descriptor beside its own, and no
 * longer than until evl's next timer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <evl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static evl_loop *loop;
static int to_host[2]; /* a pipe the host watches */
static int to_evl[2];  /* a pipe evl watches */

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s: %s\n", what, evl_errname(code), evl_strerror(code));
        exit(1);
    }
}

static void send_byte(int fd, char byte)
{
    if (write(fd, &byte, 1) != 1)
        exit(1);
}

static char receive_byte(int fd)
{
    char byte;

    if (read(fd, &byte, 1) != 1)
        exit(1);
    return byte;
}

static void on_timer(void *arg)
{
    int *rounds = arg;
    char byte = (char)('a' + *rounds);

    printf("evl: the timer fired, sending %c\n", byte);
    send_byte(to_host[1], byte);
}

static void on_reader(void *arg)
{
    int *rounds = arg;

    printf("evl: the host answered %c\n", receive_byte(to_evl[0]));
    if (++*rounds < 3)
        must(evl_loop_call_later(loop, EVL_MS(10), on_timer, rounds, NULL, NULL, NULL), "call later");
}

/* poll's timeout in milliseconds, rounded up: waking early would only go round once more. */
static int poll_timeout(int64_t deadline)
{
    int64_t now, wait;

    if (deadline == EVL_FOREVER)
        return -1;
    must(evl_loop_time(loop, &now), "time");
    if (deadline <= now)
        return 0;
    wait = (deadline - now - 1) / EVL_MS(1) + 1;
    return wait > INT_MAX ? INT_MAX : (int)wait;
}

int main(void)
{
    struct pollfd watched[2];
    int rounds = 0;

    if (pipe(to_host) != 0 || pipe(to_evl) != 0)
        return 1;
    must(evl_loop_new(NULL, &loop), "new loop");
    must(evl_loop_add_reader(loop, to_evl[0], on_reader, &rounds, NULL, NULL, NULL), "add reader");
    must(evl_loop_call_later(loop, EVL_MS(10), on_timer, &rounds, NULL, NULL, NULL), "call later");

    watched[0].fd = to_host[0];
    watched[0].events = POLLIN;
    watched[1].fd = evl_loop_fd(loop);
    watched[1].events = POLLIN;
    must(watched[1].fd, "descriptor of the loop");

    while (rounds < 3) {
        int64_t deadline = EVL_FOREVER;
        int ready = evl_loop_prepare(loop, &deadline); /* always right before waiting */

        must(ready, "prepare");
        if (poll(watched, 2, ready ? 0 : poll_timeout(deadline)) < 0 && errno != EINTR)
            return 1;
        must(evl_loop_run_once(loop, 0), "run once"); /* does not wait */
        if (watched[0].revents & POLLIN) {
            char byte = receive_byte(to_host[0]);

            printf("host: evl sent %c\n", byte);
            send_byte(to_evl[1], (char)(byte - 'a' + 'A'));
        }
    }

    must(evl_loop_remove_reader(loop, to_evl[0]), "remove reader");
    evl_loop_unref(loop);
    close(to_host[0]);
    close(to_host[1]);
    close(to_evl[0]);
    close(to_evl[1]);
    return 0;
}
