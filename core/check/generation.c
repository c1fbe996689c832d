/* generation.c - generation pass by pass equals one whole pass: prompts in chunks of any size, rows
 * of unequal lengths, rows that move, and rows that are reused for other texts, in caches that
 * another text has used, with spare slots and without. */
#include "check/cases.h"
#include "check/player.h"
#include "tandem/kind/attention.h"

/* How the texts are read. */
typedef struct scenario {
    int64_t rows;
    int64_t spare;  /* slots of the cache beyond the longest text */
    int64_t chunk;  /* new tokens of a pass; 0: the whole prompt, then one by one */
    bool    uneven; /* rows get unequal numbers of new tokens, some of them none */
    bool    moves;  /* rows change places, one becomes a copy of another, others begin new texts */
} scenario;

static const scenario scenarios[] = {
    { 1, 0, 0, false, false },
    { 1, 1, 1, false, false },
    { 2, 6, 2, true, false },
    { 3, 41, 3, true, true },
};

enum { SCENARIOS = sizeof scenarios / sizeof *scenarios, TEXTS = 6, SPARE = 3 };

/* A model, its texts, and the scenario that is played. */
typedef struct stage {
    td_subject     *subject;
    td_text_read    text[TEXTS];
    const scenario *scenario;
    int64_t         capacity, chunk; /* of the caches */
    int             begun;           /* texts so far */
} stage;

static bool has_flag(const stage *s, uint64_t flag)
{
    const td_architecture *a = (const void *)s->subject->model.architecture.plugin;
    return a->flags & flag;
}

static int64_t longest(const stage *s, bool prompt)
{
    int64_t most = 0;
    for (int k = 0; k < TEXTS; k++) {
        int64_t n = prompt ? s->text[k].prompt : s->text[k].tokens;
        most = n > most ? n : most;
    }
    return most;
}

