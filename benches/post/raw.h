/* For post.c, raw: a stack pushed to by compare-and-swap, taken as a whole and turned round; its nodes are at hand */

#include <sys/epoll.h>
#include <sys/eventfd.h>

struct node {
    struct node *next;
    struct message message;
};

static struct node *nodes, *head;
static int poller, fd, asleep, stopped;

static void post_open(int mode) {
    (void)mode;
    nodes = bench_new(MESSAGES, sizeof *nodes);
    must(poller = epoll_create1(EPOLL_CLOEXEC));
    must(fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    struct epoll_event event = {EPOLLIN | EPOLLET, {NULL}};
    must(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event));
}

static void post(size_t thread, uint32_t number) {
    static const uint64_t one = 1;
    struct node *node = &nodes[thread * per_thread + number];
    node->message = (struct message){arrived, message_of(thread, number)};
    node->next = __atomic_load_n(&head, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&head, &node->next, node, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
    if (__atomic_load_n(&asleep, __ATOMIC_SEQ_CST) && __atomic_exchange_n(&asleep, 0, __ATOMIC_SEQ_CST) &&
        write(fd, &one, sizeof one) < 0)
        bench_fail("write: %s", strerror(errno));
}

static void wait_for_posts(void) {
    struct epoll_event event;
    __atomic_store_n(&asleep, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&head, __ATOMIC_SEQ_CST) == NULL)
        epoll_wait(poller, &event, 1, -1);
    __atomic_store_n(&asleep, 0, __ATOMIC_SEQ_CST);
}

static void post_run(void) {
    for (stopped = 0; !stopped;) {
        struct node *taken = __atomic_exchange_n(&head, NULL, __ATOMIC_ACQUIRE), *first = NULL;
        if (taken == NULL) {
            wait_for_posts();
            continue;
        }
        while (taken != NULL) {
            struct node *next = taken->next;
            taken->next = first;
            first = taken;
            taken = next;
        }
        for (; first != NULL; first = first->next)
            first->message.call(first->message.arg);
    }
}

static void post_stop(void) {
    stopped = 1;
}

static void post_close(void) {
    close(fd);
    close(poller);
    free(nodes);
}

#define VARIANTS(workload, threads) {workload, "lock-free stack, nodes at hand", measure, threads, 0, EVERY_CORE}
