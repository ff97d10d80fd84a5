/* Readers and writers: level-triggered, replaced, removed, paused, and what cannot be watched. */
#include "harness.h"

#include <fcntl.h>
#include <sys/socket.h>

static int add_reader(evl_loop *loop, int fd, struct probe *p) {
    return evl_loop_add_reader(loop, fd, probe_call, p, probe_free, NULL, NULL);
}

static int add_writer(evl_loop *loop, int fd, struct probe *p) {
    return evl_loop_add_writer(loop, fd, probe_call, p, probe_free, NULL, NULL);
}

static void put(int fd, const char *text) {
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void take(int fd) {
    char c;
    CHECK(read(fd, &c, 1) == 1);
}

static void fill(int fd) {
    char block[4096];
    memset(block, 'x', sizeof block);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    while (write(fd, block, sizeof block) > 0)
        ;
    while (write(fd, block, 1) > 0)
        ;
}

TEST(reader_is_level_triggered) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_metrics m;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(add_reader(loop, fds[0], &p), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    put(fds[1], "ab");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1); /* nothing was read */
    take(fds[0]);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    take(fds[0]);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    put(fds[1], "c");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 4, 0);
    m.size = sizeof m;
    CHECK_CODE(evl_loop_metrics(loop, &m), 0);
    CHECK_INT(m.watchers, 1);
    CHECK_INT(m.events, 4);
    CHECK(m.polls >= 4);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_PROBE(p, 4, 1);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
    CHECK_PROBE(p, 4, 1);
}

TEST(writer_is_called_while_there_is_room) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    char block[65536];
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(add_writer(loop, fds[1], &p), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    fill(fds[1]);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK(read(fds[0], block, sizeof block) > 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[1]), 1);
    CHECK_CODE(evl_loop_remove_writer(loop, fds[1]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_PROBE(p, 3, 1);
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
}

TEST(reader_and_writer_on_one_descriptor) {
    evl_loop *loop = manual_loop();
    struct probe r = probe_named("r", loop), w = probe_named("w", loop);
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK_CODE(add_reader(loop, fds[0], &r), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_CODE(add_writer(loop, fds[0], &w), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("w");
    put(fds[1], "x");
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("r w"); /* asyncio's order */
    CHECK_CODE(evl_loop_remove_writer(loop, fds[0]), 1);
    CHECK_PROBE(w, 2, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("r");
    CHECK_CODE(add_writer(loop, fds[0], &w), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("w");
    close(fds[1]);
    end_loop(loop);
    CHECK_PROBE(r, 2, 1);
    CHECK_PROBE(w, 3, 2);
    close(fds[0]);
}

TEST(second_add_replaces_and_cancels) {
    evl_loop *loop = manual_loop();
    struct probe a = probe_named("a", loop), b = probe_named("b", loop);
    evl_handle *first = NULL, *second = NULL;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "x");
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &a, probe_free, NULL, &first), 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &b, probe_free, NULL, &second), 0);
    CHECK_INT(evl_handle_cancelled(first), 1);
    CHECK_INT(evl_handle_cancelled(second), 0);
    CHECK_PROBE(a, 0, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("b");
    CHECK_CODE(evl_handle_cancel(first), 0); /* of the past: the new reader stays */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("b");
    evl_handle_unref(first);
    CHECK_CODE(evl_handle_cancel(second), 0); /* removes the reader */
    CHECK_PROBE(b, 2, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    evl_handle_unref(second);
    close(fds[0]);
    close(fds[1]);
    end_loop(loop);
    CHECK_PROBE(a, 0, 1);
    CHECK_PROBE(b, 2, 1);
}

TEST(handle_of_a_reader_is_not_scheduled_by_hand) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &p, probe_free, NULL, &handle), 0);
    CHECK_CODE(evl_handle_schedule(handle), -EINVAL);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    evl_handle_unref(handle); /* stays registered */
    put(fds[1], "x");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_PROBE(p, 1, 0);
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
    close(fds[0]);
    close(fds[1]);
}

struct actor {
    evl_loop *loop;
    int fd, other, calls, frees;
    struct probe *replacement;
};

static void actor_free(void *arg) {
    ((struct actor *)arg)->frees++;
}

static void remove_both(void *arg) {
    struct actor *a = (struct actor *)arg;
    a->calls++;
    CHECK(evl_loop_remove_reader(a->loop, a->fd) == 1);
    CHECK_CODE(evl_loop_remove_reader(a->loop, a->fd), 0);
    CHECK_INT(a->frees, 0);
    if (a->other >= 0)
        CHECK_CODE(evl_loop_remove_reader(a->loop, a->other), 1);
}

