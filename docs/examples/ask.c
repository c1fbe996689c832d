/* ask.c - asks the model of a run. A line of the input with a tab is a question and an answer, whose
 * log-likelihood is printed; any other line is continued:
 *
 *     printf 'The ferry from\n2 plus 2 is\t4\n' | ask runs/embedded
 */
#include <stdio.h>
#include <string.h>
#include <tandem/embed.h>

static void print_answer(void *arg, const td_answered *a)
{
    (void)arg;
    printf("%s%s\n", a->text, a->stopped ? "" : " ..");
}

static int go_on(td_session *session, const char *line, td_error *error)
{
    td_generation how = { .size = sizeof how, .max_tokens = 40, .answer = print_answer };
    td_given      prompt = { .text = line };
    return td_session_generate(session, &how, &prompt, 1, NULL, error);
}

static int score(td_session *session, const char *question, const char *answer, td_error *error)
{
    td_scored item;
    int       code = td_session_encode_pair(session, question, answer, &item, error);
    if (!code)
        code = td_session_score(session, &item, 1, NULL, NULL, error);
    if (!code)
        printf("%.4f nats for %lld tokens%s\n", item.logprob, (long long)item.n_target,
               item.greedy ? ", the most likely ones" : "");
    return code;
}

static int answer_lines(td_session *session, td_error *error)
{
    char line[4096];
    int  code = td_session_load(session, NULL, error);
    while (!code && fgets(line, sizeof line, stdin)) {
        char *tab = strchr(line, '\t');
        line[strcspn(line, "\n")] = 0;
        if (tab)
            *tab++ = 0;
        code = tab ? score(session, line, tab, error) : go_on(session, line, error);
    }
    return code;
}

int main(int argc, char **argv)
{
    td_session_options options = { .size = sizeof options,
                                   .purpose = TD_PURPOSE_GENERATE,
                                   .run = argc > 1 ? argv[1] : "runs/embedded" };
    td_error           error = { 0 };
    td_session        *session = td_session_open(&options, &error);

    if (session)
        answer_lines(session, &error);
    td_session_close(session);
    if (error.code)
        fprintf(stderr, "%s\n", error.text);
    return error.code != 0;
}
