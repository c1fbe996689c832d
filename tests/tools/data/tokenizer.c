/* tokenizer.c - `tandem data train-tokenizer`: it trains on all of the text, and reports what it
 * leaves out. */
#include "tools/data.h"

#define SOURCES(files) "'data.sources=({name=\"a\"; files=(" files ");})'"

TestSuite(tokenizer, .init = setup, .fini = teardown);

Test(tokenizer, train_tokenizer_refusals)
{
    expect("%2$s train-tokenizer %3$s --out %1$s/a.model", 2,
           "tokenizer 'bytes' needs no training");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece", 2, "--out M.model");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --out ''", 2, "--out M.model");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --out %1$s/a.txt --vocab-size "
           "400",
           2, "must end in .model");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --out %1$s/no/a.model", 1,
           "No such file");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --out %1$s/a.model --files "
           "%1$s/none",
           1, "/none' of --files");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --out %1$s/a.model "
           "--vocab-size 9",
           2, "with 9 pieces");
    expect("test \"$(ls -A %1$s)\" = data.cfg", 0, "");
}

Test(tokenizer, the_same_text_gives_the_same_tokenizer)
{
    expect("mkdir '%1$s/b,c' && cd '%1$s/b,c' && for m in a 'x,y'; do"
           " %2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --vocab-size 397 --out "
           "\"$m.model\" || exit 1; done;"
           " cmp a.model x,y.model && test $(ls -A | wc -l) = 2",
           0, "x,y.model");
}

Test(tokenizer, full_during_train_tokenizer)
{
    expect("trap '' XFSZ; ulimit -f 8; exec %2$s train-tokenizer %3$s "
           "tokenizer.plugin=sentencepiece --vocab-size 400"
           " --out %1$s/a.model",
           1, "cannot write the text to train on");
    expect("trap '' XFSZ; ulimit -f 8; exec %2$s train-tokenizer %3$s "
           "tokenizer.plugin=sentencepiece --vocab-size 400"
           " --files " TANDEM_SOURCE "/data/corpus/facts.valid.jsonl --out %1$s/a.model",
           1, "cannot write the model");
    expect("test \"$(ls -A %1$s)\" = data.cfg", 0, "");
}

/* ---- what tells tokenizers apart ------------------------------------------------------------- */

#define LONG(end, shards)                                                                          \
    "cd %1$s && %2$s prepare -c data.cfg --plugin-path p tokenizer.plugin=long tokenizer.end=" end \
    " run.dir=r " SOURCES("\"a.jsonl\"") " && test $(ls r/cache/*.idx | wc -l) = " shards

/* Without a fingerprint ids are told apart by all of their text, here only by its 1000th byte. */
Test(tokenizer, shards_are_of_one_tokenizer)
{
    write_scratch("a.jsonl", "{\"text\": \"some text\"}\n");
    expect("mkdir %1$s/p && cp " TANDEM_FIXTURES "/modules/tokenizer-long.so %1$s/p", 0, "");
    expect(LONG("a", "1"), 0, "");
    expect(LONG("b", "2"), 0, "");
    expect(LONG("a", "2"), 0, "");
}

/* ---- long documents ------------------------------------------------------------------------- */

#define TRAIN(model, files)                                                                  \
    "cd %1$s && %2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece tokenizer.type=bpe" \
    " --vocab-size 340 --out " model ".model " files

/* 12000 words, the last of them unlike the others, with `between` after each. */
static void write_book(const char *name, const char *between)
{
    char  path[160];
    FILE *f;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    cr_assert((f = fopen(path, "w")) != NULL);
    for (int k = 0; k < 12000; k++)
        fprintf(f, "%s%s", k < 11000 ? "a long story" : "zyxwv", between);
    cr_assert(!fclose(f));
}

/* A book is one document of 146 KB, as lines or as one line: its end is in the model, alone and
 * beside others. */
