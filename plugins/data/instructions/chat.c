/* chat.c - writes out a list of messages by a template, and splits it where answers begin and
 * end. */
#include "instructions.h"

#include <string.h>

/* Plain words rather than markup: a model that has seen only text knows them. */
static const td_chat_role standard[] = {
    { "system", "", "\n\n", false },
    { "user", "User: ", "\n", false },
    { "assistant", "Assistant: ", "\n", true },
};

td_list chat_roles(const instructions_config *c)
{
    return c->roles.count ? c->roles : (td_list){ standard, sizeof standard / sizeof *standard };
}

/* ---- one message ----------------------------------------------------------------------------- */

typedef struct turn {
    const td_chat_role *role;
    const char         *content;
    size_t              size;
} turn;

static const td_chat_role *find_role(td_list roles, const char *name)
{
    const td_chat_role *r = roles.at;
    for (size_t k = 0; k < roles.count; k++)
        if (!strcmp(r[k].role, name))
            return &r[k];
    return NULL;
}

/* "message 2: role 'tool' is not in the template, which has 'system', 'user', .." */
static void unknown_role(td_list roles, const char *what, const char *name, char why[OBJECT_WHY])
{
    const td_chat_role *r = roles.at;
    size_t n = (size_t)snprintf(why, OBJECT_WHY, "%srole '%.60s' is not in the template, which has",
                                what, name);
    for (size_t k = 0; k < roles.count && n < OBJECT_WHY - 70; k++)
        n += (size_t)snprintf(why + n, OBJECT_WHY - n, "%s '%.60s'", k ? "," : "", r[k].role);
    if (n < OBJECT_WHY - 40)
        snprintf(why + n, OBJECT_WHY - n, ": set data.roles");
    object_printable(why);
}

/* Message `number`, counted from 1. */
static bool read_turn(const instructions_config *c, const json_t *message, size_t number, turn *out,
                      char why[OBJECT_WHY])
{
    char        what[40];
    size_t      size;
    const char *name;
    snprintf(what, sizeof what, "message %zu: ", number);
    if (!json_is_object(message)) {
        snprintf(why, OBJECT_WHY, "%snot an object { '%.60s', '%.60s' }", what, c->role,
                 c->content);
        return false;
    }
    name = string_of(message, c->role, what, &size, why);
    if (!name)
        return false;
    out->role = find_role(chat_roles(c), name);
    if (!out->role) {
        unknown_role(chat_roles(c), what, name, why);
        return false;
    }
    out->content = string_of(message, c->content, what, &out->size, why);
    if (!out->content)
        return false;
    /* other roles may be empty: they only give context */
    if (out->role->answers && !out->size) {
        snprintf(why, OBJECT_WHY, "%sthe answer is empty: there is nothing to train on", what);
        return false;
    }
    return true;
}

/* ---- the list -------------------------------------------------------------------------------- */

static void write(examples *out, const char *text) { examples_text(out, text, strlen(text)); }

/* Turns a chat into examples. The text of all turns is written once and spans point into it, so
 * that the history of a later answer is not copied. */
typedef struct writer {
    examples *out;
    int64_t   turns;
    size_t    given; /* where the next given span begins */
} writer;

/* An answer ends a given span, and is itself a predicted one. With TURNS_TOGETHER both are added to
 * the chat's single example; otherwise each answer ends a separate example, whose inputs are
 * everything before it. */
static void write_answer(writer *w, const turn *t)
{
    examples *out = w->out;
    size_t    begin;
    if (w->turns == TURNS_LAST)
        out->n_spans = out->count = 0;
    write(out, t->role->prefix);
    examples_span(out, w->given);
    begin = out->size;
    examples_text(out, t->content, t->size);
    examples_span(out, begin);
    if (w->turns == TURNS_TOGETHER)
        w->given = out->size;
    else
        examples_end(out);
    /* becomes part of the next given span; at the end of the chat it belongs to no span */
    write(out, t->role->suffix);
}

static void write_turn(writer *w, const turn *t)
{
    if (t->role->answers) {
        write_answer(w, t);
        return;
    }
    write(w->out, t->role->prefix);
    examples_text(w->out, t->content, t->size);
    write(w->out, t->role->suffix);
}

/* Whether some text precedes every answer: an encoder needs a token to read. */
static bool all_given(const instructions_config *c, const examples *out, char why[OBJECT_WHY])
{
    for (size_t k = 0; c->eos != EOS_BOTH && k < out->n_spans; k += 2)
        if (!out->spans[k].size) {
            snprintf(why, OBJECT_WHY,
                     "nothing precedes answer %zu, and data.eos appends nothing to it: give its "
                     "role a prefix",
                     k / 2 + 1);
            return false;
        }
    return true;
}

bool chat_read(const instructions_config *c, const json_t *messages, examples *out,
               char why[OBJECT_WHY])
{
    writer        w = { .out = out, .turns = c->turns };
    size_t        i;
    const json_t *message;
    turn          t;
    if (!json_is_array(messages)) {
        snprintf(why, OBJECT_WHY, "the value of '%.60s' is not a list of messages",
                 *c->messages ? c->messages : "messages");
        return false;
    }
    /* text after the last answer is in no span: nothing is predicted from it */
    for (i = 0; i < json_array_size(messages); i++) {
        message = json_array_get(messages, i);
        if (!read_turn(c, message, i + 1, &t, why))
            return false;
        write_turn(&w, &t);
    }
    if (!out->n_spans && !out->failed) {
        snprintf(why, OBJECT_WHY, "none of the %zu messages is an answer to train on",
                 json_array_size(messages));
        return false;
    }
    if (c->turns == TURNS_TOGETHER)
        examples_end(out);
    return out->failed || all_given(c, out, why);
}
