/* tokenizer.c - `tandem data train-tokenizer`: it trains on all of the text, and reports
 * omissions. */
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
           "beside '");
    expect("%2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --out %1$s/a.model --files "
           "%1$s/none",
           1, "/none' of --files");
    expect(
        "echo 'version https://git-lfs.github.com/spec/v1' >%1$s/p && ! %2$s train-tokenizer %3$s "
        "tokenizer.plugin=sentencepiece --out %1$s/a.model --files %1$s/p; rm %1$s/p",
        0, "/p' of --files: it is a Git LFS pointer");
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
    expect("cd '%1$s/b,c' && %2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece "
           "--vocab-size 397 --out a.model",
           0, "--out 'a.model' exists, and will be replaced");
}

Test(tokenizer, full_during_train_tokenizer)
{
    expect("trap '' XFSZ; ulimit -f 8; exec %2$s train-tokenizer %3$s "
           "tokenizer.plugin=sentencepiece --vocab-size 400"
           " --out %1$s/a.model",
           1, "cannot write the text to train on");
    expect("trap '' XFSZ; ulimit -f 8; exec %2$s train-tokenizer %3$s "
           "tokenizer.plugin=sentencepiece --vocab-size 400"
           " --files " TANDEM_SOURCE "/docs/architecture.md --out %1$s/a.model",
           1, "cannot write the model");
    expect("test \"$(ls -A %1$s)\" = data.cfg", 0, "");
}

/* A config that is to complete another one may have sizes of a model without its plugin. */
Test(tokenizer, a_part_of_a_model)
{
    write_scratch("part.cfg", "model = { vocab_size = 397; };\n");
    expect(
        "%2$s train-tokenizer %3$s -c %1$s/part.cfg tokenizer.plugin=sentencepiece "
        "--out %1$s/a.model && %2$s prepare %3$s -c %1$s/part.cfg tokenizer.plugin=sentencepiece "
        "tokenizer.model=%1$s/a.model run.dir=%1$s/r",
        0, "/r/cache");
    expect("%2$s train-tokenizer %3$s -c %1$s/part.cfg tokenizer.plugin=sentencepiece "
           "--out %1$s/b.model --vocab-size 401",
           0, "model.vocab_size = 397 is less than the 401 pieces");
    expect("%2$s show %3$s -c %1$s/part.cfg", 2, "group 'model' must name a plugin");
}

/* ---- what tells tokenizers apart ------------------------------------------------------------- */

#define LONG(end, shards)                                                                          \
    "cd %1$s && %2$s prepare -c data.cfg --plugin-path p tokenizer.plugin=long tokenizer.end=" end \
    " run.dir=r " SOURCES("\"a.jsonl\"") " && test $(ls r/cache/*.idx | wc -l) = " shards

/* Without a fingerprint, ids are compared by their whole text; here only its 1000th byte
 * differs. */
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

/* A book is one document of 146 KB, as lines or as one line: the model includes its end, whether
 * it is trained on alone or with others. */
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
        expect("grep -q $(printf '\\357\\277\\275') %1$s/a.model", 1, ""); /* broken characters */
    }
}

Test(tokenizer, omissions_are_reported)
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

Test(tokenizer, the_number_of_pieces_is_reported)
{
    write_scratch("small.txt", "A small file.\n");
    expect(TRAIN("a", SOURCES("\"small.txt\"")), 0, "a.model' has 2");
    expect(TRAIN("a", SOURCES("\"small.txt\"")), 0, "pieces: the text yields no more");
    expect(TRAIN("a", "--files " TANDEM_SOURCE "/data/corpus/facts.train.jsonl"), 0,
           "a.model' has 340 pieces\n");
}

#define LOAD(model) \
    "%2$s prepare %3$s tokenizer.plugin=sentencepiece run.dir=%1$s/r tokenizer.model=%1$s/" model

/* Messages are ours, without file names from SentencePiece's source. */
Test(tokenizer, non_models_are_reported)
{
    write_scratch("a.model", "This is no model, whatever its name is.");
    write_scratch("empty.model", "");
    expect("mkfifo %1$s/pipe.model; mkdir %1$s/d.model", 0, "");
    expect(LOAD("a.model"), 1,
           "/a.model' is not a SentencePiece model, or it is damaged: its fields do not match the "
           "size of the file");
    expect(LOAD("empty.model"), 1, "is not a SentencePiece model, or it is damaged: unk is not");
    expect(LOAD("pipe.model"), 1, "/pipe.model': not a regular file; set tokenizer.model to ");
    expect(LOAD("d.model"), 1, "/d.model': not a regular file; ");
    expect(LOAD("none.model"), 1, "/none.model': No such file or directory; ");
    expect(LOAD("a.model") " 2>&1 | grep -F .cc", 1, "");
}

