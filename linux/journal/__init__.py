"""The JobJournal in SQLite."""
