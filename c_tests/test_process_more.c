/* Children, one case of CPython's after the other: conversations, pipes that one side closes, ends before the output was read, and what
 * closing, waiting and communicating do at every moment. */
#include "jobs.h"

#include <fcntl.h>

struct log {
    char out[2][20000];
    size_t size[2], total;
    int exited, lost, frees, in_lost, in_code;
};

static evl_loop *loop;
static evl_process *process;
static struct log child;

static void data_received(evl_process *of, int fd, const void *data, size_t size, void *arg) {
    struct log *log = (struct log *)arg;
    (void)of;
    CHECK(fd == 1 || fd == 2);
    if (log->size[fd - 1] + size < sizeof log->out[0]) {
        memcpy(log->out[fd - 1] + log->size[fd - 1], data, size);
        log->size[fd - 1] += size;
    }
    log->total += size;
}

static void pipe_lost(evl_process *of, int fd, int code, void *arg) {
    struct log *log = (struct log *)arg;
    (void)of;
    if (fd == 0) {
        log->in_lost++;
        log->in_code = code;
    }
}

static void exited(evl_process *of, void *arg) {
    (void)of;
    ((struct log *)arg)->exited++;
}

static void lost(evl_process *of, int code, void *arg) {
    (void)of;
    CHECK_INT(code, 0);
    ((struct log *)arg)->lost++;
}

static void freed(void *arg) {
    ((struct log *)arg)->frees++;
}

static evl_process_options pipes(int in, int out, int err) {
    evl_process_options o;
    CHECK_CODE(evl_process_options_init(&o, sizeof o), 0);
    o.stdin_mode = in;
    o.stdout_mode = out;
    o.stderr_mode = err;
    return o;
}

static void begin(const char *command, evl_process_options *options) {
    evl_process_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.pipe_data_received = data_received;
    p.pipe_connection_lost = pipe_lost;
    p.process_exited = exited;
    p.connection_lost = lost;
    memset(&child, 0, sizeof child);
    process = NULL;
    loop = real_loop();
    CHECK_CODE(evl_loop_subprocess_shell(loop, command, options, &p, &child, freed, &process), 0);
}

#define UNTIL(condition)                                                                                              \
    do {                                                                                                              \
        while (!(condition))                                                                                          \
            if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))                                                \
                break;                                                                                                \
    } while (0)

static int returncode(void) {
    int code = 4711;
    CHECK_CODE(evl_process_get_returncode(process, &code), 0);
    return code;
}

static void end(int code) {
    UNTIL(child.lost);
    CHECK_INT(child.exited, 1);
    CHECK_INT(returncode(), code);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(child.frees, 1);
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    evl_process_unref(process);
    end_loop(loop);
    await_threads(1);
}

static evl_transport *pipe_of(int fd) {
    return evl_process_get_pipe_transport(process, fd);
}

static void write_to(const char *text) {
    CHECK_CODE(evl_transport_write(pipe_of(0), text, strlen(text)), 0);
}

/* --- conversations */

TEST(question_and_answer) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    begin("while read x; do echo \"out:$x\"; echo \"err:$x\" >&2; done; exit 3", &o);
    write_to("Python\n");
    UNTIL(child.size[0] == 11 && child.size[1] == 11);
    CHECK_STRING(child.out[0], "out:Python\n");
    write_to("the");
    write_to("Monty\n");
    UNTIL(child.size[0] == 24 && child.size[1] == 24);
    CHECK_STRING(child.out[0], "out:Python\nout:theMonty\n");
    CHECK_STRING(child.out[1], "err:Python\nerr:theMonty\n");
    CHECK_INT(child.exited, 0);
    CHECK_CODE(evl_transport_close(pipe_of(0)), 0);
    end(3);
    CHECK_INT(child.in_lost, 1);
    CHECK_INT(child.in_code, 0);
}

TEST(stderr_with_stdout) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_STDOUT);
    begin("read x; echo \"ERR:$x\" >&2; echo \"OUT:$x\"", &o);
    CHECK(pipe_of(2) == NULL);
    write_to("test\n");
    end(0);
    CHECK_STRING(child.out[0], "ERR:test\nOUT:test\n");
    CHECK_INT(child.size[1], 0);
}

