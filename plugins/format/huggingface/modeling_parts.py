"""The layers of modeling_tandem.py, which is the file to load: norms, feed-forward layers, positions and attentions.

Each takes `model`, the options of a run's config, and builds the part that the config names.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

# ---- norms and feed-forward layers -----------------------------------------------------------------------------------


def rms_norm(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return (wide if weight is None else wide * weight).to(x.dtype)


class Norm(nn.Module):
    def __init__(self, model):
        super().__init__()
        norm, width = model["norm"], model["d_model"]
        self.eps = norm["eps"]
        self.centred = norm["plugin"] == "layer"
        if self.centred or norm["scale"]:
            self.weight = nn.Parameter(torch.ones(width))
        else:
            self.weight = None
        self.bias = nn.Parameter(torch.zeros(width)) if self.centred and norm["bias"] else None

    def forward(self, x):
        if self.centred:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return rms_norm(x, self.weight, self.eps)


ACTIVATIONS = {
    "swiglu": F.silu,
    "geglu": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


class FeedForward(nn.Module):
    def __init__(self, model):
        super().__init__()
        ffn, width = model["ffn"], model["d_model"]
        self.activation = ACTIVATIONS[ffn["plugin"]]
        self.gated = ffn["plugin"] in ("swiglu", "geglu")
        if self.gated:
            self.gate_proj = nn.Linear(width, ffn["d_ff"], bias=ffn["bias"])
        self.up_proj = nn.Linear(width, ffn["d_ff"], bias=ffn["bias"])
        self.down_proj = nn.Linear(ffn["d_ff"], width, bias=ffn["bias"])

    def forward(self, x):
        up = self.up_proj(x)
        return self.down_proj(self.activation(self.gate_proj(x)) * up if self.gated else self.activation(up))


class Experts(nn.Module):
    """The gated layers of all experts, side by side: [experts, out, in]."""

    def __init__(self, experts, width, inner):
        super().__init__()
        for name, out, size in (("gate_proj", inner, width), ("up_proj", inner, width), ("down_proj", width, inner)):
            module = nn.Module()
            module.weight = nn.Parameter(torch.randn(experts, out, size) * size**-0.5)
            self.add_module(name, module)

    def forward(self, expert, x, activation):
        gate, up, down = (m.weight[expert] for m in (self.gate_proj, self.up_proj, self.down_proj))
        return F.linear(activation(F.linear(x, gate)) * F.linear(x, up), down)


class MixtureOfExperts(nn.Module):
    """A router sends each token through top_k experts. The losses that spread tokens over them in tandem's training
    are not part of this class."""

    def __init__(self, model):
        super().__init__()
        self.options, width = model["ffn"], model["d_model"]
        ffn = self.options
        self.activation = ACTIVATIONS[ffn["activation"]]
        self.gate = nn.Linear(width, ffn["experts"], bias=False)
        self.experts = Experts(ffn["experts"], width, ffn["d_ff"])
        self.shared_expert = None
        if ffn["shared"]:
            shared = {"plugin": ffn["activation"], "d_ff": ffn["shared"] * ffn["d_ff"], "bias": False}
            self.shared_expert = FeedForward({"ffn": shared, "d_model": width})

    def route(self, x):
        """The experts of each token and their weights: [N, top_k]."""
        logits = self.gate(x)
        if self.options["weights"] == "all":
            return logits.softmax(-1).topk(self.options["top_k"])
        chosen, expert = logits.topk(self.options["top_k"])
        return chosen.softmax(-1), expert

    def forward(self, x):
        tokens = x.flatten(0, -2)
        weights, expert = self.route(tokens)
        out = torch.zeros_like(tokens)
        for e in range(self.options["experts"]):
            token, place = torch.where(expert == e)
            y = self.experts(e, tokens[token], self.activation) * weights[token, place, None]
            out = out.index_add(0, token, y.to(out.dtype))
        out = out.view_as(x)
        return out if self.shared_expert is None else out + self.shared_expert(x)


def feed_forward_of(model):
    return (MixtureOfExperts if model["ffn"]["plugin"] == "moe" else FeedForward)(model)


# ---- positions: added to the embeddings ------------------------------------------------------------------------------


def add_embeddings(module, model):
    """The table of `learned`, which both stacks share."""
    if model["position"]["plugin"] == "learned":
        module.position_embeddings = nn.Embedding(model["position"]["max_positions"], model["d_model"])


def sinusoids(base, positions, width):
    """sin and cos of p base^(-2i/d), interleaved: [B, T, D]."""
    theta = torch.tensor([base ** (-2 * j / width) for j in range((width + 1) // 2)], device=positions.device)
    a = positions[..., None].float() * theta
    return torch.stack((a.sin(), a.cos()), -1).flatten(-2)[..., :width]


def embed_positions(model, x, positions, table):
    """x [B, T, D] with positions [B, T]. table: position_embeddings, if there are any."""
    position = model["position"]
    if position["plugin"] == "learned":
        return x + table(positions)
    if position["plugin"] == "sinusoidal":
        return x + sinusoids(position["base"], positions, x.shape[-1]).to(x.dtype)
    return x


# ---- positions: rotations --------------------------------------------------------------------------------------------


def frequencies(rope, width):
    """theta_j of plugins/position/rope.c and xpos.c, computed in double."""
    base, factor, scaling = rope["base"], rope.get("factor", 1), rope.get("scaling", "none")
    if scaling == "ntk":
        base *= factor ** (width / max(width - 2, 1))
    theta = [base ** (-2 * j / width) for j in range(width // 2)]
    if scaling == "linear":
        theta = [x / factor for x in theta]
    if scaling == "yarn":

        def wave_of(turns):
            return width * math.log(rope["original_length"] / (turns * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(wave_of(rope["beta_fast"])), 0)
        high = min(math.ceil(wave_of(rope["beta_slow"])), width - 1)
        for j, x in enumerate(theta):
            share = min(max((j - low) / max(high - low, 0.001), 0), 1)
            theta[j] = share * x / factor + (1 - share) * x
    return theta


def growth(xpos, positions, width, side):
    """zeta_j^(n/s) of xpos for queries (side -1), its reciprocal for keys (1): [B, 1, T, E/2]."""
    gamma = xpos["gamma"]
    rate = [-math.log((2 * j / width + gamma) / (1 + gamma)) / xpos["scale_base"] for j in range(width // 2)]
    x = positions[:, None, :, None].float() * torch.tensor(rate, device=positions.device)
    return torch.exp(side * x.clamp(max=75))


def rotated_width(attention):
    """The width of a head, or of the part of it that mla rotates."""
    if attention["plugin"] == "mla":
        return attention["rope_dim"] or (attention["head_dim"] + 3) // 4 * 2
    return attention["head_dim"]


def angles(model, positions, dtype, side=0):
    """cos and sin [B, 1, T, E/2] for positions [B, T]; None without rotation. side: -1 and 1 for queries and keys of a
    decoder, whose waves fade in xpos."""
    scheme, width = model["position"], rotated_width(model["attention"])
    if scheme["plugin"] not in ("rope", "xpos"):
        return None
    theta = torch.tensor(frequencies(scheme, width), dtype=torch.float32)
    a = positions[:, None, :, None].float() * theta.to(positions.device)
    grow = 1
    if scheme["plugin"] == "xpos" and side:
        grow = growth(scheme, positions, width, side)
    elif scheme.get("scaling") == "yarn":
        grow = 0.1 * math.log(scheme["factor"]) + 1
    return (a.cos() * grow).to(dtype), (a.sin() * grow).to(dtype)


def rotate(x, turn):
    """x [B, H, T, E], half-split: (u, v) -> (u cos - v sin, v cos + u sin)."""
    if turn is None:
        return x
    cos, sin = turn
    u, v = x.chunk(2, -1)
    return torch.cat((u * cos - v * sin, v * cos + u * sin), -1)


# ---- positions: biases of self-attention -----------------------------------------------------------------------------


class Fire(nn.Module):
    """A learned function of distance over position."""

    def __init__(self, fire, heads):
        super().__init__()
        self.first = (fire["c"], fire["threshold"])
        self.c, self.threshold = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.inner, self.outer = nn.Linear(1, fire["hidden"]), nn.Linear(fire["hidden"], heads)

    def forward(self, q, k):
        """Positions [B, Q, 1] and [B, 1, K] to biases [B, H, Q, K]."""
        c, threshold = self.c.abs() * self.first[0], self.threshold.abs() * self.first[1]
        distance, reach = (q - k).to(c.dtype), torch.maximum(torch.maximum(q, k).to(c.dtype), threshold)
        share = distance.sign() * torch.log1p(distance.abs() * c) / torch.log1p(reach * c)
        return self.outer(F.relu(self.inner(share[..., None]))).permute(0, 3, 1, 2)


def add_biases(stack, model):
    """Learned biases, which the layers of a stack share."""
    position, heads = model["position"], model["attention"]["heads"]
    if position["plugin"] == "t5-relative":
        stack.relative_attention_bias = nn.Embedding(position["buckets"], heads)
    if position["plugin"] == "fire":
        stack.fire = Fire(position, heads)


def bucket_of(n, buckets, max_distance):
    exact = buckets // 2
    if n < exact:
        return n
    far = exact + math.floor(math.log(n / exact) / math.log(max_distance / exact) * (buckets - exact))
    return min(far, buckets - 1)


@functools.lru_cache(maxsize=64)
def buckets_of(reach, buckets, max_distance, encoder):
    """The bucket of every distance from -reach to reach; an encoder has half of them for keys ahead."""
    if encoder:
        half = buckets // 2
        return [(half if r > 0 else 0) + bucket_of(abs(r), half, max_distance) for r in range(-reach, reach + 1)]
    return [bucket_of(max(-r, 0), buckets, max_distance) for r in range(-reach, reach + 1)]


def slopes(heads):
    """alibi's slopes: a geometric series for the largest power of two, then every second one of the next."""
    k = 2 ** int(math.log2(heads))
    return [2 ** (-8 * (h + 1) / k) if h < k else 2 ** (-8 * (2 * (h - k) + 1) / (2 * k)) for h in range(heads)]


