/*
 * A supervisor: runs shell commands and starts those that fail again, each time after twice the pause, until they succeed or
 * have failed too often. What they write is shown with their number before each line. Ctrl-C or SIGTERM ends them:
 * SIGTERM first, SIGKILL for those that are still there two seconds later.
 *
 *   supervisor [-n TIMES] [-p MILLISECONDS] COMMAND...
 *
 * Ends with 0 when all have succeeded, 1 when one has not, 130 when it was interrupted.
 */
#include <evl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct child {
    int number;
    const char *command;
    evl_process *process; /* NULL while none runs */
    int failures;
    char line[500]; /* of its output, as far as it is there */
    size_t length;
};

static evl_loop *loop;
static struct child *children;
static int children_count, running, given_up, interrupted;
static int64_t first_pause = EVL_MS(100);
static int times = 5;

static void start(void *arg);

static void check(int code, const char *what) {
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(code));
        exit(2);
    }
}

static void finished(void) {
    if (--running == 0)
        check(evl_loop_stop(loop), "stop");
}

static void show_line(struct child *child) {
    printf("[%d] %.*s\n", child->number, (int)child->length, child->line);
    fflush(stdout);
    child->length = 0;
}

static void pipe_data_received(evl_process *process, int fd, const void *data, size_t size, void *arg) {
    struct child *child = arg;
    const char *text = data;
    (void)process;
    (void)fd;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\n' || child->length == sizeof child->line)
            show_line(child);
        if (text[i] != '\n')
            child->line[child->length++] = text[i];
    }
}

/* The child has ended, and all that it has written was shown. */
static void connection_lost(evl_process *process, int code, void *arg) {
    struct child *child = arg;
    int status = 0;
    (void)code;
    if (child->length > 0)
        show_line(child);
    check(evl_process_get_returncode(process, &status), "returncode");
    evl_process_unref(child->process);
    child->process = NULL;
    if (status == 0 || interrupted) {
        finished();
        return;
    }
    if (++child->failures == times) {
        fprintf(stderr, "[%d] failed %d times, the last time with %d: given up\n", child->number, times, status);
        given_up = 1;
        finished();
        return;
    }
    int64_t pause = first_pause << (child->failures - 1);
    fprintf(stderr, "[%d] failed with %d: again in %d ms\n", child->number, status, (int)(pause / EVL_MS(1)));
    check(evl_loop_call_later(loop, pause, start, child, NULL, NULL, NULL), "call_later");
}

static void start(void *arg) {
    struct child *child = arg;
    evl_process_protocol protocol = {0};
    evl_process_options options;
    if (interrupted) {
        finished();
        return;
    }
    protocol.size = sizeof protocol;
    protocol.pipe_data_received = pipe_data_received;
    protocol.connection_lost = connection_lost;
    check(evl_process_options_init(&options, sizeof options), "options");
    options.flags = EVL_PROCESS_NEW_GROUP; /* Ctrl-C at the terminal is the supervisor's alone */
    options.stdin_mode = EVL_PROCESS_DEVNULL;
    options.stdout_mode = EVL_PROCESS_PIPE;
    options.stderr_mode = EVL_PROCESS_STDOUT;
    check(evl_loop_subprocess_shell(loop, child->command, &options, &protocol, child, NULL, &child->process), "start");
}

static void signal_all(int signal_number) {
    for (int i = 0; i < children_count; i++)
        if (children[i].process)
            evl_process_send_signal(children[i].process, signal_number); /* one that has ended by now is -ESRCH */
}

static void kill_all(void *arg) {
    (void)arg;
    signal_all(SIGKILL);
}

static void interrupt(void *arg) {
    (void)arg;
    if (interrupted++)
        return;
    fprintf(stderr, "interrupted\n");
    signal_all(SIGTERM);
    check(evl_loop_call_later(loop, EVL_SECONDS(2), kill_all, NULL, NULL, NULL, NULL), "call_later");
}

int main(int argc, char **argv) {
    int first = 1;
    for (; first + 1 < argc && argv[first][0] == '-'; first += 2) {
        if (strcmp(argv[first], "-n") == 0)
            times = atoi(argv[first + 1]);
        else if (strcmp(argv[first], "-p") == 0)
            first_pause = EVL_MS(atoi(argv[first + 1]));
    }
    children_count = running = argc - first;
    if (children_count <= 0) {
        fprintf(stderr, "usage: %s [-n TIMES] [-p MILLISECONDS] COMMAND...\n", argv[0]);
        return 2;
    }
    children = calloc((size_t)children_count, sizeof *children);
    if (children == NULL)
        return 2;
    check(evl_loop_new(NULL, &loop), "loop");
    check(evl_loop_add_signal_handler(loop, SIGINT, interrupt, NULL, NULL, NULL, NULL), "SIGINT");
    check(evl_loop_add_signal_handler(loop, SIGTERM, interrupt, NULL, NULL, NULL, NULL), "SIGTERM");
    for (int i = 0; i < children_count; i++) {
        children[i].number = i + 1;
        children[i].command = argv[first + i];
        start(&children[i]);
    }
    check(evl_loop_run_forever(loop), "run");
    check(evl_loop_close(loop), "close");
    evl_loop_unref(loop);
    free(children);
    return interrupted ? 130 : given_up;
}
