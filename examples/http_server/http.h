/* What the parts of the server share. */
#ifndef HTTP_H
#define HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

enum {
    MOST_HEAD = 8192,   /* of a request: its first line and its fields */
    MOST_BODY = 65536,  /* what a request may bring along; it is skipped */
    MOST_INPUT = 65536, /* what one read brings at most */
};

/* --- request.c: what a client wants */

enum method { GET, HEAD, NOT_ALLOWED, UNKNOWN };

struct request {
    enum method method;
    int minor;      /* of the version: HTTP/1.0, HTTP/1.1 */
    int keep_alive; /* the connection goes on after it */
    char *path;     /* as it was sent, percent signs and all, without its query */
    const char *range, *if_range, *if_none_match, *if_modified_since; /* NULL: not there */
    int64_t body;   /* so many bytes follow the head */
};

/* Reads a request's head, and cuts it up in place: its size; 0 when it is not complete, and untouched; or the status that answers
 * what is no request, negated. */
int request_parse(struct request *request, char *data, size_t size);

/* Which part of size bytes a Range field wants: 1 and the bytes first to last; 0: all, because it wants several or makes no sense;
 * -1: none that there is. */
int range_parse(const char *range, int64_t size, int64_t *first, int64_t *last);

/* A date as HTTP writes it. */
enum { DATE_SIZE = 32 };
void date_format(time_t when, char text[DATE_SIZE]);
/* -1: it is none. */
time_t date_parse(const char *text);

/* --- files.c: what there is */

struct file {
    int fd;           /* open for reading; -1: there is a page in its place */
    struct stat info; /* of fd */
    const char *type;
    char *page;       /* a listing of a directory; or where the directory is, with its slash (301). To be freed */
};

/* Opens what a path means, below the directory root: 200, 301 or another status. */
int file_open(int root, const char *path, struct file *file);

#endif
