/* visibility.c - tokens that must be invisible: neighbours in the row, padding, and tokens
 * predicted later.
 *
 * Each test changes tokens that must be invisible and compares losses bit for bit. A mask that
 * hides a key by a large negative score, instead of leaving it out, fails here too. */
#include "check/cases.h"
#include "check/subject.h"

/* ---- other examples of the row --------------------------------------------------------------- */

/* Two examples in a row; all tokens of the first change, no loss of the second may. */
static void neighbours_of(td_subject *s)
{
    td_sentence two[2], changed[2];
    double      before[TD_TOKENS], after[TD_TOKENS], own[TD_TOKENS];
    int         n, first;
    bool        differs = false;

    td_sentences(two);
    td_sentences(changed);
    n = td_losses_of(s, two, 2, 2, before);
    first = td_losses_of(s, two, 1, 0, own); /* how many of the losses are the first example's */
    for (int k = 0; k < 4; k++) {
        changed[0].given[k] = 10 - changed[0].given[k];
        changed[0].predicted[k % 3] = (int32_t)(2 + k);
    }
    td_losses_of(s, changed, 2, 2, after);
    /* a model that reads nothing at all would pass the test below */
    for (int i = 0; i < first; i++)
        differs = differs || before[i] != after[i];
    if (!differs)
        td_check_finding(s->check, "%s: changing its tokens changes no loss", s->label);
    for (int i = first; i < n; i++)
        if (before[i] != after[i])
            td_check_finding(s->check,
                             "%s: token %d sees the previous example in its row: a masked key has "
                             "influence",
                             s->label, i - first);
}

void td_check_masked(td_check *c) { td_check_in_double(c, neighbours_of); }

/* ---- padding --------------------------------------------------------------------------------- */

/* Whether the array holds tokens, by its name: input_ids, encoder_ids, .. */
static bool holds_ids(const td_array *a)
{
    size_t n = strlen(a->name);
    return n >= 4 && !strcmp(a->name + n - 4, "_ids") && a->rank == 2;
}

/* The array that tells which places of `a` are padding, by the naming of kind/architecture.h. */
static const td_array *segments_of(const td_batch *b, const td_array *a)
{
    if (!strncmp(a->name, "encoder", 7))
        return td_batch_find(b, "encoder_segments");
    if (!strncmp(a->name, "decoder", 7))
        return td_batch_find(b, "decoder_segments");
    return td_batch_find(b, "segments");
}

/* Give padding other ids, within the vocabulary. */
static void change_padding(td_batch *b)
{
    for (int32_t k = 0; k < b->count; k++) {
        td_array       *a = &b->at[k];
        const td_array *segment = segments_of(b, a);
        /* without segments nothing tells padding from tokens */
        if (!holds_ids(a) || !segment)
            continue;
        for (int64_t i = 0; i < a->dim[0] * a->dim[1]; i++)
            if (!((const int32_t *)segment->data)[i])
                ((int32_t *)a->data)[i] = (int32_t)(1 + i % 9);
    }
}

/* Run twice with one graph: only the ids of padding differ. */
static void padding_of(td_subject *s)
{
    td_sentence two[2];
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n;
    td_sentences(two);
    /* several places of padding, in an encoder's stream too, where no causal mask hides them */
    td_trial t = td_trial_new(s, td_subject_batch(s, two, 1, 5));
    n = td_trial_losses(s, &t, before);
    change_padding(t.batch);
    td_trial_run(s, &t);
    td_trial_losses(s, &t, after);
    for (int i = 0; i < n; i++)
        if (before[i] != after[i])
            td_check_finding(s->check, "%s: token %d sees padding", s->label, i);
    td_trial_free(s, &t);
}

void td_check_padding(td_check *c) { td_check_in_double(c, padding_of); }

/* ---- the future ------------------------------------------------------------------------------ */

/* Changes the input at the position where the last token is predicted, in every array that is
 * aligned with the labels. Returns false if there is no such array. */
static bool change_last_input(td_batch *b)
{
    const td_array *weights = td_batch_find(b, "loss_weights");
    int64_t         last = weights->dim[1];
    bool            changed = false;
    /* padding has no weight: the last place with one predicts the last token */
    while (last > 0 && ((const float *)weights->data)[last - 1] == 0)
        last--;
    for (int32_t k = 0; last > 0 && k < b->count; k++) {
        td_array *a = &b->at[k];
        if (!holds_ids(a) || !strncmp(a->name, "encoder", 7) || a->dim[1] != weights->dim[1])
            continue;
        int32_t *id = (int32_t *)a->data + last - 1;
        *id = *id == 8 ? 9 : 8;
        changed = true;
    }
    return changed;
}

/* Keep the labels and change the last input. A token that sees one position too far would find its
 * own label there, which a change of labels alone cannot reveal. */
static void next_of(td_subject *s)
{
    td_sentence two[2];
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n;
    td_sentences(two);
    td_trial t = td_trial_new(s, td_subject_batch(s, &two[1], 1, 1));
    n = td_trial_losses(s, &t, before);
    /* a model that reads only encoded tokens has no such input */
    if (change_last_input(t.batch)) {
        td_trial_run(s, &t);
        td_trial_losses(s, &t, after);
        for (int i = 0; i < n - 1; i++)
            if (before[i] != after[i])
                td_check_finding(s->check,
                                 "%s: token %d sees the next input, which is its own label",
                                 s->label, i);
    }
    td_trial_free(s, &t);
}

/* Change one label near the end; earlier predictions must not change. */
static void future_of(td_subject *s)
{
    td_sentence two[2], changed[2];
    double      before[TD_TOKENS], after[TD_TOKENS];
    int         n;
    td_sentences(two);
    td_sentences(changed);
    n = td_losses_of(s, &two[1], 1, 1, before);
    changed[1].predicted[3] = 8; /* the last label but one, which the last token reads */
    td_losses_of(s, &changed[1], 1, 1, after);
    for (int i = 0; i < n - 2; i++)
        if (before[i] != after[i])
            td_check_finding(s->check, "%s: token %d sees a token that is predicted after it",
                             s->label, i);
    /* the converse: otherwise a model that ignores its input would pass */
    if (before[n - 2] == after[n - 2])
        td_check_finding(s->check, "%s: changing a label does not change its loss", s->label);
    if (before[n - 1] == after[n - 1])
        td_check_finding(s->check, "%s: the last token does not see the one before it", s->label);
    next_of(s);
}

void td_check_causality(td_check *c) { td_check_in_double(c, future_of); }
