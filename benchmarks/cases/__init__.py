"""The cases: each module measures one kind of thing and returns rows.

``catalogue.py`` lists them in the order in which they run.
"""
