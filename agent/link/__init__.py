"""Sealed messages between agencies and devices: over MQTT 5, and over the device's own HTTPS.

Everything here moves opaque bytes. It holds no key but its TLS keys, opens nothing and decides nothing; an
attacker who controls it can drop, delay, repeat and count messages, and learns who talks to whom and when.
"""
