/* escape.c - texts of strangers in HTML, Markdown, LaTeX, CSV and gnuplot. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/escape.h"

typedef void escape(td_text *, const char *);

static void expect(escape *f, const char *text, const char *wanted)
{
    td_text t = { 0 };
    f(&t, text);
    cr_expect_str_eq(td_text_get(&t), wanted);
    td_text_free(&t);
}

Test(escape, html)
{
    expect(td_escape_html, "a<b>&\"c'", "a&lt;b&gt;&amp;&quot;c&#39;");
    expect(td_escape_html, "&amp;", "&amp;amp;");
    expect(td_escape_html, "\xc3\xa9 \xe2\x86\x92", "\xc3\xa9 \xe2\x86\x92");
}

Test(escape, markdown)
{
    expect(td_escape_markdown, "a|b*c_d`e`[f](g)", "a\\|b\\*c\\_d\\`e\\`\\[f\\](g)");
    expect(td_escape_markdown, "<b>&", "&lt;b&gt;&amp;");
    expect(td_escape_markdown, "![x] #1 ~~y~~", "\\!\\[x\\] \\#1 \\~\\~y\\~\\~");
}

Test(escape, latex)
{
    expect(td_escape_latex, "50% of $x_1 & {y}~z^2\\",
           "50\\% of \\$x\\_1 \\& \\{y\\}\\textasciitilde{}z\\textasciicircum{}2\\textbackslash{}");
    expect(td_escape_latex, "1 \xc2\xb1 2 < 3", "1 \\ensuremath{\\pm} 2 \\ensuremath{<} 3");
}

Test(escape, csv_and_gnuplot)
{
    expect(td_escape_csv, "a \"b\", c", "\"a \"\"b\"\", c\"");
    expect(td_escape_gnuplot, "it's `ls` @x \\n", "'it''s `ls` @x \\n'");
}

/* What no format may contain: controls, halves of characters, ends of lines. */
Test(escape, controls_and_invalid_text)
{
    escape *const all[] = { td_escape_plain, td_escape_html, td_escape_markdown, td_escape_latex };
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        expect(all[k], "a\x1b[1m\x7f", all[k] == td_escape_markdown ? "a?\\[1m?" : "a?[1m?");
        expect(all[k], "a\nb\tc", "a b c");
        expect(all[k],
               "a\xff"
               "b\xc3",
               "a?b?");
        expect(all[k], "", "");
    }
}
