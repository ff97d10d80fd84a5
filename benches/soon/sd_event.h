/*
 * For soon.c, sd-event: a new defer source for every call. One that is enabled again keeps its old place in the queue
 * and can starve the others, so that it serves only where it is alone.
 */

enum { NEW, AGAIN };

static sd_event *loop;
static sd_event_source **sources;
static int mechanism;

static int on_new(sd_event_source *source, void *arg) {
    size_t index = (size_t)arg;
    sources[index] = NULL;
    sd_event_source_unref(source);
    if (again_in_any_order(index))
        must(sd_event_add_defer(loop, &sources[index], on_new, arg));
    return 0;
}

static int on_again(sd_event_source *source, void *arg) {
    if (again_in_any_order((size_t)arg))
        must(sd_event_source_set_enabled(source, SD_EVENT_ONESHOT));
    return 0;
}

static void soon_open(size_t n, int mode) {
    mechanism = mode;
    must(sd_event_new(&loop));
    sources = bench_new(n, sizeof(sd_event_source *));
}

static void soon_schedule(size_t index) {
    if (sources[index] != NULL)
        must(sd_event_source_set_enabled(sources[index], SD_EVENT_ONESHOT));
    else
        must(sd_event_add_defer(loop, &sources[index], mechanism == NEW ? on_new : on_again, (void *)index));
}

static void soon_run(void) {
    while (soon.passes_left > 0)
        must(sd_event_run(loop, UINT64_MAX));
}

static void soon_stop(void) {
}

static void soon_close(void) {
    for (size_t i = 0; i < soon.n; i++)
        sd_event_source_unref(sources[i]);
    sd_event_unref(loop);
    free(sources);
}

static const struct bench_case cases[] = {
    {"soon_10000", "sd_event_add_defer", measure, 10000, NEW, 0},
    {"soon_100", "sd_event_add_defer", measure, 100, NEW, 0},
    {"soon_1", "sd_event_add_defer", measure, 1, NEW, 0},
    {"soon_1", "defer enabled again", measure, 1, AGAIN, 0},
    {"soon_handle_10000", "sd_event_add_defer", measure, 10000, NEW, 0},
};
