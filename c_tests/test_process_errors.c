/* Child processes when things go wrong: what cannot be started, what does not end, what ends too early, loops that are closed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "harness.h"

struct log {
    evl_loop *loop;
    evl_process *process;
    const char *act_at;
    void (*act)(struct log *log);
    char out[200];
    size_t size;
    int made, data, exited, lost, frees, pipes_lost, pipe_code, acted, returncode;
};

static void told(struct log *log, const char *what) {
    CHECK_INT(log->lost, 0);
    CHECK_INT(log->frees, 0);
    trace(what);
    if (log->act_at && strcmp(log->act_at, what) == 0) {
        log->acted++;
        log->act(log);
    }
}

static void connection_made(evl_process *process, void *arg) {
    (void)process;
    ((struct log *)arg)->made++;
    told((struct log *)arg, "made");
}

static void pipe_data_received(evl_process *process, int fd, const void *data, size_t size, void *arg) {
    struct log *log = (struct log *)arg;
    (void)process;
    (void)fd;
    if (log->size + size < sizeof log->out)
        memcpy(log->out + log->size, data, size);
    log->size += size;
    log->data++;
    told(log, "data");
}

static void pipe_connection_lost(evl_process *process, int fd, int code, void *arg) {
    (void)process;
    (void)fd;
    ((struct log *)arg)->pipes_lost++;
    ((struct log *)arg)->pipe_code = code;
    told((struct log *)arg, "pipe");
}

static void process_exited(evl_process *process, void *arg) {
    struct log *log = (struct log *)arg;
    CHECK_INT(log->exited++, 0);
    CHECK_CODE(evl_process_get_returncode(process, &log->returncode), 0);
    told(log, "exited");
}

static void connection_lost(evl_process *process, int code, void *arg) {
    struct log *log = (struct log *)arg;
    (void)process;
    CHECK_INT(code, 0);
    told(log, "lost");
    log->lost++;
}

static void log_free(void *arg) {
    ((struct log *)arg)->frees++;
}

static int shell(struct log *log, evl_loop *loop, const char *command, evl_process_options *options) {
    evl_process_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = connection_made;
    p.pipe_data_received = pipe_data_received;
    p.pipe_connection_lost = pipe_connection_lost;
    p.process_exited = process_exited;
    p.connection_lost = connection_lost;
    memset(log, 0, sizeof *log);
    log->loop = loop;
    return evl_loop_subprocess_shell(loop, command, options, &p, log, log_free, &log->process);
}

static evl_process_options pipes(int in, int out) {
    evl_process_options o;
    CHECK_CODE(evl_process_options_init(&o, sizeof o), 0);
    o.stdin_mode = in;
    o.stdout_mode = out;
    return o;
}

static void step(evl_loop *loop) {
    CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0);
}

static void run_until_lost(struct log *log, evl_loop *loop) {
    while (log->lost == 0)
        step(loop);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(log->frees, 1);
}

static void run_until_done(evl_loop *loop, evl_future *future) {
    while (!evl_future_done(future))
        step(loop);
}

static int count_fds(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static int handled, handled_code;
static char handled_message[300], logged[2000];

static void handler(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    handled++;
    handled_code = exception->code;
    snprintf(handled_message, sizeof handled_message, "%s", exception->message);
}

static void log_line(int level, const char *message, void *arg) {
    size_t used = strlen(logged);
    (void)arg;
    snprintf(logged + used, sizeof logged - used, "%d:%s\n", level, message);
}

static evl_loop *handled_loop(void) {
    evl_loop *loop = real_loop();
    handled = 0;
    logged[0] = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, handler, NULL, NULL), 0);
    CHECK_CODE(evl_loop_set_log(loop, log_line, NULL, NULL), 0);
    return loop;
}

/* --- what cannot be started */

