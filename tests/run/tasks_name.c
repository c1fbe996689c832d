/* tasks_name.c - the names of results, which become names of files. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "run/session.h"
#include "run/tasks_name.h"

static char *name_of(const char *const *tasks, size_t count)
{
    td_session       s = { .configs = "/nonexistent" };
    td_tasks_request r = { .names = tasks, .count = count, .shots = 0 };
    char            *name = td_tasks_name(&s, &r);
    cr_assert_not_null(name);
    return name;
}

Test(tasks_name, says_the_tasks_and_shots)
{
    const char *tasks[] = { "small/boolq", "own.cfg" };
    char       *name = name_of(tasks, 2);
    cr_assert_str_eq(name, "small-boolq+own-0-shot");
    free(name);
}

/* A long list is shortened, but results of another list must not replace its own. */
Test(tasks_name, lists_that_begin_alike_differ)
{
    const char *a[] = { "small/boolq",     "small/copa",      "small/arc_easy",
                        "small/hellaswag", "small/hellaswag", "small/openbook_qa",
                        "small/winogrande" };
    const char *b[] = { "small/boolq",     "small/copa",        "small/arc_easy", "small/hellaswag",
                        "small/hellaswag", "small/openbook_qa", "small/lambada" };
    char       *x = name_of(a, 7), *y = name_of(b, 7), *again = name_of(a, 7);
    cr_expect_str_neq(x, y);
    cr_expect_str_eq(x, again);
    cr_expect_leq(strlen(x), 130);
    /* cut between names */
    cr_expect(strstr(x, "small-openbook_qa+more-"), "'%s'", x);
    free(x);
    free(y);
    free(again);
}
