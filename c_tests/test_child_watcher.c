/* Child watchers: on pidfds, by threads, of the host's own; and the policy's. */
#define _GNU_SOURCE
#include "harness.h"

struct heard {
    struct probe probe;
    int pid, code;
    pthread_t thread;
};

static void on_child(int pid, int returncode, void *arg) {
    struct heard *heard = (struct heard *)arg;
    CHECK_INT(heard->probe.frees, 0);
    heard->probe.calls++;
    heard->pid = pid;
    heard->code = returncode;
    heard->thread = pthread_self();
}

static void heard_free(void *arg) {
    ((struct heard *)arg)->probe.frees++;
}

/* A child that ends when a byte is written to *gate, with status code, or when it is closed, with 77. */
static int gated(int code, int *gate) {
    int fds[2];
    pid_t pid;
    fflush(NULL);
    if (pipe(fds) != 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        /* Another program: valgrind would look for leaks in a copy of this one. */
        char command[60];
        snprintf(command, sizeof command, "read x && exit %d; exit 77", code);
        dup2(fds[0], 0);
        close(fds[1]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(78);
    }
    close(fds[0]);
    *gate = fds[1];
    return pid;
}

static void let_go(int *gate) {
    CHECK(write(*gate, "x\n", 2) == 2);
    close(*gate);
}

static void run_until_heard(evl_loop *loop, struct heard *heard) {
    while (heard->probe.calls == 0)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            return;
}

static char logged[1000];

static void log_line(int level, const char *message, void *arg) {
    size_t used = strlen(logged);
    (void)arg;
    snprintf(logged + used, sizeof logged - used, "%d:%s\n", level, message);
}

static evl_child_watcher *watcher_of(int threaded) {
    evl_child_watcher *watcher = NULL;
    CHECK_CODE(threaded ? evl_child_watcher_new_threaded(&watcher) : evl_child_watcher_new_pidfd(&watcher), 0);
    return watcher;
}

TEST(both_kinds_tell_of_the_end) {
    int threaded, gate, pid;
    for (threaded = 0; threaded < 2; threaded++) {
        evl_loop *loop = real_loop();
        evl_child_watcher *watcher = watcher_of(threaded);
        struct heard exited, killed;
        memset(&exited, 0, sizeof exited);
        memset(&killed, 0, sizeof killed);
        CHECK_INT(evl_child_watcher_is_active(watcher), 1);
        pid = gated(9, &gate);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &exited, heard_free), 0);
        CHECK(evl_loop_run_once(loop, 0) >= 0);
        CHECK_INT(exited.probe.calls, 0);
        let_go(&gate);
        run_until_heard(loop, &exited);
        CHECK_INT(exited.pid, pid);
        CHECK_INT(exited.code, 9);
        CHECK_INT(exited.probe.frees, 1);
        CHECK(pthread_equal(exited.thread, pthread_self()));
        CHECK(waitpid(pid, NULL, WNOHANG) == -1 && errno == ECHILD);

        pid = gated(9, &gate);
        kill(pid, SIGKILL);
        close(gate);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &killed, heard_free), 0);
        run_until_heard(loop, &killed);
        CHECK_INT(killed.code, -SIGKILL);
        CHECK_INT(killed.probe.frees, 1);
        evl_child_watcher_unref(watcher);
        end_loop(loop);
    }
}

TEST(a_second_handler_replaces_the_first) {
    int threaded, gate, pid;
    for (threaded = 0; threaded < 2; threaded++) {
        evl_loop *loop = real_loop(), *other = real_loop();
        evl_child_watcher *watcher = watcher_of(threaded);
        struct heard first, second, third;
        memset(&first, 0, sizeof first);
        memset(&second, 0, sizeof second);
        memset(&third, 0, sizeof third);
        pid = gated(9, &gate);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &first, heard_free), 0);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &second, heard_free), 0);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, other, pid, on_child, &third, heard_free), EVL_EBUSY);
        CHECK_INT(first.probe.frees, 1);
        CHECK_INT(third.probe.frees, 1);
        let_go(&gate);
        run_until_heard(loop, &second);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        CHECK_INT(second.code, 9);
        CHECK_INT(first.probe.calls, 0);
        CHECK_INT(second.probe.calls, 1);
        evl_child_watcher_unref(watcher);
        if (threaded)
            usleep(under_valgrind() ? 300000 : 1000); /* for the first one's thread to be gone: leak checks see it */
        end_loop(other);
        end_loop(loop);
    }
}