static void cannot_start(evl_loop *loop, evl_process_options *options, int code, const char *expected) {
    struct probe arg = probe_named(NULL, NULL);
    evl_process *process = NULL;
    evl_process_protocol p;
    char detail[300];
    int before = count_fds();
    if (under_valgrind() && code != -EBADF)
        return; /* its vfork is a fork: the C library does not hear of what fails in the child */
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    CHECK_CODE(evl_loop_subprocess_exec(loop, options, &p, &arg, probe_free, &process), code);
    CHECK(evl_error_detail(detail, sizeof detail) >= 0);
    if (expected)
        CHECK_STRING(detail, expected);
    CHECK(process == NULL);
    CHECK_INT(arg.frees, 1);
    CHECK_INT(count_fds(), before);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

TEST(what_cannot_be_started) {
    evl_loop *loop = handled_loop();
    char directory[] = "/tmp/evl-test-XXXXXX", path[64], text[200];
    const char *argv[3] = {"/nonexistent/program", NULL, NULL};
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    FILE *file;
    int bad = 999;
    REQUIRE(mkdtemp(directory) != NULL);
    o.stderr_mode = EVL_PROCESS_PIPE;
    o.argv = argv;
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    cannot_start(loop, &o, -ENOENT, "cannot start /nonexistent/program: no such file, directory or entry");
    argv[0] = "no-such-program-anywhere";
    cannot_start(loop, &o, -ENOENT, "cannot start no-such-program-anywhere: no such file, directory or entry");
    argv[0] = "";
    cannot_start(loop, &o, -ENOENT, NULL);
    argv[0] = directory;
    snprintf(text, sizeof text, "cannot start %s: permission denied", directory);
    cannot_start(loop, &o, -EACCES, text);
    snprintf(path, sizeof path, "%s/program", directory);
    file = fopen(path, "w");
    fputs("neither a binary nor a script", file);
    fclose(file);
    argv[0] = path;
    snprintf(text, sizeof text, "cannot start %s: permission denied", path);
    cannot_start(loop, &o, -EACCES, text);
    chmod(path, 0700);
    snprintf(text, sizeof text, "cannot start %s: exec format error", path);
    cannot_start(loop, &o, -ENOEXEC, text);
    argv[0] = "true";
    o.cwd = "/nonexistent";
    cannot_start(loop, &o, -ENOENT, "directory /nonexistent: no such file, directory or entry");
    o.cwd = path;
    snprintf(text, sizeof text, "directory %s: not a directory", path);
    cannot_start(loop, &o, -ENOTDIR, text);
    o.cwd = NULL;
    o.pass_fds = &bad;
    o.pass_fds_count = 1;
    cannot_start(loop, &o, -EBADF, "descriptor 999");
    o.pass_fds_count = 0;
    o.stderr_mode = EVL_PROCESS_FD;
    o.stderr_fd = 999;
    if (!under_valgrind())
        cannot_start(loop, &o, -EBADF, "cannot start true: bad file descriptor");
    o.stderr_fd = -1;
    cannot_start(loop, &o, -EBADF, "descriptor -1");
    o.stderr_mode = 0;
    o.process_group = 1;
    cannot_start(loop, &o, -EPERM, NULL);
    unlink(path);
    rmdir(directory);
    end_loop(loop);
}

TEST(arguments_that_are_too_long) {
    evl_loop *loop = handled_loop();
    char *argument = (char *)malloc(4000000);
    const char *argv[3] = {"true", NULL, NULL};
    evl_process_options o = pipes(0, 0);
    memset(argument, 'x', 4000000);
    argument[3999999] = 0;
    argv[1] = argument;
    o.argv = argv;
    cannot_start(loop, &o, -E2BIG, NULL);
    free(argument);
    end_loop(loop);
}

static void no_descriptors(void *arg) {
    struct rlimit limit = {0, 0};
    evl_loop *loop = handled_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    const char *argv[2] = {"true", NULL};
    int spare, started = 0;
    (void)arg;
    CHECK(evl_loop_fd(loop) >= 0); /* has the loop make all descriptors of its own */
    o.argv = argv;
    for (spare = -1; spare < 12; spare++) {
        struct log log;
        int code, lowest = dup(0), after;
        close(lowest);
        limit.rlim_cur = (rlim_t)(spare < 0 ? 1000 : lowest + spare);
        limit.rlim_max = 1000;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        code = shell(&log, loop, "exit 6", &o);
        if (code == 0) {
            run_until_lost(&log, loop);
            CHECK_INT(log.returncode, 6);
            evl_process_unref(log.process);
            started++;
        } else {
            CHECK_CODE(code, -EMFILE);
            CHECK_INT(log.frees, 1);
        }
        limit.rlim_cur = 1000;
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        after = dup(0);
        close(after);
        if (spare >= 0)
            CHECK_INT(after, lowest);
    }
    CHECK(started > 1 && started < 13);
    end_loop(loop);
}

TEST(running_out_of_descriptors_leaves_nothing_behind) {
    if (!under_valgrind()) /* which needs descriptors itself */
        CHECK_INT(in_child(no_descriptors, NULL), 0);
}

/* --- children that behave badly */

TEST(a_child_that_closes_its_pipes_early) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    REQUIRE(shell(&log, loop, "echo bye; exec sleep 1000 <&- >&-", &o) == 0);
    while (log.pipes_lost < 2)
        step(loop);
    CHECK_STRING(log.out, "bye\n");
    CHECK_INT(log.exited, 0);
    CHECK_CODE(evl_transport_write(evl_process_get_pipe_transport(log.process, 0), "x", 1), -EPIPE);
    CHECK_CODE(evl_process_terminate(log.process), 0);
    run_until_lost(&log, loop);
    CHECK_INT(log.returncode, -SIGTERM);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

TEST(a_child_that_ends_before_its_pipes) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_process_options o = pipes(0, EVL_PROCESS_PIPE);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    o.pass_fds = fds;
    o.pass_fds_count = 1;
    /* A grandchild keeps the output open until it is told. */
    {
        char command[100];
        snprintf(command, sizeof command, "(cat <&%d >/dev/null; echo late) & exit 1", fds[0]);
        REQUIRE(shell(&log, loop, command, &o) == 0);
    }
    close(fds[0]);
    while (log.exited == 0)
        step(loop);
    CHECK_INT(log.lost, 0);
    CHECK_INT(log.returncode, 1);
    close(fds[1]);
    run_until_lost(&log, loop);
    CHECK_STRING(log.out, "late\n");
    CHECK_TRACE("made exited data pipe lost");
    evl_process_unref(log.process);
    end_loop(loop);
}

