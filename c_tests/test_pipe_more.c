/* Pipe transports, each step by itself: what the system answers to reads and writes, close, abort and write_eof with and without a
 * queue, and terminals. */
#include "streams.h"
#include "answers.h"

#include <termios.h>

static evl_loop *loop;
static struct peer a;
static int ours, other;

static void adopt(int writes) {
    evl_protocol p = peer_protocol();
    peer_init(&a, loop, "");
    CHECK_CODE(writes ? evl_loop_connect_write_pipe(loop, ours, &p, &a, peer_free, NULL)
                      : evl_loop_connect_read_pipe(loop, ours, &p, &a, peer_free, NULL),
               0);
    CHECK_INT(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("made");
    answers_for(ours);
}

static void begin_read(void) {
    int fds[2];
    loop = reporting_loop();
    CHECK(pipe(fds) == 0);
    ours = fds[0];
    other = fds[1];
    adopt(0);
}

/* A pipe that holds 4096 bytes. */
static void begin_write(void) {
    int fds[2];
    loop = reporting_loop();
    CHECK(pipe(fds) == 0);
    ours = fds[1];
    other = fds[0];
    CHECK_INT(fcntl(ours, F_SETPIPE_SZ, 4096), 4096);
    CHECK(fcntl(other, F_SETFL, O_NONBLOCK) == 0);
    adopt(1);
}

static void begin_write_to_socket(void) {
    int fds[2];
    loop = reporting_loop();
    unix_pair(fds);
    ours = fds[0];
    other = fds[1];
    adopt(1);
}

static void end(void) {
    answers_for(-1);
    if (!a.lost) {
        CHECK_CODE(evl_transport_abort(a.transport), 0);
        idle(loop);
    }
    CHECK_INT(a.lost, 1);
    CHECK_INT(a.frees, 1);
    CHECK_INT(watchers(loop), 0);
    CHECK(!is_open(ours));
    peer_end(&a);
    if (other >= 0)
        close(other);
    end_loop(loop);
    trace_reset();
}

static void once(void) {
    CHECK(evl_loop_run_once(loop, 0) >= 0);
}

/* How much comes out of the pipe; -1: nothing now, 0: its end. */
static int take(size_t most) {
    static char block[1 << 16];
    return (int)read(other, block, most);
}

static char block[8192];

/* --- reading */

TEST(nothing_is_there_after_all) {
    static const int harmless[] = {EAGAIN, EINTR};
    size_t i;
    for (i = 0; i < 2; i++) {
        begin_read();
        answer(READS, -harmless[i]);
        CHECK(write(other, "data", 4) == 4);
        once();
        CHECK_TRACE("");
        CHECK_INT(called(READS), 1);
        idle(loop);
        CHECK_TRACE("data");
        CHECK_STRING(a.data, "data");
        CHECK_INT(reports.count, 0);
        end();
    }
}

TEST(a_read_that_fails) {
    static const int failures[] = {EINVAL, ENXIO, EBADF, EIO};
    size_t i;
    for (i = 0; i < 4; i++) {
        begin_read();
        answer(READS, -failures[i]);
        CHECK(write(other, "data", 4) == 4);
        once();
        CHECK_INT(evl_transport_is_closing(a.transport), 1);
        CHECK_TRACE("");
        idle(loop);
        CHECK_TRACE("lost");
        CHECK_CODE(a.code, -failures[i]);
        CHECK_INT(called(READS), 1);
        /* What a terminal says when its other end has gone is no failure of the program. */
        CHECK_INT(reports.count, failures[i] != EIO);
        if (reports.count) {
            CHECK_CODE(reports.code, -failures[i]);
            CHECK(strstr(reports.message, "Fatal read error on pipe transport") != NULL);
        }
        end();
    }
}

TEST(the_end_closes_whatever_the_protocol_answers) {
    int keep;
    for (keep = 0; keep < 2; keep++) {
        begin_read();
        a.keep = keep;
        CHECK(write(other, "last", 4) == 4);
        close(other);
        other = -1;
        idle(loop);
        CHECK_TRACE("data eof lost");
        CHECK_INT(a.code, 0);
        end();
    }
}

TEST(pausing_and_resuming_twice) {
    begin_read();
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK(write(other, "data", 4) == 4);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(called(READS), 0);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    idle(loop);
    CHECK_TRACE("data");
    end();
}

TEST(closing_a_read_pipe) {
    begin_read();
    CHECK(write(other, "unread", 6) == 6);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    CHECK_TRACE("");
    CHECK(is_open(ours));
    CHECK_INT(evl_loop_run_once(loop, 0), 1);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0);
    CHECK(!is_open(ours));
    CHECK_INT(called(READS), 0);
    CHECK_CODE(evl_transport_pause_reading(a.transport), 0);
    CHECK_CODE(evl_transport_resume_reading(a.transport), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_TRACE("");
    end();
}

static int open_when_lost;

static void look_when_lost(struct peer *peer, const char *what) {
    if (strcmp(what, "lost") == 0)
        open_when_lost = is_open(ours) && evl_transport_get_fd(peer->transport) == ours;
}

TEST(the_descriptor_is_open_in_connection_lost) {
    int writes;
    for (writes = 0; writes < 2; writes++) {
        writes ? begin_write() : begin_read();
        a.at = look_when_lost;
        open_when_lost = 0;
        CHECK_CODE(evl_transport_close(a.transport), 0);
        idle(loop);
        CHECK_INT(open_when_lost, 1);
        CHECK(!is_open(ours));
        CHECK_CODE(evl_transport_get_fd(a.transport), -EBADF);
        end();
    }
}

/* --- writing */

TEST(the_descriptor_becomes_non_blocking) {
    begin_write();
    CHECK(fcntl(ours, F_GETFL) & O_NONBLOCK);
    CHECK_INT(evl_transport_can_write_eof(a.transport), 1);
    CHECK_INT(evl_transport_is_reading(a.transport), 0);
    CHECK_CODE(evl_transport_pause_reading(a.transport), -EOPNOTSUPP);
    CHECK_CODE(evl_transport_resume_reading(a.transport), -EOPNOTSUPP);
    end();
    begin_read();
    CHECK(fcntl(ours, F_GETFL) & O_NONBLOCK);
    CHECK_INT(evl_transport_can_write_eof(a.transport), 0);
    CHECK_CODE(evl_transport_write_eof(a.transport), -EOPNOTSUPP);
    end();
}

TEST(all_is_taken_at_once) {
    begin_write();
    CHECK_CODE(evl_transport_write(a.transport, "", 0), 0);
    CHECK_INT(take(10), -1);
    CHECK_CODE(evl_transport_write(a.transport, block, 4096), 0);
    CHECK_INT(queued(a.transport), 0);
    CHECK_INT(take(8192), 4096);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    end();
}

TEST(a_part_is_taken_and_the_rest_when_there_is_room) {
    begin_write();
    CHECK_CODE(evl_transport_write(a.transport, block, 6000), 0);
    CHECK_INT(queued(a.transport), 1904);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(take(8192), 4096);
    CHECK_INT(queued(a.transport), 1904);
    idle(loop);
    CHECK_INT(queued(a.transport), 0);
    CHECK_INT(take(8192), 1904);
    CHECK_CODE(evl_loop_run_until_idle(loop), 0);
    CHECK_INT(a.pauses, 0);
    end();
}

/* A pipe takes a few bytes all together or not at all. */
TEST(nothing_is_taken) {
    char text[20] = "";
    begin_write();
    CHECK_CODE(evl_transport_write(a.transport, block, 4090), 0);
    CHECK_CODE(evl_transport_write(a.transport, "0123456789", 10), 0);
    CHECK_INT(queued(a.transport), 10);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), 0); /* there is room for it, but not before the others */
    CHECK_INT(queued(a.transport), 11);
    CHECK_INT(evl_transport_is_closing(a.transport), 0);
    CHECK_INT(take(8192), 4090);
    idle(loop);
    CHECK(read(other, text, sizeof text - 1) == 11);
    CHECK_STRING(text, "0123456789x");
    end();
}

