/* Posts from another thread when there is no more memory. This program has its own malloc, which valgrind would not bear. */
#include "harness.h"

#include <dlfcn.h>
#include <stddef.h>

enum { POSTS = 3000 };

/* Memory for more than a few posts cannot be had. */
static volatile int scarce;

void *malloc(size_t size) {
    static void *(*real)(size_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "malloc");
    return scarce && size >= 1000 ? NULL : real(size);
}

static struct {
    evl_loop *loop;
    int sent, refused, frees, runs;
} posts;

static void count_run(void *arg) {
    (void)arg;
    posts.runs++;
}

static void count_free(void *arg) {
    (void)arg;
    posts.frees++;
}

/* What cannot be sent is released before the call returns. */
static void *post_many(void *arg) {
    int i;
    scarce = arg != NULL;
    for (i = 0; i < POSTS; i++) {
        evl_handle *handle = NULL;
        int frees = posts.frees, code;
        code = evl_loop_call_soon_threadsafe(posts.loop, count_run, arg, count_free, NULL, &handle);
        if (code == 0) {
            posts.sent++;
            evl_handle_unref(handle);
            continue;
        }
        posts.refused++;
        if (code != -ENOMEM || handle != NULL || posts.frees != frees + 1) {
            scarce = 0;
            CHECK_CODE(code, -ENOMEM);
            CHECK(handle == NULL);
            CHECK_INT(posts.frees, frees + 1);
            break;
        }
    }
    scarce = 0;
    return NULL;
}

/* The loop's thread is inside of a callback meanwhile. */
static void have_many_posted(void *arg) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, post_many, arg) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

TEST(handles_that_cannot_be_sent) {
    posts.loop = real_loop();
    CHECK_CODE(evl_loop_call_soon(posts.loop, have_many_posted, NULL, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_until_idle(posts.loop) >= 0);
    CHECK_INT(posts.runs, POSTS);
    CHECK_INT(posts.frees, POSTS);
    CHECK_CODE(evl_loop_call_soon(posts.loop, have_many_posted, &posts, NULL, NULL, NULL), 0);
    CHECK(evl_loop_run_until_idle(posts.loop) >= 0);
    CHECK(posts.refused > 0);
    CHECK_INT(posts.runs, posts.sent);
    CHECK_INT(posts.frees, 2 * POSTS);
    end_loop(posts.loop);
}

TEST_MAIN()
