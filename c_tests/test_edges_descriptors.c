/* A loop whose program has no descriptor left when it first sleeps: it runs all the same. */
#include "harness.h"

#include <fcntl.h>
#include <sys/resource.h>

static int taken[4096], taken_count;

/* Takes every descriptor that there is. */
static void take_all(void *arg) {
    int fd;
    (void)arg;
    while (taken_count < 4096 && (fd = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
        taken[taken_count++] = fd;
    CHECK(errno == EMFILE);
}

static void give_all_back(void) {
    while (taken_count > 0)
        close(taken[--taken_count]);
}

static void few_descriptors(void) {
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 64;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

static int ticks;

static void stop(void *arg) {
    evl_loop_stop(arg);
}

static void tick(void *arg) {
    if (++ticks == 3)
        evl_loop_stop(arg);
}

TEST(timers_and_descriptors) {
    evl_loop *loop;
    evl_future *sleeping;
    int ends[2];
    few_descriptors();
    CHECK(pipe(ends) == 0);
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    take_all(NULL);
    CHECK_CODE(evl_loop_call_every(loop, EVL_MS(15), tick, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK(ticks == 3);
    CHECK_CODE(evl_sleep(loop, EVL_MS(25), &sleeping), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, sleeping), 0);
    evl_future_unref(sleeping);
    CHECK_CODE(evl_loop_add_reader(loop, ends[0], stop, loop, NULL, NULL, NULL), 0);
    CHECK(write(ends[1], "x", 1) == 1);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    give_all_back();
    evl_loop_close(loop);
    evl_loop_unref(loop);
    close(ends[0]), close(ends[1]);
}

static void *post(void *arg) {
    usleep(30000);
    CHECK_CODE(evl_loop_stop_threadsafe(arg), 0);
    evl_loop_unref(arg);
    return NULL;
}

TEST(posts_of_other_threads) {
    evl_loop *loop;
    pthread_t thread;
    few_descriptors();
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    CHECK(pthread_create(&thread, NULL, post, evl_loop_ref(loop)) == 0);
    take_all(NULL);
    CHECK_CODE(evl_loop_run_forever(loop), 0); /* nothing but the post can end it */
    give_all_back();
    CHECK(pthread_join(thread, NULL) == 0);
    evl_loop_close(loop);
    evl_loop_unref(loop);
}

TEST_MAIN()
