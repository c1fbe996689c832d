"""Makes the cases beside this file, with Hugging Face's own classes: python make_cases.py TANDEM

TANDEM is the command. It needs torch and transformers (these cases: 2.9.1 and 5.24.0; those with mla, linear and
merged, and those added later: torch 2.15.0), which the tests do not.

  NAME/theirs/        a random model as save_pretrained stores it
  NAME/ours.cfg       or a model of ours, with
  NAME/ours.safetensors
  NAME/theirs/        and what `tandem convert` made of it
  NAME/batch.safetensors, NAME/expect.safetensors
                      tokens, and the logits that the class of Hugging Face, or ours in modeling_tandem.py, computes
                      from theirs/
  NAME/prompt, NAME/greedy
                      ids, and those that its generate() continues them with
  modeling.sha256     of modeling_tandem.py and its parts, which did
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    T5GemmaConfig,
    T5GemmaForConditionalGeneration,
)

HERE = os.path.dirname(os.path.abspath(__file__))


def place(name):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def keep(folder, model, vocab, shape, seed):
    """The batch, and the logits of it."""
    ids = np.random.default_rng(seed).integers(0, vocab, shape).astype(np.int32)
    save_file(
        {"input_ids": ids, "labels": ids.copy(), "loss_weights": np.ones(shape, np.float32)},
        os.path.join(folder, "batch.safetensors"),
    )
    with torch.no_grad():
        logits = model.double()(torch.tensor(ids).long()).logits
    save_file({"logits": logits.numpy().astype(np.float32)}, os.path.join(folder, "expect.safetensors"))


def scramble(model, seed):
    """Unit activations throughout, so that every part shows in the logits."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=g)
        with torch.no_grad():
            if "norm" in name:
                p.copy_(torch.rand(p.shape, generator=g) + 0.5)
            elif p.dim() == 1 or "embed" in name or "shared" in name or "lm_head" in name:
                p.copy_(noise)
            else:
                p.copy_(noise / p.shape[1] ** 0.5)


def theirs(name, model, shape, seed, dtype=torch.float32, **how):
    folder = place(name)
    scramble(model, seed)
    model.to(dtype).save_pretrained(os.path.join(folder, "theirs"), **how)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, "theirs", extra)):
            os.remove(os.path.join(folder, "theirs", extra))
    # read again: casting the model has rounded more than its parameters
    again = AutoModelForCausalLM.from_pretrained(os.path.join(folder, "theirs"), dtype=torch.float32)
    keep(folder, again.eval(), model.config.vocab_size, shape, seed)


def ours(tandem, name, config, weights, to, shape, seed):
    folder = place(name)
    with open(os.path.join(folder, "ours.cfg"), "w") as f:
        f.write(config)
    save_file(weights, os.path.join(folder, "ours.safetensors"))
    subprocess.run(
        [tandem, "convert", "-c", os.path.join(folder, "ours.cfg"), os.path.join(folder, "theirs"), "--to", to,
         "--weights", os.path.join(folder, "ours.safetensors")],
        check=True,
    )
    model = AutoModelForCausalLM.from_pretrained(os.path.join(folder, "theirs"), dtype=torch.float32)
    keep(folder, model.eval(), weights["model.embed_tokens.weight"].shape[0], shape, seed)


def random_weights(seed, vocab, d, layers, q, kv, ff, scale):
    r = np.random.default_rng(seed)
    w = {"model.embed_tokens.weight": r.standard_normal((vocab, d))}
    for k in range(layers):
        at = f"model.layers.{k}."
        for name, out, inner in (
            ("self_attn.q_proj", q, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d),
            ("self_attn.o_proj", d, q), ("mlp.gate_proj", ff, d), ("mlp.up_proj", ff, d), ("mlp.down_proj", d, ff),
        ):
            w[at + name + ".weight"] = r.standard_normal((out, inner)) / inner**0.5
        if scale:
            w[at + "input_layernorm.weight"] = r.random(d) + 0.5
            w[at + "post_attention_layernorm.weight"] = r.random(d) + 0.5
    if scale:
        w["model.norm.weight"] = r.random(d) + 0.5
    return {name: x.astype(np.float32) for name, x in w.items()}


