/* Pipe transports: what asyncio's read and write pipe transports do, over pipes, FIFOs, sockets and devices. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "harness.h"

/* A protocol that traces what it is told, and does something in one of its callbacks. */
struct side {
    evl_loop *loop;
    evl_transport *transport;
    const char *name;
    char data[4096];
    size_t size, total;
    int code, lost, frees, pauses, resumes;
    int (*at)(struct side *side, const char *what); /* called in every callback */
};

static void told(struct side *side, evl_transport *transport, const char *what) {
    char word[64];
    CHECK(side->transport == NULL || side->transport == transport);
    CHECK_INT(side->lost, 0);
    snprintf(word, sizeof word, "%s%s", side->name, what);
    trace(word);
    if (side->at)
        side->at(side, what);
}

static void connection_made(evl_transport *transport, void *arg) {
    told((struct side *)arg, transport, "made");
}

static void data_received(evl_transport *transport, const void *data, size_t size, void *arg) {
    struct side *side = (struct side *)arg;
    size_t room = sizeof side->data - 1 - side->size, some = size < room ? size : room;
    memcpy(side->data + side->size, data, some);
    side->size += some;
    side->total += size;
    told(side, transport, "data");
}

static int eof_received(evl_transport *transport, void *arg) {
    told((struct side *)arg, transport, "eof");
    return 1;
}

static void connection_lost(evl_transport *transport, int code, void *arg) {
    struct side *side = (struct side *)arg;
    side->code = code;
    told(side, transport, "lost");
    CHECK_INT(side->frees, 0);
    side->lost++;
}

static void pause_writing(evl_transport *transport, void *arg) {
    ((struct side *)arg)->pauses++;
    told((struct side *)arg, transport, "pause");
}

static void resume_writing(evl_transport *transport, void *arg) {
    ((struct side *)arg)->resumes++;
    told((struct side *)arg, transport, "resume");
}

static void side_free(void *arg) {
    struct side *side = (struct side *)arg;
    side->frees++;
    CHECK_INT(side->frees, 1);
}

static evl_protocol protocol(void) {
    evl_protocol p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.connection_made = connection_made;
    p.data_received = data_received;
    p.eof_received = eof_received;
    p.connection_lost = connection_lost;
    p.pause_writing = pause_writing;
    p.resume_writing = resume_writing;
    return p;
}

static void read_side(struct side *side, evl_loop *loop, int fd) {
    evl_protocol p = protocol();
    memset(side, 0, sizeof *side);
    side->name = "";
    side->loop = loop;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fd, &p, side, side_free, &side->transport), 0);
}

static void write_side(struct side *side, evl_loop *loop, int fd) {
    evl_protocol p = protocol();
    memset(side, 0, sizeof *side);
    side->name = "";
    side->loop = loop;
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fd, &p, side, side_free, &side->transport), 0);
}

static void idle(evl_loop *loop) {
    CHECK(evl_loop_run_until_idle(loop) >= 0);
}

static int is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

