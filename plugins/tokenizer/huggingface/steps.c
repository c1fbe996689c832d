/* steps.c - carries out the steps between a text and its tokens. */
#include "steps.h"

#include "../tokenizer_json.h"

/* Limits backtracking: no text may make a pattern run forever. */
enum { MOST_STEPS = 10000000 };

static int no_memory(td_error *error)
{
    return td_fail(error, TD_ENOMEM, "out of memory for a text");
}

/* ---- a text in pieces ------------------------------------------------------------------------ */

size_t pieces_count(const struct pieces *p) { return p->list.size / sizeof(struct piece); }

const struct piece *pieces_at(const struct pieces *p, size_t k)
{
    return (const struct piece *)(void *)p->list.data + k;
}

void pieces_free(struct pieces *p)
{
    free(p->text.data);
    free(p->list.data);
    *p = (struct pieces){ 0 };
}

void pieces_add(struct pieces *p, size_t begin, size_t end, bool first, int32_t id)
{
    struct piece x = { .begin = begin, .end = end, .id = id, .first = first };
    if (begin < end)
        grow_append(&p->list, (const char *)&x, sizeof x);
}

/* ---- matches --------------------------------------------------------------------------------- */

/* A walk over a piece: what matches, and what is between. */
struct walk {
    const struct step   *step;
    const char          *text;
    size_t               size, at;   /* `at`: up to where it was walked */
    size_t               begin, end; /* the next match; begin == size: there is none */
    pcre2_match_data    *data;
    pcre2_match_context *context;
};

static int walk_open(struct walk *w, td_error *error)
{
    w->data = pcre2_match_data_create(1, NULL);
    w->context = pcre2_match_context_create(NULL);
    if (!w->data || !w->context)
        return no_memory(error);
    pcre2_set_match_limit(w->context, MOST_STEPS);
    return 0;
}

static void walk_close(struct walk *w)
{
    pcre2_match_data_free(w->data);
    pcre2_match_context_free(w->context);
}

/* Find the match at `at` or after it. */
static int walk_find(struct walk *w, td_error *error)
{
    size_t     *place = pcre2_get_ovector_pointer(w->data);
    PCRE2_UCHAR message[200];
    int n = pcre2_match(w->step->pattern, (PCRE2_SPTR)w->text, w->size, w->at, PCRE2_NO_UTF_CHECK,
                        w->data, w->context);
    w->begin = w->end = w->size;
    if (n == PCRE2_ERROR_NOMATCH)
        return 0;
    if (n >= 0) { /* \K could move the beginning */
        w->begin = place[0] < w->at ? w->at : place[0];
        w->end = place[1];
    }
    if (n >= 0 && w->begin < w->end)
        return 0;
    pcre2_get_error_message(n, message, sizeof message);
    return td_fail(error, TD_EFORMAT, "a pattern of the tokenizer fails on a text of %zu bytes: %s",
                   w->size, n < 0 ? (const char *)message : "it matches nothing");
}

static void walk_begin(struct walk *w, const struct pieces *in, const struct piece *p)
{
    w->text = in->text.data + p->begin;
    w->size = p->end - p->begin;
    w->at = 0;
    w->begin = w->end = 0;
}

/* The next stretch [*from, w->at) of the piece, and whether it matches. False: none is left, or
 * `error` is set. */
static bool walk_next(struct walk *w, size_t *from, bool *matches, td_error *error)
{
    *from = w->at;
    if (w->at == w->size || (w->at == w->end && walk_find(w, error)))
        return false;
    *matches = w->at == w->begin;
    w->at = *matches ? w->end : w->begin;
    return true;
}

/* ---- splitting and replacing ----------------------------------------------------------------- */

/* A stretch of a piece: appended to the piece before it, or one of its own. */
struct stretch {
    size_t begin, end;
    bool   matches;
};

/* Whether the stretch b goes with a, the one before it. `lone`: a match that has joined none yet.
 */
static bool joins(int behavior, const struct stretch *a, const struct stretch *b)
{
    if (behavior == CONTIGUOUS)
        return a->matches == b->matches;
    if (behavior == WITH_PREVIOUS)
        return b->matches && !a->matches;
    return behavior == WITH_NEXT && a->matches && !b->matches;
}