def config(vocab, d, layers, attention, norm, ff, position):
    return f"""# Made by make_cases.py.
model = {{
  plugin = "decoder-only"; vocab_size = {vocab}; d_model = {d}; layers = {layers};
  attention = {{ {attention} }};
  position = {{ plugin = "rope"; {position} }};
  norm = {{ plugin = "rms"; {norm} }};
  ffn = {{ plugin = "swiglu"; d_ff = {ff}; }};
}};
loss = {{ plugin = "causal-lm"; }};
train = {{ length = 40; }};
"""


def any_weights(tandem, folder, seed):
    """Random parameters of ours.cfg: their names and shapes are those of its gradients."""
    out = os.path.join(folder, "gradients.safetensors")
    subprocess.run(
        [tandem, "probe", "-c", os.path.join(folder, "ours.cfg"), "--batch", os.path.join(folder, "batch.safetensors"),
         "--out", out, "--quiet"],
        check=True,
    )
    r, weights = np.random.default_rng(seed), {}
    for name, x in sorted(load_file(out).items()):
        if name.startswith("grad."):
            scale = x.shape[1] ** -0.5 if x.ndim == 2 and "embed" not in name else 1
            noise = r.random(x.shape) + 0.5 if "norm" in name and name.endswith("weight") else r.standard_normal(x.shape)
            weights[name[5:]] = (noise * scale).astype(np.float32)
    os.remove(out)
    save_file(weights, os.path.join(folder, "ours.safetensors"))


def generated(model, prompt, encoder):
    """20 tokens, which no id ends."""
    ids = torch.tensor([prompt if encoder else [0] + prompt])
    how = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    if encoder:
        model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 0
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **how)[0]
    return out[1 if encoder else ids.shape[1] :].tolist()


def check_class(model, auto, inputs, logits):
    """What the cases do not show: it can be finetuned, and given a larger vocabulary."""
    assert not model.accepts_loss_kwargs
    vocab = logits.shape[-1]
    model.resize_token_embeddings(vocab + 2)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = auto.from_pretrained(folder, trust_remote_code=True).eval()
    assert again.config.model["vocab_size"] == again.config.vocab_size == vocab + 2
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits[..., :vocab], logits)
    if again.config.is_encoder_decoder:
        check_labels(again)


def check_labels(model):
    """An id that is needed and missing is named."""
    labels = torch.tensor([[5, 3, -100, 4]])
    for name in ("decoder_start_token_id", "pad_token_id"):
        try:
            model.prepare_decoder_input_ids_from_labels(labels)
            raise AssertionError(f"no {name} is needed")
        except ValueError as e:
            assert name in str(e)
        setattr(model.config, name, 2)
    assert model.prepare_decoder_input_ids_from_labels(labels).tolist() == [[2, 5, 3, 2]]


def own_class(tandem, name, model, loss, batch, seed):
    """A model that only modeling_tandem.py has; all its tokens are real."""
    folder = place(name)
    encoder = "encoder_ids" in batch
    with open(os.path.join(folder, "ours.cfg"), "w") as f:
        f.write(f"# Made by make_cases.py.\nmodel = {{\n{model}}};\nloss = {{ plugin = \"{loss}\"; }};\n"
                "train = { length = 40; };\n")
    save_file(batch, os.path.join(folder, "batch.safetensors"))
    any_weights(tandem, folder, seed)
    to = os.path.join(folder, "theirs")
    subprocess.run(
        [tandem, "convert", "-c", os.path.join(folder, "ours.cfg"), to, "--to", "huggingface", "--weights",
         os.path.join(folder, "ours.safetensors")],
        check=True,
    )
    auto = AutoModelForSeq2SeqLM if encoder else AutoModelForCausalLM
    model = auto.from_pretrained(to, trust_remote_code=True).eval()
    inputs = {"input_ids": batch["encoder_ids" if encoder else "input_ids"]}
    if encoder:
        inputs["decoder_input_ids"] = batch["decoder_ids"]
    if "prefix_mask" in batch:
        inputs["prefix_mask"] = batch["prefix_mask"]
    inputs = {k: torch.tensor(x).long() for k, x in inputs.items()}
    with torch.no_grad():
        logits = model(**inputs).logits
    save_file({"logits": logits.numpy()}, os.path.join(folder, "expect.safetensors"))
    prompt = [5, 3, 7, 4, 9, 3]
    for file, ids in (("prompt", prompt), ("greedy", generated(model, prompt, encoder))):
        with open(os.path.join(folder, file), "w") as f:
            f.write(" ".join(map(str, ids)) + "\n")
    check_class(auto.from_pretrained(to, trust_remote_code=True).eval(), auto, inputs, logits)
    with open(os.path.join(HERE, "modeling.sha256"), "w") as f:
        for file in ("modeling_parts.py", "modeling_tandem.py"):
            digest = hashlib.sha256(open(os.path.join(to, file), "rb").read()).hexdigest()
            f.write(f"{digest}  {file}\n")
            os.remove(os.path.join(to, file))


