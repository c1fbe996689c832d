/* completion_fish.c - the script of `tandem completion fish`. */
#include <string.h>

#include "manual/completion.h"

static void quoted(td_text *out, const char *text)
{
    td_text_print(out, "'");
    for (; *text; text++)
        td_text_print(out, strchr("'\\", *text) ? "\\%c" : "%c", *text);
    td_text_print(out, "'");
}

/* `tandem data show`: both words are there. */
static void seen(td_text *out, const char *name)
{
    td_text_print(out, "complete -c tandem -n '__tandem_is %s'", name);
}

static void flag(const td_usage *u, const td_flag *f, void *argument)
{
    td_text *out = argument;
    seen(out, u->name);
    td_text_print(out, f->name[1] == '-' ? " -l %s" : " -s %s", f->name + (f->name[1] == '-') + 1);
    if (f->value && strchr(f->value, '|')) {
        td_text_print(out, " -x -a '");
        for (const char *p = f->value; *p; p++)
            td_text_print(out, "%c", *p == '|' ? ' ' : *p);
        td_text_print(out, "'");
    } else if (f->value && !strcmp(f->value, "DIR"))
        td_text_print(out, " -x -a '(__fish_complete_directories)'");
    else if (f->value && !strncmp(f->value, "KEY", 3))
        td_text_print(out, " -x -a '(__tandem_keys | string replace = \"\")'");
    else if (f->value && f->name[1] == 'c')
        td_text_print(out, " -r -k -a \"$__tandem_shipped (__fish_complete_suffix .cfg)\"");
    else if (f->value)
        td_text_print(out, strncmp(f->value, "FILE", 4) ? " -x" : " -r -F");
    td_text_print(out, " -d ");
    quoted(out, f->help);
    td_text_print(out, "\n");
}

static void usage(const td_usage *u, const td_command *c, const td_word *w, void *argument)
{
    td_text *out = argument;
    td_completion_flags(u, flag, out);
    if (!u->config)
        return;
    seen(out, u->name);
    td_text_print(out, " -a '(__tandem_keys)'\n");
    seen(out, u->name);
    td_text_print(out, " -k -a '(__fish_complete_suffix .cfg)'\n");
}

static void subcommands(td_text *out)
{
    for (const td_command *c = td_commands(); c->name; c++) {
        if (c->usage->arguments && strstr(c->usage->arguments, "COMMAND"))
            for (const td_command *other = td_commands(); other->name; other++)
                td_text_print(out, "complete -c tandem -n '__tandem_wants_word %s' -a %s\n",
                              c->name, other->name);
        td_text_print(out, "complete -c tandem -n __fish_use_subcommand -a %s -d ", c->name);
        quoted(out, c->brief);
        td_text_print(out, "\n");
        for (const td_word *w = c->usage->words; w && w->name; w++) {
            td_text_print(out, "complete -c tandem -n '__tandem_wants_word %s' -a %s -d ", c->name,
                          w->name);
            quoted(out, w->brief);
            td_text_print(out, "\n");
        }
    }
}

/* The argument of a word: a kind, then a plugin of that kind. */
static void arguments(const td_completion *x, td_text *out)
{
    for (const td_command *c = td_commands(); c->name; c++)
        for (const td_word *w = c->usage->words; w && w->name; w++) {
            if (w->arguments && strstr(w->arguments, "FILE"))
                td_text_print(out, "complete -c tandem -n '__tandem_is %s %s' -F\n", c->name,
                              w->name);
            if (!w->arguments || !strstr(w->arguments, "KIND"))
                continue;
            td_text_print(out,
                          "complete -c tandem -n '__tandem_is %s %s; and __tandem_count 4' -a '",
                          c->name, w->name);
            for (const td_kind *k = td_kinds(); k->id; k++)
                td_text_print(out, "%s%s", k == td_kinds() ? "" : " ", k->name);
            td_text_print(out, "'\n");
            for (const td_kind *k = td_kinds(); k->id && strstr(w->arguments, "NAME"); k++) {
                const char *list = td_keys_plugins(x->registry, k->id, x->arena);
                td_text_print(out,
                              "complete -c tandem -n '__tandem_is %s %s %s; and __tandem_count 5' "
                              "-a '",
                              c->name, w->name, k->name);
                for (const char *p = list ? list : ""; *p; p++)
                    td_text_print(out, "%c", *p == '|' ? ' ' : *p);
                td_text_print(out, "'\n");
            }
        }
}

static void keys(const td_completion *x, td_text *out)
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
        for (const char *p = values; *p; p++)
            td_text_print(out, "%c", *p == '|' ? ',' : *p);
        td_text_print(out, strchr(values, '|') ? "}\n" : ",}\n");
    }
    td_text_print(out, "        end\n    else\n        printf '%%s\\t%%s\\n'");
    for (size_t k = 0; k < x->keys.count; k++) {
        td_text_print(out, " \\\n            %s= ", x->keys.at[k].path);
        quoted(out, x->keys.at[k].doc);
    }
    td_text_print(out, "\n    end\nend\n\n");
}

static const char head[] = "# fish completion for tandem. Written by `tandem completion fish`.\n\n"
                           "# whether the words behind `tandem` begin with these\n"
                           "function __tandem_is\n"
                           "    set -l words (commandline -opc)\n"
                           "    test (count $words) -gt (count $argv); or return 1\n"
                           "    for k in (seq (count $argv))\n"
                           "        test $words[(math $k + 1)] = $argv[$k]; or return 1\n"
                           "    end\n"
                           "end\n\n"
                           "# whether this is the word of that number, the command's name counted\n"
                           "function __tandem_count\n"
                           "    test (count (commandline -opc)) -eq (math $argv[1] - 1)\n"
                           "end\n\n"
                           "function __tandem_wants_word\n"
                           "    __tandem_is $argv[1]; and __tandem_count 3\n"
                           "end\n\n";

void td_completion_fish(const td_completion *x, td_text *out)
{
    td_text_print(out, "%s", head);
    keys(x, out);
    td_text_print(out, "set -g __tandem_shipped '%s'\ncomplete -c tandem -f\n", x->configs);
    td_text_print(out, "complete -c tandem -n __fish_use_subcommand -l help -d 'the commands'\n"
                       "complete -c tandem -n __fish_use_subcommand -l version -d 'version and "
                       "plugin ABI'\n");
    subcommands(out);
    td_completion_each(usage, out);
    arguments(x, out);
}
