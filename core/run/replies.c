/* replies.c - answers as bytes: a header of fixed size, ids, text. */
#include "run/replies.h"

#include <stdlib.h>
#include <string.h>

typedef struct head {
    int64_t  request, rank, ranks, n;
    double   logprob;
    uint64_t text; /* bytes, with the 0 at the end; 0: there is no text */
    int64_t  finish;
} head;

void td_replies_put(const td_reply *r, td_text *out)
{
    head h = { .request = r->request,
               .rank = r->rank,
               .ranks = r->ranks,
               .n = r->n,
               .logprob = r->logprob,
               .text = r->text ? strlen(r->text) + 1 : 0,
               .finish = r->finish };
    td_text_append(out, (const char *)&h, sizeof h);
    if (r->n)
        td_text_append(out, (const char *)r->ids, (size_t)r->n * sizeof *r->ids);
    if (r->text)
        td_text_append(out, r->text, (size_t)h.text);
}

/* Copied, because ids must be aligned, which a text of any length before them prevents. */
static int visit(const head *h, const char *ids, void (*done)(void *arg, const td_reply *),
                 void *arg, td_error *error)
{
    size_t   bytes = (size_t)h->n * sizeof(int32_t);
    int32_t *copy = malloc(bytes + 1);
    if (!copy)
        return td_fail(error, TD_ENOMEM, "out of memory for the answers of other processes");
    if (bytes)
        memcpy(copy, ids, bytes);
    done(arg, &(td_reply){ .request = h->request,
                           .rank = h->rank,
                           .ranks = h->ranks,
                           .ids = copy,
                           .n = h->n,
                           .text = h->text ? ids + bytes : NULL,
                           .logprob = h->logprob,
                           .finish = (td_finish)h->finish });
    free(copy);
    return 0;
}

/* Bytes of the answer at the beginning of `left` bytes; 0: it is incomplete. */
static size_t take_head(const char *at, size_t left, head *h)
{
    if (left < sizeof *h)
        return 0;
    memcpy(h, at, sizeof *h);
    left -= sizeof *h;
    if (h->n < 0 || (uint64_t)h->n > left / sizeof(int32_t))
        return 0;
    left -= (size_t)h->n * sizeof(int32_t);
    return h->text > left ? 0 : sizeof *h + (size_t)h->n * sizeof(int32_t) + (size_t)h->text;
}

int td_replies_visit(const td_text *all, void (*done)(void *arg, const td_reply *), void *arg,
                     td_error *error)
{
    int code = 0;
    for (size_t at = 0, bytes; at < all->size && !code; at += bytes) {
        head h;
        bytes = take_head(all->data + at, all->size - at, &h);
        if (!bytes)
            return td_fail(error, TD_EFORMAT, "the answers of other processes are incomplete");
        code = visit(&h, all->data + at + sizeof h, done, arg, error);
    }
    return code;
}
