/*
 * Readers of descriptors for each library behind the same few inline functions, for pipes.c and fd_rearm.c.
 *
 *   peer_open(n, mode)   makes the loop and room for n readers
 *   peer_watch(i, fd)    calls readable(i) of the program whenever fd is readable, level-triggered
 *   peer_rearm(i)        removes the reader and adds it again
 *   peer_run()           runs until peer_stop, which a callback calls
 *   peer_close()
 *   PEER_WATCH           what the library watches by, in mode 0
 *   PEER_REARMS(X)       its modes for rearming, as X(mode, what it is done by)
 */
#ifndef BENCH_WATCHERS_H
#define BENCH_WATCHERS_H

#include "bench.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

static void readable(size_t i);

/* --- evl */

#if defined(BENCH_EVL)

#define PEER_WATCH "add_reader"
#define PEER_REARMS(X) X(0, "remove_reader, add_reader")

static struct {
    evl_loop *loop;
    int *fds;
} peer;

static inline void peer_on_readable(void *arg) {
    readable((size_t)arg);
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    must(evl_loop_new(NULL, &peer.loop));
    peer.fds = bench_new(n, sizeof *peer.fds);
}

static inline void peer_watch(size_t i, int fd) {
    peer.fds[i] = fd;
    must(evl_loop_add_reader(peer.loop, fd, peer_on_readable, (void *)i, NULL, NULL, NULL));
}

static inline void peer_rearm(size_t i) {
    must(evl_loop_remove_reader(peer.loop, peer.fds[i]));
    must(evl_loop_add_reader(peer.loop, peer.fds[i], peer_on_readable, (void *)i, NULL, NULL, NULL));
}

static inline void peer_run(void) {
    must(evl_loop_run_forever(peer.loop));
}

static inline void peer_stop(void) {
    must(evl_loop_stop(peer.loop));
}

static inline void peer_close(void) {
    evl_loop_unref(peer.loop);
}

/* --- libuv: a poll handle each */

#elif defined(BENCH_LIBUV)

#define PEER_WATCH "uv_poll_start"
#define PEER_REARMS(X) X(0, "uv_poll_stop, uv_poll_start")

static struct {
    uv_loop_t loop;
    uv_poll_t *polls;
} peer;

static inline void peer_on_poll(uv_poll_t *poll, int status, int events) {
    (void)events;
    must(status);
    readable((size_t)poll->data);
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    must(uv_loop_init(&peer.loop));
    peer.polls = bench_new(n, sizeof *peer.polls);
}

static inline void peer_watch(size_t i, int fd) {
    must(uv_poll_init(&peer.loop, &peer.polls[i], fd));
    peer.polls[i].data = (void *)i;
    must(uv_poll_start(&peer.polls[i], UV_READABLE, peer_on_poll));
}

static inline void peer_rearm(size_t i) {
    must(uv_poll_stop(&peer.polls[i]));
    must(uv_poll_start(&peer.polls[i], UV_READABLE, peer_on_poll));
}

static inline void peer_run(void) {
    uv_run(&peer.loop, UV_RUN_DEFAULT);
}

static inline void peer_stop(void) {
    uv_stop(&peer.loop);
}

static inline void peer_close(void) {
    /* The handles are not closed: the process ends. */
}

/* --- libev */

#elif defined(BENCH_LIBEV)

#define PEER_WATCH "ev_io_start"
#define PEER_REARMS(X) X(0, "ev_io_stop, ev_io_start")

static struct {
    struct ev_loop *loop;
    ev_io *ios;
} peer;

static inline void peer_on_io(struct ev_loop *loop, ev_io *io, int events) {
    (void)loop;
    (void)events;
    readable((size_t)io->data);
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    peer.loop = must_have(ev_loop_new(EVFLAG_AUTO));
    peer.ios = bench_new(n, sizeof *peer.ios);
}

static inline void peer_watch(size_t i, int fd) {
    ev_io_init(&peer.ios[i], peer_on_io, fd, EV_READ);
    peer.ios[i].data = (void *)i;
    ev_io_start(peer.loop, &peer.ios[i]);
}

static inline void peer_rearm(size_t i) {
    ev_io_stop(peer.loop, &peer.ios[i]);
    ev_io_start(peer.loop, &peer.ios[i]);
}

static inline void peer_run(void) {
    ev_run(peer.loop, 0);
}

static inline void peer_stop(void) {
    ev_break(peer.loop, EVBREAK_ALL);
}

static inline void peer_close(void) {
    ev_loop_destroy(peer.loop);
}

/* --- libevent: with the plain backend, or with the one that keeps a list of changes until it polls */

#elif defined(BENCH_LIBEVENT)

enum { PLAIN, CHANGELIST };

#define PEER_WATCH "event_add"
#define PEER_REARMS(X) X(PLAIN, "event_del, event_add") X(CHANGELIST, "event_del, event_add, changelist")

static struct {
    struct event_base *base;
    struct event *events;
} peer;

static inline void peer_on_event(evutil_socket_t fd, short what, void *arg) {
    (void)fd;
    (void)what;
    readable((size_t)arg);
}

static inline void peer_open(size_t n, int mode) {
    struct event_config *config = must_have(event_config_new());
    if (mode == CHANGELIST)
        must(event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST));
    peer.base = must_have(event_base_new_with_config(config));
    event_config_free(config);
    peer.events = bench_new(n, sizeof *peer.events);
}

static inline void peer_watch(size_t i, int fd) {
    must(event_assign(&peer.events[i], peer.base, fd, EV_READ | EV_PERSIST, peer_on_event, (void *)i));
    must(event_add(&peer.events[i], NULL));
}

