/* Signal handlers of a loop that raise, exit, stop and add others; signals that come while it waits; closed loops; and what the system
 * refuses (this program has a sigaction of its own). */
#include "harness.h"

#include <dlfcn.h>
#include <time.h>

static int refuse; /* an errno: the next sigaction that sets something fails */

typedef int (*sigaction_fn)(int, const struct sigaction *, struct sigaction *);

int our_sigaction(int number, const struct sigaction *action, struct sigaction *old) __asm__("sigaction");

int our_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    static sigaction_fn next;
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "sigaction");
    if (refuse && action != NULL) {
        errno = refuse;
        refuse = 0;
        return -1;
    }
    return next(number, action, old);
}

static int is_default(int number) {
    struct sigaction action;
    CHECK(sigaction(number, NULL, &action) == 0);
    return action.sa_handler == SIG_DFL;
}

/* Whoever has started this program may have had it ignore some. */
static void make_default(int number) {
    CHECK(signal(number, SIG_DFL) != SIG_ERR);
}

/* The first test: valgrind looks through the memory of a child that dies so, and threads would seem lost there. */
static void die_by_it(void *arg) {
    int how = *(int *)arg;
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGTERM, probe_call, &p, NULL, NULL, NULL), 0);
    CHECK(raise(SIGTERM) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(p.calls, 1);
    if (how == 0)
        CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGTERM), 1);
    else
        CHECK_CODE(evl_loop_close(loop), 0);
    evl_loop_unref(loop);
    fflush(NULL);
    raise(SIGTERM);
    CHECK(!"a signal without a handler ends the process");
}

TEST(without_its_handler_a_signal_ends_the_process_again) {
    int how;
    for (how = 0; how < 2; how++) {
        int status = in_child(die_by_it, &how);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    }
}

static struct {
    int count, code;
    evl_handle *handle;
    char message[100];
} told;

static void on_exception(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop, (void)arg;
    told.count++;
    told.code = exception->code;
    told.handle = exception->handle;
    snprintf(told.message, sizeof told.message, "%s", exception->message);
}

static void raise_in_handler(void *arg) {
    probe_call(arg);
    CHECK_CODE(evl_raise(-4242, "in the handler"), 0);
}

TEST(a_handler_that_raises_is_told_and_stays) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("usr1", loop);
    evl_handle *handle = NULL;
    int i;
    memset(&told, 0, sizeof told);
    CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, raise_in_handler, &p, probe_free, NULL, &handle), 0);
    for (i = 1; i <= 2; i++) {
        CHECK(raise(SIGUSR1) == 0);
        CHECK_CODE(evl_loop_run_once(loop, 0), 1);
        CHECK_INT(told.count, i);
        CHECK_CODE(told.code, -4242);
        CHECK(told.handle == handle);
        CHECK(strstr(told.message, "in the handler") != NULL);
    }
    CHECK_PROBE(p, 2, 0);
    CHECK_TRACE("usr1 usr1");
    evl_handle_unref(handle);
    end_loop(loop);
    CHECK_PROBE(p, 2, 1);
}

static void exit_in_handler(void *arg) {
    (void)arg;
    CHECK_CODE(evl_raise_exit(9), 0);
}

TEST(a_handler_that_exits_ends_the_run) {
    evl_loop *loop = real_loop();
    int code = 0;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGTERM, exit_in_handler, NULL, NULL, NULL, NULL), 0);
    CHECK(raise(SIGTERM) == 0);
    CHECK_CODE(evl_loop_run_forever(loop), EVL_EEXIT);
    CHECK_CODE(evl_loop_exit_code(loop, &code), 0);
    CHECK_INT(code, 9);
    end_loop(loop);
    CHECK(is_default(SIGTERM));
}

static void add_another(void *arg) {
    struct probe *other = (struct probe *)arg;
    trace("first");
    CHECK_CODE(evl_loop_add_signal_handler(other->loop, SIGUSR2, probe_call, other, NULL, NULL, NULL), 0);
    CHECK(raise(SIGUSR2) == 0);
    CHECK(raise(SIGUSR1) == 0);
}

