/*
 * future: a future is made, given a callback and a result, and released by its maker; its callback, called by the loop,
 * makes the next one. task: a step that awaits a future which is done, so that the loop calls the step again.
 *
 * The raw variant is what a program would do by itself: it allocates a record with a callback, queues it, takes it off
 * the queue, calls the callback, and frees it.
 */
#include "bench.h"

#if defined(BENCH_EVL)

static evl_loop *event_loop;
static evl_future *ready;
static uint64_t left, calls;

static void one_done(evl_future *done, void *arg) {
    evl_future *next;
    (void)arg;
    must(evl_future_result(done, NULL));
    calls++;
    if (--left == 0) {
        must(evl_loop_stop(event_loop));
        return;
    }
    must(evl_future_new(event_loop, &next));
    must(evl_future_add_done_callback(next, one_done, NULL, NULL, NULL));
    must(evl_future_set_result(next, NULL, NULL));
    evl_future_unref(next);
}

static int64_t work_futures(uint64_t *count) {
    evl_future *first;
    left = *count;
    calls = 0;
    int64_t start = bench_clock();
    must(evl_future_new(event_loop, &first));
    must(evl_future_add_done_callback(first, one_done, NULL, NULL, NULL));
    must(evl_future_set_result(first, NULL, NULL));
    evl_future_unref(first);
    must(evl_loop_run_forever(event_loop));
    int64_t elapsed = bench_clock() - start;
    if (calls != *count)
        bench_fail("%llu callbacks, not %llu", (unsigned long long)calls, (unsigned long long)*count);
    return elapsed;
}

static int step(evl_task *task, int status, void *arg, evl_future **next) {
    (void)task, (void)arg;
    must(status);
    calls++;
    if (--left > 0)
        *next = evl_future_ref(ready);
    return 0;
}

static int64_t work_task(uint64_t *count) {
    evl_task *task;
    left = *count;
    calls = 0;
    int64_t start = bench_clock();
    must(evl_task_new(event_loop, step, NULL, NULL, NULL, &task));
    must(evl_loop_run_until_complete(event_loop, evl_task_as_future(task)));
    evl_task_unref(task);
    int64_t elapsed = bench_clock() - start;
    if (calls != *count)
        bench_fail("%llu steps, not %llu", (unsigned long long)calls, (unsigned long long)*count);
    return elapsed;
}

enum { FUTURES, STEPS };

static void measure(const struct bench_case *one) {
    must(evl_loop_new(NULL, &event_loop));
    must(evl_future_new(event_loop, &ready));
    must(evl_future_set_result(ready, NULL, NULL));
    bench_result(one, one->workload, "ns", bench_per_operation(one->mode == STEPS ? work_task : work_futures, 10000));
    evl_future_unref(ready);
    must(evl_loop_close(event_loop));
    evl_loop_unref(event_loop);
}

static const struct bench_case cases[] = {
    {"future", "evl_future", measure, 0, FUTURES, 0},
    {"task", "evl_task", measure, 0, STEPS, 0},
};

BENCH_MAIN(cases)

#elif defined(BENCH_RAW)

struct record {
    struct record *next;
    void (*callback)(struct record *record);
    void *result;
};

static struct record *head, **tail = &head;
static uint64_t left, calls;

static void record_done(struct record *done);

static void new_record(void) {
    struct record *record = must_have(malloc(sizeof *record));
    record->callback = record_done;
    record->result = record;
    record->next = NULL;
    *tail = record;
    tail = &record->next;
}

static void record_done(struct record *done) {
    calls += done->result == done;
    if (--left > 0)
        new_record();
}

static int64_t work(uint64_t *count) {
    left = *count;
    calls = 0;
    int64_t start = bench_clock();
    new_record();
    while (head != NULL) {
        struct record *first = head;
        head = first->next;
        if (head == NULL)
            tail = &head;
        first->callback(first);
        free(first);
    }
    int64_t elapsed = bench_clock() - start;
    if (calls != *count)
        bench_fail("%llu callbacks, not %llu", (unsigned long long)calls, (unsigned long long)*count);
    return elapsed;
}

static void measure(const struct bench_case *one) {
    bench_result(one, one->workload, "ns", bench_per_operation(work, 10000));
}

static const struct bench_case cases[] = {{"future", "malloc and a list", measure, 0, 0, 0}};

BENCH_MAIN(cases)

#else

BENCH_NO_CASES()

#endif