TEST(reader_removes_itself_and_another_that_is_ready) {
    evl_loop *loop = manual_loop();
    struct actor a, b;
    int one[2], two[2];
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    REQUIRE(pipe(one) == 0 && pipe(two) == 0);
    a.loop = b.loop = loop;
    a.fd = b.other = one[0];
    b.fd = a.other = two[0];
    CHECK_CODE(evl_loop_add_reader(loop, one[0], remove_both, &a, actor_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_reader(loop, two[0], remove_both, &b, actor_free, NULL, NULL), 0);
    put(one[1], "x");
    put(two[1], "x");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1); /* whichever came first */
    CHECK_INT(a.calls + b.calls, 1);
    CHECK_INT(a.frees, 1);
    CHECK_INT(b.frees, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    close(one[0]);
    close(one[1]);
    close(two[0]);
    close(two[1]);
    end_loop(loop);
}

static void replace_self(void *arg) {
    struct actor *a = (struct actor *)arg;
    a->calls++;
    CHECK_CODE(add_reader(a->loop, a->fd, a->replacement), 0);
    CHECK_INT(a->frees, 0);
}

TEST(reader_replaces_itself) {
    evl_loop *loop = manual_loop();
    struct actor a;
    struct probe p = probe_named("new", loop);
    int fds[2];
    memset(&a, 0, sizeof a);
    REQUIRE(pipe(fds) == 0);
    a.loop = loop;
    a.fd = fds[0];
    a.replacement = &p;
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], replace_self, &a, actor_free, NULL, NULL), 0);
    put(fds[1], "x");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_INT(a.calls, 1);
    CHECK_INT(a.frees, 1);
    CHECK_PROBE(p, 0, 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("new");
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
    close(fds[0]);
    close(fds[1]);
}

static void pause_self_and_other(void *arg) {
    struct actor *a = (struct actor *)arg;
    a->calls++;
    CHECK_CODE(evl_loop_pause_reader(a->loop, a->fd), 0);
    CHECK_CODE(evl_loop_pause_reader(a->loop, a->other), 0);
}

TEST(paused_reader_is_withheld_even_when_ready) {
    evl_loop *loop = manual_loop();
    struct actor a, b;
    int one[2], two[2];
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    REQUIRE(pipe(one) == 0 && pipe(two) == 0);
    a.loop = b.loop = loop;
    a.fd = b.other = one[0];
    b.fd = a.other = two[0];
    CHECK_CODE(evl_loop_add_reader(loop, one[0], pause_self_and_other, &a, actor_free, NULL, NULL), 0);
    CHECK_CODE(evl_loop_add_reader(loop, two[0], pause_self_and_other, &b, actor_free, NULL, NULL), 0);
    put(one[1], "x");
    put(two[1], "x");
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(a.calls + b.calls, 1);
    CHECK_CODE(evl_loop_resume_reader(loop, one[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(a.frees + b.frees, 0);
    end_loop(loop);
    CHECK_INT(a.frees, 1);
    CHECK_INT(b.frees, 1);
    close(one[0]);
    close(one[1]);
    close(two[0]);
    close(two[1]);
}

TEST(pause_and_resume) {
    evl_loop *loop = manual_loop();
    struct probe r = probe_named("r", loop), w = probe_named("w", loop);
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), -ENOENT);
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), -ENOENT);
    CHECK_CODE(add_reader(loop, fds[0], &r), 0);
    CHECK_CODE(evl_loop_pause_writer(loop, fds[0]), -ENOENT);
    CHECK_CODE(evl_loop_resume_writer(loop, fds[0]), -ENOENT);
    CHECK_CODE(add_writer(loop, fds[0], &w), 0);
    put(fds[1], "x");
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("w");
    CHECK_CODE(evl_loop_pause_writer(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), 0); /* once undoes both */
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("r");
    CHECK_CODE(evl_loop_resume_writer(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("r w");
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 1); /* a paused one is there */
    CHECK_CODE(evl_loop_resume_reader(loop, fds[0]), -ENOENT);
    CHECK_CODE(add_reader(loop, fds[0], &r), 0); /* not paused */
    CHECK_CODE(evl_loop_run_once(loop, 0), 2);
    CHECK_TRACE("r w");
    end_loop(loop);
    CHECK_INT(r.frees, 2);
    CHECK_INT(w.frees, 1);
    close(fds[0]);
    close(fds[1]);
}