static int64_t longest_prompt(const td_player *p)
{
    int64_t most = 0;
    for (int64_t r = 0; r < p->cache->rows; r++)
        most = p->text[r]->prompt > most ? p->text[r]->prompt : most;
    return most;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* New tokens of a row in pass number `pass`, of `tokens` places. */
static int32_t count_of(const stage *s, const td_player *p, int64_t r, int pass, int64_t tokens)
{
    int64_t rest = p->text[r]->tokens - p->at[r], n = rest < tokens ? rest : tokens;
    bool    less = s->scenario->uneven && (pass + r) % 3 == 2;
    return (int32_t)(less && n ? n - 1 : n);
}

/* The first pass: the prompt, or its first chunk. */
static void prefill(const stage *s, td_player *p)
{
    bool    whole = !s->scenario->chunk || has_flag(s, TD_ARCHITECTURE_WHOLE_PROMPT);
    int64_t tokens = whole ? longest_prompt(p) : s->scenario->chunk;
    int32_t counts[TD_PLAYER_ROWS];
    for (int64_t r = 0; r < p->cache->rows; r++)
        counts[r] = whole ? (int32_t)p->text[r]->prompt : count_of(s, p, r, 0, tokens);
    td_player_pass(p, TD_PHASE_PREFILL, tokens, counts);
}

/* Every second pass reads one token. */
static void step(const stage *s, td_player *p, int pass)
{
    int64_t tokens = s->scenario->chunk && pass % 2 ? s->scenario->chunk : 1;
    int32_t counts[TD_PLAYER_ROWS];
    for (int64_t r = 0; r < p->cache->rows; r++)
        counts[r] = count_of(s, p, r, pass, tokens);
    td_player_pass(p, TD_PHASE_STEP, tokens, counts);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static bool is_done(const td_player *p)
{
    for (int64_t r = 0; r < p->cache->rows; r++)
        if (p->at[r] < p->text[r]->tokens)
            return false;
    return true;
}

/* The next text is read in a cache of one row, and admitted into row r. */
static void admit(stage *s, td_player *p, int64_t r)
{
    td_player one;
    int32_t   rows[TD_PLAYER_ROWS] = { -1, -1, -1 };
    rows[r] = 0;
    td_player_open(&one, s->subject, 1, s->capacity, s->chunk, p->cache->source, p->garbage);
    one.text[0] = &s->text[s->begun];
    prefill(s, &one);
    td_player_move(p, &one, rows);
    p->mismatch = p->mismatch.found ? p->mismatch : one.mismatch;
    td_player_close(&one);
}

/* Rows that are done begin the next texts: where they are, if the architecture lets a prompt come
 * in steps, or else in another cache. */
static void begin_texts(stage *s, td_player *p)
{
    bool in_place = !has_flag(s, TD_ARCHITECTURE_HAS_ENCODER) &&
                    !has_flag(s, TD_ARCHITECTURE_WHOLE_PROMPT);
    for (int64_t r = 0; r < p->cache->rows; r++) {
        if (p->at[r] < p->text[r]->tokens || s->begun == TEXTS)
            continue;
        if (in_place && s->begun % 2) {
            p->text[r] = &s->text[s->begun];
            p->at[r] = 0;
        } else
            admit(s, p, r);
        s->begun++;
    }
}

static void move_rows(stage *s, td_player *p, int pass)
{
    static const int32_t turn[TD_PLAYER_ROWS] = { 1, 2, 0 }, copy[TD_PLAYER_ROWS] = { 0, -1, 0 };
    if (pass == 2)
        td_player_move(p, p, turn);
    if (pass == 4)
        td_player_move(p, p, copy);
    begin_texts(s, p);
}

/* ---- a scenario ------------------------------------------------------------------------------ */

static td_mismatch play(stage *s, double garbage)
{
    td_player p;
    td_player_open(&p, s->subject, s->scenario->rows, s->capacity, s->chunk, s->text[0].source,
                   garbage);
    for (int64_t r = 0; r < s->scenario->rows; r++)
        p.text[r] = &s->text[r];
    /* the other texts begin when a row is free */
    s->begun = (int)s->scenario->rows;
    prefill(s, &p);
    for (int pass = 1; !is_done(&p) && !p.mismatch.found; pass++) {
        step(s, &p, pass);
        if (s->scenario->moves)
            move_rows(s, &p, pass);
    }
    td_player_close(&p);
    return p.mismatch;
}

/* The author's likely mistake: a result that changes with the garbage in a buffer was read from
 * it. */
static const char *advice(stage *s, const td_mismatch *m, double other_garbage)
{
    td_mismatch again = play(s, other_garbage);
    if (!again.found || again.row != m->row || again.token != m->token ||
        !td_check_near(again.have, m->have, 1e-12))
        return "it depends on what another text left in the cache: attend with td_attend_with, or "
               "set td_mask.k_length = td_key_length(in)";
    if (s->scenario->uneven)
        return "rows have unequal numbers of new tokens here: padding must not change what "
               "td_carry carries (see td_new_tokens), and rows may not mix";
    return "keep what later passes need with td_remember or td_carry, or set .whole = true";
}

static void try_scenario(stage *s, const scenario *x, const char *setting)
{
    bool        whole = !x->chunk || has_flag(s, TD_ARCHITECTURE_WHOLE_PROMPT);
    td_mismatch m;
    s->scenario = x;
    s->capacity = longest(s, false) + x->spare;
    /* some architectures read a prompt only as a whole, so a pass must hold the longest */
    s->chunk = whole && longest(s, true) > x->chunk ? longest(s, true) : x->chunk;
    m = play(s, 50);
    if (m.found)
        td_check_finding(s->subject->check,
                         "%s%s: row %lld of %lld, token %lld (a cache of %lld tokens a row, passes "
                         "of up to %lld): hidden state %lld is %.12g, but %.12g in one whole pass: "
                         "%s",
                         s->subject->label, setting, (long long)m.row, (long long)x->rows,
                         (long long)m.token, (long long)s->capacity, (long long)s->chunk,
                         (long long)m.element, m.have, m.want, advice(s, &m, -37));
}

/* All scenarios; for a variant only the last, which has everything. */
static void try_scenarios(td_subject *subject, const char *setting)
{
    stage       s = { .subject = subject };
    td_sentence sentences[TEXTS];
    size_t      before = subject->check->n_findings;
    for (int k = 0; k < TEXTS; k++)
        sentences[k] = td_sentence_of(subject->gives ? 2 + k * 5 % 7 : 0, 5 + k * 3 % 5,
                                      (uint64_t)(3 + k));
    td_texts_read(subject, sentences, TEXTS, SPARE, s.text);
    for (int k = subject->check->variant ? SCENARIOS - 1 : 0; k < SCENARIOS; k++)
        if (subject->check->n_findings == before)
            try_scenario(&s, &scenarios[k], setting);
    td_texts_free(s.text, TEXTS);
}

/* ---- the test -------------------------------------------------------------------------------- */

static bool has_whole(const td_subject *s)
{
    const td_part *a = td_check_slot(&s->model.architecture, TD_ATTENTION_KIND);
    return a && a->plugin && ((const td_attention *)(const void *)a->plugin)->whole;
}

/* Windows shorter than the texts, so that rings wrap around. */
static void try_windows(td_subject *s)
{
    static const int64_t windows[] = { 1, 3 };
    td_part             *a = td_check_slot(&s->model.architecture, TD_ATTENTION_KIND);
    int64_t *window = a && a->plugin ? td_check_field(a, "window", TD_TYPE_INT) : NULL, was;
    char     setting[40];
    if (!window || s->check->variant || !td_check_is_kind(s->check->plugin, TD_ATTENTION_KIND))
        return;
    was = *window;
    for (size_t k = 0; k < sizeof windows / sizeof *windows; k++) {
        *window = windows[k];
        snprintf(setting, sizeof setting, ", window = %lld", (long long)windows[k]);
        try_scenarios(s, setting);
    }
    *window = was;
}

static void steps_of(td_subject *s)
{
    if (has_whole(s))
        td_check_skip(s->check, "it sets .whole = true: generation runs the whole prefix");
    try_scenarios(s, "");
    try_windows(s);
}

void td_check_steps(td_check *c)
{
    td_device d = td_check_device(c, TD_F64, 1);
    int       n = td_check_variants(c);
    for (c->variant = 0; c->variant <= n; c->variant++)
        td_each_subject(c, &td_usual_sizes, &d, steps_of);
    c->variant = 0;
}