def bias_of(stack, model, q, k, encoder):
    """What is added to scores: [B, H, Q, K] for positions [B, Q] and [B, K], or None."""
    position, distance = model["position"], k[:, None, :] - q[:, :, None]
    if position["plugin"] == "alibi":
        slope = torch.tensor(slopes(model["attention"]["heads"]), device=q.device)
        return -slope[:, None, None] * distance[:, None].abs()
    if position["plugin"] == "t5-relative":
        reach = int(distance.abs().max())
        table = buckets_of(reach, position["buckets"], position["max_distance"], encoder)
        bucket = torch.tensor(table, device=q.device)[distance + reach]
        return stack.relative_attention_bias(bucket).permute(0, 3, 1, 2)
    if position["plugin"] == "fire":
        return stack.fire(q[:, :, None], k[:, None, :])
    return None


# ---- attention -------------------------------------------------------------------------------------------------------


def self_mask(keys, queries, causal, attention, prefix=None):
    """Which keys [B, K] the last `queries` tokens see: bool [B, 1, Q, K]. keys: True where a token is real."""
    window = attention.get("window", 0)
    total = keys.shape[1]
    k = torch.arange(total, device=keys.device)
    q = k[total - queries :, None]
    seen = torch.ones(queries, total, dtype=torch.bool, device=keys.device)
    if causal:
        seen = k <= q
    if prefix is not None:  # given tokens see each other
        seen = seen | (prefix[:, total - queries :, None] & prefix[:, None, :])
    if window:
        seen = seen & (q - k < window)
    if attention["plugin"] == "sliding-window":  # it looks as far ahead, where it may look ahead at all
        seen = seen & (k - q < window)
    # padding sees itself, so that its softmax is a number
    return ((seen & keys[:, None, :]) | (k == q))[:, None]


