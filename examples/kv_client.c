/*
 * kv_client PORT set KEY VALUE | get KEY | del KEY: one request to the kv_server of this machine. Prints the value, or the answer;
 * ends with 1 when there is none.
 *
 * What it shows: a task that opens a connection and talks to the other side as if nothing had to be waited for.
 */
#include <evl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct request {
    char **words; /* PORT, verb, key, value */
    evl_stream *stream;
    enum { OPEN, SEND, ASK, TAKE_ANSWER, TAKE_VALUE } state;
    int found;
};

static int step(evl_task *task, int status, void *arg, evl_future **next)
{
    struct request *me = arg;
    evl_connect_options options;
    char line[128];
    const void *data;
    void *stream;
    size_t size;
    if (status < 0)
        return status;
    switch (me->state++) {
    case OPEN:
        evl_connect_options_init(&options, sizeof options);
        options.host = "127.0.0.1";
        options.service = me->words[0];
        return evl_open_connection(evl_task_get_loop(task), &options, next);
    case SEND:
        evl_future_result(evl_task_get_awaited(task), &stream);
        me->stream = evl_stream_ref(stream);
        if (strcmp(me->words[1], "set") == 0) {
            evl_buffer pieces[3] = {{line, 0}, {NULL, 0}, {"\n", 1}};
            pieces[1].data = me->words[3];
            pieces[1].size = strlen(me->words[3]);
            snprintf(line, sizeof line, "set %.60s %lu\n", me->words[2], (unsigned long)pieces[1].size);
            pieces[0].size = strlen(line);
            status = evl_stream_writelines(me->stream, pieces, 3);
        } else {
            snprintf(line, sizeof line, "%.10s %.60s\n", me->words[1], me->words[2]);
            status = evl_stream_write(me->stream, line, strlen(line));
        }
        return status < 0 ? status : evl_stream_drain(me->stream, next);
    case ASK:
        return evl_stream_read_line(me->stream, next);
    case TAKE_ANSWER:
        status = evl_future_result_bytes(evl_task_get_awaited(task), &data, &size);
        if (status < 0)
            return status;
        me->found = strcmp(data, "none\n") != 0 && strncmp(data, "error", 5) != 0 && size > 0;
        if (strncmp(data, "value ", 6) == 0)
            return evl_stream_read_exactly(me->stream, strtoul((const char *)data + 6, NULL, 10), next);
        fputs(data, stdout); /* a NUL follows what was read */
        return 0;
    default:
        status = evl_future_result_bytes(evl_task_get_awaited(task), &data, &size);
        if (status == 0) {
            fwrite(data, 1, size, stdout);
            putchar('\n');
        }
        return status;
    }
}

int main(int argc, char **argv)
{
    struct request me = {argv + 1, NULL, OPEN, 0};
    int code;
    if (argc < 4 || argc != (strcmp(argv[2], "set") == 0 ? 5 : 4)) {
        fprintf(stderr, "usage: kv_client PORT set KEY VALUE | get KEY | del KEY\n");
        return 2;
    }
    code = evl_run(step, &me, NULL, NULL);
    evl_stream_unref(me.stream); /* its loop is closed already, and the connection with it */
    if (code < 0)
        fprintf(stderr, "kv_client: %s\n", evl_strerror(code));
    return code < 0 ? 2 : !me.found;
}
