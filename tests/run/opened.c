/* opened.c - a session on the directory of a run, and views of its parameters. */
#include "session.h"

TestSuite(opened, .init = setup, .fini = teardown);

static td_session *open_run(const char *run, td_purpose purpose, td_error *error)
{
    td_session_options o = { .size = sizeof o, .purpose = purpose, .run = run, .log = keep_line };
    return td_session_open(&o, error);
}

/* Trains the run `name`, and moves it: its path and a parameter that is compared. */
static void make_run(char path[200], float values[24])
{
    td_session *s = must_open(TD_PURPOSE_TRAIN, "made");
    watcher     w = { .stop_at = -1 };
    char        made[200];
    td_error    e = { 0 };
    train(s, &w, false);
    cr_assert_eq(td_session_read(s, "model.norm.weight", values, 24, &e), 0, "%s", e.text);
    td_session_close(s);
    snprintf(made, sizeof made, "%s/made", directory);
    snprintf(path, 200, "%s/moved", directory);
    cr_assert_eq(rename(made, path), 0);
}

Test(opened, a_run_wherever_it_is)
{
    char     path[200], checkpoint[300];
    float    made[24], loaded[24];
    td_error e = { 0 };
    make_run(path, made);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoints/step-00000008", path);
    for (int k = 0; k < 2; k++) {
        td_session *s = open_run(k ? checkpoint : path, TD_PURPOSE_EVALUATE, &e);
        cr_assert(s, "%s", e.text);
        cr_expect(strstr(td_session_directory(s), "/moved"), "%s", td_session_directory(s));
        cr_assert_eq(td_session_load(s, NULL, &e), 0, "%s", e.text);
        cr_assert_eq(td_session_read(s, "model.norm.weight", loaded, 24, &e), 0, "%s", e.text);
        cr_expect(!memcmp(made, loaded, sizeof made));
        td_session_close(s);
    }
}

Test(opened, a_run_goes_on_in_its_own_directory)
{
    char               path[200];
    float              made[24];
    td_error           e = { 0 };
    const char        *more[] = { "train.steps=9", NULL };
    td_session_options o = { .size = sizeof o, .run = path, .settings = more };
    watcher            w = { .stop_at = -1 };
    td_session        *s;
    make_run(path, made);
    s = td_session_open(&o, &e);
    cr_assert(s, "%s", e.text);
    cr_expect(train(s, &w, true)->step == 9 && w.begun_at == 8);
    td_session_close(s);
}

Test(opened, what_is_no_run)
{
    td_error e = { 0 };
    cr_expect(!open_run(directory, TD_PURPOSE_MODEL, &e) && e.code == TD_EIO);
    cr_expect(strstr(e.text, "neither a run nor a checkpoint"), "%s", e.text);
}

/* ---- views ----------------------------------------------------------------------------------- */

Test(opened, a_view_shows_what_is_written)
{
    td_session  *s = must_open(TD_PURPOSE_TRAIN, "a");
    float        values[24];
    const float *view, *again;
    int64_t      count;
    td_error     e = { 0 };
    cr_assert_eq(td_session_view(s, "model.norm.weight", &view, &count, &e), 0, "%s", e.text);
    cr_assert(view && count == 24 && view[23] == 1);
    for (int k = 0; k < 24; k++)
        values[k] = (float)k;
    cr_assert_eq(td_session_write(s, "model.norm.weight", values, 24, &e), 0, "%s", e.text);
    cr_expect(!memcmp(view, values, sizeof values));
    cr_assert_eq(td_session_view(s, "model.norm.weight", &again, &count, &e), 0);
    cr_expect_eq(again, view);
    cr_expect(td_session_view(s, "nothing", &view, &count, &e) == TD_ECONFIG && !view && !count);
    cr_expect(strstr(e.text, "no parameter 'nothing'"), "%s", e.text);
    td_session_close(s);
}

/* `reference` computes in double, so there is nothing to look at. */
Test(opened, no_view_of_other_memory)
{
    td_error     e = { 0 };
    td_session  *s = open_session(TD_PURPOSE_TRAIN, "a", "backend.plugin=reference", &e);
    const float *view;
    int64_t      count;
    cr_assert(s, "%s", e.text);
    cr_assert_eq(td_session_view(s, "model.norm.weight", &view, &count, &e), 0, "%s", e.text);
    cr_expect(!view && count == 24);
    td_session_close(s);
}

Test(opened, the_version) { cr_expect(strchr(td_library_version(), '.')); }
