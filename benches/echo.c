/*
 * tcp_* and unix_*: an echo server's processor time for a message: so many connections, so many messages of so many bytes
 * under way on each. The server has one core, its clients, in a process of their own, the other.
 *
 * The connections are made by common code; the library is given connected sockets, and has them until the client closes
 * them. The client knows what it has sent and counts what comes back, byte by byte; a message counts when it is back
 * whole. conn_bytes: memory of a connection that does nothing.
 */
#include "bench.h"

#if !defined(BENCH_SD_EVENT)

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <fcntl.h>

/* What each library does, below. */
static void echo_open(size_t n, int mode);
static void echo_add(size_t i, int fd); /* echoes what comes; calls echo_gone() when the peer has closed it */
static void echo_run(void);             /* until echo_stop */
static void echo_stop(void);
static void echo_close(void);

static size_t left;

static inline void echo_gone(void) {
    if (--left == 0)
        echo_stop();
}

/* What the modes of echo_open are: the library's own, plus this for AF_UNIX. */
enum { UNIX = 256 };

static struct {
    size_t connections, outstanding, size;
    int is_unix;
} plan;

static void pin(int core) {
    cpu_set_t set, all;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_getaffinity(0, sizeof all, &all) == 0 && CPU_ISSET(core, &all))
        sched_setaffinity(0, sizeof set, &set);
}

static int new_socket(void) {
    int fd = socket(plan.is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        bench_fail("socket: %s", strerror(errno));
    return fd;
}

union any_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
};

/* A listening socket, and where it listens. */
static int listen_anywhere(union any_address *address, socklen_t *size) {
    int fd = new_socket();
    memset(address, 0, sizeof *address);
    *size = sizeof address->in;
    address->in.sin_family = AF_INET;
    address->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (plan.is_unix) {
        address->un.sun_family = AF_UNIX;
        *size = sizeof(sa_family_t); /* the kernel finds an abstract name */
    }
    if (bind(fd, &address->any, *size) < 0 || listen(fd, 1024) < 0)
        bench_fail("listen: %s", strerror(errno));
    *size = sizeof *address;
    getsockname(fd, &address->any, size);
    return fd;
}

static void no_delay(int fd) {
    int one = 1;
    if (!plan.is_unix)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void send_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            bench_fail("client: send: %s", strerror(errno));
        data += sent;
        size -= (size_t)sent;
    }
}

/* The client: keeps `outstanding` messages under way on each connection until the time is over, then takes back what is
 * under way, and tells how many came back whole. */
static void client(const union any_address *address, socklen_t size, int ready, int go, int told) {
    struct epoll_event events[256];
    size_t n = plan.connections, window = plan.size * plan.outstanding, i;
    int *fds = bench_new(n, sizeof *fds), poller = epoll_create1(EPOLL_CLOEXEC);
    size_t *bytes = bench_new(n, sizeof *bytes), under_way = n * plan.outstanding;
    char *buffer = bench_new(1, window > 65536 ? window : 65536), c;
    uint64_t messages = 0;
    int64_t end = 0;
    for (i = 0; i < n; i++) {
        struct epoll_event event = {EPOLLIN, {.u64 = i}};
        fds[i] = new_socket();
        if (connect(fds[i], &address->any, size) < 0)
            bench_fail("client: connect: %s", strerror(errno));
        no_delay(fds[i]);
        epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &event);
        if (write(ready, "x", 1) != 1 || read(go, &c, 1) != 1)
            exit(1);
    }
    if (read(go, &c, 1) != 1)
        exit(1);
    end = bench_clock() + bench_time_ns;
    for (i = 0; i < n; i++)
        send_all(fds[i], buffer, window);
    while (under_way > 0) {
        int count = epoll_wait(poller, events, 256, -1), e, over = bench_clock() >= end;
        for (e = 0; e < count; e++) {
            size_t whole;
            ssize_t got;
            i = events[e].data.u64;
            got = recv(fds[i], buffer, window, 0);
            if (got <= 0)
                bench_fail("client: recv: %s", got < 0 ? strerror(errno) : "the server has closed");
            bytes[i] += (size_t)got;
            whole = bytes[i] / plan.size;
            bytes[i] %= plan.size;
            messages += whole;
            if (over)
                under_way -= whole;
            else if (whole > 0)
                send_all(fds[i], buffer, whole * plan.size);
        }
    }
    for (i = 0; i < n; i++) {
        if (bytes[i] != 0 || recv(fds[i], buffer, 1, MSG_DONTWAIT) >= 0)
            bench_fail("client: bytes that were not asked for");
        close(fds[i]);
    }
    if (write(told, &messages, sizeof messages) != sizeof messages)
        exit(1);
    exit(0);
}

