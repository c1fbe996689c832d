/* completion.c - the scripts of `tandem completion`, run by their shells. */
#include "tools/child.h"

/* Sources the script and prints the completions of "$2", with words split as in bash; "$3" is
 * removed from COMP_WORDBREAKS. */
static const char driver[] =
    "eval \"$(\"$0\" completion bash)\" || exit 9\n"
    "COMP_WORDBREAKS=${COMP_WORDBREAKS//$3}\n"
    "COMP_LINE=$2 COMP_POINT=${#2}\n"
    "line=$2; [[ $COMP_WORDBREAKS == *=* ]] && line=${line//=/ = }\n"
    "set -f; COMP_WORDS=($line); set +f; [[ $2 == *' ' ]] && COMP_WORDS+=('')\n"
    "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
    "cd \"$1\" || exit 9\n_tandem\n"
    "for r in \"${COMPREPLY[@]}\"; do printf '%s\\n' \"$r\"; done\n";

static child bash(const char *line, const char *unbroken)
{
    return child_run((const char *[]){ "bash", "--norc", "-c", driver, TANDEM_BINARY, TANDEM_SOURCE,
                                       line, unbroken, NULL });
}

/* Whether a line of `text` is `word`. */
static bool has(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
        if (!strncmp(p, word, n) && (p[n] == '\n' || !p[n]))
            return true;
    return false;
}

static void offers(const char *line, const char *unbroken, const char *const *words)
{
    child c = bash(line, unbroken);
    cr_expect_eq(c.code, 0, "%s: %s", line, c.err);
    cr_expect_str_empty(c.err, "%s: %s", line, c.err);
    for (; *words; words++)
        cr_expect(**words == '!' ? !has(c.out, *words + 1) : has(c.out, *words),
                  "'%s': wanted %s in:\n%s", line, *words, c.out);
    child_free(&c);
}

#define OFFERS(line, ...) offers(line, "", (const char *const[]){ __VA_ARGS__, NULL })

static void is(const char *line, const char *unbroken, const char *all)
{
    child c = bash(line, unbroken);
    cr_expect_str_eq(c.out, all, "'%s': '%s', not '%s' (%s)", line, c.out, all, c.err);
    child_free(&c);
}

Test(bash, is_set)
{
    child c = child_run((const char *[]){
        "bash", "--norc", "-c",
        "eval \"$('" TANDEM_BINARY "' completion bash)\"; complete -p tandem", NULL });
    cr_expect_str_eq(c.out, "complete -F _tandem tandem\n", "%s%s", c.out, c.err);
    child_free(&c);
}

Test(bash, commands_and_words)
{
    OFFERS("tandem ", "train", "plugins", "completion", "--help", "--version", "!--resume");
    is("tandem tr", "", "train\n");
    is("tandem plugins sh", "", "show\n");
    is("tandem data prep", "", "prepare\n");
    is("tandem config -c x.cfg expl", "", "explain\n");
    is("tandem completion ", "", "bash\nzsh\nfish\n");
    is("tandem no-such ", "", "");
    OFFERS("tandem man ", "train", "cfg", "!--help");
}

Test(bash, plugins)
{
    is("tandem plugins show attenti", "", "attention\n");
    OFFERS("tandem plugins show position ", "rope", "alibi", "none", "!softmax");
    OFFERS("tandem plugins --quiet show norm ", "rms", "layer");
    OFFERS("tandem plugins list ", "schedule", "!cosine");
    OFFERS("tandem plugins check tests/", "tests/tools", "!tests/layers.c");
}

Test(bash, configs)
{
    is("tandem train -c nano/red", "", "nano/redllm.cfg\n");
    is("tandem train configs/quickstart/d", "", "configs/quickstart/decllm.cfg\n");
    OFFERS("tandem describe -c ", "configs", "nano/decllm.cfg", "!README.md");
}

Test(bash, keys)
{
    OFFERS("tandem train -c x.cfg ", "model.", "train.", "!train.steps=");
    is("tandem train model.atte", "", "model.attention.\n");
    is("tandem train model.attention.kv_h", "", "model.attention.kv_heads=\n");
    is("tandem config explain model.attention.kv_h", "", "model.attention.kv_heads\n");
    OFFERS("tandem bench train.", "train.steps=", "train.guard=", "!train.weight_decay=");
    is("tandem doctor model.atte", "", "");
}