TEST(removing_a_handler) {
    int threaded, gate, pid;
    for (threaded = 0; threaded < 2; threaded++) {
        evl_loop *loop = real_loop();
        evl_child_watcher *watcher = watcher_of(threaded);
        struct heard heard;
        memset(&heard, 0, sizeof heard);
        pid = gated(9, &gate);
        CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, pid), 0);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &heard, heard_free), 0);
        CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, pid), 1);
        CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, pid), 0);
        CHECK_INT(heard.probe.frees, 1);
        let_go(&gate);
        if (threaded && !under_valgrind())
            while (kill(pid, 0) == 0) /* its thread reaps it anyway */
                usleep(1000);
        else
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
            }
        usleep(under_valgrind() ? 300000 : 1000);
        CHECK(evl_loop_run_until_idle(loop) >= 0);
        CHECK_INT(heard.probe.calls, 0);
        evl_child_watcher_unref(watcher);
        end_loop(loop);
    }
}

TEST(a_child_that_somebody_else_has_reaped) {
    int threaded, gate, pid;
    for (threaded = 0; threaded < 2; threaded++) {
        evl_loop *loop = real_loop();
        evl_child_watcher *watcher = watcher_of(threaded);
        struct heard heard;
        memset(&heard, 0, sizeof heard);
        logged[0] = 0;
        CHECK_CODE(evl_loop_set_log(loop, log_line, NULL, NULL), 0);
        pid = gated(9, &gate);
        let_go(&gate);
        CHECK(waitpid(pid, NULL, 0) == pid);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &heard, heard_free), 0);
        run_until_heard(loop, &heard);
        CHECK_INT(heard.code, 255);
        CHECK(strstr(logged, "1:Unknown child process pid ") != NULL);
        evl_child_watcher_unref(watcher);
        end_loop(loop);
    }
}

TEST(the_loop_is_closed_before_the_child_ends) {
    int threaded, gate, pid;
    for (threaded = 0; threaded < 2; threaded++) {
        evl_loop *loop = real_loop();
        evl_child_watcher *watcher = watcher_of(threaded);
        struct heard heard;
        memset(&heard, 0, sizeof heard);
        pid = gated(9, &gate);
        CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &heard, heard_free), 0);
        evl_child_watcher_unref(watcher);
        end_loop(loop);
        CHECK_INT(heard.probe.frees, 1);
        let_go(&gate);
        if (threaded && !under_valgrind())
            while (kill(pid, 0) == 0)
                usleep(1000);
        else
            waitpid(pid, NULL, 0);
        usleep(under_valgrind() ? 300000 : 1000);
        CHECK_INT(heard.probe.calls, 0);
    }
}

static void raise_on_child(int pid, int returncode, void *arg) {
    on_child(pid, returncode, arg);
    CHECK_CODE(evl_raise(-4242, "on purpose"), 0);
}

static int handled;

static void handler(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    handled++;
    CHECK_CODE(exception->code, -4242);
    CHECK_STRING(exception->message, "Exception in callback of a child watcher: on purpose");
}

TEST(a_callback_that_raises) {
    evl_loop *loop = real_loop();
    evl_child_watcher *watcher = watcher_of(0);
    struct heard heard;
    int gate, pid;
    memset(&heard, 0, sizeof heard);
    handled = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, handler, NULL, NULL), 0);
    pid = gated(9, &gate);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, raise_on_child, &heard, heard_free), 0);
    let_go(&gate);
    run_until_heard(loop, &heard);
    CHECK_INT(handled, 1);
    CHECK_INT(heard.probe.frees, 1);
    evl_child_watcher_unref(watcher);
    end_loop(loop);
}

TEST(a_closed_watcher_takes_no_more) {
    evl_loop *loop = real_loop();
    evl_child_watcher *watcher = watcher_of(0);
    struct heard before, after;
    int gate, pid;
    memset(&before, 0, sizeof before);
    memset(&after, 0, sizeof after);
    pid = gated(9, &gate);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, pid, on_child, &before, heard_free), 0);
    CHECK_CODE(evl_child_watcher_close(watcher), 0);
    CHECK_CODE(evl_child_watcher_close(watcher), 0);
    CHECK_INT(evl_child_watcher_is_active(watcher), 0);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, 1, on_child, &after, heard_free), EVL_ESHUTDOWN);
    CHECK_INT(after.probe.frees, 1);
    let_go(&gate);
    run_until_heard(loop, &before);
    CHECK_INT(before.code, 9);
    evl_child_watcher_unref(watcher);
    end_loop(loop);
}

