/* loop.sendfile: files to the peers of transports, by the kernel and by reading, and everything that may come in between. */
#include "streams.h"

enum { SIZE = 3000001 };

/* Two peers, and a file that is more than the system keeps for them. */
struct pair {
    evl_loop *loop;
    struct peer from, to;
    int file;
    uint64_t hash;
};

static void shrink(int fd) {
    int size = 100000;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
}

static void open_pair(struct pair *pair, int is_unix) {
    int fds[2];
    memset(pair, 0, sizeof *pair);
    pair->loop = reporting_loop();
    if (is_unix)
        unix_pair(fds);
    else
        tcp_pair(fds);
    shrink(fds[0]);
    shrink(fds[1]);
    peer_open(&pair->from, pair->loop, NULL, fds[0]);
    peer_open(&pair->to, pair->loop, NULL, fds[1]);
    pair->file = random_file(SIZE, 7, &pair->hash);
    CHECK(lseek(pair->file, 11, SEEK_SET) == 11);
}

/* Both are closed, if they are not yet. */
static void end_pair(struct pair *pair) {
    evl_transport_close(pair->from.transport);
    evl_transport_resume_reading(pair->to.transport);
    UNTIL(pair->loop, pair->from.lost && pair->to.lost);
    peer_end(&pair->from);
    peer_end(&pair->to);
    CHECK_INT(pair->from.frees, 1);
    CHECK_INT(pair->to.frees, 1);
    CHECK_INT(reports.count, 0);
    CHECK_INT(watchers(pair->loop), 0);
    CHECK_INT(lseek(pair->file, 0, SEEK_CUR), 11);
    close(pair->file);
    end_loop(pair->loop);
}

static evl_future *begin(struct pair *pair, int64_t offset, int64_t count) {
    evl_future *future = NULL;
    CHECK_CODE(evl_loop_sendfile(pair->loop, pair->from.transport, pair->file, offset, count, 0, &future), 0);
    return future;
}

/* The same to a peer that does not read: it is under way. */
static evl_future *begin_slowly(struct pair *pair) {
    evl_future *future;
    CHECK_CODE(evl_transport_pause_reading(pair->to.transport), 0);
    future = begin(pair, 0, 0);
    idle(pair->loop);
    CHECK_INT(evl_future_done(future), 0);
    return future;
}

static int64_t finish_number(evl_loop *loop, evl_future *future) {
    finish(loop, future);
    return end_number(future);
}

/* FNV-1a of a part of a file, continued. */
static uint64_t hash_from(uint64_t hash, int file, int64_t offset, size_t count) {
    char block[8192];
    while (count > 0) {
        size_t some = count < sizeof block ? count : sizeof block;
        CHECK(pread(file, block, some, offset) == (ssize_t)some);
        hash = hash_on(hash, block, some);
        offset += (int64_t)some;
        count -= some;
    }
    return hash;
}

static uint64_t hash_of(int file, int64_t offset, size_t count) {
    return hash_from(HASH_BEGIN, file, offset, count);
}

TEST(whole_files_arrive) {
    int is_unix;
    for (is_unix = 0; is_unix < 2; is_unix++) {
        struct pair pair;
        evl_future *future;
        open_pair(&pair, is_unix);
        future = begin(&pair, 0, 0);
        CHECK_INT(finish_number(pair.loop, future), SIZE);
        UNTIL(pair.loop, pair.to.total >= SIZE);
        CHECK_INT(pair.to.total, SIZE);
        CHECK(pair.to.hash == pair.hash);
        CHECK_INT(pair.from.pauses, 0);
        end_pair(&pair);
    }
}

TEST(parts_of_files) {
    static const struct {
        int64_t offset, count, sent;
    } parts[] = {{1000, 100, 100},    {0, 1, 1},         {SIZE - 5, 0, 5}, {SIZE - 5, 100, 5}, {SIZE, 0, 0},
                 {SIZE + 99, 7, 0},   {12345, 70000, 70000}, {0, SIZE, SIZE},
                 {1, 1 << 20, 1 << 20}, {INT64_C(1) << 40, 0, 0}};
    struct pair pair;
    size_t i;
    open_pair(&pair, 0);
    for (i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        evl_future *future = begin(&pair, parts[i].offset, parts[i].count);
        pair.to.total = 0;
        pair.to.hash = HASH_BEGIN;
        CHECK_INT(finish_number(pair.loop, future), parts[i].sent);
        UNTIL(pair.loop, pair.to.total >= (size_t)parts[i].sent);
        CHECK_INT(pair.to.total, parts[i].sent);
        if (parts[i].sent > 0)
            CHECK(pair.to.hash == hash_of(pair.file, parts[i].offset, (size_t)parts[i].sent));
    }
    end_pair(&pair);
}

TEST(an_empty_file) {
    struct pair pair;
    evl_future *future = NULL;
    int empty = random_file(0, 1, NULL);
    open_pair(&pair, 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, empty, 0, 0, 0, &future), 0);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(end_number(future), 0);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    close(empty);
    end_pair(&pair);
}