Test(bash, values)
{
    is("tandem train train.guard=", "", "none\nskip\nstop\n");
    is("tandem train train.guard=sk", "", "skip\n");
    is("tandem train train.guard=sk", "=", "train.guard=skip\n");
    is("tandem train model.attention.plugin=soft", "", "softmax\n");
    is("tandem train model.attention.qkv_norm=t", "", "true\n");
    is("tandem train run.loggers=j", "", "jsonl\n");
    is("tandem train train.weights=READ", "", "README.md\n");
    is("tandem describe --graph ", "", "text\ndot\n");
    is("tandem describe --graph=d", "", "dot\n");
    is("tandem describe --graph=d", "=", "--graph=dot\n");
    is("tandem plugins --plugin-path conf", "", "configs\n");
    is("tandem data make-corpus --out conf", "", "configs\n");
    is("tandem train --allow model.attention.kv_h", "", "model.attention.kv_heads\n");
    is("tandem bench --seconds ", "", "");
}

/* Exactly the options that --help lists. */
static void same_options(const char *command)
{
    char  line[128], flag[64], last[2048] = "";
    child help, c;
    int   n = 0;
    snprintf(line, sizeof line, "'%s' %s --help", TANDEM_BINARY, command);
    help = child_run((const char *[]){ "sh", "-c", line, NULL });
    snprintf(line, sizeof line, "tandem %s --", command);
    c = bash(line, "");
    for (const char *p = help.out; p; p = strstr(p + 1, "\n  --"))
        if (sscanf(p, "\n  %63s", flag) == 1 && !strncmp(flag, "--", 2)) {
            cr_expect(has(c.out, flag), "%s: %s is not offered:\n%s", command, flag, c.out);
            n++;
        }
    snprintf(last, sizeof last, "%s", c.out);
    for (char *p = strtok(last, "\n"); p; p = strtok(NULL, "\n"))
        n--;
    cr_expect_eq(n, 0, "%s: the options offered differ from those of --help:\n%s", command, c.out);
    child_free(&help);
    child_free(&c);
}

Test(bash, options)
{
    static const char *const commands[] = { "train",
                                            "evaluate",
                                            "probe",
                                            "config",
                                            "describe",
                                            "bench",
                                            "doctor",
                                            "plugins",
                                            "plugins reference",
                                            "plugins check",
                                            "data make-corpus",
                                            "data train-tokenizer",
                                            "data prepare",
                                            "data show",
                                            "completion",
                                            "man" };
    for (size_t k = 0; k < sizeof commands / sizeof *commands; k++)
        same_options(commands[k]);
}

/* ---- other shells, if they are installed
 * ------------------------------------------------------------ */

static bool there(const char *shell)
{
    child c = child_run((const char *[]){ "sh", "-c", "command -v \"$0\"", shell, NULL });
    bool  yes = !c.code;
    child_free(&c);
    if (!yes)
        cr_skip_test("there is no %s", shell);
    return yes;
}

/* Runs `script` with the file that holds the completion of the shell as $1. */
static child with_script(const char *shell, const char *script)
{
    char  path[] = "/tmp/tandem-completion-XXXXXX", command[256];
    int   fd = mkstemp(path);
    child c;
    cr_assert(fd >= 0);
    close(fd);
    snprintf(command, sizeof command, "'%s' completion %s >%s", TANDEM_BINARY, shell, path);
    cr_assert(!system(command));
    c = child_run((const char *[]){ "sh", "-c", script, "sh", path, NULL });
    unlink(path);
    return c;
}

Test(zsh, reads_the_script)
{
    child c;
    if (!there("zsh"))
        return;
    c = with_script("zsh",
                    "zsh -n \"$1\" && cd /tmp && zsh -f -c 'autoload -U compinit; compinit -u "
                    "-D; source $1; print $_comps[tandem]' zsh \"$1\"");
    cr_expect(!c.code && !strcmp(c.out, "_tandem\n"), "%d: %s%s", c.code, c.out, c.err);
    child_free(&c);
}

Test(fish, completes)
{
    child c;
    if (!there("fish"))
        return;
    c = with_script("fish",
                    "fish --no-config -c 'source $argv[1]; complete -C \"tandem plugins show "
                    "position al\"; complete -C \"tandem train train.gu\"; complete -C "
                    "\"tandem describe --graph \"; complete -C \"tandem tr\"' \"$1\"");
    cr_expect(!c.code && strstr(c.out, "alibi\n") && strstr(c.out, "train.guard=\twhen the") &&
                  strstr(c.out, "dot\t") && strstr(c.out, "train\ttrain a model"),
              "%d: %s%s", c.code, c.out, c.err);
    child_free(&c);
}

Test(completion, of_no_such_shell)
{
    child c = child_run((const char *[]){ TANDEM_BINARY, "completion", "tcsh", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "'tcsh' is not one of bash, zsh, fish"), "%s", c.err);
    child_free(&c);
    c = child_run((const char *[]){ TANDEM_BINARY, "completion", NULL });
    cr_expect_eq(c.code, 2);
    cr_expect(strstr(c.err, "which shell? Choose bash"), "%s", c.err);
    child_free(&c);
}
