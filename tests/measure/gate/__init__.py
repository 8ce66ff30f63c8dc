"""How often the gate cries wolf, and what it finds: `python -m tests.measure.gate --help`.

scratch.py    a clone of this repository to plant slowdowns in
injected.py   where work is added, and how much makes ten percent
trials.py     one run of the gate, as a line of JSON
table.py      the lines as the table of docs/perf_gate.md
"""