/* What is small is sent before the call returns. */
TEST(at_once) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 1);
    future = begin(&pair, 5, 100);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_INT(end_number(future), 100);
    peer_write(&pair.from, "and more");
    UNTIL(pair.loop, pair.to.total >= 108);
    CHECK(memcmp(pair.to.data + 100, "and more", 8) == 0);
    end_pair(&pair);
}

/* The file ends before what was asked for. */
TEST(a_file_that_is_cut_meanwhile) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    CHECK_CODE(evl_transport_pause_reading(pair.to.transport), 0);
    future = begin(&pair, 0, SIZE);
    idle(pair.loop);
    CHECK(ftruncate(pair.file, 2000000) == 0);
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    CHECK_INT(finish_number(pair.loop, future), 2000000);
    UNTIL(pair.loop, pair.to.total >= 2000000);
    CHECK(pair.to.hash == hash_of(pair.file, 0, 2000000));
    end_pair(&pair);
}

TEST(behind_what_is_queued) {
    static char before[1000000], after[100000];
    struct pair pair;
    evl_future *future;
    uint64_t hash;
    memset(before, 'b', sizeof before);
    memset(after, 'a', sizeof after);
    open_pair(&pair, 0);
    CHECK_CODE(evl_transport_write(pair.from.transport, before, sizeof before), 0);
    CHECK(queued(pair.from.transport) > 100000);
    future = begin(&pair, 0, 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    CHECK_INT(pair.from.pauses, 1);
    CHECK_INT(pair.from.resumes, 1);
    CHECK_CODE(evl_transport_write(pair.from.transport, after, sizeof after), 0);
    UNTIL(pair.loop, pair.to.total >= sizeof before + SIZE + sizeof after);
    hash = hash_on(HASH_BEGIN, before, sizeof before);
    hash = hash_from(hash, pair.file, 0, SIZE);
    hash = hash_on(hash, after, sizeof after);
    CHECK(pair.to.hash == hash);
    end_pair(&pair);
}

TEST(nothing_else_is_written_meanwhile) {
    struct pair pair;
    evl_future *future, *second = NULL;
    evl_buffer line = {"x", 1};
    struct probe arg = probe_named(NULL, NULL);
    char detail[200];
    open_pair(&pair, 0);
    future = begin_slowly(&pair);
    CHECK_CODE(evl_transport_write(pair.from.transport, "x", 1), EVL_EBUSY);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "unable to write; sendfile is in progress");
    CHECK_CODE(evl_transport_write(pair.from.transport, NULL, 0), EVL_EBUSY);
    CHECK_CODE(evl_transport_writelines(pair.from.transport, &line, 1), EVL_EBUSY);
    CHECK_CODE(evl_transport_write_owned(pair.from.transport, "x", 1, &arg, probe_free), EVL_EBUSY);
    CHECK_PROBE(arg, 0, 1);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, &second), EVL_EBUSY);
    CHECK(second == NULL);
    CHECK_INT(queued(pair.from.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    UNTIL(pair.loop, pair.to.total >= SIZE);
    CHECK(pair.to.hash == pair.hash);
    end_pair(&pair);
}

/* What the peer says is heard when the file is sent. */
TEST(nothing_is_read_meanwhile) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    future = begin_slowly(&pair);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 0);
    peer_write(&pair.to, "hello");
    idle(pair.loop);
    CHECK_CODE(evl_transport_resume_reading(pair.from.transport), 0);
    idle(pair.loop);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 0);
    CHECK_INT(pair.from.total, 0);
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    UNTIL(pair.loop, pair.from.total >= 5);
    CHECK_STRING(pair.from.data, "hello");
    end_pair(&pair);
}

/* A pause of one's own outlasts the file. */
TEST(reading_is_paused_for_other_reasons) {
    struct pair pair;
    evl_future *future;
    int during;
    for (during = 0; during < 2; during++) {
        open_pair(&pair, 0);
        if (!during)
            CHECK_CODE(evl_transport_pause_reading(pair.from.transport), 0);
        future = begin_slowly(&pair);
        if (during)
            CHECK_CODE(evl_transport_pause_reading(pair.from.transport), 0);
        peer_write(&pair.to, "hello");
        CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
        CHECK_INT(finish_number(pair.loop, future), SIZE);
        CHECK_INT(evl_transport_is_reading(pair.from.transport), 0);
        UNTIL(pair.loop, pair.to.total >= SIZE);
        idle(pair.loop);
        CHECK_INT(pair.from.total, 0);
        CHECK_CODE(evl_transport_resume_reading(pair.from.transport), 0);
        UNTIL(pair.loop, pair.from.total >= 5);
        end_pair(&pair);
    }
}

TEST(a_transport_that_is_closing) {
    struct pair pair;
    evl_future *future = NULL;
    char detail[200];
    open_pair(&pair, 0);
    CHECK_CODE(evl_transport_close(pair.from.transport), 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, &future), -EPIPE);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "the transport is closing");
    UNTIL(pair.loop, pair.from.lost);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, &future), -EPIPE);
    CHECK(future == NULL);
    end_pair(&pair);
    CHECK_INT(pair.to.total, 0);
    open_pair(&pair, 0);
    CHECK_CODE(evl_transport_write_eof(pair.from.transport), 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, &future), EVL_EINVALIDSTATE);
    end_pair(&pair);
}

