/* System calls that fail on purpose: this program has its own of those that evl makes, and has the n-th of one fail. */
#ifndef EVL_TEST_FAULTS_H
#define EVL_TEST_FAULTS_H

#include "harness.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum call {
    ACCEPT4, BIND, CLOSE, CONNECT, EPOLL_CREATE, EPOLL_CTL, EPOLL_WAIT, EVENTFD, FCNTL, GETPEERNAME, GETSOCKNAME, GETSOCKOPT,
    LISTEN, PREAD, RECV, RECVFROM, RECVMMSG, SEND, SENDFILE, SENDMMSG, SENDMSG, SENDTO, SETSOCKOPT, SHUTDOWN, SOCKET,
    SO_ERROR_VALUE, /* what SO_ERROR reads, when getsockopt itself succeeds */
    CALLS
};

/* The codes that may come from each; those of the first line change nothing but the moment when it is done. */
static const struct {
    const char *name;
    int harmless[3], codes[12];
} call_table[CALLS] = {
    {"accept4",
     {EINTR, EAGAIN, ECONNABORTED},
     {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM, EPROTO, EINVAL, ENETDOWN}},
    {"bind", {0}, {EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOMEM}},
    {"close", {EINTR, EIO}, {0}},
    {"connect",
     {EINTR},
     {ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, ETIMEDOUT, EAGAIN, ENOBUFS, EADDRNOTAVAIL, EACCES, EPERM}},
    {"epoll_create1", {0}, {EMFILE, ENFILE, ENOMEM}},
    {"epoll_ctl", {0}, {ENOMEM, ENOSPC, EPERM}},
    {"epoll_wait", {EINTR}, {0}},
    {"eventfd", {0}, {EMFILE, ENFILE, ENOMEM}},
    {"fcntl", {0}, {EPERM}},
    {"getpeername", {0}, {ENOTCONN, ENOBUFS}},
    {"getsockname", {0}, {ENOBUFS}},
    {"getsockopt", {0}, {ENOBUFS, ENOPROTOOPT}},
    {"listen", {0}, {EADDRINUSE, EOPNOTSUPP}},
    {"pread", {EINTR}, {EIO, ENOMEM}},
    {"recv", {EINTR, EAGAIN}, {ECONNRESET, ETIMEDOUT, ENOBUFS, ENOMEM, EHOSTUNREACH, EIO}},
    {"recvfrom", {EINTR, EAGAIN}, {ECONNREFUSED, ENOBUFS, ENOMEM}},
    {"recvmmsg", {EINTR, EAGAIN}, {ECONNREFUSED, ENOBUFS, ENOMEM, EHOSTUNREACH}},
    {"send", {EINTR, EAGAIN}, {EPIPE, ECONNRESET, ETIMEDOUT, ENOBUFS, ENOMEM, EHOSTUNREACH}},
    {"sendfile", {EINTR, EAGAIN}, {EINVAL, ENOSYS, EIO, ENOMEM, EPIPE, ECONNRESET, ETIMEDOUT}},
    {"sendmmsg", {EINTR, EAGAIN}, {ECONNREFUSED, EMSGSIZE, EINVAL, EIO, ENOBUFS, ENOMEM, EPERM, ENETUNREACH}},
    {"sendmsg", {EINTR, EAGAIN}, {EPIPE, ECONNRESET, ETIMEDOUT, ENOBUFS, ENOMEM, EHOSTUNREACH}},
    {"sendto", {EINTR, EAGAIN}, {ECONNREFUSED, EMSGSIZE, ENOBUFS, ENOMEM, EPERM, ENETUNREACH}},
    {"setsockopt", {0}, {ENOBUFS, ENOMEM, ENOPROTOOPT, EINVAL}},
    {"shutdown", {0}, {ENOTCONN}},
    {"socket", {0}, {EMFILE, ENFILE, ENOBUFS, ENOMEM, EACCES, EAFNOSUPPORT, EPROTONOSUPPORT}},
    {"SO_ERROR", {0}, {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET}},
};

/* What is to fail: the calls of this kind from the nth to the last; and how many there were of each kind. */
static struct {
    int armed, call, first, last, code, hits, spares_wakers, seen[CALLS];
    pthread_t thread;
} fault;

