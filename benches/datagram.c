/*
 * udp_64, udp_batch_32: an echo server's processor time for a datagram of 64 bytes that it sends back to whoever sent it: 16 under way,
 * each sent by itself; or eight batches of 32. The server has one core, its client, in a process of its own, the other.
 *
 * The socket is made by common code; the library is given it bound, and has it until the client sends a datagram of one byte. The
 * client hands a batch to the kernel as one (UDP_SEGMENT), and takes those that come back as one (UDP_GRO), so that it is no slower than
 * any server. Datagrams may be lost: the client waits for one no longer than a moment, begins anew then, and counts only what came back;
 * one that is not whole, that it has not sent or that comes twice is a failure, and so are many that are lost.
 */
#include "bench.h"

#if !defined(BENCH_SD_EVENT)

#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { SIZE = 64, MOST = 32, SLOTS = 16, MOMENT_MS = 300 };

/* What each library does, below. */
static void datagram_open(int fd, int mode, size_t batch); /* echoes what comes; calls datagram_stop for one byte */
static void datagram_run(void);                            /* until datagram_stop */
static void datagram_stop(void);
static void datagram_close(void);

static void pin(int core) {
    cpu_set_t set, all;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    if (sched_getaffinity(0, sizeof all, &all) == 0 && CPU_ISSET(core, &all))
        sched_setaffinity(0, sizeof set, &set);
}

static int new_socket(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), room = 4 << 20;
    socklen_t size = sizeof *address;
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (fd < 0 || bind(fd, (struct sockaddr *)address, size) < 0 || getsockname(fd, (struct sockaddr *)address, &size) < 0)
        bench_fail("socket: %s", strerror(errno));
    return fd;
}

/* The datagrams of a batch: its number, and which of them it is. */
static void send_batch(int fd, char *bytes, uint32_t number, size_t count) {
    union {
        char room[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    struct iovec all = {bytes, count * SIZE};
    struct msghdr message;
    uint16_t segment = SIZE;
    struct cmsghdr *header;
    uint32_t i;
    for (i = 0; i < count; i++) {
        memcpy(bytes + i * SIZE, &number, sizeof number);
        memcpy(bytes + i * SIZE + sizeof number, &i, sizeof i);
    }
    memset(&message, 0, sizeof message);
    memset(&control, 0, sizeof control);
    message.msg_iov = &all;
    message.msg_iovlen = 1;
    if (count > 1) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    if (sendmsg(fd, &message, 0) < 0)
        bench_fail("client: send: %s", strerror(errno));
}

/* A batch that is under way: its number, of which the remainder tells the slot; which of it have come, and how many have not. */
struct slot {
    uint32_t number, seen, left;
};

static uint64_t came, lost;

/* Takes what there is: the slots of which all have come, as bits. */
static uint32_t receive_some(int fd, struct slot *slots, uint32_t slot_count) {
    static char bytes[65536];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0), at;
    uint32_t whole = 0, number, which;
    if (got < 0 && errno != EAGAIN && errno != EINTR)
        bench_fail("client: recv: %s", strerror(errno));
    for (at = 0; at < got; at += SIZE) {
        struct slot *slot;
        if (got - at < SIZE)
            bench_fail("client: a datagram of %d bytes", (int)(got - at));
        memcpy(&number, bytes + at, sizeof number);
        memcpy(&which, bytes + at + sizeof number, sizeof which);
        slot = &slots[number % slot_count];
        if (number > slot->number || which >= MOST)
            bench_fail("client: a datagram that was not sent");
        /* One that is too late is of no use. */
        if (number < slot->number)
            continue;
        if (slot->seen & UINT32_C(1) << which)
            bench_fail("client: a datagram that came twice");
        slot->seen |= UINT32_C(1) << which;
        came++;
        if (--slot->left == 0)
            whole |= UINT32_C(1) << number % slot_count;
    }
    return whole;
}

static void client(const struct sockaddr_in *server, uint32_t batch, uint32_t slot_count, int go, int told) {
    struct sockaddr_in own;
    struct slot slots[SLOTS];
    int fd = new_socket(&own), one = 1;
    char *bytes = bench_new(MOST, SIZE), c;
    struct pollfd back = {fd, POLLIN, 0}, over = {go, POLLIN, 0};
    uint32_t i, to_send = (UINT32_C(1) << slot_count) - 1, under_way = 0;
    uint64_t counts[2];
    int64_t end;
    setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)server, sizeof *server) < 0)
        bench_fail("client: connect: %s", strerror(errno));
    if (read(go, &c, 1) != 1)
        exit(1);
    for (i = 0; i < slot_count; i++)
        slots[i].number = i;
    end = bench_clock() + bench_time_ns;
    for (;;) {
        if (bench_clock() >= end)
            to_send = 0;
        under_way |= to_send;
        for (i = 0; i < slot_count; i++)
            if (to_send & UINT32_C(1) << i) {
                slots[i].number += slot_count;
                slots[i].seen = 0;
                slots[i].left = batch;
                send_batch(fd, bytes, slots[i].number, batch);
            }
        if (under_way == 0)
            break;
        if (poll(&back, 1, MOMENT_MS) > 0) {
            to_send = receive_some(fd, slots, slot_count);
            under_way &= ~to_send;
            continue;
        }
        for (i = 0; i < slot_count; i++)
            if (under_way & UINT32_C(1) << i)
                lost += slots[i].left;
        to_send = under_way;
        under_way = 0;
    }
    counts[0] = came;
    counts[1] = lost;
    if (write(told, counts, sizeof counts) != sizeof counts)
        exit(1);
    /* Until the server has heard it. */
    do {
        if (send(fd, "x", 1, 0) < 0 && errno != ECONNREFUSED)
            bench_fail("client: send: %s", strerror(errno));
    } while (poll(&over, 1, MOMENT_MS) == 0);
    exit(0);
}

