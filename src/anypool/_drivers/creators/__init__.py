"""How each driver is made to connect: from a URL to its connect function's arguments."""
