/* Random programs against a model: which callback runs next is known exactly, none is lost, none runs twice, and every arg
 * is released once. Seeds are fixed; a failure prints its seed and step. */
#include "harness.h"

enum kind { RAW, SOON, HANDLE, LATER, TIMER, KINDS };
enum { SLOTS = 8000 };

struct object {
    struct object *next;
    enum kind kind;
    evl_handle *handle; /* while a reference is held */
    evl_timer *timer;
    int cancelled, done, running, frees;
    int queued, started;   /* in the model */
    unsigned generation;   /* entries of an older one count no more */
    int64_t deadline;
    uint64_t order;
};

struct entry {
    struct object *object;
    unsigned generation;
};

static struct {
    evl_loop *loop;
    uint32_t random;
    int64_t now;
    uint64_t order;
    struct object *all;
    struct object *slots[SLOTS];
    struct entry *ready;
    size_t head, tail, capacity;
    size_t batch; /* where the present iteration ends */
    int ran, broken, step;
    unsigned seed;
    int64_t unit;
    uint32_t slot_count, spread; /* how many objects, and how far their deadlines lie */
} w;

static void broken(const char *what, const char *file, int line) {
    char detail[100];
    if (w.broken++ > 5)
        return;
    snprintf(detail, sizeof detail, "seed %u, step %d", w.seed, w.step);
    harness_fail(file, line, what, detail);
}

#define EXPECT(condition) ((condition) ? (void)0 : broken(#condition, __FILE__, __LINE__))

static uint32_t pick(uint32_t below) {
    w.random ^= w.random << 13;
    w.random ^= w.random >> 17;
    w.random ^= w.random << 5;
    return w.random % below;
}

static void push(struct object *o) {
    if (w.tail == w.capacity) {
        w.capacity = w.capacity ? w.capacity * 2 : 1024;
        w.ready = (struct entry *)realloc(w.ready, w.capacity * sizeof *w.ready);
        if (!w.ready)
            abort();
    }
    o->queued = 1;
    w.ready[w.tail].object = o;
    w.ready[w.tail++].generation = o->generation;
}

static int one_shot(const struct object *o) {
    return o->kind == RAW || o->kind == SOON || o->kind == LATER;
}

/* The next callback of this iteration that still counts. */
static struct object *expected_next(void) {
    while (w.head < w.batch) {
        struct entry e = w.ready[w.head++];
        if (e.generation == e.object->generation)
            return e.object;
    }
    return NULL;
}

static void on_free(void *arg) {
    struct object *o = (struct object *)arg;
    EXPECT(!o->running);
    o->frees++;
    EXPECT(o->frees == 1);
}

static void random_step(int inside);

static void on_call(void *arg) {
    struct object *o = (struct object *)arg;
    EXPECT(expected_next() == o);
    EXPECT(o->frees == 0 && !o->cancelled && !o->done);
    w.ran++;
    o->queued = 0;
    o->running = 1;
    o->generation++;
    if (pick(2) == 0)
        random_step(1);
    if (pick(4) == 0)
        random_step(1);
    o->running = 0;
    if (one_shot(o))
        o->done = 1;
}

/* Many equal deadlines, some in the past, some far away; from nanoseconds to hours as the seed says. */
static int64_t random_delay(void) {
    int64_t delay = pick(8) ? (int64_t)pick(w.spread) - 2 : (int64_t)pick(3000);
    delay *= w.unit;
    return pick(6) ? delay : delay + (int64_t)pick(5) - 2;
}

static void start(struct object *o, int64_t deadline) {
    o->generation++;
    o->queued = 0;
    o->started = 1;
    o->deadline = deadline;
    o->order = w.order++;
}