static int64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void measure(const struct bench_case *one) {
    struct sockaddr_in address;
    int fd = new_socket(&address), go[2], told[2], status;
    uint64_t counts[2] = {0, 0};
    int64_t before;
    pid_t child;
    if (pipe(go) < 0 || pipe(told) < 0)
        bench_fail("pipe: %s", strerror(errno));
    child = fork();
    if (child == 0) {
        close(fd);
        close(go[1]);
        close(told[0]);
        pin(0);
        client(&address, one->n == 1 ? 1 : MOST, one->n == 1 ? SLOTS : SLOTS / 2, go[0], told[1]);
    }
    close(go[0]);
    close(told[1]);
    pin(1);
    datagram_open(fd, one->mode, one->n);
    before = cpu_ns();
    if (write(go[1], "x", 1) != 1)
        bench_fail("the client has gone");
    datagram_run();
    before = cpu_ns() - before;
    if (read(told[0], counts, sizeof counts) != sizeof counts || counts[0] == 0)
        bench_fail("the client has failed");
    close(go[1]);
    datagram_close();
    waitpid(child, &status, 0);
    if (status != 0)
        bench_fail("the client has failed");
    /* A few may be lost; a server that loses many does other work. */
    if (counts[1] > counts[0] / 100)
        bench_fail("%llu datagrams lost of %llu", (unsigned long long)counts[1], (unsigned long long)(counts[0] + counts[1]));
    bench_result(one, one->workload, "ns", (double)before / (double)counts[0]);
}

#define SINGLE(mode, name) {"udp_64", name, measure, 1, mode, EVERY_CORE},
#define BATCH(mode, name) {"udp_batch_32", name, measure, 32, mode, EVERY_CORE},

#include BENCH_PART(datagram)

static const struct bench_case cases[] = {VARIANTS};

BENCH_MAIN(cases)

#else

BENCH_NO_CASES()

#endif
