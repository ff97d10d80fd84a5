/* loop.sock_sendfile: by the kernel, and by reading where it cannot. */
#include "harness.h"
#include "sockets.h"

/* Reads what was sent until the end of the stream. */
struct reader {
    int fd;
    size_t size;
    uint64_t hash;
};

static void *read_all(void *arg) {
    struct reader *reader = (struct reader *)arg;
    char block[10000];
    ssize_t n;
    reader->hash = HASH_BEGIN;
    reader->size = 0;
    while ((n = recv(reader->fd, block, sizeof block, 0)) > 0) {
        reader->hash = hash_on(reader->hash, block, (size_t)n);
        reader->size += (size_t)n;
    }
    return NULL;
}

/* Sends that part of a file to a blocking reader in another thread. Returns the future's result. */
static int64_t send_part(evl_loop *loop, int file, int64_t offset, int64_t count, struct reader *reader) {
    evl_future *future = NULL;
    pthread_t thread;
    int64_t sent;
    int fds[2];
    tcp_pair(fds);
    CHECK(fcntl(fds[1], F_SETFL, 0) == 0);
    reader->fd = fds[1];
    CHECK(pthread_create(&thread, NULL, read_all, reader) == 0);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, offset, count, &future), 0);
    finish(loop, future);
    sent = end_number(future);
    shutdown(fds[0], SHUT_WR);
    pthread_join(thread, NULL);
    close_pair(fds);
    return sent;
}

TEST(sendfile_of_every_size) {
    static const size_t sizes[] = {0, 1, 4095, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5000001};
    evl_loop *loop = real_loop();
    struct reader reader;
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t hash;
        int file = random_file(sizes[i], 99, &hash);
        CHECK(lseek(file, 0, SEEK_SET) == 0);
        CHECK_INT(send_part(loop, file, 0, 0, &reader), sizes[i]);
        CHECK_INT(reader.size, sizes[i]);
        CHECK(reader.hash == hash);
        CHECK_INT(lseek(file, 0, SEEK_CUR), 0);
        close(file);
    }
    CHECK_INT(watchers(loop), 0);
    end_loop(loop);
}

TEST(sendfile_of_a_part) {
    evl_loop *loop = real_loop();
    struct reader reader;
    static unsigned char data[300000];
    unsigned seed = 5;
    int file = random_file(sizeof data, 5, NULL), i;
    CHECK(pread(file, data, sizeof data, 0) == (ssize_t)sizeof data);
    for (i = 0; i < 20; i++) {
        size_t offset = next_random(&seed) % sizeof data;
        size_t count = 1 + next_random(&seed) % sizeof data;
        size_t expected = count < sizeof data - offset ? count : sizeof data - offset;
        CHECK_INT(send_part(loop, file, (int64_t)offset, (int64_t)count, &reader), expected);
        CHECK_INT(reader.size, expected);
        CHECK(reader.hash == hash_on(HASH_BEGIN, data + offset, expected));
    }
    CHECK_INT(send_part(loop, file, sizeof data, 10, &reader), 0);
    CHECK_INT(send_part(loop, file, INT64_C(1) << 40, 0, &reader), 0);
    close(file);
    end_loop(loop);
}

/* Files under /proc have no size, and the kernel does not send from all of them. */
TEST(sendfile_of_what_the_kernel_cannot_send) {
    static const char *const paths[] = {"/proc/self/auxv", "/proc/self/stat", "/proc/version", "/proc/self/environ"};
    evl_loop *loop = real_loop();
    struct reader reader;
    size_t i;
    for (i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        static char text[1 << 20];
        int file = open(paths[i], O_RDONLY | O_CLOEXEC);
        ssize_t size;
        if (file < 0)
            continue;
        size = pread(file, text, sizeof text, 0);
        CHECK(size > 0);
        CHECK_INT(send_part(loop, file, 0, 0, &reader), size);
        if (strcmp(paths[i], "/proc/self/stat") != 0) /* which changes */
            CHECK(reader.hash == hash_on(HASH_BEGIN, text, (size_t)size));
        if (size > 3) {
            CHECK_INT(send_part(loop, file, 1, 2, &reader), 2);
            CHECK(strcmp(paths[i], "/proc/self/stat") == 0 || reader.hash == hash_on(HASH_BEGIN, text + 1, 2));
        }
        close(file);
    }
    end_loop(loop);
}