TEST(the_queue_is_taken_bit_by_bit) {
    size_t got = 0, round;
    begin_write();
    CHECK_CODE(evl_transport_write(a.transport, block, 8192), 0);
    CHECK_CODE(evl_transport_write(a.transport, block, 8192), 0);
    for (round = 0; round < 3; round++) {
        CHECK_INT(queued(a.transport), 16384 - 4096 * (round + 1));
        got += (size_t)take(4096);
        idle(loop);
    }
    CHECK_INT(queued(a.transport), 0);
    CHECK_INT(got + (size_t)take(8192), 16384);
    end();
}

TEST(a_socket_takes_a_part_or_nothing) {
    static const ssize_t what[] = {2, 0, -EAGAIN};
    char text[20];
    size_t i;
    for (i = 0; i < 3; i++) {
        begin_write_to_socket();
        answer(WRITES, what[i]);
        peer_write(&a, "data");
        CHECK_INT(queued(a.transport), i == 0 ? 2 : 4);
        peer_write(&a, "more");
        CHECK_INT(called(WRITES), 1);
        answer(WRITES, what[i]);
        once();
        CHECK_INT(queued(a.transport), i == 0 ? 4 : 8);
        idle(loop);
        CHECK_INT(queued(a.transport), 0);
        memset(text, 0, sizeof text);
        CHECK(recv(other, text, sizeof text - 1, MSG_DONTWAIT) == 8);
        CHECK_STRING(text, "datamore");
        end();
    }
}

