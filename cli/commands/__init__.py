"""The commands of `worker`, one module each, named as the command; see COMMANDS in cli/main.py."""
