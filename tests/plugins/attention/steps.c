/* steps.c - generation, a prompt and then a few tokens at a time, equals one pass over all tokens.
 *
 * Each row is one example, as in generation; one has padding in its prompt. */
#include "plugins/attention/lab.h"

static const int32_t one_segment[B * T] = { 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1 };
static const int32_t one_position[B * T] = { 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8 };
static const int32_t one_input[B * T] = { 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0 };
static const int32_t one_other[B * S] = { 1, 1, 1, 0, 0, 1, 1, 1, 1, 1 };
static const int32_t other_place[B * S] = { 0, 1, 2, 3, 4, 0, 1, 2, 3, 4 };

static scene alone(const char *attention, const char *position)
{
    scene s = scene_of(attention, position);
    set_option(&s.attention, "heads", 2);
    set_option(&s.attention, "head_dim", 4);
    s.own.segment = one_segment;
    s.own.position = one_position;
    return s;
}

static void read_other(scene *s)
{
    add_other(s);
    s->other.segment = one_other;
    s->other.position = other_place;
}

/* A pass over `count` tokens, starting with the first that no pass has read. */
static void pass(lab *l, scene *s, int64_t count, double *all)
{
    double *y;
    s->phase = s->first ? TD_PHASE_STEP : TD_PHASE_PREFILL;
    s->count = count;
    y = run(l, s);
    for (int64_t b = 0; b < B; b++)
        memcpy(all + (b * T + s->first) * D, y + b * count * D, (size_t)(count * D) * sizeof *y);
    free(y);
    s->first += count;
}

static void check(scene s)
{
    lab     l = lab_new();
    double *whole = run(&l, &s), *parts, *want;
    for (int capacity = T; capacity <= 13; capacity += 3) {
        parts = malloc(sizeof *parts * B * T * D);
        want = malloc(sizeof *want * B * T * D);
        memcpy(want, whole, sizeof *want * B * T * D);
        lab_cache(&l, capacity, 3);
        for (int again = 0; again < 2; again++) { /* another prompt starts from an empty cache */
            s.first = 0;
            pass(&l, &s, 3, parts);
            pass(&l, &s, 1, parts);
            pass(&l, &s, 2, parts);
            pass(&l, &s, 1, parts);
        }
        expect_same(s.attention.plugin->name, &s, parts, want, false);
    }
    free(whole);
    scene_free(&s);
    lab_free(&l);
}

static const char *const attentions[] = { "softmax", "sliding-window", "linear", "differential",
                                          "mla",     "merged" };
enum { ATTENTIONS = sizeof attentions / sizeof *attentions };

Test(steps, rotated)
{
    for (int k = 0; k < ATTENTIONS; k++)
        check(alone(attentions[k], "rope"));
    for (int k = 0; k < ATTENTIONS; k++)
        check(alone(attentions[k], "xpos"));
}

Test(steps, biased)
{
    for (int k = 0; k < ATTENTIONS; k++)
        if (strcmp(attentions[k], "linear")) {
            check(alone(attentions[k], "alibi"));
            check(alone(attentions[k], "fire"));
        }
}

Test(steps, prompts_that_see_both_sides)
{
    for (int k = 0; k < ATTENTIONS; k++) {
        scene s = alone(attentions[k], "rope");
        s.input = one_input;
        check(s);
    }
}

Test(steps, windows)
{
    for (int window = 1; window <= 4; window++) {
        scene s = alone("sliding-window", "rope"), t = alone("softmax", "rope"),
              u = alone("sliding-window", "rope");
        set_option(&s.attention, "window", window);
        set_option(&t.attention, "window", window);
        set_option(&u.attention, "window", window);
        u.input = one_input;
        check(s);
        check(t);
        check(u);
    }
}

/* Distances within a ring are those of the tokens, wherever their slots are. */
Test(steps, windows_with_biases)
{
    static const char *const schemes[] = { "alibi", "t5-relative", "fire", "xpos" };
    for (size_t k = 0; k < sizeof schemes / sizeof *schemes; k++) {
        scene s = alone("sliding-window", schemes[k]), t = alone("softmax", schemes[k]);
        set_option(&s.attention, "window", 3);
        set_option(&t.attention, "window", 2);
        check(s);
        check(t);
    }
}

Test(steps, linear_in_chunks)
{
    scene s = alone("linear", "rope"), t = alone("linear", "rope");
    set_option(&s.attention, "chunk", 2);
    set_option(&t.attention, "chunk", 2);
    t.input = one_input;
    check(s);
    check(t);
}

Test(steps, another_sequence)
{
    for (int k = 0; k < ATTENTIONS; k++) {
        scene s = alone(attentions[k], "rope");
        bool  merged = !strcmp(attentions[k], "merged");
        read_other(&s);
        s.role = merged ? TD_ROLE_DECODER : TD_ROLE_CROSS;
        s.causal = merged;
        check(s);
    }
}
