"""What type checkers must infer, and what they must refuse. Checked by `make types`."""
