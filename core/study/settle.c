/* settle.c - chooses sizes and lengths that make variants comparable.
 *
 * Parameters and FLOPs grow with every option that sizes a model, so the right value is found by
 * doubling or halving from the option's current value, then by bisection. Each value that is tried
 * is composed, bound and planned as a cell is: the figures are those of the real graph, not of a
 * formula.
 */
#include "study/settle.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct search {
    const td_composer *composer;
    td_arena          *arena;
    const td_point    *point;
    const td_matching *m;
    td_errors         *errors;
    double             target;
} search;

/* ---- one value ------------------------------------------------------------------------------- */

static int add(td_choices *c, const char *key, const char *origin, td_errors *errors)
{
    enum { MOST = sizeof c->at / sizeof *c->at };
    if (!key || c->n == MOST) {
        td_errors_add(errors, "%s: more than %d keys are chosen", origin, (int)MOST);
        return TD_ECONFIG;
    }
    c->at[c->n++] = (td_choice){ key, origin };
    return 0;
}

static int choices_of(const search *s, int64_t value, td_choices *out)
{
    *out = (td_choices){ .n = 0 };
    for (size_t k = 0; k < s->m->by.count; k++)
        if (add(out, td_arena_print(s->arena, "%s=%" PRId64, s->m->by.at[k], value),
                td_setting_origin(s->m->at), s->errors))
            return TD_ECONFIG;
    return 0;
}

static double what_of(const td_matching *m, const td_figures *f)
{
    return strcmp(m->what, "flops") ? f->parameters : f->flops;
}

static int figures(const td_composer *c, const td_point *p, const td_choices *choices,
                   td_figures *out, td_errors *errors)
{
    char *text = td_cell_text(c, p, choices, NULL, NULL, errors);
    int   code = text ? td_figures_of(c, p, text, NULL, out, errors) : TD_ECONFIG;
    free(text);
    return code;
}

static int attempt(const search *s, int64_t value, double *out)
{
    td_choices choices;
    td_figures f;
    int        code = choices_of(s, value, &choices);
    if (!code)
        code = figures(s->composer, s->point, &choices, &f, s->errors);
    *out = code ? (double)NAN : what_of(s->m, &f);
    return code;
}

/* ---- the search ------------------------------------------------------------------------------ */

/* The current value of the option. */
static int start_of(const search *s, int64_t *out)
{
    td_choices  none = { .n = 0 };
    const char *key = s->m->by.at[0];
    td_config  *c = td_compose(s->composer, s->point, &none, NULL, s->errors);
    bool        found = c && td_config_get_int(c, key, out);
    if (c && !found)
        td_errors_add(s->errors,
                      "%s: by = \"%s\": variant '%s' sets no whole number there for the search to "
                      "start from: name another option, or set one",
                      td_setting_origin(s->m->at), key, s->point->name);
    td_config_free(c);
    return found ? 0 : TD_ECONFIG;
}

/* Two neighbouring values, in multiples, around the target. At the end of the range both are its last
 * value. */
typedef struct bracket {
    int64_t low, high;
    double  at_low, at_high;
} bracket;

static int widen(const search *s, int64_t start, bracket *b)
{
    int64_t least = (s->m->least + s->m->multiple - 1) / s->m->multiple;
    int64_t most = s->m->most / s->m->multiple, v = start / s->m->multiple;
    int     code;
    v = v < least ? least : v > most ? most : v;
    b->low = b->high = v;
    code = attempt(s, v * s->m->multiple, &b->at_low);
    b->at_high = b->at_low;
    /* the figure grows with the value, so only one of the two loops runs */
    while (!code && b->at_high < s->target && b->high < most) {
        b->low = b->high;
        b->at_low = b->at_high;
        b->high = 2 * b->high < most ? 2 * b->high : most;
        code = attempt(s, b->high * s->m->multiple, &b->at_high);
    }
    while (!code && b->at_low > s->target && b->low > least) {
        b->high = b->low;
        b->at_high = b->at_low;
        b->low = b->low / 2 > least ? b->low / 2 : least;
        code = attempt(s, b->low * s->m->multiple, &b->at_low);
    }
    return code;
}

static int narrow(const search *s, bracket *b)
{
    int code = 0;
    /* the figure grows with the value: low stays at or below the target, high above it */
    while (!code && b->high - b->low > 1) {
        int64_t middle = b->low + (b->high - b->low) / 2;
        double  at;
        code = attempt(s, middle * s->m->multiple, &at);
        if (at <= s->target) {
            b->low = middle;
            b->at_low = at;
        } else {
            b->high = middle;
            b->at_high = at;
        }
    }
    return code;
}