def labelled(seed, vocab, **shapes):
    r = np.random.default_rng(seed)
    batch = {name: r.integers(0, vocab, shape).astype(np.int32) for name, shape in shapes.items()}
    shape = list(shapes.values())[-1]
    batch["labels"] = r.integers(0, vocab, shape).astype(np.int32)
    batch["loss_weights"] = np.ones(shape, np.float32)
    return batch


REDLLM = """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 11; encoder_layers = 2; decoder_layers = 2;
  attention = { plugin = "softmax"; heads = 3; head_dim = 4; output_norm = true; };
  position = { plugin = "rope"; };
  norm = { plugin = "rms"; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
"""
ODD_REDLLM = """  plugin = "encoder-decoder"; vocab_size = 17; d_model = 10; encoder_layers = 1; decoder_layers = 3;
  logit_scale = "none"; tie_embeddings = false; post_norm = true;
  continuous_positions = false; cross_positions = false; bidirectional = false;
  attention = { plugin = "softmax"; heads = 4; kv_heads = 2; head_dim = 6; window = 5; qk_norm_scale = true; bias = true; };
  position = { plugin = "rope"; scaling = "yarn"; factor = 4.0; original_length = 16; beta_fast = 8.0; };
  norm = { plugin = "layer"; };
  ffn = { plugin = "relu2"; d_ff = 9; bias = true; };
"""
DECLLM = """  plugin = "decoder-only"; vocab_size = 13; d_model = 11; layers = 2;
  attention = { plugin = "softmax"; heads = 3; head_dim = 4; };
  position = { plugin = "rope"; scaling = "ntk"; factor = 3.0; };
  norm = { plugin = "rms"; scale = false; };
  ffn = { plugin = "geglu"; d_ff = 5; };
"""
BIATTN = """  plugin = "decoder-biattn"; vocab_size = 17; d_model = 7; layers = 3;
  attention = { plugin = "softmax"; heads = 2; kv_heads = 1; head_dim = 5; qkv_norm = false; };
  position = { plugin = "none"; };
  norm = { plugin = "rms"; };
  ffn = { plugin = "relu"; d_ff = 9; };
"""