TEST(close_waits_for_the_file) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    future = begin_slowly(&pair);
    CHECK_CODE(evl_transport_close(pair.from.transport), 0);
    CHECK_INT(evl_transport_is_closing(pair.from.transport), 1);
    idle(pair.loop);
    CHECK_INT(pair.from.lost, 0);
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    UNTIL(pair.loop, pair.from.lost && pair.to.lost);
    CHECK_CODE(pair.from.code, 0);
    CHECK_INT(pair.to.total, SIZE);
    CHECK(pair.to.hash == pair.hash);
    end_pair(&pair);
}

/* Neither future nor callback: sent and closed. */
TEST(sent_and_forgotten) {
    struct pair pair;
    open_pair(&pair, 0);
    peer_write(&pair.from, "");
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, NULL), 0);
    CHECK_CODE(evl_transport_close(pair.from.transport), 0);
    UNTIL(pair.loop, pair.from.lost && pair.to.lost);
    CHECK(pair.to.hash == pair.hash);
    end_pair(&pair);
    open_pair(&pair, 0); /* and it fails: that is told once */
    CHECK_CODE(evl_transport_pause_reading(pair.to.transport), 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, NULL), 0);
    idle(pair.loop);
    CHECK_CODE(evl_transport_abort(pair.to.transport), 0);
    UNTIL(pair.loop, pair.from.lost);
    CHECK(pair.from.code == -ECONNRESET || pair.from.code == -EPIPE);
    end_pair(&pair);
}

TEST(write_eof_waits_for_the_file) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    pair.to.keep = 1;
    future = begin_slowly(&pair);
    CHECK_CODE(evl_transport_write_eof(pair.from.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    UNTIL(pair.loop, pair.to.eofs);
    CHECK_INT(pair.to.total, SIZE);
    CHECK_INT(pair.from.lost, 0);
    CHECK_INT(pair.to.lost, 0);
    peer_write(&pair.to, "thanks");
    UNTIL(pair.loop, pair.from.total >= 6);
    CHECK_CODE(evl_transport_close(pair.to.transport), 0);
    end_pair(&pair);
}

static void on_done(evl_future *future, void *arg) {
    (void)future;
    trace((const char *)arg);
}

TEST(abort_ends_it) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    pair.from.name = "from-";
    future = begin_slowly(&pair);
    CHECK_CODE(evl_future_add_done_callback(future, on_done, (void *)"done", NULL, NULL), 0);
    CHECK_CODE(evl_transport_abort(pair.from.transport), 0);
    CHECK_INT(evl_future_done(future), 1);
    CHECK_TRACE("");
    UNTIL(pair.loop, pair.from.lost);
    CHECK_TRACE("from-lost done");
    check_message(future, "sendfile: connection aborted");
    CHECK(sent_by(future) > 0 && sent_by(future) < SIZE);
    CHECK_CODE(end_code(future), -ECONNABORTED);
    CHECK_CODE(pair.from.code, 0);
    end_pair(&pair);
    CHECK(pair.to.total < SIZE);
}

TEST(abort_while_it_waits_for_the_queue) {
    static char before[1000000];
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    CHECK_CODE(evl_transport_write(pair.from.transport, before, sizeof before), 0);
    future = begin(&pair, 0, 0);
    CHECK_CODE(evl_transport_close(pair.from.transport), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_CODE(evl_transport_abort(pair.from.transport), 0);
    CHECK_INT(sent_by(future), 0);
    CHECK_CODE(end_code(future), -ECONNABORTED);
    end_pair(&pair);
}

/* The peer resets the connection, or closes it, in the middle. */
TEST(the_peer_goes_meanwhile) {
    int aborts;
    for (aborts = 0; aborts < 2; aborts++) {
        struct pair pair;
        evl_future *future;
        sigset_t pending;
        int code;
        open_pair(&pair, aborts);
        future = begin_slowly(&pair);
        if (aborts)
            CHECK_CODE(evl_transport_abort(pair.to.transport), 0);
        else
            CHECK_CODE(evl_transport_close(pair.to.transport), 0);
        finish(pair.loop, future);
        CHECK(sent_by(future) > 0 && sent_by(future) < SIZE);
        code = end_code(future);
        CHECK(code == -EPIPE || code == -ECONNRESET);
        CHECK_INT(evl_transport_is_closing(pair.from.transport), 1);
        UNTIL(pair.loop, pair.from.lost);
        CHECK_CODE(pair.from.code, code);
        CHECK(sigpending(&pending) == 0);
        CHECK_INT(sigismember(&pending, SIGPIPE), 0);
        end_pair(&pair);
    }
}

/* Reads a little, and goes. */
static void *take_some(void *arg) {
    const int *wanted = (const int *)arg;
    static char block[65536];
    int left = wanted[1];
    ssize_t n;
    while (left > 0 && (n = recv(wanted[0], block, sizeof block, 0)) > 0)
        left -= (int)n;
    reset(wanted[0]);
    return NULL;
}

/* Also while the system is sending: something has gone, and then there is a SIGPIPE. */
TEST(the_peer_goes_at_any_moment) {
    evl_loop *loop = reporting_loop();
    unsigned seed = 1;
    int i, file = random_file(SIZE, 7, NULL), rounds = under_valgrind() ? 40 : 400;
    for (i = 0; i < rounds; i++) {
        struct peer from;
        pthread_t thread;
        evl_future *future = NULL;
        int fds[2], wanted[2], code;
        tcp_pair(fds);
        CHECK(fcntl(fds[1], F_SETFL, 0) == 0);
        wanted[0] = fds[1];
        wanted[1] = (int)(next_random(&seed) % (SIZE - 1000000));
        peer_open(&from, loop, NULL, fds[0]);
        CHECK(pthread_create(&thread, NULL, take_some, wanted) == 0);
        CHECK_CODE(evl_loop_sendfile(loop, from.transport, file, 0, 0, 0, &future), 0);
        finish(loop, future);
        code = end_code(future);
        CHECK(code == 0 || code == -EPIPE || code == -ECONNRESET);
        UNTIL(loop, from.lost);
        pthread_join(thread, NULL);
        peer_end(&from);
    }
    CHECK_INT(reports.count, 0);
    close(file);
    end_loop(loop);
}

static void close_after(struct peer *peer, const char *what) {
    if (strcmp(what, "data") == 0 && peer->total == SIZE)
        CHECK_CODE(evl_transport_close(peer->transport), 0);
}

TEST(the_peer_goes_when_it_has_everything) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    pair.to.at = close_after;
    future = begin(&pair, 0, SIZE);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    UNTIL(pair.loop, pair.from.lost);
    CHECK_CODE(pair.from.code, 0);
    CHECK(pair.to.hash == pair.hash);
    end_pair(&pair);
}

