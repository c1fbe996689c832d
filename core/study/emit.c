/* emit.c - writes a study's commands for make, for a shell, and for Slurm. */
#include "study/emit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "study/commands.h"
#include "study/mark.h"

bool td_emit_knows(const char *kind)
{
    return !strcmp(kind, "make") || !strcmp(kind, "list") || !strcmp(kind, "slurm");
}

typedef struct emission {
    const td_matrix *m;
    const char      *directory;
    bool             modules; /* there are modules to carry along */
    bool             slurm;
} emission;

/* ---- a cell as a line of shell ---------------------------------------------------------------- */

/* What starts the program: nothing, or a launcher of several processes. */
static void print_program(const emission *e, const td_matrix_cell *c, td_text *out)
{
    if (c->cell.processes > 1)
        td_text_print(out, "%s -n %" PRId64 " ", e->slurm ? "srun --mpi=pmix" : "mpirun",
                      c->cell.processes);
    td_text_print(out, "\"${TANDEM:-tandem}\" ");
}

/* A shell, and a Makefile with -k, go on after a failure, whose message is only in the log. */
static void print_failure(const td_matrix_cell *c, td_text *out)
{
    td_text words = { 0 };
    td_text_print(&words, "%s ended with exit code", c->cell.name);
    td_text_print(out, " || { code=$?; echo ");
    td_quote(td_text_get(&words), out);
    td_text_print(out, " \"$code:\" ");
    td_text_free(&words);
    td_text_print(&words, "see logs/%s.log", c->cell.name);
    td_quote(td_text_get(&words), out);
    td_text_print(out, " >&2; (exit $code); }");
    td_text_free(&words);
}

/* "{ ${TANDEM:-tandem} train .. && echo KEY > done/NAME; } || .." A study run on another machine
 * leaves the same marks, so `tandem study status` and the report can read it. */
static void print_cell(const emission *e, const td_matrix_cell *c, td_text *out)
{
    td_text_print(out, "{ ");
    for (size_t k = 0; k < td_cell_commands(e->m, c); k++) {
        td_arguments a = { .n = 0 };
        td_cell_command(e->m, c, k, ".", 0, &a);
        /* relative: the directory may lie elsewhere on the other machine */
        if (e->modules) {
            td_arguments_add(&a, "--plugin-path");
            td_arguments_add(&a, "modules");
        }
        td_text_print(out, "%s", k ? " && " : "");
        print_program(e, c, out);
        td_arguments_quote(&a, out);
        td_text_print(out, " >>");
        td_text_print(out, "logs/");
        td_quote(c->cell.name, out);
        td_text_print(out, ".log 2>&1");
        td_arguments_free(&a);
    }
    td_text_print(out, " && echo %s >done/", c->cell.key);
    td_quote(c->cell.name, out);
    td_text_print(out, "; }");
    print_failure(c, out);
}

/* " || { echo 'NAME waits for OF ..' >&2; false; }" */
static void print_missing(const td_matrix_cell *c, const td_cell *of, td_text *out)
{
    td_text words = { 0 };
    td_text_print(&words, "%s was not begun, because %s is not done", c->cell.name, of->name);
    td_text_print(out, " || { echo ");
    td_quote(td_text_get(&words), out);
    td_text_print(out, " >&2; false; }");
    td_text_free(&words);
}

/* A cell that is done is not run again, and the cells that it needs must be done. */
static void print_guarded(const emission *e, const td_matrix_cell *c, td_text *out)
{
    td_text_print(out, "grep -qsx %s done/", c->cell.key);
    td_quote(c->cell.name, out);
    td_text_print(out, " || { ");
    if (c->of != TD_NO_CELL) {
        const td_cell *of = &e->m->cells[c->of].cell;
        td_text_print(out, "grep -qsx %s done/", of->key);
        td_quote(of->name, out);
        print_missing(c, of, out);
        td_text_print(out, " && ");
    }
    print_cell(e, c, out);
    td_text_print(out, "; }");
}

static int save(const emission *e, const char *name, td_text *text, bool runs, td_error *error)
{
    char *path = td_path_join(e->directory, name);
    int   code = text->failed || !path
                     ? td_fail(error, TD_ENOMEM, "out of memory while writing '%s'", name)
                     : td_file_write(path, td_text_get(text), text->size, error);
    if (!code && runs && chmod(path, 0777 & ~umask(umask(0))))
        code = td_io_error(error, "make executable", path);
    free(path);
    td_text_free(text);
    return code;
}

/* ---- make ------------------------------------------------------------------------------------- */

/* make would read $ and # in a recipe or a name; names of cells have neither. */
static void print_for_make(const char *text, td_text *out)
{
    for (; *text; text++)
        td_text_print(out, *text == '$' ? "$$" : "%c", *text);
}

static void print_rule(const emission *e, const td_matrix_cell *c, td_text *out)
{
    td_text line = { 0 };
    print_cell(e, c, &line);
    td_text_print(out, "\ndone/%s: configs/%s.cfg", c->cell.name, c->cell.name);
    if (c->of != TD_NO_CELL)
        td_text_print(out, " done/%s", e->m->cells[c->of].cell.name);
    td_text_print(out, "\n\t@echo '%s'\n\t@", c->cell.name);
    print_for_make(td_text_get(&line), out);
    td_text_print(out, "\n");
    td_text_free(&line);
}

