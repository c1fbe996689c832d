/* study.c - reading the directory of a study: labels, states that follow the disk, strangers' files. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "study/mark.h"
#include "study/study.h"

static char *directory;

static void begin(void) { directory = td_temporary_directory("study", NULL); }

static void end(void)
{
    td_remove_tree(directory, NULL);
    free(directory);
}

static void put(const char *name, const char *text)
{
    char *path = td_path_join(directory, name), *folder = td_path_directory(path);
    cr_assert(!td_make_directories(folder, NULL));
    cr_assert(!td_file_write(path, text, strlen(text), NULL));
    free(folder);
    free(path);
}

static void put_cells(const char *state)
{
    char text[1000];
    snprintf(text, sizeof text,
             "{\"study\": \"tiny\", \"cells\": ["
             "{\"name\": \"a-s3-pretrain\", \"variant\": \"a\", \"variants\": [\"a\", \"b\"], "
             "\"seed\": 3, "
             "\"phase\": \"pretrain\", \"run\": \"cells/a-s3-pretrain\", \"after\": [], \"key\": "
             "\"k1\", "
             "\"state\": \"%s\", \"parameters\": 7, \"flops\": null},"
             "{\"name\": \"a-s3-pretrain-evaluate\", \"variant\": \"a\", \"phase\": \"evaluate\", "
             "\"of\": \"a-s3-pretrain\", \"run\": \"cells/a-s3-pretrain\", \"after\": "
             "[\"a-s3-pretrain\"], "
             "\"key\": \"k2\", \"chosen\": \"model.layers = 3\"}]}",
             state);
    put("cells.json", text);
}

static td_cell_state state_of_first(void)
{
    td_error      e = { 0 };
    td_study     *s = td_study_open(directory, &e);
    td_cell_state state;
    cr_assert(s, "%s", e.text);
    state = s->cells[0].state;
    td_study_close(s);
    return state;
}

TestSuite(study, .init = begin, .fini = end);

Test(study, labels_are_read)
{
    td_error  e = { 0 };
    td_study *s;
    put_cells("waiting");
    s = td_study_open(directory, &e);
    cr_assert(s, "%s", e.text);
    cr_expect_str_eq(s->name, "tiny");
    cr_expect_eq(s->n_cells, 2);
    cr_expect_eq(s->cells[0].seed, 3);
    cr_expect_eq(s->cells[0].n_variants, 2);
    cr_expect_str_eq(s->cells[0].variants[1], "b");
    cr_expect_eq(s->cells[0].parameters, 7);
    cr_expect(isnan(s->cells[0].flops));
    cr_expect_str_eq(s->cells[0].size, "");
    cr_expect_str_eq(s->cells[1].after[0], "a-s3-pretrain");
    cr_expect_str_eq(s->cells[1].chosen, "model.layers = 3");
    cr_expect(!strncmp(s->cells[1].run, directory, strlen(directory)));
    cr_expect(td_study_find(s, "a-s3-pretrain-evaluate") == &s->cells[1]);
    cr_expect(!td_study_find(s, "c"));
    td_study_close(s);
}

Test(study, a_cell_is_done_only_while_its_mark_and_its_run_are_there)
{
    put_cells("done");
    cr_expect_eq(state_of_first(), TD_CELL_WAITING, "nothing is there");
    put("done/a-s3-pretrain", "k1\n");
    cr_expect_eq(state_of_first(), TD_CELL_WAITING, "its run is gone");
    put("cells/a-s3-pretrain/config.cfg", "");
    cr_expect_eq(state_of_first(), TD_CELL_DONE);
    put("done/a-s3-pretrain", "k10\n");
    cr_expect_eq(state_of_first(), TD_CELL_WAITING, "the mark is of another config");
    put("done/a-s3-pretrain", "k");
    cr_expect_eq(state_of_first(), TD_CELL_WAITING);
    put_cells("waiting");
    cr_expect(!td_mark_set(directory, "a-s3-pretrain", "k1", NULL));
    cr_expect_eq(state_of_first(), TD_CELL_DONE);
    cr_expect(!td_mark_clear(directory, "a-s3-pretrain", NULL));
    cr_expect_eq(state_of_first(), TD_CELL_WAITING);
}

Test(study, it_runs_only_while_someone_holds_its_lock)
{
    td_error e = { 0 };
    int      lock;
    put_cells("running");
    cr_expect_eq(state_of_first(), TD_CELL_WAITING);
    lock = td_study_lock(directory, &e);
    cr_assert(lock >= 0, "%s", e.text);
    cr_expect_eq(state_of_first(), TD_CELL_RUNNING);
    cr_expect_eq(td_study_lock(directory, &e), TD_ECONFIG);
    cr_expect(strstr(e.text, "another process"), "%s", e.text);
    close(lock);
    cr_expect_eq(state_of_first(), TD_CELL_WAITING);
}

Test(study, a_failed_cell_stays_failed)
{
    put_cells("failed");
    cr_expect_eq(state_of_first(), TD_CELL_FAILED);
}

static void expect_refused(const char *cells, const char *message)
{
    td_error e = { 0 };
    put("cells.json", cells);
    cr_expect(!td_study_open(directory, &e), "%s", cells);
    cr_expect(strstr(e.text, message), "%s", e.text);
}

Test(study, files_of_strangers_are_refused)
{
    td_error e = { 0 };
    cr_expect(!td_study_open(directory, &e));
    cr_expect(strstr(e.text, "not the directory of a study"), "%s", e.text);
    expect_refused("{\"cells\": [", "line 1");
    expect_refused("{\"cells\": [{\"name\": \"../a\", \"run\": \"cells/a\"}]}", "'../a'");
    expect_refused("{\"cells\": [{\"name\": \"a\", \"run\": \"/etc\"}]}", "'/etc'");
    expect_refused("{\"cells\": [{\"name\": \"a\", \"run\": \"cells/../..\"}]}",
                   "which no study writes");
    expect_refused("{\"cells\": [7]}", "which no study writes");
}
