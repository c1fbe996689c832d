/* published.h - data sets of the paper's tasks in the layouts that they are published in, with items that
 * are made up. */
#ifndef TESTS_EVALUATE_PUBLISHED_H
#define TESTS_EVALUATE_PUBLISHED_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static const struct {
    const char *name, *text;
} published_files[] = {
    { "boolq/dev.jsonl", "{\"question\": \"is snow cold\", \"title\": \"Snow\", \"answer\": true, "
                         "\"passage\": \"Snow is ice.\"}\n" },
    { "boolq/train.jsonl",
      "{\"question\": \"is fire cold\", \"title\": \"Fire\", \"answer\": false, "
      "\"passage\": \"Fire burns.\"}\n" },
    { "hellaswag/hellaswag_val.jsonl",
      "{\"ind\": 4, \"activity_label\": \"Sailing\", \"ctx_a\": \"A boat leaves.\", \"ctx_b\": "
      "\"it\", "
      "\"ctx\": \"A boat leaves. it\", \"split\": \"val\", \"label\": 2, \"endings\": [\"flies\", "
      "\"sings\", \"sails\", \"reads\"]}\n" },
    { "hellaswag/hellaswag_train.jsonl", "{\"activity_label\": \"Cooking\", \"ctx\": \"A pan is\", "
                                         "\"label\": 0, \"endings\": [\"hot\", "
                                         "\"sad\", \"red\", \"old\"]}\n" },
    { "RTE/dev.tsv",
      "index\tsentence1\tsentence2\tlabel\n0\tIt \"rained\".\tIt was wet.\tentailment\n" },
    { "RTE/train.tsv",
      "index\tsentence1\tsentence2\tlabel\n0\tIt rained.\tIt was dry.\tnot_entailment\n" },
    { "ARC-Challenge/ARC-Challenge-Test.jsonl",
      "{\"id\": \"a\", \"question\": {\"stem\": \"What shines?\", \"choices\": [{\"text\": "
      "\"mud\", "
      "\"label\": \"1\"}, {\"text\": \"sun\", \"label\": \"2\"}]}, \"answerKey\": \"2\"}\n" },
    { "ARC-Easy/ARC-Easy-Test.jsonl",
      "{\"id\": \"b\", \"question\": {\"stem\": \"What is wet?\", \"choices\": [{\"text\": "
      "\"rain\", "
      "\"label\": \"A\"}, {\"text\": \"dust\", \"label\": \"B\"}]}, \"answerKey\": \"A\"}\n" },
    { "ARC-Challenge/ARC-Challenge-Train.jsonl",
      "{\"question\": {\"stem\": \"What is up?\", \"choices\": [{\"text\": \"sky\", \"label\": "
      "\"A\"}]}, "
      "\"answerKey\": \"A\"}\n" },
    { "ARC-Easy/ARC-Easy-Train.jsonl",
      "{\"question\": {\"stem\": \"What is down?\", \"choices\": [{\"text\": \"earth\", \"label\": "
      "\"A\"}]}, \"answerKey\": \"A\"}\n" },
    { "anli_v1.0/R1/test.jsonl", "{\"uid\": \"1\", \"context\": \"He ran.\", \"hypothesis\": \"He "
                                 "moved.\", \"label\": \"e\"}\n" },
    { "anli_v1.0/R2/test.jsonl", "{\"uid\": \"2\", \"context\": \"He ran.\", \"hypothesis\": \"He "
                                 "sat.\", \"label\": \"c\"}\n" },
    { "anli_v1.0/R3/test.jsonl", "{\"uid\": \"3\", \"context\": \"He ran.\", \"hypothesis\": \"He "
                                 "won.\", \"label\": \"n\"}\n" },
    { "anli_v1.0/R1/train.jsonl",
      "{\"context\": \"R1.\", \"hypothesis\": \"A.\", \"label\": \"n\"}\n" },
    { "anli_v1.0/R2/train.jsonl",
      "{\"context\": \"R2.\", \"hypothesis\": \"B.\", \"label\": \"n\"}\n" },
    { "anli_v1.0/R3/train.jsonl",
      "{\"context\": \"R3.\", \"hypothesis\": \"C.\", \"label\": \"n\"}\n" },
    { "commonsense_qa/dev_rand_split.jsonl",
      "{\"answerKey\": \"B\", \"id\": \"x\", \"question\": {\"question_concept\": \"cup\", "
      "\"choices\": "
      "[{\"label\": \"A\", \"text\": \"sea\"}, {\"label\": \"B\", \"text\": \"shelf\"}], \"stem\": "
      "\"Where is a cup?\"}}\n" },
    { "commonsense_qa/train_rand_split.jsonl", "{\"answerKey\": \"A\", \"question\": {\"choices\": "
                                               "[{\"label\": \"A\", \"text\": \"nest\"}], "
                                               "\"stem\": \"Where is a bird?\"}}\n" },
    { "strategyqa/strategyqa_train.json", "[{\"qid\": \"q\", \"term\": \"Moon\", \"question\": "
                                          "\"Can one walk to the Moon?\", \"answer\": "
                                          "false, \"facts\": [\"It is far.\"]}]" },
    { "triviaqa-unfiltered/unfiltered-web-dev.json",
      "{\"Data\": [{\"Question\": \"Which river flows through Cologne\", \"QuestionId\": \"t\", "
      "\"Answer\": {\"Value\": \"Rhine\", \"Aliases\": [\"Rhine\", \"The Rhine\"]}}], \"Version\": "
      "1}" },
    { "triviaqa-unfiltered/unfiltered-web-train.json",
      "{\"Data\": [{\"Question\": \"Which colour is coal\", \"Answer\": {\"Value\": \"Black\", "
      "\"Aliases\": [\"Black\"]}}]}" },
    { "unifiedqa/arc/dev.tsv", "what shines? \\n (a) sun (b) mud\tsun\n" },
    { "unifiedqa/arc/train.tsv", "what is wet? \\n (a) rain (b) dust\train\n" },
    { "mmlu/test/world_religions_test.csv", "\"Who, then?\",a,b,c,d,B\n" },
    { "mmlu/dev/world_religions_dev.csv", "And who?,e,f,g,h,C\n" },
    { "mmlu/mmlu-cot.json",
      "{\"world_religions\": \"About religions.\\n\\nQ: One?\\n(A) x (B) y (C) z "
      "(D) w\\nA: Let's think step by step. It is so. The answer is (B).\\n\\n\"}" },
    { "gsm8k/test.jsonl",
      "{\"question\": \"2 and 3?\", \"answer\": \"2 + 3 = 5\\n#### 1,005\"}\n" },
    { "gsm8k/train.jsonl", "{\"question\": \"1 and 1?\", \"answer\": \"1 + 1 = 2\\n#### 2\"}\n" },
    { "BIG-Bench-Hard/bbh/navigate.json",
      "{\"canary\": \"x\", \"examples\": [{\"input\": \"Back?\", "
      "\"target\": \"No\"}]}" },
    { "BIG-Bench-Hard/cot-prompts/navigate.txt", "A canary.\n-----\nWhere does one end?\n\nQ: "
                                                 "Here?\nA: Let's think step by step.\nYes. So the "
                                                 "answer is Yes.\n" },
    { "wmt22/sources/generaltest2022.en-de.src.en", "A house.\nA tree.\n" },
    { "wmt22/references/generaltest2022.en-de.ref.refA.de", "Ein Haus.\nEin Baum.\n" },
    { "wmt21/sources/newstest2021.en-de.src.en", "A cat.\n" },
    { "wmt21/references/newstest2021.en-de.ref.refA.de", "Eine Katze.\n" },
    { "wmt22/sources/generaltest2022.de-en.src.de", "Ein Haus.\n" },
    { "wmt22/references/generaltest2022.de-en.ref.refA.en", "A house.\n" },
    { "wmt21/sources/newstest2021.de-en.src.de", "Eine Katze.\n" },
    { "wmt21/references/newstest2021.de-en.ref.refA.en", "A cat.\n" },
};

static inline void published_write(const char *directory)
{
    td_error e = { 0 };
    for (size_t k = 0; k < sizeof published_files / sizeof *published_files; k++) {
        const char *text = published_files[k].text;
        char       *path = td_path_join(directory, published_files[k].name);
        char       *above = td_path_directory(path);
        cr_assert(!td_make_directories(above, &e), "%s", e.text);
        cr_assert(!td_file_write(path, text, strlen(text), &e), "%s", e.text);
        free(above);
        free(path);
    }
}

#endif
