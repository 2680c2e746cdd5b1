#!/usr/bin/env python3
"""Times whole decode steps of PyTorch + FlashInfer: one sequence, bf16, random weights of a known shape, greedy.

A step is one CUDA graph, from a token's embedding to the best next token: RMSNorm, RoPE, SiLU and paged decode attention
of FlashInfer (pages of 16 tokens), products and the choice of the token of PyTorch. Prints one JSON object a line:
{"shape", "context", "ms"}, each the median of --repetitions replays, timed by CUDA events.

Needs torch with CUDA, flashinfer-python 0.5 and its needs, ninja and nvcc: FlashInfer compiles its kernels on first use.
"""
import argparse
import json
import statistics
import sys

HEAD_DIM = 128
PAGE_TOKENS = 16
WORKSPACE_BYTES = 256 << 20
# Layers, heads, KV heads, model dimension, FFN dimension, vocabulary.
SHAPES = {
    "llama2-7b": (32, 32, 32, 4096, 11008, 32000),
    "llama3-8b": (32, 32, 8, 4096, 14336, 128256),
}


def fail(message):
    sys.exit(f"flashinfer_step.py: {message}")


def load_libraries():
    try:
        import flashinfer
        import torch
    except ImportError as error:
        fail(f"{error}; install torch with CUDA and flashinfer-python")
    if not torch.cuda.is_available():
        fail("torch sees no CUDA device")
    torch.set_grad_enabled(False)
    return torch, flashinfer


class Step:
    """A decode step at a fixed context, as a function without arguments."""

    def __init__(self, torch, flashinfer, shape, context):
        self.torch, self.flashinfer = torch, flashinfer
        self.layers, self.heads, self.kv_heads, model_dim, ffn_dim, vocab = SHAPES[shape]
        q_dim, kv_dim = self.heads * HEAD_DIM, self.kv_heads * HEAD_DIM

        def weight(*size):
            return torch.randn(*size, device="cuda", dtype=torch.bfloat16) * 0.02

        self.weights = [
            {
                "qkv": weight(model_dim, q_dim + 2 * kv_dim),
                "output": weight(q_dim, model_dim),
                "gate_up": weight(model_dim, 2 * ffn_dim),
                "down": weight(ffn_dim, model_dim),
                "norm": torch.ones(model_dim, device="cuda", dtype=torch.bfloat16),
            }
            for _ in range(self.layers)
        ]
        self.embedding = weight(vocab, model_dim)
        self.head = weight(model_dim, vocab)
        self.norm = torch.ones(model_dim, device="cuda", dtype=torch.bfloat16)
        self.token = torch.zeros(1, device="cuda", dtype=torch.int64)
        self.set_context(context)

    def set_context(self, context):
        torch = self.torch
        pages = context // PAGE_TOKENS
        self.cache = [
            torch.randn(pages, 2, PAGE_TOKENS, self.kv_heads, HEAD_DIM, device="cuda", dtype=torch.bfloat16) * 0.3
            for _ in range(self.layers)
        ]
        self.position = torch.tensor([context - 1], dtype=torch.int32, device="cuda")
        table = torch.arange(pages, dtype=torch.int32, device="cuda")
        ends = torch.tensor([0, pages], dtype=torch.int32, device="cuda")
        last = torch.tensor([PAGE_TOKENS], dtype=torch.int32, device="cuda")
        # FlashInfer's kernels for grouped queries use the tensor cores where a group is large enough for them to pay.
        self.attention = self.flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device="cuda"),
            "NHD",
            use_cuda_graph=True,
            use_tensor_cores=self.heads // self.kv_heads >= 4,
            paged_kv_indptr_buffer=ends,
            paged_kv_indices_buffer=table,
            paged_kv_last_page_len_buffer=last,
        )
        self.attention.plan(ends, table, last, self.heads, self.kv_heads, HEAD_DIM, PAGE_TOKENS,
                            q_data_type=torch.bfloat16, kv_data_type=torch.bfloat16)

    def layer(self, weights, cache, x):
        flashinfer = self.flashinfer
        q_dim, kv_dim = self.heads * HEAD_DIM, self.kv_heads * HEAD_DIM
        q, k, v = (flashinfer.rmsnorm(x, weights["norm"]) @ weights["qkv"]).split([q_dim, kv_dim, kv_dim], dim=-1)
        q, k = flashinfer.apply_rope_pos_ids(q.reshape(1, self.heads, HEAD_DIM), k.reshape(1, self.kv_heads, HEAD_DIM),
                                             self.position)
        cache[-1, 0, -1] = k[0]
        cache[-1, 1, -1] = v.view(self.kv_heads, HEAD_DIM)
        x = x + self.attention.run(q, cache).view(1, q_dim) @ weights["output"]
        hidden = flashinfer.silu_and_mul(flashinfer.rmsnorm(x, weights["norm"]) @ weights["gate_up"])
        return x + hidden @ weights["down"]

    def __call__(self):
        x = self.embedding[self.token]
        for weights, cache in zip(self.weights, self.cache):
            x = self.layer(weights, cache, x)
        return (self.flashinfer.rmsnorm(x, self.norm) @ self.head).argmax(-1)


def median_ms(torch, run, repetitions):
    times = []
    for i in range(repetitions + 5):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[5:])


def captured(torch, step):
    """The step as a graph, after a few runs that compile and choose kernels."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def parse_contexts(text):
    contexts = [int(part) for part in text.split(",")]
    if any(n < PAGE_TOKENS or n % PAGE_TOKENS for n in contexts):
        raise argparse.ArgumentTypeError(f"expected positive multiples of {PAGE_TOKENS}")
    return contexts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", required=True, choices=SHAPES)
    parser.add_argument("--contexts", required=True, type=parse_contexts, metavar="N[,N...]")
    parser.add_argument("--repetitions", type=int, default=20)
    args = parser.parse_args()
    torch, flashinfer = load_libraries()
    step = None
    for context in args.contexts:
        if step is None:
            step = Step(torch, flashinfer, args.shape, context)
        else:
            del graph, step.cache, step.attention
            torch.cuda.empty_cache()
            step.set_context(context)
        graph = captured(torch, step)
        ms = median_ms(torch, graph.replay, args.repetitions)
        print(json.dumps({"shape": args.shape, "context": context, "ms": round(ms, 4), "torch": torch.__version__,
                          "flashinfer": flashinfer.__version__}), flush=True)


if __name__ == "__main__":
    main()
