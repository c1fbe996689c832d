/* answers.c - runs the items of a task: builds the prompts, computes all answers, and scores
 * them one by one. */
#include "evaluate/answers_job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "generate/generate.h"
#include "tandem/random.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the answers to a task");
}

int64_t td_answers_items(const td_task *t, const td_answers_spec *s)
{
    int64_t n = (int64_t)json_array_size(t->items.all);
    return s->limit > 0 && s->limit < n ? s->limit : n;
}

static td_team *team_of(const td_answers_job *j) { return j->spec->score.team; }

static int report(td_answers_job *j, int64_t done)
{
    if (j->progress && j->progress(j->arg, j->task->options.name, done, j->count))
        j->stopped = 1;
    return j->stopped ? TD_EEND : 0;
}

/* ---- prompts --------------------------------------------------------------------------------- */

/* The texts to score after the prompt: each choice, or the target. */
static int ask_to_score(td_answers_job *j, int64_t index, td_asked_item *a, td_error *error)
{
    const td_task_options *o = &j->task->options;
    const char            *target = a->item.target;
    bool                   choices = o->output_type == TD_MULTIPLE_CHOICE;
    int                    code = 0;
    if (!o->multiple_inputs) {
        a->n_asked = 1;
        return td_prompts_ask(j->prompts, index, &a->item, a->item.text,
                              choices ? (const char *const *)a->item.choices : &target,
                              choices ? a->item.n_choices : 1, 0, a->asked, error);
    }
    for (; a->n_asked < a->item.n_choices && !code; a->n_asked++)
        code = td_prompts_ask(j->prompts, index, &a->item, a->item.choices[a->n_asked], &target, 1,
                              0, &a->asked[a->n_asked], error);
    return code;
}

static int ask_to_generate(td_answers_job *j, int64_t index, td_asked_item *a, td_error *error)
{
    a->n_asked = 1;
    return td_prompts_ask(j->prompts, index, &a->item, a->item.text, NULL, 0,
                          j->task->options.max_gen_toks, a->asked, error);
}

static void count_dropped(td_answers_job *j, const td_asked_item *a)
{
    /* prompts of one item differ only in the number of exemplars that fit: report the worst */
    int64_t dropped = 0;
    bool    over = false;
    for (size_t k = 0; k < a->n_asked; k++) {
        dropped = a->asked[k].dropped > dropped ? a->asked[k].dropped : dropped;
        over = over || a->asked[k].over;
    }
    j->out->dropped += dropped;
    j->out->shortened += dropped > 0;
    j->out->over += over;
}

static int ask_item(td_answers_job *j, int64_t index, td_error *error)
{
    const json_t  *doc = json_array_get(j->task->items.all, (size_t)index);
    td_asked_item *a = &j->items[index];
    td_error       e = { 0 };
    int            code = td_task_item_open(j->task, doc, &a->item, &e);
    if (!code) {
        /* with multiple_inputs each choice is a separate prompt */
        a->asked = calloc(a->item.n_choices + 1, sizeof *a->asked);
        code = a->asked ? 0 : out_of_memory(&e);
    }
    if (!code)
        code = j->generates ? ask_to_generate(j, index, a, &e) : ask_to_score(j, index, a, &e);
    if (code)
        return td_fail(error, code, "task '%s', item %lld: %s (%s)", j->task->options.name,
                       (long long)index + 1, e.text, td_items_place(doc));
    count_dropped(j, a);
    return 0;
}

static int ask_all(td_answers_job *j, td_error *error)
{
    int code = 0;
    j->items = calloc((size_t)j->count + 1, sizeof *j->items);
    if (!j->items)
        return out_of_memory(error);
    for (int64_t k = 0; k < j->count && !code; k++)
        code = ask_item(j, k, error);
    return code;
}

/* Different prompts on different ranks would be mixed into one score. */
static int compare_prompts(const td_answers_job *j, td_error *error)
{
    uint64_t hash = td_random_stream(j->task->options.name);
    char     text[32];
    if (td_team_size(team_of(j)) == 1)
        return 0;
    for (int64_t k = 0; k < j->count; k++)
        for (size_t i = 0; i < j->items[k].n_asked; i++) {
            const td_asked *a = &j->items[k].asked[i];
            hash = td_hash(hash, a->given, (size_t)a->n_given * sizeof *a->given);
            for (int64_t c = 0; c < a->answers; c++)
                hash = td_hash(hash, a->target[c], (size_t)a->n_target[c] * sizeof **a->target);
        }
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    return td_team_same(team_of(j), text, "set of prompts", error);
}

/* ---- log-likelihoods ------------------------------------------------------------------------- */

