/* Child watchers of both kinds: several children, children that have ended before or that only stop, children of others, callbacks that
 * raise and that add others, and the context they run in. */
#include "jobs.h"

#include <fcntl.h>

struct heard {
    evl_loop *loop;
    evl_child_watcher *watcher;
    int pid, code, calls, frees, next;
    struct heard *successor;
};

static void heard_free(void *arg) {
    ((struct heard *)arg)->frees++;
}

static void on_child(int pid, int returncode, void *arg) {
    struct heard *heard = (struct heard *)arg;
    CHECK_INT(heard->frees, 0);
    CHECK_INT(pid, heard->pid);
    heard->code = returncode;
    heard->calls++;
    /* It is not watched any more. */
    CHECK_CODE(evl_child_watcher_remove_child_handler(heard->watcher, pid), 0);
    if (heard->successor != NULL)
        CHECK_CODE(evl_child_watcher_add_child_handler(heard->watcher, heard->loop, heard->successor->pid, on_child,
                                                       heard->successor, heard_free),
                   0);
}

/* A child that ends when *gate is closed. It is another program when this returns. */
static int gated(int code, int *gate) {
    char command[40];
    int fds[2], begun[2], pid;
    fflush(NULL);
    if (!CHECK(pipe(fds) == 0 && pipe2(begun, O_CLOEXEC) == 0))
        return -1;
    CHECK(fcntl(fds[1], F_SETFD, FD_CLOEXEC) == 0);
    snprintf(command, sizeof command, "read x; exit %d", code);
    pid = fork();
    if (pid == 0) {
        dup2(fds[0], 0);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(78);
    }
    close(fds[0]);
    close(begun[1]);
    CHECK(read(begun[0], command, 1) == 0);
    close(begun[0]);
    *gate = fds[1];
    return pid;
}

/* Waits until a child has ended, and leaves it to be reaped. */
static void await_end(int pid) {
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
    }
}

static int is_reaped(int pid) {
    return waitpid(pid, NULL, WNOHANG) == -1 && errno == ECHILD;
}

static evl_loop *loop;
static evl_child_watcher *watcher;

static void begin(int threaded) {
    loop = real_loop();
    CHECK_CODE(threaded ? evl_child_watcher_new_threaded(&watcher) : evl_child_watcher_new_pidfd(&watcher), 0);
}

static void end(void) {
    evl_child_watcher_unref(watcher);
    end_loop(loop);
}

static void watch(struct heard *heard, int pid) {
    memset(heard, 0, sizeof *heard);
    heard->loop = loop;
    heard->watcher = watcher;
    heard->pid = pid;
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, heard, heard_free), 0);
}

static void run_until_heard(struct heard *heard) {
    while (heard->calls == 0)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            return;
}

static void check_heard(struct heard *heard, int code) {
    CHECK_INT(heard->calls, 1);
    CHECK_INT(heard->code, code);
    CHECK_INT(heard->frees, 1);
    CHECK(is_reaped(heard->pid));
}

#define BOTH_KINDS                                                                                                    \
    int threaded;                                                                                                     \
    for (threaded = 0; threaded < 2; threaded++)

TEST(two_children_one_after_the_other) {
    struct heard first, second;
    int gates[2], pid;
    BOTH_KINDS {
        begin(threaded);
        watch(&first, pid = gated(3, &gates[0]));
        watch(&second, gated(108, &gates[1]));
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        CHECK_INT(first.calls + second.calls, 0);
        kill(pid, SIGUSR2);
        run_until_heard(&first);
        check_heard(&first, -SIGUSR2);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        CHECK_INT(second.calls, 0);
        close(gates[1]);
        run_until_heard(&second);
        check_heard(&second, 108);
        CHECK_INT(first.calls, 1);
        close(gates[0]);
        end();
    }
}

