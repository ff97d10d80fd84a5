/*
 * http_client [-n most-at-once] [-t seconds] [url]...: fetches many URLs by libcurl on evl, and tells the status and the bytes of each.
 * Without URLs, they are read from the input, a line each. Ctrl-C gives up what is under way. Ends with 1 when one was not fetched.
 *
 * What it shows: <evl/curl.h>, which has libcurl's transfers wait in evl's loop; a callback for each; starting the next one when one is done;
 * withdrawing those that are left. docs/adapters.md explains it.
 */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <evl.h>
#include <evl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    evl_loop *loop;
    evl_curl *curl;
    char **urls;
    size_t count, next; /* next: the first that was not begun */
    size_t running, most_running, most, fetched, failed;
    long seconds;
    unsigned long long bytes;
} program;

struct fetch {
    CURL *easy;
    const char *url;
    unsigned long long bytes;
    char why[CURL_ERROR_SIZE];
};

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "http_client: %s: %s\n", what, evl_strerror(code));
        exit(2);
    }
}

static void begin_more(void);

static size_t take(char *data, size_t size, size_t count, void *arg)
{
    struct fetch *fetch = arg;
    (void)data; /* a program of use would keep it */
    fetch->bytes += size * count;
    return size * count;
}

/* After done, and for those that are withdrawn. */
static void fetch_free(void *arg)
{
    struct fetch *fetch = arg;
    curl_easy_cleanup(fetch->easy);
    free(fetch);
}

static void done(CURL *easy, CURLcode result, void *arg)
{
    struct fetch *fetch = arg;
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (result == CURLE_OK)
        printf("%ld %llu %s\n", status, fetch->bytes, fetch->url);
    else
        printf("failed: %s: %s\n", fetch->url, fetch->why[0] ? fetch->why : curl_easy_strerror(result));
    if (result == CURLE_OK && status < 400)
        program.fetched++;
    else
        program.failed++;
    program.bytes += fetch->bytes;
    program.running--;
    begin_more();
}

static void begin(const char *url)
{
    struct fetch *fetch = calloc(1, sizeof *fetch);
    CURL *easy = curl_easy_init();
    if (fetch == NULL || easy == NULL)
        must(-ENOMEM, url);
    fetch->easy = easy;
    fetch->url = url;
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->why);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT, program.seconds);
    must(evl_curl_add(program.curl, easy, done, fetch, fetch_free), url);
    if (++program.running > program.most_running)
        program.most_running = program.running;
}

static void begin_more(void)
{
    while (program.running < program.most && program.next < program.count)
        begin(program.urls[program.next++]);
    if (program.running == 0)
        must(evl_loop_stop(program.loop), "stop");
}

static void give_up(void *arg)
{
    (void)arg;
    program.next = program.count;
    must(evl_loop_stop(program.loop), "stop");
}

static void add_url(const char *url)
{
    char **more = realloc(program.urls, (program.count + 1) * sizeof *more);
    char *copy = malloc(strlen(url) + 1);
    if (more == NULL || copy == NULL)
        must(-ENOMEM, url);
    program.urls = more;
    program.urls[program.count++] = strcpy(copy, url);
}

static void read_urls(void)
{
    char line[4096];
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\r\n")] = 0;
        if (line[0] != 0)
            add_url(line);
    }
}

int main(int argc, char **argv)
{
    int option;
    size_t i;
    program.most = 20;
    program.seconds = 30;
    while ((option = getopt(argc, argv, "n:t:")) != -1) {
        if (option == 'n')
            program.most = strtoul(optarg, NULL, 10);
        else if (option == 't')
            program.seconds = strtol(optarg, NULL, 10);
        else
            return 2;
    }
    if (program.most == 0) {
        fprintf(stderr, "usage: http_client [-n most-at-once] [-t seconds] [url]...\n");
        return 2;
    }
    for (; optind < argc; optind++)
        add_url(argv[optind]);
    if (program.count == 0)
        read_urls();

    signal(SIGPIPE, SIG_IGN); /* with CURLOPT_NOSIGNAL, libcurl leaves that to us */
    setvbuf(stdout, NULL, _IOLBF, 0);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    must(evl_loop_new(NULL, &program.loop), "new loop");
    must(evl_loop_add_signal_handler(program.loop, SIGINT, give_up, NULL, NULL, NULL, NULL), "SIGINT");
    must(evl_curl_new(program.loop, &program.curl), "libcurl");
    curl_multi_setopt(evl_curl_get_multi(program.curl), CURLMOPT_MAXCONNECTS, (long)program.most);

    begin_more();
    must(evl_loop_run_forever(program.loop), "run");

    printf("%zu fetched, %zu failed, %zu given up, %llu bytes, at most %zu at once\n", program.fetched, program.failed,
           program.count - program.fetched - program.failed, program.bytes, program.most_running);
    evl_curl_free(program.curl);
    evl_loop_close(program.loop);
    evl_loop_unref(program.loop);
    curl_global_cleanup();
    for (i = 0; i < program.count; i++)
        free(program.urls[i]);
    free(program.urls);
    return program.fetched < program.count;
}
