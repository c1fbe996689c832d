/* design.c - reads the group `study`: phases, budget, and the whole. */
#include "study/design.h"

#include <stdlib.h>
#include <string.h>

#include "study/design_parts.h"

static const char *const phase_names[] = { "pretrain",    "finetune", "evaluate",
                                           "extrapolate", "analyze",  "bench" };

const char *td_study_phase_name(td_study_phase p) { return phase_names[p]; }

bool td_study_phase_trains(td_study_phase p) { return p <= TD_STUDY_FINETUNE; }

/* The group, read by the fields of its table. */
typedef struct group {
    const char       *name, *brief;
    td_integers       seeds;
    int64_t           processes;
    td_overlay        base;
    const td_setting *variants, *sizes, *grid, *phases, *budget, *match, *device;
} group;

/* ---- for all parts --------------------------------------------------------------------------- */

void *td_design_allocate(td_design_reader *r, size_t n, size_t each)
{
    return td_arena_alloc(r->fields.arena, (n + 1) * each);
}

const char *td_design_path(td_design_reader *r, const char *group, const char *name)
{
    const char *p = td_arena_print(r->fields.arena, "%s.%s", group, name);
    return p ? p : name;
}

size_t td_design_count(const td_setting *group)
{
    size_t n = 0;
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next)
        n++;
    return n;
}

bool td_design_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(text, *list))
            return true;
    return false;
}

/* ---- phases ---------------------------------------------------------------------------------- */

/* The fields of a phase: its options, the variants that have it, and its overlay. */
static const td_field *fields_of(td_study_phase p)
{
#define AT(field) offsetof(td_phase_design, field)
    /* all phases share one struct; each accepts only the keys that its command uses */
    static const td_field training[] = { { "only", TD_FIELD_TEXTS, AT(only) },
                                         { "files", TD_FIELD_FILES, AT(own.files) },
                                         { "keys", TD_FIELD_GROUP, AT(own.keys) },
                                         { NULL, 0, 0 } };
    static const td_field evaluate[] = {
        { "of", TD_FIELD_TEXTS, AT(of) },         { "tasks", TD_FIELD_TEXTS, AT(tasks) },
        { "data", TD_FIELD_TEXT, AT(data) },      { "shots", TD_FIELD_INTEGER, AT(shots) },
        { "limit", TD_FIELD_INTEGER, AT(limit) }, { "best", TD_FIELD_BOOL, AT(best) },
        { "only", TD_FIELD_TEXTS, AT(only) },     { "files", TD_FIELD_FILES, AT(own.files) },
        { "keys", TD_FIELD_GROUP, AT(own.keys) }, { NULL, 0, 0 }
    };
    static const td_field extrapolate[] = { { "of", TD_FIELD_TEXTS, AT(of) },
                                            { "lengths", TD_FIELD_INTEGERS, AT(lengths) },
                                            { "prefixes", TD_FIELD_INTEGERS, AT(prefixes) },
                                            { "sequences", TD_FIELD_INTEGER, AT(sequences) },
                                            { "best", TD_FIELD_BOOL, AT(best) },
                                            { "only", TD_FIELD_TEXTS, AT(only) },
                                            { "files", TD_FIELD_FILES, AT(own.files) },
                                            { "keys", TD_FIELD_GROUP, AT(own.keys) },
                                            { NULL, 0, 0 } };
    static const td_field analyze[] = { { "of", TD_FIELD_TEXTS, AT(of) },
                                        { "length", TD_FIELD_INTEGER, AT(length) },
                                        { "prefix", TD_FIELD_INTEGER, AT(prefix) },
                                        { "sequences", TD_FIELD_INTEGER, AT(sequences) },
                                        { "layers", TD_FIELD_TEXTS, AT(layers) },
                                        { "best", TD_FIELD_BOOL, AT(best) },
                                        { "only", TD_FIELD_TEXTS, AT(only) },
                                        { "files", TD_FIELD_FILES, AT(own.files) },
                                        { "keys", TD_FIELD_GROUP, AT(own.keys) },
                                        { NULL, 0, 0 } };
    static const td_field bench[] = { { "of", TD_FIELD_TEXTS, AT(of) },
                                      { "batch", TD_FIELD_INTEGER, AT(batch) },
                                      { "prompt_tokens", TD_FIELD_INTEGER, AT(prompt_tokens) },
                                      { "max_new_tokens", TD_FIELD_INTEGER, AT(max_new_tokens) },
                                      { "only", TD_FIELD_TEXTS, AT(only) },
                                      { "files", TD_FIELD_FILES, AT(own.files) },
                                      { "keys", TD_FIELD_GROUP, AT(own.keys) },
                                      { NULL, 0, 0 } };
#undef AT
    return p == TD_STUDY_EVALUATE      ? evaluate
           : p == TD_STUDY_EXTRAPOLATE ? extrapolate
           : p == TD_STUDY_ANALYZE     ? analyze
           : p == TD_STUDY_BENCH       ? bench
                                       : training;
}