static int split(struct walk *w, const struct piece *p, size_t offset, struct pieces *out,
                 td_error *error)
{
    struct stretch last = { 0 }, x;
    size_t         begin = 0; /* of the piece that `last` is the end of */
    td_error       e = { 0 };
    while (walk_next(w, &x.begin, &x.matches, &e)) {
        x.matches = x.matches != w->step->inverted;
        x.end = w->at;
        if (last.end && !joins(w->step->behavior, &last, &x)) {
            if (!last.matches || w->step->behavior != REMOVED)
                pieces_add(out, offset + begin, offset + last.end, p->first && !begin, -1);
            begin = x.begin;
        }
        last = x;
    }
    if (!last.matches || w->step->behavior != REMOVED)
        pieces_add(out, offset + begin, offset + last.end, p->first && !begin, -1);
    return e.code ? td_fail(error, e.code, "%s", e.text) : 0;
}

/* Without its beginning a piece no longer begins where the text did: `first` becomes false. */
static int replace(struct walk *w, bool *first, struct pieces *out, td_error *error)
{
    size_t   from;
    bool     matches;
    td_error e = { 0 };
    while (walk_next(w, &from, &matches, &e)) {
        *first = *first && (from || !matches || w->step->size);
        if (matches)
            grow_append(&out->text, w->step->text, w->step->size);
        else
            grow_append(&out->text, w->text + from, w->at - from);
    }
    return e.code ? td_fail(error, e.code, "%s", e.text) : 0;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static bool begins_with(const char *text, size_t size, const struct step *s)
{
    return size >= s->size && !memcmp(text, s->text, s->size);
}

static void put_bytes(const char *text, size_t size, struct growing *out)
{
    char one[3];
    for (size_t k = 0; k < size; k++) {
        byte_text((unsigned char)text[k], one);
        grow_append(out, one, strlen(one));
    }
}

/* A piece as it is after the step, which is the piece [begin, end of the text). */
static int change(struct walk *w, bool *first, struct pieces *out, td_error *error)
{
    const struct step *s = w->step;
    switch (s->type) {
    case STEP_NORMALIZE:
        return unicode_normalize(w->text, w->size, s->form, &out->text, error);
    case STEP_LOWERCASE:
        return unicode_lowercase(w->text, w->size, &out->text, error);
    case STEP_MAP:
        return unicode_map(s->map, w->text, w->size, &out->text, error);
    case STEP_REPLACE:
        return replace(w, first, out, error);
    case STEP_BYTES:
        put_bytes(w->text, w->size, &out->text);
        return 0;
    default: /* to insert */
        if ((*first || !s->only_first) && !(s->unless_there && begins_with(w->text, w->size, s)))
            grow_append(&out->text, s->text, s->size);
        grow_append(&out->text, w->text, w->size);
        return 0;
    }
}

static int run_on(struct walk *w, const struct pieces *in, const struct piece *p,
                  struct pieces *out, td_error *error)
{
    size_t begin = out->text.size;
    bool   first = p->first;
    int    code;
    walk_begin(w, in, p);
    if (p->id >= 0 || w->step->type == STEP_SPLIT) { /* the same text */
        grow_append(&out->text, w->text, w->size);
        if (p->id < 0)
            return split(w, p, begin, out, error);
        pieces_add(out, begin, out->text.size, p->first, p->id);
        return 0;
    }
    code = change(w, &first, out, error);
    pieces_add(out, begin, out->text.size, first, -1);
    return code;
}

int step_run(const struct step *s, const struct pieces *in, struct pieces *out, td_error *error)
{
    struct walk w = { .step = s };
    int         code = s->pattern ? walk_open(&w, error) : 0;
    for (size_t k = 0; k < pieces_count(in) && !code; k++)
        code = run_on(&w, in, pieces_at(in, k), out, error);
    walk_close(&w);
    if (!code && (out->text.failed || out->list.failed))
        code = no_memory(error);
    return code;
}

void step_free(struct step *s)
{
    free(s->text);
    pcre2_code_free(s->pattern);
    charsmap_free(s->map);
    *s = (struct step){ 0 };
}