static void make(struct object **slot) {
    struct object *o = (struct object *)calloc(1, sizeof *o);
    int64_t delay = random_delay();
    int code = 0;
    if (!o)
        abort();
    o->kind = (enum kind)pick(KINDS);
    o->next = w.all;
    w.all = o;
    switch (o->kind) {
    case RAW:
        code = evl_loop_call_soon(w.loop, on_call, o, on_free, NULL, NULL);
        push(o);
        break;
    case SOON:
        code = evl_loop_call_soon(w.loop, on_call, o, on_free, NULL, &o->handle);
        push(o);
        break;
    case HANDLE:
        code = evl_handle_new(w.loop, on_call, o, on_free, NULL, &o->handle);
        break;
    case LATER:
        if (pick(2))
            code = evl_loop_call_later(w.loop, delay, on_call, o, on_free, NULL, &o->timer);
        else
            code = evl_loop_call_at(w.loop, w.now + delay, on_call, o, on_free, NULL, &o->timer);
        start(o, w.now + delay);
        break;
    default:
        code = evl_timer_new(w.loop, w.now + delay, on_call, o, on_free, NULL, &o->timer);
        o->deadline = w.now + delay;
        break;
    }
    EXPECT(code == 0);
    if (o->kind != RAW)
        *slot = o;
}

static void cancel(struct object *o) {
    int code = o->timer && pick(2) ? evl_timer_cancel(o->timer)
                                   : evl_handle_cancel(o->timer ? evl_timer_as_handle(o->timer) : o->handle);
    EXPECT(code == 0);
    if (o->done)
        return;
    o->cancelled = 1;
    o->queued = o->started = 0;
    o->generation++;
    EXPECT(o->frees == !o->running);
}

static void drop(struct object *o) {
    int idle = !o->queued && !o->started && !o->running;
    evl_handle_unref(o->handle);
    evl_timer_unref(o->timer);
    o->handle = NULL;
    o->timer = NULL;
    if (idle)
        EXPECT(o->frees == 1);
}

static int refused(const struct object *o) {
    return o->cancelled || o->done || (o->running && one_shot(o));
}

static int refused_rightly(const struct object *o, int code) {
    if (o->done)
        return code == EVL_EDONE || code == EVL_ECANCELLED; /* it may have been cancelled since */
    return code == (o->cancelled ? EVL_ECANCELLED : EVL_EDONE);
}

static void schedule(struct object *o) {
    int64_t deadline = w.now + random_delay();
    int code;
    if (o->timer) {
        code = evl_timer_reschedule(o->timer, deadline);
        if (refused(o)) {
            EXPECT(refused_rightly(o, code));
        } else {
            EXPECT(code == 0);
            start(o, deadline);
            EXPECT(evl_timer_scheduled(o->timer) == 1);
        }
        return;
    }
    code = evl_handle_schedule(o->handle);
    if (refused(o))
        EXPECT(refused_rightly(o, code));
    else if (o->queued)
        EXPECT(code == EVL_ESCHEDULED);
    else if (code == 0)
        push(o);
    else
        broken("schedule", __FILE__, __LINE__);
}

static int before(const struct object *a, const struct object *b) {
    return a->deadline != b->deadline ? a->deadline < b->deadline : a->order < b->order;
}

/* Moves what is due to the model's ready queue, in order. */
static void take_due(void) {
    for (;;) {
        struct object *first = NULL, *o;
        for (o = w.all; o; o = o->next)
            if (o->started && o->deadline <= w.now && (!first || before(o, first)))
                first = o;
        if (!first)
            return;
        first->started = 0;
        push(first);
    }
}

/* Forgets the objects nothing refers to, so that the list stays short. */
static void sweep(void) {
    struct object **link = &w.all;
    if (w.head == w.tail)
        w.head = w.tail = 0;
    else
        return;
    while (*link) {
        struct object *o = *link;
        int held = o->handle || o->timer;
        if (!held && !o->queued && !o->started) {
            EXPECT(o->frees == 1);
            *link = o->next;
            free(o);
        } else {
            link = &o->next;
        }
    }
}

static void run_iteration(void) {
    int code;
    take_due();
    w.batch = w.tail;
    w.ran = 0;
    code = evl_loop_run_once(w.loop, 0);
    EXPECT(code == w.ran);
    EXPECT(expected_next() == NULL); /* what is left was cancelled */
    sweep();
}

