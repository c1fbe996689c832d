/* study_emit.c - studies for other machines: what `tandem study emit` writes runs there, and the studies that ship
 * are such that they can. */
#include "tools/study.h"

TestSuite(study_emit, .init = setup, .fini = teardown);

/* ---- other machines --------------------------------------------------------------------------- */

static void shell(const char *format)
{
    char  command[2000];
    child c;
    snprintf(command, sizeof command, "cd '%s/a/out' && export TANDEM=%s && %s", directory,
             TANDEM_BINARY, format);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, 0, "%s\n%s%s", command, c.out, c.err);
    child_free(&c);
}

Test(study_emit, a_makefile_runs_it)
{
    expect(0, "out", study("a", "emit make ../tiny.cfg -o out"));
    shell("make -j 2");
    expect(0, "12 cells in out: 12 done", study("a", "status out"));
    shell("make -q");
}

Test(study_emit, a_list_runs_it)
{
    expect(0, "out", study("a", "emit list ../tiny.cfg -o out"));
    shell("sh -e commands.txt");
    expect(0, "12 cells in out: 12 done", study("a", "status out"));
    /* it does nothing a second time: then even a command that fails is not started */
    shell("TANDEM=false sh -e commands.txt");
}

/* Paths of the text are from where it was emitted, but the commands run in DIR; and what fails says where
 * to look. */
Test(study_emit, it_runs_from_its_own_directory)
{
    char *text = td_file_read(TANDEM_SOURCE "/data/corpus/facts.valid.jsonl", NULL, NULL);
    expect(0, "usage", study("a", "--help"));
    put("a/own.jsonl", text);
    free(text);
    put("own.cfg",
        "data = { sources = ( { name = \"own\"; files = \"own.jsonl\"; held_out = \"" TANDEM_SOURCE
        "/data/corpus/lists.valid.jsonl\"; } ); };\n");
    expect(0, "em make", study("a", "emit make ../tiny.cfg -c ../own.cfg -o 'em make'"));
    expect(0, "out", study("a", "emit list ../tiny.cfg -c ../own.cfg -o out"));
    shell("grep -q 'files = ( \"/.*/a/own.jsonl\" )' configs/plain-s1-pretrain.cfg");
    shell("cd '../em make' && make done/plain-s1-pretrain");
    shell("rm ../own.jsonl; sh commands.txt 2>said; test $? != 0 && "
          "grep -q 'plain-s1-pretrain ended with exit code 2: see logs/plain-s1-pretrain.log' said "
          "&& "
          "grep -q 'plain-s1-finetune was not begun, because plain-s1-pretrain is not done' said");
}

/* So is that of the parameters to start from. */
Test(study_emit, its_weights_are_found_from_anywhere)
{
    char  command[400];
    child c;
    expect(0, "usage", study("a", "--help"));
    snprintf(command, sizeof command,
             "cd '%s/a' && %s train -c ../model.cfg train.steps=1 run.name=base", directory,
             TANDEM_BINARY);
    c = child_run((const char *[]){ "sh", "-c", command, NULL });
    cr_assert_eq(c.code, 0, "%s", c.err);
    child_free(&c);
    put("one.cfg", "study = { base = [ \"model.cfg\", \"train.weights=runs/base\" ];\n"
                   "  phases = { pretrain = \"train.steps=2\"; }; };\n");
    expect(0, "out", study("a", "emit list ../one.cfg -o out"));
    shell("grep -q 'weights = \"/.*/a/runs/base\"' configs/*.cfg && sh -e commands.txt");
}

Test(study_emit, someones_own_directory_is_not_filled)
{
    expect(0, "usage", study("b", "--help"));
    put("b/own.txt", "mine");
    expect(2, "'.' has other files and is not a study's directory",
           study("b", "emit list ../tiny.cfg -o ."));
    expect(0, "out", study("b", "emit list ../tiny.cfg -o out"));
    /* again */
    expect(0, "out", study("b", "emit make ../tiny.cfg -o out"));
}

/* With an sbatch that runs the tasks of an array one after the other. */
Test(study_emit, slurm_runs_it)
{
    put("sbatch",
        "#!/bin/sh\nfor a; do case \"$a\" in --array=0-*) last=${a#--array=0-};; esac; done\n"
        "shift $(($# - 2))\n"
        "for k in $(seq 0 $last); do SLURM_ARRAY_TASK_ID=$k sh ./$1 $2 >&2; done\necho 7\n");
    expect(0, "out", study("a", "emit slurm ../tiny.cfg -o out"));
    shell("chmod +x ../../sbatch && PATH=../..:$PATH ./submit.sh -t 10");
    expect(0, "12 cells in out: 12 done", study("a", "status out"));
}

/* As on a login node, which lacks the GPUs of the nodes that will run the jobs. */
Test(study_emit, is_emitted_where_it_cannot_run)
{
    static const char where[] = "--plugin-path " TANDEM_FIXTURES "/parts backend.plugin=absent";
    char              words[400];
    snprintf(words, sizeof words, "show ../tiny.cfg %s", where);
    expect(0, "12 cells", study("a", words));
    snprintf(words, sizeof words, "emit slurm ../tiny.cfg -o out %s", where);
    expect(0, "out", study("a", words));
    snprintf(words, sizeof words, "run ../tiny.cfg %s", where);
    expect(2, "backend 'absent': this machine has no abacus", study("a", words));
}

/* What Slurm does before the time limit: the shell gets a signal, and the cell must save. */
Test(study_emit, a_job_that_runs_out_of_time_saves)
{
    expect(0, "out", study("a", "emit slurm ../tiny.cfg -o out train.steps=1000000"));
    shell("{ setsid sh ./cell.sh 0 & pid=$!; while ! grep -qs /1000000 logs/plain-s1-pretrain.log; "
          "do sleep "
          "0.1; done; kill -USR1 $pid; wait $pid; test $? = 75; } && grep -q 'stopped at step' "
          "logs/plain-s1-pretrain.log");
    expect(0, "12 waiting", study("a", "status out"));
}

/* ---- what ships ------------------------------------------------------------------------------- */

Test(study_emit, the_shipped_studies_can_run)
{
    static const char *const studies[] = { "quick", "laptop", "paper", "ablations", "which-part" };
    for (size_t k = 0; k < sizeof studies / sizeof *studies; k++) {
        char words[200];
        snprintf(words, sizeof words, "run studies/%s.cfg --dry-run --no-measure", studies[k]);
        expect(0, "training FLOPs", study("a", words));
    }
}
