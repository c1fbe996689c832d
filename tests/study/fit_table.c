/* fit_table.c - CSV from strangers: what is read, and what is refused with its line. */
#include "study/fit_table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static int parse(const char *text, td_fit_table *t, td_error *e)
{
    return td_fit_table_parse("p.csv", strdup(text), strlen(text), t, e);
}

static void expect_cells(const char *text, int64_t columns, int64_t rows, const char *const *cells)
{
    td_fit_table t;
    td_error     e = { 0 };
    cr_assert_eq(parse(text, &t, &e), 0, "%s", e.text);
    cr_assert_eq(t.columns, columns);
    cr_assert_eq(t.rows, rows);
    for (int64_t k = 0; k < columns * rows; k++)
        cr_expect_str_eq(td_fit_table_cell(&t, k / columns, k % columns), cells[k],
                         "cell %ld is '%s'", (long)k,
                         td_fit_table_cell(&t, k / columns, k % columns));
    td_fit_table_free(&t);
}

Test(fit_table, plain_and_quoted_fields)
{
    expect_cells("a,b\n1,2\n3,4", 2, 2, (const char *[]){ "1", "2", "3", "4" });
    expect_cells("a,b\r\n1,2\r\n\r\n", 2, 1, (const char *[]){ "1", "2" });
    expect_cells("\xEF\xBB\xBF"
                 "a, b\n x ,\n",
                 2, 1, (const char *[]){ "x", "" });
    expect_cells("a,b\n\"x, \"\"y\"\"\",\"1\n2\"\n", 2, 1, (const char *[]){ "x, \"y\"", "1\n2" });
    expect_cells("a\n\"\"\n", 1, 1, (const char *[]){ "" });
    expect_cells("\n\na,b\n\n,\n", 2, 1, (const char *[]){ "", "" });
}

static void expect_refused(const char *text, const char *message)
{
    td_fit_table t;
    td_error     e = { 0 };
    cr_expect_eq(parse(text, &t, &e), TD_EFORMAT, "'%s' is accepted", text);
    cr_expect_str_eq(e.text, message);
    td_fit_table_free(&t);
}

Test(fit_table, refusals)
{
    expect_refused("", "p.csv is empty: a table begins with a line of column names, such as "
                       "'parameters,nll'");
    expect_refused("a,b,a\n", "p.csv:1: columns 1 and 3 are both called 'a': rename one");
    expect_refused("a,b\n1,2\n1,2,3\n",
                   "p.csv:3: the line has 3 fields, but the header has 2 columns");
    expect_refused("a,b\n1\n", "p.csv:2: the line has 1 fields, but the header has 2 columns");
    expect_refused("a,b\n\"x\n\n1,2\n",
                   "p.csv:2: a quoted field begins here and has no closing quote");
    expect_refused(
        "a,b\n\"1\n\"x,2\n",
        "p.csv:3: there is text between a closing quote and the next comma: a quote within "
        "a quoted field is written twice");
    expect_refused("a,b\n1\"2,3\n",
                   "p.csv:2: there is a quote within a field that is not quoted: quote the whole "
                   "field, and write the quote twice");
    expect_refused("a,b\n\xff,2\n", "p.csv is not UTF-8 text: save it as UTF-8");
}

Test(fit_table, a_zero_byte_is_refused)
{
    static const char text[] = "a,b\n1\0,2\n";
    char             *copy = malloc(sizeof text);
    td_fit_table      t;
    td_error          e = { 0 };
    memcpy(copy, text, sizeof text);
    cr_expect_eq(td_fit_table_parse("p.csv", copy, sizeof text - 1, &t, &e), TD_EFORMAT);
    cr_expect_str_eq(e.text, "p.csv contains a zero byte: it is not a text file");
    td_fit_table_free(&t);
}

Test(fit_table, numbers)
{
    static const char *const cells[] = { "1e9", "0x10", "2.5" };
    static const double      numbers[] = { 1e9, 16, 2.5 };
    td_fit_table             t;
    td_error                 e = { 0 };
    double                   x;
    cr_assert_eq(parse("nll\n1e9\n0x10\n2.5\n", &t, &e), 0);
    for (int k = 0; k < 3; k++) {
        cr_expect_eq(td_fit_table_number(&t, k, 0, &x, &e), 0);
        cr_expect(x == numbers[k], "%s", cells[k]);
    }
    td_fit_table_free(&t);
}

Test(fit_table, cells_that_are_no_numbers)
{
    static const char *const messages[] = {
        "p.csv:2: column 'nll' is 'x': it is not a number",
        "p.csv:4: column 'nll' is '': there must be a number",
        "p.csv:5: column 'nll' is 'nan': a fit takes finite numbers; remove the row",
        "p.csv:6: column 'nll' is '-1': a fit takes the logarithm of it, so it must be more than 0",
        "p.csv:7: column 'nll' is '0': a fit takes the logarithm of it, so it must be more than 0",
        "p.csv:8: column 'nll' is '1e999': a fit takes finite numbers; remove the row",
        "p.csv:9: column 'nll' is '1 2': it is not a number",
    };
    td_fit_table t;
    td_error     e = { 0 };
    double       x;
    cr_assert_eq(parse("n,nll\n1,x\n\n1,\n1,nan\n1,-1\n1,0\n1,1e999\n1,1 2\n", &t, &e), 0, "%s",
                 e.text);
    for (int k = 0; k < 7; k++) {
        e = (td_error){ 0 };
        cr_expect_eq(td_fit_table_number(&t, k, 1, &x, &e), TD_EFORMAT);
        cr_expect_str_eq(e.text, messages[k]);
    }
    e = (td_error){ 0 };
    cr_expect_eq(td_fit_table_column(&t, "nlll", &e), -1);
    cr_expect_str_eq(e.text, "p.csv has no column 'nlll'; did you mean 'nll'?");
    e = (td_error){ 0 };
    cr_expect_eq(td_fit_table_column(&t, "perplexity", &e), -1);
    cr_expect_str_eq(e.text, "p.csv has no column 'perplexity'; it has 'n', 'nll'");
    td_fit_table_free(&t);
}

/* A file of a million lines is read; one of more cells than any table of points has is refused. */
Test(fit_table, huge_files)
{
    size_t       size = 0, room = 64 << 20;
    char        *text = malloc(room);
    td_fit_table t;
    td_error     e = { 0 };
    size += (size_t)sprintf(text, "n,nll\n");
    for (int k = 0; k < 1000000; k++)
        size += (size_t)sprintf(text + size, "%d,2.5\n", k + 1);
    cr_assert_eq(td_fit_table_parse("p.csv", text, size, &t, &e), 0, "%s", e.text);
    cr_expect_eq(t.rows, 1000000);
    td_fit_table_free(&t);
    text = malloc(room);
    memset(text, ',', 20000000);
    text[20000000] = 0;
    cr_expect_eq(td_fit_table_parse("p.csv", text, 20000000, &t, &e), TD_EFORMAT);
    cr_expect(strstr(e.text, "p.csv:1: the table has more than 10000000 cells or 4096 columns"),
              "%s", e.text);
    td_fit_table_free(&t);
}