/* All answers of the task in one list, so that batches can mix answers of different items. */
static int collect(td_answers_job *j, td_error *error)
{
    int64_t n = 0;
    for (int64_t k = 0; k < j->count; k++)
        for (size_t i = 0; i < j->items[k].n_asked; i++)
            n += j->items[k].asked[i].answers;
    j->scored = calloc((size_t)n + 1, sizeof *j->scored);
    if (!j->scored)
        return out_of_memory(error);
    for (int64_t k = 0; k < j->count; k++)
        for (size_t i = 0; i < j->items[k].n_asked; i++) {
            const td_asked *a = &j->items[k].asked[i];
            for (int64_t c = 0; c < a->answers; c++)
                j->scored[j->n_scored++] = (td_scored){ .given = a->given,
                                                        .n_given = a->n_given,
                                                        .target = a->target[c],
                                                        .n_target = a->n_target[c] };
        }
    return 0;
}

/* Converts progress in answers to progress in items, which the caller counts. */
static int on_scored(void *arg, int64_t done, int64_t all)
{
    td_answers_job *j = arg;
    return report(j, all ? j->count * done / all : 0);
}

static int score_all(td_answers_job *j, td_error *error)
{
    int code = collect(j, error);
    if (code)
        return code;
    code = td_score_items(j->spec->engine, &j->spec->score, j->scored, j->n_scored, on_scored, j,
                          error);
    /* a comparison with NaN is false, so choices would still be made, and an accuracy come out
     * of them */
    for (int64_t k = 0; k < j->n_scored && !code; k++)
        if (!isfinite(j->scored[k].logprob))
            code = td_fail(error, TD_EDIVERGED,
                           "task '%s': a log-likelihood is %g: the parameters contain NaN or "
                           "infinity",
                           j->task->options.name, j->scored[k].logprob);
    return code;
}

/* ---- generation ------------------------------------------------------------------------------ */

static void on_done(void *arg, const td_reply *r)
{
    td_answers_job *j = arg;
    /* the reply is valid only during this call */
    j->items[r->request].text = strdup(r->text ? r->text : "");
    j->failed = j->failed || !j->items[r->request].text;
    j->answered++;
}

static int on_token(void *arg)
{
    td_answers_job *j = arg;
    int64_t         done;
    int             code = j->failed ? TD_ENOMEM : td_pace_tick(&j->pace, j->answered, &done);
    return code ? code : report(j, done);
}

/* The texts of this rank's items, each after its length. */
static void put_texts(const td_answers_job *j, td_text *out)
{
    for (int64_t k = td_team_rank(team_of(j)); k < j->count; k += td_team_size(team_of(j))) {
        uint64_t size = strlen(j->items[k].text);
        td_text_append(out, (const char *)&size, sizeof size);
        td_text_append(out, j->items[k].text, (size_t)size);
    }
}

/* Those of all ranks, in the order of ranks. */
static int take_texts(td_answers_job *j, const td_text *all, td_error *error)
{
    int    ranks = td_team_size(team_of(j));
    size_t at = 0;
    for (int r = 0; r < ranks; r++)
        for (int64_t k = r; k < j->count; k += ranks) {
            uint64_t size = 0;
            if (all->size - at >= sizeof size)
                memcpy(&size, all->data + at, sizeof size);
            at += sizeof size;
            if (at > all->size || size > all->size - at)
                return td_fail(error, TD_EFORMAT, "the answers of rank %d are incomplete", r);
            free(j->items[k].text);
            j->items[k].text = strndup(all->data + at, (size_t)size);
            at += (size_t)size;
            if (!j->items[k].text)
                return out_of_memory(error);
        }
    return 0;
}

/* Every rank gets the answers of all. */
static int exchange_texts(td_answers_job *j, td_error *error)
{
    td_text own = { 0 }, all = { 0 };
    int     code;
    if (td_team_size(team_of(j)) == 1)
        return 0;
    put_texts(j, &own);
    code = td_team_agree(team_of(j), own.failed ? out_of_memory(error) : 0, error);
    if (!code)
        code = td_team_collect(team_of(j), td_text_get(&own), own.size, &all, error);
    if (!code)
        code = td_team_agree(team_of(j), take_texts(j, &all, error), error);
    td_text_free(&own);
    td_text_free(&all);
    return code;
}

/* Fewer than 8 rows are multiplied by a different kernel, so the last bits would depend on the
 * batch: idle rows are a small price to avoid that. */
enum { LEAST_ROWS = 8 };

