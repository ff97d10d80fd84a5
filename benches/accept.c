/*
 * accept_tcp, accept_unix: a server takes connections and closes them at once: its processor time for one. A client on the
 * other core makes so many at a time, and waits until all of them are closed. The listening socket is made by the library
 * where it offers that, by common code where it does not.
 */
#include "bench.h"

#if !defined(BENCH_SD_EVENT)

#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

/* What each library does, below. */
static void accept_open(int listener); /* takes it over; calls taken() for each connection that it took and closed */
static void accept_run(void);
static void accept_stop(void);
static void accept_close(void);

enum { BURST = 64 };

static uint64_t left;

static inline void taken(void) {
    if (left > 0 && --left == 0)
        accept_stop();
}

static union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_un un;
} address;
static socklen_t address_size;
static int is_unix;

static void pin(int core) {
    cpu_set_t set, all;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_getaffinity(0, sizeof all, &all) == 0 && CPU_ISSET(core, &all))
        sched_setaffinity(0, sizeof set, &set);
}

static int listen_anywhere(void) {
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memset(&address, 0, sizeof address);
    address_size = sizeof address.in;
    address.in.sin_family = AF_INET;
    address.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (is_unix) {
        address.un.sun_family = AF_UNIX;
        address_size = sizeof(sa_family_t);
    }
    if (fd < 0 || bind(fd, &address.any, address_size) < 0 || listen(fd, 128) < 0)
        bench_fail("listen: %s", strerror(errno));
    address_size = sizeof address;
    getsockname(fd, &address.any, &address_size);
    return fd;
}

/* Connects, waits until the server has closed, and resets, so that no port stays taken. */
static void client(void) {
    struct linger reset = {1, 0};
    int fds[BURST], i;
    for (;;) {
        char c;
        for (i = 0; i < BURST; i++) {
            fds[i] = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (fds[i] < 0 || connect(fds[i], &address.any, address_size) < 0)
                exit(0); /* the server has gone */
        }
        for (i = 0; i < BURST; i++) {
            setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            if (recv(fds[i], &c, 1, 0) > 0)
                exit(1);
            close(fds[i]);
        }
    }
}

/* Processor time of this process. */
static int64_t spent(void) {
    struct timespec time;
    must(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time));
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t work(uint64_t *count) {
    left = *count;
    int64_t start = spent();
    accept_run();
    return spent() - start;
}

static void measure(const struct bench_case *one) {
    pid_t maker;
    int status;
    double value;
    is_unix = one->n == AF_UNIX;
    int listener = listen_anywhere();
    maker = fork();
    if (maker == 0) {
        close(listener);
        pin(0);
        client();
    }
    pin(1);
    accept_open(listener);
    value = bench_per_operation(work, 1000);
    kill(maker, SIGKILL);
    waitpid(maker, &status, 0);
    accept_close();
    bench_result(one, one->workload, "us", value / 1000);
}

#define VARIANT(name)                                                                                                 \
    {"accept_tcp", name, measure, AF_INET, 0, EVERY_CORE}, {"accept_unix", name, measure, AF_UNIX, 0, EVERY_CORE},

#include BENCH_PART(accept)

static const struct bench_case cases[] = {VARIANTS};

BENCH_MAIN(cases)

#else

BENCH_NO_CASES()

#endif
