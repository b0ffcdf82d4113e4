"""The pages, each with `show(library)`, which `app.py` runs anew at each click."""
