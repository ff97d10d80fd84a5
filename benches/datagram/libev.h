/* For datagram.c, libev: ev_io with recvfrom and sendto, or with recvmmsg and sendmmsg. */

static struct ev_loop *loop;
static ev_io watcher;
static int socket_fd, with_many;
static char hot[MOST][65536];

static void echo_one(int fd) {
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    ssize_t size = recvfrom(fd, hot[0], sizeof hot[0], 0, (struct sockaddr *)&from, &from_size);
    if (size == 1)
        datagram_stop();
    else if (size > 0)
        must((int)sendto(fd, hot[0], (size_t)size, 0, (struct sockaddr *)&from, from_size));
}

static void echo_many(int fd) {
    struct mmsghdr messages[MOST];
    struct sockaddr_in from[MOST];
    struct iovec pieces[MOST];
    int i, count;
    memset(messages, 0, sizeof messages);
    for (i = 0; i < MOST; i++) {
        pieces[i].iov_base = hot[i];
        pieces[i].iov_len = sizeof hot[i];
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &from[i];
        messages[i].msg_hdr.msg_namelen = sizeof from[i];
    }
    count = recvmmsg(fd, messages, MOST, MSG_DONTWAIT, NULL);
    if (count > 0 && messages[0].msg_len == 1) {
        datagram_stop();
        return;
    }
    for (i = 0; i < count; i++)
        pieces[i].iov_len = messages[i].msg_len;
    if (count > 0)
        must(sendmmsg(fd, messages, (unsigned)count, 0));
}

static void on_readable(struct ev_loop *of, ev_io *io, int events) {
    (void)of, (void)events;
    with_many ? echo_many(io->fd) : echo_one(io->fd);
}

static void datagram_open(int fd, int mode, size_t batch) {
    (void)batch;
    with_many = mode;
    socket_fd = fd;
    loop = must_have(ev_loop_new(EVFLAG_AUTO));
    ev_io_init(&watcher, on_readable, fd, EV_READ);
    ev_io_start(loop, &watcher);
}

static void datagram_run(void) {
    ev_run(loop, 0);
}

static void datagram_stop(void) {
    ev_break(loop, EVBREAK_ALL);
}

static void datagram_close(void) {
    ev_io_stop(loop, &watcher);
    ev_loop_destroy(loop);
    close(socket_fd);
}

#define VARIANTS SINGLE(0, "ev_io") BATCH(0, "ev_io") BATCH(1, "ev_io, recvmmsg, sendmmsg")
