/* Child processes: what asyncio's subprocess_exec and subprocess_shell do. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "harness.h"

struct log {
    evl_process *process;
    char out[3][20000];
    size_t size[3];
    int made, exited, lost, frees, pipes_lost, returncode;
};

static void connection_made(evl_process *process, void *arg) {
    struct log *log = (struct log *)arg;
    CHECK(log->process == NULL || process == log->process);
    CHECK_INT(log->made++, 0);
    trace("made");
}

static void pipe_data_received(evl_process *process, int fd, const void *data, size_t size, void *arg) {
    struct log *log = (struct log *)arg;
    (void)process;
    CHECK_INT(log->made, 1);
    if (CHECK(fd == 1 || fd == 2) && log->size[fd] + size < sizeof log->out[0])
        memcpy(log->out[fd] + log->size[fd], data, size);
    log->size[fd] += size;
}

static void pipe_connection_lost(evl_process *process, int fd, int code, void *arg) {
    (void)process;
    (void)fd;
    CHECK_INT(code, 0);
    ((struct log *)arg)->pipes_lost++;
}

static void process_exited(evl_process *process, void *arg) {
    struct log *log = (struct log *)arg;
    CHECK_INT(log->exited++, 0);
    CHECK_CODE(evl_process_get_returncode(process, &log->returncode), 0);
    trace("exited");
}

static void connection_lost(evl_process *process, int code, void *arg) {
    struct log *log = (struct log *)arg;
    (void)process;
    CHECK_INT(code, 0);
    CHECK_INT(log->exited, 1);
    CHECK_INT(log->lost++, 0);
    CHECK_INT(log->frees, 0);
    trace("lost");
}

static void log_free(void *arg) {
    ((struct log *)arg)->frees++;
}

static evl_process_protocol protocol(void) {
    evl_process_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = connection_made;
    p.pipe_data_received = pipe_data_received;
    p.pipe_connection_lost = pipe_connection_lost;
    p.process_exited = process_exited;
    p.connection_lost = connection_lost;
    return p;
}

static evl_process_options pipes(int in, int out, int err) {
    evl_process_options o;
    CHECK_CODE(evl_process_options_init(&o, sizeof o), 0);
    o.stdin_mode = in;
    o.stdout_mode = out;
    o.stderr_mode = err;
    return o;
}

/* Starts /bin/sh -c command with a log. */
static int shell(struct log *log, evl_loop *loop, const char *command, evl_process_options *options) {
    evl_process_protocol p = protocol();
    memset(log, 0, sizeof *log);
    return evl_loop_subprocess_shell(loop, command, options, &p, log, log_free, &log->process);
}

static void run_until_lost(struct log *log, evl_loop *loop) {
    while (log->lost == 0)
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            return;
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(log->frees, 1);
}

static void done_with(struct log *log) {
    evl_process_unref(log->process);
    log->process = NULL;
}

/* Runs a shell command to its end and returns what it has written to its output. */
static const char *output_of(const char *command, evl_process_options *options) {
    static struct log log;
    evl_loop *loop = real_loop();
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_STDOUT);
    if (CHECK_CODE(shell(&log, loop, command, options ? options : &o), 0)) {
        run_until_lost(&log, loop);
        done_with(&log);
    }
    end_loop(loop);
    trace_reset();
    return log.out[1];
}

static void run_until_done(evl_loop *loop, evl_future *future) {
    while (!evl_future_done(future))
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            return;
}