TEST(signals_that_were_ignored_here_end_the_child) {
    static const int numbers[] = {SIGHUP, SIGTERM, SIGUSR1};
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_INHERIT);
    char text[100], expected[100];
    int i, code;
    signal(SIGHUP, SIG_IGN);
    for (i = 0; i < 3; i++) {
        begin("echo sleeping; exec sleep 1000", &o);
        UNTIL(child.size[0] == 9);
        CHECK_CODE(evl_process_get_returncode(process, &code), EVL_EINVALIDSTATE);
        snprintf(expected, sizeof expected, "<SubprocessTransport pid=%d running>", evl_process_get_pid(process));
        CHECK(evl_process_repr(process, text, sizeof text) > 0);
        CHECK_STRING(text, expected);
        CHECK_CODE(evl_process_send_signal(process, numbers[i]), 0);
        UNTIL(child.lost);
        snprintf(expected, sizeof expected, "<SubprocessTransport closed pid=%d returncode=%d>", evl_process_get_pid(process),
                 -numbers[i]);
        CHECK(evl_process_repr(process, text, sizeof text) > 0);
        CHECK_STRING(text, expected);
        CHECK_CODE(evl_process_send_signal(process, numbers[i]), -ESRCH);
        CHECK_CODE(evl_process_terminate(process), -ESRCH);
        CHECK_CODE(evl_process_kill(process), -ESRCH);
        CHECK_CODE(evl_process_close(process), 0);
        end(-numbers[i]);
    }
    signal(SIGHUP, SIG_DFL);
}

/* --- one side closes */

/* We do not read any more: the child that goes on writing is ended by SIGPIPE, or told EPIPE. */
TEST(our_end_of_the_output_is_closed) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    begin("echo ready; read x; trap '' PIPE; echo x 2>/dev/null; echo \"wrote: $?\" >&2", &o);
    UNTIL(child.size[0] == 6);
    CHECK_CODE(evl_transport_close(pipe_of(1)), 0);
    UNTIL(evl_transport_get_fd(pipe_of(1)) == -EBADF);
    CHECK_INT(child.exited, 0);
    write_to("go on\n");
    end(0);
    CHECK(strncmp(child.out[1], "wrote: ", 7) == 0 && child.out[1][7] != '0');
    CHECK_INT(child.total, child.size[1] + 6);
}

/* The child ends before all of its input was written. */
TEST(input_that_is_not_read) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_DEVNULL, EVL_PROCESS_INHERIT);
    static char block[300000];
    struct probe owned = probe_named(NULL, NULL);
    begin("exec sleep 1000", &o);
    memset(block, 'x', sizeof block);
    CHECK_CODE(evl_transport_write_owned(pipe_of(0), block, sizeof block, &owned, probe_free), 0);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(owned.frees, 0);
    CHECK_CODE(evl_process_kill(process), 0);
    UNTIL(child.in_lost);
    CHECK_CODE(child.in_code, -EPIPE);
    CHECK_INT(owned.frees, 1);
    CHECK_CODE(evl_transport_write(pipe_of(0), "x", 1), -EPIPE);
    end(-SIGKILL);
}

/* A child is killed, and has left another that holds its output: the end of the first is heard of at once. */
TEST(killed_with_a_grandchild_that_lives) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_INHERIT);
    evl_future *waited = NULL;
    int64_t code = 0;
    int grandchild;
    begin("sleep 1000 & echo $!; wait", &o);
    UNTIL(memchr(child.out[0], '\n', child.size[0]) != NULL);
    grandchild = atoi(child.out[0]);
    CHECK(grandchild > 0);
    CHECK_CODE(evl_process_wait(process, &waited), 0);
    CHECK_CODE(evl_process_kill(process), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, waited), 0);
    CHECK_CODE(evl_future_result_int(waited, &code), 0);
    CHECK_INT(code, -SIGKILL);
    evl_future_unref(waited);
    CHECK_INT(child.lost, 0); /* its output is open still */
    kill(grandchild, SIGKILL);
    end(-SIGKILL);
}

/* --- output that is read late */

static void read_slowly(void) {
    /* One piece, and then a pause again. */
    size_t before = child.total;
    CHECK_CODE(evl_transport_resume_reading(pipe_of(1)), 0);
    UNTIL(child.total > before || child.lost);
    CHECK_CODE(evl_transport_pause_reading(pipe_of(1)), 0);
}

