/* For pipe_throughput.c, no library: write and read by turns */

static int read_fd, write_fd, stopped;
static char buffer[CHUNK];

static void peer_open(int reader, int writer, int mode) {
    (void)mode;
    read_fd = reader;
    write_fd = writer;
}

static void peer_write(void) {
}

static void peer_run(void) {
    for (stopped = 0; !stopped;) {
        if (write(write_fd, next_chunk(), CHUNK) != CHUNK)
            bench_fail("write: %s", strerror(errno));
        for (ssize_t rest = CHUNK; rest > 0;) {
            ssize_t size = read(read_fd, buffer, sizeof buffer);
            if (size <= 0)
                bench_fail("read: %s", strerror(errno));
            received(buffer, (size_t)size);
            rest -= size;
        }
    }
}

static void peer_stop(void) {
    stopped = 1;
}

static void peer_close(void) {
    close(read_fd);
    close(write_fd);
}

#define CASES {"pipe_throughput", "write and read by turns", measure, 0, 0, 0},
