/* prompts.c - chooses exemplars, puts them in front of a question, and tokenizes both. */
#include "evaluate/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "generate/encode.h"
#include "tandem/random.h"

/* Ready-made exemplars, cut into pieces, or all exemplars rendered for one value of `by`. */
typedef struct pool {
    char  *by;
    char  *description; /* description of ready-made ones, or NULL */
    char **at;
    size_t count, room;
} pool;

struct td_prompts {
    const td_task  *task;
    td_prompts_spec spec;
    pool           *pools; /* keyed by the value of `by` */
    size_t          n_pools;
};

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the prompts of a task");
}

/* ---- pools ----------------------------------------------------------------------------------- */

static pool *find_pool(const td_prompts *p, const char *by)
{
    for (size_t k = 0; k < p->n_pools; k++)
        if (!strcmp(p->pools[k].by, by))
            return &p->pools[k];
    return NULL;
}

static pool *make_pool(td_prompts *p, const char *by)
{
    /* linear: there is one pool per subject, so dozens */
    pool *found = find_pool(p, by), *larger;
    if (found)
        return found;
    larger = realloc(p->pools, (p->n_pools + 1) * sizeof *larger);
    if (!larger)
        return NULL;
    p->pools = larger;
    larger[p->n_pools] = (pool){ .by = strdup(by) };
    return larger[p->n_pools].by ? &larger[p->n_pools++] : NULL;
}

/* Takes ownership of the text. */
static int add_exemplar(pool *to, char *text, td_error *error)
{
    if (text && to->count == to->room) {
        size_t room = to->room ? 2 * to->room : 8;
        char **larger = realloc(to->at, room * sizeof *larger);
        if (!larger) {
            free(text);
            return out_of_memory(error);
        }
        to->at = larger;
        to->room = room;
    }
    if (!text)
        return out_of_memory(error);
    to->at[to->count++] = text;
    return 0;
}

/* Exemplars become turns of a chat, except ready-made texts: their questions and answers cannot be
 * separated. */
static bool are_turns(const td_prompts *p)
{
    return p->spec.chat.on && !p->task->options.fewshot_text.count && !p->task->fewshot_context;
}

/* Question, delimiter, answer: an item as an exemplar shows it, or as two turns. */
static int render_exemplar(const td_prompts *p, const json_t *doc, const td_task_item *item,
                           td_text *out, td_error *error)
{
    const td_task         *t = p->task;
    const td_prompts_chat *chat = are_turns(p) ? &p->spec.chat : NULL;
    int                    code = 0;
    if (chat)
        td_text_print(out, "%s", chat->user.prefix);
    /* with multiple inputs the beginning is the right choice, then the common rest follows */
    if (t->options.multiple_inputs)
        td_text_print(out, "%s", item->choices[item->gold]);
    else if (t->fewshot_text)
        code = td_template_render(t->fewshot_text, doc, out, error);
    else
        td_text_print(out, "%s", item->text);
    if (chat)
        td_text_print(out, "%s%s", chat->user.suffix, chat->answer.prefix);
    else
        td_text_print(out, "%s", t->options.target_delimiter);
    if (!code && t->fewshot_target)
        code = td_template_render(t->fewshot_target, doc, out, error);
    else if (item->target)
        td_text_print(out, "%s", item->target);
    if (chat)
        td_text_print(out, "%s", chat->answer.suffix);
    return code;
}

static int add_item(td_prompts *p, const json_t *doc, td_error *error)
{
    td_task_item item;
    td_text      text = { 0 };
    int          code = td_task_item_open(p->task, doc, &item, error);
    pool        *to = code ? NULL : make_pool(p, item.by);
    if (!code && !to)
        code = out_of_memory(error);
    if (!code)
        code = render_exemplar(p, doc, &item, &text, error);
    if (!code)
        /* its own from here on, even if it fails */
        code = add_exemplar(to, text.failed ? NULL : text.data, error);
    else
        td_text_free(&text);
    td_task_item_close(&item);
    return code;
}

/* ---- ready-made exemplars -------------------------------------------------------------------- */

