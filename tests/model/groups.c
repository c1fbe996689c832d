/* groups.c - optimizer.groups: rules by parameter name, the first that matches. */
#include "lab.h"

#define PLAIN LAB_SMALL, "optimizer.plugin=sgd", "train.clip=0"

static lab trained(const char *groups, double rate)
{
    lab       l = lab_open("nano/redllm", (const char *const[]){ PLAIN, groups, NULL }, NULL);
    td_batch *b = lab_batch(&l, 0, 0, LAB_BATCH);
    lab_allocate(&l, b, NULL);
    if (rate > 0)
        lab_step(&l, 0, LAB_BATCH, rate);
    td_batch_free(b);
    return l;
}

static bool same(const lab *a, const lab *b, const char *name)
{
    const td_variable *x = td_variables_find(td_engine_variables(a->engine), name);
    const td_variable *y = td_variables_find(td_engine_variables(b->engine), name);
    cr_assert(x && y, "%s", name);
    return !memcmp(x->memory, y->memory, (size_t)x->count * sizeof(float));
}

Test(groups, first_match_freezes_and_scales)
{
    lab initial = trained("optimizer.groups=()", 0), twice = trained("optimizer.groups=()", 0.5);
    lab l = trained("optimizer.groups=( { match = \"*embed*\"; freeze = true; }, { match = "
                    "\"*norm.weight\"; rate = 0.0; },"
                    " { match = \"*\"; rate = 2.0; } )",
                    0.25);
    td_variables *v = td_engine_variables(l.engine);
    int           frozen = 0, still = 0, moved = 0;

    for (size_t i = 0; i < td_variables_count(v); i++) {
        const td_variable *x = td_variables_at(v, i);
        if (x->kind != TD_VARIABLE_PARAM)
            continue;
        bool norm = td_match("*norm.weight", x->name), embed = td_match("*embed*", x->name);
        frozen += embed;
        still += norm;
        moved += !embed && !norm;
        cr_expect(same(&l, embed || norm ? &initial : &twice, x->name), "%s", x->name);
        cr_expect(!same(&initial, &twice, x->name), "%s: a step moves it", x->name);
        cr_expect_eq(td_model_gradient(v, x->name) == NULL, embed,
                     "%s: only a frozen parameter may lack a gradient", x->name);
    }
    cr_expect(frozen && still && moved, "%d %d %d", frozen, still, moved);
    lab_close(&initial);
    lab_close(&twice);
    lab_close(&l);
}

static void expect_refusal(const char *groups, const char *said)
{
    lab       l = lab_open("nano/redllm", (const char *const[]){ PLAIN, groups, NULL }, NULL);
    td_batch *b = lab_batch(&l, 0, 0, LAB_BATCH);
    cr_expect_eq(td_engine_plan(l.engine, b, NULL, &l.error), TD_ECONFIG);
    cr_expect(strstr(l.error.text, said), "%s", l.error.text);
    td_batch_free(b);
    lab_close(&l);
}

Test(groups, a_rule_without_parameters_is_a_mistake)
{
    expect_refusal("optimizer.groups=( { match = \"*.nrom.*\"; decay = 0.0; } )", "'*.nrom.*'");
    expect_refusal(
        "optimizer.groups=( { match = \"*\"; }, { match = \"*embed*\"; freeze = true; } )",
        "'*embed*'");
    expect_refusal("optimizer.groups=( { match = \"*\"; freeze = true; } )",
                   "every parameter is frozen");
}
