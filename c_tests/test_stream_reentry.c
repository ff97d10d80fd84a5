/* Functions of transports and servers called from inside of each other: pause_writing inside of a write, arg_free inside of
 * anything, and what the system answers seldom to accept (this program has an accept4 of its own). */
#include "streams.h"

#include <sys/syscall.h>

static void pair_of(evl_loop *loop, struct peer *a, struct peer *b) {
    int fds[2];
    unix_pair(fds);
    peer_open(a, loop, "a.", fds[0]);
    peer_open(b, loop, "b.", fds[1]);
    trace_reset();
}

static char block[1000000];

/* --- pause_writing inside of a write */

static void (*in_pause)(struct peer *peer);
static int write_code;

static void write_at_data(struct peer *peer, const char *what) {
    if (strcmp(what, "data") == 0) {
        CHECK_CODE(evl_transport_write(peer->transport, block, sizeof block), 0);
        trace("wrote");
        write_code = evl_transport_write(peer->transport, "more", 4);
    } else if (strcmp(what, "pause") == 0) {
        in_pause(peer);
    }
}

static void pause_close(struct peer *peer) {
    CHECK_CODE(evl_transport_close(peer->transport), 0);
}

static void pause_abort(struct peer *peer) {
    CHECK_CODE(evl_transport_abort(peer->transport), 0);
}

static void pause_raise(struct peer *peer) {
    (void)peer;
    CHECK_CODE(evl_raise(-4242, "in pause_writing"), 0);
}

static void pause_write(struct peer *peer) {
    CHECK_CODE(evl_transport_write(peer->transport, "from pause_writing", 18), 0);
}

static void pause_eof(struct peer *peer) {
    CHECK_CODE(evl_transport_write_eof(peer->transport), 0);
}

static void pausing(void (*what)(struct peer *), int code, size_t arrives, int ends) {
    evl_loop *loop = reporting_loop();
    struct peer a, b;
    pair_of(loop, &a, &b);
    b.name = NULL;
    a.at = write_at_data;
    in_pause = what;
    peer_write(&b, "go");
    UNTIL(loop, a.total == 2);
    CHECK(strncmp(harness_trace, "a.data a.pause wrote", 20) == 0);
    CHECK_CODE(write_code, code);
    if (arrives)
        UNTIL(loop, b.total >= arrives);
    if (ends)
        UNTIL(loop, b.lost);
    else
        CHECK_CODE(evl_transport_close(b.transport), 0);
    UNTIL(loop, a.lost && b.lost);
    if (arrives)
        CHECK_INT(b.total, arrives);
    CHECK_INT(reports.count, what == pause_raise);
    CHECK_CODE(a.code, 0);
    peer_end(&a);
    peer_end(&b);
    end_loop(loop);
    trace_reset();
}

TEST(pause_writing_inside_of_a_write) {
    pausing(pause_close, 0, sizeof block + 4, 1);
    pausing(pause_abort, -EPIPE, 0, 1);
    pausing(pause_raise, 0, sizeof block + 4, 0);
    pausing(pause_write, 0, sizeof block + 22, 0);
    pausing(pause_eof, EVL_EINVALIDSTATE, sizeof block, 1);
}

/* --- arg_free inside of anything */

struct freed {
    struct peer *peer;
    int frees, how, code;
};

static void act_when_freed(void *arg) {
    struct freed *freed = (struct freed *)arg;
    size_t size;
    freed->frees++;
    switch (freed->how) {
    case 0:
        freed->code = evl_transport_write(freed->peer->transport, "after", 5);
        break;
    case 1:
        freed->code = evl_transport_abort(freed->peer->transport);
        break;
    case 2:
        freed->code = evl_transport_close(freed->peer->transport);
        break;
    case 3:
        freed->code = evl_transport_set_write_buffer_limits(freed->peer->transport, 5, 1);
        break;
    default:
        freed->code = evl_transport_get_write_buffer_size(freed->peer->transport, &size);
    }
}