static int fails(int call) {
    if (!fault.armed || !pthread_equal(fault.thread, pthread_self()))
        return 0;
    fault.seen[call]++;
    if (call != fault.call || fault.seen[call] < fault.first || fault.seen[call] > fault.last)
        return 0;
    fault.hits++;
    errno = fault.code;
    return 1;
}

/* Their declarations differ between systems; their symbols do not. */
#define OURS(type, name, args)                                                                                        \
    type our_##name args __asm__(#name);                                                                              \
    type our_##name args

OURS(int, accept4, (int fd, void *address, socklen_t *size, int flags)) {
    return fails(ACCEPT4) ? -1 : (int)syscall(SYS_accept4, fd, address, size, flags);
}

OURS(int, bind, (int fd, const void *address, socklen_t size)) {
    return fails(BIND) ? -1 : (int)syscall(SYS_bind, fd, address, size);
}

/* The descriptor is gone, whatever is answered. */
OURS(int, close, (int fd)) {
    int result = (int)syscall(SYS_close, fd);
    return fails(CLOSE) ? -1 : result;
}

OURS(int, connect, (int fd, const void *address, socklen_t size)) {
    return fails(CONNECT) ? -1 : (int)syscall(SYS_connect, fd, address, size);
}

OURS(int, epoll_create1, (int flags)) {
    return fails(EPOLL_CREATE) ? -1 : (int)syscall(SYS_epoll_create1, flags);
}

