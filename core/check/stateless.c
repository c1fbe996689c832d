/* stateless.c - schedules, losses' splits, and options: hooks that are functions of their arguments. */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/kind/schedule.h"
#include "tandem/random.h"

/* ---- schedule -------------------------------------------------------------------------------- */

void td_check_rates(td_check *c)
{
    static const int64_t far[] = { 0, 1, 2, 99, 1000, 399999, 400000, 10000000, 99999999 };
    td_part              part = td_check_part(c);
    const td_schedule   *s = (const void *)part.plugin;
    td_check_need_options(c);
    for (int64_t k = 0; k < 3000 + (int64_t)(sizeof far / sizeof *far); k++) {
        int64_t step = k < 3000 ? k : far[k - 3000];
        double  rate = s->rate(part.config, step);
        if (!isfinite(rate) || rate < 0) {
            td_check_finding(c, "the rate of step %lld is %g: a finite number, 0 or more, is meant",
                             (long long)step, rate);
            return;
        }
    }
}

void td_check_rates_again(td_check *c)
{
    td_part            part = td_check_part(c);
    const td_schedule *s = (const void *)part.plugin;
    double             first[500];
    for (int64_t k = 0; k < 500; k++)
        first[k] = s->rate(part.config, k);
    for (int64_t k = 499; k >= 0; k--)
        if (s->rate(part.config, k) != first[k]) {
            td_check_finding(c,
                             "the rate of step %lld is %.17g, and %.17g when steps are asked in "
                             "another order: a resumed run would differ",
                             (long long)k, first[k], s->rate(part.config, k));
            return;
        }
}

/* ---- split of a loss ------------------------------------------------------------------------- */

static void *from_arena(void *arena, size_t bytes) { return td_arena_alloc(arena, bytes); }
static void *nothing(void *arena, size_t bytes) { return NULL; }

/* Words are below WORDS; there are more sentinels than a run of the test has spans. */
enum { WORDS = 702, VOCABULARY = 4000, SENTINELS = 2000 };

static td_split_in split_in(td_check *c)
{
    td_split_in in = { .special = { .pad = 0,
                                    .bos = -1,
                                    .eos = 1,
                                    .unk = -1,
                                    .vocab_size = VOCABULARY,
                                    .sentinels = SENTINELS,
                                    .sentinel = VOCABULARY - 1,
                                    .sentinel_step = -1,
                                    .mode = { WORDS, WORDS + 1, WORDS + 2 } },
                       .seed = 17,
                       .allocate = from_arena,
                       .arena = c->arena };
    return in;
}

static uint64_t hash_example(const td_example *e)
{
    uint64_t h = td_hash(td_random_stream(""), &e->n_given, sizeof e->n_given);
    h = td_hash(h, e->given, (size_t)e->n_given * sizeof *e->given);
    h = td_hash(h, e->predicted, (size_t)e->n_predicted * sizeof *e->predicted);
    return e->weights ? td_hash(h, e->weights, (size_t)e->n_predicted * sizeof *e->weights) : h;
}

/* Its ids are below `most`; without bounds it is one of a pair. */
static void check_example(td_check *c, const td_loss *l, const td_example *e, const td_bounds *b,
                          int64_t length, int32_t most)
{
    const char *record = b ? "a run" : "a pair";
    bool        nothing_given = l->flags & TD_LOSS_NOTHING_GIVEN;
    if (e->n_given < 0 || e->n_predicted < 1)
        td_check_finding(c, "%s of %lld tokens: %lld given and %lld predicted", record,
                         (long long)length, (long long)e->n_given, (long long)e->n_predicted);
    if (nothing_given && e->n_given)
        td_check_finding(c, "it says TD_LOSS_NOTHING_GIVEN, but gives %lld tokens",
                         (long long)e->n_given);
    if (l->flags & TD_LOSS_NEEDS_GIVEN && e->n_given < 1)
        td_check_finding(c, "it says TD_LOSS_NEEDS_GIVEN, but gives nothing of %s of %lld tokens",
                         record, (long long)length);
    if (b && (e->n_given > b->given || e->n_predicted > b->predicted ||
              e->n_given + e->n_predicted > b->total))
        td_check_finding(c,
                         "%lld tokens become %lld given and %lld predicted; bounds promises %lld, "
                         "%lld and %lld together",
                         (long long)length, (long long)e->n_given, (long long)e->n_predicted,
                         (long long)b->given, (long long)b->predicted, (long long)b->total);
    MUST(c, (e->given || e->n_given < 1) && (e->predicted || e->n_predicted < 1),
         "%s of %lld tokens: tokens are counted, but their array is NULL", record,
         (long long)length);
    for (int64_t k = 0; k < e->n_given + e->n_predicted; k++) {
        int32_t id = k < e->n_given ? e->given[k] : e->predicted[k - e->n_given];
        if (id < 0 || id >= most) {
            td_check_finding(c, "token %lld is %d, where words are below %d and marks below %d",
                             (long long)k, id, WORDS, most);
            return;
        }
    }
    for (int64_t k = 0; e->weights && k < e->n_predicted; k++)
        if (!isfinite(e->weights[k]) || e->weights[k] < 0) {
            td_check_finding(c, "weight %lld is %g", (long long)k, (double)e->weights[k]);
            return;
        }
}