static int emit_make(const emission *e, td_error *error)
{
    td_text out = { 0 };
    for (size_t k = 0; k < e->m->n; k++)
        /* make would take it for an assignment, and has no way to quote it */
        if (strchr(e->m->cells[k].cell.name, '='))
            return td_fail(error, TD_ECONFIG,
                           "a Makefile cannot have a target for the cell '%s', because of the '=' "
                           "in its name: rename its variant or size, or emit a list",
                           e->m->cells[k].cell.name);
    td_text_print(&out,
                  "# The study '%s': `make -j N` runs N cells at a time, and finished cells are "
                  "not run again.\n# A stopped cell continues. With -k a failed cell does not stop "
                  "the others.\n# TANDEM=/path/to/tandem make  uses that command.\n\nall:",
                  e->m->design->name);
    for (size_t k = 0; k < e->m->n; k++)
        td_text_print(&out, " \\\n  done/%s", e->m->cells[k].cell.name);
    td_text_print(&out, "\n.PHONY: all\n");
    for (size_t k = 0; k < e->m->n; k++)
        print_rule(e, &e->m->cells[k], &out);
    return save(e, "Makefile", &out, false, error);
}

/* ---- a list ----------------------------------------------------------------------------------- */

static int emit_list(const emission *e, td_error *error)
{
    td_text out = { 0 };
    for (size_t k = 0; k < e->m->n; k++) {
        print_guarded(e, &e->m->cells[k], &out);
        td_text_print(&out, "\n");
    }
    return save(e, "commands.txt", &out, false, error);
}

/* ---- Slurm ------------------------------------------------------------------------------------ */

/* 0 for a cell that needs no other; otherwise one more than the level of the cell it needs. */
static size_t level_of(const td_matrix *m, const td_matrix_cell *c)
{
    size_t level = 0;
    for (; c->of != TD_NO_CELL; c = &m->cells[c->of])
        level++;
    return level;
}

static size_t count_level(const td_matrix *m, size_t level)
{
    size_t n = 0;
    for (size_t k = 0; k < m->n; k++)
        n += level_of(m, &m->cells[k]) == level;
    return n;
}

/* The most that a cell of the level needs. */
static int64_t processes_of(const td_matrix *m, size_t level)
{
    int64_t most = 1;
    for (size_t k = 0; k < m->n; k++)
        if (level_of(m, &m->cells[k]) == level && m->cells[k].cell.processes > most)
            most = m->cells[k].cell.processes;
    return most;
}

/* The rest of cell.sh. Slurm signals only the batch shell, which passes the signal on to its
 * process group, so that the cell saves. The shell must not be waiting for a foreground command
 * at that time, because traps would wait, too; and the shell around the cell must survive, to
 * see how the cell ended. */
static const char job_end[] =
    "stopped=\n"
    "trap 'stopped=yes; trap \"\" USR1 TERM; kill -USR1 0' USR1\n"
    "trap 'trap \"\" USR1 TERM; kill -USR1 0' TERM # cancelled: it stays out of the queue\n"
    "(trap : USR1 TERM; cell \"$1\" \"${SLURM_ARRAY_TASK_ID:-0}\") &\n"
    "while wait $!; code=$?; kill -0 $! 2>/dev/null; do :; done\n"
    "# saved in time: in the queue again, it continues\n"
    "if [ \"$stopped\" ] && [ $code != 0 ] && [ \"${SLURM_JOB_ID:-}\" ]; then\n"
    "  scontrol requeue \"$SLURM_JOB_ID\"\n"
    "fi\n"
    "exit $code\n";

/* The cells of a level, numbered as the tasks of its array. */
static int emit_cell_script(const emission *e, td_error *error)
{
    td_text out = { 0 };
    td_text_print(
        &out,
        "#!/bin/sh\n# One cell of the study '%s': cell.sh LEVEL, with SLURM_ARRAY_TASK_ID as "
        "its number there.\ncell() {\n  case \"$1-$2\" in\n",
        e->m->design->name);
    for (size_t level = 0; count_level(e->m, level); level++) {
        size_t number = 0;
        for (size_t k = 0; k < e->m->n; k++) {
            /* Slurm numbers the tasks of an array from 0, so cells are numbered within their level
             * */
            if (level_of(e->m, &e->m->cells[k]) != level)
                continue;
            td_text_print(&out, "  %zu-%zu) ", level, number++);
            print_guarded(e, &e->m->cells[k], &out);
            td_text_print(&out, " ;;\n");
        }
    }
    td_text_print(&out,
                  "  *) echo \"cell.sh: there is no cell $1-$2\" >&2; return 2 ;;\n  esac\n}\n%s",
                  job_end);
    return save(e, "cell.sh", &out, true, error);
}

/* afterany: a failed cell stops only the cells that need it, and each cell checks that for
 * itself. */
