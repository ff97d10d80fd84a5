/*
 * A policy that gives every thread a loop of its own. Each worker runs its loop, and sends its result to the main thread's loop
 * by the one scheduling call that any thread may make.
 */
#include <evl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 3 };

struct worker {
    pthread_t thread;
    int number;
    int before;   /* what evl_get_loop said before the thread had a loop */
    int64_t sum;  /* what its timers added up */
    int rounds;
    evl_loop *main_loop;
};

static struct worker workers[WORKERS];
static int loops_made;
static int finished;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void must(int code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s: %s\n", what, evl_errname(code), evl_strerror(code));
        exit(1);
    }
}

/* The policy calls this wherever it needs a new loop. */
static int make_loop(void *arg, evl_loop **out)
{
    int *made = arg;

    pthread_mutex_lock(&lock);
    ++*made;
    pthread_mutex_unlock(&lock);
    return evl_loop_new(NULL, out);
}

/* Runs on the main thread. */
static void worker_finished(void *arg)
{
    struct worker *worker = arg;

    if (++finished == WORKERS)
        must(evl_loop_stop(worker->main_loop), "stop");
}

/* Runs on a worker's thread. */
static void add(void *arg)
{
    struct worker *worker = arg;
    evl_loop *loop;

    worker->sum += worker->number;
    if (--worker->rounds > 0)
        return;
    must(evl_get_running_loop(&loop), "running loop"); /* a reference of ours */
    must(evl_loop_stop(loop), "stop");
    evl_loop_unref(loop);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    evl_loop *loop;
    int i;

    /* As in asyncio, only the main thread gets a loop without asking. */
    worker->before = evl_get_loop(&loop);
    must(evl_new_loop(&loop), "new loop");
    must(evl_set_loop(loop), "set loop"); /* the policy keeps a reference while the thread lives */

    for (i = 0; i < worker->rounds; i++)
        must(evl_loop_call_later(loop, EVL_MS(i), add, worker, NULL, NULL, NULL), "call later");
    must(evl_loop_run_forever(loop), "run");

    must(evl_set_loop(NULL), "set loop");
    evl_loop_unref(loop);
    must(evl_loop_call_soon_threadsafe(worker->main_loop, worker_finished, worker, NULL, NULL, NULL), "report");
    return NULL;
}

int main(void)
{
    evl_policy *policy;
    evl_loop *loop;
    int i;

    must(evl_policy_new_default(make_loop, &loops_made, NULL, &policy), "new policy");
    must(evl_set_policy(policy), "set policy");
    evl_policy_unref(policy); /* evl has a reference of its own */

    must(evl_get_loop(&loop), "the main thread's loop"); /* made by the policy, now */
    for (i = 0; i < WORKERS; i++) {
        workers[i].number = i + 1;
        workers[i].rounds = 10;
        workers[i].main_loop = loop;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    }
    must(evl_loop_run_forever(loop), "run");

    for (i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        printf("worker %d: before set_loop %s, then a sum of %lld\n", workers[i].number, evl_errname(workers[i].before),
               (long long)workers[i].sum);
    }
    printf("loops made by the policy: %d\n", loops_made);

    must(evl_set_policy(NULL), "restore the default policy");
    evl_loop_unref(loop);
    return 0;
}