static const int write_failures[] = {EPIPE, ECONNRESET, EIO, ENOSPC, EBADF};

TEST(a_write_that_fails) {
    struct probe owned = probe_named(NULL, NULL);
    size_t i;
    int later, more;
    for (i = 0; i < sizeof write_failures / sizeof *write_failures; i++) {
        for (later = 0; later < 2; later++) {
            begin_write_to_socket();
            owned.frees = 0;
            if (later)
                answer(WRITES, -EAGAIN);
            answer(WRITES, -write_failures[i]);
            CHECK_CODE(evl_transport_write_owned(a.transport, "data", 4, &owned, probe_free), 0);
            if (later) {
                CHECK_INT(queued(a.transport), 4);
                once();
            }
            CHECK_INT(owned.frees, 1);
            CHECK_INT(queued(a.transport), 0);
            CHECK_INT(evl_transport_is_closing(a.transport), 1);
            CHECK_TRACE("");
            for (more = 0; more < 6; more++)
                CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
            CHECK_INT(called(WRITES), 1 + later);
            idle(loop);
            CHECK_TRACE("lost");
            CHECK_CODE(a.code, -write_failures[i]);
            CHECK_INT(reports.count, 0);
            end();
        }
    }
}

TEST(the_reader_goes) {
    begin_write();
    CHECK_CODE(evl_transport_write(a.transport, "data", 4), 0);
    close(other);
    other = -1;
    once();
    CHECK_INT(evl_transport_is_closing(a.transport), 1);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
    CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0); /* nothing that evl had was lost */
    CHECK_INT(reports.count, 0);
    end();
}

/* --- ends */

TEST(close_and_write_eof_with_nothing_queued) {
    int how;
    for (how = 0; how < 2; how++) {
        begin_write();
        peer_write(&a, "data");
        CHECK_CODE(how ? evl_transport_write_eof(a.transport) : evl_transport_close(a.transport), 0);
        CHECK_INT(evl_transport_is_closing(a.transport), 1);
        CHECK_CODE(evl_transport_write(a.transport, "x", 1), -EPIPE);
        CHECK_CODE(evl_transport_write_eof(a.transport), 0);
        CHECK_CODE(evl_transport_close(a.transport), 0);
        CHECK_TRACE("");
        CHECK_INT(evl_loop_run_once(loop, 0), 1);
        CHECK_TRACE("lost");
        CHECK_INT(a.code, 0);
        CHECK_INT(take(10), 4);
        CHECK_INT(take(10), 0);
        CHECK_CODE(evl_transport_write_eof(a.transport), 0);
        CHECK_CODE(evl_loop_run_until_idle(loop), 0);
        end();
    }
}

TEST(close_and_write_eof_wait_for_the_queue) {
    int how;
    for (how = 0; how < 2; how++) {
        begin_write();
        CHECK_CODE(evl_transport_write(a.transport, block, 5000), 0);
        CHECK_CODE(how ? evl_transport_write_eof(a.transport) : evl_transport_close(a.transport), 0);
        CHECK_INT(evl_transport_is_closing(a.transport), 1);
        CHECK_CODE(evl_transport_close(a.transport), 0);
        CHECK_CODE(evl_loop_run_until_idle(loop), 0);
        CHECK_TRACE("");
        CHECK_INT(queued(a.transport), 904);
        CHECK_INT(take(8192), 4096);
        idle(loop);
        CHECK_TRACE("lost");
        CHECK_INT(a.code, 0);
        CHECK_INT(take(8192), 904);
        CHECK_INT(take(8192), 0);
        end();
    }
}

