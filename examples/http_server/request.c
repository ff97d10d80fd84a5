/* Requests: their heads, ranges and dates. */
#define _GNU_SOURCE
#include "http.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* The end of a head: its size, or 0. Lines end with CR LF; a lone LF is as good. */
static size_t head_size(const char *data, size_t size)
{
    const char *at = data, *end = data + size;
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if (at < end && *at == '\n')
            return (size_t)(at - data) + 1;
        if (end - at >= 2 && at[0] == '\r' && at[1] == '\n')
            return (size_t)(at - data) + 2;
    }
    return 0;
}

/* Cuts the line at *at off, and moves on to the next one. */
static char *take_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    *at = end + 1;
    if (end > line && end[-1] == '\r')
        end--;
    *end = 0;
    return line;
}

static int is_token(const char *text)
{
    if (*text == 0)
        return 0;
    for (; *text != 0; text++)
        if (!isalnum((unsigned char)*text) && strchr("!#$%&'*+-.^_`|~", *text) == NULL)
            return 0;
    return 1;
}

static enum method method_of(const char *name)
{
    static const char *const others[] = {"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"};
    size_t i;
    if (strcmp(name, "GET") == 0)
        return GET;
    if (strcmp(name, "HEAD") == 0)
        return HEAD;
    for (i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(name, others[i]) == 0)
            return NOT_ALLOWED;
    return UNKNOWN;
}

/* "GET /path?query HTTP/1.1": 0, or a status. */
static int take_first_line(struct request *request, char *line)
{
    char *target = strchr(line, ' '), *version, *at;
    if (target == NULL || (version = strchr(target + 1, ' ')) == NULL)
        return 400;
    *target++ = 0;
    *version++ = 0;
    if (!is_token(line) || *target == 0)
        return 400;
    if (strncmp(version, "HTTP/", 5) != 0 || !isdigit((unsigned char)version[5]) || version[6] != '.' ||
        !isdigit((unsigned char)version[7]) || version[8] != 0)
        return 400;
    if (version[5] != '1')
        return 505;
    request->minor = version[7] - '0';
    request->keep_alive = request->minor > 0;
    request->method = method_of(line);
    for (at = target; *at != 0; at++)
        if ((unsigned char)*at <= ' ' || *at == 127)
            return 400;
    if (strncasecmp(target, "http://", 7) == 0) { /* as proxies are asked */
        target = strchr(target + 7, '/');
        request->path = target != NULL ? target : strcpy(line, "/");
    } else {
        request->path = target;
    }
    if (request->path[0] != '/' && request->method <= HEAD)
        return 400;
    request->path[strcspn(request->path, "?#")] = 0;
    return 0;
}

/* Whether a list such as "keep-alive, Upgrade" has a word. */
static int has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    while (*list != 0) {
        size_t size = strcspn(list, ", \t");
        if (size == length && strncasecmp(list, word, length) == 0)
            return 1;
        list += size;
        list += strspn(list, ", \t");
    }
    return 0;
}

static int take_field(struct request *request, char *line, int *hosts)
{
    char *value = strchr(line, ':'), *end;
    if (value == NULL)
        return 400;
    *value++ = 0;
    if (!is_token(line)) /* a space before the colon, or a folded line */
        return 400;
    value += strspn(value, " \t");
    for (end = value; *end != 0; end++)
        if (((unsigned char)*end < ' ' && *end != '\t') || *end == 127)
            return 400;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = 0;
    if (strcasecmp(line, "Host") == 0) {
        ++*hosts;
    } else if (strcasecmp(line, "Connection") == 0) {
        if (has_word(value, "close"))
            request->keep_alive = 0;
        else if (has_word(value, "keep-alive"))
            request->keep_alive = 1;
    } else if (strcasecmp(line, "Content-Length") == 0) {
        int64_t size = 0;
        if (request->body >= 0 || *value == 0 || value[strspn(value, "0123456789")] != 0)
            return 400;
        for (; *value != 0 && size <= MOST_BODY; value++)
            size = size * 10 + (*value - '0');
        if (size > MOST_BODY)
            return 413;
        request->body = size;
    } else if (strcasecmp(line, "Transfer-Encoding") == 0) {
        return 501;
    } else if (strcasecmp(line, "Range") == 0) {
        request->range = value;
    } else if (strcasecmp(line, "If-Range") == 0) {
        request->if_range = value;
    } else if (strcasecmp(line, "If-None-Match") == 0) {
        request->if_none_match = value;
    } else if (strcasecmp(line, "If-Modified-Since") == 0) {
        request->if_modified_since = value;
    }
    return 0;
}

int request_parse(struct request *request, char *data, size_t size)
{
    size_t head = head_size(data, size < MOST_HEAD ? size : MOST_HEAD);
    char *at = data, *line;
    int status, hosts = 0;
    if (head == 0)
        return size < MOST_HEAD ? 0 : -431;
    if (memchr(data, 0, head) != NULL)
        return -400;
    memset(request, 0, sizeof *request);
    request->body = -1;
    status = take_first_line(request, take_line(&at));
    while (status == 0 && *(line = take_line(&at)) != 0)
        status = take_field(request, line, &hosts);
    if (status == 0 && hosts != 1 && (hosts > 1 || request->minor > 0))
        status = 400;
    if (request->body < 0)
        request->body = 0;
    return status != 0 ? -status : (int)head;
}

/* The digits at *text, as a number that stops growing when it is too large; -1: there are none. */
static int64_t take_number(const char **text)
{
    int64_t number = isdigit((unsigned char)**text) ? 0 : -1;
    for (; isdigit((unsigned char)**text); ++*text)
        number = number > INT64_MAX / 10 - 10 ? INT64_MAX / 10 - 1 : number * 10 + (**text - '0');
    return number;
}

int range_parse(const char *range, int64_t size, int64_t *first, int64_t *last)
{
    int64_t from, to;
    if (strncasecmp(range, "bytes=", 6) != 0 || strchr(range, ',') != NULL)
        return 0;
    range += 6;
    from = take_number(&range);
    if (*range++ != '-')
        return 0;
    to = take_number(&range);
    if (*range != 0 || (from < 0 && to < 0) || (from >= 0 && to >= 0 && to < from))
        return 0;
    if (from < 0) { /* the last so many */
        from = to < size ? size - to : 0;
        to = to == 0 ? -1 : size - 1;
    } else if (to < 0 || to >= size) {
        to = size - 1;
    }
    if (from > to)
        return -1;
    *first = from;
    *last = to;
    return 1;
}

static const char date_pattern[] = "%a, %d %b %Y %H:%M:%S GMT";

void date_format(time_t when, char text[DATE_SIZE])
{
    struct tm parts;
    gmtime_r(&when, &parts);
    strftime(text, DATE_SIZE, date_pattern, &parts);
}

time_t date_parse(const char *text)
{
    struct tm parts;
    const char *end;
    memset(&parts, 0, sizeof parts);
    end = strptime(text, date_pattern, &parts);
    return end != NULL && *end == 0 ? timegm(&parts) : -1;
}