static int emit_slurm(const emission *e, td_error *error)
{
    td_text out = { 0 };
    size_t  n;
    td_text_print(
        &out,
        "#!/bin/sh\n# Submit the study '%s': ./submit.sh [options of sbatch, such as -t 4:00:00 -p "
        "gpu --gpus 1]\nset -eu\ncd \"$(dirname \"$0\")\"\njob=\n",
        e->m->design->name);
    for (size_t level = 0; (n = count_level(e->m, level)) > 0; level++)
        td_text_print(
            &out,
            "job=$(sbatch --parsable --requeue --open-mode=append --signal=B:USR1@120 "
            "--job-name=%s-%zu \\\n  --output=logs/slurm-%%A_%%a.log --array=0-%zu "
            "--ntasks=%" PRId64
            " ${job:+--dependency=afterany:$job} \"$@\" cell.sh %zu)\necho \"level %zu: %zu "
            "cells, job $job\"\n",
            e->m->design->name, level, n - 1, processes_of(e->m, level), level, level, n);
    if (save(e, "submit.sh", &out, true, error))
        return td_failed(error, TD_EIO);
    return emit_cell_script(e, error);
}

/* ---- modules ---------------------------------------------------------------------------------- */

/* The hashes of all modules, which come from several cells. */
static int list_modules(emission *e, const char *folder, td_error *error)
{
    char  **names = NULL;
    int64_t n = td_file_exists(folder) ? td_list_directory(folder, &names, error) : 0;
    td_text list = { 0 };
    int     code = n < 0 ? td_failed(error, TD_EIO) : 0;
    for (int64_t k = 0; k < n && !code; k++) {
        char *path = td_path_join(folder, names[k]), hash[33];
        /* an earlier list is replaced */
        if (path && strcmp(names[k], "modules.txt") && !(code = td_file_hash(path, hash, error)))
            td_text_print(&list, "%s %s\n", hash, names[k]);
        free(path);
    }
    if (n > 0)
        td_free_names(names, n);
    e->modules = list.size > 0;
    if (!code && e->modules)
        code = save(e, "modules/modules.txt", &list, false, error);
    td_text_free(&list);
    return code;
}

static int copy_modules(emission *e, td_error *error)
{
    char *folder = td_path_join(e->directory, "modules");
    int   code = folder ? 0 : td_fail(error, TD_ENOMEM, "out of memory while writing a study");
    for (size_t k = 0; k < e->m->n && !code; k++)
        if (e->m->cells[k].cell.seed == e->m->design->seeds.at[0])
            code = td_figures_modules(&e->m->composer, e->m->cells[k].plain, e->directory, error);
    if (!code)
        code = list_modules(e, folder, error);
    free(folder);
    return code;
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* The modules lie beside the config, so it need not say where they were; another machine may not
 * have that directory. */
static int write_config(const emission *e, const td_matrix_cell *c, td_error *error)
{
    td_text     out = { 0 }, name = { 0 };
    const char *at = c->text;
    int         code;
    while (*at) {
        size_t n = strcspn(at, "\n");
        n += at[n] == '\n';
        if (strncmp(at, "plugin_path = ", 14))
            td_text_append(&out, at, n);
        at += n;
    }
    td_text_print(&name, "configs/%s.cfg", c->cell.name);
    code = save(e, td_text_get(&name), &out, false, error);
    td_text_free(&name);
    return code;
}

/* Runs that do not exist yet will be the study's: `study run` may continue them. */
static int begin_cells(const emission *e, td_error *error)
{
    int code = 0;
    for (size_t k = 0; k < e->m->n && !code; k++) {
        const td_matrix_cell *c = &e->m->cells[k];
        char                 *cells = td_path_join(e->directory, "cells");
        char *run = cells ? td_path_join(cells, strrchr(c->cell.run, '/') + 1) : NULL;
        if (!run)
            code = td_fail(error, TD_ENOMEM, "out of memory while writing a study");
        else if (c->point.reads == TD_STUDY_PHASES && !td_file_exists(run))
            code = td_matrix_begin_cell(e->m, e->directory, c, error);
        free(run);
        free(cells);
    }
    return code;
}

static int make_done(const emission *e, td_error *error)
{
    char *path = td_path_join(e->directory, "done");
    int   code = path ? td_make_directories(path, error)
                      : td_fail(error, TD_ENOMEM, "out of memory while writing a study");
    free(path);
    return code;
}

int td_study_emit(const td_matrix *m, const char *kind, const char *directory, td_error *error)
{
    emission e = { m, directory, false, !strcmp(kind, "slurm") };
    int      code = td_matrix_write(m, directory, error);
    if (!code)
        code = make_done(&e, error);
    if (!code)
        code = begin_cells(&e, error);
    /* before any command is written: each names the folder of modules if there is one */
    if (!code)
        code = copy_modules(&e, error);
    for (size_t k = 0; k < m->n && !code; k++)
        code = write_config(&e, &m->cells[k], error);
    if (code)
        return code;
    return !strcmp(kind, "make")   ? emit_make(&e, error)
           : !strcmp(kind, "list") ? emit_list(&e, error)
                                   : emit_slurm(&e, error);
}