TEST(cancelled_before_its_turn) {
    static char before[1000000];
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    CHECK_CODE(evl_transport_write(pair.from.transport, before, sizeof before), 0);
    future = begin(&pair, 0, 0);
    CHECK_INT(evl_future_cancel(future, "enough"), 1);
    check_message(future, "enough");
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    peer_write(&pair.from, "after");
    UNTIL(pair.loop, pair.to.total >= sizeof before + 5);
    CHECK_INT(pair.to.total, sizeof before + 5);
    end_pair(&pair);
}

TEST(cancelled_in_the_middle) {
    struct pair pair;
    evl_future *future;
    long long sent;
    open_pair(&pair, 0);
    future = begin_slowly(&pair);
    CHECK_INT(sent_by(future), -1);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    sent = sent_by(future);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    peer_write(&pair.from, "after");
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    idle(pair.loop);
    CHECK(pair.to.total > 5 && pair.to.total < SIZE);
    CHECK_INT(sent, pair.to.total - 5);
    CHECK(pair.to.hash != pair.hash);
    future = begin(&pair, 0, 100); /* and another one */
    CHECK_INT(finish_number(pair.loop, future), 100);
    end_pair(&pair);
}

TEST(cancelled_while_closing) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    future = begin_slowly(&pair);
    CHECK_CODE(evl_transport_close(pair.from.transport), 0);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    UNTIL(pair.loop, pair.from.lost);
    CHECK_CODE(pair.from.code, 0);
    end_pair(&pair);
}

TEST(out_of_time) {
    struct pair pair;
    evl_future *future;
    open_pair(&pair, 0);
    future = begin_slowly(&pair);
    CHECK_CODE(evl_future_set_timeout(future, EVL_MS(1)), 0);
    finish(pair.loop, future);
    CHECK(sent_by(future) > 0 && sent_by(future) < SIZE);
    CHECK_CODE(end_code(future), -ETIMEDOUT);
    end_pair(&pair);
}

TEST(another_protocol_meanwhile) {
    struct pair pair;
    struct peer other;
    evl_protocol p = peer_protocol();
    evl_future *future;
    open_pair(&pair, 0);
    future = begin_slowly(&pair);
    peer_init(&other, pair.loop, NULL);
    other.transport = evl_transport_ref(pair.from.transport);
    other.made = 1;
    CHECK_CODE(evl_transport_set_protocol(pair.from.transport, &p, &other, peer_free), 0);
    CHECK_INT(pair.from.frees, 1);
    CHECK_CODE(evl_transport_resume_reading(pair.to.transport), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    peer_write(&pair.to, "hello");
    UNTIL(pair.loop, other.total >= 5);
    peer_close(&other);
    pair.from.lost = 1;
    end_pair(&pair);
}

TEST(the_loop_is_closed_meanwhile) {
    int stage;
    for (stage = 0; stage < 3; stage++) {
        static char before[1000000];
        struct pair pair;
        evl_future *future = NULL;
        int pipes[2];
        REQUIRE(pipe(pipes) == 0);
        open_pair(&pair, 0);
        CHECK_CODE(evl_transport_pause_reading(pair.to.transport), 0);
        if (stage == 0)
            CHECK_CODE(evl_transport_write(pair.from.transport, before, sizeof before), 0);
        CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, stage == 2 ? pipes[0] : pair.file, 0, 0, 1, &future), 0);
        if (stage > 0)
            idle(pair.loop);
        end_loop(pair.loop);
        CHECK_INT(evl_future_done(future), 0);
        CHECK_CODE(evl_future_cancel(future, NULL), EVL_ECLOSED);
        CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pair.file, 0, 0, 1, NULL), EVL_ECLOSED);
        evl_future_unref(future);
        CHECK_INT(pair.from.lost, 0);
        CHECK_INT(pair.from.frees, 1);
        CHECK_CODE(evl_transport_get_fd(pair.from.transport), -EBADF);
        peer_end(&pair.from);
        peer_end(&pair.to);
        CHECK_INT(is_open(pair.file) && is_open(pipes[0]), 1);
        close(pair.file);
        close_pair(pipes);
    }
}

