"""Makes the cases gguf-llama and gguf-qwen3 beside this file with llama.cpp's own packages: python make_gguf.py

It needs gguf and llama-cpp-python (these cases: 0.19.0 and 0.3.36), which the tests do not.

  NAME/ours.cfg, NAME/ours.safetensors
                      a random model of ours
  NAME/theirs.gguf    the same, as the package gguf writes it: the order of its keys and tensors is ours, so that what
                      `tandem convert --to gguf` writes must be the same bytes
  gguf-llama/bytes.gguf
                      the same in Q8_0
  NAME/batch.safetensors, NAME/expect.safetensors
                      tokens, and the logits that llama.cpp computes in float32 from theirs.gguf (or from its numbers,
                      where it multiplies bytes otherwise)
  NAME/prompt, NAME/greedy
                      ids, and those that it continues them with, the most probable one at a time
"""

import os
import shutil
import struct
import tempfile

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter, quants
from llama_cpp import Llama
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))

LLAMA = """# Made by make_gguf.py.
tokenizer = { plugin = "bytes"; };
model = {
  plugin = "decoder-only"; vocab_size = 263; d_model = 32; layers = 2;
  attention = { heads = 3; kv_heads = 1; head_dim = 6; qkv_norm = false; bias = true; };
  position = { plugin = "rope"; base = 700.0; scaling = "yarn"; factor = 4.0; original_length = 16; };
  norm = { plugin = "rms"; eps = 1e-5; };
  ffn = { plugin = "swiglu"; d_ff = 37; bias = true; };
};
loss = { plugin = "causal-lm"; };
train = { length = 40; };
"""

QWEN3 = """# Made by make_gguf.py.
model = {
  plugin = "decoder-only"; vocab_size = 17; d_model = 64; layers = 2; tie_embeddings = false; logit_scale = "none";
  attention = { heads = 2; head_dim = 16; v_norm = false; qk_norm_scale = true; };
  position = { plugin = "rope"; base = 200.0; };
  norm = { plugin = "rms"; };
  ffn = { plugin = "swiglu"; d_ff = 29; };
};
loss = { plugin = "causal-lm"; };
train = { length = 40; };
"""

PARTS = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}  # fmt: skip


def parameters(rng, vocab, d, heads, kv, head, ffn, layers, bias, qk_norm, tied):
    """Our names, in the order in which a file of llama.cpp has them."""
    scale = lambda *shape: rng.normal(0, 0.4, shape).astype(np.float32)
    near_one = lambda n: (1 + rng.normal(0, 0.3, n)).astype(np.float32)
    shapes = {
        "self_attn.q_proj": (heads * head, d), "self_attn.k_proj": (kv * head, d), "self_attn.v_proj": (kv * head, d),
        "self_attn.o_proj": (d, heads * head), "mlp.gate_proj": (ffn, d), "mlp.up_proj": (ffn, d),
        "mlp.down_proj": (d, ffn),
    }  # fmt: skip
    out = {"model.embed_tokens.weight": scale(vocab, d)}
    for k in range(layers):
        for name, shape in shapes.items():
            out[f"model.layers.{k}.{name}.weight"] = scale(*shape)
            if bias:
                out[f"model.layers.{k}.{name}.bias"] = scale(shape[0])
        for name in ("input_layernorm", "post_attention_layernorm"):
            out[f"model.layers.{k}.{name}.weight"] = near_one(d)
        for name in ("self_attn.q_norm", "self_attn.k_norm") if qk_norm else ():
            out[f"model.layers.{k}.{name}.weight"] = near_one(head)
    out["model.norm.weight"] = near_one(d)
    if not tied:
        out["lm_head.weight"] = scale(vocab, d)
    return out


def their_name(name):
    if not name.startswith("model.layers."):
        return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                "lm_head.weight": "output.weight"}[name]  # fmt: skip
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{PARTS[part]}.{kind}"


