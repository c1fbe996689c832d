/* matrix.c - makes the matrix of a study: every cell composed, matched, bound and planned. */
#include "study/matrix.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/map.h"
#include "run/session.h"
#include "study/commands.h"
#include "study/expand.h"

/* Intermediate results, which are not needed later. */
typedef struct making {
    td_matrix *m;
    td_map    *known;    /* by "variant size ..": figures that do not depend on seeds */
    td_map    *keys;     /* key: its cell, plus 1 */
    td_map    *messages; /* each error once: complaint */
    td_map    *notes;    /* each note that was logged */
    td_errors *errors;
} making;

/* ---- errors, each once, with the cells that have it ------------------------------------------ */

typedef struct complaint {
    const char *cell;
    size_t      others;
} complaint;

static void complain(making *k, const char *cell, const char *line)
{
    complaint *old = td_map_get(k->messages, line);
    if (old) {
        old->others++;
        return;
    }
    old = td_arena_alloc(k->m->arena, sizeof *old);
    if (old) {
        old->cell = cell;
        td_map_set(k->messages, line, old);
    }
}

static void take_errors(making *k, const char *cell, td_errors *own)
{
    char *text = own->count ? strdup(td_text_get(&own->text)) : NULL, *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        if (*line)
            complain(k, cell, line);
    free(text);
    td_errors_free(own);
}

static void report(making *k)
{
    for (size_t i = 0; i < td_map_count(k->messages); i++) {
        const complaint *c = td_map_value(k->messages, i);
        if (c->others)
            td_errors_add(k->errors, "%s (cell '%s' and %zu more)", td_map_key(k->messages, i),
                          c->cell, c->others);
        else
            td_errors_add(k->errors, "%s (cell '%s')", td_map_key(k->messages, i), c->cell);
    }
}

/* ---- what is chosen -------------------------------------------------------------------------- */

/* The point of another variant at the same size. `to` names a variant, or one with its levels. */
static bool find_point(const making *k, const char *to, const td_point *near, td_point *out)
{
    size_t          n;
    td_combination *all = td_combinations(k->m->design, k->m->arena, &n);
    for (size_t i = 0; all && i < n; i++) {
        if (to && strcmp(all[i].name, to) && strcmp(all[i].variant->name, to))
            continue;
        *out = *near;
        out->variant = all[i].variant;
        out->levels = all[i].levels;
        out->name = all[i].name;
        return true;
    }
    return false;
}

/* A budget of parameters is a match: with its amount, or with the first variant. */
static const td_matching *matching_of(const making *k, const td_point *p, td_matching *own)
{
    const td_design        *d = k->m->design;
    const td_budget_design *b = &d->budget;
    if (p->variant->match.at)
        return &p->variant->match;
    if (d->match.at)
        return &d->match;
    if (!b->at || strcmp(b->equal, "parameters"))
        return NULL;
    /* a budget of parameters is a match with the first variant, or with an amount */
    *own = (td_matching){ .at = b->at,
                          .what = "parameters",
                          .amount = b->amount,
                          .by = b->by,
                          .within = b->within,
                          .multiple = b->multiple,
                          .least = 1,
                          .most = 1 << 20 };
    own->to = b->amount > 0 ? NULL : d->variants[0].name;
    return own;
}

static void settle_size(making *k, const td_point *p, td_settled *out, td_errors *errors)
{
    td_matching        own;
    const td_matching *match = matching_of(k, p, &own);
    td_point           to;
    if (!match)
        return;
    if (match->to && !find_point(k, match->to, p, &to))
        return;
    /* the variant that the others are matched with stays as it is */
    if (match->to && !strcmp(to.name, p->name))
        return;
    td_settle_size(&k->m->composer, k->m->arena, p, match->to ? &to : NULL, match, out, errors);
}

static const td_settled *settle(making *k, const td_matrix_cell *c)
{
    const char *name = td_arena_print(k->m->arena, "%s %s", c->cell.variant, c->cell.size);
    td_settled *s = name ? td_map_get(k->known, name) : NULL;
    td_errors   errors = { 0 };
    td_point    p = c->point, first;
    if (s || !name || !(s = td_arena_alloc(k->m->arena, sizeof *s)))
        return s;
    /* before the search: after an error the other cells of the variant do not repeat it */
    td_map_set(k->known, name, s);
    p.reads = TD_STUDY_PHASES;
    settle_size(k, &p, s, &errors);
    if (!errors.count && p.trains == TD_STUDY_PRETRAIN && find_point(k, NULL, &p, &first))
        td_settle_length(&k->m->composer, k->m->arena, &p, &first, &k->m->times, s, &errors);
    take_errors(k, c->cell.name, &errors);
    return s;
}