static int generate_all(td_answers_job *j, td_error *error)
{
    const td_task_options *o = &j->task->options;
    td_decoder_options     d = j->spec->decoder;
    td_generate_options    options = { .sampling = td_sampling_greedy(),
                                       .max_tokens = o->max_gen_toks,
                                       .beams = 1,
                                       .stops = o->until.at,
                                       .n_stops = o->until.count };
    td_request            *requests = calloc((size_t)j->count + 1, sizeof *requests);
    td_generate_out        speed;
    td_generate_in         in = { .decoder = &d,
                                  .options = &options,
                                  .tokenizer = j->spec->prompts.tokenizer,
                                  .tokenizer_state = j->spec->prompts.state,
                                  .requests = requests,
                                  .count = j->count,
                                  .rank = td_team_rank(team_of(j)),
                                  .ranks = td_team_size(team_of(j)),
                                  .done = on_done,
                                  .stop = on_token,
                                  .arg = j };
    int                    code;

    j->pace.team = team_of(j);
    if (!requests)
        return td_pace_end(&j->pace, 0, out_of_memory(error), error);
    for (int64_t k = 0; k < j->count; k++) {
        const td_asked *a = &j->items[k].asked[0];
        /* numbered by item to tell equal prompts apart; no random numbers are drawn */
        requests[k] = (td_request){ a->given, a->n_given, (uint64_t)k };
    }
    d.rows = j->spec->rows ? j->spec->rows : 16;
    if (d.rows < LEAST_ROWS)
        d.rows = LEAST_ROWS;
    code = td_generate(&in, &speed, error);
    free(requests);
    code = td_pace_end(&j->pace, j->answered, j->failed ? out_of_memory(error) : code, error);
    return code ? code : exchange_texts(j, error);
}

/* ---- results --------------------------------------------------------------------------------- */

/* The score of guessing: 1 / the number of choices, 0 for a text, or the task's own value. */
static double chance_of(const td_answers_job *j)
{
    double sum = 0;
    if (j->task->options.chance >= 0)
        return j->task->options.chance;
    for (int64_t k = 0; k < j->count; k++)
        sum += j->items[k].item.n_choices ? 1.0 / (double)j->items[k].item.n_choices : 0;
    return j->count ? sum / (double)j->count : 0;
}

static const char *const likelihoods[] = { "acc,none", "perplexity,none", "bits_per_byte,none" };

/* Its key is that of the results, which live as long as the lines. */
static void add_line(td_answers *out, td_score_line line)
{
    void *at = json_object_iter_at(out->results, line.key);
    line.key = at ? json_object_iter_key(at) : "";
    out->lines[out->n_lines++] = line;
}

static int open_lines(td_answers *out, size_t n, td_error *error)
{
    out->lines = calloc(n + 1, sizeof *out->lines);
    return out->lines ? 0 : out_of_memory(error);
}

static void put_likelihood_of(td_answers_job *j, const char *key, double score, double error)
{
    json_object_set_new(j->out->results, key, json_real(score));
    add_line(j->out, (td_score_line){ key, score, error, j->count, false });
}

/* The likelihood of targets has no metric: it is the model's own measure. Perplexity is that of
 * lm-evaluation-harness, by item and not by token. */
static int put_likelihood(td_answers_job *j, td_error *error)
{
    /* the standard error of a share p: sqrt(p (1 - p) / (n - 1)) */
    double n = (double)j->count, p = j->greedy / n;
    double spread = j->count > 1 ? sqrt(p * (1 - p) / (n - 1)) : (double)NAN;
    if (open_lines(j->out, sizeof likelihoods / sizeof *likelihoods, error))
        return TD_ENOMEM;
    put_likelihood_of(j, likelihoods[0], p, spread);
    json_object_set_new(j->out->results, "acc_stderr,none",
                        j->count > 1 ? json_real(spread) : json_string("N/A"));
    put_likelihood_of(j, likelihoods[1], exp(-j->logprob / n), (double)NAN);
    if (j->bytes > 0 && !j->spec->prompts.no_bytes)
        put_likelihood_of(j, likelihoods[2], -j->logprob / log(2) / j->bytes, (double)NAN);
    return 0;
}

static int put_scores(td_answers_job *j, td_error *error)
{
    size_t n = td_scores_count(j->scores);
    if (td_scores_check(j->scores, error))
        return TD_EPLUGIN;
    if (open_lines(j->out, n, error))
        return TD_ENOMEM;
    td_scores_put(j->scores, NULL, j->out->results);
    for (size_t k = 0; k < n; k++)
        add_line(j->out, td_scores_line(j->scores, k, NULL));
    /* without task.by all items are one group, and its scores those above */
    for (size_t k = 0; *j->task->options.by && k < td_scores_groups(j->scores); k++) {
        const char *by = td_scores_group(j->scores, k);
        json_t     *results = json_pack("{s:s}", "alias", by);
        td_scores_put(j->scores, by, results);
        json_object_set_new(j->out->groups, by, results);
    }
    return 0;
}

static bool is_generated(const td_task *t, const td_answers_spec *s)
{
    return t->options.output_type == TD_GENERATE_UNTIL ||
           (s->generate && t->options.output_type == TD_MULTIPLE_CHOICE &&
            !t->options.multiple_inputs);
}

