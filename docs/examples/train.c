/* train.c - trains a model from a config, with a line for every tenth step. Ctrl-C saves the run
 * between two steps, and the same command continues it:
 *
 *     train quickstart/redllm.cfg train.steps=100 run.name=embedded
 */
#include <signal.h>
#include <stdio.h>
#include <tandem/embed.h>

/* The library leaves signals alone: this program chooses to end the run at the next step. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static int show(void *arg, const td_training_step *s)
{
    (void)arg;
    if (s->step % 10 == 0 || s->step == s->steps)
        printf("step %lld/%lld: loss %.3f, %.0f tokens/s\n", (long long)s->step,
               (long long)s->steps, s->loss, s->tokens_per_second);
    return interrupted;
}

static int train(td_session *session, td_error *error)
{
    /* `resume` also starts a run that does not exist yet */
    td_training           training = { .size = sizeof training, .resume = true, .step = show };
    const td_description *about = td_session_describe(session, error);
    const td_trained     *trained;
    if (!about)
        return error->code;
    printf("%lld parameters, %.3g FLOPs per sequence, into '%s'\n", (long long)about->parameters,
           about->forward.dense, td_session_directory(session));
    if (td_session_train(session, &training, &trained, error))
        return error->code;
    if (trained->stopped)
        printf("stopped and saved at step %lld\n", (long long)trained->step);
    else if (trained->evaluation)
        printf("held-out NLL %.4f nats per token\n", trained->evaluation->nll);
    return 0;
}

int main(int argc, char **argv)
{
    const char        *files[] = { argc > 1 ? argv[1] : "quickstart/redllm.cfg", NULL };
    /* argv ends with NULL, as a list of settings does */
    td_session_options options = { .size = sizeof options,
                                   .files = files,
                                   .settings = argc > 2 ? (const char *const *)argv + 2 : NULL };
    td_error           error = { 0 };
    td_session        *session = td_session_open(&options, &error);

    signal(SIGINT, on_interrupt);
    if (session)
        train(session, &error);
    td_session_close(session);
    if (error.code)
        fprintf(stderr, "%s\n", error.text);
    return error.code != 0;
}