/* ---- what is trained, and on what ------------------------------------------------------------ */

/* JSON Lines are read by their text, and compressed files are unpacked: the model is that of the
 * text, and no key or quote of JSON is in it. */
Test(tokenizer, files_of_json_lines_and_compressed_files)
{
    write_scratch("a.jsonl", "{\"id\": 7, \"text\": \"some zyxwv words and zyxwv words\"}\n"
                             "{\"text\": \"more zyxwv text, more words\"}\n");
    write_scratch("a.txt", "some zyxwv words and zyxwv words\nmore zyxwv text, more words\n");
    write_scratch("b.jsonl", "{\"body\": \"some zyxwv words and zyxwv words\"}\n");
    expect("cd %1$s && gzip -k a.jsonl && zstd -q a.txt && gzip -k a.txt", 0, "");
    expect(TRAIN("txt", "--files a.txt"), 0, "txt.model");
    expect(TRAIN("jsonl", "--files a.jsonl"), 0, "jsonl.model");
    expect(TRAIN("gz", "--files a.jsonl.gz"), 0, "gz.model");
    expect(TRAIN("zst", "--files a.txt.zst"), 0, "zst.model");
    expect("cd %1$s && cmp jsonl.model txt.model && cmp gz.model txt.model && "
           "cmp zst.model txt.model",
           0, "");
    expect(TRAIN("both", "--files a.txt.gz,a.jsonl") " && ! grep -q '\"' both.model", 0,
           "both.mod");
    expect(TRAIN("key", "--files b.jsonl data.text=body") " && grep -q zyxwv key.model", 0, "key");
    expect(TRAIN("no", "--files b.jsonl"), 1, "b.jsonl");
}

Test(tokenizer, options_of_the_model)
{
    write_scratch("a.txt", "x = 1234;    y = 1234;    z = 1234;    <tool, a>    1234    1234\n");
    expect(TRAIN("plain", "--files a.txt") " && ! grep -q 1234 plain.model", 0, "plain.model");
    expect(TRAIN("digits",
                 "--files a.txt tokenizer.split_digits=false") " && grep -q 1234 digits.model",
           0, "");
    /* U+2581 stands for a space */
    expect(TRAIN("spaces",
                 "--files a.txt tokenizer.whitespace_pieces=true") " && grep -q $(printf "
                                                                   "'\\342\\226\\201\\342\\226\\201"
                                                                   "') spaces.model",
           0, "");
    expect("cd %1$s && grep -q $(printf '\\342\\226\\201\\342\\226\\201') plain.model", 1, "");
    expect(
        TRAIN(
            "symbol",
            "--files a.txt 'tokenizer.symbols=[\"<tool, a>\",\"<b>\"]'") " && grep -q '<tool, a>' "
                                                                         "symbol.model && grep -q "
                                                                         "'<b>' symbol.model",
        0, "");
    expect("cd %1$s && grep -q '<0x41>' plain.model", 0, "");
    expect("cd %1$s && %2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece "
           "tokenizer.byte_fallback=false --vocab-size 40 --out bytes.model --files a.txt && "
           "! grep -q '<0x41>' bytes.model",
           0, "bytes.model");
}

/* Advice is given in our options, not in those of SentencePiece's command. */
Test(tokenizer, too_few_pieces)
{
    write_scratch("a.txt", "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ\n");
    expect("cd %1$s && %2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --vocab-size 280 "
           "--out a.model --files a.txt",
           2, " pieces, for its characters and the special and byte pieces: raise --vocab-size");
    expect("cd %1$s && %2$s train-tokenizer %3$s tokenizer.plugin=sentencepiece --vocab-size 280 "
           "--out a.model --files a.txt 2>&1 | grep -e --character_coverage -e required_chars",
           1, "");
}

Test(tokenizer, as_many_pieces_as_the_model_has_rows)
{
    static const char model[] = " 'model={plugin=\"decoder-only\";vocab_size=350;d_model=8;layers="
                                "1;ffn={d_ff=8;};}' 'loss.plugin=causal-lm'";
    char              command[600];
    snprintf(command, sizeof command,
             "%%2$s train-tokenizer %%3$s tokenizer.plugin=sentencepiece --out "
             "%%1$s/a.model%s",
             model);
    expect(command, 0, "a.model' has 350 pieces");
    snprintf(command, sizeof command,
             "%%2$s train-tokenizer %%3$s tokenizer.plugin=sentencepiece --out "
             "%%1$s/a.model --vocab-size 360%s",
             model);
    expect(command, 0, "model.vocab_size = 350 is less than the 360 pieces");
}
