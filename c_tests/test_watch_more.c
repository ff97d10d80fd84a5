/* Descriptors at their end, closed and reused behind the loop's back, and in great number. */
#include "harness.h"

#include <fcntl.h>
#include <sys/socket.h>

static void put(int fd, const char *text) {
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static int64_t iterations(evl_loop *loop) {
    evl_metrics m;
    memset(&m, 0, sizeof m);
    m.size = sizeof m;
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    return (int64_t)m.iterations;
}

/* Runs for a few milliseconds and checks that the loop slept instead of spinning. */
static void check_quiet(evl_loop *loop) {
    int64_t before = iterations(loop);
    CHECK_CODE(evl_loop_call_later(loop, EVL_MS(10), stop_loop, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_forever(loop), 0);
    CHECK(iterations(loop) - before < 20);
}

TEST(end_of_file_wakes_the_reader) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[1]); /* EPOLLHUP without EPOLLIN */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    close(fds[0]);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    end_loop(loop);
    CHECK_PROBE(p, 2, 1);
}

TEST(a_broken_pipe_wakes_whoever_is_registered) {
    evl_loop *loop = manual_loop();
    struct probe r = probe_named("r", loop), w = probe_named("w", loop);
    char block[4096] = {0};
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    while (write(fds[1], block, sizeof block) > 0)
        ;
    CHECK_CODE(evl_loop_add_writer(loop, fds[1], probe_call, &w, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[0]); /* EPOLLERR */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("w");
    CHECK_CODE(evl_loop_remove_writer(loop, fds[1]), 1);
    CHECK_CODE(evl_loop_add_reader(loop, fds[1], probe_call, &r, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1); /* only a reader, on a broken write end */
    CHECK_TRACE("r");
    end_loop(loop);
    CHECK_PROBE(r, 1, 1);
    CHECK_PROBE(w, 1, 1);
    close(fds[1]);
}

TEST(hangup_wakes_a_writer_alone) {
    evl_loop *loop = manual_loop();
    struct probe w = probe_named("w", loop);
    char block[4096] = {0};
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK(fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0);
    while (write(fds[0], block, sizeof block) > 0)
        ;
    CHECK_CODE(evl_loop_add_writer(loop, fds[0], probe_call, &w, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[1]);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    end_loop(loop);
    CHECK_PROBE(w, 1, 1);
    close(fds[0]);
}

TEST(a_paused_reader_neither_wakes_nor_spins_at_hangup) {
    evl_loop *loop = real_loop();
    struct probe p = probe_named(NULL, loop);
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &p, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    put(fds[1], "x");
    check_quiet(loop);
    close(fds[1]); /* HUP cannot be masked away */
    check_quiet(loop);
    CHECK_PROBE(p, 0, 0);
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 1, 0);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
    close(fds[0]);
}

TEST(a_paused_writer_with_a_reader_does_not_see_its_end) {
    evl_loop *loop = real_loop();
    struct probe r = probe_named("r", loop), w = probe_named("w", loop);
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &r, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_writer(loop, fds[0], probe_call, &w, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_pause_writer(loop, fds[0]), 0);
    check_quiet(loop);
    close(fds[1]);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("r");
    end_loop(loop);
    close(fds[0]);
}

/* The pipe of fds is closed and another takes its numbers. */
static void replace_pipe(int fds[2]) {
    int fresh[2];
    close(fds[0]);
    close(fds[1]);
    REQUIRE(pipe(fresh) == 0);
    CHECK_INT(fresh[0], fds[0]);
    CHECK_INT(fresh[1], fds[1]);
}

TEST(closed_and_reused_without_being_removed) {
    evl_loop *loop = real_loop();
    struct probe a = probe_named("old", loop), b = probe_named("new", loop);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &a, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    replace_pipe(fds);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &b, probe_free, NULL, NULL), 0);
    CHECK_PROBE(a, 0, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    put(fds[1], "x");
    CHECK_CODE(evl_loop_run_once(loop, EVL_SECONDS(10)), 1);
    CHECK_TRACE("new");
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    check_quiet(loop);
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
    CHECK_PROBE(b, 1, 1);
}

TEST(closed_reused_then_removed) {
    evl_loop *loop = real_loop();
    struct probe a = probe_named("old", loop);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &a, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    replace_pipe(fds);
    put(fds[1], "x");
    check_quiet(loop);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    check_quiet(loop);
    CHECK_PROBE(a, 0, 1);
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
}

TEST(closed_then_removed) {
    evl_loop *loop = real_loop();
    struct probe a = probe_named(NULL, loop);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &a, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[0]);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[1]);
    end_loop(loop);
    CHECK_PROBE(a, 0, 1);
}