TEST(output_that_is_read_after_the_end) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_INHERIT);
    begin("head -c 60000 /dev/zero; exit 1", &o);
    CHECK_CODE(evl_transport_pause_reading(pipe_of(1)), 0);
    UNTIL(child.exited);
    CHECK_INT(child.total, 0);
    CHECK_INT(child.lost, 0);
    CHECK_INT(returncode(), 1);
    while (!child.lost)
        read_slowly();
    CHECK_INT(child.total, 60000);
    end(1);
}

TEST(output_that_is_read_slowly) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_INHERIT);
    begin("head -c 262144 /dev/zero; exit 1", &o);
    CHECK_CODE(evl_transport_pause_reading(pipe_of(1)), 0);
    while (!child.lost)
        read_slowly();
    CHECK_INT(child.total, 262144);
    end(1);
}

/* --- communicating and waiting */

static void communicated(const char *input, const char *expected, evl_process_options *options, const char *command) {
    evl_future *future = NULL;
    const void *data = NULL;
    size_t size = 4711;
    loop = real_loop();
    CHECK_CODE(evl_loop_subprocess_shell(loop, command, options, NULL, NULL, NULL, &process), 0);
    CHECK_CODE(evl_process_communicate(process, input, input ? strlen(input) : 0, &future), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, future), 0);
    CHECK_CODE(evl_future_result_output(future, 1, &data, &size), 0);
    CHECK_INT(size, strlen(expected));
    CHECK(size == 0 || memcmp(data, expected, size) == 0);
    CHECK_INT(returncode(), 0);
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
    await_threads(1);
}

TEST(input_of_every_kind) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_DEVNULL);
    communicated("abc", "3\n", &o, "wc -c");
    communicated("", "0\n", &o, "wc -c");
    communicated(NULL, "0\n", &o, "wc -c");
    /* With descriptors that are kept: the other end of the input must not be the child's, too. */
    o.flags = EVL_PROCESS_KEEP_FDS;
    communicated("abc", "3\n", &o, "wc -c");
    communicated("", "0\n", &o, "wc -c");
    o.flags = 0;
    o.stdin_mode = EVL_PROCESS_DEVNULL;
    communicated(NULL, "0\n", &o, "wc -c");
    o.stdout_mode = EVL_PROCESS_DEVNULL;
    communicated(NULL, "", &o, "echo nobody hears it");
}

TEST(waiting_is_cancelled) {
    evl_process_options o = pipes(EVL_PROCESS_DEVNULL, EVL_PROCESS_PIPE, EVL_PROCESS_INHERIT);
    evl_future *first = NULL, *second = NULL;
    int code;
    begin("exec sleep 1000", &o);
    CHECK_CODE(evl_process_wait(process, &first), 0);
    CHECK_CODE(evl_process_wait(process, &second), 0);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(evl_future_cancel(first, NULL), 1);
    CHECK(evl_loop_run_until_idle(loop) >= 0);
    CHECK_INT(evl_future_cancelled(first), 1);
    CHECK_INT(evl_future_done(second), 0);
    CHECK_CODE(evl_process_get_returncode(process, &code), EVL_EINVALIDSTATE); /* it lives */
    CHECK_CODE(evl_process_kill(process), 0);
    CHECK_CODE(evl_loop_run_until_complete(loop, second), 0);
    evl_future_unref(first);
    evl_future_unref(second);
    end(-SIGKILL);
}

TEST(closed_at_once) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_PIPE);
    begin("exec sleep 1000", &o);
    CHECK_CODE(evl_process_close(process), 0);
    CHECK_INT(evl_process_is_closing(process), 1);
    end(-SIGKILL);
    CHECK_INT(child.in_lost, 1);
}

/* A child whose end was not heard of yet is not killed by closing. */
TEST(closed_after_the_end) {
    evl_process_options o = pipes(EVL_PROCESS_PIPE, EVL_PROCESS_PIPE, EVL_PROCESS_INHERIT);
    siginfo_t info;
    begin("exit 5", &o);
    if (waitid(P_PID, (id_t)evl_process_get_pid(process), &info, WEXITED | WNOWAIT) == 0)
        CHECK_INT(info.si_status, 5);
    CHECK_CODE(evl_process_close(process), 0);
    CHECK_INT(child.exited, 0);
    end(5);
}

TEST_MAIN()
