"""Options and arguments that several commands share: their types and their tables."""
