"""What `make torture` does: a library killed, damaged, fed with broken files, and used by many.

Each module is a part: its `rows(share)` tries what docs/trust.md says of it, and yields a Row for
each thing as it ends. The tests call the same functions with small numbers.
"""
