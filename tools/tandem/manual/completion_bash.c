/* completion_bash.c - the script of `tandem completion bash`.
 *
 * In the script, `_tandem` finds out what the word under the cursor is (an option's value, a key,
 * the second argument of a word, ..) and calls the function for it, which adds to COMPREPLY. Most
 * of these functions are a `case` over "COMMAND WORD", written here from the commands' tables; the
 * rest of the script is fixed text. */
#include <string.h>

#include "manual/completion.h"

/* ---- options --------------------------------------------------------------------------------- */

/* The pattern for "COMMAND WORD": exact for a word with its own options; otherwise the command with
 * any word. */
static void put_pattern(const td_usage *u, const td_word *w, td_text *out)
{
    td_text_print(out, w ? "    '%s')" : "    '%s'*)", u->name);
}

static void put_flag(const td_usage *u, const td_flag *f, void *out)
{
    td_text_print(out, " %s", f->name);
}

/*     'data show') _tandem_add ' --index --count -c ..' ;; */
static void put_flags(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    put_pattern(u, w, out);
    td_text_print(out, " _tandem_add '");
    td_completion_flags(u, put_flag, out);
    td_text_print(out, "' ;;\n");
}

static void put_valued(const td_usage *u, const td_flag *f, void *out)
{
    if (f->value)
        td_text_print(out, " %s", f->name);
}

static void put_all_valued(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    td_completion_flags(u, put_valued, out);
}

/*     'data show:--index') : ;;
 *     'data make-corpus:--out') _tandem_directories ;;
 *
 * The case of an option that takes a value: the completions offered for it. */
static void put_value(const td_usage *u, const td_flag *f, void *argument)
{
    td_text *out = argument;
    if (!f->value)
        return;
    td_text_print(out, "    '%s%s:%s') ", u->name, u->words ? "'*'" : "", f->name);
    if (!strcmp(f->name, "-c"))
        td_text_print(out, "_tandem_configs");
    else if (!strcmp(f->value, "DIR"))
        td_text_print(out, "_tandem_directories");
    else if (!strncmp(f->value, "FILE", 4))
        td_text_print(out, "_tandem_files");
    else if (!strncmp(f->value, "KEY", 3))
        td_text_print(out, "_tandem_keys ''");
    else if (strchr(f->value, '|')) {
        td_text_print(out, "_tandem_add '");
        td_completion_list(out, f->value, ' ');
        td_text_print(out, "'");
    } else
        td_text_print(out, ":"); /* a number or free text: nothing to offer, but no option either */
    td_text_print(out, " ;;\n");
}

static void put_values(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    td_completion_flags(u, put_value, out);
}

/*     'data show') return 0 ;; */
static void put_takes_config(const td_usage *u, const td_command *c, const td_word *w, void *out)
{
    put_pattern(u, w, out);
    td_text_print(out, u->config ? " return 0 ;;\n" : " return 1 ;;\n");
}

/* A function of the script with a case for every command. The shell takes the first pattern that
 * matches, so words with their own options come before their command. */
static void put_case(const char *head, const char *tail, td_completion_see *see, td_text *out)
{
    td_text_print(out, "%s", head);
    for (const td_command *c = td_commands(); c->name; c++) {
        for (const td_word *w = c->usage->words; w && w->name; w++)
            if (w->usage)
                see(w->usage, c, w, out);
        see(c->usage, c, NULL, out);
    }
    td_text_print(out, "%s", tail);
}

/* ---- words and their arguments --------------------------------------------------------------- */

/* The completions for one argument of a word, by its placeholder: the n bytes at `name`. */
static void put_argument(const char *name, size_t n, td_text *out)
{
    if (n == 4 && !strncmp(name, "KIND", n))
        td_text_print(out, "_tandem_add \"$_tandem_kinds\"");
    else if (n == 4 && !strncmp(name, "NAME", n))
        td_text_print(out, "_tandem_names \"$last\"");
    else if (n == 3 && !strncmp(name, "KEY", n))
        td_text_print(out, "_tandem_keys ''");
    else if (n == 3 && !strncmp(name, "DIR", n))
        td_text_print(out, "_tandem_directories");
    else if (n > 5 && !strncmp(name, "FILE.", 5)) /* FILE.so: only files with that ending */
        td_text_print(out, "_tandem_files '*%.*s'", (int)(n - 4), name + 4);
    else
        td_text_print(out, "_tandem_files");
}