/* --- from inside of callbacks */

static struct {
    evl_loop *loop;
    struct peer *from;
    int file, left;
    evl_future *future;
} chain;

static void send_next(evl_future *future, void *arg) {
    evl_future *next = NULL;
    (void)arg;
    CHECK_INT(end_number(future), SIZE);
    if (--chain.left == 0) {
        CHECK_CODE(evl_transport_close(chain.from->transport), 0);
        return;
    }
    CHECK_CODE(evl_loop_sendfile(chain.loop, chain.from->transport, chain.file, 0, 0, 0, &next), 0);
    CHECK_CODE(evl_future_add_done_callback(next, send_next, NULL, NULL, NULL), 0);
}

static void send_first(struct peer *peer, const char *what) {
    evl_future *first = NULL;
    if (strcmp(what, "data") != 0)
        return;
    CHECK_CODE(evl_loop_sendfile(chain.loop, peer->transport, chain.file, 0, 0, 0, &first), 0);
    CHECK_CODE(evl_future_add_done_callback(first, send_next, NULL, NULL, NULL), 0);
}

TEST(one_after_the_other) {
    struct pair pair;
    open_pair(&pair, 0);
    chain.loop = pair.loop;
    chain.from = &pair.from;
    chain.file = pair.file;
    chain.left = 3;
    pair.from.at = send_first;
    peer_write(&pair.to, "go");
    UNTIL(pair.loop, pair.to.lost);
    CHECK_INT(chain.left, 0);
    CHECK_INT(pair.to.total, 3 * SIZE);
    end_pair(&pair);
}

static void send_and_abort(struct peer *peer, const char *what) {
    if (strcmp(what, "data") == 0) {
        CHECK_CODE(evl_loop_sendfile(chain.loop, peer->transport, chain.file, 0, 0, 0, &chain.future), 0);
        CHECK_CODE(evl_transport_abort(peer->transport), 0);
    }
}

TEST(sent_and_aborted_in_one_callback) {
    struct pair pair;
    open_pair(&pair, 0);
    chain.loop = pair.loop;
    chain.file = pair.file;
    pair.from.at = send_and_abort;
    CHECK_CODE(evl_transport_pause_reading(pair.to.transport), 0);
    peer_write(&pair.to, "go");
    UNTIL(pair.loop, pair.from.lost);
    CHECK_CODE(end_code(chain.future), -ECONNABORTED);
    end_pair(&pair);
}

static void on_resume(struct peer *peer, const char *what) {
    if (strcmp(what, "resume") == 0) {
        CHECK_CODE(evl_transport_write(peer->transport, "x", 1), EVL_EBUSY);
        CHECK_INT(evl_future_cancel(chain.future, NULL), 1);
        CHECK_CODE(evl_transport_write(peer->transport, "x", 1), 0);
    }
}

/* The queue is low: a callback, before the file's turn. */
TEST(cancelled_by_resume_writing) {
    static char before[1000000];
    struct pair pair;
    open_pair(&pair, 0);
    pair.from.at = on_resume;
    CHECK_CODE(evl_transport_write(pair.from.transport, before, sizeof before), 0);
    chain.future = begin(&pair, 0, 0);
    UNTIL(pair.loop, evl_future_done(chain.future) && pair.to.total == sizeof before + 1);
    CHECK_CODE(end_code(chain.future), EVL_ECANCELLED);
    CHECK_INT(pair.from.resumes, 1);
    end_pair(&pair);
}

/* --- what the kernel does not do */

TEST(without_a_fallback) {
    struct pair pair;
    evl_future *future = NULL;
    evl_protocol p = peer_protocol();
    evl_transport *writer = NULL;
    struct peer of_pipe;
    int pipes[2], zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    char detail[200];
    open_pair(&pair, 0);
    REQUIRE(pipe(pipes) == 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 0, 0, 0, &future), EVL_ENOSENDFILE);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "sendfile(2) does not send from this kind of file");
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, zero, 0, 5, 0, &future), EVL_ENOSENDFILE);
    peer_init(&of_pipe, pair.loop, NULL);
    CHECK_CODE(evl_loop_connect_write_pipe(pair.loop, pipes[1], &p, &of_pipe, peer_free, &writer), 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, writer, pair.file, 0, 0, 0, &future), EVL_ENOSENDFILE);
    CHECK(evl_error_detail(detail, sizeof detail) > 0);
    CHECK_STRING(detail, "sendfile(2) does not send to this kind of transport");
    CHECK(future == NULL);
    CHECK_STRING(evl_errname(EVL_ENOSENDFILE), "EVL_ENOSENDFILE");
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    UNTIL(pair.loop, of_pipe.made);
    CHECK_CODE(evl_transport_close(writer), 0);
    UNTIL(pair.loop, of_pipe.lost);
    evl_transport_unref(writer);
    evl_transport_unref(of_pipe.transport);
    close(pipes[0]);
    close(zero);
    end_pair(&pair);
    CHECK_INT(pair.to.total, 0);
}

