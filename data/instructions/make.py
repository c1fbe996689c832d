#!/usr/bin/env python3
"""Writes the instructions in this directory: four small tasks, one in each layout that tandem reads.

    python3 data/instructions/make.py data/instructions
"""
import json
import os
import random
import sys

TOWNS = ["Aldmoor", "Brackwell", "Corran", "Dunmere", "Elsby", "Farrow", "Gransby", "Hollin"]
WORDS = ["lamp", "river", "stone", "candle", "harbour", "meadow", "ticket", "window", "copper", "garden",
         "letter", "bridge", "orchard", "kettle", "saddle", "anchor", "pepper", "blanket", "mirror", "basket"]
GOODS = ["apples", "nails", "ropes", "bricks", "lamps", "books"]


def sums(r):
    a, b = r.randrange(2, 60), r.randrange(2, 60)
    kind = r.randrange(3)
    if kind == 0:
        return {"inputs": f"What is {a} plus {b}?", "targets": str(a + b)}
    if kind == 1:
        return {"inputs": f"Which is larger, {a} or {b}?", "targets": str(max(a, b))}
    return {"inputs": f"{a} {r.choice(GOODS)} are in a box and {b} more are added. How many are there?",
            "targets": f"There are {a} + {b} = {a + b}."}


def words(r):
    if r.randrange(2):
        word = r.choice(WORDS)
        return {"prompt": f"Spell backwards: {word}", "completion": word[::-1]}
    some = r.sample(WORDS, 3)
    return {"prompt": "Put in alphabetical order: " + ", ".join(some), "completion": ", ".join(sorted(some))}


def facts(r):
    a, b = r.sample(TOWNS, 2)
    hour, price = r.randrange(5, 22), r.randrange(2, 30)
    text = f"The ferry from {a} to {b} leaves at {hour} o'clock. A ticket costs {price} crowns."
    question, answer = r.choice([("When does the ferry leave?", f"At {hour} o'clock."),
                                 ("What does a ticket cost?", f"{price} crowns."),
                                 ("Where does the ferry go?", f"To {b}.")])
    return {"instruction": question, "input": text, "output": answer}


def chat(r):
    town, goods, n, more = r.choice(TOWNS), r.choice(GOODS), r.randrange(2, 40), r.randrange(2, 20)
    messages = [{"role": "system", "content": f"You keep the stores of {town}."}] if r.randrange(2) else []
    messages += [{"role": "user", "content": f"We have {n} {goods}. Note it."},
                 {"role": "assistant", "content": f"Noted: {n} {goods}."},
                 {"role": "user", "content": f"{more} more arrived."},
                 {"role": "assistant", "content": f"Noted: {n + more} {goods}."}]
    return {"messages": messages}


def main(directory):
    for make in (sums, words, facts, chat):
        r = random.Random(make.__name__)
        seen, lines = set(), []
        while len(lines) < 440:
            line = json.dumps(make(r))
            if line not in seen:  # what is held out must not be trained on
                seen.add(line)
                lines.append(line)
        for part, some in (("train", lines[:400]), ("valid", lines[400:])):
            with open(os.path.join(directory, f"{make.__name__}.{part}.jsonl"), "w", encoding="utf-8") as f:
                f.writelines(line + "\n" for line in some)


if __name__ == "__main__":
    main(sys.argv[1])