TEST(arg_free_when_written) {
    int how;
    for (how = 0; how < 5; how++) {
        evl_loop *loop = real_loop();
        struct peer a, b;
        struct freed freed[3];
        int i;
        pair_of(loop, &a, &b);
        for (i = 0; i < 3; i++) {
            struct freed one = {&a, 0, how, 1};
            freed[i] = one;
            CHECK_CODE(evl_transport_write_owned(a.transport, block, 300000, &freed[i], act_when_freed), 0);
        }
        UNTIL(loop, freed[0].frees);
        CHECK_CODE(freed[0].code, 0);
        UNTIL(loop, freed[1].frees && freed[2].frees);
        if (how == 0)
            UNTIL(loop, b.total == 900015);
        else if (how != 1)
            UNTIL(loop, b.total == 900000);
        CHECK_CODE(evl_transport_close(a.transport), 0);
        UNTIL(loop, a.lost && b.lost);
        for (i = 0; i < 3; i++)
            CHECK_INT(freed[i].frees, 1);
        peer_end(&a);
        peer_end(&b);
        end_loop(loop);
        trace_reset();
    }
}

TEST(arg_free_when_dropped) {
    int how, end;
    for (how = 0; how < 5; how++) {
        for (end = 0; end < 2; end++) {
            evl_loop *loop = real_loop();
            struct peer a, b;
            struct freed freed = {&a, 0, how, 1};
            pair_of(loop, &a, &b);
            CHECK_CODE(evl_transport_write_owned(a.transport, block, sizeof block, &freed, act_when_freed), 0);
            CHECK_INT(freed.frees, 0);
            if (end == 0) {
                CHECK_CODE(evl_transport_abort(a.transport), 0);
                CHECK_INT(freed.frees, 1);
                CHECK_CODE(freed.code, how == 0 ? -EPIPE : 0);
                UNTIL(loop, a.lost && b.lost);
            } else {
                CHECK_CODE(evl_loop_close(loop), 0);
                CHECK_INT(freed.frees, 1);
                CHECK_CODE(freed.code, EVL_ECLOSED);
            }
            peer_end(&a);
            peer_end(&b);
            end_loop(loop);
            trace_reset();
        }
    }
}

/* --- what the system answers to accept */

static int answers[64], answer_count, answered;

/* Its declaration differs between systems; its symbol does not. */
int our_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) __asm__("accept4");

int our_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    if (answered < answer_count) {
        errno = answers[answered++];
        return -1;
    }
    return (int)syscall(SYS_accept4, fd, address, size, flags);
}

static struct crowd crowd;

static uint64_t round_count(evl_loop *loop) {
    evl_metrics metrics;
    memset(&metrics, 0, sizeof metrics);
    metrics.size = sizeof metrics;
    CHECK_CODE(evl_loop_metrics(loop, &metrics), 0);
    return metrics.iterations;
}

/* A connection that comes while the system answers so is served: after so many reports, and at least so long. */
static void accepting(int code, int count, int expected_reports, int64_t least) {
    evl_loop *loop = reporting_loop();
    int port = crowd_serve(&crowd, loop, 0), i, fd;
    uint64_t rounds;
    int64_t begun;
    idle(loop);
    for (i = 0; i < count; i++)
        answers[i] = code;
    answered = 0;
    fd = dial(port);
    answer_count = count;
    begun = time_of(loop);
    rounds = round_count(loop);
    UNTIL(loop, made_of(&crowd) == 1);
    answer_count = 0;
    /* Waiting is no spinning. */
    CHECK(round_count(loop) <= rounds + 3 + 2 * (uint64_t)count);
    CHECK_INT(reports.count, expected_reports);
    if (expected_reports)
        CHECK_CODE(reports.code, -code);
    CHECK(time_of(loop) >= begun + least);
    if (least == 0)
        CHECK(time_of(loop) < begun + EVL_MS(900));
    close(fd);
    UNTIL(loop, crowd.peers[0].lost);
    CHECK_CODE(evl_server_close(crowd.server), 0);
    crowd_end(&crowd);
    end_loop(loop);
}

TEST(accepting_is_interrupted_or_finds_nobody) {
    static const int harmless[] = {EINTR,        EAGAIN,     ECONNABORTED, EPROTO,     EPERM,       ENETDOWN,
                                   EHOSTUNREACH, EHOSTDOWN,  ENONET,       EOPNOTSUPP, ENETUNREACH, ETIMEDOUT};
    size_t i;
    for (i = 0; i < sizeof harmless / sizeof *harmless; i++)
        accepting(harmless[i], 3, 0, 0);
}

TEST(accepting_lacks_something) {
    accepting(ENOBUFS, 1, 1, EVL_MS(1000));
    accepting(ENFILE, 1, 1, EVL_MS(1000));
    accepting(ENOMEM, 2, 2, EVL_MS(2000));
}

TEST_MAIN()
