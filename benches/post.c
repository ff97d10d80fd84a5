/*
 * post_1 and post_4: so many threads post 2,000,000 messages to a running loop, together. A message is a callback with
 * its argument; every one must arrive once, and those of one thread in their order.
 *
 * Where a library can only be woken from another thread, it is given what its users write: callbacks in an array under
 * a mutex, which the loop swaps for an empty one, and a wake-up by whoever finds the array empty. The time is from the
 * moment when the threads begin until the last callback has run; the loop's thread has a core of its own if there is
 * another.
 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>

enum { MESSAGES = 2000000, THREADS = 4, ROUNDS = 3 };

static size_t threads;
static uint32_t per_thread, expected[THREADS];
static uint64_t received, disorder;
static pthread_barrier_t begin;
static cpu_set_t loop_core, other_cores;

/* What each library does, below. A message is the number of its thread and its own number. */
static void post_open(int mode);
static void post(size_t thread, uint32_t number);
static void post_run(void);
static void post_stop(void); /* called by the last callback */
static void post_close(void);

static inline void *message_of(size_t thread, uint32_t number) {
    return (void *)(thread << 32 | number);
}

static void arrived(void *message) {
    size_t thread = (size_t)message >> 32;
    disorder += expected[thread]++ != (uint32_t)(size_t)message;
    if (++received == (uint64_t)threads * per_thread)
        post_stop();
}

static void *produce(void *arg) {
    pthread_setaffinity_np(pthread_self(), sizeof other_cores, &other_cores);
    pthread_barrier_wait(&begin);
    for (uint32_t number = 0; number < per_thread; number++)
        post((size_t)arg, number);
    return NULL;
}

static void share_cores(void) {
    must(sched_getaffinity(0, sizeof other_cores, &other_cores));
    CPU_ZERO(&loop_core);
    for (size_t core = CPU_SETSIZE; core-- > 0;) {
        if (CPU_ISSET(core, &other_cores)) {
            CPU_SET(core, &loop_core);
            if (CPU_COUNT(&other_cores) > 1)
                CPU_CLR(core, &other_cores);
            break;
        }
    }
    must(sched_setaffinity(0, sizeof loop_core, &loop_core));
}

static int64_t round_of_messages(void) {
    pthread_t producers[THREADS];
    received = 0;
    memset(expected, 0, sizeof expected);
    for (size_t i = 0; i < threads; i++)
        if (pthread_create(&producers[i], NULL, produce, (void *)i) != 0)
            bench_fail("no thread");
    pthread_barrier_wait(&begin);
    int64_t start = bench_clock();
    post_run();
    int64_t elapsed = bench_clock() - start;
    for (size_t i = 0; i < threads; i++)
        pthread_join(producers[i], NULL);
    if (received != MESSAGES || disorder != 0)
        bench_fail("%llu of %d messages arrived, %llu out of order", (unsigned long long)received, MESSAGES,
                   (unsigned long long)disorder);
    return elapsed;
}

static void measure(const struct bench_case *one) {
    threads = one->n;
    per_thread = (uint32_t)(MESSAGES / threads);
    share_cores();
    bench_keep_memory();
    pthread_barrier_init(&begin, NULL, (unsigned)threads + 1);
    post_open(one->mode);
    round_of_messages(); /* warms the memory */
    int64_t elapsed = 0;
    for (int i = 0; i < ROUNDS; i++)
        elapsed += round_of_messages();
    post_close();
    bench_result(one, one->workload, "ns", (double)elapsed / ROUNDS / MESSAGES);
}

/* --- callbacks in an array under a mutex, for the libraries that have nothing like it */

struct message {
    void (*call)(void *arg);
    void *arg;
};

struct batch {
    struct message *at;
    size_t length, capacity;
};

static struct {
    pthread_mutex_t lock;
    struct batch waiting, running;
} queue = {PTHREAD_MUTEX_INITIALIZER, {NULL, 0, 0}, {NULL, 0, 0}};

/* Returns whether the loop must be woken. */
static inline int queue_push(void (*call)(void *arg), void *arg) {
    pthread_mutex_lock(&queue.lock);
    struct batch *batch = &queue.waiting;
    if (batch->length == batch->capacity) {
        batch->capacity = batch->capacity == 0 ? 1024 : batch->capacity * 2;
        batch->at = must_have(realloc(batch->at, batch->capacity * sizeof *batch->at));
    }
    batch->at[batch->length++] = (struct message){call, arg};
    int first = batch->length == 1;
    pthread_mutex_unlock(&queue.lock);
    return first;
}

static inline void queue_run(void) {
    pthread_mutex_lock(&queue.lock);
    struct batch batch = queue.waiting;
    queue.waiting = queue.running;
    pthread_mutex_unlock(&queue.lock);
    for (size_t i = 0; i < batch.length; i++)
        batch.at[i].call(batch.at[i].arg);
    batch.length = 0;
    queue.running = batch;
}

#include BENCH_PART(post)

static const struct bench_case cases[] = {
    VARIANTS("post_1", 1),
    VARIANTS("post_4", 4),
};

BENCH_MAIN(cases)
