/* answers_score.c - scores the answers to a task's items, one by one. */
#include <stdlib.h>
#include <string.h>

#include "evaluate/answers_job.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for the scores of a task");
}

/* ---- scores ---------------------------------------------------------------------------------- */

static json_t *sample_of(const td_answers_job *j, int64_t index)
{
    const td_asked_item *a = &j->items[index];
    json_t              *doc = json_copy(json_array_get(j->task->items.all, (size_t)index));
    json_t              *arguments = json_object();
    for (size_t i = 0, n = 0; i < a->n_asked; i++)
        for (int64_t k = 0; k < (j->generates ? 1 : a->asked[i].answers); k++, n++) {
            char        name[40];
            const char *target = j->task->options.output_type == TD_MULTIPLE_CHOICE &&
                                         !j->task->options.multiple_inputs
                                     ? a->item.choices[k]
                                     : a->item.target;
            snprintf(name, sizeof name, "gen_args_%zu", n);
            if (j->generates)
                json_object_set_new(arguments, name, json_pack("{s:s}", "arg_0", a->asked[i].text));
            else
                json_object_set_new(arguments, name,
                                    json_pack("{s:s, s:o}", "arg_0", a->asked[i].text, "arg_1",
                                              json_sprintf("%s%s",
                                                           j->spec->prompts.chat.on
                                                               ? ""
                                                               : j->task->options.target_delimiter,
                                                           target)));
        }
    json_object_del(doc, "@file"); /* keep the data set's own fields */
    json_object_del(doc, "@folder");
    json_object_del(doc, "@place");
    return json_pack("{s:I, s:o, s:s?, s:o, s:I}", "doc_id", (json_int_t)index, "doc", doc,
                     "target", a->item.target, "arguments", arguments, "shots",
                     (json_int_t)(a->n_asked ? a->asked[0].shots : 0));
}

/* One text per filter. */
static int score_text(td_answers_job *j, int64_t index, json_t *sample, td_error *error)
{
    const td_asked_item *a = &j->items[index];
    td_answer           *answers = calloc(j->task->n_filters + 1, sizeof *answers);
    char               **found = calloc(j->task->n_filters + 1, sizeof *found);
    json_t              *filtered = json_array();
    int                  code = answers && found && filtered ? 0 : out_of_memory(error);
    for (size_t f = 0; f < j->task->n_filters && !code; f++) {
        found[f] = td_filter_apply(j->task->filters[f], a->text, error);
        code = !found[f] && error->code ? error->code : 0;
        answers[f] = (td_answer){ .text = found[f],
                                  .references = (const char *const *)a->item.references,
                                  .n_references = a->item.n_references };
        json_array_append_new(filtered, found[f] ? json_string(found[f]) : json_null());
    }
    if (!code) {
        /* the first filter is the task's own; others are variants of it */
        j->out->unanswered += !found[0];
        json_object_set_new(sample, "resps", json_pack("[[s]]", a->text));
        json_object_set(sample, "filtered_resps", filtered);
        code = td_scores_add(j->scores, index, a->item.by, answers, error);
    }
    for (size_t f = 0; found && f < j->task->n_filters; f++)
        free(found[f]);
    json_decref(filtered);
    free(answers);
    free(found);
    return code;
}

/* Takes the log-likelihoods of an item's choices, from `*next` on. */
static int score_choices(td_answers_job *j, int64_t index, int64_t *next, json_t *sample,
                         td_error *error)
{
    const td_asked_item *a = &j->items[index];
    size_t               n = a->item.n_choices;
    double              *logprob = calloc(n + 1, sizeof *logprob);
    int64_t  *tokens = calloc(n + 1, sizeof *tokens), *bytes = calloc(n + 1, sizeof *bytes);
    json_t   *resps = json_array();
    td_answer answer = {
        .logprob = logprob, .tokens = tokens, .bytes = bytes, .n_choices = n, .gold = a->item.gold
    };
    int code = logprob && tokens && bytes && resps ? 0 : out_of_memory(error);
    for (size_t k = 0; k < n && !code; k++) {
        /* in the order in which they were collected */
        const td_scored *s = &j->scored[(*next)++];
        logprob[k] = s->logprob;
        tokens[k] = s->n_target;
        bytes[k] = (int64_t)strlen(j->task->options.multiple_inputs ? a->item.target
                                                                    : a->item.choices[k]);
        json_array_append_new(resps, json_pack("[[f, b]]", s->logprob, s->greedy));
    }
    if (!code) {
        json_object_set(sample, "resps", resps);
        code = td_scores_add(j->scores, index, a->item.by, &answer, error);
    }
    json_decref(resps);
    free(logprob);
    free(tokens);
    free(bytes);
    return code;
}

static void score_target(td_answers_job *j, int64_t index, int64_t *next, json_t *sample)
{
    const td_scored *s = &j->scored[(*next)++];
    j->logprob += s->logprob;
    j->greedy += s->greedy;
    j->bytes += (double)(strlen(j->items[index].item.target) +
                         strlen(j->task->options.target_delimiter));
    json_object_set_new(sample, "resps", json_pack("[[[f, b]]]", s->logprob, s->greedy));
    json_object_set_new(sample, "acc", json_real(s->greedy ? 1 : 0));
}

int td_answers_score(td_answers_job *j, td_error *error)
{
    /* collect() listed the answers item by item, and `next` walks through that list */
    int64_t next = 0;
    int     code = 0;
    for (int64_t k = 0; k < j->count && !code; k++) {
        json_t *sample = sample_of(j, k);
        if (!sample)
            return out_of_memory(error);
        if (j->generates)
            code = score_text(j, k, sample, error);
        else if (j->task->options.output_type == TD_MULTIPLE_CHOICE)
            code = score_choices(j, k, &next, sample, error);
        else
            score_target(j, k, &next, sample);
        if (!code && j->scores)
            td_scores_of_item(j->scores, k, sample);
        json_array_append_new(j->out->samples, sample);
    }
    return code;
}
