/* For soon.c, raw: a ring, and a clock read a pass; for handles a malloc a call, freed when it has run */

enum { RING, MALLOC };

struct raw_handle {
    size_t index, references;
};

static struct raw_handle **handles;
static int mechanism, stopped;
static volatile int64_t now;

static void raw_handle_job(size_t index) {
    struct raw_handle *handle = handles[index];
    handles[index] = NULL;
    if (--handle->references == 0)
        free(handle);
    if (again(index))
        soon_schedule(index);
}

static void soon_open(size_t n, int mode) {
    mechanism = mode;
    fifo_open(n);
    handles = bench_new(n, sizeof(struct raw_handle *));
}

static void soon_schedule(size_t index) {
    if (mechanism == RING) {
        fifo_push(fifo_job, index);
    } else {
        struct raw_handle *handle = must_have(malloc(sizeof *handle));
        handle->index = index;
        handle->references = 1;
        handles[index] = handle;
        fifo_push(raw_handle_job, index);
    }
}

static void soon_run(void) {
    for (stopped = 0; !stopped;) {
        now = bench_clock();
        fifo_run();
    }
}

static void soon_stop(void) {
    stopped = 1;
}

static void soon_close(void) {
    free(handles);
}

static const struct bench_case cases[] = {
    {"soon_10000", "ring", measure, 10000, RING, 0},
    {"soon_100", "ring", measure, 100, RING, 0},
    {"soon_1", "ring, a clock read each", measure, 1, RING, 0},
    {"soon_handle_10000", "ring, malloc each", measure, 10000, MALLOC, 0},
};
