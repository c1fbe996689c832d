/* feed.c - records to examples to batches, ahead of the training thread. */
#include "train/feed.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/threads.h"

enum {
    SLOTS = 3,  /* one that the trainer holds, one ready, one being made */
    PACKED = 64 /* examples in one row when packing, at most */
};

typedef struct slot {
    td_feed_batch batch;
    td_arena     *arena; /* the examples' memory */
    td_example   *examples;
    td_error      error;
    bool          ready; /* made and not yet returned: the thread leaves it alone */
} slot;

/* A ring of slots: batch number n is made, and taken, in slot n % SLOTS. `lock` guards everything
 * that changes after td_feed_open, except for the contents of a slot: these are the thread's until
 * `ready`, and the trainer's from then on. */
struct td_feed {
    td_arrange_spec spec;
    slot            slots[SLOTS];
    int64_t         n_micro;
    uint64_t        next;        /* record that the thread reads next */
    int             made, taken; /* batches */
    bool            stop;
    bool            holding; /* the trainer has the batch taken last */
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    bool            started;
};

/* ---- one batch ------------------------------------------------------------------------------- */

/* The encoder's and the decoder's part of a row have separate limits. */
static bool fits(td_extent used, td_extent more, td_extent most)
{
    return used.first + more.first <= most.first && used.second + more.second <= most.second;
}

/* How full each row is. */
typedef struct rows {
    td_extent *used;
    int       *examples;
    int64_t    count;
    td_extent  most; /* of one row */
} rows;

/* First fit: the first row with space for an example, or -1. */
static int64_t row_for(rows *r, td_extent e)
{
    for (int64_t k = 0; k < r->count; k++)
        if (r->examples[k] < PACKED && fits(r->used[k], e, r->most)) {
            r->used[k].first += e.first;
            r->used[k].second += e.second;
            r->examples[k]++;
            return k;
        }
    return -1;
}

/* An example is longer than a row only if the data source ignores td_data_in.length. */
static int read_example(const td_feed *f, uint64_t record, td_arena *arena, td_extent most,
                        td_example *out, td_extent *extent, td_error *error)
{
    if (td_arrange_fetch(&f->spec, record, arena, out, error))
        return error->code;
    *extent = td_arrange_extent(&f->spec, out);
    return fits((td_extent){ 0, 0 }, *extent, most)
               ? 0
               : td_fail(error, TD_EFORMAT, "record %llu is longer than train.length = %lld allows",
                         (unsigned long long)record, (long long)f->spec.length);
}

/* Assign records from `first` on to the step's rows: one each or, packing, until one fits
 * nowhere; that one begins the next step. Returns their number; 0 with the slot's error. */
static int64_t take(td_feed *f, slot *k, uint64_t first)
{
    int64_t n = 0, count = f->spec.batch, most = f->spec.pack ? count * PACKED : count;
    rows    r = { td_arena_alloc(k->arena, (size_t)count * sizeof *r.used),
                  td_arena_alloc(k->arena, (size_t)count * sizeof *r.examples), count,
                  td_arrange_limit(&f->spec) };

    /* from the slot's arena, which gives zeros */
    if (!r.used || !r.examples) {
        td_fail(&k->error, TD_ENOMEM, "out of memory while making a batch");
        return 0;
    }
    for (; n < most; n++) {
        td_example *x = &k->examples[n];
        td_extent   e = { 0, 0 };
        if (read_example(f, first + (uint64_t)n, k->arena, r.most, x, &e, &k->error))
            return 0;
        x->row = f->spec.pack ? row_for(&r, e) : n;
        if (x->row < 0)
            break;
    }
    return n;
}

/* The examples of micro-batch m, which takes rows [m micro_batch, (m+1) micro_batch); and the
 * longest of them. */
static int64_t choose(const td_feed *f, slot *k, int64_t m, int64_t n, td_example *out,
                      td_extent *need)
{
    int64_t rows = f->spec.micro_batch, count = 0;
    for (int64_t i = 0; i < n; i++) {
        td_extent e;
        if (k->examples[i].row / rows != m)
            continue;
        e = td_arrange_extent(&f->spec, &k->examples[i]);
        need->first = e.first > need->first ? e.first : need->first;
        need->second = e.second > need->second ? e.second : need->second;
        out[count] = k->examples[i];
        out[count].row %= rows;
        k->batch.examples[m][out[count].row] = (int32_t)i;
        count++;
    }
    return count;
}

static int make_micro(td_feed *f, slot *k, int64_t m, int64_t n)
{
    td_example *chosen = td_arena_alloc(k->arena, (size_t)(n + 1) * sizeof *chosen);
    td_extent   need = { 1, 0 }, most = td_arrange_limit(&f->spec);
    int64_t     count;

    if (!chosen)
        return td_fail(&k->error, TD_ENOMEM, "out of memory while making a batch");
    count = choose(f, k, m, n, chosen, &need);
    /* packed rows are nearly full: one shape serves them all */
    need = f->spec.pack
               ? most
               : (td_extent){ td_arrange_rounded(need.first, f->spec.bucket, most.first),
                              td_arrange_rounded(need.second, f->spec.bucket, most.second) };
    return td_arrange_rows(&f->spec, chosen, count, f->spec.micro_batch, need, k->batch.micro[m],
                           &k->error);
}

/* The batch of the step whose records begin at `first`; after a failure the slot has the error,
 * and its other contents are not used. */