TEST(two_children_that_end_together) {
    struct heard first, second;
    int gates[2], pid;
    BOTH_KINDS {
        begin(threaded);
        watch(&first, gated(78, &gates[0]));
        watch(&second, pid = gated(0, &gates[1]));
        close(gates[0]);
        kill(pid, SIGTERM);
        if (!threaded && !under_valgrind()) { /* there are no pidfds under valgrind */
            await_end(first.pid);
            await_end(pid);
            CHECK_CODE(evl_loop_run_once(loop, 0), 2);
        }
        run_until_heard(&first);
        run_until_heard(&second);
        check_heard(&first, 78);
        check_heard(&second, -SIGTERM);
        close(gates[1]);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        end();
    }
}

TEST(a_child_that_has_ended_before) {
    struct heard heard;
    int gate, pid;
    BOTH_KINDS {
        begin(threaded);
        pid = gated(4, &gate);
        close(gate);
        await_end(pid);
        watch(&heard, pid);
        CHECK_INT(heard.calls, 0); /* not from inside of it */
        run_until_heard(&heard);
        check_heard(&heard, 4);
        end();
    }
}

TEST(a_child_that_stops_and_continues_has_not_ended) {
    struct heard heard;
    siginfo_t info;
    int gate, pid;
    BOTH_KINDS {
        begin(threaded);
        watch(&heard, pid = gated(5, &gate));
        kill(pid, SIGSTOP);
        CHECK(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT) == 0);
        CHECK(evl_loop_run_once(loop, EVL_MS(5)) >= 0);
        CHECK_INT(heard.calls, 0);
        kill(pid, SIGCONT);
        CHECK(evl_loop_run_once(loop, EVL_MS(5)) >= 0);
        CHECK_INT(heard.calls, 0);
        close(gate);
        run_until_heard(&heard);
        check_heard(&heard, 5);
        end();
    }
}

TEST(of_three_children_two_are_not_wanted) {
    struct heard heard[3];
    int gates[3], i;
    BOTH_KINDS {
        begin(threaded);
        for (i = 0; i < 3; i++)
            watch(&heard[i], gated(i, &gates[i]));
        CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, heard[0].pid), 1);
        CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, heard[1].pid), 1);
        CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, heard[1].pid), 0);
        CHECK_INT(heard[0].frees + heard[1].frees, 2);
        for (i = 0; i < 3; i++)
            close(gates[i]);
        run_until_heard(&heard[2]);
        check_heard(&heard[2], 2);
        for (i = 0; i < 2; i++)
            while (waitpid(heard[i].pid, NULL, 0) < 0 && errno == EINTR) { /* its thread's, or ours */
            }
        await_threads(1);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        CHECK_INT(heard[0].calls + heard[1].calls, 0);
        end();
    }
}

/* Children that nobody has asked a watcher for stay to be reaped by whoever has started them. */
TEST(children_of_others_are_left_alone) {
    struct heard heard;
    int gates[2], stranger, status = 0;
    BOTH_KINDS {
        begin(threaded);
        stranger = gated(17, &gates[1]);
        close(gates[1]);
        await_end(stranger);
        watch(&heard, gated(7, &gates[0]));
        close(gates[0]);
        run_until_heard(&heard);
        check_heard(&heard, 7);
        CHECK(waitpid(stranger, &status, 0) == stranger);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 17);
        end();
    }
}

static char logged[400];

static void log_line(int level, const char *message, void *arg) {
    (void)arg;
    CHECK_INT(level, EVL_LOG_WARNING);
    snprintf(logged, sizeof logged, "%s", message);
}

TEST(a_watched_child_that_somebody_else_reaps) {
    struct heard heard;
    char expected[100];
    int gate;
    if (under_valgrind())
        return; /* it has no pidfds: a thread waits there, and may be first */
    begin(0);
    CHECK_CODE(evl_loop_set_log(loop, log_line, NULL, NULL), 0);
    logged[0] = 0;
    watch(&heard, gated(4, &gate));
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    close(gate);
    CHECK(waitpid(heard.pid, NULL, 0) == heard.pid);
    run_until_heard(&heard);
    check_heard(&heard, 255);
    snprintf(expected, sizeof expected, "Unknown child process pid %d, will report returncode 255", heard.pid);
    CHECK_STRING(logged, expected);
    end();
}

static int handled;

