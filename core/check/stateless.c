/* stateless.c - hooks that must be functions of their arguments: schedules, the split of a loss,
 * and the effect of options.
 *
 * After a restart the trainer calls these in a different order, and on another machine on different
 * threads. So they are called twice, in different orders, with the smallest and largest values, and
 * with something missing.
 */
#include "check/cases.h"
#include "check/subject.h"
#include "tandem/kind/schedule.h"
#include "tandem/random.h"

/* ---- schedule -------------------------------------------------------------------------------- */

void td_check_rates(td_check *c)
{
    /* ends of common runs, and steps far beyond: a schedule is also asked after its last step */
    static const int64_t far[] = { 0, 1, 2, 99, 1000, 399999, 400000, 10000000, 99999999 };
    td_part              part = td_check_part(c);
    const td_schedule   *s = (const void *)part.plugin;
    td_check_need_options(c);
    for (int64_t k = 0; k < 3000 + (int64_t)(sizeof far / sizeof *far); k++) {
        int64_t step = k < 3000 ? k : far[k - 3000];
        double  rate = s->rate(part.config, step);
        if (!isfinite(rate) || rate < 0) {
            td_check_finding(c, "the rate of step %lld is %g: it must be finite and not negative",
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
    /* upwards, as in training; then downwards, which a schedule that counts its calls cannot
     * follow */
    for (int64_t k = 0; k < 500; k++)
        first[k] = s->rate(part.config, k);
    for (int64_t k = 499; k >= 0; k--)
        if (s->rate(part.config, k) != first[k]) {
            td_check_finding(
                c,
                "the rate of step %lld is %.17g, but %.17g when steps are requested in a different "
                "order: a resumed run would differ",
                (long long)k, first[k], s->rate(part.config, k));
            return;
        }
}

void td_check_print_rates(const td_part *part, td_text *out)
{
    const td_schedule *s = (const void *)part->plugin;
    for (int64_t step = 0; step < 100000000; step += 1 + step / 8)
        td_text_print(out, "%.17g\n", s->rate(part->config, step));
}

/* ---- split of a loss ------------------------------------------------------------------------- */

/* td_split_in.allocate as the feed has it, and when memory has run out. */
static void *from_arena(void *arena, size_t bytes) { return td_arena_alloc(arena, bytes); }
static void *nothing(void *arena, size_t bytes) { return NULL; }

/* Words are below WORDS, so a test can tell them from markers, which are above. There are more
 * sentinels than the longest record can have spans. */
enum { WORDS = 702, VOCABULARY = 4000, SENTINELS = 2000 };

/* The special ids of a tokenizer that has everything. */
static td_split_in split_in(td_check *c)
{
    /* ids as SentencePiece and T5 assign them: sentinels count down from the last id */
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

/* A hash of all that training would read. */
static uint64_t hash_example(const td_example *e)
{
    uint64_t h = td_hash(td_random_stream(""), &e->n_given, sizeof e->n_given);
    h = td_hash(h, e->given, (size_t)e->n_given * sizeof *e->given);
    h = td_hash(h, e->predicted, (size_t)e->n_predicted * sizeof *e->predicted);
    return e->weights ? td_hash(h, e->weights, (size_t)e->n_predicted * sizeof *e->weights) : h;
}

/* "a run of 64 tokens", "a pair of 17 tokens"; in the arena. */
static const char *name_record(td_check *c, bool pair, int64_t length)
{
    return td_arena_print(c->arena, "a %s of %lld tokens", pair ? "pair" : "run",
                          (long long)length);
}

/* The lengths of an example against the promises of flags and, for running text, bounds. */
static void check_lengths(td_check *c, const td_loss *l, const td_example *e, const td_bounds *b,
                          const char *record)
{
    /* memory is sized by these promises before the run; breaking one stops it hours later */
    if (e->n_given < 0 || e->n_predicted < 1)
        td_check_finding(c,
                         "of %s, %lld are given and %lld predicted; at least one must be predicted",
                         record, (long long)e->n_given, (long long)e->n_predicted);
    if (l->flags & TD_LOSS_NOTHING_GIVEN && e->n_given)
        td_check_finding(c, "it has the flag TD_LOSS_NOTHING_GIVEN, but gives %lld tokens",
                         (long long)e->n_given);
    if (l->flags & TD_LOSS_NEEDS_GIVEN && e->n_given < 1)
        td_check_finding(c, "it has the flag TD_LOSS_NEEDS_GIVEN, but gives no token of %s",
                         record);
    if (b && (e->n_given > b->given || e->n_predicted > b->predicted ||
              e->n_given + e->n_predicted > b->total))
        td_check_finding(c,
                         "of %s, %lld are given and %lld predicted, but bounds promises at most "
                         "%lld, %lld, and %lld together",
                         record, (long long)e->n_given, (long long)e->n_predicted,
                         (long long)b->given, (long long)b->predicted, (long long)b->total);
}

/* Check an example whose ids must be below `most`. `b` is NULL for a pair, whose lengths come from
 * the data and are unbounded. */
static void check_example(td_check *c, const td_loss *l, const td_example *e, const td_bounds *b,
                          int64_t length, int32_t most)
{
    const char *record = name_record(c, !b, length);
    check_lengths(c, l, e, b, record);
    MUST(c, (e->given || e->n_given < 1) && (e->predicted || e->n_predicted < 1),
         "of %s: tokens are counted, but their array is NULL", record);
    for (int64_t k = 0; k < e->n_given + e->n_predicted; k++) {
        int32_t id = k < e->n_given ? e->given[k] : e->predicted[k - e->n_given];
        if (id < 0 || id >= most) {
            td_check_finding(
                c, "token %lld is %d: ids of words are below %d, those of markers below %d",
                (long long)k, id, WORDS, most);
            return; /* the rest is likely wrong in the same way */
        }
    }
    for (int64_t k = 0; e->weights && k < e->n_predicted; k++)
        if (!isfinite(e->weights[k]) || e->weights[k] < 0) {
            td_check_finding(c, "weight %lld is %g: it must be finite and not negative",
                             (long long)k, (double)e->weights[k]);
            return;
        }
}

/* A record of random words; a pair's inputs are the first half. */
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

/* Split it again, then split another record: neither may change anything. */
static void split_again(td_check *c, const td_part *part, const td_record *r, const td_example *one)
{
    const td_loss *l = (const void *)part->plugin;
    td_split_in    in = split_in(c);
    td_example     two = { 0 };
    td_record      other = *r;
    uint64_t       before = hash_example(one);
    td_error       e = { 0 };
    /* a split that draws from a generator with a state differs here */
    MUST(c, !l->split(part->config, r, &in, &two, &e),
         "it refuses a record that it accepted the first time: %s", td_check_error(&e));
    if (hash_example(&two) != before)
        td_check_finding(c,
                         "record %llu is split differently the second time: draw numbers with "
                         "td_random_uniform(in->seed, record->id, n)",
                         (unsigned long long)r->id);
    if (other.n_targets > 1) {
        other.targets++;
        other.n_targets--;
        l->split(part->config, &other, &in, &two, &e); /* this one may be refused */
    }
    if (hash_example(one) != before)
        td_check_finding(c, "an example is overwritten by the next one: take its memory from "
                            "in->allocate, or point into the record");
}

/* `b`: of running text as long as bounds asks for, which may not be refused; NULL for a pair. */
static void split_once(td_check *c, const td_part *part, const td_record *r, const td_bounds *b,
                       int64_t length)
{
    const td_loss *l = (const void *)part->plugin;
    td_split_in    in = split_in(c);
    td_example     one = { 0 };
    td_error       e = { 0 };
    int            code = l->split(part->config, r, &in, &one, &e);
    if (code) {
        td_check_failure(c, "split", code, &e);
        /* a pair may be too short for an objective; a run of the length it requested may not */
        if (b)
            td_check_finding(
                c, "split refuses a run of %lld tokens, the raw length that `bounds` returns: %s",
                (long long)length, td_check_error(&e));
        return;
    }
    check_example(c, l, &one, b, length, VOCABULARY);
    split_again(c, part, r, &one);
}

void td_check_split(td_check *c)
{
    /* the shortest texts are where shares and spans round to nothing */
    static const int64_t lengths[] = { 2, 3, 5, 8, 17, 64, 127, 512 };
    td_part              part = td_check_part(c);
    const td_loss       *l = (const void *)part.plugin;
    int32_t             *tokens = td_arena_alloc(c->arena, (1 << 16) * sizeof *tokens);
    for (size_t k = 0; tokens && k < sizeof lengths / sizeof *lengths; k++) {
        td_bounds b = l->bounds(part.config, lengths[k]);
        MUST(c,
             b.raw >= 0 && b.raw < 1 << 15 && b.given >= 0 && b.predicted >= 0 && b.total >= 0 &&
                 b.total <= b.given + b.predicted,
             "bounds for %lld tokens: raw %lld, given %lld, predicted %lld, total %lld; none may "
             "be negative, raw must be below 32768, and total at most given + predicted",
             (long long)lengths[k], (long long)b.raw, (long long)b.given, (long long)b.predicted,
             (long long)b.total);
        for (uint64_t id = 0; id < 20; id++) {
            td_record run = record_of(tokens, b.raw, id, false);
            if (b.predicted > 0) /* otherwise the text is too short to predict anything */
                split_once(c, &part, &run, &b, b.raw);
            td_record pair = record_of(tokens, lengths[k], id, true);
            split_once(c, &part, &pair, NULL, lengths[k]);
        }
    }
}

/* Records that are too short, a vocabulary without markers, and no memory: a loss refuses them with
 * a message, or does without. */
void td_check_split_bad(td_check *c)
{
    td_part        part = td_check_part(c);
    const td_loss *l = (const void *)part.plugin;
    int32_t        tokens[64];
    td_split_in    poor = split_in(c), in = split_in(c);
    /* `in` has no markers to replace spans with, `poor` no memory to write an example to */
    poor.allocate = nothing;
    in.special.vocab_size = WORDS;
    in.special.sentinels = 0;
    in.special.mode[0] = in.special.mode[1] = in.special.mode[2] = -1;
    /* k: without markers, without memory */
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

void td_check_print_splits(td_check *c, const td_part *part, td_text *out)
{
    static const int64_t lengths[] = { 2, 17, 512 };
    const td_loss       *l = (const void *)part->plugin;
    td_split_in          in = split_in(c);
    int32_t              tokens[512];
    /* several lengths and both kinds of record, so that whatever an option changes shows
     * somewhere */
    for (uint64_t id = 0; id < 24; id++) {
        td_record  r = record_of(tokens, lengths[id % 3], id, id % 2);
        td_bounds  b = l->bounds(part->config, r.n_targets);
        td_example x = { 0 };
        td_error   e = { 0 };
        int        code = l->split(part->config, &r, &in, &x, &e);
        td_text_print(out, "%lld %lld %016llx\n", (long long)b.given, (long long)b.predicted,
                      code ? 0 : (unsigned long long)hash_example(&x));
    }
}

/* ---- options --------------------------------------------------------------------------------- */

/* Append the graph of a subject, as text, to the test's text. */
static void dump_of(td_subject *s)
{
    td_sentence two[2];
    td_built    built;
    td_error    e = { 0 };
    td_batch   *batch;
    /* only the graph is compared: that is exact and needs no run */
    td_sentences(two);
    batch = td_subject_batch(s, two, 1, 1);
    MUST(s->check,
         !td_model_forward(&s->model, s->variables, TD_PHASE_TRAIN, batch, false, &built, &e),
         "%s: %s", s->label, td_check_error(&e));
    td_graph_dump_text(built.graph, s->check->collected);
    td_graph_free(built.graph);
    td_batch_free(batch);
}

/* Build with the bytes that no option sets zeroed, then filled. A plugin that reads them has a
 * wrong offset, or a field without an option. */
void td_check_offsets(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    td_text   zeros = { 0 }, filled = { 0 };
    /* 0x5a5a.. is neither 0 nor 1, a huge integer, an odd double and an invalid pointer */
    c->collected = &zeros;
    c->fill = 0;
    td_each_subject(c, &td_usual_sizes, &d, dump_of);
    c->collected = &filled;
    c->fill = 0x5a;
    td_each_subject(c, &td_usual_sizes, &d, dump_of);
    if (strcmp(td_text_get(&zeros), td_text_get(&filled)))
        td_check_finding(
            c, "the graph depends on bytes of the config that no option sets: is the offset of an "
               "option wrong, or an option missing?");
    td_text_free(&zeros);
    td_text_free(&filled);
}

/* Store the least or the largest value of an option; false for a type that has none. */
static bool set_extreme(const td_part *part, const td_option *o, bool high)
{
    int64_t *i = td_check_field(part, o->name,
                                o->type == TD_TYPE_CHOICE ? TD_TYPE_CHOICE : TD_TYPE_INT);
    double  *x = td_check_field(part, o->name, TD_TYPE_FLOAT);
    bool    *b = td_check_field(part, o->name, TD_TYPE_BOOL);
    int64_t  choices = 0;
    while (o->type == TD_TYPE_CHOICE && o->choices[choices])
        choices++;
    /* the range of a choice is its list of names */
    if (i && choices)
        *i = high ? choices - 1 : 0;
    else if (i)
        *i = (int64_t)fmax(fmin(high ? o->max : o->min, 9e18), -9e18); /* a double beyond int64_t */
    if (x)
        *x = high ? o->max : o->min;
    if (b)
        *b = high;
    return i || x || b;
}

/* Values that check accepts must work; for a schedule this is quick to test. */
static void check_extreme_rates(td_check *c, const td_part *part, const td_option *o)
{
    for (int64_t step = 0; step < 4; step++) {
        double rate = ((const td_schedule *)(const void *)part->plugin)->rate(part->config, step);
        if (!isfinite(rate) || rate < 0)
            td_check_finding(c,
                             "with '%s' at an end of its range the rate of step %lld is %g: refuse "
                             "that value in "
                             "check, or narrow the range",
                             o->name, (long long)step, rate);
    }
}

/* Set each option to both ends of its range: `check` must accept it, or refuse it with a
 * message. */
void td_check_options(td_check *c)
{
    td_option o;
    for (size_t i = 0;
         c->plugin->options && td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++)
        for (int high = 0; high < 2; high++) {
            td_part  part = td_check_part(c); /* a fresh one: one option at a time */
            td_error e = { 0 };
            int      code;
            if (!set_extreme(&part, &o, high))
                continue;
            code = c->plugin->check ? c->plugin->check(part.config, &e) : 0;
            if (!code && td_check_is_kind(c->plugin, TD_SCHEDULE_KIND))
                check_extreme_rates(c, &part, &o);
            if (code)
                td_check_failure(c,
                                 td_arena_print(c->arena, "check with the %s '%s'",
                                                high ? "largest" : "least", o.name),
                                 code, &e);
        }
}
