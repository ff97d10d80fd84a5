/* Other threads: posts, stops, what is refused while a loop runs, and references that race. */
#include "harness.h"

#include <semaphore.h>

enum { THREADS = 4 };

struct order {
    evl_loop *loop;
    int thread, count;
    int next;  /* the loop's thread */
    int wrong; /* the loop's thread */
    int frees;
    int *running;
};

struct item {
    struct order *order;
    int number;
};

static void item_call(void *arg) {
    struct item *item = (struct item *)arg;
    if (item->number != item->order->next)
        item->order->wrong++;
    item->order->next = item->number + 1;
}

static void item_free(void *arg) {
    __atomic_add_fetch(&((struct item *)arg)->order->frees, 1, __ATOMIC_SEQ_CST);
    free(arg);
}

static void *post_many(void *arg) {
    struct order *order = (struct order *)arg;
    int i, failed = 0;
    for (i = 0; i < order->count; i++) {
        struct item *item = (struct item *)malloc(sizeof *item);
        if (!item)
            abort();
        item->order = order;
        item->number = i;
        failed += evl_loop_call_soon_threadsafe(order->loop, item_call, item, item_free, NULL, NULL) != 0;
    }
    CHECK_INT(failed, 0);
    if (__atomic_sub_fetch(order->running, 1, __ATOMIC_SEQ_CST) == 0)
        CHECK_CODE(evl_loop_stop_threadsafe(order->loop), 0);
    return NULL;
}

TEST(four_threads_post_and_nothing_is_lost) {
    evl_loop *loop = real_loop();
    struct order orders[THREADS];
    pthread_t threads[THREADS];
    evl_metrics m;
    int i, running = THREADS, count = under_valgrind() ? 2000 : 50000;
    memset(orders, 0, sizeof orders);
    for (i = 0; i < THREADS; i++) {
        orders[i].loop = loop;
        orders[i].count = count;
        orders[i].running = &running;
        CHECK(pthread_create(&threads[i], NULL, post_many, &orders[i]) == 0);
    }
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    for (i = 0; i < THREADS; i++) {
        CHECK_INT(orders[i].next, count);
        CHECK_INT(orders[i].wrong, 0);
        CHECK_INT(orders[i].frees, count);
    }
    memset(&m, 0, sizeof m);
    m.size = sizeof m;
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    CHECK(m.posts >= (uint64_t)count * THREADS);
    end_loop(loop);
}

struct waker {
    evl_loop *loop;
    sem_t about_to_sleep;
    int kind;
    int rounds, calls;
};

static void tell_about_to_sleep(void *arg) {
    sem_post(&((struct waker *)arg)->about_to_sleep);
}

static void wake_call(void *arg) {
    ((struct waker *)arg)->calls++;
}

static void *wake_each_time(void *arg) {
    struct waker *w = (struct waker *)arg;
    int i;
    for (i = 0; i < w->rounds; i++) {
        while (sem_wait(&w->about_to_sleep) != 0)
            ;
        if (w->kind == 0)
            CHECK_CODE(evl_loop_call_soon_threadsafe(w->loop, wake_call, w, NULL, NULL, NULL), 0);
        else
            CHECK_CODE(evl_loop_stop_threadsafe(w->loop), 0);
    }
    return NULL;
}

TEST(a_post_wakes_a_sleeping_loop_every_time) {
    struct waker w;
    pthread_t thread;
    int i;
    memset(&w, 0, sizeof w);
    w.loop = real_loop();
    w.rounds = under_valgrind() ? 100 : 5000;
    CHECK(sem_init(&w.about_to_sleep, 0, 0) == 0);
    CHECK_CODE(evl_loop_set_wait_hooks(w.loop, tell_about_to_sleep, NULL, &w, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, wake_each_time, &w) == 0);
    for (i = 0; i < w.rounds; i++)
        CHECK_CODE(evl_loop_run_once(w.loop, EVL_FOREVER), 1);
    pthread_join(thread, NULL);
    CHECK_INT(w.calls, w.rounds);
    end_loop(w.loop);
    sem_destroy(&w.about_to_sleep);
}

static void trace_arg(void *arg) {
    trace(arg);
}

TEST(posts_to_a_loop_that_does_not_run_keep_their_place) {
    evl_loop *loop = NULL;
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_arg, "one", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, trace_arg, "two", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, trace_arg, "three", NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, trace_arg, "four", NULL, NULL, NULL), 0);
    CHECK_INT(evl_loop_run_until_idle(loop), 4);
    CHECK_TRACE("one two three four");
    CHECK_CODE(evl_loop_close(loop), 0);
    evl_loop_unref(loop);
}

