"""Puts the pieces of one run together: results.json, and a table for docs/benchmarks/gpu.md.

python3 report.py DIR [--json]; plain standard library, for machines without anything else.
"""
import json
import os
import sys
import time


def read(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return None
    return parsed(text)


def parsed(text):
    """Also of a file whose writer died: its lists up to the last whole line."""
    for end in (text, *(whole_lines(text) + close for close in ("]}", "}"))):
        try:
            return json.loads(end)
        except ValueError:
            pass
    return None


def whole_lines(text):
    """One entry is one line, with the comma in front of its line break."""
    return text[: text.rfind("\n")].rstrip().rstrip(",") if "\n" in text else text


def gathered(folder):
    bench = read(folder, "bench.json") or {}
    check = read(folder, "check.json") or {"cases": []}
    torch = read(folder, "torch.json")
    cases = check["cases"]
    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": bench.get("device"),
        "emulated": bench.get("emulated", True),
        "copy_tb_s": bench.get("copy_tb_s"),
        "bf16_tflops": torch.get("bf16_tflops") if torch else None,
        "f16_mma_sync_tflops": bench.get("f16_mma_sync_tflops"),
        "checked": {"cases": len(cases), "failed": sum(not case["ok"] for case in cases)},
        "kernels": bench.get("kernels", []),
        "models": bench.get("models", []),
        "torch": torch,
        "demo": read(folder, "demo.json"),
        "mesh": read(folder, "mesh.json"),
    }


def table(headings, rows):
    print("| " + " | ".join(headings) + " |")
    print("|" + " --- |" * len(headings))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print()


def torch_tokens(results, model):
    for found in (results["torch"] or {}).get("models", []):
        if all(found[key] == model[key] for key in ("model", "batch", "context")):
            return f"{found['tokens_per_s']:.0f}"
    return "-"


def tell(results):
    checked = results["checked"]
    print(f"{results['device']}, {results['date']}: {checked['cases']} cases checked, "
          f"{checked['failed']} failed\n")
    if results["emulated"]:
        print("By emulation on the host: the times below say nothing about a GPU.\n")
    print(f"Copy {results['copy_tb_s']} TB/s, mma.sync {results['f16_mma_sync_tflops']} TFLOPS, "
          f"PyTorch bf16 matmul {results['bf16_tflops'] or 'not measured'}\n")
    table(["kernel", "shape", "us", "GB/s", "of copy"],
          [(k["kernel"], k["shape"], k["us"], k["gb_s"], f"{k['of_copy']:.0%}")
           for k in results["kernels"]])
    rows = []
    for m in results["models"]:
        head = (m["model"], m["weights"], m["batch"], m["context"])
        if "skipped" in m:
            rows.append(head + ("-", "-", "-", "-", m["skipped"], "-"))
        else:
            rows.append(head + (m["device_us"], m["period_us"], f"{m['period_of_device']:.3f}",
                                f"{m['tokens_per_s']:.0f}", f"{m['of_copy']:.0%}",
                                torch_tokens(results, m)))
    table(["model", "weights", "batch", "context", "kernels us", "step us", "step/kernels", "tok/s", "of copy",
           "PyTorch bf16 tok/s"], rows)
    for what in ("demo", "mesh"):
        found = results[what]
        if not found:
            continue
        for run in found["runs"]:
            print(f"{what} {run['model']} on {run['backend']}, {run['sequences']} sequences: "
                  f"{run['tokensPerS']:.0f} tok/s")
        print(f"{what}: CPU and GPU chose other tokens in {found['differing']} of "
              f"{found['compared']} runs")


def main():
    folder = sys.argv[1]
    results = gathered(folder)
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    if "--json" in sys.argv:
        print(json.dumps(results, indent=1))
    else:
        tell(results)
    return 1 if results["device"] is None else 0


sys.exit(main())
