/* design_variants.c - reads the variants and sizes of a study, and how they are matched. */
#include <string.h>

#include "study/design_parts.h"

/* ---- named members --------------------------------------------------------------------------- */

/* Variants and sizes are a group with named members, or a list of names and of groups that
 * contain their name, since a name in a group cannot begin with a digit. */
static const char *name_of(td_design_reader *r, const td_setting *v, const char *what, bool in_list)
{
    const td_setting *name = v->type == TD_SETTING_GROUP ? td_setting_child(v, "name") : v;
    const char       *text = !in_list                                  ? v->name
                             : name && name->type == TD_SETTING_STRING ? name->text
                                                                       : NULL;
    if (!text)
        td_fields_error(&r->fields, v, what,
                        "an item of the list has no name: write \"NAME\", or "
                        "{ name = \"NAME\"; .. }");
    return text && td_fields_name(&r->fields, v, what, text) ? text : NULL;
}

static bool holds_members(td_design_reader *r, const td_setting *v, const char *what)
{
    if (v->type != TD_SETTING_GROUP && v->type != TD_SETTING_LIST)
        td_fields_error(&r->fields, v, what,
                        "it is %s; it takes a group of named members, or a list",
                        td_setting_type_name(v));
    else if (!v->first)
        td_fields_error(&r->fields, v, what, "it is empty: remove it, or add a member");
    else
        return true;
    return false;
}

/* ---- matching -------------------------------------------------------------------------------- */

void td_design_read_match(td_design_reader *r, const td_setting *v, const char *what,
                          td_matching *m)
{
    static const char *const whats[] = { "flops", "parameters", NULL };
    static const td_field    fields[] = {
           { "what", TD_FIELD_TEXT, offsetof(td_matching, what) },
           { "to", TD_FIELD_TEXT, offsetof(td_matching, to) },
           { "amount", TD_FIELD_REAL, offsetof(td_matching, amount) },
           { "by", TD_FIELD_TEXTS, offsetof(td_matching, by) },
           { "within", TD_FIELD_REAL, offsetof(td_matching, within) },
           { "multiple", TD_FIELD_INTEGER, offsetof(td_matching, multiple) },
           { "least", TD_FIELD_INTEGER, offsetof(td_matching, least) },
           { "most", TD_FIELD_INTEGER, offsetof(td_matching, most) },
           { NULL, 0, 0 },
    };
    if (!v)
        return;
    *m = (td_matching){ .at = v, .within = 0.01, .multiple = 1, .least = 1, .most = 1 << 20 };
    td_fields_read(&r->fields, v, what, fields, m);
    if (!m->what || !td_design_one_of(m->what, whats))
        td_fields_error(&r->fields, v, what,
                        "what = \"flops\" or \"parameters\" is missing: it says what must agree");
    if (!m->by.count)
        td_fields_error(&r->fields, v, what,
                        "by = \"KEY\" is missing: the option that is chosen, such as "
                        "\"model.ffn.d_ff\"");
    /* both or neither */
    if (!m->to == !(m->amount > 0))
        td_fields_error(
            &r->fields, v, what,
            "to = \"VARIANT\" or amount = NUMBER says what to agree with: give one of them");
    if (m->multiple < 1 || m->least < 1 || m->most < m->least || m->most > INT32_MAX)
        td_fields_error(&r->fields, v, what,
                        "multiple, least and most must be at least 1, and least "
                        "not above most");
}

/* ---- variants -------------------------------------------------------------------------------- */

/* The fields of a variant: a table of its own, because its group has both kinds of words. */
typedef struct variant_group {
    const char       *name;
    td_strings        from;
    td_overlay        base, own, phases[TD_STUDY_PHASES];
    const td_setting *match;
} variant_group;