def neighbours(x, head):
    """Rows of queries and keys as llama.cpp's llama rotates them: element k and k + 1, not k and k + head / 2."""
    return np.ascontiguousarray(x.reshape(-1, 2, head // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape))


def their_tensors(weights, head, rotated, last):
    out = {}
    for name, x in weights.items():
        if rotated and (".q_proj." in name or ".k_proj." in name):
            x = neighbours(x, head)
        if name == "model.norm.weight":
            x = (x.astype(np.float64) * last).astype(np.float32)
        out[their_name(name)] = x
    return out


class Writer(GGUFWriter):
    """The package reads empty lists of texts, but writes none; llama.cpp requires that of merges."""

    def _pack_val(self, val, vtype, *args, **rest):
        if vtype != GGUFValueType.ARRAY or val:
            return super()._pack_val(val, vtype, *args, **rest)
        return struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, 0)


def write(path, arch, keys, tensors, quantized):
    w = Writer(path, arch)
    for key, value in keys.items():
        if isinstance(value, bool):
            w.add_bool(key, value)
        elif isinstance(value, int):
            w.add_uint32(key, value)
        elif isinstance(value, float):
            w.add_float32(key, value)
        elif isinstance(value, str):
            w.add_string(key, value)
        else:
            w.add_key_value(key, value, GGUFValueType.ARRAY)
    for name, x in tensors.items():
        if quantized and x.ndim == 2 and x.shape[1] % 32 == 0:
            x = quants.quantize(x, GGMLQuantizationType.Q8_0)
            w.add_tensor(name, x, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            w.add_tensor(name, x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def restored(tensors):
    """The numbers that Q8_0 keeps."""
    q8 = GGMLQuantizationType.Q8_0
    return {
        name: quants.dequantize(quants.quantize(x, q8), q8) if x.ndim == 2 and x.shape[1] % 32 == 0 else x
        for name, x in tensors.items()
    }


def logits(path, ids):
    m = Llama(path, n_ctx=64, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False)
    m.eval([int(x) for x in ids])
    return np.array(m.scores[: len(ids)])[None]


def greedy(path, prompt):
    """20 tokens; every text begins with the id 0."""
    m = Llama(path, n_ctx=64, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False)
    ids = [0, *prompt]
    m.eval(ids)
    for _ in range(20):
        ids.append(int(np.argmax(m.scores[len(ids) - 1])))
        m.eval(ids[-1:])
    return ids[1 + len(prompt) :]


def make(name, config, arch, keys, weights, head, last, quantized, seed):
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    path = lambda file: os.path.join(folder, file)
    open(path("ours.cfg"), "w").write(config)
    save_file(weights, path("ours.safetensors"))
    tensors = their_tensors(weights, head, arch == "llama", last)
    write(path("theirs.gguf"), arch, keys, tensors, quantized)
    vocab = weights["model.embed_tokens.weight"].shape[0]
    ids = np.random.default_rng(seed).integers(0, vocab, (1, 40)).astype(np.int32)
    save_file({"input_ids": ids, "labels": ids.copy(), "loss_weights": np.ones((1, 40), np.float32)},
              path("batch.safetensors"))  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        plain = os.path.join(scratch, "plain.gguf")
        write(plain, arch, keys, restored(tensors) if quantized else tensors, False)
        save_file({"logits": logits(plain, ids[0])}, path("expect.safetensors"))
        prompt = [5, 3, 7, 4, 9, 3]
        found = greedy(plain, prompt)
        assert keys.get("tokenizer.ggml.eos_token_id") not in found and len(set(found)) > 4
        for file, list_ in (("prompt", prompt), ("greedy", found)):
            with open(path(file), "w") as f:
                f.write(" ".join(map(str, list_)) + "\n")


def keys_of(arch, vocab, d, heads, kv, head, ffn, layers, eps, base, length, scaling, ids, file_type, tokenizer):
    a = arch + "."
    return {
        a + "attention.layer_norm_rms_epsilon": eps,
        a + "rope.freq_base": base,
        **{a + "rope.scaling." + k: v for k, v in scaling.items()},
        a + "vocab_size": vocab, a + "embedding_length": d, a + "feed_forward_length": ffn, a + "block_count": layers,
        a + "attention.head_count": heads, a + "attention.head_count_kv": kv, a + "attention.key_length": head,
        a + "context_length": length,
        **ids,
        a + "attention.value_length": head, a + "rope.dimension_count": head,
        "general.file_type": file_type, "general.quantization_version": 2,
        "tokenizer.ggml.add_bos_token": bool(ids), "tokenizer.ggml.add_eos_token": False,
        **tokenizer,
    }  # fmt: skip


def byte_characters():
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in seen]
    return [chr(b) if b in seen else chr(256 + hidden.index(b)) for b in range(256)]


def bytes_tokenizer(vocab):
    tokens = ["<pad>", "</s>", "<unk>", *byte_characters()]
    unused = vocab - len(tokens)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens + [f"[PAD{k}]" for k in range(len(tokens), vocab)],
        "tokenizer.ggml.token_type": [3] * 3 + [1] * 256 + [5] * unused,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.remove_extra_whitespaces": False,
        "tokenizer.ggml.merges": [],
    }


def main():
    rng = np.random.default_rng(5)
    yarn = {"type": "yarn", "factor": 4.0, "original_context_length": 16, "yarn_beta_fast": 32.0,
            "yarn_beta_slow": 1.0}  # fmt: skip
    keys = keys_of("llama", 263, 32, 3, 1, 6, 37, 2, 1e-5, 700.0, 64, yarn,
                   {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 1}, 0,
                   bytes_tokenizer(263))  # fmt: skip
    weights = parameters(rng, 263, 32, 3, 1, 6, 37, 2, True, False, True)
    make("gguf-llama", LLAMA, "llama", keys, weights, 6, 1 / np.sqrt(32), False, 11)
    write(os.path.join(HERE, "gguf-llama", "bytes.gguf"), "llama", {**keys, "general.file_type": 7},
          their_tensors(weights, 6, True, 1 / np.sqrt(32)), True)  # fmt: skip
    make("gguf-qwen3", QWEN3, "qwen3",
         keys_of("qwen3", 17, 64, 2, 2, 16, 29, 2, 1e-6, 200.0, 40, {}, {}, 7, {"tokenizer.ggml.model": "none"}),
         parameters(rng, 17, 64, 2, 2, 16, 29, 2, False, True, False), 16, 1, True, 12)  # fmt: skip


main()
