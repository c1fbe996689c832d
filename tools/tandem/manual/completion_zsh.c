/* completion_zsh.c - the script of `tandem completion zsh`.
 *
 * zsh's own _arguments does most of the work: it is given a specification of each option and
 * operand, "--out=[what it does]:FILE:_files". */
#include <string.h>

#include "manual/completion.h"

/* ---- options --------------------------------------------------------------------------------- */

/* A description in a specification, which is in single quotes: brackets and colons would end it. */
static void put_description(td_text *out, const char *text)
{
    for (; *text; text++) {
        if (strchr("[]:\\", *text))
            td_text_print(out, "\\");
        td_text_print(out, *text == '\'' ? "'\\''" : "%c", *text);
    }
}

/* The completion of an option's value: a function, a list of words, or nothing. */
static void put_action(td_text *out, const td_flag *f)
{
    if (!strcmp(f->name, "-c"))
        td_text_print(out, "_tandem_configs");
    else if (!strcmp(f->value, "DIR"))
        td_text_print(out, "_directories");
    else if (!strncmp(f->value, "FILE", 4))
        td_text_print(out, "_files");
    else if (!strncmp(f->value, "KEY", 3))
        td_text_print(out, "_tandem_key");
    else if (strchr(f->value, '|')) {
        td_text_print(out, "(");
        td_completion_list(out, f->value, ' ');
        td_text_print(out, ")");
    }
}

/*     '*--plugin-path=[search DIR for plugins first]:DIR:_directories' */
static void put_flag(const td_usage *u, const td_flag *f, void *argument)
{
    td_text *out = argument;
    bool     again = !strcmp(f->name, "-c") || !strcmp(f->name, "--plugin-path");
    /* "*" may be repeated; "=" the value may follow as --out=FILE or as the next word */
    td_text_print(out, " \\\n            '%s%s%s[", again ? "*" : "", f->name,
                  f->value && f->name[1] == '-' ? "=" : "");
    put_description(out, f->help);
    td_text_print(out, "]");
    if (f->value) {
        td_text_print(out, ":");
        put_description(out, f->value);
        td_text_print(out, ":");
        put_action(out, f);
    }
    td_text_print(out, "'");
}

/* ---- operands -------------------------------------------------------------------------------- */

/* The words of a command with their descriptions: "((list\:"list plugins" ..))". */
static void put_word_list(td_text *out, const td_usage *u)
{
    td_text_print(out, "((");
    for (const td_word *w = u->words; w->name; w++) {
        td_text_print(out, "%s%s\\:\"", w == u->words ? "" : " ", w->name);
        /* in double quotes, in a field that ends at a colon, in single quotes */
        for (const char *p = w->brief; *p; p++)
            td_text_print(out, strchr(":\"\\$`", *p) ? "\\%c" : *p == '\'' ? "'\\''" : "%c", *p);
        td_text_print(out, "\"");
    }
    td_text_print(out, "))");
}

/* Arguments that are not options: first a word of the command, if it has any, then configs and
 * keys, or the arguments of that word. */
static void put_operands(td_text *out, const td_usage *u)
{
    /* '1:' is the first operand, '*:' all further ones. */
    if (u->words) {
        td_text_print(out, " \\\n            '1:what:");
        put_word_list(out, u);
        td_text_print(out, "'");
    }
    if (u->config)
        td_text_print(out, " \\\n            '*:config or key:_tandem_operands'");
    else if (u->words)
        td_text_print(out, " \\\n            '*:argument:_tandem_argument'");
    else if (u->arguments && strstr(u->arguments, "COMMAND")) {
        td_text_print(out, " \\\n            '1:command:(");
        for (const td_command *c = td_commands(); c->name; c++)
            td_text_print(out, "%s ", c->name);
        td_text_print(out, "cfg)'");
    }
}

/* The operands of a word that takes files, "FILE.so ..", besides configs and keys. False: it takes
 * none, and nothing was written. */
static bool put_files(td_text *out, const td_usage *u, const td_word *w)
{
    const char *file = w && w->arguments ? strstr(w->arguments, "FILE") : NULL;
    if (!file)
        return false;
    td_text_print(out, " \\\n            '*:file:{ %s_files",
                  u->config ? "_tandem_operands; " : "");
    if (file[4] == '.')
        td_text_print(out, " -g \"*%.*s\"", (int)strcspn(file + 4, " ]"), file + 4);
    td_text_print(out, " }'");
    return true;
}

/* A call of _arguments with everything that a command, or a word, accepts. */
static void put_arguments(td_text *out, const td_usage *u, const td_word *w)
{
    td_text_print(out, "        _arguments -s");
    td_completion_flags(u, put_flag, out);
    if (!put_files(out, u, w))
        put_operands(out, u);
    td_text_print(out, "\n        ;;\n");
}

/* The cases of a command. At this point $words begins with the command; a word that has its own
 * options shifts it away, so that _arguments counts from that word on. */
static void put_command(td_text *out, const td_command *c)
{
    for (const td_word *w = c->usage->words; w && w->name; w++) {
        if (!w->usage)
            continue;
        td_text_print(out, "    '%s')\n        shift words && (( CURRENT-- ))\n", w->usage->name);
        put_arguments(out, w->usage, w);
    }
    td_text_print(out, "    '%s'*)\n", c->name);
    put_arguments(out, c->usage, NULL);
}