Test(tokenizer, a_document_of_any_length_is_trained_on)
{
    write_book("lines.txt", "\n");
    write_book("line.txt", " ");
    write_scratch("small.txt", "A small file.\n");
    expect(TRAIN("a", SOURCES("\"lines.txt\"")) " && grep -q zyxwv a.model", 0, "a.model");
    expect(TRAIN("b", SOURCES("\"line.txt\"")) " && grep -q zyxwv b.model", 0, "b.model");
    expect(TRAIN("c", SOURCES("\"small.txt\",\"line.txt\"")) " && grep -q zyxwv c.model", 0,
           "c.model");
    expect(TRAIN("d", "--files small.txt,line.txt") " && grep -q zyxwv d.model", 0, "d.model");
    expect("cd %1$s && cmp a.model b.model", 1, "differ");
}

/* A text of three-byte characters without a space is cut between two of them, wherever it
 * begins. */
Test(tokenizer, characters_are_not_cut)
{
    for (int before = 0; before < 3; before++) {
        char  path[160];
        FILE *f;
        snprintf(path, sizeof path, "%s/han.txt", directory);
        cr_assert((f = fopen(path, "w")) != NULL);
        fprintf(f, "%.*s", before, "xy");
        for (int k = 0; k < 50000; k++)
            fputs(k % 3 ? "\xE6\x97\xA5" : "\xE6\x9C\xAC", f);
        cr_assert(!fclose(f));
        expect(TRAIN("a", SOURCES("\"han.txt\"")) " tokenizer.character_coverage=1.0", 0,
               "a.model");
        expect("grep -q $(printf '\\346\\227\\245') %1$s/a.model", 0, "");
        expect("grep -q $(printf '\\357\\277\\275') %1$s/a.model", 1, ""); /* of broken ones */
    }
}

Test(tokenizer, what_is_left_out_is_told)
{
    write_scratch("mark.txt", "before \xE2\x96\x85 after zyxwv zyxwv zyxwv\n");
    expect(TRAIN("a", SOURCES("\"mark.txt\"")) " && grep -q zyxwv a.model", 0,
           "left out U+2585 in 1 place");
    expect(TRAIN("a", "--files " TANDEM_SOURCE
                      "/data/corpus/facts.train.jsonl tokenizer.max_sentences=101"),
           0, "trained on 101 lines drawn at random from ");
    expect(TRAIN("a", "tokenizer.max_sentences=100"), 2, "it takes int 101 ..");
}

Test(tokenizer, no_text_is_refused)
{
    write_scratch("mark.txt", "\n\xE2\x96\x85\n\r\n");
    expect(TRAIN("a", SOURCES("\"mark.txt\"")), 2, "the files contain no text");
    expect(TRAIN("a", "--files /dev/null"), 2, "the files contain no text");
    expect(TRAIN("a", "--files /"), 1, "cannot read '/': Is a directory");
    expect("test ! -e %1$s/a.model", 0, "");
}

Test(tokenizer, how_many_pieces_were_made_is_told)
{
    write_scratch("small.txt", "A small file.\n");
    expect(TRAIN("a", SOURCES("\"small.txt\"")), 0, "a.model' has 2");
    expect(TRAIN("a", SOURCES("\"small.txt\"")), 0, "pieces: the text yields no more");
    expect(TRAIN("a", "--files " TANDEM_SOURCE "/data/corpus/facts.train.jsonl"), 0,
           "a.model' has 340 pieces\n");
}

#define LOAD(model) \
    "%2$s prepare %3$s tokenizer.plugin=sentencepiece run.dir=%1$s/r tokenizer.model=%1$s/" model

/* What is said is ours, not that of SentencePiece's source. */
Test(tokenizer, what_is_no_model_is_told)
{
    write_scratch("a.model", "This is no model, whatever its name is.");
    write_scratch("empty.model", "");
    expect("mkfifo %1$s/pipe.model; mkdir %1$s/d.model", 0, "");
    expect(LOAD("a.model"), 1, "/a.model' is not a SentencePiece model, or it is damaged; set ");
    expect(LOAD("empty.model"), 1, "is not a SentencePiece model, or it is damaged: unk is not");
    expect(LOAD("pipe.model"), 1, "/pipe.model': not a regular file; set tokenizer.model to ");
    expect(LOAD("d.model"), 1, "/d.model': not a regular file; ");
    expect(LOAD("none.model"), 1, "/none.model': No such file or directory; ");
    expect(LOAD("a.model") " 2>&1 | grep -F .cc", 1, "");
}