static void read_phase(td_design_reader *r, const td_setting *v, td_study_phase p)
{
    const char      *what = td_design_path(r, "study.phases", phase_names[p]);
    td_phase_design *out = &r->d->phases[p];
    out->at = v;
    if (v->type == TD_SETTING_GROUP)
        td_fields_read(&r->fields, v, what, fields_of(p), out);
    else
        td_fields_overlay(&r->fields, v, what, &out->own);
}

static int phase_of(const char *name)
{
    int p = 0;
    while (p < TD_STUDY_PHASES && strcmp(phase_names[p], name))
        p++;
    return p;
}

/* The runs that a phase reads: those it names; by default, all for evaluation and latency, and the
 * pretrained ones for the other phases. */
static void read_of(td_design_reader *r, td_study_phase p)
{
    static const char *const pretrained[] = { "pretrain" }, *const both[] = { "pretrain",
                                                                              "finetune" };
    td_phase_design *d = &r->d->phases[p];
    bool             pretrains = r->d->phases[TD_STUDY_PRETRAIN].at != NULL;
    bool             finetunes = r->d->phases[TD_STUDY_FINETUNE].at != NULL;
    for (size_t k = 0; k < d->of.count; k++) {
        int of = phase_of(d->of.at[k]);
        if (of > TD_STUDY_FINETUNE || !r->d->phases[of].at)
            td_fields_error(&r->fields, d->at, td_design_path(r, "study.phases", phase_names[p]),
                            "of = \"%s\" is not one of this study's training phases", d->of.at[k]);
    }
    if (d->of.count)
        return;
    if (pretrains && (!finetunes || (p != TD_STUDY_EVALUATE && p != TD_STUDY_BENCH)))
        d->of = (td_strings){ pretrained, 1 };
    else
        d->of = pretrains ? (td_strings){ both, 2 } : (td_strings){ both + 1, 1 };
}

static void read_phases(td_design_reader *r, const td_setting *group, const td_setting *study)
{
    for (int p = 0; p < TD_STUDY_PHASES; p++)
        r->d->phases[p] = (td_phase_design){ .shots = -1,
                                             .limit = -1,
                                             .sequences = -1,
                                             .length = -1,
                                             .prefix = -1,
                                             .batch = -1,
                                             .prompt_tokens = -1,
                                             .max_new_tokens = -1 };
    /* without phases a study pretrains and evaluates */
    if (!group)
        r->d->phases[TD_STUDY_PRETRAIN].at = r->d->phases[TD_STUDY_EVALUATE].at = study;
    for (const td_setting *v = group ? group->first : NULL; v; v = v->next) {
        int         p = phase_of(v->name);
        const char *nearest = td_nearest(v->name, phase_names, TD_STUDY_PHASES);
        if (p < TD_STUDY_PHASES)
            read_phase(r, v, (td_study_phase)p);
        else
            td_fields_error(&r->fields, v, "study.phases",
                            "there is no phase '%s'%s%s%s; there are pretrain, finetune, evaluate, "
                            "extrapolate, analyze and bench",
                            v->name, nearest ? "; did you mean '" : "", nearest ? nearest : "",
                            nearest ? "'?" : "");
    }
    if (!r->d->phases[TD_STUDY_PRETRAIN].at && !r->d->phases[TD_STUDY_FINETUNE].at)
        td_fields_error(&r->fields, group, "study.phases",
                        "nothing is trained: add pretrain or finetune");
    for (int p = TD_STUDY_EVALUATE; p < TD_STUDY_PHASES; p++)
        if (r->d->phases[p].at)
            read_of(r, (td_study_phase)p);
}

