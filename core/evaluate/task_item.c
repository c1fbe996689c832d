/* task_item.c - one item of a task as texts: question, target, choices, correct answers. */
#include <stdlib.h>
#include <string.h>

#include "evaluate/task.h"

static int out_of_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for an item");
}

/* The text of a template for an item, or "" without a template; free() it. */
static int render(const td_template *t, const json_t *item, char **out, td_error *error)
{
    td_text text = { 0 };
    int     code = t ? td_template_render(t, item, &text, error) : 0;
    *out = code ? NULL : text.data ? text.data : strdup("");
    if (code)
        td_text_free(&text);
    return code || *out ? code : out_of_memory(error);
}

static int render_element(const td_template *t, const json_t *item, const json_t *list, size_t k,
                          char **out, td_error *error)
{
    td_text text = { 0 };
    int     code = td_template_render_element(t, item, list, k, &text, error);
    *out = code ? NULL : text.data ? text.data : strdup("");
    if (code)
        td_text_free(&text);
    return code || *out ? code : out_of_memory(error);
}

int td_task_by(const td_task *t, const json_t *item, char **out, td_error *error)
{
    char *found;
    int   code = render(t->by, item, out, error);
    if (code || !t->by_filter)
        return code;
    /* items of files such as anatomy_test.csv belong to the exemplars of anatomy_dev.csv */
    found = td_filter_apply(t->by_filter, *out, error);
    if (!found)
        code = td_fail(error, TD_EFORMAT,
                       "task.by is '%.200s', in which task.by_regex '%s' matches nothing", *out,
                       t->options.by_regex);
    free(*out);
    *out = found;
    return code;
}

/* ---- choices --------------------------------------------------------------------------------- */

/* The list that the task's choices are made from; NULL if it has no list, or after an error. */
static const json_t *choice_list(const td_task *t, const json_t *item, td_error *error)
{
    const char   *path = t->options.choices;
    const json_t *list = *path ? td_template_find(item, path) : NULL;
    /* an empty list has no correct choice */
    if (!*path || (json_is_array(list) && json_array_size(list)))
        return list;
    if (!list) {
        td_text names = { 0 };
        td_template_names(item, &names);
        td_fail(error, TD_EFORMAT,
                "the item has no field '%s', which task.choices names; it has: "
                "%.600s",
                path, td_text_get(&names));
        td_text_free(&names);
    } else
        td_fail(error, TD_EFORMAT, "field '%s' is not a list of choices", path);
    return NULL;
}

static int make_choices(const td_task *t, const json_t *item, td_task_item *out, td_error *error)
{
    const json_t *list = choice_list(t, item, error);
    size_t        n = list ? json_array_size(list) : t->n_choice;
    int           code = *t->options.choices && !list ? td_failed(error, TD_EFORMAT) : 0;
    if (code)
        return code;
    out->choices = calloc(n, sizeof *out->choices);
    if (!out->choices)
        return out_of_memory(error);
    /* a list has one template for all its elements; without a list each choice has its own */
    for (; out->n_choices < n && !code; out->n_choices++)
        code = list ? render_element(t->choice[0], item, list, out->n_choices,
                                     &out->choices[out->n_choices], error)
                    : render(t->choice[out->n_choices], item, &out->choices[out->n_choices], error);
    return code;
}

/* The index of the choice whose label is `gold`. */
static int find_label(const td_task *t, const json_t *item, const char *gold, td_task_item *out,
                      td_error *error)
{
    const td_strings *labels = &t->options.labels;
    const json_t     *list = choice_list(t, item, error);
    for (size_t k = 0; k < out->n_choices; k++) {
        char *own = NULL;
        bool  same;
        if (t->label && render_element(t->label, item, list, k, &own, error))
            return td_failed(error, TD_EFORMAT);
        /* labels are part of the elements, or listed in the order of the choices */
        same = own ? !strcmp(own, gold) : k < labels->count && !strcmp(labels->at[k], gold);
        free(own);
        if (same) {
            out->gold = k;
            return 0;
        }
    }
    return td_fail(error, TD_EFORMAT,
                   "task.gold is '%.100s', which is not the label of any of the %zu choices", gold,
                   out->n_choices);
}

