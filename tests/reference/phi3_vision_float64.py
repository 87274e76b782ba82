"""What an image is to Phi-3-vision once more, in float64, from the equations and place by place.

Where the engine stitches whole crops, merges by strides and multiplies 588 pixels of all patches at once, this goes
over the places of the output and asks for each where it comes from.
"""

import math

import numpy as np

MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
P = "model.vision_embed_tokens."
V = P + "img_processor.vision_model."


def features(config, tensors, pixels):
    """Rows that stand for an image: (tokens, hidden).   pixels: bytes (336 rows, 336 columns, 3), padded."""
    weights = {name: tensor.astype(np.float64) for name, tensor in tensors.items() if name.startswith(P)}
    x = (pixels / 255.0 - MEAN) / STD
    lines, columns = (size // 336 for size in pixels.shape[:2])
    by_crop = {
        (r, c): tower(config, weights, x[336 * r : 336 * r + 336, 336 * c : 336 * c + 336])
        for r in range(lines)
        for c in range(columns)
    }
    whole = tower(config, weights, resampled(x))
    sub, glb = weights[P + "sub_GN"].ravel(), weights[P + "glb_GN"].ravel()
    rows = []
    for y in range(12 * lines):
        rows += [four(by_crop[y // 12, c // 12], y % 12, c % 12) for c in range(12 * columns)] + [sub]
    rows.append(glb)
    for y in range(12):
        rows += [four(whole, y, c) for c in range(12)] + [sub]
    hidden = np.array(rows) @ weights[P + "img_projection.0.weight"].T + weights[P + "img_projection.0.bias"]
    hidden *= 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return hidden @ weights[P + "img_projection.2.weight"].T + weights[P + "img_projection.2.bias"]


def four(of, y, x):
    """Place (y, x) of 12 x 12: the features of four of 24 x 24 patches, which are listed row by row."""
    return np.concatenate([of[24 * (2 * y + dy) + 2 * x + dx] for dy in (0, 1) for dx in (0, 1)])


def resampled(x):
    """Cubic convolution (a = -0.75) to 336 x 336 as a product with one sparse matrix for each axis."""
    return np.einsum("ai,bj,ijc->abc", cubic(len(x)), cubic(x.shape[1]), x, optimize=True)


def cubic(size):
    found = np.zeros((336, size))
    for i in range(336):
        centre = (i + 0.5) * size / 336 - 0.5
        for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
            d = abs(centre - j)
            weight = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0
            found[i, min(max(j, 0), size - 1)] += weight
    return found


def tower(config, weights, crop):
    """CLIP's features of one crop before its last layer: (576, width), row by row."""
    shape = config["img_processor"]
    kernel = weights[V + "embeddings.patch_embedding.weight"]
    tokens = [weights[V + "embeddings.class_embedding"]]
    for y in range(24):
        for x in range(24):
            patch = crop[14 * y : 14 * y + 14, 14 * x : 14 * x + 14]
            tokens.append(np.tensordot(kernel, patch.transpose(2, 0, 1), 3))
    z = np.array(tokens) + weights[V + "embeddings.position_embedding.weight"]
    z = norm(z, weights, V + "pre_layrnorm")
    for i in range(shape["num_hidden_layers"] - 1):
        name = f"{V}encoder.layers.{i}."
        z = z + attention(norm(z, weights, name + "layer_norm1"), weights, name, shape["num_attention_heads"])
        h = linear(norm(z, weights, name + "layer_norm2"), weights, name + "mlp.fc1")
        z = z + linear(h / (1 + np.exp(-1.702 * h)), weights, name + "mlp.fc2")
    return z[1:]


def attention(x, weights, name, n_heads):
    q, k, v = (linear(x, weights, f"{name}self_attn.{part}_proj") for part in "qkv")
    size, out = q.shape[1] // n_heads, np.empty_like(q)
    for head in range(n_heads):
        at = slice(head * size, (head + 1) * size)
        scores = q[:, at] @ k[:, at].T / math.sqrt(size)
        p = np.exp(scores - scores.max(1, keepdims=True))
        out[:, at] = p @ v[:, at] / p.sum(1, keepdims=True)
    return linear(out, weights, f"{name}self_attn.out_proj")


def linear(x, weights, name):
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def norm(x, weights, name):
    x = x - x.mean(1, keepdims=True)
    return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * weights[name + ".weight"] + weights[name + ".bias"]