/* ---- budget ---------------------------------------------------------------------------------- */

static void read_budget(td_design_reader *r, const td_setting *v)
{
    static const char *const equals[] = { "tokens",     "target_tokens", "flops",
                                          "parameters", "time",          NULL };
    static const td_field    fields[] = {
           { "equal", TD_FIELD_TEXT, offsetof(td_budget_design, equal) },
           { "amount", TD_FIELD_REAL, offsetof(td_budget_design, amount) },
           { "by", TD_FIELD_TEXTS, offsetof(td_budget_design, by) },
           { "within", TD_FIELD_REAL, offsetof(td_budget_design, within) },
           { "multiple", TD_FIELD_INTEGER, offsetof(td_budget_design, multiple) },
           { NULL, 0, 0 },
    };
    td_budget_design *b = &r->d->budget;
    bool              sized;
    if (!v)
        return;
    *b = (td_budget_design){ .at = v, .within = 0.01, .multiple = 1 };
    td_fields_read(&r->fields, v, "study.budget", fields, b);
    if (!b->equal || !td_design_one_of(b->equal, equals)) {
        td_fields_error(&r->fields, v, "study.budget",
                        "equal = %s%s%s: it takes \"tokens\", \"target_tokens\", \"flops\", "
                        "\"parameters\" or \"time\"",
                        b->equal ? "\"" : "", b->equal ? b->equal : "nothing",
                        b->equal ? "\"" : "");
        return;
    }
    sized = !strcmp(b->equal, "parameters");
    /* only "parameters" varies an option of the model; the others set the length of training */
    if (sized != (b->by.count > 0))
        td_fields_error(&r->fields, v, "study.budget",
                        sized ? "by = \"KEY\" is missing: the option that sets the size, such as "
                                "\"model.ffn.d_ff\""
                              : "by is only for equal = \"parameters\"");
    if (!strcmp(b->equal, "time") && !(b->amount > 0))
        td_fields_error(&r->fields, v, "study.budget",
                        "amount is missing: how many seconds each cell trains");
    if (sized && r->d->match.at)
        td_fields_error(&r->fields, v, "study.budget",
                        "study.match already chooses sizes: use only one of the two");
}

/* After all variants are known. */
static void check_only(td_design_reader *r, td_study_phase p)
{
    const td_phase_design *d = &r->d->phases[p];
    for (size_t k = 0; k < d->only.count; k++)
        if (!td_design_variant(r->d, d->only.at[k]))
            td_design_no_variant(r, d->at, td_design_path(r, "study.phases", phase_names[p]),
                                 d->only.at[k]);
}

static void read_device(td_design_reader *r, const td_setting *v)
{
    static const td_field fields[] = {
        { "name", TD_FIELD_TEXT, offsetof(td_device_design, name) },
        { "flops_per_second", TD_FIELD_REAL, offsetof(td_device_design, flops_per_second) },
        { NULL, 0, 0 },
    };
    r->d->device.name = "";
    if (v)
        td_fields_read(&r->fields, v, "study.device", fields, &r->d->device);
}

