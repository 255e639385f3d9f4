# A student fine-tunes a model on rows of their own, compares adapter and base, and takes the adapter along.
# student.sh MODEL FORMAT STEPS RATE ITEMS
model=$1 format=$2 steps=$3 rate=$4 items=$5

slmbench new task drawers
export SLMBENCH_PATH=$PWD
python - "$items" <<'P'
import json, random, sys

TOOLS = {"left": ["saw", "file", "rasp", "plane"], "right": ["bolt", "screw", "nail", "rivet"]}
for split, n, seed in (("train", 200, 1), ("test", int(sys.argv[1]), 2)):
    rng = random.Random(seed)
    with open(f"tasks/drawers/{split}.jsonl", "w", encoding="utf-8") as file:
        for index in range(n):
            drawer = rng.choice(list(TOOLS))
            row = {"report": f"A {rng.choice(TOOLS[drawer])} number {seed * 1000 + index}.", "finding": drawer}
            file.write(json.dumps(row) + "\n")
P
cat > drawers.yaml <<Y
summary: Which drawer a tool belongs in.
model: $model
format: $format
adapters: {drawer: {tasks: [drawers]}}
lora: {rank: 16, alpha: 32}
log_every_steps: 4
optim: {steps: $steps, batch: 8, lr: $rate, warmup_steps: 3}
evaluation: {tasks: [drawers]}
Y
slmbench check drawers
slmbench train ./drawers.yaml --dry-run
[ ! -e slmbench-out ] || { echo "a dry run wrote slmbench-out" >&2; exit 1; }
slmbench run ./drawers.yaml

# The runs are there already, in the adapter's own format, unasked: nothing is computed again.
runs=$(cd slmbench-out/runs && sha256sum -- */*)
$OFFLINE slmbench eval "$model" --adapter slmbench-out/adapters/drawer --tasks drawers
again=$(cd slmbench-out/runs && sha256sum -- */*)
[ "$again" = "$runs" ] || { echo "eval did not find the runs of run again: $again" >&2; exit 1; }
$OFFLINE slmbench export slmbench-out/adapters/drawer --to merged --model "$model" --dtype float32
$OFFLINE slmbench leaderboard slmbench-out --no-texts