static void put(int fd, const char *text) {
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* Reads everything until the end, or until nothing is there. */
static size_t drain(int fd) {
    static char buffer[70000];
    size_t total = 0;
    ssize_t got;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        total += (size_t)got;
    return total;
}

TEST(read_pipe_receives_and_ends) {
    evl_loop *loop = real_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "early ");
    read_side(&side, loop, fds[0]);
    CHECK_TRACE("");
    CHECK_INT(fcntl(fds[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    CHECK_INT(evl_transport_get_fd(side.transport), fds[0]);
    CHECK(evl_transport_get_loop(side.transport) == loop);
    CHECK_INT(evl_transport_is_reading(side.transport), 1);
    idle(loop);
    CHECK_TRACE("made data");
    put(fds[1], "late");
    idle(loop);
    CHECK_STRING(side.data, "early late");
    CHECK_TRACE("data");
    close(fds[1]);
    idle(loop);
    CHECK_TRACE("eof lost");
    CHECK_INT(side.code, 0);
    CHECK_INT(side.frees, 1);
    CHECK_INT(evl_transport_is_closing(side.transport), 1);
    CHECK_CODE(evl_transport_get_fd(side.transport), -EBADF);
    CHECK(!is_open(fds[0]));
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(connection_made_comes_before_reading_starts) {
    evl_loop *loop = real_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "x");
    read_side(&side, loop, fds[0]);
    CHECK(evl_loop_run_once(loop, 0) == 1);
    CHECK_TRACE("made");
    idle(loop);
    CHECK_TRACE("data");
    close(fds[1]);
    idle(loop);
    evl_transport_unref(side.transport);
    end_loop(loop);
    trace_reset();
}

TEST(pausing_and_resuming_reading) {
    evl_loop *loop = real_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "one");
    read_side(&side, loop, fds[0]);
    CHECK_CODE(evl_transport_pause_reading(side.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(side.transport), 0);
    CHECK_INT(evl_transport_is_reading(side.transport), 0);
    idle(loop);
    CHECK_TRACE("made");
    CHECK_CODE(evl_transport_resume_reading(side.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(side.transport), 0);
    CHECK_INT(evl_transport_is_reading(side.transport), 1);
    idle(loop);
    CHECK_TRACE("data");
    CHECK_CODE(evl_transport_pause_reading(side.transport), 0);
    put(fds[1], "two");
    close(fds[1]);
    idle(loop);
    CHECK_TRACE("");
    CHECK_CODE(evl_transport_resume_reading(side.transport), 0);
    idle(loop);
    CHECK_TRACE("data eof lost");
    CHECK_STRING(side.data, "onetwo");
    CHECK_CODE(evl_transport_pause_reading(side.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(side.transport), 0);
    CHECK_INT(evl_transport_is_reading(side.transport), 0);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

static int pause_on_data(struct side *side, const char *what) {
    if (strcmp(what, "data") == 0)
        CHECK_CODE(evl_transport_pause_reading(side->transport), 0);
    return 0;
}

TEST(pausing_inside_of_data_received) {
    evl_loop *loop = real_loop();
    struct side side;
    static char much[300000];
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
    CHECK(write(fds[1], much, sizeof much) == (ssize_t)sizeof much);
    read_side(&side, loop, fds[0]);
    side.at = pause_on_data;
    idle(loop);
    CHECK_TRACE("made data");
    CHECK(side.total <= 65536);
    while (side.total < sizeof much) {
        size_t before = side.total;
        CHECK_CODE(evl_transport_resume_reading(side.transport), 0);
        idle(loop);
        REQUIRE(side.total > before);
    }
    trace_reset();
    CHECK_CODE(evl_transport_close(side.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    close(fds[1]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(closing_before_the_first_iteration) {
    evl_loop *loop = real_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    put(fds[1], "x");
    read_side(&side, loop, fds[0]);
    CHECK_CODE(evl_transport_close(side.transport), 0);
    CHECK_CODE(evl_transport_close(side.transport), 0);
    CHECK_INT(evl_transport_is_closing(side.transport), 1);
    CHECK_TRACE("");
    idle(loop);
    CHECK_TRACE("made lost");
    CHECK_CODE(evl_transport_close(side.transport), 0);
    CHECK_CODE(evl_transport_abort(side.transport), 0);
    idle(loop);
    CHECK_TRACE("");
    close(fds[1]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(write_pipe_writes_at_once) {
    evl_loop *loop = real_loop();
    struct side side;
    evl_buffer lines[3] = {{"b", 1}, {NULL, 0}, {"cd", 2}};
    char got[20] = "";
    size_t size = 1;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    write_side(&side, loop, fds[1]);
    CHECK_CODE(evl_transport_write(side.transport, "a", 1), 0);
    CHECK_CODE(evl_transport_write(side.transport, NULL, 0), 0);
    CHECK_CODE(evl_transport_writelines(side.transport, lines, 3), 0);
    CHECK_CODE(evl_transport_get_write_buffer_size(side.transport, &size), 0);
    CHECK_INT(size, 0);
    CHECK(read(fds[0], got, sizeof got - 1) == 4);
    CHECK_STRING(got, "abcd");
    idle(loop);
    CHECK_TRACE("made");
    CHECK_INT(evl_transport_can_write_eof(side.transport), 1);
    CHECK_CODE(evl_transport_write_eof(side.transport), 0);
    CHECK_INT(evl_transport_is_closing(side.transport), 1);
    CHECK_CODE(evl_transport_write(side.transport, "late", 4), -EPIPE);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_INT(side.code, 0);
    CHECK_INT(drain(fds[0]), 0);
    close(fds[0]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(flow_control) {
    evl_loop *loop = real_loop();
    struct side side;
    size_t high = 0, low = 0, size = 0;
    static char much[300000];
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    write_side(&side, loop, fds[1]);
    CHECK_CODE(evl_transport_get_write_buffer_limits(side.transport, &high, &low), 0);
    CHECK_INT(high, 65536);
    CHECK_INT(low, 16384);
    idle(loop);
    CHECK_TRACE("made");
    CHECK_CODE(evl_transport_write(side.transport, much, sizeof much), 0);
    CHECK_CODE(evl_transport_write(side.transport, much, 1), 0);
    CHECK_CODE(evl_transport_get_write_buffer_size(side.transport, &size), 0);
    CHECK_INT(size, sizeof much + 1 - 65536);
    CHECK_TRACE(""); /* no callback is called outside of a run function */
    idle(loop);
    CHECK_TRACE("pause");
    size = drain(fds[0]);
    while (size < sizeof much + 1) {
        idle(loop);
        size += drain(fds[0]);
    }
    CHECK_INT(size, sizeof much + 1);
    CHECK_TRACE("resume");
    CHECK_CODE(evl_transport_get_write_buffer_size(side.transport, &size), 0);
    CHECK_INT(size, 0);
    CHECK_CODE(evl_transport_abort(side.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    close(fds[0]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

static void write_much(void *arg) {
    struct side *side = (struct side *)arg;
    static char much[200000];
    trace("before");
    CHECK_CODE(evl_transport_write(side->transport, much, sizeof much), 0);
    trace("after");
}

TEST(pause_writing_comes_before_write_returns) {
    evl_loop *loop = real_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    write_side(&side, loop, fds[1]);
    CHECK_CODE(evl_loop_call_soon(loop, write_much, &side, NULL, NULL, NULL), 0);
    idle(loop);
    CHECK_TRACE("made before pause after");
    CHECK_CODE(evl_transport_set_write_buffer_limits(side.transport, 10, 20), -EINVAL);
    CHECK_CODE(evl_transport_set_write_buffer_limits(side.transport, 400000, -1), 0);
    CHECK_CODE(evl_transport_close(side.transport), 0);
    while (side.lost == 0) {
        drain(fds[0]);
        idle(loop);
    }
    CHECK_TRACE("resume lost");
    CHECK_INT(side.code, 0);
    close(fds[0]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(buffer_limits_have_asyncios_defaults) {
    evl_loop *loop = real_loop();
    struct side side;
    size_t high = 0, low = 0;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    write_side(&side, loop, fds[1]);
    CHECK_CODE(evl_transport_set_write_buffer_limits(side.transport, 400, -1), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(side.transport, &high, &low), 0);
    CHECK(high == 400 && low == 100);
    CHECK_CODE(evl_transport_set_write_buffer_limits(side.transport, -1, 5), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(side.transport, &high, &low), 0);
    CHECK(high == 20 && low == 5);
    CHECK_CODE(evl_transport_set_write_buffer_limits(side.transport, -1, -1), 0);
    CHECK_CODE(evl_transport_get_write_buffer_limits(side.transport, &high, NULL), 0);
    CHECK(high == 65536);
    CHECK_CODE(evl_transport_set_write_buffer_limits(side.transport, 0, 0), 0);
    evl_transport_unref(side.transport);
    end_loop(loop);
    CHECK_INT(side.frees, 1);
    CHECK(!is_open(fds[1]));
    close(fds[0]);
}

TEST(close_flushes_and_abort_does_not) {
    int round;
    for (round = 0; round < 2; round++) {
        evl_loop *loop = real_loop();
        struct side side;
        static char much[200000];
        size_t got;
        int fds[2];
        REQUIRE(pipe(fds) == 0);
        write_side(&side, loop, fds[1]);
        idle(loop);
        CHECK_CODE(evl_transport_write(side.transport, much, sizeof much), 0);
        CHECK_CODE(round == 0 ? evl_transport_close(side.transport) : evl_transport_abort(side.transport), 0);
        idle(loop);
        CHECK_INT(side.lost, round);
        got = drain(fds[0]);
        while (side.lost == 0) {
            idle(loop);
            got += drain(fds[0]);
        }
        CHECK_INT(got, round == 0 ? sizeof much : 65536);
        CHECK_INT(side.code, 0);
        CHECK_INT(side.frees, 1);
        close(fds[0]);
        evl_transport_unref(side.transport);
        end_loop(loop);
        trace_reset();
    }
}

TEST(abort_after_close_ends_the_flush) {
    evl_loop *loop = real_loop();
    struct side side;
    static char much[200000];
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    write_side(&side, loop, fds[1]);
    idle(loop);
    CHECK_CODE(evl_transport_write(side.transport, much, sizeof much), 0);
    CHECK_CODE(evl_transport_close(side.transport), 0);
    idle(loop);
    CHECK_INT(side.lost, 0);
    CHECK_CODE(evl_transport_abort(side.transport), 0);
    idle(loop);
    CHECK_INT(side.lost, 1);
    close(fds[0]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(owned_memory_is_released_once_written) {
    evl_loop *loop = real_loop();
    struct side side;
    struct probe small = probe_named(NULL, NULL), large = small, rest = small, late = small;
    static char much[200000];
    size_t got = 0;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    write_side(&side, loop, fds[1]);
    idle(loop);
    memset(much, 'x', sizeof much);
    CHECK_CODE(evl_transport_write_owned(side.transport, "abc", 3, &small, probe_free), 0);
    CHECK_INT(small.frees, 1);
    CHECK_CODE(evl_transport_write_owned(side.transport, much, sizeof much, &large, probe_free), 0);
    CHECK_INT(large.frees, 0);
    CHECK_CODE(evl_transport_write(side.transport, much, 10), 0);
    CHECK_CODE(evl_transport_write_owned(side.transport, much, 7, &rest, probe_free), 0);
    CHECK_CODE(evl_transport_close(side.transport), 0);
    CHECK_CODE(evl_transport_write_owned(side.transport, much, 7, &late, probe_free), -EPIPE);
    CHECK_INT(late.frees, 1);
    while (side.lost == 0) {
        idle(loop);
        got += drain(fds[0]);
        CHECK(rest.frees <= large.frees);
    }
    CHECK_INT(got, 3 + sizeof much + 10 + 7);
    CHECK_INT(large.frees, 1);
    CHECK_INT(rest.frees, 1);
    close(fds[0]);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

TEST(many_small_pieces_keep_their_order) {
    evl_loop *loop = real_loop();
    struct side writer, reader;
    static char pad[70000];
    int fds[2], i;
    size_t n = 0;
    REQUIRE(pipe(fds) == 0);
    write_side(&writer, loop, fds[1]);
    idle(loop);
    memset(pad, '.', sizeof pad);
    CHECK_CODE(evl_transport_write(writer.transport, pad, sizeof pad), 0);
    for (i = 0; i < 1000; i++) {
        char text[5];
        snprintf(text, sizeof text, "%04d", i);
        if (i % 3 == 0) {
            char *copy = strdup(text);
            CHECK_CODE(evl_transport_write_owned(writer.transport, copy, 4, copy, free), 0);
        } else {
            evl_buffer two[2];
            two[0].data = text;
            two[0].size = 2;
            two[1].data = text + 2;
            two[1].size = 2;
            CHECK_CODE(evl_transport_writelines(writer.transport, two, 2), 0);
        }
    }
    CHECK_CODE(evl_transport_close(writer.transport), 0);
    for (i = 0; i < (int)sizeof pad;) {
        ssize_t got = read(fds[0], pad, sizeof pad - (size_t)i);
        REQUIRE(got > 0);
        i += (int)got;
        idle(loop);
    }
    read_side(&reader, loop, fds[0]);
    reader.name = "r";
    idle(loop);
    CHECK_INT(reader.total, 4000);
    for (i = 0; i < 1000; i++) {
        char text[5];
        snprintf(text, sizeof text, "%04d", i);
        n += memcmp(reader.data + 4 * i, text, 4) != 0;
    }
    CHECK_INT(n, 0);
    evl_transport_unref(writer.transport);
    evl_transport_unref(reader.transport);
    end_loop(loop);
    trace_reset();
}

TEST(sockets_are_pipes_too) {
    evl_loop *loop = real_loop();
    struct side reader, writer;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    read_side(&reader, loop, fds[0]);
    write_side(&writer, loop, fds[1]);
    reader.name = "r:";
    writer.name = "w:";
    idle(loop);
    CHECK_CODE(evl_transport_write(writer.transport, "hello", 5), 0);
    idle(loop);
    CHECK_STRING(reader.data, "hello");
    CHECK_CODE(evl_transport_close(writer.transport), 0);
    idle(loop);
    CHECK_TRACE("r:made w:made r:data w:lost r:eof r:lost");
    evl_transport_unref(reader.transport);
    evl_transport_unref(writer.transport);
    end_loop(loop);
}

TEST(a_socket_that_also_receives_stays_a_write_pipe) {
    evl_loop *loop = real_loop();
    struct side writer;
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    write_side(&writer, loop, fds[1]);
    put(fds[0], "not for the write pipe");
    idle(loop);
    CHECK_TRACE("made");
    CHECK_CODE(evl_transport_write(writer.transport, "x", 1), 0);
    CHECK_CODE(evl_transport_close(writer.transport), 0);
    idle(loop);
    CHECK_TRACE("lost");
    close(fds[0]);
    evl_transport_unref(writer.transport);
    end_loop(loop);
}

TEST(named_fifos) {
    evl_loop *loop = real_loop();
    struct side reader, writer;
    char directory[] = "/tmp/evl-test-XXXXXX", path[64];
    int fd;
    REQUIRE(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/fifo", directory);
    REQUIRE(mkfifo(path, 0600) == 0);
    fd = open(path, O_RDONLY | O_NONBLOCK);
    read_side(&reader, loop, fd);
    write_side(&writer, loop, open(path, O_WRONLY));
    reader.name = "r:";
    writer.name = "w:";
    idle(loop);
    CHECK_CODE(evl_transport_write(writer.transport, "fifo", 4), 0);
    CHECK_CODE(evl_transport_close(writer.transport), 0);
    idle(loop);
    CHECK_STRING(reader.data, "fifo");
    CHECK_TRACE("r:made w:made w:lost r:data r:eof r:lost");
    unlink(path);
    rmdir(directory);
    evl_transport_unref(reader.transport);
    evl_transport_unref(writer.transport);
    end_loop(loop);
}

static int close_on_data(struct side *side, const char *what) {
    if (strcmp(what, "data") == 0 && side->total > 200000)
        CHECK_CODE(evl_transport_close(side->transport), 0);
    return 0;
}

TEST(devices_that_are_always_ready) {
    evl_loop *loop = real_loop();
    struct side null, zero, writer;
    read_side(&null, loop, open("/dev/null", O_RDONLY));
    null.name = "null:";
    idle(loop);
    CHECK_TRACE("null:made null:eof null:lost");
    read_side(&zero, loop, open("/dev/zero", O_RDONLY));
    zero.at = close_on_data;
    idle(loop);
    CHECK(zero.total > 200000);
    CHECK_INT(zero.lost, 1);
    trace_reset();
    write_side(&writer, loop, open("/dev/null", O_WRONLY));
    CHECK_CODE(evl_transport_write(writer.transport, "gone", 4), 0);
    CHECK_CODE(evl_transport_close(writer.transport), 0);
    idle(loop);
    CHECK_TRACE("made lost");
    evl_transport_unref(null.transport);
    evl_transport_unref(zero.transport);
    evl_transport_unref(writer.transport);
    end_loop(loop);
}

TEST(terminals) {
    evl_loop *loop = real_loop();
    struct side reader;
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
    REQUIRE(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    REQUIRE(slave >= 0);
    read_side(&reader, loop, master);
    idle(loop);
    CHECK_TRACE("made");
    put(slave, "hi");
    while (reader.total == 0)
        CHECK(evl_loop_run_once(loop, EVL_FOREVER) >= 0);
    CHECK_TRACE("data");
    close(slave); /* EIO at the master: told to connection_lost, not to the exception handler */
    while (reader.lost == 0)
        CHECK(evl_loop_run_once(loop, EVL_FOREVER) >= 0);
    CHECK_TRACE("lost");
    CHECK_CODE(reader.code, -EIO);
    evl_transport_unref(reader.transport);
    end_loop(loop);
}

/* A buffered protocol. */
struct buffered {
    struct side side;
    char memory[8];
    int empty, asked;
};

static void get_buffer(evl_transport *transport, size_t hint, void **buffer, size_t *size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    (void)transport;
    CHECK(hint > 0);
    b->asked++;
    *buffer = b->memory;
    *size = b->empty ? 0 : sizeof b->memory;
}

static void buffer_updated(evl_transport *transport, size_t size, void *arg) {
    struct buffered *b = (struct buffered *)arg;
    data_received(transport, b->memory, size, &b->side);
}

static int handled;
static char handled_message[200];
static evl_transport *handled_transport;
static int handled_code;

static void handler(evl_loop *loop, const evl_exception *exception, void *arg) {
    (void)loop;
    (void)arg;
    handled++;
    handled_code = exception->code;
    handled_transport = exception->transport;
    snprintf(handled_message, sizeof handled_message, "%s", exception->message);
}

static void handle(evl_loop *loop) {
    handled = 0;
    CHECK_CODE(evl_loop_set_exception_handler(loop, handler, NULL, NULL), 0);
}

TEST(buffered_protocols) {
    evl_loop *loop = real_loop();
    struct buffered b;
    evl_protocol p = protocol();
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    memset(&b, 0, sizeof b);
    b.side.name = "";
    p.get_buffer = get_buffer;
    p.buffer_updated = buffer_updated;
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &b, NULL, NULL), 0);
    put(fds[1], "0123456789");
    idle(loop);
    CHECK_STRING(b.side.data, "0123456789");
    CHECK_TRACE("made data data");
    b.empty = 1;
    handle(loop);
    put(fds[1], "x");
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_INT(handled, 1);
    CHECK_STRING(handled_message, "get_buffer() returned an empty buffer.");
    CHECK_CODE(b.side.code, -EINVAL);
    close(fds[1]);
    end_loop(loop);
}

/* --- set_protocol */

static int replace_on_data(struct side *side, const char *what) {
    if (strcmp(what, "data") == 0) {
        struct side *next = (struct side *)evl_transport_get_data(side->transport);
        evl_protocol p = protocol();
        side->at = NULL;
        CHECK_CODE(evl_transport_set_protocol(side->transport, &p, next, side_free), 0);
        CHECK_INT(side->frees, 0);
    }
    return 0;
}

TEST(set_protocol_replaces_inside_of_a_callback) {
    evl_loop *loop = real_loop();
    struct side side, next;
    evl_protocol p = protocol();
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    read_side(&side, loop, fds[0]);
    memset(&next, 0, sizeof next);
    next.name = "next:";
    next.transport = side.transport;
    side.at = replace_on_data;
    CHECK_CODE(evl_transport_set_data(side.transport, &next, NULL), 0);
    put(fds[1], "a");
    idle(loop);
    CHECK_INT(side.frees, 1);
    put(fds[1], "b");
    close(fds[1]);
    idle(loop);
    CHECK_TRACE("made data next:data next:eof next:lost");
    CHECK_INT(next.frees, 1);
    next.frees = 0;
    CHECK_CODE(evl_transport_set_protocol(side.transport, &p, &next, side_free), EVL_EINVALIDSTATE);
    CHECK_INT(next.frees, 1);
    evl_transport_unref(side.transport);
    end_loop(loop);
}

/* --- contexts, data, references, repr */

static evl_context_var *var;
static int seen[4], seen_count;

static int look_at_var(struct side *side, const char *what) {
    void *value = NULL;
    (void)side;
    if (evl_context_var_get(var, &value) == 0 && seen_count < 4)
        seen[seen_count++] = (int)(intptr_t)value;
    if (strcmp(what, "made") == 0)
        CHECK_CODE(evl_context_var_set(var, (void *)(intptr_t)2, NULL, NULL), 0);
    return 0;
}

TEST(callbacks_share_the_context_of_the_transports_maker) {
    evl_loop *loop = real_loop();
    struct side side;
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    CHECK_CODE(evl_context_var_new("v", NULL, NULL, &var), 0);
    CHECK_CODE(evl_context_var_set(var, (void *)(intptr_t)1, NULL, NULL), 0);
    read_side(&side, loop, fds[0]);
    side.at = look_at_var;
    CHECK_CODE(evl_context_var_set(var, (void *)(intptr_t)9, NULL, NULL), 0);
    put(fds[1], "x");
    close(fds[1]);
    idle(loop);
    CHECK_INT(seen_count, 4);
    CHECK(seen[0] == 1 && seen[1] == 2 && seen[2] == 2 && seen[3] == 2);
    evl_transport_unref(side.transport);
    end_loop(loop);
    evl_context_var_unref(var);
    trace_reset();
}

TEST(data_and_repr) {
    evl_loop *loop = real_loop();
    struct side reader, writer;
    struct probe data = probe_named(NULL, NULL);
    char text[100], expected[100];
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    read_side(&reader, loop, fds[0]);
    write_side(&writer, loop, fds[1]);
    CHECK_CODE(evl_transport_set_data(reader.transport, &data, probe_free), 0);
    CHECK(evl_transport_get_data(reader.transport) == &data);
    snprintf(expected, sizeof expected, "<ReadPipeTransport fd=%d idle>", fds[0]);
    CHECK_INT(evl_transport_repr(reader.transport, text, sizeof text), strlen(expected));
    CHECK_STRING(text, expected);
    snprintf(expected, sizeof expected, "<WritePipeTransport fd=%d idle bufsize=0>", fds[1]);
    CHECK_INT(evl_transport_repr(writer.transport, text, sizeof text), strlen(expected));
    CHECK_STRING(text, expected);
    idle(loop);
    CHECK_CODE(evl_transport_abort(writer.transport), 0);
    idle(loop);
    CHECK(evl_transport_repr(reader.transport, text, sizeof text) > 0);
    CHECK_STRING(text, "<ReadPipeTransport closed fd=-1 idle>");
    evl_transport_unref(writer.transport);
    end_loop(loop);
    CHECK_INT(data.frees, 0);
    evl_transport_unref(evl_transport_ref(reader.transport));
    evl_transport_unref(reader.transport);
    CHECK_INT(data.frees, 1);
    trace_reset();
}

TEST(a_transport_lives_without_references) {
    evl_loop *loop = real_loop();
    struct side side;
    evl_protocol p = protocol();
    int fds[2];
    REQUIRE(pipe(fds) == 0);
    memset(&side, 0, sizeof side);
    side.name = "";
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &side, side_free, NULL), 0);
    put(fds[1], "x");
    idle(loop);
    close(fds[1]);
    idle(loop);
    CHECK_TRACE("made data eof lost");
    CHECK_INT(side.frees, 1);
    end_loop(loop);
}

static void *unref_in_thread(void *arg) {
    evl_transport_unref((evl_transport *)arg);
    return NULL;
}

TEST(the_last_reference_goes_on_another_thread) {
    evl_loop *loop = real_loop();
    struct side open_one, done_one;
    int fds[4];
    REQUIRE(pipe(fds) == 0 && pipe(fds + 2) == 0);
    read_side(&open_one, loop, fds[0]);
    read_side(&done_one, loop, fds[2]);
    idle(loop);
    close(fds[3]);
    idle(loop);
    in_thread(unref_in_thread, open_one.transport);
    in_thread(unref_in_thread, done_one.transport);
    put(fds[1], "x");
    close(fds[1]);
    idle(loop);
    CHECK_INT(open_one.lost, 1);
    end_loop(loop);
    trace_reset();
}

TEST_MAIN()
