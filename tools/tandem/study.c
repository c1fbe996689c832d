/* study.c - `tandem study`: many runs from one config. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "study/emit.h"
#include "study/request.h"
#include "study/table.h"

/* ---- show ------------------------------------------------------------------------------------- */

static const td_flag show_flags[] = {
    { "--no-measure", NULL, "do not time steps" },
    { "--threads", "N", "time steps on N threads (all processors)" },
    { 0, 0, 0 },
};

static const td_usage show_usage = {
    .name = "study show",
    .arguments = "FILE [--no-measure]",
    .brief = "Compose, check and plan every cell of a study, and print them with their parameters, "
             "FLOPs, "
             "memory and expected time. Nothing is written.",
    .example = "tandem study show studies/quick.cfg",
    .flags = show_flags,
    .config = true,
    .json = true,
};

static int show(td_tool *t, int argc, char **argv)
{
    td_study_request q;
    int              code;
    t->looks = true;
    if (!td_tool_parse(t, &show_usage, argc, argv, &code) || !td_study_take(t, &q, true, &code))
        return code;
    return td_study_show(t, &q, TD_TELL);
}

/* ---- status ----------------------------------------------------------------------------------- */

static const td_usage status_usage = {
    .name = "study status",
    .arguments = "DIR | FILE",
    .brief = "Print how far each cell of a study has got.",
    .example = "tandem study status runs/quick",
    .config = true,
    .optional = true,
    .json = true,
    .plain = 1,
};

static int print_status(td_tool *t, const char *directory)
{
    td_error  e = { 0 };
    td_study *s = td_study_open(directory, &e);
    if (!s)
        return td_tool_fail(t, &e);
    if (t->json) {
        json_t *j = td_status_json(s);
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(j);
    } else
        td_status_print(s);
    td_study_close(s);
    return TD_EXIT_OK;
}

static int status(td_tool *t, int argc, char **argv)
{
    td_study_request q;
    td_error         e = { 0 };
    char            *directory;
    int              code;
    t->looks = true;
    if (!td_tool_parse(t, &status_usage, argc, argv, &code))
        return code;
    /* a study's directory is enough; a config has to be composed to find its directory */
    if (t->n_plain)
        return print_status(t, t->plain[0]);
    if (!td_study_take(t, &q, false, &code))
        return code;
    td_errors errors = { 0 };
    directory = td_matrix_directory(&q.matrix, &errors, &e);
    code = directory      ? print_status(t, directory)
           : errors.count ? td_study_errors(&errors)
                          : td_tool_fail(t, &e);
    free(directory);
    return code;
}

/* ---- diff ------------------------------------------------------------------------------------- */

static const td_usage diff_usage = {
    .name = "study diff",
    .arguments = "FILE",
    .brief = "Print what each variant changes compared with the first: the training options that "
             "differ.",
    .example = "tandem study diff studies/which-part.cfg",
    .config = true,
};

/* The first variant's cell of that size, seed and phase. */
static const td_matrix_cell *first_of(const td_matrix *m, const td_matrix_cell *c)
{
    for (size_t k = 0; k < m->n; k++) {
        const td_matrix_cell *x = &m->cells[k];
        if (!strcmp(x->cell.size, c->cell.size) && x->cell.seed == c->cell.seed &&
            x->point.trains == c->point.trains && x->point.reads == TD_STUDY_PHASES)
            return x;
    }
    return c;
}

static void print_diff(const td_matrix *m, const td_matrix_cell *c)
{
    const td_matrix_cell *first = first_of(m, c);
    td_text               lines = { 0 };
    char                 *at, *line;
    if (first == c) {
        printf("%s: the others of its size and phase are compared with it\n", c->cell.name);
        return;
    }
    printf("%s, against %s:\n", c->cell.name, first->cell.name);
    td_matrix_diff(first, c, &lines);
    at = lines.data;
    if (!at)
        printf("  no difference except the run that it starts from\n");
    while (at && (line = strsep(&at, "\n")) != NULL)
        if (*line)
            printf("  %s\n", line);
    td_text_free(&lines);
}

static int diff(td_tool *t, int argc, char **argv)
{
    td_study_request q;
    td_matrix       *m;
    int              code;
    t->looks = true;
    if (!td_tool_parse(t, &diff_usage, argc, argv, &code) || !td_study_take(t, &q, false, &code))
        return code;
    m = td_study_matrix(t, &q.matrix, &code);
    if (!m)
        return code;
    for (size_t k = 0; k < m->n; k++)
        /* evaluations and further seeds change nothing that is of interest here */
        if (m->cells[k].point.reads == TD_STUDY_PHASES &&
            m->cells[k].cell.seed == m->design->seeds.at[0])
            print_diff(m, &m->cells[k]);
    td_matrix_free(m);
    return TD_EXIT_OK;
}

