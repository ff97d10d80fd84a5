/* For datagram.c, raw: epoll, recvfrom, sendto; or what the kernel has joined (UDP_GRO) in one piece, and sent in one piece
 * (UDP_SEGMENT); or recvmmsg and sendmmsg. */

enum { ONE, JOINED, MANY };

static int poller, socket_fd, stopping, how;
static char hot[MOST][65536];

static void datagram_open(int fd, int mode, size_t batch) {
    struct epoll_event event = {EPOLLIN, {.fd = fd}};
    int one = 1;
    (void)batch;
    poller = epoll_create1(EPOLL_CLOEXEC);
    must(poller);
    must(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event));
    socket_fd = fd;
    how = mode;
    if (how == JOINED)
        must(setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof one));
}

static void echo_one(void) {
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    ssize_t size = recvfrom(socket_fd, hot[0], sizeof hot[0], 0, (struct sockaddr *)&from, &from_size);
    if (size == 1)
        datagram_stop();
    else if (size > 0)
        must((int)sendto(socket_fd, hot[0], (size_t)size, 0, (struct sockaddr *)&from, from_size));
}

static void echo_joined(void) {
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct sockaddr_in from;
    struct iovec piece = {hot[0], sizeof hot[0]};
    struct msghdr message = {&from, sizeof from, &piece, 1, &control, sizeof control, 0};
    ssize_t size = recvmsg(socket_fd, &message, 0);
    struct cmsghdr *header;
    int segment = 0;
    uint16_t as_told;
    if (size <= 1) {
        if (size == 1)
            datagram_stop();
        return;
    }
    header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == UDP_GRO)
        memcpy(&segment, CMSG_DATA(header), sizeof segment);
    piece.iov_len = (size_t)size;
    message.msg_flags = 0;
    message.msg_control = NULL;
    message.msg_controllen = 0;
    if (segment > 0 && segment < size) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(sizeof as_told);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof as_told);
        as_told = (uint16_t)segment;
        memcpy(CMSG_DATA(header), &as_told, sizeof as_told);
    }
    must((int)sendmsg(socket_fd, &message, 0));
}

static void echo_many(void) {
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
    count = recvmmsg(socket_fd, messages, MOST, MSG_DONTWAIT, NULL);
    if (count > 0 && messages[0].msg_len == 1) {
        datagram_stop();
        return;
    }
    for (i = 0; i < count; i++)
        pieces[i].iov_len = messages[i].msg_len;
    if (count > 0)
        must(sendmmsg(socket_fd, messages, (unsigned)count, 0));
}

static void datagram_run(void) {
    struct epoll_event event;
    while (!stopping)
        if (epoll_wait(poller, &event, 1, -1) > 0)
            how == ONE ? echo_one() : how == JOINED ? echo_joined() : echo_many();
}

static void datagram_stop(void) {
    stopping = 1;
}

static void datagram_close(void) {
    close(poller);
    close(socket_fd);
}

#define VARIANTS                                                                                                      \
    SINGLE(ONE, "recvfrom, sendto") BATCH(ONE, "recvfrom, sendto") BATCH(MANY, "recvmmsg, sendmmsg") BATCH(JOINED, "GRO, GSO")