TEST(a_child_writes_and_ends) {
    struct log log;
    evl_loop *loop = real_loop();
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    int code = -1;
    REQUIRE(shell(&log, loop, "echo out; echo err >&2; exit 3", &o) == 0);
    CHECK(evl_process_get_pid(log.process) > 0);
    CHECK(evl_process_get_loop(log.process) == loop);
    CHECK_CODE(evl_process_get_returncode(log.process, &code), EVL_EINVALIDSTATE);
    CHECK(evl_process_get_pipe_transport(log.process, 0) == NULL);
    CHECK(evl_process_get_pipe_transport(log.process, 1) != NULL);
    CHECK(evl_process_get_pipe_transport(log.process, 3) == NULL);
    CHECK_INT(evl_process_is_closing(log.process), 0);
    run_until_lost(&log, loop);
    CHECK_TRACE("made exited lost");
    CHECK_STRING(log.out[1], "out\n");
    CHECK_STRING(log.out[2], "err\n");
    CHECK_INT(log.returncode, 3);
    CHECK_INT(log.pipes_lost, 2);
    CHECK_CODE(evl_process_get_returncode(log.process, &code), 0);
    CHECK_INT(code, 3);
    CHECK_INT(evl_process_is_closing(log.process), 1);
    done_with(&log);
    end_loop(loop);
}

TEST(input_through_the_pipe_transport) {
    struct log log;
    evl_loop *loop = real_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, 0);
    evl_transport *in;
    REQUIRE(shell(&log, loop, "tr a-z A-Z", &o) == 0);
    in = evl_process_get_pipe_transport(log.process, 0);
    CHECK_CODE(evl_transport_write(in, "hello ", 6), 0);
    CHECK(evl_loop_run_once(loop, 0) >= 0);
    CHECK_CODE(evl_transport_write(in, "there", 5), 0);
    CHECK_CODE(evl_transport_write_eof(in), 0);
    run_until_lost(&log, loop);
    CHECK_STRING(log.out[1], "HELLO THERE");
    CHECK_INT(log.returncode, 0);
    done_with(&log);
    end_loop(loop);
    trace_reset();
}

TEST(waiting) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *first = NULL, *second = NULL, *late = NULL;
    int64_t code = -1;
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exit 7", NULL, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_wait(process, &first), 0);
    CHECK_CODE(evl_process_wait(process, &second), 0);
    CHECK_CODE(evl_process_wait(process, NULL), 0);
    CHECK_INT(evl_future_done(first), 0);
    CHECK_CODE(evl_future_cancel(second, NULL), 1);
    CHECK_INT(evl_future_cancelled(second), 1);
    run_until_done(loop, first);
    CHECK_CODE(evl_future_result_int(first, &code), 0);
    CHECK_INT(code, 7);
    CHECK_CODE(evl_process_wait(process, &late), 0);
    CHECK_INT(evl_future_done(late), 1);
    CHECK_CODE(evl_future_result_int(late, &code), 0);
    CHECK_INT(code, 7);
    evl_future_unref(first);
    evl_future_unref(second);
    evl_future_unref(late);
    evl_process_unref(process);
    end_loop(loop);
}

static void check_output(evl_future *future, int fd, const char *expected) {
    const void *data = NULL;
    size_t size = 0;
    if (CHECK_CODE(evl_future_result_output(future, fd, &data, &size), 0)) {
        CHECK_INT(size, strlen(expected));
        CHECK(size == strlen(expected) && memcmp(data, expected, size) == 0);
    }
}

