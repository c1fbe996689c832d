/* sample.c - drawn tokens have the distribution that the filters leave, independently of other
 * draws. */
#include <criterion/criterion.h>
#include <math.h>

#include "generate/sample.h"

enum { VOCAB = 7, DRAWS = 200000 };

static const float logits[VOCAB] = { 0.5f, 2.0f, -1.0f, 1.5f, 2.0f, -INFINITY, 0.0f };

static int32_t draw(td_sampler *s, const td_sampling *o, uint64_t index)
{
    td_draw d = { logits, NULL, 0, 11, index };
    return td_sample(s, o, &d, NULL);
}

/* Counts against the probabilities that `weight` is proportional to: each within five standard
 * deviations. The draws are a function of the seed, so this passes always or never. */
static void expect_distribution(const td_sampling *o, const double *weight)
{
    td_sampler *s = td_sampler_new(VOCAB);
    int64_t     count[VOCAB] = { 0 };
    double      sum = 0;
    for (int k = 0; k < VOCAB; k++)
        sum += weight[k];
    for (uint64_t i = 0; i < DRAWS; i++)
        count[draw(s, o, i)]++;
    for (int k = 0; k < VOCAB; k++) {
        double p = weight[k] / sum, sd = sqrt(DRAWS * p * (1 - p));
        cr_expect(fabs((double)count[k] - DRAWS * p) <= 5 * sd, "token %d: %ld of %d, not %g", k,
                  (long)count[k], DRAWS, DRAWS * p);
    }
    td_sampler_free(s);
}

static td_sampling sampling(double temperature)
{
    td_sampling o = td_sampling_greedy();
    o.temperature = temperature;
    o.seed = 5;
    return o;
}

static void weigh(double *weight, double temperature)
{
    for (int k = 0; k < VOCAB; k++)
        weight[k] = exp(logits[k] / temperature);
}

Test(sample, greedy_takes_the_most_likely_and_of_equal_ones_the_first)
{
    td_sampling o = td_sampling_greedy();
    td_sampler *s = td_sampler_new(VOCAB);
    double      logprob, sum = 0;
    td_draw     d = { logits, NULL, 0, 0, 0 };
    cr_expect_eq(td_sample(s, &o, &d, &logprob), 1);
    for (int k = 0; k < VOCAB; k++)
        sum += exp(logits[k]);
    cr_expect_float_eq(logprob, 2 - log(sum), 1e-12);
    td_sampler_free(s);
}

Test(sample, temperature_alone)
{
    double      weight[VOCAB];
    td_sampling o = sampling(0.7);
    weigh(weight, 0.7);
    expect_distribution(&o, weight);
}

Test(sample, top_k)
{
    double      weight[VOCAB];
    td_sampling o = sampling(1.3);
    o.top_k = 3; /* tokens 1, 4 and 3 */
    weigh(weight, 1.3);
    weight[0] = weight[2] = weight[6] = 0;
    expect_distribution(&o, weight);
}

Test(sample, top_k_keeps_the_lower_id_of_equal_ones)
{
    td_sampling o = sampling(1);
    td_sampler *s = td_sampler_new(VOCAB);
    o.top_k = 1;
    for (uint64_t i = 0; i < 100; i++)
        cr_expect_eq(draw(s, &o, i), 1);
    td_sampler_free(s);
}

Test(sample, top_p_keeps_the_token_that_crosses_the_border)
{
    double      weight[VOCAB], sum = 0;
    td_sampling o = sampling(1);
    weigh(weight, 1);
    for (int k = 0; k < VOCAB; k++)
        sum += weight[k];
    o.top_p = (2 * exp(2) + 0.01) / sum; /* tokens 1 and 4 fall just short of it: 3 stays too */
    weight[0] = weight[2] = weight[6] = 0;
    expect_distribution(&o, weight);
}

Test(sample, top_p_is_a_share_of_the_top_k_tokens)
{
    double      weight[VOCAB];
    td_sampling o = sampling(1);
    weigh(weight, 1);
    o.top_k = 3;
    o.top_p = 2 * exp(2) / (2 * exp(2) + exp(1.5)) - 1e-9; /* applied to all tokens it would keep
                                                            * more */
    weight[0] = weight[2] = weight[3] = weight[6] = 0;
    expect_distribution(&o, weight);
}

Test(sample, min_p)
{
    double      weight[VOCAB];
    td_sampling o = sampling(1);
    weigh(weight, 1);
    o.min_p = exp(-1.6); /* down to a logit of 0.4 */
    weight[2] = weight[6] = 0;
    expect_distribution(&o, weight);
}

Test(sample, repetition_penalty_moves_seen_tokens_down_once)
{
    static const int32_t seen[] = { 4, 2, 4, 99, -1 };
    td_sampling          o = td_sampling_greedy();
    td_sampler          *s = td_sampler_new(VOCAB);
    td_draw              d = { logits, seen, 5, 0, 0 };
    const float          two[VOCAB] = { 1.9f, 0, 0, 0, 2.0f, 0, 0 };
    o.repetition_penalty = 1.04; /* penalized once: 2 / 1.04 is above 1.9; penalized twice it
                                  * would not be */
    d.logits = two;
    cr_expect_eq(td_sample(s, &o, &d, NULL), 4);
    o.repetition_penalty = 1.06;
    cr_expect_eq(td_sample(s, &o, &d, NULL), 0);
    td_sampler_free(s);
}

Test(sample, non_distributions_are_refused)
{
    const float nan[VOCAB] = { 0, NAN }, none[VOCAB] = { -INFINITY, -INFINITY, -INFINITY, -INFINITY,
                                                         -INFINITY, -INFINITY, -INFINITY };
    td_sampling o = sampling(1);
    td_sampler *s = td_sampler_new(VOCAB);
    td_draw     d = { nan, NULL, 0, 0, 0 };
    cr_expect_eq(td_sample(s, &o, &d, NULL), -1);
    d.logits = none;
    cr_expect_eq(td_sample(s, &o, &d, NULL), -1);
    td_sampler_free(s);
}

Test(sample, values_out_of_range_are_named)
{
    td_error    e = { 0 };
    td_sampling o = sampling(-1);
    cr_expect_eq(td_sampling_check(&o, &e), TD_ECONFIG);
    cr_expect_str_eq(e.text, "temperature -1: it must be 0 (the most likely token) or above");
    o = sampling(NAN);
    cr_expect_eq(td_sampling_check(&o, &e), TD_ECONFIG);
    o = sampling(1);
    o.top_p = 0;
    cr_expect_eq(td_sampling_check(&o, &e), TD_ECONFIG);
    o.top_p = 1;
    o.repetition_penalty = 0;
    cr_expect_eq(td_sampling_check(&o, &e), TD_ECONFIG);
    o.repetition_penalty = 1;
    o.min_p = 1.5;
    cr_expect_eq(td_sampling_check(&o, &e), TD_ECONFIG);
    o.min_p = 0;
    cr_expect_eq(td_sampling_check(&o, &e), 0);
}