/*     'plugins show 0') _tandem_add "$_tandem_kinds" ;;
 *     'plugins show 1') _tandem_names "$last" ;;
 *     'plugins check '*) _tandem_files '*.so' ;;
 *
 * A case for each argument of a word. */
static void put_word(const td_command *c, const td_word *w, td_text *out)
{
    const char *last = "";
    size_t      n = 0, last_length = 0;
    for (const char *p = w->arguments ? w->arguments : ""; *p;) {
        size_t length = strcspn(p, " ");
        size_t open = *p == '[', shut = length > 1 && p[length - 1] == ']';
        bool   again = length == 2 && !strncmp(p, "..", 2);
        /* ".." offers the same completions for all further arguments as for the one before it. */
        if (!again) {
            last = p + open;
            last_length = length - open - shut;
        }
        if (*last != '-' && *last) { /* "[--origins]" is an option, not an argument */
            td_text_print(out, again ? "    '%s %s '*) " : "    '%s %s %zu') ", c->name, w->name,
                          n++);
            put_argument(last, last_length, out);
            td_text_print(out, " ;;\n");
        }
        p += length;
        p += strspn(p, " ");
    }
}

/*     'plugins  0') _tandem_add 'list show matrix ..' ;;
 *
 * The word itself is argument 0 of a command without a word; then come the arguments of each
 * word. */
static void put_words(td_text *out)
{
    for (const td_command *c = td_commands(); c->name; c++) {
        /* `tandem man COMMAND`: all commands, without the options after them */
        if (c->usage->arguments && strstr(c->usage->arguments, "COMMAND"))
            td_text_print(out, "    '%s  0') _tandem_add \"${_tandem_commands%%%% --*} cfg\" ;;\n",
                          c->name);
        if (!c->usage->words)
            continue;
        td_text_print(out, "    '%s  0') _tandem_add '", c->name);
        for (const td_word *w = c->usage->words; w->name; w++)
            td_text_print(out, "%s%s", w == c->usage->words ? "" : " ", w->name);
        td_text_print(out, "' ;;\n");
        for (const td_word *w = c->usage->words; w->name; w++)
            put_word(c, w, out);
    }
}