static void read_variant(td_design_reader *r, const td_setting *v, const char *what,
                         td_variant *out)
{
#define PHASE(k) offsetof(variant_group, phases) + (k) * sizeof(td_overlay)
    static const td_field fields[] = {
        { "name", TD_FIELD_TEXT, offsetof(variant_group, name) },
        { "from", TD_FIELD_TEXTS, offsetof(variant_group, from) },
        { "base", TD_FIELD_OVERLAY, offsetof(variant_group, base) },
        { "match", TD_FIELD_GROUP, offsetof(variant_group, match) },
        { "pretrain", TD_FIELD_OVERLAY, PHASE(TD_STUDY_PRETRAIN) },
        { "finetune", TD_FIELD_OVERLAY, PHASE(TD_STUDY_FINETUNE) },
        { "evaluate", TD_FIELD_OVERLAY, PHASE(TD_STUDY_EVALUATE) },
        { "extrapolate", TD_FIELD_OVERLAY, PHASE(TD_STUDY_EXTRAPOLATE) },
        { "analyze", TD_FIELD_OVERLAY, PHASE(TD_STUDY_ANALYZE) },
        { "bench", TD_FIELD_OVERLAY, PHASE(TD_STUDY_BENCH) },
        { "files", TD_FIELD_FILES, offsetof(variant_group, own.files) },
        { "keys", TD_FIELD_GROUP, offsetof(variant_group, own.keys) },
        { NULL, 0, 0 },
    };
#undef PHASE
    variant_group g = { 0 };
    *out = (td_variant){ .name = out->name, .at = v };
    if (v->type == TD_SETTING_GROUP)
        td_fields_read(&r->fields, v, what, fields, &g);
    else if (v->name[0]) /* in a list a string is only the name */
        td_fields_overlay(&r->fields, v, what, &g.own);
    out->from = g.from;
    out->base = g.base;
    out->own = g.own;
    memcpy(out->phases, g.phases, sizeof g.phases);
    td_design_read_match(r, g.match, td_design_path(r, what, "match"), &out->match);
}

static bool is_new(td_design_reader *r, const td_setting *v, const char *what, const char *name)
{
    const td_variant *old = td_design_variant(r->d, name);
    if (old)
        td_fields_error(&r->fields, v, what, "there is a '%s' already, at %s", name,
                        td_setting_origin(old->at));
    return !old;
}

void td_design_read_variants(td_design_reader *r, const td_setting *group)
{
    bool in_list = group && group->type == TD_SETTING_LIST;
    if (group && !holds_members(r, group, "study.variants"))
        return;
    r->d->variants = td_design_allocate(r, td_design_count(group), sizeof(td_variant));
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        const char *name = name_of(r, v, "study.variants", in_list);
        td_variant *out = &r->d->variants[r->d->n_variants];
        if (!name || !is_new(r, v, "study.variants", name))
            continue;
        out->name = name;
        read_variant(r, v, td_design_path(r, "study.variants", name), out);
        r->d->n_variants++;
    }
    /* a grid alone, or a study of seeds and sizes: one variant without a change of its own */
    if (!group)
        r->d->variants[r->d->n_variants++] = (td_variant){ .name = "" };
}

/* ---- variants made from others --------------------------------------------------------------- */

typedef struct chain {
    const td_variant **at;
    size_t             n;
    int                depth;
} chain;

static const char *nearest_variant(const td_design *d, const char *name)
{
    enum { MOST = 256 };
    const char *names[MOST];
    size_t      n = 0;
    for (size_t k = 0; k < d->n_variants && n < MOST; k++)
        names[n++] = d->variants[k].name;
    return td_nearest(name, names, n);
}

