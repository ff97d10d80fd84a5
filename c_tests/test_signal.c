/* Signal handlers of a loop. */
#include "harness.h"

static int add(evl_loop *loop, int number, struct probe *p) {
    return evl_loop_add_signal_handler(loop, number, probe_call, p, probe_free, NULL, NULL);
}

static struct sigaction action_of(int number) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    CHECK(sigaction(number, NULL, &action) == 0);
    return action;
}

static volatile sig_atomic_t own_calls;

static void own_handler(int number) {
    (void)number;
    own_calls++;
}

static void install(int number, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    CHECK(sigaction(number, &action, NULL) == 0);
}

TEST(a_signal_before_run_is_delivered_at_run) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("usr1", loop);
    CHECK_CODE(add(loop, SIGUSR1, &p), 0);
    CHECK(action_of(SIGUSR1).sa_handler != SIG_DFL);
    CHECK((action_of(SIGUSR1).sa_flags & SA_RESTART) != 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_PROBE(p, 0, 0); /* only in the loop */
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_PROBE(p, 1, 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 1);
    CHECK_PROBE(p, 2, 1);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 0);
    CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
    end_loop(loop);
    CHECK_PROBE(p, 2, 1);
}

static void raise_usr1(void *arg) {
    (void)arg;
    CHECK(kill(getpid(), SIGUSR1) == 0);
}

TEST(a_signal_wakes_a_sleeping_loop) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_set_wait_hooks(loop, raise_usr1, NULL, &p, probe_free), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    end_loop(loop);
    CHECK_INT(p.frees, 1);
}

static void *kill_later(void *arg) {
    (void)arg;
    usleep(20000); /* most likely the loop sleeps by now; right either way */
    CHECK(kill(getpid(), SIGUSR1) == 0);
    return NULL;
}

TEST(a_signal_of_another_thread_wakes_the_loop) {
    evl_loop *loop = real_loop();
    pthread_t thread;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, stop_loop, loop, NULL, NULL, NULL), 0);
    REQUIRE(pthread_create(&thread, NULL, kill_later, NULL) == 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    pthread_join(thread, NULL);
    end_loop(loop);
}

TEST(several_signals_in_one_iteration) {
    evl_loop *loop = manual_loop();
    static const int numbers[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGTERM, SIGWINCH, SIGCHLD};
    enum { COUNT = sizeof numbers / sizeof numbers[0] };
    struct probe probes[COUNT];
    int i, round;
    for (i = 0; i < COUNT; i++) {
        probes[i] = probe_named(NULL, loop);
        CHECK_CODE(add(loop, numbers[i], &probes[i]), 0);
    }
    for (round = 1; round <= 3; round++) {
        for (i = 0; i < COUNT; i++)
            CHECK(raise(numbers[i]) == 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), COUNT);
        for (i = 0; i < COUNT; i++)
            CHECK_INT(probes[i].calls, round);
    }
    end_loop(loop);
    for (i = 0; i < COUNT; i++) {
        CHECK_INT(probes[i].frees, 1);
        CHECK(action_of(numbers[i]).sa_handler == SIG_DFL);
    }
}

TEST(many_raises_may_be_told_once_but_never_lost) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    int i;
    CHECK_CODE(add(loop, SIGUSR1, &p), 0);
    for (i = 0; i < 100000; i++)
        raise(SIGUSR1);
    CHECK(evl_loop_run_until_idle(loop) >= 1);
    CHECK(p.calls >= 1 && p.calls <= 100000);
    end_loop(loop);
}

TEST(second_add_replaces_and_cancels) {
    evl_loop *loop = manual_loop();
    struct probe a = probe_named("a", loop), b = probe_named("b", loop);
    evl_handle *first = NULL, *second = NULL;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &a, probe_free, NULL, &first), 0);
    CHECK_CODE(evl_handle_schedule(first), -EINVAL);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &b, probe_free, NULL, &second), 0);
    CHECK_INT(evl_handle_cancelled(first), 1);
    CHECK_PROBE(a, 0, 1);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("b");
    CHECK_CODE(evl_handle_cancel(first), 0); /* of the past */
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("b");
    CHECK_CODE(evl_handle_cancel(second), 0); /* as a reader's: removes the handler */
    CHECK_PROBE(b, 2, 1);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 0);
    CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
    evl_handle_unref(first);
    evl_handle_unref(second);
    end_loop(loop);
}

TEST(removal_restores_what_was_there) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    install(SIGUSR1, own_handler);
    install(SIGUSR2, SIG_IGN);
    CHECK_CODE(add(loop, SIGUSR1, &p), 0);
    CHECK_CODE(add(loop, SIGUSR1, &p), 0); /* replaced: still restores the first action */
    CHECK_CODE(add(loop, SIGUSR2, &p), 0);
    CHECK(action_of(SIGUSR1).sa_handler != own_handler);
    own_calls = 0;
    CHECK(raise(SIGUSR1) == 0);
    CHECK_INT(own_calls, 0);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 1);
    CHECK(action_of(SIGUSR1).sa_handler == own_handler);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_INT(own_calls, 1);
    end_loop(loop); /* close restores, too */
    CHECK(action_of(SIGUSR2).sa_handler == SIG_IGN);
    CHECK_INT(p.frees, 3);
    install(SIGUSR1, SIG_DFL);
    install(SIGUSR2, SIG_DFL);
}

