"""What the tests stand on: fake connections, and one way to write for all modes."""
