"""A notebook as a script (its cells begin with # %%): compose two models, train both, plot their loss,
look at an attention, ask them.

    python two_models.py [STEPS]

Writes runs/ and two pictures into the current directory.
"""

# %% Compose: a shipped config for each model, and what differs from it as a dict.
import sys

import matplotlib

if not hasattr(sys, "ps1"):
    matplotlib.use("Agg")  # as a script: pictures are files
import matplotlib.pyplot as plt

import tandem

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
sessions = {
    name: tandem.compose(
        f"quickstart/{name}.cfg",
        {"train": {"steps": STEPS, "evaluate_every": max(STEPS // 4, 1)},
         "run": {"name": f"{name}-{STEPS}"}},
    )
    for name in ("redllm", "decllm")
}

# %% Describe: parameters, FLOPs and memory, before anything is allocated.
for name, session in sessions.items():
    print(name, session.describe(), sep="\n")

# %% Train. A callback sees each step; Ctrl-C, or the notebook's stop button, saves the run.
losses = {name: [] for name in sessions}
for name, session in sessions.items():
    trained = session.train(callback=lambda s: losses[name].append(s.cross_entropy), resume=True)
    print(f"{name}: {trained.evaluation.nll:.3f} nats per token after {trained.step} steps")

# %% Plot the metrics of the runs, which are columns; pandas.DataFrame takes them, too.
figure, axes = plt.subplots(figsize=(6, 4))
for name, session in sessions.items():
    columns = session.metrics()
    axes.plot(columns["step"], columns["train/cross_entropy"], label=f"{name}, training")
    scored = columns["evaluate/nll"] == columns["evaluate/nll"]  # not NaN
    axes.plot(columns["step"][scored], columns["evaluate/nll"][scored], "o", label=f"{name}, held out")
axes.set(xlabel="step", ylabel="nats per token")
axes.legend()
figure.savefig("loss.png")

# %% Look at an attention: how the decoder of RedLLM reads its encoder.
question = "The ferry from Oban"
(cross, *_) = [a for a in sessions["redllm"].attention(question, " leaves at") if a.reads == "cross"]
figure, axes = plt.subplots(figsize=(6, 4))
axes.imshow(cross.weights.mean(axis=0))
axes.set(xlabel=f"tokens of '{question}'", ylabel="decoder", title=cross.name)
figure.savefig("attention.png")

# %% Ask: continue a text, and score two answers to a question.
for name, session in sessions.items():
    print(name, "continues:", session.generate(question, max_tokens=20)[0])
    yes, no = session.score([("The sky is", " blue"), ("The sky is", " zzqx")])
    print(name, "scores:", yes.logprob, no.logprob)

# %% Parameters are NumPy arrays.
table = sessions["decllm"].parameters["model.embed_tokens.weight"]
print("embedding table:", table.shape, "mean square", float((table**2).mean()))
del table  # a view: training again would replace its memory
for session in sessions.values():
    session.close()