TEST(from_devices_and_files_without_a_size) {
    struct pair pair;
    evl_future *future = NULL;
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int proc = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t size = pread(proc, text, sizeof text, 0);
    open_pair(&pair, 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, zero, 0, 1000000, 1, &future), 0);
    CHECK_INT(finish_number(pair.loop, future), 1000000);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, null, 0, 0, 1, &future), 0);
    CHECK_INT(finish_number(pair.loop, future), 0);
    UNTIL(pair.loop, pair.to.total >= 1000000);
    pair.to.size = pair.to.total = 0;
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, proc, 0, 0, 1, &future), 0);
    CHECK_INT(finish_number(pair.loop, future), size);
    UNTIL(pair.loop, pair.to.total >= (size_t)size);
    CHECK(memcmp(pair.to.data, text, (size_t)size) == 0);
    close(zero);
    close(null);
    close(proc);
    end_pair(&pair);
}

/* A regular file that the kernel may refuse when it is tried: then the future says so. */
TEST(refused_when_tried) {
    struct pair pair;
    evl_future *future = NULL;
    int code = 0, proc = open("/proc/self/auxv", O_RDONLY | O_CLOEXEC);
    char text[4096];
    ssize_t size = pread(proc, text, sizeof text, 0);
    int64_t sent;
    open_pair(&pair, 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, proc, 0, 0, 0, &future), 0);
    finish(pair.loop, future);
    CHECK_CODE(evl_future_error(future, &code), 0);
    if (code == EVL_ENOSENDFILE)
        check_message(future, "sendfile: sendfile(2) cannot send this file to there");
    sent = end_number(future);
    CHECK(sent == EVL_ENOSENDFILE || sent == size);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    CHECK_INT(finish_number(pair.loop, begin(&pair, 0, 100)), 100);
    close(proc);
    end_pair(&pair);
}

/* A pipe whose writer takes its time: it is waited for, whether its descriptor blocks or not. */
TEST(from_a_pipe) {
    int flags;
    for (flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
        struct pair pair;
        evl_future *future = NULL;
        int pipes[2];
        open_pair(&pair, 0);
        REQUIRE(pipe2(pipes, flags) == 0);
        CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 1, 0, 1, &future), -ESPIPE);
        CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 0, 0, 1, &future), 0);
        idle(pair.loop);
        CHECK_INT(evl_transport_is_reading(pair.from.transport), 0);
        CHECK_CODE(evl_transport_write(pair.from.transport, "x", 1), EVL_EBUSY);
        CHECK_CODE(evl_loop_add_reader(pair.loop, pipes[0], nothing, NULL, NULL, NULL, NULL), EVL_EBUSY);
        CHECK(write(pipes[1], "one", 3) == 3);
        UNTIL(pair.loop, pair.to.total >= 3);
        idle(pair.loop);
        CHECK(write(pipes[1], "two", 3) == 3);
        UNTIL(pair.loop, pair.to.total >= 6);
        CHECK_INT(evl_future_done(future), 0);
        close(pipes[1]);
        CHECK_INT(finish_number(pair.loop, future), 6);
        CHECK_STRING(pair.to.data, "onetwo");
        close(pipes[0]);
        end_pair(&pair);
    }
}

TEST(from_a_pipe_as_much_as_is_wanted) {
    struct pair pair;
    evl_future *future = NULL;
    char rest[10] = "";
    int pipes[2];
    open_pair(&pair, 0);
    REQUIRE(pipe(pipes) == 0);
    CHECK(write(pipes[1], "onetwo", 6) == 6);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 0, 4, 1, &future), 0);
    CHECK_INT(finish_number(pair.loop, future), 4);
    CHECK(read(pipes[0], rest, sizeof rest) == 2);
    CHECK_STRING(rest, "wo");
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 0, 4, 1, &future), 0);
    idle(pair.loop);
    CHECK_INT(evl_future_cancel(future, NULL), 1);
    CHECK_CODE(end_code(future), EVL_ECANCELLED);
    CHECK(write(pipes[1], "three", 5) == 5);
    idle(pair.loop);
    CHECK_INT(pair.to.total, 4);
    CHECK(read(pipes[0], rest, sizeof rest) == 5);
    CHECK_CODE(evl_loop_add_reader(pair.loop, pipes[0], nothing, NULL, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 0, 4, 1, &future), EVL_EBUSY);
    CHECK_CODE(evl_loop_remove_reader(pair.loop, pipes[0]), 1);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[0], 0, 4, 1, &future), 0);
    idle(pair.loop);
    CHECK_CODE(evl_transport_abort(pair.from.transport), 0);
    CHECK_CODE(end_code(future), -ECONNABORTED);
    close_pair(pipes);
    end_pair(&pair);
}

