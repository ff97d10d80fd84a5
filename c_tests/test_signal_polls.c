/* Signals that come while evl looks at a descriptor without waiting: this program has its own poll, which is interrupted. */
#include "streams.h"

#include <poll.h>

static int interruptions;

int our_poll(struct pollfd *polled, nfds_t count, int timeout) __asm__("poll");
int our_poll(struct pollfd *polled, nfds_t count, int timeout) {
    struct timespec limit = {timeout / 1000, timeout % 1000 * 1000000L};
    if (timeout == 0 && interruptions > 0) {
        interruptions--;
        errno = EINTR;
        return -1;
    }
    return ppoll(polled, count, timeout < 0 ? NULL : &limit, NULL);
}

/* The file is a pipe that blocks, and has nothing yet: it must not be read. */
TEST(a_file_that_has_nothing_yet) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_future *future = NULL;
    int fds[2], file[2];
    char text[10] = "";
    unix_pair(fds);
    peer_open(&peer, loop, NULL, fds[0]);
    CHECK(pipe(file) == 0);
    interruptions = 2;
    CHECK_CODE(evl_loop_sendfile(loop, peer.transport, file[0], 0, 0, 1, &future), 0);
    CHECK_INT(interruptions, 0);
    CHECK_INT(evl_future_done(future), 0);
    CHECK(write(file[1], "file", 4) == 4);
    close(file[1]);
    finish(loop, future);
    CHECK_INT(end_number(future), 4);
    CHECK(read(fds[1], text, sizeof text) == 4);
    CHECK_STRING(text, "file");
    close(file[0]);
    close(fds[1]);
    UNTIL(loop, peer.lost);
    peer_end(&peer);
    end_loop(loop);
}

/* A peer that sends to who only writes has not gone. */
TEST(a_peer_that_is_there) {
    evl_loop *loop = real_loop();
    struct peer peer;
    evl_protocol p = peer_protocol();
    int fds[2];
    char text[10] = "";
    unix_pair(fds);
    peer_init(&peer, loop, NULL);
    CHECK_CODE(evl_loop_connect_write_pipe(loop, fds[0], &p, &peer, peer_free, &peer.transport), 0);
    UNTIL(loop, peer.made);
    idle(loop);
    interruptions = 2;
    put(fds[1], "not for us");
    UNTIL(loop, interruptions == 0);
    idle(loop);
    CHECK_INT(peer.lost, 0);
    peer_write(&peer, "for it");
    CHECK(read(fds[1], text, sizeof text) == 6);
    CHECK_STRING(text, "for it");
    close(fds[1]);
    peer_close(&peer);
    end_loop(loop);
}

TEST_MAIN()
