/* filter.c - finding answers in texts. The expected matches were computed with Python's
 * re.findall and the code of lm-evaluation-harness around it. */
#include "evaluate/filter.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { REGEX, LAST_NUMBER, STRIP, LOWERCASE, FIRST_LINE, UNTIL, REPLACE, TAKE_FIRST };

/* The answer that a filter of these steps finds, or NULL. free() it. */
static char *apply(const td_filter_step *steps, size_t count, const char *text)
{
    td_error   e = { 0 };
    td_filter *f = td_filter_new((td_list){ steps, count }, &e);
    char      *out;
    cr_assert(f, "%s", e.text);
    out = td_filter_apply(f, text, &e);
    cr_expect(!e.code, "%s", e.text);
    td_filter_free(f);
    return out;
}

static void expect(td_filter_step step, const char *text, const char *wanted)
{
    char *out;
    step.pattern = step.pattern ? step.pattern : "";
    step.with = step.with ? step.with : "";
    out = apply(&step, 1, text);
    if (wanted)
        cr_expect(out && !strcmp(out, wanted), "'%s' of '%s': '%s', not '%s'", step.pattern, text,
                  out ? out : "(nothing)", wanted);
    else
        cr_expect(!out, "'%s' of '%s': '%s', not nothing", step.pattern, text, out);
    free(out);
}

#define RE(p, ...) ((td_filter_step){ .function = REGEX, .pattern = p, ##__VA_ARGS__ })

Test(filter, regular_expressions)
{
    expect(RE("#### (\\-?[0-9\\.\\,]+)"), "so it is\n#### -1,234.5\n#### 7", "-1,234.5");
    expect(RE("#### (\\-?[0-9\\.\\,]+)"), "so it is 12", NULL);
    /* of several groups, the first nonempty one of the last match */
    expect(RE("(-?[$0-9.,]{2,})|(-?[0-9]+)", .group_select = -1), "3 apples at $4.50, or 7", "7");
    expect(RE("(-?[$0-9.,]{2,})|(-?[0-9]+)"), "3 apples at $4.50", "3");
    expect(RE("[a-z]+", .group_select = 1), "one two three", "two");
    expect(RE("[a-z]+", .group_select = 5), "one two three", NULL);
    /* lm-evaluation-harness's pattern for BIG-Bench Hard, but with a literal dot */
    expect(RE("(?<=the answer is )(.*)(?=\\.)"), "So the answer is (A). Next the answer is (B).",
           "(A). Next the answer is (B)");
    expect(RE("answer is\\s*([A-D])"), "The answer is\n\n C ", "C");
    expect(RE("x*"), "abc", "");
    expect(RE("\xc3\xa9+"), "caf\xc3\xa9\xc3\xa9!", "\xc3\xa9\xc3\xa9");
    /* invalid UTF-8 does not stop the search */
    expect(RE("[0-9]+"), "\xff\xfe 42", "42");
}

Test(filter, a_pattern_that_backtracks_for_ever_finds_nothing)
{
    char text[4000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    expect(RE("^(a|a|aa)+b"), text, NULL);
}

Test(filter, last_number)
{
    const td_filter_step last = { .function = LAST_NUMBER };
    expect(last, "It is 18.", "18");
    expect(last, "$1,234.50 in all", "1234.5");
    expect(last, "18.00", "18");
    expect(last, "-5 degrees", "-5");
    expect(last, "pages 3-4", "4");
    expect(last, "10 - 5 = -5", "-5");
    expect(last, "100", "100");
    expect(last, "no number", NULL);
    expect(last, "", NULL);
}

Test(filter, small_edits)
{
    expect((td_filter_step){ .function = STRIP }, " \n a b\t\n", "a b");
    expect((td_filter_step){ .function = LOWERCASE }, "The END", "the end");
    expect((td_filter_step){ .function = FIRST_LINE }, "one\ntwo", "one");
    expect((td_filter_step){ .function = UNTIL, .pattern = "Q:" }, "yes Q: no", "yes ");
    expect((td_filter_step){ .function = UNTIL, .pattern = "Q:" }, "yes", "yes");
    expect((td_filter_step){ .function = REPLACE, .pattern = "[,$]" }, "$1,000", "1000");
    expect((td_filter_step){ .function = REPLACE, .pattern = "(\\w)(\\w)", .with = "$2$1-" },
           "abcd", "ba-dc-");
    /* the result may be longer than the initial buffer */
    expect(
        (td_filter_step){
            .function = REPLACE,
            .pattern = "x",
            .with = "0123456789012345678901234567890123456789012345678901234567890123456789" },
        "xx",
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789");
    expect((td_filter_step){ .function = TAKE_FIRST }, "as it is ", "as it is ");
}

Test(filter, steps_follow_each_other)
{
    const td_filter_step steps[] = { { REGEX, "The answer is (.*)", "", 0 },
                                     { LAST_NUMBER, "", "", 0 } };
    char                *out = apply(steps, 2, "3 + 4. The answer is 1,007 (seven).");
    cr_expect(out && !strcmp(out, "1007"), "%s", out);
    free(out);
    out = apply(steps, 2, "3 + 4. The answer is seven.");
    cr_expect(!out, "%s", out);
    out = apply(NULL, 0, "no steps");
    cr_expect_str_eq(out, "no steps");
    free(out);
}

static void refused(td_filter_step step, const char *says)
{
    td_error   e = { 0 };
    td_filter *f = td_filter_new((td_list){ &step, 1 }, &e);
    cr_expect(!f && e.code == TD_ECONFIG, "'%s' is accepted", step.pattern);
    cr_expect(strstr(e.text, says), "'%s' is not in: %s", says, e.text);
    td_filter_free(f);
}

Test(filter, wrong_patterns_say_where)
{
    refused((td_filter_step){ REGEX, "a(b", "", 0 },
            "step 1: the pattern 'a(b' is invalid at character 4: missing closing parenthesis");
    refused((td_filter_step){ REGEX, "[z-a]", "", 0 }, "range out of order");
    refused((td_filter_step){ REGEX, "", "", 0 }, "step 1, 'regex', has no pattern");
    refused((td_filter_step){ STRIP, "x", "", 0 }, "'strip', takes no pattern; it has 'x'");
}
