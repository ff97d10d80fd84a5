/* The last reference of a handle is given back on another thread: the loop's own thread never notices more than the release. */
#include "harness.h"

struct given {
    evl_loop *loop;
    evl_handle *handle;
    pthread_barrier_t barrier;
    int frees;
};

static void given_begin(struct given *g, evl_free_fn arg_free) {
    memset(g, 0, sizeof *g);
    g->loop = real_loop();
    CHECK(pthread_barrier_init(&g->barrier, NULL, 2) == 0);
    CHECK_CODE(evl_handle_new(g->loop, nothing, g, arg_free, NULL, &g->handle), 0);
}

static void meet(struct given *g) {
    pthread_barrier_wait(&g->barrier);
}

static void free_that_stops(void *arg) {
    struct given *g = (struct given *)arg;
    g->frees++;
    CHECK_CODE(evl_loop_stop(g->loop), 0); /* it runs on the loop's thread */
}

static void *unref_between(void *arg) {
    struct given *g = (struct given *)arg;
    meet(g);
    evl_handle_unref(g->handle);
    meet(g);
    return NULL;
}

static void let_unref(void *arg) {
    meet((struct given *)arg);
    meet((struct given *)arg);
}

TEST(stop_from_an_arg_free_is_noticed_before_the_loop_sleeps) {
    struct given g;
    pthread_t thread;
    given_begin(&g, free_that_stops);
    CHECK_CODE(evl_loop_call_soon(g.loop, let_unref, &g, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, unref_between, &g) == 0);
    CHECK_CODE(evl_loop_run_forever(g.loop), 0);
    pthread_join(thread, NULL);
    CHECK_INT(g.frees, 1);
    end_loop(g.loop);
    pthread_barrier_destroy(&g.barrier);
}

static void free_that_waits(void *arg) {
    meet((struct given *)arg);
    meet((struct given *)arg);
    ((struct given *)arg)->frees++;
}

static void *unref_it(void *arg) {
    evl_handle_unref(((struct given *)arg)->handle);
    return NULL;
}

TEST(a_loop_is_used_and_given_up_while_another_thread_is_inside_an_unref) {
    struct given g;
    struct probe p;
    pthread_t thread;
    given_begin(&g, free_that_waits);
    p = probe_named(NULL, g.loop);
    CHECK_CODE(evl_loop_call_later(g.loop, EVL_SECONDS(1000), probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(g.loop, probe_call, &p, probe_free, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, unref_it, &g) == 0);
    meet(&g); /* the thread is in arg_free */
    CHECK_CODE(evl_loop_run_once(g.loop, 0), 1);
    CHECK_CODE(evl_loop_call_soon(g.loop, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_INT(g.frees, 0);
    evl_loop_unref(g.loop);
    meet(&g);
    pthread_join(thread, NULL);
    CHECK_INT(g.frees, 1);
    CHECK_PROBE(p, 1, 3);
    pthread_barrier_destroy(&g.barrier);
}

TEST(a_loop_is_closed_while_another_thread_is_inside_an_unref) {
    struct given g;
    struct probe p;
    pthread_t thread;
    given_begin(&g, free_that_waits);
    p = probe_named(NULL, g.loop);
    CHECK_CODE(evl_loop_call_soon(g.loop, probe_call, &p, probe_free, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, unref_it, &g) == 0);
    meet(&g);
    CHECK_CODE(evl_loop_close(g.loop), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_INT(g.frees, 0);
    meet(&g);
    pthread_join(thread, NULL);
    CHECK_INT(g.frees, 1);
    evl_loop_unref(g.loop);
    pthread_barrier_destroy(&g.barrier);
}

enum { MANY = 200000 };

struct crowd {
    evl_handle *handles[MANY];
    pthread_barrier_t barrier;
    int count, frees, done;
};

static void count_free(void *arg) {
    __atomic_add_fetch((int *)arg, 1, __ATOMIC_SEQ_CST);
}

static void *unref_all(void *arg) {
    struct crowd *c = (struct crowd *)arg;
    int i;
    pthread_barrier_wait(&c->barrier);
    for (i = 0; i < c->count; i++)
        evl_handle_unref(c->handles[i]);
    __atomic_store_n(&c->done, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

TEST(unrefs_of_another_thread_never_get_in_the_way) {
    static struct crowd c;
    evl_loop *loop = real_loop();
    pthread_t thread;
    int refused = 0, i;
    c.count = under_valgrind() ? 2000 : MANY;
    for (i = 0; i < c.count; i++)
        CHECK_CODE(evl_handle_new(loop, nothing, &c.frees, count_free, NULL, &c.handles[i]), 0);
    CHECK(pthread_barrier_init(&c.barrier, NULL, 2) == 0);
    REQUIRE(pthread_create(&thread, NULL, unref_all, &c) == 0);
    pthread_barrier_wait(&c.barrier);
    while (!__atomic_load_n(&c.done, __ATOMIC_SEQ_CST)) {
        refused += evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, NULL) != 0;
        refused += evl_loop_run_once(loop, 0) < 0;
    }
    pthread_join(thread, NULL);
    CHECK_INT(refused, 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    end_loop(loop);
    CHECK_INT(c.frees, c.count);
    pthread_barrier_destroy(&c.barrier);
}

TEST_MAIN()
