/* For post.c, libuv: an async handle; also with what its users often write, a list of messages that are allocated */

enum { ARRAY, LIST };

struct link {
    struct link *next;
    struct message message;
};

static uv_loop_t loop;
static uv_async_t async;
static struct link *first, **end = &first;
static int mechanism;

static int list_push(void (*call)(void *arg), void *arg) {
    struct link *link = must_have(malloc(sizeof *link));
    link->next = NULL;
    link->message = (struct message){call, arg};
    pthread_mutex_lock(&queue.lock);
    int empty = first == NULL;
    *end = link;
    end = &link->next;
    pthread_mutex_unlock(&queue.lock);
    return empty;
}

static void list_run(void) {
    pthread_mutex_lock(&queue.lock);
    struct link *link = first;
    first = NULL;
    end = &first;
    pthread_mutex_unlock(&queue.lock);
    while (link != NULL) {
        struct link *next = link->next;
        link->message.call(link->message.arg);
        free(link);
        link = next;
    }
}

static void on_async(uv_async_t *handle) {
    (void)handle;
    if (mechanism == ARRAY)
        queue_run();
    else
        list_run();
}

static void post_open(int mode) {
    mechanism = mode;
    must(uv_loop_init(&loop));
    must(uv_async_init(&loop, &async, on_async));
}

static void post(size_t thread, uint32_t number) {
    void *message = message_of(thread, number);
    if (mechanism == ARRAY ? queue_push(arrived, message) : list_push(arrived, message))
        must(uv_async_send(&async));
}

static void post_run(void) {
    uv_run(&loop, UV_RUN_DEFAULT);
}

static void post_stop(void) {
    uv_stop(&loop);
}

static void post_close(void) {
    uv_close((uv_handle_t *)&async, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop));
}

#define VARIANTS(workload, threads)                                                                                   \
    {workload, "uv_async_send, array under a mutex", measure, threads, ARRAY, EVERY_CORE},                            \
        {workload, "uv_async_send, list under a mutex", measure, threads, LIST, EVERY_CORE}