TEST(removal_leaves_an_action_that_somebody_installed_since) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(add(loop, SIGUSR1, &p), 0);
    CHECK_CODE(add(loop, SIGUSR2, &p), 0);
    install(SIGUSR1, own_handler);
    install(SIGUSR2, own_handler);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 1);
    CHECK(action_of(SIGUSR1).sa_handler == own_handler);
    end_loop(loop);
    CHECK(action_of(SIGUSR2).sa_handler == own_handler);
    CHECK_INT(p.frees, 2);
    install(SIGUSR1, SIG_DFL);
    install(SIGUSR2, SIG_DFL);
}

TEST(one_loop_owns_a_signal) {
    evl_loop *first = manual_loop(), *second = manual_loop();
    struct probe a = probe_named("a", first), b = probe_named("b", second);
    evl_handle *handle = NULL;
    CHECK_CODE(add(first, SIGUSR1, &a), 0);
    CHECK_CODE(evl_loop_add_signal_handler(second, SIGUSR1, probe_call, &b, probe_free, NULL, &handle), EVL_EBUSY);
    CHECK(handle == NULL);
    CHECK_PROBE(b, 0, 1);
    CHECK_CODE(evl_loop_remove_signal_handler(second, SIGUSR1), 0);
    CHECK_CODE(add(second, SIGUSR2, &b), 0);
    CHECK(raise(SIGUSR1) == 0 && raise(SIGUSR2) == 0);
    CHECK_CODE(evl_loop_run_once(first, 0), 1);
    CHECK_TRACE("a");
    CHECK_CODE(evl_loop_run_once(second, 0), 1);
    CHECK_TRACE("b");
    CHECK_CODE(evl_loop_remove_signal_handler(first, SIGUSR1), 1);
    CHECK_CODE(add(second, SIGUSR1, &b), 0); /* free now */
    end_loop(second);
    CHECK_CODE(add(first, SIGUSR2, &a), 0); /* freed by close */
    end_loop(first);
    CHECK_PROBE(a, 1, 2);
    CHECK_PROBE(b, 1, 3);
}

TEST(a_signal_raised_before_removal_is_not_told) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(add(loop, SIGUSR1, &p), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 1);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_PROBE(p, 0, 1);
    end_loop(loop);
}

TEST(signals_that_are_not) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    static const int wrong[] = {0, -1, -SIGUSR1, 65, 1000, INT32_MAX, INT32_MIN};
    static const int refused[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    size_t i;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_CODE(add(loop, wrong[i], &p), -EINVAL);
        CHECK_CODE(evl_loop_remove_signal_handler(loop, wrong[i]), -EINVAL);
        CHECK_INT(p.frees, (int)i + 1);
    }
    p.frees = 0;
    for (i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct sigaction before = action_of(refused[i]);
        CHECK_CODE(add(loop, refused[i], &p), EVL_ESIGNAL);
        CHECK_PROBE(p, 0, (int)i + 1);
        CHECK(action_of(refused[i]).sa_handler == before.sa_handler);
        CHECK_CODE(evl_loop_remove_signal_handler(loop, refused[i]), 0);
    }
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    end_loop(loop);
}

struct actor {
    evl_loop *loop;
    struct probe *replacement;
    int calls, frees;
};

static void actor_free(void *arg) {
    ((struct actor *)arg)->frees++;
}

static void remove_self(void *arg) {
    struct actor *a = (struct actor *)arg;
    a->calls++;
    CHECK_CODE(evl_loop_remove_signal_handler(a->loop, SIGUSR1), 1);
    CHECK_INT(a->frees, 0);
}

static void replace_self(void *arg) {
    struct actor *a = (struct actor *)arg;
    a->calls++;
    CHECK_CODE(add(a->loop, SIGUSR1, a->replacement), 0);
    CHECK_INT(a->frees, 0);
}

TEST(handler_removes_and_replaces_itself) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("new", loop);
    struct actor a;
    memset(&a, 0, sizeof a);
    a.loop = loop;
    a.replacement = &p;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, remove_self, &a, actor_free, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(a.frees, 1);
    CHECK(action_of(SIGUSR1).sa_handler == SIG_DFL);
    a.frees = 0;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, replace_self, &a, actor_free, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(a.calls, 2);
    CHECK_INT(a.frees, 1);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("new");
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

static void *add_in_thread(void *arg) {
    struct probe *p = (struct probe *)arg;
    CHECK_CODE(add(p->loop, SIGUSR1, p), 0);
    return NULL;
}

TEST(any_thread_registers_with_an_idle_loop) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    in_thread(add_in_thread, &p);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
}

static int seen_kind, seen_number;

static int visit(evl_handle *handle, int kind, int number, void *arg) {
    (void)arg;
    CHECK(handle != NULL);
    seen_kind = kind;
    seen_number = number;
    return 0;
}

TEST(walk_shows_the_handler) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(add(loop, SIGUSR2, &p), 0);
    CHECK_CODE(evl_loop_walk(loop, visit, NULL), 0);
    CHECK_INT(seen_kind, EVL_WALK_SIGNAL);
    CHECK_INT(seen_number, SIGUSR2);
    end_loop(loop);
}

TEST_MAIN()