static inline void peer_rearm(size_t i) {
    must(event_del(&peer.events[i]));
    must(event_add(&peer.events[i], NULL));
}

static inline void peer_run(void) {
    must(event_base_dispatch(peer.base));
}

static inline void peer_stop(void) {
    must(event_base_loopbreak(peer.base));
}

static inline void peer_close(void) {
    event_base_free(peer.base);
}

/* --- sd-event */

#elif defined(BENCH_SD_EVENT)

#define PEER_WATCH "sd_event_add_io"
#define PEER_REARMS(X) X(0, "sd_event_source_set_enabled")

static struct {
    sd_event *loop;
    sd_event_source **sources;
    int stopped;
} peer;

static inline int peer_on_io(sd_event_source *source, int fd, uint32_t events, void *arg) {
    (void)source;
    (void)fd;
    (void)events;
    readable((size_t)arg);
    return 0;
}

static inline void peer_open(size_t n, int mode) {
    (void)mode;
    must(sd_event_new(&peer.loop));
    peer.sources = bench_new(n, sizeof(sd_event_source *));
}

static inline void peer_watch(size_t i, int fd) {
    must(sd_event_add_io(peer.loop, &peer.sources[i], fd, EPOLLIN, peer_on_io, (void *)i));
}

static inline void peer_rearm(size_t i) {
    must(sd_event_source_set_enabled(peer.sources[i], SD_EVENT_OFF));
    must(sd_event_source_set_enabled(peer.sources[i], SD_EVENT_ON));
}

static inline void peer_run(void) {
    for (peer.stopped = 0; !peer.stopped;)
        must(sd_event_run(peer.loop, UINT64_MAX));
}

static inline void peer_stop(void) {
    peer.stopped = 1;
}

static inline void peer_close(void) {
    /* The sources are not released: the process ends. */
}

/* --- raw: epoll, which is told at once; or a list of descriptors to tell it about before it waits */

#elif defined(BENCH_RAW)

enum { AT_ONCE, LIST };

#define PEER_WATCH "epoll"
#define PEER_REARMS(X) X(AT_ONCE, "EPOLL_CTL_DEL, EPOLL_CTL_ADD") X(LIST, "list of changes")

struct reader {
    int fd, listed;
    void (*call)(size_t i);
};

static struct {
    int poller, mode, stopped;
    struct reader *readers;
    size_t *changed, changes;
} peer;

static inline void peer_open(size_t n, int mode) {
    must(peer.poller = epoll_create1(EPOLL_CLOEXEC));
    peer.mode = mode;
    peer.readers = bench_new(n, sizeof *peer.readers);
    peer.changed = bench_new(n, sizeof *peer.changed);
}

static inline void peer_tell(size_t i, int operation) {
    struct epoll_event event = {EPOLLIN, {NULL}};
    event.data.u64 = i;
    must(epoll_ctl(peer.poller, operation, peer.readers[i].fd, &event));
}

static inline void peer_watch(size_t i, int fd) {
    peer.readers[i].fd = fd;
    peer.readers[i].call = readable;
    peer_tell(i, EPOLL_CTL_ADD);
}

static inline void peer_note(size_t i, void (*call)(size_t i)) {
    peer.readers[i].call = call;
    if (!peer.readers[i].listed) {
        peer.readers[i].listed = 1;
        peer.changed[peer.changes++] = i;
    }
}

static inline void peer_rearm(size_t i) {
    if (peer.mode == LIST) {
        peer_note(i, NULL);
        __asm__ volatile("" ::: "memory"); /* both are done */
        peer_note(i, readable);
    } else {
        peer_tell(i, EPOLL_CTL_DEL);
        peer_tell(i, EPOLL_CTL_ADD);
    }
}

static inline void peer_run(void) {
    struct epoll_event events[1024];
    for (peer.stopped = 0; !peer.stopped;) {
        for (; peer.changes > 0; peer.changes--) {
            size_t i = peer.changed[peer.changes - 1];
            peer.readers[i].listed = 0;
            peer_tell(i, EPOLL_CTL_MOD);
        }
        int n = epoll_wait(peer.poller, events, 1024, -1);
        must(n);
        for (int k = 0; k < n; k++)
            peer.readers[events[k].data.u64].call(events[k].data.u64);
    }
}

static inline void peer_stop(void) {
    peer.stopped = 1;
}

static inline void peer_close(void) {
    close(peer.poller);
}

#endif

struct pipe {
    int reader, writer;
};

/* So many pipes, which do not block. Raises the limit of open descriptors if it must. */
static inline struct pipe *open_pipes(size_t n) {
    struct rlimit limit;
    rlim_t needed = 2 * n + 64;
    must(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_cur < needed) {
        limit.rlim_cur = needed;
        limit.rlim_max = limit.rlim_max < needed ? needed : limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            bench_fail("%zu pipes need %llu descriptors: ulimit -n", n, (unsigned long long)needed);
    }
    struct pipe *pipes = bench_new(n, sizeof *pipes);
    for (size_t i = 0; i < n; i++) {
        int ends[2];
        must(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
        pipes[i].reader = ends[0];
        pipes[i].writer = ends[1];
    }
    return pipes;
}

static inline void write_byte(struct pipe pipe) {
    if (write(pipe.writer, "e", 1) != 1)
        bench_fail("write: %s", strerror(errno));
}

static inline void read_byte(struct pipe pipe) {
    char byte[2];
    ssize_t got = read(pipe.reader, byte, sizeof byte);
    if (got != 1)
        bench_fail("a reader was called and found %zd bytes", got);
}

#endif
