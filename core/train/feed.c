/* feed.c - records to examples to batches, one step ahead of the training thread. */
#include "train/feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 3, PACKED = 64 }; /* steps made ahead; examples per row when packing, at most */

typedef struct slot {
    td_feed_step step;
    td_arena    *arena; /* the examples' memory */
    td_example  *examples;
    td_error     error;
    bool         ready;
} slot;

struct td_feed {
    td_arrange_spec spec;
    slot            slots[AHEAD];
    int64_t         n_micro;
    uint64_t        next; /* record that the thread reads next */
    int             made, taken;
    bool            stop, holding;
    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    bool            started;
};

/* ---- one step -------------------------------------------------------------------------------- */

static bool fits(td_extent used, td_extent more, td_extent most)
{
    return used.first + more.first <= most.first && used.second + more.second <= most.second;
}

/* First fit: the row that an example goes to, -1: none has room. */
static int64_t row_for(td_extent *used, const int *in_row, int64_t rows, td_extent e,
                       td_extent most)
{
    for (int64_t r = 0; r < rows; r++)
        if (in_row[r] < PACKED && fits(used[r], e, most)) {
            used[r].first += e.first;
            used[r].second += e.second;
            return r;
        }
    return -1;
}

/* Fill the step's rows from record `first`, one example each, or as many as fit; how many. 0 with
 * the slot's error. */
static int64_t take(td_feed *f, slot *k, uint64_t first)
{
    int64_t   rows = f->spec.batch, n = 0, most_examples = f->spec.pack ? rows * PACKED : rows;
    td_extent most = td_arrange_limit(&f->spec),
              *used = td_arena_alloc(k->arena, (size_t)rows * sizeof *used);
    int      *in_row = td_arena_alloc(k->arena, (size_t)rows * sizeof *in_row);

    if (!used || !in_row) {
        td_fail(&k->error, TD_ENOMEM, "out of memory while making a batch");
        return 0;
    }
    for (; n < most_examples; n++) {
        td_example *x = &k->examples[n];
        if (td_arrange_fetch(&f->spec, first + (uint64_t)n, k->arena, x, &k->error))
            return 0;
        if (!fits((td_extent){ 0, 0 }, td_arrange_extent(&f->spec, x), most)) {
            td_fail(&k->error, TD_EFORMAT, "record %llu is longer than train.length = %lld allows",
                    (unsigned long long)(first + (uint64_t)n), (long long)f->spec.length);
            return 0;
        }
        x->row = f->spec.pack ? row_for(used, in_row, rows, td_arrange_extent(&f->spec, x), most)
                              : n;
        if (x->row < 0)
            break;
        in_row[x->row]++;
    }
    return n;
}

/* Micro-batch m takes rows [m micro_batch, (m+1) micro_batch). */
static int make_micro(td_feed *f, slot *k, int64_t m, int64_t n)
{
    int64_t     rows = f->spec.micro_batch, count = 0;
    td_example *mine = td_arena_alloc(k->arena, (size_t)(n + 1) * sizeof *mine);
    td_batch   *b = k->step.micro[m];
    td_extent   need = { 1, 0 }, most = td_arrange_limit(&f->spec);

    if (!mine)
        return td_fail(&k->error, TD_ENOMEM, "out of memory while making a batch");
    for (int64_t i = 0; i < n; i++)
        if (k->examples[i].row / rows == m) {
            td_extent e = td_arrange_extent(&f->spec, &k->examples[i]);
            mine[count] = k->examples[i];
            mine[count].row %= rows;
            k->step.examples[m][mine[count].row] = (int32_t)i;
            need.first = e.first > need.first ? e.first : need.first;
            need.second = e.second > need.second ? e.second : need.second;
            count++;
        }
    need = f->spec.pack
               ? most
               : (td_extent){ td_arrange_rounded(need.first, f->spec.bucket, most.first),
                              td_arrange_rounded(need.second, f->spec.bucket, most.second) };
    return td_arrange_rows(&f->spec, mine, count, rows, need, b, &k->error);
}