TEST(a_handler_adds_another_and_is_signalled_again) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("second", loop);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, add_another, &p, NULL, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("first");
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 1); /* what came for it is not told any more */
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("second");
    end_loop(loop);
}

/* By its handle, after the signal has come and before the loop has looked. */
TEST(a_handler_cancelled_when_its_signal_has_come) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("never", loop), q = probe_named("q", loop);
    evl_handle *handle = NULL;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR2, probe_call, &q, probe_free, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0 && raise(SIGUSR2) == 0);
    CHECK_CODE(evl_handle_cancel(handle), 0);
    CHECK_PROBE(p, 0, 1);
    CHECK(is_default(SIGUSR1));
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 1);
    CHECK_TRACE("q");
    evl_handle_unref(handle);
    end_loop(loop);
}

/* --- while the loop waits */

static void stop_and_count(void *arg) {
    struct probe *p = (struct probe *)arg;
    p->calls++;
    CHECK_CODE(evl_loop_stop(p->loop), 0);
}

TEST(a_signal_of_the_system_ends_the_wait) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop), late = probe_named("too late", loop);
    struct sigevent event;
    struct itimerspec when = {{0, 0}, {0, 10000000}};
    timer_t timer;
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR2;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR2, stop_and_count, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_SECONDS(60), probe_call, &late, probe_free, NULL, NULL), 0);
    REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK(timer_settime(timer, 0, &when, NULL) == 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK(timer_delete(timer) == 0);
    CHECK_PROBE(p, 1, 0);
    CHECK_PROBE(late, 0, 0);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
    CHECK_TRACE("");
}

static void note_process(evl_process *process, void *arg) {
    (void)process;
    (*(int *)arg)++;
}

/* SIGCHLD is the host's, and children are heard of all the same. */
TEST(sigchld_beside_children) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    evl_process_protocol protocol;
    int exited = 0;
    memset(&protocol, 0, sizeof protocol);
    protocol.size = sizeof protocol;
    protocol.process_exited = note_process;
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGCHLD, probe_call, &p, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exit 0", NULL, &protocol, &exited, NULL, NULL), 0);
    while (p.calls == 0 || exited == 0)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    CHECK_INT(exited, 1);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGCHLD), 1);
    CHECK(is_default(SIGCHLD));
    end_loop(loop);
}

/* --- closed loops */

TEST(closing_gives_all_signals_back) {
    static const int numbers[] = {SIGHUP, SIGUSR1, SIGCHLD, SIGINT};
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    int i;
    for (i = 0; i < 4; i++) {
        make_default(numbers[i]);
        CHECK_CODE(evl_loop_add_signal_handler(loop, numbers[i], probe_call, &p, probe_free, NULL, NULL), 0);
    }
    for (i = 0; i < 4; i++)
        CHECK(!is_default(numbers[i]));
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_INT(p.frees, 4);
    for (i = 0; i < 4; i++)
        CHECK(is_default(numbers[i]));
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGHUP, probe_call, &p, probe_free, NULL, NULL), EVL_ECLOSED);
    CHECK_INT(p.frees, 5);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGHUP), EVL_ECLOSED);
    CHECK(is_default(SIGHUP));
    evl_loop_unref(loop);
}

/* --- what the system refuses */

TEST(a_handler_that_cannot_be_installed) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("p", loop);
    evl_handle *handle = NULL;
    static const int codes[] = {EINVAL, EFAULT, ENOMEM};
    int i;
    for (i = 0; i < 3; i++) {
        p.frees = 0;
        refuse = codes[i];
        CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &p, probe_free, NULL, &handle), -codes[i]);
        CHECK(handle == NULL);
        CHECK_INT(p.frees, 1);
        CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 0);
        CHECK(is_default(SIGUSR1));
    }
    /* Nothing of it is left. */
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("p");
    /* One that cannot be taken back is no handler any more all the same. */
    refuse = EINVAL;
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 1);
    CHECK_INT(p.frees, 2);
    CHECK_CODE(evl_loop_remove_signal_handler(loop, SIGUSR1), 0);
    CHECK(raise(SIGUSR1) == 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    end_loop(loop);
    signal(SIGUSR1, SIG_DFL);
}

TEST_MAIN()
