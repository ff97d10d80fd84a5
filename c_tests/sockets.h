/* What tests of sockets share; included after harness.h. */
#ifndef EVL_TEST_SOCKETS_H
#define EVL_TEST_SOCKETS_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Runs the loop until the future is done. */
static inline void finish(evl_loop *loop, evl_future *future) {
    int rounds = 0;
    while (future != NULL && !evl_future_done(future) && rounds++ < 1000000)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            return;
    CHECK(evl_future_done(future));
}

/* The error of a future that is done, or 0. Gives the reference back. */
static inline int end_code(evl_future *future) {
    int code = evl_future_result(future, NULL);
    evl_future_unref(future);
    return code;
}

/* How many bytes an operation has sent that has failed or was cancelled; -1 when that is not told. */
static inline long long sent_by(const evl_future *future) {
    const void *data = future;
    size_t size = 0;
    if (evl_future_error_bytes(future, &data, &size) < 0)
        return -1;
    CHECK(data == NULL);
    return (long long)size;
}

/* The number a future results in, or its error. Gives the reference back. */
static inline int64_t end_number(evl_future *future) {
    int64_t number = 0;
    int code = evl_future_result_int(future, &number);
    evl_future_unref(future);
    return code < 0 ? code : number;
}

/* Whether the bytes a future results in are these. Gives the reference back. */
static inline int end_bytes(evl_future *future, const char *expected) {
    const void *data = NULL;
    size_t size = 0;
    int same = CHECK_CODE(evl_future_result_bytes(future, &data, &size), 0) && size == strlen(expected) &&
               memcmp(data, expected, size) == 0;
    evl_future_unref(future);
    return same;
}

static inline evl_future *begin_recv(evl_loop *loop, int fd, size_t size) {
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_sock_recv(loop, fd, size, &future), 0);
    return future;
}

static inline void check_message(evl_future *future, const char *expected) {
    char text[200] = "";
    CHECK(evl_future_error_message(future, text, sizeof text) >= 0);
    CHECK_STRING(text, expected);
}

/* A pair of connected unix sockets, non-blocking. */
static inline void unix_pair(int fds[2]) {
    fds[0] = fds[1] = -1;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

static inline void close_pair(const int fds[2]) {
    close(fds[0]);
    close(fds[1]);
}

/* 127.0.0.1, with a port of the system's choice. */
static inline struct sockaddr_in loopback(void) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

/* A socket bound to a free port, whose address is written. */
static inline int bound(int type, struct sockaddr_in *address) {
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof *address;
    *address = loopback();
    CHECK(bind(fd, (struct sockaddr *)address, sizeof *address) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &size) == 0);
    return fd;
}

static inline int listening(struct sockaddr_in *address, int backlog) {
    int fd = bound(SOCK_STREAM, address);
    CHECK(listen(fd, backlog) == 0);
    return fd;
}

static inline int tcp_socket(void) {
    return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* A pair of connected TCP sockets, non-blocking. */
static inline void tcp_pair(int fds[2]) {
    struct sockaddr_in address;
    int listener = listening(&address, 5);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(fds[0], (struct sockaddr *)&address, sizeof address) == 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    CHECK(fds[1] >= 0);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    close(listener);
}

/* Sends until nothing more fits, and returns how much did. */
static inline size_t stuff(int fd) {
    static char block[65536];
    size_t sent = 0;
    ssize_t n;
    while ((n = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        sent += (size_t)n;
    while ((n = send(fd, block, 1, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
        sent += (size_t)n;
    return sent;
}

/* Reads until there is nothing, and returns how much there was. */
static inline size_t drain(int fd) {
    static char block[65536];
    size_t got = 0;
    ssize_t n;
    while ((n = recv(fd, block, sizeof block, MSG_DONTWAIT)) > 0)
        got += (size_t)n;
    return got;
}

static inline int64_t watchers(evl_loop *loop) {
    evl_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    return (int64_t)metrics.watchers;
}

static inline int is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* How many descriptors this process has. */
static inline int count_descriptors(void) {
    int fd, count = 0;
    for (fd = 0; fd < 1024; fd++)
        count += is_open(fd);
    return count;
}

/* FNV-1a, continued. */
static inline uint64_t hash_on(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = (const unsigned char *)data;
    size_t i;
    for (i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash;
}
#define HASH_BEGIN UINT64_C(14695981039346656037)

static inline unsigned next_random(unsigned *seed) {
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 8;
}

/* A file of that many random bytes, already unlinked. */
static inline int random_file(size_t size, unsigned seed, uint64_t *hash) {
    char path[] = "/tmp/evl-test-XXXXXX";
    unsigned char block[4096];
    int fd = mkstemp(path);
    if (hash != NULL)
        *hash = HASH_BEGIN;
    CHECK(fd >= 0);
    unlink(path);
    while (size > 0) {
        size_t part = size < sizeof block ? size : sizeof block, i;
        for (i = 0; i < part; i++)
            block[i] = (unsigned char)next_random(&seed);
        CHECK(write(fd, block, part) == (ssize_t)part);
        if (hash != NULL)
            *hash = hash_on(*hash, block, part);
        size -= part;
    }
    return fd;
}

#endif