/* --- a watcher of the host's own, which waits when it is told to */

struct own {
    int pid, active, closes, removed, from_thread;
    evl_child_callback callback;
    void *arg;
    evl_free_fn arg_free;
};

static int own_add(void *watcher_arg, evl_loop *loop, int pid, evl_child_callback callback, void *arg,
                   evl_free_fn arg_free) {
    struct own *own = (struct own *)watcher_arg;
    CHECK(loop != NULL);
    if (own->pid) {
        if (arg_free)
            arg_free(arg);
        return -EBUSY;
    }
    own->pid = pid;
    own->callback = callback;
    own->arg = arg;
    own->arg_free = arg_free;
    return 0;
}

static int own_remove(void *watcher_arg, int pid) {
    struct own *own = (struct own *)watcher_arg;
    own->removed = pid;
    return own->pid == pid;
}

static int own_is_active(void *watcher_arg) {
    return ((struct own *)watcher_arg)->active;
}

static int own_close(void *watcher_arg) {
    ((struct own *)watcher_arg)->closes++;
    return 0;
}

static void *own_wait(void *arg) {
    struct own *own = (struct own *)arg;
    int status = 0;
    CHECK(waitpid(own->pid, &status, 0) == own->pid);
    own->callback(own->pid, WEXITSTATUS(status), own->arg);
    if (own->arg_free)
        own->arg_free(own->arg);
    own->pid = 0;
    return NULL;
}

static int policy_gets, policy_sets;
static evl_child_watcher *policy_watcher;

static int policy_get(void *arg, evl_child_watcher **out) {
    (void)arg;
    policy_gets++;
    if (policy_watcher == NULL)
        return -ENOENT;
    *out = evl_child_watcher_ref(policy_watcher);
    return 0;
}

static int policy_set(void *arg, evl_child_watcher *watcher) {
    (void)arg;
    policy_sets++;
    evl_child_watcher_unref(policy_watcher);
    policy_watcher = evl_child_watcher_ref(watcher);
    return 0;
}

TEST(own_watchers_serve_subprocesses) {
    evl_loop *loop = real_loop();
    evl_child_watcher *watcher = NULL;
    evl_child_watcher_vtable table;
    evl_process *process = NULL;
    evl_future *future = NULL;
    int64_t code = 0;
    struct own own;
    struct probe arg = probe_named(NULL, NULL);
    memset(&own, 0, sizeof own);
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.add_child_handler = own_add;
    table.remove_child_handler = own_remove;
    table.is_active = own_is_active;
    table.close = own_close;
    CHECK_CODE(evl_child_watcher_new(&table, &own, NULL, &watcher), 0);
    CHECK_CODE(evl_set_child_watcher(watcher), 0);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exit 6", NULL, NULL, &arg, probe_free, &process), EVL_ESHUTDOWN);
    CHECK_INT(arg.frees, 1);
    own.active = 1;
    CHECK_INT(evl_child_watcher_is_active(watcher), 1);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exit 6", NULL, NULL, NULL, NULL, &process), 0);
    CHECK_INT(own.pid, evl_process_get_pid(process));
    CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, own.pid), 1);
    CHECK_INT(own.removed, own.pid);
    /* One that refuses: the child is killed and gone. */
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exec sleep 1000", NULL, NULL, &arg, probe_free, NULL), -EBUSY);
    CHECK_INT(arg.frees, 2);
    CHECK_CODE(evl_process_wait(process, &future), 0);
    in_thread(own_wait, &own); /* tells on another thread */
    while (!evl_future_done(future))
        CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
    CHECK_CODE(evl_future_result_int(future, &code), 0);
    CHECK_INT(code, 6);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK_CODE(evl_child_watcher_close(watcher), 0);
    CHECK_INT(own.closes, 1);
    CHECK_CODE(evl_set_child_watcher(NULL), 0);
    evl_child_watcher_unref(watcher);
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(a_watcher_without_functions) {
    evl_loop *loop = real_loop();
    evl_child_watcher *watcher = NULL;
    evl_child_watcher_vtable table;
    struct heard heard;
    struct probe arg = probe_named(NULL, NULL);
    memset(&heard, 0, sizeof heard);
    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    CHECK_CODE(evl_child_watcher_new(&table, &arg, probe_free, &watcher), 0);
    CHECK_INT(evl_child_watcher_is_active(watcher), 1);
    CHECK_CODE(evl_child_watcher_add_child_handler(watcher, loop, 5, on_child, &heard, heard_free),
               EVL_ENOTIMPLEMENTED);
    CHECK_INT(heard.probe.frees, 1);
    CHECK_CODE(evl_child_watcher_remove_child_handler(watcher, 5), EVL_ENOTIMPLEMENTED);
    CHECK_CODE(evl_child_watcher_close(watcher), 0);
    CHECK_INT(evl_child_watcher_is_active(watcher), 0);
    evl_child_watcher_unref(watcher);
    CHECK_INT(arg.frees, 1);
    end_loop(loop);
}