static void put_is_word(td_text *out)
{
    td_text_print(out, "_tandem_is_word() {\n    case \"$1\" in\n");
    for (const td_command *c = td_commands(); c->name; c++)
        for (const td_word *w = c->usage->words; w && w->name; w++)
            td_text_print(out, "    '%s %s') return 0 ;;\n", c->name, w->name);
    td_text_print(out, "    esac\n    return 1\n}\n\n");
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void put_names(const td_completion *x, td_text *out)
{
    td_text_print(out, "# the plugins of the kind $1\n_tandem_names() {\n    case \"$1\" in\n");
    for (const td_kind *k = td_kinds(); k->id; k++) {
        const char *names = td_keys_plugins(x->registry, k->id, x->arena);
        td_text_print(out, "    %s) _tandem_add '", k->name);
        td_completion_list(out, names ? names : "", ' ');
        td_text_print(out, "' ;;\n");
    }
    td_text_print(out, "    esac\n}\n\n");
}

static void put_lists(const td_completion *x, td_text *out)
{
    td_text_print(out, "_tandem_commands='");
    for (const td_command *c = td_commands(); c->name; c++)
        td_text_print(out, "%s ", c->name);
    td_text_print(out, "--help --version'\n_tandem_kinds='");
    td_completion_kinds(out);
    td_text_print(out, "'\n_tandem_valued='"); /* to tell an option's value from an argument */
    td_completion_each(put_all_valued, out);
    td_text_print(out, " '\n_tandem_shipped='%s'\n", x->configs);
    td_text_print(out,
                  "# a key and its values a line: words, FILE, or nothing\n_tandem_all_keys='");
    for (size_t k = 0; k < x->keys.count; k++)
        td_text_print(out, "%s%s %s", k ? "\n" : "", x->keys.at[k].path, x->keys.at[k].values);
    td_text_print(out, "'\n\n");
}

/* ---- the fixed text -------------------------------------------------------------------------- */

static const char head[] = "# bash completion for tandem. Written by `tandem completion bash`.\n"
                           "# shellcheck shell=bash disable=SC2207,SC2034\n\n";

static const char helpers[] =
    "# add those of the words $1 that continue $cur\n"
    "_tandem_add() {\n"
    "    COMPREPLY+=($(compgen -W \"$1\" -- \"$cur\"))\n"
    "}\n\n"
    "# files that match the pattern $1, and directories; without $1 all files\n"
    "_tandem_files() {\n"
    "    local IFS=$'\\n'\n"
    "    files=1\n"
    "    if [[ $1 ]]; then\n"
    "        COMPREPLY+=($(compgen -f -X \"!$1\" -- \"$cur\") $(compgen -d -- \"$cur\"))\n"
    "    else\n"
    "        COMPREPLY+=($(compgen -f -- \"$cur\"))\n"
    "    fi\n"
    "}\n\n"
    "_tandem_directories() {\n"
    "    local IFS=$'\\n'\n"
    "    files=1\n"
    "    COMPREPLY+=($(compgen -d -- \"$cur\"))\n"
    "}\n\n"
    "_tandem_configs() {\n"
    "    _tandem_files '*.cfg'\n"
    "    _tandem_add \"$_tandem_shipped\"\n"
    "}\n\n"
    "# config keys up to the next dot, or a whole key followed by $1\n"
    "_tandem_keys() {\n"
    "    local key rest last=\n"
    "    while read -r key rest; do\n"
    "        [[ $key == \"$cur\"* ]] || continue\n"
    "        rest=${key#\"$cur\"}\n"
    "        case $rest in\n"
    "        *.*) rest=$cur${rest%%.*}. ;;\n"
    "        *) rest=$key$1 ;;\n"
    "        esac\n"
    "        [[ $rest == \"$last\" ]] || COMPREPLY+=(\"$rest\")\n"
    "        last=$rest\n"
    "    done <<<\"$_tandem_all_keys\"\n"
    "}\n\n"
    "# the values of the key $1\n"
    "_tandem_key_values() {\n"
    "    local key values\n"
    "    while read -r key values; do\n"
    "        [[ $key == \"$1\" ]] || continue\n"
    "        case $values in\n"
    "        FILE) _tandem_files ;;\n"
    "        *) _tandem_add \"${values//|/ }\" ;;\n"
    "        esac\n"
    "    done <<<\"$_tandem_all_keys\"\n"
    "}\n\n";

/* bash splits COMP_WORDS at '=' if COMP_WORDBREAKS contains it (the default) and then replaces only
 * the part after the '='. So words are joined again first, and `prefix`, the part up to the '=', is
 * put before the answers only if bash does not split there.
 *
 * The first loop joins, the second finds command, word, the number of plain arguments, and whether
 * the previous argument is an option that waits for its value (`prev`). */
static const char main_function[] =
    "_tandem() {\n"
    "    local IFS=$' \\t\\n' cur prev prefix='' command='' word='' last='' plain=0 join='' "
    "config='' files='' i x\n"
    "    local -a w=()\n"
    "    COMPREPLY=()\n"
    "    for ((i = 0; i <= COMP_CWORD; i++)); do\n"
    "        x=${COMP_WORDS[i]}\n"
    "        if [[ $x == '=' && $i -gt 0 ]]; then\n"
    "            w[${#w[@]} - 1]+='=' join=1\n"
    "        elif [[ $join ]]; then\n"
    "            w[${#w[@]} - 1]+=$x join=''\n"
    "        else\n"
    "            w+=(\"$x\")\n"
    "        fi\n"
    "    done\n"
    "    cur=${w[${#w[@]} - 1]}\n"
    "    prev=''\n"
    "    for ((i = 1; i < ${#w[@]} - 1; i++)); do\n"
    "        x=${w[i]} prev=''\n"
    "        case $x in\n"
    "        -*)\n"
    "            [[ $x == -c ]] && config=1\n"
    "            if [[ $_tandem_valued == *\" $x \"* ]]; then\n"
    "                prev=$x\n"
    "                i=$((i + 1))\n"
    "                [[ $i -lt $((${#w[@]} - 1)) ]] && prev=''\n"
    "            fi\n"
    "            ;;\n"
    "        *.cfg) config=1 ;;\n"
    "        *=*) ;;\n"
    "        *)\n"
    "            if [[ ! $command ]]; then\n"
    "                command=$x\n"
    "            elif [[ ! $word ]] && _tandem_is_word \"$command $x\"; then\n"
    "                word=$x\n"
    "            else\n"
    "                plain=$((plain + 1)) last=$x\n"
    "            fi\n"
    "            ;;\n"
    "        esac\n"
    "    done\n"
    "    if [[ ! $command ]]; then\n"
    "        _tandem_add \"$_tandem_commands\"\n"
    "        return\n"
    "    fi\n"
    "    if [[ ! $prev && $cur == --*=* ]]; then\n"
    "        prev=${cur%%=*} prefix=${cur%%=*}=\n"
    "        cur=${cur#*=}\n"
    "    fi\n"
    "    if [[ $prev ]]; then\n"
    "        _tandem_value \"$command${word:+ $word}:$prev\"\n"
    "    elif [[ $cur == -* ]]; then\n"
    "        _tandem_flags \"$command${word:+ $word}\"\n"
    "    elif [[ $cur == *=* ]] && _tandem_config \"$command${word:+ $word}\"; then\n"
    "        prefix=${cur%%=*}= x=${cur%%=*} cur=${cur#*=}\n"
    "        _tandem_key_values \"$x\"\n"
    "    else\n"
    "        _tandem_plain \"$command $word $plain\"\n"
    "        if _tandem_config \"$command${word:+ $word}\" && [[ $word != explain ]]; then\n"
    "            [[ $cur || ! $config ]] && _tandem_files '*.cfg'\n"
    "            [[ $cur ]] && _tandem_add \"$_tandem_shipped\"\n"
    "            [[ $cur || $config ]] && _tandem_keys '='\n"
    "        fi\n"
    "    fi\n"
    "    if [[ $prefix && $COMP_WORDBREAKS != *=* ]]; then\n"
    "        for i in \"${!COMPREPLY[@]}\"; do\n"
    "            COMPREPLY[i]=$prefix${COMPREPLY[i]}\n"
    "        done\n"
    "    fi\n"
    "    for x in \"${COMPREPLY[@]}\"; do\n"
    "        if [[ $x != *[.=] ]]; then # as file names, answers with '=' would be quoted\n"
    "            [[ $files ]] && compopt -o filenames 2>/dev/null\n"
    "            return 0\n"
    "        fi\n"
    "    done\n"
    "    compopt -o nospace 2>/dev/null\n"
    "}\n\n"
    "complete -F _tandem tandem\n";

void td_completion_bash(const td_completion *x, td_text *out)
{
    /* Functions are defined when the script is sourced and called later, so their order is free. */
    td_text_print(out, "%s", head);
    put_lists(x, out);
    td_text_print(out, "%s", helpers);
    put_names(x, out);
    put_is_word(out);
    put_case("_tandem_flags() {\n    case \"$1\" in\n", "    esac\n}\n\n", put_flags, out);
    put_case("# whether it accepts configs and keys\n_tandem_config() {\n    case \"$1\" in\n",
             "    esac\n    return 1\n}\n\n", put_takes_config, out);
    put_case("# the value of an option\n_tandem_value() {\n    case \"$1\" in\n", "    esac\n}\n\n",
             put_values, out);
    td_text_print(out, "# $1: command, word, and the number of the argument after them\n"
                       "_tandem_plain() {\n    case \"$1\" in\n");
    put_words(out);
    td_text_print(out, "    esac\n}\n\n%s", main_function);
}
