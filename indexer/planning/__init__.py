"""Capacity on paper: what a library of very many photos takes to make, to keep and to ask."""