TEST(a_child_that_ignores_sigterm) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    REQUIRE(shell(&log, loop, "trap '' TERM; echo ready; while :; do read line || exit 9; echo $line; done", &o) == 0);
    while (log.size < 6)
        step(loop);
    CHECK_CODE(evl_process_terminate(log.process), 0);
    CHECK_CODE(evl_transport_write(evl_process_get_pipe_transport(log.process, 0), "alive\n", 6), 0);
    while (log.size < 12)
        step(loop);
    CHECK_STRING(log.out, "ready\nalive\n");
    CHECK_INT(log.exited, 0);
    CHECK_CODE(evl_process_kill(log.process), 0);
    run_until_lost(&log, loop);
    CHECK_INT(log.returncode, -SIGKILL);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

TEST(a_child_that_was_reaped_by_somebody_else) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_future *wait = NULL;
    int64_t code = 0;
    REQUIRE(shell(&log, loop, "exit 3", NULL) == 0);
    CHECK_CODE(evl_process_wait(log.process, &wait), 0);
    if (!under_valgrind()) /* there a thread of evl's waits already, and may be the first */
        CHECK(waitpid(evl_process_get_pid(log.process), NULL, 0) > 0);
    run_until_lost(&log, loop);
    CHECK_CODE(evl_future_result_int(wait, &code), 0);
    if (!under_valgrind()) {
        CHECK_INT(code, 255);
        CHECK(strstr(logged, "1:Unknown child process pid ") != NULL);
        CHECK(strstr(logged, ", will report returncode 255") != NULL);
    }
    CHECK_CODE(evl_process_kill(log.process), -ESRCH);
    evl_future_unref(wait);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

static void ignore_children(void *arg) {
    struct log log;
    evl_loop *loop = handled_loop();
    (void)arg;
    signal(SIGCHLD, SIG_IGN);
    REQUIRE(shell(&log, loop, "exit 3", NULL) == 0);
    run_until_lost(&log, loop);
    CHECK_INT(log.returncode, 255);
    evl_process_unref(log.process);
    end_loop(loop);
}

TEST(children_that_the_system_reaps) {
    CHECK_INT(in_child(ignore_children, NULL), 0);
}

