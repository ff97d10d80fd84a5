/* Answers: heads, pages, files. */
#define _GNU_SOURCE
#include "server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SMALL = 16384,   /* a file that goes with its head, by one write */
    SLICE = 1 << 18, /* what a client must have taken within the limit */
};

static const char *reason(int status)
{
    switch (status) {
    case 200: return "OK";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 416: return "Range Not Satisfiable";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Internal Server Error";
    }
}

struct head {
    char text[MOST_HEAD + 1024];
    size_t size;
};

static void add(struct head *head, const char *format, ...)
{
    size_t room = sizeof head->text - head->size;
    va_list arguments;
    int size;
    va_start(arguments, format);
    size = vsnprintf(head->text + head->size, room, format, arguments);
    va_end(arguments);
    head->size += (size_t)size < room ? (size_t)size : room - 1;
}

static void begin_head(struct connection *c, struct head *head, int status, int minor)
{
    static char date[DATE_SIZE];
    static time_t dated = -1;
    time_t now = time(NULL);
    if (now != dated)
        date_format(dated = now, date);
    if (self.stopping)
        c->last = 1;
    head->size = 0;
    add(head, "HTTP/1.1 %d %s\r\nDate: %s\r\nServer: evl\r\n", status, reason(status), date);
    if (c->last)
        add(head, "Connection: close\r\n");
    else if (minor == 0)
        add(head, "Connection: keep-alive\r\n");
}

/* Ends the head; body follows it at once, unless it is NULL. */
static void write_head(struct connection *c, struct head *head, const char *body, size_t size)
{
    evl_buffer both[2];
    add(head, "\r\n");
    both[0].data = head->text;
    both[0].size = head->size;
    both[1].data = body;
    both[1].size = size;
    evl_transport_writelines(c->transport, both, body != NULL ? 2 : 1);
}

static void answer_page(struct connection *c, const struct request *request, struct head *head, const char *type,
                        const char *page)
{
    add(head, "Content-Type: %s\r\nContent-Length: %zu\r\n", type, strlen(page));
    write_head(c, head, request != NULL && request->method == HEAD ? NULL : page, strlen(page));
}

/* request is NULL when there is none that could be understood: then it is the last one. */
static void answer_status(struct connection *c, const struct request *request, int status, const char *field)
{
    struct head head;
    char page[100];
    if (request == NULL)
        c->last = 1;
    begin_head(c, &head, status, request != NULL ? request->minor : 1);
    add(&head, "%s", field);
    snprintf(page, sizeof page, "%d %s\n", status, reason(status));
    answer_page(c, request, &head, "text/plain", page);
}

/* --- files on their way */

static void send_slice(struct connection *c);

static void end_file(struct connection *c)
{
    close(c->file);
    c->file = -1;
}

static void on_sent(evl_future *future, void *arg)
{
    struct connection *c = arg;
    int64_t count = c->left < SLICE ? c->left : SLICE, sent = 0;
    int code = evl_future_result_int(future, &sent);
    c->left -= sent;
    c->offset += sent;
    if (code < 0 || sent < count) { /* the connection is lost, or the file has become shorter than the head said */
        end_file(c);
        if (c->transport != NULL)
            evl_transport_abort(c->transport);
    } else if (c->left > 0) {
        send_slice(c);
    } else {
        end_file(c);
        connection_go_on(c);
    }
}

static void send_slice(struct connection *c)
{
    int64_t count = c->left < SLICE ? c->left : SLICE;
    evl_future *sent;
    int code = evl_loop_sendfile(self.loop, c->transport, c->file, c->offset, count, 1, &sent);
    if (code < 0) {
        end_file(c);
        evl_transport_abort(c->transport);
        return;
    }
    connection_enter(c, SENDING);
    c->references++;
    evl_future_add_done_callback(sent, on_sent, c, connection_unref, NULL);
    evl_future_unref(sent);
}

/* Whether the client knows the file as it is. */
static int is_known(const struct request *request, const struct file *file, const char *tag)
{
    time_t since;
    if (request->if_none_match != NULL)
        return strcmp(request->if_none_match, "*") == 0 || strstr(request->if_none_match, tag) != NULL;
    if (request->if_modified_since == NULL)
        return 0;
    since = date_parse(request->if_modified_since);
    return since != -1 && file->info.st_mtime <= since;
}

/* Takes file->fd over. */
static void answer_file(struct connection *c, const struct request *request, struct file *file)
{
    int64_t size = file->info.st_size, first = 0, last = size - 1;
    char tag[64], date[DATE_SIZE], small[SMALL];
    struct head head;
    int status = 200, ranged = 0;
    snprintf(tag, sizeof tag, "\"%llx-%llx-%lx\"", (unsigned long long)size, (unsigned long long)file->info.st_mtime,
             (unsigned long)file->info.st_mtim.tv_nsec);
    date_format(file->info.st_mtime, date);
    if (is_known(request, file, tag))
        status = 304;
    else if (request->range != NULL && request->method == GET &&
             (request->if_range == NULL || strcmp(request->if_range, tag) == 0 || strcmp(request->if_range, date) == 0))
        ranged = range_parse(request->range, size, &first, &last);
    if (ranged < 0) {
        char field[64];
        close(file->fd);
        snprintf(field, sizeof field, "Content-Range: bytes */%lld\r\n", (long long)size);
        answer_status(c, request, 416, field);
        return;
    }
    begin_head(c, &head, ranged ? 206 : status, request->minor);
    add(&head, "Last-Modified: %s\r\nETag: %s\r\nAccept-Ranges: bytes\r\n", date, tag);
    size = last - first + 1;
    if (status != 304)
        add(&head, "Content-Type: %s\r\nContent-Length: %lld\r\n", file->type, (long long)size);
    if (ranged)
        add(&head, "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)first, (long long)last,
            (long long)file->info.st_size);
    if (status == 304 || request->method == HEAD || size == 0) {
        write_head(c, &head, NULL, 0);
        close(file->fd);
    } else if (size <= SMALL && pread(file->fd, small, (size_t)size, first) == size) {
        write_head(c, &head, small, (size_t)size);
        close(file->fd);
    } else {
        write_head(c, &head, NULL, 0);
        c->file = file->fd;
        c->offset = first;
        c->left = size;
        send_slice(c);
    }
}

void answer(struct connection *c, const struct request *request)
{
    struct file file;
    struct head head;
    int status;
    if (!request->keep_alive)
        c->last = 1;
    if (request->method == NOT_ALLOWED) {
        answer_status(c, request, 405, "Allow: GET, HEAD\r\n");
        return;
    }
    if (request->method == UNKNOWN) {
        answer_status(c, request, 501, "");
        return;
    }
    status = file_open(self.root, request->path, &file);
    if (status == 200 && file.page == NULL) {
        answer_file(c, request, &file);
    } else if (status == 200) {
        begin_head(c, &head, 200, request->minor);
        answer_page(c, request, &head, file.type, file.page);
    } else if (status == 301) {
        begin_head(c, &head, 301, request->minor);
        add(&head, "Location: %s\r\n", file.page);
        answer_page(c, request, &head, "text/plain", "301 Moved Permanently\n");
    } else {
        answer_status(c, request, status, "");
    }
    free(file.page);
}

void answer_failure(struct connection *c, int status)
{
    answer_status(c, NULL, status, "");
}