void td_design_no_variant(td_design_reader *r, const td_setting *at, const char *what,
                          const char *name)
{
    const char *nearest = nearest_variant(r->d, name);
    td_fields_error(&r->fields, at, what, "there is no variant '%s'%s%s%s", name,
                    nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* Depth first. If two of them are made from the same variant, it is applied only once; otherwise it
 * would undo the changes of the first. */
static bool link_chain(td_design_reader *r, const td_variant *v, const td_variant *start, chain *c)
{
    for (size_t k = 0; k < c->n; k++)
        if (c->at[k] == v)
            return true;
    /* no sensible study is this deep, and a circle always gets there */
    if (c->depth > 16) {
        td_fields_error(&r->fields, start->at, td_design_path(r, "study.variants", start->name),
                        "it is derived from itself: follow its `from`");
        return false;
    }
    c->depth++;
    for (size_t k = 0; k < v->from.count; k++) {
        const td_variant *base = td_design_variant(r->d, v->from.at[k]);
        if (!base)
            td_design_no_variant(r, v->at, td_design_path(r, "study.variants", v->name),
                                 v->from.at[k]);
        if (!base || !link_chain(r, base, start, c))
            return false;
    }
    c->depth--;
    c->at[c->n++] = v;
    return true;
}

void td_design_link_variants(td_design_reader *r)
{
    for (size_t k = 0; k < r->d->n_variants; k++) {
        td_variant *v = &r->d->variants[k];
        chain       c = { td_design_allocate(r, r->d->n_variants + 1, sizeof *c.at), 0, 0 };
        link_chain(r, v, v, &c);
        v->chain = c.at;
        v->n_chain = c.n;
        /* the nearest match in the chain counts */
        for (size_t i = c.n; !v->match.at && i-- > 0;)
            v->match = c.at[i]->match;
    }
}

/* ---- sizes ----------------------------------------------------------------------------------- */

typedef struct size_group {
    const char       *name;
    td_overlay        own;
    const td_setting *variants;
    int64_t           processes;
} size_group;

static void check_size_variants(td_design_reader *r, const td_setting *group, const char *what)
{
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        td_overlay unused = { 0 };
        if (!td_design_variant(r->d, v->name))
            td_design_no_variant(r, v, what, v->name);
        td_fields_overlay(&r->fields, v, td_design_path(r, what, v->name), &unused);
    }
}

static void read_size(td_design_reader *r, const td_setting *v, const char *what, td_size *out)
{
    static const td_field fields[] = {
        { "name", TD_FIELD_TEXT, offsetof(size_group, name) },
        { "variants", TD_FIELD_GROUP, offsetof(size_group, variants) },
        { "processes", TD_FIELD_INTEGER, offsetof(size_group, processes) },
        { "files", TD_FIELD_FILES, offsetof(size_group, own.files) },
        { "keys", TD_FIELD_GROUP, offsetof(size_group, own.keys) },
        { NULL, 0, 0 },
    };
    size_group g = { 0 };
    if (v->type == TD_SETTING_GROUP)
        td_fields_read(&r->fields, v, what, fields, &g);
    else if (v->name[0])
        td_fields_overlay(&r->fields, v, what, &g.own);
    check_size_variants(r, g.variants, td_design_path(r, what, "variants"));
    out->at = v;
    out->own = g.own;
    out->variants = g.variants;
    out->processes = g.processes;
}

void td_design_read_sizes(td_design_reader *r, const td_setting *group)
{
    bool in_list = group && group->type == TD_SETTING_LIST;
    if (group && !holds_members(r, group, "study.sizes"))
        return;
    r->d->sizes = td_design_allocate(r, td_design_count(group), sizeof(td_size));
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        const char *name = name_of(r, v, "study.sizes", in_list);
        if (!name)
            continue;
        for (size_t k = 0; k < r->d->n_sizes; k++)
            if (!strcmp(r->d->sizes[k].name, name))
                td_fields_error(&r->fields, v, "study.sizes", "there is a '%s' already", name);
        r->d->sizes[r->d->n_sizes].name = name;
        read_size(r, v, td_design_path(r, "study.sizes", name), &r->d->sizes[r->d->n_sizes]);
        r->d->n_sizes++;
    }
    /* without sizes there is one, which changes nothing and has no part in names */
    if (!group)
        r->d->sizes[r->d->n_sizes++] = (td_size){ .name = "" };
}