/* ---- the functions of the script ------------------------------------------------------------- */

static void put_commands(td_text *out)
{
    /* The first word is a command; the rest is completed by the case of "COMMAND WORD". */
    td_text_print(out, "    local -a commands=(\n");
    for (const td_command *c = td_commands(); c->name; c++) {
        td_text_print(out, "        '%s:", c->name);
        put_description(out, c->brief);
        td_text_print(out, "'\n");
    }
    td_text_print(out,
                  "    )\n    if (( CURRENT == 2 )); then\n"
                  "        _arguments '--help[list the commands]' '--version[print the version]' "
                  "'1:command:->command'\n"
                  "        _describe command commands\n        return\n    fi\n"
                  "    shift words && (( CURRENT-- ))\n"
                  "    local word=''\n    (( CURRENT > 2 )) && word=\" $words[2]\"\n"
                  "    case \"$words[1]$word\" in\n");
    for (const td_command *c = td_commands(); c->name; c++)
        put_command(out, c);
    td_text_print(out, "    esac\n");
}

/* Two functions: the arguments of words without their own options, and the plugins of a kind. */
static void put_names(const td_completion *x, td_text *out)
{
    td_text_print(out, "# an argument of a word: a kind, a plugin or a file\n_tandem_argument() {\n"
                       "    case \"$words[1] $words[2] $((CURRENT - 3))\" in\n");
    for (const td_command *c = td_commands(); c->name; c++)
        for (const td_word *w = c->usage->words; w && w->name; w++) {
            if (!w->arguments || c->usage->config) /* with configs: _tandem_operands */
                continue;
            td_text_print(out, "    '%s %s 0') ", c->name, w->name);
            td_text_print(out, strstr(w->arguments, "KIND") ? "compadd -- $_tandem_kinds ;;\n"
                                                            : "_files ;;\n");
            if (strstr(w->arguments, "KIND NAME"))
                td_text_print(out, "    '%s %s 1') _tandem_names $words[3] ;;\n", c->name, w->name);
        }
    td_text_print(out, "    esac\n}\n\n_tandem_names() {\n    case $1 in\n");
    for (const td_kind *k = td_kinds(); k->id; k++) {
        const char *list = td_keys_plugins(x->registry, k->id, x->arena);
        td_text_print(out, "    %s) compadd -- ", k->name);
        td_completion_list(out, list ? list : "", ' ');
        td_text_print(out, " ;;\n");
    }
    td_text_print(out, "    esac\n}\n\n");
}

/* Global, since the functions of the script share them. */
static void put_tables(const td_completion *x, td_text *out)
{
    td_text_print(out, "typeset -ga _tandem_kinds=(");
    td_completion_kinds(out);
    td_text_print(out, ")\ntypeset -ga _tandem_shipped=(%s)\n", x->configs);
    td_text_print(out, "# each key with its values: words, FILE, or nothing\n"
                       "typeset -gA _tandem_keys=(\n");
    for (size_t k = 0; k < x->keys.count; k++)
        td_text_print(out, "    %s '%s'\n", x->keys.at[k].path, x->keys.at[k].values);
    td_text_print(out, ")\n\n");
}

/* Does not depend on the commands. _multi_parts completes keys up to the next dot. */
static const char code[] =
    "_tandem_configs() {\n"
    "    _alternative 'files:config:_files -g \"*.cfg\"' \\\n"
    "        'shipped:shipped config:_multi_parts / _tandem_shipped'\n"
    "}\n\n"
    "_tandem_key() {\n"
    "    local -a keys=(${(ok)_tandem_keys})\n"
    "    _multi_parts . keys\n"
    "}\n\n"
    "# a config, key=value, or for `config explain` a key alone\n"
    "_tandem_operands() {\n"
    "    local key=${PREFIX%%=*}\n"
    "    local -a keys=(${(ok)_tandem_keys})\n"
    "    if [[ $PREFIX == *=* ]]; then\n"
    "        compset -P '*='\n"
    "        case $_tandem_keys[$key] in\n"
    "        FILE) _files ;;\n"
    "        *) compadd -- ${(s:|:)_tandem_keys[$key]} ;;\n"
    "        esac\n"
    "    elif [[ $words[2] == explain ]]; then\n"
    "        _alternative 'files:config:_files -g \"*.cfg\"' 'keys:key:_multi_parts . keys'\n"
    "    else\n"
    "        keys=(${^keys}=)\n"
    "        _alternative 'files:config:_files -g \"*.cfg\"' \\\n"
    "            'keys:key=value:_multi_parts -S \"\" . keys'\n"
    "    fi\n"
    "}\n\n";

void td_completion_zsh(const td_completion *x, td_text *out)
{
    td_text_print(out,
                  "#compdef tandem\n# zsh completion for tandem. Written by `tandem completion "
                  "zsh`.\n\n");
    put_tables(x, out);
    td_text_print(out, "%s", code);
    put_names(x, out);
    td_text_print(out, "_tandem() {\n");
    put_commands(out);
    /* zsh autoloads the file on first use and calls it as _tandem; sourced, it has to register. */
    td_text_print(out, "}\n\n"
                       "if [[ $funcstack[1] == _tandem ]]; then\n    _tandem \"$@\"\n"
                       "else\n    compdef _tandem tandem\nfi\n");
}