static void make(td_feed *f, slot *k, uint64_t first)
{
    int64_t n;
    td_arena_reset(k->arena);
    memset(&k->error, 0, sizeof k->error);
    k->step.weight = 0;
    k->step.tokens = k->step.targets = 0;
    n = take(f, k, first);
    for (int64_t m = 0; n > 0 && m < f->n_micro && !k->error.code; m++) {
        if (make_micro(f, k, m, n) && !k->error.code)
            td_fail(&k->error, TD_EFORMAT, "architecture '%s' cannot arrange a batch",
                    f->spec.architecture.plugin->name);
        k->step.weight += td_batch_weight(k->step.micro[m]);
        k->step.tokens += td_batch_tokens(k->step.micro[m]);
        k->step.targets += td_batch_targets(k->step.micro[m]);
    }
    k->step.records = n;
    k->step.next = first + (uint64_t)n;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void *work(void *argument)
{
    td_feed *f = argument;
    pthread_mutex_lock(&f->lock);
    while (!f->stop) {
        slot    *k = &f->slots[f->made % AHEAD];
        uint64_t first = f->next;
        if (k->ready) { /* the one that is held, too */
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        pthread_mutex_unlock(&f->lock);
        make(f, k, first);
        pthread_mutex_lock(&f->lock);
        k->ready = true;
        f->next = k->step.next;
        f->made++;
        pthread_cond_broadcast(&f->changed);
        if (k->error.code)
            break;
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static int make_slot(td_feed *f, slot *k)
{
    size_t examples = (size_t)f->spec.batch * (f->spec.pack ? PACKED : 1);
    k->arena = td_arena_new();
    k->examples = calloc(examples, sizeof *k->examples);
    k->step.n_micro = f->n_micro;
    k->step.micro = calloc((size_t)f->n_micro, sizeof *k->step.micro);
    k->step.examples = calloc((size_t)f->n_micro, sizeof *k->step.examples);
    if (!k->arena || !k->examples || !k->step.micro || !k->step.examples)
        return TD_ENOMEM;
    for (int64_t m = 0; m < f->n_micro; m++) {
        k->step.micro[m] = td_batch_new();
        k->step.examples[m] = calloc((size_t)f->spec.micro_batch, sizeof **k->step.examples);
        if (!k->step.micro[m] || !k->step.examples[m])
            return TD_ENOMEM;
    }
    return 0;
}

td_feed *td_feed_open(const td_arrange_spec *spec, uint64_t first, td_error *error)
{
    td_feed *f = calloc(1, sizeof *f);
    int      code = f ? 0 : TD_ENOMEM;

    if (f) {
        f->spec = *spec;
        f->next = first;
        f->n_micro = spec->batch / spec->micro_batch;
        pthread_mutex_init(&f->lock, NULL);
        pthread_cond_init(&f->changed, NULL);
        for (int i = 0; i < AHEAD && !code; i++)
            code = make_slot(f, &f->slots[i]);
        if (!code)
            f->started = !(code = pthread_create(&f->thread, NULL, work, f));
    }
    if (!code)
        return f;
    td_fail(error, TD_ENOMEM, "out of memory while opening the batch reader");
    td_feed_close(f);
    return NULL;
}

void td_feed_close(td_feed *f)
{
    if (!f)
        return;
    if (f->started) {
        pthread_mutex_lock(&f->lock);
        f->stop = true;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        pthread_join(f->thread, NULL);
    }
    for (int i = 0; i < AHEAD; i++) {
        slot *k = &f->slots[i];
        for (int64_t m = 0; m < f->n_micro; m++) {
            td_batch_free(k->step.micro ? k->step.micro[m] : NULL);
            free(k->step.examples ? k->step.examples[m] : NULL);
        }
        free(k->step.micro);
        free(k->step.examples);
        free(k->examples);
        td_arena_free(k->arena);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

size_t td_feed_bytes(const td_arrange_spec *s, const td_batch *shape)
{
    return AHEAD * (size_t)(s->batch / s->micro_batch) * td_batch_bytes(shape);
}

const td_feed_step *td_feed_next(td_feed *f, td_error *error)
{
    slot *k;
    pthread_mutex_lock(&f->lock);
    if (f->holding) { /* the step given before is free again */
        f->slots[(f->taken - 1) % AHEAD].ready = false;
        pthread_cond_broadcast(&f->changed);
    }
    f->holding = true;
    k = &f->slots[f->taken % AHEAD];
    while (!k->ready)
        pthread_cond_wait(&f->changed, &f->lock);
    if (!k->error.code)
        f->taken++;
    else
        f->holding = false;
    pthread_mutex_unlock(&f->lock);
    if (!k->error.code)
        return &k->step;
    td_fail(error, k->error.code, "%s", k->error.text);
    return NULL;
}