TEST(sigchld_is_not_touched) {
    struct sigaction action;
    struct log log;
    evl_loop *loop = handled_loop();
    REQUIRE(shell(&log, loop, "exit 0", NULL) == 0);
    run_until_lost(&log, loop);
    CHECK(sigaction(SIGCHLD, NULL, &action) == 0);
    CHECK(action.sa_handler == SIG_DFL);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

TEST(five_hundred_children_at_once) {
    enum { MANY = 500 };
    static struct log logs[MANY];
    evl_loop *loop = handled_loop();
    int i, many = under_valgrind() ? 60 : MANY, fds[2];
    char command[100];
    evl_process_options o = pipes(0, EVL_PROCESS_PIPE);
    REQUIRE(pipe(fds) == 0);
    o.pass_fds = fds;
    o.pass_fds_count = 1;
    for (i = 0; i < many; i++) {
        snprintf(command, sizeof command, "read x <&%d; echo %d; exit %d", fds[0], i, i % 200);
        if (!CHECK_CODE(shell(&logs[i], loop, command, &o), 0))
            break;
    }
    many = i;
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    close(fds[0]);
    close(fds[1]); /* now all of them go on */
    for (i = 0; i < many; i++) {
        run_until_lost(&logs[i], loop);
        CHECK_INT(atoi(logs[i].out), i);
        CHECK_INT(logs[i].returncode, i % 200);
        evl_process_unref(logs[i].process);
        trace_reset();
    }
    CHECK_INT(handled, 0);
    end_loop(loop);
}

/* --- without pidfds */

static void without_pidfds(void *arg) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, filter};
    evl_loop *loop;
    struct log log;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    int i;
    (void)arg;
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    CHECK(syscall(SYS_pidfd_open, getpid(), 0) == -1);
    for (i = 0; i < 2; i++) {
        loop = handled_loop();
        CHECK_CODE(evl_loop_set_debug(loop, i), 0);
        REQUIRE(shell(&log, loop, "cat; exit 3", &o) == 0);
        CHECK_CODE(evl_transport_write(evl_process_get_pipe_transport(log.process, 0), "hello", 5), 0);
        CHECK_CODE(evl_transport_close(evl_process_get_pipe_transport(log.process, 0)), 0);
        run_until_lost(&log, loop);
        CHECK_STRING(log.out, "hello");
        CHECK_INT(log.returncode, 3);
        CHECK_CODE(evl_process_kill(log.process), -ESRCH);
        CHECK((strstr(logged, "0:no pidfd can be had: a thread waits for child ") != NULL) == (i == 1));
        evl_process_unref(log.process);
        REQUIRE(shell(&log, loop, "exec cat", &o) == 0);
        CHECK_CODE(evl_process_terminate(log.process), 0);
        run_until_lost(&log, loop);
        CHECK_INT(log.returncode, -SIGTERM);
        evl_process_unref(log.process);
        /* A loop that is closed leaves its thread behind, which reaps the child. */
        REQUIRE(shell(&log, loop, "exec cat", &o) == 0);
        evl_process_unref(log.process);
        end_loop(loop);
        CHECK_INT(log.frees, 1);
        while (waitpid(-1, NULL, WNOHANG) == 0)
            usleep(1000);
    }
}

TEST(pidfd_open_is_not_permitted) {
    if (!under_valgrind()) /* which has none at all */
        CHECK_INT(in_child(without_pidfds, NULL), 0);
}

/* --- the protocol */

static void act_close(struct log *log) {
    CHECK_CODE(evl_process_close(log->process), 0);
    CHECK_CODE(evl_process_close(log->process), 0);
}

static void act_raise(struct log *log) {
    (void)log;
    CHECK_CODE(evl_raise(-4242, "on purpose"), 0);
}

static void act_kill(struct log *log) {
    int code = evl_process_kill(log->process);
    CHECK(code == 0 || code == -ESRCH);
}

static void act_unref(struct log *log) {
    if (log->acted == 1)
        evl_process_unref(log->process);
}

static void act_close_pipes(struct log *log) {
    evl_transport_abort(evl_process_get_pipe_transport(log->process, 0));
    evl_transport_close(evl_process_get_pipe_transport(log->process, 1));
}

static void act_everything(struct log *log) {
    evl_future *future = NULL;
    char text[100];
    evl_process_repr(log->process, text, sizeof text);
    CHECK_CODE(evl_process_wait(log->process, &future), 0);
    evl_future_unref(future);
    if (evl_process_communicate(log->process, "x", 1, &future) == 0)
        evl_future_unref(future);
    CHECK_CODE(evl_loop_close(log->loop), EVL_ERUNNING);
}

