/* For datagram.c, libevent: an event with recvfrom and sendto, or with recvmmsg and sendmmsg. */

static struct event_base *base;
static struct event *readable;
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

static void on_readable(evutil_socket_t fd, short events, void *arg) {
    (void)events, (void)arg;
    with_many ? echo_many(fd) : echo_one(fd);
}

static void datagram_open(int fd, int mode, size_t batch) {
    (void)batch;
    with_many = mode;
    socket_fd = fd;
    base = must_have(event_base_new());
    readable = must_have(event_new(base, fd, EV_READ | EV_PERSIST, on_readable, NULL));
    event_add(readable, NULL);
}

static void datagram_run(void) {
    event_base_dispatch(base);
}

static void datagram_stop(void) {
    event_base_loopbreak(base);
}

static void datagram_close(void) {
    event_free(readable);
    event_base_free(base);
    close(socket_fd);
}

#define VARIANTS SINGLE(0, "event") BATCH(0, "event") BATCH(1, "event, recvmmsg, sendmmsg")
