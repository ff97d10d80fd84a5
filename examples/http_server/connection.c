/* Connections: what comes, in its order and in its time. */
#define _GNU_SOURCE
#include "server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What has come, while it is looked at. */
static char input[MOST_INPUT + MOST_HEAD];

void connection_unref(void *arg)
{
    struct connection *c = arg;
    if (--c->references > 0)
        return;
    evl_timer_unref(c->timer);
    if (c->file >= 0)
        close(c->file);
    free(c->kept);
    free(c);
}

void connection_enter(struct connection *c, enum phase phase)
{
    int64_t now;
    c->phase = phase;
    if (evl_loop_now(self.loop, &now) == 0)
        evl_timer_reschedule(c->timer, now + self.limit);
}

static int is_busy(const struct connection *c)
{
    return c->file >= 0 || c->paused;
}

/* What was written goes first. Closing at once would have the system drop it, should the client have sent more. */
static void leave(struct connection *c)
{
    if (c->phase == LEAVING || evl_transport_is_closing(c->transport))
        return;
    connection_enter(c, LEAVING);
    free(c->kept);
    c->kept = NULL;
    c->kept_size = 0;
    evl_transport_resume_reading(c->transport);
    if (c->ended)
        evl_transport_close(c->transport);
    else
        evl_transport_write_eof(c->transport);
}

/* --- requests */

/* Answers the requests there are, until one takes its time: how many bytes they were. */
static size_t take_requests(struct connection *c, char *data, size_t size)
{
    size_t at = 0;
    while (!is_busy(c) && !c->last && !evl_transport_is_closing(c->transport)) {
        struct request request;
        int result;
        if (c->skip > 0) {
            int64_t some = c->skip < (int64_t)(size - at) ? c->skip : (int64_t)(size - at);
            c->skip -= some;
            at += (size_t)some;
            if (c->skip > 0)
                break;
        }
        while (at < size && (data[at] == '\r' || data[at] == '\n')) /* as some clients put between requests */
            at++;
        result = request_parse(&request, data + at, size - at);
        if (result == 0)
            break;
        if (result < 0) {
            answer_failure(c, -result);
            break;
        }
        at += (size_t)result;
        c->skip = request.body;
        answer(c, &request);
    }
    return at;
}

/* Looks at what has come; what cannot be dealt with yet is kept, and nothing more is read meanwhile. */
static void take_input(struct connection *c, const void *data, size_t size)
{
    size_t all = c->kept_size + size, used;
    if (c->kept_size > 0)
        memcpy(input, c->kept, c->kept_size);
    if (size > 0)
        memcpy(input + c->kept_size, data, size);
    used = take_requests(c, input, all);
    if (evl_transport_is_closing(c->transport))
        return;
    if (c->last && !is_busy(c)) {
        leave(c);
        return;
    }
    free(c->kept);
    c->kept = NULL;
    c->kept_size = all - used;
    if (c->kept_size > 0) {
        c->kept = malloc(c->kept_size);
        if (c->kept == NULL) {
            evl_transport_abort(c->transport);
            return;
        }
        memcpy(c->kept, input + used, c->kept_size);
    }
    if (is_busy(c)) {
        evl_transport_pause_reading(c->transport);
        if (c->phase != SENDING)
            connection_enter(c, SENDING);
    } else if (c->ended) {
        leave(c); /* what is left of a request will never be complete */
    } else {
        evl_transport_resume_reading(c->transport);
        if (c->kept_size == 0 && c->skip == 0)
            connection_enter(c, IDLE);
        else if (c->phase != RECEIVING) /* the time for a request is not renewed by its pieces */
            connection_enter(c, RECEIVING);
    }
}

/* A file is sent, or what was written taken: the next request, if there is one. */
void connection_go_on(struct connection *c)
{
    if (c->transport != NULL && c->phase == SENDING && !is_busy(c)) {
        c->phase = IDLE;
        take_input(c, NULL, 0);
    }
}

/* --- the protocol */

static void made(evl_transport *transport, void *arg)
{
    struct connection *c = arg;
    c->transport = transport;
    c->place = &self.connections;
    c->next = self.connections;
    if (c->next != NULL)
        c->next->place = &c->next;
    self.connections = c;
    connection_enter(c, RECEIVING);
    if (self.stopping)
        evl_transport_close(transport);
}

static void received(evl_transport *transport, const void *data, size_t size, void *arg)
{
    struct connection *c = arg;
    (void)transport;
    if (c->phase == LEAVING)
        return;
    if (c->kept_size + size <= sizeof input)
        take_input(c, data, size);
    else
        evl_transport_abort(transport);
}

/* A client may send its requests, say that there are no more, and wait for the answers. */
static int ended(evl_transport *transport, void *arg)
{
    struct connection *c = arg;
    (void)transport;
    c->ended = 1;
    return is_busy(c);
}

static void lost(evl_transport *transport, int code, void *arg)
{
    struct connection *c = arg;
    (void)transport, (void)code;
    c->transport = NULL;
    evl_timer_cancel(c->timer);
    *c->place = c->next;
    if (c->next != NULL)
        c->next->place = c->place;
}

static void pause_writing(evl_transport *transport, void *arg)
{
    struct connection *c = arg;
    (void)transport;
    c->paused = 1;
}

static void resume_writing(evl_transport *transport, void *arg)
{
    struct connection *c = arg;
    (void)transport;
    c->paused = 0;
    connection_go_on(c);
}

static void on_time(void *arg)
{
    struct connection *c = arg;
    if (c->transport == NULL)
        return;
    if (c->phase == RECEIVING && (c->kept_size > 0 || c->skip > 0)) {
        answer_failure(c, 408);
        leave(c);
    } else if (c->phase == SENDING || c->phase == LEAVING) {
        evl_transport_abort(c->transport);
    } else {
        evl_transport_close(c->transport);
    }
}

int new_connection(void *factory_arg, evl_protocol *protocol, void **arg, evl_free_fn *arg_free)
{
    struct connection *c = calloc(1, sizeof *c);
    int code;
    (void)factory_arg;
    if (c == NULL)
        return -ENOMEM;
    code = evl_timer_new(self.loop, 0, on_time, c, NULL, NULL, &c->timer);
    if (code < 0) {
        free(c);
        return code;
    }
    c->references = 1;
    c->file = -1;
    protocol->connection_made = made;
    protocol->data_received = received;
    protocol->eof_received = ended;
    protocol->connection_lost = lost;
    protocol->pause_writing = pause_writing;
    protocol->resume_writing = resume_writing;
    *arg = c;
    *arg_free = connection_unref;
    return 0;
}

void connection_end(struct connection *c)
{
    if (is_busy(c))
        c->last = 1;
    else if (c->phase != LEAVING)
        evl_transport_close(c->transport);
}
