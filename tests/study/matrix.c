/* matrix.c - the cells of a study: expansion, layers and their order, matching, budgets, and what is refused. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "study/expand.h"
#include "study/matrix.h"

static char *directory;

static void put(const char *name, const char *text)
{
    char    *path = td_path_join(directory, name);
    td_error e = { 0 };
    cr_assert(!td_file_write(path, text, strlen(text), &e), "%s", e.text);
    free(path);
}

static void begin(void)
{
    directory = td_temporary_directory("matrix", NULL);
    put("plain.cfg",
        "model = { plugin = \"decoder-only\"; vocab_size = 263; d_model = 24; layers = 2;\n"
        "  attention = { plugin = \"softmax\"; heads = 3; head_dim = 8; };\n"
        "  position = { plugin = \"rope\"; }; norm = { plugin = \"rms\"; };\n"
        "  ffn = { plugin = \"swiglu\"; d_ff = 41; }; };\n"
        "loss = { plugin = \"causal-lm\"; }; optimizer = { plugin = \"adamw\"; };\n"
        "schedule = { plugin = \"constant\"; peak = 0.003; }; tokenizer = { plugin = \"bytes\"; "
        "};\n"
        "data = { plugin = \"text\"; sources = ( { name = \"facts\"; files = ( \"" TANDEM_SOURCE
        "/data/corpus/facts.valid.jsonl\" );\n"
        "  held_out = ( \"" TANDEM_SOURCE "/data/corpus/lists.valid.jsonl\" ); } ); };\n"
        "train = { steps = 40; length = 33; batch = 4; };\n");
    put("small.cfg", "model = { d_model = 12; ffn = { d_ff = 31; }; };\n");
    put("large.cfg", "model = { d_model = 48; };\n");
}

static void end(void)
{
    td_remove_tree(directory, NULL);
    free(directory);
}

TestSuite(matrix, .init = begin, .fini = end);

/* The matrix of a study with these words in its group; NULL with errors. */
static td_matrix *make(const char *words, td_errors *errors)
{
    static const char *const none[] = { NULL };
    char                     text[4000];
    char                    *file = td_path_join(directory, "study.cfg");
    td_error                 e = { 0 };
    td_matrix_request q = { .file = file, .files = none, .settings = none, .plugin_paths = none };
    td_matrix        *m;
    snprintf(text, sizeof text, "study = {\n%s\n};\n", words);
    put("study.cfg", text);
    m = td_matrix_new(&q, errors, &e);
    cr_assert(!e.code, "%s", e.text);
    if (m && td_matrix_plan(m, errors)) {
        td_matrix_free(m);
        m = NULL;
    }
    free(file);
    return m;
}

static td_matrix *matrix(const char *words)
{
    td_errors  errors = { 0 };
    td_matrix *m = make(words, &errors);
    cr_assert(m, "%s", td_text_get(&errors.text));
    return m;
}

static void expect_refused(const char *words, const char *message)
{
    td_errors  errors = { 0 };
    td_matrix *m = make(words, &errors);
    cr_expect(!m, "it is accepted: %s", words);
    cr_expect(strstr(td_text_get(&errors.text), message), "'%s' is not in:\n%s", message,
              td_text_get(&errors.text));
    td_matrix_free(m);
    td_errors_free(&errors);
}

static const td_matrix_cell *cell(const td_matrix *m, const char *name)
{
    for (size_t k = 0; k < m->n; k++)
        if (!strcmp(m->cells[k].cell.name, name))
            return &m->cells[k];
    cr_assert_fail("there is no cell '%s'", name);
    return NULL;
}

static void expect_value(const td_matrix *m, const char *name, const char *line)
{
    const td_matrix_cell *c = cell(m, name);
    cr_expect(strstr(c->plain, line), "'%s' is not in the config of '%s':\n%s", line, name,
              c->plain);
}

/* ---- expansion -------------------------------------------------------------------------------- */