/* Where the next exemplar begins, at or after `at`: at the start of a line. */
static const char *next_begin(const char *text, const char *at, const char *begin)
{
    for (; (at = strstr(at, begin)); at++)
        if (at == text || at[-1] == '\n')
            return at;
    return NULL;
}

/* Removes trailing white space, which belongs to the delimiter. */
static char *piece_of(const char *begin, const char *end)
{
    while (end > begin && strchr(" \n\r\t", end[-1]))
        end--;
    return strndup(begin, (size_t)(end - begin));
}

static int cut(pool *to, const char *text, const char *begin, td_error *error)
{
    const char *at = next_begin(text, text, begin);
    int         code = 0;
    /* the text before the first exemplar is the description, kept even without exemplars */
    if (at && at > text && !(to->description = piece_of(text, at)))
        return out_of_memory(error);
    while (at && !code) {
        const char *next = next_begin(text, at + 1, begin);
        code = add_exemplar(to, piece_of(at, next ? next : at + strlen(at)), error);
        at = next;
    }
    return code;
}

/* The text after the task's filter steps; free() it. */
static char *edited(const td_prompts *p, const char *text, td_error *error)
{
    char *out = p->task->fewshot ? td_filter_apply(p->task->fewshot, text, error) : strdup(text);
    if (!out)
        td_fail(error, TD_EFORMAT, "task.fewshot_steps find nothing in a text of exemplars");
    return out;
}

