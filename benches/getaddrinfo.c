/*
 * getaddrinfo_numeric and getaddrinfo_localhost: looking up "127.0.0.1" and "localhost" for a stream, port 80, one at a
 * time: from asking until the loop calls back with the address, which is checked. raw is the bare call, which blocks.
 */
#include "bench.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#if defined(BENCH_EVL) || defined(BENCH_LIBUV) || defined(BENCH_RAW)

/* What each library does, below. */
static void resolver_open(void);
static void resolver_ask(const char *host); /* found(address) must be called */
static void resolver_run(void);             /* until resolver_stop */
static void resolver_stop(void);
static void resolver_close(void);

static const char *host;
static uint64_t to_ask;

static void found(const void *address) {
    const struct sockaddr_in *v4 = address;
    if (v4->sin_family != AF_INET || v4->sin_port != htons(80) || v4->sin_addr.s_addr != htonl(INADDR_LOOPBACK))
        bench_fail("another address");
    if (--to_ask == 0)
        resolver_stop();
    else
        resolver_ask(host);
}

static int64_t work(uint64_t *count) {
    to_ask = *count;
    int64_t start = bench_clock();
    resolver_ask(host);
    resolver_run();
    return bench_clock() - start;
}

static void measure(const struct bench_case *one) {
    host = one->mode ? "localhost" : "127.0.0.1";
    resolver_open();
    double value = bench_per_operation(work, 100);
    resolver_close();
    if (to_ask != 0)
        bench_fail("%llu were not answered", (unsigned long long)to_ask);
    bench_result(one, one->workload, "ns", value);
}

#include BENCH_PART(getaddrinfo)

static const struct bench_case cases[] = {
    {"getaddrinfo_numeric", MECHANISM, measure, 0, 0, EVERY_CORE},
    {"getaddrinfo_localhost", MECHANISM, measure, 0, 1, EVERY_CORE},
};

BENCH_MAIN(cases)

#else

int main(int argc, char **argv) {
    return bench_main(argc, argv, NULL, 0);
}

#endif