Test(matrix, every_combination_is_a_variant)
{
    td_matrix *m = matrix(
        "base = \"plain.cfg\"; seeds = [ 3, 5 ];\n"
        "variants = { a = { }; b = \"model.layers=3\"; };\n"
        "sizes = ( { name = \"24\"; }, { name = \"48\"; files = \"large.cfg\"; } );\n"
        "grid = { ff = { key = \"model.ffn.d_ff\"; values = [ 41, 43, 47 ]; };\n"
        "  norm = { without = { }; with = { keys = { model = { attention = { qkv_norm = false; }; "
        "}; }; }; }; };\n"
        "phases = { pretrain = { }; };");
    cr_expect_eq(m->n, 2 * 2 * 2 * 3 * 2);
    expect_value(m, "b+ff-47+with-48-s5-pretrain", "d_ff = 47;");
    expect_value(m, "b+ff-47+with-48-s5-pretrain", "qkv_norm = false;");
    expect_value(m, "b+ff-47+with-48-s5-pretrain", "layers = 3;");
    expect_value(m, "b+ff-47+with-48-s5-pretrain", "d_model = 48;");
    expect_value(m, "b+ff-47+with-48-s5-pretrain", "seed = 5;");
    expect_value(m, "a+ff-41+without-24-s3-pretrain", "qkv_norm = true;");
    expect_value(m, "a+ff-41+without-24-s3-pretrain", "d_model = 24;");
    td_matrix_free(m);
}

/* A report tests a variant against the one that it is made from, at the same level of the grid. */
Test(matrix, what_a_variant_is_made_from)
{
    td_matrix *m = matrix("base = \"plain.cfg\";\n"
                          "variants = { root = { }; deep = { from = \"root\"; keys = { model = { "
                          "layers = 5; }; }; };\n"
                          "  wide = { from = \"root\"; keys = { model = { d_model = 48; }; }; };\n"
                          "  both = { from = [ \"deep\", \"wide\" ]; }; };\n"
                          "grid = { ff = { key = \"model.ffn.d_ff\"; values = [ 41, 43 ]; }; };\n"
                          "phases = { pretrain = { }; };");
    cr_expect_str_eq(cell(m, "root+ff-41-s1-pretrain")->cell.from, "");
    cr_expect_str_eq(cell(m, "deep+ff-41-s1-pretrain")->cell.from, "root+ff-41");
    cr_expect_str_eq(cell(m, "wide+ff-43-s1-pretrain")->cell.from, "root+ff-43");
    cr_expect_str_eq(cell(m, "both+ff-43-s1-pretrain")->cell.from, "");
    td_matrix_free(m);
}

/* What two variants are made from is laid once, before both. */
Test(matrix, layers_are_laid_in_order)
{
    td_matrix *m = matrix(
        "variants = {\n"
        "  root = { base = \"plain.cfg\"; keys = { model = { ffn = { d_ff = 37; }; }; }; };\n"
        "  deep = { from = \"root\"; keys = { model = { layers = 5; }; }; };\n"
        "  flat = { from = \"root\"; keys = { model = { ffn = { d_ff = 59; }; }; }; };\n"
        "  both = { from = [ \"deep\", \"flat\" ]; };\n"
        "};\n"
        "sizes = { s = { files = \"small.cfg\"; variants = { deep = \"train.batch=2\"; }; }; };\n"
        "phases = { pretrain = \"train.steps=7\"; finetune = { keys = { train = { steps = 9; }; }; "
        "}; };");
    expect_value(m, "both-s-s1-pretrain", "layers = 5;");
    expect_value(m, "both-s-s1-pretrain", "d_ff = 59;");
    expect_value(m, "both-s-s1-pretrain", "d_model = 12;");
    expect_value(m, "both-s-s1-pretrain", "batch = 2;");
    expect_value(m, "flat-s-s1-pretrain", "batch = 4;");
    expect_value(m, "flat-s-s1-pretrain", "steps = 7;");
    expect_value(m, "flat-s-s1-finetune", "steps = 9;");
    /* the variant comes after the size */
    expect_value(m, "root-s-s1-pretrain", "d_ff = 37;");
    td_matrix_free(m);
}

Test(matrix, names_in_files_are_filled_in)
{
    td_matrix *m = matrix("variants = ( \"plain\", { name = \"more\"; from = \"plain\"; files = "
                          "\"{size}.cfg\"; } );\n"
                          "sizes = ( \"small\", \"large\" ); base = \"{variant}.cfg\"; phases = { "
                          "pretrain = { }; };");
    expect_value(m, "more-large-s1-pretrain", "d_model = 48;");
    expect_value(m, "more-small-s1-pretrain", "d_model = 12;");
    expect_value(m, "plain-small-s1-pretrain", "d_model = 24;");
    /* the same config at both sizes: one run */
    cr_expect_eq(m->n, 3);
    td_matrix_free(m);
}

