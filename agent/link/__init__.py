"""Transport of sealed messages over MQTT and HTTP."""