OURS(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event)) {
    int is_waker = event != NULL && operation == EPOLL_CTL_ADD && (event->events & EPOLLET);
    return !(is_waker && fault.spares_wakers) && fails(EPOLL_CTL) ? -1 : (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

OURS(int, epoll_wait, (int epoll, struct epoll_event *events, int room, int timeout)) {
    return fails(EPOLL_WAIT) ? -1 : (int)syscall(SYS_epoll_pwait, epoll, events, room, timeout, NULL, 8);
}

OURS(int, eventfd, (unsigned count, int flags)) {
    return fails(EVENTFD) ? -1 : (int)syscall(SYS_eventfd2, count, flags);
}

OURS(int, fcntl, (int fd, int command, long argument)) {
    return fails(FCNTL) ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}

OURS(int, getpeername, (int fd, void *address, socklen_t *size)) {
    return fails(GETPEERNAME) ? -1 : (int)syscall(SYS_getpeername, fd, address, size);
}

OURS(int, getsockname, (int fd, void *address, socklen_t *size)) {
    return fails(GETSOCKNAME) ? -1 : (int)syscall(SYS_getsockname, fd, address, size);
}

OURS(int, getsockopt, (int fd, int level, int option, void *value, socklen_t *size)) {
    if (level == SOL_SOCKET && option == SO_ERROR && fails(SO_ERROR_VALUE)) {
        *(int *)value = fault.code;
        return 0;
    }
    return fails(GETSOCKOPT) ? -1 : (int)syscall(SYS_getsockopt, fd, level, option, value, size);
}

OURS(int, listen, (int fd, int backlog)) {
    return fails(LISTEN) ? -1 : (int)syscall(SYS_listen, fd, backlog);
}

OURS(ssize_t, pread, (int fd, void *buffer, size_t size, int64_t offset)) {
    return fails(PREAD) ? -1 : syscall(SYS_pread64, fd, buffer, size, offset);
}

OURS(ssize_t, recv, (int fd, void *buffer, size_t size, int flags)) {
    return fails(RECV) ? -1 : syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}

OURS(ssize_t, recvfrom, (int fd, void *buffer, size_t size, int flags, void *address, socklen_t *address_size)) {
    return fails(RECVFROM) ? -1 : syscall(SYS_recvfrom, fd, buffer, size, flags, address, address_size);
}

OURS(int, recvmmsg, (int fd, struct mmsghdr *messages, unsigned count, int flags, void *timeout)) {
    return fails(RECVMMSG) ? -1 : (int)syscall(SYS_recvmmsg, fd, messages, count, flags, timeout);
}

OURS(ssize_t, send, (int fd, const void *buffer, size_t size, int flags)) {
    return fails(SEND) ? -1 : syscall(SYS_sendto, fd, buffer, size, flags, NULL, 0);
}

OURS(ssize_t, sendfile, (int to, int from, int64_t *offset, size_t count)) {
    return fails(SENDFILE) ? -1 : syscall(SYS_sendfile, to, from, offset, count);
}

OURS(int, sendmmsg, (int fd, struct mmsghdr *messages, unsigned count, int flags)) {
    return fails(SENDMMSG) ? -1 : (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}

OURS(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags)) {
    return fails(SENDMSG) ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

OURS(ssize_t, sendto, (int fd, const void *buffer, size_t size, int flags, const void *address, socklen_t address_size)) {
    return fails(SENDTO) ? -1 : syscall(SYS_sendto, fd, buffer, size, flags, address, address_size);
}

OURS(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t size)) {
    return fails(SETSOCKOPT) ? -1 : (int)syscall(SYS_setsockopt, fd, level, option, value, size);
}

OURS(int, shutdown, (int fd, int how)) {
    return fails(SHUTDOWN) ? -1 : (int)syscall(SYS_shutdown, fd, how);
}

OURS(int, socket, (int family, int kind, int protocol)) {
    return fails(SOCKET) ? -1 : (int)syscall(SYS_socket, family, kind, protocol);
}

static inline void fault_none(void) {
    memset(&fault, 0, sizeof fault);
    fault.call = -1;
}

/* Whether what fails now changes nothing but the moment. */
static inline int fault_is_harmless(void) {
    int i;
    for (i = 0; i < 3 && fault.call >= 0; i++)
        if (call_table[fault.call].harmless[i] == fault.code)
            return 1;
    return fault.call < 0;
}

/* A loop without timers that take time. It is made without faults. */
static inline evl_loop *fault_loop(void) {
    int armed = fault.armed;
    evl_loop *made;
    fault.armed = 0;
    made = loop_with_flags(EVL_LOOP_MANUAL_CLOCK);
    fault.armed = armed;
    return made;
}

static int fault_count, fault_hits; /* how many scenarios were played, and calls failed */

static inline void fault_play(void (*scenario)(void), int call, int first, int times, int code) {
    int before = harness_failures;
    fault_none();
    fault.thread = pthread_self();
    fault.call = call;
    fault.first = first;
    fault.last = first + times - 1;
    fault.code = code;
    fault.armed = 1;
    scenario();
    fault.armed = 0;
    fault_count++;
    fault_hits += fault.hits;
    if (harness_failures != before && call >= 0)
        printf("when %s fails, from the %d. time, %d times, with %s\n", call_table[call].name, first, times,
               evl_errname(-code));
}

/* Runs the loop once. What it lacks for waiting it may have the next time. 0: nothing happens any more. Clocks are manual. */
struct patience {
    int idle, rounds, most;
};

static inline int fault_step(evl_loop *loop, struct patience *patience) {
    int ran = evl_loop_run_once(loop, patience->idle > 2 ? EVL_MS(1) : 0);
    if (ran < 0)
        CHECK_CODE(ran, -fault.code);
    patience->idle = ran > 0 ? 0 : patience->idle + 1;
    if (patience->idle > 3)
        CHECK_CODE(evl_loop_advance(loop, EVL_MS(250)), 0);
    return patience->idle < patience->most && patience->rounds++ < 50000;
}

/* Plays a scenario without a fault, and then with each of its system calls failing in each of its ways: the first `most` of each kind,
 * and some of those that follow. */
static inline void fault_play_all(void (*scenario)(void), int most) {
    int seen[CALLS], call, at, nth, code, times, failures = harness_failures;
    fault_play(scenario, -1, 0, 0, 0);
    CHECK_INT(fault.hits, 0);
    memcpy(seen, fault.seen, sizeof seen);
    if (under_valgrind())
        most = 2 + most / 8;
    for (call = 0; call < CALLS; call++)
        for (at = 0; at < 15; at++) {
            code = at < 3 ? call_table[call].harmless[at] : call_table[call].codes[at - 3];
            for (nth = 1; code != 0 && nth <= seen[call]; nth += nth < most ? 1 : 1 + seen[call] / most)
                for (times = 1; times <= 3; times += 2) {
                    /* After some of these, there are enough to look at. */
                    if (harness_failures > failures + 10 || (times > 1 && under_valgrind()))
                        break;
                    fault_play(scenario, call, nth, times, code);
                }
        }
}

#endif