Test(matrix, a_cell_that_two_variants_share_is_one)
{
    td_matrix *m = matrix(
        "base = \"plain.cfg\"; variants = { a = { }; b = { from = \"a\"; finetune = "
        "\"train.dropout=0.1\"; };\n"
        "  c = { }; };\n"
        "phases = { pretrain = { }; finetune = \"train.steps=3\"; evaluate = { }; };");
    const td_matrix_cell *a = cell(m, "a-s1-pretrain"), *b = cell(m, "b-s1-finetune");
    cr_expect_eq(m->n, 2 + 2 + 2);
    cr_expect_eq(a->cell.n_variants, 3);
    cr_expect_str_eq(b->cell.of, "a-s1-pretrain");
    cr_expect_str_eq(b->cell.after[0], "a-s1-pretrain");
    cr_expect_eq(&m->cells[b->of], a);
    cr_expect_str_eq(cell(m, "b-s1-finetune-evaluate")->cell.run, b->cell.run);
    cr_expect_eq(cell(m, "a-s1-finetune")->cell.n_variants, 2, "c finetunes as a does");
    td_matrix_free(m);
}

/* The number of processes is not part of what a cell computes, so it keeps its key. */
Test(matrix, a_cell_is_the_same_on_any_number_of_processes)
{
    static const char words[] = "base = \"plain.cfg\"; variants = { a = { }; }; %s\n"
                                "sizes = { small = { }; };\n"
                                "phases = { pretrain = { }; evaluate = { }; bench = { }; };";
    char              text[400];
    td_matrix        *one, *two;
    snprintf(text, sizeof text, words, "");
    one = matrix(text);
    snprintf(text, sizeof text, words, "processes = 2;");
    two = matrix(text);
    cr_assert_eq(one->n, 3);
    cr_assert_eq(two->n, 3);
    for (size_t k = 0; k < 3; k++)
        cr_expect_str_eq(one->cells[k].cell.key, two->cells[k].cell.key, "%s",
                         one->cells[k].cell.name);
    expect_value(one, "a-small-s1-pretrain", "\"single\"");
    expect_value(two, "a-small-s1-pretrain", "\"mpi\"");
    cr_expect_eq(two->cells[0].cell.processes, 2);
    td_matrix_free(one);
    td_matrix_free(two);
    expect_refused("base = [ \"plain.cfg\", \"comm.plugin=single\" ]; processes = 2;\n"
                   "variants = { a = { }; }; sizes = { small = { }; };\n"
                   "phases = { pretrain = { }; };",
                   "comm.plugin = \"single\" does not connect the 2 processes");
}

Test(matrix, a_phase_may_be_for_some_variants)
{
    td_matrix *m = matrix("base = \"plain.cfg\"; variants = { a = { }; b = \"model.layers=3\"; };\n"
                          "phases = { pretrain = { }; finetune = { only = \"b\"; keys = { train = "
                          "{ steps = 3; }; }; };\n"
                          "  analyze = { only = \"a\"; }; };");
    cr_expect_eq(m->n, 4);
    cell(m, "b-s1-finetune");
    cell(m, "a-s1-pretrain-analyze");
    td_matrix_free(m);
}

/* ---- matching --------------------------------------------------------------------------------- */

static double parameters_with(int d_ff)
{
    char       words[400];
    td_matrix *m;
    double     out;
    snprintf(words, sizeof words,
             "base = \"plain.cfg\"; variants = { a = \"model.ffn.d_ff=%d\"; }; phases = { pretrain "
             "= { }; };",
             d_ff);
    m = matrix(words);
    out = m->cells[0].cell.parameters;
    td_matrix_free(m);
    return out;
}