static void make(td_feed *f, slot *k, uint64_t first)
{
    int64_t n;
    /* arrays and arena are reused, so that a running feed allocates nothing */
    td_arena_reset(k->arena);
    memset(&k->error, 0, sizeof k->error);
    k->batch.weight = 0;
    k->batch.tokens = k->batch.targets = 0;
    n = take(f, k, first);
    for (int64_t m = 0; n > 0 && m < f->n_micro && !k->error.code; m++) {
        if (make_micro(f, k, m, n) && !k->error.code)
            td_fail(&k->error, TD_EFORMAT, "architecture '%s' cannot arrange a batch",
                    f->spec.architecture.plugin->name);
        k->batch.weight += td_batch_weight(k->batch.micro[m]);
        k->batch.tokens += td_batch_tokens(k->batch.micro[m]);
        k->batch.targets += td_batch_targets(k->batch.micro[m]);
    }
    k->batch.records = n;
    k->batch.next = first + (uint64_t)n;
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Makes batches until it must stop or one fails. */
static void *work(void *argument)
{
    td_feed *f = argument;
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        slot    *k = &f->slots[f->made % SLOTS];
        uint64_t first = f->next;
        if (k->ready) { /* ahead by all slots, including the one that the trainer holds */
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        pthread_mutex_unlock(&f->lock); /* reading and tokenizing take long */
        make(f, k, first);
        pthread_mutex_lock(&f->lock);
        k->ready = true;
        f->next = k->batch.next;
        f->made++;
        pthread_cond_broadcast(&f->changed);
        if (k->error.code) /* td_feed_next reports it when its turn comes */
            break;
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* Everything of a slot that does not depend on the records. */
static int make_slot(td_feed *f, slot *k)
{
    size_t examples = (size_t)f->spec.batch * (f->spec.pack ? PACKED : 1);
    k->arena = td_arena_new();
    k->examples = calloc(examples, sizeof *k->examples);
    k->batch.n_micro = f->n_micro;
    k->batch.micro = calloc((size_t)f->n_micro, sizeof *k->batch.micro);
    k->batch.examples = calloc((size_t)f->n_micro, sizeof *k->batch.examples);
    if (!k->arena || !k->examples || !k->batch.micro || !k->batch.examples)
        return TD_ENOMEM;
    /* freed by free_slot, even after a failure */
    for (int64_t m = 0; m < f->n_micro; m++) {
        k->batch.micro[m] = td_batch_new();
        k->batch.examples[m] = calloc((size_t)f->spec.micro_batch, sizeof **k->batch.examples);
        if (!k->batch.micro[m] || !k->batch.examples[m])
            return TD_ENOMEM;
    }
    return 0;
}

static void free_slot(const td_feed *f, slot *k)
{
    for (int64_t m = 0; m < f->n_micro; m++) {
        td_batch_free(k->batch.micro ? k->batch.micro[m] : NULL);
        free(k->batch.examples ? k->batch.examples[m] : NULL);
    }
    free(k->batch.micro);
    free(k->batch.examples);
    free(k->examples);
    td_arena_free(k->arena);
}

static int start(td_feed *f)
{
    int code = td_thread_start(&f->thread, work, f);
    f->started = !code;
    return code;
}

td_feed *td_feed_open(const td_arrange_spec *spec, uint64_t first, td_error *error)
{
    td_feed *f = calloc(1, sizeof *f);
    int      code = f ? 0 : TD_ENOMEM;

    assert(spec->micro_batch > 0 && spec->batch % spec->micro_batch == 0);
    if (f) {
        f->spec = *spec;
        f->next = first;
        f->n_micro = spec->batch / spec->micro_batch;
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->changed, NULL);
        for (int i = 0; i < SLOTS && !code; i++)
            code = make_slot(f, &f->slots[i]);
        /* last: from here on the slots are shared with the thread */
        if (!code)
            code = start(f);
    }
    if (!code)
        return f;
    td_fail(error, TD_ENOMEM, "out of memory while opening the reader of training batches");
    td_feed_close(f);
    return NULL;
}

void td_feed_close(td_feed *f)
{
    if (!f)
        return;
    if (f->started) { /* not started if opening failed half-way */
        /* it may be waiting for a slot, or making a batch, which it finishes */
        pthread_mutex_lock(&f->lock);
        f->stop = true;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    for (int i = 0; i < SLOTS; i++)
        free_slot(f, &f->slots[i]);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

size_t td_feed_bytes(const td_arrange_spec *s, const td_batch *shape)
{
    return SLOTS * (size_t)(s->batch / s->micro_batch) * td_batch_bytes(shape);
}

const td_feed_batch *td_feed_next(td_feed *f, td_error *error)
{
    slot *k;
    pthread_mutex_lock(&f->lock);
    if (f->holding) { /* the caller has finished with the previous batch */
        f->slots[(f->taken - 1) % SLOTS].ready = false;
        pthread_cond_broadcast(&f->changed);
    }
    f->holding = true;
    k = &f->slots[f->taken % SLOTS];
    while (!k->ready)
        pthread_cond_wait(&f->changed, &f->lock);
    if (!k->error.code)
        f->taken++;
    else
        f->holding = false; /* the same error again at the next call */
    pthread_mutex_unlock(&f->lock);
    if (!k->error.code)
        return &k->batch;
    td_fail(error, k->error.code, "%s", k->error.text);
    return NULL;
}
