"""Timing against another commit: base and head live in processes of their own and take turns.

checkout.py      where the base's code is: a git worktree, another checkout, or this very tree
environment.py   what a timing process starts with: command line, import path, environment variables
requirements.py  whether this environment serves the base too
caretaker.py     removes processes and worktrees, also when this process is killed
channel.py       the line protocol
process.py       a timing process, seen from the process that decides
session.py       the same, seen from inside: pytest hooks that measure on demand
setting.py       both trees, while they are there
rounds.py        taking turns: one pair of processes, all benchmarks
run.py           screening and confirming
progress.py      how far it is
"""