Test(matrix, the_nearest_size_is_chosen)
{
    td_matrix *m = matrix(
        "base = \"plain.cfg\"; variants = { deep = \"model.layers=7\"; wide = { }; };\n"
        "match = { what = \"parameters\"; to = \"deep\"; by = \"model.ffn.d_ff\"; within = 0.01; "
        "};\n"
        "phases = { pretrain = { }; finetune = \"train.steps=3\"; };");
    const td_matrix_cell *wide = cell(m, "wide-s1-pretrain");
    double                target = cell(m, "deep-s1-pretrain")->cell.parameters;
    int                   chosen = atoi(strstr(wide->plain, "d_ff = ") + 7);
    cr_expect(chosen > 41);
    cr_expect_eq(wide->cell.parameters, parameters_with(chosen));
    cr_expect_leq(fabs(parameters_with(chosen) - target),
                  fabs(parameters_with(chosen - 1) - target));
    cr_expect_leq(fabs(parameters_with(chosen) - target),
                  fabs(parameters_with(chosen + 1) - target));
    cr_expect_leq(fabs(wide->cell.parameters / target - 1), 0.01);
    cr_expect(strstr(wide->cell.chosen, "(config: 41), so that parameters agree with 'deep'"), "%s",
              wide->cell.chosen);
    expect_value(m, "deep-s1-pretrain", "d_ff = 41;");
    /* the model is the same in every phase */
    cr_expect_eq(atoi(strstr(cell(m, "wide-s1-finetune")->plain, "d_ff = ") + 7), chosen);
    td_matrix_free(m);
}

Test(matrix, layers_are_chosen_by_flops)
{
    td_matrix *m = matrix(
        "base = \"plain.cfg\"; variants = { a = \"model.layers=6\"; b = \"model.layers=40\"; };\n"
        "match = { what = \"flops\"; to = \"a\"; by = \"model.layers\"; within = 0.001; };\n"
        "phases = { pretrain = { }; };");
    /* b becomes a: one run, and exactly the same FLOPs */
    cr_expect_eq(m->n, 1);
    cr_expect_eq(m->cells[0].cell.n_variants, 2);
    td_matrix_free(m);
}

Test(matrix, what_cannot_be_matched_is_refused)
{
    expect_refused(
        "base = \"plain.cfg\"; variants = { a = \"model.ffn.d_ff=100\"; b = { }; };\n"
        "match = { what = \"parameters\"; to = \"a\"; by = \"model.layers\"; within = 0.001; };",
        "study.cfg:3: no value of model.layers makes the parameters of 'b' agree with the "
        "25.4k of 'a' within 0.1 %");
    expect_refused("base = \"plain.cfg\"; variants = { a = \"model.ffn.d_ff=100\"; b = { }; };\n"
                   "match = { what = \"parameters\"; to = \"a\"; by = \"model.ffn.width\"; };",
                   "sets no whole number there");
}

/* ---- budgets ---------------------------------------------------------------------------------- */

Test(matrix, budgets_set_the_length)
{
    td_matrix *m = matrix("base = \"plain.cfg\"; variants = { a = { }; b = \"train.batch=8\"; };\n"
                          "budget = { equal = \"tokens\"; }; phases = { pretrain = { }; finetune = "
                          "\"train.steps=3\"; };");
    /* a reads 40 steps of 4 sequences of 33 tokens */
    expect_value(m, "a-s1-pretrain", "steps = 40;");
    expect_value(m, "b-s1-pretrain", "steps = 20;");
    expect_value(m, "b-s1-finetune", "steps = 3;");
    td_matrix_free(m);
    m = matrix("base = \"plain.cfg\"; variants = { a = { }; b = \"model.layers=5\"; };\n"
               "budget = { equal = \"flops\"; }; phases = { pretrain = { }; };");
    cr_expect_float_eq(cell(m, "b-s1-pretrain")->cell.flops, cell(m, "a-s1-pretrain")->cell.flops,
                       1e-9 * cell(m, "a-s1-pretrain")->cell.flops);
    cr_expect_lt(td_figures_steps(&cell(m, "b-s1-pretrain")->figures), 40);
    td_matrix_free(m);
    m = matrix("base = \"plain.cfg\"; budget = { equal = \"target_tokens\"; amount = 5000000000.0; "
               "}; phases = { pretrain = { }; };");
    expect_value(m, "model-s1-pretrain", "target_tokens = 5000000000.0;");
    td_matrix_free(m);
    m = matrix("base = \"plain.cfg\"; variants = { a = { }; b = \"model.layers=3\"; };\n"
               "budget = { equal = \"parameters\"; amount = 30000; by = \"model.ffn.d_ff\"; }; "
               "phases = { pretrain = { }; };");
    cr_expect_float_eq(cell(m, "a-s1-pretrain")->cell.parameters, 30000, 300);
    cr_expect_float_eq(cell(m, "b-s1-pretrain")->cell.parameters, 30000, 300);
    td_matrix_free(m);
}

