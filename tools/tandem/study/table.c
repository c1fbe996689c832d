/* table.c - the matrix of a study, before it runs and while it does. */
#include "study/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "run/differences.h"
#include "study/tail.h"

/* ---- what cells cost -------------------------------------------------------------------------- */

static bool trains(const td_matrix_cell *c) { return c->point.reads == TD_STUDY_PHASES; }

/* Seconds of training: measured here, or at the rate of the study's device; 0: unknown. */
static double seconds_of(const td_matrix *m, const td_matrix_cell *c)
{
    if (c->figures.rate_seconds > 0)
        return c->figures.rate_seconds * td_figures_steps(&c->figures);
    return m->design->device.flops_per_second > 0
               ? c->cell.flops / m->design->device.flops_per_second
               : 0;
}

typedef struct totals {
    size_t trained, read;
    double flops, seconds, memory;
    bool   timed; /* all training cells */
} totals;

static totals add_up(const td_matrix *m)
{
    totals t = { .timed = true };
    for (size_t k = 0; k < m->n; k++) {
        const td_matrix_cell *c = &m->cells[k];
        if (!trains(c)) {
            t.read++;
            continue;
        }
        t.trained++;
        t.flops += c->cell.flops;
        t.seconds += seconds_of(m, c);
        /* a total that lacks some cells would look like that of all */
        t.timed = t.timed && seconds_of(m, c) > 0;
        t.memory = fmax(t.memory, c->cell.memory);
    }
    return t;
}

/* ---- the matrix ------------------------------------------------------------------------------- */

static int width_of(const td_matrix *m)
{
    size_t width = 4;
    for (size_t k = 0; k < m->n; k++)
        if (trains(&m->cells[k]) && strlen(m->cells[k].cell.name) > width)
            width = strlen(m->cells[k].cell.name);
    return (int)width;
}

/* The phases that read the run of cell k, on its own row: a study has several of them for each run. */
static void print_readers(const td_matrix *m, size_t k, FILE *out)
{
    const char *between = "  ";
    for (size_t i = k + 1; i < m->n; i++)
        if (!trains(&m->cells[i]) && m->cells[i].of == k) {
            fprintf(out, "%s%s", between, m->cells[i].cell.phase);
            between = ", ";
        }
}

/* Of several processes, the number and what each of them needs: "4 x 1.2 GiB". */
static const char *memory_of(const td_cell *c, char out[64])
{
    char each[32];
    td_human_bytes(each, c->memory / (double)c->processes);
    if (c->processes > 1)
        snprintf(out, 64, "%" PRId64 " x %s", c->processes, each);
    else
        snprintf(out, 64, "%s", each);
    return out;
}

/* Of the column of memory. */
static int room_of(const td_matrix *m)
{
    size_t room = 10;
    for (size_t k = 0; k < m->n; k++) {
        char memory[64];
        if (strlen(memory_of(&m->cells[k].cell, memory)) > room)
            room = strlen(memory);
    }
    return (int)room;
}

static void print_row(const td_matrix *m, size_t k, int width, FILE *out)
{
    const td_matrix_cell *c = &m->cells[k];
    char                  parameters[32], memory[64], time[32] = "-", steps[32];
    double                seconds = seconds_of(m, c);
    if (seconds > 0)
        td_human_time(time, seconds);
    /* how many steps a budget comes to is known when the cell begins */
    snprintf(steps, sizeof steps, "%s%.0f", c->figures.steps ? "" : "~",
             ceil(td_figures_steps(&c->figures)));
    fprintf(out, "%-*s %10s %9s %10.3g %*s %9s %8s", width, c->cell.name,
            td_human_count(parameters, c->cell.parameters), steps, c->cell.flops, room_of(m),
            memory_of(&c->cell, memory), time, td_cell_state_name(c->cell.state));
    print_readers(m, k, out);
    fputc('\n', out);
}

/* The first variant's cell of the same size, seed and phase. */
static const td_matrix_cell *first_of(const td_matrix *m, const td_matrix_cell *c)
{
    const td_matrix_cell *x = m->cells;
    while (x != c && (!trains(x) || strcmp(x->cell.size, c->cell.size) ||
                      x->cell.seed != c->cell.seed || strcmp(x->cell.phase, c->cell.phase)))
        x++;
    return x;
}

