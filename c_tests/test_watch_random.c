/* Random changes to readers and writers on socket pairs; in every iteration exactly those are called that poll(2) says are
 * ready and that are registered and not paused. Seeds are fixed; a failure prints its seed and step. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

enum { PAIRS = 12, READ = 0, WRITE = 1 };

struct side {
    int registered, paused;
    int called; /* in this iteration */
    int frees, adds;
};

struct pair {
    int fd, peer;
    int survivor; /* a dup of an earlier fd, or -1 */
    struct side sides[2];
};

static struct {
    evl_loop *loop;
    struct pair pairs[PAIRS];
    uint32_t random;
    unsigned seed;
    int step, broken;
} w;

static void broken(const char *what, int line, int number) {
    char detail[120];
    if (w.broken++ > 5)
        return;
    snprintf(detail, sizeof detail, "seed %u, step %d, pair %d", w.seed, w.step, number);
    harness_fail(__FILE__, line, what, detail);
}

#define EXPECT(condition, number) ((condition) ? (void)0 : broken(#condition, __LINE__, number))

static uint32_t pick(uint32_t below) {
    w.random ^= w.random << 13;
    w.random ^= w.random >> 17;
    w.random ^= w.random << 5;
    return w.random % below;
}

static void on_event(void *arg) {
    ((struct side *)arg)->called++;
}

static void on_free(void *arg) {
    ((struct side *)arg)->frees++;
}

static void open_pair(struct pair *p) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
        abort();
    p->fd = fds[0];
    p->peer = fds[1];
}

static void add(int number, int which) {
    struct pair *p = &w.pairs[number];
    struct side *s = &p->sides[which];
    int code = which == READ ? evl_loop_add_reader(w.loop, p->fd, on_event, s, on_free, NULL, NULL)
                             : evl_loop_add_writer(w.loop, p->fd, on_event, s, on_free, NULL, NULL);
    EXPECT(code == 0, number);
    s->registered = 1;
    s->paused = 0;
    s->adds++;
    EXPECT(s->frees == s->adds - 1, number);
}

static void drop(int number, int which) {
    struct pair *p = &w.pairs[number];
    struct side *s = &p->sides[which];
    int code = which == READ ? evl_loop_remove_reader(w.loop, p->fd) : evl_loop_remove_writer(w.loop, p->fd);
    EXPECT(code == s->registered, number);
    s->registered = 0;
    EXPECT(s->frees == s->adds, number);
}

static void pause_or_resume(int number, int which) {
    struct pair *p = &w.pairs[number];
    struct side *s = &p->sides[which];
    int pause = (int)pick(2), code;
    if (which == READ)
        code = pause ? evl_loop_pause_reader(w.loop, p->fd) : evl_loop_resume_reader(w.loop, p->fd);
    else
        code = pause ? evl_loop_pause_writer(w.loop, p->fd) : evl_loop_resume_writer(w.loop, p->fd);
    EXPECT(code == (s->registered ? 0 : -ENOENT), number);
    if (s->registered)
        s->paused = pause;
}

/* The descriptor is closed, removed or not, with a dup that survives or not, and its number is used again. */
static void reopen(int number) {
    struct pair *p = &w.pairs[number];
    int old = p->fd, behind = (int)pick(2);
    if (!behind) {
        drop(number, READ);
        drop(number, WRITE);
    }
    if (p->survivor >= 0)
        close(p->survivor);
    p->survivor = pick(2) ? fcntl(old, F_DUPFD, 500) : -1;
    if (p->peer >= 0 && pick(2))
        close(p->peer);
    else if (p->peer >= 0)
        shutdown(p->peer, SHUT_RDWR), close(p->peer);
    close(old);
    open_pair(p);
    if (p->peer == old) { /* either end will do */
        p->peer = p->fd;
        p->fd = old;
    }
    if (p->fd != old) {
        if (dup2(p->fd, old) != old)
            abort();
        close(p->fd);
        p->fd = old;
    }
    if (behind) {
        if (pick(2)) {
            drop(number, READ);
            drop(number, WRITE);
        } else { /* both anew: what was there is replaced */
            add(number, READ);
            add(number, WRITE);
        }
    }
}

