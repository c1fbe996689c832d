/* absent.c - a config whose backend needs what this machine lacks, as on a cluster's login node: it can
 * be described and checked, but not trained. */
#include "run/review.h"
#include "session.h"

TestSuite(absent, .init = setup, .fini = teardown);

static td_session *open_on(const char *backend, td_purpose purpose)
{
    static const char *const paths[] = { TANDEM_FIXTURES "/parts", NULL };
    char                     dir[100], plugin[64];
    const char              *settings[] = { dir, plugin, "run.name=a", NULL };
    td_error                 e = { 0 };
    td_session_options       o = { .size = sizeof o,
                                   .purpose = purpose,
                                   .texts = texts,
                                   .settings = settings,
                                   .plugin_paths = paths };
    td_session              *s;
    snprintf(dir, sizeof dir, "run.dir=%s", directory);
    snprintf(plugin, sizeof plugin, "backend.plugin=%s", backend);
    s = td_session_open(&o, &e);
    cr_assert(s, "%s", e.text);
    return s;
}

Test(absent, is_described_for_the_default_backend)
{
    td_session           *here = open_on("cpu", TD_PURPOSE_TRAIN);
    td_session           *s = open_on("absent", TD_PURPOSE_TRAIN);
    td_error              e = { 0 };
    const td_description *d = td_session_describe(s, &e), *same = td_session_describe(here, &e);
    cr_assert(d && same, "%s", e.text);
    cr_expect(!same->unavailable);
    cr_assert(d->unavailable);
    cr_expect(strstr(d->unavailable, "no abacus"), "%s", d->unavailable);
    cr_expect_eq(d->parameters, same->parameters);
    cr_expect_float_eq(d->forward.visible, same->forward.visible, 0);
    cr_expect_eq(d->memory.activations, same->memory.activations);
    cr_expect(strstr(td_session_describe_text(s, &e), "no abacus"));
    td_session_close(s);
    td_session_close(here);
}

Test(absent, is_noted_by_a_review)
{
    td_session *s = open_on("absent", TD_PURPOSE_TRAIN);
    td_errors   errors = { 0 };
    td_text     notes = { 0 };
    cr_expect(!td_session_review(s, &errors, &notes), "%s", td_text_get(&errors.text));
    cr_expect(strstr(td_text_get(&notes), "on this machine it would not start: backend 'absent'"),
              "%s", td_text_get(&notes));
    td_text_free(&notes);
    td_errors_free(&errors);
    td_session_close(s);
}

Test(absent, does_not_train)
{
    td_session       *s = open_on("absent", TD_PURPOSE_TRAIN);
    td_training       t = { .size = sizeof t };
    const td_trained *trained;
    td_error          e = { 0 };
    cr_expect_eq(td_session_train(s, &t, &trained, &e), TD_EUNSUPPORTED);
    cr_expect(strstr(e.text, "no abacus"), "%s", e.text);
    td_session_close(s);
}
