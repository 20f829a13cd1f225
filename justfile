# Short names for the scripts: `pip install rust-just`, then `just`. Without it, the scripts do the same.

# list the recipes
default:
    @just --list

# the tests of one package, in seconds: just t ledger
t *args:
    scripts/t {{args}}

# everything that must hold before a change lands
test *args:
    scripts/test {{args}}

# format, lint and types
check:
    scripts/check

# mend what a machine can mend: format, imports, package maps, the table of rules
fix:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .
    .venv/bin/python scripts/draw_map.py --write
    .venv/bin/python scripts/rules.py --write

# lines covered by all but the end-to-end tests, against a floor
coverage *args:
    scripts/coverage {{args}}

# one benchmark: just bench wire --quick
bench *args:
    scripts/bench {{args}}

# nine peers on this machine train one model
demo *args:
    scripts/demo {{args}}