Test(matrix, a_budget_of_time_is_measured_once)
{
    td_errors         errors = { 0 };
    td_error          e = { 0 };
    const char *const none[] = { NULL };
    char *file = td_path_join(directory, "study.cfg"), *at = td_path_join(directory, "t");
    td_matrix_request q = { .file = file,
                            .files = none,
                            .settings = none,
                            .plugin_paths = none,
                            .directory = at,
                            .seconds = 0.05,
                            .threads = 1 };
    td_matrix        *m, *again;
    put("study.cfg", "study = { base = \"plain.cfg\"; budget = { equal = \"time\"; amount = 3.0; "
                     "}; phases = { pretrain = { }; }; };");
    cr_assert(!td_make_directories(at, NULL));
    m = td_matrix_new(&q, &errors, &e);
    cr_assert(m, "%s%s", td_text_get(&errors.text), e.text);
    cr_expect(strstr(m->cells[0].cell.chosen, "for 3.0s at"), "%s", m->cells[0].cell.chosen);
    cr_assert(!td_times_save(&m->times, &e), "%s", e.text);
    /* another measurement would choose another number of steps, and another run */
    again = td_matrix_new(&q, &errors, &e);
    cr_assert(again);
    cr_expect_str_eq(m->cells[0].cell.key, again->cells[0].cell.key);
    td_matrix_free(m);
    td_matrix_free(again);
    free(file);
    free(at);
}

/* ---- errors ----------------------------------------------------------------------------------- */

Test(matrix, wrong_words_are_refused_with_their_line)
{
    static const char *const cases[][2] = {
        { "base = 3;", "study.cfg:2: study: 'base' is an integer; it takes a file" },
        { "\nseeds = [ -1 ];", "study.cfg:3: study: 'seeds' is a list; it takes integers from 0" },
        { "\nseeds = [ ];",
          "study.cfg:3: study: 'seeds' is an empty list; it takes integers from 0" },
        { "variants = { a = { fils = \"x\"; }; };",
          "study.cfg:2: study.variants.a: 'fils' is unknown; did you mean 'files'?" },
        { "variants = { a = { model = { }; }; };", "the options of a config go into keys" },
        { "variants = ( 3 );", "study.variants: an item of the list has no name" },
        { "variants = ( \"a\", \"a\" );", "study.variants: there is a 'a' already" },
        { "variants = ( \"a/b\" );", "'a/b' cannot be a part of a directory's name" },
        { "variants = { a = { from = \"b\"; }; b = { from = \"a\"; }; };",
          "it is derived from itself" },
        { "sizes = { s = { variants = { x = \"y.cfg\"; }; }; };",
          "study.sizes.s.variants: there is no variant 'x'" },
        { "grid = { x = { key = \"a.b\"; }; };",
          "study.grid.x: key = \"KEY\" and values = [ .. ] belong together" },
        { "phases = { train = { }; };", "there is no phase 'train'" },
        { "phases = { evaluate = { }; };", "nothing is trained: add pretrain or finetune" },
        { "phases = { pretrain = { }; evaluate = { of = \"finetune\"; }; };",
          "of = \"finetune\" is not one of this study's training phases" },
        { "phases = { pretrain = { only = \"q\"; }; };", "there is no variant 'q'" },
        { "budget = { equal = \"steps\"; };", "equal = \"steps\": it takes" },
        { "budget = { equal = \"time\"; };", "amount is missing" },
        { "budget = { equal = \"parameters\"; };", "by = \"KEY\" is missing" },
        { "match = { what = \"parameters\"; by = \"a.b\"; };",
          "to = \"VARIANT\" or amount = NUMBER" },
        { "match = { what = \"parameters\"; by = \"a.b\"; to = \"z\"; };",
          "study.match: there is no variant 'z'" },
        { "base = \"nowhere.cfg\";", "study.cfg:2: extends: there is no file 'nowhere.cfg'" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        expect_refused(cases[k][0], cases[k][1]);
}

Test(matrix, too_many_cells_are_refused)
{
    expect_refused(
        "base = \"plain.cfg\"; grid = {\n"
        "a = { key = \"model.layers\"; values = "
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]; };\n"
        "b = { key = \"model.d_model\"; values = "
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]; };\n"
        "c = { key = \"model.ffn.d_ff\"; values = "
        "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30]; }; };",
        "it has more than 20000 cells");
}