TEST(stop_threadsafe_wakes_and_stops) {
    struct waker w;
    pthread_t thread;
    int i;
    memset(&w, 0, sizeof w);
    w.loop = real_loop();
    w.kind = 1;
    w.rounds = under_valgrind() ? 50 : 1000;
    CHECK(sem_init(&w.about_to_sleep, 0, 0) == 0);
    CHECK_CODE(evl_loop_set_wait_hooks(w.loop, tell_about_to_sleep, NULL, &w, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, wake_each_time, &w) == 0);
    for (i = 0; i < w.rounds; i++)
        CHECK_CODE(evl_loop_run_forever(w.loop), 0);
    pthread_join(thread, NULL);
    CHECK_CODE(evl_loop_stop_threadsafe(w.loop), 0);
    CHECK_CODE(evl_loop_run_forever(w.loop), 0); /* before a run: one iteration */
    end_loop(w.loop);
    sem_destroy(&w.about_to_sleep);
}

struct holder {
    evl_loop *loop;
    sem_t entered, leave;
};

static void hold(void *arg) {
    struct holder *h = (struct holder *)arg;
    sem_post(&h->entered);
    while (sem_wait(&h->leave) != 0)
        ;
}

static void *run_loop(void *arg) {
    struct holder *h = (struct holder *)arg;
    CHECK_CODE(evl_loop_run_until_idle(h->loop), 2); /* hold, and what was posted meanwhile */
    return NULL;
}

TEST(a_running_loop_belongs_to_its_thread) {
    struct holder h;
    struct probe p = probe_named(NULL, NULL);
    pthread_t thread;
    evl_handle *handle = NULL, *posted = NULL;
    evl_timer *timer = NULL;
    evl_loop *own = manual_loop();
    evl_loop *running = NULL;
    int64_t t = 0;
    char text[200];
    memset(&h, 0, sizeof h);
    h.loop = manual_loop();
    CHECK(sem_init(&h.entered, 0, 0) == 0 && sem_init(&h.leave, 0, 0) == 0);
    CHECK_CODE(evl_handle_new(h.loop, probe_call, &p, NULL, NULL, &handle), 0);
    CHECK_CODE(evl_timer_new(h.loop, 5, probe_call, &p, NULL, NULL, &timer), 0);
    CHECK_CODE(evl_loop_call_soon(h.loop, hold, &h, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_loop, &h) == 0);
    while (sem_wait(&h.entered) != 0)
        ;
    CHECK_CODE(evl_loop_call_soon(h.loop, probe_call, &p, probe_free, NULL, NULL), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_call_later(h.loop, 1, probe_call, &p, probe_free, NULL, NULL), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_call_every(h.loop, 1, probe_call, &p, probe_free, NULL, NULL), EVL_EWRONGTHREAD);
    CHECK_PROBE(p, 0, 3);
    CHECK_CODE(evl_handle_schedule(handle), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_handle_cancel(handle), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_handle_run(handle), EVL_EWRONGTHREAD);
    CHECK(evl_handle_get_context(handle) == NULL);
    CHECK_CODE(evl_timer_schedule(timer), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_timer_reschedule(timer, 1), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_timer_cancel(timer), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_stop(h.loop), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_loop_close(h.loop), EVL_ERUNNING);
    CHECK_INT(evl_loop_run_once(h.loop, 0) < 0, 1);
    /* what any thread may do */
    CHECK_INT(evl_loop_is_running(h.loop), 1);
    CHECK_INT(evl_loop_is_closed(h.loop), 0);
    CHECK_CODE(evl_loop_time(h.loop, &t), 0);
    CHECK(evl_handle_repr(handle, text, sizeof text) > 0);
    CHECK_INT(evl_handle_cancelled(handle), 0);
    CHECK_CODE(evl_timer_when(timer, &t), 0);
    CHECK_INT(t, 5);
    CHECK(evl_loop_ref(h.loop) == h.loop);
    evl_loop_unref(h.loop);
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP); /* not on this thread */
    CHECK_CODE(evl_loop_run_once(own, 0), 0);
    CHECK_CODE(evl_loop_call_soon_threadsafe(h.loop, nothing, NULL, NULL, NULL, &posted), 0);
    CHECK_CODE(evl_handle_cancel(posted), EVL_EWRONGTHREAD);
    evl_handle_unref(posted);
    evl_handle_unref(evl_handle_ref(handle));
    sem_post(&h.leave);
    pthread_join(thread, NULL);
    CHECK_PROBE(p, 0, 3);
    evl_handle_unref(handle);
    evl_timer_unref(timer);
    end_loop(h.loop);
    end_loop(own);
    sem_destroy(&h.entered);
    sem_destroy(&h.leave);
}

struct mover {
    evl_loop *loop;
    int step;
};

static void note_step(void *arg) {
    ((struct mover *)arg)->step++;
}

