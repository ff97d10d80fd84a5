/* For executor.c, raw: one thread, two rings under a mutex, a condition variable one way and an eventfd the other */

#include <pthread.h>
#include <sys/eventfd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static struct ring {
    size_t slots[MOST], first, length;
} waiting, done;
static pthread_t thread;
static int fd, stopped, ended;

static void push(struct ring *ring, size_t slot) {
    ring->slots[(ring->first + ring->length++) % MOST] = slot;
}

static size_t pop(struct ring *ring) {
    size_t slot = ring->slots[ring->first];
    ring->first = (ring->first + 1) % MOST;
    ring->length--;
    return slot;
}

static void *run_jobs(void *arg) {
    static const uint64_t one = 1;
    pthread_mutex_lock(&lock);
    for (;;) {
        while (waiting.length == 0 && !ended)
            pthread_cond_wait(&filled, &lock);
        if (waiting.length == 0)
            break;
        size_t slot = pop(&waiting);
        pthread_mutex_unlock(&lock);
        job(slot);
        pthread_mutex_lock(&lock);
        push(&done, slot);
        if (done.length == 1 && write(fd, &one, sizeof one) < 0)
            bench_fail("write: %s", strerror(errno));
    }
    pthread_mutex_unlock(&lock);
    return arg;
}

static void executor_open(int mode) {
    (void)mode;
    must(fd = eventfd(0, EFD_CLOEXEC));
    if (pthread_create(&thread, NULL, run_jobs, NULL) != 0)
        bench_fail("no thread");
}

static void executor_submit(size_t slot) {
    pthread_mutex_lock(&lock);
    push(&waiting, slot);
    if (waiting.length == 1)
        pthread_cond_signal(&filled);
    pthread_mutex_unlock(&lock);
}

static void executor_run(void) {
    static struct ring taken;
    for (stopped = 0; !stopped;) {
        uint64_t count;
        if (read(fd, &count, sizeof count) < 0)
            bench_fail("read: %s", strerror(errno));
        pthread_mutex_lock(&lock);
        taken.first = taken.length = 0;
        while (done.length > 0)
            push(&taken, pop(&done));
        pthread_mutex_unlock(&lock);
        while (taken.length > 0)
            told(pop(&taken));
    }
}

static void executor_stop(void) {
    stopped = 1;
}

static void executor_close(void) {
    pthread_mutex_lock(&lock);
    ended = 1;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    close(fd);
}

#define VARIANTS(workload, jobs) {workload, "a mutex, a condition and an eventfd", measure, jobs, 0, EVERY_CORE}
