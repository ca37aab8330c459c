"""Messages between server, supervisor and recorder."""
