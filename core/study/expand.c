/* expand.c - the cells of a study, with their names. */
#include "study/expand.h"

#include <math.h>
#include <string.h>

#include "base/map.h"

/* ---- variants and levels --------------------------------------------------------------------- */

static size_t count_combinations(const td_design *d)
{
    size_t n = d->n_variants;
    /* stop early: the product of many axes may be too large for a number */
    for (size_t k = 0; k < d->n_grid && n <= TD_MOST_CELLS; k++)
        n *= d->grid[k].n;
    return n;
}

/* "decllm+window-32+moe": the names of the variant and of its levels. */
static const char *name_combination(td_arena *a, const td_design *d, const td_variant *v,
                                    const td_level *const *levels)
{
    const char *name = v->name;
    for (size_t k = 0; k < d->n_grid && name; k++)
        name = td_arena_print(a, "%s%s%s", name, *name ? "+" : "", levels[k]->label);
    /* a study of seeds and sizes alone */
    return name && !*name ? "model" : name;
}

td_combination *td_combinations(const td_design *d, td_arena *a, size_t *n)
{
    td_combination *all;
    *n = count_combinations(d);
    all = *n <= TD_MOST_CELLS ? td_arena_alloc(a, (*n + 1) * sizeof *all) : NULL;
    for (size_t i = 0; all && i < *n; i++) {
        const td_level **levels = td_arena_alloc(a, (d->n_grid + 1) * sizeof *levels);
        size_t           rest = i;
        if (!levels)
            return NULL;
        /* the last axis changes fastest */
        for (size_t k = d->n_grid; k-- > 0; rest /= d->grid[k].n)
            levels[k] = &d->grid[k].levels[rest % d->grid[k].n];
        all[i] = (td_combination){ &d->variants[rest], levels, NULL };
        all[i].name = name_combination(a, d, all[i].variant, levels);
        if (!all[i].name)
            return NULL;
    }
    return all;
}

/* ---- cells ----------------------------------------------------------------------------------- */

typedef struct expansion {
    const td_design *d;
    td_arena        *arena;
    const char      *directory;
    td_matrix_cell  *cells;
    size_t           n;
    bool             failed; /* out of memory */
} expansion;

static const char **one(expansion *e, const char *text)
{
    const char **at = td_arena_alloc(e->arena, sizeof *at);
    if (at)
        at[0] = text;
    return at;
}

/* The variant that this one is made from, at the same levels of the grid. */
static const char *name_parent(expansion *e, const td_point *p)
{
    const td_strings *from = &p->variant->from;
    const td_variant *parent = from->count == 1 ? td_design_variant(e->d, from->at[0]) : NULL;
    return parent ? name_combination(e->arena, e->d, parent, p->levels) : "";
}

/* The index of the new cell. */
static size_t add(expansion *e, const td_point *p, const char *name, size_t of)
{
    td_matrix_cell *c = &e->cells[e->n];
    bool            reads = p->reads != TD_STUDY_PHASES;
    const td_cell  *from = of == TD_NO_CELL ? NULL : &e->cells[of].cell;
    if (!name) {
        e->failed = true;
        return 0;
    }
    /* NaN: nothing has been composed or counted yet */
    *c = (td_matrix_cell){ .point = *p, .of = of };
    c->cell = (td_cell){ .name = name,
                         .variant = p->name,
                         .variants = one(e, p->name),
                         .n_variants = 1,
                         .from = name_parent(e, p),
                         .size = p->size->name,
                         .seed = p->seed,
                         .phase = td_study_phase_name(reads ? p->reads : p->trains),
                         .of = from ? from->name : "",
                         .run = reads ? from->run
                                      : td_arena_print(e->arena, "%s/cells/%s", e->directory, name),
                         .after = from ? one(e, from->name) : NULL,
                         .n_after = from != NULL,
                         .key = "",
                         .parameters = (double)NAN,
                         .flops = (double)NAN,
                         .memory = (double)NAN,
                         .processes = td_point_processes(e->d, p),
                         .chosen = "" };
    e->failed |= !c->cell.run || !c->cell.variants || !c->cell.from;
    return e->n++;
}

/* "decllm-nano-s1-pretrain" */
static const char *name_cell(expansion *e, const td_point *p)
{
    const char *size = p->size->name;
    return td_arena_print(e->arena, "%s%s%s-s%lld-%s", p->name, *size ? "-" : "", size,
                          (long long)p->seed, td_study_phase_name(p->trains));
}

static bool reads(const td_phase_design *d, td_study_phase of)
{
    for (size_t k = 0; k < d->of.count; k++)
        if (!strcmp(d->of.at[k], td_study_phase_name(of)))
            return true;
    return false;
}