static void on_exception(evl_loop *event_loop, const evl_exception *exception, void *arg) {
    (void)event_loop, (void)arg;
    handled++;
    CHECK_CODE(exception->code, -4242);
}

static void raise_on_child(int pid, int returncode, void *arg) {
    on_child(pid, returncode, arg);
    CHECK_CODE(evl_raise(-4242, "on purpose"), 0);
}

TEST(a_callback_that_raises_does_no_harm_to_others) {
    struct heard bad, good;
    int gates[2];
    BOTH_KINDS {
        begin(threaded);
        handled = 0;
        CHECK_CODE(evl_loop_set_exception_handler(loop, on_exception, NULL, NULL), 0);
        watch(&bad, gated(1, &gates[0]));
        watch(&good, gated(2, &gates[1]));
        bad.frees = -1; /* the first one is replaced */
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, bad.pid, raise_on_child, &bad, heard_free), 0);
        CHECK_INT(bad.frees, 0);
        close(gates[0]);
        close(gates[1]);
        run_until_heard(&bad);
        run_until_heard(&good);
        check_heard(&bad, 1);
        check_heard(&good, 2);
        CHECK_INT(handled, 1);
        await_threads(1); /* that of the one that was replaced, too */
        end();
    }
}

TEST(a_callback_watches_the_next_child) {
    struct heard first, second;
    int gates[2];
    BOTH_KINDS {
        begin(threaded);
        memset(&second, 0, sizeof second);
        second.loop = loop;
        second.watcher = watcher;
        second.pid = gated(12, &gates[1]);
        close(gates[1]);
        await_end(second.pid);
        watch(&first, gated(11, &gates[0]));
        first.successor = &second;
        close(gates[0]);
        run_until_heard(&second);
        check_heard(&first, 11);
        check_heard(&second, 12);
        end();
    }
}

/* --- contexts and loops */

static evl_context_var *var;

static void look_at_var(int pid, int returncode, void *arg) {
    void *value = NULL;
    on_child(pid, returncode, arg);
    CHECK_CODE(evl_context_var_get(var, &value), 0);
    CHECK_STRING((const char *)value, "then");
}

TEST(the_context_is_that_of_the_adding) {
    struct heard heard;
    int gate;
    CHECK_CODE(evl_context_var_new("v", NULL, NULL, &var), 0);
    BOTH_KINDS {
        begin(threaded);
        CHECK_CODE(evl_context_var_set(var, "then", NULL, NULL), 0);
        memset(&heard, 0, sizeof heard);
        heard.watcher = watcher;
        heard.pid = gated(0, &gate);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, heard.pid, look_at_var, &heard, heard_free), 0);
        CHECK_CODE(evl_context_var_set(var, "now", NULL, NULL), 0);
        close(gate);
        run_until_heard(&heard);
        check_heard(&heard, 0);
        end();
    }
    evl_context_var_unref(var);
}

/* What a closed loop has watched may be watched by another. */
TEST(another_loop_takes_a_child_over) {
    struct heard first, second;
    evl_loop *closed;
    int gate, pid;
    begin(0);
    watch(&first, pid = gated(9, &gate));
    closed = loop;
    CHECK_CODE(evl_loop_close(closed), 0);
    CHECK_INT(first.frees, 1);
    loop = real_loop();
    if (under_valgrind()) {
        close(gate); /* the first loop's thread reaps it */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        await_threads(1);
    } else {
        watch(&second, pid);
        close(gate);
        run_until_heard(&second);
        check_heard(&second, 9);
    }
    CHECK_INT(first.calls, 0);
    evl_loop_unref(closed);
    end();
}

/* Watching goes on without the watcher. */
TEST(the_watcher_goes_first) {
    struct heard heard;
    int gate;
    BOTH_KINDS {
        begin(threaded);
        watch(&heard, gated(6, &gate));
        evl_child_watcher_ref(watcher); /* on_child asks it */
        CHECK_CODE(evl_child_watcher_close(watcher), 0);
        evl_child_watcher_unref(watcher);
        close(gate);
        run_until_heard(&heard);
        check_heard(&heard, 6);
        end();
    }
}

TEST_MAIN()
