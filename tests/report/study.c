/* study.c - the report of a study: groups by labels, tests within a size, curves through sizes, cells
 * that are not done. */
#include "report/made.h"

TestSuite(study, .init = made_begin, .fini = made_end);

enum { SIZES = 5, SEEDS = 2 };

/* L = 40 / C^0.3 + 1.5 of the first variant; the second is better by 0.2 at every size. */
static double loss_at(double flops) { return 40 * pow(flops, -0.3) + 1.5; }

/* What shares the cells of 'b': ", \"NAME\"". */
static const char *sharing = "";
static const char *phase = "pretrain";

static void put_cell(const char *variant, const char *from, int size, int seed, bool first)
{
    double   flops = 1e3 * pow(10, size);
    char     name[60], run[80], done[80];
    made_run r = { .name = run,
                   .schedule = variant,
                   .seed = seed,
                   .flops = flops,
                   .nll = loss_at(flops) - (*variant == 'b' ? 0.2 : 0),
                   .shift = 0.001 * seed,
                   .noise = *variant == 'b' ? 0.01 : 0 };
    snprintf(name, sizeof name, "%s-s%d-%d%.1s", variant, size, seed, phase);
    snprintf(run, sizeof run, "study/cells/%s", name);
    made(r);
    snprintf(done, sizeof done, "done/%s", name);
    made_put("study", done, "key-%s\n", name);
    made_put(
        "study", "cells.json",
        "%s{\"name\": \"%s\", \"variant\": \"%s\", \"variants\": [\"%s\"%s], \"from\": \"%s\", "
        "\"size\": \"s%d\", \"seed\": %d, \"phase\": \"%s\", \"run\": \"cells/%s\", "
        "\"key\": \"key-%s\", "
        "\"state\": \"done\"}",
        first ? "" : ",\n", name, variant, variant, *variant == 'b' ? sharing : "", from, size,
        seed, phase, name, name);
}

static void make_study(void)
{
    made_put("study", "cells.json",
             "{\"study\": \"tiny\", \"brief\": \"Is b <better>?\", \"cells\": [\n");
    for (int size = 1; size <= SIZES; size++)
        for (int seed = 1; seed <= SEEDS; seed++) {
            put_cell("a", "", size, seed, size + seed == 2);
            put_cell("b", "", size, seed, false);
        }
    made_put(
        "study", "cells.json",
        ",\n{\"name\": \"late\", \"variant\": \"c\", \"size\": \"s1\", \"seed\": 1, \"phase\": "
        "\"pretrain\", \"run\": \"cells/late\", \"key\": \"k\", \"state\": \"waiting\"}]}\n");
}

static made_report report_study(void)
{
    char       *study = made_path("study"), *out = made_path("out");
    made_report r;
    td_error    e = { 0 };
    cr_assert(td_report_is_study(study));
    cr_assert_eq(td_report_write(&(td_report_options){ .study = study,
                                                       .directory = out,
                                                       .draws = 1000 },
                                 &r.summary, &e),
                 0, "%s", e.text);
    r.html = made_read("out/index.html");
    r.markdown = made_read("out/report.md");
    free(study);
    free(out);
    return r;
}

Test(study, groups_tests_and_curves)
{
    make_study();
    made_report r = report_study();
    cr_expect(strstr(r.html, "20 runs in 10 groups"));
    cr_expect(strstr(r.html, "<p class=\"question\">Is b &lt;better&gt;?</p>"));
    cr_expect(strstr(r.markdown, "Is b"));
    /* one test of the mean and one of the source, at each size */
    cr_expect_eq(json_array_size(
                     json_object_get(json_object_get(r.summary, "comparison"), "pairs")),
                 2 * SIZES);
    cr_expect(strstr(made_answer(&r, 0), "is better than 'a s5' on held-out text (s5)"), "%s",
              made_answer(&r, 0));
    cr_expect(strstr(r.html, "a: L = 4") && strstr(r.html, "x^-0.3 + 1.5"), "the planted law");
    cr_expect(
        strstr(r.html, "cell &#39;late&#39; of the study is not in the report: it is waiting"));
    made_free(&r);
}

/* Of eight variants each is tested against the first, and one against the second, from which it is
 * made, and which shares its run with another. */
Test(study, tests_against_what_a_variant_is_made_from)
{
    made_report r;
    json_t     *pairs, *pair;
    size_t      k, found = 0;
    sharing = ", \"twin\"";
    made_put("study", "cells.json", "{\"study\": \"tiny\", \"cells\": [\n");
    for (int v = 0; v < 8; v++)
        for (int seed = 1; seed <= SEEDS; seed++) {
            char name[2] = { (char)('a' + v), 0 };
            put_cell(name, v == 5 ? "b" : v == 6 ? "a" : "", 1, seed, v + seed == 1);
        }
    made_put("study", "cells.json", "]}\n");
    r = report_study();
    pairs = json_object_get(json_object_get(r.summary, "comparison"), "pairs");
    cr_expect_eq(json_array_size(pairs), 2 * (7 + 1));
    json_array_foreach(pairs, k, pair)
    {
        const char *a = json_string_value(json_object_get(pair, "a"));
        const char *b = json_string_value(json_object_get(pair, "b"));
        cr_assert(a && b);
        found += !strcmp(a, "b") && !strcmp(b, "f");
        cr_expect(!strcmp(a, "a") || (!strcmp(a, "b") && !strcmp(b, "f")), "%s, %s", a, b);
    }
    cr_expect_eq(found, 2, "the mean and the source");
    /* named once, after the first of the variants that share it */
    cr_expect(strstr(r.html, "&#39;b&#39; is also the run of twin"));
    cr_expect(!strstr(r.html, "b, twin"));
    made_free(&r);
}

/* Both phases call their text by one name. */
Test(study, losses_of_two_phases_are_in_rows_of_their_own)
{
    made_report r;
    made_put("study", "cells.json", "{\"study\": \"tiny\", \"cells\": [\n");
    put_cell("a", "", 1, 1, true);
    put_cell("b", "", 1, 1, false);
    phase = "finetune";
    put_cell("a", "", 1, 1, false);
    put_cell("b", "", 1, 1, false);
    made_put("study", "cells.json", "]}\n");
    r = report_study();
    cr_expect(strstr(r.markdown, "| heldout (pretrain) |"), "%s", r.markdown);
    cr_expect(strstr(r.markdown, "| heldout (finetune) |"), "%s", r.markdown);
    cr_expect(!strstr(r.markdown, "| heldout |\n"), "%s", r.markdown);
    cr_expect(strstr(r.markdown, "only curves of the same phase") ||
              !strstr(r.markdown, "during training"));
    made_free(&r);
}

Test(study, nothing_is_done)
{
    char    *study = made_path("study"), *out = made_path("out");
    json_t  *summary;
    td_error e = { 0 };
    made_put(
        "study", "cells.json",
        "{\"study\": \"tiny\", \"cells\": [{\"name\": \"late\", \"variant\": \"c\", \"phase\": "
        "\"pretrain\", \"run\": \"cells/late\", \"key\": \"k\"}]}\n");
    cr_expect_eq(td_report_write(&(td_report_options){ .study = study, .directory = out }, &summary,
                                 &e),
                 TD_ECONFIG);
    cr_expect(strstr(e.text, "no run of the study"), "%s", e.text);
    free(study);
    free(out);
}
