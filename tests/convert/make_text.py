"""Makes t5gemma-text, a T5Gemma with a tokenizer, by Hugging Face's code alone: python make_text.py TANDEM

  theirs/    what save_pretrained stores
  pairs.cfg  what it is finetuned on

TANDEM is the command: it finetunes the model and writes it again, and what transformers then generates must be what
the command does. Made with transformers 5.24.0, tokenizers 0.23 and torch 2.15.0.
"""

import json
import os
import subprocess
import sys
import tempfile

import torch
from make_cases import HERE, place
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)


def gemma_tokenizer(texts, size):
    """BPE with bytes for unknown characters, and the special tokens, of Gemma."""
    first = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    pieces = first + [f"<0x{b:02X}>" for b in range(256)]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, special_tokens=pieces, show_progress=False))
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = parts["added_tokens"][: len(first)]  # bytes are pieces, and none of their names is special
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)), pad_token=first[0], eos_token=first[1], bos_token=first[2],
        unk_token=first[3],
    )


def text_t5gemma(tandem, name, seed):
    """A model with a tokenizer; finetuned by tandem, it says the same there and here."""
    folder = place(name)
    to = os.path.join(folder, "theirs")
    with open(os.path.join(HERE, "../../data/instructions/sums.train.jsonl")) as f:
        tokenizer = gemma_tokenizer([f.read(20000)], 300)
    with open(os.path.join(folder, "pairs.cfg"), "w") as f:
        f.write(PAIRS)
    tokenizer.save_pretrained(to)
    both = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 11, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 6, "query_pre_attn_scalar": 6, "num_hidden_layers": 2,
        "max_position_embeddings": 256, "sliding_window": 16,
    }
    torch.manual_seed(seed)
    T5GemmaForConditionalGeneration(
        T5GemmaConfig(encoder=both, decoder={**both, "sliding_window": 17}, vocab_size=len(tokenizer))
    ).save_pretrained(to)
    with tempfile.TemporaryDirectory() as scratch:
        tune = TUNE.replace("$T", tandem).replace("$F", folder)
        subprocess.run(tune, shell=True, check=True, cwd=scratch)
        out = os.path.join(scratch, "there")
        check_text(tandem, out, os.path.join(scratch, "tuned"), tokenizer)


PAIRS = """# Made by make_text.py.
data = {
  plugin = "instructions"; max_inputs = 96; max_targets = 32;
  sources = (
    {
      name = "sums"; files = ( "data/instructions/sums.train.jsonl" ); held_out = ( "data/instructions/sums.valid.jsonl" );
    }
  );
};
"""
TUNE = """$T convert $F/theirs run && $T train -c run/config.cfg -c base/finetune.cfg -c $F/pairs.cfg train.weights=run \\
run.name=tuned run.dir=. train.steps=100 train.length=128 train.batch=4 train.micro_batch=4 evaluate.sequences=2 && \\
$T convert tuned there --to t5gemma"""


def check_text(tandem, folder, run, tokenizer):
    """Given as text, a prompt would end with <eos>, as in the finetuning."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    written = AutoTokenizer.from_pretrained(folder)
    for text in ("What is 12 plus 30?", "Add 7\u4e2d \u00e9  and 15."):
        inputs = written(text, return_tensors="pt")
        assert inputs.input_ids[0].tolist() == tokenizer(text).input_ids
        theirs = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0].tolist()
        ids = " ".join(map(str, inputs.input_ids[0].tolist()))
        said = subprocess.run(
            [tandem, "generate", run, "--ids", ids, "--max-new-tokens", "20", "--json"], check=True, capture_output=True, text=True
        )
        ours = json.loads(said.stdout)["ids"]
        assert len(ours) > 1 and theirs[1 : 1 + len(ours)] == ours, (theirs, ours)


text_t5gemma(sys.argv[1], "t5gemma-text", 38)
