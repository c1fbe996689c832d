/* report.c - `tandem report` on tiny runs, its page in a real browser, and where two runs part. */
#include "tools/small_run.h"

TestSuite(report, .init = small_setup, .fini = small_teardown);

/* Three variants of one run; seeds of the first. */
static void make_runs(void)
{
    static const char *const more[] = { "train.seed=1", "train.seed=2",
                                        "train.seed=1 schedule.peak=0.01" };
    static const char *const names[] = { "a-1", "a-2", "b" };
    for (int k = 0; k < 3; k++) {
        char command[400];
        snprintf(command, sizeof command, "%%2$s %s && " TANDEM_BINARY " evaluate %%1$s/%s",
                 more[k], names[k]);
        small_expect(names[k], command, 0, "");
    }
}

static char *read_file(const char *name)
{
    char     path[200];
    td_error e = { 0 };
    char    *text;
    snprintf(path, sizeof path, "%s/%s", small_directory, name);
    text = td_file_read(path, NULL, &e);
    cr_assert(text, "%s", e.text);
    return text;
}

static void write_report(void)
{
    small_expect("", TANDEM_BINARY " report %1$s/a-1 %1$s/a-2 %1$s/b -o %1$s/page --title 'a page'",
                 0, "report: ");
}

Test(report, of_runs, .timeout = 120)
{
    char *html;
    make_runs();
    write_report();
    html = read_file("page/index.html");
    cr_expect(strstr(html, "<title>a page</title>"));
    cr_expect(strstr(html, "3 runs in 2 groups"));
    cr_expect(strstr(html, "on held-out text"));
    /* counted from the config: 263 x 24 of the embedding, and the layer */
    cr_expect(strstr(html, "schedule.peak"));
    cr_expect(!strstr(html, "are unknown"), "parameters and FLOPs are counted");
    free(html);
}

Test(report, as_json, .timeout = 120)
{
    make_runs();
    child   c = small_shell("", TANDEM_BINARY " report -q %1$s/a-1 %1$s/b -o %1$s/page --json");
    json_t *j;
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    cr_expect(json_array_size(json_object_get(j, "answer")) >= 2);
    cr_expect(json_object_get(json_object_get(j, "comparison"), "pairs"));
    json_decref(j);
    child_free(&c);
}

Test(report, without_gnuplot, .timeout = 120)
{
    char *html;
    make_runs();
    small_expect("", "PATH=/nowhere " TANDEM_BINARY " report %1$s/a-1 %1$s/b -o %1$s/page", 0,
                 "note: the plots were not drawn: gnuplot is not installed");
    html = read_file("page/index.html");
    cr_expect(strstr(html, "This plot was not drawn: gnuplot is not installed."));
    cr_expect(!strstr(html, "<svg"));
    free(html);
}

Test(report, refusals)
{
    small_expect("", TANDEM_BINARY " report", 2, "name runs, or the directory of a study");
    small_expect("", TANDEM_BINARY " report %1$s", 2, "is neither a run nor a checkpoint");
    small_expect("", TANDEM_BINARY " report --diff %1$s", 2, "--diff takes two runs");
}

/* ---- in a browser ---------------------------------------------------------------------------- */

static bool has_browser(void) { return !system("command -v chromium >/dev/null 2>&1"); }

/* A page around the page, which measures it: width of the content, what was fetched, the colour of the
 * background. The page itself runs no script. */
static void write_probe(int width)
{
    char  path[200];
    FILE *f;
    snprintf(path, sizeof path, "%s/page/probe.html", small_directory);
    f = fopen(path, "w");
    cr_assert(f);
    fprintf(f,
            "<iframe id=f src=index.html width=%d height=900 style='border:0'></iframe><p id=p></p>"
            "<script>onload = function () { var w = document.getElementById('f').contentWindow, "
            "r = w.document.documentElement;\n"
            "document.getElementById('p').textContent = 'wider by ' + "
            "(r.scrollWidth - r.clientWidth) + ' than ' + w.innerWidth + ', fetched ' + "
            "w.performance.getEntriesByType('resource').length + ', background ' + "
            "w.getComputedStyle(w.document.body).backgroundColor + ', pictures ' + "
            "w.document.querySelectorAll('svg').length; }</script>\n",
            width);
    cr_assert(!fclose(f));
}

