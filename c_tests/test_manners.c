/* What a loop takes of the process, and gives back: descriptors, threads, signals; and what it does when there is none. */
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>

static int count_entries(const char *path) {
    DIR *directory = opendir(path);
    int count = 0;
    if (!CHECK(directory != NULL))
        return -1;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static int open_descriptors(void) {
    return count_entries("/proc/self/fd");
}

static void use(evl_loop *loop) {
    int fds[2];
    if (!CHECK(pipe(fds) == 0))
        return;
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_signal_handler(loop, SIGUSR1, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(1), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_call_soon_threadsafe(loop, nothing, NULL, NULL, NULL, NULL), 0);
    CHECK(evl_loop_fd(loop) >= 0);
    CHECK_CODE(evl_loop_prepare(loop, NULL) < 0 ? -1 : 0, 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    close(fds[0]);
    close(fds[1]);
}

TEST(descriptors_are_given_back) {
    int before, i;
    evl_loop *first = loop_with_flags(EVL_LOOP_FD_DEADLINES);
    use(first);
    end_loop(first); /* what is made once for the process is made now */
    before = open_descriptors();
    for (i = 0; i < 20; i++) {
        evl_loop *loop = loop_with_flags(i % 2 ? EVL_LOOP_FD_DEADLINES : 0);
        use(loop);
        if (i % 3) {
            CHECK_CODE(evl_loop_close(loop), 0);
            CHECK_INT(open_descriptors(), before); /* close gives them back, not the last unref */
        }
        evl_loop_unref(loop);
        CHECK_INT(open_descriptors(), before);
    }
}

TEST(descriptors_are_closed_on_exec) {
    evl_loop *loop = loop_with_flags(EVL_LOOP_FD_DEADLINES);
    int fd, flags;
    use(loop);
    for (fd = 3; fd < 64; fd++) {
        char path[64], target[256];
        ssize_t length;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = 0;
        if (strstr(target, "eventpoll") == NULL && strstr(target, "eventfd") == NULL && strstr(target, "timerfd") == NULL)
            continue;
        flags = fcntl(fd, F_GETFD);
        CHECK(flags >= 0 && (flags & FD_CLOEXEC) != 0);
    }
    end_loop(loop);
}

TEST(a_loop_starts_nothing) {
    int threads = count_entries("/proc/self/task"), i;
    struct sigaction before[32], after;
    sigset_t mask_before, mask_after;
    evl_loop *loop;
    memset(before, 0, sizeof before);
    for (i = 1; i < 32; i++)
        CHECK(sigaction(i, NULL, &before[i]) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_before) == 0);
    loop = real_loop();
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(1), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK_INT(count_entries("/proc/self/task"), threads);
    for (i = 1; i < 32; i++) {
        memset(&after, 0, sizeof after);
        CHECK(sigaction(i, NULL, &after) == 0);
        CHECK(after.sa_handler == before[i].sa_handler);
    }
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_after) == 0);
    for (i = 1; i < 32; i++)
        CHECK_INT(sigismember(&mask_after, i), sigismember(&mask_before, i));
    end_loop(loop);
}

TEST(new_without_descriptors_left_fails_cleanly) {
    struct rlimit old, low;
    evl_loop *loop = NULL;
    int before = open_descriptors(), highest = 3, extra;
    evl_loop *first = real_loop();
    end_loop(first);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &old) == 0);
    while (fcntl(highest, F_GETFD) >= 0)
        highest++;
    for (extra = 0; extra < 4; extra++) { /* room for none, one, two … descriptors */
        int code;
        low = old;
        low.rlim_cur = (rlim_t)(highest + extra);
        CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
        code = evl_loop_new(NULL, &loop);
        CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
        if (extra == 0)
            CHECK_CODE(code, -EMFILE);
        if (code == 0) {
            end_loop(loop);
            loop = NULL;
        } else {
            CHECK_CODE(code, -EMFILE);
            CHECK(loop == NULL);
        }
        CHECK_INT(open_descriptors(), before);
    }
    CHECK_CODE(evl_loop_new(NULL, &loop), 0);
    end_loop(loop);
}

static volatile sig_atomic_t interrupts;

static void interrupted(int number) {
    (void)number;
    interrupts++;
}

TEST(signals_of_others_do_not_end_a_wait) {
    evl_loop *loop = real_loop();
    struct sigaction action;
    struct sigevent event;
    struct itimerspec every;
    timer_t timer;
    int64_t before = 0, after = 0;
    memset(&action, 0, sizeof action);
    action.sa_handler = interrupted; /* no SA_RESTART: the wait is interrupted */
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR2;
    REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    memset(&every, 0, sizeof every);
    every.it_value.tv_nsec = every.it_interval.tv_nsec = 2000000;
    CHECK(timer_settime(timer, 0, &every, NULL) == 0);
    CHECK_CODE(evl_loop_time(loop, &before), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_MS(30)), 0);
    CHECK_CODE(evl_loop_time(loop, &after), 0);
    CHECK(after - before >= EVL_MS(30));
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(20), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    timer_delete(timer);
    while (interrupts == 0)
        raise(SIGUSR2);
    action.sa_handler = SIG_DFL;
    CHECK(sigaction(SIGUSR2, &action, NULL) == 0);
    end_loop(loop);
}

TEST(a_paused_loop_needs_no_time) {
    evl_loop *loop = real_loop();
    struct timespec begin, end;
    CHECK_CODE(evl_loop_call_every(loop, EVL_SECONDS(100), nothing, NULL, NULL, NULL, NULL), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    CHECK_CODE(evl_loop_run_once(loop, EVL_MS(50)), 0);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    CHECK((end.tv_sec - begin.tv_sec) * 1000000000LL + (end.tv_nsec - begin.tv_nsec) < EVL_MS(25));
    end_loop(loop);
}

TEST(debug_output_goes_to_stderr_unless_told) {
    evl_loop *loop;
    int fds[2], saved = dup(2);
    char text[2000];
    ssize_t length;
    REQUIRE(saved >= 0 && pipe(fds) == 0);
    CHECK(dup2(fds[1], 2) == 2);
    loop = manual_loop();
    CHECK_CODE(evl_loop_set_debug(loop, 1), 0);
    evl_loop_unref(loop); /* nobody closed it: a warning */
    CHECK(dup2(saved, 2) == 2);
    close(saved);
    close(fds[1]);
    length = read(fds[0], text, sizeof text - 1);
    CHECK(length > 0);
    text[length > 0 ? length : 0] = 0;
    CHECK(strstr(text, "clos") != NULL);
    close(fds[0]);
}

TEST_MAIN()
