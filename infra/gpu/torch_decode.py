"""A plain decode loop in PyTorch, bf16, one step captured as a CUDA graph: what to beat.

Random weights of the 1B and 8B shapes; attention over a static cache. Prints JSON,
also of what was measured before a failure.

python3 torch_decode.py [SECONDS]
"""
import json
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {
    "1B": dict(width=2048, layers=16, ffn=8192, heads=32, kv_heads=8, head_dim=64),
    "8B": dict(width=4096, layers=32, ffn=14336, heads=32, kv_heads=8, head_dim=128),
}
VOCAB = 128256
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 100


def weight(rows, cols):
    return torch.randn(rows, cols, device="cuda", dtype=torch.bfloat16) * 0.02


class Model:
    def __init__(self, width, layers, ffn, heads, kv_heads, head_dim):
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        q, kv = heads * head_dim, kv_heads * head_dim
        self.layers = [
            dict(qkv=weight(q + 2 * kv, width), out=weight(width, q), gate_up=weight(2 * ffn, width),
                 down=weight(width, ffn), norm=torch.ones(width, device="cuda", dtype=torch.bfloat16))
            for _ in range(layers)
        ]
        self.table = weight(VOCAB, width)

    def cache(self, batch, context):
        shape = (batch, self.kv_heads, context, self.head_dim)
        return [(torch.zeros(shape, device="cuda", dtype=torch.bfloat16),
                 torch.zeros(shape, device="cuda", dtype=torch.bfloat16)) for _ in self.layers]

    def step(self, ids, cache, cos, sin):
        batch = ids.shape[0]
        x = self.table[ids]
        for layer, (keys, values) in zip(self.layers, cache):
            h = F.rms_norm(x, (x.shape[-1],), layer["norm"])
            q, k, v = F.linear(h, layer["qkv"]).split(
                [self.heads * self.head_dim, self.kv_heads * self.head_dim,
                 self.kv_heads * self.head_dim], dim=-1)
            q = q.view(batch, self.heads, 1, self.head_dim)
            k = k.view(batch, self.kv_heads, 1, self.head_dim)
            q, k = turn(q, cos, sin), turn(k, cos, sin)
            keys[:, :, -1:] = k
            values[:, :, -1:] = v.view(batch, self.kv_heads, 1, self.head_dim)
            mixed = F.scaled_dot_product_attention(q, keys, values, enable_gqa=True)
            x = x + F.linear(mixed.reshape(batch, -1), layer["out"])
            h = F.rms_norm(x, (x.shape[-1],), layer["norm"])
            gate, up = F.linear(h, layer["gate_up"]).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.linear(x, self.table).argmax(-1)


def turn(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def median_ms(run, rounds):
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def measure(model, batch, context):
    ids = torch.ones(batch, device="cuda", dtype=torch.long)
    cache = model.cache(batch, context)
    half = model.head_dim // 2
    cos = torch.ones(half, device="cuda", dtype=torch.bfloat16)
    sin = torch.zeros(half, device="cuda", dtype=torch.bfloat16)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            model.step(ids, cache, cos, sin)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.step(ids, cache, cos, sin)
    for _ in range(3):
        graph.replay()
    return median_ms(graph.replay, 15)


def peak_tflops():
    n = 8192
    a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    return 2 * n**3 / median_ms(lambda: a @ a, 10) / 1e9


@torch.no_grad()
def main():
    end = time.monotonic() + SECONDS
    results = dict(torch=torch.__version__, bf16_tflops=round(peak_tflops(), 1), models=[])
    try:
        measure_all(results["models"], end)
    finally:
        print(json.dumps(results))


def measure_all(models, end):
    for name, shape in SHAPES.items():
        model = Model(**shape)
        for context in (1024, 8192):
            for batch in (1, 8, 32, 128):
                if time.monotonic() > end:
                    break
                try:
                    ms = measure(model, batch, context)
                    models.append(dict(model=name, batch=batch, context=context,
                                       step_us=round(ms * 1000, 1),
                                       tokens_per_s=round(batch / ms * 1000, 1)))
                except torch.OutOfMemoryError:
                    print(f"{name} batch {batch} context {context}: out of memory", file=sys.stderr)
                torch.cuda.empty_cache()
        del model


main()
