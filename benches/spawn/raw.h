/* For spawn.c, no library: posix_spawnp and waitpid */

#include <spawn.h>
#include <sys/wait.h>

#define MECHANISM "posix_spawnp, waitpid"

extern char **environ;

static int stopped;

static void spawner_open(void) {
}

static void spawner_spawn(void) {
}

static void spawner_run(void) {
    for (stopped = 0; !stopped;) {
        pid_t pid;
        int status = -1;
        if (posix_spawnp(&pid, arguments[0], NULL, NULL, (char **)(uintptr_t)arguments, environ) != 0)
            bench_fail("posix_spawnp");
        if (waitpid(pid, &status, 0) != pid)
            bench_fail("waitpid: %s", strerror(errno));
        ended(status);
    }
}

static void spawner_stop(void) {
    stopped = 1;
}

static void spawner_close(void) {
}