TEST(communicate) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL, *second = NULL;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    int code = -1;
    CHECK_CODE(evl_loop_subprocess_shell(loop, "cat; echo oops >&2; exit 2", &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, "some input", 10, &future), 0);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &second), EVL_EINVALIDSTATE);
    run_until_done(loop, future);
    check_output(future, 1, "some input");
    check_output(future, 2, "oops\n");
    CHECK_CODE(evl_process_get_returncode(process, &code), 0);
    CHECK_INT(code, 2);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &second), 0);
    check_output(second, 1, "");
    evl_future_unref(future);
    evl_future_unref(second);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(communicate_with_much) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, 0);
    enum { SIZE = 3000000 };
    char *input = (char *)malloc(SIZE);
    const void *data = NULL;
    size_t size = 0, i;
    for (i = 0; i < SIZE; i++)
        input[i] = (char)(i * 7 / 3);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "cat", &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, input, SIZE, &future), 0);
    run_until_done(loop, future);
    CHECK_CODE(evl_future_result_output(future, 1, &data, &size), 0);
    CHECK(size == SIZE && memcmp(data, input, SIZE) == 0);
    free(input);
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(communicate_after_the_child_has_ended) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, 0);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "echo kept", &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_wait(process, &future), 0);
    run_until_done(loop, future);
    evl_future_unref(future);
    CHECK_CODE(evl_process_communicate(process, "nobody reads this", 17, &future), 0);
    run_until_done(loop, future);
    check_output(future, 1, "kept\n");
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(the_programs_name_is_looked_for_in_the_childs_path) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, 0);
    char directory[] = "/tmp/evl-test-XXXXXX", path[64], variable[80], detail[200];
    const char *argv[] = {"evl-test-program", "one", "two words", NULL}, *envp[] = {variable, "X=y", NULL};
    FILE *file;
    REQUIRE(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/evl-test-program", directory);
    snprintf(variable, sizeof variable, "PATH=/nonexistent::%s:/bin:/usr/bin", directory);
    file = fopen(path, "w");
    REQUIRE(file != NULL);
    fputs("#!/bin/sh\necho \"$X $# $2\"\n", file);
    fclose(file);
    o.argv = argv;
    o.envp = envp;
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), -EACCES);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "cannot start evl-test-program: permission denied");
    CHECK(chmod(path, 0700) == 0);
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &future), 0);
    run_until_done(loop, future);
    check_output(future, 1, "y 2 two words\n");
    evl_future_unref(future);
    evl_process_unref(process);
    /* program takes the place of argv[0]; without PATH the default one is searched. */
    envp[0] = "X=y";
    envp[1] = NULL;
    argv[0] = "another name";
    argv[1] = "-c";
    argv[2] = "echo $0";
    o.program = "sh";
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, NULL, 0, &future), 0);
    run_until_done(loop, future);
    check_output(future, 1, "another name\n");
    evl_future_unref(future);
    evl_process_unref(process);
    unlink(path);
    rmdir(directory);
    end_loop(loop);
}

TEST(the_working_directory) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, 0);
    o.cwd = "/usr";
    CHECK_STRING(output_of("pwd", &o), "/usr\n");
}

TEST(stderr_goes_where_stdout_goes) {
    CHECK_STRING(output_of("echo a; echo b >&2; echo c", NULL), "a\nb\nc\n");
}

TEST(descriptors_as_standard_ones) {
    evl_process_options o = pipes(EVL_PROCESS_FD, EVL_PROCESS_PIPE, EVL_PROCESS_STDOUT);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK(write(fds[1], "from a pipe", 11) == 11);
    close(fds[1]);
    o.stdin_fd = fds[0];
    CHECK_STRING(output_of("cat", &o), "from a pipe");
    CHECK(fcntl(fds[0], F_GETFD) >= 0);
    close(fds[0]);
}

TEST(standard_descriptors_can_be_exchanged) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    evl_process_options o = pipes(EVL_PROCESS_INHERIT, EVL_PROCESS_FD, EVL_PROCESS_FD);
    int out[2], err[2], saved_out, saved_err;
    char text[20];
    fflush(NULL);
    REQUIRE(pipe(out) == 0 && pipe(err) == 0);
    saved_out = fcntl(1, F_DUPFD_CLOEXEC, 100);
    saved_err = fcntl(2, F_DUPFD_CLOEXEC, 100);
    dup2(out[1], 1);
    dup2(err[1], 2);
    o.stdout_fd = 2;
    o.stderr_fd = 1;
    CHECK_CODE(evl_loop_subprocess_shell(loop, "echo out; echo err >&2", &o, NULL, NULL, NULL, &process), 0);
    dup2(saved_out, 1);
    dup2(saved_err, 2);
    CHECK_CODE(evl_process_wait(process, &future), 0);
    run_until_done(loop, future);
    close(out[1]);
    close(err[1]);
    CHECK_INT(read(out[0], text, sizeof text), 4);
    CHECK(memcmp(text, "err\n", 4) == 0);
    CHECK_INT(read(err[0], text, sizeof text), 4);
    CHECK(memcmp(text, "out\n", 4) == 0);
    close(out[0]);
    close(err[0]);
    close(saved_out);
    close(saved_err);
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

