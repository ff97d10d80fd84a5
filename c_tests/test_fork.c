/* A fork while loops exist: the child's copies are refused until evl_loop_after_fork, and never disturb the parent's. */
#include "harness.h"

#include <semaphore.h>

#define CHECK_CHILD(status) CHECK_INT(status, 0)

struct shared {
    evl_loop *loop;
    struct probe reader, soon, timer;
    int fds[2];
};

static void drain(void *arg) {
    struct probe *p = (struct probe *)arg;
    char c;
    probe_call(p);
    CHECK(read((int)(intptr_t)p->loop, &c, 1) == 1); /* its descriptor, kept there */
}

static void begin(struct shared *s) {
    memset(s, 0, sizeof *s);
    s->loop = manual_loop();
    CHECK(pipe(s->fds) == 0);
    s->reader.loop = (evl_loop *)(intptr_t)s->fds[0];
    CHECK_CODE(evl_loop_add_reader(s->loop, s->fds[0], drain, &s->reader, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(s->loop, 0), 0);
}

static void finish(struct shared *s) {
    evl_loop_unref(s->loop);
    CHECK_INT(s->reader.frees, 1);
    close(s->fds[0]);
    close(s->fds[1]);
}

/* The loop still watches its pipe and takes callbacks. */
static void check_works(struct shared *s) {
    int before = s->reader.calls, soon = s->soon.calls;
    CHECK(write(s->fds[1], "x", 1) == 1);
    CHECK_CODE(evl_loop_call_soon(s->loop, probe_call, &s->soon, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(s->loop), 2);
    CHECK_INT(s->reader.calls, before + 1);
    CHECK_INT(s->soon.calls, soon + 1);
}

static void child_is_refused(void *arg) {
    struct shared *s = (struct shared *)arg;
    struct probe p = probe_named(NULL, s->loop);
    evl_loop *running = NULL;
    int64_t t;
    CHECK_CODE(evl_loop_run_once(s->loop, 0), EVL_EFORKED);
    CHECK_CODE(evl_loop_run_forever(s->loop), EVL_EFORKED);
    CHECK_CODE(evl_loop_run_until_idle(s->loop), EVL_EFORKED);
    CHECK_CODE(evl_loop_run_shutdown(s->loop), EVL_EFORKED);
    CHECK_CODE(evl_loop_call_soon(s->loop, probe_call, &p, probe_free, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_call_later(s->loop, 0, probe_call, &p, probe_free, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_call_soon_threadsafe(s->loop, probe_call, &p, probe_free, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_add_reader(s->loop, s->fds[1], probe_call, &p, probe_free, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_add_signal_handler(s->loop, SIGUSR1, probe_call, &p, probe_free, NULL, NULL), EVL_EFORKED);
    CHECK_PROBE(p, 0, 5);
    CHECK_CODE(evl_loop_remove_reader(s->loop, s->fds[0]), EVL_EFORKED);
    CHECK_CODE(evl_loop_stop(s->loop), EVL_EFORKED);
    CHECK_CODE(evl_loop_stop_threadsafe(s->loop), EVL_EFORKED);
    CHECK_CODE(evl_loop_fd(s->loop), EVL_EFORKED);
    CHECK_CODE(evl_loop_prepare(s->loop, &t), EVL_EFORKED);
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    CHECK_CODE(evl_loop_time(s->loop, &t), 0);
    CHECK_INT(evl_loop_is_running(s->loop), 0);
    CHECK_INT(evl_loop_is_closed(s->loop), 0);
    CHECK_CODE(evl_loop_close(s->loop), 0);
    CHECK_INT(s->reader.frees, 1);
    CHECK_CODE(evl_loop_call_soon(s->loop, probe_call, &p, probe_free, NULL, NULL), EVL_ECLOSED);
    finish(s);
}

TEST(child_is_refused_and_its_close_does_not_disturb_the_parent) {
    struct shared s;
    begin(&s);
    CHECK_CHILD(in_child(child_is_refused, &s));
    check_works(&s);
    CHECK_INT(s.reader.frees, 0);
    finish(&s);
}

static void child_unrefs(void *arg) {
    finish((struct shared *)arg);
}

TEST(unref_in_the_child_does_not_disturb_the_parent) {
    struct shared s;
    begin(&s);
    CHECK_CODE(evl_loop_call_soon(s.loop, probe_call, &s.soon, probe_free, NULL, NULL), 0);
    CHECK_CHILD(in_child(child_unrefs, &s));
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 1);
    check_works(&s);
    finish(&s);
}

static void child_goes_on(void *arg) {
    struct shared *s = (struct shared *)arg;
    CHECK_CODE(evl_loop_after_fork(s->loop), 0);
    CHECK_CODE(evl_loop_after_fork(s->loop), 0); /* again: left alone */
    CHECK_CODE(evl_loop_run_until_idle(s->loop), 1); /* what was scheduled */
    CHECK_INT(s->soon.calls, 1);
    CHECK_CODE(evl_loop_advance(s->loop, 10), 0);
    CHECK_CODE(evl_loop_run_until_idle(s->loop), 1); /* and the timer */
    CHECK_INT(s->timer.calls, 1);
    check_works(s); /* the same descriptors */
    CHECK_CODE(evl_loop_remove_reader(s->loop, s->fds[0]), 1);
    CHECK(write(s->fds[1], "y", 1) == 1);
    CHECK_CODE(evl_loop_run_until_idle(s->loop), 0);
    finish(s);
}

TEST(after_fork_makes_the_childs_loop_work) {
    struct shared s;
    char c;
    begin(&s);
    CHECK_CODE(evl_loop_after_fork(s.loop), 0); /* not forked: left alone */
    CHECK_CODE(evl_loop_call_soon(s.loop, probe_call, &s.soon, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(s.loop, 10, probe_call, &s.timer, probe_free, NULL, NULL), 0);
    CHECK_CHILD(in_child(child_goes_on, &s));
    CHECK(read(s.fds[0], &c, 1) == 1 && c == 'y');
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 1);
    CHECK_INT(s.soon.calls, 1);
    check_works(&s); /* the child's removal was its own */
    finish(&s);
    CHECK_PROBE(s.timer, 0, 1);
}

struct forker {
    struct shared *shared;
    pid_t child;
    int calls;
};

static void fork_here(void *arg) {
    struct forker *f = (struct forker *)arg;
    f->calls++;
    fflush(NULL);
    f->child = fork();
}

static void after_fork_here(void *arg) {
    struct forker *f = (struct forker *)arg;
    f->calls++;
}

static void check_inside_child(struct shared *s) {
    evl_loop *running = NULL;
    CHECK_CODE(evl_get_running_loop(&running), EVL_ENOLOOP);
    CHECK_CODE(evl_loop_call_soon(s->loop, nothing, NULL, NULL, NULL, NULL), EVL_EFORKED);
    CHECK_CODE(evl_loop_run_once(s->loop, 0) < 0 ? -1 : 0, -1);
}

static void fork_and_look(void *arg) {
    struct forker *f = (struct forker *)arg;
    fork_here(arg);
    if (f->child == 0)
        check_inside_child(f->shared);
}

TEST(fork_inside_a_callback) {
    struct shared s;
    struct forker f;
    int code, before = harness_failures, status = -1;
    begin(&s);
    memset(&f, 0, sizeof f);
    f.shared = &s;
    f.child = -1;
    CHECK_CODE(evl_loop_call_soon(s.loop, fork_and_look, &f, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, after_fork_here, &f, NULL, NULL, NULL), 0);
    code = evl_loop_run_until_idle(s.loop);
    if (f.child == 0) {
        CHECK_CODE(code, EVL_EFORKED); /* the run ends in the child */
        CHECK_INT(f.calls, 1);
        CHECK_CODE(evl_loop_after_fork(s.loop), 0);
        CHECK_CODE(evl_loop_run_until_idle(s.loop), 1); /* the rest of the batch stayed queued */
        CHECK_INT(f.calls, 2);
        check_works(&s);
        finish(&s);
        fflush(NULL);
        _exit(harness_failures == before ? 0 : 1);
    }
    CHECK_CODE(code, 2);
    CHECK(waitpid(f.child, &status, 0) == f.child);
    CHECK_CHILD(status);
    CHECK_INT(f.calls, 2);
    check_works(&s);
    finish(&s);
}

static void child_closes_inside(void *arg) {
    struct forker *f = (struct forker *)arg;
    fork_here(arg);
    if (f->child == 0) {
        int before = harness_failures;
        CHECK_CODE(evl_loop_call_soon(f->shared->loop, nothing, NULL, NULL, NULL, NULL), EVL_EFORKED);
        fflush(NULL);
        _exit(harness_failures == before ? 0 : 1); /* never returns into the loop: as a child that execs */
    }
}

TEST(child_that_ends_inside_the_callback) {
    struct shared s;
    struct forker f;
    int status = -1;
    if (under_valgrind())
        return; /* the child ends with the loop alive, as it must be able to */
    begin(&s);
    memset(&f, 0, sizeof f);
    f.shared = &s;
    CHECK_CODE(evl_loop_call_soon(s.loop, child_closes_inside, &f, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 1);
    CHECK(waitpid(f.child, &status, 0) == f.child);
    CHECK_CHILD(status);
    check_works(&s);
    finish(&s);
}

struct sleeper {
    evl_loop *loop;
    sem_t entered, leave;
};

static void sleep_inside(void *arg) {
    struct sleeper *s = (struct sleeper *)arg;
    sem_post(&s->entered);
    while (sem_wait(&s->leave) != 0)
        ;
}

static void *run_sleeper(void *arg) {
    struct sleeper *s = (struct sleeper *)arg;
    CHECK_CODE(evl_loop_run_until_idle(s->loop), 1);
    return NULL;
}

static void child_of_a_thread(void *arg) {
    struct sleeper *s = (struct sleeper *)arg;
    evl_loop *own = NULL;
    CHECK_CODE(evl_loop_run_once(s->loop, 0), EVL_EFORKED);
    CHECK_CODE(evl_loop_after_fork(s->loop), EVL_EWRONGTHREAD); /* its state is what that thread left */
    CHECK_CODE(evl_loop_close(s->loop), 0);
    CHECK_INT(evl_loop_is_closed(s->loop), 1);
    evl_loop_unref(s->loop);
    CHECK_CODE(evl_loop_new(NULL, &own), 0);
    CHECK_CODE(evl_loop_run_until_idle(own), 0);
    end_loop(own);
}

TEST(a_loop_that_another_thread_ran_can_only_be_closed) {
    struct sleeper s;
    pthread_t thread;
    if (under_valgrind())
        return; /* what the other thread's stack held is lost in the child */
    s.loop = manual_loop();
    CHECK(sem_init(&s.entered, 0, 0) == 0 && sem_init(&s.leave, 0, 0) == 0);
    CHECK_CODE(evl_loop_call_soon(s.loop, sleep_inside, &s, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, run_sleeper, &s) == 0);
    while (sem_wait(&s.entered) != 0)
        ;
    CHECK_CHILD(in_child(child_of_a_thread, &s));
    sem_post(&s.leave);
    pthread_join(thread, NULL);
    end_loop(s.loop);
    sem_destroy(&s.entered);
    sem_destroy(&s.leave);
}

static void child_gets_signals(void *arg) {
    struct shared *s = (struct shared *)arg;
    CHECK_CODE(evl_loop_after_fork(s->loop), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(s->loop, 0), 1);
    CHECK_INT(s->soon.calls, 1);
    finish(s);
}

TEST(signal_handlers_stay_the_loops) {
    struct shared s;
    begin(&s);
    CHECK_CODE(evl_loop_add_signal_handler(s.loop, SIGUSR1, probe_call, &s.soon, probe_free, NULL, NULL), 0);
    CHECK_CHILD(in_child(child_gets_signals, &s));
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 0); /* the child's signal was the child's */
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 1);
    CHECK_INT(s.soon.calls, 1);
    finish(&s);
    CHECK_PROBE(s.soon, 1, 1);
}

static void child_signals_before_after_fork(void *arg) {
    struct shared *s = (struct shared *)arg;
    CHECK(raise(SIGUSR1) == 0); /* must not wake the parent's loop */
    finish(s);
}

TEST(a_childs_signal_does_not_reach_the_parent) {
    struct shared s;
    begin(&s);
    CHECK_CODE(evl_loop_add_signal_handler(s.loop, SIGUSR1, probe_call, &s.soon, probe_free, NULL, NULL), 0);
    CHECK_CHILD(in_child(child_signals_before_after_fork, &s));
    CHECK_CODE(evl_loop_run_until_idle(s.loop), 0);
    CHECK_PROBE(s.soon, 0, 0);
    finish(&s);
}

static void grandchild(void *arg) {
    struct shared *s = (struct shared *)arg;
    CHECK_CODE(evl_loop_run_once(s->loop, 0), EVL_EFORKED);
    CHECK_CODE(evl_loop_after_fork(s->loop), 0);
    check_works(s);
    finish(s);
}

static void child_forks_again(void *arg) {
    struct shared *s = (struct shared *)arg;
    CHECK_CODE(evl_loop_after_fork(s->loop), 0);
    CHECK_CHILD(in_child(grandchild, s));
    check_works(s);
    finish(s);
}

TEST(forks_of_forks) {
    struct shared s;
    begin(&s);
    CHECK_CHILD(in_child(child_forks_again, &s));
    check_works(&s);
    finish(&s);
}

static void child_makes_its_own(void *arg) {
    struct shared *s = (struct shared *)arg;
    evl_loop *own = manual_loop();
    CHECK_CODE(evl_loop_call_soon(own, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_until_idle(own), 1);
    end_loop(own);
    finish(s);
}

TEST(child_makes_a_loop_of_its_own) {
    struct shared s;
    begin(&s);
    CHECK_CHILD(in_child(child_makes_its_own, &s));
    check_works(&s);
    finish(&s);
}

TEST_MAIN()