/* The settings that losses depend on, whatever the model. */
static bool is_of_text(const char *line)
{
    return !strncmp(line, "data.plugin:", 12) || !strncmp(line, "data.sources", 12) ||
           !strncmp(line, "tokenizer.", 10);
}

/* Reported before hours are spent, not only in the last sentence of the report. */
static void print_other_text(const td_matrix_cell *c, const td_matrix_cell *first,
                             const char *lines, FILE *out)
{
    const char *between = "";
    for (size_t n; *lines; lines += n + (lines[n] == '\n')) {
        n = strcspn(lines, "\n");
        if (!is_of_text(lines))
            continue;
        if (!*between)
            fprintf(out,
                    "%s differs in its text or tokenizer from %s, so their losses are not over the "
                    "same tokens: ",
                    c->cell.name, first->cell.name);
        fprintf(out, "%s%.*s", between, (int)n, lines);
        between = ", ";
    }
    fputs(*between ? "\n" : "", out);
}

/* A plugin in place of another is often meant to be the only difference. What the other one has no
 * option for, and what was chosen so that sizes agree, are further ones. */
static void print_differences(const td_matrix_cell *c, const td_matrix_cell *first,
                              const char *lines, FILE *out)
{
    td_text     words = { 0 };
    bool        less;
    size_t      n = td_changed_say(lines, first->cell.variant, &words, &less);
    const char *what = td_changed_summary(n, less);
    if (what)
        fprintf(out, "%s and %s %s: %s\n", first->cell.name, c->cell.name, what,
                td_text_get(&words));
    td_text_free(&words);
}

/* Against the first variant of its size and phase. */
static void print_comparison(const td_matrix *m, const td_matrix_cell *c, FILE *out)
{
    const td_matrix_cell *first = first_of(m, c);
    td_text               lines = { 0 };
    if (first == c)
        return;
    td_matrix_diff(first, c, &lines);
    print_differences(c, first, td_text_get(&lines), out);
    print_other_text(c, first, td_text_get(&lines), out);
    td_text_free(&lines);
}

static void print_notes(const td_matrix *m, FILE *out)
{
    for (size_t k = 0; k < m->n; k++) {
        const td_cell *c = &m->cells[k].cell;
        /* the other seeds have the same */
        if (!trains(&m->cells[k]) || c->seed != m->design->seeds.at[0])
            continue;
        if (c->n_variants > 1) {
            fprintf(out, "%s is shared by", c->name);
            for (size_t i = 0; i < c->n_variants; i++)
                fprintf(out, "%s %s", i ? "," : "", c->variants[i]);
            fputc('\n', out);
        }
        if (*c->chosen)
            fprintf(out, "%s: %s\n", c->name, c->chosen);
        print_comparison(m, &m->cells[k], out);
    }
}

static void print_totals(const td_matrix *m, FILE *out)
{
    totals                  t = add_up(m);
    const td_device_design *d = &m->design->device;
    char                    memory[32], time[32];
    fprintf(out,
            "%zu cells: %zu train, %zu use the trained models; %.4g training FLOPs; the largest "
            "needs %s",
            m->n, t.trained, t.read, t.flops, td_human_bytes(memory, t.memory));
    if (t.timed && m->times.seconds > 0)
        fprintf(out, "; about %s of training on this machine", td_human_time(time, t.seconds));
    fputc('\n', out);
    if (d->flops_per_second > 0)
        fprintf(out, "at %.4g FLOP/s (%s): %.4g hours\n", d->flops_per_second,
                *d->name ? d->name : "study.device", t.flops / d->flops_per_second / 3600);
}

void td_matrix_print(const td_matrix *m, FILE *out)
{
    int width = width_of(m);
    if (*m->design->brief)
        fprintf(out, "%s: %s\n\n", m->design->name, m->design->brief);
    fprintf(out, "%-*s %10s %9s %10s %*s %9s %8s  then\n", width, "cell", "parameters", "steps",
            "FLOPs", room_of(m), "memory", "time", "state");
    for (size_t k = 0; k < m->n; k++)
        /* the others are named in the rows of the cells that they read */
        if (trains(&m->cells[k]))
            print_row(m, k, width, out);
    fputc('\n', out);
    print_notes(m, out);
    print_totals(m, out);
    fprintf(out, "directory: %s\n", m->directory);
}

