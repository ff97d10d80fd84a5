/* For post.c, sd-event: an eventfd, for it has nothing for threads */

#include <sys/epoll.h>
#include <sys/eventfd.h>

static sd_event *loop;
static sd_event_source *source;
static int fd, stopped;

static int on_readable(sd_event_source *one, int number, uint32_t events, void *arg) {
    uint64_t count;
    (void)one;
    (void)events;
    (void)arg;
    if (read(number, &count, sizeof count) < 0)
        bench_fail("read: %s", strerror(errno));
    queue_run();
    return 0;
}

static void post_open(int mode) {
    (void)mode;
    must(sd_event_new(&loop));
    must(fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    must(sd_event_add_io(loop, &source, fd, EPOLLIN, on_readable, NULL));
}

static void post(size_t thread, uint32_t number) {
    static const uint64_t one = 1;
    if (queue_push(arrived, message_of(thread, number)) && write(fd, &one, sizeof one) < 0)
        bench_fail("write: %s", strerror(errno));
}

static void post_run(void) {
    for (stopped = 0; !stopped;)
        must(sd_event_run(loop, UINT64_MAX));
}

static void post_stop(void) {
    stopped = 1;
}

static void post_close(void) {
    sd_event_source_unref(source);
    sd_event_unref(loop);
    close(fd);
}

#define VARIANTS(workload, threads) {workload, "eventfd, array under a mutex", measure, threads, 0, EVERY_CORE}
