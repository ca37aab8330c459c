"""The wire: worker.proto, health.proto and the modules generated from them (`make proto`)."""