TEST(acting_and_raising_inside_of_every_callback) {
    static const char *const places[] = {"made", "data", "pipe", "exited", "lost"};
    static void (*const acts[])(struct log *) = {act_close, act_raise,       act_kill,
                                                 act_unref, act_close_pipes, act_everything};
    size_t i, j;
    for (i = 0; i < 5; i++) {
        for (j = 0; j < 6; j++) {
            struct log log;
            evl_loop *loop = handled_loop();
            evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
            REQUIRE(shell(&log, loop, "echo x; cat", &o) == 0);
            log.act_at = places[i];
            log.act = acts[j];
            while (log.data == 0 && log.lost == 0)
                step(loop);
            if (log.lost == 0 && !(acts[j] == act_unref && log.acted))
                evl_transport_close(evl_process_get_pipe_transport(log.process, 0));
            else if (log.lost == 0) /* the loop keeps it */
                evl_transport_close(evl_process_get_pipe_transport(log.process, 0));
            run_until_lost(&log, loop);
            CHECK_INT(log.made, 1);
            CHECK_INT(log.exited, 1);
            CHECK_INT(log.pipes_lost, 2);
            CHECK(log.acted > 0);
            if (acts[j] == act_raise) {
                const char *name = i == 0   ? "connection_made"
                                   : i == 1 ? "pipe_data_received"
                                   : i == 2 ? "pipe_connection_lost"
                                   : i == 3 ? "process_exited"
                                            : "connection_lost";
                char message[200];
                snprintf(message, sizeof message, "%sprotocol.%s() call failed: on purpose",
                         i == 1 || i == 2 ? "Fatal error: " : "", name);
                CHECK_INT(handled, i == 2 ? 2 : 1);
                CHECK_STRING(handled_message, message);
                CHECK_CODE(handled_code, -4242);
            } else {
                CHECK_INT(handled, 0);
            }
            if (acts[j] != act_unref)
                evl_process_unref(log.process);
            end_loop(loop);
            trace_reset();
        }
    }
}

/* --- communicate */

TEST(communicate_with_a_child_that_does_not_read) {
    evl_loop *loop = handled_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    static char much[2000000];
    const void *data = NULL;
    size_t size = 9;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "echo no", &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, much, sizeof much, &future), 0);
    run_until_done(loop, future);
    CHECK_CODE(evl_future_result_output(future, 1, &data, &size), 0);
    CHECK(size == 3 && memcmp(data, "no\n", 3) == 0);
    CHECK_INT(handled, 0);
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(communicate_is_cancelled) {
    evl_loop *loop = handled_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    enum { SIZE = 500000 };
    char *input = (char *)malloc(SIZE);
    const void *data = NULL;
    size_t size = 0;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    memset(input, 'y', SIZE);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "wc -c", &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, input, SIZE, &future), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    CHECK_CODE(evl_future_cancel(future, NULL), 1);
    CHECK_INT(evl_future_cancelled(future), 1);
    free(input); /* nothing touches it any more; the child gets all of it anyway */
    evl_future_unref(future);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &future), 0);
    run_until_done(loop, future);
    CHECK_CODE(evl_future_result_output(future, 1, &data, &size), 0);
    CHECK(size == 7 && memcmp(data, "500000\n", 7) == 0);
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(waiting_and_communicating_out_of_time) {
    evl_loop *loop = handled_loop();
    evl_process *process = NULL;
    evl_future *wait = NULL, *talk = NULL, *end = NULL;
    int code = 0;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exec sleep 1000", &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_wait(process, &wait), 0);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &talk), 0);
    CHECK_CODE(evl_future_set_timeout(wait, EVL_MS(5)), 0);
    CHECK_CODE(evl_future_set_timeout(talk, EVL_MS(5)), 0);
    run_until_done(loop, wait);
    run_until_done(loop, talk);
    CHECK_CODE(evl_future_result(wait, NULL), -ETIMEDOUT);
    CHECK_CODE(evl_future_result(talk, NULL), -ETIMEDOUT);
    CHECK_CODE(evl_process_get_returncode(process, &code), EVL_EINVALIDSTATE);
    CHECK_CODE(evl_process_kill(process), 0);
    CHECK_CODE(evl_process_wait(process, &end), 0);
    run_until_done(loop, end);
    CHECK_CODE(evl_process_get_returncode(process, &code), 0);
    CHECK_INT(code, -SIGKILL);
    evl_future_unref(wait);
    evl_future_unref(talk);
    evl_future_unref(end);
    evl_process_unref(process);
    end_loop(loop);
}

/* --- closing */

