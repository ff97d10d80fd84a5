/* Children that only a fork can make: of another user or group, with another umask, with a function that runs before the program;
 * and that all else is as it is with other children. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static char output[20000];

static evl_process_options options_with(uint32_t flags) {
    evl_process_options o;
    CHECK_CODE(evl_process_options_init(&o, sizeof o), 0);
    o.flags = flags;
    o.stdin_mode = EVL_PROCESS_DEVNULL;
    o.stdout_mode = EVL_PROCESS_PIPE;
    o.stderr_mode = EVL_PROCESS_STDOUT;
    return o;
}

/* Runs a shell command to its end and returns what it has written. */
static const char *run(const char *command, const evl_process_options *options) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    const void *bytes = NULL;
    size_t size = 0;
    output[0] = '\0';
    if (CHECK_CODE(evl_loop_subprocess_shell(loop, command, options, NULL, NULL, NULL, &process), 0) &&
        CHECK_CODE(evl_process_communicate(process, NULL, 0, &future), 0)) {
        while (!evl_future_done(future))
            if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
                break;
        CHECK_CODE(evl_future_result_output(future, 1, &bytes, &size), 0);
        if (CHECK(size < sizeof output)) {
            memcpy(output, bytes, size);
            output[size] = '\0';
        }
    }
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
    return output;
}

static int frees;

static void count_free(void *arg) {
    (void)arg;
    frees++;
}

/* Starts what cannot be started: its code. Nothing is left of it. */
static int failing(const evl_process_options *options) {
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    int code;
    frees = 0;
    code = evl_loop_subprocess_exec(loop, options, NULL, NULL, count_free, &process);
    CHECK(process == NULL);
    CHECK_INT(frees, 1);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    CHECK_INT(errno, ECHILD);
    end_loop(loop);
    return code;
}

static int go_to_root(void *arg) {
    (void)arg;
    return chdir("/") < 0 ? -errno : 0;
}

static int fail_with(void *arg) { return *(int *)arg; }

TEST(umask_is_the_childs_only) {
    mode_t before = umask(022);
    evl_process_options o = options_with(EVL_PROCESS_SET_UMASK);
    o.umask = 0;
    CHECK_STRING(run("umask", &o), "0000\n");
    o.umask = 027;
    CHECK_STRING(run("umask", &o), "0027\n");
    CHECK_INT(umask(before), 022);
    o.umask = 01000;
    {
        const char *argv[] = {"true", NULL};
        o.argv = argv;
        CHECK_CODE(failing(&o), -EINVAL);
    }
}

TEST(setup_runs_in_the_child) {
    evl_process_options o = options_with(0);
    char here[4096];
    CHECK(getcwd(here, sizeof here) != NULL);
    o.child_setup = go_to_root;
    CHECK_STRING(run("/bin/pwd -P", &o), "/\n");
    {
        char still[4096];
        CHECK_STRING(getcwd(still, sizeof still), here);
    }
}

TEST(setup_that_fails_starts_nothing) {
    static const char *argv[] = {"true", NULL};
    evl_process_options o = options_with(0);
    int code = -EDOM;
    o.argv = argv;
    o.child_setup = fail_with;
    o.child_setup_arg = &code;
    CHECK_CODE(failing(&o), -EDOM);
    code = EVL_ECANCELLED;
    CHECK_CODE(failing(&o), EVL_ECANCELLED);
    code = 1;
    CHECK_STRING(run("echo started", &o), "started\n");
}

TEST(user_and_groups) {
    static const uint32_t groups[] = {7, 12};
    static const char *argv[] = {"true", NULL};
    evl_process_options o = options_with(EVL_PROCESS_SET_UID | EVL_PROCESS_SET_GID | EVL_PROCESS_SET_GROUPS);
    o.uid = 65534;
    o.gid = 65533;
    o.groups = groups;
    o.groups_count = 2;
    if (geteuid() != 0) {
        /* Whoever is not root may not become another one. */
        o.argv = argv;
        CHECK_CODE(failing(&o), -EPERM);
        return;
    }
    CHECK_STRING(run("id -u; id -ru; id -g; id -G; umask 2>&1 >/dev/null", &o), "65534\n65534\n65533\n65533 7 12\n");
    o.groups_count = 0;
    CHECK_STRING(run("id -G", &o), "65533\n");
    /* Such a user cannot go back. */
    o.child_setup = go_to_root;
    CHECK_STRING(run("cat /etc/shadow >/dev/null 2>&1 || echo refused", &o), "refused\n");
    CHECK_INT(geteuid(), 0);
    CHECK_INT(getegid(), 0);
    o = options_with(EVL_PROCESS_SET_GROUPS);
    o.groups_count = 1;
    o.argv = argv;
    CHECK_CODE(failing(&o), -EINVAL);
}

/* Without a descriptor of the shell's own. */
static const char open_ones[] =
    "fd=0; while [ $fd -lt 100 ]; do if [ -e /proc/$$/fd/$fd ]; then echo $fd; fi; fd=$((fd + 1)); done";

