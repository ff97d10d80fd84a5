/* Handles whose references live on several threads while the loop runs; and memory that is used again. */
#include "harness.h"

#include <sched.h>

enum { THREADS = 3 };

TEST(a_weak_reference_does_not_follow_to_what_comes_in_its_place) {
    evl_loop *loop = manual_loop();
    int i;
    for (i = 0; i < 100; i++) {
        struct probe p = probe_named(NULL, loop), q = probe_named(NULL, loop);
        evl_handle *first = NULL, *second = NULL;
        evl_timer *timer = NULL;
        evl_weak_handle *weak = NULL;
        CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &first), 0);
        CHECK_CODE(evl_handle_weak(first, &weak), 0);
        if (i % 2) {
            CHECK_CODE(evl_handle_schedule(first), 0);
            CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        }
        evl_handle_unref(first);
        CHECK_PROBE(p, i % 2, 1);
        CHECK_CODE(evl_handle_new(loop, probe_call, &q, probe_free, NULL, &second), 0); /* most likely in the same place */
        CHECK_CODE(evl_loop_call_later(loop, 1, probe_call, &q, probe_free, NULL, &timer), 0);
        CHECK(evl_weak_handle_upgrade(weak) == NULL);
        evl_handle_unref(second);
        evl_timer_cancel(timer);
        evl_timer_unref(timer);
        evl_weak_handle_free(weak);
        CHECK_PROBE(q, 0, 2);
    }
    end_loop(loop);
}

TEST(a_weak_reference_outlives_loop_and_handle) {
    evl_loop *loop = manual_loop();
    evl_weak_handle *weak = NULL, *timers = NULL;
    evl_handle *handle = NULL;
    evl_timer *timer = NULL;
    CHECK_CODE(evl_loop_call_soon(loop, nothing, NULL, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_loop_call_later(loop, 1, nothing, NULL, NULL, NULL, &timer), 0);
    CHECK_CODE(evl_handle_weak(handle, &weak), 0);
    CHECK_CODE(evl_handle_weak(evl_timer_as_handle(timer), &timers), 0);
    evl_handle_unref(handle);
    evl_timer_unref(timer);
    end_loop(loop);
    CHECK(evl_weak_handle_upgrade(weak) == NULL);
    CHECK(evl_weak_handle_upgrade(timers) == NULL);
    evl_weak_handle_free(weak);
    evl_weak_handle_free(timers);
}

struct worker {
    evl_loop *loop;
    int count, calls, frees;
    int *running;
};

static void worker_call(void *arg) {
    ((struct worker *)arg)->calls++; /* the loop's thread only */
}

static void worker_free(void *arg) {
    __atomic_add_fetch(&((struct worker *)arg)->frees, 1, __ATOMIC_SEQ_CST);
}

/* Posts with a handle each, and plays with references while the loop runs them. */
static void *post_with_handles(void *arg) {
    struct worker *w = (struct worker *)arg;
    evl_handle *kept[16] = {NULL};
    char text[200];
    int i;
    for (i = 0; i < w->count; i++) {
        evl_handle *handle = NULL;
        evl_weak_handle *weak = NULL;
        CHECK_CODE(evl_loop_call_soon_threadsafe(w->loop, worker_call, w, worker_free, NULL, &handle), 0);
        CHECK(evl_handle_get_loop(handle) == w->loop);
        if (i % 3 == 0) {
            CHECK_CODE(evl_handle_weak(handle, &weak), 0);
            CHECK_INT(evl_handle_cancelled(handle), 0);
        }
        evl_handle_unref(kept[i % 16]);
        kept[i % 16] = handle;
        if (weak) {
            evl_handle *strong = evl_weak_handle_upgrade(weak);
            CHECK(strong == handle);
            evl_handle_unref(strong);
            evl_weak_handle_free(weak);
        }
        if (i % 64 == 0)
            CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    }
    for (i = 0; i < 16; i++)
        evl_handle_unref(kept[i]);
    if (__atomic_sub_fetch(w->running, 1, __ATOMIC_SEQ_CST) == 0)
        CHECK_CODE(evl_loop_stop_threadsafe(w->loop), 0);
    return NULL;
}

TEST(posted_handles_are_released_by_their_threads_while_the_loop_runs) {
    evl_loop *loop = real_loop();
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    int i, running = THREADS, count = under_valgrind() ? 500 : 20000;
    for (i = 0; i < THREADS; i++) {
        memset(&workers[i], 0, sizeof workers[i]);
        workers[i].loop = loop;
        workers[i].count = count;
        workers[i].running = &running;
        CHECK(pthread_create(&threads[i], NULL, post_with_handles, &workers[i]) == 0);
    }
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    for (i = 0; i < THREADS; i++) {
        CHECK_INT(workers[i].calls, count);
        CHECK_INT(workers[i].frees, count);
    }
    end_loop(loop);
}

/* A ring through which the loop's thread gives references away. */
struct ring {
    evl_loop *loop;
    evl_handle *items[256];
    unsigned head, tail;
    int done, scheduled, calls, frees, target;
};

static void ring_call(void *arg) {
    ((struct ring *)arg)->calls++;
}

static void ring_free(void *arg) {
    __atomic_add_fetch(&((struct ring *)arg)->frees, 1, __ATOMIC_SEQ_CST);
}

static void ring_fill(void *arg) {
    struct ring *r = (struct ring *)arg;
    while (r->head - __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE) < 256 && r->scheduled < r->target) {
        evl_handle *handle = NULL;
        evl_timer *timer = NULL;
        if (r->scheduled % 2) {
            CHECK_CODE(evl_loop_call_later(r->loop, r->scheduled % 3 ? 0 : EVL_SECONDS(100), ring_call, r, ring_free, NULL,
                                           &timer),
                       0);
            handle = evl_timer_as_handle(timer);
            if (r->scheduled % 3 == 0)
                CHECK_CODE(evl_handle_cancel(handle), 0);
        } else {
            CHECK_CODE(evl_loop_call_soon(r->loop, ring_call, r, ring_free, NULL, &handle), 0);
        }
        r->scheduled++;
        r->items[r->head % 256] = handle;
        __atomic_store_n(&r->head, r->head + 1, __ATOMIC_RELEASE);
    }
    if (r->scheduled < r->target) {
        CHECK_CODE(evl_loop_call_soon(r->loop, ring_fill, r, NULL, NULL, NULL), 0);
    } else {
        __atomic_store_n(&r->done, 1, __ATOMIC_RELEASE);
        CHECK_CODE(evl_loop_call_soon(r->loop, stop_loop, r->loop, NULL, NULL, NULL), 0);
    }
}