static double off(const search *s, double x) { return (x - s->target) / s->target; }

static int refuse(const search *s, const bracket *b)
{
    char target[32], to[200] = "";
    if (s->m->to)
        snprintf(to, sizeof to, " of '%s'", s->m->to);
    td_errors_add(
        s->errors,
        "%s: no value of %s makes the %s of '%s' agree with the %s%s within %g %%: %" PRId64
        " is %+.2f %% off, %" PRId64
        " is %+.2f %%; allow more (within), or choose a finer option (by)",
        td_setting_origin(s->m->at), s->m->by.at[0], s->m->what, s->point->name,
        td_human_count(target, s->target), to, 100 * s->m->within, b->low * s->m->multiple,
        100 * off(s, b->at_low), b->high * s->m->multiple, 100 * off(s, b->at_high));
    return TD_ECONFIG;
}

/* "model.ffn.d_ff = 1360 (config: 1024), so that parameters agree with 'decllm': 3.26M, 0.1 % less" */
static void say(const search *s, int64_t start, int64_t value, double reached, td_text *out)
{
    char   count[32], target[32];
    double percent = 100 * off(s, reached);
    if (out->size)
        td_text_print(out, "; ");
    for (size_t k = 0; k < s->m->by.count; k++)
        td_text_print(out, "%s%s", k ? " = " : "", s->m->by.at[k]);
    td_text_print(out, " = %" PRId64, value);
    if (start != value)
        td_text_print(out, " (config: %" PRId64 ")", start);
    td_text_print(out, ", so that %s agree with %s%s%s: %s",
                  strcmp(s->m->what, "flops") ? "parameters" : "FLOPs of a step",
                  s->m->to ? "'" : "", s->m->to ? s->m->to : td_human_count(target, s->target),
                  s->m->to ? "'" : "", td_human_count(count, reached));
    if (reached == s->target)
        td_text_print(out, ", exactly");
    else
        td_text_print(out, ", %.2g %% %s", fabs(percent), percent < 0 ? "less" : "more");
}

/* A key that moves far makes two variants differ in it, too: a narrow layer in place of a wide one. */
static void warn_of_far(const search *s, int64_t start, int64_t value)
{
    enum { FAR = 2 };
    if (value <= FAR * start && start <= FAR * value)
        return;
    td_log_line(
        s->composer->log, TD_LOG_WARN,
        "%s: so that %s agree%s%s%s, %s goes from %" PRId64 " to %" PRId64
        ", by more than a factor of %d: '%s' then differs in this as well; look for a setting that "
        "changed its size (`tandem study diff`), or choose another option (by)",
        td_setting_origin(s->m->at), s->m->what, s->m->to ? " with '" : "",
        s->m->to ? s->m->to : "", s->m->to ? "'" : "", s->m->by.at[0], start, value, (int)FAR,
        s->point->name);
}

static int solve(const search *s, td_settled *out)
{
    bracket b;
    int64_t start, value;
    bool    high;
    int     code = start_of(s, &start);
    if (!code)
        code = widen(s, start, &b);
    if (!code)
        code = narrow(s, &b);
    if (code)
        return code;
    /* the bracket is as narrow as `multiple` allows: the nearer end is the answer */
    high = fabs(off(s, b.at_high)) < fabs(off(s, b.at_low));
    if (fabs(off(s, high ? b.at_high : b.at_low)) > s->m->within)
        return refuse(s, &b);
    value = (high ? b.high : b.low) * s->m->multiple;
    warn_of_far(s, start, value);
    say(s, start, value, high ? b.at_high : b.at_low, &out->size);
    return choices_of(s, value, &out->sizes);
}

int td_settle_size(const td_composer *c, td_arena *arena, const td_point *p, const td_point *to,
                   const td_matching *m, td_settled *out, td_errors *errors)
{
    search     s = { c, arena, p, m, errors, m->amount };
    td_choices none = { .n = 0 };
    td_figures f;
    if (to) {
        if (figures(c, to, &none, &f, errors))
            return TD_ECONFIG;
        s.target = what_of(m, &f);
    }
    return solve(&s, out);
}

/* ---- budgets --------------------------------------------------------------------------------- */

typedef struct spending {
    const td_composer      *composer;
    td_arena               *arena;
    const td_budget_design *b;
    td_times               *times;
    td_errors              *errors;
} spending;