TEST(closing_kills_and_tells) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    REQUIRE(shell(&log, loop, "exec sleep 1000", &o) == 0);
    CHECK_CODE(evl_process_close(log.process), 0);
    CHECK_INT(evl_process_is_closing(log.process), 1);
    CHECK_INT(log.made, 0);
    run_until_lost(&log, loop);
    CHECK_INT(log.returncode, -SIGKILL);
    CHECK_INT(log.pipes_lost, 2);
    CHECK_CODE(evl_process_close(log.process), 0);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

TEST(the_loop_is_closed_with_children_running) {
    struct log logs[3], after;
    evl_loop *loop = handled_loop();
    evl_future *wait = NULL, *talk = NULL;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    int i, pids[3], code = 0, fds = count_fds();
    siginfo_t info;
    for (i = 0; i < 3; i++) {
        REQUIRE(shell(&logs[i], loop, "exec sleep 1000", &o) == 0);
        pids[i] = evl_process_get_pid(logs[i].process);
        if (i == 1)
            CHECK(evl_loop_run_once(loop, 0) >= 0);
    }
    CHECK_CODE(evl_process_wait(logs[0].process, &wait), 0);
    CHECK_CODE(evl_process_communicate(logs[1].process, "x", 1, &talk), 0);
    CHECK_CODE(evl_loop_close(loop), 0);
    for (i = 0; i < 3; i++) {
        CHECK_INT(logs[i].lost, 0);
        CHECK_INT(logs[i].frees, 1);
        CHECK_CODE(evl_process_kill(logs[i].process), EVL_ECLOSED);
        CHECK_CODE(evl_process_get_returncode(logs[i].process, &code), EVL_EINVALIDSTATE);
        evl_process_unref(logs[i].process);
    }
    CHECK_INT(evl_future_done(wait), 0);
    evl_future_unref(wait);
    evl_future_unref(talk);
    evl_loop_unref(loop);
    /* They are killed, and reaped when the next child is started, or by the threads that wait for them. */
    if (!under_valgrind()) {
        for (i = 0; i < 3; i++)
            CHECK(waitid(P_PID, (id_t)pids[i], &info, WEXITED | WNOWAIT) == 0 || errno == ECHILD);
        loop = handled_loop();
        REQUIRE(shell(&after, loop, "exit 0", NULL) == 0);
        for (i = 0; i < 3; i++)
            CHECK(kill(pids[i], 0) == -1 && errno == ESRCH);
        run_until_lost(&after, loop);
        evl_process_unref(after.process);
        end_loop(loop);
        CHECK(count_fds() < fds);
    } else {
        while (waitpid(-1, NULL, WNOHANG) == 0)
            usleep(1000);
        usleep(100000); /* for threads to be gone: valgrind would call what they have lost */
    }
    trace_reset();
}

static void close_in_child(void *arg) {
    struct log *log = (struct log *)arg;
    CHECK_CODE(evl_process_kill(log->process), EVL_EFORKED);
    CHECK_CODE(evl_loop_close(log->loop), 0);
    evl_process_unref(log->process);
    evl_loop_unref(log->loop);
}

TEST(a_forked_child_leaves_the_parents_children_alone) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    REQUIRE(shell(&log, loop, "cat; exit 8", &o) == 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    if (!under_valgrind()) /* for which what a thread of the parent's had is lost in the child */
        CHECK_INT(in_child(close_in_child, &log), 0);
    CHECK_CODE(evl_transport_write(evl_process_get_pipe_transport(log.process, 0), "alive", 5), 0);
    CHECK_CODE(evl_transport_close(evl_process_get_pipe_transport(log.process, 0)), 0);
    run_until_lost(&log, loop);
    CHECK_STRING(log.out, "alive");
    CHECK_INT(log.returncode, 8);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

TEST(the_child_watcher_is_closed) {
    struct log log;
    evl_loop *loop = handled_loop();
    evl_child_watcher *watcher = NULL;
    CHECK_CODE(evl_get_child_watcher(&watcher), 0);
    CHECK_CODE(evl_child_watcher_close(watcher), 0);
    CHECK_CODE(shell(&log, loop, "exit 0", NULL), EVL_ESHUTDOWN);
    CHECK_INT(log.frees, 1);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    evl_child_watcher_unref(watcher);
    CHECK_CODE(evl_set_child_watcher(NULL), 0);
    REQUIRE(shell(&log, loop, "exit 0", NULL) == 0);
    run_until_lost(&log, loop);
    evl_process_unref(log.process);
    end_loop(loop);
    trace_reset();
}

TEST_MAIN()
