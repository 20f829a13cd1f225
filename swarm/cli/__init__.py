"""cli: the face of the swarm in a terminal.

options.py        C  the flags that every command takes, wherever they stand
ink.py            C  colours, columns and numbers as people read them
picture.py        C  what a node says of itself, read into structs
standing.py       C  where a run stands, and how good its model is, in words
views.py          C  that document as lines: status, map, peers, run
peer_tables.py    C  peers as tables that fit the terminal
failures.py       S  one sentence of cause, one command that mends it, the exit code
terminal.py       S  data on stdout, messages on stderr
api.py            S  HTTP to the node that runs on this machine
main.py           S  the command line itself (door: typer)
joining.py        S  join, launch, init
rehearsing.py     S  launch --dry-run: the file, the text, the sizes
dry_run.py        C  what a run takes, in words
running.py        S  a node in this process: signals, watch, never silent
progress.py       C  what to say next while a node runs
data.py           S  data build, ls, verify, clean
looking.py        S  status, map, peers, run
auditing.py       S  audit, report
places.py         C  which window of whose segment to audit
verdicts.py       C  what an audit found, as one object and as lines
ledger.py         S  ledger tail, show, verify
checked.py        C  how the work on a ledger was checked, as rows
archive.py        S  the ledger on this home's disk, for reading
steering.py       S  pause, resume, stop
inviting.py       S  ticket new, show; id show, export
models.py         S  export, eval, generate
pace.py           C  how fast a text is written
sources.py        S  where a model comes from: a folder, or the node's run
demo.py           S  the main job: nine peers train, one is killed, one lies
demo_script.py    C  who takes part, and what happens when
demo_liar.py      S  the peer that skips every second step
demo_story.py     C  what to tell of the checks, each thing once
demo_checks.py    C  what the checks of the demo came to
demo_stage.py     S  homes, keys, genesis and files of the demo
demo_watch.py     S  what can be seen of the demo from outside
demo_children.py  S  the processes of the demo: start, watch, measure, stop
demo_results.py   S  what came out, measured by separate processes
demo_report.py    C  the closing object, and the same in words
"""