static int find_gold(const td_task *t, const json_t *item, td_task_item *out, td_error *error)
{
    char *gold, *end;
    int   code = render(t->gold, item, &gold, error);
    if (code)
        return code;
    if (t->label || t->options.labels.count)
        code = find_label(t, item, gold, out, error);
    else {
        /* a number and nothing else: "2 apples" is not an index */
        long index = strtol(gold, &end, 10);
        if (end == gold || *end || index < 0 || (size_t)index >= out->n_choices)
            code = td_fail(error, TD_EFORMAT,
                           "task.gold is '%.100s': it must be the index of one of the %zu "
                           "choices, from 0, or set task.labels",
                           gold, out->n_choices);
        else
            out->gold = (size_t)index;
    }
    free(gold);
    return code;
}

/* ---- right answers --------------------------------------------------------------------------- */

static int add_reference(const td_task *t, td_task_item *out, const char *text, td_error *error)
{
    char **larger = realloc(out->references, (out->n_references + 1) * sizeof *larger);
    char  *reference;
    if (!larger)
        return out_of_memory(error);
    out->references = larger;
    reference = t->reference ? td_filter_apply(t->reference, text, error) : strdup(text);
    if (!reference)
        return td_fail(error, TD_EFORMAT,
                       "task.reference_steps find nothing in the correct answer '%.200s'", text);
    larger[out->n_references++] = reference;
    return 0;
}

static int make_references(const td_task *t, const json_t *item, td_task_item *out, td_error *error)
{
    const char   *path = t->options.references;
    const json_t *v = *path ? td_template_find(item, path) : NULL;
    int           code = 0;
    /* an exemplar's answer counts as correct as well */
    if (!*path)
        return out->target ? add_reference(t, out, out->target, error) : 0;
    if (json_is_string(v))
        return add_reference(t, out, json_string_value(v), error);
    if (!json_is_array(v) || !json_array_size(v))
        return td_fail(error, TD_EFORMAT,
                       "the item has no text or list of texts '%s', which task.references names",
                       path);
    for (size_t k = 0; k < json_array_size(v) && !code; k++) {
        const char *text = json_string_value(json_array_get(v, k));
        code = text ? add_reference(t, out, text, error)
                    : td_fail(error, TD_EFORMAT, "'%s.%zu' is not a text", path, k);
    }
    return code;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* For a generated text, choices only determine the score of guessing: an item may lack them. */
static bool has_choices(const td_task *t, const json_t *item)
{
    if (t->options.output_type != TD_MULTIPLE_CHOICE && *t->options.choices)
        return json_is_array(td_template_find(item, t->options.choices));
    return *t->options.choices || t->options.doc_to_choice.count;
}

int td_task_item_open(const td_task *t, const json_t *item, td_task_item *out, td_error *error)
{
    int code;
    memset(out, 0, sizeof *out);
    code = render(t->text, item, &out->text, error);
    if (!code)
        code = render(t->description, item, &out->description, error);
    if (!code && has_choices(t, item))
        code = make_choices(t, item, out, error);
    if (!code && out->n_choices && t->gold)
        code = find_gold(t, item, out, error);
    /* without a target, a multiple choice shows the correct choice */
    if (!code && t->target)
        code = render(t->target, item, &out->target, error);
    else if (!code && out->n_choices) {
        out->target = strdup(out->choices[out->gold]);
        code = out->target ? 0 : out_of_memory(error);
    }
    if (!code)
        code = make_references(t, item, out, error);
    if (!code)
        code = td_task_by(t, item, &out->by, error);
    return code;
}

void td_task_item_close(td_task_item *i)
{
    for (size_t k = 0; i->choices && k < i->n_choices; k++)
        free(i->choices[k]);
    for (size_t k = 0; k < i->n_references; k++)
        free(i->references[k]);
    free(i->choices);
    free(i->references);
    free(i->text);
    free(i->description);
    free(i->target);
    free(i->by);
    memset(i, 0, sizeof *i);
}