/* The child's descriptors, as it lists them; its own for that is the lowest that is free. */
#define LIST_FDS "exec ls -v /proc/self/fd"

TEST(nothing_else_is_open_in_the_child) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_DEVNULL);
    int a = open("/dev/null", O_RDONLY), b = fcntl(a, F_DUPFD, 50), c = fcntl(a, F_DUPFD, 200);
    int passed[3];
    char expected[60];
    CHECK_STRING(output_of(LIST_FDS, &o), "0\n1\n2\n3\n");
    passed[0] = c;
    passed[1] = fcntl(a, F_DUPFD_CLOEXEC, 60);
    passed[2] = c;
    o.pass_fds = passed;
    o.pass_fds_count = 3;
    snprintf(expected, sizeof expected, "0\n1\n2\n3\n%d\n%d\n", passed[1], c);
    CHECK_STRING(output_of(LIST_FDS, &o), expected);
    CHECK(fcntl(passed[1], F_GETFD) == FD_CLOEXEC);
    o.flags = EVL_PROCESS_KEEP_FDS;
    o.pass_fds = NULL;
    o.pass_fds_count = 0;
    snprintf(expected, sizeof expected, "\n%d\n%d\n", b, c);
    CHECK(strstr(output_of(LIST_FDS, &o), expected) != NULL);
    close(a);
    close(b);
    close(c);
    close(passed[1]);
}

TEST(the_parents_ends_are_close_on_exec) {
    struct log log;
    evl_loop *loop = real_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    int fd;
    REQUIRE(shell(&log, loop, "cat", &o) == 0);
    for (fd = 0; fd < 3; fd++) {
        int ours = evl_transport_get_fd(evl_process_get_pipe_transport(log.process, fd));
        CHECK_INT(fcntl(ours, F_GETFD), FD_CLOEXEC);
        CHECK_INT(fcntl(ours, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    }
    CHECK_CODE(evl_transport_close(evl_process_get_pipe_transport(log.process, 0)), 0);
    run_until_lost(&log, loop);
    CHECK_INT(log.returncode, 0);
    done_with(&log);
    end_loop(loop);
    trace_reset();
}

static void ignore(int number) {
    (void)number;
}

TEST(signals_are_as_they_were_at_first) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, 0);
    sigset_t set, before;
    struct sigaction action, old_pipe, old_usr1, old_hup;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, &old_pipe);
    sigaction(SIGHUP, &action, &old_hup);
    action.sa_handler = ignore;
    sigaction(SIGUSR1, &action, &old_usr1);
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, &before);
    {
        /* Two signals are the C library's own, which it ignores in every child. */
        const char *status = output_of("exec cat /proc/self/status", &o), *blocked = strstr(status, "\nSigBlk:\t");
        const char *ignored = strstr(status, "\nSigIgn:\t"), *caught = strstr(status, "\nSigCgt:\t");
        CHECK(blocked != NULL && strtoull(blocked + 9, NULL, 16) == 0);
        CHECK(ignored != NULL && (strtoull(ignored + 9, NULL, 16) & ~(3ULL << 31)) == 0);
        CHECK(caught != NULL && strtoull(caught + 9, NULL, 16) == 0);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGPIPE, &old_pipe, NULL);
    sigaction(SIGHUP, &old_hup, NULL);
    sigaction(SIGUSR1, &old_usr1, NULL);
}

