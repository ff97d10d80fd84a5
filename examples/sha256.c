/*
 * sha256 [-p] FILE...: the digests of many files, worked out by as many threads as help, told in the order of the
 * arguments as sha256sum tells them. -p shows progress on stderr. Ctrl-C stops it: files that were not begun are left
 * out, those that are being read stop at the next block.
 *
 * What it shows: jobs on the executor, their errors, waiting with a timeout, cancelling, evl_run with EVL_RUN_SIGINT.
 */
#include <errno.h>
#include <evl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- SHA-256 (FIPS 180-4) --- */

struct sha256 {
    uint32_t h[8];
    uint64_t length;
    uint8_t block[64];
};

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotated(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static void sha256_block(struct sha256 *s, const uint8_t *p)
{
    uint32_t w[64], v[8];
    int i;
    for (i = 0; i < 16; i++, p += 4)
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    for (; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotated(a, 7) ^ rotated(a, 18) ^ a >> 3) + w[i - 7] +
               (rotated(b, 17) ^ rotated(b, 19) ^ b >> 10);
    }
    memcpy(v, s->h, sizeof v);
    for (i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t t = v[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + K[i] + w[i];
        uint32_t u = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t;
        v[0] = t + u;
    }
    for (i = 0; i < 8; i++)
        s->h[i] += v[i];
}

static void sha256_start(struct sha256 *s)
{
    static const uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, h, sizeof h);
    s->length = 0;
}

static void sha256_add(struct sha256 *s, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t at = s->length % 64, part = 64 - at < size ? 64 - at : size;
        memcpy(s->block + at, data, part);
        s->length += part;
        data += part;
        size -= part;
        if (s->length % 64 == 0)
            sha256_block(s, s->block);
    }
}

static void sha256_end(struct sha256 *s, char hex[65])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = s->length * 8;
    uint8_t length[8];
    int i;
    for (i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, padding, 1 + (119 - s->length % 64) % 64);
    sha256_add(s, length, 8);
    for (i = 0; i < 8; i++)
        sprintf(hex + 8 * i, "%08lx", (unsigned long)s->h[i]);
}

/* --- the program --- */

struct file {
    const char *path;
    char digest[65];
    evl_future *job;
};

static struct {
    struct file *files;
    evl_future **jobs; /* the same futures, as evl_wait wants them */
    size_t count, told;
    int started, stopping, stop; /* stop: read by the jobs */
    int progress, failures;
} program;

/* Runs in a thread of the executor. */
static void *digest_file(void *arg)
{
    struct file *file = arg;
    struct sha256 state;
    uint8_t *buffer = malloc(1 << 16);
    FILE *in = fopen(file->path, "rb");
    size_t size = 0;
    if (buffer == NULL || in == NULL) {
        evl_raise(errno ? -errno : -ENOMEM, file->path);
    } else {
        sha256_start(&state);
        while (!__atomic_load_n(&program.stop, __ATOMIC_RELAXED) && (size = fread(buffer, 1, 1 << 16, in)) > 0)
            sha256_add(&state, buffer, size);
        if (ferror(in))
            evl_raise(-EIO, file->path);
        else if (size > 0)
            evl_raise(EVL_ECANCELLED, NULL);
        else
            sha256_end(&state, file->digest);
    }
    if (in != NULL)
        fclose(in);
    free(buffer);
    return NULL;
}

/* Tells what is done, in the order of the arguments. */
static void tell(void)
{
    while (program.told < program.count && evl_future_done(program.files[program.told].job)) {
        struct file *file = &program.files[program.told++];
        int code = evl_future_result(file->job, NULL);
        if (code == 0) {
            printf("%s  %s\n", file->digest, file->path);
        } else if (code != EVL_ECANCELLED) {
            fprintf(stderr, "sha256: %s: %s\n", file->path, evl_strerror(code));
            program.failures++;
        }
    }
    fflush(stdout);
    if (program.progress)
        fprintf(stderr, "\r%lu of %lu ", (unsigned long)program.told, (unsigned long)program.count);
}

static int run(evl_task *task, int status, void *arg, evl_future **next)
{
    evl_loop *loop = evl_task_get_loop(task);
    size_t i;
    (void)arg;
    if (!program.started) {
        program.started = 1;
        for (i = 0; i < program.count; i++) {
            struct file *file = &program.files[i];
            int code = evl_loop_run_in_executor(loop, NULL, digest_file, file, NULL, NULL, &file->job);
            if (code < 0)
                return code;
            program.jobs[i] = file->job;
        }
    } else if (status == EVL_ECANCELLED && !program.stopping) {
        /* Ctrl-C: what has begun is waited for, because it writes to program.files. */
        program.stopping = 1;
        __atomic_store_n(&program.stop, 1, __ATOMIC_RELAXED);
        for (i = 0; i < program.count; i++)
            evl_future_cancel(program.jobs[i], NULL);
        return evl_gather(loop, program.jobs, program.count, 1, next);
    }
    tell();
    if (program.stopping)
        return EVL_ECANCELLED;
    if (program.told == program.count)
        return 0;
    return evl_wait(loop, program.jobs + program.told, program.count - program.told, EVL_ALL_COMPLETED, EVL_MS(100),
                    next);
}

int main(int argc, char **argv)
{
    evl_run_options options;
    size_t i;
    int code;
    if (argc > 1 && strcmp(argv[1], "-p") == 0) {
        program.progress = 1;
        argc--, argv++;
    }
    program.count = (size_t)argc - 1;
    if (program.count == 0)
        return 0;
    program.files = calloc(program.count, sizeof *program.files);
    program.jobs = calloc(program.count, sizeof(evl_future *));
    if (program.files == NULL || program.jobs == NULL)
        return 1;
    for (i = 0; i < program.count; i++)
        program.files[i].path = argv[i + 1];
    evl_run_options_init(&options, sizeof options);
    options.flags = EVL_RUN_SIGINT;
    code = evl_run(run, NULL, NULL, &options);
    if (program.progress)
        fputc('\n', stderr);
    if (code < 0)
        fprintf(stderr, "sha256: %s\n", code == -EINTR ? "interrupted" : evl_strerror(code));
    for (i = 0; i < program.count; i++)
        evl_future_unref(program.files[i].job);
    free(program.files);
    free(program.jobs);
    return code == -EINTR ? 130 : code < 0 || program.failures;
}