static void *ring_drain(void *arg) {
    struct ring *r = (struct ring *)arg;
    for (;;) {
        int done = __atomic_load_n(&r->done, __ATOMIC_ACQUIRE);
        while (r->tail != __atomic_load_n(&r->head, __ATOMIC_ACQUIRE)) {
            evl_handle_unref(r->items[r->tail % 256]); /* often the last one, of a handle that ran or was cancelled */
            __atomic_store_n(&r->tail, r->tail + 1, __ATOMIC_RELEASE);
        }
        if (done)
            return NULL;
        sched_yield();
    }
}

TEST(another_thread_drops_the_references_of_a_running_loop) {
    static struct ring ring;
    pthread_t thread;
    memset(&ring, 0, sizeof ring);
    ring.loop = real_loop();
    ring.target = under_valgrind() ? 3000 : 200000;
    REQUIRE(pthread_create(&thread, NULL, ring_drain, &ring) == 0);
    CHECK_CODE(evl_loop_call_soon(ring.loop, ring_fill, &ring, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(ring.loop), 0);
    pthread_join(thread, NULL);
    CHECK(evl_loop_run_until_idle(ring.loop) >= 0);
    CHECK_INT(ring.frees, ring.target);
    CHECK(ring.calls < ring.target && ring.calls >= ring.target / 2);
    end_loop(ring.loop);
    CHECK_INT(ring.frees, ring.target);
}

static void *unref_loop_later(void *arg) {
    evl_loop *loop = (evl_loop *)arg;
    while (!evl_loop_is_running(loop))
        sched_yield();
    CHECK_CODE(evl_loop_stop_threadsafe(loop), 0);
    evl_loop_unref(loop);
    return NULL;
}

TEST(loop_references_race_with_the_end_of_a_run) {
    int i, rounds = under_valgrind() ? 20 : 500;
    for (i = 0; i < rounds; i++) {
        evl_loop *loop = real_loop();
        struct probe data = probe_named(NULL, NULL), p = probe_named(NULL, NULL);
        pthread_t thread;
        CHECK_CODE(evl_loop_set_data(loop, &data, probe_free), 0);
        CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(100), probe_call, &p, probe_free, NULL, NULL), 0);
        evl_loop_ref(loop);
        REQUIRE(pthread_create(&thread, NULL, unref_loop_later, loop) == 0);
        CHECK_CODE(evl_loop_run_forever(loop), 0);
        evl_loop_unref(loop);
        pthread_join(thread, NULL);
        CHECK_INT(data.frees, 1);
        CHECK_PROBE(p, 0, 1);
    }
}

TEST_MAIN()