static td_record record_of(int32_t *tokens, int64_t n, uint64_t id, bool pair)
{
    td_record r = { .targets = tokens, .n_targets = n, .id = id };
    for (int64_t k = 0; k < n; k++)
        tokens[k] = 2 + (int32_t)td_random_below(3, id, (uint64_t)k, WORDS - 2);
    if (pair) {
        r.inputs = tokens;
        r.n_inputs = n / 2;
        r.targets = tokens + n / 2;
        r.n_targets = n - n / 2;
    }
    return r;
}

static void split_once(td_check *c, const td_part *part, const td_record *r, const td_bounds *b,
                       int64_t length)
{
    const td_loss *l = (const void *)part->plugin;
    td_split_in    in = split_in(c);
    td_example     one = { 0 }, two = { 0 };
    td_record      other = *r;
    uint64_t       before;
    td_error       e = { 0 };
    int            code = l->split(part->config, r, &in, &one, &e);
    if (code) {
        td_check_failure(c, "split", code, &e);
        if (b)
            td_check_finding(c, "a record of the length that bounds asks for, %lld, is refused: %s",
                             (long long)length, td_check_error(&e));
        return;
    }
    check_example(c, l, &one, b, length, VOCABULARY);
    before = hash_example(&one);
    MUST(c, !l->split(part->config, r, &in, &two, &e),
         "the same record is refused the second time: %s", td_check_error(&e));
    if (hash_example(&two) != before)
        td_check_finding(c,
                         "record %llu is split otherwise the second time: draw numbers with "
                         "td_random_uniform(in->seed, record->id, n)",
                         (unsigned long long)r->id);
    if (other.n_targets > 1) {
        other.targets++;
        other.n_targets--;
        l->split(part->config, &other, &in, &two, &e); /* or is refused */
    }
    if (hash_example(&one) != before)
        td_check_finding(c, "an example is overwritten by the next one: take its memory from "
                            "in->allocate, or point into the record");
}

void td_check_split(td_check *c)
{
    static const int64_t lengths[] = { 2, 3, 5, 8, 17, 64, 127, 512 };
    td_part              part = td_check_part(c);
    const td_loss       *l = (const void *)part.plugin;
    int32_t             *tokens = td_arena_alloc(c->arena, (1 << 16) * sizeof *tokens);
    for (size_t k = 0; tokens && k < sizeof lengths / sizeof *lengths; k++) {
        td_bounds b = l->bounds(part.config, lengths[k]);
        MUST(c,
             b.raw >= 0 && b.raw < 1 << 15 && b.given >= 0 && b.predicted >= 0 && b.total >= 0 &&
                 b.total <= b.given + b.predicted,
             "bounds of %lld tokens: raw %lld, given %lld, predicted %lld, total %lld",
             (long long)lengths[k], (long long)b.raw, (long long)b.given, (long long)b.predicted,
             (long long)b.total);
        for (uint64_t id = 0; id < 20; id++) {
            td_record run = record_of(tokens, b.raw, id, false);
            if (b.predicted > 0)
                split_once(c, &part, &run, &b, b.raw);
            td_record pair = record_of(tokens, lengths[k], id, true);
            split_once(c, &part, &pair, NULL, lengths[k]);
        }
    }
}

