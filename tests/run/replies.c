/* replies.c - answers as bytes and back; bytes that end too early are refused. */
#include "run/replies.h"

#include <criterion/criterion.h>
#include <string.h>

static const int32_t  ids[] = { 7, 0, -1, 31 };
static const td_reply replies[] = {
    { .request = 3, .rank = 0, .ranks = 2, .ids = ids, .n = 4, .text = "odd", .logprob = -0.1 },
    { .request = 3, .rank = 1, .ranks = 2, .ids = ids, .n = 1, .text = "", .logprob = -0.0 },
    { .request = 5, .ranks = 1, .ids = NULL, .n = 0, .text = NULL, .finish = TD_FINISH_LENGTH },
};
enum { REPLIES = sizeof replies / sizeof *replies };

static int seen;

static void compare(void *arg, const td_reply *r)
{
    const td_reply *want = &replies[seen++];
    cr_assert(seen <= REPLIES);
    cr_expect(r->request == want->request && r->rank == want->rank && r->ranks == want->ranks);
    cr_expect_eq(r->finish, want->finish);
    cr_expect(!memcmp(&r->logprob, &want->logprob, sizeof r->logprob));
    cr_assert_eq(r->n, want->n);
    cr_expect(!r->n || !memcmp(r->ids, want->ids, (size_t)r->n * sizeof *ids));
    cr_expect_eq(!r->text, !want->text);
    cr_expect(!r->text || !strcmp(r->text, want->text));
}

static td_text all(void)
{
    td_text t = { 0 };
    for (int k = 0; k < REPLIES; k++)
        td_replies_put(&replies[k], &t);
    cr_assert(!t.failed);
    return t;
}

Test(replies, come_back)
{
    td_text  t = all(), none = { 0 };
    td_error e = { 0 };
    cr_expect_eq(td_replies_visit(&t, compare, NULL, &e), 0, "%s", e.text);
    cr_expect_eq(seen, REPLIES);
    cr_expect_eq(td_replies_visit(&none, compare, NULL, &e), 0);
    td_text_free(&t);
}

static void count(void *arg, const td_reply *r) { seen++; }

Test(replies, that_are_cut_are_refused)
{
    td_text t = all();
    size_t  size = t.size;
    int     refused = 0;
    for (t.size = 0; t.size < size; t.size++) {
        td_error e = { 0 };
        int      code = td_replies_visit(&t, count, NULL, &e);
        /* a cut between two answers cannot be seen */
        cr_expect(code == 0 || code == TD_EFORMAT);
        refused += code != 0;
    }
    cr_expect_eq(refused, (int)size - REPLIES);
    td_text_free(&t);
}
