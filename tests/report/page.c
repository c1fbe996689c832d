/* page.c - the files of a report: a page that is whole and accessible, names of strangers, damaged
 * metrics, many runs. */
#include <ctype.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/made.h"

TestSuite(page, .init = made_begin, .fini = made_end);

/* ---- reading a page -------------------------------------------------------------------------- */

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what))
        n++;
    return n;
}

static bool is_void(const char *name)
{
    return !strcmp(name, "meta") || !strcmp(name, "!DOCTYPE") || !strcmp(name, "br");
}

/* Every element that is opened is closed, in order; text has no '<' of its own. */
static void expect_balanced(const char *html)
{
    char   open[100][20];
    size_t depth = 0;
    for (const char *at = html; (at = strchr(at, '<')) != NULL;) {
        const char *end = strchr(at, '>');
        char        name[20] = "";
        bool        closing = at[1] == '/';
        cr_assert(end, "a tag does not end: %.60s", at);
        sscanf(at + 1 + closing, "%19[!a-zA-Z0-9]", name);
        cr_assert(*name, "not a tag: %.60s", at);
        if (closing) {
            cr_assert(depth, "</%s> closes nothing", name);
            depth--;
            cr_assert_str_eq(open[depth], name, "</%s> closes <%s>: %.100s", name, open[depth], at);
        } else if (!is_void(name) && end[-1] != '/') {
            cr_assert(depth < 100);
            strcpy(open[depth++], name);
        }
        at = end + 1;
    }
    cr_assert_eq(depth, 0, "<%s> stays open", open[0]);
}

/* The value of each id, once. */
static void expect_unique_ids(const char *html)
{
    for (const char *at = html; (at = strstr(at, " id=")) != NULL; at += 4) {
        char id[100];
        int  n = (int)strcspn(at + 5, "\"'");
        cr_assert(n < 80);
        snprintf(id, sizeof id, "%.*s", n + 6, at);
        cr_expect_eq(count(html, id), 1, "id %s is not unique", id);
    }
}

/* h1, then h2, then h3: none is skipped. */
static void expect_headings(const char *html)
{
    int level = 0;
    for (const char *at = html; (at = strstr(at, "<h")) != NULL; at += 2) {
        if (!isdigit((unsigned char)at[2]))
            continue;
        cr_expect(at[2] - '0' <= level + 1, "h%c follows h%d", at[2], level);
        level = at[2] - '0';
    }
    cr_expect_eq(count(html, "<h1"), 1);
}

static void expect_page(const char *html)
{
    expect_balanced(html);
    expect_unique_ids(html);
    expect_headings(html);
    cr_expect(strstr(html, "<html lang=\"en\">"));
    cr_expect(!strstr(html, "<script"));
    cr_expect(!strstr(html, "<link"));
    cr_expect(!strstr(html, "src="));
    cr_expect_eq(count(html, "url(http"), 0);
    cr_expect_eq(count(html, "<svg"), count(html, "role=\"img\""));
    cr_expect_eq(count(html, "<svg"), count(html, "<desc id="));
    cr_expect_eq(count(html, "<desc"), count(html, "<desc id="), "gnuplot's own is left");
    cr_expect(!strstr(html, "Gnuplot"));
    cr_expect_eq(count(html, "<table"), count(html, "<caption"));
    cr_expect_eq(count(html, "<figure "), count(html, "<figcaption"));
    cr_expect(count(html, "<th scope=\"col\"") > 0);
    /* pictures and tables have their files */
    cr_expect(strstr(html, "prefers-color-scheme:dark"));
    cr_expect(strstr(html, "@media print"));
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void make_two(void)
{
    made((made_run){ .name = "a", .schedule = "cosine", .seed = 1, .nll = 3 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 2.7, .noise = 0.05 });
}

Test(page, is_whole)
{
    make_two();
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, "A & B");
    expect_page(r.html);
    cr_expect(strstr(r.html, "<title>A &amp; B</title>"));
    cr_expect(strstr(r.markdown, "# A &amp; B"));
    made_free(&r);
}

static void expect_file(const char *name, const char *words)
{
    char *text = made_read(name);
    cr_expect(strstr(text, words), "%s lacks '%s':\n%.2000s", name, words, text);
    free(text);
}

