/* Context variables: what a request sets is seen by every callback it schedules, however they interleave, and by nobody else. */
#include <evl.h>
#include <stdio.h>
#include <stdlib.h>

struct request {
    const char *user;
    int64_t lookup_ns; /* how long its lookup takes */
};

static evl_loop *loop;
static evl_context_var *user;
static int open_requests;

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s: %s\n", what, evl_errname(code), evl_strerror(code));
        exit(1);
    }
}

/* Nobody passes the user here: it comes from the context. */
static void log_line(const char *message)
{
    void *name;

    must(evl_context_var_get(user, &name), "get"); /* borrowed */
    printf("[%s] %s\n", (const char *)name, message);
}

static void lookup_done(void *arg)
{
    (void)arg;
    log_line("lookup done");
    if (--open_requests == 0)
        must(evl_loop_stop(loop), "stop");
}

static void start_request(void *arg)
{
    struct request *request = arg;
    int64_t now;

    must(evl_context_var_set(user, (void *)(uintptr_t)request->user, NULL, NULL), "set");
    log_line("request started");
    must(evl_loop_now(loop, &now), "now"); /* the iteration's time: the same for all three */
    must(evl_loop_call_at(loop, now + request->lookup_ns, lookup_done, NULL, NULL, NULL, NULL), "call at");
}

int main(void)
{
    struct request requests[] = {{"alice", EVL_MS(30)}, {"bob", EVL_MS(10)}, {"carol", EVL_MS(20)}};
    size_t i;

    must(evl_loop_new(NULL, &loop), "new loop");
    must(evl_context_var_new("user", "nobody", NULL, &user), "new variable");

    for (i = 0; i < sizeof requests / sizeof *requests; i++) {
        evl_context *context;

        must(evl_context_copy_current(&context), "copy context");
        must(evl_loop_call_soon(loop, start_request, &requests[i], NULL, context, NULL), "call soon");
        evl_context_unref(context); /* the callback has a reference */
        open_requests++;
    }
    must(evl_loop_run_forever(loop), "run");
    log_line("back in main");

    evl_context_var_unref(user);
    evl_loop_unref(loop);
    return 0;
}