/* Whether a variant has the phase: a phase may be limited to some variants. */
static bool has_phase(const td_phase_design *d, const td_point *p)
{
    bool has = d->at && !d->only.count;
    for (size_t k = 0; d->at && k < d->only.count; k++)
        has = has || !strcmp(d->only.at[k], p->variant->name);
    return has;
}

/* The cells that read a run, right after it: results of a variant come early. */
static void add_readers(expansion *e, td_point p, size_t of)
{
    for (int r = TD_STUDY_EVALUATE; r < TD_STUDY_PHASES; r++) {
        if (!has_phase(&e->d->phases[r], &p) || !reads(&e->d->phases[r], p.trains))
            continue;
        if (r == TD_STUDY_BENCH && p.seed != e->d->seeds.at[0]) /* all seeds take the same time */
            continue;
        p.reads = (td_study_phase)r;
        add(e, &p,
            td_arena_print(e->arena, "%s-%s", e->cells[of].cell.name,
                           td_study_phase_name((td_study_phase)r)),
            of);
    }
}

static void add_point(expansion *e, const td_combination *c, const td_size *size, int64_t seed)
{
    td_point p = { .variant = c->variant,
                   .levels = c->levels,
                   .name = c->name,
                   .size = size,
                   .seed = seed,
                   .reads = TD_STUDY_PHASES };
    size_t   of = TD_NO_CELL;
    /* finetuning starts from the pretrained cell of this point, if there is one */
    for (int t = TD_STUDY_PRETRAIN; t <= TD_STUDY_FINETUNE; t++) {
        if (!has_phase(&e->d->phases[t], &p))
            continue;
        p.trains = (td_study_phase)t;
        p.starts = of != TD_NO_CELL;
        of = add(e, &p, name_cell(e, &p), of);
        add_readers(e, p, of);
    }
}

/* With seeds outermost, the matrix is complete for the first seed as early as possible. */
static void add_all(expansion *e, const td_combination *all, size_t n)
{
    const td_design *d = e->d;
    for (size_t s = 0; s < d->seeds.count; s++)
        for (size_t z = 0; z < d->n_sizes; z++)
            for (size_t v = 0; v < n; v++)
                add_point(e, &all[v], &d->sizes[z], d->seeds.at[s]);
}

static size_t most_cells(const td_design *d, size_t combinations)
{
    size_t each = 0;
    for (int t = TD_STUDY_PRETRAIN; t <= TD_STUDY_FINETUNE; t++)
        if (d->phases[t].at)
            each += 1 + TD_STUDY_PHASES - TD_STUDY_EVALUATE;
    return each * combinations * d->n_sizes * d->seeds.count;
}

bool td_study_fits(const td_design *d, td_errors *errors)
{
    size_t combinations = count_combinations(d);
    if (combinations <= TD_MOST_CELLS && d->n_sizes <= TD_MOST_CELLS &&
        d->seeds.count <= TD_MOST_CELLS && most_cells(d, combinations) <= TD_MOST_CELLS)
        return true;
    td_errors_add(
        errors,
        "%s: study: it has more than %d cells: variants and the grid alone make %zu or more, "
        "for each of %zu sizes and %zu seeds",
        d->file, (int)TD_MOST_CELLS, combinations, d->n_sizes, d->seeds.count);
    return false;
}

static bool check_names(const expansion *e, td_errors *errors)
{
    td_map *names = td_map_new();
    bool    good = names != NULL;
    for (size_t k = 0; k < e->n && good; k++) {
        const char *name = e->cells[k].cell.name;
        if (td_map_get(names, name)) {
            td_errors_add(
                errors,
                "%s: study: two cells are named '%s': rename a variant, a size or a level, or "
                "list each seed once",
                e->d->file, name);
            good = false;
        } else
            td_map_set(names, name, (void *)(uintptr_t)name);
        /* a name becomes a file's name with suffixes, and file systems allow 255 bytes */
        if (strlen(name) > 200) {
            td_errors_add(errors,
                          "%s: study: the name '%.60s..' has %zu characters; 200 are allowed: use "
                          "shorter names, or fewer axes in the grid",
                          e->d->file, name, strlen(name));
            good = false;
        }
    }
    td_map_free(names);
    return good;
}

td_matrix_cell *td_study_expand(const td_design *d, td_arena *a, const char *directory, size_t *n,
                                td_errors *errors)
{
    expansion       e = { .d = d, .arena = a, .directory = directory };
    size_t          combinations, most;
    td_combination *all = td_combinations(d, a, &combinations);

    most = most_cells(d, combinations);
    e.cells = all ? td_arena_alloc(a, (most + 1) * sizeof *e.cells) : NULL;
    if (e.cells)
        add_all(&e, all, combinations);
    if (!e.cells || e.failed) {
        td_errors_add(errors, "out of memory while expanding a study");
        return NULL;
    }
    *n = e.n;
    return check_names(&e, errors) ? e.cells : NULL;
}
