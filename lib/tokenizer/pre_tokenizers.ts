import { Code, MeshError } from "../errors/mesh_error.ts";
import {
  isDeepseekCjk,
  isHanOrKana,
  isLetter,
  isLineEnd,
  isNumber,
  isPunctuation,
} from "./characters.ts";
import {
  inStages,
  isolate,
  isolateSpaced,
  splitCl100k,
  splitDeepseekWords,
  splitGpt2,
  splitO200k,
  type Splitter,
} from "./splitters.ts";

/** What a name under `tokenizer.ggml.pre` stands for. */
export interface PreTokenizer {
  readonly name: string;
  readonly split: Splitter;
  /** A whole piece that is a token is that token, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Begin-of-text is put first unless the file says otherwise. */
  readonly addBos: boolean;
}

const singleDigits = inStages(isolate(isNumber, 1), splitGpt2);
const cl100k = splitCl100k({ digits: 3 });
const qwen2 = splitCl100k({ digits: 1 });
const gpt4o = splitO200k({ digits: 3, contractions: true });
const deepseekV3 = inStages(
  isolate(isNumber, 3),
  isolate(isHanOrKana),
  splitDeepseekWords,
);

/** Families: splitter, whether merges may be ignored, begin-of-text, then all names. */
const families: readonly {
  split: Splitter;
  ignoreMerges?: boolean;
  addBos?: boolean;
  names: readonly string[];
}[] = [
  {
    split: splitGpt2,
    names: [
      "gpt-2",
      "phi-2",
      "mpt",
      "olmo",
      "jais",
      "trillion",
      "granite-docling",
      "exaone4",
      "gigachat",
      "a.x-4.0",
      "mellum",
      "modern-bert",
    ],
  },
  {
    split: singleDigits,
    names: [
      "starcoder",
      "smollm",
      "refact",
      "command-r",
      "codeshell",
      "exaone",
      "minerva-7b",
      "mellum2",
    ],
  },
  {
    split: cl100k,
    ignoreMerges: true,
    addBos: true,
    names: [
      "llama-bpe",
      "llama3",
      "llama-v3",
      "falcon3",
      "falcon-h1",
      "pixtral",
      "midm-2.0",
      "lfm2",
    ],
  },
  { split: cl100k, names: ["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"] },
  {
    split: qwen2,
    names: [
      "qwen2",
      "deepseek-r1-qwen",
      "kormo",
      "stablelm2",
      "megrez",
      "hunyuan",
      "solar-open",
      "grok-2",
    ],
  },
  { split: splitCl100k({ digits: 1, marks: true }), names: ["qwen35"] },
  {
    split: splitO200k({ digits: 1, contractions: false }),
    ignoreMerges: true,
    addBos: true,
    names: ["tekken"],
  },
  { split: gpt4o, names: ["gpt-4o", "llama4", "kanana2", "minimax-m2"] },
  { split: deepseekV3, names: ["deepseek-v3", "hunyuan-dense", "joyai-llm"] },
  {
    split: inStages(
      isolate(isLineEnd, 1),
      isolateSpaced(isLetter),
      isolateSpaced(isPunctuation),
      isolate(isDeepseekCjk),
      isolate(isNumber, 1),
    ),
    names: ["deepseek-coder"],
  },
  {
    split: inStages(
      isolate(isDefaultSign),
      splitGpt2,
      isolate(isNumber),
      isolateDigitTriples(),
    ),
    names: ["default"],
  },
];

const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map(
  families.flatMap(({ split, ignoreMerges = false, addBos = false, names }) =>
    names.map((name) => [name, { name, split, ignoreMerges, addBos }] as const)
  ),
);

/** The pre-tokenizer of that name; an unknown one is refused with the known names. */
export function preTokenizer(name: string): PreTokenizer {
  const found = preTokenizers.get(name);
  if (found !== undefined) return found;
  throw new MeshError(
    Code.invalidArgument,
    `Cannot make a tokenizer: tokenizer.ggml.pre needs one of ` +
      `${[...preTokenizers.keys()].join(", ")}; found "${name}"`,
    { field: "tokenizer.ggml.pre" },
  );
}

/** `[\p{P}\$\+<=>\^~\|]` */
function isDefaultSign(codePoint: number): boolean {
  return isPunctuation(codePoint) ||
    (codePoint < 128 && "$+<=>^~|".includes(String.fromCharCode(codePoint)));
}

/** `[0-9][0-9][0-9]`: only full triples are cut off, the rest of a run stays together. */
function isolateDigitTriples(): Splitter {
  const isDigit = (unit: number) => unit >= 0x30 && unit <= 0x39;
  return (text, start, end, ends) => {
    let from = start;
    let run = 0;
    for (let at = start; at < end; at++) {
      run = isDigit(text.charCodeAt(at)) ? run + 1 : 0;
      if (run < 3) continue;
      if (at - 2 > from) ends.push(at - 2);
      ends.push(at + 1);
      from = at + 1;
      run = 0;
    }
    if (from < end) ends.push(end);
  };
}