json_t *td_matrix_report(const td_matrix *m)
{
    json_t *j = td_matrix_json(m), *cells = json_object_get(j, "cells");
    totals  t = add_up(m);
    for (size_t k = 0; k < m->n; k++) {
        const td_matrix_cell *c = &m->cells[k];
        double                seconds = seconds_of(m, c);
        json_t               *cell = json_array_get(cells, k);
        /* only training has a length and a cost that were planned */
        if (!trains(c))
            continue;
        json_object_set_new(cell, "steps", td_tool_number(ceil(td_figures_steps(&c->figures))));
        json_object_set_new(cell, "flops_per_step", td_tool_number(c->figures.flops));
        json_object_set_new(cell, "seconds", seconds > 0 ? json_real(seconds) : json_null());
    }
    json_object_set_new(j, "directory", json_string(m->directory));
    json_object_set_new(j, "totals",
                        json_pack("{s:I, s:I, s:f, s:o}", "trained", (json_int_t)t.trained, "read",
                                  (json_int_t)t.read, "flops", t.flops, "seconds",
                                  t.timed ? json_real(t.seconds) : json_null()));
    if (m->design->device.flops_per_second > 0)
        json_object_set_new(json_object_get(j, "totals"), "device_hours",
                            json_real(t.flops / m->design->device.flops_per_second / 3600));
    return j;
}

/* ---- how they stand --------------------------------------------------------------------------- */

/* An evaluation reads a run, whose last step would be misleading in its row. */
static bool print_standing(const td_cell *c, int width)
{
    td_last_step last = td_last_step_of(c->run);
    bool         begun = last.step && td_phase_trains(c->phase);
    bool         stopped = begun && c->state == TD_CELL_WAITING;
    const char  *state = stopped ? "stopped" : td_cell_state_name(c->state);
    if (begun)
        printf("%-*s %-8s %9" PRId64 " %9.4f\n", width, c->name, state, last.step, last.loss);
    else
        printf("%-*s %s\n", width, c->name, state);
    return stopped;
}

void td_status_print(const td_study *s)
{
    size_t count[TD_CELL_SKIPPED + 1] = { 0 }, stopped = 0;
    char   part[40] = "";
    int    width = 4;
    for (size_t k = 0; k < s->n_cells; k++)
        width = (int)strlen(s->cells[k].name) > width ? (int)strlen(s->cells[k].name) : width;
    printf("%-*s %-8s %9s %9s\n", width, "cell", "state", "step", "loss");
    for (size_t k = 0; k < s->n_cells; k++) {
        count[s->cells[k].state]++;
        stopped += print_standing(&s->cells[k], width);
    }
    if (stopped)
        snprintf(part, sizeof part, " (%zu of them stopped)", stopped);
    printf("\n%zu cells in %s:", s->n_cells, s->directory);
    for (int k = 0; k <= TD_CELL_SKIPPED; k++)
        if (count[k])
            printf(" %zu %s%s", count[k], td_cell_state_name((td_cell_state)k),
                   k == TD_CELL_WAITING ? part : "");
    putchar('\n');
}

json_t *td_status_json(const td_study *s)
{
    json_t *cells = json_array();
    for (size_t k = 0; k < s->n_cells; k++) {
        json_t      *j = td_matrix_cell_json(&s->cells[k]);
        td_last_step last = td_last_step_of(s->cells[k].run);
        /* a cell that only reads a run would show that run's last step */
        if (last.step && td_phase_trains(s->cells[k].phase)) {
            json_object_set_new(j, "step", json_integer(last.step));
            json_object_set_new(j, "loss", td_tool_number(last.loss));
        }
        json_array_append_new(cells, j);
    }
    return json_pack("{s:s, s:s, s:o}", "study", s->name, "directory", s->directory, "cells",
                     cells);
}