TEST(a_new_reader_is_not_paused) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "x");
    CHECK_CODE(add_reader(loop, fds[0], &p), 0);
    CHECK_CODE(evl_loop_pause_reader(loop, fds[0]), 0);
    CHECK_CODE(add_reader(loop, fds[0], &p), 0); /* replaces the paused one */
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    end_loop(loop);
    CHECK_PROBE(p, 1, 2);
    close(fds[0]);
    close(fds[1]);
}

TEST(what_cannot_be_watched) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named(NULL, loop);
    evl_handle *handle = NULL;
    char detail[200], number[16];
    FILE *file = tmpfile();
    int fds[2], directory = open("/", O_RDONLY);
    REQUIRE(file != NULL && directory >= 0 && pipe(fds) == 0);
    CHECK_CODE(evl_loop_add_reader(loop, fileno(file), probe_call, &p, probe_free, NULL, &handle), -EPERM);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    snprintf(number, sizeof number, "descriptor %d", fileno(file));
    CHECK(strstr(detail, number) != NULL);
    CHECK_CODE(add_writer(loop, fileno(file), &p), -EPERM);
    CHECK_CODE(add_reader(loop, directory, &p), -EPERM);
    CHECK_PROBE(p, 0, 3);
    CHECK_CODE(add_reader(loop, -1, &p), -EBADF);
    CHECK_CODE(add_writer(loop, -7, &p), -EBADF);
    close(fds[0]);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], probe_call, &p, probe_free, NULL, &handle), -EBADF);
    CHECK_CODE(add_writer(loop, fds[0], &p), -EBADF);
    CHECK_CODE(add_reader(loop, 1000000, &p), -EBADF);
    CHECK_CODE(add_reader(loop, INT32_MAX, &p), -EBADF);
    CHECK_PROBE(p, 0, 9);
    CHECK(handle == NULL);
    CHECK_CODE(evl_loop_remove_reader(loop, fds[0]), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, fileno(file)), 0);
    CHECK_CODE(evl_loop_remove_reader(loop, -1), -EBADF);
    CHECK_CODE(evl_loop_remove_writer(loop, -1), -EBADF);
    CHECK_CODE(evl_loop_pause_reader(loop, -1), -EBADF);
    CHECK_CODE(evl_loop_resume_reader(loop, -1), -EBADF);
    CHECK_CODE(evl_loop_pause_writer(loop, -1), -EBADF);
    CHECK_CODE(evl_loop_resume_writer(loop, -1), -EBADF);
    CHECK_CODE(evl_loop_remove_reader(loop, INT32_MAX), 0);
    CHECK_CODE(evl_loop_pause_reader(loop, INT32_MAX), -ENOENT);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    fclose(file);
    close(directory);
    close(fds[1]);
    end_loop(loop);
    CHECK_PROBE(p, 0, 9);
}

TEST(a_failed_add_leaves_what_was_there) {
    evl_loop *loop = manual_loop();
    struct probe p = probe_named("old", loop), q = probe_named("new", loop);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "x");
    CHECK_CODE(add_reader(loop, fds[0], &p), 0);
    CHECK_CODE(evl_loop_add_reader(loop, fds[0], NULL, &q, probe_free, NULL, NULL), -EINVAL);
    CHECK_PROBE(q, 0, 1);
    CHECK_CODE(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("old");
    end_loop(loop);
    CHECK_PROBE(p, 1, 1);
    close(fds[0]);
    close(fds[1]);
}

TEST(loop_close_lets_descriptors_go) {
    evl_loop *first = manual_loop(), *second = manual_loop();
    struct probe a = probe_named("a", first), b = probe_named("b", second);
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(add_reader(first, fds[0], &a), 0);
    CHECK_CODE(add_reader(second, fds[0], &b), 0); /* two loops may watch one */
    put(fds[1], "x");
    CHECK_CODE(evl_loop_run_once(first, 0), 1);
    CHECK_CODE(evl_loop_run_once(second, 0), 1);
    end_loop(first);
    CHECK_PROBE(a, 1, 1);
    CHECK_CODE(evl_loop_run_once(second, 0), 1);
    take(fds[0]); /* still open */
    end_loop(second);
    CHECK_PROBE(b, 2, 1);
    CHECK(close(fds[0]) == 0);
    CHECK(close(fds[1]) == 0);
}

TEST_MAIN()