static void *run_here(void *arg) {
    struct mover *m = (struct mover *)arg;
    evl_loop *running = NULL;
    CHECK_CODE(evl_loop_run_until_idle(m->loop), 1);
    CHECK_CODE(evl_loop_call_soon(m->loop, note_step, m, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    return NULL;
}

TEST(an_idle_loop_moves_to_another_thread) {
    struct mover m;
    int i;
    m.step = 0;
    m.loop = manual_loop();
    CHECK_CODE(evl_loop_call_soon(m.loop, note_step, &m, NULL, NULL, NULL), 0);
    for (i = 0; i < 5; i++) {
        in_thread(run_here, &m);
        CHECK_CODE(evl_loop_run_until_idle(m.loop), 1);
        CHECK_CODE(evl_loop_call_soon(m.loop, note_step, &m, NULL, NULL, NULL), 0);
    }
    CHECK_INT(m.step, 10);
    end_loop(m.loop);
}

struct racer {
    evl_handle *handle;
    evl_weak_handle *weak;
    int *go;
    int count;
};

static void *ref_and_upgrade(void *arg) {
    struct racer *r = (struct racer *)arg;
    int i, gone = 0;
    while (!__atomic_load_n(r->go, __ATOMIC_ACQUIRE))
        ;
    for (i = 0; i < r->count; i++) {
        evl_handle *strong = evl_weak_handle_upgrade(r->weak);
        if (strong) {
            if (gone)
                CHECK(0 && "a handle came back");
            evl_handle_unref(evl_handle_ref(strong));
            evl_handle_unref(strong);
        } else {
            gone = 1;
        }
    }
    evl_weak_handle_free(r->weak);
    return NULL;
}

TEST(references_race) {
    evl_loop *loop = manual_loop();
    int round, i, rounds = under_valgrind() ? 5 : 200;
    for (round = 0; round < rounds; round++) {
        struct probe p = probe_named(NULL, loop);
        struct racer racers[THREADS];
        pthread_t threads[THREADS];
        evl_handle *handle = NULL;
        int go = 0;
        CHECK_CODE(evl_handle_new(loop, probe_call, &p, probe_free, NULL, &handle), 0);
        for (i = 0; i < THREADS; i++) {
            CHECK_CODE(evl_handle_weak(handle, &racers[i].weak), 0);
            racers[i].go = &go;
            racers[i].count = 200;
            CHECK(pthread_create(&threads[i], NULL, ref_and_upgrade, &racers[i]) == 0);
        }
        __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
        evl_handle_unref(handle);
        for (i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        CHECK_PROBE(p, 0, 1);
    }
    end_loop(loop);
}

TEST(close_releases_what_was_posted) {
    evl_loop *loop = manual_loop();
    struct order order;
    int running = 100;
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    memset(&order, 0, sizeof order);
    order.loop = loop;
    order.count = 500;
    order.running = &running;
    in_thread(post_many, &order);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_INT(order.frees, 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(order.frees, 500);
    CHECK_INT(order.next, 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, probe_call, &p, probe_free, NULL, NULL), EVL_ECLOSED);
    CHECK_PROBE(p, 0, 2);
    CHECK_CODE(evl_loop_stop_threadsafe(loop), EVL_ECLOSED);
    evl_handle_unref(handle);
    evl_loop_unref(loop);
    CHECK_PROBE(p, 0, 2);
}

static void *post_until_closed(void *arg) {
    struct order *order = (struct order *)arg;
    int code;
    do {
        code = evl_loop_call_soon_threadsafe(order->loop, nothing, order, NULL, NULL, NULL);
        __atomic_add_fetch(&order->next, 1, __ATOMIC_SEQ_CST);
    } while (code == 0);
    CHECK_CODE(code, EVL_ECLOSED);
    return NULL;
}

TEST(close_races_with_posts) {
    int round, i, rounds = under_valgrind() ? 3 : 50;
    for (round = 0; round < rounds; round++) {
        struct order order;
        pthread_t threads[THREADS];
        memset(&order, 0, sizeof order);
        order.loop = manual_loop();
        for (i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, post_until_closed, &order) == 0);
        while (__atomic_load_n(&order.next, __ATOMIC_SEQ_CST) < 100)
            ;
        CHECK_CODE(evl_loop_close(order.loop), 0);
        for (i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        evl_loop_unref(order.loop);
    }
}

static void *cancel_in_thread(void *arg) {
    CHECK_CODE(evl_handle_cancel((evl_handle *)arg), 0); /* the loop is idle: any thread may */
    return NULL;
}

TEST(posted_handle_is_cancelled_before_it_runs) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, probe_call, &p, probe_free, NULL, &handle), 0);
    in_thread(cancel_in_thread, handle);
    CHECK_PROBE(p, 0, 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_PROBE(p, 0, 1);
    evl_handle_unref(handle);
    end_loop(loop);
}

TEST_MAIN()