static int refuse_budget(const spending *s, const char *why, const td_point *p)
{
    td_errors_add(s->errors, "%s: study.budget: equal = \"%s\" for variant '%s': %s",
                  td_setting_origin(s->b->at), s->b->equal, p->name, why);
    return TD_ECONFIG;
}

/* The unit of the budget that a step of these figures spends. */
static double spent(const spending *s, const td_figures *f)
{
    return !strcmp(s->b->equal, "tokens")          ? f->tokens
           : !strcmp(s->b->equal, "target_tokens") ? f->targets
                                                   : f->flops;
}

/* Written with a point or an exponent; otherwise a config would read a large number as an
 * integer out of range. */
static int set(const spending *s, const char *key, double value, td_settled *out)
{
    char number[40];
    snprintf(number, sizeof number, "%.17g", value);
    return add(&out->budget,
               td_arena_print(s->arena, "%s=%s%s", key, number, strpbrk(number, ".e") ? "" : ".0"),
               td_setting_origin(s->b->at), s->errors);
}

static int set_steps(const spending *s, const td_point *p, double steps, td_settled *out)
{
    if (steps < 1 || steps > 99999999)
        return refuse_budget(s, "it amounts to less than one step, or to more than 99999999", p);
    return add(&out->budget, td_arena_print(s->arena, "train.steps=%.0f", steps),
               td_setting_origin(s->b->at), s->errors);
}

static int spend_time(const spending *s, const td_point *p, td_settled *out)
{
    td_error e = { 0 };
    double   step = 0;
    char    *text = td_cell_text(s->composer, p, &out->sizes, NULL, NULL, s->errors);
    char     time[32], each[32];
    int      code = text ? td_times_step(s->times, s->composer, p, text, p->name, &step, &e)
                         : TD_ECONFIG;
    free(text);
    if (e.code)
        return refuse_budget(s, e.text, p);
    if (code)
        return code;
    if (!(step > 0) && s->times->required)
        return refuse_budget(s, "a step was not measured: leave out --no-measure", p);
    /* the matrix can still be shown */
    if (!(step > 0)) {
        td_text_print(&out->length, "steps for %s: not measured",
                      td_human_time(time, s->b->amount));
        return 0;
    }
    td_text_print(&out->length, "train.steps = %.0f, for %s at %s a step on %" PRId64 " threads",
                  floor(s->b->amount / step), td_human_time(time, s->b->amount),
                  td_human_time(each, step), s->times->threads);
    return set_steps(s, p, floor(s->b->amount / step), out);
}

/* What the first variant spends in its own steps. */
static int amount_of(const spending *s, const td_point *first, double *out)
{
    td_choices none = { .n = 0 };
    td_figures f;
    *out = s->b->amount;
    if (*out > 0)
        return 0;
    if (figures(s->composer, first, &none, &f, s->errors))
        return TD_ECONFIG;
    *out = td_figures_steps(&f) * spent(s, &f);
    return *out > 0 ? 0 : refuse_budget(s, "its config has no length: set amount", first);
}

static int spend(const spending *s, const td_point *p, double amount, td_settled *out)
{
    td_figures f;
    char       count[32];
    if (!strcmp(s->b->equal, "target_tokens"))
        return set(s, "train.target_tokens", amount, out);
    if (!strcmp(s->b->equal, "flops"))
        return set(s, "train.flops", amount, out);
    /* targets and FLOPs are budgets of a run; tokens are counted here */
    if (figures(s->composer, p, &out->sizes, &f, s->errors))
        return TD_ECONFIG;
    if (f.pairs)
        return refuse_budget(
            s,
            "its data consists of pairs of different lengths, so a step has no fixed number "
            "of tokens: use \"target_tokens\"",
            p);
    td_text_print(&out->length, "train.steps = %.0f, for %s tokens at %.0f a step",
                  ceil(amount / f.tokens), td_human_count(count, amount), f.tokens);
    return set_steps(s, p, ceil(amount / f.tokens), out);
}

int td_settle_length(const td_composer *c, td_arena *arena, const td_point *p,
                     const td_point *first, td_times *times, td_settled *out, td_errors *errors)
{
    spending s = { c, arena, &c->design->budget, times, errors };
    double   amount;
    if (!s.b->at || !strcmp(s.b->equal, "parameters"))
        return 0;
    if (!strcmp(s.b->equal, "time"))
        return spend_time(&s, p, out);
    return amount_of(&s, first, &amount) ? TD_ECONFIG : spend(&s, p, amount, out);
}