static int add_context(td_prompts *p, const json_t *doc, td_error *error)
{
    td_text text = { 0 };
    char   *by = NULL, *context = NULL;
    int     code = td_task_by(p->task, doc, &by, error);
    /* one text of exemplars serves all items with this value of task.by */
    pool   *to = code ? NULL : make_pool(p, by);
    if (!code && !to)
        code = out_of_memory(error);
    if (!code)
        code = td_template_render(p->task->fewshot_context, doc, &text, error);
    if (!code) {
        context = edited(p, td_text_get(&text), error);
        code = context ? 0 : td_failed(error, TD_ENOMEM);
    }
    if (!code)
        code = cut(to, context, p->task->options.fewshot_begin, error);
    td_text_free(&text);
    free(context);
    free(by);
    return code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int add_texts(td_prompts *p, td_error *error)
{
    const td_strings *s = &p->task->options.fewshot_text;
    pool             *to = make_pool(p, "");
    int               code = to ? 0 : out_of_memory(error);
    for (size_t k = 0; k < s->count && !code; k++)
        code = add_exemplar(to, strdup(s->at[k]), error);
    return code;
}

static int add_all(td_prompts *p, td_error *error)
{
    const json_t *all = p->task->exemplars.all;
    td_error      e = { 0 };
    int           code = p->task->options.fewshot_text.count ? add_texts(p, &e) : 0;
    for (size_t k = 0; k < json_array_size(all) && !code; k++) {
        code = p->task->fewshot_context ? add_context(p, json_array_get(all, k), &e)
                                        : add_item(p, json_array_get(all, k), &e);
        if (code)
            return td_fail(error, code, "task '%s', exemplar %zu: %s (%s)", p->task->options.name,
                           k + 1, e.text, td_items_place(json_array_get(all, k)));
    }
    return code ? td_fail(error, code, "task '%s': %s", p->task->options.name, e.text) : 0;
}

td_prompts *td_prompts_open(const td_task *task, const td_prompts_spec *spec, td_error *error)
{
    td_prompts *p = calloc(1, sizeof *p);
    if (!p) {
        out_of_memory(error);
        return NULL;
    }
    p->task = task;
    p->spec = *spec;
    if (!add_all(p, error))
        return p;
    td_prompts_close(p);
    return NULL;
}

void td_prompts_close(td_prompts *p)
{
    if (!p)
        return;
    for (size_t k = 0; k < p->n_pools; k++) {
        for (size_t i = 0; i < p->pools[k].count; i++)
            free(p->pools[k].at[i]);
        free(p->pools[k].at);
        free(p->pools[k].by);
        free(p->pools[k].description);
    }
    free(p->pools);
    free(p);
}

static int64_t wanted(const td_prompts *p)
{
    return p->spec.shots >= 0 ? p->spec.shots : p->task->options.num_fewshot;
}

int64_t td_prompts_shots(const td_prompts *p)
{
    int64_t most = 0;
    for (size_t k = 0; k < p->n_pools; k++)
        if ((int64_t)p->pools[k].count > most)
            most = (int64_t)p->pools[k].count;
    return most < wanted(p) ? most : wanted(p);
}

/* ---- exemplars of an item -------------------------------------------------------------------- */

/* Indices of `n` of the pool's exemplars: the first ones, or drawn without replacement. */
static void choose(const td_prompts *p, const pool *from, int64_t item, int64_t n, size_t *out)
{
    for (size_t k = 0; k < from->count; k++)
        out[k] = k;
    if (p->task->options.fewshot_sampler != TD_SAMPLER_RANDOM)
        return;
    for (size_t k = 0; k < (size_t)n; k++) {
        /* partial Fisher-Yates shuffle, keyed by item, so that the order of items does not
         * matter */
        size_t left = from->count - k;
        size_t other = k + (size_t)td_random_below((uint64_t)p->spec.seed, (uint64_t)item, k, left);
        size_t kept = out[k];
        out[k] = out[other];
        out[other] = kept;
    }
}

/* The description as the turn of the system; without such a role it stands in front as it is. */
static void write_description(const td_prompts *p, const char *text, td_text *out)
{
    const td_chat_role *system = &p->spec.chat.system;
    size_t              n = strlen(text);
    if (!p->spec.chat.on || !p->spec.chat.has_system || !n) {
        td_text_print(out, "%s", text);
        return;
    }
    /* white space at its end separates it from what follows, which the suffix does here */
    while (n && strchr(" \n\r\t", text[n - 1]))
        n--;
    td_text_print(out, "%s%.*s%s", system->prefix, (int)n, text, system->suffix);
}

/* Description, exemplars from `first` on, question. */
static int write_prompt(const td_prompts *p, const td_task_item *item, const pool *from,
                        const size_t *chosen, int64_t first, int64_t n, const char *question,
                        td_text *out, td_error *error)
{
    const td_task_options *o = &p->task->options;
    const td_prompts_chat *chat = p->spec.chat.on ? &p->spec.chat : NULL;
    bool                   turns = are_turns(p);
    td_text_free(out);
    write_description(p, item->description, out);
    /* the description and ready-made texts are part of the question's turn */
    if (chat && !turns)
        td_text_print(out, "%s", chat->user.prefix);
    if (from && from->description)
        td_text_print(out, "%s%s", from->description, o->fewshot_delimiter);
    for (int64_t k = first; k < n; k++)
        td_text_print(out, "%s%s", from->at[chosen[k]], turns ? "" : o->fewshot_delimiter);
    td_text_print(out, "%s%s", turns ? chat->user.prefix : "", question);
    if (chat)
        td_text_print(out, "%s%s", chat->user.suffix, chat->answer.prefix);
    return out->failed ? out_of_memory(error) : 0;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static td_encoder encoder_of(const td_prompts *p)
{
    return (td_encoder){ p->spec.tokenizer, p->spec.state };
}

/* In a chat the answer's tokens are encoded separately, as in training. */
static int encode_answer(const td_prompts *p, const td_asked *a, size_t keep, const char *answer,
                         int32_t **out, int64_t *n, td_error *error)
{
    td_encoder e = encoder_of(p);
    td_text    both = { 0 };
    int        code;
    if (p->spec.chat.on)
        return td_encode(&e, answer, strlen(answer), out, n, error);
    td_text_append(&both, a->text, keep);
    td_text_print(&both, "%s%s%s", a->text + keep, p->task->options.target_delimiter, answer);
    code = both.failed ? out_of_memory(error)
                       : td_encode_answer(&e, both.data, both.size, keep, a->given, a->n_given, out,
                                          n, error);
    td_text_free(&both);
    return code;
}

static int encode_all(const td_prompts *p, const char *const *answers, size_t n_answers,
                      td_asked *out, int64_t *longest, td_error *error)
{
    td_encoder e = encoder_of(p);
    size_t     keep = p->spec.chat.on || !n_answers ? strlen(out->text) : td_encode_kept(out->text);
    int        code;
    free(out->given);
    out->given = NULL;
    code = td_encode(&e, out->text, keep, &out->given, &out->n_given, error);
    *longest = 0;
    for (size_t k = 0; k < n_answers && !code; k++) {
        free(out->target[k]);
        out->target[k] = NULL;
        code = encode_answer(p, out, keep, answers[k], &out->target[k], &out->n_target[k], error);
        /* its log-likelihood would be 0, as if it were certain */
        if (!code && !out->n_target[k])
            code = td_fail(error, TD_EFORMAT, "the answer '%.100s' has no tokens", answers[k]);
        if (!code && out->n_target[k] > *longest)
            *longest = out->n_target[k];
    }
    return code;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static int open_asked(td_asked *a, size_t n_answers, td_error *error)
{
    memset(a, 0, sizeof *a);
    a->answers = (int64_t)n_answers;
    a->target = calloc(n_answers + 1, sizeof *a->target);
    a->n_target = calloc(n_answers + 1, sizeof *a->n_target);
    return a->target && a->n_target ? 0 : out_of_memory(error);
}

/* The exemplars for an item, or NULL. Exemplars given as texts apply to all items. */
static int find_exemplars(const td_prompts *p, const td_task_item *item, const pool **out,
                          td_error *error)
{
    *out = find_pool(p, item->by);
    if (!*out)
        *out = find_pool(p, "");
    return !*out && p->n_pools && wanted(p)
               ? td_fail(error, TD_EFORMAT, "no exemplars for '%s'", item->by)
               : 0;
}

/* A question and the answers to score after it. */
typedef struct question {
    const td_task_item *item;
    const char         *text;
    const char *const  *answers;
    size_t              n_answers;
    int64_t             room; /* tokens reserved for a generated answer */
} question;

/* Builds the prompt with all `n` exemplars, then with one fewer each time until it fits. */
static int fit(const td_prompts *p, const question *q, const pool *from, const size_t *chosen,
               int64_t n, td_asked *out, td_error *error)
{
    td_text prompt = { 0 };
    int64_t longest = 0, all = 0;
    int     code = 0;
    for (out->dropped = 0; !code; out->dropped++) {
        code = write_prompt(p, q->item, from, chosen, out->dropped, n, q->text, &prompt, error);
        out->text = prompt.data ? prompt.data : (char *)"";
        if (!code)
            code = encode_all(p, q->answers, q->n_answers, out, &longest, error);
        all = out->n_given + (longest > q->room ? longest : q->room);
        /* the question itself is never cut, even if it alone is too long */
        if (code || out->dropped == n || all <= p->spec.max_length)
            break;
    }
    out->over = all > p->spec.max_length;
    out->shots = n - out->dropped;
    out->text = code ? NULL : prompt.data ? prompt.data : strdup("");
    if (code)
        td_text_free(&prompt);
    return code || out->text ? code : out_of_memory(error);
}

int td_prompts_ask(const td_prompts *p, int64_t index, const td_task_item *item, const char *text,
                   const char *const *answers, size_t n_answers, int64_t room, td_asked *out,
                   td_error *error)
{
    const question q = { item, text, answers, n_answers, room };
    const pool    *from = NULL;
    size_t        *chosen = NULL;
    int64_t        n = 0;
    int            code = open_asked(out, n_answers, error);

    if (!code)
        code = find_exemplars(p, item, &from, error);
    if (!code) {
        chosen = calloc((from ? from->count : 0) + 1, sizeof *chosen);
        code = chosen ? 0 : out_of_memory(error);
    }
    if (!code && from) {
        n = wanted(p) < (int64_t)from->count ? wanted(p) : (int64_t)from->count;
        choose(p, from, index, n, chosen);
    }
    /* drops exemplars, the first one first, until prompt and answer fit */
    if (!code)
        code = fit(p, &q, from, chosen, n, out, error);
    if (!code)
        td_encode_end(&p->spec.special, p->spec.append_eos, out->given, &out->n_given);
    free(chosen);
    return code;
}

void td_asked_free(td_asked *a)
{
    for (int64_t k = 0; a->target && k < a->answers; k++)
        free(a->target[k]);
    free(a->target);
    free(a->n_target);
    free(a->given);
    free(a->text);
    memset(a, 0, sizeof *a);
}