/* Records, marks and memory that are not there: refused with a message, or done without. */
void td_check_split_bad(td_check *c)
{
    td_part        part = td_check_part(c);
    const td_loss *l = (const void *)part.plugin;
    int32_t        tokens[64];
    td_split_in    poor = split_in(c), in = split_in(c);
    poor.allocate = nothing;
    in.special.vocab_size = WORDS;
    in.special.sentinels = 0;
    in.special.mode[0] = in.special.mode[1] = in.special.mode[2] = -1;
    for (int64_t n = 0; n < 64; n += n < 4 ? 1 : 20)
        for (int pair = 0; pair < 2; pair++)
            for (int k = 0; k < 2; k++) {
                td_record  r = record_of(tokens, n, 3, pair);
                td_example out = { 0 };
                td_error   e = { 0 };
                int        code = l->split(part.config, &r, k ? &poor : &in, &out, &e);
                if (code)
                    td_check_failure(c, "split", code, &e);
                else
                    check_example(c, l, &out, NULL, n, k ? VOCABULARY : WORDS);
            }
}

/* ---- options --------------------------------------------------------------------------------- */

static void dump_of(td_subject *s)
{
    td_sentence two[2];
    td_built    built;
    td_error    e = { 0 };
    td_batch   *batch;
    td_sentences(two);
    batch = td_subject_batch(s, two, 1, 1);
    MUST(s->check,
         !td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &built, &e),
         "%s: %s", s->label, td_check_error(&e));
    td_graph_dump_text(built.graph, s->check->collected);
    td_graph_free(built.graph);
    td_batch_free(batch);
}

/* The same graph whatever is in bytes that no option sets: else an offset is wrong. */
void td_check_offsets(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    td_text   zeros = { 0 }, filled = { 0 };
    c->collected = &zeros;
    c->fill = 0;
    td_each_subject(c, &td_usual_sizes, &d, dump_of);
    c->collected = &filled;
    c->fill = 0x5a;
    td_each_subject(c, &td_usual_sizes, &d, dump_of);
    if (strcmp(td_text_get(&zeros), td_text_get(&filled)))
        td_check_finding(
            c, "the graph depends on bytes of the config that no option sets: is the offset of "
               "an option wrong, or an option missing?");
    td_text_free(&zeros);
    td_text_free(&filled);
}

/* Store an extreme of an option; false: it has none. */
static bool set_extreme(const td_part *part, const td_option *o, bool high)
{
    int64_t *i = td_check_field(part, o->name,
                                o->type == TD_TYPE_CHOICE ? TD_TYPE_CHOICE : TD_TYPE_INT);
    double  *x = td_check_field(part, o->name, TD_TYPE_FLOAT);
    bool    *b = td_check_field(part, o->name, TD_TYPE_BOOL);
    int64_t  choices = 0;
    while (o->type == TD_TYPE_CHOICE && o->choices[choices])
        choices++;
    if (i && choices)
        *i = high ? choices - 1 : 0;
    else if (i)
        *i = (int64_t)fmax(fmin(high ? o->max : o->min, 9e18), -9e18);
    if (x)
        *x = high ? o->max : o->min;
    if (b)
        *b = high;
    return i || x || b;
}

static void check_extreme_rates(td_check *c, const td_part *part, const td_option *o)
{
    for (int64_t step = 0; step < 4; step++) {
        double rate = ((const td_schedule *)(const void *)part->plugin)->rate(part->config, step);
        if (!isfinite(rate) || rate < 0)
            td_check_finding(
                c,
                "with '%s' at an end of its range the rate of step %lld is %g: refuse it "
                "in check, or narrow the range",
                o->name, (long long)step, rate);
    }
}

/* Every option at both ends of its range: `check` says yes, or no with a message. */
void td_check_options(td_check *c)
{
    td_option o;
    for (size_t i = 0;
         c->plugin->options && td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++)
        for (int high = 0; high < 2; high++) {
            td_part  part = td_check_part(c);
            td_error e = { 0 };
            int      code;
            if (!set_extreme(&part, &o, high))
                continue;
            code = c->plugin->check ? c->plugin->check(part.config, &e) : 0;
            if (!code && td_check_is_kind(c->plugin, TD_SCHEDULE_KIND))
                check_extreme_rates(c, &part, &o);
            if (code)
                td_check_failure(c,
                                 td_arena_print(c->arena, "check with '%s' at its %s", o.name,
                                                high ? "largest" : "least"),
                                 code, &e);
        }
}
