/* Futures and threads: settled, cancelled, waited for and given back from threads that are not the loop's. */
#include "harness.h"

#include <time.h>

static evl_future *new_future(evl_loop *loop) {
    evl_future *future = NULL;
    CHECK_CODE(evl_future_new(loop, &future), 0);
    return future;
}

static void stop_when_done(evl_future *future, void *arg) {
    CHECK_INT(evl_future_done(future), 1);
    CHECK_CODE(evl_loop_stop((evl_loop *)arg), 0);
}

/* A thread with something to do to a future. */
struct job {
    evl_loop *loop;
    evl_future *future;
    void (*function)(struct job *);
    struct probe value, late;
    int code;
    int64_t timeout;
    pthread_t thread;
};

static void *do_job(void *arg) {
    struct job *job = (struct job *)arg;
    job->function(job);
    return NULL;
}

static void start_job(struct job *job) {
    CHECK(pthread_create(&job->thread, NULL, do_job, job) == 0);
}

static void start_in_callback(void *arg) {
    start_job((struct job *)arg);
}

static struct job job_of(evl_loop *loop, evl_future *future, void (*function)(struct job *)) {
    struct job job;
    memset(&job, 0, sizeof job);
    job.loop = loop;
    job.future = future;
    job.function = function;
    job.code = 1;
    job.timeout = EVL_FOREVER;
    return job;
}

/* Runs the loop, which has the job begin, until the future is done. */
static void run_with(struct job *job) {
    CHECK_CODE(evl_future_add_done_callback(job->future, stop_when_done, job->loop, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(job->loop, start_in_callback, job, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(job->loop), 0);
    pthread_join(job->thread, NULL);
}

static void set_result(struct job *job) {
    CHECK_CODE(evl_future_set_result(job->future, &job->late, probe_free), EVL_EWRONGTHREAD);
    CHECK_PROBE(job->late, 0, 1);
    CHECK_CODE(evl_future_set_error(job->future, -EIO, NULL), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_future_cancel(job->future, NULL), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_future_set_timeout(job->future, 1), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_future_set_data(job->future, NULL, NULL), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_future_remove_done_callback(job->future, stop_when_done, NULL), EVL_EWRONGTHREAD);
    CHECK_CODE(evl_future_add_done_callback(job->future, stop_when_done, &job->late, probe_free, NULL),
               EVL_EWRONGTHREAD);
    CHECK_PROBE(job->late, 0, 2);
    CHECK_INT(evl_future_done(job->future), 0);
    CHECK_CODE(evl_future_set_result_threadsafe(job->future, &job->value, probe_free), 0);
}

TEST(a_result_from_another_thread) {
    evl_loop *loop = real_loop();
    struct job job = job_of(loop, new_future(loop), set_result);
    void *value = NULL;
    run_with(&job);
    CHECK_CODE(evl_future_result(job.future, &value), 0);
    CHECK(value == &job.value);
    CHECK_PROBE(job.value, 0, 0);
    evl_future_unref(job.future);
    CHECK_PROBE(job.value, 0, 1);
    end_loop(loop);
}

static void set_error(struct job *job) {
    CHECK_CODE(evl_future_set_error_threadsafe(job->future, -EIO, "from afar", &job->value, probe_free), 0);
}

TEST(an_error_from_another_thread) {
    evl_loop *loop = real_loop();
    struct job job = job_of(loop, new_future(loop), set_error);
    char text[100] = "";
    run_with(&job);
    CHECK_CODE(evl_future_result(job.future, NULL), -EIO);
    CHECK_INT(evl_future_error_message(job.future, text, sizeof text), 9);
    CHECK_STRING(text, "from afar");
    CHECK(evl_future_error_object(job.future) == &job.value);
    evl_future_unref(job.future);
    CHECK_PROBE(job.value, 0, 1);
    end_loop(loop);
}

static void cancel_it(struct job *job) {
    CHECK_CODE(evl_future_cancel_threadsafe(job->future, "from afar"), 0);
}

TEST(a_cancel_from_another_thread) {
    evl_loop *loop = real_loop();
    struct job job = job_of(loop, new_future(loop), cancel_it);
    char text[100] = "";
    run_with(&job);
    CHECK_INT(evl_future_cancelled(job.future), 1);
    CHECK_INT(evl_future_error_message(job.future, text, sizeof text), 9);
    CHECK_STRING(text, "from afar");
    evl_future_unref(job.future);
    end_loop(loop);
}

TEST(the_first_one_counts) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop);
    struct probe p = probe_named(NULL, loop), q = p, r = p, post = probe_named("post", loop);
    void *value = NULL;
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, probe_call, &post, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_future_set_result_threadsafe(future, &p, probe_free), 0);
    CHECK_CODE(evl_future_set_result_threadsafe(future, &q, probe_free), 0);
    CHECK_CODE(evl_future_set_error_threadsafe(future, -EIO, "late", &r, probe_free), 0);
    CHECK_CODE(evl_future_cancel_threadsafe(future, "late"), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
    CHECK_TRACE("post");
    CHECK_CODE(evl_future_result(future, &value), 0);
    CHECK(value == &p);
    CHECK_PROBE(p, 0, 0);
    CHECK_PROBE(q, 0, 1);
    CHECK_PROBE(r, 0, 1);
    /* It was done before. */
    CHECK_CODE(evl_future_set_result_threadsafe(future, &q, probe_free), 0);
    evl_future_unref(future);
    CHECK_PROBE(p, 0, 0);
    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 2);
    end_loop(loop);
}