# Positions and attentions, each once, in any architecture.
OTHER_PARTS = {
    "redllm-fire": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 2; decoder_layers = 2;
  attention = { plugin = "differential"; heads = 4; kv_heads = 2; head_dim = 3; qk_norm_scale = true; bias = true; };
  position = { plugin = "fire"; hidden = 5; c = 0.3; threshold = 6.0; };
  ffn = { plugin = "geglu"; d_ff = 7; };
""",
    "redllm-alibi": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 2; decoder_layers = 2;
  attention = { plugin = "sliding-window"; heads = 5; head_dim = 3; window = 4; };
  position = { plugin = "alibi"; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "redllm-learned": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 1; decoder_layers = 2;
  attention = { plugin = "softmax"; heads = 3; head_dim = 3; };
  position = { plugin = "learned"; max_positions = 48; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "redllm-xpos": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 2; decoder_layers = 1;
  attention = { plugin = "softmax"; heads = 3; head_dim = 6; };
  position = { plugin = "xpos"; base = 300.0; scale_base = 20.0; gamma = 0.3; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "decllm-sinusoidal": """  plugin = "decoder-only"; vocab_size = 13; d_model = 9; layers = 2;
  attention = { plugin = "differential"; heads = 2; head_dim = 4; lambda_init = 0.3; };
  position = { plugin = "sinusoidal"; base = 50.0; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "biattn-t5": """  plugin = "decoder-biattn"; vocab_size = 13; d_model = 9; layers = 2;
  attention = { plugin = "sliding-window"; heads = 2; head_dim = 4; window = 4; };
  position = { plugin = "t5-relative"; buckets = 6; max_distance = 9; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "decllm-mla": """  plugin = "decoder-only"; vocab_size = 13; d_model = 9; layers = 2;
  attention = { plugin = "mla"; heads = 3; head_dim = 5; rope_dim = 4; v_dim = 7; kv_rank = 6; q_rank = 8; bias = true; };
  position = { plugin = "rope"; base = 300.0; };
  ffn = { plugin = "moe"; d_ff = 5; experts = 5; top_k = 2; shared = 2; balance = 0.0; };
""",
    "redllm-mla": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 1; decoder_layers = 2;
  attention = { plugin = "mla"; heads = 2; head_dim = 3; output_norm = true; };
  position = { plugin = "rope"; };
  ffn = { plugin = "moe"; d_ff = 7; experts = 3; top_k = 1; weights = "all"; activation = "geglu"; balance = 0.0; };
""",
    "redllm-linear": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 2; decoder_layers = 2;
  attention = { plugin = "linear"; heads = 4; kv_heads = 2; head_dim = 6; chunk = 5; output_norm = true; };
  position = { plugin = "rope"; base = 300.0; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "biattn-linear": """  plugin = "decoder-biattn"; vocab_size = 13; d_model = 9; layers = 2;
  attention = { plugin = "linear"; heads = 2; head_dim = 4; chunk = 3; qk_norm_scale = true; };
  position = { plugin = "xpos"; base = 300.0; scale_base = 20.0; gamma = 0.3; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "redllm-merged": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 2; decoder_layers = 2; post_norm = true;
  attention = { plugin = "merged"; heads = 4; kv_heads = 2; head_dim = 6; bias = true; };
  position = { plugin = "xpos"; base = 300.0; scale_base = 20.0; gamma = 0.3; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "redllm-merged-t5": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 1; decoder_layers = 2;
  attention = { plugin = "merged"; heads = 3; head_dim = 4; memory_positions = false; output_norm = true; };
  position = { plugin = "t5-relative"; buckets = 6; max_distance = 9; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "redllm-tables": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 2; decoder_layers = 1;
  post_norm = true; post_ffn_norm = true; share_embeddings = false;
  attention = { plugin = "softmax"; heads = 3; head_dim = 4; };
  position = { plugin = "rope"; };
  norm = { plugin = "layer"; };
  ffn = { plugin = "geglu"; d_ff = 7; };
""",
    "redllm-caps": """  plugin = "encoder-decoder"; vocab_size = 13; d_model = 9; encoder_layers = 3; decoder_layers = 2; logit_cap = 1.5;
  logit_scale = "none"; tie_embeddings = false;
  attention = { plugin = "sliding-window"; heads = 3; head_dim = 4; window = 3; full_every = 2; score_cap = 0.5; };
  position = { plugin = "alibi"; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
    "biattn-caps": """  plugin = "decoder-biattn"; vocab_size = 13; d_model = 9; layers = 3; logit_cap = 2.5;
  attention = { plugin = "sliding-window"; heads = 2; head_dim = 4; window = 4; full_every = 3; score_cap = 0.75; };
  position = { plugin = "rope"; base = 300.0; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
""",
}


def other_parts(tandem):
    for seed, (name, model) in enumerate(OTHER_PARTS.items(), 12):
        if name.startswith("redllm"):
            batch = labelled(seed, 13, encoder_ids=(2, 17), decoder_ids=(2, 11))
        else:
            batch = labelled(seed, 13, input_ids=(2, 19))
        if name.startswith("biattn"):
            batch["prefix_mask"] = (np.arange(19)[None] < np.array([[5], [19]])).astype(np.int32)
        own_class(tandem, name, model, "causal-lm" if name.startswith("decllm") else "prefix-lm", batch, seed)


def own_classes(tandem):
    other_parts(tandem)
    own_class(tandem, "redllm", REDLLM, "prefix-lm", labelled(5, 13, encoder_ids=(2, 9), decoder_ids=(2, 7)), 5)
    own_class(tandem, "redllm-odd", ODD_REDLLM, "prefix-lm", labelled(6, 17, encoder_ids=(1, 13), decoder_ids=(1, 11)), 6)
    own_class(tandem, "decllm", DECLLM, "causal-lm", labelled(7, 13, input_ids=(3, 17)), 7)
    batch = labelled(8, 17, input_ids=(2, 19))
    batch["prefix_mask"] = (np.arange(19)[None] < np.array([[5], [19]])).astype(np.int32)
    own_class(tandem, "biattn", BIATTN, "prefix-lm", batch, 8)


T5 = """  plugin = "encoder-decoder"; vocab_size = 17; d_model = 10; encoder_layers = 2; decoder_layers = 3;
  logit_scale = "none";
  attention = { plugin = "softmax"; heads = 3; head_dim = 6; qkv_norm = false; };
  position = { plugin = "t5-relative"; buckets = 8; max_distance = 11; };
  norm = { plugin = "rms"; eps = 1e-4; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
"""


def keep_t5(folder, batch):
    model = AutoModelForSeq2SeqLM.from_pretrained(os.path.join(folder, "theirs"), dtype=torch.float32).eval().double()
    with torch.no_grad():
        logits = model(
            input_ids=torch.tensor(batch["encoder_ids"]).long(), decoder_input_ids=torch.tensor(batch["decoder_ids"]).long()
        ).logits
    save_file({"logits": logits.numpy().astype(np.float32)}, os.path.join(folder, "expect.safetensors"))


def theirs_t5(name, seed, v1_1):
    """v1.1 has a matrix of its own for the logits; transformers 5 ties those of new models, so it is added here."""
    folder = place(name)
    config = T5Config(
        vocab_size=13, d_model=11, d_kv=4, d_ff=7, num_layers=3, num_decoder_layers=2, num_heads=2, decoder_start_token_id=0,
        relative_attention_num_buckets=6, relative_attention_max_distance=9, tie_word_embeddings=not v1_1,
        feed_forward_proj="gated-gelu" if v1_1 else "relu",
    )
    model = T5ForConditionalGeneration(config)
    scramble(model, seed)
    model.save_pretrained(os.path.join(folder, "theirs"))
    os.remove(os.path.join(folder, "theirs", "generation_config.json"))
    if v1_1:
        path = os.path.join(folder, "theirs", "model.safetensors")
        tensors = load_file(path)
        r = np.random.default_rng(seed)
        tensors["lm_head.weight"] = r.standard_normal((13, 11)).astype(np.float32)
        save_file(tensors, path, metadata={"format": "pt"})
    batch = labelled(seed, 13, encoder_ids=(2, 23), decoder_ids=(2, 19))
    save_file(batch, os.path.join(folder, "batch.safetensors"))
    keep_t5(folder, batch)


def ours_t5(tandem, name, seed, model, to, keep):
    folder = place(name)
    with open(os.path.join(folder, "ours.cfg"), "w") as f:
        f.write(f"# Made by make_cases.py.\nmodel = {{\n{model}}};\nloss = {{ plugin = \"prefix-lm\"; }};\n"
                "train = { length = 40; };\n")
    batch = labelled(seed, 17, encoder_ids=(2, 23), decoder_ids=(2, 19))
    save_file(batch, os.path.join(folder, "batch.safetensors"))
    any_weights(tandem, folder, seed)
    subprocess.run(
        [tandem, "convert", "-c", os.path.join(folder, "ours.cfg"), os.path.join(folder, "theirs"), "--to", to, "--weights",
         os.path.join(folder, "ours.safetensors")],
        check=True,
    )
    keep(folder, batch)


T5GEMMA = """  plugin = "encoder-decoder"; vocab_size = 17; d_model = 15; encoder_layers = 1; decoder_layers = 3;
  logit_scale = "none"; post_norm = true; post_ffn_norm = true; cross_positions = false;
  attention = { plugin = "softmax"; heads = 5; head_dim = 4; qkv_norm = false; };
  position = { plugin = "rope"; base = 300.0; scaling = "yarn"; factor = 4.0; original_length = 16; };
  norm = { plugin = "rms"; eps = 1e-4; };
  ffn = { plugin = "swiglu"; d_ff = 7; };
"""


T5GEMMA_CAPS = """  plugin = "encoder-decoder"; vocab_size = 17; d_model = 15; encoder_layers = 4; decoder_layers = 1;
  logit_scale = "none"; logit_cap = 2.5; tie_embeddings = false; post_norm = true; post_ffn_norm = true;
  cross_positions = false; share_embeddings = false;
  attention = {
    plugin = "sliding-window"; heads = 5; kv_heads = 1; head_dim = 4; window = 7; full_every = 3; score_cap = 0.5; qkv_norm = false;
  };
  position = { plugin = "rope"; };
  norm = { plugin = "rms"; scale = false; };
  ffn = { plugin = "geglu"; d_ff = 7; };
"""


def keep_t5gemma(folder, batch):
    """Its class takes every padding id for padding unless a mask says otherwise."""
    model = T5GemmaForConditionalGeneration.from_pretrained(os.path.join(folder, "theirs"), dtype=torch.float32).eval()
    encoder, decoder = (torch.tensor(batch[name]).long() for name in ("encoder_ids", "decoder_ids"))
    prompt = [5, 3, 7, 4, 9, 3]
    for file, ids in (("prompt", prompt), ("greedy", generated(model, prompt, True))):
        with open(os.path.join(folder, file), "w") as f:
            f.write(" ".join(map(str, ids)) + "\n")
    with torch.no_grad():
        logits = model.double()(
            input_ids=encoder, attention_mask=torch.ones_like(encoder), decoder_input_ids=decoder,
            decoder_attention_mask=torch.ones_like(decoder),
        ).logits
    save_file({"logits": logits.numpy().astype(np.float32)}, os.path.join(folder, "expect.safetensors"))


def theirs_t5gemma(name, seed, released):
    """Stacks of unequal depth, all of whose layers have a window or, as in the released models, every other one, with
    caps; factors are powers of 2, so that what is read and written again is the same."""
    folder = place(name)
    both = {
        "vocab_size": 13, "hidden_size": 16, "intermediate_size": 7, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 6, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 0.75 if released else None,
        "final_logit_softcapping": 1.5 if released else None, "attention_bias": not released,
        "max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0},
    }
    types = 2 * ["sliding_attention", "full_attention" if released else "sliding_attention"]
    config = T5GemmaConfig(
        encoder={**both, "num_hidden_layers": 3, "sliding_window": 4, "layer_types": types[:3]},
        decoder={**both, "num_hidden_layers": 2, "sliding_window": 5, "layer_types": types[:2]},
        vocab_size=13, tie_word_embeddings=released,
    )
    model = T5GemmaForConditionalGeneration(config)
    scramble(model, seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.sub_(1)
            elif "embed" in name:  # which are multiplied by 4 before they are used
                p.mul_(0.25)
    model.save_pretrained(os.path.join(folder, "theirs"))
    os.remove(os.path.join(folder, "theirs", "generation_config.json"))
    batch = labelled(seed, 13, encoder_ids=(2, 23), decoder_ids=(2, 19))
    save_file(batch, os.path.join(folder, "batch.safetensors"))
    keep_t5gemma(folder, batch)


def main(tandem):
    theirs_t5gemma("t5gemma", 35, False)
    theirs_t5gemma("t5gemma-released", 36, True)
    ours_t5(tandem, "redllm-t5gemma", 34, T5GEMMA, "t5gemma", keep_t5gemma)
    ours_t5(tandem, "redllm-t5gemma-caps", 37, T5GEMMA_CAPS, "t5gemma", keep_t5gemma)
    theirs_t5("t5", 9, False)
    theirs_t5("t5-v1.1", 10, True)
    ours_t5(tandem, "redllm-t5", 11, T5, "t5", keep_t5)
    own_classes(tandem)
    llama = LlamaConfig(
        vocab_size=17, hidden_size=12, intermediate_size=7, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=6, rms_norm_eps=1e-3, attention_bias=True, mlp_bias=True,
        max_position_embeddings=64, tie_word_embeddings=False,
        rope_parameters={"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "beta_fast": 8.0, "beta_slow": 1.0,
                         "original_max_position_embeddings": 16},
    )
    theirs("llama", LlamaForCausalLM(llama), (2, 23), 1, max_shard_size="3KB")
    qwen3 = Qwen3Config(
        vocab_size=13, hidden_size=11, intermediate_size=5, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=6, hidden_act="gelu_pytorch_tanh", max_position_embeddings=64,
        tie_word_embeddings=True, rope_parameters={"rope_type": "linear", "rope_theta": 1e6, "factor": 2.5},
    )
    theirs("qwen3", Qwen3ForCausalLM(qwen3), (3, 17), 2, dtype=torch.bfloat16)
    ours(
        tandem, "decllm-qwen3",
        config(13, 11, 2, "heads = 3; kv_heads = 1; head_dim = 4; v_norm = false;", "scale = false;", 7, ""),
        random_weights(3, 13, 11, 2, 12, 4, 7, False), "qwen3", (2, 19), 3,
    )
    ours(
        tandem, "decllm-llama",
        config(17, 10, 2, "heads = 5; head_dim = 2; qkv_norm = false;", "eps = 1e-4;", 3, "base = 200.0;"),
        random_weights(4, 17, 10, 2, 10, 10, 3, True), "llama", (1, 40), 4,
    )


if __name__ == "__main__":
    main(sys.argv[1])
