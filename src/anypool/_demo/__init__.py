"""The demo: tasks and threads move money in one SQLite file, and the books must balance."""