#define BROWSER                                                                                  \
    "timeout 100 chromium --headless --no-sandbox --disable-gpu --allow-file-access-from-files " \
    "--user-data-dir=%%1$s/browser --virtual-time-budget=5000 "

static void expect_in_browser(int width, bool dark)
{
    char  command[900], words[100];
    child c;
    write_probe(width);
    snprintf(command, sizeof command,
             BROWSER
             "--blink-settings=preferredColorScheme=%d --dump-dom file://%%1$s/page/probe.html",
             !dark);
    c = small_shell("", command);
    snprintf(words, sizeof words, "wider by 0 than %d, fetched 0, background %s,", width,
             dark ? "rgb(15, 19, 24)" : "rgb(255, 255, 255)");
    cr_expect(strstr(c.out, words), "'%s' is not in:\n%s", words, c.out);
    child_free(&c);
}

/* What the browser makes of the page: a picture, or a document to print. */
static void expect_made(const char *name, const char *options)
{
    char  command[900], path[200];
    child c;
    snprintf(command, sizeof command, BROWSER "%s file://%%1$s/page/index.html", options);
    c = small_shell("", command);
    snprintf(path, sizeof path, "%s/%s", small_directory, name);
    cr_expect(td_file_size(path) > 5000, "%s: %s", name, c.err);
    child_free(&c);
}

Test(report, in_a_browser, .timeout = 280)
{
    if (!has_browser())
        cr_skip_test("chromium is not installed: the page is not looked at");
    make_runs();
    write_report();
    expect_in_browser(360, false);
    expect_in_browser(360, true);
    expect_in_browser(1280, false);
    expect_in_browser(1280, true);
    expect_made("narrow.png", "--window-size=360,2000 --screenshot=%1$s/narrow.png");
    expect_made("dark.png", "--window-size=1280,2000 --blink-settings=preferredColorScheme=0 "
                            "--screenshot=%1$s/dark.png");
    expect_made("page.pdf", "--print-to-pdf=%1$s/page.pdf");
}

/* ---- where two runs part --------------------------------------------------------------------- */

Test(report, the_same_run_twice, .timeout = 120)
{
    small_expect("a", "%2$s", 0, "");
    small_expect("c", "%2$s", 0, "");
    small_expect("", TANDEM_BINARY " report --diff %1$s/a %1$s/c", 0,
                 "lines in common are the same, with the hash of all parameters");
    small_expect("", TANDEM_BINARY " report --diff %1$s/a %1$s/c", 0,
                 "checkpoints: all 4 in common have the same parameters");
}

/* The learning rate changes after step 4 of 12: the hash shows it at step 5. */
Test(report, runs_that_part, .timeout = 120)
{
    small_expect("a", "%2$s", 0, "");
    small_expect("c", "%2$s schedule.plugin=wsd schedule.warmup=0 schedule.decay_steps=8", 0, "");
    child   c = small_shell("", TANDEM_BINARY " report --diff %1$s/a %1$s/c --json");
    json_t *j, *metrics, *checkpoints;
    cr_assert_eq(c.code, 0, "%s", c.err);
    j = child_json(&c);
    metrics = json_object_get(j, "metrics");
    checkpoints = json_object_get(j, "checkpoints");
    cr_expect_str_eq(json_string_value(json_object_get(metrics, "metric")),
                     "train/parameters_hash");
    cr_expect(json_integer_value(json_object_get(metrics, "first")) > 0);
    cr_expect(json_integer_value(json_object_get(checkpoints, "first")) >=
              json_integer_value(json_object_get(metrics, "first")));
    cr_expect(strlen(json_string_value(json_object_get(checkpoints, "tensor"))) > 0);
    json_decref(j);
    child_free(&c);
}
