/* completion_fish.c - the script of `tandem completion fish`.
 *
 * The script is a list of `complete -c tandem -n CONDITION ..`: completions that fish offers if
 * the condition holds. */
#include <string.h>

#include "manual/completion.h"

/* ---- options --------------------------------------------------------------------------------- */

static void put_quoted(td_text *out, const char *text)
{
    td_text_print(out, "'");
    for (; *text; text++)
        td_text_print(out, strchr("'\\", *text) ? "\\%c" : "%c", *text);
    td_text_print(out, "'");
}

/* Begins a `complete` for lines that start with `tandem NAME`, where NAME may be two words. */
static void put_complete(td_text *out, const char *name)
{
    td_text_print(out, "complete -c tandem -n '__tandem_is %s'", name);
}

/* -x: a value and no files, -r: a value, -F: files, which are off for the command as a whole. */
static void put_value(td_text *out, const td_flag *f)
{
    if (strchr(f->value, '|')) {
        td_text_print(out, " -x -a '");
        td_completion_list(out, f->value, ' ');
        td_text_print(out, "'");
    } else if (!strcmp(f->value, "DIR"))
        td_text_print(out, " -x -a '(__fish_complete_directories)'");
    else if (!strncmp(f->value, "KEY", 3))
        td_text_print(out, " -x -a '(__tandem_keys | string replace = \"\")'");
    else if (!strcmp(f->name, "-c")) /* -k: in this order, the shipped ones first */
        td_text_print(out, " -r -k -a \"$__tandem_shipped (__fish_complete_suffix .cfg)\"");
    else
        td_text_print(out, strncmp(f->value, "FILE", 4) ? " -x" : " -r -F");
}

/*     complete -c tandem -n '__tandem_is data show' -l index -x -d 'first record (default 0)' */
static void put_flag(const td_usage *u, const td_flag *f, void *argument)
{
    td_text *out = argument;
    bool     is_long = f->name[1] == '-';
    put_complete(out, u->name);
    td_text_print(out, is_long ? " -l %s" : " -s %s", f->name + 1 + is_long);
    if (f->value)
        put_value(out, f);
    td_text_print(out, " -d ");
    put_quoted(out, f->help);
    td_text_print(out, "\n");
}

/* Its options, then other arguments: keys, and configs without -c. */
static void put_usage(const td_usage *u, const td_command *c, const td_word *w, void *argument)
{
    td_text *out = argument;
    td_completion_flags(u, put_flag, out);
    if (!u->config)
        return;
    put_complete(out, u->name);
    td_text_print(out, " -a '(__tandem_keys)'\n");
    put_complete(out, u->name); /* -k: the suffix's files first, in that order */
    td_text_print(out, " -k -a '(__fish_complete_suffix .cfg)'\n");
}

/* ---- commands and words ---------------------------------------------------------------------- */

static void put_word(const char *command, const char *word, const char *brief, td_text *out)
{
    td_text_print(out, "complete -c tandem -n '__tandem_wants_word %s' -a %s -d ", command, word);
    put_quoted(out, brief);
    td_text_print(out, "\n");
}

static void put_subcommand(const td_command *c, td_text *out)
{
    td_text_print(out, "complete -c tandem -n __fish_use_subcommand -a %s -d ", c->name);
    put_quoted(out, c->brief);
    td_text_print(out, "\n");
    for (const td_word *w = c->usage->words; w && w->name; w++)
        put_word(c->name, w->name, w->brief, out);
    if (!c->usage->arguments || !strstr(c->usage->arguments, "COMMAND"))
        return;
    for (const td_command *other = td_commands(); other->name; other++) /* `tandem man COMMAND` */
        put_word(c->name, other->name, other->brief, out);
    put_word(c->name, "cfg", "configs and the options of all plugins", out);
}

/*     complete -c tandem -n '__tandem_is plugins show backend; and __tandem_count 5' -a 'cpu ..'
 *
 * A plugin's name, as the argument after its kind. */