/* A dup keeps the old pipe in the kernel's list under the old number: its events must reach nobody, and not spin. */
TEST(closed_and_reused_while_a_dup_survives) {
    evl_loop *loop = real_loop();
    struct probe a = probe_named("old", loop), b = probe_named("new", loop);
    int fds[2], survivor, old_write;
    REQUIRE(pipe(fds) == 0);
    survivor = fcntl(fds[0], F_DUPFD, 100);
    old_write = fcntl(fds[1], F_DUPFD, 100);
    REQUIRE(survivor >= 100 && old_write >= 100);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &a, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    replace_pipe(fds);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &b, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    put(old_write, "x");
    check_quiet(loop);
    CHECK_PROBE(a, 0, 1);
    CHECK_PROBE(b, 0, 0);
    put(fds[1], "y");
    CHECK_CODE(evl_loop_run_once(loop, EVL_SECONDS(10)), 1);
    CHECK_TRACE("new");
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    check_quiet(loop);
    CHECK_PROBE(b, 1, 1);
    close(fds[0]);
    close(fds[1]);
    close(survivor);
    close(old_write);
    end_loop(loop);
}

TEST(closed_then_removed_while_a_dup_survives) {
    evl_loop *loop = real_loop();
    struct probe a = probe_named("old", loop);
    int fds[2], survivor;
    REQUIRE(pipe(fds) == 0);
    survivor = fcntl(fds[0], F_DUPFD, 100);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &a, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[0]);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    put(fds[1], "x");
    check_quiet(loop);
    CHECK_PROBE(a, 0, 1);
    CHECK_CODE(evl_loop_add_reader(loop, survivor, probe_call, &a, probe_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_run_once(loop, EVL_SECONDS(10)), 1);
    CHECK_PROBE(a, 1, 1);
    end_loop(loop);
    CHECK_PROBE(a, 1, 2);
    close(survivor);
    close(fds[1]);
}

static void read_one(void *arg) {
    struct probe *p = (struct probe *)arg;
    char c;
    p->calls++;
    CHECK(read((int)(intptr_t)p->loop, &c, 1) == 1); /* its descriptor, kept there */
}

TEST(two_hundred_descriptors) {
    enum { COUNT = 200 };
    static struct probe probes[COUNT];
    static int fds[COUNT][2], sent[COUNT];
    evl_loop *loop = manual_loop();
    evl_metrics m;
    unsigned seed = 12345;
    int i, round, made = 0;
    for (i = 0; i < COUNT; i++, made++) {
        if (!CHECK(pipe(fds[i]) == 0))
            break;
        sent[i] = 0;
        probes[i] = probe_named(NULL, (evl_loop *)(intptr_t)fds[i][0]);
        CHECK_CODE(evl_loop_add_reader(loop, fds[i][0], read_one, &probes[i], probe_free, NULL, NULL), 0);
    }
    m.size = sizeof m;
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    CHECK_INT(m.watchers, made);
    for (round = 0; round < 50; round++) {
        int written = 0;
        for (i = 0; i < made; i++) {
            seed = seed * 1103515245u + 12345u;
            if ((seed >> 16) % 3 == 0 || round == 0) {
                put(fds[i][1], "x");
                sent[i]++;
                written++;
            }
        }
        CHECK_CODE(evl_loop_run_until_idle(loop), written);
    }
    for (i = 0; i < made; i++)
        CHECK_INT(probes[i].calls, sent[i]);
    for (i = 0; i < made; i += 2)
        CHECK_CODE(evl_loop_remove_reader(loop, fds[i][0]), 1);
    for (i = 0; i < made; i++)
        put(fds[i][1], "x");
    CHECK_CODE(evl_loop_run_until_idle(loop), made / 2);
    end_loop(loop);
    for (i = 0; i < made; i++) {
        CHECK_INT(probes[i].frees, 1);
        close(fds[i][0]);
        close(fds[i][1]);
    }
}

TEST(interest_changes_back_and_forth) {
    evl_loop *loop = manual_loop();
    struct probe r = probe_named(NULL, loop), w = probe_named(NULL, loop);
    int fds[2], i, adds = 0;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    put(fds[1], "x");
    for (i = 0; i < 300; i++) {
        CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &r, probe_free, NULL, NULL), 0);
        CHECK_CODE(evl_loop_add_writer(loop, fds[0], probe_call, &w, probe_free, NULL, NULL), 0);
        adds++;
        if (i % 2)
            CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), 1);
        if (i % 3 == 0)
            CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
        CHECK_INT(evl_loop_run_once(loop, 0), (i % 2 == 0) + (i % 3 != 0));
        if (i % 5 == 0)
            CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    }
    end_loop(loop);
    CHECK_INT(r.frees, adds);
    CHECK_INT(w.frees, adds);
    CHECK_INT(r.calls, 200);
    CHECK_INT(w.calls, 150);
    close(fds[0]);
    close(fds[1]);
}

TEST_MAIN()