/* ---- emit ------------------------------------------------------------------------------------- */

static const td_flag emit_flags[] = {
    { "-o", "DIR", "the directory to write, which becomes a study's directory" },
    { 0, 0, 0 },
};

static const td_usage emit_usage = {
    .name = "study emit",
    .arguments = "slurm|list|make FILE -o DIR",
    .brief = "Write a study's commands for another machine: jobs for Slurm, a list, or a Makefile, "
             "together with the composed configs, and modules from elsewhere with their hashes.",
    .example = "tandem study emit slurm studies/paper.cfg -o paper",
    .flags = emit_flags,
    .config = true,
    .plain = 1,
    .notes = "Commands run in DIR, with the tandem that $TANDEM names, or else the one on the "
             "path. `tandem study status DIR` and the report read DIR like any study's directory. "
             "Files that are found here, such as your text, get absolute paths; shipped files, and "
             "names of files that are not here, stay as they are, for the other machine.\n",
};

/* Ten files among someone's own are hard to find again. A study's directory is written anew. */
static int check_directory(const char *out, td_error *error)
{
    char   *cells = td_path_join(out, "cells.json"), **names = NULL;
    int64_t n = td_file_exists(out) ? td_list_directory(out, &names, error) : 0;
    bool    good = n == 0 || (cells && td_file_exists(cells));
    free(cells);
    if (n > 0)
        td_free_names(names, n);
    if (n < 0)
        return td_failed(error, TD_EIO);
    return good ? 0
                : td_fail(error, TD_ECONFIG,
                          "'%s' has other files and is not a study's directory: give -o a new "
                          "directory, or one that a study was written to",
                          out);
}

static int emit_matrix(td_tool *t, td_matrix *m, const char *kind, const char *out)
{
    td_error e = { 0 };
    if (check_directory(out, &e) || td_make_writable(out, &e) || td_study_emit(m, kind, out, &e))
        return td_tool_fail(t, &e);
    printf("%s\n", out);
    return TD_EXIT_OK;
}

static int emit(td_tool *t, int argc, char **argv)
{
    td_study_request q;
    td_matrix       *m;
    const char      *out;
    int              code;
    if (!td_tool_parse(t, &emit_usage, argc, argv, &code) || !td_study_take(t, &q, false, &code))
        return code;
    out = td_tool_option(t, "-o");
    if (!t->n_plain || !td_emit_knows(t->plain[0]))
        return td_tool_usage_error(t, "study emit writes for slurm, list or make");
    if (!out || !*out)
        return td_tool_usage_error(t, "-o DIR is missing");
    q.matrix.directory = out;
    q.matrix.runs = true;
    q.matrix.seconds = 0; /* another machine's time is not this one's */
    m = td_study_matrix(t, &q.matrix, &code);
    if (!m)
        return code;
    code = td_study_plan(m);
    if (!code)
        code = emit_matrix(t, m, t->plain[0], out);
    td_matrix_free(m);
    return code;
}

/* ---- the command ------------------------------------------------------------------------------ */

static const td_word words[] = {
    { "show", "FILE", "print the matrix: parameters, FLOPs, memory, expected time", &show_usage,
      show },
    { "run", "FILE", "run the cells that are not done", &td_usage_study_run, td_study_command_run },
    { "status", "DIR", "print how far each cell has got", &status_usage, status },
    { "diff", "FILE", "print what each variant changes", &diff_usage, diff },
    { "emit", "FILE", "write the study for Slurm, as a list of commands, or as a Makefile",
      &emit_usage, emit },
    { 0, 0, 0, 0, 0 },
};

const td_usage td_usage_study = {
    .name = "study",
    .brief = "Many runs from one config: all are checked first, then run, and can be resumed.",
    .example = "tandem study run studies/quick.cfg",
    .words = words,
};

/* Each word has its own options, so this lists only the words. */
static void overview(FILE *out)
{
    fprintf(out, "usage: tandem study COMMAND FILE ..\n\n%s\n\n", td_usage_study.brief);
    for (const td_word *w = words; w->name; w++)
        fprintf(out, "  %-8s %s\n", w->name, w->brief);
    fputs("\nSee `tandem study COMMAND --help` for the options of a command.\n", out);
}

int td_command_study(td_tool *t, int argc, char **argv)
{
    bool help = argc && (!strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"));
    if (!argc || help) {
        overview(help ? stdout : stderr);
        return help ? TD_EXIT_OK : TD_EXIT_USAGE;
    }
    for (const td_word *w = words; w->name; w++)
        if (!strcmp(argv[0], w->name)) {
            t->command = w->usage->name; /* "study run", for messages */
            return w->run(t, argc - 1, argv + 1);
        }
    t->usage = &td_usage_study;
    return td_tool_no_word(t, argv[0]);
}