static void random_step(int inside) {
    struct object **slot = &w.slots[pick(w.slot_count)];
    uint32_t action = pick(50);
    w.step++;
    if (action == 0) {
        int64_t delta = (int64_t)(pick(20) ? pick(5) : pick(1000)) * w.unit + (pick(4) ? 0 : pick(3));
        EXPECT(evl_loop_advance(w.loop, delta) == 0);
        w.now += delta;
    } else if (action <= 2 && !inside) {
        run_iteration();
    } else if (!*slot) {
        make(slot);
    } else if (action <= 30) {
        schedule(*slot);
    } else if (action <= 36) {
        cancel(*slot);
    } else {
        struct object *o = *slot;
        *slot = NULL;
        drop(o);
    }
}

/* Many at once: all of them moved near, moved far, or cancelled and made anew. */
static void burst(void) {
    uint32_t count = pick(w.slot_count), from = pick(w.slot_count), how = pick(3), i;
    for (i = 0; i < count; i++) {
        struct object **slot = &w.slots[(from + i) % w.slot_count];
        if (!*slot) {
            make(slot);
        } else if (how == 2) {
            struct object *o = *slot;
            cancel(o);
            *slot = NULL;
            drop(o);
        } else if ((*slot)->timer && (*slot)->started) {
            int64_t deadline = w.now + (how ? 1000 : 1) * w.unit + pick(100);
            EXPECT(evl_timer_reschedule((*slot)->timer, deadline) == 0);
            start(*slot, deadline);
        }
    }
}

static void run_program(unsigned seed, int steps, uint32_t slots) {
    static const int64_t units[] = {1, 64, 1000, 65536, 1000000, 1 << 24, 100000000, EVL_SECONDS(7)};
    evl_metrics m;
    size_t started = 0;
    struct object *o;
    int i;
    memset(&w, 0, sizeof w);
    w.seed = seed;
    w.random = seed * 2654435761u + 1;
    w.slot_count = slots;
    w.spread = slots > 1000 ? 2000 : 12;
    w.unit = units[seed % (sizeof units / sizeof units[0])];
    w.loop = manual_loop();
    while (w.step < steps && w.broken == 0) {
        random_step(0);
        if (w.step % 500 == 0)
            burst();
    }
    for (o = w.all; o; o = o->next)
        started += o->started != 0;
    m.size = sizeof m;
    EXPECT(evl_loop_metrics(w.loop, &m) == 0);
    EXPECT(m.timers == started);
    for (i = 0; i < 5; i++) { /* every timer that is left fires, and what they start */
        w.now += 4000 * w.unit;
        EXPECT(evl_loop_advance(w.loop, 4000 * w.unit) == 0);
        run_iteration();
    }
    EXPECT(evl_loop_close(w.loop) == 0);
    for (i = 0; i < SLOTS; i++)
        if (w.slots[i]) {
            evl_handle_unref(w.slots[i]->handle);
            evl_timer_unref(w.slots[i]->timer);
        }
    evl_loop_unref(w.loop);
    while (w.all) {
        o = w.all;
        EXPECT(o->frees == 1);
        w.all = o->next;
        free(o);
    }
    free(w.ready);
}

TEST(random_programs_run_as_the_model_does) {
    unsigned seed;
    int steps = under_valgrind() ? 1000 : 10000;
    for (seed = 1; seed <= 40; seed++)
        run_program(seed, steps, 200);
}

TEST(random_programs_with_thousands_of_timers) {
    unsigned seed;
    int steps = under_valgrind() ? 1000 : 5000;
    for (seed = 1; seed <= (under_valgrind() ? 3u : 24u); seed++)
        run_program(seed, steps, 2000 + seed * 200);
}

TEST(a_long_random_program) {
    run_program(4711, under_valgrind() ? 5000 : 100000, 300);
}

TEST_MAIN()