static td_choices choices_of(const td_settled *s, const td_point *p)
{
    td_choices all = s->sizes;
    for (size_t i = 0; p->trains == TD_STUDY_PRETRAIN && i < s->budget.n; i++)
        all.at[all.n++] = s->budget.at[i];
    return all;
}

/* ---- one cell -------------------------------------------------------------------------------- */

/* A hash of the config, of the phase's options, and of the run that the cell starts from. */
static const char *key_of(making *k, const td_matrix_cell *c, const char *text)
{
    td_text     all = { 0 };
    char        key[17];
    const char *upstream = c->of == TD_NO_CELL ? "" : k->m->cells[c->of].cell.key;
    td_text_print(&all, "%s\n%s\n%s\n", upstream, c->cell.phase, text);
    td_phase_arguments(k->m->design, &c->point, &all);
    td_text_key(td_text_get(&all), key);
    td_text_free(&all);
    return td_arena_copy(k->m->arena, key);
}

/* The budget applies only to pretraining. */
static const char *words_of(making *k, const td_settled *s, const td_point *p)
{
    bool        spends = p->trains == TD_STUDY_PRETRAIN && s->length.size;
    const char *size = td_text_get(&s->size), *length = spends ? td_text_get(&s->length) : "";
    const char *words = td_arena_print(k->m->arena, "%s%s%s", size, *size && spends ? "; " : "",
                                       length);
    return words ? words : "";
}

/* Seeds and phases of a variant have the same notes. */
static void log_notes(making *k, td_text *notes)
{
    char *rest = notes->data;
    for (char *line; rest && (line = strsep(&rest, "\n")) != NULL;)
        if (*line && !td_map_get(k->notes, line)) {
            td_log_line(k->m->composer.log, TD_LOG_INFO, "%s", line);
            td_map_set(k->notes, line, k);
        }
}

/* What the key is made of: a cell that is done stays done when only the number of its processes
 * changes. */
static char *text_alone(making *k, const td_matrix_cell *c, const td_choices *choices,
                        td_errors *errors)
{
    td_point p = c->point;
    p.alone = true;
    return td_cell_text(&k->m->composer, &p, choices, NULL, NULL, errors);
}

static void make_cell(making *k, td_matrix_cell *c)
{
    const td_settled *s = settle(k, c);
    td_errors         errors = { 0 };
    td_text           annotated = { 0 }, notes = { 0 };
    td_choices        choices = choices_of(s, &c->point);
    char *text = td_cell_text(&k->m->composer, &c->point, &choices, &annotated, &notes, &errors);
    char *alone = text ? text_alone(k, c, &choices, &errors) : NULL;
    log_notes(k, &notes);
    if (alone) {
        c->cell.chosen = words_of(k, s, &c->point);
        c->plain = td_arena_copy(k->m->arena, text);
        c->text = td_arena_copy(k->m->arena, td_text_get(&annotated));
        /* of the plain text: origins name files, which may be moved without changing the cell */
        c->cell.key = key_of(k, c, alone);
    }
    take_errors(k, c->cell.name, &errors);
    td_text_free(&annotated);
    td_text_free(&notes);
    free(alone);
    free(text);
}

/* ---- cells that are the same run ------------------------------------------------------------- */

static void add_variant(making *k, td_cell *c, const char *name)
{
    const char **all = td_arena_alloc(k->m->arena, (c->n_variants + 1) * sizeof *all);
    if (!all || !strcmp(c->variants[c->n_variants - 1], name))
        return;
    memcpy(all, c->variants, c->n_variants * sizeof *all);
    all[c->n_variants] = name;
    c->variants = all;
    c->n_variants++;
}

/* If a cell with this key exists, it stands for this one as well. Returns its index. */
static size_t share(making *k, size_t i, size_t kept)
{
    td_matrix_cell *c = &k->m->cells[i];
    size_t          old = (size_t)(uintptr_t)td_map_get(k->keys, c->cell.key);
    if (old) {
        add_variant(k, &k->m->cells[old - 1].cell, c->cell.variant);
        return old - 1;
    }
    k->m->cells[kept] = *c;
    td_map_set(k->keys, c->cell.key, (void *)(uintptr_t)(kept + 1));
    return kept;
}