static int open_job(td_answers_job *j, td_error *error)
{
    td_answers *out = j->out;
    j->generates = is_generated(j->task, j->spec);
    out->task = strdup(j->task->options.name);
    out->results = json_pack("{s:s}", "alias", j->task->options.name);
    out->groups = json_object();
    out->samples = json_array();
    if (!out->task || !out->results || !out->groups || !out->samples)
        return out_of_memory(error);
    j->prompts = td_prompts_open(j->task, &j->spec->prompts, error);
    if (!j->prompts)
        return td_failed(error, TD_EFORMAT);
    /* the number that exists, which may be less than requested */
    out->shots = td_prompts_shots(j->prompts);
    if (j->task->options.output_type == TD_LOGLIKELIHOOD)
        return 0;
    j->scores = td_scores_open(j->task, !j->generates, j->count, error);
    if (!j->scores)
        return td_failed(error, TD_ENOMEM);
    return td_scores_count(j->scores)
               ? 0
               : td_fail(error, TD_ECONFIG,
                         "task '%s' names no metric for generated text, which --generate needs: "
                         "add one to task.metrics, such as \"exact-match\"",
                         j->task->options.name);
}

static void close_job(td_answers_job *j)
{
    for (int64_t k = 0; j->items && k < j->count; k++) {
        for (size_t i = 0; i < j->items[k].n_asked; i++)
            td_asked_free(&j->items[k].asked[i]);
        free(j->items[k].asked);
        free(j->items[k].text);
        td_task_item_close(&j->items[k].item);
    }
    free(j->items);
    free(j->scored);
    td_prompts_close(j->prompts);
    td_scores_close(j->scores);
}

int td_answers_get(const td_task *task, const td_answers_spec *spec, td_answers_progress *progress,
                   void *arg, td_answers *out, td_error *error)
{
    td_answers_job j = { .task = task, .spec = spec, .out = out, .progress = progress, .arg = arg };
    double         start = td_now();
    int            code;

    memset(out, 0, sizeof *out);
    j.count = td_answers_items(task, spec);
    out->items = j.count;
    out->all = (int64_t)json_array_size(task->items.all);
    code = open_job(&j, error);
    /* every prompt is laid out before the model runs: a bad item must not end hours of work */
    if (!code)
        code = ask_all(&j, error);
    code = td_team_agree(team_of(&j), code, error);
    if (!code)
        code = compare_prompts(&j, error);
    if (!code)
        code = j.generates ? generate_all(&j, error) : score_all(&j, error);
    if (!code && j.generates) /* progress came with tokens, and none follows the last answer */
        report(&j, j.count);
    if (!code)
        code = td_answers_score(&j, error);
    if (!code) {
        out->chance = chance_of(&j);
        code = j.scores ? put_scores(&j, error) : put_likelihood(&j, error);
        out->seconds = td_now() - start;
    }
    close_job(&j);
    return code;
}

int td_answers_plan(const td_task *task, const td_answers_spec *spec, td_footprint *footprint,
                    td_error *error)
{
    td_answers     out = { 0 };
    td_answers_job j = { .task = task, .spec = spec, .out = &out };
    int            code;
    j.count = td_answers_items(task, spec);
    code = open_job(&j, error);
    if (!code)
        code = ask_all(&j, error);
    if (!code && !j.generates)
        code = collect(&j, error);
    if (!code && !j.generates)
        code = td_score_plan(spec->engine, &spec->score, j.scored, j.n_scored, footprint, error);
    close_job(&j);
    td_answers_free(&out);
    return code;
}

int td_answers_keys(const td_task *task, const td_answers_spec *spec, td_answers_visit *visit,
                    void *arg, td_error *error)
{
    td_scores *s;
    if (task->options.output_type == TD_LOGLIKELIHOOD) {
        for (size_t k = 0; k < sizeof likelihoods / sizeof *likelihoods; k++)
            visit(arg, likelihoods[k]);
        return 0;
    }
    /* no items: the keys follow from the task's metrics and filters alone */
    s = td_scores_open(task, !is_generated(task, spec), 0, error);
    if (!s)
        return td_failed(error, TD_ENOMEM);
    for (size_t k = 0; k < td_scores_count(s); k++)
        visit(arg, td_scores_line(s, k, NULL).key);
    td_scores_close(s);
    return 0;
}

bool td_answers_lower_is_better(const char *key)
{
    return !strncmp(key, "perplexity", 10) || !strncmp(key, "bits_per", 8);
}

void td_answers_free(td_answers *a)
{
    free(a->task);
    json_decref(a->results);
    json_decref(a->groups);
    json_decref(a->samples);
    free(a->lines);
    memset(a, 0, sizeof *a);
}
