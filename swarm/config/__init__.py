"""Read what people write: run files and node files, their schema, bounds and defaults.

Modules (C: pure, S: does I/O):

    advice.py    C  Word the errors of run files and node files: values in plain words, and the
                    nearest key for a typo.
    bounds.py    C  Bound every field of a run spec and of a genesis, so that any machine that joins
                    can work with them.
    load.py      C  Read run files and node files, and turn a run file into what peers agree on.
    resources.py S  Read the files of settings: run files, node files, and those that are installed
                    with the package.
    schema.py    C  Declare the run file and the node file: sections, names, defaults and bounds, in
                    natural units.
    spec.py      C  Hashed specs that peers must agree on: the genesis of a network and the spec of
                    a run.
    tolerance.py C  Tell which runs are checked within a tolerance, and how far from its solver a
                    replay may end there.
"""
