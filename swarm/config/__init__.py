"""Read what people write: run files and node files, their schema, bounds and defaults.

Modules (C: pure, S: does I/O):

    bounds.py    C  What a run and a network may ask of the machines that join them: every field has
                    a least and a most.
    load.py      C  Read run files and node files, and turn a run file into what peers agree on.
    resources.py S  Read the files of settings: run files, node files, and those that travel with
                    the package.
    schema.py    C  The form of the files people write: sections, names, defaults and bounds, in
                    natural units.
    spec.py      C  What peers must agree on: the genesis of a network and the spec of a run,
                    hashed.
"""