/* Much of one that has no size: it is read and sent in pieces, to a reader that is slower. */
TEST(sendfile_in_pieces) {
    enum { COUNT = 2000001 };
    evl_loop *loop = real_loop();
    struct reader reader;
    char *text = (char *)malloc(COUNT);
    int file = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
    ssize_t size = 0, n = 1;
    REQUIRE(text != NULL);
    while (file >= 0 && size < COUNT && (n = pread(file, text + size, (size_t)(COUNT - size), size)) > 0)
        size += n;
    if (size < COUNT) {
        printf("skipped: /proc/kallsyms cannot be read, or is short\n");
    } else {
        CHECK_INT(send_part(loop, file, 0, COUNT, &reader), COUNT);
        CHECK_INT(reader.size, COUNT);
        CHECK(reader.hash == hash_on(HASH_BEGIN, text, COUNT));
    }
    if (file >= 0)
        close(file);
    free(text);
    end_loop(loop);
}

/* A peer that is gone is an error, and never SIGPIPE. */
TEST(sendfile_to_a_peer_that_is_gone) {
    evl_loop *loop = real_loop();
    evl_future *future = NULL;
    int fds[2], file = random_file(10000, 1, NULL), proc = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    sigset_t pending;
    unix_pair(fds);
    close(fds[1]);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, 0, 0, &future), 0);
    finish(loop, future);
    check_message(future, "sendfile: broken pipe");
    CHECK_INT(sent_by(future), 0);
    CHECK_CODE(end_code(future), -EPIPE);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], proc, 0, 0, &future), 0);
    finish(loop, future);
    CHECK_CODE(end_code(future), -EPIPE);
    CHECK(sigpending(&pending) == 0);
    CHECK_INT(sigismember(&pending, SIGPIPE), 0);
    close(fds[0]);
    close(file);
    close(proc);
    end_loop(loop);
}

TEST(sendfile_that_waits_and_is_cancelled) {
    evl_loop *loop = real_loop();
    long long sent;
    evl_future *future = NULL;
    int fds[2], file = random_file(3 << 20, 1, NULL);
    unix_pair(fds);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, 0, 0, &future), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop) < 0, 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(watchers(loop), 1);
    CHECK_INT(evl_future_cancel(future, "enough"), 1);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(watchers(loop), 0);
    check_message(future, "enough");
    sent = sent_by(future);
    CHECK(sent > 0);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    CHECK_INT(drain(fds[1]), sent);
    CHECK_CODE(evl_loop_run_once(loop, 0), 0);
    CHECK_INT(drain(fds[1]), 0);
    close_pair(fds);
    close(file);
    end_loop(loop);
}

TEST(sendfile_of_what_cannot_be_sent) {
    evl_loop *loop = real_loop();
    evl_future *future = (evl_future *)loop;
    int fds[2], pipes[2], blocking[2], datagrams[2], file = random_file(10, 1, NULL), closed = dup(file), directory = open("/", O_RDONLY);
    char detail[200];
    unix_pair(fds);
    REQUIRE(pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, blocking) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, datagrams) == 0);
    close(closed);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], closed, 0, 0, &future), -EBADF);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], -1, 0, 0, &future), -EBADF);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], pipes[0], 0, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], fds[1], 0, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], directory, 0, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, -1, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, 0, -1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, fds[0], file, INT64_MAX, 1, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, pipes[1], file, 0, 0, &future), -ENOTSOCK);
    CHECK_CODE(evl_loop_sock_sendfile(loop, datagrams[0], file, 0, 0, &future), -EINVAL);
    CHECK_CODE(evl_loop_sock_sendfile(loop, closed, file, 0, 0, &future), -EBADF);
    CHECK_CODE(evl_loop_sock_sendfile(loop, blocking[0], file, 0, 0, &future), -EINVAL);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "the socket must be non-blocking");
    CHECK(future == (evl_future *)loop);
    CHECK_INT(watchers(loop), 0);
    CHECK_INT(drain(fds[1]), 0);
    close_pair(fds);
    close_pair(pipes);
    close_pair(blocking);
    close_pair(datagrams);
    close(file);
    close(directory);
    end_loop(loop);
}

TEST_MAIN()