TEST(descriptors_are_those_that_are_given) {
    evl_process_options o = options_with(0);
    int given[2], others[2], high;
    char expected[100];
    CHECK(pipe(given) == 0 && pipe(others) == 0);
    high = dup2(others[0], 60);
    CHECK_INT(high, 60);
    o.child_setup = go_to_root;
    o.pass_fds = &given[1];
    o.pass_fds_count = 1;
    snprintf(expected, sizeof expected, "0\n1\n2\n%d\n", given[1]);
    CHECK_STRING(run(open_ones, &o), expected);
    CHECK(fcntl(given[1], F_SETFD, FD_CLOEXEC) == 0);
    CHECK_STRING(run(open_ones, &o), expected);
    o.pass_fds = &high;
    CHECK_STRING(run(open_ones, &o), "0\n1\n2\n60\n");
    {
        int several[3] = {others[1], 60, given[0]};
        o.pass_fds = several;
        o.pass_fds_count = 3;
        snprintf(expected, sizeof expected, "0\n1\n2\n%d\n%d\n60\n", given[0], others[1]);
        CHECK_STRING(run(open_ones, &o), expected);
    }
    o.pass_fds_count = 0;
    CHECK_STRING(run(open_ones, &o), "0\n1\n2\n");
    o.flags = EVL_PROCESS_KEEP_FDS;
    CHECK(strstr(run(open_ones, &o), "60\n") != NULL);
    close(high);
    close(given[0]);
    close(given[1]);
    close(others[0]);
    close(others[1]);
}

TEST(signals_are_as_they_are_at_first) {
    evl_process_options o = options_with(0);
    sigset_t set, before;
    void (*action)(int) = signal(SIGUSR1, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &before) == 0);
    o.child_setup = go_to_root;
    CHECK_STRING(run("grep -E 'SigBlk|SigIgn' /proc/$$/status | tr -d '[:space:]'", &o),
                 "SigBlk:0000000000000000SigIgn:0000000000000000");
    CHECK(pthread_sigmask(SIG_SETMASK, &before, &set) == 0);
    CHECK_INT(sigismember(&set, SIGUSR2), 1);
    signal(SIGUSR1, action);
}

TEST(sessions_groups_and_directories) {
    evl_process_options o = options_with(EVL_PROCESS_NEW_SESSION);
    o.child_setup = fail_with;
    {
        static int fine = 0;
        o.child_setup_arg = &fine;
    }
    o.cwd = "/usr";
    CHECK_STRING(run("/bin/pwd -P; set -- $(cat /proc/$$/stat); [ $$ = $5 ] && [ $$ = $6 ] && echo own", &o), "/usr\nown\n");
    o.flags = EVL_PROCESS_NEW_GROUP;
    CHECK_STRING(run("set -- $(cat /proc/$$/stat); [ $$ = $5 ] && [ $$ != $6 ] && echo own", &o), "own\n");
}

TEST(what_cannot_be_executed) {
    static int fine = 0;
    const char *argv[] = {"no_such_program_anywhere", NULL};
    const char *environment[] = {"PATH=/nowhere:/usr/bin:/bin", NULL};
    evl_process_options o = options_with(0);
    char detail[200];
    o.argv = argv;
    o.child_setup = fail_with;
    o.child_setup_arg = &fine;
    CHECK_CODE(failing(&o), -ENOENT);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK(strstr(detail, argv[0]) != NULL);
    argv[0] = "/etc/passwd";
    CHECK_CODE(failing(&o), -EACCES);
    argv[0] = "/";
    CHECK_CODE(failing(&o), -EACCES);
    argv[0] = "./no_such_file";
    CHECK_CODE(failing(&o), -ENOENT);
    o.cwd = "/no/such/directory";
    CHECK_CODE(failing(&o), -ENOENT);
    o.cwd = NULL;
    /* The child's PATH counts, as does what a name without a slash is found as. */
    o.envp = environment;
    CHECK_STRING(run("echo $PATH", &o), "/nowhere:/usr/bin:/bin\n");
    argv[0] = "true";
    {
        evl_loop *loop = real_loop();
        evl_process *process = NULL;
        evl_future *future = NULL;
        int64_t code = -1;
        CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), 0);
        CHECK_CODE(evl_process_wait(process, &future), 0);
        while (!evl_future_done(future))
            if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
                break;
        CHECK_CODE(evl_future_result_int(future, &code), 0);
        CHECK_INT(code, 0);
        evl_future_unref(future);
        evl_process_unref(process);
        end_loop(loop);
    }
}

TEST(pipes_of_a_size) {
    static const char *argv[] = {"cat", NULL};
    evl_process_options o = options_with(0);
    evl_loop *loop = real_loop();
    evl_process *process = NULL;
    evl_future *future = NULL;
    int size = 0;
    o.argv = argv;
    o.stdin_mode = EVL_PROCESS_PIPE;
    o.pipe_size = 1 << 17;
    CHECK_CODE(evl_loop_subprocess_exec(loop, &o, NULL, NULL, NULL, &process), 0);
    for (int fd = 0; fd < 2; fd++) {
        size = fcntl(evl_transport_get_fd(evl_process_get_pipe_transport(process, fd)), F_GETPIPE_SZ);
        CHECK_INT(size, 1 << 17);
    }
    CHECK_CODE(evl_process_wait(process, &future), 0);
    CHECK_CODE(evl_process_close(process), 0);
    while (!evl_future_done(future))
        if (!CHECK(evl_loop_run_once(loop, EVL_SECONDS(20)) >= 0))
            break;
    evl_future_unref(future);
    evl_process_unref(process);
    end_loop(loop);
}

TEST_MAIN()
