/* What the system answers to the reads and writes of one descriptor, as a test says it: this program has its own of these calls.
 * Included after streams.h or sockets.h. */
#ifndef EVL_TEST_ANSWERS_H
#define EVL_TEST_ANSWERS_H

#include <sys/syscall.h>
#include <sys/uio.h>

enum answered { WRITES, READS, SHUTDOWNS, SENDTOS, BATCHES, RECEIVES, ANSWERED };

/* Calls of other descriptors and of other threads are the system's. */
static struct {
    int fd;
    pthread_t thread;
    int calls[ANSWERED];
    ssize_t queue[ANSWERED][32];
    int given[ANSWERED], used[ANSWERED];
} answers;

/* From now on the calls of this descriptor are counted; they are the system's until a test says an answer. */
static inline void answers_for(int fd) {
    memset(&answers, 0, sizeof answers);
    answers.fd = fd;
    answers.thread = pthread_self();
}

/* The next call of this kind that has no answer yet: it takes or gives at most so many bytes (datagrams), or fails by -errno. */
static inline void answer(int kind, ssize_t what) {
    if (CHECK(answers.given[kind] < 32))
        answers.queue[kind][answers.given[kind]++] = what;
}

/* What is left of the answers is not given any more. */
static inline void answer_no_more(void) {
    memset(answers.given, 0, sizeof answers.given);
    memset(answers.used, 0, sizeof answers.used);
}

static inline int called(int kind) {
    return answers.calls[kind];
}

/* Whether there is an answer: with room it becomes at most that, without it *result is what to return. */
static int answered(int kind, int fd, size_t *room, ssize_t *result) {
    ssize_t what;
    if (answers.fd != fd || fd <= 0 || !pthread_equal(answers.thread, pthread_self()))
        return 0;
    answers.calls[kind]++;
    if (answers.used[kind] == answers.given[kind])
        return 0;
    what = answers.queue[kind][answers.used[kind]++];
    if (what > 0) {
        *room = *room < (size_t)what ? *room : (size_t)what;
        return 0;
    }
    if (what < 0)
        errno = (int)-what;
    *result = what < 0 ? -1 : 0;
    return 1;
}

/* Their declarations differ between systems; their symbols do not. */
#define ANSWERED_BY(type, name, args)                                                                                 \
    type our_##name args __asm__(#name);                                                                              \
    type our_##name args

ANSWERED_BY(ssize_t, send, (int fd, const void *data, size_t size, int flags)) {
    ssize_t result;
    return answered(WRITES, fd, &size, &result) ? result : syscall(SYS_sendto, fd, data, size, flags, NULL, 0);
}

ANSWERED_BY(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags)) {
    static char all[1 << 16];
    size_t room = SIZE_MAX, size = 0, i;
    ssize_t result;
    if (answered(WRITES, fd, &room, &result))
        return result;
    if (room > sizeof all)
        return syscall(SYS_sendmsg, fd, message, flags);
    for (i = 0; i < message->msg_iovlen && size < room; i++) {
        size_t some = message->msg_iov[i].iov_len < room - size ? message->msg_iov[i].iov_len : room - size;
        memcpy(all + size, message->msg_iov[i].iov_base, some);
        size += some;
    }
    return syscall(SYS_sendto, fd, all, size, flags, NULL, 0);
}

ANSWERED_BY(ssize_t, recv, (int fd, void *buffer, size_t size, int flags)) {
    ssize_t result;
    return answered(READS, fd, &size, &result) ? result : syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}

ANSWERED_BY(ssize_t, read, (int fd, void *buffer, size_t size)) {
    ssize_t result;
    return answered(READS, fd, &size, &result) ? result : syscall(SYS_read, fd, buffer, size);
}

ANSWERED_BY(int, shutdown, (int fd, int how)) {
    size_t room = 0;
    ssize_t result;
    return answered(SHUTDOWNS, fd, &room, &result) ? (int)result : (int)syscall(SYS_shutdown, fd, how);
}

ANSWERED_BY(ssize_t, sendto, (int fd, const void *data, size_t size, int flags, const void *address, socklen_t length)) {
    ssize_t result;
    return answered(SENDTOS, fd, &size, &result) ? result : syscall(SYS_sendto, fd, data, size, flags, address, length);
}

ANSWERED_BY(int, sendmmsg, (int fd, struct mmsghdr *messages, unsigned count, int flags)) {
    size_t room = count;
    ssize_t result;
    if (answered(BATCHES, fd, &room, &result))
        return (int)result;
    return (int)syscall(SYS_sendmmsg, fd, messages, (unsigned)room, flags);
}

ANSWERED_BY(int, recvmmsg, (int fd, struct mmsghdr *messages, unsigned count, int flags, void *timeout)) {
    size_t room = count;
    ssize_t result;
    if (answered(RECEIVES, fd, &room, &result))
        return (int)result;
    return (int)syscall(SYS_recvmmsg, fd, messages, (unsigned)room, flags, timeout);
}

#endif