TEST(what_is_on_its_way_when_the_loop_is_closed) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop), *other = new_future(loop);
    struct probe p = probe_named(NULL, loop), q = p;
    CHECK_CODE(evl_future_set_result_threadsafe(future, &p, probe_free), 0);
    CHECK_CODE(evl_future_set_error_threadsafe(other, -EIO, "x", &q, probe_free), 0);
    evl_future_unref(other);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK_PROBE(q, 0, 1);
    CHECK_INT(evl_future_done(future), 0);
    evl_future_unref(future);
    evl_loop_unref(loop);
}

/* --- waiting */

static void wait_for_it(struct job *job) {
    job->code = evl_future_wait(job->future, job->timeout);
}

static void settle_later(void *arg) {
    CHECK_CODE(evl_future_set_result((evl_future *)arg, NULL, NULL), 0);
}

TEST(threads_wait_for_a_future) {
    enum { COUNT = 8 };
    evl_loop *loop = real_loop();
    evl_future *future = new_future(loop);
    struct job jobs[COUNT];
    int i;
    for (i = 0; i < COUNT; i++) {
        jobs[i] = job_of(loop, future, wait_for_it);
        jobs[i].timeout = i % 2 ? EVL_FOREVER : EVL_SECONDS(40);
        start_job(&jobs[i]);
    }
    CHECK_CODE(evl_future_add_done_callback(future, stop_when_done, loop, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(10), settle_later, future, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    for (i = 0; i < COUNT; i++) {
        pthread_join(jobs[i].thread, NULL);
        CHECK_CODE(jobs[i].code, 0);
    }
    evl_future_unref(future);
    end_loop(loop);
}

TEST(waiting_for_what_is_done_or_never_will_be) {
    evl_loop *loop = manual_loop();
    evl_future *future = new_future(loop), *failed = new_future(loop), *cancelled = new_future(loop);
    int64_t before, after;
    CHECK_CODE(evl_future_wait(future, 0), -ETIMEDOUT);
    CHECK_CODE(evl_future_wait(future, -1), -EINVAL);
    CHECK_CODE(evl_future_wait(future, INT64_MIN), -EINVAL);
    {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        before = EVL_SECONDS(t.tv_sec) + t.tv_nsec;
        CHECK_CODE(evl_future_wait(future, EVL_MS(20)), -ETIMEDOUT);
        clock_gettime(CLOCK_MONOTONIC, &t);
        after = EVL_SECONDS(t.tv_sec) + t.tv_nsec;
    }
    CHECK(after - before >= EVL_MS(20));
    CHECK_CODE(evl_future_set_result(future, NULL, NULL), 0);
    CHECK_CODE(evl_future_set_error(failed, -EIO, NULL), 0);
    CHECK_INT(evl_future_cancel(cancelled, NULL), 1);
    CHECK_CODE(evl_future_wait(future, 0), 0);
    CHECK_CODE(evl_future_wait(failed, EVL_FOREVER), 0);
    CHECK_CODE(evl_future_wait(cancelled, 5), 0);
    CHECK_INT(evl_future_cancelled(cancelled), 1);
    CHECK_CODE(evl_future_result(failed, NULL), -EIO);
    evl_future_unref(future);
    evl_future_unref(failed);
    evl_future_unref(cancelled);
    end_loop(loop);
}

static void wait_inside(void *arg) {
    CHECK_CODE(evl_future_wait((evl_future *)arg, 0), EVL_ERUNNING);
    CHECK_CODE(evl_future_wait((evl_future *)arg, EVL_FOREVER), EVL_ERUNNING);
    trace("inside");
}

TEST(a_thread_that_runs_a_loop_cannot_wait) {
    evl_loop *loop = manual_loop(), *other = manual_loop();
    evl_future *future = new_future(loop), *foreign = new_future(other);
    CHECK_CODE(evl_loop_call_soon(loop, wait_inside, future, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(loop, wait_inside, foreign, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("inside inside");
    evl_future_unref(future);
    evl_future_unref(foreign);
    end_loop(loop);
    end_loop(other);
}

TEST(the_loop_is_closed_while_threads_wait) {
    enum { COUNT = 6 };
    evl_loop *loop = real_loop();
    evl_future *futures[COUNT];
    struct job jobs[COUNT];
    struct probe p = probe_named(NULL, loop);
    int i;
    for (i = 0; i < COUNT; i++) {
        futures[i] = new_future(loop);
        CHECK_CODE(evl_future_set_data(futures[i], &p, probe_free), 0);
        jobs[i] = job_of(loop, futures[i], wait_for_it);
        start_job(&jobs[i]);
    }
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(10), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    for (i = 0; i < COUNT; i++) {
        pthread_join(jobs[i].thread, NULL);
        CHECK_CODE(jobs[i].code, EVL_ECLOSED);
        CHECK_CODE(evl_future_wait(futures[i], EVL_FOREVER), EVL_ECLOSED);
        evl_future_unref(futures[i]);
    }
    CHECK_PROBE(p, 0, COUNT);
    evl_loop_unref(loop);
}

/* The last reference that others have goes while a thread waits, which has its own. */
static void wait_and_unref(struct job *job) {
    job->code = evl_future_wait(job->future, job->timeout);
    evl_future_unref(job->future);
}

TEST(unreffed_while_waited_for) {
    evl_loop *loop = real_loop();
    int i;
    for (i = 0; i < 20; i++) {
        evl_future *future = new_future(loop);
        struct job job = job_of(loop, evl_future_ref(future), wait_and_unref);
        struct probe p = probe_named(NULL, loop), q = p;
        CHECK_CODE(evl_future_set_data(future, &p, probe_free), 0);
        CHECK_CODE(evl_future_add_done_callback(future, stop_when_done, loop, NULL, NULL), 0);
        CHECK_CODE(evl_future_set_result_threadsafe(future, &q, probe_free), 0);
        start_job(&job);
        evl_future_unref(future);
        CHECK_CODE(evl_loop_run_forever(loop), 0);
        pthread_join(job.thread, NULL);
        CHECK_CODE(job.code, 0);
        CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
        CHECK_PROBE(p, 0, 1);
        CHECK_PROBE(q, 0, 1);
    }
    end_loop(loop);
}

/* --- given back on another thread, in every state */

static void unref_it(struct job *job) {
    evl_future_unref(job->future);
    if (job->loop != NULL)
        CHECK_CODE(evl_loop_stop_threadsafe(job->loop), 0);
}

static pthread_t reporter;
static int reports;

static void note_report(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    CHECK_CODE(exception->code, -EIO);
    CHECK(exception->future != NULL);
    reporter = pthread_self();
    reports++;
}

enum { PENDING, FINISHED, FAILED, RETRIEVED, CANCELLED, QUEUED, STATES };
enum { RUNNING, IDLE, CLOSED, WAYS };

static void no_call(evl_future *future, void *arg) {
    (void)future;
    probe_call(arg);
}

TEST(given_back_in_every_state) {
    int state, way, debug;
    for (debug = 0; debug < 2; debug++)
        for (state = 0; state < STATES; state++)
            for (way = 0; way < WAYS; way++) {
                evl_loop *loop = loop_with_flags(debug ? EVL_LOOP_DEBUG : 0);
                evl_future *future = new_future(loop);
                struct probe data = probe_named(NULL, loop), value = data, callback = data;
                struct job job = job_of(way == RUNNING ? loop : NULL, future, unref_it);
                reports = 0;
                CHECK_CODE(evl_loop_set_exception_handler(loop, note_report, NULL, NULL), 0);
                CHECK_CODE(evl_future_set_data(future, &data, probe_free), 0);
                CHECK_CODE(evl_future_add_done_callback(future, no_call, &callback, probe_free, NULL), 0);
                if (state == FINISHED || state == QUEUED)
                    CHECK_CODE(evl_future_set_result(future, &value, probe_free), 0);
                if (state == FAILED || state == RETRIEVED)
                    CHECK_CODE(evl_future_set_error_object(future, -EIO, "x", &value, probe_free), 0);
                if (state == RETRIEVED)
                    CHECK_CODE(evl_future_result(future, NULL), -EIO);
                if (state == CANCELLED)
                    CHECK_INT(evl_future_cancel(future, NULL), 1);
                if (state != QUEUED)
                    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
                if (way == CLOSED)
                    CHECK_CODE(evl_loop_close(loop), 0);
                if (way == RUNNING) {
                    CHECK_CODE(evl_loop_call_soon(loop, start_in_callback, &job, NULL, NULL, NULL), 0);
                    CHECK_CODE(evl_loop_run_forever(loop), 0);
                } else {
                    start_job(&job);
                }
                pthread_join(job.thread, NULL);
                if (way != CLOSED)
                    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
                CHECK_INT(callback.calls, way == CLOSED ? state != PENDING && state != QUEUED : state != PENDING);
                CHECK_INT(callback.frees, 1);
                CHECK_INT(data.frees, 1);
                CHECK_INT(value.frees, state != PENDING && state != CANCELLED);
                CHECK_INT(reports, state == FAILED && way != CLOSED);
                if (state == FAILED && way == RUNNING)
                    CHECK(pthread_equal(reporter, pthread_self()));
                if (way != CLOSED)
                    CHECK_CODE(evl_loop_close(loop), 0);
                evl_loop_unref(loop);
            }
}

/* --- all at once */

enum { FUTURES = 200, THREADS = 4 };

static evl_future *shared[FUTURES];
static struct probe values[FUTURES * THREADS];
static int settled_count;

static void count_settled(evl_future *future, void *arg) {
    CHECK_INT(evl_future_done(future), 1);
    if (++settled_count == FUTURES)
        CHECK_CODE(evl_loop_stop((evl_loop *)arg), 0);
}

static void fight(struct job *job) {
    int me = job->code, i;
    for (i = 0; i < FUTURES; i++) {
        int which = me % 2 ? i : FUTURES - 1 - i;
        evl_future *future = evl_future_ref(shared[which]);
        struct probe *value = &values[which * THREADS + me];
        switch ((which + me) % 4) {
        case 0:
            CHECK_CODE(evl_future_cancel_threadsafe(future, "x"), 0);
            probe_free(value);
            break;
        case 1:
            CHECK_CODE(evl_future_set_error_threadsafe(future, -EIO, "x", value, probe_free), 0);
            break;
        default:
            CHECK_CODE(evl_future_set_result_threadsafe(future, value, probe_free), 0);
        }
        if (i % 3 == 0) {
            CHECK_CODE(evl_future_wait(future, EVL_FOREVER), 0);
            CHECK_INT(evl_future_done(future), 1);
            (void)evl_future_result(future, NULL);
        }
        evl_future_unref(future);
    }
}

TEST(threads_fight_over_futures) {
    evl_loop *loop = real_loop();
    struct job jobs[THREADS];
    int i;
    settled_count = 0;
    memset(values, 0, sizeof values);
    for (i = 0; i < FUTURES; i++) {
        shared[i] = new_future(loop);
        CHECK_CODE(evl_future_add_done_callback(shared[i], count_settled, loop, NULL, NULL), 0);
    }
    for (i = 0; i < THREADS; i++) {
        jobs[i] = job_of(loop, NULL, fight);
        jobs[i].code = i;
        start_job(&jobs[i]);
    }
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    for (i = 0; i < THREADS; i++)
        pthread_join(jobs[i].thread, NULL);
    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
    for (i = 0; i < FUTURES; i++) {
        evl_future_error(shared[i], &(int){0});
        evl_future_unref(shared[i]);
    }
    for (i = 0; i < FUTURES * THREADS; i++)
        CHECK_INT(values[i].frees, 1);
    end_loop(loop);
}

TEST_MAIN()
