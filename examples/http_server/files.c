/*
 * Files below one directory. A path is walked part by part from that directory's descriptor, ".." is refused, and symbolic links are
 * not followed: nothing outside can be named, and nothing that others change meanwhile makes a difference.
 */
#define _GNU_SOURCE
#include "http.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char *type_of(const char *name)
{
    static const char *const types[][2] = {
        {"html", "text/html; charset=utf-8"}, {"htm", "text/html; charset=utf-8"},
        {"txt", "text/plain; charset=utf-8"}, {"md", "text/plain; charset=utf-8"},
        {"css", "text/css"},                  {"js", "text/javascript"},
        {"json", "application/json"},         {"xml", "application/xml"},
        {"svg", "image/svg+xml"},             {"png", "image/png"},
        {"jpg", "image/jpeg"},                {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},                 {"webp", "image/webp"},
        {"ico", "image/x-icon"},              {"pdf", "application/pdf"},
        {"wasm", "application/wasm"},         {"woff2", "font/woff2"},
        {"mp4", "video/mp4"},                 {"mp3", "audio/mpeg"},
        {"zip", "application/zip"},           {"gz", "application/gzip"},
    };
    const char *dot = strrchr(name, '.');
    size_t i;
    for (i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(dot + 1, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

static int status_of(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
        return 404;
    case EACCES:
    case EPERM:
    case ELOOP: /* a symbolic link */
        return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return 503;
    default:
        return 500;
    }
}

static int digit(char c)
{
    return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* Makes a name of size bytes of a path: a status, 200 when it may be a file's. */
static int decode(const char *from, size_t size, char name[NAME_MAX + 1])
{
    size_t length = 0, i;
    for (i = 0; i < size; i++) {
        char c = from[i];
        if (c == '%') {
            if (size - i < 3 || digit(from[i + 1]) < 0 || digit(from[i + 2]) < 0)
                return 400;
            c = (char)(digit(from[i + 1]) * 16 + digit(from[i + 2]));
            i += 2;
            if (c == 0)
                return 400;
        }
        if (c == '/' || length == NAME_MAX)
            return 404;
        name[length++] = c;
    }
    name[length] = 0;
    return strcmp(name, "..") == 0 ? 403 : 200;
}

/* Text that others have chosen, in a page or in an address. */
static void put(FILE *page, const char *text, int in_address)
{
    for (; *text != 0; text++) {
        unsigned char c = (unsigned char)*text;
        if (in_address && !isalnum(c) && strchr("-._~", c) == NULL)
            fprintf(page, "%%%02X", c);
        else if (c == '<' || c == '>' || c == '&' || c == '"')
            fprintf(page, "&#%d;", c);
        else
            fputc(c, page);
    }
}

static int list(int directory, struct file *file)
{
    struct dirent **entries;
    size_t size;
    int count = scandirat(directory, ".", &entries, NULL, alphasort), i;
    FILE *page = open_memstream(&file->page, &size);
    if (count < 0 || page == NULL)
        return 500;
    fputs("<!DOCTYPE html>\n<title>Index</title>\n<ul>\n", page);
    for (i = 0; i < count; i++) {
        const char *name = entries[i]->d_name, *slash = entries[i]->d_type == DT_DIR ? "/" : "";
        if (strcmp(name, ".") != 0) {
            fputs("<li><a href=\"./", page);
            put(page, name, 1);
            fprintf(page, "%s\">", slash);
            put(page, name, 0);
            fprintf(page, "%s</a>\n", slash);
        }
        free(entries[i]);
    }
    free(entries);
    fputs("</ul>\n", page);
    file->type = "text/html; charset=utf-8";
    return fclose(page) == 0 ? 200 : 500;
}

/* Where a directory is, with a slash at its end. Its parts stay as they were sent. */
static int redirect(const char *path, struct file *file)
{
    char *to = file->page = malloc(strlen(path) + 2);
    if (to == NULL)
        return 503;
    while (*path != 0) { /* not "//name": that is another host */
        size_t size;
        path += strspn(path, "/");
        size = strcspn(path, "/");
        *to++ = '/';
        memcpy(to, path, size);
        to += size;
        path += size;
    }
    strcpy(to, "/");
    return 301;
}

static int open_below(int directory, const char *name, struct file *file)
{
    /* Without O_NONBLOCK, a FIFO that nobody writes would hold the server up. */
    file->fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file->fd < 0)
        return status_of(errno);
    if (fstat(file->fd, &file->info) < 0)
        return 500;
    if (!S_ISREG(file->info.st_mode) && !S_ISDIR(file->info.st_mode))
        return 403;
    file->type = type_of(name);
    return 200;
}

static int open_path(int root, const char *path, struct file *file)
{
    char name[NAME_MAX + 1] = ".";
    const char *at = path;
    int directory = root, status = 200, is_deep = 0;
    for (;;) {
        char next[NAME_MAX + 1];
        size_t size;
        at += strspn(at, "/");
        if ((size = strcspn(at, "/")) == 0 || (status = decode(at, size, next)) != 200)
            break;
        at += size;
        if (is_deep) { /* what came before is a directory that is walked through */
            int inner = openat(directory, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
            if (inner < 0) {
                status = status_of(errno);
                break;
            }
            if (directory != root)
                close(directory);
            directory = inner;
        }
        strcpy(name, next);
        is_deep = 1;
    }
    if (status == 200)
        status = open_below(directory, name, file);
    if (directory != root)
        close(directory);
    if (status == 200 && S_ISREG(file->info.st_mode) && at > path && at[-1] == '/')
        return 404;
    if (status == 200 && S_ISDIR(file->info.st_mode)) {
        directory = file->fd;
        file->fd = -1;
        if (at[-1] != '/')
            status = redirect(path, file);
        else if ((status = open_below(directory, "index.html", file)) == 404)
            status = list(directory, file);
        else if (status == 200 && !S_ISREG(file->info.st_mode))
            status = 403;
        close(directory);
    }
    return status;
}

int file_open(int root, const char *path, struct file *file)
{
    int status;
    memset(file, 0, sizeof *file);
    file->fd = -1;
    status = open_path(root, path, file);
    if (status != 200 && file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
    if (status != 200 && status != 301) {
        free(file->page);
        file->page = NULL;
    }
    return status;
}