/* A socket that is fed by a thread, to a peer that is slower by turns. */
static void *feed(void *arg) {
    int fd = *(int *)arg;
    char block[5000];
    size_t i, n = 0;
    unsigned seed = 3;
    while (n < 2000000) {
        size_t some = 1 + next_random(&seed) % sizeof block;
        for (i = 0; i < some; i++)
            block[i] = (char)((n + i) * 7);
        if (send(fd, block, some, MSG_NOSIGNAL) != (ssize_t)some)
            break;
        n += some;
    }
    shutdown(fd, SHUT_WR);
    return (void *)(uintptr_t)n;
}

TEST(from_a_socket) {
    struct pair pair;
    evl_future *future = NULL;
    pthread_t thread;
    void *fed;
    uint64_t hash = HASH_BEGIN;
    size_t i;
    int fds[2];
    open_pair(&pair, 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    CHECK(pthread_create(&thread, NULL, feed, &fds[1]) == 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, fds[0], 0, 0, 1, &future), 0);
    finish(pair.loop, future);
    pthread_join(thread, &fed);
    CHECK_INT(end_number(future), (uintptr_t)fed);
    UNTIL(pair.loop, pair.to.total >= (uintptr_t)fed);
    for (i = 0; i < (uintptr_t)fed; i++) {
        char byte = (char)(i * 7);
        hash = hash_on(hash, &byte, 1);
    }
    CHECK(pair.to.hash == hash);
    close_pair(fds);
    end_pair(&pair);
}

/* Whose peer resets it: that is not the transport's connection. */
TEST(from_a_socket_that_is_reset) {
    struct pair pair;
    evl_future *future = NULL;
    int fds[2];
    open_pair(&pair, 0);
    tcp_pair(fds);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, fds[0], 0, 0, 1, &future), 0);
    idle(pair.loop);
    reset(fds[1]);
    finish(pair.loop, future);
    CHECK_CODE(end_code(future), -ECONNRESET);
    CHECK_INT(evl_transport_is_closing(pair.from.transport), 0);
    peer_write(&pair.from, "still here");
    UNTIL(pair.loop, pair.to.total >= 10);
    close(fds[0]);
    end_pair(&pair);
}

/* Into a pipe, whose reader is a transport, too; then its reader goes. */
TEST(to_a_pipe) {
    struct pair pair;
    struct peer reader, writer;
    evl_protocol p = peer_protocol();
    evl_future *future = NULL;
    int pipes[2], code;
    open_pair(&pair, 0);
    REQUIRE(pipe(pipes) == 0);
    peer_init(&reader, pair.loop, NULL);
    peer_init(&writer, pair.loop, NULL);
    CHECK_CODE(evl_loop_connect_read_pipe(pair.loop, pipes[0], &p, &reader, peer_free, NULL), 0);
    CHECK_CODE(evl_loop_connect_write_pipe(pair.loop, pipes[1], &p, &writer, peer_free, NULL), 0);
    UNTIL(pair.loop, reader.made && writer.made);
    peer_write(&writer, "before");
    CHECK_CODE(evl_loop_sendfile(pair.loop, writer.transport, pair.file, 0, 0, 1, &future), 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK_INT(finish_number(pair.loop, future), SIZE);
    peer_write(&writer, "after");
    UNTIL(pair.loop, reader.total >= SIZE + 11);
    CHECK_CODE(evl_transport_pause_reading(reader.transport), 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, writer.transport, pair.file, 0, 0, 1, &future), 0);
    idle(pair.loop);
    CHECK_INT(evl_future_done(future), 0);
    peer_close(&reader);
    finish(pair.loop, future);
    code = end_code(future);
    CHECK_CODE(code, -EPIPE);
    UNTIL(pair.loop, writer.lost);
    CHECK_CODE(writer.code, -EPIPE);
    peer_end(&writer);
    end_pair(&pair);
}