/* Cells come after the cells that they need, so these already have their final places. */
static void make_cells(making *k)
{
    size_t *place = td_arena_alloc(k->m->arena, (k->m->n + 1) * sizeof *place), kept = 0;
    for (size_t i = 0; place && i < k->m->n; i++) {
        td_matrix_cell *c = &k->m->cells[i];
        if (c->of != TD_NO_CELL) {
            const td_cell *of;
            c->of = place[c->of];
            of = &k->m->cells[c->of].cell;
            c->cell.of = of->name;
            if (c->cell.n_after)
                ((const char **)(uintptr_t)c->cell.after)[0] = of->name;
            if (c->point.reads != TD_STUDY_PHASES)
                c->cell.run = of->run;
        }
        make_cell(k, c);
        place[i] = *c->cell.key ? share(k, i, kept) : i;
        if (place[i] == kept || !*c->cell.key)
            kept++;
    }
    /* after an error places would be wrong, and nothing runs */
    if (!td_map_count(k->messages))
        k->m->n = kept;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* run.dir, as the first cell states it, and the study's name. */
static const char *find_directory(td_matrix *m, const td_matrix_request *q, td_errors *errors)
{
    const td_design *d = m->design;
    size_t           n;
    td_combination  *all = td_combinations(d, m->arena, &n);
    td_point         p = { 0 };
    char            *dir = NULL;
    td_config       *c;
    const char      *out;
    if (q->directory)
        return td_arena_copy(m->arena, q->directory);
    if (!all || !n)
        return NULL;
    /* the directory is needed before the cells exist, so one is composed for it alone */
    p = (td_point){ .variant = all[0].variant,
                    .levels = all[0].levels,
                    .name = all[0].name,
                    .size = &d->sizes[0],
                    .seed = d->seeds.at[0],
                    .trains = d->phases[TD_STUDY_PRETRAIN].at ? TD_STUDY_PRETRAIN
                                                              : TD_STUDY_FINETUNE,
                    .reads = TD_STUDY_PHASES };
    c = td_compose(&m->composer, &p, &(td_choices){ .n = 0 }, &dir, errors);
    out = td_arena_print(m->arena, "%s/%s", dir ? dir : "runs", d->name);
    td_config_free(c);
    free(dir);
    return out;
}

/* Calls `work` with the intermediate results, and reports its errors. */
static int with_making(td_matrix *m, void (*work)(making *), td_errors *errors)
{
    size_t before = errors->count;
    making k = { m, td_map_new(), td_map_new(), td_map_new(), td_map_new(), errors };
    if (k.known && k.keys && k.messages && k.notes) {
        work(&k);
        report(&k);
    } else
        td_errors_add(errors, "out of memory while composing the cells of a study");
    td_map_free(k.known);
    td_map_free(k.keys);
    td_map_free(k.messages);
    td_map_free(k.notes);
    return errors->count == before ? 0 : TD_ECONFIG;
}

static void free_words(making *k)
{
    for (size_t i = 0; i < td_map_count(k->known); i++) {
        td_settled *s = td_map_value(k->known, i);
        td_text_free(&s->size);
        td_text_free(&s->length);
    }
}

static void compose_all(making *k)
{
    make_cells(k);
    free_words(k);
}

/* 0 with the design, the directory and the known times; nothing is composed yet. */
static int open_matrix(td_matrix *m, const td_matrix_request *q, td_errors *errors, td_error *error)
{
    char *shipped = td_shipped_directory(),
         *search = shipped ? td_path_join(shipped, "configs") : NULL;
    m->arena = td_arena_new();
    m->composer = (td_composer){ .search = m->arena && search ? td_arena_copy(m->arena, search)
                                                              : NULL,
                                 .files = q->files,
                                 .settings = q->settings,
                                 .plugin_paths = q->plugin_paths,
                                 .untrusted = q->untrusted,
                                 .here = q->here,
                                 .log = q->log };
    free(shipped);
    free(search);
    if (!m->composer.search)
        return td_fail(error, TD_ENOMEM, "out of memory while reading a study");
    m->registry = td_registry_new(q->plugin_paths, q->log, error);
    if (!m->registry)
        return td_failed(error, TD_EPLUGIN);
    m->composer.registry = m->registry;
    m->design = td_design_read(q->file, q->overrides, q->n_overrides, m->composer.search, errors);
    m->composer.design = m->design;
    /* a grid can multiply to any number of cells: refused before any is allocated */
    if (!m->design || !td_study_fits(m->design, errors))
        return TD_ECONFIG;
    m->directory = find_directory(m, q, errors);
    if (!m->directory)
        return td_fail(error, TD_ENOMEM, "out of memory while reading a study");
    if (td_times_open(&m->times, m->directory, q->seconds, q->threads, error))
        return td_failed(error, TD_ENOMEM);
    m->times.required = q->runs;
    m->times.begin = q->measuring;
    m->times.arg = q->arg;
    return 0;
}

td_matrix *td_matrix_new(const td_matrix_request *q, td_errors *errors, td_error *error)
{
    td_matrix *m = calloc(1, sizeof *m);
    size_t     before = errors->count;
    if (!m)
        td_fail(error, TD_ENOMEM, "out of memory while reading a study");
    else if (!open_matrix(m, q, errors, error) && errors->count == before &&
             (m->cells = td_study_expand(m->design, m->arena, m->directory, &m->n, errors)))
        with_making(m, compose_all, errors);
    if (m && errors->count == before && !error->code)
        return m;
    td_matrix_free(m);
    return NULL;
}

void td_matrix_free(td_matrix *m)
{
    if (!m)
        return;
    td_times_close(&m->times);
    td_registry_free(m->registry);
    td_design_close(m->design);
    td_arena_free(m->arena);
    free(m);
}

char *td_matrix_directory(const td_matrix_request *q, td_errors *errors, td_error *error)
{
    td_matrix *m = calloc(1, sizeof *m);
    char      *directory = NULL;
    if (m && !open_matrix(m, q, errors, error) && !errors->count)
        directory = strdup(m->directory);
    td_matrix_free(m);
    return directory;
}

/* ---- planning -------------------------------------------------------------------------------- */

/* Planning a cell again for each seed would show nothing new. */
static void plan(making *k, td_matrix_cell *c)
{
    const char *name = td_arena_print(k->m->arena, "%s %s %d %d", c->cell.variant, c->cell.size,
                                      c->point.trains, c->point.reads);
    td_figures *f = name ? td_map_get(k->known, name) : NULL;
    td_errors   errors = { 0 };
    td_text     notes = { 0 };
    /* kept even if it fails, so that its errors are reported once */
    if (!f && name && (f = td_arena_alloc(k->m->arena, sizeof *f))) {
        td_map_set(k->known, name, f);
        td_figures_of(&k->m->composer, &c->point, c->plain, &notes, f, &errors);
    }
    log_notes(k, &notes);
    td_text_free(&notes);
    take_errors(k, c->cell.name, &errors);
    if (!f)
        return;
    c->figures = *f;
    c->cell.parameters = f->parameters;
    c->cell.memory = f->memory;
    if (c->point.reads == TD_STUDY_PHASES)
        c->cell.flops = td_figures_flops(f);
}

static void plan_all(making *k)
{
    for (size_t i = 0; i < k->m->n; i++)
        plan(k, &k->m->cells[i]);
}

int td_matrix_plan(td_matrix *m, td_errors *errors) { return with_making(m, plan_all, errors); }

/* ---- measuring ------------------------------------------------------------------------------- */

/* Seeds do not change the time, so the first seed of a variant stands for the others. */
static const td_matrix_cell *first_like(const td_matrix *m, const td_matrix_cell *c)
{
    const td_matrix_cell *x = m->cells;
    while (strcmp(x->cell.variant, c->cell.variant) || strcmp(x->cell.size, c->cell.size) ||
           strcmp(x->cell.phase, c->cell.phase))
        x++;
    return x;
}

int td_matrix_measure(td_matrix *m, bool (*wants)(const td_matrix *, const td_matrix_cell *),
                      td_error  *error)
{
    for (size_t k = 0; k < m->n; k++) {
        td_matrix_cell *c = &m->cells[k];
        if (c->point.reads != TD_STUDY_PHASES || c->figures.unavailable || (wants && !wants(m, c)))
            continue;
        if (td_times_step(&m->times, &m->composer, &c->point, first_like(m, c)->plain, c->cell.name,
                          &c->figures.rate_seconds, error))
            return td_failed(error, TD_EIO);
    }
    return 0;
}