static void put_plugins(const td_completion *x, const char *command, const char *word, td_text *out)
{
    for (const td_kind *k = td_kinds(); k->id; k++) {
        const char *list = td_keys_plugins(x->registry, k->id, x->arena);
        td_text_print(out,
                      "complete -c tandem -n '__tandem_is %s %s %s; and __tandem_count 5' -a '",
                      command, word, k->name);
        td_completion_list(out, list ? list : "", ' ');
        td_text_print(out, "'\n");
    }
}

/* The arguments of a word: files, or a kind and a plugin of it. */
static void put_arguments(const td_completion *x, const td_command *c, const td_word *w,
                          td_text *out)
{
    if (strstr(w->arguments, "FILE"))
        td_text_print(out, "complete -c tandem -n '__tandem_is %s %s' -F\n", c->name, w->name);
    if (!strstr(w->arguments, "KIND"))
        return;
    td_text_print(out, "complete -c tandem -n '__tandem_is %s %s; and __tandem_count 4' -a '",
                  c->name, w->name);
    td_completion_kinds(out);
    td_text_print(out, "'\n");
    if (strstr(w->arguments, "NAME"))
        put_plugins(x, c->name, w->name, out);
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* A function that prints the possible continuations: "key=" with its meaning for every key or,
 * after a '=', "key=value" for every value of the key. */
static void put_keys(const td_completion *x, td_text *out)
{
    td_text_print(out, "function __tandem_keys\n    set -l token (commandline -ct)\n"
                       "    if string match -q -- '*=*' $token\n"
                       "        set -l key (string replace -r '=.*' '' -- $token)\n"
                       "        switch $key\n");
    for (size_t k = 0; k < x->keys.count; k++) {
        const char *values = x->keys.at[k].values;
        if (!*values || !strcmp(values, "FILE"))
            continue;
        td_text_print(out, "            case %s\n                printf '%%s\\n' $key=",
                      x->keys.at[k].path);
        td_text_print(out, "{");
        td_completion_list(out, values, ',');
        /* One item in braces would be taken literally, so an empty one is added. */
        td_text_print(out, strchr(values, '|') ? "}\n" : ",}\n");
    }
    td_text_print(out, "        end\n    else\n        printf '%%s\\t%%s\\n'");
    for (size_t k = 0; k < x->keys.count; k++) {
        td_text_print(out, " \\\n            %s= ", x->keys.at[k].path);
        put_quoted(out, x->keys.at[k].doc);
    }
    td_text_print(out, "\n    end\nend\n\n");
}

/* ---- the script ------------------------------------------------------------------------------ */

static const char head[] = "# fish completion for tandem. Written by `tandem completion fish`.\n\n"
                           "# whether the words after `tandem` begin with these\n"
                           "function __tandem_is\n"
                           "    set -l words (commandline -opc)\n"
                           "    test (count $words) -gt (count $argv); or return 1\n"
                           "    for k in (seq (count $argv))\n"
                           "        test $words[(math $k + 1)] = $argv[$k]; or return 1\n"
                           "    end\n"
                           "end\n\n"
                           "# whether the word being typed is number $argv[1], counting `tandem`\n"
                           "function __tandem_count\n"
                           "    test (count (commandline -opc)) -eq (math $argv[1] - 1)\n"
                           "end\n\n"
                           "function __tandem_wants_word\n"
                           "    __tandem_is $argv[1]; and __tandem_count 3\n"
                           "end\n\n";

void td_completion_fish(const td_completion *x, td_text *out)
{
    td_text_print(out, "%s", head);
    put_keys(x, out);
    /* -f: no files unless one of the rules below asks for them */
    td_text_print(out, "set -g __tandem_shipped '%s'\ncomplete -c tandem -f\n", x->configs);
    td_text_print(out,
                  "complete -c tandem -n __fish_use_subcommand -l help -d 'list the commands'\n"
                  "complete -c tandem -n __fish_use_subcommand -l version -d 'print the "
                  "version'\n");
    for (const td_command *c = td_commands(); c->name; c++)
        put_subcommand(c, out);
    td_completion_each(put_usage, out);
    for (const td_command *c = td_commands(); c->name; c++)
        for (const td_word *w = c->usage->words; w && w->name; w++)
            if (w->arguments)
                put_arguments(x, c, w, out);
}