def self_masks(keys, queries, causal, attention, prefix=None):
    """The mask of layers with a window, and that of the layers of full_every, or None."""
    full = None
    if attention.get("full_every"):
        full = self_mask(keys, queries, causal, {"plugin": "softmax"}, prefix)
    return self_mask(keys, queries, causal, attention, prefix), full


def capped(x, cap):
    """cap tanh(x / cap); without a cap, x."""
    return cap * torch.tanh(x / cap) if cap else x


class Scale(nn.Module):
    """The learnable scale of a norm over a head, under the name that Qwen3 gives it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Attention(nn.Module):
    full = False  # whether self-attention has no window, among layers that have

    def __init__(self, model, layer, cross):
        super().__init__()
        a, width = model["attention"], model["d_model"]
        self.options, self.layer, self.cross = a, layer, cross
        if a.get("full_every") and not cross:
            self.full = (layer + 1) % a["full_every"] == 0
        self.heads, self.kv_heads, self.width = a["heads"], a["kv_heads"] or a["heads"], a["head_dim"]
        self.q_proj = nn.Linear(width, self.heads * self.width, bias=a["bias"])
        self.k_proj = nn.Linear(width, self.kv_heads * self.width, bias=a["bias"])
        self.v_proj = nn.Linear(width, self.kv_heads * self.width, bias=a["bias"])
        self.o_proj = nn.Linear(self.heads * self.width, width, bias=a["bias"])
        self.q_norm = self.k_norm = None
        if a["qk_norm_scale"]:
            self.q_norm, self.k_norm = Scale(self.width), Scale(self.width)

    def split(self, x, heads):
        return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)

    def normalized(self, x, scale):
        return rms_norm(x, None if scale is None else scale.weight, self.options["eps"])

    def queries(self, x, turn):
        q = self.split(self.q_proj(x), self.q_proj.out_features // self.width)
        return rotate(self.normalized(q, self.q_norm) if self.options["qkv_norm"] else q, turn)

    def keys_and_values(self, x, turn):
        k = self.split(self.k_proj(x), self.k_proj.out_features // self.width)
        v = self.split(self.v_proj(x), self.kv_heads)
        if self.options["qkv_norm"]:
            k = self.normalized(k, self.k_norm)
        if self.options["qkv_norm"] and self.options["v_norm"]:
            v = self.normalized(v, None)
        return rotate(k, turn), v

    def cached(self, x, turn, cache):
        """Keys and values of all tokens so far, or of the encoder's tokens, which are computed once."""
        if cache is None:
            return self.keys_and_values(x, turn)
        if not self.cross:
            return cache.update(*self.keys_and_values(x, turn), self.layer)
        if not cache.is_updated.get(self.layer):
            cache.is_updated[self.layer] = True
            return cache.cross_attention_cache.update(*self.keys_and_values(x, turn), self.layer)
        kept = cache.cross_attention_cache.layers[self.layer]
        return kept.keys, kept.values

    def weights(self, q, k, mask, bias):
        """The weight of each value for each query; zeros for a query that sees no key."""
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        scores = (q @ k.transpose(-1, -2)) * self.width**-0.5
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        scores = capped(scores, self.options.get("score_cap"))
        scores = scores if bias is None else scores + bias
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(-1) * mask.any(-1, keepdim=True)

    def read(self, q, k, v, mask, bias):
        """[B, H, Q, E] of queries, keys and values."""
        out = self.weights(q, k, mask, bias).to(v.dtype) @ v.repeat_interleave(self.heads // self.kv_heads, 1)
        return self.normalized(out, None) if self.options.get("output_norm") else out

    def forward(self, x, source, given, cache=None):
        """given: mask, bias, and the rotations of queries and keys."""
        q = self.queries(x, given["q_turn"])
        k, v = self.cached(source, given["k_turn"], cache)
        out = self.read(q, k, v, given["full_mask" if self.full else "mask"], given["bias"])
        return self.o_proj(out.transpose(1, 2).flatten(2))


class DifferentialAttention(Attention):
    """The difference of two maps. A head has two queries and two keys, which are adjacent, and a value of twice the
    width."""

    def __init__(self, model, layer, cross):
        super().__init__(model, layer, cross)
        a, width = model["attention"], model["d_model"]
        self.q_proj = nn.Linear(width, 2 * self.heads * self.width, bias=a["bias"])
        self.k_proj = nn.Linear(width, 2 * self.kv_heads * self.width, bias=a["bias"])
        self.v_proj = nn.Linear(width, 2 * self.kv_heads * self.width, bias=a["bias"])
        self.o_proj = nn.Linear(2 * self.heads * self.width, width, bias=a["bias"])
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            setattr(self, name, nn.Parameter(torch.randn(self.width) * 0.1))
        self.sub_norm = Scale(2 * self.width)
        self.first = a["lambda_init"] or 0.8 - 0.6 * math.exp(-0.3 * layer)

    def read(self, q, k, v, mask, bias):
        v = v.repeat_interleave(self.heads // self.kv_heads, 1)
        one, two = (self.weights(q[:, n::2], k[:, n::2], mask, bias).to(v.dtype) @ v for n in range(2))
        share = torch.exp(self.lambda_q1 @ self.lambda_k1) - torch.exp(self.lambda_q2 @ self.lambda_k2) + self.first
        return self.normalized(one - share * two, self.sub_norm) * (1 - self.first)


class LinearAttention(Attention):
    """Sums of features, elu(x) + 1, in place of a softmax; here with the matrix of all pairs. Only the numerator is
    rotated, so queries and keys are kept in both ways, side by side."""

    def both(self, x, turn):
        x = F.elu(x) + 1
        return torch.cat((x, rotate(x, turn)), -1)

    def queries(self, x, turn):
        return self.both(super().queries(x, None), turn)

    def keys_and_values(self, x, turn):
        k, v = super().keys_and_values(x, None)
        return self.both(k, turn), v

    def read(self, q, k, v, mask, bias):
        k, v = (x.repeat_interleave(self.heads // x.shape[1], 1) for x in (k, v))
        (q, turned_q), (k, turned_k) = q.chunk(2, -1), k.chunk(2, -1)
        total = ((q @ k.transpose(-1, -2)) * mask).sum(-1, keepdim=True)
        out = ((turned_q @ turned_k.transpose(-1, -2)) * mask) @ v / (total + (total == 0))
        return self.normalized(out, None) if self.options["output_norm"] else out


class MergedAttention(Attention):
    """One softmax over a decoder's own tokens and the encoder's, by one set of projections."""

    def of_memory(self, memory, cache):
        """Keys and values of the encoder's tokens, which are computed once."""
        turn = memory["merged_turn"] if self.options["memory_positions"] else None
        if cache is None:
            return self.keys_and_values(memory["states"], turn)
        if not cache.is_updated.get(self.layer):
            cache.is_updated[self.layer] = True
            return cache.cross_attention_cache.update(*self.keys_and_values(memory["states"], turn), self.layer)
        kept = cache.cross_attention_cache.layers[self.layer]
        return kept.keys, kept.values

    def forward(self, x, source, given, cache=None, memory=None, memory_cache=None):
        if memory is None:
            return super().forward(x, source, given, cache)
        q = self.queries(x, given["q_turn"])
        k, v = self.cached(source, given["k_turn"], cache)
        their_k, their_v = self.of_memory(memory, memory_cache)
        mask, bias = given["mask"], given["bias"]
        mask = torch.cat((mask, memory["mask"].expand(-1, -1, mask.shape[2], -1)), -1)
        if bias is not None:  # only of the decoder's own tokens
            bias = F.pad(bias, (0, their_k.shape[2]))
        out = self.read(q, torch.cat((k, their_k), 2), torch.cat((v, their_v), 2), mask, bias)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class LatentAttention(Attention):
    """mla: keys and values of all heads are expanded from one latent per token; a further part of each key, which is
    rotated, is common to all heads. The latent and that part are what is cached."""

    def __init__(self, model, layer, cross):
        nn.Module.__init__(self)
        a, width = model["attention"], model["d_model"]
        self.options, self.layer, self.cross = a, layer, cross
        self.heads = self.kv_heads = a["heads"]
        self.plain, self.turned, self.value = a["head_dim"], rotated_width(a), a["v_dim"] or a["head_dim"]
        self.width, self.rank = self.plain + self.turned, a["kv_rank"] or 4 * a["head_dim"]
        if a["q_rank"]:
            self.q_a_proj = nn.Linear(width, a["q_rank"], bias=a["bias"])
            self.q_a_layernorm = Scale(a["q_rank"])
            self.q_b_proj = nn.Linear(a["q_rank"], self.heads * self.width, bias=False)
        else:
            self.q_proj = nn.Linear(width, self.heads * self.width, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(width, self.rank + self.turned, bias=a["bias"])
        self.kv_a_layernorm = Scale(self.rank)
        self.kv_b_proj = nn.Linear(self.rank, self.heads * (self.plain + self.value), bias=False)
        self.o_proj = nn.Linear(self.heads * self.value, width, bias=a["bias"])

    def queries(self, x, turn):
        if self.options["q_rank"]:
            q = self.q_b_proj(self.normalized(self.q_a_proj(x), self.q_a_layernorm))
        else:
            q = self.q_proj(x)
        plain, turned = self.split(q, self.heads).split((self.plain, self.turned), -1)
        return torch.cat((plain, rotate(turned, turn)), -1)

    def keys_and_values(self, x, turn):
        latent, key = self.kv_a_proj_with_mqa(x).split((self.rank, self.turned), -1)
        return self.normalized(latent, self.kv_a_layernorm)[:, None], rotate(key[:, None], turn)

    def read(self, q, latent, key, mask, bias):
        both = self.split(self.kv_b_proj(latent[:, 0]), self.heads)
        k, v = both.split((self.plain, self.value), -1)
        return super().read(q, torch.cat((k, key.expand(-1, self.heads, -1, -1)), -1), v, mask, bias)


ATTENTIONS = {
    "differential": DifferentialAttention,
    "linear": LinearAttention,
    "merged": MergedAttention,
    "mla": LatentAttention,
}


def attention_of(model, layer, cross):
    return ATTENTIONS.get(model["attention"]["plugin"], Attention)(model, layer, cross)
