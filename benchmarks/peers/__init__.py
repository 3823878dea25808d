"""The pools that take part: ours, those of others, and the smallest possible one.

Each module here uses one library as its documentation says, with its default options. It
has a function ``blocking`` or ``asynchronous`` or both, which make a pool of fake
connections. ``registry.py`` lists them all.
"""