static int64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void measure_plan(const struct bench_case *one, int memory) {
    union any_address address;
    socklen_t size;
    int listener, ready[2], go[2], told[2], status;
    uint64_t messages = 0;
    int64_t before;
    size_t i, heap;
    pid_t child;
    raise_descriptor_limit();
    listener = listen_anywhere(&address, &size);
    if (pipe(ready) < 0 || pipe(go) < 0 || pipe(told) < 0)
        bench_fail("pipe: %s", strerror(errno));
    if (memory)
        bench_time_ns = 0;
    child = fork();
    if (child == 0) {
        close(listener);
        close(ready[0]);
        close(go[1]);
        close(told[0]);
        pin(0);
        client(&address, size, ready[1], go[0], told[1]);
    }
    close(ready[1]);
    close(go[0]);
    close(told[1]);
    pin(1);
    left = plan.connections;
    echo_open(plan.connections, one->mode & ~UNIX);
    heap = bench_memory();
    for (i = 0; i < plan.connections; i++) {
        char c;
        int fd;
        if (read(ready[0], &c, 1) != 1)
            bench_fail("the client has gone");
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            bench_fail("accept: %s", strerror(errno));
        no_delay(fd);
        echo_add(i, fd);
        if (write(go[1], "x", 1) != 1)
            bench_fail("the client has gone");
    }
    heap = bench_memory() - heap;
    before = cpu_ns();
    if (write(go[1], "x", 1) != 1)
        bench_fail("the client has gone");
    echo_run();
    before = cpu_ns() - before;
    if (read(told[0], &messages, sizeof messages) != sizeof messages || messages == 0)
        bench_fail("the client has failed");
    echo_close();
    waitpid(child, &status, 0);
    if (status != 0)
        bench_fail("the client has failed");
    if (memory)
        bench_result(one, one->workload, "bytes", (double)heap / (double)plan.connections);
    else
        bench_result(one, one->workload, "ns", (double)before / (double)messages);
}

static void measure(const struct bench_case *one) {
    /* n holds all three: connections, messages under way, bytes. */
    plan.connections = one->n >> 32;
    plan.outstanding = one->n >> 24 & 0xff;
    plan.size = one->n & 0xffffff;
    plan.is_unix = (one->mode & UNIX) != 0;
    measure_plan(one, strcmp(one->workload, "conn_bytes") == 0);
}

#define PLAN(connections, outstanding, size) ((size_t)(connections) << 32 | (size_t)(outstanding) << 24 | (size_t)(size))

#define VARIANT(mode, name)                                                                                           \
    {"tcp_64_50", name, measure, PLAN(50, 1, 64), mode, EVERY_CORE},                                                  \
        {"tcp_64_500", name, measure, PLAN(500, 1, 64), mode, EVERY_CORE},                                            \
        {"tcp_64_50_16", name, measure, PLAN(50, 16, 64), mode, EVERY_CORE},                                          \
        {"tcp_1k_50", name, measure, PLAN(50, 1, 1024), mode, EVERY_CORE},                                            \
        {"tcp_16k_50", name, measure, PLAN(50, 1, 16384), mode, EVERY_CORE},                                          \
        {"unix_64_50", name, measure, PLAN(50, 1, 64), (mode) | UNIX, EVERY_CORE},

#define MEMORY(mode, name) {"conn_bytes", name, measure, PLAN(4000, 1, 64), mode, EVERY_CORE},

#include BENCH_PART(echo)

static const struct bench_case cases[] = {VARIANTS};

BENCH_MAIN(cases)

#else

BENCH_NO_CASES()

#endif