Test(page, its_files_are_beside_it)
{
    make_two();
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    size_t      k;
    json_t     *figure;
    expect_file("out/tables/scores.tex", "\\toprule");
    expect_file("out/tables/tests.csv", "heldout");
    expect_file("out/tables/settings.csv", "schedule.plugin");
    cr_expect(json_array_size(json_object_get(r.summary, "figures")) >= 3);
    json_array_foreach(json_object_get(r.summary, "figures"), k, figure)
    {
        char name[200];
        snprintf(name, sizeof name, "out/figures/%s.gp", json_string_value(figure));
        expect_file(name, "set terminal svg");
        snprintf(name, sizeof name, "out/figures/%s.csv", json_string_value(figure));
        expect_file(name, "group");
        if (strstr(r.html, "<svg")) { /* gnuplot is installed */
            snprintf(name, sizeof name, "out/figures/%s.svg", json_string_value(figure));
            expect_file(name, "@media (prefers-color-scheme:dark)");
        }
    }
    made_free(&r);
}

/* A run may be named anything that a file system allows. */
Test(page, names_of_strangers_are_shown_not_obeyed)
{
    static const char name[] = "<b>&\"q'x_%$#{}~^\\|`ls`*\x1b[1m\xff";
    made((made_run){ .name = name, .schedule = "cosine", .seed = 1, .nll = 3 });
    made((made_run){ .name = "b", .schedule = "wsd", .seed = 1, .nll = 2.7, .noise = 0.05 });
    made_report r = made_write((const char *const[]){ name, "b" }, 2, "</title><script>");
    expect_page(r.html);
    cr_expect(!strstr(r.html, "<b>"));
    cr_expect(strstr(r.html, "&lt;b&gt;&amp;&quot;q&#39;x_%$#{}~^\\|`ls`*?[1m?"));
    cr_expect(!strchr(r.html, 0x1b) && !strchr(r.markdown, 0x1b));
    cr_expect(!strstr(r.markdown, "<b>"));
    cr_expect(strstr(r.markdown, "&lt;b&gt;&amp;\"q'x\\_%\\$\\#{}\\~^\\\\\\|\\`ls\\`\\*?[1m?") ||
              strstr(r.markdown, "x\\_%\\$\\#"));
    expect_file("out/tables/sizes.tex", "\\&''q'x\\_\\%\\$\\#\\{\\}\\textasciitilde{}");
    expect_file("out/tables/scores.csv", "&\"\"q'x");
    expect_file("out/figures/heldout.gp", "&\"q''x");
    made_free(&r);
}

/* A task of many parts and metrics is one row of the picture; the file has its parts. */
Test(page, parts_of_tasks_are_left_to_the_file)
{
    make_two();
    made_put("a", "eval/mmlu-5-shot.json",
             "{\"kind\":\"tasks\",\"step\":300,\"results\":{"
             "\"mmlu\":{\"acc,none\":0.3,\"acc_stderr,none\":0.05,\"acc_norm,none\":0.4},"
             "\"mmlu:law\":{\"acc,none\":0.2},\"mmlu:art\":{\"acc,none\":0.35}}}\n");
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect_page(r.html);
    expect_file("out/figures/tasks.gp", "set ytics ('mmlu acc' 0)");
    cr_expect(strstr(r.html, "Scores of tasks (5-shot)"));
    cr_expect(strstr(r.html, "mmlu acc_norm (5-shot)"));
    cr_expect(!strstr(r.html, "mmlu:law"));
    expect_file("out/tables/scores.csv", "mmlu:law acc (5-shot)");
    made_free(&r);
}

Test(page, damaged_metrics_are_counted_and_left_out)
{
    make_two();
    made_put("a", "metrics.jsonl", "{\"step\": 310, \"train/cross\n[1]\nnonsense\n{\"loss\": 1}\n");
    /* a key with a flipped bit; a line of norms has no loss */
    made_put("a", "metrics.jsonl",
             "{\"step\": 320, \"train/cross_entrnpy\": 2, \"train/tokens\": 5}\n"
             "{\"step\": 320, \"evaluate/facts/nll\": 2, \"evaluate/nlm\": 5}\n"
             "{\"step\": 320, \"norm/a\": 2}\n");
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect_page(r.html);
    cr_expect(strstr(r.html, "6 damaged lines of"));
    cr_expect(strstr(r.html, "the first is line "));
    made_free(&r);
}

