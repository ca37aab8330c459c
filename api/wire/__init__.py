"""The wire format of messages: encoding, and checked decoding."""
