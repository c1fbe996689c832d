/* split.c - the given and predicted parts of each loss, at odd lengths and at the shortest. */
#include "plugins/part.h"
#include "tandem/kind/loss.h"

static void *allocate(void *arena, size_t bytes)
{
    char **next = arena, *p = *next;
    *next += (bytes + 15) / 16 * 16;
    return p;
}

static char  room[4096];
static char *next_room = room;

static const td_split_in in = {
    { .bos = -1, .eos = 1, .unk = 2, .vocab_size = 61 }, 42, allocate, &next_room
};

static const td_loss *loss_of(const td_part *p) { return (const td_loss *)(const void *)p->plugin; }

static const int32_t tokens[] = { 11, 12, 13, 14, 15, 16, 17 },
                     documents[] = { 1, 1, 1, 2, 2, 3, 3 };
static const float weights[] = { 1, 0, 1, 0, 1, 1, 0 };

Test(causal_lm, predicts_all_of_a_run)
{
    td_part    p = load_part("loss-causal-lm", "causal-lm");
    td_record  r = { .targets = tokens,
                     .n_targets = 7,
                     .weights = weights,
                     .documents = documents,
                     .source = 3,
                     .id = 5 };
    td_example e;
    cr_assert(loss_of(&p)->split(p.config, &r, &in, &e, NULL) == 0);
    cr_expect(e.n_given == 0 && e.predicted == tokens && e.n_predicted == 7 &&
              e.weights == weights);
    cr_expect(e.predicted_documents == documents && e.source == 3 && e.id == 5);
    td_bounds b = loss_of(&p)->bounds(p.config, 13);
    cr_expect(b.raw == 13 && b.given == 0 && b.predicted == 13);
    free_part(&p);
}

Test(causal_lm, joins_a_pair)
{
    td_part   p = load_part("loss-causal-lm", "causal-lm");
    td_record r = {
        .inputs = tokens, .n_inputs = 2, .targets = tokens + 4, .n_targets = 3, .weights = weights
    };
    td_example e;
    cr_assert(loss_of(&p)->split(p.config, &r, &in, &e, NULL) == 0);
    cr_assert(e.n_given == 0 && e.n_predicted == 5);
    cr_expect(!memcmp(e.predicted, (int32_t[]){ 11, 12, 15, 16, 17 }, 5 * sizeof(int32_t)));
    cr_expect(!memcmp(e.weights, (float[]){ 1, 1, 1, 0, 1 }, 5 * sizeof(float)));
    free_part(&p);
}

Test(causal_lm, refuses_nothing)
{
    td_part    p = load_part("loss-causal-lm", "causal-lm");
    td_record  r = { .targets = tokens, .n_targets = 0 };
    td_example e;
    td_error   error = { 0 };
    cr_expect(loss_of(&p)->split(p.config, &r, &in, &e, &error) == TD_EFORMAT && *error.text);
    free_part(&p);
}

Test(prefix_lm, cuts_in_half)
{
    td_part   p = load_part("loss-prefix-lm", "prefix-lm");
    td_record r = { .targets = tokens, .n_targets = 7, .weights = weights, .documents = documents };
    td_example e;
    cr_assert(loss_of(&p)->split(p.config, &r, &in, &e, NULL) == 0);
    cr_expect(e.given == tokens && e.n_given == 3 && e.predicted == tokens + 3 &&
              e.n_predicted == 4);
    cr_expect(e.weights == weights + 3 && e.given_documents == documents &&
              e.predicted_documents == documents + 3);
    td_bounds b = loss_of(&p)->bounds(p.config, 7);
    cr_expect(b.raw == 7 && b.given == 3 && b.predicted == 4);
    free_part(&p);
}

Test(prefix_lm, keeps_pairs_apart)
{
    td_part    p = load_part("loss-prefix-lm", "prefix-lm");
    td_record  r = { .inputs = tokens, .n_inputs = 5, .targets = tokens + 5, .n_targets = 2 };
    td_example e;
    cr_assert(loss_of(&p)->split(p.config, &r, &in, &e, NULL) == 0);
    cr_expect(e.given == tokens && e.n_given == 5 && e.predicted == tokens + 5 &&
              e.n_predicted == 2);
    free_part(&p);
}

/* Every cut from 1 to T-1 comes up, and no other; the same record is always cut at the same
 * place. */
Test(prefix_lm, random_cuts_cover_the_range)
{
    td_part    p = load_part("loss-prefix-lm", "prefix-lm");
    int        seen[8] = { 0 };
    td_example e, again;
    set_option(&p, "split", 1);
    for (uint64_t id = 0; id < 300; id++) {
        td_record r = { .targets = tokens, .n_targets = 7, .id = id };
        cr_assert(loss_of(&p)->split(p.config, &r, &in, &e, NULL) == 0);
        cr_assert(loss_of(&p)->split(p.config, &r, &in, &again, NULL) == 0);
        cr_assert(e.n_given >= 1 && e.n_given <= 6 && e.n_given + e.n_predicted == 7 &&
                  again.n_given == e.n_given);
        seen[e.n_given]++;
    }
    for (int k = 1; k < 7; k++)
        cr_expect(seen[k] > 20, "cut %d came up %d times of 300", k, seen[k]);
    td_bounds b = loss_of(&p)->bounds(p.config, 7);
    cr_expect(b.raw == 7 && b.given == 6 && b.predicted == 6);
    free_part(&p);
}

Test(prefix_lm, refuses_texts_too_short_to_cut)
{
    td_part   p = load_part("loss-prefix-lm", "prefix-lm");
    td_record one = { .targets = tokens, .n_targets = 1 },
              five = { .targets = tokens, .n_targets = 5 };
    td_example e;
    cr_expect(loss_of(&p)->split(p.config, &one, &in, &e, NULL) == TD_EFORMAT);
    set_option(&p, "prefix", 5);
    cr_expect(loss_of(&p)->split(p.config, &five, &in, &e, NULL) == TD_EFORMAT);
    set_option(&p, "prefix", 4);
    cr_expect(loss_of(&p)->split(p.config, &five, &in, &e, NULL) == 0 && e.n_given == 4 &&
              e.n_predicted == 1);
    free_part(&p);
}