Test(page, a_run_without_metrics)
{
    char *path;
    make_two();
    path = made_path("a/metrics.jsonl");
    cr_assert_eq(remove(path), 0);
    free(path);
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    expect_page(r.html);
    cr_expect(strstr(r.html, "has no metrics.jsonl with a loss"));
    made_free(&r);
}

/* Twenty groups: each is tested against the first only, or most tests would answer no question. */
Test(page, sixty_runs)
{
    static char names[60][20], schedules[20][20];
    const char *runs[60];
    for (int k = 0; k < 60; k++) {
        snprintf(names[k], sizeof *names, "v%c-%d", 'a' + k / 3, k % 3 + 1);
        snprintf(schedules[k / 3], sizeof *schedules, "schedule-%d", k / 3);
        runs[k] = names[k];
        made((made_run){ .name = names[k],
                         .schedule = schedules[k / 3],
                         .seed = k % 3 + 1,
                         .nll = 3 - 0.01 * (k / 3),
                         .shift = 0.01 * (k % 3),
                         .noise = 0.001 * (k / 3) });
    }
    made_report r = made_write(runs, 60, NULL);
    expect_page(r.html);
    cr_expect(strstr(r.html, "60 runs in 20 groups"));
    cr_expect_eq(json_array_size(
                     json_object_get(json_object_get(r.summary, "comparison"), "pairs")),
                 2 * 19);
    made_free(&r);
}

/* A second report leaves nothing of the first. */
Test(page, is_replaced)
{
    char *stale;
    make_two();
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    made_free(&r);
    made_put("out", "figures/stale.svg", "x");
    r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    stale = made_path("out/figures/stale.svg");
    cr_expect(!td_file_exists(stale));
    free(stale);
    made_free(&r);
}

/* Figures that were moved to a larger disk: the link gives way to a directory. */
Test(page, replaces_links)
{
    char       *figures = made_path("out/figures"), *moved = made_path("moved");
    struct stat st;
    make_two();
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    made_free(&r);
    cr_assert(!rename(figures, moved) && !symlink(moved, figures));
    r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    cr_expect(!lstat(figures, &st) && S_ISDIR(st.st_mode));
    cr_expect(td_file_exists(moved), "what the link named is not the report's");
    made_free(&r);
    free(moved);
    free(figures);
}

/* A disk that fills while the new report is written: the page is longer than anything before it. */
Test(page, stays_whole_while_the_next_one_fails)
{
    char *a = made_path("a"), *out = made_path("out"), *old = made_path("out/figures/old.svg");
    char *aside = made_path("out/.new-report");
    const char   *runs[] = { a };
    struct rlimit few = { 4096, RLIM_INFINITY }, all = { RLIM_INFINITY, RLIM_INFINITY };
    json_t       *summary;
    td_error      e = { 0 };
    make_two();
    made_report r = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    made_put("out", "figures/old.svg", "x");
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &few);
    cr_expect_eq(td_report_write(&(td_report_options){ .runs = runs, .count = 1, .directory = out },
                                 &summary, &e),
                 TD_EIO, "%s", e.text);
    setrlimit(RLIMIT_FSIZE, &all);
    cr_expect(td_file_exists(old), "the figures are those of the report that failed");
    cr_expect(!td_file_exists(aside));
    expect_file("out/index.html", r.html);
    made_free(&r);
    free(aside);
    free(old);
    free(out);
    free(a);
}

Test(page, what_somebody_else_keeps_is_not_replaced)
{
    char    *a = made_path("a"), *out = made_path("out"), *kept = made_path("out/figures/mine.svg");
    json_t  *summary;
    td_error e = { 0 };
    const char *runs[] = { a };
    make_two();
    made_put("out", "figures/mine.svg", "x");
    cr_expect_eq(td_report_write(&(td_report_options){ .runs = runs, .count = 1, .directory = out },
                                 &summary, &e),
                 TD_ECONFIG);
    cr_expect(strstr(e.text, "which is not part of a report"), "%s", e.text);
    cr_expect(td_file_exists(kept));
    free(kept);
    free(out);
    free(a);
}

Test(page, the_same_runs_give_the_same_bytes)
{
    make_two();
    made_report a = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    made_report b = made_write((const char *const[]){ "a", "b" }, 2, NULL);
    cr_expect_str_eq(a.html, b.html);
    cr_expect_str_eq(a.markdown, b.markdown);
    made_free(&a);
    made_free(&b);
}