/* A pipe transport that only reads, and what fails of the file. */
TEST(what_fails_of_the_file_leaves_the_transport) {
    struct pair pair;
    struct peer reader;
    evl_protocol p = peer_protocol();
    evl_future *future = (evl_future *)&pair;
    char path[] = "/tmp/evl-test-XXXXXX";
    int pipes[2], made = mkstemp(path), write_only = open(path, O_WRONLY), directory = open("/", O_RDONLY);
    int closed = fcntl(directory, F_DUPFD, 500);
    unlink(path);
    close(closed);
    open_pair(&pair, 0);
    REQUIRE(pipe(pipes) == 0 && made >= 0);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, closed, 0, 0, 1, &future), -EBADF);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, -1, 0, 0, 1, &future), -EBADF);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, directory, 0, 0, 1, &future), -EISDIR);
    peer_init(&reader, pair.loop, NULL);
    CHECK_CODE(evl_loop_connect_read_pipe(pair.loop, pipes[0], &p, &reader, peer_free, NULL), 0);
    UNTIL(pair.loop, reader.made);
    CHECK_CODE(evl_loop_sendfile(pair.loop, reader.transport, pair.file, 0, 0, 1, &future), -EOPNOTSUPP);
    CHECK(future == (evl_future *)&pair);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, write_only, 0, 0, 1, &future), 0);
    finish(pair.loop, future);
    check_message(future, "sendfile: bad file descriptor");
    CHECK_CODE(end_code(future), -EBADF);
    CHECK_CODE(evl_loop_sendfile(pair.loop, pair.from.transport, pipes[1], 0, 0, 1, NULL), -EBADF);
    CHECK_INT(evl_transport_is_closing(pair.from.transport), 0);
    CHECK_INT(evl_transport_is_reading(pair.from.transport), 1);
    peer_write(&pair.from, "still here");
    UNTIL(pair.loop, pair.to.total >= 10);
    CHECK_STRING(pair.to.data, "still here");
    peer_close(&reader);
    close(pipes[1]);
    close(made);
    close(write_only);
    close(directory);
    end_pair(&pair);
}

/* Before the protocol is told that it is connected. */
TEST(before_connection_made) {
    evl_loop *loop = reporting_loop();
    struct peer from, to;
    evl_protocol p = peer_protocol();
    evl_future *future, *sent = NULL;
    uint64_t hash;
    int fds[2], file = random_file(SIZE, 9, &hash);
    evl_transport *writer = NULL;
    unix_pair(fds);
    peer_open(&to, loop, NULL, fds[1]);
    peer_init(&from, loop, NULL);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[0], &p, &from, peer_free, &writer), 0);
    CHECK_CODE(evl_loop_sendfile(loop, writer, file, 0, 0, 0, &sent), 0);
    future = sent;
    CHECK_INT(finish_number(loop, future), SIZE);
    CHECK_INT(from.made, 1);
    UNTIL(loop, to.total >= SIZE);
    CHECK(to.hash == hash);
    peer_close(&from);
    UNTIL(loop, to.lost);
    peer_end(&to);
    evl_transport_unref(writer);
    close(file);
    end_loop(loop);
}

static int turns;

static void count_turns(void *arg) {
    turns++;
    CHECK_CODE(evl_loop_call_soon((evl_loop *)arg, count_turns, arg, NULL, NULL, NULL), 0);
}

/* A large file to a peer that takes it as fast as it comes. */
TEST(others_have_their_turn) {
    evl_loop *loop = reporting_loop();
    struct peer from;
    pthread_t thread;
    evl_future *future = NULL;
    int fds[2], wanted[2], file = random_file(0, 1, NULL);
    CHECK(ftruncate(file, 64 << 20) == 0);
    tcp_pair(fds);
    CHECK(fcntl(fds[1], F_SETFL, 0) == 0);
    wanted[0] = fds[1];
    wanted[1] = 64 << 20;
    peer_open(&from, loop, NULL, fds[0]);
    CHECK(pthread_create(&thread, NULL, take_some, wanted) == 0);
    turns = 0;
    CHECK_CODE(evl_loop_call_soon(loop, count_turns, loop, NULL, NULL, NULL), 0);
    CHECK_CODE(evl_loop_sendfile(loop, from.transport, file, 0, 0, 0, &future), 0);
    CHECK_INT(finish_number(loop, future), 64 << 20);
    CHECK(turns >= 32);
    pthread_join(thread, NULL);
    UNTIL(loop, from.lost);
    peer_end(&from);
    close(file);
    end_loop(loop);
}

/* Many at once, each to its own peer, with files of their own length. */
TEST(many_at_once) {
    enum { COUNT = 40 };
    static struct peer from[COUNT], to[COUNT];
    static evl_future *futures[COUNT];
    static uint64_t hashes[COUNT];
    static int files[COUNT];
    evl_loop *loop = reporting_loop();
    int i;
    for (i = 0; i < COUNT; i++) {
        int fds[2];
        if (i % 2)
            unix_pair(fds);
        else
            tcp_pair(fds);
        peer_open(&from[i], loop, NULL, fds[0]);
        peer_open(&to[i], loop, NULL, fds[1]);
        files[i] = random_file((size_t)(i * 30011), (unsigned)i, &hashes[i]);
    }
    for (i = 0; i < COUNT; i++)
        CHECK_CODE(evl_loop_sendfile(loop, from[i].transport, files[i], 0, 0, 0, &futures[i]), 0);
    for (i = COUNT - 1; i >= 0; i--) {
        CHECK_INT(finish_number(loop, futures[i]), i * 30011);
        CHECK_CODE(evl_transport_close(from[i].transport), 0);
    }
    for (i = 0; i < COUNT; i++) {
        UNTIL(loop, from[i].lost && to[i].lost);
        CHECK(to[i].hash == hashes[i]);
        peer_end(&from[i]);
        peer_end(&to[i]);
        close(files[i]);
    }
    CHECK_INT(reports.count, 0);
    end_loop(loop);
}

TEST_MAIN()
