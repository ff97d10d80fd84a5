/* Random chunks, written by many streams both ways, arrive complete and in order through random kinds of reads, limits and cancels:
 * compared by hash. EVL_SEED gives the seed, which is printed. In half of the rounds the system answers as it seldom does: this
 * program has a recv, a send and a sendmsg of its own. */
#include "reading.h"

#include <sys/syscall.h>
#include <time.h>

enum { PAIRS = 12, MOST = 20000, LONGEST_LINE = 250 };

static unsigned seed;

static unsigned below(unsigned limit) {
    return next_random(&seed) % limit;
}

static int faults;

/* Whether a call is interrupted, or finds nothing to do, for no reason. */
static int fails(void) {
    static const int codes[] = {EINTR, EAGAIN};
    if (!faults || below(5) != 0)
        return 0;
    errno = codes[below(2)];
    return 1;
}

/* So many bytes are read or written at most. */
static size_t some_of(size_t size) {
    return faults && size > 0 && below(3) == 0 ? 1 + below(100) % size : size;
}

ssize_t recv(int fd, void *buffer, size_t size, int flags) {
    return fails() ? -1 : syscall(SYS_recvfrom, fd, buffer, some_of(size), flags, NULL, NULL);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags) {
    return fails() ? -1 : syscall(SYS_sendto, fd, buffer, some_of(size), flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    return fails() ? -1 : syscall(SYS_sendmsg, fd, message, flags);
}

struct end {
    evl_loop *loop;
    evl_stream *stream;
    uint64_t sent_hash, got_hash;
    size_t to_send, sent, got;
    unsigned column; /* of what is sent */
    char *room;
    int over, cancels, overruns, partials, waits;
    evl_future *reading;
    enum { SOME, INTO, EXACTLY, EXACTLY_INTO, LINE, UNTIL, ALL, KINDS } kind;
};

static int ended;

/* --- writing: a task */

static int write_step(evl_task *task, int status, void *arg, evl_future **next) {
    static char block[MOST];
    struct end *end = (struct end *)arg;
    size_t size = below(4) == 0 ? below(MOST) : below(700), left = end->to_send - end->sent, i;
    if (!CHECK_CODE(status, 0))
        return status;
    if (size > left)
        size = left;
    for (i = 0; i < size; i++) {
        block[i] = (char)next_random(&seed);
        if (++end->column >= LONGEST_LINE)
            block[i] = '\n';
        if (block[i] == '\n')
            end->column = 0;
        /* The separators have beginnings in many places. */
        else if (below(4) == 0)
            block[i] = '=';
    }
    end->sent_hash = hash_on(end->sent_hash, block, size);
    end->sent += size;
    if (below(2) == 0) {
        CHECK_CODE(evl_stream_write(end->stream, block, size), 0);
    } else {
        evl_buffer lines[3] = {{block, size / 3}, {block + size / 3, size / 2 - size / 3}, {block + size / 2, size - size / 2}};
        CHECK_CODE(evl_stream_writelines(end->stream, lines, 3), 0);
    }
    if (end->sent == end->to_send)
        return evl_stream_write_eof(end->stream);
    if (below(5) == 0)
        return evl_sleep(evl_task_get_loop(task), 0, next);
    return evl_stream_drain(end->stream, next);
}

/* --- reading: callbacks */

static void on_read(evl_future *future, void *arg);

static void take(struct end *end, const void *data, size_t size) {
    end->got_hash = hash_on(end->got_hash, data, size);
    end->got += size;
}

static void cancel_it(void *arg) {
    struct end *end = (struct end *)arg;
    if (end->reading != NULL)
        CHECK(evl_future_cancel(end->reading, NULL) >= 0);
}

/* Begins some read. */
static void go_on(struct end *end) {
    evl_stream *stream = end->stream;
    size_t size = below(3) == 0 ? 1 + below(MOST) : 1 + below(300);
    if (below(20) == 0)
        CHECK_CODE(evl_stream_set_limit(stream, LONGEST_LINE + below(5000)), 0);
    memset(end->room, 0xee, MOST);
    /* What wants all the rest comes late. */
    end->kind = below(KINDS - (below(60) != 0));
    switch (end->kind) {
    case SOME:
        end->reading = read_some(stream, (int64_t)size);
        break;
    case INTO:
        end->reading = read_into(stream, end->room, size);
        break;
    case EXACTLY:
        end->reading = read_exactly(stream, size);
        break;
    case EXACTLY_INTO:
        end->reading = read_exactly_into(stream, end->room, size);
        break;
    case LINE:
        end->reading = read_line(stream);
        break;
    case UNTIL: {
        const char *separators[] = {"=", "\n", "==", "===\n", "=\n=", "x==============="};
        end->reading = read_until(stream, separators[below(6)]);
        break;
    }
    default:
        end->reading = read_some(stream, -1);
    }
    if (!evl_future_done(end->reading)) {
        end->waits++;
        if (below(4) == 0)
            CHECK_CODE(evl_loop_call_soon(end->loop, cancel_it, end, NULL, NULL, NULL), 0);
    }
    CHECK_CODE(evl_future_add_done_callback(end->reading, on_read, end, NULL, NULL), 0);
}

static void on_read(evl_future *future, void *arg) {
    struct end *end = (struct end *)arg;
    const void *data = NULL;
    size_t size = 0;
    int code = evl_future_result(future, NULL), was_into = end->kind == INTO || end->kind == EXACTLY_INTO;
    end->reading = NULL;
    switch (code) {
    case EVL_ECANCELLED:
        end->cancels++;
        break;
    case EVL_EINCOMPLETE:
        end->partials++;
        CHECK_CODE(evl_future_error_bytes(future, &data, &size), 0);
        take(end, data, size);
        break;
    case EVL_EOVERRUN: {
        evl_future *some;
        end->overruns++;
        CHECK_INT(end->kind, UNTIL);
        CHECK_CODE(evl_future_error_bytes(future, &data, &size), 0);
        CHECK(size > 0);
        some = read_some(end->stream, (int64_t)size);
        CHECK_CODE(evl_future_result_bytes(some, &data, &size), 0);
        take(end, data, size);
        evl_future_unref(some);
        break;
    }
    case 0:
    case -EINVAL:
        if (was_into) {
            int64_t count = 0;
            CHECK_CODE(evl_future_result_int(future, &count), 0);
            data = end->room;
            size = (size_t)count;
        } else {
            CHECK_CODE(evl_future_result_bytes(future, &data, &size), 0);
        }
        take(end, data, size);
        if (size == 0)
            end->over = 1;
        break;
    default:
        CHECK_CODE(code, 0);
        end->over = 1;
    }
    evl_future_unref(future);
    if (!end->over) {
        go_on(end);
        return;
    }
    CHECK_INT(evl_stream_at_eof(end->stream), 1);
    ended++;
}

static void run_round(int tcp) {
    static struct end ends[2 * PAIRS];
    evl_loop *loop = real_loop();
    int i, sum[4] = {0};
    memset(ends, 0, sizeof ends);
    ended = 0;
    for (i = 0; i < 2 * PAIRS; i++) {
        static int fds[2];
        if (i % 2 == 0) {
            if (tcp)
                tcp_pair(fds);
            else
                unix_pair(fds);
        }
        ends[i].loop = loop;
        ends[i].stream = stream_on(loop, fds[i % 2]);
        ends[i].to_send = 1 + below(under_valgrind() ? 30000 : 300000);
        ends[i].sent_hash = ends[i].got_hash = HASH_BEGIN;
        ends[i].room = (char *)malloc(MOST);
        CHECK_CODE(evl_stream_set_limit(ends[i].stream, LONGEST_LINE + below(2000)), 0);
        CHECK_CODE(evl_transport_set_write_buffer_limits(evl_stream_get_transport(ends[i].stream), below(30000), -1), 0);
    }
    for (i = 0; i < 2 * PAIRS; i++) {
        CHECK_CODE(evl_stream_create_task(ends[i].stream, write_step, &ends[i], NULL, NULL), 0);
        go_on(&ends[i]);
    }
    UNTIL(loop, ended == 2 * PAIRS);
    for (i = 0; i < 2 * PAIRS; i++) {
        CHECK_INT(ends[i].got, ends[i ^ 1].to_send);
        CHECK(ends[i].got_hash == ends[i ^ 1].sent_hash);
        sum[0] += ends[i].cancels;
        sum[1] += ends[i].overruns;
        sum[2] += ends[i].partials;
        sum[3] += ends[i].waits;
    }
    CHECK(sum[0] > 0 && sum[1] > 0 && sum[3] > 0);
    for (i = 0; i < 2 * PAIRS; i++) {
        end_stream(loop, ends[i].stream);
        free(ends[i].room);
    }
    end_loop(loop);
}

TEST(everything_arrives) {
    const char *given = getenv("EVL_SEED");
    int i;
    seed = given ? (unsigned)atoi(given) : (unsigned)time(NULL) * 2654435761u + (unsigned)getpid();
    printf("EVL_SEED=%u\n", seed);
    for (i = 0; i < 8; i++) {
        faults = i & 1;
        run_round(i & 2);
    }
    faults = 0;
}

TEST_MAIN()
