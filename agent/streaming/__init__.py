"""The WebRTC side: sessions on the device, the receiver at the agency."""