TEST(abort_writes_no_more) {
    struct probe owned = probe_named(NULL, NULL);
    int closed;
    for (closed = 0; closed < 2; closed++) {
        begin_write();
        owned.frees = 0;
        CHECK_CODE(evl_transport_write_owned(a.transport, block, 5000, &owned, probe_free), 0);
        if (closed)
            CHECK_CODE(evl_transport_close(a.transport), 0);
        CHECK_INT(owned.frees, 0);
        CHECK_CODE(evl_transport_abort(a.transport), 0);
        CHECK_INT(owned.frees, 1);
        CHECK_INT(queued(a.transport), 0);
        CHECK_TRACE("");
        CHECK_INT(take(8192), 4096);
        idle(loop);
        CHECK_TRACE("lost");
        CHECK_INT(a.code, 0);
        CHECK_INT(take(8192), 0);
        CHECK_CODE(evl_transport_abort(a.transport), 0);
        CHECK_CODE(evl_loop_run_until_idle(loop), 0);
        end();
    }
}

TEST(the_reader_goes_while_it_closes) {
    begin_write();
    CHECK_CODE(evl_transport_write(a.transport, block, 5000), 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    close(other);
    other = -1;
    idle(loop);
    CHECK_TRACE("lost");
    CHECK_CODE(a.code, -EPIPE);
    CHECK_INT(reports.count, 0);
    end();
}

/* --- terminals */

static int terminal(int *master) {
    struct termios raw;
    int slave;
    *master = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(*master >= 0 && grantpt(*master) == 0 && unlockpt(*master) == 0);
    slave = open(ptsname(*master), O_RDWR | O_NOCTTY);
    CHECK(tcgetattr(slave, &raw) == 0);
    cfmakeraw(&raw);
    CHECK(tcsetattr(slave, TCSANOW, &raw) == 0);
    return slave;
}

TEST(a_terminal_that_is_written_to) {
    char text[10] = "";
    int master;
    loop = reporting_loop();
    ours = terminal(&master);
    other = master;
    adopt(1);
    peer_write(&a, "1");
    CHECK(read(master, text, 9) == 1);
    peer_write(&a, "2345");
    CHECK(read(master, text + 1, 8) == 4);
    CHECK_STRING(text, "12345");
    CHECK_CODE(evl_transport_close(a.transport), 0);
    UNTIL(loop, a.lost);
    CHECK_TRACE("lost");
    CHECK_INT(a.code, 0);
    end();
}

TEST(a_terminal_both_ways) {
    struct peer reader;
    evl_protocol p = peer_protocol();
    char text[10] = "";
    int master, slave, copy;
    loop = reporting_loop();
    slave = terminal(&master);
    copy = dup(slave);
    peer_init(&reader, loop, NULL);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, slave, &p, &reader, peer_free, NULL), 0);
    idle(loop);
    ours = copy;
    other = master;
    adopt(1);
    CHECK(write(master, "in", 2) == 2);
    UNTIL(loop, reader.total == 2);
    CHECK_STRING(reader.data, "in");
    peer_write(&a, "out");
    CHECK(read(master, text, 9) == 3);
    CHECK_STRING(text, "out");
    CHECK_CODE(evl_transport_close(reader.transport), 0);
    UNTIL(loop, reader.lost);
    CHECK_INT(reader.eofs, 0);
    CHECK_CODE(evl_transport_close(a.transport), 0);
    UNTIL(loop, a.lost);
    peer_end(&reader);
    end();
}

/* --- a loop that is closed before its pipes */

TEST(pipes_that_outlive_their_loop) {
    struct peer reader, writer;
    evl_protocol p = peer_protocol();
    char text[100];
    int fds[2];
    loop = reporting_loop();
    CHECK(pipe(fds) == 0);
    peer_init(&reader, loop, NULL);
    peer_init(&writer, loop, NULL);
    CHECK_CODE(evl_loop_connect_read_pipe(loop, fds[0], &p, &reader, peer_free, NULL), 0);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[1], &p, &writer, peer_free, NULL), 0);
    idle(loop);
    CHECK(reader.made && writer.made);
    CHECK_CODE(evl_loop_close(loop), 0);
    CHECK_CODE(evl_transport_repr(reader.transport, text, sizeof text), EVL_ECLOSED);
    CHECK_CODE(evl_transport_repr(writer.transport, text, sizeof text), EVL_ECLOSED);
    CHECK_INT(evl_transport_is_closing(reader.transport), 1);
    CHECK_INT(evl_transport_is_closing(writer.transport), 1);
    CHECK(!is_open(fds[0]) && !is_open(fds[1]));
    CHECK_INT(reader.lost + writer.lost, 0);
    CHECK_INT(reader.frees + writer.frees, 2);
    peer_end(&reader);
    peer_end(&writer);
    evl_loop_unref(loop);
}

TEST_MAIN()