TEST(sessions_and_groups) {
    struct log log;
    evl_loop *loop = real_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, 0, 0);
    int round;
    pid_t leader = 0;
    for (round = 0; round < 4; round++) {
        pid_t pid;
        o.flags = round == 0 ? EVL_PROCESS_NEW_SESSION : round == 1 ? EVL_PROCESS_NEW_GROUP : 0;
        o.process_group = 0;
        REQUIRE(shell(&log, loop, "cat", &o) == 0);
        pid = evl_process_get_pid(log.process);
        if (round < 2) {
            struct log member;
            leader = pid;
            CHECK(getpgid(pid) == pid);
            CHECK((getsid(pid) == pid) == (round == 0));
            if (round == 1) {
                o.flags = 0;
                o.process_group = leader;
                REQUIRE(shell(&member, loop, "cat", &o) == 0);
                CHECK(getpgid(evl_process_get_pid(member.process)) == leader);
                evl_process_close(member.process);
                run_until_lost(&member, loop);
                done_with(&member);
            }
        } else {
            CHECK(getpgid(pid) == getpgid(0));
        }
        evl_transport_close(evl_process_get_pipe_transport(log.process, 0));
        run_until_lost(&log, loop);
        done_with(&log);
        trace_reset();
    }
    end_loop(loop);
}

TEST(signals_end_the_child) {
    struct log log;
    evl_loop *loop = real_loop();
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, 0);
    int which;
    for (which = 0; which < 3; which++) {
        REQUIRE(shell(&log, loop, "exec cat", &o) == 0);
        CHECK_CODE(evl_process_send_signal(log.process, 0), 0);
        CHECK_CODE(which == 0   ? evl_process_terminate(log.process)
                   : which == 1 ? evl_process_kill(log.process)
                                : evl_process_send_signal(log.process, SIGUSR1), 0);
        run_until_lost(&log, loop);
        CHECK_INT(log.returncode, which == 0 ? -SIGTERM : which == 1 ? -SIGKILL : -SIGUSR1);
        CHECK_CODE(evl_process_kill(log.process), -ESRCH);
        CHECK_CODE(evl_process_send_signal(log.process, 0), -ESRCH);
        done_with(&log);
        trace_reset();
    }
    end_loop(loop);
}

TEST(flow_control_of_the_input) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    static char much[500000];
    size_t size = 0;
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, 0);
    evl_transport *in;
    CHECK_CODE(evl_loop_subprocess_shell(loop, "wc -c", &o, NULL, NULL, NULL, &process), 0);
    in = evl_process_get_pipe_transport(process, 0);
    memset(much, 'x', sizeof much);
    CHECK_CODE(evl_transport_write(in, much, sizeof much), 0);
    CHECK_CODE(evl_transport_get_write_buffer_size(in, &size), 0);
    CHECK(size > 0);
    CHECK_CODE(evl_process_communicate(process, "more", 4, &future), 0);
    run_until_done(loop, future);
    check_output(future, 1, "500004\n");
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST(a_process_lives_without_references) {
    struct log log;
    evl_loop *loop = real_loop();
    evl_process_protocol p = protocol();
    memset(&log, 0, sizeof log);
    CHECK_CODE(evl_loop_subprocess_shell(loop, "exit 5", NULL, &p, &log, log_free, NULL), 0);
    run_until_lost(&log, loop);
    CHECK_INT(log.returncode, 5);
    CHECK_TRACE("made exited lost");
    end_loop(loop);
}

TEST(data_and_repr) {
    struct log log;
    struct probe data = probe_named(NULL, NULL);
    evl_loop *loop = real_loop();
    char text[100], expected[100];
    REQUIRE(shell(&log, loop, "exit 4", NULL) == 0);
    CHECK_CODE(evl_process_set_data(log.process, &data, probe_free), 0);
    CHECK(evl_process_get_data(log.process) == &data);
    snprintf(expected, sizeof expected, "<SubprocessTransport pid=%d running>", evl_process_get_pid(log.process));
    CHECK_INT(evl_process_repr(log.process, text, sizeof text), strlen(expected));
    CHECK_STRING(text, expected);
    run_until_lost(&log, loop);
    CHECK(evl_process_repr(log.process, text, sizeof text) > 0);
    CHECK(strstr(text, "returncode=4") != NULL);
    end_loop(loop);
    CHECK_INT(data.frees, 0);
    evl_process_unref(evl_process_ref(log.process));
    evl_process_unref(log.process);
    CHECK_INT(data.frees, 1);
    trace_reset();
}

TEST_MAIN()
