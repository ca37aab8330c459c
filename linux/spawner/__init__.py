"""The ProcessSpawner: the server's side of the supervisor."""
