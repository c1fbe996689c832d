/* variant.c - other settings of the plugin under test, one option at a time.
 *
 * Variants are numbered from 1. All combinations would be too many, and one option at a time
 * already reaches most of the code that defaults do not. */
#include "check/internal.h"

/* Options that tests set themselves, to make models small (subject.c). */
static bool is_size(const char *name)
{
    static const char *const sizes[] = { "heads",          "head_dim",       "d_ff",
                                         "d_model",        "vocab_size",     "layers",
                                         "encoder_layers", "decoder_layers", "max_positions" };
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        if (!strcmp(name, sizes[k]))
            return true;
    return false;
}

/* The number of other values of the option to try: a switch flipped, the other choices, and one
 * number where 0, which usually means "off", is the default. */
static int others(const td_option *o)
{
    int n = 0;
    /* dropout draws by place: a token that moves in its row gets other draws, but tests compare
     * losses */
    if (is_size(o->name) || strstr(o->name, "dropout"))
        return 0;
    if (o->type == TD_TYPE_BOOL)
        return 1;
    if (o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT)
        return o->number == 0 && o->max > 0 && !(o->flags & TD_OPTION_REQUIRED);
    while (o->type == TD_TYPE_CHOICE && o->choices[n])
        n++;
    return n ? n - 1 : 0;
}

/* Store the k-th other value; returns it as text, for findings. */
static const char *set_other(td_check *c, const td_part *part, const td_option *o, int k)
{
    void *at = td_check_field(part, o->name, o->type);
    if (o->type == TD_TYPE_BOOL) {
        *(bool *)at = !*(bool *)at;
        return td_arena_print(c->arena, "%s = %s", o->name, *(bool *)at ? "true" : "false");
    }
    if (o->type == TD_TYPE_INT) {
        *(int64_t *)at = (int64_t)fmin(fmax(o->min, 2), o->max);
        return td_arena_print(c->arena, "%s = %lld", o->name, (long long)*(int64_t *)at);
    }
    if (o->type == TD_TYPE_FLOAT) {
        *(double *)at = fmin(fmax(o->min, 0.25), o->max);
        return td_arena_print(c->arena, "%s = %g", o->name, *(double *)at);
    }
    *(int64_t *)at = (int64_t)(k >= (int)o->number ? k + 1 : k); /* skip the default */
    return td_arena_print(c->arena, "%s = \"%s\"", o->name, o->choices[*(int64_t *)at]);
}

int td_check_variants(td_check *c)
{
    td_option o;
    int       n = 0;
    for (size_t i = 0;
         c->plugin->options && td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++)
        n += others(&o);
    return n;
}

/* Every integer at its least, such as those that say from which size on something is done. */
static const char *lower_all(td_check *c, const td_part *part)
{
    td_option o;
    for (size_t i = 0;
         c->plugin->options && td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++)
        if (o.type == TD_TYPE_INT && !is_size(o.name))
            *(int64_t *)td_check_field(part, o.name, o.type) = (int64_t)fmax(o.min, -1e15);
    return "all integers at their minimum";
}

const char *td_check_vary(td_check *c, const td_part *part)
{
    td_option o;
    int       before = 0;
    if (c->variant == TD_CHECK_LEAST)
        return lower_all(c, part);
    for (size_t i = 0; c->variant && c->plugin->options &&
                       td_option_row(c->plugin->options, c->plugin->option_size, i, &o);
         i++) {
        int n = others(&o);
        /* this option has the variants before + 1 .. before + n */
        if (c->variant <= before + n)
            return set_other(c, part, &o, c->variant - before - 1);
        before += n;
    }
    return "";
}

bool td_check_can_change(const td_option *o)
{
    bool number = o->type == TD_TYPE_INT || o->type == TD_TYPE_FLOAT;
    if (is_size(o->name))
        return false;
    return o->type == TD_TYPE_BOOL || (number && o->min < o->max) ||
           (o->type == TD_TYPE_CHOICE && o->choices[1]);
}

/* Another number of the range: near x, or one of the ends. */
static double other_number(const td_option *o, double x, int way)
{
    bool   whole = o->type == TD_TYPE_INT;
    double low = fmax(o->min, -1e15), high = fmin(o->max, 1e15);
    double up = whole ? x + 1 : x != 0 ? x * 1.5 : 0.25, down = whole ? x - 1 : x / 2;
    double ways[TD_CHECK_CHANGES] = { up, down, low, high };
    return fmin(fmax(ways[way], low), high);
}

void td_check_change(td_check *c, const td_part *part)
{
    int       option = (c->change - 1) / TD_CHECK_CHANGES, way = (c->change - 1) % TD_CHECK_CHANGES;
    td_option o;
    void     *at;
    if (!c->change || !c->plugin->options ||
        !td_option_row(c->plugin->options, c->plugin->option_size, (size_t)option, &o))
        return;
    at = td_check_field(part, o.name, o.type);
    if (o.type == TD_TYPE_BOOL)
        *(bool *)at = !*(bool *)at;
    else if (o.type == TD_TYPE_INT)
        *(int64_t *)at = (int64_t)other_number(&o, (double)*(int64_t *)at, way);
    else if (o.type == TD_TYPE_FLOAT)
        *(double *)at = other_number(&o, *(double *)at, way);
    else /* the next choice, whatever the way: variants have the others */
        *(int64_t *)at = o.choices[*(int64_t *)at + 1] ? *(int64_t *)at + 1 : 0;
}