static void traffic(int number) {
    struct pair *p = &w.pairs[number];
    char block[8192];
    memset(block, 'x', sizeof block);
    switch (pick(6)) {
    case 0:
        if (p->peer >= 0 && send(p->peer, block, 1 + pick(100), MSG_NOSIGNAL) < 0)
            EXPECT(errno == EAGAIN || errno == EPIPE, number);
        break;
    case 1:
        while (read(p->fd, block, sizeof block) > 0)
            ;
        break;
    case 2:
        while (send(p->fd, block, sizeof block, MSG_NOSIGNAL) > 0)
            ;
        break;
    case 3:
        while (p->peer >= 0 && read(p->peer, block, sizeof block) > 0)
            ;
        break;
    case 4:
        if (p->peer >= 0 && pick(4) == 0)
            shutdown(p->peer, pick(2) ? SHUT_WR : SHUT_RDWR);
        break;
    default:
        if (p->peer >= 0 && pick(4) == 0) {
            close(p->peer);
            p->peer = -1;
        }
        break;
    }
}

static void run_iteration(void) {
    struct pollfd polled[PAIRS];
    int i, expected = 0, code;
    for (i = 0; i < PAIRS; i++) {
        polled[i].fd = w.pairs[i].fd;
        polled[i].events = POLLIN | POLLOUT;
        polled[i].revents = 0;
        w.pairs[i].sides[READ].called = w.pairs[i].sides[WRITE].called = 0;
    }
    if (poll(polled, PAIRS, 0) < 0)
        abort();
    code = evl_loop_run_once(w.loop, 0);
    for (i = 0; i < PAIRS; i++) {
        struct side *r = &w.pairs[i].sides[READ], *o = &w.pairs[i].sides[WRITE];
        int ended = (polled[i].revents & (POLLHUP | POLLERR)) != 0;
        int reads = r->registered && !r->paused && ((polled[i].revents & POLLIN) || ended);
        int writes = o->registered && !o->paused && ((polled[i].revents & POLLOUT) || ended);
        EXPECT(r->called == reads, i);
        EXPECT(o->called == writes, i);
        expected += reads + writes;
    }
    EXPECT(code == expected, -1);
}

static void run_program(unsigned seed, int steps) {
    int i, which;
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.random = seed * 2654435761u + 1;
    w.loop = manual_loop();
    for (i = 0; i < PAIRS; i++) {
        open_pair(&w.pairs[i]);
        w.pairs[i].survivor = -1;
    }
    for (w.step = 0; w.step < steps && w.broken == 0; w.step++) {
        int number = (int)pick(PAIRS);
        which = (int)pick(2);
        switch (pick(12)) {
        case 0:
        case 1:
            add(number, which);
            break;
        case 2:
            drop(number, which);
            break;
        case 3:
            pause_or_resume(number, which);
            break;
        case 4:
            if (pick(3) == 0)
                reopen(number);
            break;
        case 5:
        case 6:
        case 7:
        case 8:
            traffic(number);
            break;
        default:
            run_iteration();
            break;
        }
    }
    end_loop(w.loop);
    for (i = 0; i < PAIRS; i++) {
        for (which = 0; which < 2; which++)
            EXPECT(w.pairs[i].sides[which].frees == w.pairs[i].sides[which].adds, i);
        close(w.pairs[i].fd);
        if (w.pairs[i].peer >= 0)
            close(w.pairs[i].peer);
        if (w.pairs[i].survivor >= 0)
            close(w.pairs[i].survivor);
    }
}

TEST(random_changes_are_seen_as_poll_sees_them) {
    unsigned seed;
    int steps = under_valgrind() ? 500 : 5000;
    for (seed = 1; seed <= 30; seed++)
        run_program(seed, steps);
}

TEST_MAIN()