static void check_match(td_design_reader *r, const td_matching *m, const char *what)
{
    if (m->at && m->to && !td_design_variant(r->d, m->to))
        td_design_no_variant(r, m->at, what, m->to);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Without the characters that names of directories here may not have: the file's name was not
 * chosen as one. */
static const char *name_from_file(td_design_reader *r, const char *file)
{
    const char *slash = strrchr(file, '/');
    char       *name = td_arena_copy(r->fields.arena, slash ? slash + 1 : file);
    char       *dot = name ? strrchr(name, '.') : NULL;
    if (dot && dot != name)
        *dot = 0;
    /* "does it help.cfg" has runs in "does-it-help" */
    for (char *c = name; c && *c; c++)
        if (!td_fields_in_name(*c))
            *c = '-';
    return name ? name : "study";
}

static void read_study(td_design_reader *r, const td_setting *study)
{
    static const td_field fields[] = {
        { "name", TD_FIELD_TEXT, offsetof(group, name) },
        { "brief", TD_FIELD_TEXT, offsetof(group, brief) },
        { "seeds", TD_FIELD_INTEGERS, offsetof(group, seeds) },
        { "processes", TD_FIELD_INTEGER, offsetof(group, processes) },
        { "base", TD_FIELD_OVERLAY, offsetof(group, base) },
        { "variants", TD_FIELD_ANY, offsetof(group, variants) },
        { "sizes", TD_FIELD_ANY, offsetof(group, sizes) },
        { "grid", TD_FIELD_GROUP, offsetof(group, grid) },
        { "phases", TD_FIELD_GROUP, offsetof(group, phases) },
        { "budget", TD_FIELD_GROUP, offsetof(group, budget) },
        { "match", TD_FIELD_GROUP, offsetof(group, match) },
        { "device", TD_FIELD_GROUP, offsetof(group, device) },
        { NULL, 0, 0 },
    };
    static const int64_t first[] = { 1 };
    group g = { .name = name_from_file(r, r->d->file), .brief = "", .seeds = { first, 1 } };
    td_fields_read(&r->fields, study, "study", fields, &g);
    td_fields_name(&r->fields, study,
                   td_setting_child(study, "name") ? "study.name"
                                                   : "study.name, by default the name of the file",
                   g.name);
    r->d->name = g.name;
    r->d->brief = g.brief;
    r->d->base = g.base;
    r->d->seeds = g.seeds;
    r->d->processes = g.processes;
    td_design_read_variants(r, g.variants);
    td_design_read_sizes(r, g.sizes);
    td_design_read_grid(r, g.grid);
    read_phases(r, g.phases, study);
    td_design_read_match(r, g.match, "study.match", &r->d->match);
    read_budget(r, g.budget);
    read_device(r, g.device);
    /* what refers to variants and phases is checked only if all of them were read */
    if (r->fields.errors->count)
        return;
    for (int p = 0; p < TD_STUDY_PHASES; p++)
        check_only(r, (td_study_phase)p);
    td_design_link_variants(r);
    check_match(r, &r->d->match, "study.match");
    for (size_t k = 0; k < r->d->n_variants; k++)
        check_match(r, &r->d->variants[k].match,
                    td_design_path(r, "study.variants", r->d->variants[k].name));
}

/* A key beside the group would be ignored. */
static const td_setting *find_study(td_config *c, const char *file, td_errors *errors)
{
    const td_setting *study = td_config_get(c, "study");
    if (!study || study->type != TD_SETTING_GROUP)
        td_errors_add(errors,
                      "%s: it has no group 'study', so it is not a study's config: docs/studies.md "
                      "shows one",
                      file);
    else /* a run's config has other groups, which are not what is wrong with it */
        td_config_check_unused(c, errors);
    return study;
}

td_design *td_design_read(const char *file, const char *const *overrides, size_t n_overrides,
                          const char *search, td_errors *errors)
{
    size_t            before = errors->count;
    td_config        *c = td_config_load(&file, 1, NULL, 0, search, errors);
    td_design        *d = c ? td_arena_alloc(td_config_arena(c), sizeof *d) : NULL;
    td_design_reader  r = { { c ? td_config_arena(c) : NULL, errors }, d };
    const td_setting *study = d ? find_study(c, file, errors) : NULL;

    if (d)
        *d = (td_design){ .file = td_arena_copy(r.fields.arena, file), .config = c };
    if (study)
        d->path = study->file; /* before an override takes its place */
    for (size_t k = 0; study && k < n_overrides; k++)
        td_config_lay_key(c, overrides[k], NULL, errors);
    if (study && errors->count == before)
        read_study(&r, td_config_get(c, "study"));
    if (d && errors->count == before)
        return d;
    td_config_free(c);
    return NULL;
}

void td_design_close(td_design *d)
{
    if (d)
        td_config_free(d->config);
}

const td_variant *td_design_variant(const td_design *d, const char *name)
{
    for (size_t k = 0; k < d->n_variants; k++)
        if (!strcmp(d->variants[k].name, name))
            return &d->variants[k];
    return NULL;
}
