"""Options and arguments: their types, and the tables that they are made from."""