TEST(the_policys_watcher) {
    evl_child_watcher *first = NULL, *second = NULL, *own = watcher_of(1);
    evl_policy *policy = NULL, *custom = NULL, *empty = NULL;
    evl_policy_vtable table;
    CHECK_CODE(evl_get_policy(&policy), 0);
    CHECK_CODE(evl_get_child_watcher(&first), 0);
    CHECK_CODE(evl_policy_get_child_watcher(policy, &second), 0);
    CHECK(first != NULL && first == second);
    evl_child_watcher_unref(second);
    CHECK_CODE(evl_policy_set_child_watcher(policy, own), 0);
    CHECK_CODE(evl_get_child_watcher(&second), 0);
    CHECK(second == own);
    evl_child_watcher_unref(second);
    CHECK_CODE(evl_policy_set_child_watcher(policy, NULL), 0);
    CHECK_CODE(evl_get_child_watcher(&second), 0);
    CHECK(second != own);
    evl_child_watcher_unref(second);
    evl_child_watcher_unref(first);

    memset(&table, 0, sizeof table);
    table.size = sizeof table;
    table.get_child_watcher = policy_get;
    table.set_child_watcher = policy_set;
    CHECK_CODE(evl_policy_new(&table, NULL, NULL, &custom), 0);
    CHECK_CODE(evl_set_policy(custom), 0);
    CHECK_CODE(evl_get_child_watcher(&second), -ENOENT);
    CHECK_CODE(evl_set_child_watcher(own), 0);
    CHECK_CODE(evl_get_child_watcher(&second), 0);
    CHECK(second == own);
    CHECK_INT(policy_gets, 2);
    CHECK_INT(policy_sets, 1);
    evl_child_watcher_unref(second);
    CHECK_CODE(evl_set_child_watcher(NULL), 0);
    CHECK(policy_watcher == NULL);
    /* A table of the size it had before it knew of watchers. */
    table.size = (uint32_t)offsetof(evl_policy_vtable, get_child_watcher);
    CHECK_CODE(evl_policy_new(&table, NULL, NULL, &empty), 0);
    CHECK_CODE(evl_policy_get_child_watcher(empty, &second), EVL_ENOTIMPLEMENTED);
    CHECK_CODE(evl_policy_set_child_watcher(empty, own), EVL_ENOTIMPLEMENTED);
    CHECK_CODE(evl_set_policy(NULL), 0);
    evl_policy_unref(empty);
    evl_policy_unref(custom);
    evl_policy_unref(policy);
    evl_child_watcher_unref(own);
}

TEST(subprocesses_by_threads) {
    evl_loop *loop = real_loop();
    evl_child_watcher *watcher = watcher_of(1);
    evl_process *processes[10];
    evl_future *futures[10];
    int64_t code = 0;
    char command[20];
    int i;
    CHECK_CODE(evl_set_child_watcher(watcher), 0);
    for (i = 0; i < 10; i++) {
        snprintf(command, sizeof command, "exit %d", i);
        CHECK_CODE(evl_loop_subprocess_shell(loop, command, NULL, NULL, NULL, NULL, &processes[i]), 0);
        CHECK_CODE(evl_process_wait(processes[i], &futures[i]), 0);
    }
    for (i = 0; i < 10; i++) {
        while (!evl_future_done(futures[i]))
            CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
        CHECK_CODE(evl_future_result_int(futures[i], &code), 0);
        CHECK_INT(code, i);
        CHECK_CODE(evl_process_terminate(processes[i]), -ESRCH);
        evl_future_unref(futures[i]);
        evl_process_unref(processes[i]);
    }
    CHECK_CODE(evl_set_child_watcher(NULL), 0);
    evl_child_watcher_unref(watcher);
    end_loop(loop);
}

TEST_MAIN()
